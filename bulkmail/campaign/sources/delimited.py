"""CSV (RFC 4180) and TSV: quotes, delimiters, and the rows below a heading line.

Promises that a quote that went wrong is told with the row in which it opens, and that nothing is
taken for a row with other cells than the heading line says. Refuses to know what the names mean.
"""

import csv
import io
from collections.abc import Iterator
from typing import TextIO

from bulkmail.address import address_check
from bulkmail.campaign.sources.columns import read_headings
from bulkmail.campaign.sources.lines import Lines, Reading
from bulkmail.errors import CampaignError, Problem
from bulkmail.model import Row

DELIMITERS = {",": "commas", ";": "semicolons", "\t": "tabs", "|": "vertical bars"}
_SAMPLE = 8_192
"""Characters in which the heading line is looked at; fewer than csv takes for one cell."""

_HIDDEN = "a cell holds a line break and an @; is a quote in this row left open?"


def delimited_rows(reading: Reading, file: TextIO, delimiter: str | None) -> Iterator[Row]:
    """The rows below the heading line, which tells the delimiter where none is given."""
    lines = Lines(file, reading.name)
    delimiter = delimiter or _delimiter(reading, file)
    records = _records(lines, delimiter)
    place, header = next(records, (lines.place, []))
    if any(map(_hides_lines, header)):
        raise CampaignError([Problem(place, _HIDDEN)])
    headings = read_headings(reading, [cell.strip() for cell in header], place)
    for place, written in records:
        cells = reading.trim(written)
        text = "".join(cells)
        if "\0" in text:
            yield Row("", {}, place, "holds a NUL character")
        elif reading.is_exclude and _hides_address(written, headings.address_at):
            yield Row("", {}, place, _HIDDEN)
        elif (
            not reading.is_exclude
            and len(text.splitlines()) > 1
            and _holds_rows(written, delimiter, len(header), headings.address_at)
        ):
            raise CampaignError([Problem(place, _HIDDEN)])
        elif text:
            yield headings.row(cells, place)


def _records(lines: Lines, delimiter: str) -> Iterator[tuple[str, list[str]]]:
    """Place and cells of everything but blank lines."""
    try:
        for cells in csv.reader(lines, delimiter=delimiter, strict=True):
            place = lines.end_row()
            if cells:
                yield place, cells
    except csv.Error as error:
        message = "a quote that opens in this row is never closed, or one in a cell is not doubled"
        raise CampaignError([Problem(lines.place, f"{message} ({error})")]) from None


def _delimiter(reading: Reading, file: TextIO) -> str:
    """The delimiter by which the heading line has the address, else most cells. Says which."""
    lines = io.StringIO(file.read(_SAMPLE), newline="").readlines()
    file.seek(0)

    def fitness(delimiter: str) -> tuple[bool, int]:
        cells = next(filter(None, csv.reader(lines, delimiter=delimiter)), [])
        return reading.email in map(str.strip, cells), len(cells)

    best = max(DELIMITERS, key=fitness)
    if best != ",":
        reading.remark(f"{reading.name}: cells are separated by {DELIMITERS[best]}")
    return best


def _hides_address(cells: list[str], address_at: int) -> bool:
    """Whether a cell may hold other rows, between a quote left open and the next one.

    Not so the address: a line break around it is trimmed, and one within it is a fault.
    """
    return _hides_lines("".join(cells)) and any(
        _hides_lines(cell) for at, cell in enumerate(cells) if at != address_at
    )


def _holds_rows(cells: list[str], delimiter: str, columns: int, address_at: int) -> bool:
    """Whether a quote left open has put other rows into a cell: a line of it is a row of its own,
    or a part of one.

    Such people would get nothing, and their data would go to somebody else.
    """
    is_address = address_check("standard")
    for cell in cells:
        if not ("@" in cell and delimiter in cell):
            continue
        for number, line in enumerate(cell.splitlines()):
            parts = line.split(delimiter)
            if len(parts) > 1 and any(map(_is_cell, parts, [*parts[1:], ""])):
                return True
            is_row = number > 0 and len(parts) == columns
            if is_row and is_address(parts[address_at].strip()) is None:
                return True
    return False


def _is_cell(part: str, following: str) -> bool:
    """Whether this is an address as it stands in a row. Prose has spaces around it."""
    return "@" in part and not following.startswith(" ") and address_check("standard")(part) is None


def _hides_lines(text: str) -> bool:
    return "@" in text and ("\n" in text or "\r" in text)
