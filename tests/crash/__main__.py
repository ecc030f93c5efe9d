"""`python -m tests.crash [SEED | FIRST-LAST] [--cluster SEED | FIRST-LAST]`: a campaign for each
seed, and campaigns that workers share for each seed of a cluster, two at a time; tables. With
neither all are tried.
"""

import argparse
import asyncio
import sys
import tempfile
from collections.abc import Callable, Coroutine, Sequence
from pathlib import Path
from typing import Any, TypeVar

from .campaign import Campaign, Result
from .cluster import Round, Trouble, World, what_is_lacking
from .namespace import allowed
from .report import cluster_faults, cluster_table, faults, table

SEEDS = "1-42"
LEAST_KILLS = 300
"""With those seeds."""
CLUSTER_SEEDS = "1-8"
AT_A_TIME = 2

T = TypeVar("T")


async def _each(
    folder: Path, seeds: range, one: Callable[[Path, int], Coroutine[Any, Any, T]]
) -> list[T]:
    """What comes of `one` for these seeds, each in a folder of its own."""
    turn = asyncio.Semaphore(AT_A_TIME)

    async def in_turn(seed: int) -> T:
        async with turn:
            place = folder / str(seed)
            place.mkdir()
            return await one(place, seed)

    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(in_turn(seed)) for seed in seeds]
    return [task.result() for task in tasks]


def _tell(is_well: bool) -> None:
    print("." if is_well else "F", end="", file=sys.stderr, flush=True)


async def campaigns(folder: Path, seeds: range) -> list[Result]:
    """What came of the campaigns with these seeds."""

    async def one(place: Path, seed: int) -> Result:
        result = await Campaign(place, seed).run()
        _tell(not result.faults)
        return result

    return await _each(folder, seeds, one)


async def clusters(folder: Path, seeds: range, troubles: Sequence[Trouble]) -> list[Round]:
    """What came of these troubles, in a world for each seed, on real networks where allowed."""
    namespaces = allowed()

    async def one(place: Path, seed: int) -> list[Round]:
        rounds = await World(place, seed, troubles, namespaces=namespaces).run()
        _tell(not any(round.faults for round in rounds))
        return rounds

    return [round for rounds in await _each(folder, seeds, one) for round in rounds]


def _seeds(text: str) -> range:
    first, _, last = text.partition("-")
    return range(int(first), int(last or first) + 1)


def main() -> int:
    """1 if anything is wrong, or if too few kills hit to prove anything."""
    parser = argparse.ArgumentParser(prog="python -m tests.crash", description=__doc__)
    parser.add_argument("seeds", nargs="?", type=_seeds)
    parser.add_argument("--cluster", type=_seeds)
    told = parser.parse_args()
    if told.seeds is told.cluster is None:
        told.seeds, told.cluster = _seeds(SEEDS), _seeds(CLUSTER_SEEDS)
    wrong = False
    with tempfile.TemporaryDirectory() as folder:
        if told.seeds is not None:
            wrong |= _campaigns(Path(folder), told.seeds)
        if told.cluster is not None:
            wrong |= _clusters(Path(folder) / "cluster", told.cluster)
    return int(wrong)


def _campaigns(folder: Path, seeds: range) -> bool:
    results = asyncio.run(campaigns(folder, seeds))
    kills, hits = (sum(getattr(result, name) for result in results) for name in ("kills", "hits"))
    print(f"\nseeds {seeds[0]} to {seeds[-1]}, {kills} kills\n{table(results)}\n{faults(results)}")
    if hits * 2 < kills or (seeds == _seeds(SEEDS) and kills < LEAST_KILLS):
        print(f"{kills} kills, of which {hits} left somebody in flight, are too few")
        return True
    return any(result.faults for result in results)


def _clusters(folder: Path, seeds: range) -> bool:
    if lacking := what_is_lacking():
        print(f"no cluster: {lacking}")
        return False
    folder.mkdir()
    rounds = asyncio.run(clusters(folder, seeds, tuple(Trouble)))
    print(f"\ncluster, seeds {seeds[0]} to {seeds[-1]}, {len(rounds)} troubles")
    print(f"{cluster_table(rounds)}\n{cluster_faults(rounds)}")
    return any(round.faults for round in rounds)


if __name__ == "__main__":
    sys.exit(main())
