"""What those who send are doing, for whoever watches them: workers, shards left, rates of now."""

from types import TracebackType
from typing import Any, NamedTuple, Protocol

import psycopg

from bulkmail.ledger.postgres.connection import PostgresDatabase
from bulkmail.ledger.postgres.view import refuse_what_is_not_ours
from bulkmail.ledger.records import CampaignRecord

GONE_SECONDS = 600
"""For so long a worker is told of that is gone, and left nothing."""
RECENT_SECONDS = 10
"""The rate of now is that of so many seconds."""

_WORKERS = """
SELECT name, started_at, extract(epoch FROM lease_until - clock_timestamp())::float,
    count(shard.id), left_for
FROM worker LEFT JOIN shard ON shard.worker_id = worker.id
GROUP BY worker.id
HAVING count(shard.id) > 0 OR lease_until > clock_timestamp() - make_interval(secs => ?)
ORDER BY name, worker.id
"""

_SHARDS = """
SELECT coalesce(sum(people), 0), count(*), count(*) FILTER (WHERE EXISTS (
    SELECT 1 FROM worker WHERE worker.id = worker_id AND lease_until > clock_timestamp()))
FROM shard WHERE campaign_id = ?
"""

# By the primary key alone: from one account to the next, and there only what is recent.
_RATES = """
WITH RECURSIVE known (account) AS (
    SELECT min(account) FROM granted
    UNION ALL
    SELECT (SELECT min(account) FROM granted WHERE account > known.account)
    FROM known WHERE account IS NOT NULL
), now (second) AS (SELECT floor(extract(epoch FROM clock_timestamp()))::bigint)
SELECT granted.account,
    coalesce(sum(number) FILTER (WHERE granted.second >= now.second - %(s)s), 0),
    sum(number)
FROM now, known JOIN granted USING (account)
WHERE domain = '' AND granted.second BETWEEN now.second - 60 AND now.second - 1
GROUP BY granted.account ORDER BY granted.account
"""


_STANDING = """
SELECT is_open, stopped_for, EXISTS (SELECT 1 FROM shard WHERE campaign_id = campaign.id),
    (SELECT count(*) FROM recipient
    WHERE campaign_id = campaign.id AND state IN ('pending', 'deferred'))
FROM campaign WHERE id = ?
"""


class SeenWorker(NamedTuple):
    """`started_at` is in seconds since the epoch; `lease_seconds` are left of its lease, or, if
    below 0, passed since; `shards` are those that it has, or had when it was lost; `left_for` tells
    which campaigns it leaves to others, and why, a line each.
    """

    name: str
    started_at: float
    lease_seconds: float
    shards: int
    left_for: str

    @property
    def is_alive(self) -> bool:
        return self.lease_seconds > 0


class Remainder(NamedTuple):
    """What is left of a plan: `people`, in so many `shards`, of which living workers have
    `held`. `next_at` is when the first of the others may be taken, in seconds since the epoch.

    `stopped_for` tells why a worker stopped it for all, or is empty.
    """

    is_open: bool
    stopped_for: str
    people: int
    shards: int
    held: int
    next_at: float | None


class CurrentRate(NamedTuple):
    """What an account was granted: on average in a second of the last RECENT_SECONDS, and in the
    last 60 seconds, by the clocks of the workers.
    """

    account: str
    in_a_second: float
    in_a_minute: int


class Watched(Protocol):
    """The engine that hands shards out; see `bulkmail.engine`."""

    def next_at(self, connection: psycopg.Connection[Any], campaign_id: int, /) -> float | None: ...


class Overview:
    """A context with a connection of its own to the ledger at `url`. Raises LedgerError."""

    def __init__(self, url: str, queue: Watched) -> None:
        self._db = PostgresDatabase(url)
        self._queue = queue

    def __enter__(self) -> "Overview":
        try:
            refuse_what_is_not_ours(self._db)
        except BaseException:
            self._db.close()
            raise
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        tb: TracebackType | None,
    ) -> None:
        self._db.close()

    def workers(self) -> list[SeenWorker]:
        """Those that live, those that left shards, and others that ended a while ago, by name; of
        one process only the last lease, unless an earlier one left something.
        """
        rows = [SeenWorker(*row) for row in self._db.execute(_WORKERS, (GONE_SECONDS,))]
        last = {worker.name: worker for worker in rows}
        return [worker for worker in rows if worker.shards or last[worker.name] is worker]

    def remainder(self, campaign: CampaignRecord) -> Remainder:
        is_open, stopped_for = self._db.execute(
            "SELECT is_open, stopped_for FROM campaign WHERE id = ?", (campaign.id,)
        ).fetchone()
        people, shards, held = self._db.execute(_SHARDS, (campaign.id,)).fetchone()
        next_at = self._queue.next_at(self._db.connection, campaign.id) if is_open else None
        return Remainder(is_open, stopped_for, int(people), shards, held, next_at)

    def rates(self) -> list[CurrentRate]:
        """Of accounts that were granted something in the last minute."""
        rows = self._db.execute(_RATES, {"s": RECENT_SECONDS})
        return [
            CurrentRate(account, float(recent) / RECENT_SECONDS, int(minute))
            for account, recent, minute in rows
        ]


def standing(db: PostgresDatabase, campaign_id: int) -> tuple[str, str]:
    """How a campaign stands, for one who has no shard of it: an event's name, and in words."""
    is_open, why, is_left, unsent = db.execute(_STANDING, (campaign_id,)).fetchone()
    if is_open:
        return "campaign_idle", "nothing of it is left for this worker for now"
    if why:
        return "campaign_stopped", f"stopped: {why}"
    if is_left:
        return "campaign_paused", "paused"
    if unsent:
        return "campaign_limited", f"what was planned is sent; {unsent:,} were left out of it"
    return "campaign_finished", "finished"
