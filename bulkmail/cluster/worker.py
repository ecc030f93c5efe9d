"""One process that sends what is open, under one lease after another."""

import asyncio
import time
from contextlib import suppress

from bulkmail.cluster.tenure import Charge, Tenure
from bulkmail.delivery import Stop
from bulkmail.ledger.postgres.connection import ConnectionLostError
from bulkmail.ledger.postgres.shards import Late, LeaseLostError

FIRST_PAUSE, LONGEST_PAUSE = 1.0, 30.0
"""Before the database is tried again, doubling."""
LAST_SECONDS = 30.0
"""For so long a worker that is to end tries to record what it heard; then that is in doubt."""


class Worker:
    """To be made inside a running event loop."""

    def __init__(self, charge: Charge) -> None:
        self._charge = charge
        self._late: list[Late] = []
        self._stop: Stop | None = None
        self._told = asyncio.Event()
        self._until = 0.0
        self._tenure: Tenure | None = None

    async def run(self) -> Stop | None:
        """Sends until it is told to stop, or something stops it: then why. None: nothing is open,
        and it was to end then.
        """
        pause = FIRST_PAUSE / 2
        while True:
            began = time.monotonic()
            try:
                self._tenure = Tenure(self._charge, self._late)
                async with self._tenure:
                    if self._stop is not None:
                        self._tenure.end(self._stop)
                    await self._tenure.hold()
                return self._tenure.stop
            except (ConnectionLostError, LeaseLostError) as error:
                self._charge.observer.said(f"{error}; begins anew")
            if self._stop is not None and (not self._late or time.monotonic() > self._until):
                if self._late:
                    number = len(self._late)
                    self._charge.observer.said(f"{number} outcomes could not be recorded")
                return self._stop
            lasted = time.monotonic() - began
            pause = FIRST_PAUSE if lasted > LONGEST_PAUSE else min(LONGEST_PAUSE, 2 * pause)
            await asyncio.sleep(FIRST_PAUSE) if self._stop else await self._within(pause)

    def stop(self, stop: Stop) -> None:
        """Takes nothing new; what is under way is waited for, for a bounded time."""
        self._stop = self._stop or stop
        self._until = time.monotonic() + LAST_SECONDS
        self._told.set()
        if self._tenure is not None:
            self._tenure.end(stop)

    def abort(self, cause: str) -> None:
        """Waits for nothing: what may have been taken is in doubt, the rest is released."""
        if self._tenure is not None:
            self._tenure.abort(cause)

    async def _within(self, seconds: float) -> None:
        with suppress(TimeoutError):
            await asyncio.wait_for(self._told.wait(), seconds)
