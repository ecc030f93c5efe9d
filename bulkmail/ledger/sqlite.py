"""The ledger in one SQLite file, for all campaigns of a project.

WAL with synchronous=FULL: a commit that returned is on the disk. All calls are synchronous and
belong to one thread at a time. One run at a time holds the file, by a lock of the operating
system that ends with the process.
"""

import json
import os
import sqlite3
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from functools import wraps
from importlib.resources import files
from pathlib import Path
from typing import Any, Concatenate, ParamSpec, TypeVar

from bulkmail.address import address_key
from bulkmail.errors import LedgerBusyError, LedgerError
from bulkmail.ledger.records import CampaignRecord, Enrolment
from bulkmail.ledger.view import VERSION, find_campaign, marks, tally
from bulkmail.model import FILTERED, UNSENT, Intent, Recipient, Row, Settlement, State

BUSY_SECONDS = 30
LISTED_FILTERED_ROWS = 10
PORTION = 500
GRANTS_KEPT_SECONDS = 86400
"""The longest period a rate can have."""

_SELECT_RECIPIENT = """
SELECT id, address, fields, source, attempts, first_attempt_at FROM recipient
"""

_ENROL = """
INSERT INTO recipient (campaign_id, address, address_key, fields, source, reading, state)
VALUES (?, ?, ?, ?, ?, ?, 'pending')
ON CONFLICT (campaign_id, address_key) WHERE state NOT IN ('invalid', 'duplicate') DO UPDATE
SET reading = excluded.reading,
    source = excluded.source,
    address = iif(attempts = 0 AND state IN ('pending', 'cancelled'), excluded.address, address),
    fields = iif(state IN ('pending', 'deferred', 'cancelled'), excluded.fields, fields),
    due_at = iif(state = 'cancelled', 0, due_at),
    reason = iif(state = 'cancelled', '', reason),
    state = iif(state = 'cancelled', 'pending', state)
WHERE reading < excluded.reading
"""

_ENROL_FILTERED = """
INSERT INTO recipient
    (campaign_id, address, address_key, fields, source, reading, state, reason)
VALUES (?, ?, ?, ?, ?, ?, ?, ?)
"""

_INTEND = """
UPDATE recipient
SET state = 'in_flight', message_id = ?, last_attempt_at = ?,
    first_attempt_at = coalesce(first_attempt_at, ?)
WHERE id = ? AND state IN ('pending', 'deferred')
"""

_SETTLE = """
UPDATE recipient
SET state = ?, attempts = attempts + ?, due_at = ?, phase = ?, reply = ?, reason = ?,
    in_doubt_events = in_doubt_events + ?
WHERE id = ? AND state = 'in_flight'
"""

_RECOVER = """
UPDATE recipient
SET state = 'in_doubt', attempts = attempts + 1, in_doubt_events = in_doubt_events + 1,
    phase = 'dot', reply = '',
    reason = 'the run ended before it knew what became of this message'
WHERE campaign_id = ? AND state = 'in_flight'
"""

_GRANT = """
INSERT INTO granted VALUES (?, ?, ?, ?)
ON CONFLICT (account, second) DO UPDATE
SET at = max(at, excluded.at), number = number + excluded.number
"""

P = ParamSpec("P")
T = TypeVar("T")


def _guarded(
    method: Callable[Concatenate["SqliteLedger", P], T],
) -> Callable[Concatenate["SqliteLedger", P], T]:
    """Turns what SQLite raises into LedgerError."""

    @wraps(method)
    def guarded(ledger: "SqliteLedger", /, *args: P.args, **kwargs: P.kwargs) -> T:
        try:
            return method(ledger, *args, **kwargs)
        except sqlite3.Error as error:
            raise LedgerError(f"{ledger.name}: {error}") from error

    return guarded


