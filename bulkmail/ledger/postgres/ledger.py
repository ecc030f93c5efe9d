"""The ledger in PostgreSQL, for those who plan a campaign and who decide about its recipients."""

from collections.abc import Collection, Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Protocol

import psycopg

from bulkmail.errors import LedgerBusyError
from bulkmail.ledger.contents import Contents
from bulkmail.ledger.decisions import Decisions
from bulkmail.ledger.ledger import Ledger
from bulkmail.ledger.postgres.connection import LockedError, PostgresDatabase
from bulkmail.ledger.postgres.enrolment import enrol
from bulkmail.ledger.postgres.opening import LOCK, migrate
from bulkmail.ledger.postgres.view import senders
from bulkmail.ledger.records import CampaignRecord, Enrolment
from bulkmail.ledger.view import find_campaign
from bulkmail.model import Row, State

SHARD_PEOPLE = 1000
"""At most, in one shard: it is in one worker's memory, and is done in some seconds."""
LEAST_SHARDS = 12
"""A short list is cut into smaller ones, so that some workers share it."""
BUSY_SECONDS = 1
"""The server knows within an instant that a connection has ended."""

_STILL_IN_DOUBT = """
UPDATE recipient SET state = 'in_doubt'
WHERE campaign_id = ? AND state IN ('pending', 'deferred') AND in_doubt_events > 0
    AND consented = 0
"""

_CUT = """
INSERT INTO shard (campaign_id, first_id, last_id, people)
SELECT %(campaign)s, min(id), max(id), count(*)
FROM (
    SELECT id, (row_number() OVER (ORDER BY id) - 1) / %(people)s AS part
    FROM recipient WHERE campaign_id = %(campaign)s AND state IN ('pending', 'deferred')
    ORDER BY id LIMIT %(limit)s
) AS numbered
GROUP BY part ORDER BY part
RETURNING id
"""


class Queue(Protocol):
    """The engine that hands shards out; see `bulkmail.engine`."""

    def install(self, connection: psycopg.Connection[Any], /) -> None: ...
    def clear(self, connection: psycopg.Connection[Any], campaign_id: int, /) -> None: ...
    def enqueue(
        self,
        connection: psycopg.Connection[Any],
        campaign_id: int,
        shards: Sequence[int],
        seconds: float,
        /,
    ) -> None: ...


class PostgresContents(Contents):
    """See `Contents`. For PostgreSQL there is no NUL; as another character it is the same in both
    rows that are compared.
    """

    _CELL = r"(replace({fields}, '\u0000', '\u0001')::json -> '{column}')::text"


