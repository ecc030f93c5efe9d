"""Who may be sent to next, each person once in a run: those whose retry is due, and the pending.

Both stand in the order of an index: retries by the time they are due, the pending by enrolment. A
domain that must wait is set apart: it then has places of its own in both orders, and the others are
found by the index alone, without reading the rows between them. What is claimed stands in memory
only.
"""

import json
import math
import sqlite3
from collections.abc import Iterator
from typing import Any

from bulkmail.ledger.guarded import guarded
from bulkmail.model import Recipient, State

LOOKED_THROUGH = 1000
"""Entries of the index that one claim looks at; more would hold up the commits."""

SELECT_RECIPIENT = """
SELECT id, address, fields, source, attempts, first_attempt_at, files_digest, domain, due_at,
    again_at
FROM recipient
"""

_ALL = "FROM recipient INDEXED BY recipient_state WHERE campaign_id = :campaign AND state = :state"

# The first condition is the index's own, to be allowed to use it.
_OF_DOMAIN = """
FROM recipient INDEXED BY recipient_domain
WHERE state IN ('pending', 'deferred') AND campaign_id = :campaign AND state = :state
    AND domain = :domain
"""

# After a place in the order, in two steps: for (due_at, id) > (?, ?) SQLite reads all of due_at.
_DUE_TOGETHER = "SELECT id, due_at, domain {} AND due_at = :due_at AND id > :id ORDER BY id"
_DUE_LATER = (
    "SELECT id, due_at, domain {} AND due_at > :due_at AND due_at <= :now ORDER BY due_at, id"
)

_THESE = f"{SELECT_RECIPIENT} WHERE id IN (SELECT value FROM json_each(?))"

_START = (0.0, 0)


class Claims:
    """The claims of one run on one campaign. Raises LedgerError.

    `domain` is one that was set apart, or None for all that are not.
    """

    def __init__(self, db: sqlite3.Connection, name: str, campaign_id: int) -> None:
        self.name = name
        self._db = db
        self._campaign_id = campaign_id
        # Everyone up to this (due_at, id) is claimed; the pending are all due at 0.
        self._places: dict[str | None, dict[State, tuple[float, int]]] = {
            None: {State.DEFERRED: _START, State.PENDING: _START}
        }

    @guarded
    def take(
        self, limit: int, now: float, domain: str | None = None
    ) -> tuple[list[Recipient], bool]:
        """Up to `limit` recipients, first those whose retry is due by `now`, but at most half; and
        whether nobody is left.

        `now` must never go back, and later retries must be due after it.
        """
        ids, no_retries = self._ids(State.DEFERRED, max(1, limit // 2), now, domain)
        pending, no_pending = self._ids(State.PENDING, limit - len(ids), now, domain)
        ids += pending
        if no_pending and not no_retries:
            more, no_retries = self._ids(State.DEFERRED, limit - len(ids), now, domain)
            ids += more
        return self._recipients(ids), no_retries and no_pending

    def set_apart(self, domain: str) -> None:
        """Gives `domain` places of its own; those of it who are claimed stay so."""
        self._places[domain] = dict(self._places[None])

    @guarded
    def next_due_at(self, domain: str | None = None) -> float | None:
        """When to ask for the next retry, in seconds since the epoch; None: there is none."""
        waiting = self._after(State.DEFERRED, math.inf, domain)
        for looked_at, (_, due_at, other) in enumerate(waiting, 1):
            if looked_at == LOOKED_THROUGH or self._is_meant(other, domain):
                return float(due_at)
        return None

    def _ids(
        self, state: State, limit: int, now: float, domain: str | None
    ) -> tuple[list[int], bool]:
        """The next ones, and whether these are the last."""
        ids: list[int] = []
        for looked_at, (id_, due_at, other) in enumerate(self._after(state, now, domain)):
            if looked_at == LOOKED_THROUGH or len(ids) == limit:
                return ids, False
            self._places[domain][state] = due_at, id_
            if self._is_meant(other, domain):
                ids.append(id_)
        return ids, True

    def _after(
        self, state: State, now: float, domain: str | None
    ) -> Iterator[tuple[int, float, str]]:
        due_at, id_ = self._places[domain][state]
        values = {
            "campaign": self._campaign_id,
            "state": state,
            "domain": domain,
            "due_at": due_at,
            "id": id_,
            "now": now,
        }
        which = _ALL if domain is None else _OF_DOMAIN
        yield from self._db.execute(_DUE_TOGETHER.format(which), values)
        if state is State.DEFERRED:
            yield from self._db.execute(_DUE_LATER.format(which), values)

    def _is_meant(self, domain: str, asked: str | None) -> bool:
        return domain == asked if asked is not None else domain not in self._places

    def _recipients(self, ids: list[int]) -> list[Recipient]:
        rows = self._db.execute(_THESE, (json.dumps(ids),)).fetchall()
        found = {row[0]: row for row in rows}
        return [recipient(found[id_]) for id_ in ids]


def recipient(row: tuple[Any, ...]) -> Recipient:
    """What `SELECT_RECIPIENT` found, as the loop knows it."""
    id_, address, fields, *others = row
    return Recipient(id_, address, json.loads(fields), *others)
