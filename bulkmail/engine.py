"""The queue engine that hands shards out: PgQueuer, in the ledger's own database.

It queues, wakes, hands each shard to one worker, and hands it out again where a worker is gone. It
knows no recipients, and what it promises is not relied on: two workers with one shard are told
apart by its epoch (`bulkmail.ledger.postgres`). One queue for each campaign, so that a worker waits
only for those that it can send. Another engine would be another file like this one.
"""

from collections.abc import Sequence
from datetime import timedelta
from typing import Any

import psycopg
from pgqueuer.adapters.drivers.psycopg import SyncPsycopgDriver
from pgqueuer.adapters.persistence.qb import QueryBuilderEnvironment
from pgqueuer.queries import SyncQueries

SHARDS_AT_ONCE = 10_000


def queue_of(campaign_id: int) -> str:
    """The name of a campaign's queue."""
    return f"bulkmail-{campaign_id}"


def install(connection: psycopg.Connection[Any]) -> None:
    """Makes the engine's tables, in the transaction that is under way."""
    connection.execute(QueryBuilderEnvironment().build_install_query().encode())


def enqueue(
    connection: psycopg.Connection[Any], campaign_id: int, shards: Sequence[int], seconds: float
) -> None:
    """Hands out `shards` from in so many seconds on, once the transaction that is under way is
    committed. The connection is one that commits each statement by itself, as the engine wants, but
    for that transaction, which was begun by a statement.
    """
    queries = SyncQueries(SyncPsycopgDriver(connection))
    name, after = queue_of(campaign_id), timedelta(seconds=seconds)
    for start in range(0, len(shards), SHARDS_AT_ONCE):
        portion = shards[start : start + SHARDS_AT_ONCE]
        number = len(portion)
        queries.enqueue(
            [name] * number,
            [str(shard).encode("ascii") for shard in portion],
            [0] * number,
            [after] * number,
        )
