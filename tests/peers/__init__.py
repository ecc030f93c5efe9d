"""Real runs against real mail servers, on loopback, whose logs are the only truth: `make peers`.

The servers are Postfix and Exim with their defaults: what they announce, how many errors they bear,
what their logs call accepted. Nothing in this room answers SMTP, so nothing here can share a mistake
with bulkmail. `servers` starts them with configuration, queue and certificate of their own in a
temporary folder, and ends them; `logs` reads what they wrote down; `judge` compares that with the
ledger; `campaign` makes people, starts runs and ends them; `sections` are the tests, each a table.

It promises to leave the machine as it was: no file outside the folder, no mail to anybody, no
process that stays. It needs root, as the servers do; a server that is not installed is told, and the
others are tried.

Debian's packages of the two exclude each other. Install `postfix`; fetch `exim4-daemon-light` and
`libidn12` with `apt-get download`, unpack them with `dpkg -x PACKAGE FOLDER`, and say
`make peers EXIM=FOLDER/usr/sbin/exim4`.
"""
