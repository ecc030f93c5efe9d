"""What people type, what they then see, and what the server really holds.

Each story is typed in a terminal, command by command, against a real server. What was shown is
compared with `NAME.txt` beside it, which the README quotes; after a change that is meant, run the
stories with BULKMAIL_REWRITE_STORIES=1 and read the difference.
"""
