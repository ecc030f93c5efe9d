"""A worker's metrics and health, asked over HTTP while it sends, loses its database, and ends."""

import asyncio
import json
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from asyncio.subprocess import Process
from collections.abc import Iterator
from typing import Any

import pytest
from prometheus_client.parser import text_string_to_metric_families

from bulkmail.cluster.metrics import Metrics, MetricsServer
from bulkmail.cluster.observing import Event, Vitals

from .conftest import Project, StartServer
from .test_worker_log import refusing

Samples = dict[tuple[str, tuple[str, ...]], float]


def get(url: str) -> tuple[int, str]:
    try:
        with urllib.request.urlopen(url, timeout=30) as response:
            return response.status, response.read().decode()
    except urllib.error.HTTPError as error:
        with error:
            return error.code, error.read().decode()


def samples(url: str) -> Samples:
    status, told = get(f"{url}/metrics")
    assert status == 200
    return {
        (sample.name, tuple(sample.labels.values())): sample.value
        for family in text_string_to_metric_families(told)
        for sample in family.samples
        if sample.name.startswith("bulkmail_")
    }


async def ask(function: Any, *arguments: Any) -> Any:
    return await asyncio.to_thread(function, *arguments)


async def started(project: Project, url: str, *arguments: str) -> tuple[Process, str]:
    """A worker, and where it serves its metrics."""
    worker = await project.start(
        *("worker", "--ledger", url, "--log-format", "json", "--metrics", "0"), *arguments
    )
    assert worker.stderr is not None
    line = json.loads(await asyncio.wait_for(worker.stderr.readline(), 60))
    assert line["event"] == "metrics"
    return worker, line["message"].split()[1].removesuffix("/metrics")


async def ended(worker: Process) -> int:
    worker.terminate()
    await asyncio.wait_for(worker.communicate(), 60)
    assert worker.returncode is not None
    return worker.returncode


async def test_what_a_worker_counts(
    serve: StartServer, project: Project, postgres_url: str
) -> None:
    people = project.many(20)
    project.campaign(await serve(answer=refusing(*people[5:8])), more=f"ledger: {postgres_url}")
    assert (await project.bulkmail("run", "letter.yaml", "--yes", "--detach")).status == 0
    worker, url = await started(project, postgres_url)
    try:
        finished = ("bulkmail_events_total", ("campaign_finished",))
        while not (told := await ask(samples, url)).get(finished):
            pass
        assert told["bulkmail_outcomes_total", ("letter", "accepted")] == 17
        assert told["bulkmail_outcomes_total", ("letter", "failed")] == 3
        assert told["bulkmail_intents_total", ("letter",)] == 20
        assert told["bulkmail_left_people", ("letter",)] == 0
        commits = told["bulkmail_commit_seconds_count", ()]
        assert 2 <= commits <= 40 and told["bulkmail_commit_seconds_bucket", ("+Inf",)] == commits
        assert told["bulkmail_lease_held", ()] == told["bulkmail_database_connected", ()] == 1
        assert 0 < told["bulkmail_lease_left_seconds", ()] <= 15
        assert 0 <= told["bulkmail_lease_renewed_seconds", ()] < 15
        assert told["bulkmail_late_outcomes", ()] == 0
        assert told["bulkmail_events_total", ("lease_lost",)] == 0
        assert await ask(get, f"{url}/healthz") == (200, "ok\n")
        assert (await ask(get, f"{url}/"))[0] == 404
    finally:
        assert await ended(worker) == 143


async def test_sessions_and_shards_are_those_of_now(
    serve: StartServer, project: Project, postgres_url: str
) -> None:
    project.many(30)
    project.campaign(await serve(), rate="3/s", more=f"ledger: {postgres_url}")
    assert (await project.bulkmail("run", "letter.yaml", "--yes", "--detach")).status == 0
    worker, url = await started(project, postgres_url)
    try:
        told: Samples = {}
        while not told.get(("bulkmail_sessions", ())):
            told = await ask(samples, url)
        assert 1 <= told["bulkmail_shards", ()] <= 4
        assert 0 < told["bulkmail_left_people", ("letter",)] <= 30
    finally:
        await ended(worker)


