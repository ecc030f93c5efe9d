"""A campaign as its ledger has recorded it, for commands that only look."""

from pathlib import Path

from bulkmail.campaign import locate_campaign
from bulkmail.campaign.files import shown
from bulkmail.cli.neighbours import knows
from bulkmail.cli.options import ledger_home
from bulkmail.errors import MissingFileError
from bulkmail.ledger import CampaignRecord, Home, LedgerView


def recorded(file: Path, in_sandbox: bool = False) -> tuple[Home, LedgerView, CampaignRecord]:
    """The ledger that knows the campaign in `file`: where it is, opened to be read, and its record
    there.
    """
    campaign = locate_campaign(file)
    home = ledger_home(campaign, in_sandbox)
    if home.exists():
        ledger = home.view()
        if (record := ledger.campaign(campaign.name)) is not None:
            return home, ledger, record
        ledger.close()
    message = f'"{campaign.name}" was never run: {home.name} does not know it.'
    if not in_sandbox and (other := knows(campaign)):
        raise MissingFileError(f"{message} But {shown(other)} does; is `ledger` missing?")
    flag = " --sandbox" if in_sandbox else ""
    raise MissingFileError(f"{message} Begin with: bulkmail run {file}{flag}")
