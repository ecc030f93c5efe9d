"""A run against a peer: a real ledger, real sockets, and a clock that can be put forward."""

import asyncio
import os
import re
import ssl
import time
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager, suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from types import MappingProxyType
from typing import Any, NamedTuple
from unittest import mock

from bulkmail import pace
from bulkmail.delivery import Delivery, Limits, Stop
from bulkmail.errors import ExitStatus
from bulkmail.ledger import CampaignLedger, CampaignRecord, SqliteLedger, SqliteView
from bulkmail.model import Envelope, MailObject, Outcome, Phase, Rate, Recipient, Row, State
from bulkmail.pace import DomainPaces, Pace
from bulkmail.sandbox.server import make_certificate
from bulkmail.transport import SubmissionServer, Timeouts
from bulkmail.transport.session import Session

from .case import LETTERS, Seen, Wire
from .peer import CHUNKING, PIPELINING, PLAIN, Answer, Connection, Peer

ONE = Limits(
    connections=1,
    wait=30,
    drain=0.3,
    first_reconnect=0.01,
    longest_reconnect=0.05,
    first_retry=60,
    busy_at_first=0.5,
)
"""Who is deferred stays so: the retry is further away than the run waits."""

PATIENT = Timeouts(connect=10, quit=2, replies=MappingProxyType(dict.fromkeys(Phase, 10.0)))
HASTY_SECONDS = 0.3
HASTY = Timeouts(
    connect=HASTY_SECONDS, quit=0.2, replies=MappingProxyType(dict.fromkeys(Phase, HASTY_SECONDS))
)
"""For servers that hang. Against others it would make the test depend on the machine's speed."""

HOLD_SECONDS = 0.02
"""The first pause after a complaint, scaled from a second."""


_EXTENSIONS = {
    Wire.NONE: PLAIN,
    Wire.PLAIN: PLAIN,
    Wire.PIPELINING: PIPELINING,
    Wire.CHUNKING: CHUNKING,
}


class Certificate(NamedTuple):
    """What a server shows, and the file of the CA that a client is to trust."""

    context: ssl.SSLContext
    ca_file: Path


class Clock:
    """The loop's clock, which can be put forward; nothing waits for it that does not ask it."""

    def __init__(self) -> None:
        loop = asyncio.get_running_loop()
        self._forward = 0.0
        real = loop.time
        loop.time = lambda: real() + self._forward  # type: ignore[method-assign]

    async def forward(self, seconds: float) -> None:
        """All timers that are due by then have fired when this returns."""
        self._forward += seconds
        for _ in range(3):
            await asyncio.sleep(0)


@dataclass
class Letter:
    """A composer of short messages, but for those whose size is given. The reverse-path tells whose
    it is, so that a server knows at MAIL.
    """

    sizes: dict[int, int] = field(default_factory=dict)

    def compose(self, recipient: Recipient, at: float) -> MailObject:
        person, _, _ = recipient.address.partition("@")
        line = f"Hello {person}, this is for you, all of it, line by line.\r\n".encode()
        lines = self.sizes.get(int(person[1:]), 0) // len(line)
        content = f"To: {recipient.address}\r\n\r\n".encode() + line * max(1, lines)
        return MailObject(
            Envelope(f"{person}@sender.example", recipient.address),
            (content,),
            f"<{recipient.id}@x>",
        )


class Dialled:
    """A server whose attempts to connect are counted; `before(number)` is called before each."""

    def __init__(self, server: SubmissionServer, before: Callable[[int], Any]) -> None:
        self.attempts = 0
        self._server = server
        self._before = before

    async def connect(self) -> Session:
        self.attempts += 1
        if asyncio.iscoroutine(told := self._before(self.attempts)):
            await told
        return await self._server.connect()


