"""A database on a PostgreSQL server, as the place of a project's ledger."""

from collections.abc import Iterable
from contextlib import closing
from dataclasses import dataclass, field

from bulkmail.errors import LedgerError
from bulkmail.ledger.postgres.connection import PostgresDatabase, name_of
from bulkmail.ledger.postgres.ledger import PostgresLedger, Queue
from bulkmail.ledger.postgres.opening import version_of
from bulkmail.ledger.records import CampaignRecord
from bulkmail.ledger.sqlite import SqliteLedger
from bulkmail.ledger.view import LedgerView


@dataclass(frozen=True)
class PostgresHome:
    """See `home.Home`. `queue` is the engine that hands its shards out."""

    url: str = field(repr=False)
    queue: Queue
    is_shared: bool = True

    @property
    def name(self) -> str:
        return name_of(self.url)

    def exists(self) -> bool:
        with closing(PostgresDatabase(self.url)) as db:
            return version_of(db) > 0

    def view(self) -> LedgerView:
        raise LedgerError("not yet")

    def ledger(self, campaign: str) -> PostgresLedger:
        return PostgresLedger(self.url, campaign, self.queue)

    def scratch(self, campaign: str, digest: str) -> SqliteLedger:
        raise LedgerError("not yet")

    def is_under_way(self, view: LedgerView, campaign: CampaignRecord | None) -> bool:
        raise LedgerError("not yet")

    def ask_to_stop(self, campaign: CampaignRecord, now: float) -> bool:
        raise LedgerError("not yet")

    def has_stopped(self, campaign: CampaignRecord, seconds: float) -> bool:
        raise LedgerError("not yet")

    def stopped_for(self, campaign: CampaignRecord) -> str:
        """Why a worker stopped it for all; empty if none did."""
        with closing(PostgresDatabase(self.url)) as db:
            [why] = db.execute(
                "SELECT stopped_for FROM campaign WHERE id = ?", (campaign.id,)
            ).fetchone()
        return str(why)

    def suppress(self, addresses: Iterable[str], reason: str, at: float) -> int:
        raise LedgerError("not yet")

    def release(self, addresses: Iterable[str]) -> int:
        raise LedgerError("not yet")
