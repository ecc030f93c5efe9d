"""`check --connect`: logs in as a run would, and compares what the server announces with what would
be sent. Nothing is sent.
"""

import asyncio
from collections.abc import Iterator

import click

from bulkmail.cli import text
from bulkmail.cli.findings import Findings
from bulkmail.cli.preflight import Proof
from bulkmail.compose.lint import LINK_TO_FILES, Finding, Severity
from bulkmail.model import Submission
from bulkmail.transport import Greeted, SubmissionServer


def look(submission: Submission) -> Greeted:
    """Connects, logs in, says goodbye. Raises BulkmailError."""
    server = SubmissionServer(submission, on_remark=lambda line: click.echo(line, err=True))
    return asyncio.run(server.look())


def facts(greeted: Greeted, submission: Submission) -> Iterator[tuple[str, str]]:
    """What the server told: (name, value)."""
    secured = greeted.tls or "no encryption"
    login = f", took the login of {submission.username}" if submission.username else ""
    yield "connected", f"{submission.host}:{submission.port}, {secured}{login}"
    told = (f"{name} {more}".strip() for name, more in sorted(greeted.extensions.items()))
    yield "it announces", text.visible(", ".join(told) or "nothing")
    yield "so it gets", _way(greeted, submission)


def add(findings: Findings, greeted: Greeted, proof: Proof) -> None:
    """What this server would not take."""
    announced = greeted.announced
    octets, source = proof.largest
    if announced.max_bytes is not None and octets > announced.max_bytes:
        takes = text.size(announced.max_bytes)
        what = f"the largest message has {text.size(octets)}; the server takes {takes} (SIZE)"
        findings.add(Finding("size", Severity.ERROR, "message", what, LINK_TO_FILES), source)
    if proof.international.number and not (announced.smtputf8 and announced.eightbitmime):
        what = (
            f"addresses with letters outside ASCII before the @ ({proof.international}), and the"
            " server does not take such (SMTPUTF8): these would fail"
        )
        mend = "ask these people for another address, or send through a server that does"
        findings.add(Finding("smtputf8", Severity.ERROR, "smtp", what, mend), None)


def _way(greeted: Greeted, submission: Submission) -> str:
    announced = greeted.announced
    if not (announced.pipelining and submission.pipelining):
        return "one command at a time"
    if announced.chunking:
        return f"messages whole, {submission.window} at once on a connection (CHUNKING)"
    return "the commands of a message at once (PIPELINING)"
