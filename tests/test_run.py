"""The command as a user types it, in a process of its own if it sends, against a real server."""

import asyncio
import contextlib
import csv
import email
import email.policy
import json
import os
import pty
import re
import signal
import sqlite3
import sys
import time
from datetime import UTC, datetime, timedelta
from hashlib import sha256

import pytest

from bulkmail.ledger import SqliteLedger
from bulkmail.sandbox.receiving import Hangup

from .conftest import Project, Result, StartServer


def subjects(contents: list[bytes]) -> list[str]:
    return [email.message_from_bytes(c, policy=email.policy.default)["Subject"] for c in contents]


def summary(out: str) -> dict[str, object]:
    """The last line of `--json`."""
    last: dict[str, object] = json.loads(out.strip().split("\n")[-1])
    assert last["event"] == "summary"
    return last


async def test_run_sends_and_a_second_run_sends_nothing(
    serve: StartServer, project: Project
) -> None:
    server = await serve()
    project.people("kim@example.com,김연주", "nobody,X", "KIM@example.com,Y", "lee@example.com,Lee")
    project.campaign(server)
    result = await project.bulkmail("run", "letter.yaml", "--yes")
    assert result.status == 0
    assert result.out.startswith(
        "2 accepted · 1 filtered (people.csv:3 is not of the form name@domain) · 1 duplicate · "
    )
    assert sorted(server.paths) == ["kim@example.com", "lee@example.com"]
    assert sorted(subjects([m.content for m in server.received])) == ["For Lee", "For 김연주"]
    again = await project.bulkmail("run", "letter.yaml", "--yes")
    assert again.status == 0
    assert 'all 2 already have "letter"; for something new give it a new name' in again.out
    assert len(server.paths) == 2


async def test_without_a_terminal_yes_is_needed(serve: StartServer, project: Project) -> None:
    server = await serve()
    project.campaign(server)
    result = await project.bulkmail("run", "letter.yaml")
    assert result.status == 65
    assert "Send to 1 person now? There is no terminal to answer at; pass --yes" in result.err
    assert server.server.accepted == 0


async def screen(
    project: Project, typed: dict[str, str | None], *arguments: str
) -> tuple[int, str]:
    """Runs the command in a terminal; when a text of `typed` is shown, types what stands beside it,
    or interrupts.

    The status, and all that was shown, without colours.
    """
    master, slave = pty.openpty()
    process = await project.start(*arguments, terminal=slave)
    os.close(slave)
    asyncio.get_running_loop().call_later(50, lambda: process.returncode is None and process.kill())
    shown, waiting = "", list(typed)
    interrupting: asyncio.Task[None] | None = None
    with contextlib.suppress(OSError):  # Linux says EIO when the other end is closed
        while data := await asyncio.to_thread(os.read, master, 65536):
            shown += re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]", "", data.decode("utf-8", "replace"))
            if waiting and waiting[0] in shown:
                answer = typed[waiting.pop(0)]
                if answer is None:
                    interrupting = asyncio.create_task(interrupt(process))
                else:
                    os.write(master, answer.encode())
    os.close(master)
    if interrupting is not None:
        await interrupting
    return await process.wait(), shown.replace("\r\n", "\n")


async def interrupt(process: asyncio.subprocess.Process) -> None:
    """Ctrl-C, and again if nothing happens, as people do: Python does not hear one that comes
    between its writing of a prompt and its reading of the answer."""
    while process.returncode is None:
        process.send_signal(signal.SIGINT)
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(process.wait(), 1)


@pytest.mark.parametrize(("answer", "sent"), [("y\n", 2), ("n\n", 0), ("\n", 0)])
async def test_the_question_shows_everything_and_only_yes_sends(
    serve: StartServer, project: Project, answer: str, sent: int
) -> None:
    server = await serve()
    project.people("kim@example.com,김연주", "nobody,X", "lee@example.com,Lee")
    project.write("plan.pdf", "x" * 27_000)
    project.campaign(server, rate="100/s", more="attachments: [plan.pdf]")
    status, shown = await screen(project, {"[y/N]": answer}, "run", "letter.yaml")
    submission = server.submission
    for line in (
        "campaign     letter",
        "from         News <news@example.org>",
        f"server       127.0.0.1:{submission.port} (tls), login sender",
        "subject      For 김연주",
        "recipients   2 of 3: 1 invalid people.csv:3",
        "attachments  plan.pdf (27 KB)",
        "rate         100/s: less than a second",
        "Send to 2 people now? [y/N]",
    ):
        assert line in shown, shown
    assert len(server.paths) == sent
    assert status == (0 if sent else 65)
    if not sent:
        assert shown.endswith("nothing was sent\n")
        assert server.server.accepted == 0
        assert project.here("status", "letter.yaml").status == 66, "nothing was written"


async def test_ctrl_c_at_the_question_is_130(serve: StartServer, project: Project) -> None:
    project.campaign(await serve())
    status, shown = await screen(project, {"[y/N]": None}, "run", "letter.yaml")
    assert status == 130
    assert "stopped by Ctrl-C" in shown
    assert project.here("status", "letter.yaml").status == 66, "nothing was written"


async def test_the_password_is_asked_for_and_never_shown(
    serve: StartServer, project: Project
) -> None:
    server = await serve()
    path = project.campaign(server)
    path.write_text(path.read_text().replace("env:TEST_PASSWORD", "ask"))
    status, shown = await screen(
        project, {"[y/N]": "y\n", "Password of": "secret\n"}, "run", "letter.yaml"
    )
    assert status == 0, shown
    assert "Password of sender at 127.0.0.1:" in shown
    assert "secret" not in shown
    assert server.paths == ["kim@example.com"]


async def test_json_is_one_object_a_line(serve: StartServer, project: Project) -> None:
    server = await serve()
    project.many(3)
    project.campaign(server)
    result = await project.bulkmail("run", "letter.yaml", "--yes", "--json")
    events = [json.loads(line) for line in result.out.strip().split("\n")]
    assert [event["event"] for event in events] == ["settled"] * 3 + ["summary"]
    assert events[0] == {
        "event": "settled",
        "email": "person0@example.com",
        "state": "accepted",
        "reply": "250 2.0.0 kept",
        "reason": "",
    }
    assert events[-1]["campaign"] == "letter"
    assert events[-1]["states"] == {"accepted": 3}
    status = await project.bulkmail("status", "letter.yaml", "--json")
    assert json.loads(status.out)["states"] == {"accepted": 3}


async def test_limit_and_continue(serve: StartServer, project: Project) -> None:
    server = await serve()
    addresses = project.many(10)
    project.campaign(server)
    first = await project.bulkmail("run", "letter.yaml", "--yes", "--limit", "4")
    assert first.status == 75
    assert "stopped: limited to 4 in this run" in first.err
    assert "go on:          bulkmail run letter.yaml" in first.out
    second = await project.bulkmail("run", "letter.yaml", "--yes")
    assert second.status == 0
    assert sorted(server.paths) == sorted(addresses)


