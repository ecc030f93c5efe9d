"""Who is next, and when: claims from the ledger in portions, grants from the rates."""

import asyncio
import time
from collections import deque
from dataclasses import dataclass
from datetime import datetime

from bulkmail.delivery.seams import Ledger, Limits, Stop
from bulkmail.errors import ExitStatus
from bulkmail.model import Recipient
from bulkmail.pace import SPACED_UP_TO_SECONDS, Pace

FRESH_SECONDS = 0.5
"""How long a grant may wait for its session."""

CLAIM = 500
"""Recipients read from the ledger at once."""


@dataclass(frozen=True, slots=True)
class Granted:
    """A recipient whose message the rates let go at `at`, seconds since the epoch."""

    recipient: Recipient
    at: float


class Halt:
    """That the run is to end, and why. Workers wait through it, so that they hear it at once."""

    def __init__(self) -> None:
        self.stop: Stop | None = None
        self._event = asyncio.Event()

    def __bool__(self) -> bool:
        return self.stop is not None

    def call(self, stop: Stop) -> None:
        """The first reason stays."""
        self.stop = self.stop or stop
        self._event.set()

    async def wait(self) -> None:
        await self._event.wait()

    async def within(self, seconds: float) -> bool:
        """Waits; True as soon as the run is to end, False when the time is over."""
        if seconds > 0 and not self:
            try:
                await asyncio.wait_for(self._event.wait(), seconds)
            except TimeoutError:
                return False
        return bool(self)


class Desk:
    """Hands out each recipient once, unless released. `pace` counts in the loop's time."""

    def __init__(self, ledger: Ledger, pace: Pace, limits: Limits, halt: Halt) -> None:
        self.ahead = False
        """Whether the last one handed out did not have to wait: more sessions would be used."""
        self.closed: Stop | None = None
        """Why no one else is handed out in this run, though some are left."""
        self._ledger = ledger
        self._pace = pace
        self._limits = limits
        self._halt = halt
        self._claimed: deque[Recipient] = deque()
        self._all_claimed = False
        self._claiming = asyncio.Lock()
        self._handed_out = 0

    @property
    def is_empty(self) -> bool:
        return self._all_claimed and not self._claimed

    async def next(self) -> Granted | None:
        """The next recipient, as soon as it may go. None: nobody is left, or for this run."""
        recipient = await self._claim()
        if recipient is None:
            return None
        self._handed_out += 1
        wait = self._grant()
        if wait is None or await self._halt.within(wait):
            self.release(recipient)
            return None
        return Granted(recipient, time.time())

    async def fresh(self, granted: Granted) -> Granted | None:
        """`granted`, or a new grant if that one lies back too far to be used now.

        Messages whose connection took long would else leave on top of a later window's. A grant
        that would take long itself is not worth that: seconds are nothing to an hour's rate.
        """
        now = asyncio.get_running_loop().time()
        wait = self._pace.earliest(now) - now
        if time.time() - granted.at <= FRESH_SECONDS or wait > SPACED_UP_TO_SECONDS:
            return granted
        self._pace.grant(now + wait)
        if await self._halt.within(wait):
            self.release(granted.recipient)
            return None
        return Granted(granted.recipient, time.time())

    def release(self, recipient: Recipient, *, last: bool = False) -> None:
        """Takes back one that was handed out and not sent to, as the next or as the last."""
        self._handed_out -= 1
        if last:
            self._claimed.append(recipient)
        else:
            self._claimed.appendleft(recipient)

    def _grant(self) -> float | None:
        """Takes the next grant of the rates: seconds until then, or None if that is too far."""
        now = asyncio.get_running_loop().time()
        at = self._pace.earliest(now)
        if at - now > self._limits.wait:
            self.closed = come_back("the rate allows the next message", time.time() + at - now)
            return None
        self._pace.grant(at)
        self.ahead = at <= now
        return at - now

    async def _claim(self) -> Recipient | None:
        async with self._claiming:
            if not self._claimed and not self._all_claimed and not self._halt:
                self._claimed.extend(await self._ledger.claim(CLAIM))
                self._all_claimed = not self._claimed
        if self._halt or not self._claimed:
            return None
        if self._handed_out == self._limits.messages:
            reason = f"limited to {self._limits.messages:,} in this run"
            self.closed = Stop(ExitStatus.CONTINUE, reason)
            return None
        return self._claimed.popleft()


def come_back(why: str, at: float) -> Stop:
    """`why` it cannot go on before `at`: "the rate allows the next message"."""
    when = datetime.fromtimestamp(at).astimezone()
    return Stop(ExitStatus.CONTINUE, f"{why} on {when:%Y-%m-%d at %H:%M %Z}", at)
