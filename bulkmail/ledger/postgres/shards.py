"""What a worker does in the database: it holds a lease, takes shards under it, and records."""

import time
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from bulkmail.errors import LedgerError
from bulkmail.ledger.claims import SELECT_RECIPIENT, recipient
from bulkmail.ledger.outcomes import grant_rows, in_kinds
from bulkmail.ledger.postgres.connection import LockedError, PostgresDatabase
from bulkmail.ledger.records import CampaignRecord
from bulkmail.ledger.view import find_campaign, marks
from bulkmail.model import Intent, Recipient, Settlement, State

CLEARED_AT_ONCE = 10_000

_LOST, _STRAYED = "BM001", "BM002"
"""What the function `record` raises, see the migration."""

_TAKE = """
UPDATE shard SET epoch = epoch + 1, worker_id = ?
WHERE id = ? AND NOT EXISTS (
    SELECT 1 FROM worker
    WHERE worker.id = shard.worker_id AND lease_until > clock_timestamp())
AND EXISTS (SELECT 1 FROM worker WHERE worker.id = ? AND lease_until > clock_timestamp())
RETURNING campaign_id, epoch, first_id, last_id, people
"""

_RANGE = "campaign_id = ? AND id BETWEEN ? AND ?"
_UNSENT = f"{_RANGE} AND state IN ('pending', 'deferred')"
_UNSETTLED = f"{_RANGE} AND state IN ('pending', 'deferred', 'in_flight')"

_RETRIES = """
SELECT min(due_at), bool_and(state = 'deferred') FROM shard JOIN recipient
    ON recipient.campaign_id = shard.campaign_id AND recipient.id BETWEEN first_id AND last_id
WHERE shard.campaign_id = ? AND state IN ('pending', 'deferred', 'in_flight')
"""

_ELSEWHERE = """
SELECT CASE WHEN EXISTS (
    SELECT 1 FROM shard JOIN worker ON worker.id = worker_id
    WHERE worker.id <> ? AND lease_until > clock_timestamp() AND campaign_id = ?
) THEN 0 ELSE coalesce(min(due_at), 'infinity') END
FROM shard JOIN recipient
    ON recipient.campaign_id = shard.campaign_id AND recipient.id BETWEEN first_id AND last_id
WHERE worker_id IS DISTINCT FROM ? AND shard.campaign_id = ?
    AND state IN ('pending', 'deferred') AND domain <> ALL(?)
"""

_RECORD = f"SELECT record({marks(range(23))})"


class LeaseLostError(LedgerError):
    """This worker stood still for too long, and others may have its shards."""


class ShardBusyError(LedgerError):
    """A shard cannot be taken now; later it may be."""


@dataclass(frozen=True, slots=True, eq=False)
class Shard:
    """A range of a campaign's recipients that this worker took, and who of them is unsent; `plan`
    is that by which they are to be sent to.

    `in_doubt` counts those who were in flight with the worker that had it before.
    """

    id: int
    campaign_id: int
    plan: int
    epoch: int
    first_id: int
    last_id: int
    recipients: list[Recipient]
    in_doubt: int


class Handed(NamedTuple):
    """A campaign that is to be sent: its `edition` is what was planned, with this content."""

    record: CampaignRecord
    plan: int
    content_id: int
    edition: str


class Late(NamedTuple):
    """An outcome that could not be recorded when it was heard, of the attempt of `begun_at`."""

    settlement: Settlement
    begun_at: float


