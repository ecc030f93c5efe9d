"""One campaign over one server: its files, its runs, and what the ledger says in the end."""

import csv
import io
import json
import signal
import subprocess
import sys
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from bulkmail.errors import ExitStatus
from bulkmail.sandbox.server import HOST

from .judge import Entry, Evidence
from .people import Person
from .servers import Server, Wire

CONNECTIONS = 4
RUNS_TO_FINISH = 10
PATIENCE_SECONDS = 300.0
"""With one run. One that makes no end is told to end, which is a wrong result."""
NEVER = float("inf")


class RunError(Exception):
    """A run ended as it should not have, and what it said."""


@dataclass
class Campaign:
    """A folder with files for `people`; times are those of whole runs, in seconds."""

    folder: Path
    server: Server
    wire: Wire
    people: Sequence[Person]
    in_doubt: str = "hold"
    seconds: float = field(default=0.0, init=False)

    def __post_init__(self) -> None:
        self.folder.mkdir(parents=True)
        (self.folder / "letter.txt").write_text("Dear {{ name }},\n\n.this is for {{ email }}.\n")
        (self.folder / "people.csv").write_text(_table(self.people))
        (self.folder / "letter.yaml").write_text(
            f"""\
from: "News <news@sender.test>"
subject: "For {{{{ name }}}}"
template: {{text: letter.txt}}
recipients: [{{file: people.csv}}]
rate: unlimited
in_doubt: {self.in_doubt}
retry: {{first: 1s, longest: 2s}}
smtp:
  host: {HOST}
  port: {self.server.ports[self.wire]}
  security: tls
  ca_file: {self.server.ca_file}
  connections: {CONNECTIONS}
"""
        )
        self.server.mark()

    @contextmanager
    def run(self) -> Iterator[subprocess.Popen[bytes]]:
        """A run, which does not live longer than this; what it said stands in the folder."""
        command = [sys.executable, "-m", "bulkmail", "run", "letter.yaml", "--yes"]
        began = time.monotonic()
        with (self.folder / "said").open("wb") as said:
            process = subprocess.Popen(
                command, cwd=self.folder, stdin=subprocess.DEVNULL, stdout=said, stderr=said
            )
        try:
            yield process
        finally:
            process.kill()
            process.wait()
            self.seconds += time.monotonic() - began

    def wait_until(self, accepted: float, process: subprocess.Popen[bytes]) -> bool:
        """Until the server's log holds so many acceptances; False if the run ended before."""
        deadline = time.monotonic() + PATIENCE_SECONDS
        while process.poll() is None:
            if self.server.accepted() >= accepted:
                return True
            if time.monotonic() > deadline:
                process.send_signal(signal.SIGINT)
                process.wait()
                raise RunError(f"{self.folder.name} made no end: {self._said()}")
            time.sleep(0.003)
        return False

    def finish(self) -> Evidence:
        """Runs it until nobody is left."""
        for _ in range(RUNS_TO_FINISH):
            with self.run() as process:
                self.wait_until(NEVER, process)
            if process.returncode != ExitStatus.CONTINUE:
                break
        return self.evidence(process.returncode)

    def evidence(self, status: int) -> Evidence:
        """Of a campaign whose last run ended with this status."""
        if status not in (ExitStatus.DONE, ExitStatus.LOOK):
            raise RunError(f"{self.folder.name} ended with {status}: {self._said()}")
        return Evidence(self.people, self._entries(), self.server.log(), self.in_doubt == "resend")

    def _entries(self) -> list[Entry]:
        command = [sys.executable, "-m", "bulkmail", "report", "letter.yaml", "--format", "json"]
        out = subprocess.run(command, cwd=self.folder, capture_output=True, text=True, check=True)
        return [entry_of(json.loads(line)) for line in out.stdout.splitlines()]

    def _said(self) -> str:
        return (self.folder / "said").read_text(errors="replace")[-2000:]


def entry_of(row: dict[str, Any]) -> Entry:
    """Of a row of `report --format json`."""
    deferrals = (event["reply"] for event in row["events"] if event["what"] == "deferred")
    return Entry(
        row["email"], row["state"], row["reply"], row["message_id"], row["in_doubt_events"],
        tuple(deferrals),
    )  # fmt: skip


def _table(people: Iterable[Person]) -> str:
    text = io.StringIO()
    rows = ((person.address, f"Person {person.number}") for person in people)
    csv.writer(text).writerows([("email", "name"), *rows])
    return text.getvalue()
