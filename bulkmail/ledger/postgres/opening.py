"""The schema of a ledger in PostgreSQL: made, brought up to date, and recognised."""

from collections.abc import Callable
from importlib.resources import files
from typing import Any

import psycopg

from bulkmail.errors import LedgerError
from bulkmail.ledger.postgres.connection import SCHEMA, PostgresDatabase

_MIGRATIONS = files("bulkmail.ledger.postgres").joinpath("migrations")
VERSION = sum(file.name.endswith(".sql") for file in _MIGRATIONS.iterdir())
"""The number of the last migration; a ledger with a higher one is refused."""
LOCK = int.from_bytes(b"blkm")
"""The first half of this program's advisory locks; 0 as the second is that of migrations."""

Install = Callable[[psycopg.Connection[Any]], None]
"""Makes the tables of the queue, in the transaction that is under way."""


def version_of(db: PostgresDatabase) -> int:
    """That of the tables; 0 if there are none. Raises LedgerError for a newer one."""
    # Not by to_regclass, which may remember that there was none before another process made it.
    [tables] = db.execute(
        "SELECT count(*) FROM pg_catalog.pg_tables WHERE schemaname = ? AND tablename = 'version'",
        (SCHEMA,),
    ).fetchone()
    if not tables:
        return 0
    [version] = db.execute(f"SELECT max(number) FROM {SCHEMA}.version").fetchone()
    if version > VERSION:
        raise LedgerError(
            f"{db.name} was written by a newer bulkmail (version {version}; this one knows"
            f" {VERSION}). Upgrade bulkmail"
        )
    return int(version)


def migrate(db: PostgresDatabase, install: Install) -> None:
    """Makes the tables what this version has, all or nothing; also if another process does, too."""
    if version_of(db) == VERSION:
        return
    try:
        _migrate(db, install)
    except LedgerError as error:
        if isinstance(error.__cause__, psycopg.errors.InsufficientPrivilege):
            raise LedgerError(
                f"{error}; the ledger's tables are not those of version {VERSION}, and this role"
                " may not make them so. Let their owner do it: bulkmail migrate"
            ) from error
        raise


def _migrate(db: PostgresDatabase, install: Install) -> None:
    with db.transaction():
        db.execute("SELECT pg_advisory_xact_lock(?, 0)", (LOCK,))
        known = version_of(db)
        if known == 0:
            db.execute(f"CREATE SCHEMA IF NOT EXISTS {SCHEMA}")
            install(db.connection)
        for number in range(known + 1, VERSION + 1):
            db.connection.execute(_MIGRATIONS.joinpath(f"{number:04}.sql").read_text().encode())
            db.execute("INSERT INTO version VALUES (?)", (number,))
