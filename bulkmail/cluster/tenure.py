"""A worker's time under one lease: its connections, what it sends, and how that is ended."""

import asyncio
import logging
import math
import os
import socket
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, ParamSpec, TypeVar

import psycopg
from psycopg import AsyncConnection

from bulkmail.campaign.edition import campaign_of
from bulkmail.cluster.observing import Event, Observer, Vitals
from bulkmail.cluster.rotation import rotate
from bulkmail.cluster.sender import Sender
from bulkmail.compose.message import Composer
from bulkmail.compose.templates import RenderError
from bulkmail.delivery import Stop
from bulkmail.delivery.desk import come_back
from bulkmail.delivery.queues import NEXT_RETRY
from bulkmail.engine import Again, Engine, enqueue
from bulkmail.errors import BulkmailError, CampaignError, ExitStatus, LedgerError
from bulkmail.ledger.contents import Contents
from bulkmail.ledger.postgres.connection import (
    CONNECT,
    SCHEMA,
    SESSION,
    ConnectionLostError,
    LockedError,
    PostgresDatabase,
    break_off,
)
from bulkmail.ledger.postgres.opening import version_of
from bulkmail.ledger.postgres.overview import standing
from bulkmail.ledger.postgres.rates import SharedPaces
from bulkmail.ledger.postgres.sending import ShardLedger
from bulkmail.ledger.postgres.shards import (
    Late,
    Lease,
    LeaseLostError,
    Shard,
    ShardBusyError,
    settle_late,
)

LOOK_SECONDS = 0.25
"""So often a worker looks which campaigns are open: `pause` is heard within a second."""
LEFT_SECONDS = 10.0
"""So often it tells how much is left for all; a tenth of it in the run that shows that."""
UNATTENDED_SECONDS = 5.0
"""So often it looks for shards that the engine does not know of."""
CLEAR_AWAY_SECONDS = 3600.0
"""So often it clears away what says nothing any more."""
RETRIES_SECONDS = 5.0
"""So often a run that has nothing to send looks for when to come back."""
BUSY_SECONDS = 1.0
"""A shard that cannot be taken yet is handed out again after so long."""
FIRST_STEP_BACK, LONGEST_STEP_BACK = 30.0, 600.0
"""For so long a worker leaves a campaign that it cannot send to others."""
ENGINE_SECONDS = 10.0
"""For so long the engine may take to end."""

P = ParamSpec("P")
T = TypeVar("T")


@dataclass(frozen=True)
class Charge:
    """What a worker is to send: whatever is open in the ledger at `url`, or `only` that campaign.

    `files` holds attachments for one person each, of campaigns that have such; `until_idle`: it
    ends when nothing is open.
    """

    url: str = field(repr=False)
    observer: Observer
    only: int | None = None
    files: Path | None = None
    until_idle: bool = False
    wait_seconds: float = 3600.0
    lease_seconds: float = 15.0
    vitals: Vitals = field(default_factory=Vitals)