async def test_health_follows_the_database(
    serve: StartServer, project: Project, postgres_server: Any, postgres_url: str
) -> None:
    """503 with the reason while the worker has no lease, and 200 again by itself."""
    project.campaign(await serve(), more=f"ledger: {postgres_url}")
    assert (await project.bulkmail("run", "letter.yaml", "--yes", "--detach")).status == 0
    worker, url = await started(project, postgres_url)
    try:
        while (await ask(get, f"{url}/healthz"))[0] != 200:
            pass
        postgres_server.kill()
        while (found := await ask(get, f"{url}/healthz"))[0] != 503:
            pass
        assert found[1].startswith("postgresql://")
        told = await ask(samples, url)
        assert told["bulkmail_lease_held", ()] == told["bulkmail_database_connected", ()] == 0
        assert told["bulkmail_events_total", ("connection_lost",)] >= 1
        postgres_server.start()
        while (await ask(get, f"{url}/healthz"))[0] != 200:
            pass
    finally:
        postgres_server.start()
        await ended(worker)


async def test_an_outcome_that_cannot_be_recorded_is_counted_until_it_is(
    serve: StartServer, project: Project, postgres_server: Any, postgres_url: str
) -> None:
    """The database goes between a message's end and the answer to it."""
    kills = iter([postgres_server.kill])

    def answer(verb: str, argument: str) -> bytes | None:
        if verb == ".":
            next(kills, lambda: None)()
        return None

    server = await serve(answer=answer)
    project.campaign(server, more=f"ledger: {postgres_url}")
    assert (await project.bulkmail("run", "letter.yaml", "--yes", "--detach")).status == 0
    worker, url = await started(project, postgres_url)
    late = ("bulkmail_late_outcomes", ())
    try:
        while (await ask(samples, url))[late] != 1:
            pass
        assert (await ask(get, f"{url}/healthz"))[0] == 503
        postgres_server.start()
        while (await ask(samples, url))[late] != 0:
            pass
        told = await project.bulkmail("status", "letter.yaml")
        assert told.out.startswith("letter: 1 accepted") and len(server.received) == 1
    finally:
        postgres_server.start()
        await ended(worker)


# -- the server itself ---------------------------------------------------------------------------


@pytest.fixture
def vitals() -> Vitals:
    return Vitals()


@pytest.fixture
def served(vitals: Vitals) -> Iterator[str]:
    with MetricsServer("127.0.0.1", 0, Metrics(vitals), vitals) as server:
        yield server.url


def test_health_is_that_of_the_lease(vitals: Vitals, served: str) -> None:
    assert get(f"{served}/healthz") == (503, "it has no lease yet\n")
    vitals.renewed(60.0, begun_at=time.monotonic())
    assert get(f"{served}/healthz") == (200, "ok\n")
    vitals.renewed(60.0, begun_at=time.monotonic() - 61)
    assert get(f"{served}/healthz") == (503, "its lease was not renewed in time\n")
    vitals.lost("the cable was cut")
    assert get(f"{served}/healthz") == (503, "the cable was cut\n")


def test_who_says_nothing_holds_up_nobody(vitals: Vitals, served: str) -> None:
    port = int(served.rpartition(":")[2])
    with socket.create_connection(("127.0.0.1", port)) as silent:
        silent.sendall(b"GET /metr")
        assert get(f"{served}/metrics")[0] == 200


def test_events_are_counted(vitals: Vitals) -> None:
    metrics = Metrics(vitals)
    metrics.happened(Event("lease_lost", "x"))
    metrics.said("x")
    value = metrics.registry.get_sample_value
    assert value("bulkmail_events_total", {"event": "lease_lost"}) == 1
    assert value("bulkmail_events_total", {"event": "remark"}) == 1
    assert value("bulkmail_events_total", {"event": "connection_lost"}) == 0


async def test_where_it_cannot_listen(project: Project, postgres_url: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        for value, words in (
            (str(port), f"cannot listen on 127.0.0.1:{port}: Address already in use"),
            ("here", "must be a port, or HOST:PORT"),
            ("127.0.0.1:70000", "must be a port, or HOST:PORT"),
        ):
            result = await project.bulkmail("worker", "--ledger", postgres_url, "--metrics", value)
            assert result.status == 2 and words in result.err, result


def test_without_the_extra(postgres_url: str) -> None:
    """It is told, and not needed by who does not ask for it."""
    code = (
        "import sys; sys.modules['prometheus_client'] = None\n"
        "from bulkmail.__main__ import main\n"
        f"sys.argv = ['bulkmail', 'worker', '--ledger', {postgres_url!r}, *sys.argv[1:]]\n"
        "main()"
    )
    result = subprocess.run(
        [sys.executable, "-c", code, "--metrics", "0"], capture_output=True, text=True, check=False
    )
    assert (result.returncode, result.stderr) == (
        78, "--metrics needs its extra: pip install 'bulkmail[metrics]'\n",
    )  # fmt: skip
