"""A process that takes every grant it gets: `python -m tests.granting URL RATES DOMAIN WORKER SECONDS`.

Writes the monotonic time of each, which all processes of the machine share, as eight bytes to its
output. RATES are LIMIT/SECONDS, with commas between them; DOMAIN may be empty.
"""

import asyncio
import os
import struct
import sys
import time

from bulkmail.ledger.postgres.rates import SharedPaces
from bulkmail.model import Rate


def rates_from(text: str) -> list[Rate]:
    pairs = (rate.split("/") for rate in text.split(","))
    return [Rate(int(limit), float(seconds)) for limit, seconds in pairs]


async def take_all(url: str, rates: list[Rate], domain: str, worker: int, seconds: float) -> None:
    shared = SharedPaces(url, "a", worker, *([], {domain: rates}) if domain else (rates, {}))
    end = time.monotonic() + seconds
    while (now := time.monotonic()) < end:
        await shared.pace.refill()
        await shared.domain_paces.refill(domain)
        now = time.monotonic()
        at = max(shared.pace.earliest(now), shared.domain_paces.earliest(domain, now))
        if shared.pace.may_go(now) and shared.domain_paces.may_go(domain, now):
            shared.pace.grant(now)
            shared.domain_paces.grant(domain, now)
            os.write(1, struct.pack("d", now))
        elif at < end:
            await asyncio.sleep(at - now)
        else:
            break
    await shared.close()


if __name__ == "__main__":
    _, url, rates, domain, worker, seconds = sys.argv
    asyncio.run(take_all(url, rates_from(rates), domain, int(worker), float(seconds)))
