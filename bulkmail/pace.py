"""When the next message may go. Pure: `now` is handed in, as seconds of any clock that never jumps.

A rate of N per period promises that no window of that length holds more than N grants, whatever
the number of connections. Rates per second or minute are also spaced evenly, which is what
servers measure; rates per hour or day are quotas and may be used up at once.

A `Pace` counts for one process; that of one among many is in `bulkmail.reserved`.
"""

import math
from collections import deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from bulkmail.model import Rate

SPACED_UP_TO_SECONDS = 60
RESOLUTION = 1000
"""Grants closer together than 1/RESOLUTION of the period are remembered as one, at the later time:
memory stays bounded for any limit, and the promise holds."""

CATCH_UP = 0.03
"""The part of a spaced rate's period by which a late grant may be made up for. A timer that wakes
late would otherwise lose throughput for good."""

RECENT = 20
RECENT_SECONDS = 60.0
"""So many messages, and none from before that, tell how fast a server takes them."""
FIRST_HOLD = 0.25
"""Seconds for which nothing goes after a complaint; doubled while nothing is accepted, …"""
LONGEST_HOLD = 600.0
"""… up to this."""
SHORTEST_INTERVAL = 0.001
LONGEST_INTERVAL = 10.0
"""Seconds between messages after complaints."""
EASING = 0.98
"""What an acceptance makes of such an interval."""

SOME_DOMAINS = 1000
"""So many domains are remembered before those are looked for that need not be."""


@dataclass(slots=True)
class _Grants:
    """Grants close together: `number` of them between `first` and `last`."""

    first: float
    last: float
    number: int


class Limit(Protocol):
    """One rate that a message must be granted by."""

    def earliest(self, now: float, /) -> float: ...
    def grant(self, at: float, number: int = 1, /) -> None: ...
    def is_spent(self, now: float, /) -> bool: ...


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


class _Brake:
    """What a server's complaints make of the speed: a short hold, then as fast as it has taken the
    last messages, holds included, then ever faster. Holds double while it takes none.
    """

    def __init__(self) -> None:
        self._complaints = 0
        self._since = 0.0
        self._held_until = float("-inf")
        self._interval = 0.0
        self._last = float("-inf")
        self._taken: deque[float] = deque(maxlen=RECENT)
        """When it took the last messages."""

    def is_held(self, now: float) -> bool:
        return now < self._held_until

    def is_spent(self, now: float) -> bool:
        return not (self._interval or self._complaints or self.is_held(now))

    def earliest(self, now: float) -> float:
        return max(now, self._held_until, self._last + self._interval)

    def grant(self, at: float) -> None:
        self._last = at

    def complained(self, now: float) -> tuple[int, float]:
        """Complaints within a hold are about what left before it."""
        if not self.is_held(now):
            if not self._complaints:
                self._since = now
                self._slow_down(now)
            hold = FIRST_HOLD * 2.0 ** min(self._complaints, 30)
            self._held_until = now + min(LONGEST_HOLD, hold)
            self._complaints += 1
        return self._complaints, now - self._since

    def _slow_down(self, now: float) -> None:
        taken = [at for at in self._taken if at > now - RECENT_SECONDS]
        if len(taken) > 1:
            seen = (now - taken[0]) / len(taken)
            self._interval = min(LONGEST_INTERVAL, max(SHORTEST_INTERVAL, seen))

    def accepted(self, now: float) -> None:
        """Also within a hold: it takes some, so the next complaint is about how fast they come."""
        self._taken.append(now)
        self._complaints = 0
        if not self.is_held(now):
            self._interval *= EASING
            if self._interval < SHORTEST_INTERVAL:
                self._interval = 0.0


