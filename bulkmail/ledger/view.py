"""Reading a ledger: what `status` and `report` see, also while a run writes it."""

import json
import sqlite3
from collections.abc import Collection, Iterator
from pathlib import Path
from typing import Any, NamedTuple

from bulkmail.errors import LedgerError, NoLedgerError
from bulkmail.ledger.database import Database
from bulkmail.ledger.opening import VERSION, SqliteDatabase, copied, read_only, version_of
from bulkmail.ledger.records import CampaignRecord
from bulkmail.model import Row, State

PORTION = 500

NOT_ACCEPTED = tuple(state for state in State if state is not State.ACCEPTED)

HAS_IT = "(state IN ('accepted', 'in_flight', 'in_doubt') OR in_doubt_events > 0)"
"""A recipient who has a message or may have it."""

_EVENTS = """
(SELECT json_group_array(json_object(
    'at', at, 'what', what, 'attempt', attempt, 'begun_at', begun_at, 'phase', phase,
    'reply', reply, 'reason', reason))
FROM (SELECT * FROM event WHERE recipient_id = recipient.id ORDER BY id))
"""


class Alike(NamedTuple):
    """So many people of one domain of whom the same is recorded."""

    domain: str
    state: State
    phase: str
    reply: str
    reason: str
    number: int


class Person(NamedTuple):
    """Somebody who is not accepted, with what is recorded and the columns of the row."""

    state: State
    phase: str
    reply: str
    reason: str
    address: str
    source: str
    fields: dict[str, str]


class Acceptances(NamedTuple):
    """Of those who are accepted: when the first and the last message left, in seconds since the
    epoch; how many were sent to again after a doubt, and of how many a person said that they have
    it.
    """

    first_at: float
    last_at: float
    after_doubt: int
    as_was_said: int


