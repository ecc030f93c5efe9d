"""The rights of docs/bulkmail-rights.sql, at a real server: enough for each role, and no more."""

import asyncio
import uuid
from asyncio.subprocess import Process
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import urlsplit, urlunsplit

import psycopg
import pytest

from .conftest import Project, RecordingServer, Result, StartServer
from .postgres import PostgresServer

DOCS = Path(__file__).parent.parent / "docs"
ROLES = ("owner", "planner", "worker", "reader")

Url = Callable[[str], str]


@contextmanager
def roles(postgres_url: str) -> Iterator[Url]:
    """The URL of the ledger for a role. Where the tables are there, each has its rights."""
    prefix = f"t{uuid.uuid4().hex[:12]}_"
    once, each_time = (
        (DOCS / name).read_text("utf-8").replace("bulkmail_", prefix)
        for name in ("bulkmail-roles.sql", "bulkmail-rights.sql")
    )
    parts = urlsplit(postgres_url)
    host = parts.netloc.rpartition("@")[2]

    def url(role: str) -> str:
        return urlunsplit(parts._replace(netloc=f"{prefix}{role}@{host}"))

    with psycopg.connect(postgres_url, autocommit=True) as admin:
        try:
            admin.execute(once.encode())
            psycopg.connect(url("owner")).close()
        except psycopg.Error as error:
            pytest.skip(f"no roles can be made here that log in without a password: {error}")
        try:
            yield lambda role: _ready(url, each_time, role)
        finally:
            for role in ROLES:
                admin.execute(f"DROP OWNED BY {prefix}{role} CASCADE".encode())
                admin.execute(f"DROP ROLE {prefix}{role}".encode())


@pytest.fixture
def url_of(postgres_url: str) -> Iterator[Url]:
    with roles(postgres_url) as url:
        yield url


def _ready(url: Url, grants: str, role: str) -> str:
    """With rights, once there are tables."""
    with psycopg.connect(url("owner"), autocommit=True) as owner:
        [there] = owner.execute("SELECT to_regclass('bulkmail.version')").fetchone() or (None,)
        if there is not None:
            owner.execute(grants.encode())
    return url(role)


def ledger(project: Project, url: str) -> None:
    """From now on the campaign's ledger is this."""
    project.write(
        "letter.yaml", (project.folder / "template.yaml").read_text() + f"ledger: {url}\n"
    )


async def done(project: Project, *arguments: str) -> Result:
    result = await project.bulkmail(*arguments)
    assert result.status == 0, result
    return result


def done_here(project: Project, *arguments: str) -> Result:
    """What needs no server."""
    result = project.here(*arguments)
    assert result.status == 0, result
    return result


@pytest.fixture
async def sent(serve: StartServer, project: Project, url_of: Url) -> Result:
    """A campaign planned by the planner and sent by the worker, with one refused for now and one
    for good.
    """

    def answer(verb: str, argument: str) -> bytes | None:
        if verb == "RCPT" and "<person3@" in argument:
            return b"550 5.1.1 unknown\r\n"
        return None

    people = project.many(20)
    project.campaign(await serve(answer=answer))
    (project.folder / "letter.yaml").rename(project.folder / "template.yaml")
    assert "up to date" in (await done(project, "migrate", "--ledger", url_of("owner"))).out
    await done(project, "suppress", "add", people[0], "--ledger", url_of("planner"))
    ledger(project, url_of("planner"))
    await done(project, "run", "letter.yaml", "--yes", "--detach")
    return await done(project, "worker", "--ledger", url_of("worker"), "--until-idle")


async def test_each_role_can_do_its_work(sent: Result, project: Project, url_of: Url) -> None:
    assert "letter: finished" in sent.err and "18 accepted · 1 failed here" in sent.err
    ledger(project, url_of("reader"))
    assert done_here(project, "status", "letter.yaml").out.startswith(
        "letter: 18 accepted · 1 failed · 1 suppressed"
    )
    failed = done_here(project, "report", "letter.yaml", "--state", "failed")
    assert "person3@example.com" in failed.out and "550 5.1.1" in failed.out
    assert "<html" in done_here(project, "report", "letter.yaml", "--format", "html").out
    assert "18 already have it" in project.here("check", "letter.yaml").out
    listed = done_here(project, "suppress", "list", "--ledger", url_of("reader"))
    assert "person0@example.com" in listed.out

    ledger(project, url_of("planner"))
    done_here(project, "retry", "letter.yaml", "--yes")
    assert (await project.bulkmail("run", "letter.yaml", "--yes")).status == 1, "it may send, too"
    done_here(project, "retry", "letter.yaml", "--yes")
    done_here(project, "cancel", "letter.yaml", "--yes")
    assert "1 cancelled" in done_here(project, "status", "letter.yaml").out


