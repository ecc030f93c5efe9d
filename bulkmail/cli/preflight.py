"""Everyone's message composed once before the first connection, so that none fails halfway."""

import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field, replace

from bulkmail.campaign import Campaign
from bulkmail.cli import text
from bulkmail.compose.message import Composer
from bulkmail.compose.templates import RenderError
from bulkmail.errors import CampaignError, Problem
from bulkmail.ledger import CampaignRecord, SqliteLedger
from bulkmail.model import Recipient

MAX_PROBLEMS = 10
MAX_PLACES = 3
SECONDS_BETWEEN_TICKS = 0.2


@dataclass
class Places:
    """How many recipients something is about, and the sources of the first."""

    number: int = 0
    first: list[str] = field(default_factory=list)

    def add(self, source: str) -> None:
        self.number += 1
        if len(self.first) < MAX_PLACES:
            self.first.append(source)

    def __str__(self) -> str:
        more = self.number - len(self.first)
        return text.places(self.first) + (f" and {more:,} more" if more else "")


@dataclass
class Proof:
    """What composing everyone showed.

    `empty` tells by column who has nothing where a reader would see it.
    """

    empty: dict[str, Places] = field(default_factory=dict)


def prove(
    campaign: Campaign,
    ledger: SqliteLedger,
    record: CampaignRecord,
    composer: Composer,
    tick: Callable[[int], None],
) -> Proof:
    """Composes whoever was not composed with this content and this data before.

    `tick` is told now and then how many are done. Raises CampaignError with what went wrong, and
    for whom.
    """
    content = campaign.digest()
    has_own_files = campaign.has_personal_files
    known = record.proven_digest == content and not has_own_files
    work = _Work(campaign, ledger, composer)
    ticked = time.monotonic()
    for recipient in ledger.unsent(record, record.proven_reading if known else 0):
        work.prove(recipient)
        if len(work.failures) >= MAX_PROBLEMS:
            break
        if time.monotonic() - ticked > SECONDS_BETWEEN_TICKS:
            ticked = time.monotonic()
            tick(work.done)
    if work.failures:
        raise CampaignError(list(work.problems()))
    if known:
        work.look_for_empty(ledger.unsent(record))
    ledger.contents.set_proven(record, content)
    return work.proof


class _Work:
    """The proof so far, and the failures by place and words."""

    def __init__(self, campaign: Campaign, ledger: SqliteLedger, composer: Composer) -> None:
        self.done = 0
        self.proof = Proof()
        self.failures: dict[tuple[str, str], Places] = {}
        self._shown = campaign.template_names.shown
        self._has_own_files = campaign.has_personal_files
        self._ledger = ledger
        self._composer = composer
        self._now = time.time()

    def problems(self) -> Iterator[Problem]:
        """One for each failure, and for whom it is."""
        everyone = self.done if len(self.failures) < MAX_PROBLEMS else None
        for (place, what), who in self.failures.items():
            whom = "everyone" if 1 < who.number == everyone else str(who)
            yield Problem(place, f"{what} (for {whom})")

    def look_for_empty(self, recipients: Iterable[Recipient]) -> None:
        """Of all who are left, also of those who were composed before."""
        self.proof.empty.clear()
        if self._shown:
            for recipient in recipients:
                self._look_for_empty(recipient)

    def prove(self, recipient: Recipient) -> None:
        self.done += 1
        try:
            if self._has_own_files:
                recipient = self._with_files(recipient)
            self._composer.compose(recipient, recipient.first_attempt_at or self._now)
        except RenderError as error:
            self.failures.setdefault((error.place, error.message), Places()).add(recipient.source)
        self._look_for_empty(recipient)

    def _look_for_empty(self, recipient: Recipient) -> None:
        for name in self._shown:
            if recipient.fields.get(name) == "":
                self.proof.empty.setdefault(name, Places()).add(recipient.source)

    def _with_files(self, recipient: Recipient) -> Recipient:
        """Remembers what this person's own files are now."""
        digest = self._composer.files_digest(recipient)
        if digest != recipient.files_digest:
            self._ledger.contents.set_files_digest(recipient, digest)
        return replace(recipient, files_digest=digest)
