"""Everything that happens before the first connection, in this order: enrol, snapshot, preflight.

A campaign that would fail halfway fails here, as a whole, with all its mistakes.
"""

import hashlib
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import chain

from rich.console import Console

from bulkmail.campaign import Campaign
from bulkmail.campaign.advice import advice
from bulkmail.cli import text
from bulkmail.cli.neighbours import refuse_what_another_ledger_knows
from bulkmail.cli.past import Past
from bulkmail.cli.preflight import Proof, prove
from bulkmail.compose.message import Composer
from bulkmail.compose.templates import RenderError
from bulkmail.errors import CampaignError, Problem
from bulkmail.ledger import CampaignRecord, Enrolment, Ledger
from bulkmail.model import UNSENT, Recipient, State
from bulkmail.pace import rates_of

TO_LOOK_AT = (State.FAILED, State.EXPIRED, State.IN_DOUBT)


@dataclass(frozen=True)
class Plan:
    """A campaign that is enrolled and proved to compose. `first` is None if nobody is left.

    `remarks` tell what a person should know about the sources. `sent_before` is another campaign
    with this content, and how many of these people have it from there. `resent` counts those who
    may have it already and are sent to again. `with_another` counts those who have, or may have,
    another content; `content_changed`: the author has not said yes to that yet. `content_proven`:
    this content was accepted for somebody. `slowest_domain` is the one that will take longest by
    its own rates, and how many are sent to there. `under_way` is a run that sends meanwhile.
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
    content_id: int
    with_another: int
    content_changed: bool
    content_proven: bool
    slowest_domain: tuple[str, int] | None
    under_way: bool

    @property
    def unsent(self) -> int:
        return sum(self.tally.get(state, 0) for state in UNSENT)

    @property
    def accepted(self) -> int:
        return self.tally.get(State.ACCEPTED, 0)

    @property
    def in_flight(self) -> int:
        """How many are being sent to by the run that is under way."""
        return self.tally.get(State.IN_FLIGHT, 0)

    @property
    def to_look_at(self) -> dict[State, int]:
        """Who did not get it, or may not have, and is not sent to again by itself."""
        return {state: self.tally[state] for state in TO_LOOK_AT if self.tally.get(state)}


@contextmanager
def planned(
    campaign: Campaign,
    ledger: Ledger,
    past: Past,
    *,
    cancel_removed: bool = False,
    is_rehearsal: bool = False,
    under_way: bool = False,
    prove_everyone: bool = False,
    looks: bool = True,
) -> Iterator[Plan]:
    """Enrols and checks inside a transaction; if the block raises, the ledger stays as it was.

    Whoever was composed before with this content is composed again if `prove_everyone`; messages
    are looked through if it `looks`. A rehearsal that is finished begins anew. Where another run is
    under way, `ledger` is a copy, and nobody is in doubt because that run does not know yet. Raises
    CampaignError.
    """
    known = ledger.known(campaign.name)
    if known is not None and known.cancelled_at is not None:
        message = (
            f'"{campaign.name}" was cancelled on {text.moment(known.cancelled_at)}. To send it'
            f" after all: bulkmail retry {campaign.path} --state cancelled"
        )
        raise CampaignError([Problem(campaign.places.key(("campaign",)), message)])
    if not under_way and known is not None:
        # What an earlier run left is so, whatever becomes of this one.
        ledger.recover(known, time.time())
    with ledger.enrolling():
        with _progress() as tell:
            if is_rehearsal:
                ledger.forget_finished(campaign.name)
            record = ledger.campaign(campaign.name, time.time())
            found, remarks = enrolled(campaign, ledger, record, past, tell)
            _check_enrolment(campaign, found, remarks, cancel_removed)
            ledger.cancel_removed(record)
            resent = 0
            if campaign.file.in_doubt == "resend":
                resent = ledger.resend_in_doubt(record, time.time())
            if not is_rehearsal:
                refuse_what_another_ledger_knows(campaign, ledger, record)
            composer = snapshot(campaign, record)
            proof = prove(
                campaign,
                ledger,
                record,
                composer,
                lambda done: tell(f"{done:,} composed"),
                everyone=prove_everyone,
                looks=looks,
            )
        tally = ledger.tally(record)
        unsent = sum(tally.get(state, 0) for state in UNSENT)
        for finding in advice(campaign, unsent):
            proof.findings.add(finding, None)
        first = next(ledger.unsent(record), None)
        content = campaign.digest()
        content_id = ledger.contents.id_of(record, content)
        _, with_another = ledger.contents.who_has(record, content_id)
        changed = with_another > 0 and record.content_digest != content
        yield Plan(
            campaign,
            record,
            found,
            remarks,
            tally,
            composer,
            first,
            proof,
            ledger.contents.sent_before(record, content, sorted(campaign.template_names.used)),
            resent,
            content_id,
            with_another,
            changed,
            ledger.contents.is_proven(record, content_id),
            _slowest_domain(campaign, ledger, record),
            under_way,
        )
        if first is not None:
            ledger.contents.set_content_digest(record, content)


def enrolled(
    campaign: Campaign,
    ledger: Ledger,
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


def fingerprint(plan: Plan, ledger: Ledger) -> str:
    """What somebody approves, in short: a content, all who are to get it, whether those in doubt
    are sent to again, and the campaign's name, which templates may show, and by another of which
    all would get it again.
    """
    campaign = plan.campaign
    people = ledger.people_digest(plan.record)
    parts = campaign.digest(), people, campaign.file.in_doubt, campaign.name
    digest = hashlib.sha256(" ".join(parts).encode("utf-8")).hexdigest()
    return "-".join(digest[start : start + 4] for start in range(0, 20, 4))


def _slowest_domain(
    campaign: Campaign, ledger: Ledger, record: CampaignRecord
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
        # Their rows may still be there, and say what is wrong with them.
        problems += [Problem(at, why) for at, kind, why in found.filtered if kind is State.INVALID]
    if not (problems or found.recipients or found.removed):
        why = "; ".join([*text.left_out(found), *remarks]) or "the sources are empty"
        problems.append(Problem(campaign.places.key(("recipients",)), f"nobody to send to: {why}"))
    if problems:
        raise CampaignError(problems)
