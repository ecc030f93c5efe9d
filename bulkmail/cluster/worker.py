"""One process that sends what is open, under one lease after another."""

import asyncio
import logging
from contextlib import suppress

from bulkmail.cluster.charge import Charge
from bulkmail.cluster.observing import Event
from bulkmail.cluster.tenure import Tenure
from bulkmail.delivery import Stop
from bulkmail.errors import LedgerError
from bulkmail.ledger.postgres.connection import ConnectionLostError
from bulkmail.ledger.postgres.shards import Late, LeaseLostError

FIRST_PAUSE, LONGEST_PAUSE = 1.0, 5.0
"""Before the database is tried again, doubling as long as it cannot be reached."""


class Worker:
    """To be made inside a running event loop."""

    def __init__(self, charge: Charge) -> None:
        self._charge = charge
        self._late: list[Late] = []
        self._stop: Stop | None = None
        self._told = asyncio.Event()
        self._aborted = False
        self._lost_for = ""
        self._tenure: Tenure | None = None

    async def run(self) -> Stop | None:
        """Sends until it is told to stop, or something stops it: then why. None: nothing is open,
        and it was to end then.
        """
        pause = FIRST_PAUSE
        while True:
            try:
                async with Tenure(self._charge, self._late) as tenure:
                    self._tenure = tenure
                    pause, self._lost_for = FIRST_PAUSE, ""
                    if self._stop is not None:
                        tenure.end(self._stop)
                    await tenure.hold()
                if not self._late or self._aborted:
                    return tenure.stop
                self._stop = self._stop or tenure.stop
            except (ConnectionLostError, LeaseLostError) as error:
                self._lost(error)
            if self._told.is_set() and (self._aborted or not self._late):
                return self._stop
            await self._within(pause)
            pause = min(LONGEST_PAUSE, 2 * pause)

    def stop(self, stop: Stop) -> None:
        """Takes nothing new; what is under way is waited for, for a bounded time."""
        self._stop = self._stop or stop
        self._told.set()
        if self._tenure is not None:
            self._tenure.end(stop)

    def abort(self, cause: str) -> None:
        """Waits for nothing: what may have been taken is in doubt, the rest is released."""
        self._aborted = True
        if self._tenure is not None:
            self._tenure.abort(cause)

    def _lost(self, error: LedgerError) -> None:
        """Says so, once if it goes on."""
        self._charge.vitals.lost(str(error))
        if str(error) == self._lost_for:
            return
        self._lost_for = str(error)
        name = "lease_lost" if isinstance(error, LeaseLostError) else "connection_lost"
        number = len(self._late)
        late = f", with {number} outcome{'s' * (number > 1)} to record" if number else ""
        why = " ".join(str(error).split())
        told = Event(name, f"{why}; begins anew{late}", level=logging.WARNING)
        self._charge.observer.happened(told)

    async def _within(self, seconds: float) -> None:
        """Waits, also where it was told to stop and only has to record what it heard."""
        if self._told.is_set():
            await asyncio.sleep(FIRST_PAUSE)
            return
        with suppress(TimeoutError):
            await asyncio.wait_for(self._told.wait(), seconds)
