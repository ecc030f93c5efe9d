"""Output that nobody reads: whoever did may have gone (`run --json | head`)."""

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress


@contextmanager
def may_be_unread() -> Iterator[None]:
    """What is printed inside is lost if it cannot be, and nothing else comes of it: Python itself
    would end with a status of its own.
    """
    try:
        with suppress(UnicodeError):
            yield
        sys.stdout.flush()
    except OSError:
        for stream in (sys.stdout, sys.stderr):
            try:
                stream.flush()
            except OSError:
                os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())
