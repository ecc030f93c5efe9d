"""What people have or may have, and what the author said yes to: contents, by their digests.

A content is everything that is the same for all messages of a campaign. What a person was given is
recorded with the person, by intent and by doubt.
"""

from collections.abc import Iterable

from bulkmail.ledger.database import Database
from bulkmail.ledger.guarded import guarded
from bulkmail.ledger.records import CampaignRecord
from bulkmail.ledger.view import HAS_IT
from bulkmail.model import Recipient

_SENT_BEFORE = f"""
SELECT campaign.name, count(*)
FROM content
JOIN campaign ON campaign.id = content.campaign_id AND campaign.id <> ?
JOIN recipient unsent ON unsent.campaign_id = ?
    AND unsent.state IN ('pending', 'deferred') AND unsent.added_reading > ?
JOIN (SELECT * FROM recipient WHERE {HAS_IT}) sent ON sent.campaign_id = campaign.id
    AND sent.address_key = unsent.address_key
    AND (sent.content_id = content.id OR EXISTS (
        SELECT 1 FROM event WHERE recipient_id = sent.id AND event.content_id = content.id))
    AND sent.files_digest = unsent.files_digest
WHERE content.digest = ?
"""

_MOST_FIRST = "GROUP BY campaign.id ORDER BY count(*) DESC LIMIT 1"


class Contents:
    """Those of a ledger, on its connection. Raises LedgerError."""

    _CELL = "{fields} -> '$.\"{column}\"'"
    """What stands in a column, as JSON; NULL if there is none."""

    def __init__(self, db: Database, name: str) -> None:
        self.name = name
        self._db = db

    @guarded
    def id_of(self, campaign: CampaignRecord, digest: str) -> int:
        """The content `digest` of this campaign, made known if it is new."""
        self._db.execute(
            "INSERT INTO content (campaign_id, digest) VALUES (?, ?) ON CONFLICT DO NOTHING",
            (campaign.id, digest),
        )
        [id_] = self._db.execute(
            "SELECT id FROM content WHERE campaign_id = ? AND digest = ?", (campaign.id, digest)
        ).fetchone()
        return int(id_)

    @guarded
    def who_has(self, campaign: CampaignRecord, content_id: int) -> tuple[int, int]:
        """How many have, or may have, this content, and how many another."""
        this, other = self._db.execute(
            "SELECT count(*) FILTER (WHERE content_id = ?), count(*) FILTER (WHERE content_id <> ?)"
            f" FROM recipient NOT INDEXED WHERE campaign_id = ? AND {HAS_IT}",
            (content_id, content_id, campaign.id),
        ).fetchone()
        return int(this), int(other)

    @guarded
    def is_proven(self, campaign: CampaignRecord, content_id: int) -> bool:
        """Whether this content was accepted for anybody."""
        found = self._db.execute(
            "SELECT 1 FROM recipient WHERE campaign_id = ? AND state = 'accepted'"
            " AND content_id = ? LIMIT 1",
            (campaign.id, content_id),
        ).fetchone()
        return found is not None

    @guarded
    def sent_before(
        self, campaign: CampaignRecord, digest: str, columns: Iterable[str] = ()
    ) -> tuple[str, int] | None:
        """Another campaign with the content `digest`, and how many of those who are unsent here it
        was sent to, if anybody: who has other `columns` there has another message.
        """
        meant = campaign.meant_again_digest == digest
        meant_reading = campaign.meant_again_reading if meant else 0
        values = (campaign.id, campaign.id, meant_reading, digest)
        same = [self._same_cell(column) for column in columns if column.isidentifier()]
        sql = " ".join([_SENT_BEFORE, *same, _MOST_FIRST])
        found: tuple[str, int] | None = self._db.execute(sql, values).fetchone()
        return found

    def _same_cell(self, column: str) -> str:
        """What stands in a column that the templates use."""
        sent, unsent = (
            self._CELL.format(fields=f"{person}.fields", column=column)
            for person in ("sent", "unsent")
        )
        return f"AND {sent} IS NOT DISTINCT FROM {unsent}"

    @guarded
    def set_content_digest(self, campaign: CampaignRecord, digest: str) -> None:
        self._db.execute(
            "UPDATE campaign SET content_digest = ? WHERE id = ?", (digest, campaign.id)
        )

    @guarded
    def set_meant_again(self, campaign: CampaignRecord, digest: str) -> None:
        """That people who have the content `digest` by another name are to get it again: those who
        are known by now.
        """
        self._db.execute(
            "UPDATE campaign SET meant_again_digest = ?, meant_again_reading = reading"
            " WHERE id = ?",
            (digest, campaign.id),
        )

    @guarded
    def set_proven(self, campaign: CampaignRecord, digest: str) -> None:
        """Everyone unsent was composed with the content `digest`."""
        self._db.execute(
            "UPDATE campaign SET proven_digest = ?, proven_reading = reading WHERE id = ?",
            (digest, campaign.id),
        )

    @guarded
    def set_files_digest(self, recipient: Recipient, digest: str) -> None:
        """What the attachments of this person alone were when they were checked."""
        self._db.execute(
            "UPDATE recipient SET files_digest = ? WHERE id = ?", (digest, recipient.id)
        )
