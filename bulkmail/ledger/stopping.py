"""A run that is told to end from another process, by a mark in its ledger at which it looks."""

import sqlite3
import time
from contextlib import closing
from pathlib import Path

from bulkmail.errors import LedgerBusyError, LedgerError
from bulkmail.ledger.opening import is_run_under_way, opened
from bulkmail.ledger.records import CampaignRecord

BUSY_SECONDS = 2

_ASK = """
UPDATE campaign SET stop_asked_at = ?
WHERE id = ? AND EXISTS (SELECT 1 FROM run WHERE campaign_id = campaign.id AND ended_at IS NULL)
"""


def ask_to_stop(path: Path, campaign: CampaignRecord, now: float) -> bool:
    """Asks the run of `campaign` that is under way to end; whether there is one.

    Raises LedgerError, or LedgerBusyError while a run is prepared, or asks its question.
    """
    if not is_run_under_way(path):
        return False
    try:
        with closing(opened(path)) as db:
            db.execute(f"PRAGMA busy_timeout = {BUSY_SECONDS * 1000}")
            return db.execute(_ASK, (now, campaign.id)).rowcount > 0
    except sqlite3.Error as error:
        if error.sqlite_errorname == "SQLITE_BUSY":
            raise LedgerBusyError(
                f"a run is being prepared in {path}: answer the question in its terminal, with no"
                " if it should not send"
            ) from None
        raise LedgerError(f"{path}: {error}") from error


def has_stopped(path: Path, seconds: float, look_every: float = 0.1) -> bool:
    """Waits until no run uses the ledger, for so long at most."""
    until = time.monotonic() + seconds
    while is_run_under_way(path):
        if time.monotonic() > until:
            return False
        time.sleep(look_every)
    return True