async def test_a_quota_holds_over_runs_and_campaigns(serve: StartServer, project: Project) -> None:
    """It is the account's, not the campaign's."""
    server = await serve()
    project.many(5)
    path = project.campaign(server, rate="3/day")
    first = await project.bulkmail("run", "letter.yaml", "--yes")
    assert first.status == 75 and "the rate allows the next message on" in first.err
    assert len(server.paths) == 3
    assert (await project.bulkmail("run", "letter.yaml", "--yes")).status == 75
    path.rename(project.folder / "other.yaml")
    assert (await project.bulkmail("run", "other.yaml", "--yes", "--new")).status == 75
    assert len(server.paths) == 3


@pytest.mark.parametrize(
    ("environment", "answers", "status", "told"),
    [
        ({"TEST_PASSWORD": "wrong"}, {}, 77, "refused the login of sender:\n  535"),
        ({"TEST_PASSWORD": ""}, {}, 78, "the environment variable TEST_PASSWORD"),
        ({}, {"MAIL": b"550 5.7.1 not you\r\n"}, 69, "550 5.7.1 not you"),
        ({}, {"CONNECT": b"554 go away\r\n"}, 69, "554 go away"),
        ({}, {".": b"550 5.4.5 Daily user sending limit exceeded\r\n"}, 75, "quota"),
    ],
)
async def test_what_stops_a_run_leaves_everyone_pending(
    serve: StartServer,
    project: Project,
    environment: dict[str, str],
    answers: dict[str, bytes],
    status: int,
    told: str,
) -> None:
    server = await serve(answer=lambda verb, argument: answers.get(verb))
    project.many(20)
    project.campaign(server)
    project.environment = environment
    result = await project.bulkmail("run", "letter.yaml", "--yes")
    assert (result.status, server.paths) == (status, [])
    assert told in result.err
    project.environment = {}
    server.server.behaviour.answer = lambda verb, argument: None
    assert (await project.bulkmail("run", "letter.yaml", "--yes")).status == 0
    assert len(server.paths) == 20


async def test_an_untrusted_certificate_stops_the_run(serve: StartServer, project: Project) -> None:
    server = await serve()
    path = project.campaign(server)
    path.write_text(path.read_text().replace(f"  ca_file: {server.submission.ca_file}\n", ""))
    result = await project.bulkmail("run", "letter.yaml", "--yes")
    assert result.status == 69
    assert "cannot be trusted" in result.err and server.paths == []
    assert project.states() == {"pending": 1}


async def test_refused_recipients_end_in_1_and_the_report_says_why(
    serve: StartServer, project: Project
) -> None:
    no = b"550 5.1.1 no such user\r\n"
    server = await serve(
        answer=lambda verb, argument: no if verb == "RCPT" and "person1@" in argument else None
    )
    project.many(3)
    project.campaign(server)
    result = await project.bulkmail("run", "letter.yaml", "--yes")
    assert result.status == 1
    assert "2 accepted · 1 failed" in result.out
    assert "bulkmail report letter.yaml --state failed" in result.out
    report = project.here("report", "letter.yaml", "--state", "failed", "--format", "json")
    row = json.loads(report.out)
    assert row.pop("message_id").endswith("@example.org>")
    [event] = row.pop("events")
    assert event.pop("begun_at") < event.pop("at") < time.time()
    assert event == {
        "what": "failed",
        "attempt": 1,
        "phase": "rcpt",
        "reply": "550 5.1.1 no such user",
        "reason": "550 5.1.1 no such user",
    }
    assert row == {
        "email": "person1@example.com",
        "state": "failed",
        "source": "people.csv:3",
        "reason": "550 5.1.1 no such user",
        "reply": "550 5.1.1 no such user",
        "attempts": 1,
        "in_doubt_events": 0,
        "fields": {"name": "Person 1"},
    }


async def test_deferred_recipients_end_in_75_and_say_when(
    serve: StartServer, project: Project
) -> None:
    later = b"450 4.2.1 later\r\n"
    server = await serve(answer=lambda verb, argument: later if verb == "RCPT" else None)
    project.campaign(server)
    result = await project.bulkmail("run", "letter.yaml", "--yes", "--wait", "1m")
    assert result.status == 75
    assert "1 deferred" in result.out and "stopped: the next retry is due on 20" in result.err


async def test_a_report_can_go_to_a_file_and_holds_no_formulas(
    serve: StartServer, project: Project
) -> None:
    server = await serve()
    project.people("=cmd@example.com,x", "kim@example.com,Kim")
    project.campaign(server)
    await project.bulkmail("run", "letter.yaml", "--yes")
    out = project.folder / "report.csv"
    result = project.here("report", "letter.yaml", "--format", "csv", "--out", str(out))
    assert (result.status, result.out) == (0, "")
    lines = out.read_text().split("\n")
    assert lines[0].startswith("email,state,source,reason")
    assert lines[1].startswith("'=cmd@example.com,accepted,people.csv:2")


async def test_a_report_for_a_spreadsheet_holds_the_columns_of_the_list(
    serve: StartServer, project: Project
) -> None:
    """Those of all sources, after ours, told apart from ours, and none of them a formula."""
    server = await serve()
    project.write(
        "people.csv", 'email,name,State,=x\nkim@example.com,김연주,-1,=2\nno,"a, b",x,y\n'
    )
    project.write("more.jsonl", '{"email": "lee@example.com", "seat": 3}\n')
    path = project.campaign(server)
    path.write_text(path.read_text().replace("people.csv", "people.csv\n  - file: more.jsonl"))
    project.write("letter.txt", "Hi\n")
    path.write_text(path.read_text().replace("For {{ name }}", "Hi"))
    result = await project.bulkmail("run", "letter.yaml", "--yes")
    assert result.status == 0, result
    report = project.here("report", "letter.yaml", "--format", "csv")
    headings, *rows = csv.reader(report.out.splitlines())
    assert headings[:2] == ["email", "state"]
    assert headings[8:] == ["name", "fields.State", "'=x", "seat"]
    assert [(row[0], *row[8:]) for row in rows] == [
        ("kim@example.com", "김연주", "'-1", "'=2", ""),
        ("no", "a, b", "x", "y", ""),
        ("lee@example.com", "", "", "", "3"),
    ]
    few = project.here("report", "letter.yaml", "--format", "csv", "--state", "invalid,failed")
    headings, *rows = csv.reader(few.out.splitlines())
    assert headings[8:] == ["name", "fields.State", "'=x"] and [row[0] for row in rows] == ["no"]


# -- nothing but a real run writes the ledger ------------------------------------------------------


async def test_a_dry_run_writes_messages_and_no_ledger(project: Project) -> None:
    project.many(30)
    project.campaign()
    result = project.here("run", "letter.yaml", "--dry-run")
    assert result.status == 0
    assert "30 would get it · nothing was sent" in result.out
    assert "person0@example.com" in result.out
    files = sorted((project.folder / "dry-run" / "letter").iterdir())
    assert len(files) == 20
    assert files[0].name == "00001 person0@example.com.eml"
    assert subjects([files[0].read_bytes()]) == ["For Person 0"]
    assert not list(project.folder.glob("*.sqlite*"))


