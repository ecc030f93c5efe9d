"""The words of the house: what a campaign, a recipient, a mail object and a reply are.

Frozen dataclasses, named tuples of which very many are made, and enums; nothing here does anything.
Terms are those of RFC 5321, RFC 5322 and RFC 3463. A name that ends in `_at` is a time in seconds
since the epoch.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import NamedTuple


class State(StrEnum):
    """Where a recipient stands; the arrows between them are drawn in `bulkmail.ledger`."""

    PENDING = "pending"
    IN_FLIGHT = "in_flight"
    ACCEPTED = "accepted"
    DEFERRED = "deferred"
    FAILED = "failed"
    IN_DOUBT = "in_doubt"
    EXPIRED = "expired"
    INVALID = "invalid"
    DUPLICATE = "duplicate"
    SUPPRESSED = "suppressed"
    CANCELLED = "cancelled"


FILTERED = frozenset({State.INVALID, State.DUPLICATE})
"""States of rows that were read but never belonged to the campaign's recipients."""

UNSENT = frozenset({State.PENDING, State.DEFERRED})
"""States from which a run still sends."""


class Security(StrEnum):
    """How the connection to the submission server is protected (RFC 8314)."""

    TLS = "tls"
    STARTTLS = "starttls"
    NONE = "none"


@dataclass(frozen=True, slots=True)
class Rate:
    """At most `limit` messages in any window of `period_seconds`."""

    limit: int
    period_seconds: float

    def __str__(self) -> str:
        units = {1: "s", 60: "min", 3600: "h", 86400: "day"}
        return f"{self.limit}/{units.get(int(self.period_seconds), f'{self.period_seconds:g} s')}"


@dataclass(frozen=True, slots=True)
class Submission:
    """A submission server (RFC 6409) and the login used there. The password is never shown.

    `pipelining`: whether more than one command may be under way where the server announces that;
    `window`: so many messages at once, where it has CHUNKING. `ca_pem` is what `ca_file` held
    (RFC 7468) if it was read already; None: it is read when the first session is opened.
    """

    host: str
    port: int
    security: Security
    username: str | None = None
    password: str | None = field(default=None, repr=False)
    ca_file: str | None = None
    helo: str | None = None
    pipelining: bool = True
    window: int = 16
    ca_pem: str | None = field(default=None, repr=False)

    @property
    def account(self) -> str:
        """Whom the server counts messages for: the rates are remembered by it."""
        return f"{self.username or ''}@{self.host}:{self.port}"


@dataclass(frozen=True, slots=True)
class Row:
    """One row of a recipient source: its address, all its columns as text, its place (`file:line`).

    `fault` tells why nobody is written to because of this row; None: somebody is.
    """

    address: str
    fields: Mapping[str, str]
    source: str
    fault: str | None = None


@dataclass(frozen=True, slots=True)
class Recipient:
    """A person of a campaign. `fields` are all columns of the row as text; `source` is `file:line`.

    `attempts` counts attempts that were this recipient's own; `first_attempt_at` dates the message;
    `files_digest` is that of the attachments of this person alone, or empty; `domain` is that of
    the address, in A-labels and lower case; a deferred one is tried again at `due_at`, else 0; at
    `again_at` it was last decided, by a person or the campaign, to send to them again, else 0.
    """

    id: int
    address: str
    fields: Mapping[str, str]
    source: str
    attempts: int = 0
    first_attempt_at: float | None = None
    files_digest: str = ""
    domain: str = ""
    due_at: float = 0.0
    again_at: float = 0.0


class Envelope(NamedTuple):
    """RFC 5321 2.3.1: the addresses that the server acts on. One forward-path a message."""

    reverse_path: str
    forward_path: str


class MailObject(NamedTuple):
    """Envelope and content (RFC 5321 2.3.1).

    `content` is the message as sent, in pieces: lines end in CRLF, none is over 998 octets, every
    piece starts at the start of a line and the last ends one. Dots are not stuffed yet.
    """

    envelope: Envelope
    content: tuple[bytes, ...]
    message_id: str

    @property
    def size_bytes(self) -> int:
        """As RFC 1870 3 counts: without the final dot, and before dots are stuffed."""
        return sum(map(len, self.content))

    @property
    def needs_smtputf8(self) -> bool:
        """Whether an address of the envelope is outside ASCII (RFC 6531 3.4)."""
        envelope = self.envelope
        return not (envelope.forward_path.isascii() and envelope.reverse_path.isascii())


class Phase(StrEnum):
    """How far a message had come when something was said about it, or nothing more was.

    RFC 5321 3.3. `DOT` begins when the final dot is handed to the transport: from then on the
    server may have the message.

    `QUEUED`: nothing of it was said, or nothing of it was looked at, because the session ended with
    what was before it.

    `UNSENDABLE`: the server announced that it does not take such a message; nothing of it was said.
    `UNADDRESSABLE`: the same, because of the recipient's address.
    """

    UNSENDABLE = "unsendable"
    UNADDRESSABLE = "unaddressable"
    QUEUED = "queued"
    MAIL = "mail"
    RCPT = "rcpt"
    DATA = "data"
    CONTENT = "content"
    DOT = "dot"


class Reply(NamedTuple):
    """A server's reply (RFC 5321 4.2). `enhanced` is the code of RFC 3463 as text, or empty."""

    code: int
    enhanced: str
    text: str

    def __str__(self) -> str:
        return f"{self.code} {self.text}".strip()


class Outcome(NamedTuple):
    """How one transaction ended: the reply that decided it, or `cause` where none came."""

    phase: Phase
    reply: Reply | None
    cause: str = ""

    def __str__(self) -> str:
        return str(self.reply) if self.reply else self.cause


class Concern(StrEnum):
    """Whom an outcome is about. Only what is about the recipient is charged to the recipient."""

    RECIPIENT = "recipient"
    MESSAGE = "message"  # its content, or policy: if it is the first one, it concerns all
    DOMAIN = "domain"  # too much at once for the recipient's domain
    SESSION = "session"
    ACCOUNT = "account"  # too much at once for the server
    QUOTA = "quota"
    RUN = "run"


@dataclass(frozen=True, slots=True)
class Verdict:
    """What an outcome means: whom it concerns, and the state that the recipient takes."""

    concern: Concern
    state: State


class Intent(NamedTuple):
    """Committed to the ledger before the final dot of this recipient's message can leave.

    `granted_at` is when the rates let it go; `rated_domain` is the domain of the recipient, if it
    has rates of its own of which the ledger is to know.
    """

    recipient_id: int
    at: float
    granted_at: float
    message_id: str
    rated_domain: str = ""


class Settlement(NamedTuple):
    """What became of an intent. Back to pending is a release: no attempt is counted, and who was
    deferred is deferred as before. `of_released`: it is decided later about one that was released.
    `at` is when it was known.
    """

    recipient_id: int
    state: State
    outcome: Outcome
    due_at: float = 0.0
    of_released: bool = False
    at: float = 0.0
