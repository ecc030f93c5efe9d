"""`bulkmail check`."""

import json
from pathlib import Path
from typing import Any

import click

from bulkmail.campaign import Campaign, read_campaign
from bulkmail.cli import options, text
from bulkmail.cli.past import Past
from bulkmail.cli.plan import Plan, planned
from bulkmail.cli.question import facts, show
from bulkmail.ledger import SqliteLedger
from bulkmail.model import Submission


@click.command()
@options.campaign_file
@options.set_option
@options.json_flag
def check(file: Path, settings: dict[str, str], as_json: bool) -> None:
    """Prove, without sending, that the whole campaign in FILE would go.

    Reads all recipients and composes every message. Nothing is connected or recorded.
    """
    campaign = read_campaign(file, settings)
    ledger = SqliteLedger(None)
    with planned(campaign, ledger, Past(campaign)) as plan:
        if as_json:
            click.echo(json.dumps(_as_json(plan), ensure_ascii=False))
        else:
            show(facts(plan, _server(campaign), plan.unsent))
            _tell(plan)
    ledger.close()


def _server(campaign: Campaign) -> Submission:
    """Without asking for the password: nothing is connected."""
    smtp = campaign.file.smtp
    return Submission(smtp.host, smtp.port, smtp.effective_security, smtp.username)


def _tell(plan: Plan) -> None:
    file = plan.campaign.path
    parts = [f"{plan.unsent:,} would get it", *text.left_out(plan.found, with_places=False)]
    click.echo(err=True)
    click.echo(" · ".join([*parts, "every message was composed", "nothing was sent"]))
    for source, state, why in plan.found.filtered:
        click.echo(f"  {source:<24} {state:<11} {why}")
    click.echo(f"  look at it:     bulkmail run {file} --dry-run")
    click.echo(f"  get one:        bulkmail test {file} --to {plan.campaign.design.author.address}")
    click.echo(f"  send it:        bulkmail run {file}")


def _as_json(plan: Plan) -> dict[str, Any]:
    found = plan.found
    return {
        "event": "check",
        "campaign": plan.campaign.name,
        "states": plan.tally,
        "empty": {name: places.number for name, places in plan.proof.empty.items()},
        "remarks": plan.remarks,
        "left_out": [
            {"source": source, "state": state, "reason": why}
            for source, state, why in found.filtered
        ],
    }