class SqliteLedger:
    """`path` None is a scratch ledger, which is gone when closed. Raises LedgerError everywhere."""

    def __init__(self, path: Path | None) -> None:
        self.name = str(path) if path else "scratch ledger"
        self._lock: sqlite3.Connection | None = None
        if path is not None:
            self._lock = _run_lock(path)
        try:
            self._db = _opened(str(path) if path else "")
            self._migrate()
        except sqlite3.Error as error:
            raise LedgerError(f"{self.name}: {error}") from error

    def close(self) -> None:
        self._db.close()
        if self._lock is not None:
            self._lock.close()

    # -- enrolling -------------------------------------------------------------------------------

    @contextmanager
    def enrolling(self) -> Iterator[None]:
        """All that is enrolled inside is kept, or, if the block raises, nothing of it."""
        self._begin()
        try:
            yield
        except BaseException:
            self._db.rollback()
            raise
        self._commit()

    @_guarded
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

    @_guarded
    def enrol(self, campaign: CampaignRecord, rows: Iterable[Row]) -> Enrolment:
        """Takes in one reading of all sources: who is new is added, who is known is kept.

        Of rows for one person the first counts. Filtered rows are those of this reading.
        """
        db, found = self._db, Enrolment()
        db.execute("UPDATE campaign SET reading = reading + 1 WHERE id = ?", (campaign.id,))
        [reading] = db.execute(
            "SELECT reading FROM campaign WHERE id = ?", (campaign.id,)
        ).fetchone()
        db.execute(
            "DELETE FROM recipient WHERE campaign_id = ? AND state IN ('invalid', 'duplicate')",
            (campaign.id,),
        )
        for row in rows:
            self._enrol_one(campaign.id, reading, row, found)
        found.removed = self._count_removed(campaign, reading)
        return found

    def _enrol_one(self, campaign_id: int, reading: int, row: Row, found: Enrolment) -> None:
        fields = json.dumps(dict(row.fields), ensure_ascii=False, separators=(",", ":"))
        key = address_key(row.address)
        values = (campaign_id, row.address, key, fields, row.source, reading)
        if row.fault is not None:
            state, reason = State.INVALID, row.fault
            found.invalid += 1
        elif self._db.execute(_ENROL, values).rowcount:
            found.recipients += 1
            return
        else:
            state, reason = State.DUPLICATE, "the same person stands above"
            found.duplicates += 1
        self._db.execute(_ENROL_FILTERED, (*values, state, reason))
        if len(found.filtered) < LISTED_FILTERED_ROWS:
            found.filtered.append((row.source, state, reason))

    def _count_removed(self, campaign: CampaignRecord, reading: int) -> int:
        [number] = self._db.execute(
            f"SELECT count(*) FROM recipient WHERE campaign_id = ? AND state IN ({marks(UNSENT)})"
            " AND reading < ?",
            (campaign.id, *UNSENT, reading),
        ).fetchone()
        return int(number)

    @_guarded
    def cancel_removed(self, campaign: CampaignRecord) -> int:
        """Gives up the unsent recipients that the last reading did not find."""
        return self._db.execute(
            "UPDATE recipient SET state = 'cancelled', reason = 'no longer in the sources'"
            f" WHERE campaign_id = ? AND state IN ({marks(UNSENT)})"
            " AND reading < (SELECT reading FROM campaign WHERE id = recipient.campaign_id)",
            (campaign.id, *UNSENT),
        ).rowcount

    @_guarded
    def set_content_digest(self, campaign: CampaignRecord, digest: str) -> None:
        self._db.execute(
            "UPDATE campaign SET content_digest = ? WHERE id = ?", (digest, campaign.id)
        )

    # -- sending ---------------------------------------------------------------------------------

    @_guarded
    def recover(self, campaign: CampaignRecord) -> int:
        """Records as in doubt who was in flight when an earlier run died; how many."""
        return self._db.execute(_RECOVER, (campaign.id,)).rowcount

    def unsent(self, campaign: CampaignRecord) -> Iterator[Recipient]:
        """Everyone whom a run would still send to, now or later, in the order of enrolment."""
        after_id = 0
        while portion := self._unsent_after(campaign, after_id):
            yield from portion
            after_id = portion[-1].id

    @_guarded
    def _unsent_after(self, campaign: CampaignRecord, after_id: int) -> list[Recipient]:
        return self._recipients("state IN ('pending', 'deferred')", campaign, after_id, PORTION)

    @_guarded
    def pending(self, campaign: CampaignRecord, after_id: int, limit: int) -> list[Recipient]:
        """The next pending recipients with ids above `after_id`, in the order of enrolment."""
        return self._recipients("state = 'pending' AND due_at = 0", campaign, after_id, limit)

    @_guarded
    def due(
        self, campaign: CampaignRecord, by: float, after_id: int, limit: int
    ) -> list[Recipient]:
        """The next deferred recipients with ids above `after_id` whose time has come by `by`."""
        where = f"state = 'deferred' AND due_at <= {by!r}"
        return self._recipients(where, campaign, after_id, limit)

    def _recipients(
        self, where: str, campaign: CampaignRecord, after_id: int, limit: int
    ) -> list[Recipient]:
        rows = self._db.execute(
            f"{_SELECT_RECIPIENT} WHERE campaign_id = ? AND {where} AND id > ? ORDER BY id LIMIT ?",
            (campaign.id, after_id, limit),
        )
        return [_recipient(row) for row in rows]

    @_guarded
    def next_due_at(self, campaign: CampaignRecord) -> float | None:
        """When the first deferred recipient may be tried again."""
        [at] = self._db.execute(
            "SELECT min(due_at) FROM recipient WHERE campaign_id = ? AND state = 'deferred'",
            (campaign.id,),
        ).fetchone()
        return None if at is None else float(at)

    @_guarded
    def record(self, account: str, changes: Sequence[Intent | Settlement]) -> None:
        """Commits all of `changes`, or none: outcomes first, then intents with their grants."""
        settlements = [change for change in changes if isinstance(change, Settlement)]
        intents = [change for change in changes if isinstance(change, Intent)]
        self._begin()
        try:
            if settlements:
                self._all(_SETTLE, map(_settlement_row, settlements), len(settlements))
            if intents:
                self._all(_INTEND, map(_intent_row, intents), len(intents))
                latest = max(intent.granted_at for intent in intents)
                self._db.execute(_GRANT, (account, int(latest), latest, len(intents)))
        except BaseException:
            self._db.rollback()
            raise
        self._commit()

    def _all(self, sql: str, rows: Iterable[tuple[Any, ...]], expected: int) -> None:
        if (changed := self._db.executemany(sql, rows).rowcount) != expected:
            raise LedgerError(
                f"{self.name}: {expected - changed} recipients are not in the state that this run"
                " left them in; something else wrote to the ledger"
            )

    @_guarded
    def grants(self, account: str, now: float) -> list[tuple[float, int]]:
        """What was granted to `account` in the last day, oldest first; older ones are dropped."""
        since = now - GRANTS_KEPT_SECONDS
        self._db.execute("DELETE FROM granted WHERE account = ? AND at < ?", (account, since))
        rows = self._db.execute(
            "SELECT at, number FROM granted WHERE account = ? ORDER BY second", (account,)
        )
        return [(float(at), int(number)) for at, number in rows]

    @_guarded
    def tally(self, campaign: CampaignRecord) -> dict[State, int]:
        """How many recipients are in each state."""
        return tally(self._db, campaign)

    # -- inside ----------------------------------------------------------------------------------

    def _migrate(self) -> None:
        [version] = self._db.execute("PRAGMA user_version").fetchone()
        if version > VERSION:
            raise LedgerError(
                f"{self.name} was written by a newer bulkmail (version {version}; this one knows"
                f" {VERSION}). Upgrade bulkmail"
            )
        if version == 0:
            schema = files("bulkmail.ledger").joinpath("schema.sql").read_text("utf-8")
            self._db.executescript(f"BEGIN; {schema} PRAGMA user_version = {VERSION}; COMMIT;")

    @_guarded
    def _begin(self) -> None:
        self._db.execute("BEGIN IMMEDIATE")

    def _commit(self) -> None:
        try:
            self._db.execute("COMMIT")
        except sqlite3.Error as error:
            self._db.rollback()
            raise LedgerError(f"{self.name}: {error}") from error


