"""`python -m tests.faults [ROW …]`: the cases, of these rows or of all, in a table.

1 if any case comes to something else than is expected, if one that is known to be wrong does not,
or if a row has no case.
"""

import argparse
import asyncio
import signal
import sys
import tempfile
import time
from pathlib import Path

from .case import LAST_ROW, Case
from .rows import CASES
from .world import Certificate, certificate_for, folder, world

MAX_SECONDS = 60
"""Of real time, since the cases put the loop's forward."""


async def outcome(case: Case, certificate: Certificate) -> tuple[str, list[str]]:
    """What was seen, and what differs from what is expected."""
    with folder() as place:
        async with world(place, certificate, case.wire) as this:
            signal.alarm(MAX_SECONDS)
            try:
                seen = await case.act(this)
            except Exception as error:
                return "an exception", [repr(error)]
            finally:
                signal.alarm(0)
    return str(seen), seen.against(case.expected)


def too_long(number: int, frame: object) -> None:
    raise TimeoutError(f"it took over {MAX_SECONDS} s")


def verdict(case: Case, differing: list[str]) -> str:
    if case.wrong_today:
        return f"known: {case.wrong_today}" if differing else "WRONG: it is no longer wrong"
    return f"WRONG: {'; '.join(differing)}" if differing else "ok"


def printed(columns: tuple[str, ...], widths: tuple[int, ...]) -> str:
    return "  ".join(
        text.ljust(width) for text, width in zip(columns, widths, strict=True)
    ).rstrip()


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.faults", description=__doc__)
    parser.add_argument("rows", nargs="*", type=int, default=range(1, LAST_ROW + 1))
    rows = parser.parse_args().rows
    cases = [case for case in CASES if case.row in rows]
    names = [("twin: " if case.twin else "") + case.label for case in cases]
    widths = (3, max(map(len, names)), 10, max(len(str(case.expected)) for case in cases), 40, 3)
    print(printed(("row", "behaviour", "wire", "expected", "seen", ""), widths))
    signal.signal(signal.SIGALRM, too_long)
    wrong, started = 0, time.monotonic()
    with tempfile.TemporaryDirectory() as place:
        certificate = certificate_for(Path(place))
        for case, name in zip(cases, names, strict=True):
            seen, differing = asyncio.run(outcome(case, certificate))
            said = verdict(case, differing)
            wrong += said.startswith("WRONG")
            columns = (f"{case.row:>3}", name, case.wire.value, str(case.expected), seen, said)
            print(printed(columns, widths), flush=True)
    missing = sorted(set(rows) - {case.row for case in cases})
    print(f"\n{len(cases)} cases of {len(set(rows) - set(missing))} rows, {wrong} wrong,"
          f" {time.monotonic() - started:.0f} seconds")  # fmt: skip
    if missing:
        print(f"without a case: rows {', '.join(map(str, missing))}")
    print("killed at any instant (row 30): make crash")
    return 1 if wrong or missing else 0


sys.exit(main())
