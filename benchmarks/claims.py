"""How long a claim takes in a list of a million, sorted by domain, with most of it set apart.

    python -m benchmarks.claims [PEOPLE]

Prints milliseconds a claim, median and longest, for: the others behind a domain that is apart; the
domain itself; ten whose retry is due among all the others.
"""

import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from itertools import islice
from pathlib import Path

from bulkmail.ledger import SqliteLedger
from bulkmail.ledger.claims import Claims
from bulkmail.model import Intent, Outcome, Phase, Recipient, Reply, Row, Settlement, State

LATER = Outcome(Phase.RCPT, Reply(450, "4.2.0", "4.2.0 greylisted"))
DOMAINS = 10
PORTION = 100


def main() -> None:
    number = int(sys.argv[1]) if len(sys.argv) > 1 else 1_000_000
    with tempfile.TemporaryDirectory() as folder:
        ledger = SqliteLedger(Path(folder) / "bulkmail.sqlite")
        campaign = ledger.campaign("bench", time.time())
        with ledger.enrolling():
            ledger.enrol(campaign, people(number))
        ids = [recipient.id for recipient in islice(ledger.unsent(campaign), 10)]
        ledger.record("a", None, [Intent(id_, 1.0, 1.0, "<m@x>") for id_ in ids])
        ledger.record("a", None, [Settlement(id_, State.DEFERRED, LATER, 5.0) for id_ in ids])
        tell("ten that are due", lambda: ledger.claims(campaign), lambda c: c.take(10, 9.0))
        claims = ledger.claims(campaign)
        for domain in range(DOMAINS - 1):
            claims.set_apart(f"d{domain}.example")
        tell("one that is apart", lambda: claims, lambda c: c.take(20, 9.0, "d3.example"))
        tell("behind those apart", lambda: claims, lambda c: c.take(PORTION, 9.0), until_last=True)
        ledger.close()


def people(number: int) -> Iterator[Row]:
    for n in range(number):
        address = f"p{n}@d{n * DOMAINS // number}.example"
        yield Row(address, {"email": address, "name": f"Person {n}"}, f"members.csv:{n + 2}")


def tell(
    what: str,
    claims: Callable[[], Claims],
    take: Callable[[Claims], tuple[list[Recipient], bool]],
    *,
    until_last: bool = False,
) -> None:
    times: list[float] = []
    is_last = False
    while len(times) < 200 or (until_last and not is_last):
        of = claims()
        started = time.perf_counter()
        _, is_last = take(of)
        times.append((time.perf_counter() - started) * 1000)
    print(f"{what:<20} {len(times):>6} claims  median {statistics.median(times):.2f} ms"
          f"  longest {max(times):.2f} ms  together {sum(times):.0f} ms")  # fmt: skip


if __name__ == "__main__":
    main()
