"""What a person decides: try again, has it, pause, cancel; each is recorded, and asked for."""

import asyncio
import sqlite3
import time
from collections.abc import Callable
from contextlib import closing

import pytest

from bulkmail.compose.headers import date_header
from bulkmail.sandbox.receiving import Hangup

from .conftest import Project, RecordingServer, StartServer

UNKNOWN = b"550 5.1.1 unknown\r\n"


def to(address: str, reply: bytes | None) -> Callable[[str, str], bytes | None]:
    """Answers RCPT of one address with `reply`, or hangs up at its dot."""

    def answer(verb: str, argument: str) -> bytes | None:
        if reply is not None and verb == "RCPT" and f"<{address}>" in argument:
            return reply
        if reply is None and (verb, argument) == (".", address):
            raise Hangup
        return None

    return answer


@pytest.fixture
async def failed(serve: StartServer, project: Project) -> RecordingServer:
    """A campaign of three of whom person1 failed; the server knows them now."""
    server = await serve(answer=to("person1@example.com", UNKNOWN))
    project.many(3)
    project.campaign(server)
    assert (await project.bulkmail("run", "letter.yaml", "--yes")).status == 1
    server.server.behaviour.answer = lambda verb, argument: None
    return server


@pytest.fixture
async def doubtful(serve: StartServer, project: Project) -> RecordingServer:
    """The same, but person1 is in doubt."""
    server = await serve(extensions=("PIPELINING",), answer=to("person1@example.com", None))
    project.many(3)
    project.campaign(server)
    assert (await project.bulkmail("run", "letter.yaml", "--yes")).status == 1
    server.server.behaviour.answer = lambda verb, argument: None
    return server


async def test_who_failed_is_tried_again(failed: RecordingServer, project: Project) -> None:
    asked = project.here("retry", "letter.yaml")
    assert asked.status == 65 and "Send to 1 person again: 1 failed?" in asked.err
    assert project.states() == {"accepted": 2, "failed": 1}
    done = project.here("retry", "letter.yaml", "--yes")
    assert (done.status, done.out.splitlines()[0]) == (0, "1 pending again")
    assert (await project.bulkmail("run", "letter.yaml", "--yes")).status == 0
    assert failed.paths.count("person1@example.com") == 1 and len(failed.paths) == 3
    found = project.rows()["person1@example.com"]
    assert [event["what"] for event in found["events"]] == ["failed", "retry"]


async def test_one_by_address_and_only_where_it_is_so(
    failed: RecordingServer, project: Project
) -> None:
    """In any spelling of the address; who has it is not sent to again."""
    wrong = project.here(
        "retry", "letter.yaml", "PERSON1@example.com", "person0@example.com", "--yes"
    )
    assert wrong.status == 65
    assert "person0@example.com is not failed, expired, in doubt, cancelled in" in wrong.err
    assert "nothing was changed" in wrong.err
    assert project.states() == {"accepted": 2, "failed": 1}
    done = project.here("retry", "letter.yaml", "PERSON1@example.com", "--yes")
    assert done.status == 0 and project.states() == {"accepted": 2, "pending": 1}


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (("--state", "expired"), "nobody is expired; nothing was changed"),
        (("--state", "accepted"), "'accepted' is none of failed, expired, in_doubt, cancelled"),
        (("nobody@example.com",), "nobody@example.com is not failed"),
    ],
)
async def test_nobody_to_try_again(
    failed: RecordingServer, project: Project, arguments: tuple[str, ...], told: str
) -> None:
    result = project.here("retry", "letter.yaml", *arguments, "--yes")
    assert result.status in (2, 65) and told in result.err
    assert project.states() == {"accepted": 2, "failed": 1}


async def test_who_is_in_doubt_is_sent_to_again_only_by_name(
    doubtful: RecordingServer, project: Project
) -> None:
    """And gets the same message: date, Message-ID and all."""
    nobody = project.here("retry", "letter.yaml", "--yes")
    assert nobody.status == 65 and "nobody is failed, expired" in nobody.err
    before = project.rows()["person1@example.com"]
    done = project.here("retry", "letter.yaml", "--state", "in_doubt", "--yes")
    assert done.status == 0
    assert "1 person may have it already, and would get it twice" in done.err
    assert (await project.bulkmail("run", "letter.yaml", "--yes")).status == 0
    after = project.rows()["person1@example.com"]
    assert after["message_id"] == before["message_id"] and after["in_doubt_events"] == 1
    assert [event["what"] for event in after["events"]] == ["in_doubt", "retry"]
    [content] = [m.content for m in doubtful.received if "person1@example.com" in m.forward_paths]
    assert before["message_id"].encode() in content