async def test_a_dry_run_can_write_all_elsewhere(project: Project) -> None:
    project.many(30)
    project.campaign()
    mine = project.write("look/mine.eml", "not bulkmail's")
    project.here("run", "letter.yaml", "--dry-run", "--all", "--out", "look")
    assert len(list((project.folder / "look").iterdir())) == 31
    project.here("run", "letter.yaml", "--dry-run", "--out", "look")
    assert len(list((project.folder / "look").iterdir())) == 21
    assert mine.read_text() == "not bulkmail's"


@pytest.mark.parametrize(
    ("flags", "told"),
    [
        ("--out look", "--out and --all belong to --dry-run"),
        ("--all", "--out and --all belong to --dry-run"),
        ("--dry-run --sandbox", "not even to the sandbox; use one of them"),
        ("--dry-run --limit 2", "--limit bounds what is sent; --dry-run looks at everyone"),
        ("--dry-run --detach", "--detach belongs to a run that sends"),
        ("--sandbox --detach", "--detach belongs to a run that sends"),
        ("--dry-run --approved x", "--dry-run sends nothing that would be approved"),
    ],
)
def test_flags_that_do_not_go_together(project: Project, flags: str, told: str) -> None:
    project.campaign()
    result = project.here("run", "letter.yaml", *flags.split())
    assert result.status == 2 and told in result.err


async def test_the_sandbox_keeps_its_own_ledger_and_ignores_the_rate(project: Project) -> None:
    project.many(30)
    project.campaign(rate="1/day")
    result = await project.bulkmail("run", "letter.yaml", "--sandbox", "--yes")
    assert result.status == 0, result.err
    assert "30 accepted" in result.out and "nothing left this computer" in result.out
    assert len(list((project.folder / "sandbox" / "Maildir" / "new").iterdir())) == 30
    assert not (project.folder / "bulkmail.sqlite").exists()
    status = project.here("status", "letter.yaml", "--sandbox", "--json")
    assert json.loads(status.out)["states"] == {"accepted": 30}
    unknown = project.here("status", "letter.yaml")
    assert unknown.status == 66
    assert '"letter" was never run' in unknown.err


async def test_a_template_mistake_is_found_before_anything_is_connected(
    serve: StartServer, project: Project
) -> None:
    """Also one that concerns the last recipient only; the ledger stays as it was."""
    server = await serve()
    project.write("letter.txt", "Hello\n{% if name == 'Person 9' %}{{ nmae }}{% endif %}\n")
    project.many(10)
    project.campaign(server)
    result = await project.bulkmail("run", "letter.yaml", "--yes")
    assert result.status == 65
    assert (
        "letter.txt:2: 'nmae' is undefined; did you mean 'name'? (for people.csv:11)" in result.err
    )
    assert server.server.accepted == 0
    assert project.here("status", "letter.yaml").status == 66


@pytest.mark.parametrize(
    ("people", "told"),
    [
        ([], "letter.yaml:4:1: nobody to send to: people.csv: holds nobody"),
        (["nobody,X"], "nobody to send to: 1 invalid people.csv:2"),
    ],
)
async def test_nobody_to_send_to(project: Project, people: list[str], told: str) -> None:
    project.people(*people)
    project.campaign()
    result = await project.bulkmail("run", "letter.yaml", "--yes")
    assert result.status == 65
    assert told in result.err


async def test_rows_that_must_not_be_skipped(project: Project) -> None:
    project.people("kim@example.com,Kim", "nobody,X", "kim@example.com,Again")
    project.campaign(more="addresses: {invalid: error, duplicates: error}")
    result = await project.bulkmail("run", "letter.yaml", "--yes")
    assert result.status == 65
    assert result.err.split("\n")[:2] == [
        "people.csv:3: is not of the form name@domain",
        "people.csv:4: the same person stands above",
    ]


async def test_changed_content_needs_a_yes(serve: StartServer, project: Project) -> None:
    server = await serve()
    project.many(4)
    project.campaign(server)
    await project.bulkmail("run", "letter.yaml", "--yes", "--limit", "2")
    project.write("letter.txt", "Something else, {{ name }}\n")
    refused = await project.bulkmail("run", "letter.yaml", "--yes")
    assert refused.status == 65
    assert "The content changed since 2 people got theirs" in refused.err
    assert len(server.paths) == 2
    accepted = await project.bulkmail("run", "letter.yaml", "--yes", "--accept-changes")
    assert accepted.status == 0 and len(server.paths) == 4
    assert b"Something else, Person 3" in server.received[-1].content


async def test_changed_content_is_noticed_also_after_all_had_it(
    serve: StartServer, project: Project
) -> None:
    """A run that sends nothing does not make the new content the known one."""
    server = await serve()
    project.many(2)
    project.campaign(server)
    await project.bulkmail("run", "letter.yaml", "--yes")
    project.write("letter.txt", "Something else, {{ name }}\n")
    refused = await project.bulkmail("run", "letter.yaml", "--yes")
    assert refused.status == 65, "nobody would get the new text, and a job must notice"
    assert 'all 2 already have "letter", with the content that it had then' in refused.err
    project.many(3)
    refused = await project.bulkmail("run", "letter.yaml", "--yes")
    assert refused.status == 65 and len(server.paths) == 2
    assert "The content changed since 2 people got theirs" in refused.err


async def test_the_same_under_a_new_name_is_not_sent_twice_in_silence(
    serve: StartServer, project: Project
) -> None:
    """Renamed, a campaign would start over: with `--new` it does, not by accident."""
    server = await serve()
    project.many(3)
    path = project.campaign(server)
    await project.bulkmail("run", "letter.yaml", "--yes", "--limit", "2")
    path.rename(project.folder / "other.yaml")
    refused = await project.bulkmail("run", "other.yaml", "--yes")
    assert refused.status == 65 and len(server.paths) == 2
    assert '2 of 3 people already have this content, as "letter"' in refused.err
    assert 'campaign: "letter"' in refused.err and "--new" in refused.err
    limited = await project.bulkmail("run", "other.yaml", "--yes", "--new", "--limit", "1")
    assert limited.status == 75 and len(server.paths) == 3
    assert (await project.bulkmail("run", "other.yaml", "--yes", "--limit", "1")).status == 75
    assert len(server.paths) == 4, "once meant, it continues without asking again"


async def test_what_was_meant_again_was_meant_for_those_who_were_known(
    serve: StartServer, project: Project
) -> None:
    server = await serve()
    project.many(3)
    path = project.campaign(server)
    await project.bulkmail("run", "letter.yaml", "--yes")
    path.rename(project.folder / "other.yaml")
    project.many(2)
    assert (await project.bulkmail("run", "other.yaml", "--yes", "--new")).status == 0
    project.many(3)
    refused = await project.bulkmail("run", "other.yaml", "--yes")
    assert refused.status == 65 and "already have this content" in refused.err
    assert server.paths.count("person2@example.com") == 1


async def test_another_text_or_other_people_under_a_new_name_are_new(
    serve: StartServer, project: Project
) -> None:
    server = await serve()
    project.campaign(server)
    await project.bulkmail("run", "letter.yaml", "--yes")
    project.campaign(server, more="campaign: august")
    project.people("lee@example.com,Lee")
    assert (await project.bulkmail("run", "letter.yaml", "--yes")).status == 0, "other people"
    project.campaign(server, more="campaign: september")
    project.write("letter.txt", "Something else\n")
    assert (await project.bulkmail("run", "letter.yaml", "--yes")).status == 0, "another text"
    assert len(server.paths) == 3


