"""A story: what somebody types and changes, told as they see it, and how it is compared.

What differs from one run to the next is told as it could be: the server by the name that people
know it by, times and durations as dots. An exit status is shown where it is not 0.
"""

import asyncio
import difflib
import email
import email.policy
import json
import os
import re
import shlex
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from click.testing import CliRunner

from bulkmail.cli import commands
from bulkmail.errors import ExitStatus
from bulkmail.sandbox.receiving import Received

from ..conftest import Project, RecordingServer
from .terminal import Terminal

FOLDER = Path(__file__).parent
GMAIL, ANOTHER = "smtp.gmail.com:465", "smtp.example.org:465"
"""What servers are called in the stories; all are on this computer."""

_ALWAYS_NEW = (
    (re.compile(r"20\d\d-\d\d-\d\d( at)? \d\d:\d\d \S+"), "…"),
    (re.compile(r"(?<= · )[\d.e-]+ (second|minute)s?\b"), "… seconds"),
    (re.compile(r'("seconds": )[\d.e-]+'), r"\g<1>…"),
)


@dataclass(frozen=True)
class Mail:
    """A message that the server holds."""

    to: str
    subject: str
    text: str


@dataclass
class Story:
    """What is typed in the folder of `project`, whose campaigns go through `server`."""

    name: str
    project: Project
    server: RecordingServer
    username: str
    server_name: str
    terminal: Terminal | None = None
    """That of the command that runs."""
    _told: list[str] = field(default_factory=list)

    # -- what people do ------------------------------------------------------------------------

    async def types(self, command: str, *answers: tuple[str, str]) -> int:
        """Types `command` in a terminal; its exit status.

        `answers`: (shown, typed), in order; each is typed as soon as the text before it is shown.
        """
        program, *arguments = shlex.split(command)
        assert program == "bulkmail"
        self.terminal = Terminal(arguments, self.project.folder, self._environment())
        for shown, typed in answers:
            await asyncio.to_thread(self.terminal.wait_for, shown)
            self.terminal.type(typed)
        status, seen = await asyncio.to_thread(self.terminal.end)
        self._tell(command, seen, status)
        return status

    async def job_runs(self, command: str) -> tuple[int, str]:
        """Runs `command` where there is no terminal; its exit status and standard output."""
        result = await self.project.bulkmail(*shlex.split(command)[1:])
        self._tell(command, result.out + result.err, result.status)
        return result.status, result.out

    def edits(self, name: str, old: str, new: str) -> None:
        """Replaces text that stands once in the file `name`, and tells the lines that changed."""
        path = self.project.folder / name
        before = path.read_text("utf-8")
        assert before.count(old) == 1, before
        after = before.replace(old, new)
        path.write_text(after, "utf-8")
        changed = difflib.ndiff(before.splitlines(), after.splitlines())
        lines = [line for line in changed if line[0] in "-+"]
        self._tell(f"edit {name}", "".join(f"{line}\n" for line in lines), 0)

    def copies(self, name: str, to: str) -> None:
        (self.project.folder / to).write_bytes((self.project.folder / name).read_bytes())
        self._tell(f"cp {name} {to}", "", 0)

    def campaign(self, name: str, text: str, smtp: str = "password: env:TEST_PASSWORD") -> None:
        """Writes a campaign file: `text`, and the server."""
        submission = self.server.submission
        lines = f"""\
smtp:
  host: {submission.host}
  port: {submission.port}
  security: tls
  ca_file: {submission.ca_file}
  username: {self.username}
  {smtp}
"""
        self.project.write(name, text + lines)

    # -- what came of it -----------------------------------------------------------------------

    def held(self) -> list[Mail]:
        """What the server holds, in the order in which it came."""
        return [_mail(received) for received in self.server.received]

    def states(self, file: str) -> dict[str, str]:
        """The state of each address in the ledger; `status` and `report` agree on it."""
        rows = self._asked("report", file, "--format", "json")
        [status] = self._asked("status", file, "--json")
        assert status["states"] == Counter(row["state"] for row in rows)
        states = {row["email"]: row["state"] for row in rows}
        assert len(states) == len(rows)
        return states

    def assert_told(self) -> None:
        """It reads as in its file; with BULKMAIL_REWRITE_STORIES=1 it is written there."""
        path, told = FOLDER / f"{self.name}.txt", "\n".join(self._told)
        if os.environ.get("BULKMAIL_REWRITE_STORIES") == "1":
            path.write_text(told, "utf-8")
        before = path.read_text("utf-8") if path.exists() else ""
        difference = difflib.unified_diff(
            before.splitlines(), told.splitlines(), path.name, "told now", lineterm=""
        )
        assert told == before, "\n".join(difference)

    def _asked(self, command: str, file: str, *options: str) -> list[dict[str, Any]]:
        """The objects that a command answers with, aside from the story."""
        arguments = [command, str(self.project.folder / file), *options]
        result = CliRunner().invoke(commands, arguments, catch_exceptions=False)
        assert result.exit_code == ExitStatus.DONE, result.output
        return objects(result.stdout)

    def _tell(self, command: str, seen: str, status: int) -> None:
        ended = f"[exit {status}]\n" if status else ""
        self._told.append(f"$ {command}\n{self._as_ever(seen)}{ended}")

    def _as_ever(self, seen: str) -> str:
        submission = self.server.submission
        host = self.server_name.partition(":")[0]
        seen = seen.replace(f"{submission.host}:{submission.port}", self.server_name)
        seen = seen.replace(submission.host, host)
        for pattern, shown in _ALWAYS_NEW:
            seen = pattern.sub(shown, seen)
        assert str(self.project.folder) not in seen
        return "" if seen == "\n" else seen

    def _environment(self) -> dict[str, str]:
        """Without what would change how a terminal is written to."""
        unwanted = ("COLUMNS", "LINES", "NO_COLOR", "FORCE_COLOR", "TTY_COMPATIBLE")
        inherited = {name: value for name, value in os.environ.items() if name not in unwanted}
        return {**inherited, **self.project.environment}


def _mail(received: Received) -> Mail:
    message = email.message_from_bytes(received.content, policy=email.policy.default)
    [to] = received.forward_paths
    assert message["To"].addresses[0].addr_spec == to
    body = message.get_body(("plain",))
    assert body is not None
    # On the way every line ends in CRLF (RFC 5321 2.3.8).
    return Mail(to, str(message["Subject"]), body.get_content().replace("\r\n", "\n"))


def once_each(mails: Sequence[Mail]) -> dict[str, Mail]:
    """The mails by address; nobody has two."""
    by_address = {mail.to: mail for mail in mails}
    assert len(by_address) == len(mails), "somebody got it twice"
    return by_address


def objects(out: str) -> list[dict[str, Any]]:
    """What `--json` writes: one a line."""
    return [json.loads(line) for line in out.splitlines()]
