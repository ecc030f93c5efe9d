"""Who is written to. What a server thinks of them is in their addresses."""

import random
from dataclasses import dataclass
from enum import StrEnum

DOMAIN = "people.test"


class Reception(StrEnum):
    TAKEN = "person"
    UNKNOWN = "unknown"
    """Refused at RCPT, 550, by either server."""
    LATER = "later"
    """Refused for now at RCPT, 450 or 451, the first time."""


@dataclass(frozen=True, slots=True)
class Person:
    number: int
    reception: Reception

    @property
    def address(self) -> str:
        return f"{self.reception}{self.number}@{DOMAIN}"


def people(seed: str, number: int, unknown: int = 0, later: int = 0) -> list[Person]:
    """So many people, of whom so many are refused, in an order that the seed decides."""
    receptions = [Reception.UNKNOWN] * unknown + [Reception.LATER] * later
    receptions += [Reception.TAKEN] * (number - len(receptions))
    random.Random(f"people {seed}").shuffle(receptions)
    return [Person(index, reception) for index, reception in enumerate(receptions)]
