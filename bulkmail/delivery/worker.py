"""One task with one session at a time: it pulls from the desk until nobody is left."""

import asyncio
import random
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial

from bulkmail.compose.templates import RenderError
from bulkmail.delivery.desk import IDLE_SECONDS, Desk, Granted, Halt
from bulkmail.delivery.queues import Later
from bulkmail.delivery.refusals import Refusals
from bulkmail.delivery.seams import Composer, Ledger, Limits, Server, Session, Stop
from bulkmail.errors import BulkmailError, ExitStatus, LoginError, ServerUnreachableError
from bulkmail.model import Concern, Intent, MailObject, Outcome, Phase, Recipient, Settlement, State
from bulkmail.smtp.judgement import judge

PATIENCE = 3
"""So many complaints about a domain in a row, or sessions that end with one message, are nobody's;
then they count as refusals, if others were accepted meanwhile. Twice as many sessions, if nobody
else is there."""
LONG_PATIENCE, MANY_OTHERS = 8, 50
"""Of a message to which it is said that it is too much, and of others accepted meanwhile."""

REFUSALS_BORNE = 7
"""On one session, while some more may be on their way; then a new one. Servers count them: Postfix
answers slower from the tenth in a row on, Exim hangs up after ten."""

JITTER = 0.2
"""The part of a pause by which it can be longer."""


@dataclass(eq=False)
class Shared:
    """What the workers of a run have in common."""

    ledger: Ledger
    server: Server
    composer: Composer
    limits: Limits
    halt: Halt
    desk: Desk
    refusals: Refusals
    on_settled: Callable[[Recipient, State, Outcome], None]
    grow: Callable[[], None]
    """Called when another worker would be used."""
    content_proven: bool
    """Whether this content was accepted before, by this run or an earlier one."""
    grow_after: float = 0.0
    """In monotonic time: the server had no room for another session until then."""
    opened: bool = False
    """Whether the run's first message was accepted."""
    sessions: set[Session] = field(default_factory=set)
    taken: int = 0
    """How many were accepted in this run."""
    troubles: dict[int, tuple[int, int]] = field(default_factory=dict)
    """How often something that concerns all was said about a recipient, and `taken` before."""

    def settle(
        self, recipient: Recipient, state: State, outcome: Outcome, due_at: float = 0.0
    ) -> None:
        """Records what became of a recipient, and tells it."""
        self.ledger.settle(Settlement(recipient.id, state, outcome, due_at, at=time.time()))
        self.on_settled(recipient, state, outcome)

    def end_undecided(self) -> None:
        """Nobody is left: what was refused is the recipients' own, if others got this content."""
        if self.content_proven:
            self.decide_refusals()
        elif undecided := self.refusals.take():
            said = f"the server refuses to go on: {undecided[-1][1]}"
            self.halt.call(Stop(ExitStatus.UNAVAILABLE, said, for_all=True))

    def decide_refusals(self) -> None:
        """Those refused so far are the recipients' own: they have failed."""
        for recipient, outcome in self.refusals.take():
            self.ledger.settle(
                Settlement(recipient.id, State.FAILED, outcome, of_released=True, at=time.time())
            )
            self.on_settled(recipient, State.FAILED, outcome)


