"""CSV (RFC 4180) and TSV: quotes, delimiters, and the rows below a heading line.

Promises that a quote that went wrong is told with the row in which it opens, and that nothing is
taken for a row with other cells than the heading line says. Refuses to know what the names mean.
"""

import csv
import io
import re
from collections.abc import Iterator, Sequence
from typing import TextIO

from bulkmail.campaign.sources.columns import Headings, read_headings
from bulkmail.campaign.sources.lines import Lines, Reading
from bulkmail.errors import CampaignError, Problem
from bulkmail.model import Row

DELIMITERS = {",": "commas", ";": "semicolons", "\t": "tabs", "|": "vertical bars"}
_SAMPLE = 8_192
"""Characters in which the heading line is looked at; fewer than csv takes for one cell."""

_LINE_END = re.compile(r"\r\n|\r|\n")
_HIDDEN = "a cell holds a line break and an @; is a quote in this row left open?"


def delimited_rows(reading: Reading, file: TextIO, delimiter: str | None) -> Iterator[Row]:
    """The rows below the heading line, which tells the delimiter where none is given."""
    lines = Lines(file, reading.name)
    delimiter = delimiter or _delimiter(reading, file)
    records = _records(lines, delimiter)
    place, header = next(records, (lines.place, []))
    if _hides_lines("".join(header)):
        _check_heading(reading, header, delimiter, place)
    headings = read_headings(reading, [cell.strip() for cell in header], place)
    for place, written in records:
        cells = reading.trim(written)
        text = "".join(written)
        if not reading.is_exclude and _hides_lines(text):
            _check_cells(reading, headings, written, delimiter, place)
        if "\0" in text:
            yield Row("", {}, place, "holds a NUL character")
        elif reading.is_exclude and _hides_address(written, headings.address_at):
            yield Row("", {}, place, _HIDDEN)
        elif any(cells):
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


def _check_heading(reading: Reading, header: list[str], delimiter: str, place: str) -> None:
    """Raises CampaignError where the heading line holds rows, and in a list where it may."""
    known = reading.email in map(str.strip, header)
    for rows in _rows_within(header, delimiter):
        names = [cell.strip() for cell in rows[0]]
        columns = () if known else range(len(names))
        at = [names.index(reading.email)] if reading.email in names else columns
        if reading.is_exclude or _are_people(reading, names, rows[1:], at, 1, place):
            raise CampaignError([Problem(place, _HIDDEN)])
    reading.found_addresses(sum(map(_hides_lines, header)), place)


def _check_cells(
    reading: Reading, headings: Headings, cells: list[str], delimiter: str, place: str
) -> None:
    """Raises CampaignError where a cell holds rows: these people would get nothing, and what
    stands about them would go to somebody else.
    """
    at = [headings.address_at]
    for rows in _rows_within(cells, delimiter):
        if _are_people(reading, headings.header, rows, at, 2, place):
            raise CampaignError([Problem(place, _HIDDEN)])
    reading.found_addresses(sum(_hides_lines(cell.rstrip()) for cell in cells), place)


def _rows_within(cells: list[str], delimiter: str) -> Iterator[list[list[str]]]:
    """For each cell that hides lines, the rows that there are if its quotes are but characters:
    a quote that is left open in one row, and another one in a later row.

    So the first line of the cell ends a row, and its last line begins one.
    """
    for at, cell in enumerate(cells):
        if _hides_lines(cell):
            first, *others = [line.split(delimiter) for line in _LINE_END.split(cell)]
            rows = [[*cells[:at], *first], *others]
            rows[-1] += cells[at + 1 :]
            yield [row for row in rows if any(map(str.strip, row))]


def _are_people(
    reading: Reading,
    header: Sequence[str],
    rows: Sequence[Sequence[str]],
    addresses_at: Sequence[int],
    least: int,
    place: str,
) -> bool:
    """Whether these are rows below that header, at least so many of them with an address.

    In text the numbers of cells do not fit. Among many rows that do, some may not.
    """
    shortest = max(at for at, heading in enumerate(header, 1) if heading)
    fitting = [row for row in rows if shortest <= len(row) <= len(header)]
    least += 2 * (len(rows) - len(fitting))
    if len(fitting) < least:
        return False

    def has_address(row: Sequence[str]) -> bool:
        texts = (row[at].strip() for at in addresses_at if at < len(row))
        return any(reading.address_fault(text, place) is None for text in texts)

    return sum(map(has_address, fitting)) >= least


def _hides_lines(text: str) -> bool:
    return "@" in text and ("\n" in text or "\r" in text)
