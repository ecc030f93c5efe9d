"""What became of a campaign, for people: the same groups in the summary of a run and on a page.

Pure: `groups.py` puts those who did not get it together by what that means, `advice.py` says what
to type, `curve.py` draws the run, `page.py` makes the page; its template is `page.html.j2`.
"""
