"""What ledgers know of earlier days: people of other campaigns, and who is never sent to."""

from collections.abc import Collection, Iterator
from contextlib import closing
from datetime import datetime

from bulkmail.campaign import Campaign
from bulkmail.campaign.files import shown
from bulkmail.cli.neighbours import opened, other_ledgers
from bulkmail.cli.options import ledger_home
from bulkmail.ledger import CampaignRecord, LedgerView
from bulkmail.model import Row, State


class Past:
    """Reads the project's ledger, and for a rehearsal also the one that rehearsals keep."""

    def __init__(self, campaign: Campaign, *, in_sandbox: bool = False) -> None:
        self._real = ledger_home(campaign)
        rehearsed = [ledger_home(campaign, in_sandbox=True)] if in_sandbox else []
        self._homes = [home for home in (self._real, *rehearsed) if home.exists()]
        self._others = other_ledgers(campaign)

    def people(self, name: str, states: Collection[State]) -> Iterator[Row]:
        """The people of the campaign `name` in these states. Raises LookupError with words."""
        known: list[str] = []
        for home in self._homes:
            ledger = home.view()
            if (record := ledger.campaign(name)) is not None:
                return self._closing(ledger, record, states)
            known += (campaign.name for campaign in ledger.campaigns())
            ledger.close()
        told = f"; known are {', '.join(known)}" if known else ""
        raise LookupError(f'no campaign "{name}" in {self._real.name}{told}')

    def suppressed(self) -> Iterator[tuple[str, str]]:
        """(address, why) of everyone on a suppression list: that of the campaign's own ledger if it
        has one, and those of all ledgers in its folder and above.
        """
        if self._real.exists():
            with closing(self._real.view()) as ledger:
                yield from _listed(ledger, "")
        for path, ledger in opened(self._others):
            yield from _listed(ledger, f" in {shown(path)}")

    def seed(self, name: str) -> bytes | None:
        """That of the campaign `name`, if it has begun: Message-IDs are what they will be."""
        if not self._real.exists():
            return None
        with closing(self._real.view()) as ledger:
            record = ledger.campaign(name)
            return record.seed if record else None

    @staticmethod
    def _closing(
        ledger: LedgerView, record: CampaignRecord, states: Collection[State]
    ) -> Iterator[Row]:
        yield from ledger.people(record, states)
        ledger.close()


def _listed(ledger: LedgerView, where: str) -> Iterator[tuple[str, str]]:
    for address, reason, at in ledger.suppressed():
        why = f"suppressed on {datetime.fromtimestamp(at):%Y-%m-%d}{where}"
        yield address, f"{why}: {reason}" if reason else why
