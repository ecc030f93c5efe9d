"""Six stories: the first mail, a list from Excel, a mistake seen too late, next month, those who
did not get it, and a job that nobody watches."""

import base64
import csv
import io
import itertools

from bulkmail.errors import ExitStatus

from .conftest import PASSWORD, Tell
from .story import GMAIL, Mail, Story, objects, once_each
from .terminal import CTRL_C

QUESTION = "now? [y/N]: "
ONE_AT_A_TIME = ("SIZE 35882577", "8BITMIME", "ENHANCEDSTATUSCODES", "SMTPUTF8")
"""What a server without PIPELINING announces: then it is certain how many it has when it stops."""


# -- the first mail ------------------------------------------------------------------------------

ACCOUNT = "likelion.news@gmail.com"
NOT_ACCEPTED = (
    b"535-5.7.8 Username and Password not accepted. For more information, go to\r\n"
    b"535 5.7.8  https://support.google.com/mail/?p=BadCredentials af79cd13be357-7c0 - gsmtp\r\n"
)


def as_gmail_refuses(verb: str, argument: str) -> bytes | None:
    if verb != "AUTH":
        return None
    credentials = base64.b64decode(argument.partition(" ")[2]).decode().split("\0")[1:]
    return None if credentials == [ACCOUNT, PASSWORD] else NOT_ACCEPTED


async def test_the_first_mail_through_gmail(tell: Tell) -> None:
    """The account's own password is refused, and it is told what is needed; nobody is charged."""
    story = await tell("first_mail", ACCOUNT, GMAIL, answer=as_gmail_refuses)
    story.campaign(
        "welcome.yaml",
        f"""\
from: "Likelion News <{ACCOUNT}>"
subject: "Welcome, {{{{ name }}}}"
template: {{text: welcome.txt}}
recipients:
  - {{email: minseo@example.com, name: Minseo}}
  - {{email: joon@example.com, name: Joon}}
  - {{email: hana@example.com, name: Hana}}
""",
        smtp="password: ask",
    )
    story.project.write("welcome.txt", "Hi {{ name }},\n\nwe begin on Tuesday at seven.\n")

    status = await story.types(
        "bulkmail run welcome.yaml",
        (QUESTION, "y\n"),
        ("Password of", "my-google-password\n"),
    )
    assert status == ExitStatus.LOGIN
    assert story.held() == []
    assert set(story.states("welcome.yaml").values()) == {"pending"}

    status = await story.types(
        "bulkmail run welcome.yaml", (QUESTION, "y\n"), ("Password of", f"{PASSWORD}\n")
    )
    assert status == ExitStatus.DONE
    assert sorted(story.held(), key=lambda mail: mail.to) == [
        Mail(f"{name.lower()}@example.com", f"Welcome, {name}", f"Hi {name},\n\nwe begin on Tuesday at seven.\n")
        for name in ("Hana", "Joon", "Minseo")
    ]  # fmt: skip
    assert story.states("welcome.yaml") == {
        f"{name}@example.com": "accepted" for name in ("minseo", "joon", "hana")
    }
    story.assert_told()


# -- a list from Korean Excel --------------------------------------------------------------------

FAMILY, FIRST, SECOND = "김이박최정강조윤장임", "민서지하도예준", "서준윤우아현"
BAD = {"minji.park@school": "정민지", "han yujin@example.com": "한유진"}


def from_korean_excel() -> tuple[bytes, dict[str, str]]:
    """400 people as Excel saves "CSV (comma delimited)" in Korea, and the name at each address.

    CRLF, CP949, quotes around what holds a comma or a quote. 똠방각하 is not in EUC-KR.
    """
    names = [f"{a}{b}{c}" for a, b, c in itertools.product(FAMILY, FIRST, SECOND)][:398]
    names[0] = "똠방각하"
    people = {f"member{number:03}@example.com": name for number, name in enumerate(names, 1)}
    rows = [(name, address) for address, name in people.items()]
    for at, (address, name) in zip((55, 201), BAD.items(), strict=True):
        rows.insert(at, (name, address))
    text = io.StringIO()
    file = csv.writer(text, lineterminator="\r\n")
    file.writerow(("번호", "이름", "이메일", "소속"))
    for number, (name, address) in enumerate(rows, 1):
        place = '경영학과, "야간"' if number % 7 == 0 else "컴퓨터공학과"
        file.writerow((number, name, address, place))
    return text.getvalue().encode("cp949"), people


