"""A campaign's side of the ledger during a run: claims, intents and outcomes, for many tasks.

One writer commits in groups: changes that arrive during a commit share the next one.
"""

import asyncio
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

from bulkmail.errors import LedgerError
from bulkmail.ledger.records import CampaignRecord
from bulkmail.ledger.sqlite import SqliteLedger
from bulkmail.model import Intent, Recipient, Settlement

T = TypeVar("T")


class CampaignLedger:
    """The ledger as the delivery loop sees it; `account` is whom the rates are remembered for,
    `content_id` the content that is sent.

    After a commit failed every intent is refused, so that nothing is sent that cannot be recorded,
    and `failure` tells why. `on_failure` is called once.
    """

    def __init__(
        self, ledger: SqliteLedger, campaign: CampaignRecord, account: str, content_id: int
    ) -> None:
        self.failure: LedgerError | None = None
        self.on_failure: Callable[[], None] = lambda: None
        self._ledger = ledger
        self._campaign = campaign
        self._claims = ledger.claims(campaign)
        self._account = account
        self._content_id = content_id
        self._executor = ThreadPoolExecutor(1, thread_name_prefix="ledger")
        self._waiting: list[Intent | Settlement] = []
        self._committed: asyncio.Future[bool] | None = None
        self._task: asyncio.Task[None] | None = None

    async def claim(
        self, limit: int, now: float, domain: str | None = None
    ) -> tuple[list[Recipient], bool]:
        """Recipients to send to, none of them claimed before by this run; whether nobody is left.

        Those who were deferred and are due by `now` come first; see `Claims.take`.
        """
        # Who is deferred and not committed yet cannot be found; nobody due later is, before that.
        deferred = [c.due_at for c in self._waiting if isinstance(c, Settlement) and c.due_at]
        by = min([now, *deferred])
        try:
            return await self._in_thread(lambda: self._claims.take(limit, by, domain))
        except LedgerError as error:
            self._fail(error)
            return [], True

    def set_apart(self, domain: str) -> None:
        """Claims of `domain` are made for themselves from now on. Not while one is under way."""
        self._claims.set_apart(domain)

    async def next_due_at(self, domain: str | None = None) -> float | None:
        """When to claim again, in seconds since the epoch; None: nobody was deferred."""
        if self._committed is not None:  # what is deferred may be on its way
            await asyncio.shield(self._committed)
        try:
            return await self._in_thread(lambda: self._claims.next_due_at(domain))
        except LedgerError as error:
            self._fail(error)
            return None

    async def intend(self, intents: Sequence[Intent]) -> bool:
        """True once the intents are on the disk, all of them; False if they never will be."""
        return await asyncio.shield(self._add(*intents))

    def settle(self, settlement: Settlement) -> None:
        """Queues an outcome. It is committed with, or before, whatever is intended after it."""
        self._add(settlement)

    async def is_asked_to_stop(self) -> bool:
        """Whether another process asked the run to end."""
        try:
            return await self._in_thread(lambda: self._ledger.is_asked_to_stop(self._campaign))
        except LedgerError as error:
            self._fail(error)
            return True

    async def close(self) -> None:
        """Commits what is queued. To be called when no task uses this any more."""
        if self._task is not None:
            await self._task
        self._executor.shutdown()

    def _add(self, *changes: Intent | Settlement) -> asyncio.Future[bool]:
        self._waiting += changes
        if self._committed is None:
            self._committed = asyncio.get_running_loop().create_future()
        if self._task is None or self._task.done():
            self._task = asyncio.create_task(self._commit_all())
        return self._committed

    async def _commit_all(self) -> None:
        while self._waiting:
            changes, self._waiting = self._waiting, []
            committed, self._committed = self._committed, None
            assert committed is not None
            committed.set_result(await self._commit(changes))

    async def _commit(self, changes: list[Intent | Settlement]) -> bool:
        if self.failure is not None:
            return False
        try:
            await self._in_thread(
                lambda: self._ledger.record(self._account, self._content_id, changes)
            )
        except LedgerError as error:
            self._fail(error)
            return False
        return True

    def _fail(self, error: LedgerError) -> None:
        if self.failure is None:
            self.failure = error
            self.on_failure()

    async def _in_thread(self, function: Callable[[], T]) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._executor, function)
