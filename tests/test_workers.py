"""A worker in the database, when something was lost: its lease, its connection, or an answer."""

import asyncio
import math
import signal
import threading
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any
from urllib.parse import urlsplit, urlunsplit

import psycopg
import pytest

from bulkmail import engine
from bulkmail.campaign import read_campaign
from bulkmail.campaign.edition import edition_of
from bulkmail.cluster.charge import Charge
from bulkmail.cluster.observing import Event, Observer
from bulkmail.cluster.sender import Sender
from bulkmail.cluster.tenure import Tenure
from bulkmail.cluster.worker import Worker
from bulkmail.compose.message import Composer
from bulkmail.delivery import Stop
from bulkmail.errors import ExitStatus, LedgerError
from bulkmail.ledger import CampaignRecord
from bulkmail.ledger.postgres import PostgresHome, PostgresLedger
from bulkmail.ledger.postgres.connection import ConnectionLostError, PostgresDatabase
from bulkmail.ledger.postgres.rates import SharedPaces
from bulkmail.ledger.postgres.sending import ShardLedger
from bulkmail.ledger.postgres.shards import Late, Lease, Shard, ShardBusyError, settle_late
from bulkmail.model import (
    Intent,
    Outcome,
    Phase,
    Reply,
    Row,
    Security,
    Settlement,
    State,
    Submission,
)

from .conftest import Project, RecordingServer, StartServer
from .crash.relay import HOST, Relay

OK = Outcome(Phase.DOT, Reply(250, "2.0.0", "2.0.0 kept"))
NOT_NOW = Outcome(Phase.RCPT, Reply(450, "4.2.0", "4.2.0 not now"))
UNKNOWN = Outcome(Phase.DOT, None, "the session broke off")
NOT_SENT = Outcome(Phase.QUEUED, None, "not sent")

OF_OTHERS = "FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()"

Sql = psycopg.Connection[tuple[object, ...]]


@pytest.fixture
def sql(postgres_url: str) -> Iterator[Sql]:
    """A connection beside those of the workers."""
    with psycopg.connect(
        postgres_url, autocommit=True, options="-c search_path=bulkmail"
    ) as connection:
        yield connection


@pytest.fixture
def ledger(postgres_url: str) -> Iterator[PostgresLedger]:
    ledger = PostgresHome(postgres_url, engine).ledger("july")
    yield ledger
    ledger.close()


def plan(ledger: PostgresLedger, number: int = 2) -> CampaignRecord:
    """Plans it for so many people."""
    with ledger.enrolling():
        campaign = ledger.campaign("july", 1000.0)
        ledger.recover(campaign, 1500.0)
        rows = [Row(f"p{n}@example.com", {}, f"m.csv:{n}") for n in range(number)]
        ledger.enrol(campaign, rows)
        content_id = ledger.contents.id_of(campaign, "content")
        ledger.hand_out(campaign, content_id, "{}", [], limit=None, after_seconds=0)
    return campaign


@pytest.fixture
def campaign(ledger: PostgresLedger, monkeypatch: pytest.MonkeyPatch) -> CampaignRecord:
    """Planned for two people, who are in one shard."""
    monkeypatch.setattr("bulkmail.ledger.postgres.ledger.LEAST_SHARDS", 1)
    return plan(ledger)


@pytest.fixture
def worker(postgres_url: str, campaign: CampaignRecord) -> Iterator[Callable[[], Lease]]:
    """Makes leases, each on a connection of its own."""
    databases = []

    def begin(seconds: float = 60.0) -> Lease:
        databases.append(PostgresDatabase(postgres_url))
        return Lease(databases[-1], "worker", seconds)

    yield begin
    for db in databases:
        db.close()


class Told(Observer):
    """What a worker tells, by the names of events."""

    def __init__(self) -> None:
        self.messages: dict[str, str] = {}
        self._seen: defaultdict[str, asyncio.Event] = defaultdict(asyncio.Event)
        self._on: dict[str, Callable[[], object]] = {}

    def on(self, name: str, do: Callable[[], object]) -> None:
        self._on[name] = do

    async def seen(self, name: str) -> None:
        await self._seen[name].wait()

    def happened(self, event: Event) -> None:
        self.messages[event.name] = event.message
        self._on.get(event.name, lambda: None)()
        self._seen[event.name].set()


def first_shard(sql: Sql) -> int:
    [id_] = sql.execute("SELECT min(id) FROM shard").fetchone() or (0,)
    assert isinstance(id_, int)
    return id_


