"""What a run says when it ends: what became of everyone, and what to type next."""

import sqlite3
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from typing import Any

import click
from rich.console import Console

from bulkmail.campaign.files import shown
from bulkmail.cli import text
from bulkmail.cli.options import ledger_home
from bulkmail.cli.plan import TO_LOOK_AT, Plan
from bulkmail.cli.show import show_message
from bulkmail.delivery import Stop
from bulkmail.errors import ExitStatus, LedgerError
from bulkmail.model import FILTERED, State
from bulkmail.report.groups import grouped, in_a_line
from bulkmail.sandbox import Sandbox

NOT_THERE = (*TO_LOOK_AT, State.DEFERRED)
"""Who was tried, and does not have it, or may not."""
LINES = 5
"""So many reasons are told."""

UNFINISHED = (State.PENDING, State.IN_FLIGHT, State.DEFERRED)


@dataclass(frozen=True)
class Summary:
    """The end of a run. `tally` counts the whole campaign, `seconds` this run."""

    plan: Plan
    tally: dict[State, int]
    seconds: float
    stop: Stop | None
    sandbox: Sandbox | None

    @property
    def status(self) -> ExitStatus:
        if any(self.tally.get(state) for state in UNFINISHED):
            return self.stop.status if self.stop is not None else ExitStatus.CONTINUE
        if self.stop is not None and self.tally.get(State.CANCELLED):
            return self.stop.status
        if any(self.tally.get(state) for state in TO_LOOK_AT):
            return ExitStatus.LOOK
        return ExitStatus.DONE

    def as_json(self) -> dict[str, Any]:
        """The last line of `--json`."""
        told: dict[str, Any] = {
            "event": "summary",
            "campaign": self.plan.campaign.name,
            "states": self.tally,
            "sent": self.tally.get(State.ACCEPTED, 0) - self.plan.accepted,
            "seconds": round(self.seconds, 3),
        }
        if self.plan.remarks:
            told["remarks"] = self.plan.remarks
        if self.stop is not None:
            told["stopped"] = self.stop.reason
        return told

    def show(self) -> None:
        """For a person, on standard output; why it stopped, on standard error."""
        if self.stop is not None:
            click.echo(f"stopped: {self.stop.reason}", err=True)
        if self.sandbox is not None:
            self._show_last_message(self.sandbox)
        if self._nothing_to_do:
            name = self.plan.campaign.name
            click.echo(
                f'all {self.plan.accepted:,} already have "{name}";'
                " for something new give it a new name"
            )
        else:
            click.echo(" · ".join(self._result()))
            for line in self._groups():
                click.echo(f"  {text.visible(line)}")
        for line in self._next_steps():
            click.echo(f"  {line}")

    @property
    def _nothing_to_do(self) -> bool:
        return self.plan.unsent == 0 and self.status is ExitStatus.DONE

    def _result(self) -> list[str]:
        found, tally = self.plan.found, self.tally
        parts = [text.states({s: n for s, n in tally.items() if s not in FILTERED})]
        if found.invalid:
            parts.append(f"{found.invalid} filtered ({self._filtered()})")
        if found.duplicates:
            parts.append(f"{found.duplicates} duplicate" + "s" * (found.duplicates > 1))
        if self.plan.unsent:
            parts.append(text.duration(self.seconds))
        if self.sandbox is not None:
            parts.append("nothing left this computer")
        return parts

    def _groups(self) -> Iterator[str]:
        """Who did not get it, or may not have: a line for each reason, the largest first."""
        if not any(self.tally.get(state) for state in NOT_THERE):
            return
        home = ledger_home(self.plan.campaign, self.sandbox is not None)
        try:
            with closing(home.view()) as ledger:
                found = grouped(ledger.not_accepted(self.plan.record))
        except (LedgerError, sqlite3.Error):  # the run has ended as it has
            return
        groups = [group for group in found if group.state in NOT_THERE]
        for group in groups[:LINES]:
            yield in_a_line(group)
        if more := groups[LINES:]:
            people = text.people(sum(group.number for group in more))
            yield f"{people} for {len(more)} other reason" + "s" * (len(more) > 1)

    def _filtered(self) -> str:
        """`members.csv:9 is not of the form …, :21 …`, as many as were remembered."""
        rows = [
            (place, why) for place, state, why in self.plan.found.filtered if state is State.INVALID
        ]
        places = text.short_places([place for place, _ in rows])
        told = ", ".join(f"{place} {why}" for place, (_, why) in zip(places, rows, strict=True))
        return told + (" …" if self.plan.found.invalid > len(rows) else "")

    def _show_last_message(self, sandbox: Sandbox) -> None:
        kept = list(sandbox.kept())
        if kept:
            show_message(
                Console(), kept[-1].read_bytes(), f"{len(kept):,} in the sandbox, the last one"
            )

    def _next_steps(self) -> Iterator[str]:
        """What to type now."""
        file = self.plan.campaign.path
        flag = " --sandbox" if self.sandbox is not None else ""
        if any(self.tally.get(state) for state in UNFINISHED):
            yield f"go on:          bulkmail run {file}{flag}"
        looks = [state for state in TO_LOOK_AT if self.tally.get(state)]
        if looks:
            yield f"who, and why:   bulkmail report {file}{flag} --state {','.join(looks)}"
        elif self.sandbox is None and self.tally.get(State.ACCEPTED):
            yield f"who got it:     bulkmail report {file}"
        if self.tally.get(State.IN_DOUBT) and self.sandbox is None:
            yield f"they have it:   bulkmail settle {file} --accepted"
            yield f"send again:     bulkmail retry {file} --state in_doubt"
        if follow_up := [state for state in looks if state is not State.IN_DOUBT]:
            source = f"{{campaign: {self.plan.campaign.name}, states: [{', '.join(follow_up)}]}}"
            yield f"write to them:  a new campaign with  recipients: [{source}]"
        if self.sandbox is not None:
            yield from self._after_rehearsal(self.sandbox)

    def _after_rehearsal(self, sandbox: Sandbox) -> Iterator[str]:
        file = self.plan.campaign.path
        yield f"the inbox:      {shown(sandbox.maildir)}/new  (a Maildir: mutt -f opens it)"
        yield f"who, and why:   bulkmail report {file} --sandbox"
        yield f"look at them:   bulkmail preview {file} --sandbox"
        yield "rehearse again: the same command"
        yield "your own:       bulkmail init my-news"
