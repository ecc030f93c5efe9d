"""Rows into recipients: one reading of all sources, in the caller's transaction.

Whoever was sent to, or is under way, is left as recorded; everyone else follows the sources.
"""

import json
import sqlite3
from collections.abc import Iterable

from bulkmail.address import address_key
from bulkmail.ledger.records import CampaignRecord, Enrolment
from bulkmail.ledger.view import marks
from bulkmail.model import FILTERED, UNSENT, Row, State

LISTED_ROWS = 10
"""So many of those left out are remembered by place, for each reason."""

_LEFT_OUT = """
CREATE TEMP TABLE IF NOT EXISTS left_out (address_key TEXT PRIMARY KEY, why TEXT) WITHOUT ROWID
"""

# Whoever is not known yet is added. Who is known and open follows the source, and the suppression
# list; a person whom this reading has already found is left alone: no row is returned.
_ENROL = """
INSERT INTO recipient
    (campaign_id, address, address_key, domain, fields, source, reading, added_reading,
    changed_reading, state, reason)
SELECT ?1, ?2, ?3, ?7, ?4, ?5, ?6, ?6, ?6,
    iif(why IS NULL, 'pending', 'suppressed'), coalesce(why, '')
FROM (SELECT (SELECT why FROM temp.left_out WHERE address_key = ?3) AS why)
WHERE true
ON CONFLICT (campaign_id, address_key) WHERE state NOT IN ('invalid', 'duplicate') DO UPDATE
SET reading = excluded.reading,
    source = excluded.source,
    added_reading = iif(
        state IN ('cancelled', 'suppressed'), excluded.reading, added_reading),
    changed_reading = iif(
        fields <> excluded.fields OR address <> excluded.address
            OR state IN ('cancelled', 'suppressed'),
        excluded.reading, changed_reading),
    address = iif(
        attempts = 0 AND state IN ('pending', 'cancelled', 'suppressed'),
        excluded.address, address),
    fields = iif(
        state IN ('pending', 'deferred', 'in_doubt', 'cancelled', 'suppressed'),
        excluded.fields, fields),
    files_digest = iif(fields <> excluded.fields, '', files_digest),
    due_at = iif(state IN ('cancelled', 'suppressed'), 0, due_at),
    attempts = iif(state IN ('cancelled', 'suppressed'), 0, attempts),
    first_attempt_at = iif(state IN ('cancelled', 'suppressed'), NULL, first_attempt_at),
    reason = iif(
        state IN ('cancelled', 'suppressed')
            OR excluded.state = 'suppressed' AND state IN ('pending', 'deferred'),
        excluded.reason, reason),
    consented = iif(excluded.state = 'suppressed', 0, consented),
    state = iif(
        state IN ('cancelled', 'suppressed')
            OR excluded.state = 'suppressed' AND state IN ('pending', 'deferred'),
        iif(in_doubt_events > 0, 'in_doubt', excluded.state), state)
WHERE reading < excluded.reading
RETURNING state, reason
"""

_ENROL_FILTERED = """
INSERT INTO recipient
    (campaign_id, address, address_key, domain, fields, source, reading, added_reading,
    changed_reading, state, reason)
VALUES (?1, ?2, ?3, ?7, ?4, ?5, ?6, ?6, ?6, ?8, ?9)
"""


def enrol(
    db: sqlite3.Connection,
    campaign: CampaignRecord,
    rows: Iterable[Row],
    excluded: Iterable[tuple[str, str]],
) -> Enrolment:
    """Takes in all `rows`; whoever is among `excluded` (address, why) becomes suppressed."""
    found = Enrolment()
    _prepare_left_out(db, excluded)
    [reading] = db.execute(
        "UPDATE campaign SET reading = reading + 1 WHERE id = ? RETURNING reading", (campaign.id,)
    ).fetchone()
    db.execute(
        "DELETE FROM recipient WHERE campaign_id = ? AND state IN ('invalid', 'duplicate')",
        (campaign.id,),
    )
    for row in rows:
        state, reason = _enrol_one(db, campaign.id, reading, row)
        _count(found, row, state, reason)
    found.removed = _count_removed(db, campaign, reading)
    return found


def _prepare_left_out(db: sqlite3.Connection, excluded: Iterable[tuple[str, str]]) -> None:
    db.execute(_LEFT_OUT)
    db.execute("DELETE FROM temp.left_out")
    db.executemany(
        "INSERT OR IGNORE INTO temp.left_out VALUES (?, ?)",
        ((address_key(address), why) for address, why in excluded),
    )


def _enrol_one(
    db: sqlite3.Connection, campaign_id: int, reading: int, row: Row
) -> tuple[State, str]:
    fields = json.dumps(dict(row.fields), ensure_ascii=False, separators=(",", ":"))
    key = address_key(row.address)
    domain = key.rpartition("@")[2]
    values = (campaign_id, row.address, key, fields, row.source, reading, domain)
    state, reason = State.INVALID, row.fault
    if reason is None:
        if (known := db.execute(_ENROL, values).fetchone()) is not None:
            return State(known[0]), known[1]
        state, reason = State.DUPLICATE, "the same person stands above"
    db.execute(_ENROL_FILTERED, (*values, state, reason))
    return state, reason


def _count(found: Enrolment, row: Row, state: State, reason: str) -> None:
    if state is State.INVALID:
        found.invalid += 1
    elif state is State.DUPLICATE:
        found.duplicates += 1
    elif state is State.SUPPRESSED:
        found.suppressed += 1
    else:
        found.recipients += 1
        return
    listed = sum(other is state for _, other, _ in found.filtered)
    if listed < LISTED_ROWS:
        found.filtered.append((row.source, state, reason))


def _count_removed(db: sqlite3.Connection, campaign: CampaignRecord, reading: int) -> int:
    [number] = db.execute(
        f"SELECT count(*) FROM recipient WHERE campaign_id = ? AND state IN ({marks(UNSENT)})"
        " AND reading < ?",
        (campaign.id, *UNSENT, reading),
    ).fetchone()
    return int(number)


assert {"invalid", "duplicate"} == FILTERED, "the schema's unique index names these states"