def states(sql: Sql) -> list[tuple[object, ...]]:
    return sql.execute(
        "SELECT state, attempts, in_doubt_events FROM recipient ORDER BY id"
    ).fetchall()


def events(sql: Sql) -> list[object]:
    return [what for [what] in sql.execute("SELECT what FROM event ORDER BY id")]


async def somebody_waits(sql: Sql) -> None:
    """Until another connection waits for a lock."""
    async with asyncio.timeout(30):
        while not sql.execute(f"SELECT 1 {OF_OTHERS} AND wait_event_type = 'Lock'").fetchall():
            await asyncio.sleep(0.01)


async def begun(lease: Lease, shard: Shard, at: float) -> ShardLedger:
    """The first of the shard is in flight since `at`."""
    ledger = ShardLedger(lease._db, lease.worker_id, "account", 1)
    ledger.add(shard)
    assert await ledger.intend([Intent(shard.recipients[0].id, at, at, "<1@example.org>")])
    return ledger


# -- outcomes that come late ---------------------------------------------------------------------


@pytest.mark.parametrize(
    ("settled", "state"),
    [
        (Settlement(0, State.ACCEPTED, OK), ("accepted", 1, 0)),
        (Settlement(0, State.DEFERRED, NOT_NOW, 5000.0), ("deferred", 1, 0)),
        (Settlement(0, State.IN_DOUBT, UNKNOWN), ("in_doubt", 1, 1)),
        (Settlement(0, State.PENDING, NOT_SENT), ("pending", 0, 0)),
    ],
)
async def test_an_outcome_that_stands_there_already_is_not_late(
    worker: Callable[[], Lease], sql: Sql, settled: Settlement, state: tuple[object, ...]
) -> None:
    """The connection was lost after the commit: nobody can know, so it is said again."""
    lease = worker()
    shard = lease.take(first_shard(sql))
    assert shard is not None
    ledger = await begun(lease, shard, 2000.0)
    settled = settled._replace(recipient_id=shard.recipients[0].id, at=2001.0)
    ledger.settle(settled)
    await ledger.commits.flushed()
    told = events(sql)
    for _ in range(2):
        settle_late(lease._db, Late(settled, 2000.0))
        assert states(sql) == [state, ("pending", 0, 0)]
        assert events(sql) == told


async def test_that_nothing_was_sent_of_what_was_never_intended_is_no_event(
    worker: Callable[[], Lease], sql: Sql
) -> None:
    lease = worker()
    shard = lease.take(first_shard(sql))
    assert shard is not None
    for one in shard.recipients:
        settle_late(lease._db, Late(Settlement(one.id, State.PENDING, NOT_SENT), 2000.0))
    assert states(sql) == [("pending", 0, 0)] * 2 and events(sql) == []


async def test_outcomes_are_of_the_attempt_that_they_are_about(
    worker: Callable[[], Lease], sql: Sql
) -> None:
    """Refused for now, and due again before it was known that this cannot be recorded."""
    lease = worker()
    shard = lease.take(first_shard(sql))
    assert shard is not None
    ledger = await begun(lease, shard, 2000.0)
    one, _ = shard.recipients
    sql.execute("SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
                " WHERE pid = %s", [lease._db.connection.info.backend_pid])  # fmt: skip
    ledger.settle(Settlement(one.id, State.DEFERRED, NOT_NOW, 2002.0, at=2001.0))
    assert not await ledger.intend([Intent(one.id, 2003.0, 2003.0, "<1@example.org>")])
    assert [(late.settlement.state, late.begun_at) for late in ledger.late()] == [
        (State.DEFERRED, 2000.0),
        (State.PENDING, 2003.0),
    ]
    again = worker()
    for late in ledger.late():
        settle_late(again._db, late)
    assert states(sql) == [("deferred", 1, 0), ("pending", 0, 0)]
    assert events(sql) == ["deferred"]


async def test_what_came_late_waits_for_whoever_plans_and_nothing_else_does(
    worker: Callable[[], Lease], postgres_url: str, sql: Sql
) -> None:
    lease = worker()
    shard = lease.take(first_shard(sql))
    assert shard is not None
    await begun(lease, shard, 2000.0)
    late = [Late(Settlement(shard.recipients[0].id, State.ACCEPTED, OK, at=2001.0), 2000.0)]
    tenure = Tenure(Charge(postgres_url, Observer(), lease_seconds=2.0), late)
    with sql.transaction():
        sql.execute("SELECT 1 FROM recipient FOR UPDATE")
        await tenure.__aenter__()
        assert len(late) == 1
    await tenure.__aexit__(None, None)
    assert late == [] and states(sql) == [("accepted", 1, 0), ("pending", 0, 0)]


