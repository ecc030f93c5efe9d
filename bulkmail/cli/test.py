"""`bulkmail test`."""

import asyncio
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import click

from bulkmail.address import address_check, address_key
from bulkmail.campaign import Campaign, read_campaign
from bulkmail.campaign.files import shown
from bulkmail.cli import options
from bulkmail.cli.past import Past
from bulkmail.cli.plan import enrolled, snapshot
from bulkmail.compose.templates import RenderError
from bulkmail.errors import CampaignError, ExitStatus, Problem
from bulkmail.ledger import SqliteLedger
from bulkmail.model import MailObject, Outcome, Phase, Recipient, State, Submission
from bulkmail.sandbox import Sandbox
from bulkmail.smtp.judgement import judge
from bulkmail.transport import SubmissionServer


@click.command()
@options.campaign_file
@click.option("--to", "to", multiple=True, required=True, metavar="ADDRESS", help="Yourself.")
@click.option("--as", "as_", metavar="ADDRESS", help="With this recipient's data.")
@click.option("--sandbox", "in_sandbox", is_flag=True, help="Send to a server on this computer.")
@options.set_option
def test(
    file: Path, to: tuple[str, ...], as_: str | None, in_sandbox: bool, settings: dict[str, str]
) -> None:
    """Send one message of the campaign in FILE to yourself, with the data of a recipient.

    Without --as, that of the first one. Nothing is recorded, and no recipient gets anything.
    """
    campaign = read_campaign(file, settings)
    for address in to:
        if (reason := address_check("standard")(address)) is not None:
            raise click.BadParameter(f"{address} {reason}", param_hint="--to")
    mails = _composed(campaign, to, as_)
    with ExitStack() as stack:
        sandbox = None
        if in_sandbox:
            sandbox = stack.enter_context(Sandbox(options.sandbox_folder(campaign)))
        submission = sandbox.submission if sandbox else campaign.submission()
        outcomes = asyncio.run(_submitted(submission, mails))
    for mail, outcome in zip(mails, outcomes, strict=True):
        state = judge(outcome).state
        click.echo(f"{mail.envelope.forward_path}: {state} · {outcome}")
    if sandbox is not None:
        click.echo(f"  the inbox: {shown(sandbox.maildir)}/new · nothing left this computer")
    if any(judge(outcome).state is not State.ACCEPTED for outcome in outcomes):
        raise SystemExit(ExitStatus.LOOK)


def _composed(campaign: Campaign, to: tuple[str, ...], as_: str | None) -> list[MailObject]:
    """The message of one recipient, for each address of `to`."""
    ledger = SqliteLedger(None)
    with ledger.enrolling():
        record = ledger.campaign(campaign.name, time.time())
        enrolled(campaign, ledger, record, Past(campaign), lambda what: None)
        recipient = _chosen(campaign, ledger.unsent(record), as_)
        composer = snapshot(campaign, record)
        try:
            mails = [composer.compose(recipient, time.time(), address) for address in to]
        except RenderError as error:
            message = f"{error.message} (for {recipient.source})"
            raise CampaignError([Problem(error.place, message)]) from None
    ledger.close()
    return mails


def _chosen(campaign: Campaign, recipients: Iterator[Recipient], as_: str | None) -> Recipient:
    for recipient in recipients:
        if as_ is None or address_key(recipient.address) == address_key(as_):
            return recipient
    who = f"{as_} is not among those who would get it" if as_ else "nobody would get it"
    raise CampaignError(f"{who}; see: bulkmail check {campaign.path}")


async def _submitted(submission: Submission, mails: list[MailObject]) -> list[Outcome]:
    """Sends one after another over one connection."""
    session = await SubmissionServer(submission).connect()
    outcomes: list[Outcome] = []
    for mail in mails:
        if not await session.idle():
            cause = f"not sent: {session.ended}"
            outcomes.append(Outcome(Phase.QUEUED, None, cause))
        else:
            session.submit([(mail, outcomes.append)])
    await session.quit()
    return outcomes
