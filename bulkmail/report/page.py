"""The report as a page: one file of HTML that asks for nothing, holds no script and can be printed.

All that people and servers wrote is hostile until it is escaped: by Jinja2 what HTML obeys, by
`shown` what a reader's eye would.
"""

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from jinja2 import Environment, StrictUndefined
from markupsafe import Markup, escape

from bulkmail.model import FILTERED, UNSENT, State
from bulkmail.report.advice import Command, Shell
from bulkmail.report.curve import HEIGHT, WIDTH, Curve
from bulkmail.report.groups import TOP_DOMAINS, Group, Said, where
from bulkmail.smtp.meaning import without_ids

LEFT_OUT = FILTERED | {State.SUPPRESSED}

LISTED = 100
"""So many people of a group are listed at most."""
ROOM, LEAST_ROOM = 0.25, 0.14
"""The part of the width that two times need, on a narrow screen and on a wide one."""
LONGEST_TEXT = 400
"""Characters of anything that a person or a server wrote."""

_UNSEEN = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u115f\u1160\u180e\u200b\u200e\u200f\u2028-\u202e"
    "\u2060-\u206f\u3164\ufeff\ufff9-\uffff\ud800-\udfff]"
)
"""What cannot be seen and changes how the rest reads: controls; the overrides and isolates of
Unicode's bidirectional algorithm (UAX 9); invisible fillers. Joiners stay: scripts need them."""


_WORDS = {
    State.EXPIRED: "failed in time",
    State.CANCELLED: "given up",
    State.SUPPRESSED: "left out",
    State.DEFERRED: "to be tried again",
    State.PENDING: "to be sent",
}


@dataclass(frozen=True, slots=True)
class Listed:
    """Somebody of a group: `reason` is what is recorded, `name` may be empty."""

    address: str
    name: str
    source: str
    reason: str


@dataclass(frozen=True, slots=True)
class Section:
    """A group with the first of its people; `people` is empty where they were not asked for."""

    group: Group
    people: Sequence[Listed]
    commands: Sequence[Command]
    list_all: Command

    @property
    def what(self) -> str:
        """`failed`, `given up`: the state in a word or two."""
        return _WORDS.get(self.group.state) or self.group.state.replace("_", " ")

    @property
    def where(self) -> str:
        """At which domains, if that can help."""
        return "" if self.group.state in FILTERED else where(self.group, TOP_DOMAINS)

    @property
    def quoted(self) -> list[Said]:
        """What was said about them, if that says more than the meaning."""
        if self.group.state is State.DUPLICATE:
            return []
        return [said for said in self.group.said if said.example]

    def is_said(self, reason: str) -> bool:
        """Whether that stands above the list already, but for its ids."""
        said = without_ids(reason)
        return any(without_ids(other.example) == said for other in self.group.said)


@dataclass(frozen=True, slots=True)
class Label:
    """A time under the curve, `left` percent of the width; `day` where it is another one.

    `kind`: a `start` or an `end`; `minor` where a narrow screen has no room for it.
    """

    left: float
    time: str
    day: str
    kind: str


