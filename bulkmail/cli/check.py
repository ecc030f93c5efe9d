"""`bulkmail check`."""

from pathlib import Path
from typing import Any

import click

from bulkmail.campaign import read_campaign
from bulkmail.cli import connect as server
from bulkmail.cli import options, text
from bulkmail.cli.past import Past
from bulkmail.cli.plan import Plan, fingerprint, planned
from bulkmail.cli.question import (
    asks,
    cautions,
    facts,
    refuse_second_name,
    refuse_what_was_sent,
    show,
)
from bulkmail.errors import ExitStatus
from bulkmail.transport import Greeted


@click.command()
@options.campaign_file
@click.option(
    "--connect", is_flag=True, help="Log in, too, and show what the server announces; send nothing."
)
@options.cancel_removed_flag
@options.new_flag
@options.set_option
@options.json_flag
def check(
    file: Path,
    connect: bool,
    cancel_removed: bool,
    new: bool,
    settings: dict[str, str],
    as_json: bool,
) -> None:
    """Prove, without sending, that the whole campaign in FILE would go.

    Reads all recipients, composes every message and looks through it for what its reader would
    stumble over. Nothing is connected, unless asked for, and nothing recorded; what the ledger
    knows of earlier runs is taken into account, as a run would.

    \b
    Exit status: 0 it would go; 1 it would go, but there is an error in what people would read; 65
    the campaign is wrong; 66 a file is missing.
    """
    campaign = read_campaign(file, settings)
    ledger, under_way = options.scratch(campaign)
    with planned(
        campaign,
        ledger,
        Past(campaign),
        cancel_removed=cancel_removed,
        under_way=under_way,
        prove_everyone=True,
    ) as plan:
        refuse_what_was_sent(plan)
        if not new:
            refuse_second_name(plan)
        greeted = None
        if connect:
            submission = campaign.submission()
            greeted = server.look(submission)
            server.add(plan.proof.findings, greeted, plan.proof)
        if as_json:
            click.echo(text.json_line(_as_json(plan, fingerprint(plan, ledger), greeted)))
        else:
            if greeted is not None:
                show(server.facts(greeted, submission))
            if plan.unsent:
                show(facts(plan, campaign.server, plan.unsent))
            else:
                show(cautions(plan))
            show(asks(plan))
            plan.proof.findings.show()
            _tell(plan, fingerprint(plan, ledger))
    ledger.close()
    if plan.proof.findings.has_errors:
        raise SystemExit(ExitStatus.LOOK)


def _tell(plan: Plan, approvable: str) -> None:
    file = plan.campaign.path
    parts = [f"{plan.unsent:,} would get it", *text.left_out(plan.found, with_places=False)]
    if plan.accepted:
        parts.insert(1, f"{plan.accepted:,} already have it")
    if plan.to_look_at:
        parts.append(text.states(plan.to_look_at))
    if plan.under_way:
        parts.append(text.under_way(plan.in_flight))
    click.echo(err=True)
    click.echo(" · ".join([*parts, "every message was composed", "nothing was sent"]))
    for source, state, why in plan.found.filtered:
        click.echo(f"  {source:<24} {state:<11} {why}")
    click.echo(f"  look at it:     bulkmail preview {file}")
    click.echo(f"  get one:        bulkmail test {file} --to {plan.campaign.design.author.address}")
    click.echo(f"  send it:        bulkmail run {file}")
    click.echo(f"  once approved:  bulkmail run {file} --approved {approvable}")


def _as_json(plan: Plan, approvable: str, greeted: Greeted | None) -> dict[str, Any]:
    found = plan.found
    return {
        "event": "check",
        "campaign": plan.campaign.name,
        "states": plan.tally,
        "under_way": plan.under_way,
        "content_changed": plan.content_changed,
        "fingerprint": approvable,
        "findings": plan.proof.findings.as_json(),
        "remarks": plan.remarks,
        "left_out": [
            {"source": source, "state": state, "reason": why}
            for source, state, why in found.filtered
        ],
        **({} if greeted is None else {"announced": dict(greeted.extensions)}),
    }
