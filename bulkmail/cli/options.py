"""What several commands take, and the places that follow from it."""

import os
from pathlib import Path

import click

from bulkmail.campaign import LEDGER_NAME, Campaign, Located, locate_campaign
from bulkmail.campaign.files import shown
from bulkmail.cli import text
from bulkmail.errors import CampaignError, MissingFileError
from bulkmail.ledger import CampaignRecord, LedgerView, SqliteLedger, is_run_under_way
from bulkmail.model import State

SANDBOX_FOLDER = "sandbox"
HAVE_IT = (State.ACCEPTED, State.IN_FLIGHT, State.IN_DOUBT)

campaign_file = click.argument(
    "file", metavar="FILE", type=click.Path(path_type=Path, dir_okay=False)
)
sandbox_flag = click.option(
    "--sandbox", "in_sandbox", is_flag=True, help="What was sent with `run --sandbox`."
)


cancel_removed_flag = click.option(
    "--cancel-removed", is_flag=True, help="Give up people who left the recipients."
)
new_flag = click.option(
    "--new", is_flag=True, help="Send what people have from another campaign again."
)


def _settings(
    context: click.Context, parameter: click.Parameter, values: tuple[str, ...]
) -> dict[str, str]:
    pairs = [value.partition("=") for value in values]
    for name, equals, _ in pairs:
        if not (equals and name.isidentifier()):
            raise click.BadParameter("must be NAME=VALUE, such as issue=12")
    return {name: value for name, _, value in pairs}


set_option = click.option(
    "--set",
    "settings",
    multiple=True,
    callback=_settings,
    metavar="NAME=VALUE",
    help="Take the place of a variable of the campaign. May stand several times.",
)
json_flag = click.option("--json", "as_json", is_flag=True, help="One JSON object per line.")


def ledger_path(campaign: Located, in_sandbox: bool) -> Path:
    """The campaign's ledger, or the one that rehearsals keep. Raises CampaignError if it is one."""
    rehearsed = sandbox_folder(campaign) / LEDGER_NAME
    if campaign.ledger_path.resolve() == rehearsed.resolve():
        raise CampaignError(f"{campaign.path}: `ledger` is that of rehearsals; name another file")
    return rehearsed if in_sandbox else campaign.ledger_path


def ledgers_around(campaign: Located) -> list[Path]:
    """The ledgers of this project and of those around it: in the campaign's folder and above."""
    folder = campaign.path.resolve().parent
    paths = (above / LEDGER_NAME for above in (folder, *folder.parents))
    return [path for path in paths if os.path.isfile(path)]


def known_elsewhere(campaign: Located) -> str | None:
    """Where somebody was sent this campaign, if the ledger is another one and does not know it."""
    chosen = campaign.ledger_path.resolve()
    if os.path.isfile(chosen) and _sent(chosen, campaign.name):
        return None
    for path in ledgers_around(campaign):
        if path != chosen and (sent := _sent(path, campaign.name)):
            name = Path(os.path.relpath(path, campaign.path.resolve().parent)).as_posix()
            return (
                f'{text.states(sent)} of "{campaign.name}" stand in another ledger, {shown(path)};'
                f" {shown(campaign.ledger_path)} does not know of them.\n"
                f"  go on with that one:  ledger: {name}\n"
                "  if it is another campaign, give it a name of its own:  campaign: …"
            )
    return None


def _sent(path: Path, name: str) -> dict[State, int]:
    """Who has the campaign, or may have it, by that ledger."""
    ledger = LedgerView(path)
    try:
        record = ledger.campaign(name)
        tally = ledger.tally(record) if record else {}
    finally:
        ledger.close()
    return {state: tally[state] for state in HAVE_IT if state in tally}


def ledger_here(*, in_sandbox: bool) -> Path:
    """The ledger of the project that the current folder belongs to. Raises MissingFileError."""
    name = Path(SANDBOX_FOLDER, LEDGER_NAME) if in_sandbox else Path(LEDGER_NAME)
    here = Path.cwd()
    for folder in (here, *here.parents):
        if os.path.isfile(folder / name):
            return folder / name
    raise MissingFileError(f"no {name} here or in a folder above; name a campaign FILE")


def scratch(campaign: Campaign) -> tuple[SqliteLedger, bool]:
    """What would become of the campaign's ledger, without touching it, and whether a run is under
    way there.
    """
    path = campaign.ledger_path
    under_way = is_run_under_way(path)
    return SqliteLedger(None, copy_of=path if os.path.isfile(path) else None), under_way


def sandbox_folder(campaign: Located) -> Path:
    return campaign.project / SANDBOX_FOLDER


def recorded(file: Path, in_sandbox: bool) -> tuple[LedgerView, CampaignRecord]:
    """The ledger that knows the campaign in `file`, opened to be read, and its record there."""
    campaign = locate_campaign(file)
    path = ledger_path(campaign, in_sandbox)
    if os.path.isfile(path):
        ledger = LedgerView(path)
        if (record := ledger.campaign(campaign.name)) is not None:
            return ledger, record
        ledger.close()
    if not in_sandbox and (elsewhere := known_elsewhere(campaign)):
        raise CampaignError(f"{file}: {elsewhere}")
    flag = " --sandbox" if in_sandbox else ""
    raise MissingFileError(
        f'"{campaign.name}" was never run: {shown(path)} does not know it.'
        f" Begin with: bulkmail run {file}{flag}"
    )
