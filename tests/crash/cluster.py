"""Three workers that send one campaign after another, and one trouble in the middle of each.

The ledger is in a PostgreSQL server of their own; the recording server ends sessions now and then.
After a trouble the campaign must come to its end by whoever is left, and the ledger must agree with
what the server took. Only who was killed may leave somebody in doubt; what others hear is kept,
however late. A seed decides people, refusals, wire mode and instants.
"""

import asyncio
import os
import random
import signal
import sys
import time
from asyncio.subprocess import Process
from collections.abc import Callable, Coroutine, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit, urlunsplit

import psycopg

from bulkmail.errors import ExitStatus

from ..conftest import Project
from ..postgres import MISSING, VARIABLE, PostgresServer, programs
from .campaign import CONNECTIONS, WIRES, Recorder, tell, write_campaign, write_letter
from .judge import Copy, Entry, Evidence, Fault, Kind, taken_in
from .namespace import Namespace
from .people import SLOW, Person, people
from .relay import Relay
from .server import TAKEN

WORKERS = 3
WINDOWS = {"plain": 1, "pipelining": 3, "chunking": 4}
SLOW_RATE = "60/s"
PEOPLE = 480
"""Of one campaign: two seconds' work."""
LEASE_SECONDS = 2.0
SENDING_SECONDS = 0.5
"""From the first message of a campaign to the last instant of a trouble."""
PATIENCE_SECONDS = 60.0
LOOK_SECONDS = 0.05
ATTACHED = 0.25
"""How often a run sends as well."""
RUNS_TO_FINISH = 20


class Trouble(StrEnum):
    """What befalls a campaign."""

    KILLED = "worker killed"
    RUN_KILLED = "attached run killed"
    ALL_KILLED = "all workers killed"
    TERMINATED = "worker told to end"
    FROZEN = "worker stopped, long"
    """SIGSTOP for longer than the lease, SIGCONT."""
    DOZED = "worker stopped, short"
    DATABASE = "database killed"
    OUTAGE = "database away, long"
    """Killed, and started again after longer than the lease."""
    CUT = "network cut, long"
    """Then all that was held up comes through."""
    BROKEN = "network broken, long"
    """Then all connections are reset."""
    FLICKERED = "network cut, short"
    RESET = "connections reset"
    PAUSED = "paused, run again"
    PLANNER = "planner killed"
    """Before, in or after its commit."""
    STORM = "kill, stop and restart"
    """One worker is killed, another one stopped, and the database restarted."""


@dataclass
class Round:
    """One campaign and its trouble. `doubts` are those of people who were in flight with someone
    who lost the lease, as events; `left` of them stayed in doubt; `bound` is how many may.
    """

    wire: str
    seed: int
    index: int
    trouble: Trouble
    bound: int = 0
    doubts: int = 0
    left: int = 0
    late: int = 0
    seconds: float = 0.0
    """From the trouble to the end of the campaign."""
    faults: list[Fault] = field(default_factory=list)

    def found(self, what: str) -> None:
        self.faults.append(Fault(Kind.RECORD, what))


def what_is_lacking() -> str:
    """Why no cluster can be tried here; empty if it can be."""
    if os.environ.get(VARIABLE):
        return f"the server of {VARIABLE} is not the tests' to kill"
    return "" if programs() else MISSING


class Worker:
    """A process, and its network."""

    def __init__(self, project: Project, log: Path, relay: Relay, url: str) -> None:
        self.relay = relay
        self.process: Process | None = None
        self._project = project
        self._log = log
        self._url = url

    async def start(self) -> None:
        with self._log.open("ab") as log:
            self.process = await asyncio.create_subprocess_exec(
                *(*self.relay.by, sys.executable, "-m", "bulkmail", "worker"),
                cwd=self._project.folder,
                env={**os.environ, **self._project.environment, "BULKMAIL_LEDGER": self._url},
                stdin=asyncio.subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )

    def tell(self, number: signal.Signals) -> None:
        assert self.process is not None
        tell(self.process, number)

    async def ended(self) -> int:
        assert self.process is not None
        return await self.process.wait()

    @property
    def status(self) -> int | None:
        assert self.process is not None
        return self.process.returncode

    def said(self) -> str:
        return self._log.read_text("utf-8", "replace")[-2000:]


