"""Where the ledger of a project is kept, and what can be done there without holding it open."""

import os
from collections.abc import Iterable
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from bulkmail.ledger import stopping, suppression
from bulkmail.ledger.ledger import Ledger
from bulkmail.ledger.opening import is_run_under_way
from bulkmail.ledger.records import CampaignRecord
from bulkmail.ledger.sqlite import SqliteLedger
from bulkmail.ledger.view import LedgerView, SqliteView


class Home(Protocol):
    """A file, or a database on a server. `name` is how a person knows it. Raises LedgerError."""

    @property
    def name(self) -> str: ...

    @property
    def is_shared(self) -> bool:
        """Whether many processes may send from it at once."""
        ...

    def exists(self) -> bool:
        """Whether anything was ever recorded there."""
        ...

    def view(self) -> LedgerView:
        """To be read."""
        ...

    def ledger(self, campaign: str) -> Ledger:
        """To be written, by the one who plans, sends or decides about `campaign`, and made if it is
        new. Raises LedgerBusyError if that is somebody else now.
        """
        ...

    def scratch(self, campaign: str, digest: str) -> SqliteLedger:
        """A copy of what matters to `campaign` with the content `digest`, to try things on."""
        ...

    def is_under_way(self, view: LedgerView, campaign: CampaignRecord | None) -> bool:
        """Whether this campaign is being sent now; `view` is of here."""
        ...

    def ask_to_stop(self, campaign: CampaignRecord, now: float) -> bool:
        """Asks whoever sends `campaign` to end; whether there is anybody.

        Raises LedgerBusyError while a run is prepared, or asks its question.
        """
        ...

    def has_stopped(self, campaign: CampaignRecord, seconds: float) -> bool:
        """Waits until nobody sends `campaign`, for so long at most."""
        ...

    def suppress(self, addresses: Iterable[str], reason: str, at: float) -> int:
        """Puts `addresses` on the suppression list; how many are new there.

        Raises LedgerBusyError while a run is prepared, or asks its question.
        """
        ...

    def release(self, addresses: Iterable[str]) -> int:
        """Takes `addresses` off the suppression list; how many stood there."""
        ...


@dataclass(frozen=True)
class SqliteHome:
    """One file for all campaigns of a project; one run at a time."""

    path: Path
    name: str
    is_shared: bool = False

    def exists(self) -> bool:
        return os.path.isfile(self.path)

    def view(self) -> SqliteView:
        return SqliteView(self.path)

    def ledger(self, campaign: str) -> SqliteLedger:
        return SqliteLedger(self.path)

    def scratch(self, campaign: str, digest: str) -> SqliteLedger:
        return SqliteLedger(None, copy_of=self.path if self.exists() else None)

    def is_under_way(self, view: LedgerView, campaign: CampaignRecord | None) -> bool:
        if campaign is None or view.running_since(campaign) is None:
            return False
        return is_run_under_way(self.path)

    def ask_to_stop(self, campaign: CampaignRecord, now: float) -> bool:
        return stopping.ask_to_stop(self.path, campaign, now)

    def has_stopped(self, campaign: CampaignRecord, seconds: float) -> bool:
        return stopping.has_stopped(self.path, seconds)

    def suppress(self, addresses: Iterable[str], reason: str, at: float) -> int:
        return suppression.suppress(self.path, addresses, reason, at)

    def release(self, addresses: Iterable[str]) -> int:
        return suppression.release(self.path, addresses)


def under_way_at(home: Home, name: str) -> bool:
    """Whether the campaign `name` is being sent now."""
    if not home.exists():
        return False
    with closing(home.view()) as view:
        return home.is_under_way(view, view.campaign(name))