@dataclass(frozen=True, slots=True)
class Page:
    """All that the page says.

    `runs` are (began, ended), None where one has no end; `domains` are (domain, accepted, people)
    of the largest of `number_of_domains`; `after_doubt` of the accepted were sent to again although
    they might have had it, of `as_was_said` a person said that they have it; `when` gives a time
    in the reader's zone.
    """

    campaign: str
    shell: Shell
    read_at: float
    tally: Mapping[State, int]
    runs: Sequence[tuple[float, float | None]]
    after_doubt: int
    as_was_said: int
    domains: Sequence[tuple[str, int, int]]
    number_of_domains: int
    sections: Sequence[Section]
    curve: Curve | None
    when: Callable[[float], datetime]

    @property
    def accepted(self) -> int:
        return self.tally.get(State.ACCEPTED, 0)

    @property
    def unsent(self) -> int:
        states = {*UNSENT, State.IN_FLIGHT} - self._may_have
        return sum(self.tally.get(state, 0) for state in states)

    @property
    def failed(self) -> int:
        return self.tally.get(State.FAILED, 0) + self.tally.get(State.EXPIRED, 0)

    @property
    def in_doubt(self) -> int:
        return sum(self.tally.get(state, 0) for state in self._may_have)

    @property
    def _may_have(self) -> set[State]:
        """Who was in flight when a run was killed will be in doubt as soon as another one looks."""
        return {State.IN_DOUBT} if self.shell.under_way else {State.IN_DOUBT, State.IN_FLIGHT}

    @property
    def cancelled(self) -> int:
        return self.tally.get(State.CANCELLED, 0)

    @property
    def left_out(self) -> int:
        return sum(self.tally.get(state, 0) for state in LEFT_OUT)

    @property
    def people(self) -> int:
        """Everyone whom it was meant for."""
        return sum(self.tally.values()) - self.left_out

    @property
    def headline(self) -> str:
        """`9,812 of 10,000 people were sent it`."""
        done, people = self.accepted, self.people
        noun = "person" if people == 1 else "people"
        if not people:
            return "There was nobody to send it to"
        if not done and self.in_doubt:
            return f"Not known whether anybody of {people:,} {noun} has it"
        if not done:
            return f"None of {people:,} people was sent it" if people > 1 else "Nobody was sent it"
        were = "was" if done == 1 else "were"
        so_far = " so far" if self.unsent else ""
        if done < people:
            return f"{done:,} of {people:,} {noun} {were} sent it{so_far}"
        if people == 1:
            return "The one person on the list was sent it"
        return "Both people were sent it" if people == 2 else f"All {people:,} people were sent it"

    @property
    def chapters(self) -> list[tuple[str, str, list[Section]]]:
        """(title, what it says, its sections), as far as there are any."""
        chapters = (
            ("May have it, or not", "Nobody can know it from here.", self._may_have),
            (
                "Did not get it",
                "By what the server said, and what helps.",
                {State.FAILED, State.EXPIRED, State.CANCELLED},
            ),
            (
                "Still to be sent",
                "Nothing was decided about them yet.",
                {*UNSENT, State.IN_FLIGHT} - self._may_have,
            ),
            ("Left out", "Rows of the list that nothing was sent for.", LEFT_OUT),
        )
        found = (
            (title, why, [one for one in self.sections if one.group.state in states])
            for title, why, states in chapters
        )
        return [chapter for chapter in found if chapter[2]]

    @property
    def parts(self) -> list[tuple[str, int, str, str]]:
        """(class, number, name, what that means) of the people, in the order of the bar."""
        run = "the run that is under way" if self.shell.under_way else "the next run"
        parts = [
            ("ok", self.accepted, "accepted", self._accepted_means),
            ("doubt", self.in_doubt, "in doubt", "may have it: no answer came after the message"),
            ("bad", self.failed, "failed", "were refused, and do not have it"),
            ("wait", self.unsent, "still to be sent", f"{run} goes on with them"),
            ("off", self.cancelled, "given up", "before it was their turn"),
        ]
        return [part for part in parts if part[1] or part[0] == "ok"]

    @property
    def _accepted_means(self) -> str:
        if self.shell.is_rehearsal:
            return "the server on this computer kept it"
        return "the server took responsibility for it"

    @property
    def notes(self) -> list[str]:
        """What has to be known about the numbers."""
        notes = []
        if self.after_doubt:
            notes.append(
                f"{self.after_doubt:,} of the accepted may have it twice: what became of an earlier"
                " message is not known, and it was decided to send another."
            )
        if self.as_was_said:
            notes.append(
                f"{self.as_was_said:,} of the accepted were in doubt, until somebody said that they"
                " have it (bulkmail settle)."
            )
        if self.left_out:
            noun = "row of the list is" if self.left_out == 1 else "rows of the list are"
            notes.append(f"{self.left_out:,} {noun} not counted here ({self._left_out}).")
        return notes

    @property
    def _left_out(self) -> str:
        words = (
            (State.INVALID, "without a usable address"),
            (State.DUPLICATE, "for somebody who stands above"),
            (State.SUPPRESSED, "left out on purpose"),
        )
        return ", ".join(
            f"{number:,} {what}" for state, what in words if (number := self.tally.get(state))
        )

    @property
    def course(self) -> str:
        """When it was sent, and in how many runs."""
        if not self.runs:
            return "It was never sent."
        began = self.when(self.runs[0][0])
        runs = f"in {len(self.runs):,} runs" if len(self.runs) > 1 else "in one run"
        if self.shell.under_way:
            return f"Begun on {day(began)} at {began:%H:%M}, {runs}. A run is under way."
        ended = began if self.curve is None else self.when(self.curve.spans[-1].end_at)
        if f"{ended:%F %H:%M}" == f"{began:%F %H:%M}":
            return f"Sent on {day(began)} at {began:%H:%M}, {runs}."
        until = f"{ended:%H:%M}" if began.date() == ended.date() else f"{day(ended)}, {ended:%H:%M}"
        return f"Sent from {day(began)}, {began:%H:%M} to {until}, {runs}."

    @property
    def labels(self) -> list[Label]:
        """Under the curve, at both ends of each span that has room for them."""
        if self.curve is None:
            return []
        labels: list[Label] = []
        spans = self.curve.spans
        form = "%H:%M:%S" if self.curve.seconds < 180 * len(spans) else "%H:%M"
        last = None
        for span in spans:
            room = (span.x_end - span.x_start) / WIDTH
            ends = []
            if span is not spans[-1] or room > ROOM:
                ends.append((span.x_start, span.start_at, "start"))
            elif room > LEAST_ROOM:
                ends.append((span.x_start, span.start_at, "start minor"))
            if span is spans[-1]:
                ends.append((span.x_end, span.end_at, "end"))
            elif room > ROOM:
                ends.append((span.x_end, span.end_at, "end minor"))
            for x, at, kind in ends:
                time = self.when(at)
                is_new_day = time.date() != last and "minor" not in kind
                last = time.date() if "minor" not in kind else last
                day_ = f"{time.day} {time:%b}" if is_new_day else ""
                labels.append(Label(100 * x / WIDTH, f"{time:{form}}", day_, kind))
        return labels


