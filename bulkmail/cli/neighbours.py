"""The other ledgers around a campaign: those of its folder, its project and the folders above.

Their suppression lists count, and who has a campaign of the same name by one of them has it. A file
that is no ledger is passed over.
"""

import os
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

from bulkmail.campaign import LEDGER_NAME, Campaign, Located
from bulkmail.campaign.files import shown
from bulkmail.cli import text
from bulkmail.errors import CampaignError, NoLedgerError, Problem
from bulkmail.ledger import CampaignRecord, Ledger, LedgerView, SqliteView, is_ledger


def ledgers_around(campaign: Located) -> list[Path]:
    """By any name in the project's folders that are above the campaign, by the usual one above."""
    folder = campaign.path.resolve().parent
    paths: list[Path] = []
    for above in (folder, *folder.parents):
        names = [LEDGER_NAME]
        if above.is_relative_to(campaign.project.resolve()):
            names += sorted(os.listdir(above))
        paths += [above / name for name in dict.fromkeys(names) if is_ledger(above / name)]
    return paths


def opened(paths: list[Path]) -> Iterator[tuple[Path, LedgerView]]:
    """Those that are ledgers, each open until the next. Raises LedgerError for one that cannot be
    read.
    """
    for path in paths:
        try:
            ledger = SqliteView(path)
        except NoLedgerError:
            continue
        with closing(ledger):
            yield path, ledger


def knows(campaign: Located) -> Path | None:
    """Another ledger that has a campaign of this name."""
    others = opened(other_ledgers(campaign))
    return next((path for path, ledger in others if ledger.campaign(campaign.name)), None)


def refuse_what_another_ledger_knows(
    campaign: Campaign, ledger: Ledger, record: CampaignRecord
) -> None:
    """Raises CampaignError where people who are unsent by `ledger` have a campaign of this name by
    another one: they would get it twice.
    """
    for path, other in opened(other_ledgers(campaign)):
        if (known := other.campaign(campaign.name)) is None:
            continue
        if number := ledger.unsent_among(record, other.who_has_it(known)):
            relative = Path(os.path.relpath(path, campaign.path.resolve().parent)).as_posix()
            message = (
                f'{text.people(number)} whom it would be sent to have "{campaign.name}" already,'
                f" or may have it, by another ledger: {shown(path)}.\n"
                f"  go on with that one:  ledger: {relative}\n"
                "  if it is another campaign, give it a name of its own:  campaign: …"
            )
            raise CampaignError([Problem(campaign.places.key(("campaign",)), message)])


def other_ledgers(campaign: Located) -> list[Path]:
    """Those that are not the campaign's own."""
    chosen = campaign.ledger_path and campaign.ledger_path.resolve()
    return [path for path in ledgers_around(campaign) if path != chosen]
