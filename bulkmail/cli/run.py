"""`bulkmail run`."""

import asyncio
import json
import signal
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import Any

import click
from rich.console import Console

from bulkmail.campaign import Campaign, read_campaign, shown
from bulkmail.cli import options, text
from bulkmail.cli.plan import Plan, ask, ask_about_change, planned
from bulkmail.cli.progress import RunProgress
from bulkmail.cli.show import show_message
from bulkmail.cli.summary import Summary
from bulkmail.delivery import Delivery, Limits, Stop
from bulkmail.errors import ExitStatus
from bulkmail.ledger import CampaignLedger, SqliteLedger
from bulkmail.model import Outcome, Rate, Recipient, State, Submission
from bulkmail.pace import Pace
from bulkmail.sandbox import Sandbox
from bulkmail.transport import SubmissionServer
from bulkmail.transport.eml import EmlFolder

DRY_RUN_MESSAGES = 20


@dataclass(frozen=True)
class Flags:
    """The command line of a run."""

    yes: bool
    limit: int | None
    as_json: bool
    accept_changes: bool
    cancel_removed: bool


@click.command()
@options.campaign_file
@click.option("--dry-run", is_flag=True, help="Compose and check everyone; send to nobody.")
@click.option("--out", type=click.Path(path_type=Path), help="Folder of the dry run's messages.")
@click.option("--all", "write_all", is_flag=True, help="The dry run writes all, not the first 20.")
@click.option("--sandbox", "in_sandbox", is_flag=True, help="Send to a server on this computer.")
@click.option("--limit", type=click.IntRange(min=1), help="Send to this many at most, then stop.")
@click.option("--yes", is_flag=True, help="Answer the question before sending with yes.")
@click.option("--accept-changes", is_flag=True, help="Send on although the content has changed.")
@click.option("--cancel-removed", is_flag=True, help="Give up people who left the recipients.")
@options.json_flag
def run(
    file: Path,
    dry_run: bool,
    out: Path | None,
    write_all: bool,
    in_sandbox: bool,
    yes: bool,
    limit: int | None,
    as_json: bool,
    accept_changes: bool,
    cancel_removed: bool,
) -> None:
    """Send the campaign in FILE. Run again, it continues: nobody gets it twice.

    \b
    Exit status: 0 everyone accepted or left out; 1 finished, look at the failed; 75 unfinished, run
    again; 65 the campaign is wrong; 69 no server; 77 login refused; 130 stopped by Ctrl-C.
    """
    if (out or write_all) and not dry_run:
        raise click.UsageError("--out and --all belong to --dry-run")
    if dry_run and in_sandbox:
        raise click.UsageError("--dry-run sends nothing, not even to the sandbox; use one of them")
    flags = Flags(yes, limit, as_json, accept_changes, cancel_removed)
    campaign = read_campaign(file)
    if dry_run:
        _dry_run(campaign, out or Path("dry-run") / campaign.name, write_all)
        return
    with ExitStack() as stack:
        if in_sandbox:
            server = stack.enter_context(Sandbox(options.sandbox_folder(campaign)))
            status = _send(campaign, flags, server.submission, (), server)
        else:
            status = _send(campaign, flags, None, campaign.file.rate, None)
    raise SystemExit(status)


def _dry_run(campaign: Campaign, folder: Path, write_all: bool) -> None:
    ledger = SqliteLedger(None)
    now = time.time()
    with planned(campaign, ledger, cancel_removed=False) as plan:
        eml = EmlFolder(folder)
        written = 0
        for recipient in ledger.unsent(plan.record):
            if written == DRY_RUN_MESSAGES and not write_all:
                break
            eml.write(plan.composer.compose(recipient, now))
            written += 1
        assert plan.first is not None
        message = plan.composer.compose(plan.first, now)
    console = Console()
    show_message(console, b"".join(message.content), f"1 of {plan.unsent:,}")
    left_out = text.left_out(plan.found)
    click.echo(" · ".join([f"{plan.unsent:,} would get it", *left_out, "nothing was sent"]))
    click.echo(f"\n  the first {written} as .eml files, which mail readers open: {shown(folder)}/")
    click.echo(f"  send them to this computer only:  bulkmail run {campaign.path} --sandbox")
    ledger.close()


