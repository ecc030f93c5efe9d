"""What is seen while a run sends: a live line on a terminal, or a plain line now and then.

Nobody has to look: the run goes on where what is shown cannot be written, or not in this encoding.
"""

import sys
import time
from datetime import datetime
from types import TracebackType

import click
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

from bulkmail.cli import text
from bulkmail.cli.unread import may_be_unread
from bulkmail.model import State

SECONDS_BETWEEN_LINES = 10.0
"""Without a terminal."""
SECONDS_BETWEEN_LOOKS = 0.1


class RunProgress:
    """Counts what is settled, of `total`, of whom so many are `deferred` from before."""

    def __init__(self, total: int, deferred: int = 0) -> None:
        self.counts: dict[State, int] = {State.DEFERRED: deferred}
        self._total = total
        self._by_all = self._workers = 0
        self._waits = ("", 0.0)
        self._next_look = time.monotonic()
        self._bar: Progress | None = None
        if not sys.stderr.isatty():
            self._next_look += SECONDS_BETWEEN_LINES
        else:
            self._bar = Progress(
                TextColumn("sending"),
                BarColumn(),
                TextColumn("{task.completed:,.0f}/{task.total:,.0f}"),
                TextColumn("{task.fields[told]}"),
                TimeRemainingColumn(),
                console=Console(stderr=True),
                transient=True,
            )
            self._task = self._bar.add_task("", total=total, told="")

    def __enter__(self) -> "RunProgress":
        if self._bar is not None:
            self._bar.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        tb: TracebackType | None,
    ) -> None:
        if self._bar is not None:
            self._show()
            self._bar.stop()

    def settled(self, state: State, *, was_deferred: bool) -> None:
        """One more recipient has come to `state`."""
        if was_deferred:
            self.counts[State.DEFERRED] -= 1
        self.counts[state] = self.counts.get(state, 0) + 1
        if time.monotonic() >= self._next_look:
            self._show()

    def waiting(self, why: str, at: float) -> None:
        """Nothing goes before `at`, in seconds since the epoch."""
        self._waits = f"{why} at {datetime.fromtimestamp(at):%H:%M:%S}", at
        if self._bar is not None:
            self._show()
        elif time.monotonic() >= self._next_look:
            self._look_again_in(SECONDS_BETWEEN_LINES)
            self.say(f"waiting: {self._waits[0]}")

    def left(self, people: int, workers: int) -> None:
        """So many are left for all `workers` together, who settle some that are not told here."""
        self._by_all = self._total - people
        self._workers = workers
        if time.monotonic() >= self._next_look:
            self._show()

    def _show(self) -> None:
        done = max(self._by_all, sum(self.counts.values()) - self.counts[State.DEFERRED])
        states = text.states(self.counts)
        if self._workers > 1:
            states = f"by {self._workers} workers · here {states}"
        if self._bar is None:
            self._look_again_in(SECONDS_BETWEEN_LINES)
            self.say(f"{done:,} of {self._total:,}: {states}")
            return
        self._look_again_in(SECONDS_BETWEEN_LOOKS)
        why, until = self._waits
        told = f"{states} · {why}" if time.time() < until else states
        self._bar.update(self._task, completed=done, told=told)

    def say(self, line: str) -> None:
        """A line beside the display."""
        with may_be_unread():
            if self._bar is not None:
                self._bar.console.print(line, markup=False, highlight=False)
            else:
                click.echo(line, err=True)

    def _look_again_in(self, seconds: float) -> None:
        self._next_look = time.monotonic() + seconds