@pytest.mark.parametrize(
    ("state", "outcome", "said"),
    [(State.DEFERRED, NOT_NOW, "450 4.2.0 not now"), (State.PENDING, NOT_SENT, "not sent")],
)
async def test_who_is_to_be_sent_to_again_stays_in_doubt_once_their_shard_is_done(
    worker: Callable[[], Lease], sql: Sql, state: State, outcome: Outcome, said: str
) -> None:
    """Or nobody would send to them, while all say that the campaign is finished."""
    first, second = worker(), worker()
    shard = first.take(first_shard(sql))
    assert shard is not None
    await begun(first, shard, 2000.0)
    first.end()
    taken = second.take(shard.id)
    assert taken is not None and taken.in_doubt == 1
    sql.execute("UPDATE recipient SET state = 'accepted' WHERE state = 'pending'")
    late = Late(Settlement(shard.recipients[0].id, state, outcome, 5000.0, at=2001.0), 2000.0)

    with psycopg.connect(sql.info.dsn, password=sql.info.password) as other:
        # It comes while the shard is being finished: either it counts, or the shard is done.
        other.execute("SET search_path TO bulkmail")
        other.execute("SELECT 1 FROM shard FOR UPDATE")
        thread = threading.Thread(target=settle_late, args=(first._db, late))
        thread.start()
        await somebody_waits(sql)
        other.execute("DELETE FROM shard")
    thread.join()
    assert states(sql) == [("in_doubt", 1, 1), ("accepted", 0, 0)]
    assert events(sql) == ["in_doubt", "late"]
    [(reason,)] = sql.execute("SELECT reason FROM recipient WHERE state = 'in_doubt'").fetchall()
    assert isinstance(reason, str) and said in reason


async def test_a_shard_is_not_finished_before_what_comes_late_is_seen(
    worker: Callable[[], Lease], sql: Sql
) -> None:
    first, second = worker(), worker()
    shard = first.take(first_shard(sql))
    assert shard is not None
    await begun(first, shard, 2000.0)
    first.end()
    taken = second.take(shard.id)
    assert taken is not None
    sql.execute("UPDATE recipient SET state = 'accepted' WHERE state = 'pending'")
    late = Late(Settlement(shard.recipients[0].id, State.DEFERRED, NOT_NOW, 5000.0), 2000.0)
    found: list[bool] = []
    with first._db.transaction():
        settle_late(first._db, late)
        thread = threading.Thread(target=lambda: found.append(second.finish(taken, 3000.0)))
        thread.start()
        await somebody_waits(sql)
    thread.join()
    assert found == [False] and states(sql)[0] == ("deferred", 1, 0)
    again = second.take(shard.id)
    assert again is not None and [one.id for one in again.recipients] == [shard.recipients[0].id]


async def test_what_is_in_doubt_all_the_same_says_what_was_heard(
    worker: Callable[[], Lease], sql: Sql
) -> None:
    """Not that a run ended, which knew better."""
    first, second = worker(), worker()
    shard = first.take(first_shard(sql))
    assert shard is not None
    await begun(first, shard, 2000.0)
    first.end()
    assert second.take(shard.id) is not None
    settled = Settlement(shard.recipients[0].id, State.IN_DOUBT, UNKNOWN, at=2001.0)
    settle_late(first._db, Late(settled, 2000.0))
    assert states(sql)[0] == ("in_doubt", 1, 1) and events(sql) == ["in_doubt"]
    [(reason,)] = sql.execute("SELECT reason FROM recipient WHERE state = 'in_doubt'").fetchall()
    assert reason == "the session broke off"


# -- shards --------------------------------------------------------------------------------------


async def test_a_shard_knows_who_is_left(worker: Callable[[], Lease], sql: Sql) -> None:
    def left() -> list[tuple[object, ...]]:
        return sql.execute("SELECT people FROM shard").fetchall()

    first, second = worker(), worker()
    shard = first.take(first_shard(sql))
    assert shard is not None and left() == [(2,)]
    ledger = await begun(first, shard, 2000.0)
    ledger.settle(Settlement(shard.recipients[0].id, State.DEFERRED, NOT_NOW, 2002.0, at=2001.0))
    await ledger.commits.flushed()
    assert left() == [(2,)]
    for one in shard.recipients:
        assert await ledger.intend([Intent(one.id, 2003.0, 2003.0, "<1@example.org>")])
    ledger.settle(Settlement(shard.recipients[0].id, State.ACCEPTED, OK, at=2004.0))
    await ledger.commits.flushed()
    assert left() == [(1,)]
    first.end()
    assert second.take(shard.id) is not None and left() == [(0,)]  # the other one is in doubt


