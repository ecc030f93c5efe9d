"""A campaign that goes on: other content, other people, other places, and who has what."""

import json
from typing import Any

from bulkmail.sandbox.receiving import Hangup

from .conftest import Project, Result, StartServer

SPAM = b"554 5.7.1 looks like spam\r\n"


def summary(result: Result) -> dict[str, Any]:
    last: dict[str, Any] = json.loads(result.out.splitlines()[-1])
    return last


async def test_a_content_that_nobody_was_accepted_with_blames_nobody(
    serve: StartServer, project: Project
) -> None:
    """Also when run again, as the first run says: what was accepted before was another content."""
    server = await serve()
    project.many(8)
    project.campaign(server)
    await project.bulkmail("run", "letter.yaml", "--yes", "--limit", "1")
    project.write("letter.txt", "Something else\n")
    server.server.behaviour.answer = lambda verb, argument: SPAM if verb == "." else None
    first = await project.bulkmail("run", "letter.yaml", "--yes", "--accept-changes")
    again = await project.bulkmail("run", "letter.yaml", "--yes", "--json")
    assert (first.status, again.status) == (69, 69)
    assert summary(again)["states"] == {"accepted": 1, "pending": 7}


async def test_what_people_have_is_remembered_not_what_was_tried_last(
    serve: StartServer, project: Project
) -> None:
    """Another content that reached nobody, and back: nobody has another one, and a new name with
    the old content is still noticed.
    """
    server = await serve()
    project.many(3)
    project.campaign(server)
    await project.bulkmail("run", "letter.yaml", "--yes")
    before = (project.folder / "letter.txt").read_text()
    project.write("letter.txt", "Something else\n")
    project.many(4)
    project.campaign(None)
    failed = await project.bulkmail("run", "letter.yaml", "--yes", "--accept-changes")
    assert failed.status == 69
    project.write("letter.txt", before)
    path = project.campaign(server)
    assert "another content" not in project.here("check", "letter.yaml").err
    path.rename(project.folder / "other.yaml")
    refused = await project.bulkmail("run", "other.yaml", "--yes")
    assert refused.status == 65
    assert '3 of 4 people already have this content, as "letter"' in refused.err
    assert len(server.paths) == 3


async def test_an_older_content_under_a_new_name_is_noticed(
    serve: StartServer, project: Project
) -> None:
    server = await serve()
    project.many(4)
    path = project.campaign(server)
    before = (project.folder / "letter.txt").read_text()
    await project.bulkmail("run", "letter.yaml", "--yes", "--limit", "2")
    project.write("letter.txt", "Something else\n")
    await project.bulkmail("run", "letter.yaml", "--yes", "--accept-changes")
    project.write("letter.txt", before)
    path.rename(project.folder / "other.yaml")
    refused = await project.bulkmail("run", "other.yaml", "--yes")
    assert refused.status == 65
    assert '2 of 4 people already have this content, as "letter"' in refused.err


async def test_a_yes_to_a_content_is_not_asked_for_again(
    serve: StartServer, project: Project
) -> None:
    server = await serve()
    project.many(4)
    project.campaign(server)
    await project.bulkmail("run", "letter.yaml", "--yes", "--limit", "1")
    project.write("letter.txt", "Something else\n")
    await project.bulkmail("run", "letter.yaml", "--yes", "--accept-changes", "--limit", "1")
    result = await project.bulkmail("run", "letter.yaml", "--yes")
    assert result.status == 0 and len(server.paths) == 4
    told = project.here("check", "letter.yaml")
    assert "1 person has or may have another content" in told.err


async def test_who_may_have_another_content_is_asked_for_also_when_refused_since(
    serve: StartServer, project: Project
) -> None:
    """In doubt, sent to again, refused for now; then the text changed, and `hold` holds."""
    server = await serve()
    project.many(2)
    _, doubtful = ("person0@example.com", "person1@example.com")

    def hang_up(verb: str, argument: str) -> None:
        if (verb, argument) == (".", doubtful):
            raise Hangup

    server.server.behaviour.answer = hang_up
    project.campaign(server)
    assert (await project.bulkmail("run", "letter.yaml", "--yes")).status == 1
    later = b"451 4.2.0 later\r\n"
    server.server.behaviour.answer = lambda verb, argument: later if verb == "RCPT" else None
    more = "in_doubt: resend\nretry: {first: 1s, longest: 1h, give_up: 1d}"
    project.campaign(server, more=more)
    deferred = await project.bulkmail("run", "letter.yaml", "--yes", "--json", "--wait", "0s")
    assert summary(deferred)["states"] == {"accepted": 1, "deferred": 1}
    server.server.behaviour.answer = lambda verb, argument: None
    project.write("letter.txt", "Something else\n")
    refused = await project.bulkmail("run", "letter.yaml", "--yes")
    assert refused.status == 65
    assert "The content changed since 2 people got theirs or may have. Send the new one to 1" in (
        refused.err
    )
    project.campaign(server)
    held = await project.bulkmail("run", "letter.yaml", "--yes")
    assert held.status == 65 and len(server.paths) == 1
    assert "1 accepted · 1 in doubt, with the content that it had then" in held.err
    assert "1 in doubt" in project.here("status", "letter.yaml").out


