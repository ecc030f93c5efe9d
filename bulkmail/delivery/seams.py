"""What the loop needs of the world, and what it is told."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

from bulkmail.errors import ExitStatus
from bulkmail.model import Intent, MailObject, Outcome, Recipient, Settlement


class Session(Protocol):
    """A connection that takes mail objects; see `bulkmail.transport.session`."""

    @property
    def submitted(self) -> int: ...
    @property
    def ended(self) -> str | None: ...
    @property
    def busy(self) -> bool: ...
    @property
    def free(self) -> int: ...
    def submit(self, mails: Sequence[tuple[MailObject, Callable[[Outcome], None]]]) -> None: ...
    async def room(self) -> bool: ...
    async def idle(self) -> bool: ...
    async def quit(self) -> None: ...
    def abort(self, cause: str) -> None: ...


class Server(Protocol):
    """Opens sessions. Raises ServerUnreachableError if that may succeed later."""

    async def connect(self) -> Session: ...


class Ledger(Protocol):
    """Where claims come from and what happens is recorded; see `bulkmail.ledger`."""

    async def claim(
        self, limit: int, now: float, domain: str | None = None
    ) -> tuple[list[Recipient], bool]: ...
    def set_apart(self, domain: str) -> None: ...
    async def next_due_at(self, domain: str | None = None) -> float | None: ...
    async def intend(self, intents: Sequence[Intent]) -> bool: ...
    def settle(self, settlement: Settlement) -> None: ...


class Composer(Protocol):
    """Makes a recipient's message; see `bulkmail.compose.message`."""

    def compose(self, recipient: Recipient, at: float) -> MailObject: ...


@dataclass(frozen=True, slots=True)
class Limits:
    """How much at once, and how long for what. Times are in seconds."""

    connections: int = 4
    messages_per_connection: int = 100
    messages: int | None = None
    """In this run; None: all."""
    start_at: float | None = None
    """When the first message may go, in seconds since the epoch; None: now."""
    wait: float = 3600.0
    """If the start, the rates' next grant or the next retry is further away, the run ends and says
    when to come back."""
    drain: float = 30.0
    """For what is under way when the run is told to stop."""
    first_reconnect: float = 1.0
    longest_reconnect: float = 30.0
    busy_at_first: float = 60.0
    """For so long a server may say that it is busy before it has taken anything, and as long as
    `wait` afterwards."""
    attempts_before_first: int = 3
    """To connect in vain, one after another, before the first message was accepted …"""
    attempts: int = 9
    """… and after."""
    first_retry: float = 300.0
    longest_retry: float = 14400.0
    give_up: float = 172800.0
    """After the first attempt: who would be tried again later than that is expired."""
    account_used_at: float | None = None
    """When the account sent the first message of the last day, before this run."""
    stop_after_failures: int = 10
    """So many equal refusals of a message, with no acceptance between them, stop the run."""


@dataclass(frozen=True, slots=True)
class Stop:
    """Why a run ended before everyone was settled. `for_all`: whoever sent this campaign, with this
    account, would hear the same.
    """

    status: ExitStatus
    reason: str
    resume_at: float | None = None
    for_all: bool = False
