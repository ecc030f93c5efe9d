"""`bulkmail run --dry-run`: everyone composed, the messages written to files, nobody sent to."""

import time
from itertools import islice
from pathlib import Path

import click
from rich.console import Console

from bulkmail.campaign import Campaign
from bulkmail.campaign.files import shown
from bulkmail.cli import options, text
from bulkmail.cli.past import Past
from bulkmail.cli.plan import planned
from bulkmail.cli.question import asks, cautions, refuse_second_name, refuse_what_was_sent, show
from bulkmail.cli.show import show_message
from bulkmail.transport.eml import EmlFolder

WRITTEN_MESSAGES = 20


def dry_run(
    campaign: Campaign, folder: Path, *, write_all: bool, cancel_removed: bool, new: bool
) -> None:
    """Writes the first messages, or all, to `folder`, and shows one."""
    ledger, under_way = options.scratch(campaign)
    now = time.time()
    with planned(
        campaign, ledger, Past(campaign), cancel_removed=cancel_removed, under_way=under_way
    ) as plan:
        refuse_what_was_sent(plan)
        if not new:
            refuse_second_name(plan)
        show(cautions(plan))
        show(asks(plan))
        plan.proof.findings.show()
        eml = EmlFolder(folder)
        mails = [
            plan.composer.compose(recipient, recipient.first_attempt_at or now)
            for recipient in islice(ledger.unsent(plan.record), 1)
        ]
        number = None if write_all else WRITTEN_MESSAGES
        written = 0
        for recipient in islice(ledger.unsent(plan.record), number):
            eml.write(plan.composer.compose(recipient, recipient.first_attempt_at or now))
            written += 1
    ledger.close()
    for mail in mails:
        show_message(Console(), b"".join(mail.content), f"1 of {plan.unsent:,}")
    have = [f"{plan.accepted:,} already have it"] if plan.accepted else []
    parts = [f"{plan.unsent:,} would get it", *have, *text.left_out(plan.found)]
    if plan.under_way:
        parts.append(text.under_way(plan.in_flight))
    click.echo(" · ".join([*parts, "nothing was sent"]))
    if written:
        click.echo(
            f"\n  the first {written} as .eml files, which mail readers open: {shown(folder)}/"
        )
    click.echo(f"  send them to this computer only:  bulkmail run {campaign.path} --sandbox")
