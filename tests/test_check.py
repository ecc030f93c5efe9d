"""What `check` finds in messages, what it asks of a server, and what somebody approved."""

import json
import sqlite3
from dataclasses import dataclass, field, replace
from pathlib import Path

import pytest

from bulkmail.campaign import read_campaign
from bulkmail.cli import options
from bulkmail.cli.past import Past
from bulkmail.cli.plan import planned
from bulkmail.compose import lint
from bulkmail.compose.lint import Letter, likely_domain
from bulkmail.sandbox.receiving import Behaviour

from .conftest import Project, StartServer

TEXT = "Dear {{ name }},\n\nwe meet on Thursday: https://example.org/thursday\n"
HTML = '<p>Dear {{ name }},</p>\n<p>we meet on <a href="https://example.org/">Thursday</a>.</p>\n'


@dataclass(frozen=True)
class Told:
    """A campaign, by what differs from one in which nothing is found."""

    subject: str = "We meet, {{ name }}"
    text: str = TEXT
    html: str | None = None
    people: tuple[str, ...] = ("kim@example.com,Kim",)
    host: str = "smtp.example.org"
    login: str = "news@example.org"
    rate: str = "1/s"
    more: str = ""
    files: dict[str, bytes] = field(default_factory=dict)


def found(folder: Path, told: Told) -> dict[str, list[str]]:
    """The names of the rules, each with what it says and how to mend it."""
    project = Project(folder)
    project.people(*told.people)
    project.write("letter.txt", told.text)
    parts = "text: letter.txt"
    if told.html is not None:
        project.write("letter.html", told.html)
        parts += ", html: letter.html"
    for name, content in told.files.items():
        (folder / name).write_bytes(content)
    path = project.write(
        "letter.yaml",
        f"""\
from: "News <news@example.org>"
subject: {json.dumps(told.subject)}
template: {{{parts}}}
recipients: [{{file: people.csv}}]
rate: {told.rate}
smtp: {{host: {told.host}, port: 465, username: {told.login}, password: ask}}
{told.more}
""",
    )
    campaign = read_campaign(path, {})
    ledger, under_way = options.scratch(campaign)
    with planned(campaign, ledger, Past(campaign), under_way=under_way) as plan:
        told_of: dict[str, list[str]] = {}
        for finding, _ in plan.proof.findings:
            told_of.setdefault(finding.rule, []).append(f"{finding.what} / {finding.mend}")
    ledger.close()
    return told_of


PLAIN = Told()
IN_HTML = Told(html=HTML)


def with_tag(tag: str, **more: object) -> Told:
    return replace(IN_HTML, html=HTML + tag, **more)  # type: ignore[arg-type]


def many(number: int) -> tuple[str, ...]:
    return tuple(f"person{n}@example.com,Person {n}" for n in range(number))


PNG = {"logo.png": b"\x89PNG\r\n\x1a\n" + bytes(20)}
LOGO = "images: {logo: logo.png}"