class PostgresLedger(Ledger):
    """Held by one planner, or one who decides, for a campaign. Raises LedgerError everywhere, and
    LedgerBusyError while somebody else does that, or workers send it.
    """

    _db: PostgresDatabase

    def __init__(self, url: str, campaign: str, queue: Queue) -> None:
        self._db = PostgresDatabase(url)
        self._queue = queue
        self.name = self._db.name
        self.contents = PostgresContents(self._db, self.name)
        try:
            migrate(self._db, queue.install)
            self._db.execute("SET idle_in_transaction_session_timeout = 0")  # at a question
            self._hold(campaign)
        except BaseException:
            self.close()
            raise

    def _hold(self, campaign: str) -> None:
        """Until the connection ends. Whoever ends now has it for an instant longer."""
        try:
            with self._db.transaction():
                self._db.execute(f"SET LOCAL lock_timeout = '{BUSY_SECONDS}s'")
                self._db.execute("SELECT pg_advisory_lock(?, hashtext(?))", (LOCK, campaign))
        except LockedError:
            raise LedgerBusyError(
                f'"{campaign}" is being prepared elsewhere, or somebody decides about it, in'
                f" {self.name}. Let them finish"
            ) from None
        if (known := find_campaign(self._db, campaign)) is not None:
            self._refuse_while_sent(known)

    def _refuse_while_sent(self, campaign: CampaignRecord) -> None:
        if number := senders(self._db, campaign):
            raise LedgerBusyError(
                f'"{campaign.name}" is being sent by {number} '
                f"worker{'s' * (number > 1)}. Watch it with `bulkmail status`, or end that with"
                " `bulkmail pause`"
            )

    @contextmanager
    def enrolling(self) -> Iterator[None]:
        with super().enrolling():
            # Whoever is put on the list now would not be seen; see `PostgresHome.suppress`.
            self._db.execute("LOCK TABLE suppression IN SHARE MODE")
            yield

    def campaign(self, name: str, now: float) -> CampaignRecord:
        record = super().campaign(name, now)
        self._keep_workers_out(record)
        return record

    def _keep_workers_out(self, campaign: CampaignRecord) -> None:
        """To the end of the transaction nobody takes its shards; see `shards.Lease.take`."""
        self._db.execute("SELECT 1 FROM campaign WHERE id = ? FOR UPDATE", (campaign.id,))
        self._refuse_while_sent(campaign)

    def enrol(
        self,
        campaign: CampaignRecord,
        rows: Iterable[Row],
        excluded: Iterable[tuple[str, str]] = (),
    ) -> Enrolment:
        with self._transaction():
            return enrol(self._db, campaign, rows, excluded)

    def recover(self, campaign: CampaignRecord, now: float) -> int:
        with self._transaction():
            self._keep_workers_out(campaign)
            self._db.execute(
                "UPDATE shard SET epoch = epoch + 1, worker_id = NULL WHERE campaign_id = ?",
                (campaign.id,),
            )
            [number] = self._db.execute(
                "SELECT recover(?, 0, 9223372036854775807, ?)", (campaign.id, now)
            ).fetchone()
            self._db.execute(_STILL_IN_DOUBT, (campaign.id,))
        return int(number)

    # -- decisions -------------------------------------------------------------------------------

    @contextmanager
    def deciding(
        self, campaign: CampaignRecord, states: Collection[State], addresses: Iterable[str] = ()
    ) -> Iterator[Decisions]:
        with super().deciding(campaign, states, addresses) as decided:
            self._keep_workers_out(campaign)
            yield decided

    def cancel(self, campaign: CampaignRecord, now: float) -> int:
        with self._transaction():
            self._keep_workers_out(campaign)
            self._take_back(campaign)
            self._db.execute("UPDATE campaign SET is_open = false WHERE id = ?", (campaign.id,))
            return super().cancel(campaign, now)

    # -- runs ------------------------------------------------------------------------------------

    def begin_run(self, campaign: CampaignRecord, now: float) -> int:
        self._db.execute(
            "UPDATE run SET ended_at = started_at WHERE ended_at IS NULL AND campaign_id = ?",
            (campaign.id,),
        )
        sql = "INSERT INTO run (campaign_id, started_at) VALUES (?, ?) RETURNING id"
        [id_] = self._db.execute(sql, (campaign.id, now)).fetchone()
        return int(id_)

    def is_sent_with_files(self) -> bool:
        """Whether a worker is alive that can send attachments for one person each."""
        [number] = self._db.execute(
            "SELECT count(*) FROM worker WHERE has_files AND lease_until > clock_timestamp()"
        ).fetchone()
        return bool(number)

    def hand_out(
        self,
        campaign: CampaignRecord,
        content_id: int,
        edition: str,
        files: Iterable[tuple[str, bytes]],
        *,
        limit: int | None,
        after_seconds: float,
    ) -> int:
        """Cuts whoever is unsent, `limit` of them at most, into shards, and queues these for
        workers from in so many seconds on; how many.

        `edition` is what workers need for the content `content_id`; `files` are (SHA-256, content)
        of those that it names. In the transaction of `enrolling`.
        """
        for file in files:
            self._db.execute("INSERT INTO shared_file VALUES (?, ?) ON CONFLICT DO NOTHING", file)
        self._take_back(campaign)
        self._db.execute(
            "UPDATE campaign SET is_open = true, content_id = ?, edition = ?, stopped_for = '',"
            " plan = plan + 1 WHERE id = ?",
            (content_id, edition, campaign.id),
        )
        [unsent] = self._db.execute(
            "SELECT count(*) FROM recipient"
            " WHERE campaign_id = ? AND state IN ('pending', 'deferred')",
            (campaign.id,),
        ).fetchone()
        each = max(1, min(SHARD_PEOPLE, -(-min(unsent, limit or unsent) // LEAST_SHARDS)))
        values = {"campaign": campaign.id, "people": each, "limit": limit}
        shards = [id_ for [id_] in self._db.execute(_CUT, values)]
        self._queue.enqueue(self._db.connection, campaign.id, shards, after_seconds)
        return len(shards)

    def _take_back(self, campaign: CampaignRecord) -> None:
        """Whatever was handed out of it."""
        self._db.execute("DELETE FROM shard WHERE campaign_id = ?", (campaign.id,))
        self._queue.clear(self._db.connection, campaign.id)

    @contextmanager
    def _transaction(self) -> Iterator[None]:
        with self._db.transaction():
            yield
