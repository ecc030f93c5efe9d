"""The ledger of all campaigns of a project, as planning, sending and decisions know it."""

import hashlib
import json
import os
from abc import ABC, abstractmethod
from collections.abc import Collection, Iterable, Iterator
from contextlib import AbstractContextManager, contextmanager
from itertools import islice

from bulkmail.ledger.claims import SELECT_RECIPIENT, recipient
from bulkmail.ledger.contents import Contents
from bulkmail.ledger.database import Database
from bulkmail.ledger.decisions import Decisions, cancel
from bulkmail.ledger.guarded import guarded
from bulkmail.ledger.records import CampaignRecord, Enrolment
from bulkmail.ledger.view import PORTION, find_campaign, marks, tally
from bulkmail.model import UNSENT, Recipient, Row, State

# In the order of the table itself: by the index on states each portion would sort all that is left.
_SELECT_UNSENT = f"""
{SELECT_RECIPIENT} NOT INDEXED
WHERE campaign_id = ? AND state IN ('pending', 'deferred') AND changed_reading > ? AND id > ?
ORDER BY id LIMIT ?
"""

_RESEND = """
UPDATE recipient
SET state = CASE WHEN due_at > ? THEN 'deferred' ELSE 'pending' END,
    due_at = CASE WHEN due_at > ? THEN due_at ELSE 0 END,
    again_at = ?,
    changed_reading = reading,
    reason = 'is in doubt; to be sent to again, as the campaign says'
WHERE campaign_id = ? AND state = 'in_doubt'
    AND reading = (SELECT reading FROM campaign WHERE id = campaign_id)
    AND address_key NOT IN (SELECT address_key FROM left_out)
RETURNING id
"""


class Ledger(ABC):
    """What does not depend on where it is kept. Raises LedgerError everywhere.

    `name` is told in errors. All calls are synchronous and belong to one thread at a time.
    """

    name: str
    contents: Contents
    _db: Database

    def close(self) -> None:
        self._db.close()

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

    @abstractmethod
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

    @guarded
    def cancel_removed(self, campaign: CampaignRecord) -> int:
        """Gives up the unsent recipients that the last reading did not find."""
        number: int = self._db.execute(
            "UPDATE recipient"
            " SET state = CASE WHEN in_doubt_events > 0 THEN 'in_doubt' ELSE 'cancelled' END,"
            " consented = 0, reason = 'no longer in the sources'"
            f" WHERE campaign_id = ? AND state IN ({marks(UNSENT)})"
            " AND reading < (SELECT reading FROM campaign WHERE id = recipient.campaign_id)",
            (campaign.id, *UNSENT),
        ).rowcount
        return number

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

    @abstractmethod
    def recover(self, campaign: CampaignRecord, now: float) -> int:
        """Records as in doubt who was in flight when an earlier run died; how many.

        Whoever was in doubt before, was to be sent to again as the campaign said then, and is not
        yet, may still have the message: they are in doubt as before.
        """

    @guarded
    def resend_in_doubt(self, campaign: CampaignRecord, now: float) -> int:
        """Puts those in doubt back to where they would be sent to, as their author chose; the
        events stay counted.

        After `enrol`, and only those whom it found and who are not excluded.
        """
        ids = self._db.execute(_RESEND, (now, now, now, campaign.id)).fetchall()
        self._db.executemany(
            "INSERT INTO event (recipient_id, at, what) VALUES (?, ?, 'resend')",
            [(id_, now) for [id_] in ids],
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
        found: list[tuple[str, int]] = self._db.execute(
            "SELECT domain, count(*) FROM recipient INDEXED BY recipient_domain"
            " WHERE campaign_id = ? AND state IN ('pending', 'deferred') GROUP BY domain",
            (campaign.id,),
        ).fetchall()
        return found

    @guarded
    def people_digest(self, campaign: CampaignRecord) -> str:
        """SHA-256 of everyone whom the last reading found and nobody left out: address, data,
        attachments of their own. The same whatever was sent meanwhile, and in any database.
        """
        whole = hashlib.sha256()
        rows = self._db.rows(
            "SELECT address, fields, files_digest FROM recipient"
            " INDEXED BY recipient_person WHERE campaign_id = ?"
            " AND state NOT IN ('invalid', 'duplicate') AND state <> 'suppressed'"
            " AND reading = (SELECT reading FROM campaign WHERE id = campaign_id)"
            " ORDER BY address_key",
            (campaign.id,),
        )
        for row in rows:
            whole.update(json.dumps(row, ensure_ascii=False, separators=(",", ":")).encode("utf-8"))
        return whole.hexdigest()

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
    def tally(self, campaign: CampaignRecord) -> dict[State, int]:
        """How many recipients are in each state."""
        return tally(self._db, campaign)

    # -- inside ----------------------------------------------------------------------------------

    @abstractmethod
    def _transaction(self) -> AbstractContextManager[None]:
        """All of the block is kept, or, if it raises, nothing."""
