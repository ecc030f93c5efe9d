"""`bulkmail run`."""

import asyncio
import time
from collections.abc import Callable, Coroutine
from contextlib import ExitStack, closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click

from bulkmail.campaign import Campaign, read_campaign
from bulkmail.cli import options, text
from bulkmail.cli.deliver import Bounds, deliver
from bulkmail.cli.dry_run import dry_run as run_dry
from bulkmail.cli.loop import loop_factory
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
from bulkmail.delivery import Stop
from bulkmail.errors import CampaignError, ExitStatus
from bulkmail.ledger import Home, Ledger
from bulkmail.sandbox import Sandbox
from bulkmail.transport.eml import file_name

Sending = Callable[[], Coroutine[Any, Any, Stop | None]]
"""Sends a plan that is kept; why it stopped before its end, if it did."""


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
    detach: bool
    lease_seconds: float

    @property
    def bounds(self) -> Bounds:
        return Bounds(self.limit, self.wait_seconds, self.as_json)

    @property
    def asks(self) -> bool:
        """Whether somebody is to look at what would be sent."""
        return not (self.yes or self.approved is not None)


@click.command()
@options.campaign_file
@click.option("--dry-run", is_flag=True, help="Compose and check everyone; send to nobody.")
@click.option("--out", type=click.Path(path_type=Path), help="Folder of the dry run's messages.")
@click.option("--all", "write_all", is_flag=True, help="The dry run writes all, not the first 20.")
@click.option("--sandbox", "in_sandbox", is_flag=True, help="Send to a server on this computer.")
@click.option("--limit", type=click.IntRange(min=1), help="Send to this many at most, then stop.")
@click.option(
    "--wait",
    callback=options.duration_of,
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
@click.option("--detach", is_flag=True, help="Plan, and leave the sending to `bulkmail worker`.")
@options.lease_option
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
    detach: bool,
    lease_seconds: float,
    settings: dict[str, str],
) -> None:
    """Send the campaign in FILE. Run again, it continues: nobody gets it twice.

    \b
    Exit status: 0 everyone accepted or left out; 1 finished, look at the failed; 75 unfinished, run
    again; 65 the campaign is wrong; 69 no server; 77 login refused; 130 stopped by Ctrl-C.
    """
    _refuse_contradictions(
        dry_run=dry_run,
        writes=write_all or out is not None,
        in_sandbox=in_sandbox,
        limit=limit,
        detach=detach,
        approved=approved,
    )
    flags = Flags(
        yes, limit, wait, as_json, accept_changes, cancel_removed, new, approved, detach,
        lease_seconds,
    )  # fmt: skip
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


def _refuse_contradictions(
    *,
    dry_run: bool,
    writes: bool,
    in_sandbox: bool,
    limit: int | None,
    detach: bool,
    approved: str | None,
) -> None:
    """Raises UsageError for flags that do not go together."""
    if writes and not dry_run:
        raise click.UsageError("--out and --all belong to --dry-run")
    if dry_run and in_sandbox:
        raise click.UsageError("--dry-run sends nothing, not even to the sandbox; use one of them")
    if dry_run and limit is not None:
        raise click.UsageError("--limit bounds what is sent; --dry-run looks at everyone")
    if detach and (dry_run or in_sandbox):
        raise click.UsageError("--detach belongs to a run that sends")
    if dry_run and approved:
        raise click.UsageError("--dry-run sends nothing that would be approved")


def _send(campaign: Campaign, flags: Flags, sandbox: Sandbox | None) -> ExitStatus:
    """Plans and asks, sends or leaves it to workers, sums up."""
    home = options.ledger_home(campaign, sandbox is not None)
    if flags.detach and not home.is_shared:
        raise CampaignError("--detach leaves it to workers, which need  ledger: postgresql://…")
    ledger = home.ledger(campaign.name)
    plan, sending = _agreed(campaign, home, ledger, flags, sandbox)
    if sending is not None and flags.detach:
        ledger.close()
        _tell_what_is_left(plan, flags)
        return ExitStatus.DONE
    started = time.monotonic()
    if home.is_shared:
        ledger.close()
    stop = _awaited(sending) if sending is not None else None
    ledger.close()
    return _summed_up(plan, home, time.monotonic() - started, stop, flags, sandbox)


def _agreed(
    campaign: Campaign, home: Home, ledger: Ledger, flags: Flags, sandbox: Sandbox | None
) -> tuple[Plan, Sending | None]:
    """Plans and asks. With a yes the plan is kept, and what is to be awaited to send it returned;
    None if nobody is left.
    """
    with planned(
        campaign,
        ledger,
        Past(campaign, in_sandbox=sandbox is not None),
        cancel_removed=flags.cancel_removed,
        is_rehearsal=sandbox is not None,
        looks=flags.asks,
    ) as plan:
        refuse_what_was_sent(plan)
        if flags.approved is not None:
            refuse_unapproved(plan, fingerprint(plan, ledger), flags.approved)
        if not plan.unsent:
            return plan, None
        if flags.new:
            ledger.contents.set_meant_again(plan.record, campaign.digest())
        elif sandbox is None:
            refuse_second_name(plan)
        server = sandbox.submission if sandbox else campaign.server
        accept_changes = flags.accept_changes or flags.approved is not None
        ask(plan, server, flags.limit, yes=not flags.asks, accept_changes=accept_changes)
        return plan, _begun(plan, home, ledger, flags, sandbox)


def _begun(
    plan: Plan, home: Home, ledger: Ledger, flags: Flags, sandbox: Sandbox | None
) -> Sending:
    """Records, with the plan, that a run begins; what is to be awaited then to send."""
    campaign = plan.campaign
    if not home.is_shared:
        submission = sandbox.submission if sandbox else campaign.submission()
        run_id = ledger.begin_run(plan.record, time.time())
        return lambda: deliver(plan, ledger, submission, run_id, flags.bounds)
    from bulkmail.cli import share

    if not flags.detach:
        campaign.submission()  # has what this process needs to send
    ledger.begin_run(plan.record, time.time())
    share.hand_out(plan, ledger, flags.limit, detach=flags.detach)
    return lambda: share.send_with_others(plan, home, flags.bounds, flags.lease_seconds)


def _awaited(sending: Sending) -> Stop | None:
    with asyncio.Runner(loop_factory=loop_factory()) as runner:
        return runner.run(sending())


def _tell_what_is_left(plan: Plan, flags: Flags) -> None:
    click.echo(f"{text.people(flags.bounds.of(plan))} left to workers")
    click.echo(f"  watch them:     bulkmail status {plan.campaign.path}")


def _summed_up(
    plan: Plan,
    home: Home,
    seconds: float,
    stop: Stop | None,
    flags: Flags,
    sandbox: Sandbox | None,
) -> ExitStatus:
    """Says what became of everyone."""
    with closing(home.view()) as view:
        tally = view.tally(plan.record)
    summary = Summary(plan, tally, seconds, stop, sandbox)
    with may_be_unread():
        if flags.as_json:
            click.echo(text.json_line(summary.as_json()))
        else:
            summary.show()
    return summary.status
