"""Rows into recipients, all of one reading at once: the same as `ledger/enrolment.py` does by row.

The rows are copied into a table of the session, and from there into the ledger by one statement.
"""

import json
from collections.abc import Iterable, Iterator
from typing import Any

from bulkmail.address import address_key
from bulkmail.ledger.enrolment import LISTED_ROWS
from bulkmail.ledger.postgres.connection import PostgresDatabase
from bulkmail.ledger.records import CampaignRecord, Enrolment
from bulkmail.ledger.view import marks
from bulkmail.model import UNSENT, Row, State

_SESSION_TABLES = (
    """
    CREATE TEMP TABLE IF NOT EXISTS read (
        n bigint, address text, address_key text COLLATE "C", domain text, fields text, source text,
        fault text
    ) ON COMMIT DELETE ROWS
    """,
    """
    CREATE TEMP TABLE IF NOT EXISTS excluded_people (address_key text COLLATE "C", why text)
    ON COMMIT DELETE ROWS
    """,
    # Who is never sent to in this reading, and why; also for `Ledger.resend_in_doubt`.
    """
    CREATE TEMP TABLE IF NOT EXISTS left_out (address_key text COLLATE "C" PRIMARY KEY, why text)
    """,
    "DELETE FROM read",
    "DELETE FROM excluded_people",
    "DELETE FROM left_out",
)

_FIND_FIRST = """
CREATE TEMP TABLE first_of_each ON COMMIT DROP AS
SELECT DISTINCT ON (address_key) n, left_out.why
FROM read LEFT JOIN left_out USING (address_key)
WHERE fault IS NULL ORDER BY address_key, n
"""

# In the order of the rows. Whoever is not known yet is added. Who is known and open follows the
# source, and the suppression list; a row that is filtered is nobody's.
_ENROL = """
INSERT INTO recipient
    (campaign_id, address, address_key, is_person, domain, fields, source, reading, added_reading,
    changed_reading, state, reason)
SELECT %(campaign)s, address, address_key, first.n IS NOT NULL, domain, fields, source,
    %(reading)s, %(reading)s, %(reading)s,
    CASE WHEN fault IS NOT NULL THEN 'invalid' WHEN first.n IS NULL THEN 'duplicate'
        WHEN why IS NOT NULL THEN 'suppressed' ELSE 'pending' END,
    CASE WHEN fault IS NOT NULL THEN fault WHEN first.n IS NULL THEN 'the same person stands above'
        ELSE coalesce(why, '') END
FROM read LEFT JOIN first_of_each AS first USING (n)
ORDER BY n
ON CONFLICT (campaign_id, address_key) WHERE is_person DO UPDATE
SET reading = excluded.reading,
    source = excluded.source,
    added_reading = CASE WHEN recipient.state IN ('cancelled', 'suppressed')
        THEN excluded.reading ELSE recipient.added_reading END,
    changed_reading = CASE
        WHEN recipient.fields <> excluded.fields OR recipient.address <> excluded.address
            OR recipient.state IN ('cancelled', 'suppressed')
        THEN excluded.reading ELSE recipient.changed_reading END,
    address = CASE
        WHEN recipient.attempts = 0
            AND recipient.state IN ('pending', 'cancelled', 'suppressed')
        THEN excluded.address ELSE recipient.address END,
    fields = CASE
        WHEN recipient.state IN ('pending', 'deferred', 'in_doubt', 'cancelled', 'suppressed')
        THEN excluded.fields ELSE recipient.fields END,
    files_digest = CASE WHEN recipient.fields <> excluded.fields
        THEN '' ELSE recipient.files_digest END,
    due_at = CASE WHEN recipient.state IN ('cancelled', 'suppressed')
        THEN 0 ELSE recipient.due_at END,
    attempts = CASE WHEN recipient.state IN ('cancelled', 'suppressed')
        THEN 0 ELSE recipient.attempts END,
    first_attempt_at = CASE WHEN recipient.state IN ('cancelled', 'suppressed')
        THEN NULL ELSE recipient.first_attempt_at END,
    consented = CASE WHEN excluded.state = 'suppressed' THEN 0 ELSE recipient.consented END,
    reason = CASE
        WHEN recipient.state IN ('cancelled', 'suppressed')
            OR excluded.state = 'suppressed' AND recipient.state IN ('pending', 'deferred')
        THEN excluded.reason ELSE recipient.reason END,
    state = CASE
        WHEN recipient.state IN ('cancelled', 'suppressed')
            OR excluded.state = 'suppressed' AND recipient.state IN ('pending', 'deferred')
        THEN CASE WHEN recipient.in_doubt_events > 0 THEN 'in_doubt' ELSE excluded.state END
        ELSE recipient.state END
"""

