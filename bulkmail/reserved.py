"""When the next message may go, of a process among many: what was reserved for it beforehand, see
`bulkmail.ledger.postgres.rates`. Pure, as `bulkmail.pace` is.
"""

import math
from collections import deque
from collections.abc import Sequence
from typing import Protocol

from bulkmail.model import Rate
from bulkmail.pace import SPACED_UP_TO_SECONDS, Limit, Pace

SLOT_TOLERANCE = 0.03
"""The part of a spaced rate's period for which a reserved slot may still be used."""
CLOCK_DRIFT = 0.001
"""The part by which two clocks that are being put right may differ in speed: both by 0.05 %, which
is the most for adjtime and ntpd."""
PORTION_SECONDS = 0.03
"""Slots that follow each other within this time are reserved at once, one at least, …"""
PORTIONS_OF_QUOTA = 200
"""… and of a quota this part."""
AHEAD_SECONDS = 0.1
"""How far ahead slots are reserved: some round trips to the database and syncs of its disk."""


class _Portion:
    """How much is reserved at once: as much as is used."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._number = 1
        self._used = 0
        self._missed = 0

    def used(self, number: int = 1) -> None:
        self._used += number

    def missed(self, number: int = 1) -> None:
        self._missed += number

    def next(self) -> int:
        if self._missed > self._used:
            self._number = max(1, self._number // 2)
        elif self._used and not self._missed:
            self._number = min(self._most, self._number * 2)
        self._used = self._missed = 0
        return self._number


class _Reserved(Limit, Protocol):
    """One rate, or more, of which this process uses what it has reserved."""

    def has(self, now: float, /) -> bool: ...
    def is_low(self, now: float, /) -> bool: ...


class Slots:
    """One spaced rate: the times that were reserved for this process."""

    def __init__(self, rate: Rate) -> None:
        self.rate = rate
        self.tolerance = rate.period_seconds * SLOT_TOLERANCE
        """Seconds for which a slot may be used."""
        longest = rate.period_seconds * (1 + CLOCK_DRIFT) + self.tolerance
        self.interval_ns = math.ceil(longest * 1e9 / rate.limit)
        """Between two slots, whoever uses them."""
        self._interval = self.interval_ns / 1e9
        self.is_dense = self._interval < self.tolerance
        """At any time there is one that may be used: they are reserved ahead. Others are only when
        their time has come, since of two rates each could always have one when the other has none.
        """
        self._portion = _Portion(max(1, int(PORTION_SECONDS / self._interval)))
        self._slots: deque[tuple[float, float]] = deque()
        """From when until when each may be used."""
        self._none_until = -math.inf

    def earliest(self, now: float) -> float:
        for first, last in self._slots:
            if now <= last:
                return max(now, first)
        return max(now, self._none_until)

    def has(self, now: float) -> bool:
        """Whether one may be used now."""
        return next((first <= now for first, last in self._slots if now <= last), False)

    def grant(self, at: float, number: int = 1) -> None:
        for _ in range(number):
            self._forfeit(at)
            first, _ = self._slots.popleft()
            assert first <= at, "what goes without a slot is too much"
            self._portion.used()

    def is_spent(self, now: float) -> bool:
        return self.earliest(now) <= now and not self.has(now)

    def is_low(self, now: float) -> bool:
        """Whether more are to be reserved."""
        self._forfeit(now)
        if self._slots:
            return self.is_dense and self._slots[-1][0] < now + AHEAD_SECONDS
        return now >= self._none_until

    def portion(self) -> int:
        """So many at once, now."""
        return self._portion.next()

    def add(self, first: float, last: float, number: int) -> None:
        """So many: the first one may be used from `first` to `last`, the others in turn. If none
        could be reserved, there may be one at `first`.
        """
        next_at = first + number * self._interval
        self._none_until = -math.inf if number and self.is_dense else next_at
        if last >= first:  # else nobody can tell when: the database was too long in answering
            for index in range(number):
                late = index * self._interval
                self._slots.append((first + late, last + late))

    def forget(self) -> None:
        """Drops all, since nobody can tell their times any more."""
        self._slots.clear()
        self._none_until = -math.inf

    def _forfeit(self, now: float) -> None:
        while self._slots and self._slots[0][1] < now:
            self._slots.popleft()
            self._portion.missed()


class Units:
    """All the quotas of a pace: so many messages that may go at once, if they do before long."""

    def __init__(self, rates: Sequence[Rate]) -> None:
        self.rates = tuple(rates)
        self.reservation = 0
        """The last one, and how many of it were used."""
        self.used = 0
        most = min((rate.limit for rate in rates), default=0) // PORTIONS_OF_QUOTA
        self._portion = _Portion(max(1, most))
        self._left = 0
        self._until = -math.inf
        self._none_until = -math.inf

    def earliest(self, now: float) -> float:
        return now if self.has(now) else max(now, self._none_until)

    def has(self, now: float) -> bool:
        """Whether one may be used now."""
        return self._left > 0 and now <= self._until

    def grant(self, at: float, number: int = 1) -> None:
        assert number <= self._left and at <= self._until, "what goes without a unit is too much"
        self._left -= number
        self.used += number
        self._portion.used(number)

    def is_spent(self, now: float) -> bool:
        return self.is_low(now)

    def is_low(self, now: float) -> bool:
        """Whether more are to be reserved: none are left, and there may be some to be had."""
        return not self.has(now) and now >= self._none_until

    def portion(self) -> int:
        """So many at once, now; what is left of those before is dropped."""
        self._portion.missed(self._left)
        self._left = 0
        return self._portion.next()

    def add(self, reservation: int, until: float, number: int, none_until: float) -> None:
        """So many, to be used until then; if none, there may be some at `none_until`."""
        self.reservation, self.used, self._left, self._until = reservation, 0, number, until
        self._none_until = -math.inf if number else none_until


class SlotPace(Pace):
    """All the rates of an account or domain, of which this process uses what it has reserved.

    What goes at a time that `earliest` gave may have to be reserved first, or be later after all.
    """

    def __init__(self, rates: Sequence[Rate]) -> None:
        super().__init__(())
        lowest = {  # of two for the same period that one is enough
            rate.period_seconds: rate for rate in sorted(rates, key=lambda one: -one.limit)
        }
        self.slots = [Slots(r) for p, r in lowest.items() if p <= SPACED_UP_TO_SECONDS]
        quotas = [r for p, r in lowest.items() if p > SPACED_UP_TO_SECONDS]
        self.units = Units(quotas) if quotas else None
        self._reserved: list[_Reserved] = [*self.slots, *([self.units] if self.units else [])]
        self._windows = self._reserved

    def may_go(self, now: float) -> bool:
        return self._brake.earliest(now) <= now and all(one.has(now) for one in self._reserved)

    def earliest(self, now: float) -> float:
        at = self._brake.earliest(now)
        return max([at, *(one.earliest(now) for one in self._reserved)])

    def is_low(self, now: float) -> bool:
        """Whether more should be reserved, so that nothing has to wait for that later."""
        return any(one.is_low(now) for one in self._reserved)
