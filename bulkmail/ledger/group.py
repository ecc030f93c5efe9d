"""A campaign's side of the ledger during a run: claims, intents and outcomes, for many tasks."""

import asyncio
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

from bulkmail.errors import LedgerError
from bulkmail.ledger.records import CampaignRecord
from bulkmail.ledger.sqlite import SqliteLedger
from bulkmail.model import Intent, Recipient, Settlement

T = TypeVar("T")
Change = Intent | Settlement


class Commits:
    """One writer, in a thread of its own, that commits in groups: changes that arrive during a
    commit share the next one. `record` commits all of a group or raises LedgerError.

    After a commit failed every intent is refused, so that nothing is sent that cannot be recorded;
    `failure` tells why, and `unrecorded` are the changes of that group and those since.
    `on_failure` is called once.
    """

    def __init__(self, record: Callable[[Sequence[Change]], None]) -> None:
        self.failure: LedgerError | None = None
        self.on_failure: Callable[[], None] = lambda: None
        self.waiting: list[Change] = []
        self.unrecorded: list[Change] = []
        self._record = record
        self._executor = ThreadPoolExecutor(1, thread_name_prefix="ledger")
        self._committed: asyncio.Future[bool] | None = None
        self._task: asyncio.Task[None] | None = None

    def add(self, *changes: Change) -> asyncio.Future[bool]:
        """True once these are on the disk, all of them; False if they never will be."""
        self.waiting += changes
        if self._committed is None:
            self._committed = asyncio.get_running_loop().create_future()
        if self._task is None or self._task.done():
            self._task = asyncio.create_task(self._commit_all())
        return self._committed

    async def flushed(self) -> None:
        """Waits until what was added is committed, or has failed."""
        if self._task is not None:
            await self._task

    async def ask(self, function: Callable[[], T], otherwise: T) -> T:
        """What `function` finds, between two commits; `otherwise` if that fails."""
        try:
            return await self._in_thread(function)
        except LedgerError as error:
            self._fail(error)
            return otherwise

    async def next_committed(self) -> None:
        """Waits for the group that is gathered now, if there is one."""
        if self._committed is not None:
            await asyncio.shield(self._committed)

    async def close(self) -> None:
        """Commits what is queued. To be called when no task uses this any more."""
        await self.flushed()
        self._executor.shutdown()

    async def _commit_all(self) -> None:
        while self.waiting:
            changes, self.waiting = self.waiting, []
            committed, self._committed = self._committed, None
            assert committed is not None
            committed.set_result(await self._commit(changes))

    async def _commit(self, changes: list[Change]) -> bool:
        if self.failure is None:
            try:
                await self._in_thread(lambda: self._record(changes))
            except LedgerError as error:
                self._fail(error)
            else:
                return True
        self.unrecorded += changes
        return False

    def _fail(self, error: LedgerError) -> None:
        if self.failure is None:
            self.failure = error
            self.on_failure()

    async def _in_thread(self, function: Callable[[], T]) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._executor, function)


class CampaignLedger:
    """The ledger in a file as the delivery loop sees it; `account` is whom the rates are remembered
    for, `content_id` the content that is sent.
    """

    def __init__(
        self, ledger: SqliteLedger, campaign: CampaignRecord, account: str, content_id: int
    ) -> None:
        self.commits = Commits(lambda changes: ledger.record(account, content_id, changes))
        self._ledger = ledger
        self._campaign = campaign
        self._claims = ledger.claims(campaign)

    async def claim(
        self, limit: int, now: float, domain: str | None = None
    ) -> tuple[list[Recipient], bool]:
        """Recipients to send to, none of them claimed before by this run; whether nobody is left.

        Those who were deferred and are due by `now` come first; see `Claims.take`.
        """
        # Who is deferred and not committed yet cannot be found; nobody due later is, before that.
        waiting = self.commits.waiting
        deferred = [c.due_at for c in waiting if isinstance(c, Settlement) and c.due_at]
        by = min([now, *deferred])
        nobody: tuple[list[Recipient], bool] = [], True
        return await self.commits.ask(lambda: self._claims.take(limit, by, domain), nobody)

    def set_apart(self, domain: str) -> None:
        """Claims of `domain` are made for themselves from now on. Not while one is under way."""
        self._claims.set_apart(domain)

    async def next_due_at(self, domain: str | None = None) -> float | None:
        """When to claim again, in seconds since the epoch; None: nobody was deferred."""
        await self.commits.next_committed()  # what is deferred may be on its way
        return await self.commits.ask(lambda: self._claims.next_due_at(domain), None)

    async def intend(self, intents: Sequence[Intent]) -> bool:
        """True once the intents are on the disk, all of them; False if they never will be."""
        return await asyncio.shield(self.commits.add(*intents))

    def settle(self, settlement: Settlement) -> None:
        """Queues an outcome. It is committed with, or before, whatever is intended after it."""
        self.commits.add(settlement)

    async def is_asked_to_stop(self) -> bool:
        """Whether another process asked the run to end."""
        return await self.commits.ask(lambda: self._ledger.is_asked_to_stop(self._campaign), True)

    async def close(self) -> None:
        """Commits what is queued. To be called when no task uses this any more."""
        await self.commits.close()