_COUNT = """
SELECT count(*) FILTER (WHERE state = 'invalid'), count(*) FILTER (WHERE state = 'duplicate'),
    count(*) FILTER (WHERE state = 'suppressed'),
    count(*) FILTER (WHERE state NOT IN ('invalid', 'duplicate', 'suppressed'))
FROM recipient WHERE campaign_id = %(campaign)s AND reading = %(reading)s
"""

_LIST = """
SELECT source, state, reason FROM (
    SELECT read.n, read.source, known.state, known.reason,
        row_number() OVER (PARTITION BY known.state ORDER BY read.n) AS place
    FROM read LEFT JOIN first_of_each AS first USING (n)
    LEFT JOIN recipient ON first.n IS NOT NULL AND campaign_id = %(campaign)s AND is_person
        AND recipient.address_key = read.address_key AND recipient.state = 'suppressed'
    CROSS JOIN LATERAL (SELECT
        CASE WHEN fault IS NOT NULL THEN 'invalid' WHEN first.n IS NULL THEN 'duplicate'
            ELSE recipient.state END AS state,
        CASE WHEN fault IS NOT NULL THEN fault WHEN first.n IS NULL
            THEN 'the same person stands above' ELSE recipient.reason END AS reason
    ) AS known
    WHERE known.state IS NOT NULL
) AS numbered
WHERE place <= %(listed)s ORDER BY n
"""


def enrol(
    db: PostgresDatabase,
    campaign: CampaignRecord,
    rows: Iterable[Row],
    excluded: Iterable[tuple[str, str]],
) -> Enrolment:
    """Takes in all `rows`; whoever is among `excluded` (address, why) becomes suppressed."""
    for statement in _SESSION_TABLES:
        db.execute(statement)
    db.copy(
        "COPY excluded_people FROM STDIN",
        ((address_key(address), why) for address, why in excluded),
    )
    db.execute(
        "INSERT INTO left_out SELECT address_key, why FROM excluded_people ON CONFLICT DO NOTHING"
    )
    db.copy(
        "COPY read (n, address, address_key, domain, fields, source, fault) FROM STDIN",
        _copied_rows(rows),
    )
    [reading] = db.execute(
        "UPDATE campaign SET reading = reading + 1 WHERE id = ? RETURNING reading", (campaign.id,)
    ).fetchone()
    db.execute("DELETE FROM recipient WHERE campaign_id = ? AND NOT is_person", (campaign.id,))
    values = {"campaign": campaign.id, "reading": reading, "listed": LISTED_ROWS}
    db.execute(_FIND_FIRST)
    db.execute("ANALYZE first_of_each")
    db.execute(_ENROL, values)
    found = Enrolment()
    found.invalid, found.duplicates, found.suppressed, found.recipients = db.execute(
        _COUNT, values
    ).fetchone()
    found.filtered = [
        (source, State(state), reason) for source, state, reason in db.execute(_LIST, values)
    ]
    [found.removed] = db.execute(
        f"SELECT count(*) FROM recipient WHERE campaign_id = ? AND state IN ({marks(UNSENT)})"
        " AND reading < ?",
        (campaign.id, *UNSENT, reading),
    ).fetchone()
    db.execute("DROP TABLE first_of_each")
    return found


def _copied_rows(rows: Iterable[Row]) -> Iterator[tuple[Any, ...]]:
    for n, row in enumerate(rows):
        key = address_key(row.address)
        fields = json.dumps(dict(row.fields), ensure_ascii=False, separators=(",", ":"))
        yield n, row.address, key, key.rpartition("@")[2], fields, row.source, row.fault
