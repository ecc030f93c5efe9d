"""The suppression list: addresses that no campaign of a project sends to.

It can be changed while a run sends; the next run reads it.
"""

import sqlite3
from collections.abc import Callable, Iterable
from contextlib import closing
from pathlib import Path
from typing import TypeVar

from bulkmail.address import address_key
from bulkmail.errors import LedgerBusyError, LedgerError
from bulkmail.ledger.opening import is_run_under_way, opened

BUSY_SECONDS = 2
"""A run that sends holds the ledger for an instant; one that waits at its question, until then."""

SUPPRESS = "INSERT INTO suppression VALUES (?, ?, ?, ?) ON CONFLICT DO NOTHING"
RELEASE = "DELETE FROM suppression WHERE address_key = ?"

T = TypeVar("T")


def suppress(path: Path, addresses: Iterable[str], reason: str, at: float) -> int:
    """Puts `addresses` on the list of the ledger at `path`, made if it is new; how many are new.

    Raises LedgerError, or LedgerBusyError while a run is prepared, or asks its question.
    """
    rows = suppressed_rows(addresses, reason, at)
    return _in_ledger(path, lambda db: db.executemany(SUPPRESS, rows).rowcount)


def release(path: Path, addresses: Iterable[str]) -> int:
    """Takes `addresses` off the list; how many stood on it. Raises LedgerError."""
    rows = released_rows(addresses)
    return _in_ledger(path, lambda db: db.executemany(RELEASE, rows).rowcount)


def suppressed_rows(
    addresses: Iterable[str], reason: str, at: float
) -> list[tuple[str, str, str, float]]:
    """For SUPPRESS."""
    return [(address_key(address), address, reason, at) for address in addresses]


def released_rows(addresses: Iterable[str]) -> list[tuple[str]]:
    """For RELEASE."""
    return [(address_key(address),) for address in addresses]


def _in_ledger(path: Path, change: Callable[[sqlite3.Connection], T]) -> T:
    """Makes one change, all of it or nothing."""
    try:
        with closing(opened(path)) as db:
            db.execute(f"PRAGMA busy_timeout = {BUSY_SECONDS * 1000}")
            db.execute("BEGIN IMMEDIATE")
            result = change(db)
            db.execute("COMMIT")
            return result
    except sqlite3.OperationalError as error:
        if error.sqlite_errorname == "SQLITE_BUSY":
            raise LedgerBusyError(f"nothing was changed: {_holder(path)}, then try again") from None
        raise LedgerError(f"{path}: {error}") from error
    except sqlite3.Error as error:
        raise LedgerError(f"{path}: {error}") from error


def _holder(path: Path) -> str:
    """Who holds the ledger, and what to do about it."""
    if is_run_under_way(path):
        return (
            f"a run is being prepared in {path}, and will not see it. Answer its question, with no"
            " if it should"
        )
    return f"another program is writing to {path}. Let it finish"
