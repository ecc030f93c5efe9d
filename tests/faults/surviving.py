"""Rows 30 and 31: what happens to the machine that sends.

Kills at any instant are proved by another suite, `tests/crash` (`make crash`), which kills real runs
hundreds of times and judges them by what the server took.
"""

import asyncio
import resource
import signal
import time
from dataclasses import replace
from unittest import mock

from bulkmail.ledger import SqliteView
from bulkmail.model import Rate, Recipient, State
from bulkmail.sandbox.receiving import Hangup
from bulkmail.smtp.conversation import WINDOW

from ..conftest import Project
from .case import LETTERS, Act, Seen, Wire, case, in_doubt
from .peer import Ask, Connection, Peer
from .world import ONE, World

ANY = (Wire.NONE,)


class Command:
    """`bulkmail run` in a process of its own, in the folder of the world."""

    def __init__(self, world: World, peer: Peer, number: int) -> None:
        world.number = number
        self.world = world
        self.project = Project(world.folder)
        self.project.write("letter.txt", "Dear {{ name }}, this is for {{ email }}.\n")
        self.project.people(*(f"p{n}@example.com,Person {n}" for n in range(number)))
        self.project.campaign(peer, smtp="  connections: 1")  # type: ignore[arg-type]
        self.process: asyncio.subprocess.Process | None = None

    async def start(self) -> None:
        self.process = await self.project.start("run", "letter.yaml", "--yes")
        self.world.processes.append(self.process)

    async def end(self) -> Seen:
        """Waits for it; what it came to."""
        assert self.process is not None and self.process.returncode is None
        _, err = await asyncio.wait_for(self.process.communicate(), 30)
        assert self.process.returncode is not None
        return self.seen(self.process.returncode, err.decode())

    async def run(self) -> Seen:
        await self.start()
        return await self.end()

    def seen(self, status: int, said: str) -> Seen:
        world, view = self.world, SqliteView(self.world.folder / "bulkmail.sqlite")
        record = view.campaign("letter")
        assert record is not None
        rows = {row["email"]: row for row in view.report(record, [])}
        view.close()
        addresses = [world.address(n) for n in range(world.number)]
        taken = [path for peer in world.peers for path in peer.taken]
        notes = [said] if "Traceback" in said else []
        return Seen(
            "".join(LETTERS[State(rows[address]["state"])] for address in addresses),
            status,
            said,
            sum(peer.logins for peer in world.peers),
            sum(peer.accepted for peer in world.peers),
            "".join(str(taken.count(address)) for address in addresses),
            notes,
        )


# -- 30: stopped, woken, twice, another time ------------------------------------------------------

EIGHT = "A" * 8


def stopped(verb: str, gives_up: bool) -> Act:
    """SIGSTOP at person 3, CONT later; meanwhile the server may lose its patience."""

    async def act(world: World) -> Seen:
        async def stop(connection: Connection) -> None:
            assert command.process is not None
            command.process.send_signal(signal.SIGSTOP)
            await asyncio.sleep(0.2)
            command.process.send_signal(signal.SIGCONT)
            if gives_up:
                raise Hangup(b"421 4.4.2 timeout\r\n")

        def answer(ask: Ask) -> None:
            if (ask.verb, ask.person) == (verb, 3) and not stops:
                stops.append(ask)
                ask.connection.then = stop

        stops: list[Ask] = []
        command = Command(world, await world.peer(answer), 8)
        return await command.run()

    return act


async def two_at_once(world: World) -> Seen:
    """The second is refused while the first is under way, which ends as if nothing had been."""

    async def meanwhile(connection: Connection) -> None:
        held.set()
        await released.wait()

    def answer(ask: Ask) -> None:
        if (ask.verb, ask.person) == ("RCPT", 3) and not held.is_set():
            ask.connection.then = meanwhile

    held, released = asyncio.Event(), asyncio.Event()
    command = Command(world, await world.peer(answer), 8)
    await command.start()
    await asyncio.wait_for(held.wait(), 20)
    second = await command.project.bulkmail("run", "letter.yaml", "--yes")
    released.set()
    seen = await command.end()
    if second.status != 75 or "another run is using" not in second.err:
        seen.notes.append(f"the second one: {second}")
    return seen


def jumps(hours: float) -> Act:
    """The clock on the wall, amid a run with a rate; the rate holds, and the run does not wait."""

    async def act(world: World) -> Seen:
        real, moved = time.time, [0.0]

        def settled(recipient: Recipient, *more: object) -> None:
            if recipient.address == world.address(4):
                moved[0] = hours * 3600

        world.on_settled = settled
        world.number = 12
        peer = await world.peer()
        started = time.monotonic()
        with mock.patch("time.time", lambda: real() + moved[0]):
            seen = await world.run(peer, rates=[Rate(50, 1)])
        seconds = time.monotonic() - started
        dots = [ask.at for ask in peer.asked if ask.verb == "."]
        if not moved[0] or seconds > 3 or dots[-1] - dots[4] < 0.12:
            seen.notes.append(f"{seconds:.3f} s, dots at {dots}")
        return seen

    return act