async def test_a_templates_folder_above_does_not_begin_a_campaign_anew(
    serve: StartServer, project: Project
) -> None:
    """The ledger would be looked for there; the one that knows who has it lies below."""
    server = await serve()
    project.many(3)
    path = project.campaign(server)
    below = project.folder / "nov"
    below.mkdir()
    for name in ("letter.yaml", "letter.txt", "people.csv"):
        (project.folder / name).rename(below / name)
    await project.bulkmail("run", "nov/letter.yaml", "--yes", "--limit", "2")
    (project.folder / "templates").mkdir()
    for command in (("run", "nov/letter.yaml", "--yes"), ("check", "nov/letter.yaml")):
        refused = await project.bulkmail(*command)
        assert refused.status == 65, refused
        assert '2 people whom it would be sent to have "letter" already' in refused.err
        assert "ledger: bulkmail.sqlite" in refused.err.splitlines()[1]
    status = project.here("status", "nov/letter.yaml")
    assert status.status == 66 and "But nov/bulkmail.sqlite does" in status.err
    assert len(server.paths) == 2
    text = (below / "letter.yaml").read_text()
    (below / "letter.yaml").write_text(text + "ledger: bulkmail.sqlite\n")
    assert (await project.bulkmail("run", "nov/letter.yaml", "--yes")).status == 0
    assert len(server.paths) == 3 and not path.exists()


async def test_a_suppression_list_above_is_heeded(serve: StartServer, project: Project) -> None:
    """Typed where no ledger is, and no `templates/`; the campaign in a folder below has its own."""
    server = await serve()
    project.people("a@example.com,A", "c@example.com,C")
    project.campaign(server)
    below = project.folder / "nov"
    below.mkdir()
    for name in ("letter.yaml", "letter.txt", "people.csv"):
        (project.folder / name).rename(below / name)
    assert project.here("suppress", "add", "c@example.com").status == 0
    result = await project.bulkmail("run", "nov/letter.yaml", "--yes")
    assert result.status == 0 and server.paths == ["a@example.com"]


async def test_a_dry_run_and_check_say_what_a_run_would_ask(
    serve: StartServer, project: Project
) -> None:
    server = await serve()
    project.people("a@example.com,A", "b@example.com,")
    project.campaign(server)
    await project.bulkmail("run", "letter.yaml", "--yes", "--limit", "1")
    project.write("letter.txt", "Else, {{ name }}\n")
    for command in (("check", "letter.yaml"), ("run", "letter.yaml", "--dry-run")):
        told = await project.bulkmail(*command)
        assert told.status == 0
        assert "1 person has or may have another content" in told.err
        assert "a run asks whether to go on, or takes --accept-changes" in told.err
        assert "name is empty for 1 recipient: people.csv:3" in told.err


async def test_who_failed_is_told_where_nobody_is_left(
    serve: StartServer, project: Project
) -> None:
    unknown = b"550 5.1.1 unknown\r\n"
    server = await serve(
        answer=lambda verb, argument: unknown if verb == "RCPT" and "1@" in argument else None
    )
    project.many(3)
    project.campaign(server)
    assert (await project.bulkmail("run", "letter.yaml", "--yes")).status == 1
    told = project.here("check", "letter.yaml")
    assert "0 would get it · 2 already have it · 1 failed" in told.out
    project.write("letter.txt", "Else\n")
    refused = await project.bulkmail("run", "letter.yaml", "--yes")
    assert refused.status == 65
    assert "2 accepted · 1 failed, with the content that it had then" in refused.err
    assert "recipients: [{campaign: letter, states: [failed]}]" in refused.err


