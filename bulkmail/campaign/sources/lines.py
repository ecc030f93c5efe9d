"""One file of people while it is read: how the campaign names it, its lines and its cells.

Promises that places are right and that no row of over MAX_ROW characters is held. Refuses to know
what a row looks like or means.
"""

import operator
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import TextIO

from bulkmail.address import address_check
from bulkmail.campaign.file import FileSource
from bulkmail.errors import CampaignError, Problem

MAX_ROW = 1 << 20
MAX_PROBLEMS = 10
_MAX_PLACES = 3

Remark = Callable[[str], None]
"""Takes a sentence that a person should know, and that is no mistake."""

AddressFault = Callable[[str, str], str | None]
"""Tells why an address, which stands at a place, is not sent to; None if it is."""

_standard = address_check("standard")


def standard_fault(address: str, place: str) -> str | None:
    """By the standard pattern."""
    return _standard(address)


@dataclass(slots=True)
class Reading:
    """A file that the campaign names at `place`. Nobody in an exclude list is written to."""

    source: FileSource
    path: Path
    place: str
    remark: Remark
    is_exclude: bool = False
    address_fault: AddressFault = standard_fault
    _trimmed: int = 0
    _addresses: int = 0
    _addresses_at: list[str] = field(default_factory=list)

    @property
    def name(self) -> str:
        return self.path.name

    @property
    def email(self) -> str:
        """The heading of the address."""
        return self.source.columns.get("email", "email")

    def wrong(self, message: str) -> CampaignError:
        """An error at the campaign's own place."""
        return CampaignError([Problem(self.place, message)])

    def trim(self, written: list[str]) -> list[str]:
        """The cells without the spaces around them, which are counted."""
        cells = [cell.strip() for cell in written]
        if cells != written:
            self._trimmed += sum(map(operator.ne, cells, written))
        return cells

    def found_addresses(self, cells: int, place: str) -> None:
        """So many cells of the row hold several lines and an address, but no row of their own."""
        self._addresses += cells
        if cells and len(self._addresses_at) <= _MAX_PLACES:
            self._addresses_at.append(f":{place.rpartition(':')[2]}")

    def tell(self) -> None:
        """Remarks what was counted."""
        if self._trimmed:
            cells, it = ("cell", "it") if self._trimmed == 1 else ("cells", "them")
            told = f"{self._trimmed} {cells} had spaces around {it}, which were trimmed"
            self.remark(f"{self.name}: {told}")
        if self._addresses:
            cells, it = ("cell holds", "it") if self._addresses == 1 else ("cells hold", "them")
            places = self._addresses_at[:_MAX_PLACES]
            places += ["…"] * (len(self._addresses_at) > _MAX_PLACES)
            told = f"{self._addresses} {cells} several lines and an address ({', '.join(places)})"
            self.remark(f"{self.name}: {told}; nobody is sent to because of {it}")


class Lines:
    """The lines of a file, and where the row began that they belong to.

    Lines end with LF, CRLF or CR, where the file is opened with newline="", and with nothing else.
    Raises CampaignError before more than MAX_ROW characters of one row are held.
    """

    def __init__(self, file: TextIO, name: str) -> None:
        self._file = file
        self._name = name
        self._count = 0
        self._row_began = 1
        self._row_size = 0

    def __iter__(self) -> Iterator[str]:
        while line := self._file.readline(MAX_ROW):
            self._count += 1
            self._row_size += len(line)
            if self._row_size >= MAX_ROW:
                message = f"a row of over {MAX_ROW:,} characters; is a quote or line break missing?"
                raise CampaignError([Problem(self.place, message)])
            yield line

    @property
    def place(self) -> str:
        """Where the row began that is being read."""
        return f"{self._name}:{self._row_began}"

    def end_row(self) -> str:
        """The place of the row that was read; the lines from here on are of the next one."""
        place = self.place
        self._row_began = self._count + 1
        self._row_size = 0
        return place
