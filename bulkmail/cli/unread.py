"""Output that nobody reads: who did may have gone (`run --json | head`), or never came (`>&-`)."""

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress


def open_what_is_closed() -> None:
    """Python has None where a standard stream was closed before it began; and a file that is opened
    later would get its number.
    """
    sys.stdout = sys.stdout or open(os.devnull, "w", encoding="utf-8")  # noqa: SIM115
    sys.stderr = sys.stderr or open(os.devnull, "w", encoding="utf-8")  # noqa: SIM115


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
