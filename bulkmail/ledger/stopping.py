"""A run that is told to end from another process, by a mark in its ledger at which it looks."""

import sqlite3
import time
from contextlib import closing
from pathlib import Path

from bulkmail.errors import LedgerError
from bulkmail.ledger.opening import is_run_under_way, opened
from bulkmail.ledger.records import CampaignRecord

_ASK = """
UPDATE run SET stop_requested_at = coalesce(stop_requested_at, ?)
WHERE campaign_id = ? AND ended_at IS NULL
"""


def ask_to_stop(path: Path, campaign: CampaignRecord, now: float) -> bool:
    """Asks the run of `campaign` that is under way to end; whether there is one.

    Raises LedgerError.
    """
    if not is_run_under_way(path):
        return False
    try:
        with closing(opened(path)) as db:
            return db.execute(_ASK, (now, campaign.id)).rowcount > 0
    except sqlite3.Error as error:
        raise LedgerError(f"{path}: {error}") from error


def has_stopped(path: Path, seconds: float, look_every: float = 0.1) -> bool:
    """Waits until no run uses the ledger, for so long at most."""
    until = time.monotonic() + seconds
    while is_run_under_way(path):
        if time.monotonic() > until:
            return False
        time.sleep(look_every)
    return True
