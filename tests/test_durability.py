"""What is on the disk before a dot can leave, seen in the system calls of a real run.

SIGKILL does not test this: what a process has written survives it without any sync.
"""

import re
import shutil
from pathlib import Path

import pytest

from .conftest import Project, StartServer

PEOPLE = 40
TRACED = ("pwrite64", "fdatasync", "fsync", "sendto", "write")

_CALL = re.compile(
    r"(?P<at>[0-9.]+) (?P<name>pwrite64|fdatasync|fsync|sendto|write)\(\d+<(?P<file>[^>]*)>"
    r"(?P<rest>.*) = (?P<result>-?\d+).* <(?P<seconds>[0-9.]+)>$"
)
_MESSAGE_ID = re.compile(r"Message-ID: (<[^>]+>)")


class Call:
    """One system call: begun and ended when, on which file, with which bytes."""

    def __init__(self, match: re.Match[str]) -> None:
        self.begun = float(match["at"])
        self.ended = self.begun + float(match["seconds"])
        self.name, self.file, self.data = match["name"], match["file"], match["rest"]
        self.failed = match["result"].startswith("-")

    @property
    def is_sync(self) -> bool:
        return self.name in ("fdatasync", "fsync") and not self.failed


def calls(folder: Path) -> list[Call]:
    """Of all threads, in the order in which they began."""
    lines = (line for path in folder.glob("trace.*") for line in path.read_text().splitlines())
    found = [Call(match) for line in lines if (match := _CALL.match(line))]
    return sorted(found, key=lambda call: call.begun)


def not_synced_before_their_dot(trace: list[Call]) -> list[str]:
    """Message-IDs that were not in the ledger's log, and synced, when their dot was handed out."""
    log = [call for call in trace if call.file.endswith(".sqlite-wal")]
    wrong, seen = [], 0
    for sent in trace:
        if sent.name not in ("sendto", "write") or not sent.file.startswith("TCP"):
            continue
        for message_id in _MESSAGE_ID.findall(sent.data):
            seen += 1
            written = [c.ended for c in log if c.name == "pwrite64" and message_id in c.data]
            synced = [c for c in log if c.is_sync and c.ended <= sent.begun]
            if not any(min(written, default=sent.ended) <= call.begun for call in synced):
                wrong.append(message_id)
    assert seen == PEOPLE, f"the trace shows {seen} messages"
    return wrong


@pytest.mark.skipif(shutil.which("strace") is None, reason="strace is not here")
async def test_the_intent_is_synced_before_its_dot_leaves(
    serve: StartServer, project: Project
) -> None:
    """For each message: its Message-ID is written to the log, the log is synced, the dot is sent."""
    server = await serve(login_required=False, starttls=True)
    project.many(PEOPLE)
    path = project.campaign(server)
    in_clear = path.read_text().replace("security: starttls", "security: none")
    path.write_text(re.sub(r"  (username|password|ca_file):.*\n", "", in_clear))
    by = ["strace", "-ff", "-qq", "-yy", "-ttt", "-T", "-s", "100000"]
    by += ["-o", str(project.folder / "trace"), "-e", f"trace={','.join(TRACED)}"]
    process = await project.start("run", "letter.yaml", "--yes", by=by)
    _, err = await process.communicate()
    if process.returncode != 0 and b"ptrace" in err:
        pytest.skip("this machine forbids tracing")
    assert process.returncode == 0, err
    assert len(server.paths) == PEOPLE
    assert not_synced_before_their_dot(calls(project.folder)) == []
