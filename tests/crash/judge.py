"""What a ledger says, what the server took, and what everybody should have: do they agree?

Knows nothing of bulkmail but the names of states and of the ledger's columns; what everybody should
have is written here a second time, by hand. Pure but for `taken_in` and `ledger_in`, which read.
"""

import email
import email.policy
import html
import json
import shutil
import sqlite3
import tempfile
from collections import defaultdict
from collections.abc import Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from email.header import decode_header, make_header
from email.message import EmailMessage
from email.utils import parseaddr
from enum import StrEnum
from pathlib import Path

from .people import Person, Reception

FINAL = ("accepted", "failed", "in_doubt")
HAS_IT = ("accepted", "in_flight")
"""States of those whose last copy, if the server took it, is not accounted for by a doubt."""


@dataclass(frozen=True, slots=True)
class Copy:
    """A message that the server took responsibility for."""

    to: str
    content: bytes


@dataclass(frozen=True, slots=True)
class Entry:
    """A person in the ledger."""

    address: str
    state: str
    in_doubt_events: int = 0
    reply: str = ""
    message_id: str = ""


class Kind(StrEnum):
    LOST = "lost"
    DUPLICATE = "duplicate"
    CONTENT = "content"
    RECORD = "record"
    """The ledger says what is not so, or not what is so."""


@dataclass(frozen=True, slots=True)
class Fault:
    """A broken promise."""

    kind: Kind
    what: str

    def __str__(self) -> str:
        return f"{self.kind}: {self.what}"


@dataclass(frozen=True, slots=True)
class Evidence:
    """All that is known while no run is alive; `may_resend`: the author chose `in_doubt: resend`."""

    people: Sequence[Person]
    entries: Sequence[Entry]
    copies: Sequence[Copy]
    may_resend: bool
    _copies_of: dict[str, list[Copy]] = field(default_factory=lambda: defaultdict(list), init=False)

    def __post_init__(self) -> None:
        for copy in self.copies:
            self._copies_of[copy.to].append(copy)

    @property
    def doubts(self) -> int:
        """Events of doubt, those included that the next run will find. They never become fewer."""
        return sum(entry.in_doubt_events for entry in self.entries) + self.in_flight

    @property
    def in_flight(self) -> int:
        return sum(entry.state == "in_flight" for entry in self.entries)

    @property
    def unanswered(self) -> int:
        """So many were taken and not answered, as far as the ledger knows."""
        return sum(
            entry.state == "in_flight" and len(self._copies_of[entry.address]) > 0
            for entry in self.entries
        )

    def faults(self) -> list[Fault]:
        """What must be so after every death; contents are compared at the end."""
        known = {person.address: person for person in self.people}
        found = [
            Fault(Kind.CONTENT, f"{to} is nobody's address")
            for to in self._copies_of
            if to not in known
        ]
        entries = {entry.address: entry for entry in self.entries}
        if len(entries) != len(self.entries) or not entries.keys() <= known.keys():
            found.append(Fault(Kind.RECORD, "the ledger holds somebody twice, or a stranger"))
        for person in self.people:
            copies = self._copies_of[person.address]
            entry = entries.get(person.address)
            if entry is not None:
                found += self._about(person, entry, copies)
            elif copies:
                found.append(Fault(Kind.RECORD, f"{person.address} was sent to, not enrolled"))
        return found

    def faults_at_the_end(self) -> list[Fault]:
        """What must be so, too, when a run has ended with nobody left to send to."""
        entries = {entry.address: entry for entry in self.entries}
        final = FINAL[:-1] if self.may_resend else FINAL
        found = self.faults()
        for person in self.people:
            entry = entries.get(person.address)
            state = entry.state if entry else "not enrolled"
            if state not in final:
                found.append(Fault(Kind.LOST, f"{person.address} is {state} at the end"))
            copies = self._copies_of[person.address]
            if copies:
                found += _about_copies(person, copies, entry.message_id if entry else "")
        return found + list(_confused(self._copies_of))

    def _about(self, person: Person, entry: Entry, copies: list[Copy]) -> Iterator[Fault]:
        who = f"{person.address} ({entry.state}, {entry.in_doubt_events} events)"
        number = len(copies)
        if entry.state == "accepted" and not copies:
            yield Fault(Kind.LOST, f"{who} was never taken by the server")
        if number > entry.in_doubt_events + (entry.state in HAS_IT):
            kind = Kind.DUPLICATE if number > 1 else Kind.RECORD
            yield Fault(kind, f"{who} was taken {number} times")
        elif number > 1 and not self.may_resend:
            yield Fault(Kind.DUPLICATE, f"{who} was to be held, and was taken {number} times")
        yield from _about_reply(who, person, entry)


