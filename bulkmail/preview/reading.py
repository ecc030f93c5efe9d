"""A campaign's people, enrolled in a scratch ledger by a thread while they are looked at."""

import threading
import time
from collections.abc import Collection, Iterable, Iterator
from itertools import chain
from typing import Protocol

from bulkmail.campaign import Campaign
from bulkmail.errors import BulkmailError
from bulkmail.ledger import Page, Person, SqliteLedger
from bulkmail.model import FILTERED, Row, State
from bulkmail.preview.turns import Turns

STRETCH_ROWS = 100
"""After so many rows, whoever waits for a page is let in."""
PORTIONS = 10
LEFT_OUT = (*sorted(FILTERED), State.SUPPRESSED)
MEANT = (State.PENDING,)
_LONGEST_LOOKED_AT = 20


class Past(Protocol):
    """What ledgers know of earlier days."""

    def people(self, name: str, states: Collection[State]) -> Iterator[Row]: ...

    def suppressed(self) -> Iterator[tuple[str, str]]: ...

    def seed(self, name: str) -> bytes | None: ...


class People:
    """Everyone in the sources of `campaign`, as far as they are read. Nothing is recorded."""

    def __init__(self, campaign: Campaign, past: Past) -> None:
        self.campaign = campaign
        self.read = 0
        self.left_out = 0
        """How many are left out; 0 until all are read."""
        self.reading = True
        self.remarks: list[str] = []
        self.problem: BulkmailError | None = None
        self._past = past
        self._stopping = False
        self._turns = Turns()
        self._ledger = SqliteLedger(None)
        self._record = self._ledger.campaign(campaign.name, time.time())
        self._browser = self._ledger.browser(self._record)
        self._thread = threading.Thread(target=self._enrol, name="reading", daemon=True)
        self._thread.start()

    def wait(self) -> None:
        """Until all are read."""
        self._thread.join()

    def close(self) -> None:
        """Stops reading, and forgets everyone."""
        self._stopping = True
        self._thread.join()
        with self._turns.turn():
            self._ledger.close()

    # -- looking ---------------------------------------------------------------------------------

    def page(self, after_id: int, limit: int, text: str, left_out: bool) -> Page:
        """See `Browser.page`; only those who are left out, or all. Looks on while it finds nobody,
        for so many portions that the page does not have to ask for each.
        """
        states = LEFT_OUT if left_out else ()
        for _ in range(PORTIONS):
            with self._turns.turn():
                page = self._browser.page(after_id, limit, text, states)
            if page.people or page.at_end:
                break
            after_id = page.next_id
        return page

    def person(self, id_: int) -> Person | None:
        with self._turns.turn():
            return self._browser.person(id_)

    def find(self, address: str, id_: int) -> int | None:
        """Where `address` stands now that stood at `id_`."""
        with self._turns.turn():
            there = self._browser.person(id_)
            if there is not None and there.recipient.address == address:
                return id_
            return self._browser.id_of(address)

    def handful(self) -> tuple[list[Person], list[Person]]:
        """Who stands for all of them: the first, the last and the first with an empty cell; and
        some with the most data.
        """
        with self._turns.turn():
            some = [*self._browser.ends(MEANT), *self._browser.with_empty_cell(MEANT)]
            return some, self._browser.longest(_LONGEST_LOOKED_AT, MEANT)

    # -- reading ---------------------------------------------------------------------------------

    def _enrol(self) -> None:
        with self._turns.turn():
            try:
                excluded = chain(self.campaign.excluded(), self._past.suppressed())
                with self._ledger.enrolling():
                    found = self._ledger.enrol(self._record, self._rows(), excluded)
                self.left_out = found.invalid + found.duplicates + found.suppressed
            except BulkmailError as error:
                self.problem = error
            finally:
                self.reading = False

    def _rows(self) -> Iterable[Row]:
        """The rows, with pauses; what ends them too early is kept, so that the others stay."""
        try:
            for row in self.campaign.rows(self._past.people, self.remarks.append):
                if self._stopping:
                    return
                yield row
                self.read += 1
                if self.read % STRETCH_ROWS == 0 or self.read < STRETCH_ROWS:
                    self._turns.give_way()
        except BulkmailError as error:
            self.problem = error
