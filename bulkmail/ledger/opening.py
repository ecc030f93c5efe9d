"""Databases opened as ledgers: whose they are, how they are written, and who may write.

The header of a database says whose it is; that of another program is left alone. WAL with
synchronous=FULL: a commit that returned is on the disk.
"""

import os
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from importlib.resources import files
from pathlib import Path
from typing import Any

from bulkmail.errors import LedgerBusyError, LedgerError, NoLedgerError
from bulkmail.ledger.disk import network_share

BUSY_SECONDS = 30
_BESIDE = (".lock", "-wal", "-shm", "-journal")
"""Files beside a ledger."""
LOOKED_AT_SECONDS = 0.2
"""Longer than somebody looks whether a run is under way."""
_OTHER_DISK = "Name one of this computer, in the campaign:  ledger: /var/lib/news/bulkmail.sqlite"
_MIGRATIONS = files("bulkmail.ledger").joinpath("migrations")
VERSION = sum(file.name.endswith(".sql") for file in _MIGRATIONS.iterdir())
"""The number of the last migration; a ledger with a higher one is refused."""
APPLICATION_ID = int.from_bytes(b"blkm")
"""What SQLite keeps in its header to tell whose a database is."""


class SqliteDatabase(sqlite3.Connection):
    """See `database.Database`."""

    def rows(self, sql: str, values: Any = (), /) -> Iterator[Any]:
        return self.execute(sql, values)


def opened(path: Path | None) -> SqliteDatabase:
    """The ledger at `path`, made if it is new; None is a scratch one. Raises what SQLite raises."""
    # Absolute, so that no name means anything else to SQLite, as `:memory:` would.
    name = str(path.resolve()) if path else ""
    db = _connect(name)
    version = version_of(db, str(path))
    [mode] = db.execute("PRAGMA journal_mode = WAL").fetchone()
    if path and mode != "wal":
        db.close()
        raise LedgerError(f"{path}: this disk cannot hold a ledger. {_OTHER_DISK}")
    db.execute("PRAGMA synchronous = FULL")
    db.execute("PRAGMA fullfsync = ON")  # macOS: fsync alone does not reach the disk
    db.execute("PRAGMA foreign_keys = ON")
    if version < VERSION:
        migrate(db, str(path))
    return db


def _connect(name: str) -> SqliteDatabase:
    return sqlite3.connect(
        name,
        timeout=BUSY_SECONDS,
        isolation_level=None,
        check_same_thread=False,
        factory=SqliteDatabase,
    )


def copied(path: Path) -> SqliteDatabase:
    """A scratch ledger with all that stands in the one at `path`, which may be in use."""
    source = read_only(path)
    try:
        version = version_of(source, str(path))
        scratch = _connect("")
        source.backup(scratch)
    finally:
        source.close()
    if version < VERSION:
        migrate(scratch, str(path))
    return scratch


def read_only(path: Path) -> SqliteDatabase:
    """The database at `path`. Raises LedgerError, or what SQLite raises."""
    if os.path.exists(path) and not os.path.isfile(path):
        raise NoLedgerError(f"{path} is not a plain file")
    uri = path.resolve().as_uri()
    db = sqlite3.connect(f"{uri}?mode=ro", uri=True, factory=SqliteDatabase)
    try:
        db.execute("PRAGMA user_version").fetchone()
    except sqlite3.DatabaseError as error:
        db.close()
        if error.sqlite_errorname.startswith(("SQLITE_READONLY", "SQLITE_CANTOPEN")):
            # In a folder that cannot be written WAL has no place; then nobody is writing, either.
            return sqlite3.connect(f"{uri}?immutable=1", uri=True, factory=SqliteDatabase)
        raise
    return db


def is_ledger(path: Path) -> bool:
    """Whether a file is a ledger, or cannot be read; that is told where it is opened.

    By way of SQLite: where a process opens and closes a file by itself, the system takes all locks
    from it that it has there (POSIX), those of a run among them.
    """
    if not os.path.isfile(path) or path.name.endswith(_BESIDE):
        return False
    try:
        with closing(read_only(path)) as db:
            return version_of(db, str(path)) > 0
    except sqlite3.DatabaseError as error:
        return error.sqlite_errorname != "SQLITE_NOTADB"
    except LedgerError as error:
        return not isinstance(error, NoLedgerError)


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
    """Held until closed, or until the process ends in whatever way; works wherever SQLite does, but
    not on a network share.
    """
    if (kind := network_share(path)) is not None:
        raise LedgerError(
            f"{path} lies on a network share ({kind}), where neither locks nor syncs can be relied"
            f" on. {_OTHER_DISK}"
        )
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


def version_of(db: sqlite3.Connection, name: str) -> int:
    """That of the tables; 0 if there are none. Raises LedgerError if it is no ledger of ours."""
    [version] = db.execute("PRAGMA user_version").fetchone()
    [mark] = db.execute("PRAGMA application_id").fetchone()
    [tables] = db.execute("SELECT count(*) FROM sqlite_master").fetchone()
    if not (version or mark or tables):
        return 0
    if mark != APPLICATION_ID:
        raise NoLedgerError(f"{name} is a database of another program; name another file")
    if version > VERSION:
        raise LedgerError(
            f"{name} was written by a newer bulkmail (version {version}; this one knows"
            f" {VERSION}). Upgrade bulkmail"
        )
    return int(version)


def migrate(db: sqlite3.Connection, name: str) -> None:
    """Makes the tables what this version has, all or nothing; also if another process does, too."""
    db.execute("BEGIN IMMEDIATE")
    try:
        for number in range(version_of(db, name) + 1, VERSION + 1):
            for statement in _statements(_MIGRATIONS.joinpath(f"{number:04}.sql").read_text()):
                db.execute(statement)
        db.execute(f"PRAGMA application_id = {APPLICATION_ID}")
        db.execute(f"PRAGMA user_version = {VERSION}")
    except BaseException:
        db.rollback()
        raise
    db.execute("COMMIT")


def _statements(sql: str) -> Iterator[str]:
    statement = ""
    for line in sql.splitlines(keepends=True):
        statement += line
        if sqlite3.complete_statement(statement):
            yield statement
            statement = ""
