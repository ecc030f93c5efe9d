"""What a campaign costs the workers and the database, and what a large one would cost.

    python -m benchmarks.scaling postgresql://user@host/database [PEOPLE [WORKERS]]

plans a campaign in that empty database, sends it by so many workers to the benchmarks' own server
on loopback, and writes what it measured, with the model that follows from it, into docs/scaling.md.
The CPU of the database is known on Linux, if it runs on this machine; else it is left out.
"""

import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psycopg

from benchmarks import material, server
from benchmarks.certificate import CA, HOST
from benchmarks.document import DOCS, machine
from benchmarks.senders.bulkmail import CAMPAIGN, write_campaign
from benchmarks.server import Sink
from benchmarks.summary import in_markdown

BEGIN, END = "<!-- written by benchmarks.scaling -->", "<!-- end of what it writes -->"
OUT = Path(__file__).parent / "out"
CONNECTIONS = 4

PEOPLE, WORKERS, SHARD = 100_000_000, 50, 1000
"""Of the model."""
RATES = (1_000, 5_000, 10_000, 25_000)
"""Messages a second, over all workers."""
ROUND_TRIP_SECONDS = 0.001
"""Between a worker and the database, with the sync of a commit."""


@dataclass(frozen=True)
class Measured:
    """For each recipient or message: seconds of CPU, bytes, transactions."""

    people: int
    workers: int
    seconds: float
    plan_s: float
    worker_cpu_s: float
    database_cpu_s: float | None
    planned_bytes: float
    sent_bytes: float
    wal_bytes: float
    commits: float


def main(url: str, people: int = 100_000, workers: int = 3) -> None:
    OUT.mkdir(exist_ok=True)
    program, _ = server.program(OUT)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        material.write(folder, people)
        subprocess.run([sys.executable, "-m", "benchmarks.certificate", name], check=True)
        extensions = ["PIPELINING", "CHUNKING"]
        sink = Sink(program, folder, tls=True, delay_ms=0, keep=1000, extensions=extensions)
        with sink, psycopg.connect(url, autocommit=True) as database:
            _campaign(folder, sink.port, url)
            measured = _measure(folder, url, database, people, workers)
    text = "\n\n".join([BEGIN, machine(1) + ".", *_told(measured), END])
    path = DOCS / "scaling.md"
    before, _, rest = path.read_text().partition(BEGIN)
    path.write_text(before + text + rest.partition(END)[2])
    print(text)


def _campaign(folder: Path, port: int, url: str) -> None:
    job = {"host": HOST, "port": port, "ca_file": str(folder / CA), "connections": CONNECTIONS}
    write_campaign(folder, job | {"attachment": False})
    with (folder / CAMPAIGN).open("a") as file:
        file.write(f"ledger: {url}\n")


def _measure(
    folder: Path, url: str, database: psycopg.Connection[Any], people: int, workers: int
) -> Measured:
    bulkmail = [sys.executable, "-m", "bulkmail"]
    _, plan_cpu_s = _run(folder, [[*bulkmail, "run", CAMPAIGN, "--yes", "--detach"]])
    planned_bytes = _size(database)
    counted = _Counted(database)
    work = [*bulkmail, "worker", "--ledger", url, "--until-idle"]
    seconds, cpu_s = _run(folder, [work] * workers)
    return Measured(
        people,
        workers,
        seconds,
        plan_cpu_s / people,
        cpu_s / people,
        None if (used := counted.cpu_s()) is None else used / people,
        planned_bytes / people,
        _size(database) / people,
        counted.wal_bytes() / people,
        counted.commits() / people,
    )


def _run(folder: Path, commands: list[list[str]]) -> tuple[float, float]:
    """Runs them at once; seconds, and their CPU in seconds."""
    began, used = time.monotonic(), _children_cpu_s()
    running = [subprocess.Popen(command, cwd=folder) for command in commands]
    if any(process.wait() for process in running):
        raise SystemExit("a command failed")
    return time.monotonic() - began, _children_cpu_s() - used


def _children_cpu_s() -> float:
    spent = os.times()
    return spent.children_user + spent.children_system


def _size(database: psycopg.Connection[Any]) -> float:
    """In bytes, of all that was planned: tables and their indexes."""
    row = database.execute(
        "SELECT sum(pg_total_relation_size(oid)) FROM pg_class"
        " WHERE relkind = 'r' AND relnamespace = 'bulkmail'::regnamespace"
    ).fetchone()
    assert row is not None
    return float(row[0])


