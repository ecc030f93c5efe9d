"""What ledgers know of earlier days: people of other campaigns, and who is never sent to."""

import os
from collections.abc import Collection, Iterator
from datetime import datetime

from bulkmail.campaign import Campaign
from bulkmail.campaign.files import shown
from bulkmail.cli.neighbours import ledgers_around, opened
from bulkmail.cli.options import ledger_path
from bulkmail.ledger import CampaignRecord, LedgerView
from bulkmail.model import Row, State


class Past:
    """Reads the project's ledger, and for a rehearsal also the one that rehearsals keep."""

    def __init__(self, campaign: Campaign, *, in_sandbox: bool = False) -> None:
        real = ledger_path(campaign, False)
        rehearsed = [ledger_path(campaign, True)] if in_sandbox else []
        self._paths = [path for path in (real, *rehearsed) if os.path.isfile(path)]
        self._real = real
        own = [real.resolve()] if os.path.isfile(real) else []
        self._lists = list(dict.fromkeys((*own, *ledgers_around(campaign))))

    def people(self, name: str, states: Collection[State]) -> Iterator[Row]:
        """The people of the campaign `name` in these states. Raises LookupError with words."""
        known: list[str] = []
        for path in self._paths:
            ledger = LedgerView(path)
            if (record := ledger.campaign(name)) is not None:
                return self._closing(ledger, record, states)
            known += (campaign.name for campaign in ledger.campaigns())
            ledger.close()
        told = f"; known are {', '.join(known)}" if known else ""
        raise LookupError(f'no campaign "{name}" in {shown(self._real)}{told}')

    def suppressed(self) -> Iterator[tuple[str, str]]:
        """(address, why) of everyone on a suppression list: those of all ledgers in the campaign's
        folder and above, and that of its own ledger if it has one.
        """
        for path, ledger in opened(self._lists):
            where = "" if path == self._real.resolve() else f" in {shown(path)}"
            for address, reason, at in ledger.suppressed():
                why = f"suppressed on {datetime.fromtimestamp(at):%Y-%m-%d}{where}"
                yield address, f"{why}: {reason}" if reason else why

    @staticmethod
    def _closing(
        ledger: LedgerView, record: CampaignRecord, states: Collection[State]
    ) -> Iterator[Row]:
        yield from ledger.people(record, states)
        ledger.close()
