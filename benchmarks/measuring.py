"""One measurement: a server, a sender, what it cost, and whether it did the work.

The CPU time of the sending phase is that of the sender's process, user and system, between two
marks: the server reads it when it has taken message `first` and again at message `last`, a tenth
before the end. So neither the start of a program counts, nor its reading of the list, nor the
opening of its connections, nor its end; and as many messages are under way at one mark as at the
other, which would else be a few hundredths of all.
Where a system does not tell a process's CPU time to another, the whole time by wait4(2) is divided
by the messages, and said. Peak memory is that of the whole process, by wait4(2). It counts what the
parent held when it started the child, so this process imports nothing large; less than that is 0.
"""

import os
import shutil
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from resource import RUSAGE_SELF, getrusage
from threading import Timer

from benchmarks import cores, material
from benchmarks.certificate import CA, HOST
from benchmarks.senders import Job, Sender
from benchmarks.server import Mark, Sink

KEPT_MESSAGES = 400
"""About so many are kept whole and compared; everyone is counted."""
UNABLE = "does not speak CHUNKING"
"""Said of a sender that does not do what it is measured for, here or anywhere."""
LONGEST_SECONDS = 900.0
"""A sender that takes longer hangs."""
BUSY = 0.8
"""A server that is busier than this was what the sender waited for."""


@dataclass(frozen=True, slots=True)
class Task:
    """Which sender sends how much: the messages before `first` are not counted."""

    sender: Sender
    people: int
    first: int
    connections: int

    @property
    def last(self) -> int:
        return self.people - self.people // 10


@dataclass(frozen=True, slots=True)
class Figures:
    """CPU microseconds a message; messages a second; the server's load from 0 to 1."""

    sending_us: float
    before_s: float
    """CPU seconds until the first message: start, reading the list, checking all."""
    per_second: float
    load: float
    sink_us: float
    peak_mb: float


@dataclass(frozen=True, slots=True)
class Result:
    """`figures` None: it did not do the work, and `said` tells why. Else `said` is a remark."""

    figures: Figures | None
    said: str = ""


def measure(
    task: Task, program: Sequence[str], folder: Path, *, delay_ms: int, attachment: bool
) -> Result:
    """`folder` is made anew; it lies on a disk, as the ledger of a campaign does."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    material.write(folder, task.people)
    _run_module("certificate", str(folder))
    sender = task.sender
    sink = Sink(
        program,
        folder,
        tls=sender.tls,
        delay_ms=delay_ms,
        keep=max(1, task.people // KEPT_MESSAGES),
        extensions=sender.announced,
    )
    with sink:
        job = Job(
            HOST, sink.port, str(folder / CA), task.connections, task.people, attachment, delay_ms
        )
        job.write(folder)
        status, cpu_s, peak_mb = _send(task, job, folder, sink)
    log = (folder / "log").read_text(errors="replace").strip()
    if status != 0:
        return Result(None, f"ended with {status}: {log[-200:]}")
    marks = sink.marks()
    checked = [str(sink.capture), str(task.people), str(int(attachment)), str(int(sender.personal))]
    if wrong := _run_module("checking", *checked):
        return Result(None, f"other messages than asked for: {wrong}")
    if len(marks) != 2:
        return Result(None, f"{len(marks)} marks instead of 2")
    shutil.rmtree(folder)
    if "CHUNKING" in sender.announced and marks[1].by_bdat == 0:
        return Result(None, UNABLE)
    said = (
        "" if marks[0].client_ns >= 0 else "with its start: this system tells no CPU time amid it"
    )
    return Result(figures(*marks, cpu_s=cpu_s, peak_mb=peak_mb, people=task.people), said)


def figures(first: Mark, last: Mark, *, cpu_s: float, peak_mb: float, people: int) -> Figures:
    messages, wall_ns = last.taken - first.taken, last.at_ns - first.at_ns
    sending_us = (last.client_ns - first.client_ns) / messages / 1000
    before_s = max(0.0, first.client_ns / 1e9 - sending_us * first.taken / 1e6)
    if first.client_ns < 0 or last.client_ns < 0:
        sending_us, before_s = cpu_s * 1e6 / people, 0.0
    sink_ns = last.sink_ns - first.sink_ns
    return Figures(
        sending_us=sending_us,
        before_s=before_s,
        per_second=messages / wall_ns * 1e9,
        load=sink_ns / wall_ns,
        sink_us=sink_ns / messages / 1000,
        peak_mb=peak_mb,
    )


def _send(task: Task, job: Job, folder: Path, sink: Sink) -> tuple[int, float, float]:
    """Exit status, CPU seconds and peak memory in MB of the sender's process."""
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[1])}
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen(
            task.sender.command(job, folder),
            cwd=folder,
            env=environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=log,
            preexec_fn=cores.pin_client,
            start_new_session=True,
        )
        too_long = Timer(LONGEST_SECONDS, process.kill)
        too_long.start()
        try:
            sink.watch(process.pid, task.first, task.last)
            assert process.stdin is not None
            process.stdin.write(task.sender.answers.encode())
            process.stdin.close()
            _, status, usage = os.wait4(process.pid, 0)
        except BaseException:  # Ctrl-C does not reach it, in a session of its own
            process.kill()
            raise
        finally:
            too_long.cancel()
    process.returncode = os.waitstatus_to_exitcode(status)
    peak = usage.ru_maxrss if usage.ru_maxrss > getrusage(RUSAGE_SELF).ru_maxrss else 0
    per_megabyte = 1_000_000 if sys.platform == "darwin" else 1000
    return process.returncode, usage.ru_utime + usage.ru_stime, peak / per_megabyte


def _run_module(name: str, *arguments: str) -> str:
    """Runs it in a process of its own; what it printed."""
    result = subprocess.run(
        [sys.executable, "-m", f"benchmarks.{name}", *arguments],
        cwd=Path(__file__).parents[1],
        stdout=subprocess.PIPE,
        text=True,
        check=True,
    )
    return result.stdout.strip()