class LedgerView:
    """A ledger opened to be read. Raises LedgerError."""

    _db: Database
    _EVENTS = _EVENTS
    _WHOLE = "CAST({} AS INTEGER)"
    """Of a positive number."""

    def close(self) -> None:
        self._db.close()

    def campaign(self, name: str) -> CampaignRecord | None:
        return find_campaign(self._db, name)

    def campaigns(self) -> list[CampaignRecord]:
        """All of them, oldest first."""
        names = self._db.execute("SELECT name FROM campaign ORDER BY id").fetchall()
        return [record for [name] in names if (record := find_campaign(self._db, name))]

    def tally(self, campaign: CampaignRecord) -> dict[State, int]:
        return tally(self._db, campaign)

    def running_since(self, campaign: CampaignRecord) -> float | None:
        """When its last run began, if that has no end: it is under way, or was killed."""
        [at] = self._db.execute(
            "SELECT max(started_at) FROM run WHERE campaign_id = ? AND ended_at IS NULL",
            (campaign.id,),
        ).fetchone()
        return None if at is None else float(at)

    def hold(self) -> None:
        """From now on all is read as it is now, also while a run writes; until `close`."""
        raise NotImplementedError

    def runs(self, campaign: CampaignRecord) -> list[tuple[float, float | None]]:
        """When each of its runs began and ended; None: it is under way, or was killed."""
        found: list[tuple[float, float | None]] = self._db.execute(
            "SELECT started_at, ended_at FROM run WHERE campaign_id = ? ORDER BY started_at",
            (campaign.id,),
        ).fetchall()
        return found

    def acceptances(self, campaign: CampaignRecord) -> Acceptances | None:
        """None: nobody is accepted."""
        found = self._db.execute(
            "SELECT min(last_attempt_at), max(last_attempt_at),"
            " count(*) FILTER (WHERE in_doubt_events > 0 AND reason = ''),"
            " count(*) FILTER (WHERE reason <> '')"
            " FROM recipient WHERE campaign_id = ? AND state = 'accepted'",
            (campaign.id,),
        ).fetchone()
        return None if found[0] is None else Acceptances(*found)

    def accepted_by_time(
        self, campaign: CampaignRecord, seconds: float
    ) -> Iterator[tuple[float, int]]:
        """(when, how many) of the messages that were accepted, by when they left: all of each so
        many `seconds` together, oldest first.
        """
        when = self._WHOLE.format("last_attempt_at / ?")
        yield from self._db.rows(
            "SELECT max(last_attempt_at), count(*) FROM recipient"
            f" WHERE campaign_id = ? AND state = 'accepted' GROUP BY {when} ORDER BY 1",
            (campaign.id, seconds),
        )

    def domains(
        self, campaign: CampaignRecord, limit: int
    ) -> tuple[list[tuple[str, int, int]], int]:
        """(domain, accepted, people) of the `limit` largest, and how many domains there are."""
        rows = self._db.execute(
            "SELECT domain, count(*) FILTER (WHERE state = 'accepted'), count(*) AS people,"
            " count(*) OVER ()"
            " FROM recipient WHERE campaign_id = ?"
            " AND state NOT IN ('invalid', 'duplicate', 'suppressed')"
            " GROUP BY domain ORDER BY people DESC, domain LIMIT ?",
            (campaign.id, limit),
        ).fetchall()
        return [row[:3] for row in rows], rows[0][3] if rows else 0

    def not_accepted(self, campaign: CampaignRecord) -> Iterator[Alike]:
        """Who is not accepted, counted by all that is recorded, one domain after another."""
        rows = self._db.rows(
            "SELECT domain, state, phase, reply, reason, count(*) FROM recipient"
            f" WHERE campaign_id = ? AND state IN ({marks(NOT_ACCEPTED)})"
            " GROUP BY domain, state, phase, reply, reason ORDER BY domain",
            (campaign.id, *NOT_ACCEPTED),
        )
        for domain, state, phase, reply, reason, number in rows:
            yield Alike(domain, State(state), phase, reply, reason, number)

    def not_accepted_people(
        self, campaign: CampaignRecord, states: Collection[State]
    ) -> Iterator[Person]:
        """Each of those who are not accepted, of `states` if there are any, in the order of
        enrolment.
        """
        chosen = [state for state in NOT_ACCEPTED if not states or state in states]
        if not chosen:
            return
        rows = self._in_states(
            "state, phase, reply, reason, address, source, fields", campaign, chosen
        )
        for state, phase, reply, reason, address, source, fields in rows:
            yield Person(State(state), phase, reply, reason, address, source, json.loads(fields))

    def report(
        self, campaign: CampaignRecord, states: Collection[State]
    ) -> Iterator[dict[str, Any]]:
        """One dictionary per recipient, in the order of enrolment; no `states` means all."""
        rows = self._in_states(
            "address, state, source, reason, reply, attempts, in_doubt_events, phase, message_id,"
            f" fields, {self._EVENTS}",
            campaign,
            states,
        )
        names = (
            *("email", "state", "source", "reason", "reply", "attempts", "in_doubt_events"),
            "phase",
        )
        for *values, message_id, fields, events in rows:
            yield {
                **dict(zip(names, values, strict=True)),
                "message_id": message_id,
                "fields": json.loads(fields),
                "events": json.loads(events),
            }

    def columns(self, campaign: CampaignRecord, states: Collection[State]) -> list[str]:
        """The names of all `fields` that `report` will hold, in the order of their first row.

        Also while a run writes: what is read from now on is as it is now.
        """
        self.hold()
        names: dict[str, None] = {}
        for (fields,) in self._in_states("fields", campaign, states):
            names.update(dict.fromkeys(json.loads(fields)))
        return list(names)

    def _in_states(
        self, columns: str, campaign: CampaignRecord, states: Collection[State]
    ) -> Iterator[Any]:
        # All of them stand in order in the table itself; a few are found by the index, and sorted.
        where = f"WHERE campaign_id = ? AND state IN ({marks(states)})"
        if not states:
            where = "NOT INDEXED WHERE campaign_id = ?"
        return self._db.rows(
            f"SELECT {columns} FROM recipient {where} ORDER BY id", (campaign.id, *states)
        )

    def people(self, campaign: CampaignRecord, states: Collection[State]) -> Iterator[Row]:
        """Those of `campaign` in these states, as rows of a source, in the order of enrolment."""
        after_id = 0
        while rows := self._people_after(campaign, states, after_id):
            for after_id, address, fields, source in rows:  # noqa: B007  the last one is used
                yield Row(address, json.loads(fields), source)

    def _people_after(
        self, campaign: CampaignRecord, states: Collection[State], after_id: int
    ) -> list[tuple[int, str, str, str]]:
        found: list[tuple[int, str, str, str]] = self._db.execute(
            "SELECT id, address, fields, source FROM recipient NOT INDEXED WHERE campaign_id = ?"
            f" AND state IN ({marks(states)}) AND id > ? ORDER BY id LIMIT ?",
            (campaign.id, *states, after_id, PORTION),
        ).fetchall()
        return found

    def who_has_it(self, campaign: CampaignRecord) -> Iterator[str]:
        """The `address_key` of everyone who has it, or may have it."""
        rows = self._db.rows(
            f"SELECT address_key FROM recipient WHERE campaign_id = ? AND {HAS_IT}", (campaign.id,)
        )
        yield from (key for [key] in rows)

    def suppressed(self) -> Iterator[tuple[str, str, float]]:
        """(address, reason, since when) of everyone who is never sent to, by address."""
        yield from self._db.rows("SELECT address, reason, at FROM suppression ORDER BY address_key")


class SqliteView(LedgerView):
    """The ledger in the file at `path`."""

    _db: SqliteDatabase

    def __init__(self, path: Path) -> None:
        try:
            self._db = read_only(path)
            if version_of(self._db, str(path)) < VERSION:  # nothing was written yet, or long ago
                self._db.close()
                self._db = copied(path)
        except sqlite3.Error as error:
            kind = NoLedgerError if error.sqlite_errorname == "SQLITE_NOTADB" else LedgerError
            raise kind(f"{path}: {error}") from error

    def hold(self) -> None:
        if not self._db.in_transaction:
            self._db.execute("BEGIN")


def find_campaign(db: Database, name: str) -> CampaignRecord | None:
    row = db.execute(
        "SELECT id, name, seed, content_digest, meant_again_digest, meant_again_reading,"
        " proven_digest, proven_reading, cancelled_at FROM campaign WHERE name = ?",
        (name,),
    ).fetchone()
    return CampaignRecord(*row) if row else None


def tally(db: Database, campaign: CampaignRecord) -> dict[State, int]:
    rows = db.execute(
        "SELECT state, count(*) FROM recipient WHERE campaign_id = ? GROUP BY state", (campaign.id,)
    )
    return {State(state): int(number) for state, number in rows}


def marks(values: Collection[object]) -> str:
    return ", ".join("?" * len(values))
