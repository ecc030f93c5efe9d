"""Rates over all workers: no window holds more than allowed, whoever dies, stops or joins."""

import asyncio
import heapq
import itertools
import os
import signal
import struct
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing, suppress
from dataclasses import dataclass, field, replace

import psycopg
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bulkmail.delivery.desk import Desk, Granted, Halt
from bulkmail.delivery.queues import Queues
from bulkmail.delivery.seams import Limits
from bulkmail.errors import ExitStatus, LedgerError
from bulkmail.ledger.postgres.connection import PostgresDatabase
from bulkmail.ledger.postgres.opening import migrate
from bulkmail.ledger.postgres.rates import SharedPaces
from bulkmail.ledger.postgres.reservations import (
    GRACE_SECONDS,
    LATE,
    VALID_SECONDS,
    DatabaseClock,
)
from bulkmail.model import Rate, Recipient
from bulkmail.pace import DomainPaces
from bulkmail.reserved import SlotPace, Slots, Units

from . import test_delivery
from .conftest import StartServer
from .postgres import PostgresServer
from .test_delivery import Enrol, everyone
from .test_pace import most_in_a_window

enrol = test_delivery.enrol

# -- one process's side --------------------------------------------------------------------------


@dataclass
class Worker:
    """A process whose clock is `ahead` of the true time, and `faster` than it."""

    slots: Slots
    ahead: float
    faster: float
    clock: DatabaseClock = field(default_factory=DatabaseClock)

    def time(self, now: float) -> float:
        return self.ahead + now * (1 + self.faster)


class World:
    """Workers and their database. Times in it are true ones, but where it says otherwise."""

    def __init__(self, rate: Rate, database_faster: float) -> None:
        self.rate = rate
        self.now = 0.0
        self.granted: list[float] = []
        self._wakes: list[tuple[float, int, Worker]] = []
        self._order = itertools.count()
        self._faster = database_faster
        self._next_at = 0.0

    def _read(self) -> float:
        return 1_700_000_000 + self.now * (1 + self._faster)

    def reserve(
        self, worker: Worker, number: int, asking: float, answering: float, lateness: float
    ) -> None:
        """What the database and `Reservations.slots` do, with so long for question and answer.

        The worker uses its slots at their times, but first wakes when so much of the first one's
        tolerance is over.
        """
        asked, slots = worker.time(self.now), worker.slots
        self.wait(asking)
        read = self._read()
        first = max(self._next_at, read - slots.tolerance * LATE)
        self._next_at = first + number * slots.interval_ns / 1e9
        self.wait(answering)
        worker.clock.saw(asked, read, worker.time(self.now))
        last = worker.clock.before(first + slots.tolerance)
        first = worker.clock.after(first)
        slots.add(first, last, number)
        for n in range(number):
            at = first + n * slots.interval_ns / 1e9
            self._wake(worker, max(at, first + (last - first) * lateness - 1e-7))

    def _wake(self, worker: Worker, at: float) -> None:
        at = max(self.now, (at - worker.ahead) / (1 + worker.faster))
        heapq.heappush(self._wakes, (at, next(self._order), worker))

    def wait(self, seconds: float) -> None:
        """Whoever wakes meanwhile uses all that it may."""
        until = self.now + seconds
        while self._wakes and self._wakes[0][0] <= until:
            self.now, _, worker = heapq.heappop(self._wakes)
            while worker.slots.has(now := worker.time(self.now)):
                worker.slots.grant(now)
                self.granted.append(self.now)
        self.now = until


DRIFTS = st.sampled_from([-0.0005, 0.0, 0.0005])
WAYS = st.just(0.0) | st.floats(0, 0.01)
STEPS = st.lists(
    st.tuples(
        st.integers(0, 3),  # who
        st.integers(1, 12),  # reserves so many
        WAYS,  # the database reads its clock after so many periods
        WAYS,  # the answer comes after so many more
        st.sampled_from([0.0, 0.0, 1.0]) | st.floats(0, 3),  # how late they are used
        st.sampled_from([0.0, 0.8, 1.0]) | st.floats(0, 3),  # and, after so much of their time
    ),
    min_size=10,
    max_size=80,
)


