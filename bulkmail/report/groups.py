"""Those who did not get it, put together by state and by what is recorded of them."""

import heapq
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Protocol

from bulkmail.model import State
from bulkmail.smtp.meaning import Meaning, code_of, meaning, without_ids

TOP_DOMAINS = 5
TOP_REPLIES = 3
KINDS_OF_REPLIES = 100
"""So many are told apart in a group; a server could give another code to everyone."""

ORDER = (
    *(State.IN_DOUBT, State.FAILED, State.EXPIRED, State.DEFERRED, State.PENDING, State.IN_FLIGHT),
    *(State.CANCELLED, State.INVALID, State.SUPPRESSED, State.DUPLICATE),
)
"""Of the groups: first who needs somebody's attention."""


class Recorded(Protocol):
    """What the ledger has of a recipient, see `Recipient` there."""

    @property
    def state(self) -> State: ...
    @property
    def phase(self) -> str: ...
    @property
    def reply(self) -> str: ...
    @property
    def reason(self) -> str: ...


class Counted(Recorded, Protocol):
    """So many recipients of one domain of whom that is recorded."""

    @property
    def domain(self) -> str: ...
    @property
    def number(self) -> int: ...


@dataclass(slots=True)
class Said:
    """What was said to `number` people of a group, but for ids in it: to one of them, `example`."""

    code: str
    example: str
    number: int = 0


@dataclass(slots=True)
class Group:
    """People in one state of whom the same can be said."""

    state: State
    meaning: Meaning
    number: int = 0
    number_of_domains: int = 0
    _said: dict[str, Said] = field(default_factory=dict)
    _top: list[tuple[int, int, str]] = field(default_factory=list)
    """A heap of (people, when found, domain): the smallest first."""

    @property
    def said(self) -> list[Said]:
        """What was said to most of them, one example for replies that differ in ids only."""
        return sorted(self._said.values(), key=lambda said: -said.number)[:TOP_REPLIES]

    @property
    def domains(self) -> list[tuple[str, int]]:
        """The domains with most people of the group, and how many they are."""
        return [(domain, number) for number, _, domain in sorted(self._top, reverse=True)]

    @property
    def codes(self) -> list[str]:
        """Of what was said to most of them, each once."""
        return list(dict.fromkeys(said.code for said in self.said if said.code))

    def count(self, told: Counted) -> None:
        self.number += told.number
        kind = without_ids(told.reason)
        if kind in self._said or len(self._said) < KINDS_OF_REPLIES:
            code = code_of(told.reply) if told.reply == told.reason else ""
            said = self._said.setdefault(kind, Said(code, told.reason))
            said.number += told.number

    def count_domain(self, domain: str, number: int) -> None:
        """All of the group at one domain."""
        self.number_of_domains += 1
        heapq.heappush(self._top, (number, -self.number_of_domains, domain))
        if len(self._top) > TOP_DOMAINS:
            heapq.heappop(self._top)


Key = tuple[State, Meaning]


def key_of(recorded: Recorded) -> Key:
    """The group that somebody belongs to."""
    return recorded.state, meaning(recorded.state, recorded.phase, recorded.reply, recorded.reason)


def grouped(counted: Iterable[Counted]) -> list[Group]:
    """The groups of those who are `counted`, which must be sorted by domain; in `ORDER`, then the
    largest first. Memory does not grow with the people or the domains.
    """
    groups: dict[Key, Group] = {}
    here: dict[Key, int] = {}
    domain = ""
    for told in counted:
        if told.domain != domain:
            _end_domain(groups, domain, here)
            domain = told.domain
        key = key_of(told)
        here[key] = here.get(key, 0) + told.number
        groups.setdefault(key, Group(*key)).count(told)
    _end_domain(groups, domain, here)
    return sorted(groups.values(), key=lambda group: (ORDER.index(group.state), -group.number))


def _end_domain(groups: dict[Key, Group], domain: str, here: dict[Key, int]) -> None:
    for key, number in here.items():
        groups[key].count_domain(domain, number)
    here.clear()


def in_a_line(group: Group) -> str:
    """`3 failed: no such mailbox (5.1.1) · 2 at example.com, 1 at naver.com`."""
    codes = f" ({', '.join(group.codes)})" if group.codes else ""
    state = group.state.replace("_", " ")
    return f"{group.number:,} {state}: {group.meaning.name}{codes} · {where(group)}"


def where(group: Group, most: int = 3) -> str:
    """`2 at example.com, 1 at naver.com and 4 at 2 others`."""
    named = group.domains[:most]
    told = ", ".join(f"{number:,} at {domain or 'no domain'}" for domain, number in named)
    others = group.number_of_domains - len(named)
    if not others:
        return told
    left = group.number - sum(number for _, number in named)
    return f"{told} and {left:,} at {others:,} other" + "s" * (others != 1)
