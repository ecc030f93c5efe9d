"""What is seen while a run sends: a live line on a terminal, or a plain line now and then.

Nobody has to look: the run goes on where what is shown cannot be written, or not in this encoding.
"""

import sys
import time
from contextlib import suppress
from datetime import datetime
from types import TracebackType

import click
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from bulkmail.cli import text
from bulkmail.model import State

SECONDS_BETWEEN_LINES = 10.0


class RunProgress:
    """Counts what is settled, of `total`, of whom so many are `deferred` from before."""

    def __init__(self, total: int, deferred: int = 0) -> None:
        self.counts: dict[State, int] = {State.DEFERRED: deferred}
        self._total = total
        self._waits = ("", 0.0)
        self._started = time.monotonic()
        self._last_line = self._started
        self._bar: Progress | None = None
        if sys.stderr.isatty():
            self._bar = Progress(
                TextColumn("sending"),
                BarColumn(),
                MofNCompleteColumn(),
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
            self._bar.stop()

    def settled(self, state: State, *, was_deferred: bool) -> None:
        """One more recipient has come to `state`."""
        if was_deferred:
            self.counts[State.DEFERRED] -= 1
        self.counts[state] = self.counts.get(state, 0) + 1
        done = sum(self.counts.values()) - self.counts[State.DEFERRED]
        if self._bar is not None:
            self._bar.update(self._task, completed=done, told=self._told())
        elif self._is_time_for_a_line():
            self.say(f"{done:,} of {self._total:,}: {text.states(self.counts)}")

    def waiting(self, why: str, at: float) -> None:
        """Nothing goes before `at`, in seconds since the epoch."""
        self._waits = f"{why} at {datetime.fromtimestamp(at):%H:%M:%S}", at
        if self._bar is not None:
            self._bar.update(self._task, told=self._told())
        elif self._is_time_for_a_line():
            self.say(f"waiting: {self._waits[0]}")

    def _told(self) -> str:
        why, until = self._waits
        states = text.states(self.counts)
        return f"{states} · {why}" if time.time() < until else states

    def say(self, line: str) -> None:
        """A line beside the display."""
        with suppress(OSError, UnicodeError):
            if self._bar is not None:
                self._bar.console.print(line, markup=False, highlight=False)
            else:
                click.echo(line, err=True)

    def _is_time_for_a_line(self) -> bool:
        if time.monotonic() - self._last_line < SECONDS_BETWEEN_LINES:
            return False
        self._last_line = time.monotonic()
        return True
