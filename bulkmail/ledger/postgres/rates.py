"""Rates that hold over all workers of an account: what may go is reserved in the database.

*Rates up to a minute* are slots. The database keeps when the next one is free; whoever reserves k
of them moves that on by k intervals, in one statement, so that no two slots, whoever has them, are
closer together than an interval. A slot may be used from its time on for a tolerance t, 3 % of the
period P. What is granted in a window of length P was therefore reserved for a window of length
P + t, and an interval of (P + t) / N puts no more than N slots there: the promise holds, late use
included, for 3 % of the rate. A slot that is not used by then is forfeited; so nothing that stood
still, died or lost its network can use one later, and it takes with it only what it had reserved,
0.13 seconds of the rate at most. Who joins gets what comes next.

Slots that are further apart than the tolerance are reserved only when their time has come; until
then the database says when one is free. A message that needs one of its account and one of its
domain waits for the account's, then takes that of the domain: reserved ahead, in any other order,
both could pass each other for ever. One that is reserved late may lie back by half a tolerance, so
that the way to the database costs nothing.

*Rates per hour and day* are quotas. Units of them are reserved to be used within V = 5 seconds; the
database counts all that were reserved in the last P + V, which covers all that can have been used
in a window of length P. A worker tells with its next reservation how many it used, the rest come
back. Of a reservation that nobody told about for G = 120 seconds more, those count that the worker
recorded with its intents, so that a worker that died frees the others. (One that stood still for
so long between a grant and its intent, and still has its shard, could exceed the quota by that.)

*Clocks.* All times are the database's. What a worker's monotonic clock says of it is known from
questions and answers: the database read its clock between the two. Of that interval the later end
says when a slot begins, the earlier one when it ends; a drift of 0.05 % for each of the two clocks
widens it, and makes intervals longer by 0.1 % of the period. If the database's clock is put by hand
all slots that were reserved are dropped as soon as a worker notices, with its next reservation.

*How many at once.* A worker reserves 0.03 seconds' worth at once, and when it has less than 0.1
seconds' left, while it uses what it has. The next portion is twice the last one if all was used,
and half if most was not, so that a slow worker leaves the slots to fast ones.

Campaigns of an account that have different rates for the same period go each at its own; together
they are never faster than the fastest.
"""

import asyncio
import time
from collections.abc import Callable, Coroutine, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar

from bulkmail.errors import LedgerError
from bulkmail.ledger.postgres.connection import PostgresDatabase
from bulkmail.model import Rate
from bulkmail.pace import DomainPaces, Pace
from bulkmail.reserved import CLOCK_DRIFT, SlotPace, Slots, Units

T = TypeVar("T")

NANO = 1_000_000_000
VALID_SECONDS = 5.0
"""For which reserved units of a quota may be used, and …"""
GRACE_SECONDS = 120.0
"""… for so many more its worker may tell how many it used, and record what they were used for."""
FARTHEST_SECONDS = 10.0
"""Slots that are so far ahead are not reserved: some hundred workers come before this one, or the
database's clock was put back."""
LATE = 0.5
"""The part of the tolerance that a slot may lie back when it is reserved."""
EXACT_SECONDS = 0.002
"""If the database's time is known less exactly, it is asked for."""
PATIENCE_SECONDS = 30.0
"""If nothing that was reserved for so long was there in time, the database is too slow."""

_FORGET = """
DELETE FROM slot WHERE (account, domain, period) IN (
    SELECT account, domain, period FROM slot
    WHERE account = ? AND next_at < nanoseconds() - 3600 * 1000000000::bigint
    FOR UPDATE SKIP LOCKED
)
"""
"""Domains that nobody has written to for an hour say nothing any more."""


