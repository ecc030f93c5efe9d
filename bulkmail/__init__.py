"""An asynchronous bulk mailer that never skips anyone and never mails anyone twice in silence."""

__version__ = "0.1.0"
