"""What SQLite raises, told as what it means: the ledger cannot be read or written."""

import sqlite3
from collections.abc import Callable
from functools import wraps
from typing import Concatenate, ParamSpec, Protocol, TypeVar

from bulkmail.errors import LedgerError


class _Named(Protocol):
    @property
    def name(self) -> str: ...


P = ParamSpec("P")
T = TypeVar("T")
N = TypeVar("N", bound=_Named)


def guarded(method: Callable[Concatenate[N, P], T]) -> Callable[Concatenate[N, P], T]:
    """The method, raising LedgerError with the name of the ledger for what SQLite raises."""

    @wraps(method)
    def guarded(self: N, /, *args: P.args, **kwargs: P.kwargs) -> T:
        try:
            return method(self, *args, **kwargs)
        except sqlite3.Error as error:
            raise LedgerError(f"{self.name}: {error}") from error

    return guarded
