"""Real parts for the tests: TLS servers and PostgreSQL on loopback, projects on disk, the command's
process.
"""

import asyncio
import os
import signal
import ssl
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from contextlib import chdir, closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from bulkmail.campaign import Campaign
from bulkmail.cli import commands
from bulkmail.ledger import SqliteView
from bulkmail.model import Row, Security, Submission
from bulkmail.sandbox.receiving import Behaviour, Received
from bulkmail.sandbox.server import HOST, Server, make_certificate

from .postgres import PostgresServer

signal.signal(signal.SIGINT, signal.default_int_handler)
"""A shell's background job ignores it, and whatever is started from there would, too."""


@dataclass
class Result:
    """What a command printed, and its exit status."""

    status: int
    out: str
    err: str


@dataclass
class RecordingServer:
    """A server that keeps every message it took responsibility for, and when its dot came."""

    server: Server
    submission: Submission
    received: list[Received] = field(default_factory=list)
    arrivals: list[float] = field(default_factory=list)

    @property
    def paths(self) -> list[str]:
        return [path for message in self.received for path in message.forward_paths]

    def keep(self, received: Received, session: int) -> None:
        self.received.append(received)
        self.arrivals.append(time.monotonic())


def rows_of(campaign: Campaign) -> list[Row]:
    """All rows of a campaign that needs no ledger."""

    def earlier(name: str, states: object) -> Iterator[Row]:
        raise LookupError(f'no campaign "{name}"')

    return list(campaign.rows(earlier, lambda remark: None))


StartServer = Callable[..., Awaitable[RecordingServer]]


@pytest.fixture(scope="session")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> tuple[ssl.SSLContext, Path]:
    return make_certificate(tmp_path_factory.mktemp("tls"))


@pytest.fixture
async def serve(certificate: tuple[ssl.SSLContext, Path]) -> AsyncIterator[StartServer]:
    """Starts servers that behave as told; they stop with the test."""
    context, ca_file = certificate
    running = []

    async def start(behaviour: Behaviour | None = None, **told: object) -> RecordingServer:
        behaviour = behaviour or Behaviour(login=("sender", "secret"))
        for name, value in told.items():
            setattr(behaviour, name, value)
        security = Security.STARTTLS if behaviour.starttls else Security.TLS
        recorder = RecordingServer(
            Server(behaviour, context, lambda received, session: recorder.keep(received, session)),
            Submission(HOST, 0, security, "sender", "secret", str(ca_file)),
        )
        port = await recorder.server.start()
        recorder.submission = Submission(HOST, port, security, "sender", "secret", str(ca_file))
        running.append(recorder.server)
        return recorder

    yield start
    for server in running:
        await server.stop()


@pytest.fixture(scope="session")
def postgres_server() -> Iterator[PostgresServer]:
    """One server, started when the first test asks for it; a test may kill it."""
    server = PostgresServer()
    yield server
    server.stop()


@pytest.fixture
def postgres_url(postgres_server: PostgresServer) -> Iterator[str]:
    """The URL of an empty database, which goes with the test."""
    url = postgres_server.create_database()
    yield url
    postgres_server.drop_database(url)


@dataclass
class Project:
    """A folder with a campaign of `people`, which can be changed and run."""

    folder: Path
    environment: dict[str, str] = field(default_factory=dict)

    def write(self, name: str, text: str) -> Path:
        path = self.folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, "utf-8")
        return path

    def campaign(
        self,
        server: RecordingServer | None = None,
        *,
        rate: str = "unlimited",
        smtp: str = "",
        more: str = "",
    ) -> Path:
        """Writes letter.yaml, to be sent through `server`."""
        submission = server.submission if server else Submission(HOST, 9, Security.TLS)
        ca_file = f"ca_file: {submission.ca_file}" if submission.ca_file else ""
        return self.write(
            "letter.yaml",
            f"""\
from: "News <news@example.org>"
subject: "For {{{{ name }}}}"
template: {{text: letter.txt}}
recipients:
  - file: people.csv
rate: {rate}
smtp:
  host: {submission.host}
  port: {submission.port}
  security: {submission.security}
  username: sender
  password: env:TEST_PASSWORD
  {ca_file}
{smtp}
{more}
""",
        )

    def people(self, *rows: str) -> Path:
        """Writes people.csv with columns email and name."""
        return self.write("people.csv", "\n".join(["email,name", *rows]) + "\n")

    def many(self, number: int, domain: str = "example.com") -> list[str]:
        """Writes people.csv with so many people; their addresses."""
        addresses = [f"person{index}@{domain}" for index in range(number)]
        self.people(*(f"{address},Person {index}" for index, address in enumerate(addresses)))
        return addresses

    async def start(
        self, *arguments: str, terminal: int | None = None, by: Sequence[str] = ()
    ) -> asyncio.subprocess.Process:
        """The command `bulkmail`, started in the project's folder; `terminal` is a pty's end, `by`
        the command that starts it.
        """
        pipe = asyncio.subprocess.PIPE
        return await asyncio.create_subprocess_exec(
            *by,
            sys.executable,
            "-m",
            "bulkmail",
            *arguments,
            cwd=self.folder,
            env={**os.environ, **self._secrets},
            stdin=asyncio.subprocess.DEVNULL if terminal is None else terminal,
            stdout=pipe if terminal is None else terminal,
            stderr=pipe if terminal is None else terminal,
            start_new_session=True,
        )

    async def bulkmail(self, *arguments: str) -> Result:
        """Runs the command to its end."""
        process = await self.start(*arguments)
        out, err = await asyncio.wait_for(process.communicate(), 60)
        assert process.returncode is not None
        result = Result(process.returncode, out.decode(), err.decode())
        assert "Traceback" not in result.err, result.err
        return result

    def here(self, *arguments: str) -> Result:
        """Runs a command that connects to no server, in this process: that saves the start of one,
        which takes longer than most commands do.
        """
        with chdir(self.folder):
            told = CliRunner().invoke(commands, arguments, prog_name="bulkmail", env=self._secrets)
        result = Result(told.exit_code, told.stdout, told.stderr)
        assert "Traceback" not in result.err, result.err
        return result

    @property
    def _secrets(self) -> dict[str, str]:
        return {"TEST_PASSWORD": "secret", **self.environment}

    def states(self) -> dict[str, int]:
        """How many are in each state, as the ledger has it: what `status` tells."""
        with closing(SqliteView(self.folder / "bulkmail.sqlite")) as view:
            record = view.campaign("letter")
            assert record is not None
            return dict(view.tally(record))

    def rows(self) -> dict[str, dict[str, Any]]:
        """What the ledger has of everyone, by address, in order: what `report` tells."""
        with closing(SqliteView(self.folder / "bulkmail.sqlite")) as view:
            record = view.campaign("letter")
            assert record is not None
            return {row["email"]: row for row in view.report(record, [])}


@pytest.fixture(autouse=True)
def signals_kept() -> Iterator[None]:
    """A run leaves Ctrl-C ignored, which the programs of later tests would inherit."""
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


@pytest.fixture
def project(tmp_path: Path) -> Iterator[Project]:
    """A project with a text template and one recipient."""
    project = Project(tmp_path)
    project.write("letter.txt", "Dear {{ name }},\n\nthis is for {{ email }}.\n")
    project.people("kim@example.com,Kim")
    yield project
