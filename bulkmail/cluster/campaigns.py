"""The campaigns that a worker sends under one lease: a sender for each of which it has shards."""

import asyncio
import logging
import time
from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace
from functools import partial

from bulkmail.campaign.edition import campaign_of
from bulkmail.cluster.charge import Charge
from bulkmail.cluster.connections import Connections
from bulkmail.cluster.observing import Event
from bulkmail.cluster.sender import Sender
from bulkmail.compose.message import Composer
from bulkmail.compose.templates import RenderError
from bulkmail.delivery import Stop
from bulkmail.engine import Again
from bulkmail.errors import BulkmailError, CampaignError, ExitStatus, LedgerError
from bulkmail.ledger.contents import Contents
from bulkmail.ledger.postgres.connection import ConnectionLostError, LockedError, PostgresDatabase
from bulkmail.ledger.postgres.overview import standing
from bulkmail.ledger.postgres.rates import SharedPaces
from bulkmail.ledger.postgres.sending import ShardLedger
from bulkmail.ledger.postgres.shards import Late, Lease, Shard, handed_out, shared_file

AGAIN_SECONDS = 0.25
"""After so long it is known what it means that a sender has ended."""
FIRST_STEP_BACK, LONGEST_STEP_BACK = 30.0, 600.0
"""For so long a worker leaves a campaign that it cannot send to others."""


@dataclass(slots=True)
class _StepBack:
    """From a campaign that this worker could not send by this `plan`: until when, and for how long
    next time.
    """

    plan: int
    why: str = ""
    until: float = 0.0
    seconds: float = FIRST_STEP_BACK


