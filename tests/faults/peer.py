"""The hostile server: the sandbox's strict receiver behind streams, and scripts that spoil it.

`answer(ask)` may replace any reply, as that of `Behaviour` does; `takes_over(connection)` may do
all by itself, and return whether it did. What the server is responsible for is in `taken`, what was
said to it in `asked`, and what no client may do in `violations`.
"""

import asyncio
import re
import socket
import ssl
import struct
from collections import Counter
from collections.abc import Awaitable, Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field

from bulkmail.model import Security, Submission
from bulkmail.sandbox.receiving import Behaviour, Hangup, Received, Receiver
from bulkmail.sandbox.server import HOST
from bulkmail.smtp.conversation import WINDOW

PLAIN = ("SIZE 26214400", "8BITMIME", "ENHANCEDSTATUSCODES")
PIPELINING = ("PIPELINING", *PLAIN)
CHUNKING = ("CHUNKING", *PIPELINING)
LONG_BYTES = 65536
"""Content that is longer is to wait for the reply to RCPT."""
_END = b"\r\n.\r\n"
_PERSON = re.compile(r"p(\d+)@")
_MAIL = re.compile(rb"^MAIL FROM:", re.MULTILINE)


@dataclass(frozen=True)
class Ask:
    """A command, or `CONNECT`, or the dot. `person` is whose message it belongs to, or None."""

    connection: "Connection"
    verb: str
    argument: str
    person: int | None
    at: float


Answer = Callable[[Ask], bytes | None]


def honest(ask: Ask) -> None:
    """Answers nothing by itself."""


class ResetConnection(Exception):
    """Raised by a script: the connection is reset."""


class Connection:
    """One client."""

    def __init__(
        self,
        peer: "Peer",
        number: int,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
    ) -> None:
        self.number = number
        self.peer = peer
        self.reader = reader
        self.writer = writer
        self.behaviour = Behaviour(
            extensions=peer.extensions(number),
            login=("sender", "secret"),
            login_required=peer.login_required,
            starttls=peer.starttls,
            answer=self._answer,
        )
        self.receiver = Receiver(self.behaviour, self._keep)
        self.person: int | None = None
        self.then: Callable[[Connection], Awaitable[None]] | None = None
        """Set by a script: what is done next, before anything else is read."""
        self.asked: Ask | None = None
        """The last command, or dot."""
        self._announced = peer.extensions(number)
        self._envelope_unanswered = False
        self._more = False
        """Whether something came behind the command that is being answered."""
        self._socket: socket.socket = writer.get_extra_info("socket")
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    async def serve(self) -> None:
        """Until one side has enough."""
        try:
            if not await self.peer.takes_over(self):
                await self.greet()
                await self.go_on()
        except Hangup as hangup:
            self.writer.write(hangup.last_words)
        except ResetConnection:
            self.reset()
        except (OSError, asyncio.IncompleteReadError):
            pass
        finally:
            self.writer.close()

    async def greet(self) -> None:
        await self.say(self.receiver.greet())

    async def go_on(self) -> None:
        """Honestly, but for what the script spoils."""
        while not self.receiver.closed and (data := await self.reader.read(65536)):
            await self.take(data)

    async def take(self, data: bytes) -> None:
        """Answers what is complete. Replies from before a script interrupts are still said."""
        self._count_messages(data)
        await self.peer.before_answering(self)
        replies = b""
        try:
            for piece in self._pieces(data):
                if (reply := self.receiver.receive(piece)) and self.asked is not None:
                    replies += self.peer.spoils(self.asked, reply)
                if self.then is not None:
                    await self.say(replies)
                    replies, then, self.then = b"", self.then, None
                    await then(self)
        finally:
            if b"354 " in replies:
                await self.peer.before_354(self, replies)
            await self.say(self.peer.says(self, replies))
        if self.receiver.wants_tls:
            self.receiver.secured()
            await self.writer.start_tls(self.peer.tls)

    def _pieces(self, data: bytes) -> Iterator[bytes]:
        """Commands and contents, each alone."""
        data = self.peer.hears(self, data)
        while data:
            if (chunk := self.receiver._chunk) is not None:
                length = max(1, chunk.size - len(self.receiver._unread))
                piece, data = data[:length], data[length:]
                yield piece
                continue
            end = _END if self.receiver._in_data else b"\r\n"
            found = 0 if data.startswith(b".\r\n") else data.find(end)
            length = found + len(end) if found > 0 else 3 if found == 0 else len(data)
            piece, data = data[:length], data[length:]
            self._more = bool(data)
            yield piece

    async def say(self, data: bytes) -> None:
        self._envelope_unanswered = False
        if not data:
            return
        if self.peer.byte_by_byte:
            for byte in data:
                self.writer.write(bytes([byte]))
                await asyncio.sleep(0)
        self.writer.write(b"" if self.peer.byte_by_byte else data)
        await self.writer.drain()

    def reset(self) -> None:
        """RST, whatever is under way."""
        with suppress(OSError, ValueError):  # it may have none any more
            self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.writer.transport.abort()

    def _answer(self, verb: str, argument: str) -> bytes | None:
        if verb in ("MAIL", "RCPT") and (found := _PERSON.search(argument)):
            self.person = int(found[1])
        if self._more and verb in ("RSET", "MAIL", "RCPT", "DATA"):
            self._said_at_once(verb)
        if verb == "BDAT":
            self._said_in_chunks(int(argument.split()[0]))
        self._envelope_unanswered |= verb in ("MAIL", "RCPT")
        self.asked = Ask(self, verb, argument, self.person, asyncio.get_running_loop().time())
        self.peer.asked.append(self.asked)
        reply = self.peer.answer(self.asked)
        if verb == "EHLO" and reply is not None:
            self._announced = tuple(line[4:] for line in reply.decode().splitlines())
        return reply

    def _said_at_once(self, verb: str) -> None:
        if verb == "DATA" or "PIPELINING" not in self._announced:
            self.peer.violations.append(f"said something behind {verb} before its reply")
        else:
            self.peer.pipelined.add(self.number)

    def _said_in_chunks(self, size: int) -> None:
        if "CHUNKING" not in self._announced:
            self.peer.violations.append("said BDAT to a server that does not announce it")
        if size > LONG_BYTES and self._envelope_unanswered:
            self.peer.violations.append(f"said BDAT {size} before the reply to RCPT")

    def _count_messages(self, data: bytes) -> None:
        """All that was said before was answered, but for a message that is not whole yet."""
        in_chunks = {"PIPELINING", "CHUNKING"} <= set(self._announced)
        allowed = self.peer.window if in_chunks else 1 + ("PIPELINING" in self._announced)
        begun = len(_MAIL.findall(data)) + (self.receiver._message is not None)
        if begun > allowed:
            self.peer.violations.append(f"{begun} messages were under way; {allowed} at most")

    def _keep(self, received: Received) -> None:
        self.peer.taken.extend(received.forward_paths)
        self.peer.contents.append(received)