@settings(max_examples=300, deadline=None)
@given(
    st.builds(Rate, st.integers(1, 100), st.sampled_from([1, 60])),
    DRIFTS,
    st.lists(st.tuples(st.floats(-1e5, 1e5), DRIFTS), min_size=4, max_size=4),
    STEPS,
)
def test_no_window_holds_more_than_the_slots_of_all(
    rate: Rate,
    database_faster: float,
    clocks: list[tuple[float, float]],
    steps: list[tuple[int, int, float, float, float, float]],
) -> None:
    """Whoever reserves, uses them late, stands still, joins or is not heard of again."""
    world, period = World(rate, database_faster), rate.period_seconds
    workers = [Worker(Slots(rate), *clock) for clock in clocks]
    for who, number, asking, answering, lateness, pause in steps:
        worker = workers[who]
        world.reserve(worker, number, asking * period, answering * period, lateness)
        world.wait(pause * number * worker.slots.interval_ns / 1e9)
    world.wait(100 * period)
    assert most_in_a_window(world.granted, period) <= rate.limit


def test_a_slot_that_was_not_used_in_time_is_forfeited() -> None:
    slots = Slots(Rate(10, 1))
    slots.add(5.0, 5.0 + slots.tolerance, 2)
    interval = slots.interval_ns / 1e9
    assert slots.earliest(0.0) == 5.0
    assert slots.earliest(5.02) == 5.02
    assert slots.earliest(5.04) == pytest.approx(5.0 + interval)
    slots.grant(5.0 + interval)
    assert not slots.has(5.0 + interval)
    slots.add(6.0, 6.0, 0)
    assert (slots.earliest(5.2), slots.earliest(6.1)) == (6.0, 6.1)
    assert not slots.has(6.1), "one may be free, but is not reserved"


def test_after_a_slot_that_is_far_from_the_next_one_nobody_asks_before_its_time() -> None:
    slots = Slots(Rate(10, 1))
    slots.add(5.0, 5.03, 1)
    slots.grant(5.0)
    next_at = 5.0 + slots.interval_ns / 1e9
    assert slots.earliest(5.01) == pytest.approx(next_at)
    assert not slots.is_low(next_at - 0.001) and slots.is_low(next_at)


