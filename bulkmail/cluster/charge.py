"""What a worker is told to do."""

from dataclasses import dataclass, field
from pathlib import Path

from bulkmail.cluster.observing import Observer, Vitals


@dataclass(frozen=True)
class Charge:
    """What a worker is to send: whatever is open in the ledger at `url`, or `only` that campaign.

    `files` holds attachments for one person each, of campaigns that have such; `until_idle`: it
    ends when nothing is open.
    """

    url: str = field(repr=False)
    observer: Observer
    only: int | None = None
    files: Path | None = None
    until_idle: bool = False
    wait_seconds: float = 3600.0
    lease_seconds: float = 15.0
    vitals: Vitals = field(default_factory=Vitals)
