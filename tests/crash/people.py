"""Who is written to: made from a seed, so that every part of the test knows the same people."""

import random
from dataclasses import dataclass
from enum import StrEnum

NAMES = (
    "Kim",
    "김서연",
    ".dot",
    "Ana & Söhne <b>",
    'Lee "Leo" O\'Neil',
    "멋쟁이 사자처럼 " * 8 + "끝",
)
"""What is escaped, stuffed, encoded and folded on its way."""


SLOW = "slow.example.com"
"""Whose rate may be lower than that of others."""


class Reception(StrEnum):
    """What the server says to RCPT."""

    TAKEN = "taken"
    REFUSED = "refused"
    LATER = "later"
    """Refused for now, the first time."""


@dataclass(frozen=True, slots=True)
class Person:
    """`token` stands in the subject, the body and the replies about this person, and nowhere else."""

    address: str
    name: str
    token: str
    reception: Reception


def people(seed: int, number: int) -> list[Person]:
    """So many people; one in sixteen is refused, and as many for now."""
    dice = random.Random(f"people {seed}")
    receptions = [Reception.TAKEN] * 14 + [Reception.REFUSED, Reception.LATER]
    return [
        Person(
            f"person{index}@{SLOW if index % 5 == 0 else 'example.com'}",
            dice.choice(NAMES).strip(),
            f"{dice.getrandbits(64):016x}",
            dice.choice(receptions),
        )
        for index in range(number)
    ]
