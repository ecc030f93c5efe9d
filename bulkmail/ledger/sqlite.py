"""The ledger in one SQLite file, for all campaigns of a project.

WAL with synchronous=FULL: a commit that returned is on the disk. All calls are synchronous and
belong to one thread at a time. One run at a time holds the file, by a lock of the operating
system that ends with the process.
"""

import hashlib
import os
import sqlite3
import time
from collections.abc import Collection, Iterable, Iterator, Sequence
from contextlib import contextmanager
from itertools import groupby, islice
from operator import itemgetter
from pathlib import Path

from bulkmail.errors import LedgerError
from bulkmail.ledger import outcomes
from bulkmail.ledger.browsing import Browser
from bulkmail.ledger.claims import SELECT_RECIPIENT, Claims, recipient
from bulkmail.ledger.contents import Contents
from bulkmail.ledger.decisions import Decisions, cancel
from bulkmail.ledger.enrolment import enrol
from bulkmail.ledger.guarded import guarded
from bulkmail.ledger.opening import copied, opened, run_lock
from bulkmail.ledger.records import CampaignRecord, Enrolment
from bulkmail.ledger.view import PORTION, find_campaign, marks, tally
from bulkmail.model import UNSENT, Intent, Recipient, Row, Settlement, State

GRANTS_KEPT_SECONDS = 86400
"""The longest period a rate can have."""

# In the order of the table itself: by the index on states each portion would sort all that is left.
_SELECT_UNSENT = f"""
{SELECT_RECIPIENT} NOT INDEXED
WHERE campaign_id = ? AND state IN ('pending', 'deferred') AND changed_reading > ? AND id > ?
ORDER BY id LIMIT ?
"""