class Lease:
    """That of a worker, called `name`, which ends `seconds` after it was last renewed. `has_files`:
    it can send attachments for one person each.

    Raises LedgerError; ConnectionLostError where the server is gone.
    """

    def __init__(
        self, db: PostgresDatabase, name: str, seconds: float, *, has_files: bool = False
    ) -> None:
        self._db = db
        self._seconds = seconds
        [self.worker_id] = db.execute(
            "INSERT INTO worker (name, started_at, has_files, lease_until)"
            " VALUES (?, ?, ?, clock_timestamp() + make_interval(secs => ?)) RETURNING id",
            (name, time.time(), has_files, seconds),
        ).fetchone()

    def renew(self) -> None:
        """Raises LeaseLostError if it had ended."""
        renewed = self._db.execute(
            "UPDATE worker SET lease_until = clock_timestamp() + make_interval(secs => ?)"
            " WHERE id = ? AND lease_until > clock_timestamp()",
            (self._seconds, self.worker_id),
        ).rowcount
        if not renewed:
            raise LeaseLostError(f"{self._db.name}: the lease was not renewed in time")

    def end(self) -> None:
        """Others may take at once what this worker has; nothing more is told of it."""
        self._db.execute("DELETE FROM worker WHERE id = ?", (self.worker_id,))

    def tell(self, left_for: str) -> None:
        """Which campaigns it leaves to others, and why; a line each."""
        self._db.execute("UPDATE worker SET left_for = ? WHERE id = ?", (left_for, self.worker_id))

    def clear_away(self) -> bool:
        """A portion of what says nothing any more: workers that are long gone, and old grants (no
        quota's period is longer than a day). Whether there may be more.
        """
        self._db.execute(
            "DELETE FROM worker WHERE lease_until < clock_timestamp() - interval '1 day'"
        )
        number: int = self._db.execute(
            "DELETE FROM granted WHERE ctid = ANY(ARRAY("
            "SELECT ctid FROM granted WHERE second < ? LIMIT ? FOR UPDATE SKIP LOCKED))",
            (int(time.time()) - 2 * 86400, CLEARED_AT_ONCE),
        ).rowcount
        return number == CLEARED_AT_ONCE

    def open_campaigns(self) -> dict[int, int]:
        """Those that may be sent now, each with the plan by which."""
        return dict(self._db.execute("SELECT id, plan FROM campaign WHERE is_open ORDER BY id"))

    def left(self, campaign_id: int) -> tuple[int, int]:
        """How many people are left of its plan, and how many living workers have some of them."""
        people, workers = self._db.execute(
            "SELECT coalesce(sum(people), 0), count(DISTINCT worker.id) FROM shard LEFT JOIN worker"
            " ON worker.id = worker_id AND lease_until > clock_timestamp() WHERE campaign_id = ?",
            (campaign_id,),
        ).fetchone()
        return int(people), int(workers)

    def next_retry_at(self, campaign_id: int) -> float | None:
        """When the first retry is due, if that is all that is left of its plan and nobody has a
        shard of it; in seconds since the epoch.
        """
        [held] = self._db.execute(
            "SELECT EXISTS (SELECT 1 FROM shard JOIN worker ON worker.id = worker_id"
            " WHERE campaign_id = ? AND lease_until > clock_timestamp())",
            (campaign_id,),
        ).fetchone()
        if held:
            return None
        at, is_all = self._db.execute(_RETRIES, (campaign_id,)).fetchone()
        return float(at) if is_all else None

    def next_elsewhere(self, campaign_id: int, domains: Collection[str]) -> float:
        """When the first one of its plan whom this worker does not have is to be sent to, in
        seconds since the epoch: 0 if that is now, or another living worker has a shard; infinity if
        there are only people of `domains`.
        """
        worker = self.worker_id
        [at] = self._db.execute(
            _ELSEWHERE, (worker, campaign_id, worker, campaign_id, list(domains))
        ).fetchone()
        return float(at)

    # -- shards ----------------------------------------------------------------------------------

    def take(self, shard_id: int) -> Shard | None:
        """The shard, with whoever is unsent there; None if there is nothing to send any more.

        Whoever was in flight with its last worker is in doubt from now on. Raises ShardBusyError
        while a living worker has it, or its campaign is being planned, or this lease has ended.
        """
        try:
            with self._db.transaction():
                return self._take(shard_id)
        except LockedError as error:
            raise ShardBusyError(str(error)) from None

    def _take(self, shard_id: int) -> Shard | None:
        found = self._db.execute(
            "SELECT is_open, plan FROM campaign"
            " WHERE id = (SELECT campaign_id FROM shard WHERE id = ?) FOR KEY SHARE NOWAIT",
            (shard_id,),
        ).fetchone()
        if found is None or not found[0]:
            return None
        taken = self._db.execute(_TAKE, (self.worker_id, shard_id, self.worker_id)).fetchone()
        if taken is None:
            raise ShardBusyError(f"{self._db.name}: shard {shard_id} is another worker's to send")
        campaign_id, epoch, first_id, last_id, left = taken
        where = (campaign_id, first_id, last_id)
        values = (*where, time.time())
        [in_doubt] = self._db.execute("SELECT recover(?, ?, ?, ?)", values).fetchone()
        rows = self._db.execute(f"{SELECT_RECIPIENT} WHERE {_UNSENT} ORDER BY id", where)
        people = [recipient(row) for row in rows]
        if len(people) != left:  # some are in doubt now, or are known of late
            self._db.execute("UPDATE shard SET people = ? WHERE id = ?", (len(people), shard_id))
        return Shard(shard_id, campaign_id, found[1], epoch, first_id, last_id, people, in_doubt)

    def finish(self, shard: Shard, now: float) -> bool:
        """All there are settled, and the campaign's run has ended if this was the last; False if
        somebody is not, or it is another worker's by now: it is to be handed out again.
        """
        with self._db.transaction():
            self._db.execute(
                "SELECT 1 FROM campaign WHERE id = ? FOR NO KEY UPDATE", (shard.campaign_id,)
            )
            # First, since of what came late only the next statement sees all; see `settle_late`.
            self._db.execute("SELECT 1 FROM shard WHERE id = ? FOR UPDATE", (shard.id,))
            where = (shard.campaign_id, shard.first_id, shard.last_id)
            finished = self._db.execute(
                "DELETE FROM shard WHERE id = ? AND epoch = ? AND NOT EXISTS"
                f" (SELECT 1 FROM recipient WHERE {_UNSETTLED})",
                (shard.id, shard.epoch, *where),
            ).rowcount
            if not finished:
                self.hand_back(shard)
                return False
            self._end_if_done(shard.campaign_id, now)
        return True

    def unattended(self) -> dict[int, list[int]]:
        """Shards that could be sent and that no living worker has, some of them, by campaign."""
        found = self._db.execute(
            "SELECT campaign_id, array_agg(id) FROM ("
            "SELECT campaign_id, shard.id FROM shard JOIN campaign ON campaign.id = campaign_id"
            " WHERE is_open AND NOT EXISTS (SELECT 1 FROM worker"
            " WHERE worker.id = shard.worker_id AND lease_until > clock_timestamp())"
            " ORDER BY random() LIMIT 1000) AS found GROUP BY campaign_id"
        )
        return dict(found.fetchall())

    def hand_back(self, shard: Shard) -> None:
        """Another worker may take it."""
        self._db.execute(
            "UPDATE shard SET worker_id = NULL WHERE id = ? AND epoch = ?", (shard.id, shard.epoch)
        )

    def _end_if_done(self, campaign_id: int, now: float) -> None:
        ended = self._db.execute(
            "UPDATE campaign SET is_open = false"
            " WHERE id = ? AND NOT EXISTS (SELECT 1 FROM shard WHERE campaign_id = campaign.id)",
            (campaign_id,),
        ).rowcount
        if ended:
            self._db.execute(
                "UPDATE run SET ended_at = ? WHERE campaign_id = ? AND ended_at IS NULL",
                (now, campaign_id),
            )

    def stop_campaign(self, campaign_id: int, plan: int, why: str, now: float) -> None:
        """Ends it for all workers, unless it was planned anew since: what was said concerns the
        campaign, not one of them.
        """
        with self._db.transaction():
            stopped = self._db.execute(
                "UPDATE campaign SET is_open = false, stopped_for = ?"
                " WHERE id = ? AND is_open AND plan = ?",
                (why, campaign_id, plan),
            ).rowcount
            if stopped:
                self._db.execute(
                    "UPDATE run SET ended_at = ? WHERE campaign_id = ? AND ended_at IS NULL",
                    (now, campaign_id),
                )


