"""A ledger wherever it is kept, for tests of what every ledger promises."""

from collections.abc import Sequence
from pathlib import Path
from typing import ClassVar, Protocol

from bulkmail import engine
from bulkmail.ledger import CampaignRecord, Home, Ledger, LedgerView, SqliteHome, SqliteLedger
from bulkmail.ledger.postgres import PostgresHome
from bulkmail.ledger.postgres.connection import PostgresDatabase
from bulkmail.ledger.postgres.shards import record
from bulkmail.model import Intent, Recipient, Settlement

PLACES = ("file", "scratch", "postgres")
SHARED = ("file", "postgres")
"""Places where somebody else can look."""


class Claims(Protocol):
    def take(self, limit: int, now: float) -> tuple[list[Recipient], bool]: ...


class Kept:
    """`ledger` is the one that is open; its run records with the functions of whoever sends."""

    home: ClassVar[Home]
    ledger: Ledger

    def reopened(self) -> Ledger:
        """As after a kill."""
        raise NotImplementedError

    def record(self, content_id: int | None, changes: Sequence[Intent | Settlement]) -> None:
        raise NotImplementedError

    def claims(self, campaign: CampaignRecord) -> Claims:
        raise NotImplementedError

    def view(self) -> LedgerView:
        return self.home.view()

    def close(self) -> None:
        self.ledger.close()


class KeptBySqlite(Kept):
    """In a file, or for the moment."""

    ledger: SqliteLedger

    def __init__(self, path: Path | None) -> None:
        self._path = path
        if path is not None:
            self.home = SqliteHome(path, path.name)
        self.ledger = SqliteLedger(path)

    def reopened(self) -> Ledger:
        if self._path is not None:
            self.ledger.close()
            self.ledger = SqliteLedger(self._path)
        return self.ledger

    def record(self, content_id: int | None, changes: Sequence[Intent | Settlement]) -> None:
        self.ledger.record("a", content_id, changes)

    def claims(self, campaign: CampaignRecord) -> Claims:
        return self.ledger.claims(campaign)


class KeptByPostgres(Kept):
    """For many workers, of whom this is one; that their shards are theirs is tested elsewhere."""

    def __init__(self, url: str, campaign: str = "july") -> None:
        self.home = PostgresHome(url, engine)
        self._campaign = campaign
        self.ledger = self.home.ledger(campaign)
        self._worker = PostgresDatabase(url)

    def reopened(self) -> Ledger:
        self.ledger.close()
        self.ledger = self.home.ledger(self._campaign)
        return self.ledger

    def record(self, content_id: int | None, changes: Sequence[Intent | Settlement]) -> None:
        record(self._worker, 0, {}, "a", content_id, changes)

    def claims(self, campaign: CampaignRecord) -> Claims:
        return _FromMemory(self.ledger, campaign)

    def close(self) -> None:
        super().close()
        self._worker.close()


class _FromMemory:
    """Whoever was unsent when a worker took all of a campaign."""

    def __init__(self, ledger: Ledger, campaign: CampaignRecord) -> None:
        self._people = list(ledger.unsent(campaign))

    def take(self, limit: int, now: float) -> tuple[list[Recipient], bool]:
        found = [one for one in self._people if one.due_at <= now][:limit]
        self._people = [one for one in self._people if one not in found]
        return found, not self._people


def due(ledger: Ledger, campaign: CampaignRecord, now: float) -> list[Recipient]:
    """Whoever can be sent to at `now`."""
    return [one for one in ledger.unsent(campaign) if one.due_at <= now]
