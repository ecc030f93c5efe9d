"""The senders that are compared: how each is started, and what it needs.

Each gets a folder with the files of `material.write` and `job.json`, and sends one message to each
person of the list.
"""

import json
import shutil
import sys
from collections.abc import Callable
from dataclasses import asdict, dataclass
from importlib.util import find_spec
from pathlib import Path

from benchmarks.senders import bulkmail, mailmerge, smtp_source

NODE_FOLDER = Path(__file__).parents[1] / "node"
PIPELINING, CHUNKING = "PIPELINING", "CHUNKING"


@dataclass(frozen=True, slots=True)
class Job:
    """What a sender is told; `write` puts it where the sender looks."""

    host: str
    port: int
    ca_file: str
    connections: int
    people: int
    attachment: bool
    delay_ms: int = 0

    def write(self, folder: Path) -> None:
        (folder / "job.json").write_text(json.dumps(asdict(self)))


@dataclass(frozen=True, slots=True)
class Sender:
    """`command` starts it in the folder. `missing` says in a line what is not installed, or None.

    `announced` are the extensions that the server has for it, beside SIZE and 8BITMIME. Not
    `personal`: it sends the same message to everyone.
    """

    name: str
    command: Callable[[Job, Path], list[str]]
    announced: tuple[str, ...] = (PIPELINING,)
    missing: Callable[[], str | None] = lambda: None
    tls: bool = True
    personal: bool = True
    answers: str = ""
    """What it asks for on standard input."""


def _module(name: str) -> Callable[[Job, Path], list[str]]:
    return lambda job, folder: [sys.executable, "-m", f"benchmarks.senders.{name}", str(folder)]


def _bulkmail(job: Job, folder: Path) -> list[str]:
    bulkmail.write_campaign(folder, asdict(job))
    return bulkmail.COMMAND


def _nodemailer(job: Job, folder: Path) -> list[str]:
    return ["node", str(Path(__file__).with_name("nodemailer.mjs")), str(folder), str(NODE_FOLDER)]


def _nodemailer_missing() -> str | None:
    if shutil.which("node") is None:
        return "no Node.js; apt install nodejs npm"
    if not (NODE_FOLDER / "node_modules" / "nodemailer").is_dir():
        return "not installed; npm install --prefix benchmarks/node"
    return None


def _mailmerge_missing() -> str | None:
    if find_spec("mailmerge") is None:
        return "not installed; pip install -c constraints.txt -e '.[bench]'"
    return None


def _mailmerge(job: Job, folder: Path) -> list[str]:
    return mailmerge.command(folder, asdict(job))


def _smtp_source(job: Job, folder: Path) -> list[str]:
    return smtp_source.command(folder, asdict(job))


def _smtp_source_missing() -> str | None:
    if smtp_source.program() is None:
        return "not installed; apt install postfix"
    return None


BULKMAIL_PLAIN = Sender("bulkmail, plain", _bulkmail, ())
BULKMAIL_PIPELINING = Sender("bulkmail, PIPELINING", _bulkmail)
BULKMAIL_CHUNKING = Sender("bulkmail, CHUNKING", _bulkmail, (PIPELINING, CHUNKING))
AIOSMTPLIB = Sender("aiosmtplib, as everyone writes it", _module("naive_aiosmtplib"))
SMTPLIB = Sender("smtplib, one connection", _module("one_smtplib"))
MAILMERGE = Sender(
    "mailmerge", _mailmerge, (PIPELINING, "AUTH PLAIN"), _mailmerge_missing, answers="secret\n"
)
NODEMAILER = Sender("Nodemailer, pool", _nodemailer, missing=_nodemailer_missing)
SMTP_SOURCE = Sender(
    "smtp-source (C, no TLS)", _smtp_source, missing=_smtp_source_missing, tls=False, personal=False
)