def test_it_is_known_when_only_retries_of_the_plan_are_left(
    worker: Callable[[], Lease], ledger: PostgresLedger, campaign: CampaignRecord, sql: Sql
) -> None:
    """Others of the campaign may be unsent, whom a --limit left out."""
    lease = worker()
    with ledger.enrolling():
        ledger.hand_out(campaign, 1, "{}", [], limit=1, after_seconds=0)
    assert lease.next_retry_at(campaign.id) is None
    sql.execute(
        "UPDATE recipient SET state = 'deferred', due_at = 5000"
        " WHERE id = (SELECT first_id FROM shard)"
    )
    assert lease.next_retry_at(campaign.id) == 5000.0
    assert lease.take(first_shard(sql)) is not None
    assert lease.next_retry_at(campaign.id) is None


def test_it_is_known_when_somebody_whom_others_left_is_to_be_sent_to(
    worker: Callable[[], Lease], campaign: CampaignRecord, sql: Sql
) -> None:
    lease, other = worker(), worker()
    assert lease.next_elsewhere(campaign.id, []) == 0.0
    assert lease.next_elsewhere(campaign.id, ["example.com"]) == math.inf
    sql.execute("UPDATE recipient SET state = 'deferred', due_at = 5000")
    assert lease.next_elsewhere(campaign.id, ["example.org"]) == 5000.0
    assert other.take(first_shard(sql)) is not None
    assert lease.next_elsewhere(campaign.id, ["example.com"]) == 0.0
    assert other.next_elsewhere(campaign.id, []) == math.inf


async def test_a_clock_that_is_put_back_leaves_nobody_without_rest(
    worker: Callable[[], Lease], sql: Sql, monkeypatch: pytest.MonkeyPatch
) -> None:
    lease = worker()
    shard = lease.take(first_shard(sql))
    assert shard is not None
    ledger = ShardLedger(lease._db, lease.worker_id, "account", 1)
    ledger.add(shard)
    now = time.time()
    await ledger.claim(1, now)
    monkeypatch.setattr(time, "time", lambda: now - 100)
    at = await ledger.next_due_at()
    assert at is not None and at > now