async def test_the_failed_of_an_earlier_campaign_are_a_source(
    serve: StartServer, project: Project
) -> None:
    """With all their fields; whoever got it there gets nothing here."""
    no = b"550 5.1.1 no such user\r\n"
    server = await serve(
        answer=lambda verb, argument: no if verb == "RCPT" and "person1@" in argument else None
    )
    project.many(3)
    project.campaign(server)
    await project.bulkmail("run", "letter.yaml", "--yes")
    server.server.behaviour.answer = lambda verb, argument: None
    path = project.campaign(server, more="campaign: again")
    path.write_text(path.read_text().replace("file: people.csv", "campaign: letter"))
    result = await project.bulkmail("run", "letter.yaml", "--yes")
    assert result.status == 0, result.err
    assert server.paths.count("person1@example.com") == 1 and len(server.paths) == 3
    assert subjects([server.received[-1].content]) == ["For Person 1"]
    report = project.here("report", "letter.yaml", "--format", "json")
    assert json.loads(report.out)["source"] == "letter/people.csv:3"
    path.write_text(path.read_text().replace("campaign: letter}", "campaign: lettre}").replace("campaign: letter\n", "campaign: lettre\n"))  # fmt: skip
    unknown = await project.bulkmail("run", "letter.yaml", "--yes")
    assert unknown.status == 65
    assert 'no campaign "lettre" in bulkmail.sqlite; known are letter, again' in unknown.err


async def test_those_in_doubt_are_sent_to_again_only_if_they_are_still_meant(
    serve: StartServer, project: Project
) -> None:
    """Excluded or gone since, they stay in doubt, also later; the others get what is true now."""
    server = await serve(answer=lambda verb, argument: hang_up() if verb == "." else None)
    addresses = project.many(4)
    for _ in range(4):
        project.campaign(server)
        await project.bulkmail("run", "letter.yaml", "--yes", "--limit", "1")
    server.server.behaviour.answer = lambda verb, argument: None
    project.write("out.csv", f"email\n{addresses[1]}\n")
    project.people(f"{addresses[0]},Person 0", f"{addresses[1]},x", f"{addresses[2]},New name")
    project.campaign(server, more="in_doubt: resend\nexclude: [out.csv]")
    result = await project.bulkmail("run", "letter.yaml", "--yes", "--json")
    assert summary(result.out)["states"] == {"accepted": 2, "in_doubt": 2}
    project.many(4)
    project.campaign(server)
    again = await project.bulkmail("run", "letter.yaml", "--yes", "--json")
    assert summary(again.out)["states"] == {"accepted": 2, "in_doubt": 2}
    assert sorted(subjects([m.content for m in server.received])) == [
        "For New name",
        "For Person 0",
    ]


async def test_doubt_is_recorded_also_where_nobody_is_left_for_a_new_content(
    serve: StartServer, project: Project
) -> None:
    """A killed run left one in flight: that is told and kept, also when the run stops for it."""
    process: list[asyncio.subprocess.Process] = []
    server = await serve(answer=lambda verb, argument: process[0].kill() if verb == "." else None)
    project.campaign(server)
    process.append(await project.start("run", "letter.yaml", "--yes"))
    await process[0].communicate()
    project.write("letter.txt", "Something else\n")
    result = await project.bulkmail("run", "letter.yaml", "--yes")
    assert result.status == 65
    assert 'nobody is left to send "letter" to: 1 in doubt, with the content that it' in result.err
    assert project.states() == {"in_doubt": 1}


async def test_who_is_sent_to_again_is_composed_again_before_anything_is_sent(
    serve: StartServer, project: Project
) -> None:
    """In doubt, they were not among those for whom the new content was proved."""
    server = await serve(answer=lambda verb, argument: hang_up() if verb == "." else None)
    project.many(3)
    project.campaign(server)
    await project.bulkmail("run", "letter.yaml", "--yes", "--limit", "1")
    server.server.behaviour.answer = lambda verb, argument: None
    project.write("letter.txt", "{% if name == 'Person 0' %}{{ 1 // 0 }}{% endif %}New\n")
    flags = ("--yes", "--accept-changes")
    await project.bulkmail("run", "letter.yaml", *flags, "--limit", "1")
    connected = server.server.accepted
    project.campaign(server, more="in_doubt: resend")
    refused = await project.bulkmail("run", "letter.yaml", *flags)
    assert refused.status == 65 and "(for people.csv:2)" in refused.err
    assert server.server.accepted == connected


async def test_a_changed_content_asks_also_where_people_may_have_the_other(
    serve: StartServer, project: Project
) -> None:
    server = await serve(answer=lambda verb, argument: hang_up() if verb == "." else None)
    project.campaign(server, more="in_doubt: resend")
    await project.bulkmail("run", "letter.yaml", "--yes")
    server.server.behaviour.answer = lambda verb, argument: None
    project.write("letter.txt", "Something else, {{ name }}\n")
    refused = await project.bulkmail("run", "letter.yaml", "--yes")
    assert refused.status == 65 and "The content changed since 1 person" in refused.err
    assert server.paths == []


async def test_a_second_name_is_noticed_also_when_its_campaign_has_begun(
    serve: StartServer, project: Project
) -> None:
    server = await serve()
    project.people("kim@example.com,Kim", "lee@example.com,Lee")
    project.campaign(server)
    await project.bulkmail("run", "letter.yaml", "--yes")
    project.people("late@example.com,Late")
    project.campaign(server, more="campaign: second")
    assert (await project.bulkmail("run", "letter.yaml", "--yes")).status == 0
    project.people("late@example.com,Late", "kim@example.com,Kim")
    refused = await project.bulkmail("run", "letter.yaml", "--yes")
    assert refused.status == 65 and "already have this content" in refused.err
    assert server.paths.count("kim@example.com") == 1


async def test_a_ledger_of_its_own_does_not_hide_the_suppression_list(
    serve: StartServer, project: Project
) -> None:
    server = await serve()
    project.many(2)
    project.campaign(server, more="ledger: own.sqlite")
    project.here("suppress", "add", "person1@example.com")
    assert (await project.bulkmail("run", "letter.yaml", "--yes")).status == 0
    assert server.paths == ["person0@example.com"]


async def test_a_campaign_goes_on_without_the_files_it_had(
    serve: StartServer, project: Project
) -> None:
    server = await serve()
    project.people("kim@example.com,1", "lee@example.com,1")
    project.write("bills/1.pdf", "%PDF-1")
    project.campaign(server, more='attachments: [{file: "bills/{{ name }}.pdf"}]')
    await project.bulkmail("run", "letter.yaml", "--yes", "--limit", "1")
    project.campaign(server)
    result = await project.bulkmail("run", "letter.yaml", "--yes", "--accept-changes")
    assert result.status == 0 and len(server.paths) == 2


