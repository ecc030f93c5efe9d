"""A process that takes every grant it gets: `python -m tests.granting URL RATES DOMAINS WORKER SECONDS`.

Writes the monotonic time of each, which all processes of the machine share, and the domain's place
in DOMAINS, as eight bytes each, to its output. RATES are LIMIT/SECONDS, with commas between them, of
each domain, or of the account, if DOMAINS is empty.
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


async def take_all(
    url: str, rates: list[Rate], domains: list[str], worker: int, seconds: float
) -> None:
    of_domains = {domain: rates for domain in domains if domain}
    shared = SharedPaces(url, "a", worker, [] if of_domains else rates, of_domains)
    pace, paces = shared.pace, shared.domain_paces
    end = time.monotonic() + seconds
    while (now := time.monotonic()) < end:
        due = [place for place, domain in enumerate(domains) if paces.earliest(domain, now) <= now]
        if due:
            coming = [domains[place] for place in due[1:]]
            await pace.refill()
            await paces.refill(domains[due[0]], lambda number, coming=coming: coming[:number])
            now = time.monotonic()
            if pace.may_go(now) and paces.may_go(domains[due[0]], now):
                pace.grant(now)
                paces.grant(domains[due[0]], now)
                os.write(1, struct.pack("dq", now, due[0]))
                continue
        at = max(pace.earliest(now), min(paces.earliest(domain, now) for domain in domains))
        if at >= end:
            break
        await asyncio.sleep(at - now)
    await shared.close()


if __name__ == "__main__":
    _, url, rates, domains, worker, seconds = sys.argv
    asyncio.run(take_all(url, rates_from(rates), domains.split(","), int(worker), float(seconds)))
