"""The queue engine that hands shards out: PgQueuer, in the ledger's own database.

It queues, wakes, hands each shard to one worker, and hands it out again where a worker is gone. It
knows no recipients, and what it promises is not relied on: two workers with one shard are told
apart by its epoch (`bulkmail.ledger.postgres`). One queue for each campaign, so that a worker waits
only for those that it can send. Another engine would be another file like this one.
"""

from collections import defaultdict
from collections.abc import AsyncGenerator, Awaitable, Callable, Collection, Sequence
from datetime import timedelta
from typing import Any

import psycopg
from pgqueuer.adapters.drivers.psycopg import PsycopgDriver, SyncPsycopgDriver
from pgqueuer.adapters.persistence.qb import QueryBuilderEnvironment, QueryQueueBuilder
from pgqueuer.core.executors import AbstractEntrypointExecutor
from pgqueuer.core.qm import QueueManager
from pgqueuer.domain.errors import RetryRequested
from pgqueuer.domain.models import Job
from pgqueuer.domain.types import JobId, QueueEntrypoint
from pgqueuer.queries import Queries, SyncQueries
from psycopg import AsyncConnection, RawCursor

QUEUED_AT_ONCE = 10_000
AT_ONCE = 4
"""Shards of a campaign with which a worker asks for no more: two, so that the next one is there
when one is done, and two of which only such are left who must wait.
"""
BATCH = AT_ONCE // 2
MOST = 64
"""Of all campaigns together."""
LOOK_SECONDS = 1.0
"""So often it looks for shards that it was not told of."""

_NEXT_AT = b"""
SELECT extract(epoch FROM min(execute_after))::float FROM pgqueuer
WHERE status = 'queued' AND entrypoint = %s
"""


_CLEAR_AWAY = b"""
DELETE FROM pgqueuer_log WHERE ctid = ANY(ARRAY(
    SELECT ctid FROM pgqueuer_log WHERE aggregated AND created < now() - interval '1 hour'
    LIMIT 10000 FOR UPDATE SKIP LOCKED))
"""


def queue_of(campaign_id: int) -> str:
    """The name of a campaign's queue."""
    return f"bulkmail-{campaign_id}"


def install(connection: psycopg.Connection[Any]) -> None:
    """Makes the engine's tables, in the transaction that is under way."""
    connection.execute(QueryBuilderEnvironment().build_install_query().encode())


def clear(connection: psycopg.Connection[Any], campaign_id: int) -> None:
    """Takes back all of a campaign that was handed out, in the transaction that is under way."""
    query = QueryQueueBuilder().build_delete_from_queue_query()
    RawCursor(connection).execute(query.encode(), [[queue_of(campaign_id)]])


def enqueue(
    connection: psycopg.Connection[Any], campaign_id: int, shards: Sequence[int], seconds: float
) -> None:
    """Hands out those of `shards` that are not queued yet, from in so many seconds on, once the
    transaction that is under way is committed. The connection is one that commits each statement by
    itself, as the engine wants, but for that transaction, which was begun by a statement.
    """
    queries = SyncQueries(SyncPsycopgDriver(connection))
    name, after = queue_of(campaign_id), timedelta(seconds=seconds)
    for start in range(0, len(shards), QUEUED_AT_ONCE):
        portion = shards[start : start + QUEUED_AT_ONCE]
        number = len(portion)
        queries.enqueue(
            [name] * number,
            [str(shard).encode("ascii") for shard in portion],
            [0] * number,
            [after] * number,
            [str(shard) for shard in portion],
            on_conflict="skip",
        )


def clear_away(connection: psycopg.Connection[Any]) -> None:
    """A portion of what it did long ago, of which its statistics know."""
    connection.execute(_CLEAR_AWAY)


def next_at(connection: psycopg.Connection[Any], campaign_id: int) -> float | None:
    """When the first shard of a campaign that is queued may be handed out, in seconds since the
    epoch; None: none is queued.
    """
    [at] = connection.execute(_NEXT_AT, (queue_of(campaign_id),)).fetchone() or (None,)
    return at


class Again(Exception):
    """A shard is to be handed out again in so many seconds, to whomever."""

    def __init__(self, seconds: float) -> None:
        self.seconds = max(0.0, seconds)
        super().__init__(f"again in {self.seconds:g} s")


