"""When who is next may go: grants of the rates, and the limits of the run."""

import asyncio
import time
from collections.abc import Callable, Collection
from dataclasses import dataclass, replace
from datetime import datetime

from bulkmail.delivery.queues import Later, Queues
from bulkmail.delivery.seams import Limits, Stop
from bulkmail.errors import ExitStatus, LedgerError
from bulkmail.model import Recipient
from bulkmail.pace import SPACED_UP_TO_SECONDS, DomainPaces, Pace

FRESH_SECONDS = 0.5
"""How long a grant may wait for its session."""
QUOTA_SECONDS = 86400.0
HOUR_SECONDS = 3600.0
TOLD_SECONDS = 2.0
"""Longer waits are told to whoever looks on."""
IDLE_SECONDS = 20.0
"""Sessions that would not be used for longer are ended: servers do not like to wait."""
MISSES, PATIENCE_SECONDS = 100, 30.0
"""So often, and for so long, somebody may go by each rate, but never by all at one time."""
RATE = "the rate allows the next message"


@dataclass(frozen=True, slots=True)
class Granted:
    """A recipient whose message the rates let go at `at`, seconds since the epoch.

    `rated_domain` is the recipient's, if that has rates of its own of which the ledger is to know.
    """

    recipient: Recipient
    at: float
    rated_domain: str


class Halt:
    """That the run is to end, and why. Workers wait through it, so that they hear it at once."""

    def __init__(self) -> None:
        self.stop: Stop | None = None
        self._event = asyncio.Event()

    def __bool__(self) -> bool:
        return self.stop is not None

    def call(self, stop: Stop) -> None:
        """The first reason stays."""
        self.stop = self.stop or stop
        self._event.set()

    async def wait(self) -> None:
        await self._event.wait()

    async def within(self, seconds: float) -> bool:
        """Waits; True as soon as the run is to end, False when the time is over."""
        if seconds > 0 and not self:
            try:
                await asyncio.wait_for(self._event.wait(), seconds)
            except TimeoutError:
                return False
        return bool(self)