class Pace:
    """All the rates that hold at once, and how fast the server can bear it. No rates: no limit."""

    def __init__(self, rates: Iterable[Rate]) -> None:
        self._brake = _Brake()
        self._windows: Sequence[Limit] = [_Window(rate) for rate in rates]

    used_within_seconds = math.inf
    """A grant that nothing is recorded of may not be used later than that."""

    def complained(self, now: float) -> tuple[int, float]:
        """The server said that it is too much: nothing goes for a while, then less than before.

        How often, and since how many seconds, it says so and takes nothing.
        """
        return self._brake.complained(now)

    def accepted(self, now: float) -> None:
        """The server took a message: it can bear a little more again."""
        self._brake.accepted(now)

    def is_held(self, now: float) -> bool:
        """Whether nothing may go because the server complained, not even what was granted."""
        return self._brake.is_held(now)

    def recall(self, grants: Iterable[tuple[float, int]]) -> None:
        """Counts grants (time, number) made before, oldest first."""
        for at, number in grants:
            for window in self._windows:
                window.grant(at, number)

    async def refill(self) -> None:
        """Reserves what is needed to know when one more message may go, where anything is. Raises
        LedgerError if that fails.
        """

    def may_go(self, now: float) -> bool:
        """Whether one more message may go now."""
        return self.earliest(now) <= now

    def earliest(self, now: float) -> float:
        """The earliest time, not before `now`, at which one more may go, as far as is known."""
        at = self._brake.earliest(now)
        while (later := max((w.earliest(at) for w in self._windows), default=at)) > at:
            at = later
        return at

    def grant(self, at: float) -> None:
        """Counts a message that goes at `at`, when it may."""
        self._brake.grant(at)
        for window in self._windows:
            window.grant(at)

    def is_spent(self, now: float) -> bool:
        """Whether a new `Pace` with these rates would say the same from `now` on."""
        return self._brake.is_spent(now) and all(w.is_spent(now) for w in self._windows)


EVERY_OTHER = "*"
"""Stands for each domain that has no rates of its own."""


def rates_of(domain: str, rates: Mapping[str, Sequence[Rate]]) -> Sequence[Rate]:
    """Those of `domain` among rates by domain."""
    return rates[domain] if domain in rates else rates.get(EVERY_OTHER, ())


Coming = Callable[[int], Iterable[str]]
"""The domains of up to so many recipients who are likely to be next, in their order."""


def nobody(number: int) -> Iterable[str]:
    """Those who come after the last one."""
    return ()


class DomainPaces:
    """A `Pace` for each domain of recipients that needs one. Domains are in A-labels, lower case.

    Remembers the domains that were granted something within the periods of their rates, or that a
    server complained about, no others.
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

    def is_recorded(self, domain: str) -> bool:
        """Whether the ledger is to know what was granted to it."""
        return self.has_rates(domain)

    async def refill(self, domain: str, coming: Coming = nobody) -> None:
        """See `Pace`. For those who are `coming` what they need may be reserved with it."""

    def may_go(self, domain: str, now: float) -> bool:
        """Whether one more message to `domain` may go now."""
        pace = self._paces.get(domain)
        return pace is None or pace.may_go(now)

    def earliest(self, domain: str, now: float) -> float:
        """The earliest time, not before `now`, at which one more message to `domain` may go."""
        pace = self._paces.get(domain)
        return now if pace is None else pace.earliest(now)

    def complained(self, domain: str, now: float) -> int:
        """The server said that it is too much for this domain; how often, see `Pace`."""
        return self._pace(domain).complained(now)[0]

    def accepted(self, domain: str, now: float) -> None:
        """The server took a message to `domain`."""
        if (pace := self._paces.get(domain)) is not None:
            pace.accepted(now)

    def is_held(self, domain: str, now: float) -> bool:
        pace = self._paces.get(domain)
        return pace is not None and pace.is_held(now)

    def grant(self, domain: str, at: float) -> None:
        """Counts a message to `domain` that goes at `at`."""
        if domain in self._paces or self.has_rates(domain):
            self._pace(domain).grant(at)
            if len(self._paces) > self._looked_through_at:
                self._forget_spent(at)

    def _pace(self, domain: str) -> Pace:
        pace = self._paces.get(domain)
        if pace is None:
            pace = self._paces[domain] = self._made(domain, rates_of(domain, self._rates))
        return pace

    def _made(self, domain: str, rates: Sequence[Rate]) -> Pace:
        return Pace(rates)

    def _forget_spent(self, now: float) -> None:
        self._paces = {d: pace for d, pace in self._paces.items() if not pace.is_spent(now)}
        self._looked_through_at = max(SOME_DOMAINS, 2 * len(self._paces))