class SqliteLedger:
    """`path` None is a scratch ledger, which is gone when closed; it can begin as the copy of one.

    Raises LedgerError everywhere.
    """

    def __init__(self, path: Path | None, copy_of: Path | None = None) -> None:
        self.name = str(path or copy_of or "scratch ledger")
        self._lock: sqlite3.Connection | None = None
        self._held_since = time.time()
        if path is not None:
            self._lock = run_lock(path)
        try:
            self._db = opened(path) if copy_of is None else copied(copy_of)
        except sqlite3.Error as error:
            raise LedgerError(f"{self.name}: {error}") from error
        self.contents = Contents(self._db, self.name)

    def close(self) -> None:
        self._db.close()
        if self._lock is not None:
            self._lock.close()

    # -- enrolling -------------------------------------------------------------------------------

    @contextmanager
    def enrolling(self) -> Iterator[None]:
        """All that is enrolled inside is kept, or, if the block raises, nothing of it."""
        with self._transaction():
            yield

    @guarded
    def campaign(self, name: str, now: float) -> CampaignRecord:
        """The campaign of that name, made if it is new."""
        self._db.execute(
            "INSERT INTO campaign (name, seed, created_at) VALUES (?, ?, ?)"
            " ON CONFLICT (name) DO NOTHING",
            (name, os.urandom(32), now),
        )
        record = find_campaign(self._db, name)
        assert record is not None
        return record

    @guarded
    def known(self, name: str) -> CampaignRecord | None:
        """The campaign of that name, if there is one."""
        return find_campaign(self._db, name)

    @guarded
    def enrol(
        self,
        campaign: CampaignRecord,
        rows: Iterable[Row],
        excluded: Iterable[tuple[str, str]] = (),
    ) -> Enrolment:
        """Takes in one reading of all sources: who is new is added, who is known is kept.

        Of rows for one person the first counts. Whoever is among `excluded` (address, why) becomes
        suppressed.
        """
        return enrol(self._db, campaign, rows, excluded)

    @guarded
    def cancel_removed(self, campaign: CampaignRecord) -> int:
        """Gives up the unsent recipients that the last reading did not find."""
        return self._db.execute(
            "UPDATE recipient SET state = iif(in_doubt_events > 0, 'in_doubt', 'cancelled'),"
            " consented = 0, reason = 'no longer in the sources'"
            f" WHERE campaign_id = ? AND state IN ({marks(UNSENT)})"
            " AND reading < (SELECT reading FROM campaign WHERE id = recipient.campaign_id)",
            (campaign.id, *UNSENT),
        ).rowcount

    @guarded
    def forget_finished(self, name: str) -> None:
        """Forgets a campaign in which nobody is left to send to: for rehearsals."""
        self._db.execute(
            "DELETE FROM campaign WHERE name = ? AND NOT EXISTS (SELECT 1 FROM recipient"
            " WHERE campaign_id = campaign.id AND state IN ('pending', 'deferred', 'in_flight'))",
            (name,),
        )

    @guarded
    def unsent_among(self, campaign: CampaignRecord, keys: Iterator[str]) -> int:
        """How many of these, by `address_key`, would be sent to."""
        number = 0
        while portion := tuple(islice(keys, PORTION)):
            [found] = self._db.execute(
                "SELECT count(*) FROM recipient WHERE campaign_id = ?"
                f" AND state IN ('pending', 'deferred') AND address_key IN ({marks(portion)})",
                (campaign.id, *portion),
            ).fetchone()
            number += int(found)
        return number

    # -- sending ---------------------------------------------------------------------------------

    @guarded
    def recover(self, campaign: CampaignRecord, now: float) -> int:
        """Records as in doubt who was in flight when an earlier run died; how many.

        Whoever was in doubt before, was to be sent to again as the campaign said then, and is not
        yet, may still have the message: they are in doubt as before.
        """
        with self._transaction():
            return outcomes.recover(self._db, campaign.id, now)

    @guarded
    def resend_in_doubt(self, campaign: CampaignRecord, now: float) -> int:
        """Puts those in doubt back to where they would be sent to, as their author chose; the
        events stay counted.

        After `enrol`, and only those whom it found and who are not excluded.
        """
        ids = self._db.execute(
            "UPDATE recipient SET state = iif(due_at > :now, 'deferred', 'pending'),"
            " due_at = iif(due_at > :now, due_at, 0), again_at = :now,"
            " changed_reading = reading,"
            " reason = 'is in doubt; to be sent to again, as the campaign says'"
            " WHERE campaign_id = :campaign AND state = 'in_doubt'"
            " AND reading = (SELECT reading FROM campaign WHERE id = campaign_id)"
            " AND address_key NOT IN (SELECT address_key FROM temp.left_out)"
            " RETURNING id",
            {"campaign": campaign.id, "now": now},
        ).fetchall()
        self._db.executemany(
            "INSERT INTO event (recipient_id, at, what) VALUES (?, ?, 'resend')",
            ((id_, now) for [id_] in ids),
        )
        return len(ids)

    def unsent(
        self, campaign: CampaignRecord, changed_after_reading: int = 0
    ) -> Iterator[Recipient]:
        """Everyone whom a run would still send to, now or later, in the order of enrolment.

        With `changed_after_reading` only those who are new, or whose data changed, since then.
        """
        after_id = 0
        while portion := self._unsent_after(campaign, changed_after_reading, after_id):
            yield from portion
            after_id = portion[-1].id

    @guarded
    def _unsent_after(
        self, campaign: CampaignRecord, reading: int, after_id: int
    ) -> list[Recipient]:
        rows = self._db.execute(_SELECT_UNSENT, (campaign.id, reading, after_id, PORTION))
        return [recipient(row) for row in rows]

    @guarded
    def unsent_by_domain(self, campaign: CampaignRecord) -> list[tuple[str, int]]:
        """Every domain that a run would still send to, and to how many there."""
        return self._db.execute(
            "SELECT domain, count(*) FROM recipient INDEXED BY recipient_domain"
            " WHERE campaign_id = ? AND state IN ('pending', 'deferred') GROUP BY domain",
            (campaign.id,),
        ).fetchall()

    @guarded
    def people_digest(self, campaign: CampaignRecord) -> str:
        """SHA-256 of everyone whom the last reading found and nobody left out: address, data,
        attachments of their own. The same whatever was sent meanwhile.
        """
        whole = hashlib.sha256()
        rows = self._db.execute(
            "SELECT json_array(address, fields, files_digest) FROM recipient"
            " INDEXED BY recipient_person WHERE campaign_id = ?"
            " AND state NOT IN ('invalid', 'duplicate') AND state <> 'suppressed'"
            " AND reading = (SELECT reading FROM campaign WHERE id = campaign_id)"
            " ORDER BY address_key",
            (campaign.id,),
        )
        for (row,) in rows:
            whole.update(row.encode("utf-8"))
        return whole.hexdigest()

    def browser(self, campaign: CampaignRecord) -> Browser:
        """To look through its people, also those of a transaction that is not finished."""
        return Browser(self._db, self.name, campaign.id)

    # -- decisions -------------------------------------------------------------------------------

    @contextmanager
    def deciding(
        self, campaign: CampaignRecord, states: Collection[State], addresses: Iterable[str] = ()
    ) -> Iterator[Decisions]:
        """Decisions about those in `states`, all or only `addresses`; kept unless it raises."""
        with self._transaction():
            yield Decisions(self._db, self.name, campaign, states, addresses)

    @guarded
    def cancel(self, campaign: CampaignRecord, now: float) -> int:
        """Gives up all who are unsent, and the campaign until that is taken back; how many."""
        with self._transaction():
            return cancel(self._db, campaign, now)

    # -- runs ------------------------------------------------------------------------------------

    @guarded
    def begin_run(self, campaign: CampaignRecord, now: float) -> int:
        """Records that a run sends from now on; its id."""
        # They were killed.
        self._db.execute("UPDATE run SET ended_at = started_at WHERE ended_at IS NULL")
        sql = "INSERT INTO run (campaign_id, started_at) VALUES (?, ?) RETURNING id"
        [id_] = self._db.execute(sql, (campaign.id, now)).fetchone()
        return int(id_)

    @guarded
    def end_run(self, run_id: int, now: float) -> None:
        self._db.execute("UPDATE run SET ended_at = ? WHERE id = ?", (now, run_id))

    @guarded
    def is_asked_to_stop(self, campaign: CampaignRecord) -> bool:
        """Whether another process asked the run that holds this ledger to end; see `stopping`."""
        [at] = self._db.execute(
            "SELECT stop_asked_at FROM campaign WHERE id = ?", (campaign.id,)
        ).fetchone()
        return float(at) >= self._held_since

    def claims(self, campaign: CampaignRecord) -> Claims:
        """The claims of a run that begins."""
        return Claims(self._db, self.name, campaign.id)

    @guarded
    def record(
        self, account: str, content_id: int | None, changes: Sequence[Intent | Settlement]
    ) -> None:
        """Commits all of `changes`, or none: outcomes first, then intents with their grants.

        `content_id` is the content that these intents give, see `Contents`.
        """
        with self._transaction():
            strayed = outcomes.record(self._db, account, content_id, changes)
            if strayed:
                raise LedgerError(
                    f"{self.name}: {strayed} recipients are not in the state that this run left"
                    " them in; something else wrote to the ledger"
                )

    @guarded
    def grants(self, account: str, now: float) -> dict[str, list[tuple[float, int]]]:
        """What was granted to `account` in the last day, as (time, number), oldest first, by
        domain; all of it by "". Older ones are dropped.
        """
        since = now - GRANTS_KEPT_SECONDS
        self._db.execute("DELETE FROM granted WHERE account = ? AND at < ?", (account, since))
        rows = self._db.execute(
            "SELECT domain, at, number FROM granted WHERE account = ? ORDER BY domain, second",
            (account,),
        )
        return {
            domain: [(float(at), int(number)) for _, at, number in grants]
            for domain, grants in groupby(rows, key=itemgetter(0))
        }

    @guarded
    def tally(self, campaign: CampaignRecord) -> dict[State, int]:
        """How many recipients are in each state."""
        return tally(self._db, campaign)

    # -- inside ----------------------------------------------------------------------------------

    @contextmanager
    def _transaction(self) -> Iterator[None]:
        """All of the block is kept, or, if it raises, nothing."""
        self._execute("BEGIN IMMEDIATE")
        try:
            yield
            self._execute("COMMIT")
        except BaseException:
            self._db.rollback()
            raise

    @guarded
    def _execute(self, sql: str) -> None:
        self._db.execute(sql)
