"""A logged-in connection that carries a conversation: bytes, flow control and timeouts.

It knows nothing of recipients. On any surprise the transport is aborted, never closed politely:
closing would flush what is still buffered, a final dot among it.
"""

import asyncio
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType

from bulkmail.model import MailObject, Outcome, Phase
from bulkmail.smtp.conversation import Conversation
from bulkmail.smtp.ending import Ending


@dataclass(frozen=True, slots=True)
class Timeouts:
    """Seconds to wait for a reply, from RFC 5321 4.5.3.2; `connect` covers TLS, EHLO and login too.

    `quit` bounds the goodbye, whose answer changes nothing.
    """

    connect: float = 60.0
    quit: float = 5.0
    replies: Mapping[Phase, float] = field(
        default_factory=lambda: MappingProxyType(
            {
                Phase.QUEUED: 300.0,
                Phase.MAIL: 300.0,
                Phase.RCPT: 300.0,
                Phase.DATA: 120.0,
                Phase.CONTENT: 180.0,
                Phase.DOT: 600.0,
            }
        )
    )


BUFFER_BYTES = 16384
"""What one TLS record holds."""


class Session(asyncio.BufferedProtocol):
    """Takes over a transport. One task submits; outcomes arrive by the callbacks it gave.

    `ended` says why nothing more can be submitted; `on_ended` is called once, when it ended.
    """

    def __init__(
        self,
        transport: asyncio.Transport,
        conversation: Conversation,
        timeouts: Timeouts,
        on_ended: Callable[[], None] | None = None,
    ) -> None:
        self.submitted = 0
        self._transport = transport
        self._former = transport.get_protocol()
        self._conversation = conversation
        self._timeouts = timeouts
        self._on_ended = on_ended
        self._buffer = memoryview(bytearray(BUFFER_BYTES))
        self._callbacks: dict[int, Callable[[Outcome], None]] = {}
        self._writable = True
        self._changed = asyncio.Event()
        self._loop = asyncio.get_running_loop()
        self._awaited: object = None
        self._deadline = 0.0
        self._timer: asyncio.TimerHandle | None = None
        transport.set_protocol(self)

    @property
    def ended(self) -> str | None:
        return self._conversation.ended

    @property
    def busy(self) -> bool:
        return not self._conversation.idle

    @property
    def free(self) -> int:
        """How many mail objects can be submitted now."""
        return self._conversation.room

    def submit(self, mails: Sequence[tuple[MailObject, Callable[[Outcome], None]]]) -> None:
        """Sends mail objects, no more than are `free`. Each comes with what is called with its
        outcome, once, at the latest when the session ends.
        """
        self.submitted += len(mails)
        for mail, on_outcome in mails:
            self._callbacks[id(mail)] = on_outcome
            self._conversation.offer(mail)
        self._advance()

    async def room(self) -> bool:
        """Waits until another mail object can be submitted; False if the session ended."""
        await self._until(lambda: self._conversation.room > 0)
        return self.ended is None

    async def idle(self) -> bool:
        """Waits until nothing is under way; False if the session ended."""
        await self._until(lambda: self._conversation.idle)
        return self.ended is None

    async def quit(self) -> None:
        """Waits for what is under way, then says goodbye, within bounded time."""
        if await self.idle():
            self._conversation.quit()
            self._advance()
            try:
                await asyncio.wait_for(self._until(lambda: False), self._timeouts.quit)
            except TimeoutError:
                self.abort("no answer to QUIT")

    def abort(self, cause: str, ending: Ending = Ending.ORDERLY) -> None:
        """Ends at once. What is under way is settled by how far it had come."""
        self._conversation.end(cause, ending)
        self._advance()

    async def _until(self, condition: Callable[[], bool]) -> None:
        while self.ended is None and not condition():
            self._changed.clear()
            await self._changed.wait()

    def _advance(self) -> None:
        """Writes what is to be said, and hands out what is settled."""
        conversation = self._conversation
        while self._writable and (data := conversation.next_write()) is not None:
            self._transport.write(data)
        failure: Exception | None = None
        for mail, outcome in conversation.take_settled():
            try:
                self._callbacks.pop(id(mail))(outcome)
            except Exception as error:  # the others are told first
                failure = failure or error
        self._attend()
        if failure is not None:
            raise failure

    def _attend(self) -> None:
        """Aborts what has ended, watches the time of the rest, and wakes whoever waits."""
        conversation = self._conversation
        if conversation.ended is not None:
            self._transport.abort()
            if self._timer is not None:
                self._timer.cancel()
            on_ended, self._on_ended = self._on_ended, None
            if on_ended is not None:
                on_ended()
        elif (awaited := conversation.awaited) is not None and awaited[0] is not self._awaited:
            self._awaited, phase = awaited
            self._wait_at_most(self._timeouts.replies[phase])
        self._changed.set()

    def _wait_at_most(self, seconds: float) -> None:
        """Moves the deadline. One timer serves: it looks again when it fires too early."""
        self._deadline = self._loop.time() + seconds
        if self._timer is None or self._timer.when() > self._deadline:
            if self._timer is not None:
                self._timer.cancel()
            self._timer = self._loop.call_at(self._deadline, self._look_at_deadline)

    def _look_at_deadline(self) -> None:
        self._timer = None
        awaited = self._conversation.awaited
        if awaited is None:
            return
        if self._loop.time() < self._deadline:
            self._timer = self._loop.call_at(self._deadline, self._look_at_deadline)
        else:
            _, phase = awaited
            seconds = self._timeouts.replies[phase]
            self.abort(f"no reply within {seconds:g} s ({phase.upper()})", Ending.ASTRAY)

    # -- asyncio.BufferedProtocol ----------------------------------------------------------------

    def get_buffer(self, sizehint: int) -> memoryview:
        return self._buffer

    def buffer_updated(self, nbytes: int) -> None:
        self._conversation.receive(bytes(self._buffer[:nbytes]))
        self._advance()

    def eof_received(self) -> None:
        self.abort("the server closed the connection", Ending.CUT_OFF)

    def pause_writing(self) -> None:
        self._writable = False

    def resume_writing(self) -> None:
        self._writable = True
        self._advance()

    def connection_lost(self, exc: Exception | None) -> None:
        cause = f"the connection was lost: {exc}" if exc else "the connection was lost"
        self.abort(cause, Ending.CUT_OFF)
        self._former.connection_lost(exc)
        # What is left would be garbage in a circle, and kept until somebody looks for such.
        del self._former, self._buffer, self._transport