async def test_a_decision_outlives_a_refusal_but_not_a_new_doubt(
    doubtful: RecordingServer, project: Project
) -> None:
    project.here("retry", "letter.yaml", "--state", "in_doubt", "--yes")
    doubtful.server.behaviour.answer = to("person1@example.com", b"450 4.2.0 later\r\n")
    project.campaign(doubtful, more="retry: {first: 1s, longest: 1h, give_up: 1d}")
    refused = await project.bulkmail("run", "letter.yaml", "--yes", "--wait", "0s")
    assert refused.status == 75 and project.states() == {"accepted": 2, "deferred": 1}
    doubtful.server.behaviour.answer = to("person1@example.com", None)
    assert (await project.bulkmail("run", "letter.yaml", "--yes")).status == 1
    doubtful.server.behaviour.answer = lambda verb, argument: None
    assert (await project.bulkmail("run", "letter.yaml", "--yes")).status == 1
    found = project.rows()["person1@example.com"]
    assert (found["state"], found["in_doubt_events"]) == ("in_doubt", 2)
    assert "person1@example.com" not in doubtful.paths


@pytest.mark.parametrize("in_doubt", ["hold", "resend"])
async def test_patience_begins_anew_with_the_decision(
    doubtful: RecordingServer, project: Project, in_doubt: str
) -> None:
    """However long ago the doubt was. The message keeps its date."""
    long_ago = time.time() - 30 * 86400
    with closing(sqlite3.connect(project.folder / "bulkmail.sqlite")) as db, db:
        db.execute(
            "UPDATE recipient SET first_attempt_at = ? WHERE state = 'in_doubt'", (long_ago,)
        )
    if in_doubt == "hold":
        project.here("retry", "letter.yaml", "--state", "in_doubt", "--yes")
    doubtful.server.behaviour.answer = to("person1@example.com", b"450 4.2.0 later\r\n")
    project.campaign(doubtful, more=f"in_doubt: {in_doubt}\nretry: {{first: 1s, give_up: 1d}}")
    await project.bulkmail("run", "letter.yaml", "--yes", "--wait", "0s")
    assert project.states() == {"accepted": 2, "deferred": 1}
    doubtful.server.behaviour.answer = lambda verb, argument: None
    assert (await project.bulkmail("run", "letter.yaml", "--yes")).status == 0
    [content] = [m.content for m in doubtful.received if "person1@example.com" in m.forward_paths]
    assert date_header(int(long_ago)) in content


async def test_who_failed_after_a_doubt_may_have_it_all_the_same(
    doubtful: RecordingServer, project: Project
) -> None:
    project.here("retry", "letter.yaml", "--state", "in_doubt", "--yes")
    doubtful.server.behaviour.answer = to("person1@example.com", UNKNOWN)
    assert (await project.bulkmail("run", "letter.yaml", "--yes")).status == 1
    asked = project.here("retry", "letter.yaml")
    assert "1 person may have it already, and would get it twice" in asked.err
    assert "Send to 1 person again: 1 failed?" in asked.err


async def test_who_has_it_after_all_is_settled(doubtful: RecordingServer, project: Project) -> None:
    bare = project.here("settle", "letter.yaml", "--yes")
    assert bare.status == 2 and "--accepted" in bare.err
    done = project.here("settle", "letter.yaml", "--accepted", "--yes")
    assert (done.status, done.out) == (0, "1 accepted, as you say\n")
    assert (await project.bulkmail("run", "letter.yaml", "--yes")).status == 0
    found = project.rows()["person1@example.com"]
    assert (found["state"], found["reason"]) == ("accepted", "has it, as was decided")
    assert [event["what"] for event in found["events"]] == ["in_doubt", "settle"]
    assert "person1@example.com" not in doubtful.paths


async def test_settling_is_for_those_in_doubt(failed: RecordingServer, project: Project) -> None:
    result = project.here("settle", "letter.yaml", "--accepted", "--yes")
    assert result.status == 65 and "nobody is in doubt; nothing was changed" in result.err


