"""One run of one campaign, from the first session to the last."""

import asyncio
import time
from collections.abc import Callable, Collection

from bulkmail.delivery.desk import Desk, Halt, come_back
from bulkmail.delivery.queues import Queues
from bulkmail.delivery.refusals import Refusals
from bulkmail.delivery.seams import Composer, Ledger, Limits, Server, Stop
from bulkmail.delivery.worker import Shared, Worker
from bulkmail.model import Outcome, Recipient, State
from bulkmail.pace import DomainPaces, Pace

LOOK_AT_CLOCK_SECONDS = 10.0


class Delivery:
    """To be made inside a running event loop. `on_settled` is told every outcome and new state,
    `on_waiting` what is waited for and until when, in seconds since the epoch.

    `content_proven`: an earlier run had this content accepted, so a refusal of it is about one
    recipient, not about all.
    """

    def __init__(
        self,
        ledger: Ledger,
        server: Server,
        composer: Composer,
        pace: Pace,
        domain_paces: DomainPaces,
        limits: Limits,
        on_settled: Callable[[Recipient, State, Outcome], None],
        *,
        content_proven: bool = False,
        on_waiting: Callable[[str, float], None] = lambda why, at: None,
    ) -> None:
        self._limits = limits
        self._halt = Halt()
        self._queues = Queues(ledger, domain_paces)
        self._desk = Desk(self._queues, pace, domain_paces, limits, self._halt, on_waiting)
        self._shared = Shared(
            ledger,
            server,
            composer,
            limits,
            self._halt,
            self._desk,
            Refusals(),
            on_settled,
            self._grow,
            content_proven,
        )
        self._tasks: asyncio.TaskGroup | None = None
        self._workers = 0

    @property
    def sessions(self) -> int:
        """So many are open."""
        return len(self._shared.sessions)

    async def run(self) -> Stop | None:
        """Sends until everyone is settled, or something stops it: then what."""
        bound = asyncio.create_task(self._bound_drain())
        try:
            if (too_early := await self._wait_for_start()) is not None:
                return too_early
            while not (self._halt or self._desk.closed or self._desk.is_empty):
                async with asyncio.TaskGroup() as self._tasks:
                    self._grow()
        finally:
            bound.cancel()
        if self._desk.is_empty and not self._halt:
            self._shared.end_undecided()
        return self._halt.stop or (None if self._desk.is_empty else self._desk.closed)

    def stop(self, stop: Stop) -> None:
        """Takes nothing new; what is under way is waited for, for a bounded time."""
        self._halt.call(stop)

    def look_again(self, domains: Collection[str] = ()) -> None:
        """Somebody may be claimed who could not be before; of these domains, if they must wait."""
        self._desk.look_again(domains)

    def next_turn(self) -> tuple[float, str] | None:
        """When the first domain that must wait has its turn, in seconds since the epoch, and why
        not before.
        """
        return self._queues.next_turn()

    def waiting(self) -> list[str]:
        """The domains whose turn is to come."""
        return self._queues.waiting()

    def held_up(self) -> set[int]:
        """The ids of those who were claimed and wait for nothing but their domain's turn."""
        return self._queues.held_up()

    def drop(self, ids: Collection[int]) -> None:
        """Forgets those of them: they are not sent to from here."""
        self._queues.drop(ids)

    def abort(self, cause: str) -> None:
        """Waits for nothing: what may have been taken is in doubt, the rest is released."""
        for session in tuple(self._shared.sessions):
            session.abort(cause)

    async def _wait_for_start(self) -> Stop | None:
        """Looks at the clock on the wall now and then, which also goes on while a laptop sleeps."""
        start_at = self._limits.start_at
        if start_at is None:
            return None
        if start_at - time.time() > self._limits.wait:
            return come_back("it is to start", start_at)
        while (left := start_at - time.time()) > 0:
            if await self._halt.within(min(left, LOOK_AT_CLOCK_SECONDS)):
                break
        return None

    async def _bound_drain(self) -> None:
        await self._halt.wait()
        await asyncio.sleep(self._limits.drain)
        self.abort(f"the server did not answer within {self._limits.drain:g} s of the stop")

    def _grow(self) -> None:
        if self._workers < self._limits.connections and self._tasks is not None:
            self._workers += 1
            self._tasks.create_task(self._work())

    async def _work(self) -> None:
        try:
            await Worker(self._shared).work()
        finally:
            self._workers -= 1