async def test_a_persons_other_file_is_no_changed_content_if_the_data_changed(
    serve: StartServer, project: Project
) -> None:
    server = await serve()
    project.people("kim@example.com,1", "lee@example.com,2")
    for number in (1, 2, 3):
        project.write(f"bills/{number}.pdf", f"%PDF-{number}")
    project.campaign(server, more='attachments: [{file: "bills/{{ name }}.pdf"}]')
    await project.bulkmail("run", "letter.yaml", "--yes", "--limit", "1")
    project.people("kim@example.com,1", "lee@example.com,3")
    result = await project.bulkmail("run", "letter.yaml", "--yes")
    assert result.status == 0 and b"3.pdf" in server.received[-1].content


async def test_check_and_dry_run_know_who_has_it_and_write_nothing(
    serve: StartServer, project: Project
) -> None:
    server = await serve()
    project.many(5)
    project.campaign(server)
    await project.bulkmail("run", "letter.yaml", "--yes", "--limit", "2")
    before = (project.folder / "bulkmail.sqlite").read_bytes()
    checked = project.here("check", "letter.yaml")
    assert "3 would get it · 2 already have it" in checked.out
    dry = project.here("run", "letter.yaml", "--dry-run")
    assert "3 would get it · 2 already have it" in dry.out
    assert (project.folder / "bulkmail.sqlite").read_bytes() == before
    await project.bulkmail("run", "letter.yaml", "--yes")
    project.write("letter.txt", "Something else\n")
    for arguments in (["check"], ["run", "--dry-run"], ["run", "--yes"]):
        told = await project.bulkmail(arguments[0], "letter.yaml", *arguments[1:])
        assert told.status == 65 and 'all 5 already have "letter"' in told.err, told


async def test_a_rehearsal_can_be_repeated(project: Project) -> None:
    """Also with another text; nobody outside this computer gets anything."""
    project.many(3)
    project.campaign()
    for text in ("One\n", "Two\n", "Two\n"):
        project.write("letter.txt", text)
        result = await project.bulkmail("run", "letter.yaml", "--sandbox", "--yes")
        assert result.status == 0 and "3 accepted" in result.out, result
    assert len(list((project.folder / "sandbox" / "Maildir" / "new").iterdir())) == 9


async def test_a_suppression_that_must_wait_is_told_why(project: Project) -> None:
    """At once, while a run waits at its question."""
    await project.bulkmail("suppress", "add", "kim@example.com")
    path = project.folder / "bulkmail.sqlite"

    async def both() -> list[Result]:
        tried = (
            project.bulkmail("suppress", command, "kim@example.com")
            for command in ("add", "remove")
        )
        return await asyncio.gather(*tried)

    run = SqliteLedger(path)
    with run.enrolling():
        began = time.monotonic()
        refused = await both()
        assert time.monotonic() - began < 10
    run.close()
    told = (
        f"nothing was changed: a run is being prepared in {path}, and will not see it."
        " Answer its question, with no if it should, then try again\n"
    )
    assert [(one.status, one.err) for one in refused] == [(75, told)] * 2
    with contextlib.closing(sqlite3.connect(path, isolation_level=None)) as db:
        db.execute("BEGIN IMMEDIATE")
        refused = await both()
    for one in refused:
        assert one.status == 75
        assert f"another program is writing to {path}. Let it finish, then" in one.err
    assert [one.status for one in await both()] == [0, 0]


async def test_a_suppression_waits_for_a_commit(project: Project) -> None:
    """Of a run that sends: an instant is waited for."""
    project.here("suppress", "add", "kim@example.com")
    path = project.folder / "bulkmail.sqlite"
    with contextlib.closing(SqliteLedger(path)) as run:
        with run.enrolling():
            process = await project.start("suppress", "add", "lee@example.com")
            await asyncio.sleep(1)
        assert await process.wait() == 0


async def test_a_dry_run_of_the_longest_names(project: Project) -> None:
    """Longer than a file's name may be."""
    labels = ".".join(["d" * 58] * 3)
    project.people(f"{'a' * 64}@{labels}.example,Kim")
    project.campaign(more=f"campaign: {'가' * 100}")
    result = project.here("run", "letter.yaml", "--dry-run")
    assert result.status == 0 and len(list(project.folder.glob("dry-run/*/*.eml"))) == 1
    taken = project.here("run", "letter.yaml", "--dry-run", "--out", "people.csv")
    assert taken.status == 66 and "people.csv: " in taken.err and "--out" in taken.err


async def test_a_rehearsal_after_a_kill_reads_what_is_whole(project: Project) -> None:
    project.campaign()
    assert (await project.bulkmail("run", "letter.yaml", "--sandbox", "--yes")).status == 0
    with (project.folder / "sandbox/Maildir/journal.jsonl").open("a") as journal:
        journal.write('{"at": 1\n')
    assert (await project.bulkmail("run", "letter.yaml", "--sandbox", "--yes")).status == 0


async def test_a_letter_cannot_command_the_terminal(project: Project) -> None:
    project.people("kim@example.com,Kim", "x\x1b[31m@,Lee", "lee@example.com,Lee")
    project.write("letter.txt", "\x1b[31mred {{ email }}\n")
    project.campaign()
    for arguments in (["run", "--dry-run"], ["run", "--sandbox", "--yes"], ["report", "--sandbox"]):
        result = await project.bulkmail(arguments[0], "letter.yaml", *arguments[1:])
        assert "lee@example.com" in result.out or "red" in result.out
        assert "\x1b[31m" not in result.out + result.err


async def test_an_empty_file_is_a_ledger_of_nobody(serve: StartServer, project: Project) -> None:
    server = await serve()
    project.campaign(server)
    (project.folder / "bulkmail.sqlite").touch()
    assert project.here("status").status == 0
    assert project.here("suppress", "list").status == 0
    assert project.here("check", "letter.yaml").status == 0
    assert (await project.bulkmail("run", "letter.yaml", "--yes")).status == 0


async def test_a_test_message_that_the_server_did_not_wait_for_is_told(
    serve: StartServer, project: Project
) -> None:
    server = await serve(
        answer=lambda verb, argument: b"250 ok\r\n421 bye\r\n" if verb == "." else None
    )
    project.campaign(server)
    result = await project.bulkmail(
        "test", "letter.yaml", "--to", "a@x.example", "--to", "b@x.example"
    )
    assert result.status == 1
    assert "a@x.example: accepted" in result.out and "b@x.example: pending · not sent" in result.out


async def test_a_test_goes_to_oneself_with_the_data_of_another(
    serve: StartServer, project: Project
) -> None:
    """Nothing is recorded; the first recipient, or who is named."""
    server = await serve()
    project.many(3)
    project.campaign(server)
    me = ("test", "letter.yaml", "--to", "me@example.org")
    assert (await project.bulkmail(*me)).status == 0
    assert (await project.bulkmail(*me, "--as", "PERSON2@example.com")).status == 0
    assert server.paths == ["me@example.org"] * 2
    assert subjects([m.content for m in server.received]) == ["For Person 0", "For Person 2"]
    nobody = await project.bulkmail(*me, "--as", "nobody@example.com")
    assert nobody.status == 65 and "nobody@example.com is not among those" in nobody.err
    wrong = project.here("test", "letter.yaml", "--to", "me")
    assert wrong.status == 2 and "me is not of the form name@domain" in wrong.err
    assert not list(project.folder.glob("*.sqlite*"))