def test_old_grants_and_workers_are_cleared_away(
    worker: Callable[[], Lease], sql: Sql, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("bulkmail.ledger.postgres.shards.CLEARED_AT_ONCE", 3)
    lease, gone = worker(), worker()
    sql.execute(
        "UPDATE worker SET lease_until = now() - interval '2 days' WHERE id = %s", [gone.worker_id]
    )
    now = int(time.time())
    for days in (0, 1, 3, 4, 5, 6):
        sql.execute("INSERT INTO granted VALUES ('account', '', %s, 1, 1, 1)", [now - days * 86400])
    assert lease.clear_away() and not lease.clear_away()
    assert sql.execute("SELECT id FROM worker").fetchall() == [(lease.worker_id,)]
    left = sql.execute("SELECT second FROM granted ORDER BY second DESC").fetchall()
    assert left == [(now,), (now - 86400,)]


async def test_a_shard_is_not_finished_while_somebody_there_is_in_flight(
    worker: Callable[[], Lease], sql: Sql
) -> None:
    lease = worker()
    shard = lease.take(first_shard(sql))
    assert shard is not None
    await begun(lease, shard, 2000.0)
    sql.execute("UPDATE recipient SET state = 'accepted' WHERE state = 'pending'")
    assert not lease.finish(shard, 3000.0)
    again = lease.take(shard.id)
    assert again is not None and again.in_doubt == 1
    assert lease.finish(again, 3000.0)
    assert sql.execute("SELECT is_open FROM campaign").fetchall() == [(False,)]


def test_who_has_lost_the_lease_takes_nothing(worker: Callable[[], Lease], sql: Sql) -> None:
    """Or it would find its own messages in doubt."""
    lease = worker()
    lease.end()
    with pytest.raises(ShardBusyError):
        lease.take(first_shard(sql))


async def test_what_goes_wrong_with_a_shard_is_told(
    worker: Callable[[], Lease], postgres_url: str, sql: Sql
) -> None:
    """The tables are not what they should be: the worker ends, it does not try again in silence."""
    sql.execute("DROP FUNCTION recover")
    with pytest.raises(LedgerError, match="function recover"):
        await Worker(Charge(postgres_url, Observer(), lease_seconds=60.0)).run()


def test_who_sends_by_an_earlier_plan_stops_no_later_one(
    worker: Callable[[], Lease], ledger: PostgresLedger, campaign: CampaignRecord, sql: Sql
) -> None:
    lease = worker()
    shard = lease.take(first_shard(sql))
    assert shard is not None
    lease.end()
    plan(ledger)
    later = worker()
    again = later.take(first_shard(sql))
    assert again is not None and again.plan == shard.plan + 1
    lease.stop_campaign(campaign.id, shard.plan, "the server refuses", 3000.0)
    assert later.open_campaigns() == {campaign.id: again.plan}
    later.stop_campaign(campaign.id, again.plan, "the server refuses", 3000.0)
    assert later.open_campaigns() == {}


# -- others in the database ----------------------------------------------------------------------


def test_nobody_waits_for_long_for_one_who_stands_still_in_a_transaction(
    worker: Callable[[], Lease], sql: Sql
) -> None:
    """Whoever stands still is thrown out; who waits may try again."""
    still, other = worker(), worker()
    for lease in (still, other):
        lease._db.bound_locks(0.2)
    shard_id = first_shard(sql)
    with pytest.raises(ConnectionLostError), still._db.transaction():
        assert still._take(shard_id) is not None
        still.end()
        while True:
            try:
                taken = other.take(shard_id)
            except ShardBusyError:
                continue
            break
        still.open_campaigns()
    assert taken is not None and taken.epoch == 1


def test_who_waits_for_a_server_that_does_not_answer_can_be_told(postgres_url: str) -> None:
    db = PostgresDatabase(postgres_url)
    heard: list[BaseException] = []

    def ask() -> None:
        try:
            db.execute("SELECT pg_sleep(3600)")
        except ConnectionLostError as error:
            heard.append(error)

    asking = threading.Thread(target=ask)
    asking.start()
    with psycopg.connect(postgres_url, autocommit=True) as sql:
        sleeping = f"SELECT 1 {OF_OTHERS} AND query LIKE '%pg_sleep(3600)' AND state = 'active'"
        while not sql.execute(sleeping).fetchall():
            pass
        db.break_off()
        asking.join()
        sql.execute("SELECT pg_terminate_backend(%s)", [db.connection.info.backend_pid])
    db.close()
    assert len(heard) == 1


# -- the engine ----------------------------------------------------------------------------------


async def test_a_shard_of_a_campaign_that_is_left_meanwhile_is_handed_out_again(
    postgres_url: str, campaign: CampaignRecord, sql: Sql
) -> None:
    """Left after the engine has fetched it and before it is taken: not after a lease, at once."""
    connections = [
        await psycopg.AsyncConnection.connect(
            postgres_url, autocommit=True, options="-c search_path=bulkmail"
        )
        for _ in range(2)
    ]
    taken: asyncio.Queue[int] = asyncio.Queue()

    async def take(_: int, shard_id: int) -> None:
        taken.put_nowait(shard_id)

    queue = engine.Engine(*connections, take, 600.0)
    dequeue = queue._manager.queries.dequeue

    async def dequeue_and_leave(*args: Any, **named: Any) -> Any:
        jobs = await dequeue(*args, **named)
        if jobs and not left:
            left.append(True)
            queue.send([])
        return jobs

    left: list[bool] = []
    queue._manager.queries.dequeue = dequeue_and_leave  # type: ignore[method-assign]
    queue.send([campaign.id])
    running = asyncio.create_task(queue.run())
    while not left:
        await asyncio.sleep(0.01)
    await asyncio.sleep(0.1)
    assert taken.empty()
    queue.send([campaign.id])
    assert await asyncio.wait_for(taken.get(), 30) == first_shard(sql)
    queue.stop()
    await asyncio.wait_for(running, 30)
    for connection in connections:
        await connection.close()


# -- the command ---------------------------------------------------------------------------------


@pytest.mark.parametrize("lease", ["1s", "soon"])
async def test_a_lease_that_is_too_short_or_none_is_told(project: Project, lease: str) -> None:
    for command in (["worker", "--ledger", "postgresql://x"], ["run", "letter.yaml"]):
        result = await project.bulkmail(*command, "--lease", lease)
        assert result.status == 2 and "--lease" in result.err


@pytest.mark.parametrize("pauses", [True, False])
async def test_a_limited_run_says_why_it_ended(
    project: Project, serve: StartServer, postgres_url: str, *, pauses: bool
) -> None:
    server = await serve()
    project.many(100)
    project.campaign(server, rate="20/s", more=f"ledger: {postgres_url}")
    limit = 90 if pauses else 5
    process = await project.start("run", "letter.yaml", "--yes", "--limit", str(limit))
    if pauses:
        while len(server.paths) < 5:
            await asyncio.sleep(0.01)
        assert (await project.bulkmail("pause", "letter.yaml")).status == 0
    _, err = await process.communicate()
    why = "paused from another terminal" if pauses else "limited to 5 in this run"
    assert process.returncode == 75 and f"stopped: {why}" in err.decode()
    assert len(server.paths) < 60 if pauses else len(server.paths) == 5


async def test_a_worker_whose_network_is_gone_can_be_told_to_end(
    project: Project, postgres_url: str, campaign: CampaignRecord, sql: Sql
) -> None:
    """Nobody tells it that nothing comes through any more: it notices by its lease."""
    sql.execute("UPDATE campaign SET is_open = false")
    parts = urlsplit(postgres_url)
    assert parts.port is not None
    relay = Relay(parts.port)
    async with relay as port:
        url = urlunsplit(parts._replace(netloc=f"{parts.username}@{HOST}:{port}"))
        process = await project.start("worker", "--ledger", url, "--lease", "2s")
        while not sql.execute(f"SELECT 1 {OF_OTHERS} AND query LIKE 'LISTEN%'").fetchall():
            await asyncio.sleep(0.01)
        relay.cut()
        process.send_signal(signal.SIGTERM)
        _, said = await asyncio.wait_for(process.communicate(), 60)
        assert process.returncode == 143, said.decode()


async def test_a_worker_whose_database_is_gone_while_it_sends_can_be_told_to_end(
    project: Project, serve: StartServer, postgres_url: str
) -> None:
    """Its rates have a connection of their own, for which nobody is to wait, either."""
    server = await serve()
    project.many(100)
    project.campaign(server, rate="20/s", more=f"ledger: {postgres_url}")
    assert (await project.bulkmail("run", "letter.yaml", "--yes", "--detach")).status == 0
    parts = urlsplit(postgres_url)
    assert parts.port is not None
    relay = Relay(parts.port)
    async with relay as port:
        url = urlunsplit(parts._replace(netloc=f"{parts.username}@{HOST}:{port}"))
        process = await project.start("worker", "--ledger", url, "--lease", "2s")
        while len(server.paths) < 5:
            await asyncio.sleep(0.01)
        relay.cut()
        await asyncio.sleep(3)
        for _ in range(2):  # the second one gives up what cannot be recorded
            process.send_signal(signal.SIGTERM)
            await asyncio.sleep(0.2)
        _, said = await asyncio.wait_for(process.communicate(), 30)
        assert process.returncode == 143, said.decode()


async def under_way(
    project: Project, serve: StartServer, url: str
) -> tuple[RecordingServer, asyncio.subprocess.Process]:
    """A run that sends to sixty people, of whom the first ones have got it."""
    server = await serve()
    project.many(60)
    project.campaign(server, rate="20/s", more=f"ledger: {url}")
    process = await project.start("run", "letter.yaml", "--yes")
    while len(server.paths) < 5:
        await asyncio.sleep(0.01)
    return server, process


async def test_a_run_that_loses_the_connection_of_its_rates_begins_anew(
    project: Project, serve: StartServer, postgres_url: str, sql: Sql
) -> None:
    server, process = await under_way(project, serve, postgres_url)
    of_rates = f"{OF_OTHERS} AND query LIKE '%%reserve_slots%%'"
    assert sql.execute(f"SELECT pg_terminate_backend(pid) {of_rates}").fetchall() == [(True,)]
    _, err = await asyncio.wait_for(process.communicate(), 60)
    assert process.returncode == 0, err.decode()
    assert len(server.paths) == len(set(server.paths)) == 60


async def test_a_run_that_another_worker_stopped_for_all_says_why(
    project: Project, serve: StartServer, postgres_url: str, sql: Sql
) -> None:
    _, process = await under_way(project, serve, postgres_url)
    sql.execute("UPDATE campaign SET is_open = false, stopped_for = 'it refuses: 550 5.7.1 no'")
    _, err = await asyncio.wait_for(process.communicate(), 60)
    assert process.returncode == 69 and "stopped: it refuses: 550 5.7.1 no" in err.decode()


async def test_a_shard_that_cannot_be_finished_now_is_finished_later(
    project: Project,
    serve: StartServer,
    postgres_url: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Its worker must not keep it, since nobody else may take it as long as that lives."""
    monkeypatch.setenv("TEST_PASSWORD", "secret")
    server = await serve()
    project.many(12)
    project.campaign(server, more=f"ledger: {postgres_url}")
    assert (await project.bulkmail("run", "letter.yaml", "--yes", "--detach")).status == 0
    told = Told()
    charge = Charge(postgres_url, told, until_idle=True, lease_seconds=3.0)
    with psycopg.connect(postgres_url, options="-c search_path=bulkmail") as other:
        lock = "SELECT 1 FROM campaign FOR NO KEY UPDATE"
        told.on("campaign_begun", lambda: other.closed or other.execute(lock))
        working = asyncio.create_task(Worker(charge).run())
        while len(server.paths) < 4:
            await asyncio.sleep(0.01)
        await asyncio.sleep(1.5)  # longer than it waits for a lock, and shorter than its lease
        other.rollback()
    await asyncio.wait_for(working, 60)
    assert len(server.paths) == len(set(server.paths)) == 12


async def test_a_quota_that_is_used_up_is_not_asked_for_again_and_again(
    project: Project, serve: StartServer, postgres_url: str
) -> None:
    """Accounts are locked for that."""
    said: list[str] = []

    def answer(verb: str, argument: str) -> bytes | None:
        said.append(verb)
        is_used_up = said.count("MAIL") > 5 and verb == "MAIL"
        return b"550 5.4.5 Daily user sending limit exceeded\r\n" if is_used_up else None

    server = await serve(answer=answer)
    project.many(120)  # in twelve shards
    project.campaign(server, more=f"ledger: {postgres_url}")
    assert (await project.bulkmail("run", "letter.yaml", "--yes", "--detach")).status == 0
    worker = await project.start("worker", "--ledger", postgres_url)
    async with asyncio.timeout(60):
        while "quota is used up" not in (await project.bulkmail("status", "letter.yaml")).out:
            await asyncio.sleep(0.1)
    before = said.count("CONNECT")
    await asyncio.sleep(3)
    assert said.count("CONNECT") == before
    worker.terminate()
    await worker.communicate()


async def test_a_worker_with_nothing_to_send_keeps_no_connection_of_what_it_sent(
    project: Project, serve: StartServer, postgres_url: str, sql: Sql
) -> None:
    """Its lease has one, and the engine has two."""
    server = await serve()
    process = await project.start("worker", "--ledger", postgres_url)
    for name in ("one", "two"):
        project.people(f"{name}@example.com,Kim")
        path = project.campaign(server, more=f"ledger: {postgres_url}\ncampaign: {name}")
        planned = await project.bulkmail("run", str(path), "--yes", "--detach")
        assert planned.status == 0, planned.err
        while sql.execute("SELECT 1 FROM campaign WHERE is_open").fetchall():
            await asyncio.sleep(0.01)
    while sql.execute(f"SELECT count(*) {OF_OTHERS}").fetchall() != [(3,)]:
        await asyncio.sleep(0.01)
    process.send_signal(signal.SIGTERM)
    await process.communicate()
    assert process.returncode == 143
    assert sorted(server.paths) == ["one@example.com", "two@example.com"]


async def test_a_worker_says_once_why_it_leaves_a_campaign_and_comes_again_for_a_new_plan(
    project: Project, serve: StartServer, postgres_url: str
) -> None:
    server = await serve()
    project.many(40)  # in many shards, each of which it is handed
    path = project.campaign(server, more=f"ledger: {postgres_url}")
    assert (await project.bulkmail("run", str(path), "--yes", "--detach")).status == 0
    project.environment["TEST_PASSWORD"] = ""
    worker = await project.start("worker", "--ledger", postgres_url)
    why = "letter: the environment variable TEST_PASSWORD (smtp.password) is not set"
    async with asyncio.timeout(60):
        while why not in (told := await project.bulkmail("status", str(path))).out:
            await asyncio.sleep(0.1)
    assert told.out.count(f"  does not send {why}\n") == 1
    await asyncio.sleep(1)
    assert (await project.bulkmail("pause", str(path))).status == 0
    del project.environment["TEST_PASSWORD"]
    assert (await project.bulkmail("run", str(path), "--yes", "--detach")).status == 0
    assert worker.stderr is not None
    lines = [(await asyncio.wait_for(worker.stderr.readline(), 10)).decode() for _ in range(3)]
    assert all(f"{why}; left to others for 30 s" in line for line in lines[1:]), lines
    worker.terminate()
    await worker.communicate()


async def test_what_a_campaign_is_stopped_for_is_said_again_if_somebody_was_planning_it(
    project: Project,
    serve: StartServer,
    postgres_url: str,
    sql: Sql,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The worker leaves it, and goes on with others; after the planner's no it is stopped."""
    monkeypatch.setenv("TEST_PASSWORD", "secret")
    refused = await serve(answer=lambda verb, _: b"550 5.7.1 no\r\n" if verb == "MAIL" else None)
    project.people("one@example.com,Kim")
    path = project.campaign(refused, more=f"ledger: {postgres_url}")
    assert (await project.bulkmail("run", str(path), "--yes", "--detach")).status == 0
    told = Told()
    charge = Charge(postgres_url, told, until_idle=True, lease_seconds=3.0)
    with psycopg.connect(postgres_url, options="-c search_path=bulkmail") as planner:
        told.on("campaign_begun", lambda: planner.execute("SELECT 1 FROM campaign FOR UPDATE"))
        worker = Worker(charge)
        working = asyncio.create_task(worker.run())
        await asyncio.wait_for(told.seen("campaign_left"), 60)
        planner.rollback()
    assert "550 5.7.1 no" in told.messages["campaign_left"]
    assert not working.done()
    worker.stop(Stop(ExitStatus.TERMINATED, "told to"))
    await working
    again = await project.bulkmail("worker", "--ledger", postgres_url, "--until-idle")
    assert "stopped: " in again.err and "550 5.7.1 no" in again.err


async def test_a_campaign_that_a_worker_cannot_compose_is_left_to_others(
    project: Project,
    serve: StartServer,
    postgres_url: str,
    sql: Sql,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """It was planned by another version, say. The worker goes on with what it can send."""
    monkeypatch.setenv("TEST_PASSWORD", "secret")
    server = await serve()
    for name in ("one", "two"):
        project.people(f"{name}@example.com,Kim")
        path = project.campaign(server, more=f"ledger: {postgres_url}\ncampaign: {name}")
        assert (await project.bulkmail("run", str(path), "--yes", "--detach")).status == 0
    project.write("letter.txt", "{{ name | no_such_filter }}")
    edition, _ = edition_of(read_campaign(path, {}))
    sql.execute("UPDATE campaign SET edition = %s WHERE name = 'one'", [edition])
    told = Told()
    worker = Worker(Charge(postgres_url, told))
    working = asyncio.create_task(worker.run())
    await asyncio.wait_for(told.seen("campaign_finished"), 60)
    worker.stop(Stop(ExitStatus.TERMINATED, "told to"))
    await working
    assert "no_such_filter" in told.messages["campaign_left"]
    assert list(server.paths) == ["two@example.com"]


# -- the sender ----------------------------------------------------------------------------------


async def test_a_sender_takes_no_shard_of_another_plan_nor_after_its_end(
    project: Project, serve: StartServer, worker: Callable[[], Lease], sql: Sql, postgres_url: str
) -> None:
    """It would send what was planned before, or let the engine wait for ever."""
    read = read_campaign(project.campaign(await serve()), {})
    lease = worker()
    shard = lease.take(first_shard(sql))
    assert shard is not None
    sender = Sender(
        read,
        Composer(read.design, read.load, b"seed", read.open_file),
        Submission(HOST, 9, Security.TLS),
        ShardLedger(lease._db, lease.worker_id, "account", 1),
        SharedPaces(postgres_url, "account", lease.worker_id, read.file.rate, {}),
        lambda one, state, outcome: None,
        lambda what: None,
        lambda why, at: None,
        lambda: False,
        plan=shard.plan + 1,
        content_proven=False,
        wait_seconds=60.0,
    )
    before = time.time()
    at = await sender.send(shard)
    assert at is not None and at > before
    await sender.ended()
    assert sender.stopped is None and states(sql) == [("pending", 0, 0)] * 2
    at = await sender.send(replace(shard, plan=shard.plan + 1))
    assert at is not None and at > before
