"""A worker's time under one lease: how that is kept, what it sends meanwhile, and how it ends."""

import asyncio
import math
import os
import socket
import time
from collections import defaultdict
from collections.abc import Mapping
from contextlib import suppress

from bulkmail import engine
from bulkmail.cluster.campaigns import Campaigns
from bulkmail.cluster.charge import Charge
from bulkmail.cluster.connections import Connections
from bulkmail.cluster.observing import Event
from bulkmail.delivery import Stop
from bulkmail.delivery.desk import come_back
from bulkmail.delivery.queues import NEXT_RETRY
from bulkmail.engine import Again, Engine
from bulkmail.errors import ExitStatus, LedgerError
from bulkmail.ledger.postgres.connection import ConnectionLostError, LockedError, PostgresDatabase
from bulkmail.ledger.postgres.opening import version_of
from bulkmail.ledger.postgres.shards import (
    Late,
    Lease,
    ShardBusyError,
    settle_late,
)

LOOK_SECONDS = 0.25
"""So often a worker looks which campaigns are open: `pause` is heard within a second."""
LEFT_SECONDS = 10.0
"""So often it tells how much is left for all; a tenth of it in the run that shows that."""
UNATTENDED_SECONDS = 5.0
"""So often it looks for shards that the engine does not know of."""
REST_SECONDS = 1.0
"""A shard that was given up comes again after so long, when the engine has forgotten it."""
CLEAR_AWAY_SECONDS = 600.0
"""So often it clears away what says nothing any more."""
COME_BACK_SECONDS = 5.0
"""So often a run that sends nothing looks for when to come back, and for so long nobody was to be
sent to before the wait is over.
"""
BUSY_SECONDS = 1.0
"""A shard that cannot be taken yet is handed out again after so long."""
ENGINE_SECONDS = 10.0
"""For so long the engine may take to end."""


