"""Everyone's message composed once before the first connection, so that none fails halfway."""

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace

from bulkmail.campaign import Campaign
from bulkmail.cli.findings import Findings, Places
from bulkmail.compose import lint
from bulkmail.compose.lint import Finding, Severity
from bulkmail.compose.message import Composer
from bulkmail.compose.templates import RenderError
from bulkmail.errors import CampaignError, Problem
from bulkmail.ledger import CampaignRecord, Ledger
from bulkmail.model import MailObject, Recipient

MAX_PROBLEMS = 10
SECONDS_BETWEEN_TICKS = 0.2


@dataclass
class Proof:
    """What composing everyone showed. `largest` is the size of the largest message, in bytes, as
    sent, and the source of its recipient; `international` those whose address asks for SMTPUTF8.
    """

    findings: Findings = field(default_factory=Findings)
    largest: tuple[int, str] = (0, "")
    international: Places = field(default_factory=Places)


def prove(
    campaign: Campaign,
    ledger: Ledger,
    record: CampaignRecord,
    composer: Composer,
    tick: Callable[[int], None],
    *,
    everyone: bool,
    looks: bool,
) -> Proof:
    """Composes the message of whoever was not composed with this content and this data before, or
    of `everyone`; if it `looks`, the messages are looked through, too.

    `tick` is told now and then how many are done. Raises CampaignError with what went wrong, and
    for whom.
    """
    content = campaign.digest()
    has_own_files = campaign.has_personal_files
    known = record.proven_digest == content and not (has_own_files or everyone)
    work = _Work(campaign, ledger, composer, looks=looks)
    ticked = time.monotonic()
    for recipient in ledger.unsent(record, record.proven_reading if known else 0):
        work.prove(recipient)
        if looks and not known:
            work.look_for_empty(recipient)
        if len(work.failures) >= MAX_PROBLEMS:
            break
        if time.monotonic() - ticked > SECONDS_BETWEEN_TICKS:
            ticked = time.monotonic()
            tick(work.done)
    if work.failures:
        raise CampaignError(list(work.problems()))
    if looks and known:
        for recipient in ledger.unsent(record):  # of those who were composed before, too
            work.look_for_empty(recipient)
    else:
        work.proof.findings.everyone = work.done
    ledger.contents.set_proven(record, content)
    return work.proof


class _Work:
    """The proof so far, and the failures by place and words."""

    def __init__(
        self, campaign: Campaign, ledger: Ledger, composer: Composer, *, looks: bool
    ) -> None:
        self.done = 0
        self.proof = Proof()
        self.failures: dict[tuple[str, str], Places] = {}
        self._shown = campaign.template_names.shown
        self._has_own_files = campaign.has_personal_files
        self._ledger = ledger
        self._composer = composer
        self._looks = looks
        self._now = time.time()

    def problems(self) -> Iterator[Problem]:
        """One for each failure, and for whom it is."""
        everyone = self.done if len(self.failures) < MAX_PROBLEMS else None
        for (place, what), who in self.failures.items():
            whom = "everyone" if 1 < who.number == everyone else str(who)
            yield Problem(place, f"{what} (for {whom})")

    def prove(self, recipient: Recipient) -> None:
        self.done += 1
        try:
            if self._has_own_files:
                recipient = self._with_files(recipient)
            mail = self._composer.compose(recipient, recipient.first_attempt_at or self._now)
            if self._looks:
                self._look_at(recipient, mail)
        except RenderError as error:
            self.failures.setdefault((error.place, error.message), Places()).add(recipient.source)

    def _look_at(self, recipient: Recipient, mail: MailObject) -> None:
        proof = self.proof
        for finding in lint.findings(self._composer.letter(mail)):
            proof.findings.add(finding, recipient.source)
        for finding in lint.of_address(recipient.address):
            proof.findings.add(finding, recipient.source)
        proof.largest = max(proof.largest, (mail.size_bytes, recipient.source))
        if mail.needs_smtputf8:
            proof.international.add(recipient.source)

    def look_for_empty(self, recipient: Recipient) -> None:
        """In what its reader would see of the recipient's data."""
        for name in self._shown:
            if recipient.fields.get(name) == "":
                self.proof.findings.add(_empty(name), recipient.source)

    def _with_files(self, recipient: Recipient) -> Recipient:
        """Remembers what this person's own files are now."""
        digest = self._composer.files_digest(recipient)
        if digest != recipient.files_digest:
            self._ledger.contents.set_files_digest(recipient, digest)
        return replace(recipient, files_digest=digest)


def _empty(name: str) -> Finding:
    mend = f'fill the cells, or write {{{{ {name} or "…" }}}}'
    return Finding("empty-field", Severity.WARNING, "data", f"{name} is empty", mend)
