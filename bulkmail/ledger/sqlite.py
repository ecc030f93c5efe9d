"""The ledger in one SQLite file, for all campaigns of a project.

WAL with synchronous=FULL: a commit that returned is on the disk. One run at a time holds the file,
by a lock of the operating system that ends with the process.
"""

import sqlite3
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from itertools import groupby
from operator import itemgetter
from pathlib import Path

from bulkmail.errors import LedgerError
from bulkmail.ledger import outcomes
from bulkmail.ledger.browsing import Browser
from bulkmail.ledger.claims import Claims
from bulkmail.ledger.contents import Contents
from bulkmail.ledger.enrolment import enrol
from bulkmail.ledger.guarded import guarded
from bulkmail.ledger.ledger import Ledger
from bulkmail.ledger.opening import SqliteDatabase, copied, opened, run_lock
from bulkmail.ledger.records import CampaignRecord, Enrolment
from bulkmail.model import Intent, Row, Settlement

GRANTS_KEPT_SECONDS = 86400
"""The longest period a rate can have."""


class SqliteLedger(Ledger):
    """`path` None is a scratch ledger, which is gone when closed; it can begin as the copy of the
    one in a file, or be a copy that was made, of the ledger `name`.

    Raises LedgerError everywhere.
    """

    _db: SqliteDatabase

    def __init__(
        self,
        path: Path | None,
        copy_of: Path | SqliteDatabase | None = None,
        name: str = "scratch ledger",
    ) -> None:
        self.name = str(path or (copy_of if isinstance(copy_of, Path) else name))
        self._lock: sqlite3.Connection | None = None
        self._held_since = time.time()
        if path is not None:
            self._lock = run_lock(path)
        try:
            if isinstance(copy_of, SqliteDatabase):
                self._db = copy_of
            else:
                self._db = opened(path) if copy_of is None else copied(copy_of)
        except sqlite3.Error as error:
            raise LedgerError(f"{self.name}: {error}") from error
        self.contents = Contents(self._db, self.name)

    def close(self) -> None:
        self._db.close()
        if self._lock is not None:
            self._lock.close()

    # -- enrolling -------------------------------------------------------------------------------

    @guarded
    def enrol(
        self,
        campaign: CampaignRecord,
        rows: Iterable[Row],
        excluded: Iterable[tuple[str, str]] = (),
    ) -> Enrolment:
        return enrol(self._db, campaign, rows, excluded)

    # -- sending ---------------------------------------------------------------------------------

    @guarded
    def recover(self, campaign: CampaignRecord, now: float) -> int:
        with self._transaction():
            return outcomes.recover(self._db, campaign.id, now)

    def browser(self, campaign: CampaignRecord) -> Browser:
        """To look through its people, also those of a transaction that is not finished."""
        return Browser(self._db, self.name, campaign.id)

    @guarded
    def is_asked_to_stop(self, campaign: CampaignRecord) -> bool:
        """Whether another process asked the run that holds this ledger to end; see `stopping`."""
        [at] = self._db.execute(
            "SELECT stop_asked_at FROM campaign WHERE id = ?", (campaign.id,)
        ).fetchone()
        return float(at) >= self._held_since

    def claims(self, campaign: CampaignRecord) -> Claims:
        """The claims of a run that begins."""
        return Claims(self._db, self.name, campaign.id)

    @guarded
    def record(
        self, account: str, content_id: int | None, changes: Sequence[Intent | Settlement]
    ) -> None:
        """Commits all of `changes`, or none: outcomes first, then intents with their grants.

        `content_id` is the content that these intents give, see `Contents`.
        """
        with self._transaction():
            strayed = outcomes.record(self._db, account, content_id, changes)
            if strayed:
                raise LedgerError(
                    f"{self.name}: {strayed} recipients are not in the state that this run left"
                    " them in; something else wrote to the ledger"
                )

    @guarded
    def grants(self, account: str, now: float) -> dict[str, list[tuple[float, int]]]:
        """What was granted to `account` in the last day, as (time, number), oldest first, by
        domain; all of it by "". Older ones are dropped.
        """
        since = now - GRANTS_KEPT_SECONDS
        self._db.execute("DELETE FROM granted WHERE account = ? AND at < ?", (account, since))
        rows = self._db.execute(
            "SELECT domain, at, number FROM granted WHERE account = ? ORDER BY domain, second",
            (account,),
        )
        return {
            domain: [(float(at), int(number)) for _, at, number in grants]
            for domain, grants in groupby(rows, key=itemgetter(0))
        }

    # -- inside ----------------------------------------------------------------------------------

    @contextmanager
    def _transaction(self) -> Iterator[None]:
        """All of the block is kept, or, if it raises, nothing."""
        self._execute("BEGIN IMMEDIATE")
        try:
            yield
            self._execute("COMMIT")
        except BaseException:
            self._db.rollback()
            raise

    @guarded
    def _execute(self, sql: str) -> None:
        self._db.execute(sql)
