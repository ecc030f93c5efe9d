"""What a worker says on standard error."""

import asyncio
import json
import re
from collections.abc import Callable
from typing import Any

import pytest

from bulkmail.cli.log import without_addresses

from .conftest import Project, StartServer


def refusing(*people: str) -> Callable[[str, str], bytes | None]:
    """Answers RCPT of these as servers do: with the address."""

    def answer(verb: str, argument: str) -> bytes | None:
        if verb == "RCPT" and any(f"<{address}>" in argument for address in people):
            return f"550 5.1.1 {argument[3:]}: Recipient address rejected\r\n".encode()
        return None

    return answer


async def planned(project: Project, serve: StartServer, url: str, **server: Any) -> None:
    project.campaign(await serve(**server), more=f"ledger: {url}")
    result = await project.bulkmail("run", "letter.yaml", "--yes", "--detach")
    assert result.status == 0, result.err


async def log(project: Project, url: str, *arguments: str) -> list[str]:
    """What a worker says until nothing is left."""
    result = await project.bulkmail("worker", "--ledger", url, "--until-idle", *arguments)
    assert (result.status, result.out) == (0, ""), result.err
    return result.err.splitlines()


@pytest.mark.parametrize(
    ("told", "expected"),
    [
        ("550 5.1.1 <kim@example.com>: no", "550 5.1.1 <…@example.com>: no"),
        ("to=kim.lee+x@example.com, o'brien@a.b", "…@example.com, …@a.b"),
        ('"kim lee"@example.com; 김연주@예시.kr', "…@example.com; …@예시.kr"),
        ("kim/x@[192.0.2.1] 'a@b'", "…@[192.0.2.1] …@b'"),
        ("postgresql://bulkmail@db.example.com:5432/mail lost", None),
        ("no address @ all: 12@", None),
    ],
)
def test_addresses_are_left_out(told: str, expected: str | None) -> None:
    assert without_addresses(told) == (expected or told)


async def test_a_campaign_in_lines_for_a_person(
    serve: StartServer, project: Project, postgres_url: str
) -> None:
    people = project.many(20)
    await planned(project, serve, postgres_url, answer=refusing(*people[5:8]))
    lines = await log(project, postgres_url)
    told = [re.sub(r"^\d{4}-\d\d-\d\d \d\d:\d\d:\d\d ", "", line) for line in lines]
    assert all(line != after for line, after in zip(lines, told, strict=True)), lines
    assert re.fullmatch(r"\S+:\d+ has a lease of 15 s in postgresql://\S+", told[0])
    assert told[1].startswith("letter: sends it through 127.0.0.1:")
    [refused] = [line for line in told if "rejected" in line]
    assert refused.startswith("letter: failed: 550 5.1.1 <…@example.com>: Recipient address")
    assert re.search(r"\(people\.csv:[789], example\.com\)$", refused)
    assert told[-3:] == [
        "letter: 17 accepted · 3 failed here",
        "letter: finished",
        "ends: nothing is open",
    ]
    assert not any(address in line for address in people for line in lines)


async def test_a_campaign_in_lines_for_a_program(
    serve: StartServer, project: Project, postgres_url: str
) -> None:
    people = project.many(20)
    await planned(project, serve, postgres_url, answer=refusing(*people[5:8]))
    lines = [json.loads(line) for line in await log(project, postgres_url, "--log-format", "json")]
    for line in lines:
        assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", line["time"])
        assert line["level"] in ("info", "warning", "error") and line["message"]
        assert re.fullmatch(r".+:\d+", line["worker"])
    events = [line["event"] for line in lines]
    assert events[:2] == ["lease_begun", "campaign_begun"]
    assert events[-3:] == ["settled", "campaign_finished", "ended"]
    assert lines[-3]["states"] == {"accepted": 17, "failed": 3}
    assert [line["campaign"] for line in lines[-3:]] == ["letter", "letter", None]
    [refused] = [line for line in lines if line["event"] == "refused"]
    assert (refused["level"], refused["state"]) == ("warning", "failed")
    assert refused["source"] in ("people.csv:7", "people.csv:8", "people.csv:9")
    assert refused["domain"] == "example.com"
    assert refused["reply"].startswith("550 5.1.1 <…@example.com>")
    assert not any(address in str(line) for address in people for line in lines)


async def test_addresses_are_told_to_who_asks_for_them(
    serve: StartServer, project: Project, postgres_url: str
) -> None:
    people = project.many(20)
    await planned(project, serve, postgres_url, answer=refusing(*people[5:8]))
    lines = await log(project, postgres_url, "--log-format", "json", "--log-addresses")
    refused = [line for line in map(json.loads, lines) if line["event"] == "refused"]
    assert sorted(line["email"] for line in refused) == people[5:8]
    assert all(f"<{line['email']}>" in line["reply"] for line in refused)


async def test_what_stops_a_campaign_and_who_pauses_it(
    serve: StartServer, project: Project, postgres_url: str
) -> None:
    """For all: an error; a pause: no more than a line."""
    people = project.many(20)
    sender_refused = {"answer": lambda verb, _: b"550 5.7.1 no\r\n" if verb == "MAIL" else None}
    await planned(project, serve, postgres_url, **sender_refused)
    lines = [json.loads(line) for line in await log(project, postgres_url, "--log-format", "json")]
    [stopped] = [line for line in lines if line["event"] == "campaign_stopped"]
    assert (stopped["level"], stopped["campaign"]) == ("error", "letter")
    assert "550 5.7.1 no" in stopped["message"]

    project.campaign(await serve(), rate="2/s", more=f"ledger: {postgres_url}")
    await project.bulkmail("run", "letter.yaml", "--yes", "--detach")
    worker = await project.start("worker", "--ledger", postgres_url, "--log-format", "json")
    assert worker.stderr is not None
    seen: list[dict[str, Any]] = []

    async def until(event: str) -> None:
        while not seen or seen[-1]["event"] != event:
            assert worker.stderr is not None
            seen.append(json.loads(await asyncio.wait_for(worker.stderr.readline(), 60)))

    await until("settled")
    assert (await project.bulkmail("pause", "letter.yaml")).status == 0
    await until("campaign_paused")
    assert seen[-1]["level"] == "info"
    worker.terminate()
    await until("ended")
    assert "SIGTERM" in seen[-1]["message"]
    assert await asyncio.wait_for(worker.wait(), 60) == 143
    assert not any(address in str(line) for address in people for line in seen)


async def test_a_database_that_goes_is_told_and_that_it_is_back(
    serve: StartServer, project: Project, postgres_server: Any, postgres_url: str
) -> None:
    project.many(4)
    await planned(project, serve, postgres_url)
    worker = await project.start("worker", "--ledger", postgres_url, "--log-format", "json")
    assert worker.stderr is not None
    events: list[str] = []

    async def until(event: str) -> dict[str, Any]:
        while True:
            assert worker.stderr is not None
            line = json.loads(await asyncio.wait_for(worker.stderr.readline(), 60))
            events.append(line["event"])
            if line["event"] == event:
                return dict(line)

    await until("campaign_finished")
    postgres_server.kill()
    try:
        lost = await until("connection_lost")
        assert lost["level"] == "warning" and "begins anew" in lost["message"]
    finally:
        postgres_server.start()
    await until("lease_begun")
    worker.terminate()
    await until("ended")
    await asyncio.wait_for(worker.wait(), 60)