def handed_out(db: PostgresDatabase, campaign_id: int) -> Handed:
    """What was planned last for it."""
    name, plan, content_id, edition = db.execute(
        "SELECT name, plan, content_id, edition FROM campaign WHERE id = ?", (campaign_id,)
    ).fetchone()
    record = find_campaign(db, name)
    assert record is not None
    return Handed(record, plan, content_id, edition)


def shared_file(db: PostgresDatabase, digest: str) -> bytes:
    """Raises LookupError."""
    found = db.execute("SELECT content FROM shared_file WHERE digest = ?", (digest,)).fetchone()
    if found is None:
        raise LookupError(digest)
    return bytes(found[0])


def record(
    db: PostgresDatabase,
    worker_id: int,
    shards: Mapping[Shard, int],
    account: str,
    content_id: int,
    changes: Sequence[Intent | Settlement],
) -> None:
    """Commits all of `changes` to recipients of `shards`, or none; so many of each have come to
    their end with them. See `outcomes.record`.

    Raises LeaseLostError if one of these shards is another worker's by now, or a recipient is not
    in the state that this worker left them in.
    """
    accepted, settled, intents = in_kinds(changes)
    held = list(shards)
    grants = list(grant_rows(account, intents))
    values: list[Any] = [
        worker_id,
        [shard.id for shard in held],
        [shard.epoch for shard in held],
        [shards[shard] for shard in held],
        [s.recipient_id for s in accepted],
        [str(s.outcome.reply) for s in accepted],
        *_columns(settled),
        [i.recipient_id for i in intents],
        [i.message_id for i in intents],
        [i.at for i in intents],
        content_id,
        account,
        [domain for _, domain, *_ in grants],
        [second for _, _, second, *_ in grants],
        [at for *_, at, _ in grants],
        [number for *_, number in grants],
    ]
    try:
        db.execute(_RECORD, values)
    except LedgerError as error:
        if getattr(error.__cause__, "sqlstate", None) in (_LOST, _STRAYED):
            raise LeaseLostError(f"{db.name}: a shard was taken over meanwhile") from None
        raise


def settle_late(db: PostgresDatabase, late: Late) -> None:
    """Keeps an outcome, whatever happened meanwhile; again and again, it is one."""
    settled, outcome = late.settlement, late.settlement.outcome
    db.execute(
        "SELECT settle_late(?, ?, ?, ?, ?, ?, ?, ?)",
        (
            settled.recipient_id,
            late.begun_at,
            settled.state,
            settled.due_at,
            outcome.phase,
            str(outcome.reply or ""),
            "" if settled.state is State.ACCEPTED else str(outcome),
            settled.at,
        ),
    )


def _columns(settled: Sequence[Settlement]) -> list[list[Any]]:
    return [
        [s.recipient_id for s in settled],
        [str(s.state) for s in settled],
        [s.due_at for s in settled],
        [str(s.outcome.phase) for s in settled],
        [str(s.outcome.reply or "") for s in settled],
        ["" if s.state is State.ACCEPTED else str(s.outcome) for s in settled],
        [s.of_released for s in settled],
        [s.at for s in settled],
    ]
