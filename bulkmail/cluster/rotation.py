"""Which shards a worker gives up, so that whom it could send to need not wait for others.

It holds few at once. Where domains must wait, for their rates or since their servers want no more
for now, what is left of a shard may take hours, while others come at full speed. Some of these are
kept, of different domains if possible, so that each domain's turns are used; the others go back and
come again after those that nobody has had yet.
"""

import asyncio
import time
from collections.abc import Mapping, Sequence

from bulkmail.cluster.sender import Sender
from bulkmail.engine import AT_ONCE
from bulkmail.ledger.postgres.sending import Leftover

LOOK_SECONDS = 0.1
KEPT = AT_ONCE // 2
IN_VAIN_SECONDS = 1.0
"""If nobody of a shard could be sent to at once, the next such one is given up after so long."""


async def rotate(senders: Mapping[int, Sender]) -> None:
    """Without end, for all of a worker's senders."""
    in_vain_at = 0.0
    while True:
        await asyncio.sleep(LOOK_SECONDS)
        if sum(sender.ledger.shards for sender in senders.values()) < AT_ONCE:
            continue
        leftovers = [one for sender in senders.values() for one in sender.leftovers()]
        for one in to_give_up(leftovers):
            if not one.gave:
                if time.monotonic() < in_vain_at:
                    continue
                in_vain_at = time.monotonic() + IN_VAIN_SECONDS
            senders[one.shard.campaign_id].give_up(one.shard)


def to_give_up(leftovers: Sequence[Leftover]) -> list[Leftover]:
    """All but KEPT of them: first those whose domains are in older ones, then the oldest."""
    needed: list[Leftover] = []
    others: list[Leftover] = []
    seen: set[tuple[int, str]] = set()
    for one in sorted(leftovers, key=lambda one: one.since):
        domains = {(one.shard.campaign_id, domain) for domain in one.domains}
        (others if domains <= seen else needed).append(one)
        seen |= domains
    return [*others, *needed][: max(0, len(leftovers) - KEPT)]