async def test_a_worker_takes_over_and_can_be_paused(
    serve: StartServer, project: Project, url_of: Url
) -> None:
    """Also what only happens now and then is within its rights."""
    project.environment["BULKMAIL_LEASE"] = "2s"  # it takes over when the lease has ended
    people = project.many(30)
    server = await serve()
    project.campaign(server, rate="[2/s, 1000/day]")
    (project.folder / "letter.yaml").rename(project.folder / "template.yaml")
    await done(project, "migrate", "--ledger", url_of("owner"))
    ledger(project, url_of("planner"))
    await done(project, "run", "letter.yaml", "--yes", "--detach")
    first = await project.start("worker", "--ledger", url_of("worker"))
    try:
        await until_one_more(server, first)
    finally:
        first.kill()
        await first.communicate()
    second = await project.start("worker", "--ledger", url_of("worker"))
    try:
        await until_one_more(server, second)
        await done(project, "pause", "letter.yaml")
    finally:
        second.terminate()
        _, err = await second.communicate()
    assert second.returncode == 143 and b"denied" not in err, err
    paths = server.paths
    assert len(paths) == len(set(paths)) < len(people)


async def until_one_more(server: RecordingServer, worker: Process) -> None:
    """A message is taken, or the worker ends."""
    had = len(server.received)
    while len(server.received) == had:
        assert worker.returncode is None, "the worker has ended"
        await asyncio.sleep(0.02)


@pytest.mark.parametrize(
    ("role", "statement"),
    [
        ("worker", "INSERT INTO recipient (campaign_id) VALUES (1)"),
        ("worker", "DELETE FROM recipient"),
        ("worker", "UPDATE recipient SET address = 'x@example.com'"),
        ("worker", "UPDATE recipient SET fields = '{}'"),
        ("worker", "UPDATE campaign SET edition = ''"),
        ("worker", "UPDATE campaign SET name = ''"),
        ("worker", "SELECT * FROM suppression"),
        ("worker", "DELETE FROM suppression"),
        ("worker", "DELETE FROM event"),
        ("worker", "INSERT INTO shared_file VALUES ('x', '')"),
        ("worker", "UPDATE shard SET last_id = 0"),
        ("worker", "UPDATE worker SET name = ''"),
        ("worker", "CREATE TABLE bulkmail.x ()"),
        ("planner", "DELETE FROM campaign"),
        ("planner", "DELETE FROM event"),
        ("planner", "UPDATE event SET what = ''"),
        ("planner", "UPDATE version SET number = 1"),
        ("planner", "CREATE TABLE bulkmail.x ()"),
        ("planner", "DROP TABLE recipient"),
        ("planner", "ALTER TABLE recipient DROP COLUMN state"),
        ("reader", "UPDATE recipient SET state = 'pending'"),
        ("reader", "INSERT INTO suppression VALUES ('x', 'x', '', 0)"),
        ("reader", "SELECT * FROM shared_file"),
        ("reader", "DELETE FROM worker"),
        ("reader", "DELETE FROM pgqueuer"),
    ],
)
def test_no_role_can_do_more(tables: Url, role: str, statement: str) -> None:
    with (
        psycopg.connect(tables(role), options="-c search_path=bulkmail") as connection,
        pytest.raises(psycopg.errors.InsufficientPrivilege),
    ):
        connection.execute(statement.encode())


@pytest.fixture(scope="module")
def tables(postgres_server: PostgresServer) -> Iterator[Url]:
    """The ledger's tables, made by their owner. Nobody who asks for them changes anything there."""
    from bulkmail import engine
    from bulkmail.ledger.postgres import PostgresHome

    database = postgres_server.create_database()
    with roles(database) as url:
        PostgresHome(url("owner"), engine).migrate()
        yield url
    postgres_server.drop_database(database)


async def test_who_may_not_make_the_tables_is_told(project: Project, url_of: Url) -> None:
    result = await project.bulkmail(
        "suppress", "add", "x@example.com", "--ledger", url_of("planner")
    )
    assert result.status == 74 and "permission denied" in result.err and "migrate" in result.err