async def test_a_list_that_holds_nobody_is_told_also_without_a_question(
    serve: StartServer, project: Project
) -> None:
    server = await serve()
    project.people("a@example.com,A")
    project.write("empty.csv", "email,name\n")
    path = project.campaign(server)
    path.write_text(
        path.read_text().replace("- file: people.csv", "- file: people.csv\n  - file: empty.csv")
    )
    result = await project.bulkmail("run", "letter.yaml", "--yes", "--json")
    assert result.status == 0
    assert "empty.csv: holds nobody" in result.err
    assert summary(result)["remarks"] == ["empty.csv: holds nobody"]


async def test_who_is_left_with_an_empty_cell_is_told_when_it_continues(
    serve: StartServer, project: Project
) -> None:
    """They were composed by an earlier run, which is no reason to be silent."""
    server = await serve()
    project.people("a@example.com,A", "b@example.com,", "c@example.com,")
    project.campaign(server)
    await project.bulkmail("run", "letter.yaml", "--yes", "--limit", "2")
    told = project.here("check", "letter.yaml")
    assert "name is empty for 1 recipient: people.csv:4" in told.err


async def test_all_who_left_the_list_can_be_given_up(project: Project) -> None:
    project.people("a@example.com,A")
    project.campaign(None)
    assert (await project.bulkmail("run", "letter.yaml", "--yes")).status == 69
    project.people()
    asked = await project.bulkmail("run", "letter.yaml", "--yes")
    assert asked.status == 65 and "--cancel-removed" in asked.err
    result = await project.bulkmail("run", "letter.yaml", "--yes", "--cancel-removed", "--json")
    assert result.status == 0
    assert summary(result)["states"] == {"cancelled": 1}


async def test_who_left_because_the_row_is_wrong_is_told_with_the_row(
    serve: StartServer, project: Project
) -> None:
    server = await serve()
    project.people("a@example.com,A", "b@example.com,B", "c@example.com,C")
    project.campaign(server)
    await project.bulkmail("run", "letter.yaml", "--yes", "--limit", "1")
    project.people("a@example.com,A", "b@example,B", "c@example.com,C,x")
    refused = await project.bulkmail("run", "letter.yaml", "--yes")
    assert refused.status == 65
    assert "2 people whom this campaign has not sent to yet" in refused.err
    assert "people.csv:3: has no dot after the @" in refused.err
    assert "people.csv:4: " in refused.err


async def test_a_limit_does_not_bound_a_dry_run(project: Project) -> None:
    project.campaign()
    refused = project.here("run", "letter.yaml", "--dry-run", "--limit", "1")
    assert refused.status == 2 and "--limit bounds what is sent" in refused.err


async def test_a_ledger_by_another_name_is_found(serve: StartServer, project: Project) -> None:
    """Nobody gets it twice when the key is taken out of the campaign, or comes and goes."""
    server = await serve()
    project.many(3)
    project.campaign(server, more="ledger: news.sqlite")
    assert (await project.bulkmail("run", "letter.yaml", "--yes", "--limit", "2")).status == 75
    project.campaign(server)
    refused = await project.bulkmail("run", "letter.yaml", "--yes")
    assert refused.status == 65 and len(server.paths) == 2
    assert '2 people whom it would be sent to have "letter" already' in refused.err
    assert "ledger: news.sqlite" in refused.err
    project.people("person2@example.com,P")
    assert (await project.bulkmail("run", "letter.yaml", "--yes")).status == 0
    project.many(3)
    project.campaign(server, more="ledger: news.sqlite")
    again = await project.bulkmail("run", "letter.yaml", "--yes")
    assert again.status == 65 and "1 person whom it would be sent to" in again.err
    assert len(server.paths) == 3


async def test_the_suppression_list_of_a_ledger_by_another_name_is_heeded(
    serve: StartServer, project: Project
) -> None:
    server = await serve()
    project.many(2)
    project.campaign(server)
    ledger = ("--ledger", "news.sqlite")
    project.here("suppress", "add", "person0@example.com", "--reason", "asked", *ledger)
    assert (await project.bulkmail("run", "letter.yaml", "--yes")).status == 0
    assert server.paths == ["person1@example.com"]
    told = project.here("report", "letter.yaml", "--state", "suppressed")
    assert " in news.sqlite: asked" in told.out


