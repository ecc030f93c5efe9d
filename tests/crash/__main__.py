"""`python -m tests.crash [SEED | FIRST-LAST]`: a campaign for each seed, two at a time, a table."""

import argparse
import asyncio
import sys
import tempfile
from pathlib import Path

from .campaign import Campaign, Result
from .report import faults, table

SEEDS = "1-42"
LEAST_KILLS = 300
"""With those seeds."""
AT_A_TIME = 2


async def campaigns(folder: Path, seeds: range) -> list[Result]:
    """What came of the campaigns with these seeds, each in a folder of its own."""
    turn = asyncio.Semaphore(AT_A_TIME)

    async def one(seed: int) -> Result:
        async with turn:
            place = folder / str(seed)
            place.mkdir()
            result = await Campaign(place, seed).run()
            print("." if not result.faults else "F", end="", file=sys.stderr, flush=True)
            return result

    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(one(seed)) for seed in seeds]
    return [task.result() for task in tasks]


def _seeds(text: str) -> range:
    first, _, last = text.partition("-")
    return range(int(first), int(last or first) + 1)


def main() -> int:
    """1 if anything is wrong, or if too few kills hit to prove anything."""
    parser = argparse.ArgumentParser(prog="python -m tests.crash", description=__doc__)
    parser.add_argument("seeds", nargs="?", type=_seeds, default=SEEDS)
    seeds = parser.parse_args().seeds
    with tempfile.TemporaryDirectory() as folder:
        results = asyncio.run(campaigns(Path(folder), seeds))
    kills, hits = (sum(getattr(result, name) for result in results) for name in ("kills", "hits"))
    print(f"\nseeds {seeds[0]} to {seeds[-1]}, {kills} kills\n{table(results)}\n{faults(results)}")
    if hits * 2 < kills or (seeds == _seeds(SEEDS) and kills < LEAST_KILLS):
        print(f"{kills} kills, of which {hits} left somebody in flight, are too few")
        return 1
    return 1 if any(result.faults for result in results) else 0


if __name__ == "__main__":
    sys.exit(main())
