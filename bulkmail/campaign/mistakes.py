"""What is wrong with a campaign file: every mistake at once, each with its place and what to do."""

import difflib

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from bulkmail.campaign.file import (
    Addresses,
    AttachmentFile,
    CampaignFile,
    EarlierCampaign,
    FileSource,
    MailingList,
    Retry,
    Smtp,
    TemplateNames,
    Unsubscribe,
)
from bulkmail.campaign.nodes import Document, Path, Places
from bulkmail.errors import CampaignError, Problem

LATER = frozenset({"dkim", "bounces", "relays"})
"""Keys that are planned: said so, rather than called unknown."""

MAX_INLINE_PEOPLE = 1000
_SHAPES: dict[tuple[str, ...], type[BaseModel]] = {
    (): CampaignFile,
    ("template",): TemplateNames,
    ("list",): MailingList,
    ("list", "unsubscribe"): Unsubscribe,
    ("recipients",): FileSource,
    ("recipients", "<earlier>"): EarlierCampaign,
    ("exclude",): FileSource,
    ("addresses",): Addresses,
    ("attachments",): AttachmentFile,
    ("smtp",): Smtp,
    ("retry",): Retry,
}
"""Whose keys are proposed for one that is not known, by the path to it without numbers."""


_WRITTEN = {
    ("template",): "{html: newsletter.html.j2}",
    ("variables",): "{issue: 11}",
    ("headers",): "{X-Campaign: news}",
    ("list",): "{id: news.example.org, unsubscribe: {mailto: leave@example.org}}",
    ("list", "unsubscribe"): "{mailto: leave@example.org}",
    ("recipients",): "[{file: members.csv}]",
    ("exclude",): "[unsubscribed.csv]",
    ("addresses",): "{pattern: standard}",
    ("attachments",): "[files/plan.pdf]",
    ("images",): "{logo: files/logo.png}",
    ("smtp",): "{host: smtp.example.org, port: 465}",
    ("rate_per_domain",): '{gmail.com: 20/min, "*": 60/min}',
    ("retry",): "{first: 5m, longest: 4h, give_up: 2d}",
}
"""How the value of a key is written, for one that is of another kind."""

_ALONE = frozenset({"to", "cc", "bcc"})


def parse(document: Document) -> CampaignFile:
    """Raises CampaignError with every problem of the file, each at its place."""
    value, places, problems = document.value, document.places, list(document.problems)
    if not isinstance(value, dict):
        problems.append(Problem(places.value(()), "a campaign file is a list of `key: value`"))
        raise CampaignError(problems)
    people = value.get("recipients")
    if isinstance(people, list) and len(people) > MAX_INLINE_PEOPLE:
        message = f"{len(people)} recipients in the campaign file; put them in a CSV file"
        problems.append(Problem(places.key(("recipients",)), message))
        raise CampaignError(problems)
    try:
        file = CampaignFile.model_validate(value)
    except ValidationError as error:
        told = {problem.place for problem in problems}
        problems += _problems(error.errors(), places, told)
    if problems:
        raise CampaignError(sorted(problems, key=_by_position))
    return file


def _problems(errors: list[ErrorDetails], places: Places, told: set[str]) -> list[Problem]:
    """Without those that only follow from others: the wrong items of a list are missing in it."""
    found = []
    for details in errors:
        inner = any(
            other is not details and other["loc"][: len(details["loc"])] == details["loc"]
            for other in errors
        )
        if not (details["type"] == "too_short" and inner):
            problem = _problem(details, places)
            if problem.place not in told:
                found.append(problem)
    return found


def _problem(details: ErrorDetails, places: Places) -> Problem:
    loc = details["loc"]
    path = places.known(loc)
    kind = details["type"]
    if kind == "extra_forbidden":
        return Problem(places.key(path), _unknown(path, loc))
    if kind == "missing":
        name = "from" if loc[-1] == "author" else loc[-1]
        return Problem(places.key(path), f'"{name}" is missing' + _of(path))
    message = _message(details, tuple(step for step in path if isinstance(step, str)))
    if kind == "string_type" and (mended := places.mended(path)) is not None:
        message += f"; a value that begins with a bracket needs quotes; write\n    {mended}"
    return Problem(places.value(path), f"{_dotted(path)}: {message}" if path else message)


def _message(details: ErrorDetails, names: tuple[str, ...]) -> str:
    """What is wrong with a value, in words for people rather than for Python."""
    kind = details["type"]
    if kind in ("model_type", "model_attributes_type", "dict_type", "tuple_type", "list_type"):
        if (written := _WRITTEN.get(names)) is not None:
            return f"must be written like  {names[-1]}: {written}"
        return "must be " + ("a list" if kind in ("tuple_type", "list_type") else "`key: value`")
    if kind in ("string_too_short", "too_short"):
        return "is empty"
    if kind == "int_parsing":
        return "must be a whole number"
    if kind == "string_pattern_mismatch" and names == ("campaign",):
        return "begins with a letter or digit, and may hold spaces and . @ + - _ too"
    return details["msg"].removeprefix("Value error, ").replace("Input should", "must")


def _unknown(path: Path, loc: tuple[str | int, ...]) -> str:
    key = str(path[-1])
    if len(path) == 1 and key in LATER:
        return f'"{key}" comes in a later version; take it out for now'
    if len(path) == 1 and key in _ALONE:
        return f'unknown key "{key}"; each message goes to one person, who stands in recipients'
    near = difflib.get_close_matches(key, _keys_at(loc[:-1]), n=1)
    return f'unknown key "{key}"' + (f'; did you mean "{near[0]}"?' if near else "")


def _keys_at(loc: tuple[str | int, ...]) -> list[str]:
    names = tuple(step for step in loc if isinstance(step, str))
    while names not in _SHAPES:
        names = names[:-1]
    return [field.alias or name for name, field in _SHAPES[names].model_fields.items()]


def _of(path: Path) -> str:
    return f" in {_dotted(path)}" if path else ""


def _dotted(path: Path) -> str:
    return ".".join(str(step + 1) if isinstance(step, int) else step for step in path)


def _by_position(problem: Problem) -> tuple[int, ...]:
    return tuple(int(part) for part in problem.place.split(":") if part.isdecimal())