@dataclass
class World:
    """One case's. Peers, processes and the ledger end with it."""

    folder: Path
    certificate: Certificate
    wire: Wire
    clock: Clock
    remarks: list[str] = field(default_factory=list)
    number: int = 5
    domain: Callable[[int], str] = lambda n: "example.com"
    peers: list[Peer] = field(default_factory=list)
    processes: list[asyncio.subprocess.Process] = field(default_factory=list)
    stop: Stop | None = None
    attempts: int = 0
    has_rates: bool = False
    limits: Limits = ONE
    delivery: Delivery | None = None
    on_settled: Callable[[Recipient, State, Outcome], None] = lambda recipient, state, outcome: None
    _ledger: SqliteLedger | None = None
    _record: CampaignRecord | None = None

    async def peer(self, answer: Answer | None = None, **told: Any) -> Peer:
        """A server that listens."""
        extensions = _EXTENSIONS[self.wire]
        told.setdefault("extensions", lambda number: extensions)
        told.setdefault("before_answering", self._until_the_window_is_out)
        told.setdefault("tls", self.certificate.context)
        told.setdefault("ca_file", str(self.certificate.ca_file))
        peer = Peer(**told) if answer is None else Peer(answer=answer, **told)
        self.peers.append(peer)
        await peer.start()
        return peer

    def enrol(self) -> tuple[SqliteLedger, CampaignRecord]:
        """The ledger with everyone in it, made when it is first asked for."""
        if self._ledger is None or self._record is None:
            self._ledger = SqliteLedger(self.folder / "bulkmail.sqlite")
            self._record = self._ledger.campaign("july", time.time())
            people = (Row(self.address(n), {}, f"m.csv:{n + 2}") for n in range(self.number))
            self._ledger.enrol(self._record, people)
        return self._ledger, self._record

    def address(self, person: int) -> str:
        return f"p{person}@{self.domain(person)}"

    async def run(
        self,
        peer: Peer,
        *,
        limits: Limits = ONE,
        timeouts: Timeouts = PATIENT,
        rates: Sequence[Rate] = (),
        sizes: dict[int, int] | None = None,
        content_proven: bool = False,
        before: Callable[[int], Any] = lambda number: None,
        hold: float = HOLD_SECONDS,
        **submission: Any,
    ) -> Seen:
        """Runs the campaign; what came of it. `submission` is what differs there."""
        ledger, record = self.enrol()
        server = replace(peer.submission, **submission)
        peer.window = server.window
        changes = CampaignLedger(ledger, record, server.account, ledger.contents.id_of(record, "c"))
        dialled = Dialled(SubmissionServer(server, timeouts, self.remarks.append), before)
        changes.commits.on_failure = lambda: self._ledger_failed(changes)
        self.has_rates, self.limits = bool(rates), limits
        with mock.patch.object(pace, "FIRST_HOLD", hold):
            self.delivery = Delivery(
                changes,
                dialled,
                Letter(sizes or {}),
                Pace(rates),
                DomainPaces({}),
                limits,
                lambda *settled: self.on_settled(*settled),
                content_proven=content_proven,
            )
            try:
                self.stop = await self.delivery.run()
            finally:
                await changes.close()
        self.attempts += dialled.attempts
        return self.seen()

    async def _until_the_window_is_out(self, connection: Connection) -> None:
        """With CHUNKING all that the client has to say for now is said before any is answered."""
        if self.wire is not Wire.CHUNKING or self.delivery is None or self.has_rates:
            return
        shared, loop = self.delivery._shared, asyncio.get_running_loop()
        desk = shared.desk
        for _ in range(100):
            if len(shared.sessions) != 1 or not shared.opened or shared.halt:
                break
            [session] = shared.sessions
            if (
                session._conversation.room == 0
                or self.limits.messages_per_connection <= session.submitted
            ):  # type: ignore[attr-defined]
                break
            if desk.is_empty or desk.closed or desk._pace.is_held(loop.time()):
                break
            await asyncio.sleep(0.002)

    def _ledger_failed(self, changes: CampaignLedger) -> None:
        """As the command does it."""
        assert self.delivery is not None
        self.delivery.stop(Stop(ExitStatus.LEDGER, str(changes.commits.failure)))
        self.delivery.abort("the ledger cannot be written")

    def rows(self) -> dict[int, dict[str, Any]]:
        """What the ledger has of everyone, by number."""
        _, record = self.enrol()
        view = SqliteView(self.folder / "bulkmail.sqlite")
        try:
            return {int(_number(row["email"])): row for row in view.report(record, [])}
        finally:
            view.close()

    def seen(self) -> Seen:
        """What there is now."""
        rows = self.rows()
        people = "".join(LETTERS[State(str(rows[n]["state"]))] for n in range(self.number))
        taken = [path for peer in self.peers for path in peer.taken]
        copies = "".join(str(taken.count(self.address(n))) for n in range(self.number))
        status = 1 if set(people) & set("FXE") else 0
        return Seen(
            people,
            int(self.stop.status) if self.stop else status,
            self.stop.reason if self.stop else "",
            sum(peer.logins for peer in self.peers),
            self.attempts,
            copies,
            self._never(rows),
        )

    def _never(self, rows: dict[int, dict[str, Any]]) -> list[str]:
        """What must not be in any case."""
        notes = [violation for peer in self.peers for violation in peer.violations]
        charged = [n for n, row in rows.items() if row["state"] == "pending" and row["attempts"]]
        if charged:
            notes.append(f"an attempt was counted for {charged}")
        return notes

    async def close(self) -> None:
        for process in self.processes:
            if process.returncode is None:
                process.kill()
                await process.communicate()
        for peer in self.peers:
            await peer.stop()
        if self._ledger is not None:
            self._ledger.close()


def _number(address: object) -> str:
    found = re.match(r"p(\d+)@", str(address))
    assert found is not None
    return found[1]


async def until_the_next_is_there(world: World, connection: Connection, replies: bytes) -> None:
    """So that the next message joins the write of the content. The run's first goes alone, and so
    does one whose predecessor's reply is said only now.
    """
    peer, delivery = connection.peer, world.delivery
    if not peer.taken or connection.number not in peer.pipelined or delivery is None:
        return
    if len(replies.splitlines()) > 3:
        return
    begun = sum(ask.verb == "DATA" and ask.connection is connection for ask in peer.asked)
    for _ in range(100):
        if any(session.submitted > begun for session in delivery._shared.sessions):
            break
        await asyncio.sleep(0.002)


@contextmanager
def folder() -> Iterator[Path]:
    """A folder for one case; in memory where there is such a place, since some 400 ledgers that are
    synced to a disk take their time.
    """
    memory = Path("/dev/shm")
    with TemporaryDirectory(dir=memory if os.access(memory, os.W_OK) else None) as name:
        yield Path(name)


def certificate_for(folder: Path) -> Certificate:
    return Certificate(*make_certificate(folder))


@asynccontextmanager
async def world(folder: Path, certificate: Certificate, wire: Wire) -> AsyncIterator[World]:
    """A world in a folder of its own."""
    made = World(folder, certificate, wire, Clock())
    try:
        yield made
    finally:
        with suppress(OSError):
            await made.close()