RULES = {
    # rule: (a campaign in which it is found, a near one in which nothing is)
    "placeholder": [
        (
            replace(PLAIN, people=('kim@example.com,"{{ first }}"',)),
            replace(PLAIN, people=('kim@example.com,"{ first }"',)),
        ),
        (with_tag("<p>Dear *|FNAME|*</p>"), with_tag("<p>2 * | 3 | * 4</p>")),
        (replace(PLAIN, subject="Hello [FIRST NAME]"), replace(PLAIN, subject="Hello [News]")),
        (
            with_tag("<p>{{ '{{' }} x }}</p>"),
            with_tag("<pre>{{ '{{' }} x }}</pre><code>{{ '{%' }} if %}</code>"),
        ),
        (
            replace(PLAIN, text="{{ '{%' }} if x %}"),
            replace(PLAIN, text="write `{{ '{{' }} x }}` or ${{ '{{' }} x }}, 100{{ '{%' }} off"),
        ),
        (
            with_tag("<p>{{ '{{' }} x }}</p>"),
            with_tag("<style>@media x { a { b: c }}</style><!-- {{ '{{' }} x -->"),
        ),
    ],
    "no-name": [
        (
            replace(PLAIN, people=("kim@example.com,None",)),
            replace(PLAIN, people=("kim@example.com,Nonette",)),
        ),
        (
            replace(PLAIN, text="{{ name }}님, 안녕하세요", people=("kim@example.com,null",)),
            replace(PLAIN, text="{{ name }}님, 안녕하세요", people=("kim@example.com,김연주",)),
        ),
        (replace(PLAIN, text="Hi nan, hello"), replace(PLAIN, text="None of us can come.")),
        (with_tag("<p>Hello null</p>"), with_tag("<p>Hello undefined behaviour fans</p>")),
    ],
    "empty-greeting": [
        (replace(PLAIN, text="Dear {{ '' }},\n"), replace(PLAIN, text="Hello,\n\nwe meet\n")),
        (replace(PLAIN, text="Hello {{ '' }},\n"), replace(PLAIN, text="Bonjour !\nHi :)\n")),
        (
            replace(PLAIN, text="안녕하세요 {{ '' }}님!\n"),
            replace(PLAIN, text="안녕하세요 회원님!\n님을 위한 행진곡, 님의 침묵\n"),
        ),
        (
            replace(PLAIN, text="{{ '' }}님, 안녕하세요\n"),
            replace(PLAIN, text="선생님, 안녕하세요. 회원님께\n"),
        ),
    ],
    "empty-field": [
        (
            replace(PLAIN, text="{{ name }}", people=("kim@example.com,Kim", "lee@example.com,")),
            replace(
                PLAIN, text="all", subject="x", people=("kim@example.com,Kim", "l@example.com,")
            ),
        ),
    ],
    "no-text": [
        (replace(IN_HTML, text="{{ '' }}"), IN_HTML),
    ],
    "size": [
        (
            replace(PLAIN, more="attachments: [a.bin]", files={"a.bin": bytes(7_600_000)}),
            replace(PLAIN, more="attachments: [a.bin]", files={"a.bin": bytes(7_000_000)}),
        ),
    ],
    "html-clipped": [
        (with_tag("<p>word</p>\n" * 9000), with_tag("<p>word</p>\n" * 8000)),
    ],
    "image-alt": [
        (
            with_tag('<img src="cid:logo">', more=LOGO, files=PNG),
            with_tag('<img alt="" src="cid:logo">', more=LOGO, files=PNG),
        ),
        (with_tag('<IMG SRC="https://example.org/a.png">'), with_tag("<p>imgs</p><imgx>")),
    ],
    "image-source": [
        (with_tag('<img alt="" src="a.png">'), with_tag('<img alt="" src="https://x.org/a.png">')),
        (with_tag('<img alt="" src="/a.png">'), with_tag('<img alt="" src="HTTPS://x.org/a.png">')),
    ],
    "link-scheme": [
        (with_tag('<a href="www.example.org">x</a>'), with_tag('<a href="mailto:a@b.org">x</a>')),
        (with_tag("<a title='>' href=/x>x</a>"), with_tag("<a title='>' href=https://x.org>x</a>")),
        (with_tag('<a href="javascript:x()">x</a>'), with_tag('<a href="tel:+8210">x</a>')),
        (with_tag('<a\nhref="//cdn.org">x</a>'), with_tag('<!-- <a href="//cdn.org">x</a> -->')),
    ],
    "link-local": [
        (
            replace(PLAIN, text=TEXT + "http://localhost:8000/x\n"),
            replace(PLAIN, text=TEXT + "http://localhost.example.org/x\n"),
        ),
        (
            with_tag('<a href="http://192.168.0.4/">x</a>'),
            with_tag('<a href="http://193.168.0.4/">x</a>'),
        ),
        (
            with_tag('<img alt="" src="http://127.0.0.1/a.png">'),
            with_tag('<a href="http://x.org/?127.0.0.1">x</a>'),
        ),
    ],
    "link-empty": [
        (with_tag('<a href="#">x</a>'), with_tag('<a href="#part">x</a>')),
    ],
    "subject-empty": [
        (replace(PLAIN, subject="{{ '' }}"), PLAIN),
    ],
    "subject-length": [
        (replace(PLAIN, subject="x" * 79), replace(PLAIN, subject="x" * 78)),
        (replace(PLAIN, subject="소" * 79), replace(PLAIN, subject="소" * 78)),
    ],
    "address-typo": [
        (
            replace(PLAIN, people=("kim@gmial.com,Kim",)),
            replace(PLAIN, people=("kim@mail.com,Kim", "lee@gmail.com,Lee")),
        ),
    ],
    "gmail-quota": [
        (
            replace(PLAIN, people=many(501), host="smtp.gmail.com"),
            replace(PLAIN, people=many(501), host="smtp.gmail.com", rate="[1/s, 450/day]"),
        ),
        (
            replace(PLAIN, people=many(501), host="smtp.gmail.com"),
            replace(PLAIN, people=many(500), host="smtp.gmail.com"),
        ),
    ],
    "from-login": [
        (
            replace(PLAIN, host="smtp.gmail.com", login="other@example.org"),
            replace(PLAIN, host="smtp.gmail.com", login="News@example.org"),
        ),
        (replace(PLAIN, login="news@example.net"), replace(PLAIN, login="AKIA123")),
    ],
    "no-unsubscribe": [
        (
            replace(PLAIN, people=many(5001)),
            replace(
                PLAIN, people=many(5001), more="list: {unsubscribe: {mailto: leave@example.org}}"
            ),
        ),
    ],
    "unsubscribe-http": [
        (
            replace(PLAIN, more='list: {unsubscribe: {url: "http://example.org/leave"}}'),
            replace(PLAIN, more='list: {unsubscribe: {url: "https://example.org/leave"}}'),
        ),
    ],
}


