"""A campaign as its ledger has recorded it, for commands that only look."""

import os
from pathlib import Path

from bulkmail.campaign import locate_campaign
from bulkmail.campaign.files import shown
from bulkmail.cli.neighbours import knows
from bulkmail.cli.options import ledger_path
from bulkmail.errors import MissingFileError
from bulkmail.ledger import CampaignRecord, LedgerView


def recorded(file: Path, in_sandbox: bool) -> tuple[LedgerView, CampaignRecord]:
    """The ledger that knows the campaign in `file`, opened to be read, and its record there."""
    campaign = locate_campaign(file)
    path = ledger_path(campaign, in_sandbox)
    if os.path.isfile(path):
        ledger = LedgerView(path)
        if (record := ledger.campaign(campaign.name)) is not None:
            return ledger, record
        ledger.close()
    message = f'"{campaign.name}" was never run: {shown(path)} does not know it.'
    if not in_sandbox and (other := knows(campaign)):
        raise MissingFileError(f"{message} But {shown(other)} does; is `ledger` missing?")
    flag = " --sandbox" if in_sandbox else ""
    raise MissingFileError(f"{message} Begin with: bulkmail run {file}{flag}")