async def test_separate_projects_in_nested_folders_may_have_campaigns_of_one_name(
    serve: StartServer, project: Project
) -> None:
    """Other people have nothing to do with it."""
    server = await serve()
    project.many(2)
    path = project.campaign(server)
    assert (await project.bulkmail("run", "letter.yaml", "--yes")).status == 0
    project.people("choi@example.com,Choi")
    (project.folder / "clients/acme/templates").mkdir(parents=True)
    for name in ("letter.yaml", "letter.txt", "people.csv"):
        (project.folder / name).rename(project.folder / "clients/acme" / name)
    status = project.here("status", "clients/acme/letter.yaml")
    assert status.status == 66 and '"letter" was never run' in status.err
    assert (await project.bulkmail("run", "clients/acme/letter.yaml", "--yes")).status == 0
    assert server.paths[2:] == ["choi@example.com"] and not path.exists()


async def test_what_is_no_ledger_is_passed_over(serve: StartServer, project: Project) -> None:
    """Somebody else's database, or junk, in a folder above."""
    server = await serve()
    below = project.folder / "club"
    (below / "templates").mkdir(parents=True)
    project.campaign(server)
    for name in ("letter.yaml", "letter.txt", "people.csv"):
        (project.folder / name).rename(below / name)
    for junk in (b"junk", b"SQLite format 3\0" + b"junk" * 30):
        (project.folder / "bulkmail.sqlite").write_bytes(junk)
        assert project.here("check", "club/letter.yaml").status == 0
    assert (await project.bulkmail("run", "club/letter.yaml", "--yes")).status == 0


async def test_a_template_by_another_name_is_the_same_content(
    serve: StartServer, project: Project
) -> None:
    """Neither a change, nor a way around the question whether people have it already."""
    server = await serve()
    project.many(2)
    path = project.campaign(server)
    await project.bulkmail("run", "letter.yaml", "--yes", "--limit", "1")
    (project.folder / "letter2.txt").write_bytes((project.folder / "letter.txt").read_bytes())
    path.write_text(path.read_text().replace("letter.txt", "letter2.txt"))
    assert (await project.bulkmail("run", "letter.yaml", "--yes")).status == 0
    path.rename(project.folder / "other.yaml")
    refused = await project.bulkmail("run", "other.yaml", "--yes")
    assert refused.status == 65 and "already have this content" in refused.err


async def test_the_next_month_of_an_invoice_is_another_message(
    serve: StartServer, project: Project
) -> None:
    """The same template and people, but other data where the template shows them; only there."""
    server = await serve()
    project.write("letter.txt", "Invoice {{ no }}\n")
    path = project.campaign(server)

    def people(*rows: str) -> None:
        project.write("people.csv", "\n".join(["email,name,no,age", *rows]) + "\n")

    people("a@example.com,A,1,30", "b@example.com,B,2,40")
    await project.bulkmail("run", "letter.yaml", "--yes")
    path.rename(project.folder / "august.yaml")
    people("a@example.com,A,1,31", "b@example.com,B,2,41")
    refused = await project.bulkmail("run", "august.yaml", "--yes")
    assert refused.status == 65 and "all 2 people already have this content" in refused.err
    people("a@example.com,A,3,31", "b@example.com,B,4,41")
    assert (await project.bulkmail("run", "august.yaml", "--yes")).status == 0
    assert len(server.paths) == 4


async def test_who_may_have_an_older_content_is_not_forgotten(
    serve: StartServer, project: Project
) -> None:
    """In doubt with one, refused with the next: the first may still have arrived."""
    server = await serve()
    project.many(1)
    path = project.campaign(server)
    before = (project.folder / "letter.txt").read_text()

    def hang_up(verb: str, argument: str) -> None:
        if verb == ".":
            raise Hangup

    server.server.behaviour.answer = hang_up
    await project.bulkmail("run", "letter.yaml", "--yes")
    project.write("letter.txt", "Something else\n")
    unknown = b"550 5.1.1 unknown\r\n"
    server.server.behaviour.answer = lambda verb, argument: unknown if verb == "RCPT" else None
    project.campaign(server, more="in_doubt: resend")
    await project.bulkmail("run", "letter.yaml", "--yes", "--accept-changes")
    server.server.behaviour.answer = lambda verb, argument: None
    project.write("letter.txt", before)
    path.rename(project.folder / "other.yaml")
    refused = await project.bulkmail("run", "other.yaml", "--yes")
    assert refused.status == 65 and 'already have this content, as "letter"' in refused.err
