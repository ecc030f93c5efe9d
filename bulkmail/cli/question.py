"""What would be sent, as a person sees it before saying yes, and the questions themselves.

Each raises CampaignError for a no, or where nobody is there to answer and no flag answers for them.
"""

import sys
from collections.abc import Iterable, Iterator, Sequence
from datetime import UTC, datetime

import click

from bulkmail.cli import text
from bulkmail.cli.plan import Plan
from bulkmail.compose.message import PersonalFile
from bulkmail.compose.skeleton import Attachment
from bulkmail.errors import CampaignError, Problem
from bulkmail.model import Rate, State, Submission
from bulkmail.pace import rates_of


def refuse_unapproved(plan: Plan, is_so: str, approved: str) -> None:
    """Raises CampaignError if the fingerprint of `plan` `is_so`, and not the one `approved`."""
    if approved.lower() != is_so:
        message = (
            f"this is not what was approved: its fingerprint is {is_so}, not {approved}."
            " The content, or a recipient, is another one; nothing was sent.\n"
            f"Look at it, and have it approved again:  bulkmail check {plan.campaign.path}"
        )
        raise CampaignError(message)


def ask(
    plan: Plan, submission: Submission, limit: int | None, *, yes: bool, accept_changes: bool
) -> None:
    """Shows what would be sent, and asks, unless the flags have answered all that is to be asked.

    A yes to sending is none to a content that changed since others got theirs.
    """
    changed = plan.content_changed and not accept_changes
    if yes and not changed:
        show(("note", remark) for remark in plan.remarks)
        return
    number = min(plan.unsent, limit or plan.unsent)
    show(facts(plan, submission, number))
    plan.proof.findings.show()
    click.echo(err=True)
    if changed:
        theirs, others = ("theirs or may have", "") if plan.resent else ("theirs", "the other ")
        _confirm(
            f"The content changed since {text.people(plan.with_another)} got {theirs}."
            f" Send the new one to {others}{number:,} now?",
            "--accept-changes",
        )
    else:
        _confirm(f"Send to {text.people(number)} {_when(plan, submission)}?", "--yes")


def refuse_what_was_sent(plan: Plan) -> None:
    """Raises CampaignError where nobody would get a content that is new."""
    if plan.unsent or not plan.content_changed or plan.in_flight:
        return
    name = plan.campaign.name
    if plan.to_look_at:
        states = text.states({State.ACCEPTED: plan.accepted, **plan.to_look_at})
        message = f'nobody is left to send "{name}" to: {states}, with the content that it had then'
    else:
        message = f'all {plan.accepted:,} already have "{name}", with the content that it had then'
    message += ".\nIf this is something new, give it a new name: `campaign: …`"
    if failed := [state for state in plan.to_look_at if state is not State.IN_DOUBT]:
        source = f"{{campaign: {name}, states: [{', '.join(failed)}]}}"
        message += f"\nFor those who did not get it: a new name and  recipients: [{source}]"
    raise CampaignError([Problem(plan.campaign.places.key(("campaign",)), message)])


def refuse_second_name(plan: Plan) -> None:
    """Raises CampaignError if these people have this content by another campaign's name."""
    if plan.sent_before is not None:
        name, number = plan.sent_before
        who = "all" if number == plan.unsent else f"{number:,} of"
        message = (
            f'{who} {text.people(plan.unsent)} already have this content, as "{name}".\n'
            f'  go on with that:  campaign: "{name}"\n'
            f"  send it again:    bulkmail run {plan.campaign.path} --new"
        )
        raise CampaignError([Problem(plan.campaign.places.key(("campaign",)), message)])


def show(lines: Iterable[tuple[str, str]]) -> None:
    """Facts, one a line, their names dimmed, on standard error."""
    for name, value in lines:
        click.echo(f"{click.style(f'{name:<13}', dim=True)}{value}", err=True)


def facts(plan: Plan, submission: Submission, number: int) -> Iterator[tuple[str, str]]:
    """What would be sent to `number` people, by whom, and how: (name, value)."""
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
    yield from cautions(plan)
    if design.images:
        yield "images", ", ".join(image.name for image in design.images.values())
    yield "attachments", ", ".join(map(_attachment, design.attachments)) or "none"
    if (start_at := plan.campaign.file.start_at) is not None:
        yield "start", text.start(start_at)
    yield from _rates(plan, number)


def cautions(plan: Plan) -> Iterator[tuple[str, str]]:
    """What a person should know before a run: (name, value)."""
    if plan.under_way:
        yield "note", text.under_way(plan.in_flight)
    if plan.tally.get(State.IN_DOUBT):
        yield "in doubt", f"{plan.tally[State.IN_DOUBT]} are held and not sent to again"
    if plan.with_another:
        have = "has or may have" if plan.with_another == 1 else "have or may have"
        yield "changed", f"{text.people(plan.with_another)} {have} another content"
    if plan.resent:
        yield "in doubt", f"{plan.resent} may have it already, and are sent to again"
    for remark in plan.remarks:
        yield "note", remark


def asks(plan: Plan) -> Iterator[tuple[str, str]]:
    """What a run would ask beside whether to send, for those who do not run: (name, value)."""
    if plan.content_changed:
        yield "", "a run asks whether to go on, or takes --accept-changes"


def _rates(plan: Plan, number: int) -> Iterator[tuple[str, str]]:
    """The rates, and how long they take; of those by domain the one that takes longest."""
    rates: Sequence[Rate] = plan.campaign.file.rate
    seconds = text.estimate(number, rates)
    yield "rate", _rate(rates, seconds) if rates else "unlimited"
    if plan.slowest_domain is not None:
        domain, people = plan.slowest_domain
        rates = rates_of(domain, plan.campaign.file.rate_per_domain)
        at_least = text.estimate(min(people, number), rates)
        if at_least > seconds:
            yield "", f"{domain} {_rate(rates, at_least)} for {text.people(people)} there"


def _rate(rates: Sequence[Rate], seconds: float) -> str:
    return f"{', '.join(map(str, rates))}: {text.about(seconds)}"


def confirm(question: str, *, yes: bool) -> None:
    """Asks whether to change the ledger, unless `--yes` did. Raises CampaignError for a no."""
    if not yes:
        _confirm(question, "--yes", "nothing was changed")


def _confirm(question: str, flag: str, otherwise: str = "nothing was sent") -> None:
    if not sys.stdin.isatty():
        raise CampaignError(f"{question} There is no terminal to answer at; pass {flag}")
    if not click.confirm(question, default=False, err=True):
        raise CampaignError(otherwise)


def _when(plan: Plan, submission: Submission) -> str:
    start_at = plan.campaign.file.start_at
    if start_at is not None and start_at > datetime.now(UTC):
        return f"from {text.start(start_at)} on"
    return "in the sandbox" if submission.host != plan.campaign.file.smtp.host else "now"


def _attachment(file: Attachment | PersonalFile) -> str:
    if isinstance(file, PersonalFile):
        return f"{file.path.text} (one for each)"
    return f"{file.name} ({text.size(len(file.content))})"


def _recipients(plan: Plan) -> str:
    found = plan.found
    rows = found.recipients + found.invalid + found.duplicates + found.suppressed
    parts = text.left_out(found)
    if plan.accepted:
        parts.append(f"{plan.accepted:,} already have it")
    return f"{plan.unsent:,} of {rows:,}" + (f": {'; '.join(parts)}" if parts else "")
