"""One campaign, sent by one worker, as long as shards of it come."""

import asyncio
import math
import time
from collections.abc import Callable

from bulkmail.campaign import Campaign
from bulkmail.cluster.limits import limits_of
from bulkmail.cluster.rotation import rotate
from bulkmail.delivery import Delivery, Stop
from bulkmail.delivery.queues import NEXT_RETRY
from bulkmail.delivery.seams import Composer
from bulkmail.errors import ExitStatus
from bulkmail.ledger.postgres.connection import ConnectionLostError
from bulkmail.ledger.postgres.rates import SharedPaces
from bulkmail.ledger.postgres.sending import ShardLedger
from bulkmail.ledger.postgres.shards import Shard
from bulkmail.model import Outcome, Recipient, State, Submission
from bulkmail.transport import SubmissionServer

SOON_SECONDS = 0.5
"""After so long it is known why a sender ended, and another one may take its place."""
IDLE_SECONDS = 10.0
"""Without a shard for so long, its sessions are ended."""


class Sender:
    """To be made inside a running event loop. Sends by one `plan`. `on_settled` is told every
    outcome and new state, `on_remark` what a person should know, `on_waiting` what is waited for
    and until when, in seconds since the epoch; `is_proven_now` asks the ledger whether its content
    was accepted for anybody.
    """

    def __init__(
        self,
        campaign: Campaign,
        composer: Composer,
        submission: Submission,
        ledger: ShardLedger,
        paces: SharedPaces,
        on_settled: Callable[[Recipient, State, Outcome], None],
        on_remark: Callable[[str], None],
        on_waiting: Callable[[str, float], None],
        is_proven_now: Callable[[], bool],
        *,
        plan: int,
        content_proven: bool,
        wait_seconds: float,
    ) -> None:
        self.ledger = ledger
        self._paces = paces
        self.plan = plan
        self.content_proven = content_proven
        self.is_proven_now = is_proven_now
        self.stopped: Stop | None = None
        """Why it ended, if not because nothing was left."""
        self._delivery = Delivery(
            ledger,
            SubmissionServer(submission, on_remark=on_remark),
            composer,
            paces.pace,
            paces.domain_paces,
            limits_of(campaign.file, wait_seconds=wait_seconds),
            on_settled,
            content_proven=content_proven,
            on_waiting=on_waiting,
        )
        ledger.commits.on_failure = self._ledger_failed
        ledger.on_news = self._delivery.look_again
        ledger.held_up = self._delivery.held_up
        self._is_closing = False
        self._task = asyncio.create_task(self._run())

    @property
    def has_ended(self) -> bool:
        return self._task.done()

    @property
    def sessions(self) -> int:
        """So many are open."""
        return self._delivery.sessions

    async def send(self, shard: Shard) -> float | None:
        """None once everybody there is settled and recorded; else when those who are left may be
        sent to, in seconds since the epoch; infinity if it is given up, see `rotation`. Raises
        LedgerError if something cannot be recorded: then nobody else may have the shard before it
        was tried again.
        """
        if shard.plan != self.plan:
            self.close(Stop(ExitStatus.CONTINUE, "it was planned anew"))
            return time.time() + SOON_SECONDS
        if self._is_closing:
            return time.time() + SOON_SECONDS
        at = await self.ledger.add(shard)
        await self.ledger.commits.flushed()
        if self.ledger.commits.failure is not None:
            raise self.ledger.commits.failure
        self.ledger.forget(shard)
        return at

    def next_turn(self) -> tuple[float, str] | None:
        """When the next one of those whom it holds may go, in seconds since the epoch, and why not
        before; None while some may go now.
        """
        if not 0 < self.ledger.shards == len(self.ledger.leftovers()):
            return None
        turn = self._delivery.next_turn() or (math.inf, "")
        turn = min(turn, (self.ledger.next_retry_at(), NEXT_RETRY))
        return turn if turn[0] < math.inf else None

    def waiting(self) -> list[str]:
        """The domains whose turn is to come."""
        return self._delivery.waiting()

    def close(self, stop: Stop) -> None:
        """Nothing of the campaign is to be sent any more: all is done, or else `stop` says why."""
        if self.ledger.shards:
            self._delivery.stop(stop)
        else:
            self._end_at_once()

    def stop(self, stop: Stop) -> None:
        """Takes nothing new; what is under way is waited for, for a bounded time."""
        self._delivery.stop(stop)

    def break_off(self) -> None:
        """Nothing more is to be had of the database."""
        self._paces.break_off()

    def abort(self, cause: str) -> None:
        """Waits for nothing."""
        self._delivery.abort(cause)

    async def ended(self) -> None:
        """Waits until nothing is under way, and all is recorded, or is known not to be."""
        await asyncio.wait([self._task])

    def raise_what_failed(self) -> None:
        """Once it has ended: what it ended by, if not as it should."""
        self._task.result()
        if self.ledger.commits.failure is not None:
            raise self.ledger.commits.failure
        if isinstance(self._paces.failure, ConnectionLostError):
            raise self._paces.failure

    async def _run(self) -> None:
        watching = asyncio.create_task(self._watch())
        rotating = asyncio.create_task(rotate(self.ledger, self._give_up))
        try:
            self.stopped = await self._delivery.run()
        finally:
            watching.cancel()
            rotating.cancel()
            self._is_closing = True
            resume_at = self.stopped.resume_at if self.stopped else None
            self.ledger.is_open = False
            self.ledger.give_back(resume_at or time.time())
            await self._paces.close()
            await self.ledger.commits.close()

    def _give_up(self, shard: Shard) -> None:
        """Of whom all are left wait: `send` returns infinity, as nobody knows when is best."""
        self._delivery.drop({one.id for one in shard.recipients})
        self.ledger.give_up(shard)

    async def _watch(self) -> None:
        """Ends it when no shard came for a while."""
        idle_since = time.monotonic()
        while time.monotonic() - idle_since < IDLE_SECONDS:
            await asyncio.sleep(1.0)
            if self.ledger.shards:
                idle_since = time.monotonic()
        self._end_at_once()

    def _end_at_once(self) -> None:
        """Nobody is left, as far as it knows, and nobody will come."""
        self.ledger.is_open = False
        self._delivery.look_again()

    def _ledger_failed(self) -> None:
        """What is under way comes to its end, and is recorded later."""
        self._delivery.stop(Stop(ExitStatus.LEDGER, str(self.ledger.commits.failure)))
