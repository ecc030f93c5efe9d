"""A campaign's side of the ledger for a worker, who claims from the shards in its memory."""

import asyncio
import heapq
import math
import time
from bisect import bisect
from collections import Counter, deque
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, field, replace
from typing import NamedTuple

from bulkmail.ledger.group import Commits
from bulkmail.ledger.postgres.connection import PostgresDatabase
from bulkmail.ledger.postgres.shards import Late, Shard, record
from bulkmail.model import UNSENT, Intent, Outcome, Phase, Recipient, Settlement, State

LOOK_SECONDS = 1.0
"""So often a worker that waits looks whether somebody can be claimed; it is told of it, too."""
KEPT_SECONDS = 30.0
"""A shard in which everybody left must wait for longer is given back until then."""

_NOT_SENT = Outcome(Phase.QUEUED, None, "its intent could not be recorded")


@dataclass(eq=False, slots=True)
class _Held:
    """A shard in memory: of how many it is not known yet what became of them, and how many of those
    wait here to be tried again.
    """

    shard: Shard
    done: asyncio.Future[float | None]
    left: int
    deferred: int = 0
    since: float = field(default_factory=time.monotonic)
    gave: bool = False


class Leftover(NamedTuple):
    """A shard that is held `since` then, in monotonic time, and of which only such are left who
    wait: for the turn of their domain, one of `domains`, or to be tried again. `gave`: others were
    left when it was taken.
    """

    shard: Shard
    since: float
    domains: set[str]
    gave: bool


@dataclass(slots=True)
class _Queue:
    """Those who are claimed together: a domain apart, or all others."""

    pending: deque[Recipient] = field(default_factory=deque)
    deferred: list[tuple[float, int]] = field(default_factory=list)
    """(due_at, id), a heap."""


