"""One campaign that is killed until it is done: starts, signals, and what was found after each.

Instants are seeded: a fraction of a stretch of time, measured from the start of the process, from
the first message that the server took in this start, or from about the last one.
"""

import asyncio
import csv
import io
import json
import os
import random
import signal
import sys
import time
from asyncio.subprocess import PIPE, Process
from collections import Counter
from collections.abc import Callable, Coroutine, Iterable
from contextlib import suppress
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import Any

from bulkmail.errors import ExitStatus

from ..conftest import Project
from .judge import Evidence, Fault, Kind, ledger_in, taken_in
from .people import Person, people
from .server import TAKEN

ROOT = Path(__file__).parents[2]
PEOPLE = 600
CONNECTIONS = 4
WIRES = ("plain", "chunking", "pipelining")
WINDOWS = {"plain": 1, "pipelining": 3}
CHUNKING_WINDOWS = (4, 16)

SENDING_SECONDS = 0.3
"""From the first message taken to the last instant of a kill: some 40 messages."""
ENDING_SECONDS = 0.1
LIMIT = 12
"""Messages in a start that is killed as it ends."""
PATIENCE_SECONDS = 30.0
RUNS_TO_FINISH = 10

ENDED_BY_ITSELF = (ExitStatus.DONE, ExitStatus.LOOK, ExitStatus.CONTINUE)


class Fate(StrEnum):
    """What becomes of a start. The first four are SIGKILL."""

    SENDING = "sending"
    STARTING = "starting"
    """Between the start of the process and a little after its first message."""
    ENDING = "ending"
    """After the last messages of a limited run: outcomes, QUIT, closing."""
    TWICE = "twice"
    """Two starts at once: one is refused, the other killed as it sends."""
    STOPPED = "stopped"
    """SIGSTOP as it sends, SIGCONT, then SIGTERM."""
    TERMINATED = "terminated"
    INTERRUPTED = "interrupted"
    CANCELLED = "cancelled"
    """SIGTERM between the start of the process and a little after its first message."""


KILLED = (Fate.SENDING, Fate.STARTING, Fate.ENDING, Fate.TWICE)
FATES = (
    *(Fate.SENDING,) * 5,
    *(Fate.STARTING,) * 2,
    *(Fate.ENDING, Fate.TWICE),
    *(Fate.STOPPED, Fate.TERMINATED, Fate.INTERRUPTED, Fate.CANCELLED),
)
"""Of the starts of one campaign, in a seeded order; then it is run to its end."""