async def test_a_report_into_a_folder_that_is_not_there_is_66(
    serve: StartServer, project: Project
) -> None:
    project.campaign(await serve())
    await project.bulkmail("run", "letter.yaml", "--yes")
    result = project.here("report", "letter.yaml", "--out", "nowhere/report.csv")
    assert result.status == 66 and "nowhere/report.csv" in result.err


async def test_nobody_who_is_excluded_or_suppressed_gets_anything(
    serve: StartServer, project: Project
) -> None:
    """Not in a real run, a rehearsal or a dry run; the report says why."""
    server = await serve()
    project.many(4)
    project.write("out.csv", "email\nPERSON1@example.com\n")
    project.campaign(server, more="exclude: [out.csv]")
    added = project.here("suppress", "add", "Person2@example.com", "--reason", "asked to")
    assert added.out.startswith("1 suppressed in bulkmail.sqlite")
    for arguments in (["--dry-run"], ["--sandbox", "--yes"]):
        tried = await project.bulkmail("run", "letter.yaml", *arguments)
        assert "2 excluded people.csv:3, :4" in tried.out or "2 suppressed" in tried.out, tried.out
    result = await project.bulkmail("run", "letter.yaml", "--yes", "--json")
    assert result.status == 0 and summary(result.out)["states"] == {"accepted": 2, "suppressed": 2}
    assert sorted(server.paths) == ["person0@example.com", "person3@example.com"]
    report = project.here("report", "letter.yaml", "--state", "suppressed", "--format", "json")
    reasons = [json.loads(line)["reason"] for line in report.out.splitlines()]
    assert reasons[0] == "stands in out.csv:2"
    assert re.fullmatch(r"suppressed on 20\d\d-\d\d-\d\d: asked to", reasons[1])
    listed = project.here("suppress", "list")
    assert listed.out.startswith("Person2@example.com ") and "asked to" in listed.out
    removed = project.here("suppress", "remove", "person2@example.com", "x@example.com")
    assert removed.out == "1 taken off · 1 did not stand there\n"
    assert (await project.bulkmail("run", "letter.yaml", "--yes")).status == 0
    assert server.paths[-1] == "person2@example.com"


async def test_what_is_no_address_is_not_put_on_the_suppression_list(project: Project) -> None:
    result = project.here("suppress", "add", "kim@example.com", "Lee <lee@example.com>")
    assert result.status == 65 and "nobody was added" in result.err
    assert not list(project.folder.glob("*.sqlite"))


@pytest.mark.parametrize(
    ("row", "told"),
    [
        ("Lee <lee@example.com>", "out.csv:3: "),
        ("", None),
    ],
)
async def test_an_exclusion_that_is_not_understood_is_not_ignored(
    serve: StartServer, project: Project, row: str, told: str | None
) -> None:
    """Whoever is wrongly not excluded would get a mail that they must not get."""
    server = await serve()
    project.many(2)
    project.write("out.csv", f"email\nperson1@example.com\n{row}\n")
    project.campaign(server, more="exclude: [out.csv]")
    result = await project.bulkmail("run", "letter.yaml", "--yes")
    assert (result.status == 0) is (told is None)
    assert told is None or told in result.err


async def test_everyone_is_composed_once_and_a_continuation_only_who_is_new(
    serve: StartServer, project: Project
) -> None:
    """A template that fails for one is found before the first connection, also later on."""
    server = await serve()
    project.write(
        "letter.txt", "Hi {{ name }}{% if email == 'x@example.com' %}{{ nmae }}{% endif %}"
    )
    addresses = project.many(5)
    project.campaign(server)
    await project.bulkmail("run", "letter.yaml", "--yes", "--limit", "2")
    project.people(*(f"{a},Person {i}" for i, a in enumerate(addresses)), "x@example.com,X")
    refused = await project.bulkmail("run", "letter.yaml", "--yes")
    assert refused.status == 65 and "(for people.csv:7)" in refused.err
    assert len(server.paths) == 2


async def test_files_of_each_persons_own(serve: StartServer, project: Project) -> None:
    """Each gets theirs; a missing one is told for all before anything is sent. Who has theirs is not
    concerned when another's is mended.
    """
    server = await serve()
    project.people("kim@example.com,1", "lee@example.com,2", "choi@example.com,3")
    project.campaign(server, more='attachments: [{file: "bills/{{ name }}.pdf"}]')
    project.write("bills/1.pdf", "%PDF-1")
    missing = await project.bulkmail("run", "letter.yaml", "--yes")
    assert missing.status == 65 and server.server.accepted == 0
    assert "bills/2.pdf: No such file or directory (for people.csv:3)" in missing.err
    assert "bills/3.pdf: No such file or directory (for people.csv:4)" in missing.err
    for number in (2, 3):
        project.write(f"bills/{number}.pdf", f"%PDF-{number}")
    await project.bulkmail("run", "letter.yaml", "--yes", "--limit", "1")
    project.write("bills/3.pdf", "%PDF-other")
    result = await project.bulkmail("run", "letter.yaml", "--yes")
    assert result.status == 0, result.err
    files = {
        message.forward_paths[0]: next(
            email.message_from_bytes(
                message.content, policy=email.policy.default
            ).iter_attachments()
        ).get_content()
        for message in server.received
    }
    assert files == {
        "kim@example.com": b"%PDF-1", "lee@example.com": b"%PDF-2", "choi@example.com": b"%PDF-other"
    }  # fmt: skip


async def test_a_message_over_the_servers_size_stops_the_run_and_blames_nobody(
    serve: StartServer, project: Project
) -> None:
    server = await serve(extensions=("PIPELINING", "SIZE 5000"))
    project.many(3)
    project.write("plan.bin", "x" * 6000)
    project.campaign(server, more="attachments: [plan.bin]")
    result = await project.bulkmail("run", "letter.yaml", "--yes", "--json")
    assert result.status == 69 and server.paths == []
    assert "the server takes 5,000 bytes at most (SIZE)" in result.out
    assert summary(result.out)["states"] == {"pending": 3}


async def test_one_message_over_the_servers_size_does_not_hold_up_those_who_fit(
    serve: StartServer, project: Project
) -> None:
    """Not when it is the first of the list: nothing of it is said to the server."""
    server = await serve(extensions=("PIPELINING", "SIZE 5000"))
    addresses = project.many(4)
    for number in range(4):
        project.write(f"bills/Person {number}.bin", "x" * (6000 if number % 3 == 0 else 10))
    project.campaign(server, more='attachments: [{file: "bills/{{ name }}.bin"}]')
    result = await project.bulkmail("run", "letter.yaml", "--yes", "--json")
    assert result.status == 1 and sorted(server.paths) == addresses[1:3]
    assert summary(result.out)["states"] == {"accepted": 2, "failed": 2}