class DatabaseClock:
    """What this process's monotonic clock says about the database's: how far that is ahead."""

    def __init__(self) -> None:
        self._least = float("-inf")
        self._most = float("inf")
        self._seen_at = 0.0
        self.times_put = 0
        """How often it was seen not to have gone on as it did."""

    def saw(self, asked: float, read: float, answered: float) -> None:
        """The database read its clock as `read` between two times of ours."""
        drift = (answered - self._seen_at) * CLOCK_DRIFT
        least = max(self._least - drift, read - answered)
        most = min(self._most + drift, read - asked)
        if least > most:
            self.times_put += 1
            least, most = read - answered, read - asked
        self._least, self._most, self._seen_at = least, most, answered

    def is_exact(self, now: float) -> bool:
        drift = (now - self._seen_at) * CLOCK_DRIFT
        return self._most - self._least + 2 * drift <= EXACT_SECONDS

    def after(self, at: float) -> float:
        """Our time at which it is surely `at` or later there."""
        ours = at - self._least
        return ours + max(0.0, ours - self._seen_at) * CLOCK_DRIFT

    def before(self, at: float) -> float:
        """Our time at which it is surely not later than `at` there."""
        ours = at - self._most
        return ours - max(0.0, ours - self._seen_at) * CLOCK_DRIFT


class SharedPaces:
    """The paces of one worker, for a `Delivery`; to be made inside a running event loop.

    It has a connection and a thread of its own. Once the connection failed every `refill` raises
    LedgerError (ConnectionLostError, if it was lost), so that nothing is granted; what was reserved
    before is used up. Begin anew with another one.
    """

    def __init__(
        self,
        url: str,
        account: str,
        worker_id: int,
        rates: Sequence[Rate],
        domain_rates: Mapping[str, Sequence[Rate]],
    ) -> None:
        self.failure: LedgerError | None = None
        self.pace: Pace = SharedPace(self, "", rates)
        self.domain_paces: DomainPaces = _SharedDomainPaces(self, domain_rates)
        self._database = _Reservations(url, account, worker_id)
        self._executor = ThreadPoolExecutor(1, thread_name_prefix="rates")
        self._tasks: set[asyncio.Task[None]] = set()

    async def close(self) -> None:
        """To be called when no task uses the paces any more."""
        self.failure = self.failure or LedgerError("the rates are not kept any more")
        await asyncio.gather(*self._tasks)
        await self.in_thread(lambda database: database.close())
        self._executor.shutdown()

    def start(self, reserving: Coroutine[Any, Any, None]) -> "asyncio.Task[None]":
        task = asyncio.get_running_loop().create_task(reserving)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    async def in_thread(self, function: Callable[["_Reservations"], T]) -> T:
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self._executor, function, self._database)


class SharedPace(SlotPace):
    """That of an account (`domain` empty), or of a domain of it."""

    def __init__(self, shared: SharedPaces, domain: str, rates: Sequence[Rate]) -> None:
        super().__init__(rates)
        self._shared = shared
        self._domain = domain
        self._reserving: asyncio.Task[None] | None = None
        self._told = 0
        """The last reservation of units."""
        self._times_put = 0
        """The database's clock, as far as this one has heard."""

    async def refill(self) -> None:
        give_up = time.monotonic() + PATIENCE_SECONDS
        while not self.may_go(now := time.monotonic()) and self.earliest(now) <= now:
            if self._shared.failure is not None:
                raise self._shared.failure
            if now > give_up:
                raise LedgerError(
                    "the database answers too late for the rates to be kept: nothing that was"
                    f" reserved in {PATIENCE_SECONDS:g} s could be used"
                )
            await asyncio.shield(self._reserve())

    def grant(self, at: float) -> None:
        super().grant(at)
        if self.is_low(at) and self._shared.failure is None:
            self._reserve()

    def _reserve(self) -> "asyncio.Task[None]":
        """Reserves what is lacking, once at a time."""
        if self._reserving is None or self._reserving.done():
            self._reserving = self._shared.start(self._reserve_all())
        return self._reserving

    async def _reserve_all(self) -> None:
        try:
            for slots in self.slots:
                if slots.is_low(time.monotonic()):
                    await self._reserve_slots(slots)
            if self.units is not None and self.units.is_low(time.monotonic()):
                await self._reserve_units(self.units)
        except LedgerError as error:
            self._shared.failure = self._shared.failure or error

    async def _reserve_slots(self, slots: Slots) -> None:
        domain, number = self._domain, slots.portion()
        got, first, last, times_put = await self._shared.in_thread(
            lambda database: database.slots(domain, slots, number)
        )
        if times_put != self._times_put:  # nobody knows when the earlier ones are
            self._times_put = times_put
            for other in self.slots:
                other.forget()
        slots.add(first, last, got)

    async def _reserve_units(self, units: Units) -> None:
        domain, number, told = self._domain, units.portion(), (self._told, units.used)
        self._told, got, until, none_until = await self._shared.in_thread(
            lambda database: database.units(domain, units.rates, number, told)
        )
        units.add(until, got, none_until)