def _send(
    campaign: Campaign,
    flags: Flags,
    submission: Submission | None,
    rates: tuple[Rate, ...],
    sandbox: Sandbox | None,
) -> ExitStatus:
    """Plans, asks, sends, sums up."""
    ledger = SqliteLedger(options.ledger_path(campaign, sandbox is not None))
    with planned(campaign, ledger, cancel_removed=flags.cancel_removed) as plan:
        if plan.unsent:
            if plan.content_changed and not flags.accept_changes:
                ask_about_change(plan)
            submission = submission or campaign.submission()
            if not flags.yes:
                ask(plan, submission, rates, flags.limit)
    started = time.monotonic()
    stop = None
    if submission is not None and plan.unsent:
        stop = asyncio.run(_deliver(plan, ledger, submission, rates, flags))
    tally = ledger.tally(plan.record)
    next_due_at = ledger.next_due_at(plan.record)
    ledger.close()
    summary = Summary(plan, tally, time.monotonic() - started, stop, next_due_at, sandbox)
    if flags.as_json:
        click.echo(json.dumps(summary.as_json(), ensure_ascii=False))
    else:
        summary.show()
    return summary.status


async def _deliver(
    plan: Plan,
    ledger: SqliteLedger,
    submission: Submission,
    rates: tuple[Rate, ...],
    flags: Flags,
) -> Stop | None:
    smtp = plan.campaign.file.smtp
    pace = Pace(rates)
    now, loop_now = time.time(), asyncio.get_running_loop().time()
    remembered = ledger.grants(submission.account, now)
    pace.recall((loop_now - max(0.0, now - at), number) for at, number in remembered)
    changes = CampaignLedger(ledger, plan.record, submission.account)
    progress = RunProgress(min(plan.unsent, flags.limit or plan.unsent))

    def settled(recipient: Recipient, state: State, outcome: Outcome) -> None:
        # Whoever read the output may have gone (`run --json | head`); the run goes on without.
        with suppress(OSError):
            if state is not State.PENDING:
                progress.settled(state)
                if flags.as_json:
                    click.echo(json.dumps(_event(recipient, state, outcome), ensure_ascii=False))

    delivery = Delivery(
        changes,
        SubmissionServer(submission),
        plan.composer,
        pace,
        Limits(smtp.connections, smtp.messages_per_connection, flags.limit),
        settled,
        content_proven=plan.accepted > 0 and not plan.content_changed,
    )

    def ledger_failed() -> None:
        delivery.stop(Stop(ExitStatus.LEDGER, str(changes.failure)))
        delivery.abort("the ledger cannot be written")

    changes.on_failure = ledger_failed
    with progress, _signals(delivery, progress):
        try:
            return await delivery.run()
        finally:
            await changes.close()


@contextmanager
def _signals(delivery: Delivery, progress: RunProgress) -> Iterator[None]:
    """Ctrl-C or SIGTERM once: finish what is under way. Twice: abort."""
    loop = asyncio.get_running_loop()
    told = 0

    def tell(number: int) -> None:
        nonlocal told
        told += 1
        if told == 1:
            status = ExitStatus.INTERRUPTED if number == signal.SIGINT else ExitStatus.TERMINATED
            delivery.stop(Stop(status, f"by {signal.Signals(number).name}"))
            progress.say("finishing what is under way; again to abort")
        else:
            delivery.abort("aborted")

    def handle(number: int, frame: FrameType | None) -> None:
        loop.call_soon_threadsafe(tell, number)

    before = {number: signal.signal(number, handle) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _event(recipient: Recipient, state: State, outcome: Outcome) -> dict[str, Any]:
    return {
        "event": "settled",
        "email": recipient.address,
        "state": state,
        "reply": str(outcome.reply or ""),
        "reason": "" if state is State.ACCEPTED else str(outcome),
    }