class Worker:
    """Its failures are counted one after another, until a server answers about a message again."""

    def __init__(self, shared: Shared) -> None:
        self._shared = shared
        self._session: Session | None = None
        self._retired = False
        self._was_busy = False
        self._refused_here = 0
        self._failures = 0
        self._last_failure = ""

    async def work(self) -> None:
        """Returns when nobody is left, the run is to end, or others can do what is left."""
        shared = self._shared
        try:
            while True:
                granted = await self._next()
                if granted is None:
                    if not await self._may_get_some_back():
                        break
                    continue
                if isinstance(granted, Later):
                    await self._wait(granted)
                    continue
                if shared.opened and shared.desk.ahead and time.monotonic() > shared.grow_after:
                    shared.grow()
                session = await self._ready()
                if session is None:
                    shared.desk.release(granted.recipient)
                    break
                if (granted := await shared.desk.fresh(granted)) is None:
                    continue
                # The first message goes alone; then as many as there is room for.
                more = self._room(session) - 1 if shared.opened else 0
                await self._submit(session, [granted, *shared.desk.more(more)])
                await (session.room() if shared.opened else session.idle())
            await self._close()
        finally:
            if self._session is not None:
                self._session.abort("the run ended")
                shared.sessions.discard(self._session)

    async def _next(self) -> Granted | Later | None:
        """Most often somebody is there and may go: then nothing is waited for."""
        desk = self._shared.desk
        at_once = desk.more(1) if self._shared.opened else []
        return at_once[0] if at_once else await desk.next()

    async def _may_get_some_back(self) -> bool:
        """Waits for what is under way, which may be released; False if there is nothing."""
        if self._session is None or not self._session.busy or self._shared.halt:
            return False
        await self._session.idle()
        return True

    async def _wait(self, later: Later) -> None:
        """Nobody may go now."""
        if later.at - time.monotonic() > IDLE_SECONDS:
            await self._close()
        await self._shared.desk.until(later)

    # -- sessions --------------------------------------------------------------------------------

    async def _ready(self) -> Session | None:
        """A session that takes mail; None if the run is to end, or if others have one."""
        if (session := self._session) is not None:
            failed = self._retired or session.ended is not None
            if not failed and not self._is_used_up(session):
                return session
            if failed and not self._was_busy:
                self._failed(session.ended or self._last_failure)
            await self._close()
        return await self._connect()

    def _is_used_up(self, session: Session) -> bool:
        left = self._shared.limits.messages_per_connection - session.submitted
        return left <= 0 or self._refused_here >= REFUSALS_BORNE

    def _room(self, session: Session) -> int:
        """How many messages may be submitted at once."""
        left = self._shared.limits.messages_per_connection - session.submitted
        if self._refused_here:
            left = min(left, REFUSALS_BORNE - self._refused_here)
        return min(left, session.free)

    async def _connect(self) -> Session | None:
        shared = self._shared
        while not await shared.halt.within(self._pause()):
            if self._failures >= self._attempts():
                shared.halt.call(Stop(ExitStatus.UNAVAILABLE, self._last_failure))
                break
            try:
                session = await _unless_halted(shared.halt, shared.server)
            except BulkmailError as error:
                if shared.sessions:  # others are taken well: there is no room for another
                    shared.grow_after = time.monotonic() + shared.limits.longest_reconnect
                    break
                if isinstance(error, ServerUnreachableError) or (
                    shared.opened and not isinstance(error, LoginError)
                ):
                    self._failed(str(error))
                else:
                    shared.halt.call(Stop(error.status, str(error)))
            else:
                if session is not None:
                    self._session, self._refused_here = session, 0
                    self._retired = self._was_busy = False
                    shared.sessions.add(session)
                return session
        return None

    async def _close(self) -> None:
        if self._session is not None:
            session = self._session
            await session.quit()
            self._shared.sessions.discard(session)
            self._session = None

    def _failed(self, what: str) -> None:
        self._failures += 1
        self._last_failure = what

    def _attempts(self) -> int:
        limits = self._shared.limits
        return limits.attempts if self._shared.opened else limits.attempts_before_first

    def _pause(self) -> float:
        """Before connecting again: none after one failure, then doubling, with jitter."""
        if self._failures < 2:
            return 0.0
        limits = self._shared.limits
        longest = min(limits.longest_reconnect, limits.first_reconnect * 2 ** (self._failures - 2))
        return float(longest * random.uniform(0.5, 1.0))

    # -- messages --------------------------------------------------------------------------------

    async def _submit(self, session: Session, batch: Sequence[Granted]) -> None:
        """Composes, records the intents, and only then lets the messages out."""
        shared, now = self._shared, time.time()
        mails = [mail for one in batch if (mail := self._composed(one.recipient, now)) is not None]
        if len(mails) < len(batch):
            for granted in reversed(batch):
                shared.desk.release(granted.recipient)
            return
        intents = [
            Intent(one.recipient.id, now, one.at, mail.message_id, one.rated_domain)
            for one, mail in zip(batch, mails, strict=True)
        ]
        if not await shared.ledger.intend(intents):
            return
        heard = [partial(self._settled, one.recipient, now) for one in batch]
        if session.ended is not None or session.free < len(batch) or shared.halt:
            for settled in heard:
                settled(Outcome(Phase.QUEUED, None, "the run or session ended before"))
            return
        session.submit(list(zip(mails, heard, strict=True)))

    def _composed(self, recipient: Recipient, now: float) -> MailObject | None:
        """None if the template fails for this recipient: then the run ends."""
        try:
            return self._shared.composer.compose(recipient, recipient.first_attempt_at or now)
        except RenderError as error:
            self._shared.halt.call(Stop(ExitStatus.DATA, f"{error} (for {recipient.source})"))
            return None

    def _settled(self, recipient: Recipient, began: float, outcome: Outcome) -> None:
        """Records what became of a message submitted at `began`, and does what its verdict asks."""
        shared = self._shared
        verdict = judge(outcome)
        concern, state = verdict.concern, verdict.state
        self._refused_here += outcome.reply is not None and state is not State.ACCEPTED
        if shared.halt and outcome.reply is None and outcome.phase is not Phase.DOT:
            concern, state = Concern.SESSION, State.PENDING  # broken off by ourselves
        if concern is Concern.DOMAIN and shared.desk.complained_of_domain(recipient) > PATIENCE:
            concern, state = Concern.RECIPIENT, State.DEFERRED
        if state is State.PENDING and self._is_its_own(concern, recipient, outcome):
            state = State.DEFERRED
        self._heed(concern, outcome)
        if concern is Concern.MESSAGE:
            self._refused(recipient, outcome)
            return
        if state is State.ACCEPTED:
            shared.opened = shared.content_proven = True
            shared.taken += 1
            shared.desk.accepted(recipient)
            shared.decide_refusals()
            shared.settle(recipient, state, outcome)
            return
        self._record(recipient, began, state, outcome)

    def _is_its_own(self, concern: Concern, recipient: Recipient, outcome: Outcome) -> bool:
        """Whether it is this message, again and again, with which sessions end or which is too
        much, while others are taken: then it counts.
        """
        shared = self._shared
        if concern not in (Concern.SESSION, Concern.ACCOUNT) or shared.halt:
            return False
        if outcome.phase is Phase.QUEUED:
            return False
        times, taken_before = shared.troubles.get(recipient.id, (0, shared.taken))
        shared.troubles[recipient.id] = times + 1, taken_before
        others = shared.taken - taken_before
        if concern is Concern.ACCOUNT:
            return times + 1 >= LONG_PATIENCE and others >= MANY_OTHERS
        is_alone = times + 1 >= 2 * PATIENCE and shared.content_proven
        return is_alone or (times + 1 >= PATIENCE and others > 0)

    def _heed(self, concern: Concern, outcome: Outcome) -> None:
        """What an outcome means for the session, the pace and the run."""
        halt, desk = self._shared.halt, self._shared.desk
        if concern is Concern.RUN:
            said = f"the server refuses to go on: {outcome}"
            halt.call(Stop(ExitStatus.UNAVAILABLE, said, for_all=True))
        elif concern is Concern.QUOTA:
            halt.call(desk.quota_used_up(str(outcome)))
        elif concern is Concern.SESSION:
            self._retired, self._last_failure = True, str(outcome)
        elif concern is Concern.ACCOUNT:
            self._was_busy = True  # if it ends the session, that is no failure of its own
            if stop := desk.complained(str(outcome), at_first=not self._shared.opened):
                halt.call(stop)
        elif outcome.reply is not None:
            self._failures = 0

    def _refused(self, recipient: Recipient, outcome: Outcome) -> None:
        """Its message was refused: by itself, or as all would be? Pending until that is clear."""
        shared = self._shared
        shared.settle(recipient, State.PENDING, outcome)
        number = shared.refusals.add(recipient, outcome)
        if not shared.content_proven and outcome.phase is not Phase.UNSENDABLE:
            told = (
                f"the first message was refused, to {recipient.address}: {outcome}\n"
                "nobody was marked as failed. If only this person's is refused, and not all, leave"
                f" them out: bulkmail suppress add {recipient.address}"
            )
        elif number >= shared.limits.stop_after_failures:
            told = (
                f"{number} messages in a row were refused alike, the last with: {outcome}\n"
                "nobody was marked as failed for it. If only these are refused, and not all,"
                " raise stop_after_failures"
            )
        else:
            return
        shared.halt.call(Stop(ExitStatus.UNAVAILABLE, told, for_all=True))

    def _record(self, recipient: Recipient, began: float, state: State, outcome: Outcome) -> None:
        shared = self._shared
        due_at = 0.0
        if state is State.DEFERRED:
            due_at = shared.desk.clock() + self._pause_before_retry(recipient)
            # Time in which nobody tried, since no run was under way, is no patience used up.
            idle = max(0.0, time.time() - recipient.due_at) if recipient.due_at else 0.0
            since = max(recipient.first_attempt_at or began, recipient.again_at)
            if due_at > since + idle + shared.limits.give_up:
                state, due_at = State.EXPIRED, 0.0
            else:
                shared.desk.deferred(recipient, due_at)
        elif state is State.PENDING:
            # Its own message may be what breaks the sessions: then the others go before it.
            times, _ = shared.troubles.get(recipient.id, (0, 0))
            shared.desk.release(recipient, last=times > 1)
        shared.settle(recipient, state, outcome, due_at)

    def _pause_before_retry(self, recipient: Recipient) -> float:
        """Doubles with each attempt, with jitter, so that not all come back at once."""
        limits = self._shared.limits
        pause = limits.first_retry * 2.0 ** min(recipient.attempts, 30)
        return min(limits.longest_retry, pause) * random.uniform(1.0, 1.0 + JITTER)


async def _unless_halted(halt: Halt, server: Server) -> Session | None:
    """Connects; None if the run is told to end meanwhile."""
    connecting = asyncio.ensure_future(server.connect())
    halted = asyncio.ensure_future(halt.wait())
    await asyncio.wait({connecting, halted}, return_when=asyncio.FIRST_COMPLETED)
    halted.cancel()
    if connecting.done():
        return connecting.result()
    connecting.cancel()
    with suppress(asyncio.CancelledError, BulkmailError):
        (await connecting).abort("the run ended")
    return None