@dataclass(frozen=True, slots=True)
class Plan:
    """What a seed decides."""

    seed: int

    @property
    def wire(self) -> str:
        return WIRES[self.seed % 3]

    @property
    def in_doubt(self) -> str:
        return ("hold", "resend")[self.seed // 3 % 2]

    @property
    def window(self) -> int:
        """Of the campaign; it is used with CHUNKING only."""
        return CHUNKING_WINDOWS[self.seed // 6 % 2]

    @property
    def slots(self) -> int:
        """Messages that can be under way at once, one whose reply is not certain yet among them: at
        most so many are in doubt after a kill.
        """
        return CONNECTIONS * WINDOWS.get(self.wire, self.window)

    def fates(self) -> list[Fate]:
        """Of its starts, in order."""
        return random.Random(f"fates {self.seed}").sample(FATES, len(FATES))


@dataclass
class Result:
    """What came of it."""

    plan: Plan
    fates: Counter[Fate] = field(default_factory=Counter)
    """Of the starts that met theirs before they had ended by themselves."""
    missed: int = 0
    hits: int = 0
    """Kills that left somebody in flight."""
    unanswered: int = 0
    """People in flight at a kill whose message the server had taken."""
    recovering: int = 0
    """Kills of a start, before its first message, that found somebody in flight."""
    taken: int = 0
    doubts: int = 0
    most_doubts: int = 0
    faults: list[Fault] = field(default_factory=list)

    def note(self, faults: Iterable[Fault]) -> None:
        """What was found before, and still is, counts once."""
        self.faults += [fault for fault in dict.fromkeys(faults) if fault not in self.faults]

    @property
    def kills(self) -> int:
        return sum(self.fates[fate] for fate in KILLED)


class Recorder:
    """The server's process, and what it tells of itself; for `manners` see there."""

    def __init__(self, folder: Path, seed: int, people: int, wire: str, *manners: str) -> None:
        self._folder = folder
        self._told_to_be = [str(seed), str(people), wire, *manners]
        self._told: Counter[str] = Counter()
        self._changed = asyncio.Condition()

    async def __aenter__(self) -> dict[str, object]:
        """Where it listens."""
        self._process = await asyncio.create_subprocess_exec(
            sys.executable,
            *("-m", f"{__package__}.server", self._folder),
            *self._told_to_be,
            cwd=ROOT,
            stdin=PIPE,
            stdout=PIPE,
        )
        assert self._process.stdout is not None
        told: dict[str, object] = json.loads(await self._process.stdout.readline())
        self._counting = asyncio.create_task(self._count(self._process.stdout))
        return told

    async def __aexit__(self, *exc_info: object) -> None:
        """Returns when nothing more can be taken."""
        assert self._process.stdin is not None
        self._process.stdin.close()
        await self._counting
        await self._process.wait()

    @property
    def taken(self) -> int:
        """Messages."""
        return self._told["taken"]

    async def reaches(self, number: int) -> None:
        """Returns when so many messages were taken."""
        await self._until(lambda: self.taken >= number)

    async def quiet(self) -> None:
        """Returns when nobody is connected: what the dead have said is taken, or never will be."""
        await self._until(lambda: self._told["opened"] == self._told["closed"])

    async def _until(self, condition: Callable[[], bool]) -> None:
        async with self._changed:
            await self._changed.wait_for(condition)

    async def _count(self, lines: asyncio.StreamReader) -> None:
        async for line in lines:
            async with self._changed:
                self._told[line.decode().strip()] += 1
                self._changed.notify_all()


class Campaign:
    """A folder, a server, and one campaign from its first start to its end."""

    def __init__(self, folder: Path, seed: int) -> None:
        self.plan = Plan(seed)
        self.result = Result(self.plan)
        self._project = Project(folder)
        self._people = people(seed, PEOPLE)
        self._recorder = Recorder(folder, seed, PEOPLE, self.plan.wire)
        self._processes: list[Process] = []
        self._starting_seconds = 0.0

    async def run(self) -> Result:
        async with self._recorder as told:
            self._write(told)
            try:
                await self._die_and_finish()
            except (AssertionError, TimeoutError) as error:
                self._found(f"it could not go on: {error!r}")
            finally:
                for process in self._processes:
                    tell(process, signal.SIGKILL)
        evidence = self._evidence()
        result = self.result
        result.note(evidence.faults_at_the_end())
        result.taken, result.doubts = len(evidence.copies), evidence.doubts
        return result

    async def _die_and_finish(self) -> None:
        await self._measure()
        for index, fate in enumerate(self.plan.fates()):
            await self._start(fate, random.Random(f"start {index} of {self.plan.seed}"))
        await self._finish()

    def _write(self, told: dict[str, object]) -> None:
        """The project's files."""
        write_letter(self._project)
        more = f"in_doubt: {self.plan.in_doubt}"
        write_campaign(self._project, "letter", self._people, told, self.plan.window, more)

    # -- starts ----------------------------------------------------------------------------------

    async def _start(self, fate: Fate, dice: random.Random) -> None:
        """One start, what is done to it, and what is found when it is dead."""
        before = self._evidence()
        async with asyncio.timeout(PATIENCE_SECONDS):
            met = await _WAYS[fate](self, dice)
        if met:
            self.result.fates[fate] += 1
            self._look(fate, before, self._evidence())
        else:
            self.result.missed += 1
        async with asyncio.timeout(PATIENCE_SECONDS):
            await self._recorder.quiet()

    def _look(self, fate: Fate, before: Evidence, after: Evidence) -> None:
        """What this death cost."""
        result, cost = self.result, after.doubts - before.doubts
        result.note(after.faults())
        allowed = self.plan.slots if fate in KILLED else 0
        if not 0 <= cost <= allowed:
            self._found(f"{cost} more are in doubt after {fate}; {allowed} at most")
        if fate in KILLED and cost > 0:
            result.hits += 1
            result.most_doubts = max(result.most_doubts, cost)
            result.unanswered += after.unanswered
        if fate is Fate.STARTING and len(after.copies) == len(before.copies):
            result.recovering += before.in_flight > 0

    def _found(self, what: str) -> None:
        self.result.note([Fault(Kind.RECORD, what)])

    async def _killed_sending(self, dice: random.Random) -> bool:
        process = await self._run()
        await self._sends(process)
        return await _kill(process, dice.uniform(0, SENDING_SECONDS))

    async def _killed_starting(self, dice: random.Random) -> bool:
        process = await self._run()
        return await _kill(process, self._while_starting(dice))

    async def _killed_ending(self, dice: random.Random) -> bool:
        last = self._recorder.taken + LIMIT - 3  # some are refused
        process = await self._run("--limit", str(LIMIT))
        await first(self._recorder.reaches(last), process.wait())
        return await _kill(process, dice.uniform(0, ENDING_SECONDS))

    async def _started_twice(self, dice: random.Random) -> bool:
        """One is refused and says so; the other does not notice."""
        both = [await self._run(), await self._run()]
        await first(*(process.wait() for process in both))
        refused, alive = sorted(both, key=lambda process: process.returncode is None)
        said = (await refused.communicate())[1].decode()
        if refused.returncode in (ExitStatus.DONE, ExitStatus.LOOK):  # nobody was left
            return await _kill(alive, 0)
        if refused.returncode != ExitStatus.CONTINUE or "another run is using" not in said:
            self._found(f"one of two starts ended with {refused.returncode}: {said}")
        await self._sends(alive)
        return await _kill(alive, dice.uniform(0, SENDING_SECONDS))

    async def _stopped(self, dice: random.Random) -> bool:
        process = await self._run()
        await self._sends(process)
        await asyncio.sleep(dice.uniform(0, SENDING_SECONDS / 2))
        tell(process, signal.SIGSTOP)
        await asyncio.sleep(dice.uniform(0, SENDING_SECONDS))
        tell(process, signal.SIGCONT)
        await asyncio.sleep(dice.uniform(0, SENDING_SECONDS / 2))
        return await self._ends(process, signal.SIGTERM, ExitStatus.TERMINATED)

    async def _terminated(self, dice: random.Random) -> bool:
        process = await self._run()
        await self._sends(process)
        await asyncio.sleep(dice.uniform(0, SENDING_SECONDS))
        return await self._ends(process, signal.SIGTERM, ExitStatus.TERMINATED)

    async def _interrupted(self, dice: random.Random) -> bool:
        process = await self._run()
        await self._sends(process)
        await asyncio.sleep(dice.uniform(0, SENDING_SECONDS))
        return await self._ends(process, signal.SIGINT, ExitStatus.INTERRUPTED)

    async def _cancelled(self, dice: random.Random) -> bool:
        process = await self._run()
        await asyncio.sleep(self._while_starting(dice))
        tell(process, dice.choice((signal.SIGTERM, signal.SIGINT)))
        await process.communicate()
        return process.returncode not in ENDED_BY_ITSELF

    def _while_starting(self, dice: random.Random) -> float:
        """Rather late than early: the first half of a start is that of Python."""
        return dice.random() ** 0.5 * 1.1 * self._starting_seconds

    async def _ends(self, process: Process, number: signal.Signals, status: ExitStatus) -> bool:
        """Told to end by a signal, it does; False if it had ended before by itself."""
        tell(process, number)
        said = (await process.communicate())[1].decode()
        if process.returncode in ENDED_BY_ITSELF:
            return False
        if process.returncode != status:
            self._found(f"told to end by {number.name}, it ended with {process.returncode}: {said}")
        return True

    async def _finish(self) -> None:
        """Runs it until nobody is left; whoever was refused for now needs another run."""
        for _ in range(RUNS_TO_FINISH):
            process = await self._run()
            async with asyncio.timeout(PATIENCE_SECONDS):
                said = (await process.communicate())[1].decode()
            if process.returncode != ExitStatus.CONTINUE:
                break
        if process.returncode != ExitStatus.LOOK:  # some were refused
            self._found(f"in the end it ended with {process.returncode}: {said}")

    async def _run(self, *options: str) -> Process:
        process = await self._project.start("run", "letter.yaml", "--yes", *options)
        self._processes.append(process)
        return process

    async def _sends(self, process: Process) -> None:
        """Waits for the first message of this start, or for its end."""
        await first(self._recorder.reaches(self._recorder.taken + 1), process.wait())

    async def _measure(self) -> None:
        """How long starting takes: a check does what a run does before its first message."""
        began = time.monotonic()
        checked = await self._project.bulkmail("check", "letter.yaml")
        assert checked.status == ExitStatus.DONE, checked.err
        self._starting_seconds = time.monotonic() - began

    def _evidence(self) -> Evidence:
        """The ledger is read first: what it knows, the server has written down."""
        folder = self._project.folder
        entries = ledger_in(folder / "bulkmail.sqlite")
        copies = taken_in(folder / TAKEN)
        return Evidence(self._people, entries, copies, self.plan.in_doubt == "resend")


_WAYS: dict[Fate, Callable[[Campaign, random.Random], Coroutine[Any, Any, bool]]] = {
    Fate.SENDING: Campaign._killed_sending,
    Fate.STARTING: Campaign._killed_starting,
    Fate.ENDING: Campaign._killed_ending,
    Fate.TWICE: Campaign._started_twice,
    Fate.STOPPED: Campaign._stopped,
    Fate.TERMINATED: Campaign._terminated,
    Fate.INTERRUPTED: Campaign._interrupted,
    Fate.CANCELLED: Campaign._cancelled,
}


async def _kill(process: Process, seconds: float) -> bool:
    """SIGKILL after so long; False if it had ended before by itself."""
    await asyncio.sleep(seconds)
    tell(process, signal.SIGKILL)
    await process.communicate()
    return process.returncode == -signal.SIGKILL


def tell(process: Process, number: signal.Signals) -> None:
    """Not by `send_signal`, which would take away the status of one that just ended."""
    if process.returncode is None:
        with suppress(ProcessLookupError):
            os.kill(process.pid, number)


async def first(*awaited: Coroutine[Any, Any, object]) -> None:
    """Returns when one of them does; the others are given up."""
    tasks = [asyncio.create_task(one) for one in awaited]
    _, others = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    for task in others:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


def write_letter(project: Project) -> None:
    """The templates of all campaigns."""
    project.write("letter.txt", "{{ name }},\n\nthe token of {{ email }} is\n.{{ token }}\n")
    project.write(
        "letter.html", "<p>{{ name }},</p>\n<p>the token of {{ email }} is {{ token }}</p>\n"
    )


def write_campaign(
    project: Project,
    name: str,
    rows: list[Person],
    told: dict[str, object],
    window: int,
    more: str,
) -> None:
    """A campaign file and its table, to be sent through the recorder that `told` where it is."""
    project.write(f"{name}.csv", table_of(rows))
    project.write(
        f"{name}.yaml",
        f"""\
from: "News <news@example.org>"
subject: "{{{{ name }}}}, your token is {{{{ token }}}}"
template: {{text: letter.txt, html: letter.html}}
recipients: [{{file: {name}.csv}}]
rate: unlimited
retry: {{first: 1s, longest: 1s}}
{more}
smtp:
  host: {told["host"]}
  port: {told["port"]}
  security: tls
  ca_file: {told["ca_file"]}
  username: sender
  password: env:TEST_PASSWORD
  connections: {CONNECTIONS}
  window: {window}
  messages_per_connection: 20
""",
    )


def table_of(rows: list[Person]) -> str:
    file = io.StringIO()
    writer = csv.writer(file)
    writer.writerow(("email", "name", "token"))
    writer.writerows((person.address, person.name, person.token) for person in rows)
    return file.getvalue()