class World:
    """A database, a server, workers, and the campaigns that they send; each worker on a network of
    the kernel's, if `namespaces` are to be made for them.
    """

    def __init__(
        self, folder: Path, seed: int, troubles: Sequence[Trouble], *, namespaces: bool = False
    ) -> None:
        self.rounds: list[Round] = []
        self._seed = seed
        self._namespaces = namespaces
        self._wire = WIRES[seed % 3]
        self._troubles = troubles
        self._folder = folder
        self._project = Project(
            folder, {"TEST_PASSWORD": "secret", "BULKMAIL_LEASE": f"{LEASE_SECONDS:g}s"}
        )
        self._people = people(seed, PEOPLE * len(troubles))
        manners = ["rough", *["everywhere"] * namespaces]
        self._recorder = Recorder(folder, seed, len(self._people), self._wire, *manners)
        self._workers: list[Worker] = []
        self._runs: list[Process] = []
        self._planning_seconds = 1.0
        self._attached: Process | None = None

    @property
    def slots(self) -> int:
        """Messages of one worker that can be under way at once."""
        return CONNECTIONS * WINDOWS[self._wire]

    async def run(self) -> list[Round]:
        async with AsyncExitStack() as stack:
            self._server = await asyncio.to_thread(PostgresServer)
            stack.callback(self._server.stop)
            self._url = await asyncio.to_thread(self._server.create_database)
            self._told = await stack.enter_async_context(self._recorder)
            stack.callback(self._kill_all)
            write_letter(self._project)
            await self._begin(stack)
            for index, trouble in enumerate(self._troubles):
                await self._round(Round(self._wire, self._seed, index, trouble))
        return self.rounds

    async def _begin(self, stack: AsyncExitStack) -> None:
        parts = urlsplit(self._url)
        assert parts.port is not None
        for number in range(WORKERS):
            relay = Namespace(parts.port) if self._namespaces else Relay(parts.port)
            port = await stack.enter_async_context(relay)
            netloc = f"{parts.username}@{relay.host}:{port}"
            url = urlunsplit(parts._replace(netloc=netloc))
            worker = Worker(self._project, self._folder / f"worker{number}.log", relay, url)
            self._workers.append(worker)

    def _kill_all(self) -> None:
        for process in [*self._runs, *(w.process for w in self._workers if w.process)]:
            tell(process, signal.SIGKILL)

    # -- one campaign ----------------------------------------------------------------------------

    async def _round(self, round: Round) -> None:
        self.rounds.append(round)
        self._dice = random.Random(f"round {round.index} of {self._seed}")
        self._name = f"round{round.index}"
        self._attached = None
        part = self._people[round.index * PEOPLE : (round.index + 1) * PEOPLE]
        window = WINDOWS["chunking"]
        more = f"ledger: {self._url}\nrate_per_domain: {{{SLOW}: {SLOW_RATE}}}"
        write_campaign(self._project, self._name, part, self._told, window, more)
        try:
            await self._all_at_work()
            async with asyncio.timeout(2 * PATIENCE_SECONDS):
                await _WAYS[round.trouble](self, round)
            await self._finish(round)
        except (AssertionError, TimeoutError, psycopg.Error) as error:
            round.found(f"it could not go on: {error!r}")
            self._say(round)
        await self._judge(round, part)

    async def _all_at_work(self) -> None:
        """Starts whoever died."""
        for worker in self._workers:
            if worker.process is not None and worker.status is None:
                continue
            await worker.start()

    async def _planned(self) -> None:
        """Left to the workers."""
        began = time.monotonic()
        await self._ends(await self._run("--detach"), ExitStatus.DONE)
        self._planning_seconds = time.monotonic() - began

    async def _run(self, *options: str) -> Process:
        process = await self._project.start("run", f"{self._name}.yaml", "--yes", *options)
        self._runs.append(process)
        return process

    async def _ends(self, process: Process, *statuses: ExitStatus) -> str:
        async with asyncio.timeout(PATIENCE_SECONDS):
            out, err = await process.communicate()
        assert process.returncode in statuses, f"{process.returncode}: {err.decode()}"
        return out.decode() + err.decode()

    async def _underway(self, before: int) -> None:
        """At a seeded instant after the first message."""
        async with asyncio.timeout(PATIENCE_SECONDS):
            await self._recorder.reaches(before + 1)
        await asyncio.sleep(self._dice.uniform(0, SENDING_SECONDS))

    async def _ended(self, since: float, round: Round) -> None:
        """Waits for the end of the campaign."""
        async with asyncio.timeout(PATIENCE_SECONDS):
            while not await self._is_ended():
                await asyncio.sleep(LOOK_SECONDS)
        round.seconds = time.monotonic() - since

    async def _is_ended(self) -> bool:
        try:
            [row] = await self._ask(
                "SELECT NOT is_open AND NOT EXISTS (SELECT 1 FROM shard"
                " WHERE campaign_id = campaign.id) FROM campaign WHERE name = %s"
            )
        except psycopg.OperationalError:
            return False
        return bool(row[0])

    async def _finish(self, round: Round) -> None:
        """Everyone who lives has kept what they heard; then it is run until nobody is left."""
        if self._attached is not None:
            ends = (ExitStatus.DONE, ExitStatus.LOOK, ExitStatus.CONTINUE)
            await self._ends(self._attached, *ends)
        async with asyncio.timeout(PATIENCE_SECONDS):
            while True:
                [(round.doubts, round.left, round.late)] = await self._ask(
                    "SELECT count(*) FILTER (WHERE what = 'in_doubt' AND event.reason LIKE 'the run%%'),"
                    " (SELECT count(*) FROM recipient JOIN campaign ON campaign.id = campaign_id"
                    "  WHERE name = %s AND state = 'in_doubt' AND reason LIKE 'the run%%'),"
                    " count(*) FILTER (WHERE what = 'late')"
                    " FROM event JOIN recipient ON recipient.id = recipient_id"
                    " JOIN campaign ON campaign.id = campaign_id WHERE name = %s",
                    2,
                )
                if round.left <= round.bound:
                    break
                await asyncio.sleep(LOOK_SECONDS)
        [(unsent, in_flight)] = await self._ask(
            "SELECT count(*) FILTER (WHERE state IN ('pending', 'deferred')),"
            " count(*) FILTER (WHERE state = 'in_flight')"
            " FROM recipient JOIN campaign ON campaign.id = campaign_id WHERE name = %s"
        )
        if in_flight:
            round.found(f"{in_flight} are in flight, and nobody has them")
        if unsent or round.left:
            await self._again(ExitStatus.LOOK)

    async def _again(self, *statuses: ExitStatus) -> None:
        """Run again, until somebody else's lease or lock is no hindrance."""
        for _ in range(RUNS_TO_FINISH):
            process = await self._run()
            said = await self._ends(process, *statuses, ExitStatus.CONTINUE)
            if process.returncode != ExitStatus.CONTINUE:
                return
            await asyncio.sleep(0.3)
        raise AssertionError(f"it does not come to an end: {said}")

    async def _judge(self, round: Round, part: list[Person]) -> None:
        for worker in self._workers:
            if worker.status not in (None, -signal.SIGKILL, ExitStatus.TERMINATED):
                round.found(f"a worker ended with {worker.status}: {worker.said()}")
        try:
            rows = await self._ask(
                "SELECT address, state, in_doubt_events, reply, message_id"
                " FROM recipient JOIN campaign ON campaign.id = campaign_id WHERE name = %s"
            )
        except psycopg.Error as error:
            round.found(f"the ledger cannot be read: {error}")
            return
        own = {person.address for person in part}
        copies: list[Copy] = [c for c in taken_in(self._folder / TAKEN) if c.to in own]
        evidence = Evidence(part, [Entry(*row) for row in rows], copies, may_resend=False)
        round.faults += evidence.faults_at_the_end()

    async def _ask(self, sql: str, times: int = 1) -> list[Any]:
        """About this campaign."""

        def ask() -> list[Any]:
            options = "-c search_path=bulkmail"
            with psycopg.connect(self._url, autocommit=True, options=options) as connection:
                return connection.execute(sql, (self._name,) * times).fetchall()

        return await asyncio.to_thread(ask)

    def _say(self, round: Round) -> None:
        for worker in self._workers:
            round.found(f"a worker said: {worker.said()}")

    # -- troubles --------------------------------------------------------------------------------

    async def _killed(self, round: Round) -> None:
        await self._sending()
        worker = self._dice.choice(self._workers)
        worker.tell(signal.SIGKILL)
        since = time.monotonic()
        round.bound = self.slots
        await worker.ended()
        await self._ended(since, round)

    async def _sending(self) -> None:
        """By workers, and sometimes by a run as well, which is spared."""
        before = self._recorder.taken
        if self._dice.random() < ATTACHED:
            self._attached = await self._run()
        else:
            await self._planned()
        await self._underway(before)

    async def _all_killed(self, round: Round) -> None:
        await self._sending()
        for worker in self._workers:
            worker.tell(signal.SIGKILL)
        since = time.monotonic()
        round.bound = self.slots * WORKERS
        for worker in self._workers:
            await worker.ended()
            await worker.start()
        await self._ended(since, round)

    async def _run_killed(self, round: Round) -> None:
        before = self._recorder.taken
        process = await self._run()
        await self._underway(before)
        tell(process, signal.SIGKILL)
        since = time.monotonic()
        round.bound = self.slots
        await process.communicate()
        await self._ended(since, round)

    async def _terminated(self, round: Round) -> None:
        await self._sending()
        worker = self._dice.choice(self._workers)
        worker.tell(signal.SIGTERM)
        since = time.monotonic()
        status = await worker.ended()
        assert status == ExitStatus.TERMINATED, f"{status}: {worker.said()}"
        await self._ended(since, round)

    async def _frozen(self, round: Round) -> None:
        await self._stop_one(round, LEASE_SECONDS + self._dice.uniform(0.5, 2.0))

    async def _dozed(self, round: Round) -> None:
        await self._stop_one(round, self._dice.uniform(0.1, 0.4) * LEASE_SECONDS)

    async def _stop_one(self, round: Round, seconds: float) -> None:
        await self._sending()
        worker = self._dice.choice(self._workers)
        worker.tell(signal.SIGSTOP)
        since = time.monotonic()
        await asyncio.sleep(seconds)
        worker.tell(signal.SIGCONT)
        await self._ended(since, round)

    async def _database(self, round: Round) -> None:
        await self._sending()
        await asyncio.to_thread(self._server.kill)
        await asyncio.to_thread(self._server.start)
        await self._ended(time.monotonic(), round)

    async def _outage(self, round: Round) -> None:
        await self._sending()
        await asyncio.to_thread(self._server.kill)
        await asyncio.sleep(LEASE_SECONDS + self._dice.uniform(0.0, 2.0))
        await asyncio.to_thread(self._server.start)
        await self._ended(time.monotonic(), round)

    async def _cut(self, round: Round) -> None:
        await self._cut_one(round, LEASE_SECONDS + self._dice.uniform(0.5, 2.0), reset=False)

    async def _broken(self, round: Round) -> None:
        await self._cut_one(round, LEASE_SECONDS + self._dice.uniform(0.5, 2.0), reset=True)

    async def _flickered(self, round: Round) -> None:
        await self._cut_one(round, self._dice.uniform(0.1, 0.4) * LEASE_SECONDS, reset=False)

    async def _reset(self, round: Round) -> None:
        await self._cut_one(round, 0.0, reset=True)

    async def _cut_one(self, round: Round, seconds: float, *, reset: bool) -> None:
        await self._sending()
        worker = self._dice.choice(self._workers)
        worker.relay.cut()
        since = time.monotonic()
        await asyncio.sleep(seconds)
        if reset:
            worker.relay.reset()
        worker.relay.mend()
        await self._ended(since, round)

    async def _paused(self, round: Round) -> None:
        await self._sending()
        since = time.monotonic()
        process = await self._project.start("pause", f"{self._name}.yaml")
        await self._ends(process, ExitStatus.DONE, ExitStatus.CONTINUE)
        taken = self._taken()
        if not await self._is_ended():
            if process.returncode == ExitStatus.DONE:
                assert self._taken() == taken, "messages left after the pause"
            process = await self._run("--detach")
            await self._ends(process, ExitStatus.DONE, ExitStatus.LOOK)
        await self._ended(since, round)

    def _taken(self) -> int:
        return len(taken_in(self._folder / TAKEN))

    async def _planner(self, round: Round) -> None:
        """Killed before, in or after its commit."""
        process = await self._run("--detach")
        await asyncio.sleep(self._dice.uniform(0.3, 1.1) * self._planning_seconds)
        tell(process, signal.SIGKILL)
        since = time.monotonic()
        await process.communicate()
        await self._again(ExitStatus.LOOK)
        await self._ended(since, round)

    async def _storm(self, round: Round) -> None:
        await self._sending()
        dead, still = self._dice.sample(self._workers, 2)
        still.tell(signal.SIGSTOP)
        dead.tell(signal.SIGKILL)
        round.bound = self.slots
        await asyncio.sleep(self._dice.uniform(0, LEASE_SECONDS))
        await asyncio.to_thread(self._server.restart)
        since = time.monotonic()
        still.tell(signal.SIGCONT)
        await self._ended(since, round)


_WAYS: dict[Trouble, Callable[[World, Round], Coroutine[Any, Any, None]]] = {
    Trouble.KILLED: World._killed,
    Trouble.RUN_KILLED: World._run_killed,
    Trouble.ALL_KILLED: World._all_killed,
    Trouble.TERMINATED: World._terminated,
    Trouble.FROZEN: World._frozen,
    Trouble.DOZED: World._dozed,
    Trouble.DATABASE: World._database,
    Trouble.OUTAGE: World._outage,
    Trouble.CUT: World._cut,
    Trouble.BROKEN: World._broken,
    Trouble.FLICKERED: World._flickered,
    Trouble.RESET: World._reset,
    Trouble.PAUSED: World._paused,
    Trouble.PLANNER: World._planner,
    Trouble.STORM: World._storm,
}
