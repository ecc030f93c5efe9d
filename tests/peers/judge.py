"""Do the ledger and the server's log agree? Pure, and written without bulkmail's own words for it."""

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum

from .logs import Copy, Log
from .people import Person, Reception

QUEUED_AS = re.compile(r"(?:queued as |id=)([\w-]+)")
"""How Postfix and Exim tell the name of a message that they have accepted."""


class Kind(StrEnum):
    LOST = "lost"
    TWICE = "twice"
    WRONG = "wrong"
    """The ledger says what is not so, or about somebody else."""


@dataclass(frozen=True, slots=True)
class Fault:
    kind: Kind
    what: str

    def __str__(self) -> str:
        return f"{self.kind}: {self.what}"


@dataclass(frozen=True, slots=True)
class Entry:
    """A person in the ledger; `refusals` are the replies that deferred them, in order."""

    address: str
    state: str
    reply: str
    message_id: str
    in_doubt_events: int = 0
    refusals: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Evidence:
    """All that is known when a campaign has ended and the server has nothing left to do."""

    people: Sequence[Person]
    entries: Sequence[Entry]
    log: Log
    may_resend: bool = False

    @property
    def accepted(self) -> int:
        return sum(entry.state == "accepted" for entry in self.entries)

    @property
    def refused(self) -> int:
        return sum(entry.state == "failed" for entry in self.entries)

    @property
    def refused_at_first(self) -> int:
        return sum(bool(entry.refusals) for entry in self.entries)

    @property
    def in_doubt(self) -> list[Entry]:
        return [entry for entry in self.entries if entry.state == "in_doubt"]

    @property
    def doubts(self) -> int:
        """Events of doubt, also of those who were resent to."""
        return sum(entry.in_doubt_events for entry in self.entries)

    @property
    def in_doubt_taken(self) -> int:
        """So many of those in doubt have it."""
        return sum(bool(self.log.taken.get(entry.address)) for entry in self.in_doubt)

    @property
    def again(self) -> int:
        """So many have it twice, whether they may or not."""
        return sum(len(copies) > 1 for copies in self.log.taken.values())

    def faults(self) -> list[Fault]:
        return [*self._strangers(), *self._faults_of_people()]

    def _strangers(self) -> Iterator[Fault]:
        known = {person.address for person in self.people}
        for address in (self.log.taken.keys() | self.log.refused.keys()) - known:
            yield Fault(Kind.WRONG, f"{address} is nobody's address")
        if len(self.entries) != len(known):
            yield Fault(Kind.WRONG, f"the ledger holds {len(self.entries)} of {len(known)} people")

    def _faults_of_people(self) -> Iterator[Fault]:
        entries: Mapping[str, Entry] = {entry.address: entry for entry in self.entries}
        for person in self.people:
            entry = entries.get(person.address)
            if entry is None:
                yield Fault(Kind.LOST, f"{person.address} is not in the ledger")
                continue
            who = f"{person.address} ({entry.state}, {entry.in_doubt_events} doubts)"
            copies = self.log.taken.get(person.address, [])
            if person.reception is Reception.UNKNOWN:
                yield from self._about_unknown(who, entry, copies)
            else:
                yield from self._about_known(who, entry, copies)
                yield from _about_copies(who, entry, copies)
            if person.reception is Reception.LATER:
                yield from self._about_later(who, entry)

    def _about_known(self, who: str, entry: Entry, copies: list[Copy]) -> Iterator[Fault]:
        held = entry.state == "in_doubt" and not self.may_resend
        if entry.state != "accepted" and not held:
            yield Fault(Kind.LOST, f"{who} is to be sent to: {entry.reply!r}")
        elif entry.state == "accepted" and not copies:
            yield Fault(Kind.LOST, f"{who} is not in the log")
        if held and not entry.in_doubt_events:
            yield Fault(Kind.WRONG, f"{who} has no event of doubt")
        allowed = 1 + entry.in_doubt_events if self.may_resend else 1
        if len(copies) > allowed:
            yield Fault(Kind.TWICE, f"{who} is in the log {len(copies)} times")

    def _about_unknown(self, who: str, entry: Entry, copies: list[Copy]) -> Iterator[Fault]:
        if entry.state != "failed" or not _says(entry.reply, "5", entry.address):
            yield Fault(Kind.WRONG, f"{who} is unknown to the server: {entry.reply!r}")
        if copies or set(self.log.refused.get(entry.address, ())) != {"5"}:
            yield Fault(Kind.WRONG, f"{who} is unknown to the server, and not so in the log")

    def _about_later(self, who: str, entry: Entry) -> Iterator[Fault]:
        digits = self.log.refused.get(entry.address, [])
        if digits != ["4"] or len(entry.refusals) != 1:
            yield Fault(Kind.WRONG, f"{who} is refused {digits}, in the ledger {entry.refusals}")
        elif not _says(entry.refusals[0], "4", entry.address):
            yield Fault(Kind.WRONG, f"{who} has another's refusal: {entry.refusals[0]!r}")


def _about_copies(who: str, entry: Entry, copies: list[Copy]) -> Iterator[Fault]:
    """All are the one message that the ledger knows, and the reply is about one of them."""
    if strange := {copy.message_id for copy in copies} - {entry.message_id.strip("<>")}:
        yield Fault(Kind.WRONG, f"{who} has {strange}, in the ledger {entry.message_id}")
    if entry.state == "accepted" and copies:
        told = QUEUED_AS.search(entry.reply)
        if told is None or told[1] not in {copy.queue_id for copy in copies}:
            yield Fault(Kind.WRONG, f"{who} has the reply to another message: {entry.reply!r}")


def _says(reply: str, digit: str, address: str) -> bool:
    return reply.startswith(digit) and f"<{address}>" in reply
