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
that the way to the database costs nothing; if nobody asked for longer than that, it begins now.

*Rates per hour and day* are quotas. Units of them are reserved to be used within V = 5 seconds; the
database counts all that were reserved in the last P + V, which covers all that can have been used
in a window of length P. A worker tells with its next reservation how many it used, the rest come
back. Of a reservation that nobody told about for G = 120 seconds more, those count that the worker
recorded with its intents, so that a worker that died frees the others. A grant that waited for its
connection for more than G / 2 is not used. (A worker that stands still for as long after that was
looked at, before its intent, and still has its shard, could exceed the quota by that.)

*Clocks.* All times are the database's. What a worker's monotonic clock says of it is known from
questions and answers: the database read its clock between the two. Of that interval the later end
says when a slot begins, the earlier one when it ends; a drift of 0.05 % for each of the two clocks
widens it, and makes intervals longer by 0.1 % of the period. If the database's clock is put by hand
all slots that were reserved are dropped as soon as a worker notices, with its next reservation.

*How many at once.* A worker reserves 0.03 seconds' worth at once; of its account when it has less
than 0.1 seconds' left, while it uses what it has. The next portion is twice the last one if all was
used, and half if most was not, so that a slow worker leaves the slots to fast ones.

*Many domains.* What one domain lacks is reserved in one statement with what those lack who come
next: for as many as went within half a tolerance before, so that they can use it before it is
forfeited, also where they wait for the account. Who is slow reserves for nobody but themselves. All
lock their rows in one order; slots of a domain are as far apart as if it were asked for alone.

Campaigns of an account that have different rates for the same period go each at its own; together
they are never faster than the fastest.
"""

import asyncio
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import TypeVar

from bulkmail.errors import LedgerError
from bulkmail.ledger.postgres.reservations import GRACE_SECONDS, Reservations
from bulkmail.model import Rate
from bulkmail.pace import SPACED_UP_TO_SECONDS, Coming, DomainPaces, nobody, rates_of
from bulkmail.reserved import AHEAD_SECONDS, SLOT_TOLERANCE, SlotPace

T = TypeVar("T")

MOST_AHEAD = 100
"""So many who come next, at most, get something together with who needs it."""
PATIENCE_SECONDS = 30.0
"""If nothing that was reserved for so long was there in time, the database is too slow."""


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
        self.pace = SharedPace(self, "", rates)
        self.domain_paces = _SharedDomainPaces(self, domain_rates)
        self._reservations = Reservations(url, account, worker_id)
        self._executor = ThreadPoolExecutor(1, thread_name_prefix="rates")
        self._turn = asyncio.Lock()
        self._lacking: list[SharedPace] = []
        self._next: asyncio.Task[None] | None = None
        """Reserves what these lack, as soon as it is its turn."""
        self._tasks: set[asyncio.Task[None]] = set()
        self._times_put = 0
        """How often the database's clock was."""

    def break_off(self) -> None:
        """Who waits for the database hears ConnectionLostError."""
        self._reservations.break_off()

    async def close(self) -> None:
        """To be called when no task uses the paces any more."""
        self.failure = self.failure or LedgerError("the rates are not kept any more")
        await asyncio.gather(*self._tasks)
        await self._in_thread(Reservations.close)
        self._executor.shutdown()

    def reserve(self, pace: "SharedPace") -> "asyncio.Task[None]":
        """Reserves what it lacks, in one statement with what others lack when its turn comes."""
        if pace.reserving is None or pace.reserving.done():
            if self._next is None:
                self._next = asyncio.get_running_loop().create_task(self._reserve())
                self._tasks.add(self._next)
                self._next.add_done_callback(self._tasks.discard)
            self._lacking.append(pace)
            pace.reserving = self._next
        return pace.reserving

    async def _reserve(self) -> None:
        async with self._turn:
            paces, self._lacking, self._next = self._lacking, [], None
            try:
                await self._reserve_slots(paces)
                await self._reserve_units(paces)
            except LedgerError as error:
                self.failure = self.failure or error

    async def _reserve_slots(self, paces: Sequence["SharedPace"]) -> None:
        now = time.monotonic()
        asked = [
            (pace.domain, slots, slots.portion())
            for pace in paces
            for slots in pace.slots
            if slots.is_low(now)
        ]
        if not asked:
            return
        answers, times_put = await self._in_thread(partial(Reservations.slots, asked=asked))
        if times_put != self._times_put:  # nobody knows when the earlier ones are
            self._times_put = times_put
            self.pace.forget_slots()
            self.domain_paces.forget_slots()
        for (_, slots, _), answer in zip(asked, answers, strict=True):
            slots.add(*answer)

    async def _reserve_units(self, paces: Sequence["SharedPace"]) -> None:
        """Those who have the same quotas together."""
        now = time.monotonic()
        lacking = [
            (pace.domain, pace.units)
            for pace in paces
            if pace.units is not None and pace.units.is_low(now)
        ]
        for rates in {units.rates for _, units in lacking}:
            asked = [(d, units, units.portion()) for d, units in lacking if units.rates == rates]
            reserving = partial(Reservations.units, rates=rates, asked=asked)
            for (_, units, _), answer in zip(asked, await self._in_thread(reserving), strict=True):
                units.add(*answer)

    async def _in_thread(self, function: Callable[[Reservations], T]) -> T:
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self._executor, function, self._reservations)