class Tenure:
    """An asynchronous context. `late` are outcomes of earlier ones, which are recorded first; those
    that this one cannot record are added.
    """

    def __init__(self, charge: Charge, late: list[Late]) -> None:
        self.stop: Stop | None = None
        """Why it ends, or ended."""
        self._charge = charge
        self._late = late
        self._told = asyncio.Event()
        self._connections = Connections(charge.url, charge.lease_seconds)
        self._ask = self._connections.ask
        self._db: PostgresDatabase
        self._lease: Lease
        self._campaigns: Campaigns
        self._engine: Engine
        self._tasks: list[asyncio.Task[None]] = []
        self._looks_at = 0.0
        self._told_left_at: dict[int, float] = {}
        self._given_up: defaultdict[int, list[int]] = defaultdict(list)
        self._failure: Exception | None = None

    def end(self, stop: Stop) -> None:
        """Takes nothing new; the first reason stays."""
        self.stop = self.stop or stop
        self._told.set()

    def abort(self, cause: str) -> None:
        """Waits for nothing that is under way."""
        self._campaigns.abort(cause)

    async def __aenter__(self) -> "Tenure":
        try:
            await self._begin()
        except BaseException:
            await self._connections.close()
            raise
        return self

    async def __aexit__(self, kind: object, error: BaseException | None, *_: object) -> None:
        self._told.set()
        if error is not None:
            self._charge.vitals.lost(str(error))
            self._connections.break_off()
            self._campaigns.break_off()
        reason = self.stop or Stop(ExitStatus.LEDGER, "the lease or the database was lost")
        await self._campaigns.end(reason)
        await self._end_engine(0.0 if error is not None else ENGINE_SECONDS)
        with suppress(LedgerError):
            await self._record_late()
            await self._ask(self._lease.end)
        await self._end_tasks()  # until here the lease was renewed, or all was broken off
        await self._connections.close()
        self._charge.vitals.late = len(self._late)

    async def hold(self) -> None:
        """Until it is told to end, or nothing is open and it is to end then. Raises LedgerError
        when the lease or the database is lost.
        """
        self._tasks = [
            asyncio.create_task(self._renew()),
            asyncio.create_task(self._attend()),
            asyncio.create_task(self._engine.run()),
        ]
        while not self._told.is_set():
            self._raise_what_failed()
            if await self._choose():
                return
            with suppress(TimeoutError):
                await asyncio.wait_for(self._told.wait(), LOOK_SECONDS)

    # -- beginning and ending --------------------------------------------------------------------

    async def _begin(self) -> None:
        seconds = self._charge.lease_seconds
        self._db = await self._connections.database()
        if not await self._ask(version_of, self._db):
            raise ConnectionLostError(f"{self._db.name} holds no ledger yet")
        has_files = self._charge.files is not None
        name = f"{socket.gethostname()}:{os.getpid()}"
        began_at = time.monotonic()
        self._lease = await self._ask(lambda: Lease(self._db, name, seconds, has_files=has_files))
        self._charge.vitals.renewed(seconds, began_at)
        self._campaigns = Campaigns(
            self._charge, self._connections, self._db, self._lease, self._late
        )
        self._charge.observer.happened(
            Event(
                "lease_begun",
                f"{name} has a lease of {seconds:g} s in {self._db.name}",
                fields={"ledger": self._db.name, "lease_seconds": seconds},
            )
        )
        await self._record_late()
        listening = await self._connections.for_engine()
        asking = await self._connections.for_engine()
        self._engine = Engine(listening, asking, self._send, seconds)

    async def _record_late(self) -> None:
        """What was heard while nothing could be recorded, each once. What somebody who plans holds
        stays, to be tried again.
        """
        while self._late:
            late = self._late[0]
            try:
                await self._ask(settle_late, self._db, late)
            except LockedError:
                return
            self._late.remove(late)
            self._charge.vitals.late = len(self._late)

    async def _end_engine(self, seconds: float) -> None:
        """Waits for so long until it has given back what it handed out."""
        if not self._tasks:
            return
        _, attending, engine = self._tasks
        attending.cancel()
        self._engine.stop()
        await asyncio.wait([engine], timeout=seconds)
        engine.cancel()
        await asyncio.wait([attending, engine], timeout=ENGINE_SECONDS)

    async def _end_tasks(self) -> None:
        for task in self._tasks:
            task.cancel()
        if self._tasks:
            done, _ = await asyncio.wait(self._tasks, timeout=ENGINE_SECONDS)
            await asyncio.gather(*done, return_exceptions=True)  # what they raised was heeded

    # -- while it lasts --------------------------------------------------------------------------

    async def _renew(self) -> None:
        seconds = self._charge.lease_seconds
        while True:
            await asyncio.sleep(seconds / 3)
            began_at = time.monotonic()
            try:
                async with asyncio.timeout(seconds):
                    await self._ask(self._lease.renew)
            except TimeoutError:
                self._connections.break_off()
                raise ConnectionLostError(
                    f"{self._db.name} did not answer within {seconds:g} s"
                ) from None
            self._charge.vitals.renewed(seconds, began_at)

    async def _attend(self) -> None:
        """Queues shards that nobody has: that were given up, or that the engine lost."""
        clear_away_at = look_at = 0.0
        resting: defaultdict[int, list[int]] = defaultdict(list)
        while True:
            now = time.monotonic()
            if now > clear_away_at and not await self._ask(self._lease.clear_away):
                clear_away_at = now + CLEAR_AWAY_SECONDS
                await self._ask(engine.clear_away, self._db.connection)
            await self._enqueue(resting)
            resting, self._given_up = self._given_up, defaultdict(list)
            await asyncio.sleep(REST_SECONDS)
            if now > look_at:
                look_at = now + UNATTENDED_SECONDS
                await self._record_late()
                await self._enqueue(await self._ask(self._lease.unattended))

    async def _enqueue(self, shards: Mapping[int, list[int]]) -> None:
        for campaign_id, ids in shards.items():
            await self._ask(engine.enqueue, self._db.connection, campaign_id, ids, 0.0)

    def _raise_what_failed(self) -> None:
        if self._failure is not None:
            raise self._failure
        for task in self._tasks:
            if not task.done():
                continue
            error = task.exception()
            if isinstance(error, LedgerError):
                raise error
            if isinstance(error, RuntimeError):  # its tables are not as they should be
                raise LedgerError(f"{self._db.name}: {error}") from error
            raise ConnectionLostError(f"{self._db.name}: {error}") from error

    async def _choose(self) -> bool:
        """Sends what is open now, and only that; whether there is nothing more to wait for."""
        only, senders = self._charge.only, self._campaigns.senders
        opened = await self._ask(self._lease.open_campaigns)
        if only is not None:
            opened = {only: opened[only]} if only in opened else {}
        await self._campaigns.heed(opened)
        if self._campaigns.stop is not None:
            self.end(self._campaigns.stop)
        for campaign_id in opened.keys() & senders.keys():
            await self._tell_what_is_left(campaign_id)
        self._charge.vitals.shards = sum(sender.ledger.shards for sender in senders.values())
        self._charge.vitals.sessions = sum(sender.sessions for sender in senders.values())
        self._engine.send(self._campaigns.to_be_sent(opened))
        if only is not None and opened:
            await self._look_whether_to_come_back(only)
        to_end = self._charge.until_idle or only is not None
        return to_end and not opened and not senders

    async def _tell_what_is_left(self, campaign_id: int) -> None:
        """Now and then: it is counted over all shards."""
        pause = LEFT_SECONDS if self._charge.only is None else LEFT_SECONDS / 10
        if time.monotonic() - self._told_left_at.get(campaign_id, 0.0) > pause:
            self._told_left_at[campaign_id] = time.monotonic()
            people, workers = await self._ask(self._lease.left, campaign_id)
            self._charge.observer.left(self._campaigns.name(campaign_id), people, workers)

    async def _look_whether_to_come_back(self, campaign_id: int) -> None:
        """Ends if nobody is left but who is to be sent to after the wait."""
        now = time.monotonic()
        sender = self._campaigns.senders.get(campaign_id)
        turn = sender.next_turn() if sender is not None else None
        if sender is not None and (turn is None or self._is_soon(turn[0])):
            self._looks_at = now + COME_BACK_SECONDS
        if turn is not None:
            self._charge.observer.waiting(turn[1], turn[0])
        if now < self._looks_at:
            return
        self._looks_at = now + COME_BACK_SECONDS
        if sender is None:
            at = await self._ask(self._lease.next_retry_at, campaign_id)
            turn = None if at is None else (at, NEXT_RETRY)
        elif turn is not None:
            at = await self._ask(self._lease.next_elsewhere, campaign_id, sender.waiting())
            turn = min(turn, (at, NEXT_RETRY))
        if turn is not None and not self._is_soon(turn[0]):
            at, why = turn
            self.end(come_back(why, at))

    def _is_soon(self, at: float) -> bool:
        return at - time.time() <= self._charge.wait_seconds

    # -- shards ----------------------------------------------------------------------------------

    async def _send(self, campaign_id: int, shard_id: int) -> None:
        """What the engine calls for a shard. Raises Again if it is not done, ConnectionLostError
        and LeaseLostError; whatever else goes wrong ends the tenure.
        """
        if self._told.is_set():
            raise Again(0.0)
        try:
            await self._send_shard(shard_id)
        except Again:
            raise
        except Exception as error:
            self._failure = error
            raise

    async def _send_shard(self, shard_id: int) -> None:
        try:
            shard = await self._ask(self._lease.take, shard_id)
        except ShardBusyError:
            raise Again(BUSY_SECONDS) from None
        if shard is None:
            return
        at = await self._campaigns.send(shard)
        if at is None and await self._ask(self._lease.finish, shard, time.time()):
            return
        if at is not None:
            await self._ask(self._lease.hand_back, shard)
        if at == math.inf:  # it is queued anew, after all others
            self._given_up[shard.campaign_id].append(shard.id)
            return
        raise Again(at - time.time() if at is not None else 0.0)