class ShardLedger:
    """The ledger as the delivery loop sees it, see `delivery.seams.Ledger`.

    `on_news` is called when somebody can be claimed who could not be before, with the domains of
    those who are claimed by domain; `on_commit`, in the writer's thread, for each commit: with how
    many intents, and how many seconds it took. `held_up` tells who was claimed and waits for
    nothing but the turn of their domain. While it `is_open` more shards may come, so that nobody is
    never the answer.
    """

    def __init__(self, db: PostgresDatabase, worker_id: int, account: str, content_id: int) -> None:
        self.commits = Commits(self._record)
        self.on_news: Callable[[Collection[str]], None] = lambda domains: None
        self.held_up: Callable[[], Collection[int]] = tuple
        self.on_commit: Callable[[int, float], None] = lambda intents, seconds: None
        self.is_open = True
        self._db = db
        self._worker_id = worker_id
        self._account = account
        self._content_id = content_id
        self._held: dict[int, _Held] = {}
        self._of: dict[int, _Held] = {}
        """The shard of each recipient of whom it is not known what became of them."""
        self._people: dict[int, Recipient] = {}
        """The same people, as they are to be sent to next."""
        self._shards: tuple[Shard, ...] = ()
        """Those of which something may still be recorded; read by the writer's thread, too."""
        self._now = 0.0
        """The loop's clock, when it claimed last: it does not go back."""
        self._begun: dict[int, float] = {}
        """When the last attempt of a recipient began whose intent was recorded."""
        self._under_way: set[int] = set()
        """Who is intended and not settled."""
        self._queues: dict[str | None, _Queue] = {None: _Queue()}

    # -- shards ----------------------------------------------------------------------------------

    @property
    def shards(self) -> int:
        return len(self._held)

    def add(self, shard: Shard) -> asyncio.Future[float | None]:
        """Takes the recipients of `shard` in. Done once each is settled, with None; or with when
        the first who is left is due, if that is long, in seconds since the epoch; or, if it is
        given up, with infinity.
        """
        done: asyncio.Future[float | None] = asyncio.get_running_loop().create_future()
        held = _Held(shard, done, len(shard.recipients))
        self._held[shard.id] = held
        self._shards = tuple(sorted((*self._shards, shard), key=_first_id))
        for one in shard.recipients:
            self._of[one.id], self._people[one.id] = held, one
            if one.due_at > time.time():
                self._defer(one, one.due_at, held)
            else:
                self._queue(one.domain).pending.append(one)
                held.gave = held.gave or one.domain not in self._queues
        self._look_at(held)
        self.on_news({one.domain for one in shard.recipients if one.domain in self._queues})
        return done

    def give_back(self, at: float) -> None:
        """Ends all shards that are held: who is left there may be sent to by others from `at` on.
        Nobody may be under way.
        """
        for held in tuple(self._held.values()):
            self._end(held, at)

    def leftovers(self) -> list[Leftover]:
        """None while others can be claimed."""
        if self._queues[None].pending:
            return []
        waiting = set(self.held_up())
        for domain, queue in self._queues.items():
            waiting.update(id_ for _, id_ in queue.deferred)
            if domain is not None:
                waiting.update(one.id for one in queue.pending)
        busy = {held.shard.id for id_, held in self._of.items() if id_ not in waiting}
        found = {
            id_: Leftover(held.shard, held.since, set(), held.gave)
            for id_, held in self._held.items()
            if id_ not in busy
        }
        for id_, held in self._of.items():
            if held.shard.id in found:
                found[held.shard.id].domains.add(self._people[id_].domain)
        return list(found.values())

    def next_retry_at(self) -> float:
        """When the first of all who were deferred is due; infinity: nobody was."""
        heads = [queue.deferred[0][0] for queue in self._queues.values() if queue.deferred]
        return min(heads, default=math.inf)

    def give_up(self, shard: Shard) -> None:
        """Ends one of these: others are to send to whoever is left there, whenever they can."""
        self._end(self._held[shard.id], math.inf)

    def forget(self, shard: Shard) -> None:
        """All of it is recorded."""
        self._shards = tuple(other for other in self._shards if other is not shard)
        for one in shard.recipients:
            self._begun.pop(one.id, None)

    # -- the delivery loop's ---------------------------------------------------------------------

    async def claim(
        self, limit: int, now: float, domain: str | None = None
    ) -> tuple[list[Recipient], bool]:
        """See `CampaignLedger.claim`."""
        self._now = now
        queue = self._queues[domain]
        found = self._due(queue, max(1, limit // 2), now)
        while queue.pending and len(found) < limit:
            found.append(queue.pending.popleft())
        found += self._due(queue, limit - len(found), now)
        return found, not (queue.pending or (queue.deferred and queue.deferred[0][0] <= now))

    def set_apart(self, domain: str) -> None:
        others, apart = self._queues[None], _Queue()
        self._queues[domain] = apart
        apart.pending = deque(one for one in others.pending if one.domain == domain)
        others.pending = deque(one for one in others.pending if one.domain != domain)
        waiting, others.deferred = others.deferred, []
        for entry in waiting:
            queue = apart if self._people[entry[1]].domain == domain else others
            heapq.heappush(queue.deferred, entry)

    async def next_due_at(self, domain: str | None = None) -> float | None:
        deferred = self._queues[domain].deferred
        due_at = deferred[0][0] if deferred else None
        if domain is None and self.is_open and not self._is_to_be_decided:
            look_at = max(self._now, time.time()) + LOOK_SECONDS
            return look_at if due_at is None else min(look_at, due_at)
        return due_at

    @property
    def _is_to_be_decided(self) -> bool:
        """Whether all who are left were refused, and nobody else can show whether all would be."""
        waiting = any(queue.pending or queue.deferred for queue in self._queues.values())
        return bool(self._held) and not (self._under_way or waiting or self.held_up())

    async def intend(self, intents: Sequence[Intent]) -> bool:
        self._under_way.update(intent.recipient_id for intent in intents)
        return await asyncio.shield(self.commits.add(*intents))

    def settle(self, settlement: Settlement) -> None:
        self.commits.add(settlement)
        id_, state = settlement.recipient_id, settlement.state
        self._under_way.discard(id_)
        held = self._of.get(id_)
        if held is None or state is State.PENDING:
            return
        if state is State.DEFERRED:
            one = self._people[id_]
            begun_at = one.first_attempt_at or self._begun[id_]
            again = replace(
                one, attempts=one.attempts + 1, first_attempt_at=begun_at, due_at=settlement.due_at
            )
            self._people[id_] = again
            self._defer(again, settlement.due_at, held)
        else:
            del self._of[id_], self._people[id_]
            held.left -= 1
        self._look_at(held)

    # -- after a failure -------------------------------------------------------------------------

    def late(self) -> list[Late]:
        """What could not be recorded, to be kept by `settle_late`: outcomes, and that nothing was
        sent of what was only intended.
        """
        found, begun = [], dict(self._begun)
        for change in self.commits.unrecorded:
            if isinstance(change, Intent):  # it may stand in the ledger all the same
                begun[change.recipient_id] = change.at
                change = Settlement(change.recipient_id, State.PENDING, _NOT_SENT, at=change.at)
            if (begun_at := begun.get(change.recipient_id)) is not None:
                found.append(Late(change, begun_at))
        return found

    def close(self) -> None:
        """Nothing more is to be recorded: the connection ends."""
        self._db.close()

    # -- inside ----------------------------------------------------------------------------------

    def _record(self, changes: Sequence[Intent | Settlement]) -> None:
        """In the writer's thread."""
        held, shards = self._shards, Counter[Shard]()
        for change in changes:
            shard = held[bisect(held, change.recipient_id, key=_first_id) - 1]
            shards[shard] += isinstance(change, Settlement) and change.state not in UNSENT
        began = time.perf_counter()
        record(self._db, self._worker_id, shards, self._account, self._content_id, changes)
        self._begun.update((one.recipient_id, one.at) for one in changes if isinstance(one, Intent))
        intents = sum(isinstance(change, Intent) for change in changes)
        self.on_commit(intents, time.perf_counter() - began)

    def _queue(self, domain: str) -> _Queue:
        return self._queues.get(domain) or self._queues[None]

    def _defer(self, one: Recipient, due_at: float, held: _Held) -> None:
        held.deferred += 1
        heapq.heappush(self._queue(one.domain).deferred, (due_at, one.id))

    def _due(self, queue: _Queue, limit: int, now: float) -> list[Recipient]:
        found: list[Recipient] = []
        while len(found) < limit and queue.deferred and queue.deferred[0][0] <= now:
            _, id_ = heapq.heappop(queue.deferred)
            self._of[id_].deferred -= 1
            found.append(self._people[id_])
        return found

    def _look_at(self, held: _Held) -> None:
        """Whether it is done, or all who are left there must wait for long."""
        if not held.left:
            self._end(held, None)
        elif held.left == held.deferred:
            due_at = min(
                self._people[id_].due_at for id_, other in self._of.items() if other is held
            )
            if due_at > time.time() + KEPT_SECONDS:
                self._end(held, due_at)

    def _end(self, held: _Held, at: float | None) -> None:
        del self._held[held.shard.id]
        left = [one for one in held.shard.recipients if self._of.pop(one.id, None) is not None]
        for one in left:
            del self._people[one.id]
        for domain in self._queues.keys() & {None, *(one.domain for one in left)}:
            queue = self._queues[domain]
            queue.pending = deque(one for one in queue.pending if one.id in self._of)
            queue.deferred = [entry for entry in queue.deferred if entry[1] in self._of]
            heapq.heapify(queue.deferred)
        held.done.set_result(at)


def _first_id(shard: Shard) -> int:
    return shard.first_id
