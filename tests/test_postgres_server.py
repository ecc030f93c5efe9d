"""The PostgreSQL of the tests is real: it keeps what was committed, and each test has its own."""

import asyncio
import os
import sys
from pathlib import Path

import psycopg
import pytest

from .postgres import MISSING, VARIABLE, PostgresServer, programs


def names(url: str) -> list[str]:
    with psycopg.connect(url) as connection:
        return [name for (name,) in connection.execute("SELECT name FROM person ORDER BY name")]


def enter(url: str, name: str) -> None:
    with psycopg.connect(url) as connection:
        connection.execute("CREATE TABLE IF NOT EXISTS person (name text)")
        connection.execute("INSERT INTO person VALUES (%s)", [name])


def test_what_was_committed_outlives_a_kill(
    postgres_server: PostgresServer, postgres_url: str
) -> None:
    enter(postgres_url, "Kim")
    with psycopg.connect(postgres_url) as connection:
        connection.execute("INSERT INTO person VALUES ('Lee')")
        postgres_server.kill()
        with pytest.raises(psycopg.OperationalError):
            connection.execute("SELECT 1")
        with pytest.raises(psycopg.OperationalError):
            psycopg.connect(postgres_url)
    postgres_server.start()
    assert names(postgres_url) == ["Kim"]
    enter(postgres_url, "Park")
    postgres_server.restart()
    assert names(postgres_url) == ["Kim", "Park"]


def test_two_urls_are_two_databases(postgres_server: PostgresServer, postgres_url: str) -> None:
    other = postgres_server.create_database()
    enter(postgres_url, "Kim")
    enter(other, "Lee")
    assert (names(postgres_url), names(other)) == (["Kim"], ["Lee"])
    postgres_server.drop_database(other)
    with pytest.raises(psycopg.OperationalError, match="does not exist"):
        psycopg.connect(other)


def test_a_database_goes_though_somebody_is_connected(postgres_server: PostgresServer) -> None:
    url = postgres_server.create_database()
    with psycopg.connect(url) as connection:
        postgres_server.drop_database(url)
        with pytest.raises(psycopg.OperationalError):
            connection.execute("SELECT 1")


@pytest.mark.parametrize("setting", ["fsync", "full_page_writes", "synchronous_commit"])
def test_durability_is_not_switched_off(postgres_url: str, setting: str) -> None:
    with psycopg.connect(postgres_url) as connection:
        assert connection.execute(f"SHOW {setting}").fetchone() == ("on",)


HOLDER = """
from tests.postgres import PostgresServer
import sys, psycopg
url = PostgresServer().create_database()
with psycopg.connect(url) as connection:
    print(url, *connection.execute("SHOW data_directory").fetchone(), flush=True)
    sys.stdin.read()
"""


@pytest.mark.skipif(programs() is None, reason=MISSING)
async def test_nothing_is_left_of_it_when_the_tests_are_killed() -> None:
    holder = await asyncio.create_subprocess_exec(
        sys.executable, "-c", HOLDER,
        cwd=Path(__file__).parent.parent,
        env={name: value for name, value in os.environ.items() if name != VARIABLE},
        stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE,
    )  # fmt: skip
    assert holder.stdout is not None
    url, data = (await holder.stdout.readline()).decode().split()
    folder = Path(data).parent
    assert folder.name.startswith("bulkmail-postgres-")
    assert folder.exists()
    holder.kill()
    await holder.wait()
    while folder.exists():
        await asyncio.sleep(0.02)
    with pytest.raises(psycopg.OperationalError, match="refused"):
        psycopg.connect(url)
