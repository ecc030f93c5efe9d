"""Looking through the people of a campaign, page by page, also while they are being enrolled."""

import json
import sqlite3
from collections.abc import Collection
from typing import NamedTuple

from bulkmail.address import address_key
from bulkmail.ledger.claims import SELECT_RECIPIENT, recipient
from bulkmail.ledger.guarded import guarded
from bulkmail.ledger.view import marks
from bulkmail.model import Recipient, State

SCANNED = 50_000
"""So many rows are looked at in one portion of a search: some hundredths of a second."""

_SELECT = SELECT_RECIPIENT.replace("again_at\n", "again_at, state, reason\n")

# The text of a row is looked at before its cells, because a row is much sooner found not to match.
_MATCHES = r"""
(address LIKE :text ESCAPE '\' OR source LIKE :text ESCAPE '\' OR reason LIKE :text ESCAPE '\'
OR fields LIKE :as_json ESCAPE '\' AND EXISTS (
    SELECT 1 FROM json_each(fields) WHERE value LIKE :text ESCAPE '\'))
"""


class Person(NamedTuple):
    """A row of the sources and what became of it; `reason` says why it is left out."""

    recipient: Recipient
    state: State
    reason: str


class Page(NamedTuple):
    """People in the order of enrolment. `next_id`: go on after that one; `at_end`: there is nobody
    yet who was not looked at.
    """

    people: list[Person]
    next_id: int
    at_end: bool


class Browser:
    """The people of one campaign in a ledger that this process has open. Raises LedgerError."""

    def __init__(self, db: sqlite3.Connection, name: str, campaign_id: int) -> None:
        self.name = name
        self._db = db
        self._campaign_id = campaign_id

    @guarded
    def last_id(self) -> int:
        """The highest so far; in a scratch ledger also their number."""
        [last] = self._db.execute("SELECT coalesce(max(id), 0) FROM recipient").fetchone()
        return int(last)

    @guarded
    def page(self, after_id: int, limit: int, text: str, states: Collection[State]) -> Page:
        """At most `limit` people after `after_id` in whose address or cells `text` stands; empty
        ones, of either, mean all. It looks at SCANNED rows and no more, so it may hold nobody.
        """
        last_id = self.last_id()
        until_id = min(last_id, after_id + SCANNED)
        conditions = ["campaign_id = :campaign", "id > :after", "id <= :until"]
        if text:
            conditions.append(_MATCHES)
        if states:
            conditions.append("state IN (SELECT value FROM json_each(:states))")
        rows = self._db.execute(
            f"{_SELECT} NOT INDEXED WHERE {' AND '.join(conditions)} ORDER BY id LIMIT :limit",
            {
                "campaign": self._campaign_id,
                "after": after_id,
                "until": until_id,
                "limit": limit,
                "text": _pattern(text),
                "states": json.dumps([state.value for state in states]),
                "as_json": _pattern(json.dumps(text, ensure_ascii=False)[1:-1]),
            },
        ).fetchall()
        people = [_person(row) for row in rows]
        next_id = people[-1].recipient.id if len(people) == limit else until_id
        return Page(people, next_id, next_id >= last_id)

    @guarded
    def person(self, id_: int) -> Person | None:
        row = self._db.execute(
            f"{_SELECT} WHERE campaign_id = ? AND id = ?", (self._campaign_id, id_)
        ).fetchone()
        return _person(row) if row else None

    @guarded
    def id_of(self, address: str) -> int | None:
        """That of the person with this address, by whatever spelling."""
        row = self._db.execute(
            "SELECT id FROM recipient WHERE campaign_id = ? AND address_key = ?"
            " AND state NOT IN ('invalid', 'duplicate')",
            (self._campaign_id, address_key(address)),
        ).fetchone()
        return int(row[0]) if row else None

    @guarded
    def longest(self, limit: int, states: Collection[State]) -> list[Person]:
        """Those with the most data, the longest first."""
        return self._chosen("length(fields) DESC, id", limit, states, "true")

    @guarded
    def with_empty_cell(self, states: Collection[State]) -> list[Person]:
        """The first one, if there is any."""
        empty = "fields LIKE '%:\"\"%' AND '' IN (SELECT value FROM json_each(fields))"
        return self._chosen("id", 1, states, empty)

    @guarded
    def ends(self, states: Collection[State]) -> list[Person]:
        """The first one and the last one."""
        return [
            *self._chosen("id", 1, states, "true"),
            *self._chosen("id DESC", 1, states, "true"),
        ]

    def _chosen(
        self, order: str, limit: int, states: Collection[State], condition: str
    ) -> list[Person]:
        rows = self._db.execute(
            f"{_SELECT} NOT INDEXED WHERE campaign_id = ? AND state IN ({marks(states)})"
            f" AND {condition} ORDER BY {order} LIMIT ?",
            (self._campaign_id, *states, limit),
        )
        return [_person(row) for row in rows]


def _person(row: tuple[object, ...]) -> Person:
    return Person(recipient(row[:-2]), State(str(row[-2])), str(row[-1]))


def _pattern(text: str) -> str:
    """For LIKE: anything that holds `text`."""
    for special in ("\\", "%", "_"):
        text = text.replace(special, f"\\{special}")
    return f"%{text}%"