async def test_a_list_from_korean_excel(tell: Tell) -> None:
    """Every obstacle is told with its place and its mending; 398 get it, in their own letters."""
    story = await tell("korean_excel")
    data, people = from_korean_excel()
    (story.project.folder / "members.csv").write_bytes(data)
    story.project.write("notice.txt", "{{ nmae }}님({{ 소속 }}),\n\n총회는 12월 3일입니다.\n")
    story.campaign(
        "notice.yaml",
        """\
from: "학생회 <news@example.org>"
subject: "{{ name }}님, 총회 안내"
template: {text: notice.txt}
recipients:
  - file: members.csv
    columns: {email: 이메일, name: 이름}
rate: [200/s, 2000/day]
""",
    )

    assert await story.types("bulkmail check notice.yaml") == ExitStatus.DATA
    story.edits("notice.yaml", "members.csv\n", "members.csv\n    encoding: cp949\n")
    assert await story.types("bulkmail check notice.yaml") == ExitStatus.DATA
    story.edits("notice.txt", "nmae", "name")
    assert await story.types("bulkmail check notice.yaml") == ExitStatus.DONE
    assert story.server.server.accepted == 0
    assert await story.types("bulkmail run notice.yaml", (QUESTION, "y\n")) == ExitStatus.DONE

    held = once_each(story.held())
    assert {address: mail.subject for address, mail in held.items()} == {
        address: f"{name}님, 총회 안내" for address, name in people.items()
    }
    assert held["member007@example.com"].text == (
        f'{people["member007@example.com"]}님(경영학과, "야간"),\n\n총회는 12월 3일입니다.\n'
    )
    assert story.states("notice.yaml") == {
        **dict.fromkeys(people, "accepted"),
        **dict.fromkeys(BAD, "invalid"),
    }
    story.assert_told()


# -- a mistake that is seen while it is sent -----------------------------------------------------


def members(story: Story, number: int) -> list[str]:
    """Writes members.csv with so many people; their addresses."""
    addresses = [f"member{index:03}@example.com" for index in range(1, number + 1)]
    rows = (f"{address},Member {index}\n" for index, address in enumerate(addresses, 1))
    story.project.write("members.csv", "email,name\n" + "".join(rows))
    return addresses


async def test_a_mistake_seen_after_120_of_400(tell: Tell) -> None:
    """Stopped, mended, continued: all have it, nobody twice, and who has which text is known."""
    story = await tell("mended_on_the_way", extensions=ONE_AT_A_TIME)

    def stop_at_120(verb: str, argument: str) -> None:
        if verb == "." and len(story.server.received) == 119:
            assert story.terminal is not None
            story.terminal.type(CTRL_C)
            # The 120th is only answered when the command has understood.
            story.terminal.wait_for("finishing what is under way")

    story.server.server.behaviour.answer = stop_at_120
    addresses = members(story, 400)
    story.project.write("party.txt", "Dear {{ name }},\n\nwe meet on Friday the 13th.\n")
    story.campaign(
        "party.yaml",
        """\
from: "Likelion News <news@example.org>"
subject: "The party"
template: {text: party.txt}
recipients:
  - file: members.csv
rate: [200/s, 2000/day]
""",
        smtp="password: env:TEST_PASSWORD\n  connections: 1",
    )

    assert await story.types("bulkmail run party.yaml", (QUESTION, "y\n")) == ExitStatus.INTERRUPTED
    assert [mail.to for mail in story.held()] == addresses[:120]
    assert story.states("party.yaml") == {
        **dict.fromkeys(addresses[:120], "accepted"),
        **dict.fromkeys(addresses[120:], "pending"),
    }
    story.edits("party.txt", "Friday the 13th", "Friday the 20th")
    status = await story.types("bulkmail run party.yaml", ("other 280 now? [y/N]: ", "y\n"))
    assert status == ExitStatus.DONE

    held = once_each(story.held())
    assert sorted(held) == addresses
    old = [address for address in addresses if "the 13th" in held[address].text]
    new = [address for address in addresses if "the 20th" in held[address].text]
    assert (old, new) == (addresses[:120], addresses[120:])
    assert story.states("party.yaml") == dict.fromkeys(addresses, "accepted")
    story.assert_told()


# -- the next month ------------------------------------------------------------------------------


async def test_the_next_months_edition(tell: Tell) -> None:
    """The old name with a new text, and a new name with the old text, are mistakes; both are told."""
    story = await tell("next_month")
    addresses = members(story, 20)
    story.project.write("news.txt", "Dear {{ name }},\n\nthe news of November.\n")
    story.campaign(
        "news.yaml",
        """\
campaign: news-2026-11
from: "Likelion News <news@example.org>"
subject: "News, {{ name }}"
template: {text: news.txt}
recipients:
  - file: members.csv
rate: [20/s, 2000/day]
""",
    )

    assert await story.types("bulkmail run news.yaml", (QUESTION, "y\n")) == ExitStatus.DONE
    assert sorted(once_each(story.held())) == addresses

    story.edits("news.txt", "November", "December")
    assert await story.types("bulkmail run news.yaml") == ExitStatus.DATA
    assert len(story.held()) == 20

    story.edits("news.yaml", "news-2026-11", "news-2026-12")
    assert await story.types("bulkmail run news.yaml", (QUESTION, "y\n")) == ExitStatus.DONE
    december = once_each(story.held()[20:])
    assert sorted(december) == addresses
    assert all("December" in mail.text for mail in december.values())

    story.copies("news.yaml", "january.yaml")
    story.edits("january.yaml", "news-2026-12", "news-2027-01")
    assert await story.types("bulkmail run january.yaml") == ExitStatus.DATA
    assert len(story.held()) == 40
    assert await story.types("bulkmail status") == ExitStatus.DONE
    assert story.states("news.yaml") == dict.fromkeys(addresses, "accepted")
    story.assert_told()


