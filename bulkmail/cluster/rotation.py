"""Which shards of a campaign a worker gives up, so that whom it could send to need not wait.

It holds few at once. Where domains must wait, for their rates or since their servers want no more
for now, what is left of a shard may take hours, while others come at full speed. Some of these are
kept, of different domains if possible, so that each domain's turns are used; the others go back and
come again after those that nobody has had yet.
"""

import asyncio
import time
from collections.abc import Callable, Sequence

from bulkmail.engine import AT_ONCE
from bulkmail.ledger.postgres.sending import Leftover, ShardLedger
from bulkmail.ledger.postgres.shards import Shard

LOOK_SECONDS = 0.1
KEPT = AT_ONCE // 2
IN_VAIN_SECONDS = 1.0
"""If nobody of a shard could be sent to at once, the next such one is given up after so long."""


async def rotate(ledger: ShardLedger, give_up: Callable[[Shard], None]) -> None:
    """Without end, for the shards of one campaign."""
    in_vain_at = 0.0
    while True:
        await asyncio.sleep(LOOK_SECONDS)
        for one in to_give_up(ledger.leftovers()) if ledger.shards >= AT_ONCE else ():
            if not one.gave:
                if time.monotonic() < in_vain_at:
                    continue
                in_vain_at = time.monotonic() + IN_VAIN_SECONDS
            give_up(one.shard)


def to_give_up(leftovers: Sequence[Leftover]) -> list[Leftover]:
    """All but KEPT of them: first those whose domains are in older ones, then the oldest."""
    needed: list[Leftover] = []
    others: list[Leftover] = []
    seen: set[str] = set()
    for one in sorted(leftovers, key=lambda one: one.since):
        (others if one.domains <= seen else needed).append(one)
        seen |= one.domains
    return [*others, *needed][: max(0, len(leftovers) - KEPT)]