def killed(verb: str) -> Act:
    """Once, and told to continue; `tests/crash` does it at any instant."""

    async def act(world: World) -> Seen:
        async def hang_up(connection: Connection) -> None:
            assert command.process is not None
            await command.process.wait()
            raise Hangup

        def answer(ask: Ask) -> None:
            if (ask.verb, ask.person) == (verb, 3) and not killed:
                killed.append(ask)
                assert command.process is not None
                command.process.kill()  # before it can hear the answer
                ask.connection.then = hang_up

        killed: list[Ask] = []
        command = Command(world, await world.peer(answer), 8)
        await command.start()
        assert command.process is not None
        await asyncio.wait_for(command.process.communicate(), 30)
        return await command.run()

    return act


case(30, "SIGSTOP and CONT", stopped("RCPT", False), EIGHT)
case(30, "SIGSTOP and CONT, 421 meanwhile", stopped("RCPT", True), EIGHT)
case(
    30,
    "killed at RCPT, run again",
    killed("RCPT"),
    "AAAXAAAA",
    1,
    wires=(Wire.PLAIN, Wire.CHUNKING),
    taken="11101111",
    chunked=in_doubt("A[AX][AX]XX*A*"),
)
case(
    30,
    "killed at the dot, run again",
    killed("."),
    "AAAXAAAA",
    1,
    wires=(Wire.PLAIN, Wire.CHUNKING),
    taken="11111111",
    chunked=in_doubt("A[AX][AX]XX*A*"),
)
case(30, "two runs at once", two_at_once, EIGHT, wires=ANY)
case(30, "the clock jumps an hour forward", jumps(1), "A" * 12, wires=ANY)
case(30, "the clock jumps an hour back", jumps(-1), "A" * 12, wires=ANY)

# -- 31: the disk ---------------------------------------------------------------------------------


UNDER_WAY = {Wire.PLAIN: 1, Wire.PIPELINING: 3, Wire.CHUNKING: WINDOW}


def unwritable(spoil: str, mend: str) -> Act:
    """From person 20 on nothing can be committed, by SQLite's own means. Then it is mended."""

    async def act(world: World) -> Seen:
        world.number = 400
        ledger, record = world.enrol()
        db = ledger._db
        [pages] = db.execute("PRAGMA page_count").fetchone()

        def settled(*of: object) -> None:
            told.append(of)
            if len(told) == 20:
                db.execute(spoil.format(pages=pages))

        told: list[object] = []
        world.on_settled = settled
        seen = await world.run(await world.peer(), limits=replace(ONE, connections=2))
        db.execute(mend.format(pages=pages * 100))
        world.on_settled = lambda *of: None
        ledger.recover(record, time.time())
        after = world.seen()
        left = after.people.count("P")
        doubtful = after.people.count("X")
        # Half of them are those whose reply had come and is not on the disk.
        if left < 300 or doubtful > 2 * 2 * UNDER_WAY[world.wire]:
            seen.notes.append(f"{left} left, {doubtful} in doubt")
        # What the run itself wrote down is not all that happened; what it leaves to the next one is.
        return replace(after, end=seen.end, reason=seen.reason, notes=after.notes + seen.notes)

    return act


SOME_THEN_NONE = "[AXP]*P{300,}"
case(31, "the disk is full", unwritable("PRAGMA max_page_count = {pages}", "PRAGMA max_page_count = {pages}"),
     SOME_THEN_NONE, 74, says="bulkmail.sqlite: database or disk is full")  # fmt: skip
case(31, "the ledger is read-only", unwritable("PRAGMA query_only = 1", "PRAGMA query_only = 0"),
     SOME_THEN_NONE, 74, says="bulkmail.sqlite: attempt to write a readonly database")  # fmt: skip


async def no_more_bytes(world: World) -> Seen:
    """The system refuses to make files larger, from person 3 on; then it is mended and run again."""

    async def fill(connection: Connection) -> None:
        assert command.process is not None
        limit = (4096, resource.getrlimit(resource.RLIMIT_FSIZE)[1])
        resource.prlimit(command.process.pid, resource.RLIMIT_FSIZE, limit)

    def answer(ask: Ask) -> None:
        if (ask.verb, ask.person) == ("RCPT", 3):
            ask.connection.then = fill

    peer = await world.peer(answer)
    command = Command(world, peer, 20)
    first = await command.run()
    if first.end != 74 or "bulkmail.sqlite" not in first.reason or "P" * 8 not in first.people:
        first.notes.append(f"after the first run: {first}, {first.reason}")
    peer.answer = lambda ask: None
    seen = await command.run()
    return replace(seen, notes=seen.notes + first.notes, end=first.end)


if hasattr(resource, "prlimit"):
    case(31, "files cannot grow amid a run; then the next one goes on", no_more_bytes, "AAAXA{16}", 74,
         wires=ANY)  # fmt: skip


async def no_lock(world: World) -> Seen:
    """As on a file system without locks: nobody can tell whether another run is under way."""
    peer = await world.peer()
    command = Command(world, peer, 5)
    (world.folder / "bulkmail.sqlite.lock").mkdir()
    result = await command.project.bulkmail("run", "letter.yaml", "--yes")
    return Seen(
        "PPPPP",
        result.status,
        result.err,
        peer.logins,
        peer.accepted,
        "0" * len(peer.taken or "00000"),
    )


case(31, "the ledger cannot be locked", no_lock, "PPPPP", 74, wires=ANY, logins=0, connections=0,
     says="bulkmail.sqlite.lock: unable to open")  # fmt: skip
