"""The statements by which `rates` reserves what may go, and what the database's clock says."""

import time
from collections.abc import Sequence
from operator import itemgetter

from bulkmail.ledger.postgres.connection import PostgresDatabase
from bulkmail.model import Rate
from bulkmail.reserved import CLOCK_DRIFT, Slots, Units

NANO = 1_000_000_000
VALID_SECONDS = 5.0
"""For which reserved units of a quota may be used, and …"""
GRACE_SECONDS = 120.0
"""… for so many more its worker may tell how many it used, and record what they were used for."""
FARTHEST_SECONDS = 10.0
"""Slots that are so far ahead are not reserved: some hundred workers come before this one, or the
database's clock was put back."""
LATE = 0.5
"""The part of the tolerance that a slot may lie back when it is reserved."""
EXACT_SECONDS = 0.002
"""If the database's time is known less exactly, it is asked for."""
_FORGET = """
DELETE FROM slot WHERE (account, domain, period) IN (
    SELECT account, domain, period FROM slot
    WHERE account = ? AND next_at < nanoseconds() - 3600 * 1000000000::bigint
    FOR UPDATE SKIP LOCKED
)
"""
"""Domains that nobody has written to for an hour say nothing any more."""


class DatabaseClock:
    """What this process's monotonic clock says about the database's: how far that is ahead."""

    def __init__(self) -> None:
        self._least = float("-inf")
        self._most = float("inf")
        self._seen_at = 0.0
        self.times_put = 0
        """How often it was seen not to have gone on as it did."""

    def saw(self, asked: float, read: float, answered: float) -> None:
        """The database read its clock as `read` between two times of ours."""
        drift = (answered - self._seen_at) * CLOCK_DRIFT
        least = max(self._least - drift, read - answered)
        most = min(self._most + drift, read - asked)
        if least > most:
            self.times_put += 1
            least, most = read - answered, read - asked
        self._least, self._most, self._seen_at = least, most, answered

    def is_exact(self, now: float) -> bool:
        drift = (now - self._seen_at) * CLOCK_DRIFT
        return self._most - self._least + 2 * drift <= EXACT_SECONDS

    def after(self, at: float) -> float:
        """Our time at which it is surely `at` or later there."""
        ours = at - self._least
        return ours + max(0.0, ours - self._seen_at) * CLOCK_DRIFT

    def before(self, at: float) -> float:
        """Our time at which it is surely not later than `at` there."""
        ours = at - self._most
        return ours - max(0.0, ours - self._seen_at) * CLOCK_DRIFT


class Reservations:
    """The database's side, for one thread. Times that it gives are monotonic ones of ours."""

    def __init__(self, url: str, account: str, worker_id: int) -> None:
        self._url = url
        self._account = account
        self._worker_id = worker_id
        self._db: PostgresDatabase | None = None
        self._clock = DatabaseClock()

    def slots(
        self, asked: Sequence[tuple[str, Slots, int]]
    ) -> tuple[list[tuple[float, float, int]], int]:
        """So many for each domain: what `Slots.add` is told, in the same order; and how often the
        database's clock was put so far.
        """
        db = self._opened()
        self._look_at_clock()
        asked_at = time.monotonic()
        rows = db.execute(
            "SELECT * FROM reserve_slots(?, ?, ?, ?, ?, ?)",
            (
                self._account,
                [domain for domain, _, _ in asked],
                [slots.rate.period_seconds for _, slots, _ in asked],
                [slots.interval_ns * number for _, slots, number in asked],
                [int(FARTHEST_SECONDS * NANO) if slots.is_dense else 0 for _, slots, _ in asked],
                [int(slots.tolerance * LATE * NANO) for _, slots, _ in asked],
            ),
        ).fetchall()
        self._saw(asked_at, rows[-1][-1])
        answers = []
        for (_, is_reserved, first, _), (_, slots, number) in zip(sorted(rows), asked, strict=True):
            at = first / NANO
            last = self._clock.before(at + slots.tolerance)
            answers.append((self._clock.after(at), last, number if is_reserved else 0))
        return answers, self._clock.times_put

    def units(
        self, rates: Sequence[Rate], asked: Sequence[tuple[str, Units, int]]
    ) -> list[tuple[int, float, int, float]]:
        """Up to so many for each domain, of these quotas: what `Units.add` is told, in the same
        order.
        """
        db = self._opened()
        asked_at = time.monotonic()
        rows = db.execute(
            "SELECT * FROM reserve_units_of_each(?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
            (
                self._account,
                [domain for domain, _, _ in asked],
                [number for _, _, number in asked],
                [units.reservation for _, units, _ in asked],
                [units.used for _, units, _ in asked],
                self._worker_id,
                time.time(),
                [int(rate.period_seconds * (1 + CLOCK_DRIFT) * NANO) for rate in rates],
                [rate.limit for rate in rates],
                int(VALID_SECONDS * NANO),
                int(GRACE_SECONDS * NANO),
            ),
        ).fetchall()
        self._saw(asked_at, rows[-1][-1])
        answers = []
        for _, reservation, number, free_at, read in sorted(rows, key=itemgetter(0)):
            until = self._clock.before(read / NANO + VALID_SECONDS)
            none_until = self._clock.after((free_at or read) / NANO)
            answers.append((reservation or 0, until, number, none_until))
        return answers

    def break_off(self) -> None:
        if self._db is not None:
            self._db.break_off()

    def close(self) -> None:
        if self._db is not None:
            self._db.close()

    def _opened(self) -> PostgresDatabase:
        if self._db is None:
            self._db = PostgresDatabase(self._url)
            self._db.execute(_FORGET, (self._account,))
        return self._db

    def _look_at_clock(self) -> None:
        if not self._clock.is_exact(asked_at := time.monotonic()):
            [read] = self._opened().execute("SELECT nanoseconds()").fetchone()
            self._saw(asked_at, read)

    def _saw(self, asked_at: float, read: int) -> None:
        self._clock.saw(asked_at, read / NANO, time.monotonic())