async def _takes_nothing_over(connection: Connection) -> bool:
    return False


async def _at_once(*of: object) -> None:
    return None


@dataclass
class Peer:
    """Listens on a port of loopback. `extensions` are those of the connection with that number."""

    tls: ssl.SSLContext
    ca_file: str | None
    extensions: Callable[[int], tuple[str, ...]] = lambda number: PIPELINING
    answer: Answer = honest
    takes_over: Callable[[Connection], Awaitable[bool]] = _takes_nothing_over
    hears: Callable[[Connection, bytes], bytes] = lambda connection, data: data
    """What it hears of what came in one piece."""
    says: Callable[[Connection, bytes], bytes] = lambda connection, replies: replies
    """What it says of the replies to that."""
    spoils: Callable[[Ask, bytes], bytes] = lambda ask, reply: reply
    """What it says instead of a reply, though it acts by that."""
    before_answering: Callable[[Connection], Awaitable[None]] = _at_once
    window: int = WINDOW
    """How many messages may be under way at once with CHUNKING."""
    before_354: Callable[[Connection, bytes], Awaitable[None]] = _at_once
    byte_by_byte: bool = False
    receive_buffer: int = 0
    """In bytes; 0: as the system has it."""
    starttls: bool = False
    login_required: bool = True
    speaks_tls: bool = True
    taken: list[str] = field(default_factory=list)
    contents: list[Received] = field(default_factory=list)
    asked: list[Ask] = field(default_factory=list)
    violations: list[str] = field(default_factory=list)
    pipelined: set[int] = field(default_factory=set)
    """The numbers of the connections in which commands were said at once."""
    accepted: int = 0
    port: int = 0
    open_now: set[Connection] = field(default_factory=set)
    used: Counter[object] = field(default_factory=Counter)
    """How often scripts answered that do so a number of times."""
    _listening: asyncio.Server | None = None
    _tasks: set[asyncio.Task[None]] = field(default_factory=set)

    async def start(self) -> None:
        """Listens, on the port that it had if it had one."""
        tls = self.tls if self.speaks_tls and not self.starttls else None
        listening = socket.create_server((HOST, self.port))
        if self.receive_buffer:
            listening.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, self.receive_buffer)
        self._listening = await asyncio.start_server(
            self._connected, sock=listening, ssl=tls, limit=65536
        )
        self.port = self._listening.sockets[0].getsockname()[1]

    async def stop(self) -> None:
        """Listens no longer, and breaks off what is open."""
        if self._listening is None:
            return
        self._listening.close()
        self._listening = None
        for connection in tuple(self.open_now):
            connection.reset()
        for task in tuple(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def at_rest(self) -> None:
        """Waits until no connection is open."""
        while self._tasks:
            await asyncio.wait(self._tasks)

    @property
    def submission(self) -> Submission:
        security = Security.STARTTLS if self.starttls else Security.TLS
        return Submission(HOST, self.port, security, "sender", "secret", self.ca_file)

    @property
    def logins(self) -> int:
        return self.count("AUTH")

    def count(self, verb: str) -> int:
        return sum(ask.verb == verb for ask in self.asked)

    def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.accepted += 1
        task = asyncio.ensure_future(self._serve(Connection(self, self.accepted, reader, writer)))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _serve(self, connection: Connection) -> None:
        self.open_now.add(connection)
        try:
            await connection.serve()
        finally:
            self.open_now.discard(connection)


def at(
    verb: str, reply: bytes | Exception | None, person: int | None = 2, times: int = 10**9
) -> Answer:
    """A server that answers `verb` so, for this person or, if None, for all; so many times. What it
    does at DATA it does at BDAT.
    """

    def answer(ask: Ask) -> bytes | None:
        used = ask.connection.peer.used
        said = "DATA" if ask.verb == "BDAT" and verb == "DATA" else ask.verb
        if said != verb or person not in (None, ask.person) or used[answer] >= times:
            return None
        used[answer] += 1
        if isinstance(reply, Exception):
            raise reply
        return reply

    return answer


def each(*answers: Answer) -> Answer:
    """The first of these that answers by itself."""

    def answer(ask: Ask) -> bytes | None:
        return next((said for one in answers if (said := one(ask)) is not None), None)

    return answer