def _opened(path: str) -> sqlite3.Connection:
    db = sqlite3.connect(path, timeout=BUSY_SECONDS, isolation_level=None, check_same_thread=False)
    db.execute("PRAGMA journal_mode = WAL")
    db.execute("PRAGMA synchronous = FULL")
    db.execute("PRAGMA fullfsync = ON")  # macOS: fsync alone does not reach the disk
    db.execute("PRAGMA foreign_keys = ON")
    return db


def _run_lock(path: Path) -> sqlite3.Connection:
    """Held until closed, or until the process ends in whatever way; works wherever SQLite does."""
    try:
        lock = sqlite3.connect(
            f"{path}.lock", timeout=0, isolation_level=None, check_same_thread=False
        )
        lock.execute("BEGIN EXCLUSIVE")
    except sqlite3.OperationalError as error:
        if error.sqlite_errorname == "SQLITE_BUSY":
            raise LedgerBusyError(
                f"another run is using {path}; one run at a time. See `bulkmail status`"
            ) from None
        raise LedgerError(f"{path}.lock: {error}") from error
    return lock


def _recipient(row: tuple[Any, ...]) -> Recipient:
    id_, address, fields, source, attempts, first_attempt_at = row
    return Recipient(id_, address, json.loads(fields), source, attempts, first_attempt_at)


def _intent_row(intent: Intent) -> tuple[Any, ...]:
    return intent.message_id, intent.at, intent.at, intent.recipient_id


def _settlement_row(settled: Settlement) -> tuple[Any, ...]:
    outcome = settled.outcome
    return (
        settled.state,
        int(settled.state is not State.PENDING),
        settled.due_at,
        outcome.phase,
        str(outcome.reply or ""),
        "" if settled.state is State.ACCEPTED else str(outcome),
        int(settled.state is State.IN_DOUBT),
        settled.recipient_id,
    )


assert {"invalid", "duplicate"} == FILTERED, "the schema's unique index names these states"
