"""Who is next: in the order of the ledger, but for domains that must wait.

Such a domain is set apart: it gets a queue of its own and holds up nobody else. It stays apart to
the end of the run, since what must wait once will wait again.
"""

import asyncio
import heapq
import math
import time
from collections import deque
from collections.abc import Collection
from dataclasses import dataclass, field
from itertools import islice

from bulkmail.delivery.seams import Ledger
from bulkmail.model import Recipient
from bulkmail.pace import DomainPaces

CLAIM = 200
"""Recipients read from the ledger at once, and …"""
CLAIM_OF_DOMAIN = 20
"""… those of a domain that was set apart."""

NEXT_RETRY = "the next retry is due"
"""Why to come back."""


@dataclass(frozen=True, slots=True)
class Later:
    """Nobody may go before `at`, in monotonic time, and why. Something may change it: `news`."""

    at: float
    why: str
    news: asyncio.Event


@dataclass(slots=True)
class _Queue:
    """`claimed` are in memory, the rest is in the ledger. `domain` None: all that are not apart."""

    domain: str | None
    claimed: deque[Recipient] = field(default_factory=deque)
    looks_at: float = math.inf
    """When a domain that is apart is looked at next."""
    why: str = ""


class Queues:
    """Recipients of a campaign, each taken once, unless put back. One task at a time takes."""

    def __init__(self, ledger: Ledger, paces: DomainPaces) -> None:
        self._ledger = ledger
        self._paces = paces
        self._others = _Queue(None)
        self._apart: dict[str, _Queue] = {}
        self._agenda: list[tuple[float, str]] = []
        self.news = asyncio.Event()
        """Set when what `take` said may no longer be so; then it is another one."""
        self._now = time.monotonic
        self._epoch = time.time() - self._now()

    def clock(self) -> float:
        """Seconds since the epoch, which never go back, nor stand still where the wall's clock is
        put back: what is due later is later than this.
        """
        self._epoch = max(self._epoch, time.time() - self._now())
        return self._epoch + self._now()

    async def take(self) -> Recipient | Later | None:
        """Who may go now, or when to ask again. None: nobody is left, but who is under way."""
        while True:
            news = self.news
            recipient = await self._take_apart() or await self._take_other()
            if recipient is not None:
                return recipient
            at, why = await self._due_at(self._others), NEXT_RETRY
            if self._agenda and self._agenda[0][0] < at:
                at, domain = self._agenda[0]
                why = self._apart[domain].why
            if at > self._now() and not news.is_set():
                return None if at == math.inf else Later(at, why, news)

    def take_at_once(self, now: float) -> Recipient | None:
        """The first of those in memory, if they may go `now` and no domain's time has come."""
        claimed = self._others.claimed
        if not claimed or (self._agenda and self._agenda[0][0] <= now):
            return None
        return claimed.popleft() if self._paces.may_go(claimed[0].domain, now) else None

    def coming(self, number: int) -> list[str]:
        """The domains of those in memory who may be next, in their order: up to so many."""
        now = self._now()
        due: list[tuple[float, str]] = []
        while len(due) < number and self._agenda and self._agenda[0][0] <= now:
            due.append(heapq.heappop(self._agenda))
        for entry in due:
            heapq.heappush(self._agenda, entry)
        others = (one.domain for one in self._others.claimed)
        return [*(d for _, d in due if self._apart[d].claimed), *islice(others, number - len(due))]

    def put_back(self, recipient: Recipient, *, last: bool = False) -> None:
        """Before those who come after them, or as the last of those in memory."""
        queue = self._apart.get(recipient.domain, self._others)
        later = (n for n, one in enumerate(queue.claimed) if one.id > recipient.id)
        queue.claimed.insert(len(queue.claimed) if last else next(later, 0), recipient)
        if queue is not self._others:
            self._look(queue, self._now(), self._why(recipient.domain))
        self.tell()

    def deferred(self, recipient: Recipient, due_at: float) -> None:
        """That this one will be in the ledger, to be tried again at `due_at`, since the epoch."""
        if (queue := self._apart.get(recipient.domain)) is not None:
            self._look(queue, self._monotonic(due_at), NEXT_RETRY)
        self.tell()

    def look_again(self, domains: Collection[str]) -> None:
        """Asks the ledger once more, also for those of these domains that are apart."""
        for domain in self._apart.keys() & domains:
            self._look(self._apart[domain], self._now(), self._why(domain))
        self.tell()

    def next_turn(self) -> tuple[float, str] | None:
        """When the first domain that is apart is looked at, in seconds since the epoch, and why not
        before.
        """
        queue = min(self._apart.values(), key=lambda queue: queue.looks_at, default=None)
        if queue is None or queue.looks_at == math.inf:
            return None
        return self.clock() + queue.looks_at - self._now(), queue.why

    def waiting(self) -> list[str]:
        """The domains whose turn is to come."""
        now = self._now()
        return [d for d, queue in self._apart.items() if now < queue.looks_at < math.inf]

    def held_up(self) -> set[int]:
        """The ids of those in memory whose domain is apart."""
        return {one.id for queue in self._apart.values() for one in queue.claimed}

    def drop(self, ids: Collection[int]) -> None:
        """Forgets those of them whom others are to send to."""
        for queue in self._apart.values():
            queue.claimed = deque(one for one in queue.claimed if one.id not in ids)

    def tell(self) -> None:
        """Wakes whoever waits for what `take` said."""
        self.news.set()
        self.news = asyncio.Event()

    async def _take_apart(self) -> Recipient | None:
        """The first one of a domain whose time has come."""
        now = self._now()
        while self._agenda and self._agenda[0][0] <= now:
            at, domain = heapq.heappop(self._agenda)
            queue = self._apart[domain]
            if at != queue.looks_at:
                continue  # it was looked at since
            queue.looks_at = math.inf
            if (recipient := await self._first(queue)) is None:
                self._look(queue, await self._due_at(queue), NEXT_RETRY)
                continue
            free_at = self._paces.earliest(domain, now)
            self._look(queue, max(now, free_at), self._why(domain))
            if free_at <= now:
                return recipient
            queue.claimed.appendleft(recipient)
        return None

    async def _take_other(self) -> Recipient | None:
        """The first of the others; domains that must wait are set apart on the way."""
        while (recipient := await self._first(self._others)) is not None:
            now = self._now()
            if (free_at := self._paces.earliest(recipient.domain, now)) <= now:
                return recipient
            self._others.claimed.appendleft(recipient)
            self._set_apart(recipient.domain, free_at)
        return None

    async def _first(self, queue: _Queue) -> Recipient | None:
        limit = CLAIM if queue is self._others else CLAIM_OF_DOMAIN
        is_last = False
        while not (queue.claimed or is_last):
            claimed, is_last = await self._ledger.claim(limit, self.clock(), queue.domain)
            queue.claimed.extend(claimed)
        return queue.claimed.popleft() if queue.claimed else None

    def _set_apart(self, domain: str, free_at: float) -> None:
        self._ledger.set_apart(domain)
        claimed = self._others.claimed
        queue = _Queue(domain, deque(one for one in claimed if one.domain == domain))
        self._others.claimed = deque(one for one in claimed if one.domain != domain)
        self._apart[domain] = queue
        self._look(queue, free_at, self._why(domain))

    def _look(self, queue: _Queue, at: float, why: str) -> None:
        """Puts a domain that is apart on the agenda, unless it stands there for an earlier time."""
        if queue.domain is not None and at < queue.looks_at:
            queue.looks_at, queue.why = at, why
            heapq.heappush(self._agenda, (at, queue.domain))

    async def _due_at(self, queue: _Queue) -> float:
        """When the next deferred one of the queue is due, in monotonic time; infinite: never."""
        due_at = await self._ledger.next_due_at(queue.domain)
        return math.inf if due_at is None else self._monotonic(due_at)

    def _why(self, domain: str) -> str:
        if self._paces.is_held(domain, self._now()):
            return f"the server wants no more for {domain} for now; it may take the next message"
        return f"the rate of {domain} allows the next message"

    def _monotonic(self, at: float) -> float:
        return self._now() + at - self.clock()
