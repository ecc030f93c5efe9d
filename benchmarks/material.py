"""What every sender is given: people, templates, an attachment; and what each person is to get.

All of it is ASCII, in short lines, and the templates only insert values: that is what costs the
other senders least.
"""

import csv
import functools
import itertools
import random
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

PEOPLE, TEXT, HTML, ATTACHMENT = "people.csv", "letter.txt", "letter.html", "programme.bin"
"""Names of the files in the folder of a sender."""
AUTHOR = "news@example.org"
SUBJECT = "{{ name }}, the programme of {{ city }}"
ATTACHMENT_BYTES = 100_000

_CITIES = ("Aberdeen", "Bergen", "Busan", "Dresden", "Leiden", "Lyon", "Porto", "Seoul")
_GIVEN = ("Ada", "Bo", "Chris", "Dana", "Eun", "Finn", "Grace", "Hana", "Ines", "Jan")
_FAMILY = ("Kim", "Larsen", "Martin", "Novak", "Park", "Quist", "Rossi", "Silva", "Takeda")

_TOPICS = (
    "how a queue that is never empty came to be emptied all the same",
    "what to measure before anything is changed, and what afterwards",
    "letters that arrive: a talk on names, numbers and postmarks",
    "a workshop in which everybody brings a thing that does not work",
    "the long table: soup, bread, and questions to the speakers",
    "a walk along the river, with those who know its bridges",
    "short talks, five minutes each, by whoever has something to show",
    "music by the choir that was here last year, and a dance after it",
)
_TEXT = (
    "Dear {{ name }},\n\nthis is the programme of the days in {{ city }}. Your number is\n"
    "{{ number }}; please have it at hand when you come.\n\n"
    + "".join(f"  {n}. {topic}\n" for n, topic in enumerate(_TOPICS, 1))
    + "\nThe doors open at nine, and close when the last of us has gone.\n"
    "The room is on the first floor, and the lift goes there.\n"
    "Children are welcome, and so are dogs that like people.\n\n"
    "Who cannot come, {{ name }}, tells us by Thursday:\n"
    "    https://example.org/answer?number={{ number }}\n\n"
    "We look forward to seeing you in {{ city }}.\n\nThe people of the programme\n"
)
_HTML = (
    '<!DOCTYPE html>\n<html lang="en">\n<head><meta charset="utf-8"><title>Programme</title>\n'
    "<style>\nbody { font: 16px sans-serif }\nh1 { color: #135 } li { margin: 4px }\n</style>\n"
    "</head>\n<body>\n<h1>The programme of {{ city }}</h1>\n<p>Dear {{ name }},</p>\n"
    "<p>this is the programme of the days in {{ city }}. Your number is\n"
    "<b>{{ number }}</b>; please have it at hand when you come.</p>\n<ol>\n"
    + "".join(f"<li>{topic}</li>\n" for topic in _TOPICS)
    + "</ol>\n<p>The doors open at nine, and close when the last of us has gone.</p>\n"
    "<p>The room is on the first floor, and the lift goes there.\n"
    "Children are welcome, and so are dogs that like people.</p>\n"
    '<p><a href="https://example.org/answer?number={{ number }}">Who cannot come,\n'
    "{{ name }}, tells us by Thursday.</a></p>\n"
    "<p>We look forward to seeing you in {{ city }}.</p>\n<p>The people of the programme</p>\n"
    "</body>\n</html>\n"
)


@dataclass(frozen=True, slots=True)
class Person:
    email: str
    name: str
    city: str
    number: str


@dataclass(frozen=True, slots=True)
class Letter:
    """What arrives. Texts without the line end at their end, with LF."""

    subject: str
    text: str
    html: str
    attachments: tuple[bytes, ...]


def people(number: int) -> Iterator[Person]:
    for index in range(number):
        name = f"{_GIVEN[index % 10]} {_FAMILY[index % 9]}"
        city = _CITIES[index % 8]
        yield Person(f"person{index}@example.com", name, city, f"{index:07}")


@functools.cache
def attachment() -> bytes:
    return random.Random(5).randbytes(ATTACHMENT_BYTES)


def letter(person: Person, *, with_attachment: bool) -> Letter:
    """What `person` is to get, made without any template engine."""
    subject, text, html = (_filled(source, person) for source in (SUBJECT, _TEXT, _HTML))
    files = (attachment(),) if with_attachment else ()
    return Letter(subject, text.rstrip("\n"), html.rstrip("\n"), files)


def write(folder: Path, number: int) -> None:
    """The files that every sender reads."""
    (folder / TEXT).write_text(_TEXT)
    (folder / HTML).write_text(_HTML)
    (folder / ATTACHMENT).write_bytes(attachment())
    with (folder / PEOPLE).open("w", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(("email", "name", "city", "number"))
        writer.writerows((p.email, p.name, p.city, p.number) for p in people(number))


def _filled(source: str, person: Person) -> str:
    for name in ("name", "city", "number"):
        source = source.replace(f"{{{{ {name} }}}}", getattr(person, name))
    return source


def first(number: int) -> list[Person]:
    return list(itertools.islice(people(number), number))
