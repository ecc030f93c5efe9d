"""`bulkmail run`."""

import asyncio
import time
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import click

from bulkmail.campaign import Campaign, read_campaign
from bulkmail.campaign.values import duration
from bulkmail.cli import options, text
from bulkmail.cli.deliver import deliver
from bulkmail.cli.dry_run import dry_run as run_dry
from bulkmail.cli.past import Past
from bulkmail.cli.plan import Plan, fingerprint, planned
from bulkmail.cli.question import (
    ask,
    refuse_second_name,
    refuse_unapproved,
    refuse_what_was_sent,
)
from bulkmail.cli.summary import Summary
from bulkmail.cli.unread import may_be_unread
from bulkmail.errors import ExitStatus
from bulkmail.ledger import SqliteLedger
from bulkmail.model import Submission
from bulkmail.sandbox import Sandbox
from bulkmail.transport.eml import file_name


@dataclass(frozen=True)
class Flags:
    """The command line of a run."""

    yes: bool
    limit: int | None
    wait_seconds: float
    as_json: bool
    accept_changes: bool
    cancel_removed: bool
    new: bool
    approved: str | None

    @property
    def asks(self) -> bool:
        """Whether somebody is to look at what would be sent."""
        return not (self.yes or self.approved is not None)


def _duration(context: click.Context, parameter: click.Parameter, value: str) -> float:
    try:
        return duration(value).total_seconds()
    except ValueError as error:
        raise click.BadParameter(str(error)) from None


@click.command()
@options.campaign_file
@click.option("--dry-run", is_flag=True, help="Compose and check everyone; send to nobody.")
@click.option("--out", type=click.Path(path_type=Path), help="Folder of the dry run's messages.")
@click.option("--all", "write_all", is_flag=True, help="The dry run writes all, not the first 20.")
@click.option("--sandbox", "in_sandbox", is_flag=True, help="Send to a server on this computer.")
@click.option("--limit", type=click.IntRange(min=1), help="Send to this many at most, then stop.")
@click.option(
    "--wait",
    callback=_duration,
    default="1h",
    show_default=True,
    metavar="DURATION",
    help="If the start or the rate's next message is further away, stop and say when.",
)
@click.option("--yes", is_flag=True, help="Answer the question before sending with yes.")
@click.option(
    "--approved",
    metavar="FINGERPRINT",
    help="Ask nothing, and refuse if content or recipients are not those that `check` showed.",
)
@click.option("--accept-changes", is_flag=True, help="Send on although the content has changed.")
@options.cancel_removed_flag
@options.new_flag
@options.set_option
@options.json_flag
def run(
    file: Path,
    dry_run: bool,
    out: Path | None,
    write_all: bool,
    in_sandbox: bool,
    yes: bool,
    limit: int | None,
    wait: float,
    as_json: bool,
    accept_changes: bool,
    cancel_removed: bool,
    new: bool,
    approved: str | None,
    settings: dict[str, str],
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
    if dry_run and limit is not None:
        raise click.UsageError("--limit bounds what is sent; --dry-run looks at everyone")
    if dry_run and approved:
        raise click.UsageError("--dry-run sends nothing that would be approved")
    flags = Flags(yes, limit, wait, as_json, accept_changes, cancel_removed, new, approved)
    campaign = read_campaign(file, settings)
    if dry_run:
        folder = out or Path("dry-run") / file_name(campaign.name)
        run_dry(campaign, folder, write_all=write_all, cancel_removed=cancel_removed, new=new)
        return
    with ExitStack() as stack:
        sandbox = None
        if in_sandbox:
            sandbox = stack.enter_context(Sandbox(options.sandbox_folder(campaign)))
            campaign = campaign.rehearsal()
        status = _send(campaign, flags, sandbox)
    raise SystemExit(status)


def _send(campaign: Campaign, flags: Flags, sandbox: Sandbox | None) -> ExitStatus:
    """Plans, asks, sends, sums up."""
    ledger = options.ledger_home(campaign, sandbox is not None).ledger(campaign.name)
    past = Past(campaign, in_sandbox=sandbox is not None)
    submission, run_id = None, 0
    with planned(
        campaign,
        ledger,
        past,
        cancel_removed=flags.cancel_removed,
        is_rehearsal=sandbox is not None,
        looks=flags.asks,
    ) as plan:
        refuse_what_was_sent(plan)
        if flags.approved is not None:
            refuse_unapproved(plan, fingerprint(plan, ledger), flags.approved)
        if plan.unsent:
            if flags.new:
                ledger.contents.set_meant_again(plan.record, campaign.digest())
            elif sandbox is None:
                refuse_second_name(plan)
            server = sandbox.submission if sandbox else campaign.server
            accept_changes = flags.accept_changes or flags.approved is not None
            ask(plan, server, flags.limit, yes=not flags.asks, accept_changes=accept_changes)
            submission = sandbox.submission if sandbox else campaign.submission()
            run_id = ledger.begin_run(plan.record, time.time())
    assert isinstance(ledger, SqliteLedger)
    summary = _deliver(plan, ledger, submission, run_id, flags, sandbox)
    ledger.close()
    with may_be_unread():
        if flags.as_json:
            click.echo(text.json_line(summary.as_json()))
        else:
            summary.show()
    return summary.status


def _deliver(
    plan: Plan,
    ledger: SqliteLedger,
    submission: Submission | None,
    run_id: int,
    flags: Flags,
    sandbox: Sandbox | None,
) -> Summary:
    """Sends, unless there is no server because nobody is left."""
    started = time.monotonic()
    stop = None
    if submission is not None:
        delivery = deliver(
            plan,
            ledger,
            submission,
            run_id,
            limit=flags.limit,
            wait_seconds=flags.wait_seconds,
            as_json=flags.as_json,
        )
        with asyncio.Runner(loop_factory=_loop_factory()) as runner:
            stop = runner.run(delivery)
    return Summary(plan, ledger.tally(plan.record), time.monotonic() - started, stop, sandbox)


def _loop_factory() -> Callable[[], asyncio.AbstractEventLoop] | None:
    """That of uvloop, which does the same for less, where it is installed; None: asyncio's own."""
    try:
        from uvloop import new_event_loop
    except ImportError:
        return None
    return new_event_loop
