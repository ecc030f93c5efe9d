"""What the ledger's shared questions ask of a database, whichever it is.

They are written in the SQL that SQLite and PostgreSQL have in common, with `?` for values; hints to
SQLite's planner (`NOT INDEXED`, `INDEXED BY`) mean nothing elsewhere. A connection belongs to one
thread at a time.
"""

from collections.abc import Iterable, Iterator
from typing import Any, Protocol


class Database(Protocol):
    """A connection that commits each statement by itself, unless a transaction was begun."""

    def execute(self, sql: str, values: Any = (), /) -> Any:
        """A cursor: `fetchone`, `fetchall`, `rowcount`, or to be iterated over."""
        ...

    def executemany(self, sql: str, rows: Iterable[Any], /) -> Any: ...

    def rows(self, sql: str, values: Any = (), /) -> Iterator[Any]:
        """Very many rows, read as they are asked for."""
        ...

    def close(self) -> None: ...