async def test_a_dry_run_shows_the_bytes_that_are_sent(
    serve: StartServer, project: Project
) -> None:
    """By hash. Seed and date are the ledger's, which a dry run copies: so put everyone back."""
    server = await serve()
    project.people("kim@example.com,김연주", "lee@example.com,Lee")
    project.write("letter.html", '<p>안녕 {{ name }}</p><img src="cid:logo" alt="">')
    project.write("logo.png", "x" * 500)
    project.write("bills/Lee.pdf", "%PDF")
    project.write("bills/김연주.pdf", "%PDF")
    path = project.campaign(
        server, more='images: {logo: logo.png}\nattachments: [{file: "bills/{{ name }}.pdf"}]'
    )
    path.write_text(path.read_text().replace("{text: letter.txt}", "{html: letter.html}"))
    await project.bulkmail("run", "letter.yaml", "--yes")
    db = sqlite3.connect(project.folder / "bulkmail.sqlite")
    db.execute("UPDATE recipient SET state = 'pending'")
    db.commit()
    db.close()
    assert project.here("run", "letter.yaml", "--dry-run").status == 0
    for received in server.received:
        [eml] = (project.folder / "dry-run" / "letter").glob(f"* {received.forward_paths[0]}.eml")
        assert sha256(eml.read_bytes()).digest() == sha256(received.content).digest()
    assert len(server.received) == 2


async def test_a_start_in_the_future_is_shown_and_waited_for_or_told(
    serve: StartServer, project: Project
) -> None:
    server = await serve()
    project.campaign(server, more="start_at: 2099-12-01 09:00 Asia/Seoul")
    result = await project.bulkmail("run", "letter.yaml", "--yes")
    assert result.status == 75 and server.server.accepted == 0
    assert "it is to start on 2099-12-01 at 0" in result.err
    checked = project.here("check", "letter.yaml")
    assert "start        2099-12-01 09:00 Asia/Seoul" in checked.err
    soon = datetime.now(UTC) + timedelta(seconds=2)
    project.campaign(server, more=f"start_at: {soon.isoformat()}")
    result = await project.bulkmail("run", "letter.yaml", "--yes", "--wait", "1m")
    assert result.status == 0 and "starts at 20" in result.err
    assert datetime.now(UTC) > soon and len(server.paths) == 1


@pytest.mark.parametrize("choice", ["hold", "resend"])
async def test_those_in_doubt_are_held_or_sent_to_again_as_their_author_chose(
    serve: StartServer, project: Project, choice: str
) -> None:
    """Sent again with the same Message-ID and date, and the event stays on record."""
    server = await serve(answer=lambda verb, argument: hang_up() if verb == "." else None)
    project.campaign(server, more=f"in_doubt: {choice}")
    first = await project.bulkmail("run", "letter.yaml", "--yes", "--json")
    assert summary(first.out)["states"] == {"in_doubt": 1}
    server.server.behaviour.answer = lambda verb, argument: None
    again = await project.bulkmail("run", "letter.yaml", "--yes", "--json")
    assert again.status == (0 if choice == "resend" else 1)
    assert len(server.paths) == (1 if choice == "resend" else 0)
    assert project.rows()["kim@example.com"]["in_doubt_events"] == 1


def hang_up() -> bytes:
    raise Hangup


async def test_a_part_that_nobody_left_needs_is_no_change(
    serve: StartServer, project: Project
) -> None:
    server = await serve()
    project.write("letter.txt", "{% if name == 'Person 0' %}{% include 'vip.txt' %}{% endif %}Hi\n")
    project.write("vip.txt", "Dear VIP\n")
    project.many(3)
    project.campaign(server)
    await project.bulkmail("run", "letter.yaml", "--yes", "--limit", "1")
    assert b"Dear VIP" in server.received[0].content
    assert (await project.bulkmail("run", "letter.yaml", "--yes")).status == 0


async def test_a_reader_that_goes_away_does_not_stop_the_run(
    serve: StartServer, project: Project
) -> None:
    """As in `run --json | head -1`."""
    server = await serve()
    addresses = project.many(200)
    project.campaign(server)
    process = await project.start("run", "letter.yaml", "--yes", "--json")
    assert process.stdout is not None
    await process.stdout.readline()
    process.stdout._transport.close()  # type: ignore[attr-defined]
    await asyncio.wait_for(process.wait(), 20)
    assert sorted(server.paths) == sorted(addresses)
    assert project.states() == {"accepted": 200}


async def test_changed_rate_or_connections_need_none(serve: StartServer, project: Project) -> None:
    server = await serve()
    project.many(4)
    project.campaign(server)
    await project.bulkmail("run", "letter.yaml", "--yes", "--limit", "2")
    project.campaign(server, rate="1000/s", smtp="  connections: 2")
    assert (await project.bulkmail("run", "letter.yaml", "--yes")).status == 0


async def test_people_who_left_the_list_are_not_sent_to_in_silence(
    serve: StartServer, project: Project
) -> None:
    server = await serve()
    project.many(4)
    project.campaign(server)
    await project.bulkmail("run", "letter.yaml", "--yes", "--limit", "2")
    project.many(3)
    refused = await project.bulkmail("run", "letter.yaml", "--yes")
    assert refused.status == 65
    assert (
        "1 person whom this campaign has not sent to yet" in refused.err
        and "--cancel-removed" in refused.err
    )
    result = await project.bulkmail("run", "letter.yaml", "--yes", "--cancel-removed")
    assert result.status == 0
    assert "3 accepted · 1 cancelled" in result.out
    assert "person3@example.com" not in server.paths


async def test_a_second_run_at_the_same_time_is_refused(
    serve: StartServer, project: Project
) -> None:
    holding = asyncio.Event()
    server = await serve()

    def hold(verb: str, argument: str) -> bytes | None:
        if verb == ".":
            holding.set()
            return b""
        return None

    server.server.behaviour.answer = hold
    project.campaign(server)
    first = await project.start("run", "letter.yaml", "--yes")
    await holding.wait()
    second = await project.bulkmail("run", "letter.yaml", "--yes")
    assert second.status == 75
    assert "another run is using" in second.err
    status = await project.bulkmail("status", "letter.yaml", "--json")
    assert json.loads(status.out)["states"] == {"in_flight": 1}
    first.kill()
    await first.communicate()


async def test_who_is_being_sent_to_is_not_in_doubt(serve: StartServer, project: Project) -> None:
    """To `check` and a dry run, until the run that sends has died."""
    holding = asyncio.Event()
    server = await serve()

    def hold(verb: str, argument: str) -> bytes | None:
        if verb == ".":
            holding.set()
            return b""
        return None

    server.server.behaviour.answer = hold
    project.campaign(server)
    project.many(3)
    run = await project.start("run", "letter.yaml", "--yes")
    await holding.wait()
    checked = project.here("check", "letter.yaml")
    assert checked.status == 0 and "in doubt" not in checked.err, checked.err
    assert "a run is under way: 1 in flight" in checked.out and "2 would get it" in checked.out
    tried = project.here("run", "letter.yaml", "--dry-run")
    assert "2 would get it · a run is under way: 1 in flight · nothing was sent" in tried.out
    as_json = json.loads(project.here("check", "letter.yaml", "--json").out)
    assert as_json["under_way"] and as_json["states"] == {"in_flight": 1, "pending": 2}
    run.kill()
    await run.communicate()
    checked = project.here("check", "letter.yaml")
    assert "1 are held and not sent to again" in checked.err and "under way" not in checked.out
    as_json = json.loads(project.here("check", "letter.yaml", "--json").out)
    assert not as_json["under_way"] and as_json["states"] == {"in_doubt": 1, "pending": 2}