@dataclass(slots=True)
class _StepBack:
    """From a campaign that this worker could not send: until when, and for how long next time."""

    until: float = 0.0
    seconds: float = FIRST_STEP_BACK


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
        self._executor = ThreadPoolExecutor(1, thread_name_prefix="lease")
        self._db: PostgresDatabase
        self._lease: Lease
        self._engine: Engine
        self._connections: list[AsyncConnection[Any]] = []
        self._databases: list[PostgresDatabase] = []
        self._tasks: list[asyncio.Task[None]] = []
        self._senders: dict[int, Sender] = {}
        self._stepped_back: dict[int, _StepBack] = {}
        self._names: dict[int, str] = {}
        self._making = asyncio.Lock()
        self._looks_at = 0.0
        self._told_left_at: dict[int, float] = {}
        self._failure: Exception | None = None

    def end(self, stop: Stop) -> None:
        """Takes nothing new; the first reason stays."""
        self.stop = self.stop or stop
        self._told.set()

    def abort(self, cause: str) -> None:
        """Waits for nothing that is under way."""
        for sender in self._senders.values():
            sender.abort(cause)

    async def __aenter__(self) -> "Tenure":
        try:
            await self._begin()
        except BaseException:
            await self._close()
            raise
        return self

    async def __aexit__(self, kind: object, error: BaseException | None, *_: object) -> None:
        self._told.set()
        if error is not None:
            self._charge.vitals.lost(str(error))
            self._break_off()
        reason = self.stop or Stop(ExitStatus.LEDGER, "the lease or the database was lost")
        for sender in self._senders.values():
            sender.stop(reason)
        for sender in self._senders.values():
            await sender.ended()
            self._late += sender.ledger.late()
        await self._end_engine(0.0 if error is not None else ENGINE_SECONDS)
        with suppress(LedgerError):
            await self._record_late()
            await self._ask(self._lease.end)
        await self._end_tasks()  # until here the lease was renewed, or all was broken off
        await self._close()
        self._charge.vitals.late = len(self._late)

    async def hold(self) -> None:
        """Until it is told to end, or nothing is open and it is to end then. Raises LedgerError
        when the lease or the database is lost.
        """
        self._tasks = [
            asyncio.create_task(self._renew()),
            asyncio.create_task(self._attend()),
            asyncio.create_task(self._engine.run()),
            asyncio.create_task(rotate(self._senders)),
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
        self._db = await self._database()
        if not await self._ask(version_of, self._db):
            raise ConnectionLostError(f"{self._db.name} holds no ledger yet")
        has_files = self._charge.files is not None
        name = f"{socket.gethostname()}:{os.getpid()}"
        began_at = time.monotonic()
        self._lease = await self._ask(lambda: Lease(self._db, name, seconds, has_files=has_files))
        self._charge.vitals.renewed(seconds, began_at)
        self._tell(
            Event(
                "lease_begun",
                f"{name} has a lease of {seconds:g} s in {self._db.name}",
                fields={"ledger": self._db.name, "lease_seconds": seconds},
            )
        )
        await self._record_late()
        listening, asking = await self._connect(), await self._connect()
        self._engine = Engine(listening, asking, self._send, seconds)

    async def _connect(self) -> AsyncConnection[Any]:
        """For the engine."""
        try:
            connection = await AsyncConnection.connect(self._charge.url, autocommit=True, **CONNECT)
            await connection.execute(SESSION, (SCHEMA,))
        except psycopg.Error as error:
            raise ConnectionLostError(f"{self._db.name}: {error}") from error
        self._connections.append(connection)
        return connection

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

    def _break_off(self) -> None:
        """Nothing more is to be had of these connections, and nobody is to wait for them."""
        for db in self._databases:
            db.break_off()
        for connection in self._connections:
            break_off(connection)

    async def _end_engine(self, seconds: float) -> None:
        """Waits for so long until it has given back what it handed out."""
        if not self._tasks:
            return
        _, attending, engine, _ = self._tasks
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

    async def _close(self) -> None:
        for connection in self._connections:
            with suppress(psycopg.Error):
                await connection.close()
        for db in self._databases:
            db.close()
        self._executor.shutdown(wait=False)

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
                self._break_off()
                raise ConnectionLostError(
                    f"{self._db.name} did not answer within {seconds:g} s"
                ) from None
            self._charge.vitals.renewed(seconds, began_at)

    async def _attend(self) -> None:
        """Queues shards that nobody has and that the engine lost."""
        clear_away_at = 0.0
        while True:
            now = time.monotonic()
            if now > clear_away_at and not await self._ask(self._lease.clear_away):
                clear_away_at = now + CLEAR_AWAY_SECONDS
            await asyncio.sleep(UNATTENDED_SECONDS)
            await self._record_late()
            for campaign_id, shards in (await self._ask(self._lease.unattended)).items():
                await self._ask(enqueue, self._db.connection, campaign_id, shards, 0.0)

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
        opened = set(await self._ask(self._lease.open_campaigns))
        if self._charge.only is not None:
            opened &= {self._charge.only}
        for campaign_id, sender in tuple(self._senders.items()):
            if sender.has_ended:
                await self._heed(campaign_id, sender)
            elif campaign_id not in opened:
                sender.close(Stop(ExitStatus.CONTINUE, "paused from another terminal"))
            else:
                await self._tell_what_is_left(campaign_id)
        self._measure()
        now = time.monotonic()
        self._engine.send(
            [id_ for id_ in opened if self._stepped_back.get(id_, _StepBack()).until <= now]
        )
        if self._charge.only is not None and opened and not self._senders:
            await self._look_for_retries(self._charge.only)
        to_end = self._charge.until_idle or self._charge.only is not None
        return to_end and not opened and not self._senders

    async def _tell_what_is_left(self, campaign_id: int) -> None:
        """Now and then: it is counted over all shards."""
        pause = LEFT_SECONDS if self._charge.only is None else LEFT_SECONDS / 10
        if time.monotonic() - self._told_left_at.get(campaign_id, 0.0) > pause:
            self._told_left_at[campaign_id] = time.monotonic()
            people, workers = await self._ask(self._lease.left, campaign_id)
            self._charge.observer.left(self._names[campaign_id], people, workers)

    async def _look_for_retries(self, campaign_id: int) -> None:
        """Ends, to come back, if nobody is left but who is to be tried again after the wait."""
        if time.monotonic() < self._looks_at:
            return
        self._looks_at = time.monotonic() + RETRIES_SECONDS
        at = await self._ask(self._lease.next_retry_at, campaign_id)
        if at is not None and at - time.time() > self._charge.wait_seconds:
            self.end(come_back(NEXT_RETRY, at))

    async def _heed(self, campaign_id: int, sender: Sender) -> None:
        """A sender has ended: what that means for the campaign, and for this worker."""
        self._late += sender.ledger.late()
        sender.ledger.close()
        self._databases = [db for db in self._databases if not db.connection.closed]
        stop = sender.stopped
        try:
            sender.raise_what_failed()
            if stop is not None and stop.for_all and await self._is_proven_by_others(sender):
                stop = None
            if stop is not None and stop.for_all:
                stop = await self._stopped_for_all(campaign_id, sender.plan, stop)
        finally:
            del self._senders[campaign_id]  # only now another one may begin
        if stop is None:
            self._stepped_back.pop(campaign_id, None)
            await self._tell_how_it_ended(campaign_id)
            return
        if self._charge.only is not None:
            self.end(stop)
        elif stop.status is not ExitStatus.CONTINUE and not stop.for_all:
            self._step_back(campaign_id, stop.reason)
        elif stop.for_all:
            self._tell_of(campaign_id, "campaign_stopped", f"stopped: {stop.reason}", logging.ERROR)
        else:
            await self._tell_how_it_ended(campaign_id, stop.reason)

    async def _stopped_for_all(self, campaign_id: int, plan: int, stop: Stop) -> Stop:
        """Ends the campaign for all workers; only for this one while somebody plans it anew, which
        would make nothing of it. Whoever sends then will hear the same.
        """
        try:
            await self._ask(self._lease.stop_campaign, campaign_id, plan, stop.reason, time.time())
        except LockedError:
            return replace(stop, for_all=False)
        return stop

    async def _is_proven_by_others(self, sender: Sender) -> bool:
        """Whether the content that was not accepted for anybody, as far as it knew, was."""
        return not sender.content_proven and await self._ask(sender.is_proven_now)

    def _step_back(self, campaign_id: int, why: str) -> None:
        back = self._stepped_back.setdefault(campaign_id, _StepBack())
        back.until = time.monotonic() + back.seconds
        told = f"{why}; left to others for {back.seconds:g} s"
        self._tell_of(campaign_id, "campaign_left", told, logging.WARNING)
        back.seconds = min(LONGEST_STEP_BACK, 2 * back.seconds)

    # -- telling ---------------------------------------------------------------------------------

    def _tell(self, event: Event) -> None:
        self._charge.observer.happened(event)

    def _tell_of(
        self, campaign_id: int, name: str, message: str, level: int = logging.INFO
    ) -> None:
        campaign = self._names.get(campaign_id, str(campaign_id))
        self._tell(Event(name, message, campaign, level))

    async def _tell_how_it_ended(self, campaign_id: int, why: str = "") -> None:
        """A campaign of which this worker has no shard any more; `why` is the sender's reason."""
        name, told = await self._ask(standing, self._db, campaign_id)
        self._tell_of(campaign_id, name, why if name == "campaign_idle" and why else told)

    def _measure(self) -> None:
        senders = self._senders.values()
        self._charge.vitals.shards = sum(sender.ledger.shards for sender in senders)
        self._charge.vitals.sessions = sum(sender.sessions for sender in senders)

    # -- shards ----------------------------------------------------------------------------------

    async def _send(self, campaign_id: int, shard_id: int) -> None:
        """What the engine calls for a shard. Raises Again if it is not done, ConnectionLostError
        and LeaseLostError; whatever else goes wrong ends the tenure.
        """
        if self._told.is_set():
            raise Again(0.0)
        try:
            await self._send_shard(campaign_id, shard_id)
        except (Again, ConnectionLostError, LeaseLostError):
            raise
        except Exception as error:
            self._failure = error
            raise

    async def _send_shard(self, campaign_id: int, shard_id: int) -> None:
        try:
            shard = await self._ask(self._lease.take, shard_id)
        except ShardBusyError:
            raise Again(BUSY_SECONDS) from None
        if shard is None:
            return
        if shard.in_doubt:
            told = f"{shard.in_doubt} in doubt: a worker that is gone had them under way"
            self._tell_of(campaign_id, "in_doubt", told, logging.WARNING)
        at = await self._sent(campaign_id, shard)
        if at is None and await self._ask(self._lease.finish, shard, time.time()):
            return
        if at is not None:
            await self._ask(self._lease.hand_back, shard)
        if at == math.inf:
            return  # as one that nobody has it is queued anew, after all others
        raise Again(at - time.time() if at is not None else 0.0)

    async def _sent(self, campaign_id: int, shard: Shard) -> float | None:
        """See `Sender.send`."""
        try:
            async with self._making:
                sender = self._senders.get(campaign_id) or await self._sender(campaign_id)
        except LedgerError:
            raise
        except BulkmailError as error:
            self._step_back(campaign_id, str(error))
            if self._charge.only is not None:
                self.end(Stop(error.status, str(error)))
            return time.time()
        if sender.has_ended:  # what that means is not heeded yet
            return time.time() + LOOK_SECONDS
        return await sender.send(shard)

    async def _sender(self, campaign_id: int) -> Sender:
        handed = await self._ask(self._lease.campaign, campaign_id)
        record = handed.record
        self._names[campaign_id] = record.name
        files = self._charge.files
        file_of = self._lease.shared_file
        campaign = await self._ask(campaign_of, handed.edition, file_of, files)
        submission = campaign.submission()
        try:
            composer = Composer(campaign.design, campaign.load, record.seed, campaign.open_file)
        except RenderError as error:
            raise CampaignError(f"this worker cannot compose it: {error}") from error
        contents = Contents(self._db, self._db.name)

        def is_proven() -> bool:
            return contents.is_proven(record, handed.content_id)

        db = await self._database()
        ledger = ShardLedger(db, self._lease.worker_id, submission.account, handed.content_id)
        file, observer = campaign.file, self._charge.observer
        ledger.on_commit = lambda intents, seconds: observer.committed(
            record.name, intents, seconds
        )
        paces = SharedPaces(
            self._charge.url,
            submission.account,
            self._lease.worker_id,
            file.rate,
            file.rate_per_domain,
        )
        proven = await self._ask(is_proven)
        if self._told.is_set():  # nobody would stop one that begins only now
            await paces.close()
            raise Again(0.0)
        sender = Sender(
            campaign,
            composer,
            submission,
            ledger,
            paces,
            lambda one, state, outcome: observer.settled(record.name, one, state, outcome),
            lambda what: observer.said(f"{record.name}: {what}"),
            is_proven,
            plan=handed.plan,
            content_proven=proven,
            wait_seconds=self._charge.wait_seconds,
        )
        self._senders[campaign_id] = sender
        self._tell_of(
            campaign_id, "campaign_begun", f"sends it through {submission.host}:{submission.port}"
        )
        return sender

    async def _database(self) -> PostgresDatabase:
        db = await self._ask(PostgresDatabase, self._charge.url)
        self._databases.append(db)
        await self._ask(db.bound_locks, self._charge.lease_seconds / 3)
        return db

    async def _ask(self, function: Callable[P, T], *args: P.args, **_: P.kwargs) -> T:
        """In the thread to which the lease's connection belongs."""
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self._executor, function, *args)