def _about_reply(who: str, person: Person, entry: Entry) -> Iterator[Fault]:
    """Nobody is charged with, or credited for, what was said about somebody else."""
    if entry.reply and not entry.reply.endswith(person.token):
        yield Fault(Kind.RECORD, f"{who} has somebody else's reply: {entry.reply}")
    code = {"accepted": "250", "failed": "550", "deferred": "450"}.get(entry.state)
    if code is not None and not entry.reply.startswith(code):
        yield Fault(Kind.RECORD, f"{who} has the reply {entry.reply!r}")
    if person.reception is Reception.REFUSED and entry.state in ("accepted", "deferred"):
        yield Fault(Kind.RECORD, f"{who} was refused for good")
    if person.reception is not Reception.REFUSED and entry.state == "failed":
        yield Fault(Kind.LOST, f"{who} was not refused for good")


def _about_copies(person: Person, copies: list[Copy], message_id: str) -> Iterator[Fault]:
    """They are one message, and it is the one that this person should have."""
    who, content = person.address, copies[0].content
    if any(copy.content != content for copy in copies):
        yield Fault(Kind.CONTENT, f"{who} has copies that differ")
    lines = content.split(b"\r\n")
    if b"\r" in b"".join(lines) or b"\n" in b"".join(lines) or max(map(len, lines)) > 998:
        yield Fault(Kind.CONTENT, f"{who} has lines that no message may have")
    message = _parsed(content)
    if message["Message-ID"] != message_id:
        yield Fault(Kind.RECORD, f"{who} is recorded with the Message-ID {message_id!r}")
    has = {
        "To": _mailbox(content),
        "Subject": str(message["Subject"]),
        "text": _body(message, "plain"),
        "HTML": html.unescape(_body(message, "html")),
    }
    for part, should_be in _should_have(person).items():
        if has[part] != should_be:
            yield Fault(Kind.CONTENT, f"{who} has as {part} {has[part]!r}, not {should_be!r}")


def _should_have(person: Person) -> dict[str, object]:
    return {
        "To": (person.name, person.address),
        "Subject": f"{person.name}, your token is {person.token}",
        "text": f"{person.name},\n\nthe token of {person.address} is\n.{person.token}\n",
        "HTML": f"<p>{person.name},</p>\n<p>the token of {person.address} is {person.token}</p>\n",
    }


def _confused(copies_of: dict[str, list[Copy]]) -> Iterator[Fault]:
    """A Message-ID belongs to one person."""
    owners: dict[str, str] = {}
    for to, copies in copies_of.items():
        for message_id in {str(_parsed(copy.content)["Message-ID"]) for copy in copies}:
            if (owner := owners.setdefault(message_id, to)) != to:
                yield Fault(Kind.CONTENT, f"{to} and {owner} have the same Message-ID")


def _parsed(content: bytes) -> EmailMessage:
    return email.message_from_bytes(content, policy=email.policy.default)


def _mailbox(content: bytes) -> tuple[str, str]:
    """Of `To`. The parser of the new policy keeps the folds between encoded words (RFC 2047 6.2)."""
    name, address = parseaddr(email.message_from_bytes(content)["To"] or "")
    return str(make_header(decode_header(name))), address


def _body(message: EmailMessage, subtype: str) -> str:
    part = message.get_body((subtype,))
    return str(part.get_content()).replace("\r\n", "\n") if part is not None else ""


# -- reading -------------------------------------------------------------------------------------


def taken_in(path: Path) -> list[Copy]:
    """What the server wrote down."""
    lines = path.read_text("ascii").splitlines() if path.exists() else []
    taken = map(json.loads, lines)
    return [Copy(line["to"], line["content"].encode("latin-1")) for line in taken]


def ledger_in(path: Path) -> list[Entry]:
    """Everyone in the ledger. A copy is read, so that the next run finds what the dead one left.

    Raises AssertionError if it is no sound database.
    """
    with tempfile.TemporaryDirectory() as folder:
        for file in path.parent.glob(f"{path.name}*"):
            if file.suffix != ".lock" and not file.name.endswith("-shm"):
                shutil.copy(file, folder)
        with closing(sqlite3.connect(Path(folder) / path.name)) as db:
            assert db.execute("PRAGMA integrity_check").fetchone() == ("ok",)
            if not db.execute("SELECT 1 FROM sqlite_master WHERE name = 'recipient'").fetchone():
                return []
            rows = db.execute(
                "SELECT address, state, in_doubt_events, reply, message_id FROM recipient"
            )
            return [Entry(*row) for row in rows]
