"""Everything that happens before the first connection, in this order: enrol, snapshot, preflight.

A campaign that would fail halfway fails here, as a whole, with all its mistakes.
"""

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import chain

from rich.console import Console

from bulkmail.campaign import Campaign
from bulkmail.cli import text
from bulkmail.cli.past import Past
from bulkmail.cli.preflight import Proof, prove
from bulkmail.compose.message import Composer
from bulkmail.compose.templates import RenderError
from bulkmail.errors import CampaignError, Problem
from bulkmail.ledger import CampaignRecord, Enrolment, SqliteLedger
from bulkmail.model import Recipient, State
from bulkmail.pace import rates_of


@dataclass(frozen=True)
class Plan:
    """A campaign that is enrolled and proved to compose. `first` is None if nobody is left.

    `remarks` tell what a person should know about the sources. `sent_before` is another campaign
    with this content, and how many of these people have it from there. `resent` counts those who
    may have it already and are sent to again. `under_way` is a run that sends meanwhile.
    """

    campaign: Campaign
    record: CampaignRecord
    found: Enrolment
    remarks: list[str]
    tally: dict[State, int]
    composer: Composer
    first: Recipient | None
    proof: Proof
    sent_before: tuple[str, int] | None
    resent: int
    slowest_domain: tuple[str, int] | None
    """The domain that will take longest by its own rates, and how many are sent to there."""
    under_way: bool

    @property
    def unsent(self) -> int:
        return self.tally.get(State.PENDING, 0) + self.tally.get(State.DEFERRED, 0)

    @property
    def accepted(self) -> int:
        return self.tally.get(State.ACCEPTED, 0)

    @property
    def in_flight(self) -> int:
        """How many are being sent to by the run that is under way."""
        return self.tally.get(State.IN_FLIGHT, 0)

    @property
    def sent(self) -> int:
        """How many have the message, or may have it."""
        in_doubt = self.tally.get(State.IN_DOUBT, 0)
        return self.accepted + self.in_flight + in_doubt + self.resent

    @property
    def content_changed(self) -> bool:
        """Whether some have another content than the rest would get."""
        before = self.record.content_digest
        changed = bool(before) and before != self.campaign.digest()
        return self.sent > 0 and (changed or self.proof.files_changed)


@contextmanager
def planned(
    campaign: Campaign,
    ledger: SqliteLedger,
    past: Past,
    *,
    cancel_removed: bool = False,
    is_rehearsal: bool = False,
    under_way: bool = False,
) -> Iterator[Plan]:
    """Enrols and checks inside a transaction; if the block raises, the ledger stays as it was.

    A rehearsal that is finished begins anew. Where another run is under way, `ledger` is a copy,
    and nobody is in doubt because that run does not know yet. Raises CampaignError.
    """
    with ledger.enrolling():
        with _progress() as tell:
            if is_rehearsal:
                ledger.forget_finished(campaign.name)
            record = ledger.campaign(campaign.name, time.time())
            if not under_way:
                ledger.recover(record)
            found, remarks = enrolled(campaign, ledger, record, past, tell)
            _check_enrolment(campaign, found, remarks, cancel_removed)
            ledger.cancel_removed(record)
            resent = ledger.resend_in_doubt(record) if campaign.file.in_doubt == "resend" else 0
            composer = snapshot(campaign, record)
            proof = prove(
                campaign, ledger, record, composer, lambda done: tell(f"{done:,} composed")
            )
        tally = ledger.tally(record)
        first = next(ledger.unsent(record), None)
        content = campaign.digest()
        sent_before = ledger.sent_before(record, content)
        yield Plan(
            campaign,
            record,
            found,
            remarks,
            tally,
            composer,
            first,
            proof,
            sent_before,
            resent,
            _slowest_domain(campaign, ledger, record),
            under_way,
        )
        if first is not None:
            ledger.set_content_digest(record, content)


def enrolled(
    campaign: Campaign,
    ledger: SqliteLedger,
    record: CampaignRecord,
    past: Past,
    tell: Callable[[str], None],
) -> tuple[Enrolment, list[str]]:
    """Reads all sources into `ledger`; what was found, and what a person should know of it."""
    tell("reading the recipients")
    remarks: list[str] = []
    excluded = chain(campaign.excluded(), past.suppressed())
    found = ledger.enrol(record, campaign.rows(past.people, remarks.append), excluded)
    return found, remarks


def snapshot(campaign: Campaign, record: CampaignRecord) -> Composer:
    """Templates and files as they are now; what is composed later is made of these."""
    try:
        return Composer(campaign.design, campaign.load, record.seed, campaign.open_file)
    except RenderError as error:
        raise CampaignError([Problem(error.place, error.message)]) from None


def _slowest_domain(
    campaign: Campaign, ledger: SqliteLedger, record: CampaignRecord
) -> tuple[str, int] | None:
    rates = campaign.file.rate_per_domain
    if not rates:
        return None
    return max(
        ledger.unsent_by_domain(record),
        key=lambda found: text.estimate(found[1], rates_of(found[0], rates)),
        default=None,
    )


@contextmanager
def _progress() -> Iterator[Callable[[str], None]]:
    """A line on the terminal for what takes long on long lists."""
    if not sys.stderr.isatty():
        yield lambda what: None
        return
    with Console(stderr=True).status("checking") as status:
        yield lambda what: status.update(f"checking: {what}")


def _check_enrolment(
    campaign: Campaign, found: Enrolment, remarks: list[str], cancel_removed: bool
) -> None:
    problems = []
    addresses = campaign.file.addresses
    for number, state, rule in (
        (found.invalid, State.INVALID, addresses.invalid),
        (found.duplicates, State.DUPLICATE, addresses.duplicates),
    ):
        if number and rule == "error":
            problems += [
                Problem(place, why) for place, kind, why in found.filtered if kind is state
            ]
    if found.removed and not cancel_removed:
        place = campaign.places.key(("recipients",))
        message = (
            f"{text.people(found.removed)} whom this campaign has not sent to yet: no longer in its"
            " recipients. Put them back, or pass --cancel-removed to give them up"
        )
        problems.append(Problem(place, message))
    if not (problems or found.recipients):
        why = "; ".join([*text.left_out(found), *remarks]) or "the sources are empty"
        problems.append(Problem(campaign.places.key(("recipients",)), f"nobody to send to: {why}"))
    if problems:
        raise CampaignError(problems)
