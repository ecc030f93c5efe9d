"""Everything that happens before the first connection: enrol, compose everyone, ask.

A campaign that would fail halfway fails here, as a whole, with all its mistakes.
"""

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import click

from bulkmail.campaign import Campaign
from bulkmail.cli import text
from bulkmail.compose.message import Composer
from bulkmail.compose.templates import RenderError
from bulkmail.errors import CampaignError, Problem
from bulkmail.ledger import CampaignRecord, Enrolment, SqliteLedger
from bulkmail.model import Rate, Recipient, State, Submission

MAX_PROBLEMS = 10


@dataclass(frozen=True)
class Plan:
    """A campaign that is enrolled and proved to compose. `first` is None if nobody is left."""

    campaign: Campaign
    record: CampaignRecord
    found: Enrolment
    tally: dict[State, int]
    composer: Composer
    first: Recipient | None

    @property
    def unsent(self) -> int:
        return self.tally.get(State.PENDING, 0) + self.tally.get(State.DEFERRED, 0)

    @property
    def accepted(self) -> int:
        return self.tally.get(State.ACCEPTED, 0)

    @property
    def content_changed(self) -> bool:
        """Whether some have another content than the rest would get."""
        before = self.record.content_digest
        return bool(before) and before != self.campaign.digest() and self.accepted > 0


@contextmanager
def planned(campaign: Campaign, ledger: SqliteLedger, *, cancel_removed: bool) -> Iterator[Plan]:
    """Enrols and checks inside a transaction; if the block raises, the ledger stays as it was.

    Raises CampaignError.
    """
    with ledger.enrolling():
        record = ledger.campaign(campaign.name, time.time())
        found = ledger.enrol(record, campaign.rows())
        _check_enrolment(campaign, found, cancel_removed)
        ledger.cancel_removed(record)
        ledger.recover(record)
        try:
            composer = Composer(campaign.design, campaign.load, record.seed)
        except RenderError as error:
            raise CampaignError([Problem(error.place, error.message)]) from None
        first = _compose_all(ledger, record, composer)
        yield Plan(campaign, record, found, ledger.tally(record), composer, first)
        if first is not None:
            ledger.set_content_digest(record, campaign.digest())


def _check_enrolment(campaign: Campaign, found: Enrolment, cancel_removed: bool) -> None:
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
            f"{text.people(found.removed)} of this campaign, not yet sent to, no longer stand in"
            " its recipients. Put them back, or pass --cancel-removed to give them up"
        )
        problems.append(Problem(place, message))
    if not (problems or found.recipients):
        why = "; ".join(text.left_out(found)) or "the sources are empty"
        problems.append(Problem(campaign.places.key(("recipients",)), f"nobody to send to: {why}"))
    if problems:
        raise CampaignError(problems)


def _compose_all(
    ledger: SqliteLedger, record: CampaignRecord, composer: Composer
) -> Recipient | None:
    """Composes every message that is still to be sent; the first recipient."""
    failures: dict[tuple[str, str], list[str]] = {}
    first = None
    now = time.time()
    for recipient in ledger.unsent(record):
        first = first or recipient
        try:
            composer.compose(recipient, recipient.first_attempt_at or now)
        except RenderError as error:
            failures.setdefault((error.place, error.message), []).append(recipient.source)
            if len(failures) >= MAX_PROBLEMS:
                break
    if failures:
        raise CampaignError(
            [
                Problem(place, f"{what} (for {_some(sources)})")
                for (place, what), sources in failures.items()
            ]
        )
    return first


def _some(sources: list[str]) -> str:
    more = len(sources) - 3
    return text.places(sources[:3]) + (f" and {more} more" if more > 0 else "")


def ask(plan: Plan, submission: Submission, rates: tuple[Rate, ...], limit: int | None) -> None:
    """Shows what would be sent, and asks. Raises CampaignError for a no, or if nobody is there."""
    number = min(plan.unsent, limit or plan.unsent)
    for name, value in _summary(plan, submission, rates, number):
        click.echo(f"{click.style(f'{name:<13}', dim=True)}{value}", err=True)
    click.echo(err=True)
    _confirm(f"Send to {text.people(number)} now?")


def ask_about_change(plan: Plan) -> None:
    """Content differs from what others have. Raises like `ask`."""
    _confirm(
        f"The content changed since {text.people(plan.accepted)} got theirs."
        f" Send the new one to the other {plan.unsent:,}?",
        "--accept-changes",
    )


def _confirm(question: str, flag: str = "--yes") -> None:
    if not sys.stdin.isatty():
        raise CampaignError(f"{question} There is no terminal to answer at; pass {flag}")
    if not click.confirm(question, default=False, err=True):
        raise CampaignError("nothing was sent")


def _summary(
    plan: Plan, submission: Submission, rates: tuple[Rate, ...], number: int
) -> Iterator[tuple[str, str]]:
    assert plan.first is not None
    design = plan.campaign.design
    author = design.author
    name = f"{author.display_name} " if author.display_name else ""
    yield "campaign", plan.campaign.name
    yield "from", f"{name}<{author.address}>"
    login = f", login {submission.username}" if submission.username else ", no login"
    yield "server", f"{submission.host}:{submission.port} ({submission.security}){login}"
    yield "subject", plan.composer.subject(plan.first)
    yield "recipients", _recipients(plan)
    if plan.tally.get(State.IN_DOUBT):
        yield "in doubt", f"{plan.tally[State.IN_DOUBT]} are held and not sent to again"
    files = (f"{a.name} ({text.size(len(a.content))})" for a in design.attachments)
    yield "attachments", ", ".join(files) or "none"
    at_least = text.duration(text.estimate(number, rates))
    yield "rate", f"{', '.join(map(str, rates))}: about {at_least}" if rates else "unlimited"


def _recipients(plan: Plan) -> str:
    rows = plan.found.recipients + plan.found.invalid + plan.found.duplicates
    parts = text.left_out(plan.found)
    if plan.accepted:
        parts.append(f"{plan.accepted:,} already have it")
    return f"{plan.unsent:,} of {rows:,}" + (f": {'; '.join(parts)}" if parts else "")