def page(template: str, told: Page) -> str:
    """The page; `template` is the text of `page.html.j2`."""
    environment = Environment(
        autoescape=True,
        keep_trailing_newline=True,
        undefined=StrictUndefined,
        finalize=_finalized,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {
        "number": "{:,}".format,
        "pause": pause,
        "day": day,
        "percent": percent,
        "short": short,
        "worded": _worded,
    }
    made = environment.from_string(template)
    return made.render(page=told, width=WIDTH, height=HEIGHT)


def shown(text: str) -> str:
    """Without what cannot be seen and changes how the rest reads."""
    return _UNSEEN.sub("\N{REPLACEMENT CHARACTER}", text)


def short(text: str) -> str:
    """As much of what a person or a server wrote as belongs on a page."""
    return text if len(text) <= LONGEST_TEXT else f"{text[:LONGEST_TEXT]} …"


def _finalized(value: Any) -> Any:
    return shown(value) if isinstance(value, str) and not isinstance(value, Markup) else value


def _worded(text: str) -> Markup:
    """A sentence of ours: what stands between backticks is a word of the campaign file."""
    pieces = text.split("`")
    return Markup("").join(
        Markup('<span class="word">{}</span>').format(piece) if number % 2 else escape(piece)
        for number, piece in enumerate(pieces)
    )


def day(at: datetime) -> str:
    return f"{at.day} {at:%B %Y}"


def pause(seconds: float) -> str:
    """`18 h`, `3 days`, `15 min`: rounded, and short."""
    for unit, name in ((86400, "days"), (3600, "h"), (60, "min")):
        if seconds >= 2 * unit:
            return f"{round(seconds / unit):,} {name}"
    return f"{max(1, round(seconds))} s"


def percent(part: int, whole: int) -> str:
    """Never 0 or 100 unless it is so."""
    if not whole:
        return "–"
    value = 100 * part / whole
    if 0 < value < 0.1:
        return "under 0.1 %"
    if 99.9 < value < 100:
        return "over 99.9 %"
    return f"{value:.0f} %" if value in (0, 100) else f"{value:.1f} %"
