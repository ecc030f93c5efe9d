"""Workers that share a campaign, and what befalls them: some of what `make crash` tries."""

import asyncio
from pathlib import Path

import pytest

from .crash.cluster import Round, Trouble, World, what_is_lacking
from .crash.report import cluster_faults, cluster_table

pytestmark = pytest.mark.skipif(bool(what_is_lacking()), reason=what_is_lacking())

WORLDS = {
    1: (Trouble.RUN_KILLED, Trouble.STORM),
    2: (Trouble.CUT, Trouble.PAUSED),
}
"""By their seeds, which decide the wire, too."""


async def test_no_trouble_loses_anybody_or_repeats_anybody_in_silence(tmp_path: Path) -> None:
    """Nor leaves more in doubt than those who were killed had under way; and troubles do hit."""

    async def world(seed: int) -> list[Round]:
        folder = tmp_path / str(seed)
        folder.mkdir()
        return await World(folder, seed, WORLDS[seed]).run()

    rounds = [round for found in await asyncio.gather(*map(world, WORLDS)) for round in found]
    told = cluster_table(rounds)
    print(told)
    assert not any(round.faults for round in rounds), f"{told}\n{cluster_faults(rounds)}"
    assert any(round.doubts for round in rounds), told
