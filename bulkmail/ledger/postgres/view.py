"""Reading a ledger in PostgreSQL: what `status` and `report` see, also while workers write it."""

from collections.abc import Collection, Iterator
from typing import Any

from bulkmail.errors import LedgerError, NoLedgerError
from bulkmail.ledger.postgres.connection import PostgresDatabase
from bulkmail.ledger.postgres.opening import VERSION, version_of
from bulkmail.ledger.records import CampaignRecord
from bulkmail.ledger.view import LedgerView
from bulkmail.model import State

_EVENTS = """
coalesce((SELECT json_agg(json_build_object(
    'at', at, 'what', what, 'attempt', attempt, 'begun_at', begun_at, 'phase', phase,
    'reply', reply, 'reason', reason) ORDER BY id)::text
FROM event WHERE recipient_id = recipient.id), '[]')
"""

_SENDERS = """
SELECT count(DISTINCT worker.id) FROM shard JOIN worker ON worker.id = shard.worker_id
WHERE shard.campaign_id = ? AND lease_until > clock_timestamp()
"""


class PostgresView(LedgerView):
    """The ledger at `url`. Raises NoLedgerError if nothing was ever recorded there, and LedgerError
    if an older version did that.
    """

    _db: PostgresDatabase
    _EVENTS = _EVENTS
    _WHOLE = "floor({})"

    def __init__(self, url: str) -> None:
        self._db = PostgresDatabase(url)
        try:
            refuse_what_is_not_ours(self._db)
        except BaseException:
            self.close()
            raise

    def hold(self) -> None:
        self._db.hold()

    def senders(self, campaign: CampaignRecord) -> int:
        """How many workers are sending it now."""
        return senders(self._db, campaign)

    def report(
        self, campaign: CampaignRecord, states: Collection[State]
    ) -> Iterator[dict[str, Any]]:
        for told in super().report(campaign, states):
            for event in told["events"]:
                for name in ("at", "begun_at"):  # where a time is whole, JSON made it an integer
                    event[name] = None if event[name] is None else float(event[name])
            yield told


def refuse_what_is_not_ours(db: PostgresDatabase) -> None:
    """Raises NoLedgerError, or LedgerError, where the tables are not those that this version reads
    and it may not make them so.
    """
    version = version_of(db)
    if version == 0:
        raise NoLedgerError(f"nothing was ever recorded in {db.name}")
    if version < VERSION:
        raise LedgerError(
            f"{db.name} was written by an older bulkmail (version {version}; this one reads"
            f" {VERSION}). The next run, or whatever else writes to it, brings it up to date"
        )


def senders(db: PostgresDatabase, campaign: CampaignRecord) -> int:
    """How many workers with a lease hold a shard of this campaign."""
    [number] = db.execute(_SENDERS, (campaign.id,)).fetchone()
    return int(number)