@pytest.mark.parametrize(
    ("rule", "wrong", "right"),
    [(rule, *pair) for rule, pairs in RULES.items() for pair in pairs],
    ids=[f"{rule}-{n}" for rule, pairs in RULES.items() for n, _ in enumerate(pairs, 1)],
)
def test_a_rule_finds_its_own_and_no_near_one(
    rule: str, wrong: Told, right: Told, tmp_path: Path
) -> None:
    for name in ("wrong", "right"):
        (tmp_path / name).mkdir()
    assert rule in found(tmp_path / "wrong", wrong)
    assert found(tmp_path / "right", right) == {}


def test_every_rule_is_explained_and_tried() -> None:
    """But those that take a server, or that no campaign can break."""
    page = (Path(__file__).parent.parent / "docs" / "checks.md").read_text("utf-8")
    rules = {*RULES, "line-length", "smtputf8"}
    assert {line.split("`")[1] for line in page.splitlines() if line.startswith("| `")} == rules


@pytest.mark.parametrize("campaign", ["newsletter.yaml", "gmail.yaml"])
def test_the_examples_are_clean(campaign: str) -> None:
    read = read_campaign(Path(__file__).parent.parent / "campaigns" / campaign, {})
    ledger, _ = options.scratch(read)
    with planned(read, ledger, Past(read)) as plan:
        assert list(plan.proof.findings) == []
    ledger.close()


def test_a_line_that_is_too_long_is_an_error() -> None:
    """No campaign makes one: the encodings of bodies and headers break lines."""
    letter = Letter("Subject", "Text", None, 999, 2000)
    assert [finding.rule for finding in lint.findings(letter)] == ["line-length"]
    assert lint.findings(letter._replace(longest_line=998)) == []


