"""`bulkmail run --dry-run`: everyone composed, the messages written to files, nobody sent to."""

import time
from itertools import islice
from pathlib import Path

import click
from rich.console import Console

from bulkmail.campaign import Campaign
from bulkmail.campaign.files import shown
from bulkmail.cli import text
from bulkmail.cli.past import Past
from bulkmail.cli.plan import planned
from bulkmail.cli.show import show_message
from bulkmail.ledger import SqliteLedger
from bulkmail.transport.eml import EmlFolder

WRITTEN_MESSAGES = 20


def dry_run(campaign: Campaign, folder: Path, *, write_all: bool) -> None:
    """Writes the first messages, or all, to `folder`, and shows one."""
    ledger = SqliteLedger(None)
    now = time.time()
    with planned(campaign, ledger, Past(campaign)) as plan:
        eml = EmlFolder(folder)
        written = 0
        number = None if write_all else WRITTEN_MESSAGES
        for recipient in islice(ledger.unsent(plan.record), number):
            eml.write(plan.composer.compose(recipient, now))
            written += 1
        assert plan.first is not None
        message = plan.composer.compose(plan.first, now)
    ledger.close()
    show_message(Console(), b"".join(message.content), f"1 of {plan.unsent:,}")
    left_out = text.left_out(plan.found)
    click.echo(" · ".join([f"{plan.unsent:,} would get it", *left_out, "nothing was sent"]))
    click.echo(f"\n  the first {written} as .eml files, which mail readers open: {shown(folder)}/")
    click.echo(f"  send them to this computer only:  bulkmail run {campaign.path} --sandbox")
