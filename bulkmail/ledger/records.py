"""What goes into a ledger and comes out of it."""

from dataclasses import dataclass, field

from bulkmail.model import State


@dataclass(frozen=True, slots=True)
class CampaignRecord:
    """A campaign as the ledger knows it.

    Digests of contents: `content_digest` is that of the last run; `meant_again_digest` that which
    people known by `meant_again_reading` are to get although they have it by another name;
    `proven_digest` that with which every recipient of the reading `proven_reading` was composed.
    `cancelled_at` is when its author gave it up, unless that was taken back.
    """

    id: int
    name: str
    seed: bytes
    content_digest: str
    meant_again_digest: str
    meant_again_reading: int
    proven_digest: str
    proven_reading: int
    cancelled_at: float | None


@dataclass(slots=True)
class Enrolment:
    """What one reading of the sources found."""

    recipients: int = 0
    invalid: int = 0
    duplicates: int = 0
    suppressed: int = 0
    filtered: list[tuple[str, State, str]] = field(default_factory=list)
    """(source, state, reason) of the first rows that were left out for each reason."""
    removed: int = 0
    """Unsent recipients of an earlier reading that the sources no longer hold."""