# -- those who did not get it --------------------------------------------------------------------


async def test_a_follow_up_to_those_who_failed(tell: Tell) -> None:
    """They alone get it, with the fields that they had then."""
    full = {"<member002@example.com>", "<member004@example.com>"}

    def answer(verb: str, argument: str) -> bytes | None:
        is_full = verb == "RCPT" and argument.removeprefix("TO:") in full
        return b"552 5.2.2 The mailbox is full\r\n" if is_full else None

    story = await tell("follow_up", answer=answer)
    addresses = members(story, 4)
    story.project.write("invitation.txt", "Dear {{ name }},\n\ncome on Tuesday.\n")
    letter = """\
from: "Likelion News <news@example.org>"
subject: "An invitation"
template: {text: invitation.txt}
rate: 2/s
recipients:
"""
    story.campaign("invitation.yaml", f"{letter}  - file: members.csv\n")
    source = "{campaign: invitation, states: [failed]}"
    story.campaign("again.yaml", f"{letter}  - {source}\n")

    assert await story.types("bulkmail run invitation.yaml", (QUESTION, "y\n")) == ExitStatus.LOOK
    assert await story.types("bulkmail report invitation.yaml --state failed") == ExitStatus.DONE
    failed = [addresses[1], addresses[3]]
    assert sorted(once_each(story.held())) == sorted({*addresses} - {*failed})
    states = dict.fromkeys(addresses, "accepted") | dict.fromkeys(failed, "failed")
    assert story.states("invitation.yaml") == states

    full.clear()  # the two have made room
    assert await story.types("bulkmail run again.yaml", (QUESTION, "y\n")) == ExitStatus.DONE
    assert await story.types("bulkmail status") == ExitStatus.DONE
    held = once_each(story.held())
    assert sorted(held) == addresses
    assert [held[address].text.split("\n")[0] for address in failed] == [
        "Dear Member 2,",
        "Dear Member 4,",
    ]
    assert story.states("again.yaml") == dict.fromkeys(failed, "accepted")
    assert story.states("invitation.yaml") == states, "what was, stays"
    story.assert_told()


# -- a job ---------------------------------------------------------------------------------------

USED_UP = b"550 5.4.5 Daily user sending limit exceeded\r\n"


async def test_a_job_that_runs_again(tell: Tell) -> None:
    """Where nobody answers: 75 is continued by the next run, and one too many sends nothing."""
    story = await tell("job", extensions=ONE_AT_A_TIME)
    behaviour = story.server.server.behaviour
    behaviour.answer = lambda verb, argument: (
        USED_UP if verb == "MAIL" and len(story.server.received) == 2 else None
    )
    addresses = members(story, 4)
    story.project.write("release.txt", "Dear {{ name }},\n\nversion 2.0 is out.\n")
    story.campaign(
        "release.yaml",
        """\
campaign: release-2.0
from: "Likelion Builds <news@example.org>"
subject: "Version 2.0"
template: {text: release.txt}
recipients:
  - file: members.csv
rate: unlimited
""",
        smtp="password: env:TEST_PASSWORD\n  connections: 1",
    )
    command = "bulkmail run release.yaml --yes --json"

    status, out = await story.job_runs(command)
    assert status == ExitStatus.CONTINUE
    assert objects(out)[-1]["states"] == {"accepted": 2, "pending": 2}
    assert [mail.to for mail in story.held()] == addresses[:2]

    behaviour.answer = lambda verb, argument: None
    status, out = await story.job_runs(command)
    assert status == ExitStatus.DONE
    assert objects(out)[-1]["states"] == {"accepted": 4}
    assert [mail.to for mail in story.held()] == addresses

    connections = story.server.server.accepted
    status, out = await story.job_runs(command)
    assert status == ExitStatus.DONE
    [summary] = objects(out)
    assert summary["states"] == {"accepted": 4}
    assert story.server.server.accepted == connections, "not even connected"
    assert sorted(once_each(story.held())) == addresses
    assert story.states("release.yaml") == dict.fromkeys(addresses, "accepted")
    story.assert_told()
