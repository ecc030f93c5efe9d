"""What the columns of a file are called, in the file and in templates, and what is wrong there.

Promises that a name means one thing, and that a mistake is told with what to write instead.
Refuses to know how a file is written: a CSV's headings and a JSON object's keys are names alike.
"""

import difflib
import json
import unicodedata
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

from bulkmail.campaign.sources.lines import MAX_PROBLEMS, Reading
from bulkmail.campaign.values import OWN_NAMES
from bulkmail.errors import CampaignError, Problem
from bulkmail.model import Row

_MAX_SHOWN = 20
_TEMPLATES_OWN = tuple(sorted(OWN_NAMES - {"email"}))
_MAIL = ("mail", "메일", "전자우편")


def named_row(reading: Reading, texts: dict[str, str], place: str) -> Row:
    """`texts`, by their names in the file, as fields: by those names, and by those of `columns`.

    A name of `columns` that is not there is left out: a template that needs it will miss it.
    """
    for alias, heading in reading.source.columns.items():
        if heading in texts:
            texts[alias] = texts[heading]
    address = texts.pop("email", None)
    if address is None:
        return Row("", {}, place, f"has no {quoted(reading.email)}")
    return Row(address, texts, place)


def name_problems(reading: Reading, names: Collection[str]) -> list[Problem]:
    """Names that templates would not understand, or would understand twice."""
    columns = reading.source.columns
    problems = []
    for alias, heading in columns.items():
        if alias != heading and alias in names:
            message = f'columns: "{alias}" is {quoted(heading)}, but {reading.name} has "{alias}"'
            problems.append(Problem(reading.place, f"{message} too; rename one of them"))
    for name in () if reading.is_exclude else _TEMPLATES_OWN:
        if name in columns or (name in names and name not in columns.values()):
            renamed = {a: h for a, h in columns.items() if a != name}
            renamed[f"{name}_"] = columns.get(name, name)
            message = f'{reading.name}: "{name}" has a meaning of its own in templates'
            message += f"; rename it there, or here by {_mapping(renamed)}"
            problems.append(Problem(reading.place, message))
    return problems


@dataclass(frozen=True, slots=True)
class Headings:
    """The heading line of a table, in which every name of `columns` was found."""

    reading: Reading
    header: Sequence[str]
    address_at: int
    unnamed: Sequence[int]

    def row(self, cells: list[str], place: str) -> Row:
        if missing := len(self.header) - len(cells):
            # Excel leaves out empty cells at the end: no harm where they have no heading.
            if missing < 0 or any(self.header[len(cells) :]):
                fault = f"has {len(cells)} cells; the header has {len(self.header)}"
                return self._faulty(cells, place, fault)
            cells = cells + [""] * missing
        texts = dict(zip(self.header, cells, strict=True))
        for position in self.unnamed:
            if cells[position]:
                fault = f"has text in column {position + 1}, which has no heading"
                return self._faulty(cells, place, fault)
            texts.pop("", None)
        return named_row(self.reading, texts, place)

    def _faulty(self, cells: Sequence[str], place: str, fault: str) -> Row:
        address = cells[self.address_at] if self.address_at < len(cells) else ""
        return Row(address, {}, place, fault)


def read_headings(reading: Reading, header: Sequence[str], place: str) -> Headings:
    """Raises CampaignError with all that is wrong with the heading line, which is at `place`."""
    counts = Counter(filter(None, header))
    if not counts:
        raise reading.wrong(f"{reading.name} is empty; its first line must hold the headings")
    if any("\0" in heading for heading in counts):
        message = "the heading line holds NUL characters; is the file UTF-16? `encoding: utf-16-le`"
        raise CampaignError([Problem(place, message)])
    problems = name_problems(reading, counts)
    problems += [
        Problem(place, f"the heading {quoted(heading)} stands twice")
        for heading, number in counts.items()
        if number > 1
    ]
    columns = reading.source.columns
    if columns and columns.keys() <= counts.keys() and not counts.keys() & set(columns.values()):
        turned = {heading: alias for alias, heading in columns.items()}
        raise reading.wrong(f"`columns` is the other way round; write {_mapping(turned)}")
    problems += [
        Problem(reading.place, _missing(reading, alias, heading, header))
        for alias, heading in {"email": "email", **reading.source.columns}.items()
        if heading not in counts
    ]
    if problems:
        raise CampaignError(problems[:MAX_PROBLEMS])
    unnamed = [position for position, heading in enumerate(header) if not heading]
    return Headings(reading, header, header.index(reading.email), unnamed)


def _missing(reading: Reading, alias: str, heading: str, header: Sequence[str]) -> str:
    wanted = quoted(heading) + (f' for "{alias}"' if alias != heading else "")
    shown = ", ".join(map(_clean, header[:_MAX_SHOWN])) + ", …" * (len(header) > _MAX_SHOWN)
    message = f"no column {wanted}; {reading.name} has: {shown}"
    if any("@" in cell for cell in header):
        return f"{message}. The first line must hold the headings"
    if near := _near(alias, heading, header):
        return f"{message}. Write {_mapping({**reading.source.columns, alias: near})}"
    return f"{message}. Say which it is with `columns: {{{alias}: …}}`"


def _near(alias: str, heading: str, header: Sequence[str]) -> str | None:
    """The heading that was probably meant."""
    keys = {unicodedata.normalize("NFC", cell).casefold(): cell for cell in header if cell}
    near = difflib.get_close_matches(heading.casefold(), keys, n=1)
    if not near and alias == "email":
        near = sorted((key for key in keys if any(word in key for word in _MAIL)), key=len)
    return keys[near[0]] if near else None


def _mapping(columns: Mapping[str, str]) -> str:
    """As it can be pasted into a campaign file: JSON is YAML."""
    text = json.dumps(columns, ensure_ascii=False)
    return f"`columns: {text if text.isprintable() else json.dumps(columns)}`"


def quoted(text: str) -> str:
    return f'"{_clean(text)}"'


def _clean(text: str) -> str:
    """Short, and nothing that a terminal acts on."""
    clean = "".join(c if c.isprintable() else "\ufffd" for c in text[:40])
    return clean if len(text) <= 40 else f"{clean}…"
