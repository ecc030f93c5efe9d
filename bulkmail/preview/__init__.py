"""A page on this computer that shows what every recipient of a campaign would get.

`reading.py` enrols the campaign's people in a scratch ledger while they are already looked at,
`edition.py` follows the campaign's files, `kept.py` is the sandbox's mail instead; each looks again
in the thread of `following.py`. `opened.py` reads a message from its bytes, `framed.py` makes its
HTML fit to be shown; `app.py` answers requests, `guard.py` decides which, `serving.py` is the
server; `standalone.py` writes one file that needs none.

Mail is hostile here until proved otherwise; docs/preview.md says what is done about that.
"""
