"""What whoever looks on is told of a worker: what happened, and how it stands."""

import logging
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from bulkmail.model import Outcome, Recipient, State


@dataclass(frozen=True, slots=True)
class Event:
    """Something that happens now and then. `name` is for programs, `message` for a person, without
    the campaign's name; `level` is one of `logging`.
    """

    name: str
    message: str
    campaign: str = ""
    level: int = logging.INFO
    fields: Mapping[str, object] = field(default_factory=dict)


class Observer:
    """Whoever looks on; does nothing unless told."""

    def settled(self, campaign: str, recipient: Recipient, state: State, outcome: Outcome) -> None:
        """A recipient has come to `state`."""

    def left(self, campaign: str, people: int, workers: int) -> None:
        """How many are left of its plan, and how many workers have some of them; while it is sent,
        now and then.
        """

    def waiting(self, why: str, at: float) -> None:
        """Nothing goes from here before `at`, in seconds since the epoch."""

    def said(self, what: str) -> None:
        """A line that a person should read."""

    def happened(self, event: Event) -> None:
        """See Event."""

    def committed(self, campaign: str, intents: int, seconds: float) -> None:
        """A group with so many intents was recorded, which took so long. From any thread."""


class Observers(Observer):
    """Several as one."""

    def __init__(self, *observers: Observer) -> None:
        self._observers: Sequence[Observer] = observers

    def settled(self, campaign: str, recipient: Recipient, state: State, outcome: Outcome) -> None:
        for observer in self._observers:
            observer.settled(campaign, recipient, state, outcome)

    def left(self, campaign: str, people: int, workers: int) -> None:
        for observer in self._observers:
            observer.left(campaign, people, workers)

    def waiting(self, why: str, at: float) -> None:
        for observer in self._observers:
            observer.waiting(why, at)

    def said(self, what: str) -> None:
        for observer in self._observers:
            observer.said(what)

    def happened(self, event: Event) -> None:
        for observer in self._observers:
            observer.happened(event)

    def committed(self, campaign: str, intents: int, seconds: float) -> None:
        for observer in self._observers:
            observer.committed(campaign, intents, seconds)


@dataclass(slots=True)
class Vitals:
    """How a worker stands, written by its loop and read from any thread. Times are monotonic."""

    lease_seconds: float = 0.0
    renewed_at: float | None = None
    """When its lease was renewed last; None: it has none."""
    problem: str = "it has no lease yet"
    """Why it has none."""
    shards: int = 0
    sessions: int = 0
    late: int = 0
    """Outcomes that wait to be recorded."""

    def renewed(self, lease_seconds: float, begun_at: float) -> None:
        """It has a lease of so many seconds from `begun_at` on, when that was asked for."""
        self.lease_seconds, self.renewed_at = lease_seconds, begun_at

    def lost(self, problem: str) -> None:
        """It has no lease any more."""
        self.renewed_at, self.problem = None, problem
        self.shards = self.sessions = 0

    @property
    def lease_left(self) -> float:
        """Seconds until it ends; 0 if it has none, or it has ended."""
        if self.renewed_at is None:
            return 0.0
        return max(0.0, self.renewed_at + self.lease_seconds - time.monotonic())

    @property
    def why_unwell(self) -> str | None:
        """None while its lease lasts."""
        if self.lease_left > 0:
            return None
        if self.renewed_at is None:
            return self.problem
        return "its lease was not renewed in time"