async def test_who_may_have_it_stays_in_doubt_when_excluded_or_given_up(
    doubtful: RecordingServer, project: Project
) -> None:
    for give_up, undone in (
        (("suppress", "add", "person1@example.com"), ("suppress", "remove", "person1@example.com")),
        (("cancel", "letter.yaml", "--yes"), ("status", "letter.yaml")),
    ):
        decided = project.here("retry", "letter.yaml", "--state", "in_doubt", "--yes")
        assert decided.status == 0 and project.states() == {"accepted": 2, "pending": 1}
        assert project.here(*give_up).status == 0
        await project.bulkmail("run", "letter.yaml", "--yes")
        assert project.states() == {"accepted": 2, "in_doubt": 1}
        project.here(*undone)
    assert "person1@example.com" not in doubtful.paths


# -- from another terminal -----------------------------------------------------------------------


@pytest.fixture
async def running(
    serve: StartServer, project: Project
) -> tuple[RecordingServer, asyncio.subprocess.Process]:
    """A run of 200 at 50 a second, of which some are sent."""
    server = await serve()
    project.many(200)
    project.campaign(server, rate="50/s")
    process = await project.start("run", "letter.yaml", "--yes")
    while len(server.paths) < 5:
        await asyncio.sleep(0.01)
    return server, process


async def test_a_run_is_paused_from_another_terminal_and_goes_on(
    running: tuple[RecordingServer, asyncio.subprocess.Process], project: Project
) -> None:
    server, process = running
    told = await project.bulkmail("status", "letter.yaml")
    assert "a run is under way since 20" in told.out
    paused = await project.bulkmail("pause", "letter.yaml")
    assert paused.status == 0 and paused.out.startswith("paused")
    _, err = await process.communicate()
    assert process.returncode == 75 and b"stopped: paused from another terminal" in err
    counted = project.states()
    assert set(counted) == {"accepted", "pending"} and counted["accepted"] == len(server.paths)
    assert "under way" not in (await project.bulkmail("status", "letter.yaml")).out
    project.campaign(server)
    assert (await project.bulkmail("run", "letter.yaml", "--yes")).status == 0
    assert len(server.paths) == len(set(server.paths)) == 200


async def test_nothing_to_pause(failed: RecordingServer, project: Project) -> None:
    told = await project.bulkmail("pause", "letter.yaml")
    assert (told.status, told.out) == (0, "no run of letter.yaml is under way\n")
    assert project.here("retry", "letter.yaml", "--yes").status == 0
    assert (await project.bulkmail("run", "letter.yaml", "--yes")).status == 0


async def test_a_campaign_is_cancelled_while_it_runs(
    running: tuple[RecordingServer, asyncio.subprocess.Process], project: Project
) -> None:
    """No run sends it any more, until that is taken back; then nobody gets it twice."""
    server, process = running
    asked = await project.bulkmail("cancel", "letter.yaml")
    assert asked.status == 65 and "people whom it was not sent to yet?" in asked.err
    done = await project.bulkmail("cancel", "letter.yaml", "--yes")
    await process.communicate()
    assert done.status == 0 and process.returncode == 75
    sent = len(server.paths)
    assert project.states() == {"accepted": sent, "cancelled": 200 - sent}
    for command in (("run", "letter.yaml", "--yes"), ("check", "letter.yaml")):
        refused = await project.bulkmail(*command)
        assert refused.status == 65 and '"letter" was cancelled on 20' in refused.err
        assert "bulkmail retry letter.yaml --state cancelled" in refused.err
    one = project.here("retry", "letter.yaml", "person199@example.com", "--yes")
    assert one.status == 65 and "was cancelled as a whole" in one.err
    some = project.here("retry", "letter.yaml", "--state", "failed", "--yes")
    assert some.status == 65 and "was cancelled as a whole" in some.err
    back = project.here("retry", "letter.yaml", "--state", "cancelled", "--yes")
    assert back.status == 0
    project.campaign(server)
    assert (await project.bulkmail("run", "letter.yaml", "--yes")).status == 0
    assert len(server.paths) == len(set(server.paths)) == 200


async def test_decisions_wait_for_the_end_of_a_run(
    running: tuple[RecordingServer, asyncio.subprocess.Process], project: Project
) -> None:
    _, process = running
    for command in (("retry", "letter.yaml", "--yes"),
                    ("settle", "letter.yaml", "--accepted", "--yes")):  # fmt: skip
        refused = await project.bulkmail(*command)
        assert refused.status == 75 and "another run is using" in refused.err
    process.kill()
    await process.communicate()
    told = await project.bulkmail("pause", "letter.yaml")
    assert told.out == "no run of letter.yaml is under way\n", "it was killed"
