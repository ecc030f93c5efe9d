"""What a run records of its recipients: that a message may leave now, and what became of it."""

import sqlite3
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from bulkmail.model import Intent, Settlement, State

_INTEND = """
UPDATE recipient
SET state = 'in_flight', content_id = ?, message_id = ?, last_attempt_at = ?,
    first_attempt_at = coalesce(first_attempt_at, ?)
WHERE id = ? AND state IN ('pending', 'deferred')
"""

_SETTLE = """
UPDATE recipient
SET state = iif(:state = 'pending' AND due_at > 0, 'deferred', :state),
    due_at = iif(:state = 'pending', due_at, :due_at),
    attempts = attempts + :counted,
    first_attempt_at = iif(
        attempts + :counted = 0, NULL, coalesce(first_attempt_at, last_attempt_at)),
    in_doubt_events = in_doubt_events + (:state = 'in_doubt'),
    content_id = iif(:state IN ('accepted', 'in_doubt'), content_id, (
        SELECT content_id FROM event WHERE recipient_id = recipient.id AND what = 'in_doubt'
        ORDER BY id DESC LIMIT 1)),
    consented = iif(:state IN ('accepted', 'in_doubt'), 0, consented),
    phase = iif(:state = 'pending' AND due_at > 0, phase, :phase),
    reply = iif(:state = 'pending' AND due_at > 0, reply, :reply),
    reason = iif(:state = 'pending' AND due_at > 0, reason, :reason)
WHERE id = :id
    AND iif(:of_released, state IN ('pending', 'deferred'), state = 'in_flight')
"""

_REMEMBER = """
INSERT INTO event (recipient_id, at, what, attempt, begun_at, phase, reply, reason, content_id)
SELECT id, ?, state, attempts, last_attempt_at, phase, reply, reason, content_id
FROM recipient WHERE id = ?
"""

_ACCEPT = """
UPDATE recipient
SET state = 'accepted', due_at = 0, attempts = attempts + 1, consented = 0, phase = 'dot',
    reply = ?, reason = ''
WHERE id = ? AND state = 'in_flight'
"""
"""The same as `_SETTLE` for the state that most come to, and faster."""

_RECOVER = """
UPDATE recipient
SET state = 'in_doubt', attempts = attempts + 1, in_doubt_events = in_doubt_events + 1,
    consented = 0, phase = 'dot', reply = '',
    reason = 'the run ended before it knew what became of this message'
WHERE campaign_id = ? AND state = 'in_flight'
RETURNING id
"""

_STILL_IN_DOUBT = """
UPDATE recipient SET state = 'in_doubt'
WHERE campaign_id = ? AND state IN ('pending', 'deferred') AND in_doubt_events > 0
    AND NOT consented
"""

_REMEMBERED = (State.DEFERRED, State.FAILED, State.EXPIRED, State.IN_DOUBT)

_GRANT = """
INSERT INTO granted VALUES (?, ?, ?, ?, ?)
ON CONFLICT (account, domain, second) DO UPDATE
SET at = max(at, excluded.at), number = number + excluded.number
"""


def record(
    db: sqlite3.Connection,
    account: str,
    content_id: int | None,
    changes: Sequence[Intent | Settlement],
) -> int:
    """Records outcomes first, then intents with their grants, in the caller's transaction.

    How many recipients were not in the state that a change begins from: nothing may be kept then.
    """
    accepted, settled, intents = in_kinds(changes)
    changed = _change(db, _ACCEPT, ((str(s.outcome.reply), s.recipient_id) for s in accepted))
    changed += _change(db, _SETTLE, map(_settlement_row, settled))
    remembered = ((s.at, s.recipient_id) for s in settled if s.state in _REMEMBERED)
    db.executemany(_REMEMBER, remembered)
    changed += _change(db, _INTEND, ((content_id, *_intent_row(intent)) for intent in intents))
    db.executemany(_GRANT, grant_rows(account, intents))
    return len(changes) - changed


def recover(db: sqlite3.Connection, campaign_id: int, now: float) -> int:
    """See `SqliteLedger.recover`; in the caller's transaction."""
    ids = [id_ for [id_] in db.execute(_RECOVER, (campaign_id,)).fetchall()]
    db.executemany(_REMEMBER, ((now, id_) for id_ in ids))
    db.execute(_STILL_IN_DOUBT, (campaign_id,))
    return len(ids)


def in_kinds(
    changes: Sequence[Intent | Settlement],
) -> tuple[list[Settlement], list[Settlement], list[Intent]]:
    """Those who were accepted, other outcomes, and intents."""
    accepted: list[Settlement] = []
    others: list[Settlement] = []
    intents: list[Intent] = []
    for change in changes:
        if isinstance(change, Intent):
            intents.append(change)
        elif change.state is State.ACCEPTED and not change.of_released:
            accepted.append(change)
        else:
            others.append(change)
    return accepted, others, intents


def _change(db: sqlite3.Connection, sql: str, rows: Iterable[Any]) -> int:
    return max(0, db.executemany(sql, rows).rowcount)


def _intent_row(intent: Intent) -> tuple[Any, ...]:
    return intent.message_id, intent.at, intent.at, intent.recipient_id


def grant_rows(account: str, intents: Sequence[Intent]) -> Iterator[tuple[Any, ...]]:
    """All together under "", and by domain where the domain has rates: one row each."""
    granted: defaultdict[str, list[float]] = defaultdict(list)
    for intent in intents:
        granted[""].append(intent.granted_at)
        if intent.rated_domain:
            granted[intent.rated_domain].append(intent.granted_at)
    for domain, times in granted.items():
        yield account, domain, int(max(times)), max(times), len(times)


def _settlement_row(settled: Settlement) -> dict[str, Any]:
    outcome = settled.outcome
    return {
        "id": settled.recipient_id,
        "state": settled.state,
        "due_at": settled.due_at,
        "counted": settled.state is not State.PENDING,
        "phase": outcome.phase,
        "reply": str(outcome.reply or ""),
        "reason": "" if settled.state is State.ACCEPTED else str(outcome),
        "of_released": settled.of_released,
    }
