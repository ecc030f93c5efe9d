"""Databases opened as ledgers: whose they are, how they are written, and who may write.

The header of a database says whose it is; that of another program is left alone. WAL with
synchronous=FULL: a commit that returned is on the disk.
"""

import os
import sqlite3
from contextlib import closing
from importlib.resources import files
from pathlib import Path

from bulkmail.errors import LedgerBusyError, LedgerError

BUSY_SECONDS = 30
LOOKED_AT_SECONDS = 0.2
"""Longer than somebody looks whether a run is under way."""
VERSION = 1
"""Of the schema; a ledger with a higher one is refused."""
APPLICATION_ID = int.from_bytes(b"blkm")
"""What SQLite keeps in its header to tell whose a database is."""


def opened(path: Path | None) -> sqlite3.Connection:
    """The ledger at `path`, made if it is new; None is a scratch one. Raises what SQLite raises."""
    # Absolute, so that no name means anything else to SQLite, as `:memory:` would.
    name = str(path.resolve()) if path else ""
    db = sqlite3.connect(name, timeout=BUSY_SECONDS, isolation_level=None, check_same_thread=False)
    empty = is_empty(db, str(path))
    db.execute("PRAGMA journal_mode = WAL")
    db.execute("PRAGMA synchronous = FULL")
    db.execute("PRAGMA fullfsync = ON")  # macOS: fsync alone does not reach the disk
    db.execute("PRAGMA foreign_keys = ON")
    if empty:
        create(db)
    return db


def copied(path: Path) -> sqlite3.Connection:
    """A scratch ledger with all that stands in the one at `path`, which may be in use."""
    source = read_only(path)
    try:
        empty = is_empty(source, str(path))
        scratch = sqlite3.connect("", isolation_level=None, check_same_thread=False)
        source.backup(scratch)
    finally:
        source.close()
    if empty:
        create(scratch)
    return scratch


def read_only(path: Path) -> sqlite3.Connection:
    """The database at `path`. Raises LedgerError, or what SQLite raises."""
    if os.path.exists(path) and not os.path.isfile(path):
        raise LedgerError(f"{path} is not a plain file")
    return sqlite3.connect(f"{path.resolve().as_uri()}?mode=ro", uri=True)


def is_run_under_way(path: Path) -> bool:
    """Whether a process holds the run lock of the ledger at `path`. Only looks."""
    lock = path.resolve().with_name(f"{path.resolve().name}.lock")
    if not os.path.isfile(lock):
        return False
    try:
        with closing(sqlite3.connect(f"{lock.as_uri()}?mode=ro", uri=True, timeout=0)) as db:
            db.execute("SELECT 1 FROM sqlite_master").fetchone()
    except sqlite3.Error as error:
        return error.sqlite_errorname == "SQLITE_BUSY"
    return False


def run_lock(path: Path) -> sqlite3.Connection:
    """Held until closed, or until the process ends in whatever way; works wherever SQLite does."""
    try:
        lock = sqlite3.connect(
            f"{path.resolve()}.lock",
            timeout=LOOKED_AT_SECONDS,
            isolation_level=None,
            check_same_thread=False,
        )
        lock.execute("BEGIN EXCLUSIVE")
    except sqlite3.OperationalError as error:
        if error.sqlite_errorname == "SQLITE_BUSY":
            raise LedgerBusyError(
                f"another run is using {path}; one run at a time. See `bulkmail status`"
            ) from None
        raise LedgerError(f"{path}.lock: {error}") from error
    return lock


def is_empty(db: sqlite3.Connection, name: str) -> bool:
    """Whether the database holds nothing yet. Raises LedgerError if it is no ledger of ours."""
    [version] = db.execute("PRAGMA user_version").fetchone()
    [mark] = db.execute("PRAGMA application_id").fetchone()
    [tables] = db.execute("SELECT count(*) FROM sqlite_master").fetchone()
    if not (version or mark or tables):
        return True
    if mark != APPLICATION_ID:
        raise LedgerError(f"{name} is a database of another program; name another file")
    if version > VERSION:
        raise LedgerError(
            f"{name} was written by a newer bulkmail (version {version}; this one knows"
            f" {VERSION}). Upgrade bulkmail"
        )
    return False


def create(db: sqlite3.Connection) -> None:
    """Makes the tables. Harmless where somebody else makes them at the same time."""
    schema = files("bulkmail.ledger").joinpath("schema.sql").read_text("utf-8")
    whose = f"PRAGMA user_version = {VERSION}; PRAGMA application_id = {APPLICATION_ID};"
    db.executescript(f"BEGIN; {schema} {whose} COMMIT;")