def test_as_much_is_reserved_as_is_used() -> None:
    """All used: twice as much, up to 0.03 seconds' worth. Less than half used: half as much."""
    slots, now = Slots(Rate(1000, 1)), 0.0

    def round_of(used: Callable[[int], int]) -> int:
        nonlocal now
        number = slots.portion()
        slots.add(now, now + 0.03, number)
        for _ in range(used(number)):
            slots.grant(slots.earliest(now))
        now += 1
        assert slots.is_low(now)
        return number

    assert [round_of(lambda n: n) for _ in range(7)] == [1, 2, 4, 8, 16, 29, 29]
    assert [round_of(lambda n: n // 4) for _ in range(4)] == [29, 14, 7, 3]


def test_the_database_s_time_is_known_on_the_safe_side() -> None:
    clock = DatabaseClock()
    clock.saw(10.0, 1000.0, 10.004)
    assert clock.after(1000.0) >= 10.004 and clock.before(1000.0) <= 10.0
    assert not clock.is_exact(10.004)
    clock.saw(10.1, 1000.1, 10.1001)  # a quick answer makes all more exact
    assert clock.is_exact(10.1001) and not clock.is_exact(13.0)
    clock.saw(11.0, 1001.9, 11.5)  # a slow one makes nothing less exact, …
    assert clock.times_put == 1  # … but a database's clock does not gain a second
    assert clock.before(1001.9) <= 11.0


def test_a_minute_s_rate_and_a_second_s_need_a_slot_each() -> None:
    pace = SlotPace([Rate(10, 1), Rate(100, 60), Rate(20, 1)])
    second, minute = pace.slots if pace.slots[0].rate.period_seconds == 1 else pace.slots[::-1]
    assert second.rate.limit == 10, "of two for the same period the lower one"
    second.add(1.0, 1.03, 2)
    assert pace.earliest(0.0) == 1.0 and not pace.may_go(1.0)
    minute.add(1.05, 2.85, 1)
    assert pace.earliest(0.0) == 1.05 and not pace.may_go(1.05)
    assert pace.earliest(1.05) == pytest.approx(1.0 + second.interval_ns / 1e9)
    assert pace.may_go(1.11)
    pace.grant(1.11)
    assert not pace.may_go(1.11)


def test_units_go_at_once_but_not_after_their_time() -> None:
    pace = SlotPace([Rate(450, 86400)])
    units = pace.units
    assert isinstance(units, Units)
    assert not pace.may_go(0.0)
    units.add(1, 5.0, 3, 0.0)
    pace.grant(1.0)
    pace.grant(1.0)
    assert pace.may_go(5.0) and not pace.may_go(5.1)
    units.add(0, 0.0, 0, 900.0)
    assert (pace.earliest(6.0), pace.earliest(901.0)) == (900.0, 901.0)
    assert not pace.may_go(901.0)


# -- processes -----------------------------------------------------------------------------------


@pytest.fixture
def url(postgres_url: str) -> Iterator[str]:
    """A database with the ledger's tables."""
    with closing(PostgresDatabase(postgres_url)) as db:
        migrate(db, lambda connection: None)
    yield postgres_url


@dataclass
class Taking:
    """A process of `tests.granting`, when it was granted something, and for which domain."""

    process: asyncio.subprocess.Process
    times: list[float] = field(default_factory=list)
    places: list[int] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.reading = asyncio.create_task(self._read())

    async def _read(self) -> None:
        assert self.process.stdout is not None
        with suppress(asyncio.IncompleteReadError):
            while True:
                at, place = struct.unpack("dq", await self.process.stdout.readexactly(16))
                self.times.append(at)
                self.places.append(place)

    async def has(self, number: int) -> None:
        """Waits until it was granted so many."""
        while len(self.times) < number:
            assert self.process.returncode is None
            await asyncio.sleep(0.01)

    async def end(self) -> None:
        """Kills it, if it runs, and reads what it wrote."""
        if self.process.returncode is None:
            self.process.kill()
        await self.done()

    async def done(self) -> None:
        await self.process.wait()
        await self.reading


Take = Callable[..., Awaitable[Taking]]


@pytest.fixture
async def take(url: str) -> AsyncIterator[Take]:
    """Starts processes that take all that they are granted."""
    started: list[Taking] = []

    async def start(rates: str, worker: int, *domains: str) -> Taking:
        command = ("-m", "tests.granting", url, rates, ",".join(domains), str(worker), "60")
        pipe = asyncio.subprocess.PIPE
        taking = Taking(await asyncio.create_subprocess_exec(sys.executable, *command, stdout=pipe))
        started.append(taking)
        return taking

    yield start
    for taking in started:
        await taking.end()


def all_times(*workers: Taking) -> list[float]:
    return sorted(at for worker in workers for at in worker.times)


async def test_no_second_holds_more_while_workers_die_stop_and_join(take: Take) -> None:
    first, second = await take("2000/1", 1), await take("2000/1", 2)
    await first.has(500)
    await second.has(500)
    third = await take("2000/1", 3)
    await third.has(300)
    first.process.kill()
    os.kill(second.process.pid, signal.SIGSTOP)
    await third.has(len(third.times) + 2000)  # it has the whole rate alone
    os.kill(second.process.pid, signal.SIGCONT)
    await second.has(len(second.times) + 500)
    for worker in (first, second, third):
        await worker.end()
    times = all_times(first, second, third)
    assert most_in_a_window(times, 1.0) <= 2000
    reached = len(times) / (times[-1] - times[0])
    assert reached >= 2000 * 0.6, "who died or stopped takes little with them"


async def test_a_domain_has_its_rate_over_all_workers(take: Take) -> None:
    workers = [await take("50/1", n, "example.com") for n in range(3)]
    other = await take("50/1", 4, "example.org")
    for worker in (*workers, other):
        await worker.has(20)
    await other.has(100)
    for worker in (*workers, other):
        await worker.end()
    times = all_times(*workers)
    assert most_in_a_window(times, 1.0) <= 50 and most_in_a_window(other.times, 1.0) <= 50
    assert len(times) > 60, "as much as the other domain alone, but for late wakings"


async def test_many_domains_have_their_rates_over_all_workers(take: Take) -> None:
    """Each reserves for those that come next, in an order of its own, and one stands still."""
    domains = [f"d{n}.example" for n in range(30)]
    workers = [await take("10/1", 1, *domains), await take("10/1", 2, *reversed(domains))]
    for worker in workers:
        await worker.has(300)
    os.kill(workers[1].process.pid, signal.SIGSTOP)
    await workers[0].has(len(workers[0].times) + 300)
    os.kill(workers[1].process.pid, signal.SIGCONT)
    await workers[1].has(len(workers[1].times) + 300)
    for worker in workers:
        await worker.end()
    first, second = (list(zip(worker.times, worker.places, strict=True)) for worker in workers)
    second = [(at, len(domains) - 1 - place) for at, place in second]
    for place in range(len(domains)):
        times = sorted(at for at, other in first + second if other == place)
        assert most_in_a_window(times, 1.0) <= 10
    times = all_times(*workers)
    reached = len(times) / (times[-1] - times[0])
    assert reached >= 10 * len(domains) * 0.6, "few slots are forfeited"


async def test_a_quota_is_granted_once_over_all_workers(take: Take) -> None:
    """Each process ends by itself when there is nothing for it within its time."""
    workers = [await take("100/86400", n) for n in range(3)]
    for worker in workers:
        await worker.done()
    assert len(all_times(*workers)) == 100
    assert all(worker.process.returncode == 0 for worker in workers)


async def test_domains_of_long_ago_are_forgotten(url: str) -> None:
    shared = SharedPaces(url, "a", 1, [], {"*": [Rate(60, 60)]})
    with psycopg.connect(url) as db:
        for domain, minutes in (("old.example", -61), ("new.example", -1), ("late.example", 1)):
            db.execute(
                "INSERT INTO bulkmail.slot VALUES"
                " ('a', %s, 60, bulkmail.nanoseconds() + %s * 60000000000)",
                (domain, minutes),
            )
    await shared.domain_paces.refill("new.example")
    await shared.domain_paces.refill("late.example")
    now = time.monotonic()
    assert shared.domain_paces.may_go("new.example", now)
    assert not shared.domain_paces.may_go("late.example", now)
    assert shared.domain_paces.earliest("late.example", now) == pytest.approx(now + 60, abs=5)
    with psycopg.connect(url) as db:
        known = db.execute("SELECT domain FROM bulkmail.slot ORDER BY domain").fetchall()
    assert known == [("late.example",), ("new.example",)]
    await shared.close()


async def test_a_slot_lies_back_only_if_it_follows_another_one(url: str) -> None:
    """Whose domain was not written to for a while has the whole tolerance to be used in."""
    with closing(PostgresDatabase(url)) as db:
        [now] = db.execute("SELECT nanoseconds()").fetchone()
        at = {"idle": now - 10**12, "late": now - 10**6, "early": now + 10**12}
        for domain, next_at in at.items():
            db.execute("INSERT INTO slot VALUES ('a', ?, 1, ?)", (domain, next_at))
        asked = ["new", *at]
        rows = db.execute(
            "SELECT * FROM reserve_slots('a', ?, ?, ?, ?, ?)",
            (asked, [1.0] * 4, [100] * 4, [0] * 4, [10**9] * 4),
        ).fetchall()
        known = dict(db.execute("SELECT domain, next_at FROM slot").fetchall())
    found = {asked[place - 1]: row for place, *row in rows}
    for domain in ("new", "idle"):
        is_reserved, first_at, read_at = found[domain]
        assert is_reserved and now < first_at <= read_at
        assert known[domain] == first_at + 100
    assert found["late"][:2] == [True, at["late"]] and known["late"] == at["late"] + 100
    assert found["early"][:2] == [False, at["early"]] and known["early"] == at["early"]


ASKED = {
    "slots": "SELECT * FROM reserve_slots('a', ?, '{1, 1, 1}', '{5, 5, 5}', '{0, 0, 0}', '{0, 0, 0}')",
    "units": "SELECT * FROM reserve_units_of_each('a', ?, '{1, 1, 1}', '{0, 0, 0}', '{0, 0, 0}', 1,"
    " 0, '{3600}', '{10}', 0, 0)",
}
HELD = {
    "slots": "SELECT * FROM slot WHERE domain IN ('c', 'd') FOR UPDATE",
    "units": "SELECT pg_advisory_xact_lock(hashtextextended('a' || chr(10) || domain, 0))"
    " FROM unnest('{c, d}'::text[]) AS domain",
}
WAITING = "SELECT count(*) FROM pg_locks WHERE NOT granted"


@pytest.mark.parametrize("what", ["slots", "units"])
def test_two_who_ask_for_the_same_domains_do_not_wait_for_each_other(url: str, what: str) -> None:
    """Each has one that the other wants, too, unless both take them in one order."""
    orders = [["b", "c", "a"], ["a", "d", "b"]]
    with ExitStack() as stack:
        dbs = [stack.enter_context(closing(PostgresDatabase(url))) for _ in range(3)]
        threads = stack.enter_context(ThreadPoolExecutor(2))
        for domain in "abcd":
            dbs[0].execute("INSERT INTO slot VALUES ('a', ?, 1, 0)", (domain,))
        with dbs[0].transaction():
            dbs[0].execute(HELD[what])
            asking = [
                threads.submit(db.execute, ASKED[what], (domains,))
                for db, domains in zip(dbs[1:], orders, strict=True)
            ]
            while dbs[0].execute(WAITING).fetchone() != (2,):
                time.sleep(0.01)
        for answer in asking:
            assert len(answer.result().fetchall()) == 3


async def go_through(shared: SharedPaces, domains: list[str], pause: float = 0.0) -> list[int]:
    """A message to each in turn; for how many who come next something could be reserved."""
    numbers: list[int] = []
    for place, domain in enumerate(domains, 1):

        def coming(number: int, place: int = place) -> list[str]:
            numbers.append(number)
            return domains[place : place + number]

        while not shared.domain_paces.may_go(domain, now := time.monotonic()):
            await shared.domain_paces.refill(domain, coming)
            at = shared.domain_paces.earliest(domain, time.monotonic())
            await asyncio.sleep(at - time.monotonic())
        shared.domain_paces.grant(domain, now)
        await asyncio.sleep(pause)
    return numbers


def statements(url: str, table: str) -> int:
    """How many wrote the rows of a table last."""
    with psycopg.connect(url) as db:
        [[number]] = db.execute(
            f"SELECT count(DISTINCT xmin::text) FROM bulkmail.{table}"
        ).fetchall()
    return int(number)


DOMAINS = [f"d{n}.example" for n in range(600)]


@pytest.mark.parametrize(("rate", "table"), [(Rate(30, 60), "slot"), (Rate(100, 3600), "reserved")])
async def test_many_domains_need_few_statements(url: str, rate: Rate, table: str) -> None:
    shared = SharedPaces(url, "a", 1, [], {"*": [rate]})
    numbers = await go_through(shared, DOMAINS)
    await shared.close()
    assert len(numbers) == statements(url, table) <= 60
    assert max(numbers) <= 100


async def test_who_is_slow_reserves_for_nobody_ahead(url: str) -> None:
    """Else most slots would be forfeited."""
    shared = SharedPaces(url, "a", 1, [], {"*": [Rate(10, 1)]})
    assert await go_through(shared, DOMAINS[:20], pause=0.02) == [0] * 20
    await shared.close()


async def test_when_the_database_s_clock_is_put_all_slots_are_dropped(url: str) -> None:
    """Also those of domains that this reservation is not for."""
    shared = SharedPaces(url, "a", 1, [Rate(600, 60)], {"*": [Rate(600, 60)]})
    paces = shared.domain_paces
    await shared.pace.refill()
    await paces.refill("a.example")
    now = time.monotonic()
    assert shared.pace.may_go(now) and paces.may_go("a.example", now)
    clock = shared._reservations._clock
    clock._least, clock._most = clock._least + 100, clock._most + 100  # as if by 100 seconds
    await paces.refill("b.example")
    now = time.monotonic()
    assert paces.may_go("b.example", now)
    assert not shared.pace.may_go(now) and not paces.may_go("a.example", now)
    await shared.close()


# -- quotas --------------------------------------------------------------------------------------


class People:
    """A ledger with these people, all of whom are claimed at once."""

    def __init__(self, people: list[Recipient]) -> None:
        self._people = people

    async def claim(
        self, limit: int, now: float, domain: str | None = None
    ) -> tuple[list[Recipient], bool]:
        people, self._people = self._people, []
        return people, True

    def set_apart(self, domain: str) -> None: ...

    async def next_due_at(self, domain: str | None = None) -> float | None:
        return None


async def test_the_ledger_knows_of_grants_to_domains_with_quotas_alone(postgres_url: str) -> None:
    """A row for each domain and second would be most of what a worker writes."""
    rates = {"*": [Rate(10, 1.0)], "slow.example": [Rate(10, 1.0), Rate(100, 3600.0)]}
    shared = SharedPaces(postgres_url, "account", 1, [], rates)
    assert not shared.domain_paces.is_recorded("any.example")
    assert shared.domain_paces.is_recorded("slow.example")
    assert DomainPaces(rates).is_recorded("any.example")
    await shared.close()


async def granted(shared: SharedPaces, most: int = 10_000) -> int:
    """How many go at once."""
    number = 0
    while number < most:
        await shared.pace.refill()
        now = time.monotonic()
        if not shared.pace.may_go(now):
            break
        shared.pace.grant(now)
        number += 1
    return number


DAY = 86400
MANY = [Rate(2000, DAY)]
"""Of which up to ten units are reserved at once."""


async def test_what_a_worker_did_not_use_comes_back(url: str) -> None:
    one, other = SharedPaces(url, "a", 1, MANY, {}), SharedPaces(url, "a", 2, MANY, {})
    assert await granted(one, 8) == 8  # 1 + 2 + 4 and one of 8
    assert await granted(other) == 2000 - 15
    assert one.pace.units is not None and one.pace.units._left == 7
    one.pace.units._until = 0.0  # time passes
    assert await granted(one, 1) == 1
    await one.close()
    await other.close()


async def test_the_units_of_a_worker_that_died_come_back_but_for_those_it_recorded(
    url: str,
) -> None:
    dead, other = SharedPaces(url, "a", 1, MANY, {}), SharedPaces(url, "a", 2, MANY, {})
    assert await granted(dead, 10) == 10  # 1 + 2 + 4 and three of 8
    await dead.close()
    assert await granted(other) == 2000 - 15
    wait = other.pace.earliest(time.monotonic()) - time.monotonic()
    assert wait == pytest.approx(VALID_SECONDS + GRACE_SECONDS, abs=5), "until then it may tell"
    await other.close()
    with psycopg.connect(url) as db:
        for at, number in ((time.time(), 2), (time.time() - 30, 7)):
            row = "INSERT INTO bulkmail.granted VALUES ('a', '', %s, 1, %s, %s)"
            db.execute(row, (int(at), at, number))
        db.execute(  # so long ago
            "UPDATE bulkmail.reserved SET at = at - %s WHERE worker_id = 1",
            (int((VALID_SECONDS + GRACE_SECONDS) * 1e9),),
        )
    third = SharedPaces(url, "a", 3, MANY, {})
    assert await granted(third) == 8 - 2, "the rest of its last reservation"
    await third.close()


@pytest.mark.parametrize(("age", "is_used"), [(30, True), (130, False)])
async def test_a_grant_of_a_quota_that_others_may_have_got_is_not_used(
    url: str, age: int, is_used: bool
) -> None:
    """A message waits for its connection while the others use up what is left for the day."""
    one, other = SharedPaces(url, "a", 1, MANY, {}), SharedPaces(url, "a", 2, MANY, {})
    people = [Recipient(n, f"p{n}@example.com", {}, "m.csv:1") for n in range(1, 5)]
    queues = Queues(People(people), one.domain_paces)  # type: ignore[arg-type]
    desk = Desk(queues, one.pace, one.domain_paces, Limits(), Halt())
    for _ in people:  # of 1, 2 and 4 units, the last of which are not told about
        last = await desk.next()
    assert isinstance(last, Granted)
    with psycopg.connect(url) as db:
        db.execute("UPDATE bulkmail.reserved SET at = at - %s", (age * 10**9,))
    last = replace(last, at=last.at - age)
    assert one.pace.units is not None
    one.pace.units._until = 0.0
    of_others = await granted(other)
    found = await desk.fresh(last)
    assert (found is not None) is is_used
    assert of_others + 3 + is_used <= 2000
    await one.close()
    await other.close()


async def test_a_used_up_quota_says_when_it_is_free_again(url: str) -> None:
    one = SharedPaces(url, "a", 1, [Rate(8, DAY)], {})
    assert await granted(one) == 8
    wait = one.pace.earliest(time.monotonic()) - time.monotonic()
    assert DAY < wait < DAY + 300
    await one.close()


# -- a delivery ----------------------------------------------------------------------------------


async def test_a_delivery_keeps_the_rates(serve: StartServer, enrol: Enrol, url: str) -> None:
    server, campaign = await serve(), enrol(240, lambda n: f"p{n}@d{n % 2}.example")
    rates = {"d0.example": [Rate(50, 1)]}
    shared = SharedPaces(url, server.submission.account, 1, [Rate(200, 1), Rate(500, DAY)], rates)
    paces = shared.pace, shared.domain_paces
    assert await campaign.run(server, paces=paces) is None
    await shared.close()
    assert campaign.states() == {"accepted": 240}
    assert most_in_a_window(server.arrivals, 0.85) <= 200
    apart = [
        at
        for at, received in zip(server.arrivals, server.received, strict=True)
        if received.forward_paths[0].endswith("@d0.example")
    ]
    assert most_in_a_window(apart, 0.85) <= 50


async def test_equal_rates_of_account_and_domain_do_not_pass_each_other(
    serve: StartServer, enrol: Enrol, url: str
) -> None:
    """The domain's slots lie between those of the account, where nobody would ever have both."""
    server, campaign = await serve(), enrol(12)
    rates = [Rate(8, 1)]
    shared = SharedPaces(url, server.submission.account, 1, rates, {"*": rates})
    interval = SlotPace(rates).slots[0].interval_ns
    with psycopg.connect(url) as db:
        db.execute(
            "INSERT INTO bulkmail.slot VALUES (%s, 'example.com', 1, bulkmail.nanoseconds() + %s)",
            (server.submission.account, interval // 2),
        )
    assert await campaign.run(server, paces=(shared.pace, shared.domain_paces)) is None
    await shared.close()
    assert campaign.states() == {"accepted": 12}


async def test_a_delivery_to_many_domains_needs_few_statements(
    serve: StartServer, enrol: Enrol, url: str
) -> None:
    """Two people of each domain follow each other: the second ones wait, then go together, too."""
    server, campaign = await serve(), enrol(300, lambda n: f"p{n}@d{n // 2}.example")
    shared = SharedPaces(url, server.submission.account, 1, [], {"*": [Rate(30, 10)]})
    assert await campaign.run(server, paces=(shared.pace, shared.domain_paces)) is None
    await shared.close()
    assert campaign.states() == {"accepted": 300}
    assert statements(url, "slot") <= 50, "of 150 domains"


async def test_a_used_up_quota_of_all_workers_ends_the_run(
    serve: StartServer, enrol: Enrol, url: str
) -> None:
    server, campaign = await serve(), enrol(20)
    shared = SharedPaces(url, server.submission.account, 1, [Rate(8, DAY)], {})
    stop = await campaign.run(server, paces=(shared.pace, shared.domain_paces))
    assert stop is not None and stop.status is ExitStatus.CONTINUE
    assert stop.resume_at == pytest.approx(time.time() + DAY, abs=300)
    assert campaign.states() == {"accepted": 8, "pending": 12}
    await shared.close()


async def test_nothing_goes_without_the_database(
    serve: StartServer, enrol: Enrol, url: str, postgres_server: PostgresServer
) -> None:
    server, campaign = await serve(), enrol(400)
    shared = SharedPaces(url, server.submission.account, 1, [Rate(100, 1)], {})

    def killed(*_: object) -> None:
        if len(campaign.settled) == 50:
            postgres_server.kill()

    stop = await campaign.run(server, paces=(shared.pace, shared.domain_paces), on_settled=killed)
    assert stop is not None and stop.status is ExitStatus.LEDGER
    with pytest.raises(LedgerError):
        await shared.pace.refill()
    assert campaign.states()["accepted"] < 100
    assert sorted(server.paths) == sorted(everyone(len(server.paths)))
    await shared.close()
    postgres_server.start()
