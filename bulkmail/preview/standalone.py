"""One HTML file with a handful of messages, for whoever approves them; it needs no server."""

import re
from collections.abc import Iterator
from datetime import datetime
from importlib.resources import files
from pathlib import Path
from typing import Any, NamedTuple

from jinja2 import Environment, StrictUndefined

from bulkmail.campaign import Campaign
from bulkmail.compose import lint
from bulkmail.compose.lint import Finding
from bulkmail.errors import CampaignError, MissingFileError, Problem
from bulkmail.ledger import Person
from bulkmail.preview.edition import Preview
from bulkmail.preview.framed import framed
from bulkmail.preview.opened import Opened
from bulkmail.preview.reading import People

MOST_MESSAGES = 8
_PAGE = files("bulkmail.preview").joinpath("page")
_LONE_SURROGATE = re.compile(r"[\ud800-\udfff]")


class Proved(NamedTuple):
    """What is true of all messages, not only of those that are shown: the fingerprint of content
    and recipients, and what was found in them, each with a sentence that says for whom.
    """

    fingerprint: str
    findings: list[tuple[Finding, str]]


def write(preview: Preview, out: Path, proved: Proved) -> None:
    """Writes the first message, the last one, the longest, and one of somebody with an empty cell.

    Raises CampaignError for a campaign that is wrong, MissingFileError if `out` cannot be written.
    """
    campaign, people = preview.campaign, preview.people
    if people is not None:
        people.wait()
    if preview.problems:
        raise CampaignError(preview.problems)
    assert campaign is not None and people is not None
    messages = [_message(person, why, mail) for person, why, mail in _chosen(preview, people)]
    if not messages:
        raise CampaignError([Problem(campaign.places.key(("recipients",)), "nobody to send to")])
    page = _render(_facts(campaign, people), proved, messages)
    try:
        out.write_text(_LONE_SURROGATE.sub("\N{REPLACEMENT CHARACTER}", page), "utf-8")
    except OSError as error:
        raise MissingFileError(f"{out}: {error.strerror}") from None


def _chosen(preview: Preview, people: People) -> Iterator[tuple[Person, str, Opened]]:
    """At most MOST_MESSAGES people, each once, and why."""
    some, long = people.handful()
    reasons = ["the first", "the last", "with an empty cell"]
    wanted = list(zip(some, reasons, strict=False))
    if long:
        longest = max(long, key=lambda person: len(_mail(preview, person).text or ""))
        wanted.append((longest, "the longest text"))
    shown: dict[int, tuple[Person, list[str]]] = {}
    for person, why in wanted:
        shown.setdefault(person.recipient.id, (person, []))[1].append(why)
    for person, whys in list(shown.values())[:MOST_MESSAGES]:
        yield person, ", ".join(whys), _mail(preview, person)


def _mail(preview: Preview, person: Person) -> Opened:
    told = preview.person(person.recipient.id)
    problem = told and told["problem"]
    mail = None if problem else preview.opened(person.recipient.id)
    if mail is None:
        place, message = (problem["place"], problem["message"]) if problem else ("", "changed")
        raise CampaignError([Problem(place, f"{message} (for {person.recipient.source})")])
    return mail


def _message(person: Person, why: str, mail: Opened) -> dict[str, Any]:
    name, address = mail.author
    found = [*lint.of_address(person.recipient.address), *lint.findings(mail.letter)]
    return {
        "why": why,
        "number": person.recipient.id,
        "source": person.recipient.source,
        "name": name or address,
        "author": address,
        "to": mail.header("to"),
        "subject": mail.header("subject"),
        "date": mail.header("date"),
        "preheader": mail.preheader,
        "frame": None if mail.html is None else framed(mail.html, mail.images, with_policy=True),
        "text": mail.text,
        "headers": mail.headers,
        "attachments": [
            (file.name, file.media_type, len(file.content)) for file in mail.attachments
        ],
        "findings": found,
    }


def _facts(campaign: Campaign, people: People) -> dict[str, Any]:
    author = campaign.file.author
    return {
        "name": campaign.name,
        "file": campaign.path.name,
        "author": f"{author.display_name} <{author.address}>".strip(),
        "subject": campaign.file.subject,
        "recipients": people.read - people.left_out,
        "left_out": people.left_out,
        "server": f"{campaign.server.host}:{campaign.server.port}",
        "at": f"{datetime.now().astimezone():%Y-%m-%d %H:%M %Z}",
    }


def _render(facts: dict[str, Any], proved: Proved, messages: list[dict[str, Any]]) -> str:
    environment = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True)
    template = environment.from_string(_PAGE.joinpath("standalone.html.j2").read_text("utf-8"))
    style = _PAGE.joinpath("standalone.css").read_text("utf-8")
    return template.render(facts=facts, proved=proved, messages=messages, style=style)
