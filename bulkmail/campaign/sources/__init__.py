"""Files of people as rows, streamed: CSV (RFC 4180), TSV and JSON Lines, and lists of addresses.

Promises that no row and no cell is lost in silence, that places are right whatever is in the
cells, that encodings are never guessed, and that no more than one row is held. Refuses to know
who is written to: a row tells its own fault, no more.
"""

from collections.abc import Iterator, Sequence
from pathlib import Path

from bulkmail.address import address_check
from bulkmail.campaign.file import FileSource, Person
from bulkmail.campaign.sources.decoding import opened
from bulkmail.campaign.sources.delimited import delimited_rows
from bulkmail.campaign.sources.jsonlines import json_rows
from bulkmail.campaign.sources.lines import (
    MAX_PROBLEMS,
    AddressFault,
    Lines,
    Reading,
    Remark,
    standard_fault,
)
from bulkmail.errors import CampaignError, Problem
from bulkmail.model import Row

TABLES = (".csv", ".tsv", ".jsonl")
LISTS = (*TABLES, ".txt")


def person_row(person: Person, place: str) -> Row:
    """A person of the campaign file itself, at `place`."""
    fields = {name: value.strip() for name, value in person.root.items()}
    if any("\0" in text for item in fields.items() for text in item):
        return Row("", {}, place, "holds a NUL character")
    return Row(fields.pop("email"), fields, place)


def file_rows(
    source: FileSource,
    path: Path,
    place: str,
    remark: Remark,
    address_fault: AddressFault = standard_fault,
) -> Iterator[Row]:
    """The rows of a .csv, .tsv or .jsonl file. `place` is where the campaign names it.

    `address_fault` knows which addresses are sent to. Rows that hold nothing at all are skipped.
    Raises MissingFileError, or CampaignError where the file as a whole cannot be understood.
    """
    return _rows(Reading(source, path, place, remark, address_fault=address_fault), TABLES)


def address_rows(source: FileSource, path: Path, place: str) -> Iterator[tuple[str, str]]:
    """(address, `file:line`) of a list never to be sent to; a .txt has one address a line.

    A row that is broken, or holds no address that mail is sent to, raises CampaignError with up to
    10 of them: who stands there must not get mail. Also raises as `file_rows` does.
    """
    fault_of = address_check(".*")
    problems = []
    for row in _rows(Reading(source, path, place, lambda _: None, is_exclude=True), LISTS):
        if fault := row.fault or fault_of(row.address):
            problems.append(Problem(row.source, f"who stands here would not be excluded: {fault}"))
        else:
            yield row.address, row.source
        if len(problems) == MAX_PROBLEMS:
            break
    if problems:
        raise CampaignError(problems)


def _rows(reading: Reading, kinds: Sequence[str]) -> Iterator[Row]:
    kind = reading.path.suffix.lower()
    if kind not in kinds:
        which = f"{', '.join(kinds[:-1])} and {kinds[-1]}"
        save = "; save the table as CSV (UTF-8)" if kind in (".xlsx", ".xls", ".ods") else ""
        raise reading.wrong(f"{reading.source.file}: only {which} files are read{save}")
    with opened(reading) as file:
        if kind == ".txt":
            yield from _list_rows(Lines(file, reading.name))
        elif kind == ".jsonl":
            yield from json_rows(reading, file)
        else:
            yield from delimited_rows(reading, file, "\t" if kind == ".tsv" else None)
    reading.tell()


def _list_rows(lines: Lines) -> Iterator[Row]:
    """A plain list: one address a line; blank lines and those that begin with # do not count."""
    for line in lines:
        address, place = line.strip(), lines.end_row()
        if address and not address.startswith("#"):
            yield Row(address, {}, place)