class Campaigns:
    """`late` is given what senders could not record. `db` is the lease's database."""

    def __init__(
        self,
        charge: Charge,
        connections: Connections,
        db: PostgresDatabase,
        lease: Lease,
        late: list[Late],
    ) -> None:
        self.senders: dict[int, Sender] = {}
        self.stop: Stop | None = None
        """Why the worker is to end, if its only campaign stopped it."""
        self._charge = charge
        self._connections = connections
        self._db = db
        self._lease = lease
        self._late = late
        self._stepped_back: dict[int, _StepBack] = {}
        self._told_left = ""
        self._names: dict[int, str] = {}
        self._making = asyncio.Lock()
        self._is_ending = False

    def name(self, campaign_id: int) -> str:
        """Its number, if it was never sent from here."""
        return self._names.get(campaign_id, str(campaign_id))

    def to_be_sent(self, opened: Mapping[int, int]) -> list[int]:
        """Those of them that are not left to others; `opened` gives the plan of each."""
        left = self._stepped_back
        for campaign_id in tuple(left):
            if left[campaign_id].plan != opened.get(campaign_id):
                del left[campaign_id]
        now = time.monotonic()
        return [id_ for id_ in opened if id_ not in left or left[id_].until <= now]

    async def send(self, shard: Shard) -> float | None:
        """See `Sender.send`."""
        campaign_id = shard.campaign_id
        if shard.in_doubt:
            told = f"{shard.in_doubt} in doubt: a worker that is gone had them under way"
            self._tell(campaign_id, "in_doubt", told, logging.WARNING)
        try:
            async with self._making:
                sender = self.senders.get(campaign_id) or await self._sender(campaign_id)
        except BulkmailError as error:
            is_lost = isinstance(error, ConnectionLostError) and self._charge.only is None
            if isinstance(error, LedgerError) and not is_lost:
                raise
            self._step_back(campaign_id, shard.plan, str(error))
            if self._charge.only is not None:
                self.stop = Stop(error.status, str(error))
            return time.time()
        if sender.has_ended:  # what that means is not heeded yet
            return time.time() + AGAIN_SECONDS
        return await sender.send(shard)

    async def heed(self, opened: Collection[int]) -> None:
        """Ends what is not open any more, and does what is to be done about what has ended."""
        for campaign_id, sender in tuple(self.senders.items()):
            if sender.has_ended:
                await self._heed(campaign_id, sender)
            elif campaign_id not in opened:
                sender.close(Stop(ExitStatus.CONTINUE, "paused from another terminal"))
        left = [
            f"{self.name(id_)}: {back.why}"
            for id_, back in self._stepped_back.items()
            if id_ not in self.senders
        ]
        if (told := "\n".join(left)) != self._told_left:
            self._told_left = told
            await self._connections.ask(self._lease.tell, told)

    async def end(self, stop: Stop) -> None:
        """Lets what is under way come to its end, for a bounded time."""
        self._is_ending = True
        for sender in self.senders.values():
            sender.stop(stop)
        for sender in self.senders.values():
            await sender.ended()
            self._late += sender.ledger.late()

    def break_off(self) -> None:
        """Nothing more is to be had of the database, and nobody is to wait for it."""
        for sender in self.senders.values():
            sender.break_off()

    def abort(self, cause: str) -> None:
        """Waits for nothing that is under way."""
        for sender in self.senders.values():
            sender.abort(cause)

    # -- how one ended ---------------------------------------------------------------------------

    async def _heed(self, campaign_id: int, sender: Sender) -> None:
        """What it means for the campaign, and for this worker."""
        self._late += sender.ledger.late()
        sender.ledger.close()
        stop = sender.stopped
        try:
            sender.raise_what_failed()
            if stop is not None and stop.for_all:
                stop = await self._said_to_all(sender, campaign_id, stop)
        finally:
            del self.senders[campaign_id]  # only now another one may begin
        if stop is None:
            self._stepped_back.pop(campaign_id, None)
            await self._tell_how_it_stands(campaign_id)
        elif self._charge.only is not None:
            self.stop = stop
        elif stop.for_all:
            self._tell(campaign_id, "campaign_stopped", f"stopped: {stop.reason}", logging.ERROR)
        elif stop.status is not ExitStatus.CONTINUE or stop.resume_at is not None:
            self._step_back(campaign_id, sender.plan, stop.reason, stop.resume_at)
        else:
            await self._tell_how_it_stands(campaign_id, stop.reason)

    async def _said_to_all(self, sender: Sender, campaign_id: int, stop: Stop) -> Stop | None:
        """Ends the campaign for all workers. None: others have had its content accepted meanwhile,
        so that the verdict does not hold. While somebody plans it anew only this worker leaves it:
        whoever sends that will hear the same.
        """
        if not sender.content_proven and await self._connections.ask(sender.is_proven_now):
            return None
        values = (campaign_id, sender.plan, stop.reason, time.time())
        try:
            await self._connections.ask(self._lease.stop_campaign, *values)
        except LockedError:
            return replace(stop, for_all=False)
        return stop

    def _step_back(
        self, campaign_id: int, plan: int, why: str, resume_at: float | None = None
    ) -> None:
        """Until `resume_at`, in seconds since the epoch, or for longer each time."""
        back = self._stepped_back.setdefault(campaign_id, _StepBack(plan))
        if back.until > time.monotonic():
            return  # because of another shard that it was handed at the same time
        back.why = " ".join(why.split())
        if resume_at is not None:
            back.until = time.monotonic() + resume_at - time.time()
            self._tell(campaign_id, "campaign_left", back.why, logging.WARNING)
            return
        back.until = time.monotonic() + back.seconds
        told = f"{back.why}; left to others for {back.seconds:g} s"
        self._tell(campaign_id, "campaign_left", told, logging.WARNING)
        back.seconds = min(LONGEST_STEP_BACK, 2 * back.seconds)

    def _tell(self, campaign_id: int, name: str, message: str, level: int = logging.INFO) -> None:
        self._charge.observer.happened(Event(name, message, self.name(campaign_id), level))

    async def _tell_how_it_stands(self, campaign_id: int, why: str = "") -> None:
        """A campaign of which this worker has no shard any more; `why` is the sender's reason."""
        name, told = await self._connections.ask(standing, self._db, campaign_id)
        self._tell(campaign_id, name, why if name == "campaign_idle" and why else told)

    # -- how one begins --------------------------------------------------------------------------

    async def _sender(self, campaign_id: int) -> Sender:
        db = await self._connections.database()
        try:
            return await self._made(campaign_id, db)
        except BaseException:
            db.close()
            raise

    async def _made(self, campaign_id: int, db: PostgresDatabase) -> Sender:
        """Files may take long to come: not in the thread in which the lease is renewed."""
        ask, lease, observer = self._connections.ask, self._lease, self._charge.observer
        handed = await asyncio.to_thread(handed_out, db, campaign_id)
        record = handed.record
        self._names[campaign_id] = record.name
        campaign = await asyncio.to_thread(
            campaign_of, handed.edition, partial(shared_file, db), self._charge.files
        )
        submission = campaign.submission()
        try:
            composer = Composer(campaign.design, campaign.load, record.seed, campaign.open_file)
        except RenderError as error:
            raise CampaignError(f"this worker cannot compose it: {error}") from error
        contents = Contents(self._db, self._db.name)

        def is_proven() -> bool:
            return contents.is_proven(record, handed.content_id)

        ledger = ShardLedger(db, lease.worker_id, submission.account, handed.content_id)
        ledger.on_commit = lambda intents, seconds: observer.committed(
            record.name, intents, seconds
        )
        rate, of_domains = campaign.file.rate, campaign.file.rate_per_domain
        paces = SharedPaces(self._charge.url, submission.account, lease.worker_id, rate, of_domains)
        proven = await ask(is_proven)
        if self._is_ending:  # nobody would stop one that begins only now
            await paces.close()
            raise Again(0.0)
        sender = self.senders[campaign_id] = Sender(
            campaign,
            composer,
            submission,
            ledger,
            paces,
            lambda one, state, outcome: observer.settled(record.name, one, state, outcome),
            lambda what: observer.said(f"{record.name}: {what}"),
            observer.waiting,
            is_proven,
            plan=handed.plan,
            content_proven=proven,
            wait_seconds=self._charge.wait_seconds,
        )
        told = f"sends it through {submission.host}:{submission.port}"
        self._tell(campaign_id, "campaign_begun", told)
        return sender
