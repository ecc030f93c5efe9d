"""A mistake with the lines of the file in which it stands."""

import re
from collections.abc import Collection
from contextlib import suppress
from pathlib import Path
from typing import Any

from bulkmail.errors import BulkmailError, CampaignError, Problem

AROUND_LINES = 3
LINE_CHARACTERS = 400
_PLACE = re.compile(r"(.+?):(\d+)(?::\d+)?\Z")


def problems_of(error: BulkmailError) -> list[Problem]:
    """What `error` tells, one by one."""
    if isinstance(error, CampaignError) and error.problems:
        return error.problems
    message = str(error)
    if found := re.match(r"(\S+:\d+(?::\d+)?): ", message):
        return [Problem(found[1], message[found.end() :])]
    return [Problem("", message)]


def with_lines(problem: Problem, files: Collection[Path]) -> dict[str, Any]:
    """As JSON: `place`, `message`, and `lines` around the place, if it is in one of `files`."""
    lines: list[dict[str, Any]] = []
    if place := _PLACE.match(problem.place):
        lines = _lines(place[1], int(place[2]), files)
    return {"place": problem.place, "message": problem.message, "lines": lines}


def _lines(name: str, number: int, files: Collection[Path]) -> list[dict[str, Any]]:
    path = _among(name, files)
    if path is None:
        return []
    with suppress(OSError):
        first = max(1, number - AROUND_LINES)
        lines = []
        with path.open(encoding="utf-8", errors="replace") as file:
            for at, line in enumerate(file, 1):
                if at > number + AROUND_LINES:
                    break
                if at >= first:
                    text = line.rstrip("\r\n")[:LINE_CHARACTERS]
                    lines.append({"number": at, "text": text, "here": at == number})
        return lines
    return []


def _among(name: str, files: Collection[Path]) -> Path | None:
    """The one of `files` that `name` means: a path from here, or the last part of one."""
    wanted = Path(name).resolve()
    for path in files:
        if path.resolve() == wanted:
            return path
    return next((path for path in files if path.name == name), None)