class _Counted:
    """What the database has done since this was made."""

    def __init__(self, database: psycopg.Connection[Any]) -> None:
        self._database = database
        self._wal, self._commits = self._now()
        self._cpu = self._cpu_now()

    def wal_bytes(self) -> float:
        return self._now()[0] - self._wal

    def commits(self) -> float:
        return self._now()[1] - self._commits

    def cpu_s(self) -> float | None:
        now = self._cpu_now()
        return None if now is None or self._cpu is None else now - self._cpu

    def _now(self) -> tuple[float, float]:
        time.sleep(1.5)  # its statistics arrive within a second
        row = self._database.execute(
            "SELECT pg_current_wal_lsn() - '0/0', (SELECT xact_commit FROM pg_stat_database"
            " WHERE datname = current_database())"
        ).fetchone()
        assert row is not None
        return float(row[0]), float(row[1])

    def _cpu_now(self) -> float | None:
        """Of the server and its processes, those that ended among them."""
        pid = self._database.info.backend_pid
        processes = dict(_processes())
        if pid not in processes:
            return None
        postmaster, _, _ = processes[pid]
        _, own, ended = processes[postmaster]
        alive = sum(used for parent, used, _ in processes.values() if parent == postmaster)
        return own + ended + alive


def _processes() -> Iterator[tuple[int, tuple[int, float, float]]]:
    """(pid, (parent, CPU in seconds, that of its children that ended)) of this machine: proc(5)."""
    tick = os.sysconf("SC_CLK_TCK")
    for path in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = path.read_text().rpartition(")")[2].split()
        except OSError:
            continue
        user, system, ended_user, ended_system = (int(field) / tick for field in fields[11:15])
        yield int(path.parent.name), (int(fields[1]), user + system, ended_user + ended_system)


def _told(measured: Measured) -> Iterator[str]:
    m = measured
    speed = f"{m.people / m.seconds:,.0f} a second"
    yield f"Measured, {m.people:,} people, {m.workers} workers, {speed}:"
    yield in_markdown([["for each recipient or message", ""], *_figures(m)])
    planned, sent = PEOPLE * m.planned_bytes / 1e9, PEOPLE * m.sent_bytes / 1e9
    yield (
        f"Model, {PEOPLE:,} people, {WORKERS} workers, {PEOPLE // SHARD:,} shards of {SHARD:,}:"
        f" planning takes {_time(PEOPLE * m.plan_s)} of one core; the ledger takes"
        f" {planned:,.0f} GB when planned, {sent:,.0f} GB when sent."
    )
    yield in_markdown([list(next(_rates(m)).keys()), *(list(row.values()) for row in _rates(m))])


def _figures(m: Measured) -> Iterator[list[str]]:
    yield ["planning: read, checked, enrolled", f"{m.plan_s * 1e6:,.0f} µs of CPU"]
    yield ["sending, a worker", f"{m.worker_cpu_s * 1e6:,.0f} µs of CPU"]
    if m.database_cpu_s is not None:
        yield ["sending, the database", f"{m.database_cpu_s * 1e6:,.0f} µs of CPU"]
    yield ["commits", f"{m.commits:.3f}"]
    yield ["write-ahead log", f"{m.wal_bytes:,.0f} bytes"]
    yield ["on disk, planned", f"{m.planned_bytes:,.0f} bytes"]
    yield ["on disk, sent", f"{m.sent_bytes:,.0f} bytes"]


def _rates(m: Measured) -> Iterator[Mapping[str, str]]:
    """What each rate asks of workers and database."""
    for rate in RATES:
        each = rate / WORKERS
        # A worker commits one group after another; at most one a message.
        commits = min(WORKERS / ROUND_TRIP_SECONDS, rate)
        database = "" if m.database_cpu_s is None else f"{rate * m.database_cpu_s:.1f} cores"
        yield {
            "messages a second": f"{rate:,}",
            "time": _time(PEOPLE / rate),
            "each worker": f"{each:,.0f}/s, {each * m.worker_cpu_s * 100:.0f} % of a core",
            "database": database,
            "commits a second, at most": f"{commits:,.0f}",
            "log": f"{rate * m.wal_bytes / 1e6:,.1f} MB/s",
            "shards a second": f"{rate / SHARD:,.0f}",
        }


def _time(seconds: float) -> str:
    hours = seconds / 3600
    return f"{seconds / 60:.0f} minutes" if hours < 2 else f"{hours:.1f} hours"


if __name__ == "__main__":
    main(sys.argv[1], *map(int, sys.argv[2:]))