class Desk:
    """Hands out each recipient once, unless released. Paces count in monotonic time, not in that of
    the loop, which may lie back after the process stood still.
    """

    def __init__(
        self,
        queues: Queues,
        pace: Pace,
        domain_paces: DomainPaces,
        limits: Limits,
        halt: Halt,
        on_waiting: Callable[[str, float], None] = lambda why, at: None,
    ) -> None:
        self.ahead = False
        """Whether the last one handed out did not have to wait: more sessions would be used."""
        self.closed: Stop | None = None
        """Why no one else is handed out in this run, though some are left."""
        self.is_empty = False
        """Nobody is left, but who is under way."""
        self._queues = queues
        self._pace = pace
        self._domain_paces = domain_paces
        self._limits = limits
        self._halt = halt
        self._on_waiting = on_waiting
        self._now = time.monotonic
        self._choosing = asyncio.Lock()
        self._handed_out = 0
        self._misses: tuple[float, int] | None = None
        """Since when, and how often, nobody could go by all rates at one time."""
        self._waiting = 0
        self._said = ""
        self._used_at = limits.account_used_at or time.time()

    async def next(self) -> Granted | Later | None:
        """The next recipient, as soon as it may go, or when to ask again. None: nobody is left, or
        for this run, or somebody else waits already.
        """
        async with self._choosing:
            try:
                return await self._choose()
            except LedgerError as error:  # nobody knows what the rates allow
                self._halt.call(Stop(error.status, str(error)))
                return None

    def more(self, number: int) -> list[Granted]:
        """Up to so many more, who may go now, without waiting for anything."""
        found: list[Granted] = []
        while len(found) < number and (granted := self._at_once()) is not None:
            found.append(granted)
        return found

    def _at_once(self) -> Granted | None:
        if self._halt or self._choosing.locked() or self._handed_out == self._limits.messages:
            return None
        now = self._now()
        if not self._pace.may_go(now) or (recipient := self._queues.take_at_once(now)) is None:
            return None
        self._handed_out += 1
        self.ahead = True
        return self._granted(recipient, now)

    async def until(self, later: Later) -> None:
        """Waits until it is worth asking again."""
        self._waiting += 1
        self._tell(later.why, later.at)
        tasks = [asyncio.ensure_future(event.wait()) for event in (later.news, self._halt)]
        try:
            await asyncio.wait(
                tasks, timeout=later.at - self._now(), return_when=asyncio.FIRST_COMPLETED
            )
        finally:
            self._waiting -= 1
            for task in tasks:
                task.cancel()

    async def fresh(self, granted: Granted) -> Granted | None:
        """`granted`, or a new grant if that one lies back too far to be used now.

        Messages whose connection took long would else leave on top of a later window's. A grant
        that would take long itself is not worth that: seconds are nothing to an hour's rate. None:
        it is taken back, because the server complained meanwhile, because the run is to end, or
        because others may have got what was not used for so long.
        """
        recipient, now = granted.recipient, self._now()
        if self._pace.is_held(now) or self._domain_paces.is_held(recipient.domain, now):
            self.release(recipient)
            return None
        if time.time() - granted.at <= FRESH_SECONDS:
            return granted
        async with self._choosing:
            try:
                renewed = await self._renewed(granted)
            except LedgerError as error:
                self._halt.call(Stop(error.status, str(error)))
                renewed = None
        if renewed is None:
            self.release(recipient)
        return renewed

    def release(self, recipient: Recipient, *, last: bool = False) -> None:
        """Takes back one that was handed out and not sent to, as the next or as the last."""
        self._handed_out -= 1
        self.closed, self.is_empty = None, False
        self._queues.put_back(recipient, last=last)

    def look_again(self, domains: Collection[str]) -> None:
        """Whoever waits asks the ledger once more, also for these domains if they are apart."""
        self.closed, self.is_empty = None, False
        self._queues.look_again(domains)

    def clock(self) -> float:
        """Seconds since the epoch, which never go back."""
        return self._queues.clock()

    def deferred(self, recipient: Recipient, due_at: float) -> None:
        """That one who was handed out is due again at `due_at`, by `clock`."""
        self.closed, self.is_empty = None, False
        self._queues.deferred(recipient, due_at)

    def accepted(self, recipient: Recipient) -> None:
        """The server took a message: it, and this domain, can bear more again."""
        self._pace.accepted(self._now())
        self._domain_paces.accepted(recipient.domain, self._now())

    def complained(self, said: str, *, at_first: bool) -> Stop | None:
        """The server said that it is too much: slower. A stop if it has for too long."""
        self._said = said
        limits = self._limits
        _, seconds = self._pace.complained(self._now())
        if seconds <= (min(limits.busy_at_first, limits.wait) if at_first else limits.wait):
            return None
        return self._come_back(self._pace.earliest(self._now()))

    def complained_of_domain(self, recipient: Recipient) -> int:
        """The same, for the domain of this recipient."""
        return self._domain_paces.complained(recipient.domain, self._now())

    def quota_used_up(self, said: str) -> Stop:
        """Why to stop, and when to come back: quotas are those of a day (Gmail, Amazon SES), or of
        an hour if they say so (cPanel).
        """
        at = time.time() + HOUR_SECONDS
        if "hour" not in said.lower():
            at = max(self._used_at + QUOTA_SECONDS, at)
        return come_back(f"the account's quota is used up: {said}\nit may be free again", at)

    def _tell(self, why: str, at: float) -> None:
        if (wait := at - self._now()) > TOLD_SECONDS:
            self._on_waiting(why, time.time() + wait)

    def _nobody(self, later: Later | None) -> Later | None:
        self.is_empty = later is None and not self._halt
        if later is None or self._waiting:
            return None
        if (wait := later.at - self._now()) > self._limits.wait:
            self.closed = come_back(later.why, time.time() + wait)
            return None
        return later

    async def _choose(self) -> Granted | Later | None:
        while True:
            recipient = None if self._halt else await self._queues.take()
            if not isinstance(recipient, Recipient):
                return self._nobody(recipient)
            waited = await self._wait_for_turn()
            if not isinstance(waited, float):
                self._queues.put_back(recipient)  # which is news, but not to whom it happened
                return waited and replace(waited, news=self._queues.news)
            await self._domain_paces.refill(recipient.domain, self._queues.coming)
            if self._may_go(recipient, now := self._now()):
                self._handed_out += 1
                self.ahead = waited <= 0
                return self._granted(recipient, now)
            self._queues.put_back(recipient)
            self._missed(now)

    def _missed(self, now: float) -> None:
        """What one rate reserved was over when that of another one came."""
        self._misses = self._misses or (now, 0)
        since, number = self._misses
        self._misses = since, number + 1
        if number > MISSES and now - since > PATIENCE_SECONDS:
            raise LedgerError(
                "the database is too far away for these rates: what one of them reserved is over"
                " when its answer for another one comes"
            )

    async def _wait_for_turn(self) -> float | Later | None:
        """Waits for the account's next grant: for how many seconds. If that is long, when to ask
        for it; None if not in this run.
        """
        if self._handed_out == self._limits.messages:
            reason = f"limited to {self._limits.messages:,} in this run"
            self.closed = Stop(ExitStatus.CONTINUE, reason)
            return None
        await self._pace.refill()
        now = self._now()
        at = self._pace.earliest(now)
        wait = at - now
        if wait > self._limits.wait:
            self.closed = self._come_back(at)
            return None
        if wait > IDLE_SECONDS:
            return None if self._waiting else Later(at, self._why(), self._queues.news)
        self._tell(self._why(), at)
        return None if await self._halt.within(wait) else wait

    async def _renewed(self, granted: Granted) -> Granted | None:
        recipient = granted.recipient
        while not self._halt:
            await self._pace.refill()
            await self._domain_paces.refill(recipient.domain, self._queues.coming)
            now = self._now()
            if self._may_go(recipient, now):
                return self._granted(recipient, now)
            of_domain = self._domain_paces.earliest(recipient.domain, now)
            wait = max(self._pace.earliest(now), of_domain) - now
            if wait > SPACED_UP_TO_SECONDS:
                is_good = time.time() - granted.at <= self._pace.used_within_seconds
                return granted if is_good else None
            await self._halt.within(wait)
        return None

    def _may_go(self, recipient: Recipient, now: float) -> bool:
        return self._pace.may_go(now) and self._domain_paces.may_go(recipient.domain, now)

    def _why(self) -> str:
        """Why nobody may go at once."""
        if not self._pace.is_held(self._now()):
            return RATE
        return f"the server wants no more for now ({self._said}); it may take the next one"

    def _come_back(self, at: float) -> Stop:
        """At `at`, in monotonic time."""
        return come_back(self._why(), time.time() + at - self._now())

    def _granted(self, recipient: Recipient, now: float) -> Granted:
        """Counts a message that goes now, when all rates allow it."""
        self._misses = None
        self._pace.grant(now)
        self._domain_paces.grant(recipient.domain, now)
        is_recorded = self._domain_paces.is_recorded(recipient.domain)
        return Granted(recipient, time.time(), recipient.domain if is_recorded else "")


def come_back(why: str, at: float) -> Stop:
    """`why` it cannot go on before `at`: "the rate allows the next message"."""
    when = datetime.fromtimestamp(at).astimezone()
    return Stop(ExitStatus.CONTINUE, f"{why} on {when:%Y-%m-%d at %H:%M %Z}", at)