class _Driver(PsycopgDriver):
    """Listens on one connection and asks on another: waiting for a notification holds a connection
    for a second, in which it could ask nothing.
    """

    def __init__(self, listening: AsyncConnection[Any], asking: AsyncConnection[Any]) -> None:
        super().__init__(listening)
        self._asking = PsycopgDriver(asking)

    async def fetch(self, query: str, *args: object) -> list[dict[str, object]]:
        return await self._asking.fetch(query, *args)

    async def execute(self, query: str, *args: object) -> str:
        return await self._asking.execute(query, *args)

    async def __aexit__(self, *raised: object) -> None:
        for listening in tuple(self.tm.tasks):  # or it is waited for, up to a second
            listening.cancel()
        await super().__aexit__(*raised)


class _Queues(dict[QueueEntrypoint, AbstractEntrypointExecutor]):
    """Of campaigns that are sent now. One that was left is still found for what it gave."""

    def __init__(self) -> None:
        self._left: dict[QueueEntrypoint, AbstractEntrypointExecutor] = {}

    def leave(self, name: QueueEntrypoint) -> None:
        self._left[name] = self.pop(name)

    def __missing__(self, name: QueueEntrypoint) -> AbstractEntrypointExecutor:
        return self._left[name]


class _Manager(QueueManager):
    """Asks no queue for more than a campaign's share: one that is slow keeps no other waiting."""

    def __init__(self, queries: Queries) -> None:
        super().__init__(queries)
        self.queues = self.entrypoint_registry = _Queues()
        self._handed: defaultdict[QueueEntrypoint, set[JobId]] = defaultdict(set)

    def entrypoints_below_capacity_limits(self) -> set[QueueEntrypoint]:
        return {name for name in self.queues if len(self._handed[name]) < AT_ONCE}

    async def fetch_jobs(self, *told: Any, **named: Any) -> AsyncGenerator[Job, None]:
        async for job in super().fetch_jobs(*told, **named):
            self._handed[job.entrypoint].add(job.id)
            yield job

    def done(self, job: Job) -> None:
        self._handed[job.entrypoint].discard(job.id)


class Engine:
    """Hands shards to `take`, which returns once a shard is done, or raises Again. To be made
    inside a running event loop, with two connections that commit each statement.

    `lease_seconds` is after what time the shards of a worker that is gone are handed out again.
    """

    def __init__(
        self,
        listening: AsyncConnection[Any],
        asking: AsyncConnection[Any],
        take: Callable[[int, int], Awaitable[None]],
        lease_seconds: float,
    ) -> None:
        self._manager = _Manager(Queries(_Driver(listening, asking)))
        self._take = take
        self._lease = timedelta(seconds=lease_seconds)
        self._known: set[int] = set()
        self._register(0)  # it wants at least one, and none of these is ever queued

    def send(self, campaigns: Collection[int]) -> None:
        """From now on hands out shards of these campaigns, and of no others."""
        for campaign_id in self._known.difference(campaigns):
            self._manager.queues.leave(QueueEntrypoint(queue_of(campaign_id)))
        for campaign_id in set(campaigns).difference(self._known):
            self._register(campaign_id)
        self._known = set(campaigns)

    async def run(self) -> None:
        """Until `stop`, and until every shard that was handed out is done. Raises what the database
        raises.
        """
        await self._manager.run(
            dequeue_timeout=timedelta(seconds=LOOK_SECONDS),
            batch_size=BATCH,
            max_concurrent_tasks=MOST,
            heartbeat_timeout=self._lease,
        )

    def stop(self) -> None:
        self._manager.shutdown.set()

    def _register(self, campaign_id: int) -> None:
        async def take(job: Job) -> None:
            try:
                if campaign_id not in self._known:
                    raise Again(0.0)
                await self._take(campaign_id, int(job.payload or b"0"))
            except Again as again:
                raise RetryRequested(timedelta(seconds=again.seconds)) from None
            except Exception as error:  # whatever it is: the shard is not done
                raise RetryRequested(timedelta(seconds=LOOK_SECONDS)) from error
            finally:
                self._manager.done(job)

        self._manager.entrypoint(queue_of(campaign_id), accepts_context=False)(take)
