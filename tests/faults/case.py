"""A case: what a server does, and what is expected of the run; then what was seen.

People are numbered from 0, and what became of them is told by a letter each, in their order:
A accepted, P pending, D deferred, F failed, X in doubt, E expired; `AAFAA` is person 2 refused.
`A*60` is sixty of them. `AAP[AP]P`: person 3's message was on its way already, or was not.
"""

import re
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field, replace
from enum import Enum
from typing import Any

from bulkmail.model import State

LAST_ROW = 31

LETTERS = {
    State.ACCEPTED: "A",
    State.PENDING: "P",
    State.DEFERRED: "D",
    State.FAILED: "F",
    State.IN_DOUBT: "X",
    State.EXPIRED: "E",
    State.IN_FLIGHT: "!",
}


class Wire(Enum):
    """What the server announces, where it matters."""

    PLAIN = "plain"
    PIPELINING = "pipelining"
    CHUNKING = "chunking"
    """With PIPELINING."""
    NONE = "-"


@dataclass(frozen=True)
class Expected:
    """What a case must come to; what is None is not looked at.

    `end` is the exit status, 0 if all were settled; `says` is a regular expression for the reason.
    `connections` counts attempts to connect; `taken` has a digit for each person, as a regular
    expression: how many copies the server is responsible for. By default, one of each who is
    accepted, none of the others, and of those in doubt either.
    """

    people: str
    end: int = 0
    says: str | None = None
    logins: int | None = None
    connections: int | None = None
    taken: str | None = None

    def __str__(self) -> str:
        counts = [
            f"{number} {name}"
            for number, name in ((self.logins, "logins"), (self.connections, "connections"))
            if number is not None
        ]
        says = [f"says {self.says!r}"] if self.says else []
        taken = [f"taken {self.taken}"] if self.taken else []
        return ", ".join([shortened(self.people), f"end {self.end}", *counts, *taken, *says])


@dataclass
class Seen:
    """What came of a case. `notes` are what must never be, whatever the case."""

    people: str
    end: int
    reason: str
    logins: int
    connections: int
    taken: str
    notes: list[str] = field(default_factory=list)

    def against(self, expected: Expected) -> list[str]:
        """What differs."""
        differing = [
            f"{name} {getattr(self, name)!r}"
            for name in ("end", "logins", "connections")
            if getattr(expected, name) not in (None, getattr(self, name))
        ]
        if not re.fullmatch(expected.people, self.people):
            differing.append(f"people {self.people!r}")
        if expected.taken is not None and not re.fullmatch(expected.taken, self.taken):
            differing.append(f"taken {self.taken!r}")
        if expected.says is not None and not re.search(expected.says, self.reason):
            differing.append(f"reason {self.reason!r}")
        if expected.taken is None and not _is_fair(self.people, self.taken):
            differing.append(f"taken {self.taken!r}")
        return differing + self.notes

    def __str__(self) -> str:
        counts = f"{self.logins} logins, {self.connections} connections"
        taken = [f"taken {shortened(self.taken)}"] if "X" in self.people else []
        return ", ".join([shortened(self.people), f"end {self.end}", counts, *taken])


def _is_fair(people: str, taken: str) -> bool:
    """Whether who is accepted has one copy, who is in doubt one at most, and the others none."""
    copies = {"A": "1", "X": "01"}
    return all(
        number in copies.get(state, "0") for state, number in zip(people, taken, strict=True)
    )


def shortened(people: str) -> str:
    """`AAAAAAAAAAAAAAA` as `A*15`; short ones as they are."""
    if len(people) <= 12 or not people.isalnum():
        return people
    runs = re.findall(r"((.)\2*)", people)
    return " ".join(f"{letter}*{len(run)}" if len(run) > 1 else letter for run, letter in runs)


Act = Callable[[Any], Awaitable[Seen]]
"""Of a `World`, that is; it runs a campaign and says what was seen."""


@dataclass(frozen=True)
class Case:
    """`twin` tells that it is a near miss, which must not trigger what the row is about.

    `wrong_today` is why it fails at present: then it must fail.
    """

    row: int
    label: str
    wire: Wire
    act: Act
    expected: Expected
    twin: bool = False
    wrong_today: str = ""

    @property
    def name(self) -> str:
        twin = "twin: " if self.twin else ""
        return f"{self.row:02} {twin}{self.label}, {self.wire.value}"


CASES: list[Case] = []
WITH_DATA = (Wire.PLAIN, Wire.PIPELINING)
ALL = (*WITH_DATA, Wire.CHUNKING)


def in_doubt(people: str, taken: str | None = None, **more: Any) -> Expected:
    """Some are, which is a run that asks for a look."""
    return Expected(people, 1, taken=taken, **more)


def case(
    row: int,
    label: str,
    act: Act,
    expected: Expected | str,
    end: int = 0,
    *,
    wires: tuple[Wire, ...] = ALL,
    chunked: Expected | str | None = None,
    twin: bool = False,
    wrong_today: str = "",
    **more: Any,
) -> None:
    """Adds a case for each wire mode; `more` is what else is expected.

    `chunked` is expected with CHUNKING, or of its people, if that differs, as it does where others'
    messages were out already.
    """
    if isinstance(expected, str):
        expected = Expected(expected, end, **more)
    if isinstance(chunked, str):
        chunked = replace(expected, people=chunked)
    for wire in wires:
        in_chunks = wire is Wire.CHUNKING
        this = chunked if chunked and in_chunks else expected
        CASES.append(Case(row, label, wire, act, this, twin, wrong_today))
