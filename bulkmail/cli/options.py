"""What several commands take, and the places that follow from it."""

from pathlib import Path

import click

from bulkmail.campaign import LEDGER_NAME, Campaign, read_campaign, shown
from bulkmail.errors import MissingFileError
from bulkmail.ledger import CampaignRecord, LedgerView

SANDBOX_FOLDER = "sandbox"

campaign_file = click.argument(
    "file", metavar="FILE", type=click.Path(path_type=Path, dir_okay=False)
)
sandbox_flag = click.option(
    "--sandbox", "in_sandbox", is_flag=True, help="What was sent with `run --sandbox`."
)
json_flag = click.option("--json", "as_json", is_flag=True, help="One JSON object per line.")


def ledger_path(campaign: Campaign, in_sandbox: bool) -> Path:
    """The campaign's ledger, or the one that rehearsals keep."""
    return sandbox_folder(campaign) / LEDGER_NAME if in_sandbox else campaign.ledger_path


def sandbox_folder(campaign: Campaign) -> Path:
    return campaign.project / SANDBOX_FOLDER


def recorded(file: Path, in_sandbox: bool) -> tuple[LedgerView, CampaignRecord]:
    """The ledger that knows the campaign in `file`, opened to be read, and its record there."""
    campaign = read_campaign(file)
    path = ledger_path(campaign, in_sandbox)
    if path.is_file():
        ledger = LedgerView(path)
        if (record := ledger.campaign(campaign.name)) is not None:
            return ledger, record
        ledger.close()
    flag = " --sandbox" if in_sandbox else ""
    raise MissingFileError(
        f'"{campaign.name}" was never run: {shown(path)} does not know it.'
        f" Begin with: bulkmail run {file}{flag}"
    )
