"""Domains that must wait, on workers: they hold up nobody else, and everybody's turn comes."""

import asyncio
import time

import pytest

from bulkmail.cluster.rotation import to_give_up
from bulkmail.ledger.postgres.sending import Leftover
from bulkmail.ledger.postgres.shards import Shard

from .conftest import Project, RecordingServer, StartServer

PEOPLE = 240
"""In twelve shards, of which a worker holds four."""


def slow(server: RecordingServer) -> int:
    return sum("@slow.example" in path for path in server.paths)


def people(project: Project, slow: list[bool]) -> None:
    rows = [f"p{n}@{'slow' if one else f'd{n}'}.example,Kim" for n, one in enumerate(slow)]
    project.people(*rows)


@pytest.mark.parametrize(
    "order",
    [
        [n < PEOPLE // 2 for n in range(PEOPLE)],
        [n % 2 == 0 for n in range(PEOPLE)],
    ],
    ids=["sorted by domain", "mixed"],
)
async def test_others_do_not_wait_for_a_slow_domain(
    project: Project, serve: StartServer, postgres_url: str, order: list[bool]
) -> None:
    server = await serve()
    people(project, order)
    project.campaign(server, more=f"ledger: {postgres_url}\nrate_per_domain: {{slow.example: 4/s}}")
    assert (await project.bulkmail("run", "letter.yaml", "--yes", "--detach")).status == 0
    worker = await project.start("worker", "--ledger", postgres_url)
    async with asyncio.timeout(60):
        while len(server.paths) - slow(server) < PEOPLE // 2:
            await asyncio.sleep(0.01)
    assert slow(server) < PEOPLE // 4
    before, at = slow(server), time.monotonic()
    await asyncio.sleep(3)  # its turns go on, whichever shards are given up and come again
    assert slow(server) - before >= 2 * (time.monotonic() - at)
    worker.terminate()
    assert await worker.wait() == 143
    assert len(server.paths) == len(set(server.paths))
    project.campaign(server, more=f"ledger: {postgres_url}")
    assert (await project.bulkmail("run", "letter.yaml", "--yes")).status == 0
    assert len(server.paths) == len(set(server.paths)) == PEOPLE


async def test_a_domain_that_had_to_wait_is_sent_to_when_it_comes_again(
    project: Project, serve: StartServer, postgres_url: str
) -> None:
    """In a later shard, after a while in which nobody of it was left."""
    server = await serve()
    people(project, [n % 20 < 2 and not 80 <= n < 160 for n in range(PEOPLE)])
    more = f"ledger: {postgres_url}\nrate_per_domain: {{slow.example: 20/s}}"
    project.campaign(server, rate="120/s", more=more)
    process = await project.start("run", "letter.yaml", "--yes")
    out, err = await asyncio.wait_for(process.communicate(), 60)
    assert process.returncode == 0, err.decode()
    assert len(server.paths) == len(set(server.paths)) == PEOPLE, out.decode()


def leftover(number: int, *domains: str) -> Leftover:
    return Leftover(
        Shard(number, 1, 1, 1, number, number, [], 0), float(number), set(domains), True
    )


@pytest.mark.parametrize(
    ("leftovers", "given_up"),
    [
        ([], []),
        ([leftover(1, "a"), leftover(2, "a")], []),
        ([leftover(1, "a"), leftover(2, "a"), leftover(3, "b")], [2]),
        ([leftover(1, "a", "b"), leftover(2, "b"), leftover(3, "c"), leftover(4, "a")], [2, 4]),
        ([leftover(1, "a"), leftover(2, "b"), leftover(3, "c"), leftover(4, "d")], [1, 2]),
    ],
)
def test_leftovers_of_different_domains_are_kept(
    leftovers: list[Leftover], given_up: list[int]
) -> None:
    assert [one.shard.id for one in to_give_up(leftovers)] == given_up


async def test_a_campaign_does_not_wait_for_a_slow_one(
    project: Project, serve: StartServer, postgres_url: str
) -> None:
    """Of which shards are queued that nobody has."""
    server = await serve()
    ledger = f"ledger: {postgres_url}\n"
    for name, rate in (("slow", "2/s"), ("fast", "unlimited")):
        project.people(*(f"{name}{n}@{name}.example,Kim" for n in range(PEOPLE)))
        project.campaign(server, rate=rate, more=f"{ledger}campaign: {name}")
        planned = await project.bulkmail("run", "letter.yaml", "--yes", "--detach")
        assert planned.status == 0, planned.err
    worker = await project.start("worker", "--ledger", postgres_url)
    async with asyncio.timeout(60):
        while sum("@fast.example" in path for path in server.paths) < PEOPLE:
            await asyncio.sleep(0.01)
    assert 0 < sum("@slow.example" in path for path in server.paths) < 60
    worker.terminate()
    assert await worker.wait() == 143


@pytest.mark.parametrize("shared", [True, False])
async def test_a_run_in_which_all_who_are_left_must_wait_for_long_says_when_to_come_back(
    project: Project, serve: StartServer, postgres_url: str, *, shared: bool
) -> None:
    """The same with a ledger in a file."""
    server = await serve()
    people(project, [n < PEOPLE // 2 for n in range(PEOPLE)])
    ledger = f"ledger: {postgres_url}\n" if shared else ""
    project.campaign(server, more=f"{ledger}rate_per_domain: {{slow.example: 4/h}}")
    process = await project.start("run", "letter.yaml", "--yes", "--wait", "10m")
    _, err = await asyncio.wait_for(process.communicate(), 90)
    assert process.returncode == 75
    assert "stopped: the rate of slow.example allows the next message on 20" in err.decode()
    assert (slow(server), len(server.paths)) == (4, PEOPLE // 2 + 4)
