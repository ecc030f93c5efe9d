"""Reading a ledger: what `status` and `report` see, also while a run writes it."""

import json
import sqlite3
from collections.abc import Collection, Iterator
from pathlib import Path
from typing import Any

from bulkmail.errors import LedgerError
from bulkmail.ledger.records import CampaignRecord
from bulkmail.model import State

VERSION = 1
"""Of the schema; a ledger with a higher one is refused."""


class LedgerView:
    """A ledger opened to be read. Raises LedgerError."""

    def __init__(self, path: Path) -> None:
        self._path = path
        try:
            self._db = sqlite3.connect(f"{path.resolve().as_uri()}?mode=ro", uri=True)
            [version] = self._db.execute("PRAGMA user_version").fetchone()
        except sqlite3.Error as error:
            raise LedgerError(f"{path}: {error}") from error
        if version > VERSION:
            raise LedgerError(f"{path} was written by a newer bulkmail. Upgrade bulkmail")

    def close(self) -> None:
        self._db.close()

    def campaign(self, name: str) -> CampaignRecord | None:
        return find_campaign(self._db, name)

    def campaigns(self) -> list[CampaignRecord]:
        """All of them, oldest first."""
        names = self._db.execute("SELECT name FROM campaign ORDER BY id").fetchall()
        return [record for [name] in names if (record := find_campaign(self._db, name))]

    def tally(self, campaign: CampaignRecord) -> dict[State, int]:
        return tally(self._db, campaign)

    def report(
        self, campaign: CampaignRecord, states: Collection[State]
    ) -> Iterator[dict[str, Any]]:
        """One dictionary per recipient, in the order of enrolment; no `states` means all."""
        where = f"AND state IN ({marks(states)})" if states else ""
        rows = self._db.execute(
            "SELECT address, state, source, reason, reply, attempts, in_doubt_events, message_id,"
            f" fields FROM recipient WHERE campaign_id = ? {where} ORDER BY id",
            (campaign.id, *states),
        )
        names = ("email", "state", "source", "reason", "reply", "attempts", "in_doubt_events")
        for *values, message_id, fields in rows:
            yield {
                **dict(zip(names, values, strict=True)),
                "message_id": message_id,
                "fields": json.loads(fields),
            }


def find_campaign(db: sqlite3.Connection, name: str) -> CampaignRecord | None:
    row = db.execute(
        "SELECT id, name, seed, content_digest FROM campaign WHERE name = ?", (name,)
    ).fetchone()
    return CampaignRecord(*row) if row else None


def tally(db: sqlite3.Connection, campaign: CampaignRecord) -> dict[State, int]:
    rows = db.execute(
        "SELECT state, count(*) FROM recipient WHERE campaign_id = ? GROUP BY state", (campaign.id,)
    )
    return {State(state): int(number) for state, number in rows}


def marks(values: Collection[object]) -> str:
    return ", ".join("?" * len(values))
