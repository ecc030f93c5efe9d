"""A connection to PostgreSQL that understands the SQL which the ledger shares with SQLite."""

import os
import re
import socket
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from functools import lru_cache
from itertools import count
from typing import Any
from urllib.parse import urlsplit, urlunsplit

import psycopg
from psycopg.errors import LockNotAvailable
from psycopg.pq import TransactionStatus

from bulkmail.errors import LedgerError

SCHEMA = "bulkmail"
SESSION = """
SELECT set_config('search_path', %s, false), CASE current_setting('synchronous_commit')
    WHEN 'off' THEN set_config('synchronous_commit', 'on', false) END,
    set_config('tcp_keepalives_idle', '10', false),
    set_config('tcp_keepalives_interval', '5', false),
    set_config('tcp_keepalives_count', '3', false),
    set_config('tcp_user_timeout', '20000', false)
"""
"""What every session begins with: a commit that returned is on the disk, and the server notices
soon who is gone without a word, whose locks others wait for.
"""
CONNECT: dict[str, Any] = {
    "client_encoding": "UTF8",
    "connect_timeout": 10,
    "keepalives_idle": 10,
    "keepalives_interval": 5,
    "keepalives_count": 3,
    "tcp_user_timeout": 20_000,
}
"""A server that is gone is noticed within so many seconds, of the last in milliseconds."""
FETCHED = 1000
"""Rows that a cursor of the server gives at once."""
_HINT = re.compile(r"\bNOT INDEXED\b|\bINDEXED BY \w+")


_PASSING = ("08", "25006", "25P03", "40", "53", "57014", "57P", "58")
"""SQLSTATEs of such: connection, read only after a failover, transaction broken off, rolled back,
resources, cancelled, server's operator, system.
"""


class ConnectionLostError(LedgerError):
    """The server was stopped, cannot be reached, or broke something off: later it may be well."""


class LockedError(ConnectionLostError):
    """Somebody else kept what was asked for, for as long as this waits. The connection is there."""


class PostgresDatabase:
    """See `database.Database`. Raises LedgerError with the ledger's name, ConnectionLostError if
    there is no connection, or none any more.
    """

    def __init__(self, url: str) -> None:
        self.name = name_of(url)
        self._cursors = count()
        self._is_streaming = False
        with self._told():
            self.connection = psycopg.connect(url, autocommit=True, **CONNECT)
            self.connection.execute(SESSION, (SCHEMA,))

    def execute(self, sql: str, values: Any = (), /) -> Any:
        with self._told():
            return self.connection.execute(_translated(sql), values or None)

    def executemany(self, sql: str, rows: Iterable[Any], /) -> Any:
        with self._told():
            cursor = self.connection.cursor()
            cursor.executemany(_translated(sql), rows)
            return cursor

    def rows(self, sql: str, values: Any = (), /) -> Iterator[Any]:
        """See `Database.rows`. In a transaction others may be asked for meanwhile, and nothing is
        lost if these are not read to their end; else they have the connection until then.
        """
        if self._is_in_transaction:
            yield from self._fetched(_translated(sql), values or None)
        else:
            yield from self._streamed(_translated(sql), values or None)

    def _fetched(self, sql: str, values: Any) -> Iterator[Any]:
        with self._told(), self.connection.cursor(f"rows_{next(self._cursors)}") as cursor:
            cursor.itersize = FETCHED
            cursor.execute(sql, values)
            yield from cursor

    def _streamed(self, sql: str, values: Any) -> Iterator[Any]:
        with self._told(), self.connection.cursor() as cursor:
            self._is_streaming = True
            try:
                yield from cursor.stream(sql, values)
            finally:
                self._is_streaming = False

    @property
    def _is_in_transaction(self) -> bool:
        return self.connection.info.transaction_status is TransactionStatus.INTRANS

    def hold(self) -> None:
        """From now on, until `close`, all is read as it is now."""
        if not self._is_in_transaction:
            self.execute("SET idle_in_transaction_session_timeout = 0")  # its reader may be slow
            self.execute("BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY")

    @contextmanager
    def transaction(self) -> Iterator[None]:
        """All of the block is kept, or, if it raises, nothing."""
        with self._told(), self.connection.transaction():
            yield

    def copy(self, sql: str, rows: Iterable[tuple[Any, ...]]) -> None:
        """COPY … FROM STDIN."""
        with self._told(), self.connection.cursor() as cursor, cursor.copy(sql) as copy:
            for row in rows:
                copy.write_row(row)

    def bound_locks(self, seconds: float) -> None:
        """From now on waits for so long at most for others, and lets others wait for so long at
        most for a transaction in which nothing goes on: then ConnectionLostError.
        """
        self.execute(
            "SELECT set_config('lock_timeout', ?, false),"
            " set_config('idle_in_transaction_session_timeout', ?, false)",
            [f"{int(seconds * 1000)}ms"] * 2,
        )

    def break_off(self) -> None:
        """For another thread: who waits for the server hears ConnectionLostError at once."""
        break_off(self.connection)

    def close(self) -> None:
        self.connection.close()

    @contextmanager
    def _told(self) -> Iterator[None]:
        assert not self._is_streaming, "psycopg would wait for ever"
        try:
            yield
        except psycopg.Error as error:
            lost = isinstance(error, psycopg.OperationalError) and error.sqlstate is None
            lost = lost or (error.sqlstate or "").startswith(_PASSING)
            kind = ConnectionLostError if lost else LedgerError
            if isinstance(error, LockNotAvailable):
                kind = LockedError
            raise kind(f"{self.name}: {str(error).strip()}") from error


def break_off(connection: psycopg.Connection[Any] | psycopg.AsyncConnection[Any]) -> None:
    """Whoever uses the connection, now or later, hears that the server is gone."""
    with (
        suppress(OSError, psycopg.Error),
        socket.socket(fileno=os.dup(connection.fileno())) as wire,
    ):
        wire.shutdown(socket.SHUT_RDWR)


@lru_cache(maxsize=200)
def _translated(sql: str) -> str:
    return _HINT.sub("", sql).replace("?", "%s")


def name_of(url: str) -> str:
    """The URL as it may be shown: without password and options."""
    parts = urlsplit(url)
    user, at, host = parts.netloc.rpartition("@")
    return urlunsplit((parts.scheme, user.partition(":")[0] + at + host, parts.path, "", ""))