@pytest.mark.parametrize(
    ("domain", "meant"),
    [
        ("gmial.com", "gmail.com"), ("gmal.com", "gmail.com"), ("gmaill.com", "gmail.com"),
        ("gnail.com", "gmail.com"), ("gmail.con", "gmail.com"), ("example.con", "example.com"),
        ("nvaer.com", "naver.com"), ("hanmial.net", "hanmail.net"), ("gmail.com", None),
        ("yahoo.co.id", None), ("aver.com", None), ("example.bet", None), ("ymail.com", None), ("yahoo.ca", None), ("hotmail.fr", None), ("example.org", None),
        ("com", None), ("", None),
    ],
)  # fmt: skip
def test_what_a_domain_was_meant_to_be(domain: str, meant: str | None) -> None:
    assert likely_domain(domain) == meant


def test_many_findings_of_a_kind_are_told_in_short(tmp_path: Path) -> None:
    links = "".join(f'<a href="page{n}.html">x</a>\n' for n in range(40))
    told = found(tmp_path, with_tag(links))["link-scheme"]
    assert len(told) == 6
    assert told[0].startswith('the link "page0.html" has no scheme / write https://page0.html')
    assert told[-1].startswith("more of the kind, such as ")


def test_what_stands_in_several_parts_is_told_once() -> None:
    """As where the text is made from the HTML."""
    words = "Dear {{ name }}, http://localhost/x"
    letter = Letter("{{ name }}", words, f'<p>{words}<a href="http://localhost/x">', 80, 1000)
    assert [(finding.rule, finding.place) for finding in lint.findings(letter)] == [
        ("placeholder", "subject, text and HTML"),
        ("link-local", "text and HTML"),
    ]


def test_hostile_html_is_looked_through() -> None:
    """Tags that never end, comments without end, brackets by the thousand."""
    for html in (
        "<a " * 50_000,
        "<!--" * 50_000,
        '<img alt="' * 50_000,
        "<style" * 50_000,
        "<!-->" * 50_000,
    ):
        found = lint.findings(Letter("Subject", "Dear " * 50_000, html, 76, 1000))
        assert [finding.rule for finding in found] == ["html-clipped"]


async def test_findings_are_told_with_whom_and_how_to_mend_them(project: Project) -> None:
    project.people("kim@example.com,Kim", "lee@gmial.com,", "park@example.com,Park")
    project.write("letter.txt", "Dear {{ name }},\nhttp://localhost/\n")
    project.campaign()
    result = project.here("check", "letter.yaml")
    assert result.status == 0, "a warning changes nothing"
    assert (
        'warning      "http://localhost/" is a computer of your own, in the text, for everyone\n'
        "             write the address that everyone can reach [link-local]\n"
        'warning      it says "Dear ,", to nobody, in the text, for 1 recipient: people.csv:3\n'
        "             write {{ name or 'reader' }} [empty-greeting]\n"
        "warning      gmial.com is probably meant to be gmail.com for 1 recipient: people.csv:3\n"
    ) in result.err
    told = json.loads(project.here("check", "letter.yaml", "--json").out)
    [local, *_] = told["findings"]
    assert local == {
        "rule": "link-local",
        "severity": "warning",
        "place": "text",
        "what": '"http://localhost/" is a computer of your own',
        "mend": "write the address that everyone can reach",
        "recipients": 3,
        "first": ["people.csv:2", "people.csv:3", "people.csv:4"],
    }
    assert told["findings"][1]["place"] == "text"
    assert {finding["rule"] for finding in told["findings"]} == {
        "link-local", "address-typo", "empty-greeting", "empty-field",
    }  # fmt: skip


async def test_check_finds_them_again_after_a_run(serve: StartServer, project: Project) -> None:
    """Also where everyone was composed with this content before."""
    server = await serve(
        Behaviour(answer=lambda verb, _: b"450 4.2.1 later\r\n" if verb == "RCPT" else None)
    )
    project.people("kim@gmial.com,Kim")
    project.campaign(server)
    assert (await project.bulkmail("run", "letter.yaml", "--yes", "--wait", "1s")).status == 75
    result = project.here("check", "letter.yaml")
    assert result.status == 0, "a warning changes nothing"
    assert "gmial.com is probably meant to be gmail.com" in result.err


