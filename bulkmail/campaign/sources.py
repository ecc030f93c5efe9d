"""Recipient sources as rows, streamed: nothing is decided here about who is written to."""

import csv
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TextIO

from bulkmail.campaign.file import FileSource, Person
from bulkmail.errors import CampaignError, MissingFileError, Problem
from bulkmail.model import Row


def person_row(person: Person, place: str) -> Row:
    """A person of the campaign file itself, at `place`."""
    fields = {name: value.strip() for name, value in person.root.items()}
    return Row(fields.pop("email"), fields, place)


def csv_rows(source: FileSource, path: Path, place: str) -> Iterator[Row]:
    """The rows of a CSV file. `place` is where the campaign names it.

    Raises MissingFileError, or CampaignError for a wrong encoding, heading or quote.
    """
    if path.suffix.lower() != ".csv":
        message = (
            f"{source.file}: only .csv is read so far; .tsv and .jsonl come in a later version"
        )
        raise CampaignError([Problem(place, message)])
    try:
        with path.open(encoding=_with_bom(source.encoding), newline="") as file:
            yield from _rows(source, file, path.name, place)
    except LookupError:
        message = f'unknown encoding "{source.encoding}"; usual ones are utf-8, cp949, latin-1'
        raise CampaignError([Problem(place, message)]) from None
    except UnicodeDecodeError:
        raise CampaignError([_encoding_problem(source, path)]) from None
    except OSError as error:
        raise MissingFileError([Problem(place, f"{path}: {error.strerror}")]) from None


def _rows(source: FileSource, file: TextIO, name: str, place: str) -> Iterator[Row]:
    reader = csv.reader(file, strict=True)
    try:
        header = [cell.strip() for cell in next(reader, [])]
        email_at, aliases = _columns(source, header, name, place)
        line = reader.line_num + 1
        for cells in reader:
            if cells:
                yield _row(cells, header, email_at, aliases, f"{name}:{line}")
            line = reader.line_num + 1
    except csv.Error as error:
        message = f"{error}; is a quote left open above?"
        raise CampaignError([Problem(f"{name}:{reader.line_num}", message)]) from None


def _columns(
    source: FileSource, header: list[str], name: str, place: str
) -> tuple[int, dict[str, int]]:
    """The position of the address, and the positions of columns that templates call otherwise."""
    columns = {"email": "email", **source.columns}
    problems = []
    twice = {heading for heading in header if heading and header.count(heading) > 1}
    if twice:
        problems.append(Problem(f"{name}:1", f'the heading "{min(twice)}" stands twice'))
    for alias, heading in columns.items():
        if heading not in header:
            seen = ", ".join(header) or "nothing"
            message = f'no column "{heading}" for "{alias}"; {name} has: {seen}'
            if alias not in source.columns:
                message += ". Say which it is with `columns: {email: …}`"
            problems.append(Problem(place, message))
    if problems:
        raise CampaignError(problems)
    positions = {alias: header.index(heading) for alias, heading in columns.items()}
    return positions.pop("email"), positions


def _row(
    cells: list[str], header: list[str], email_at: int, aliases: Mapping[str, int], place: str
) -> Row:
    cells = [cell.strip() for cell in cells]
    address = cells[email_at] if email_at < len(cells) else ""
    if len(cells) != len(header):
        return Row(address, {}, place, f"has {len(cells)} cells; the header has {len(header)}")
    fields = dict(zip(header, cells, strict=True))
    fields.pop(header[email_at])
    fields.update((alias, cells[position]) for alias, position in aliases.items())
    return Row(address, fields, place)


def _with_bom(encoding: str) -> str:
    return "utf-8-sig" if encoding.lower().replace("_", "-") in ("utf-8", "utf8") else encoding


def _encoding_problem(source: FileSource, path: Path) -> Problem:
    """Reads again to find the line. Only files that are wrong pay for this."""
    with path.open("rb") as file:
        for number, line in enumerate(file, 1):
            try:
                line.decode(source.encoding)
            except UnicodeDecodeError as error:
                what = f"byte {line[error.start]:#04x} is not {source.encoding}"
                hint = ""
                if source.encoding.lower().startswith("utf") and _decodes(line, "cp949"):
                    hint = "; a file saved by Korean Excel needs `encoding: cp949`"
                return Problem(f"{path.name}:{number}", what + hint)
    return Problem(path.name, f"is not {source.encoding}")


def _decodes(line: bytes, encoding: str) -> bool:
    try:
        line.decode(encoding)
    except UnicodeDecodeError:
        return False
    return True
