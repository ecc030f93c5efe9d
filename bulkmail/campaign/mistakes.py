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

LATER = frozenset(
    {
        *("rate_per_domain", "stop_after_failures"),
        *("dkim", "bounces", "relays"),
    }
)
"""Keys that are planned: said so, rather than called unknown."""

MAX_INLINE_PEOPLE = 1000
_SHAPES: dict[tuple[str, ...], type[BaseModel]] = {
    (): CampaignFile,
    ("template",): TemplateNames,
    ("list",): MailingList,
    ("list", "unsubscribe"): Unsubscribe,
    ("recipients",): FileSource,
    ("recipients", "earlier"): EarlierCampaign,
    ("exclude",): FileSource,
    ("addresses",): Addresses,
    ("attachments",): AttachmentFile,
    ("smtp",): Smtp,
    ("retry",): Retry,
}
"""Whose keys are proposed for one that is not known, by the path to it without numbers."""


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
        found = (_problem(details, places) for details in error.errors())
        problems += [problem for problem in found if problem.place not in told]
    if problems:
        raise CampaignError(sorted(problems, key=_by_position))
    return file


def _problem(details: ErrorDetails, places: Places) -> Problem:
    loc = details["loc"]
    path = places.known(loc)
    kind = details["type"]
    if kind == "extra_forbidden":
        return Problem(places.key(path), _unknown(path, loc))
    if kind == "missing":
        name = "from" if loc[-1] == "author" else loc[-1]
        return Problem(places.key(path), f'"{name}" is missing' + _of(path))
    message = details["msg"].removeprefix("Value error, ").replace("Input should", "must")
    if kind == "string_type" and (mended := places.mended(path)) is not None:
        message += f"; a value that begins with a bracket needs quotes; write\n    {mended}"
    return Problem(places.value(path), f"{_dotted(path)}: {message}" if path else message)


def _unknown(path: Path, loc: tuple[str | int, ...]) -> str:
    key = str(path[-1])
    if len(path) == 1 and key in LATER:
        return f'"{key}" comes in a later version; take it out for now'
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
    return tuple(int(part) for part in problem.place.split(":") if part.isdigit())