# -- the server ----------------------------------------------------------------------------------


async def test_connect_logs_in_and_shows_what_is_announced(
    serve: StartServer, project: Project
) -> None:
    server = await serve(Behaviour(login=("sender", "secret")))
    project.people("kim@example.com,Kim")
    project.campaign(server)
    result = await project.bulkmail("check", "letter.yaml", "--connect")
    assert result.status == 0
    assert f"connected    {server.submission.host}:{server.submission.port}, TLSv1.3" in result.err
    assert "took the login of sender" in result.err
    assert "SIZE 26214400" in result.err
    assert "messages whole, 16 at once on a connection (CHUNKING)" in result.err
    assert server.received == [], "nothing was sent"
    assert not (project.folder / "bulkmail.sqlite").exists()
    told = json.loads((await project.bulkmail("check", "letter.yaml", "--connect", "--json")).out)
    assert told["announced"]["SIZE"] == "26214400"


async def test_connect_is_refused_like_a_run(serve: StartServer, project: Project) -> None:
    server = await serve(Behaviour(login=("sender", "another")))
    project.people("kim@example.com,Kim")
    project.campaign(server)
    result = await project.bulkmail("check", "letter.yaml", "--connect")
    assert result.status == 77
    assert "refused the login of sender" in result.err


async def test_connect_compares_with_what_the_server_takes(
    serve: StartServer, project: Project
) -> None:
    server = await serve(Behaviour(extensions=("SIZE 2000",), login=("sender", "secret")))
    project.people("kim@example.com,Kim", "김@example.com,Lee")
    project.write("letter.txt", "word " * 600)
    project.campaign(server)
    result = await project.bulkmail("check", "letter.yaml", "--connect")
    assert result.status == 1
    assert "one command at a time" in result.err
    assert "; the server takes 2 KB (SIZE) for 1 recipient: people.csv:" in result.err
    assert "letters outside ASCII before the @ (people.csv:3)" in result.err
    assert server.received == []


async def test_a_wrong_campaign_is_not_connected(serve: StartServer, project: Project) -> None:
    seen: list[str] = []
    server = await serve(Behaviour(answer=lambda verb, _: seen.append(verb)))
    project.people("kim@example.com,Kim")
    project.write("letter.txt", "{{ nmae }}")
    project.campaign(server)
    assert (await project.bulkmail("check", "letter.yaml", "--connect")).status == 65
    assert seen == []


# -- approval ------------------------------------------------------------------------------------


def fingerprint(project: Project) -> str:
    told = json.loads(project.here("check", "letter.yaml", "--json").out)
    return str(told["fingerprint"])


async def test_what_was_approved_is_sent_without_a_question(
    serve: StartServer, project: Project
) -> None:
    server = await serve()
    project.many(3)
    project.campaign(server)
    approved = fingerprint(project)
    assert f"run letter.yaml --approved {approved}\n" in project.here("check", "letter.yaml").out
    result = await project.bulkmail("run", "letter.yaml", "--approved", approved.upper())
    assert result.status == 0
    assert len(server.paths) == 3


@pytest.mark.parametrize(
    "change", ["template", "subject", "cell", "more", "fewer", "attachment", "name"]
)
async def test_anything_else_than_approved_is_refused(
    serve: StartServer, project: Project, change: str
) -> None:
    server = await serve()
    project.people("kim@example.com,Kim", "lee@example.com,Lee")
    project.write("a.txt", "one")
    project.campaign(server, more="attachments: [a.txt]")
    approved = fingerprint(project)
    file = {
        "template": "letter.txt",
        "subject": "letter.yaml",
        "name": "letter.yaml",
        "attachment": "a.txt",
    }.get(change, "people.csv")
    path = project.folder / file
    content = path.read_text("utf-8")
    path.write_text(
        {
            "template": content + ".",
            "subject": content.replace("For {{", "for {{"),
            "attachment": "One",
            "name": content + "\ncampaign: again\n",
            "cell": content.replace("Lee", "lee"),
            "more": content + "park@example.com,Park\n",
            "fewer": content.replace("lee@example.com,Lee\n", ""),
        }[change],
        "utf-8",
    )
    assert fingerprint(project) != approved
    result = await project.bulkmail("run", "letter.yaml", "--approved", approved)
    assert result.status == 65
    assert "this is not what was approved" in result.err
    assert server.received == []
    ledger = sqlite3.connect(project.folder / "bulkmail.sqlite")
    assert ledger.execute("SELECT count(*) FROM recipient").fetchone() == (0,), "nothing is kept"
    ledger.close()