class SharedPace(SlotPace):
    """That of an account (`domain` empty), or of a domain of it."""

    used_within_seconds = GRACE_SECONDS / 2

    def __init__(self, shared: SharedPaces, domain: str, rates: Sequence[Rate]) -> None:
        super().__init__(rates)
        self.domain = domain
        self.reserving: asyncio.Task[None] | None = None
        """What reserves for it, or did last."""
        self._shared = shared

    @property
    def lacks(self) -> bool:
        """Whether something must be reserved to know when one more may go."""
        now = time.monotonic()
        return not self.may_go(now) and self.earliest(now) <= now

    async def refill(self) -> None:
        give_up = time.monotonic() + PATIENCE_SECONDS
        while self.lacks:
            if self._shared.failure is not None:
                raise self._shared.failure
            if time.monotonic() > give_up:
                raise LedgerError(
                    "the database answers too late for the rates to be kept: nothing that was"
                    f" reserved in {PATIENCE_SECONDS:g} s could be used"
                )
            await asyncio.shield(self._shared.reserve(self))

    def grant(self, at: float) -> None:
        """More for the account is reserved meanwhile; for a domain when somebody comes."""
        super().grant(at)
        if not self.domain and self.is_low(at) and self._shared.failure is None:
            self._shared.reserve(self)

    def forget_slots(self) -> None:
        for slots in self.slots:
            slots.forget()


class _SharedDomainPaces(DomainPaces):
    def __init__(self, shared: SharedPaces, rates: Mapping[str, Sequence[Rate]]) -> None:
        super().__init__(rates)
        self._shared = shared
        periods = {rate.period_seconds for some in rates.values() for rate in some}
        tolerances = [p * SLOT_TOLERANCE for p in periods if p <= SPACED_UP_TO_SECONDS]
        self._soon = min([AHEAD_SECONDS, *(tolerance / 2 for tolerance in tolerances)])
        """Seconds within which a slot is used that is reserved ahead."""
        self._granted: deque[float] = deque(maxlen=MOST_AHEAD)
        """When the last ones were."""

    async def refill(self, domain: str, coming: Coming = nobody) -> None:
        if not self.has_rates(domain):
            return
        pace = self._pace(domain)
        if pace.lacks and self._shared.failure is None:
            self._shared.reserve(pace)
            self._reserve_ahead(coming)
        await pace.refill()

    def is_recorded(self, domain: str) -> bool:
        """Only what quotas ask for: slots are in the database already."""
        return any(r.period_seconds > SPACED_UP_TO_SECONDS for r in rates_of(domain, self._rates))

    def grant(self, domain: str, at: float) -> None:
        super().grant(domain, at)
        self._granted.append(at)

    def may_go(self, domain: str, now: float) -> bool:
        if domain not in self._paces and self.has_rates(domain):
            return False
        return super().may_go(domain, now)

    def forget_slots(self) -> None:
        for domain in self._paces:
            self._pace(domain).forget_slots()

    def _reserve_ahead(self, coming: Coming) -> None:
        """For as many as went just now, since so many go soon."""
        now = time.monotonic()
        number = sum(at > now - self._soon for at in self._granted)
        for domain in filter(self.has_rates, coming(number)):
            if (pace := self._pace(domain)).is_low(now):
                self._shared.reserve(pace)

    def _pace(self, domain: str) -> SharedPace:
        pace = super()._pace(domain)
        assert isinstance(pace, SharedPace)
        return pace

    def _made(self, domain: str, rates: Sequence[Rate]) -> SharedPace:
        return SharedPace(self._shared, domain, rates)
