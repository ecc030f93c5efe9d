"""When the next message may go. Pure: `now` is handed in, as seconds of any clock that never jumps.

A rate of N per period promises that no window of that length holds more than N grants, whatever
the number of connections. Rates per second or minute are also spaced evenly, which is what
servers measure; rates per hour or day are quotas and may be used up at once.
"""

from collections import deque
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from bulkmail.model import Rate

SPACED_UP_TO_SECONDS = 60
RESOLUTION = 1000
"""Grants closer together than 1/RESOLUTION of the period are remembered as one, at the later time:
memory stays bounded for any limit, and the promise holds."""

CATCH_UP = 0.03
"""The part of a spaced rate's period by which a late grant may be made up for. A timer that wakes
late would otherwise lose throughput for good."""

SOME_DOMAINS = 1000
"""So many domains are remembered before those are looked for that need not be."""


@dataclass(slots=True)
class _Grants:
    """Grants close together: `number` of them between `first` and `last`."""

    first: float
    last: float
    number: int


class _Window:
    """One rate: the grants within its last period, and where even spacing puts the next one."""

    def __init__(self, rate: Rate) -> None:
        self._period_seconds = rate.period_seconds
        self._limit = rate.limit
        self._grants: deque[_Grants] = deque()
        self._count = 0
        self._interval = rate.period_seconds / rate.limit
        self._allowance = rate.period_seconds * CATCH_UP
        self._next = float("-inf")

    def earliest(self, now: float) -> float:
        if self._grants:  # one may already be granted to a message that waits for it
            now = max(now, self._grants[-1].last)
        excess = self._count - self._limit + 1
        free_at = float("-inf")
        for grants in self._grants:
            if excess <= 0:
                break
            excess -= grants.number
            free_at = grants.last + self._period_seconds
        return max(now, free_at, self._next)

    def is_spent(self, now: float) -> bool:
        """Whether nothing granted so far has a say any more."""
        return self._next <= now - self._allowance and (
            not self._grants or self._grants[-1].last + self._period_seconds <= now
        )

    def grant(self, at: float, number: int = 1) -> None:
        while self._grants and self._grants[0].last + self._period_seconds <= at:
            self._count -= self._grants.popleft().number
        newest = self._grants[-1] if self._grants else None
        if newest is not None and at - newest.first <= self._period_seconds / RESOLUTION:
            newest.last = max(newest.last, at)
            newest.number += number
        else:
            self._grants.append(_Grants(at, at, number))
        self._count += number
        if self._period_seconds <= SPACED_UP_TO_SECONDS:
            self._next = max(self._next, at - self._allowance) + self._interval * number


class Pace:
    """All the rates that hold at once. No rates: no limit."""

    def __init__(self, rates: Iterable[Rate]) -> None:
        self._windows: Sequence[_Window] = [_Window(rate) for rate in rates]

    def recall(self, grants: Iterable[tuple[float, int]]) -> None:
        """Counts grants (time, number) made before, oldest first."""
        for at, number in grants:
            for window in self._windows:
                window.grant(at, number)

    def earliest(self, now: float) -> float:
        """The earliest time, not before `now`, at which one more message may go."""
        at = now
        while (later := max((w.earliest(at) for w in self._windows), default=at)) > at:
            at = later
        return at

    def grant(self, at: float) -> None:
        """Counts a message that goes at `at`, which `earliest` gave."""
        for window in self._windows:
            window.grant(at)

    def is_spent(self, now: float) -> bool:
        """Whether a new `Pace` with these rates would say the same from `now` on."""
        return all(window.is_spent(now) for window in self._windows)


EVERY_OTHER = "*"
"""Stands for each domain that has no rates of its own."""


def rates_of(domain: str, rates: Mapping[str, Sequence[Rate]]) -> Sequence[Rate]:
    """Those of `domain` among rates by domain."""
    return rates[domain] if domain in rates else rates.get(EVERY_OTHER, ())


class DomainPaces:
    """A `Pace` for each domain of recipients that has rates. Domains are in A-labels, lower case.

    Remembers the domains that were granted something within the periods of their rates, no others.
    """

    def __init__(self, rates: Mapping[str, Sequence[Rate]]) -> None:
        self._rates = rates
        self._paces: dict[str, Pace] = {}
        self._looked_through_at = SOME_DOMAINS

    def recall(self, domain: str, grants: Iterable[tuple[float, int]]) -> None:
        """Counts grants (time, number) made to `domain` before, oldest first."""
        if self.has_rates(domain):
            self._pace(domain).recall(grants)

    def has_rates(self, domain: str) -> bool:
        return bool(rates_of(domain, self._rates))

    def earliest(self, domain: str, now: float) -> float:
        """The earliest time, not before `now`, at which one more message to `domain` may go."""
        pace = self._paces.get(domain)
        return now if pace is None else pace.earliest(now)

    def grant(self, domain: str, at: float) -> None:
        """Counts a message to `domain` that goes at `at`."""
        if self.has_rates(domain):
            self._pace(domain).grant(at)
            if len(self._paces) > self._looked_through_at:
                self._forget_spent(at)

    def _pace(self, domain: str) -> Pace:
        pace = self._paces.get(domain)
        if pace is None:
            pace = self._paces[domain] = Pace(rates_of(domain, self._rates))
        return pace

    def _forget_spent(self, now: float) -> None:
        self._paces = {d: pace for d, pace in self._paces.items() if not pace.is_spent(now)}
        self._looked_through_at = max(SOME_DOMAINS, 2 * len(self._paces))