async def test_the_approval_holds_for_what_is_left(serve: StartServer, project: Project) -> None:
    """After a part was sent, in another order, on another rate."""
    server = await serve()
    addresses = project.many(5)
    project.campaign(server)
    approved = fingerprint(project)
    first = await project.bulkmail("run", "letter.yaml", "--approved", approved, "--limit", "2")
    assert first.status == 75
    lines = (project.folder / "people.csv").read_text().splitlines()
    project.write("people.csv", "\n".join([lines[0], *reversed(lines[1:])]) + "\n")
    project.campaign(server, rate="50/s")
    second = await project.bulkmail("run", "letter.yaml", "--approved", approved)
    assert second.status == 0
    assert sorted(server.paths) == sorted(addresses)


async def test_who_is_left_out_is_approved_too(serve: StartServer, project: Project) -> None:
    """More people than were shown never get it; fewer are to be looked at again."""
    server = await serve()
    addresses = project.many(3)
    project.write("never.csv", f"email\n{addresses[0]}\n")
    project.campaign(server, more="exclude: [never.csv]")
    assert project.here("suppress", "add", addresses[1]).status == 0
    approved = fingerprint(project)
    project.write("never.csv", "email\n")
    assert (await project.bulkmail("run", "letter.yaml", "--approved", approved)).status == 65
    project.write("never.csv", f"email\n{addresses[0]}\n")
    for command, expected in (("remove", 65), ("add", 0)):
        assert project.here("suppress", command, addresses[1]).status == 0
        result = await project.bulkmail("run", "letter.yaml", "--approved", approved)
        assert result.status == expected, result.err
    assert server.paths == [addresses[2]]


async def test_which_included_template_is_there_is_approved(project: Project) -> None:
    project.many(2)
    project.write(
        "letter.txt", "{% include 'one' ignore missing %}{% include 'two' ignore missing %}x"
    )
    project.write("one", "words")
    project.campaign()
    approved = fingerprint(project)
    (project.folder / "one").rename(project.folder / "two")
    assert fingerprint(project) != approved


async def test_sending_again_despite_doubt_is_approved(
    serve: StartServer, project: Project
) -> None:
    project.many(2)
    project.campaign(await serve())
    approved = fingerprint(project)
    project.campaign(await serve(), more="in_doubt: resend")
    assert fingerprint(project) != approved


async def test_the_files_of_each_person_are_approved_too(
    serve: StartServer, project: Project
) -> None:
    server = await serve()
    project.people("kim@example.com,Kim", "lee@example.com,Lee")
    for name in ("Kim", "Lee"):
        project.write(f"{name}.txt", name)
    project.campaign(server, more='attachments: [{file: "{{ name }}.txt"}]')
    approved = fingerprint(project)
    project.write("Lee.txt", "Leo")
    result = await project.bulkmail("run", "letter.yaml", "--approved", approved)
    assert (result.status, server.received) == (65, [])
    project.write("Lee.txt", "Lee")
    assert (await project.bulkmail("run", "letter.yaml", "--approved", approved)).status == 0


async def test_a_dry_run_is_not_approved(project: Project) -> None:
    project.people("kim@example.com,Kim")
    project.campaign()
    result = project.here("run", "letter.yaml", "--dry-run", "--approved", "x")
    assert result.status == 2
