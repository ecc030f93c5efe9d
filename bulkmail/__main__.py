"""`python -m bulkmail` is the command `bulkmail`."""

from bulkmail.cli import main

main()
