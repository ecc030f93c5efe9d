"""What is sent, over what line, by whom and how much of it: enough for some seconds of each."""

from dataclasses import dataclass

from benchmarks import senders
from benchmarks.measuring import Task


@dataclass(frozen=True, slots=True)
class Scenario:
    key: str
    title: str
    attachment: bool
    delay_ms: int
    tasks: tuple[Task, ...]


SCENARIOS = (
    Scenario(
        "letter",
        "2.4 KB of text and HTML, 20 connections",
        attachment=False,
        delay_ms=0,
        tasks=(
            Task(senders.BULKMAIL_CHUNKING, 40_000, 4_000, 20),
            Task(senders.BULKMAIL_PIPELINING, 40_000, 4_000, 20),
            Task(senders.BULKMAIL_PLAIN, 40_000, 4_000, 20),
            Task(senders.SMTP_SOURCE, 60_000, 10_000, 20),
            Task(senders.NODEMAILER, 12_000, 4_000, 20),
            Task(senders.AIOSMTPLIB, 2_000, 200, 20),
            Task(senders.SMTPLIB, 2_000, 200, 1),
            Task(senders.MAILMERGE, 600, 50, 1),
        ),
    ),
    Scenario(
        "attachment",
        "the same with a shared attachment of 100 KB, 20 connections",
        attachment=True,
        delay_ms=0,
        tasks=(
            Task(senders.BULKMAIL_CHUNKING, 10_000, 1_000, 20),
            Task(senders.BULKMAIL_PIPELINING, 10_000, 1_000, 20),
            Task(senders.BULKMAIL_PLAIN, 10_000, 1_000, 20),
            Task(senders.SMTP_SOURCE, 20_000, 2_000, 20),
            Task(senders.NODEMAILER, 2_000, 500, 20),
            Task(senders.AIOSMTPLIB, 500, 60, 20),
            Task(senders.SMTPLIB, 500, 60, 1),
            Task(senders.MAILMERGE, 300, 50, 1),
        ),
    ),
    Scenario(
        "distance",
        "the letter over a line of 50 ms each way",
        attachment=False,
        delay_ms=50,
        tasks=(
            Task(senders.BULKMAIL_CHUNKING, 40_000, 8_000, 20),
            Task(senders.BULKMAIL_PIPELINING, 8_000, 2_000, 100),
            Task(senders.NODEMAILER, 3_000, 1_000, 100),
            Task(senders.AIOSMTPLIB, 1_200, 300, 100),
            Task(senders.SMTP_SOURCE, 3_000, 600, 100),
            Task(senders.SMTPLIB, 12, 2, 1),
        ),
    ),
)
