"""JSON Lines: one object a line (RFC 8259), whose values become text.

Promises that numbers stay as they are written, and that no value is dropped: what is not plain,
or stands twice, is a fault of its row. What is not JSON stops the file. Refuses to know what the
names mean.
"""

import json
import re
from collections.abc import Iterator, Mapping
from typing import Any, TextIO

from bulkmail.campaign.sources.columns import name_problems, named_row, quoted
from bulkmail.campaign.sources.lines import Lines, Reading
from bulkmail.errors import CampaignError, Problem
from bulkmail.model import Row

Pairs = tuple[tuple[str, Any], ...]

_NEVER_SENT = re.compile("[\0\ud800-\udfff]")
"""What no text may hold, and only an escape can write: NUL, and halves of surrogate pairs."""

_WORDS: Mapping[object, str] = {True: "true", False: "false", None: ""}


def _not_json(constant: str) -> None:
    raise ValueError(f"{constant} is no value")


_DECODE = json.JSONDecoder(
    object_pairs_hook=tuple, parse_int=str, parse_float=str, parse_constant=_not_json
).decode
"""An object becomes a tuple of pairs, which shows keys that stand in it twice."""


def json_rows(reading: Reading, file: TextIO) -> Iterator[Row]:
    lines = Lines(file, reading.name)
    for line in lines:
        place = lines.end_row()
        if line.isspace():
            continue
        written, fault = _texts(_pairs(line, place))
        texts = dict(zip(written, reading.trim([*written.values()]), strict=True))
        if "\\u" in line and (wrong := _NEVER_SENT.search("".join((*texts, *texts.values())))):
            yield Row("", {}, place, f"holds \\u{ord(wrong[0]):04x}, which cannot be sent")
        elif fault:
            yield Row(texts.get(reading.email, ""), {}, place, fault)
        elif problems := name_problems(reading, texts):
            raise CampaignError(problems)
        elif any(texts.values()):
            yield named_row(reading, texts, place)


def _pairs(line: str, place: str) -> Pairs:
    try:
        pairs = _DECODE(line)
    except json.JSONDecodeError as error:
        message = f"is not JSON: {error.msg} at character {error.pos + 1}"
    except (ValueError, RecursionError) as error:
        message = f"is not JSON: {error}"
    else:
        if isinstance(pairs, tuple):
            return pairs
        message = "is not a JSON object"
    raise CampaignError([Problem(place, f'{message}; each line must be like {{"email": …}}')])


def _texts(pairs: Pairs) -> tuple[dict[str, str], str | None]:
    """The plain values as text, and what is wrong with one."""
    texts: dict[str, str] = {}
    fault = None
    for key, value in pairs:
        if key in texts:
            fault = f"names {quoted(key)} twice"
        elif isinstance(value, (tuple, list)):
            fault = f"the value of {quoted(key)} is not a plain value"
        else:
            texts[key] = value if isinstance(value, str) else _WORDS[value]
    return texts, fault
