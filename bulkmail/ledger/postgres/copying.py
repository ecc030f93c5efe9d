"""A campaign copied into a scratch ledger, to try things on: nothing is locked, nothing is written.

With it come all who have the same content by another campaign, see `Contents.sent_before`.
"""

from collections.abc import Iterable
from contextlib import closing
from typing import Any

from bulkmail.ledger.opening import SqliteDatabase, opened
from bulkmail.ledger.postgres.connection import PostgresDatabase
from bulkmail.ledger.postgres.opening import version_of
from bulkmail.ledger.postgres.view import refuse_what_is_not_ours
from bulkmail.ledger.sqlite import SqliteLedger
from bulkmail.ledger.view import HAS_IT

_CAMPAIGN = (
    *("id", "name", "seed", "created_at", "content_digest", "reading", "meant_again_digest"),
    *("meant_again_reading", "proven_digest", "proven_reading", "cancelled_at"),
)
_CONTENT = ("id", "campaign_id", "digest")
_RECIPIENT = (
    *("campaign_id", "address", "address_key", "domain", "fields", "source", "reading"),
    *("added_reading", "changed_reading", "files_digest", "state", "reason", "attempts"),
    *("content_id", "in_doubt_events", "consented", "first_attempt_at", "last_attempt_at"),
    *("again_at", "due_at", "phase", "reply", "message_id"),
)
_EVENT = ("at", "what", "attempt", "begun_at", "phase", "reply", "reason", "content_id")
_RUN = ("campaign_id", "started_at", "ended_at")
_SUPPRESSION = ("address_key", "address", "reason", "at")

_CHOSEN = """
(SELECT id FROM campaign WHERE name = %(name)s OR EXISTS (
    SELECT 1 FROM content WHERE content.campaign_id = campaign.id AND digest = %(digest)s))
"""

# Numbered without gaps, this campaign first: pages of people are cut by these numbers.
_NUMBERED = f"""
WITH own AS (SELECT id FROM campaign WHERE name = %(name)s),
numbered AS (
    SELECT recipient.id, row_number() OVER (
        ORDER BY campaign_id IS DISTINCT FROM (SELECT id FROM own), recipient.id) AS n
    FROM recipient
    WHERE campaign_id = (SELECT id FROM own) OR campaign_id IN {_CHOSEN} AND {HAS_IT}
)
"""


def scratch(url: str, campaign: str, digest: str) -> SqliteLedger:
    """What matters to `campaign` with the content `digest`, all as it is at one instant."""
    with closing(PostgresDatabase(url)) as db:
        copy = opened(None)
        try:
            if version_of(db) > 0:
                refuse_what_is_not_ours(db)
                _copy(db, copy, {"name": campaign, "digest": digest})
        except BaseException:
            copy.close()
            raise
        return SqliteLedger(None, copy_of=copy, name=db.name)


def _copy(db: PostgresDatabase, copy: SqliteDatabase, chosen: dict[str, str]) -> None:
    db.hold()
    copy.execute("BEGIN")
    for table, columns, key in (
        ("campaign", _CAMPAIGN, "id"),
        ("content", _CONTENT, "campaign_id"),
        ("run", _RUN, "campaign_id"),
    ):
        sql = f"SELECT {_list(columns)} FROM {table} WHERE {key} IN {_CHOSEN} ORDER BY {table}.id"
        _insert(copy, table, columns, db.rows(sql, chosen))
    recipients = f"""
    {_NUMBERED} SELECT n, {_list(_RECIPIENT)} FROM recipient JOIN numbered USING (id) ORDER BY n
    """
    _insert(copy, "recipient", ("id", *_RECIPIENT), db.rows(recipients, chosen))
    events = f"""
    {_NUMBERED} SELECT n, {_list(_EVENT)} FROM event JOIN numbered ON numbered.id = recipient_id
    ORDER BY event.id
    """
    _insert(copy, "event", ("recipient_id", *_EVENT), db.rows(events, chosen))
    suppressed = f"SELECT {_list(_SUPPRESSION)} FROM suppression"
    _insert(copy, "suppression", _SUPPRESSION, db.rows(suppressed))
    copy.execute("COMMIT")


def _insert(
    copy: SqliteDatabase, table: str, columns: tuple[str, ...], rows: Iterable[Any]
) -> None:
    marks = ", ".join("?" * len(columns))
    copy.executemany(f"INSERT INTO {table} ({_list(columns)}) VALUES ({marks})", rows)


def _list(columns: tuple[str, ...]) -> str:
    return ", ".join(columns)