@pytest.mark.parametrize(("number", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
async def test_a_signal_drains(
    serve: StartServer, project: Project, number: int, status: int
) -> None:
    server = await serve()
    process: list[asyncio.subprocess.Process] = []

    def answer(verb: str, argument: str) -> None:
        if verb == "." and len(server.received) == 9:
            process[0].send_signal(number)

    server.server.behaviour.answer = answer
    addresses = project.many(500)
    project.campaign(server)
    process.append(await project.start("run", "letter.yaml", "--yes", "--json"))
    out, err = await process[0].communicate()
    assert process[0].returncode == status, err
    states = summary(out.decode())["states"]
    assert isinstance(states, dict) and set(states) == {"accepted", "pending"}
    assert states["accepted"] == len(server.paths) < 500
    server.server.behaviour.answer = lambda verb, argument: None
    assert (await project.bulkmail("run", "letter.yaml", "--yes")).status == 0
    assert sorted(server.paths) == sorted(addresses)


async def test_two_signals_abort(serve: StartServer, project: Project) -> None:
    """A server that never answers the dot is not waited for."""
    process: list[asyncio.subprocess.Process] = []

    def answer(verb: str, argument: str) -> bytes | None:
        if verb == ".":
            process[0].send_signal(signal.SIGINT)
            asyncio.get_running_loop().call_later(0.2, process[0].send_signal, signal.SIGINT)
            return b""
        return None

    server = await serve(answer=answer)
    project.many(5)
    project.campaign(server)
    process.append(await project.start("run", "letter.yaml", "--yes", "--json"))
    out, err = await asyncio.wait_for(process[0].communicate(), 10)
    assert process[0].returncode == 130, err
    assert summary(out.decode())["states"] == {"in_doubt": 1, "pending": 4}


# -- killed --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("verb", "kept"), [("MAIL", False), ("DATA", False), ("BDAT", False), (".", False), (".", True)]
)
async def test_a_killed_run_skips_nobody_and_repeats_nobody(
    serve: StartServer, project: Project, verb: str, kept: bool
) -> None:
    """SIGKILL between the intent and the dot, and at the dot, whether the server kept it or not."""
    server = await serve(extensions=("PIPELINING", *([] if verb == "DATA" else ["CHUNKING"])))
    slots = 3 if verb == "DATA" else 16
    process: list[asyncio.subprocess.Process] = []
    killed: list[str] = []

    def answer(said: str, argument: str) -> bytes | None:
        if not killed and said == verb and len(server.received) >= 10:
            process[0].kill()
            killed.append(argument)
            return None if kept else b""
        return None

    server.server.behaviour.answer = answer
    addresses = project.many(60)
    project.campaign(server, smtp="  connections: 3")
    process.append(await project.start("run", "letter.yaml", "--yes"))
    await process[0].communicate()
    assert process[0].returncode == -signal.SIGKILL and killed
    result = await project.bulkmail("run", "letter.yaml", "--yes", "--json")
    states = summary(result.out)["states"]
    assert isinstance(states, dict)
    assert result.status == 1, "somebody is in doubt: a person must look"
    assert 1 <= states["in_doubt"] <= 3 * slots
    assert states["accepted"] + states["in_doubt"] == 60
    rows = project.rows()
    assert sorted(rows) == sorted(addresses)
    assert len(server.paths) == len(set(server.paths)), "nobody got it twice"
    for address, row in rows.items():
        if row["state"] == "accepted":
            assert address in server.paths
    third = await project.bulkmail("run", "letter.yaml", "--yes")
    assert third.status == 1
    assert len(server.paths) == len(set(server.paths))


async def test_the_ledger_survives_the_kill_as_a_sound_database(
    serve: StartServer, project: Project
) -> None:
    process: list[asyncio.subprocess.Process] = []
    server = await serve(answer=lambda verb, argument: process[0].kill() if verb == "." else None)
    project.many(5)
    project.campaign(server)
    process.append(await project.start("run", "letter.yaml", "--yes"))
    await process[0].communicate()
    db = sqlite3.connect(project.folder / "bulkmail.sqlite")
    assert db.execute("PRAGMA integrity_check").fetchone() == ("ok",)
    db.close()


# -- whoever looks on ----------------------------------------------------------------------------


async def test_an_encoding_without_a_name_of_the_list_disturbs_nobody(
    serve: StartServer, project: Project
) -> None:
    """JSON is UTF-8 (RFC 8259 8.1), whatever the terminal is set to."""
    project.environment["PYTHONIOENCODING"] = "cp1252"
    server = await serve()
    project.people(*(f"{'ł' if n % 5 == 3 else 'l'}uk{n}@example.com,P" for n in range(30)))
    project.campaign(server)
    process = await project.start("run", "letter.yaml", "--yes", "--json")
    out, err = await asyncio.wait_for(process.communicate(), 60)
    assert process.returncode == 0 and b"Traceback" not in err
    assert len(server.paths) == 30 and out.decode("utf-8").count("łuk") == 6
    for form in ("json", "csv"):
        process = await project.start("report", "letter.yaml", "--format", form)
        out, _ = await asyncio.wait_for(process.communicate(), 60)
        assert process.returncode == 0 and out.decode("utf-8").count("łuk") >= 6


@pytest.mark.parametrize("arguments", [(), ("--json",)])
async def test_nobody_has_to_read_what_a_run_says(
    serve: StartServer, project: Project, arguments: tuple[str, ...]
) -> None:
    """`bulkmail run … 2>&1 | head -1`: the run goes on, and ends with its own status."""
    server = await serve()
    project.many(6)
    project.campaign(server, rate="3/s")
    reading, writing = os.pipe()
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-c", TOLD_OFTEN, "run", "letter.yaml", "--yes", *arguments),
        cwd=project.folder,
        env={**os.environ, "TEST_PASSWORD": "secret"},
        stdout=writing,
        stderr=writing,
    )
    os.close(writing)
    os.close(reading)
    assert await asyncio.wait_for(process.wait(), 60) == 0
    assert len(server.paths) == 6


TOLD_OFTEN = """
import bulkmail.cli.progress, bulkmail.delivery.desk
bulkmail.cli.progress.SECONDS_BETWEEN_LINES = bulkmail.delivery.desk.TOLD_SECONDS = 0
from bulkmail.cli import commands
commands()
"""


@pytest.mark.parametrize("closed", [">&-", "2>&-", ">&- 2>&-"])
async def test_closed_streams_change_nothing(
    serve: StartServer, project: Project, closed: str
) -> None:
    server = await serve()
    project.many(3)
    project.campaign(server)
    command = f"exec {sys.executable} -m bulkmail run letter.yaml --yes {closed}"
    process = await asyncio.create_subprocess_shell(
        command, cwd=project.folder, env={**os.environ, "TEST_PASSWORD": "secret"}
    )
    assert await asyncio.wait_for(process.wait(), 60) == 0
    assert len(server.paths) == 3
