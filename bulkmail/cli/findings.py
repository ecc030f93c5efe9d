"""What was found in the messages of a campaign, and for whom; bounded, however many there are."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import click

from bulkmail.cli import text
from bulkmail.compose.lint import Finding, Severity

MAX_PLACES = 3
MARGIN = 13
"""Columns, those of the facts above them."""
MAX_ALIKE = 5
"""Findings of one rule about one part, such as links, that are told one by one."""


@dataclass
class Places:
    """How many recipients something is about, and the sources of the first."""

    number: int = 0
    first: list[str] = field(default_factory=list)
    last: str = ""

    def add(self, source: str) -> None:
        """Adds a recipient, once if told twice in a row."""
        if source == self.last:
            return
        self.last = source
        self.number += 1
        if len(self.first) < MAX_PLACES:
            self.first.append(source)

    def __str__(self) -> str:
        more = self.number - len(self.first)
        return text.places(self.first) + (f" and {more:,} more" if more else "")


class Findings:
    """Each finding once, with whom it is about; None: it is about the campaign as a whole."""

    def __init__(self) -> None:
        self.everyone: int | None = None
        """How many recipients were looked at, if that was all of them."""
        self._found: dict[tuple[str, str], dict[Finding, Places | None]] = {}

    def add(self, finding: Finding, source: str | None) -> None:
        alike = self._found.setdefault((finding.rule, finding.place), {})
        if finding not in alike and len(alike) > MAX_ALIKE:
            finding = list(alike)[-1]
        elif finding not in alike and len(alike) == MAX_ALIKE:
            finding = finding._replace(what=f"more of the kind, such as {finding.what}")
        places = alike.setdefault(finding, None if source is None else Places())
        if places is not None and source is not None:
            places.add(source)

    def __iter__(self) -> Iterator[tuple[Finding, Places | None]]:
        """Errors first, else in the order in which they were found."""
        found = [each for alike in self._found.values() for each in alike.items()]
        yield from sorted(found, key=lambda each: each[0].severity is not Severity.ERROR)

    @property
    def has_errors(self) -> bool:
        return any(finding.severity is Severity.ERROR for finding, _ in self)

    def told(self) -> Iterator[tuple[Finding, str]]:
        """Each with a sentence: what is wrong, where, and for whom."""
        for finding, places in self:
            where = _where(finding)
            yield finding, text.visible(finding.what) + where + self._whom(places, where)

    def show(self) -> None:
        """For a person, on standard error; below each, how to mend it."""
        for number, (finding, sentence) in enumerate(self.told()):
            if not number:
                click.echo(err=True)
            colour = "red" if finding.severity is Severity.ERROR else "yellow"
            head = click.style(f"{finding.severity:<{MARGIN}}", fg=colour, bold=True)
            click.echo(f"{head}{sentence}", err=True)
            mend = click.style(f"{text.visible(finding.mend)} [{finding.rule}]", dim=True)
            click.echo(f"{'':{MARGIN}}{mend}", err=True)

    def as_json(self) -> list[dict[str, Any]]:
        return [
            finding._asdict()
            | ({} if places is None else {"recipients": places.number, "first": places.first})
            for finding, places in self
        ]

    def _whom(self, places: Places | None, where: str) -> str:
        if places is None:
            return ""
        if 1 < places.number == self.everyone:
            return ", for everyone"
        return f"{',' * bool(where)} for {text.recipients(places.number)}: {places}"


def _where(finding: Finding) -> str:
    """The parts of the letter, unless `what` names them."""
    is_named = finding.place.lower() in finding.what.lower()
    is_part = any(part in finding.place for part in ("subject", "text", "HTML"))
    return f", in the {finding.place}" if is_part and not is_named else ""