class _SharedDomainPaces(DomainPaces):
    def __init__(self, shared: SharedPaces, rates: Mapping[str, Sequence[Rate]]) -> None:
        super().__init__(rates)
        self._shared = shared

    async def refill(self, domain: str) -> None:
        if self.has_rates(domain):
            await self._pace(domain).refill()

    def may_go(self, domain: str, now: float) -> bool:
        if domain not in self._paces and self.has_rates(domain):
            return False
        return super().may_go(domain, now)

    def _made(self, domain: str, rates: Sequence[Rate]) -> Pace:
        return SharedPace(self._shared, domain, rates)


class _Reservations:
    """The database's side, for one thread. Times that it gives are monotonic ones of ours."""

    def __init__(self, url: str, account: str, worker_id: int) -> None:
        self._url = url
        self._account = account
        self._worker_id = worker_id
        self._db: PostgresDatabase | None = None
        self._clock = DatabaseClock()

    def slots(self, domain: str, slots: Slots, number: int) -> tuple[int, float, float, int]:
        """How many, from when until when the first of them may be used, and how often the
        database's clock was put so far; or none, and from when there may be one.
        """
        db, rate = self._opened(), slots.rate
        self._look_at_clock()
        asked = time.monotonic()
        got, first, read = db.execute(
            "SELECT * FROM reserve_slots(?, ?, ?, ?, ?, ?, ?)",
            (
                self._account, domain, rate.period_seconds, slots.interval_ns, number,
                int(FARTHEST_SECONDS * NANO) if slots.is_dense else 0,
                int(slots.tolerance * LATE * NANO),
            ),
        ).fetchone()  # fmt: skip
        self._clock.saw(asked, read / NANO, time.monotonic())
        first_at = first / NANO
        last = self._clock.before(first_at + slots.tolerance)
        return got, self._clock.after(first_at), last, self._clock.times_put

    def units(
        self, domain: str, rates: Sequence[Rate], number: int, told: tuple[int, int]
    ) -> tuple[int, int, float, float]:
        """The reservation, how many units it has and until when they may be used, and when there
        may be some if it has none.
        """
        db = self._opened()
        asked = time.monotonic()
        id_, units, read, free_at = db.execute(
            "SELECT * FROM reserve_units(?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
            (
                self._account, domain, self._worker_id, time.time(),
                [int(rate.period_seconds * (1 + CLOCK_DRIFT) * NANO) for rate in rates],
                [rate.limit for rate in rates], number,
                int(VALID_SECONDS * NANO), int(GRACE_SECONDS * NANO), *told,
            ),
        ).fetchone()  # fmt: skip
        self._clock.saw(asked, read / NANO, time.monotonic())
        until = self._clock.before(read / NANO + VALID_SECONDS)
        return id_ or 0, units, until, self._clock.after((free_at or read) / NANO)

    def close(self) -> None:
        if self._db is not None:
            self._db.close()

    def _opened(self) -> PostgresDatabase:
        if self._db is None:
            self._db = PostgresDatabase(self._url)
            self._db.execute(_FORGET, (self._account,))
        return self._db

    def _look_at_clock(self) -> None:
        if not self._clock.is_exact(asked := time.monotonic()):
            [read] = self._opened().execute("SELECT nanoseconds()").fetchone()
            self._clock.saw(asked, read / NANO, time.monotonic())
