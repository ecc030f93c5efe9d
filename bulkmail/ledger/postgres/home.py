"""A database on a PostgreSQL server, as the place of a project's ledger."""

import time
from collections.abc import Iterable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass, field

from bulkmail.errors import LedgerBusyError
from bulkmail.ledger.postgres.connection import LockedError, PostgresDatabase, name_of
from bulkmail.ledger.postgres.copying import scratch
from bulkmail.ledger.postgres.ledger import PostgresLedger, Queue
from bulkmail.ledger.postgres.opening import migrate, version_of
from bulkmail.ledger.postgres.view import PostgresView, refuse_what_is_not_ours, senders
from bulkmail.ledger.records import CampaignRecord
from bulkmail.ledger.sqlite import SqliteLedger
from bulkmail.ledger.suppression import RELEASE, SUPPRESS, released_rows, suppressed_rows
from bulkmail.ledger.view import LedgerView

BUSY_SECONDS = 2
"""Workers hold a row for an instant; a plan that waits at its question, until then."""
LOOK_EVERY_SECONDS = 0.1

_END_RUN = """
UPDATE run SET ended_at = ? FROM campaign
WHERE campaign.id = ? AND campaign_id = campaign.id AND ended_at IS NULL AND NOT is_open
"""


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

    def migrate(self) -> None:
        """Makes its tables, or brings them up to date."""
        with closing(PostgresDatabase(self.url)) as db:
            migrate(db, self.queue.install)

    def view(self) -> PostgresView:
        return PostgresView(self.url)

    def ledger(self, campaign: str) -> PostgresLedger:
        return PostgresLedger(self.url, campaign, self.queue)

    def scratch(self, campaign: str, digest: str) -> SqliteLedger:
        return scratch(self.url, campaign, digest)

    def is_under_way(self, view: LedgerView, campaign: CampaignRecord | None) -> bool:
        if campaign is None or view.running_since(campaign) is None:
            return False
        assert isinstance(view, PostgresView)
        return view.senders(campaign) > 0

    def ask_to_stop(self, campaign: CampaignRecord, now: float) -> bool:
        """Closes the campaign: workers look at that, and whoever comes later takes no shard of it.
        Whether it was open, or is still being sent.
        """
        with closing(PostgresDatabase(self.url)) as db:
            refuse_what_is_not_ours(db)
            busy = (
                f'"{campaign.name}" is being prepared in {self.name}: answer the question in its'
                " terminal, with no if it should not be sent"
            )
            with _changing(db, busy):
                was_open = db.execute(
                    "UPDATE campaign SET is_open = false WHERE id = ? AND is_open", (campaign.id,)
                ).rowcount
                if not (number := senders(db, campaign)):
                    db.execute(_END_RUN, (now, campaign.id))
            return bool(was_open or number)

    def has_stopped(self, campaign: CampaignRecord, seconds: float) -> bool:
        """Its run has ended then, if nobody has begun another."""
        until = time.monotonic() + seconds
        with closing(PostgresDatabase(self.url)) as db:
            refuse_what_is_not_ours(db)
            while senders(db, campaign):
                if time.monotonic() > until:
                    return False
                time.sleep(LOOK_EVERY_SECONDS)
            db.execute(_END_RUN, (time.time(), campaign.id))
        return True

    def standing(self, campaign: CampaignRecord) -> tuple[bool, str]:
        """Whether anything of its last plan is left, and why a worker stopped it for all; empty if
        none did.
        """
        with closing(PostgresDatabase(self.url)) as db:
            is_left, why = db.execute(
                "SELECT EXISTS (SELECT 1 FROM shard WHERE campaign_id = campaign.id), stopped_for"
                " FROM campaign WHERE id = ?",
                (campaign.id,),
            ).fetchone()
        return is_left, why

    def suppress(self, addresses: Iterable[str], reason: str, at: float) -> int:
        return self._change_list(SUPPRESS, suppressed_rows(addresses, reason, at))

    def release(self, addresses: Iterable[str]) -> int:
        return self._change_list(RELEASE, released_rows(addresses))

    def _change_list(self, sql: str, rows: Iterable[tuple[object, ...]]) -> int:
        """Makes one change of the suppression list, all of it or nothing."""
        with closing(PostgresDatabase(self.url)) as db:
            migrate(db, self.queue.install)
            busy = (
                f"nothing was changed: a campaign is being prepared in {self.name}, and will not"
                " see it. Answer its question, with no if it should, then try again"
            )
            with _changing(db, busy):
                return int(db.executemany(sql, rows).rowcount)


@contextmanager
def _changing(db: PostgresDatabase, busy: str) -> Iterator[None]:
    """A transaction that waits for BUSY_SECONDS at most for others: LedgerBusyError(`busy`)."""
    try:
        with db.transaction():
            db.execute(f"SET LOCAL lock_timeout = '{BUSY_SECONDS}s'")
            yield
    except LockedError:
        raise LedgerBusyError(busy) from None
