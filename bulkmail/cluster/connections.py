"""A worker's connections to its database, of one tenure."""

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from typing import Any, ParamSpec, TypeVar

import psycopg
from psycopg import AsyncConnection

from bulkmail.ledger.postgres.connection import (
    CONNECT,
    SCHEMA,
    SESSION,
    ConnectionLostError,
    PostgresDatabase,
    break_off,
    name_of,
)

P = ParamSpec("P")
T = TypeVar("T")


class Connections:
    """To the database at `url`, in which nobody waits for a lock for more than a third of
    `lease_seconds`. All raise ConnectionLostError where there is none, or none any more.
    """

    def __init__(self, url: str, lease_seconds: float) -> None:
        self.name = name_of(url)
        self._url = url
        self._lease_seconds = lease_seconds
        self._executor = ThreadPoolExecutor(1, thread_name_prefix="lease")
        self._databases: list[PostgresDatabase] = []
        self._of_engine: list[AsyncConnection[Any]] = []

    async def ask(self, function: Callable[P, T], *args: P.args, **_: P.kwargs) -> T:
        """In the thread to which the lease's connection belongs."""
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self._executor, function, *args)

    async def database(self) -> PostgresDatabase:
        """A new one."""
        self._databases = [db for db in self._databases if not db.connection.closed]
        db = await asyncio.to_thread(PostgresDatabase, self._url)
        self._databases.append(db)
        await asyncio.to_thread(db.bound_locks, self._lease_seconds / 3)
        return db

    async def for_engine(self) -> AsyncConnection[Any]:
        """One that commits each statement."""
        try:
            connection = await AsyncConnection.connect(self._url, autocommit=True, **CONNECT)
            self._of_engine.append(connection)
            await connection.execute(SESSION, (SCHEMA,))
        except psycopg.Error as error:
            raise ConnectionLostError(f"{self.name}: {error}") from error
        return connection

    def break_off(self) -> None:
        """Nothing more is to be had of them, and nobody is to wait for them."""
        for db in self._databases:
            db.break_off()
        for connection in self._of_engine:
            break_off(connection)

    async def close(self) -> None:
        for connection in self._of_engine:
            with suppress(psycopg.Error):
                await connection.close()
        for db in self._databases:
            db.close()
        self._executor.shutdown(wait=False)
