"""The page of `report --format html`, and the same groups when a run ends."""

import csv
import re
import shlex
from collections.abc import Iterable, Sequence
from html.parser import HTMLParser
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from bulkmail.campaign import read_campaign
from bulkmail.cli import commands
from bulkmail.ledger import SqliteLedger, SqliteView
from bulkmail.model import Intent, Outcome, Phase, Row, Settlement, State
from bulkmail.report.advice import Shell
from bulkmail.report.curve import MAX_BUCKETS, MAX_SPANS, WIDTH, drawn
from bulkmail.report.groups import Group, grouped, in_a_line
from bulkmail.report.page import LISTED, percent, shown
from bulkmail.smtp.meaning import MEANINGS, NO_MAILBOX
from bulkmail.smtp.reply import make_reply

from .conftest import Project, StartServer

BEGUN = 1_790_000_000.0
OK = Outcome(Phase.DOT, make_reply(250, b"2.0.0 queued"))
LOST = Outcome(Phase.DOT, None, "the connection was lost")
NOBODY = "550 5.1.1 <{}>: Recipient address rejected: User unknown"
FULL = "552 5.2.2 The mailbox of {} is full"


def refused(said: str, phase: Phase = Phase.RCPT) -> Outcome:
    code, _, text = said.partition(" ")
    return Outcome(phase, make_reply(int(code), text.encode()))


class Filled:
    """The ledger of letter.yaml in `folder`, filled as runs would fill it."""

    def __init__(self, folder: Path, rows: Iterable[Row], excluded: Sequence[str] = ()) -> None:
        self.folder = folder
        (folder / "letter.yaml").write_text(
            "campaign: 11월 소식\nfrom: news@example.org\nsubject: Hi\ntemplate: {text: letter.txt}\n"
            "recipients: [{file: people.csv}]\nsmtp: {host: smtp.example.org}\n",
            "utf-8",
        )
        self.ledger = SqliteLedger(folder / "bulkmail.sqlite")
        self.record = self.ledger.campaign("11월 소식", BEGUN)
        with self.ledger.enrolling():
            self.ledger.enrol(self.record, rows, [(address, "asked to") for address in excluded])

    def run(
        self,
        outcomes: Iterable[tuple[State, Outcome]],
        at: float = BEGUN,
        seconds: float = 1.0,
        ends: bool = True,
    ) -> None:
        """One run: what becomes of the next ones who are unsent, one after so many `seconds`."""
        run_id = self.ledger.begin_run(self.record, at)
        content = self.ledger.contents.id_of(self.record, "content")
        pairs = list(zip(self.ledger.unsent(self.record), outcomes, strict=False))
        intents, settlements = [], []
        for number, (person, (state, outcome)) in enumerate(pairs, 1):
            left_at = at + number * seconds
            intents.append(Intent(person.id, left_at, left_at, f"<{person.id}@example.org>"))
            settlements.append(Settlement(person.id, state, outcome, left_at + 600, at=left_at))
        self.ledger.record("a", content, intents)
        self.ledger.record("a", content, settlements)
        if ends:
            self.ledger.end_run(run_id, at + len(pairs) * seconds + 1)

    def report(self, *options: str) -> Result:
        arguments = ["report", str(self.folder / "letter.yaml"), *options]
        return CliRunner().invoke(commands, arguments, catch_exceptions=False)

    def page(self, *options: str) -> "Seen":
        result = self.report("--format", "html", *options)
        assert result.exit_code == 0 and result.stderr == ""
        return Seen(result.stdout)


class Seen(HTMLParser):
    """A page as a browser takes it: its text, its elements, its attributes."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.html = html
        self.tags: list[str] = []
        self.attributes: list[tuple[str, str]] = []
        self.commands: list[str] = []
        self._texts: list[str] = []
        self._inside: list[str] = []
        self.feed(html)
        self.text = re.sub(r"\s+", " ", " ".join(self._texts))

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self._inside.append(tag)
        self.attributes += [(name, value or "") for name, value in attrs]
        if tag == "code":
            self.commands.append("")

    def handle_endtag(self, tag: str) -> None:
        self._inside.pop()

    def handle_data(self, data: str) -> None:
        if "style" not in self._inside:
            self._texts.append(data)
        if "code" in self._inside:
            self.commands[-1] += data


def people(number: int, domain: str = "example.com") -> list[Row]:
    return [
        Row(f"p{index}@{domain}", {"name": f"사람 {index}"}, f"people.csv:{index + 2}")
        for index in range(number)
    ]


def accepted(number: int) -> list[tuple[State, Outcome]]:
    return [(State.ACCEPTED, OK)] * number


def failed(said: str, *names: str) -> list[tuple[State, Outcome]]:
    return [(State.FAILED, refused(said.format(name))) for name in names or ("x",)]


# -- numbers and groups --------------------------------------------------------------------------


def test_the_numbers_are_those_of_the_ledger(tmp_path: Path) -> None:
    """People are counted once; rows that nobody was sent for are counted apart."""
    rows = [
        *people(10),
        Row("p3@example.com", {}, "people.csv:20"),
        Row("nobody", {}, "people.csv:21", "is not of the form name@domain"),
        Row("out@example.com", {}, "people.csv:22"),
    ]
    filled = Filled(tmp_path, rows, excluded=["out@example.com"])
    filled.run([*accepted(5), *failed(NOBODY), (State.IN_DOUBT, LOST)])
    page = filled.page()
    assert "<h1>5 of 10 people were sent it so far</h1>" in page.html
    assert "accepted 5 the server took responsibility for it" in page.text
    assert "in doubt 1 may have it: no answer came after the message" in page.text
    assert "failed 1 were refused" in page.text
    assert "still to be sent 3 the next run goes on with them" in page.text
    assert (
        "3 rows of the list are not counted here (1 without a usable address,"
        " 1 for somebody who stands above, 1 left out on purpose)." in page.text
    )


@pytest.mark.parametrize(
    ("number", "done", "headline"),
    [
        (1, 1, "The one person on the list was sent it"),
        (1, 0, "Nobody was sent it"),
        (2, 2, "Both people were sent it"),
        (1200, 1200, "All 1,200 people were sent it"),
        (1200, 0, "None of 1,200 people was sent it"),
        (1200, 1, "1 of 1,200 people was sent it so far"),
    ],
)
def test_the_headline(tmp_path: Path, number: int, done: int, headline: str) -> None:
    filled = Filled(tmp_path, people(number))
    if done:
        filled.run(accepted(done))
    page = filled.page()
    assert f"<h1>{headline}</h1>" in page.html
    assert ("Did not get it" in page.text) is False
    assert ("It was never sent." in page.text) is (done == 0)


def test_the_headline_does_not_say_of_those_in_doubt_that_they_do_not_have_it(
    tmp_path: Path,
) -> None:
    filled = Filled(tmp_path, people(3))
    filled.run([(State.IN_DOUBT, LOST)] * 3)
    assert "<h1>Not known whether anybody of 3 people has it</h1>" in filled.page().html


def test_who_did_not_get_it_stands_by_meaning_and_domain(tmp_path: Path) -> None:
    rows = [*people(3, "naver.com"), *people(2, "example.com"), *people(3, "gmail.com")]
    filled = Filled(tmp_path, rows)
    filled.run([*failed(NOBODY, "a@naver.com", "b@naver.com"), *accepted(1),
                *failed(NOBODY, "c@example.com"), *failed(FULL, "d"), *accepted(3)])  # fmt: skip
    page = filled.page()
    nobody, full = re.findall(r"<article>.*?</article>", page.html, re.DOTALL)
    assert "No such mailbox" in nobody and "2 at naver.com, 1 at example.com" in nobody
    assert Seen(nobody).text.count("Recipient address rejected: User unknown") == 1, "ids aside"
    assert "Mailbox full" in full and "1 at example.com" in full
    assert [command.split()[1] for command in Seen(full).commands] == ["retry", "run"]
    assert [command.split()[1] for command in Seen(nobody).commands] == ["suppress"]
    assert "p0@naver.com 사람 0 people.csv:2" in Seen(nobody).text
    assert "naver.com 3 1 33.3 %" in page.text and "gmail.com 3 3 100 %" in page.text


def test_lists_are_bounded_and_the_command_that_lists_all_does(tmp_path: Path) -> None:
    filled = Filled(tmp_path, people(LISTED + 50))
    filled.run(
        [*failed(FULL), *(one for n in range(LISTED + 49) for one in failed(NOBODY, f"{n}"))]
    )
    page = filled.page()
    assert page.text.count("@example.com") < LISTED + 20
    assert page.tags.count("tr") == 1 + LISTED, "the one whose mailbox is full, and the first 100"
    assert f"The first {LISTED} of {LISTED + 49}" in page.text
    [line] = [one for one in page.commands if "--why no-mailbox" in one and "--out" not in one]
    options = shlex.split(line)[3:]
    assert len(filled.report(*options).stdout.splitlines()) == LISTED + 49
    [into_file] = [one for one in page.commands if "--out" in one]
    assert filled.report(*shlex.split(into_file)[3:]).exit_code == 0
    with (tmp_path / "no-mailbox.csv").open(encoding="utf-8") as file:
        assert len(list(csv.DictReader(file))) == LISTED + 49
    (tmp_path / "letter.txt").write_text("Hi\n")
    (tmp_path / "people.csv").write_text("email\nkim@example.com\n")
    [excluding] = [one for one in page.commands if one.startswith("exclude: ")]
    with (tmp_path / "letter.yaml").open("a") as campaign:
        campaign.write(f"{excluding}\n")
    excluded = dict(read_campaign(tmp_path / "letter.yaml").excluded())
    assert (
        len(excluded) == LISTED + 49 and excluded["p1@example.com"] == "stands in no-mailbox.csv:2"
    )


def test_state_and_why_limit_the_people_and_not_the_numbers(tmp_path: Path) -> None:
    filled = Filled(tmp_path, people(4))
    filled.run([*failed(FULL), *failed(NOBODY), (State.IN_DOUBT, LOST), *accepted(1)])
    for options, listed in (
        (("--state", "in_doubt"), ["p2"]),
        (("--why", "mailbox-full"), ["p0"]),
        (("--state", "failed", "--why", "no-mailbox,in-doubt"), ["p1"]),
        (("--state", "accepted"), []),
    ):
        page = filled.page(*options)
        assert re.findall(r"<td><bdi>(p\d)@example.com", page.html) == listed
        assert "<h1>1 of 4 people was sent it</h1>" in page.html
        assert page.tags.count("article") == 3
    assert filled.report("--why", "mailbox-full").stdout.split()[0] == "p0@example.com"
    wrong = filled.report("--why", "bad-luck")
    assert wrong.exit_code == 2 and "'bad-luck' is none of no-mailbox, " in wrong.stderr
    nobody = filled.report("--why", "policy")
    assert (nobody.stdout, nobody.stderr) == ("", "nobody is policy\n")


def test_what_was_decided_about_doubts_is_said(tmp_path: Path) -> None:
    """Who was sent to again may have it twice; who was settled has it by somebody's word."""
    filled = Filled(tmp_path, people(3))
    filled.run([(State.IN_DOUBT, LOST)] * 2 + accepted(1))
    ledger, record = filled.ledger, filled.record
    with ledger.deciding(record, [State.IN_DOUBT], ["p0@example.com"]) as decided:
        decided.settle(BEGUN)
    with ledger.deciding(record, [State.IN_DOUBT], ["p1@example.com"]) as decided:
        decided.retry(BEGUN)
    assert "Still to be sent" in filled.page().text
    filled.run(accepted(1), BEGUN + 100)
    page = filled.page()
    assert "<h1>All 3 people were sent it</h1>" in page.html
    assert "1 of the accepted may have it twice" in page.text
    assert "1 of the accepted were in doubt, until somebody said that they have it" in page.text


# -- the curve -----------------------------------------------------------------------------------


def test_runs_with_pauses_between_are_drawn_side_by_side(tmp_path: Path) -> None:
    filled = Filled(tmp_path, people(90))
    for number in range(3):
        filled.run(accepted(30), BEGUN + number * 86400, seconds=20)
    page = filled.page()
    assert "in 3 runs." in page.text
    assert page.html.count('class="course"') == 3 and page.html.count('class="gap"') == 2
    assert page.text.count("24 h") == 2


def test_a_curve_rises_from_nothing_to_all() -> None:
    curve = drawn((BEGUN + second, 3) for second in range(100))
    assert curve is not None and (curve.total, curve.seconds) == (300, 99)
    [line] = curve.lines
    points = [tuple(map(float, point.split())) for point in re.findall(r"[\d.]+ [\d.]+", line)]
    assert points == sorted(points, key=lambda point: (point[0], -point[1]))
    assert points[0] == (0, 200) and points[-1] == (WIDTH, curve.end_y)
    assert curve.ticks[0] == (0, 200) and curve.ticks[-1][0] <= 300


@pytest.mark.parametrize("times", [[], [BEGUN], [BEGUN, BEGUN]])
def test_no_course_no_curve(times: list[float]) -> None:
    assert drawn((at, 1) for at in sorted(set(times))) is None


def test_a_curve_of_any_length_is_bounded() -> None:
    """Also of very many runs: only the longest pauses are cut out."""
    at = [BEGUN + day * 86400 + second for day in range(40) for second in range(0, 3600, 9)]
    curve = drawn((moment, 1) for moment in at)
    assert curve is not None and curve.total == len(at)
    assert sum(line.count(" L") for line in curve.lines) <= MAX_BUCKETS + 2 * MAX_SPANS
    assert 1 <= len(curve.spans) <= MAX_SPANS
    edges = [x for span in curve.spans for x in (span.x_start, span.x_end)]
    assert edges == sorted(edges) and edges[-1] == pytest.approx(WIDTH)


# -- hostile names and replies -------------------------------------------------------------------

HOSTILE = (
    "<script>alert(1)</script>\"'><img src=x onerror=alert(2)>\x1b[2J\x00\u202egnp.exe{{ 7*7 }}"
)


def test_what_people_and_servers_write_is_text(tmp_path: Path) -> None:
    """Whatever a name, a source, a reason or a reply holds, the page has the elements it had."""
    rows = [
        Row("kim@example.com", {"name": HOSTILE}, f"{HOSTILE}.csv:2"),
        Row("lee@example.com", {"name": "이"}, "people.csv:3"),
        Row(HOSTILE, {"name": HOSTILE}, "people.csv:4", f"no: {HOSTILE}"),
    ]
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    hostile = Filled(tmp_path / "a", rows)
    hostile.run(
        [(State.FAILED, Outcome(Phase.RCPT, None, HOSTILE)), *failed(f"550 5.7.1 {HOSTILE}")]
    )
    harmless = Filled(tmp_path / "b", [
        Row("kim@example.com", {"name": "x"}, "x.csv:2"), *rows[1:2], Row("x", {"name": "x"}, "x", "no")
    ])  # fmt: skip
    harmless.run([(State.FAILED, Outcome(Phase.RCPT, None, "x")), *failed("550 5.7.1 x")])
    page = hostile.page()
    assert page.tags == harmless.page().tags
    assert "script" not in page.tags and "img" not in page.tags
    assert {name for name, _ in page.attributes if name.startswith("on")} == set()
    assert page.text.count("<script>alert(1)</script>\"'>") >= 4, "it is shown as it is"
    assert "{{ 7*7 }}" in page.text
    assert not re.search("[\x00-\x08\x0b-\x1f\x7f\u202a-\u202e\u2066-\u2069]", page.html)


@pytest.mark.parametrize(
    ("text", "seen"),
    [
        ("김연주", "김연주"),
        ("שלום", "שלום"),
        ("👩\u200d🚀", "👩\u200d🚀"),
        ("a\u202eb\u2066c\x07d", "a\ufffdb\ufffdc\ufffdd"),
    ],
)
def test_what_is_shown_of_a_text(text: str, seen: str) -> None:
    assert shown(text) == seen


def test_long_words_are_cut_and_what_has_to_be_whole_is_not(tmp_path: Path) -> None:
    """A server may write as much as it likes; commands and curves are never cut."""
    filled = Filled(tmp_path, [Row(f"{'k' * 60}{n}@{'d' * 60}.{'e' * 60}.example", {}, "x:1") for n in range(5)] + people(500))  # fmt: skip
    filled.run([*failed(f"552 5.2.2 {'full ' * 1000}") * 5, *accepted(500)])
    page = filled.page()
    assert page.text.count("full full") < 100
    [retry] = [command for command in page.commands if " retry " in command]
    assert len(retry) > 900 and retry.count("@") == 5 and retry.endswith("example")
    assert re.search(r'class="course" d="M[\d. L]+"', page.html)


def test_a_command_is_typed_safely() -> None:
    """Addresses and files are words of a shell, whatever they hold."""
    group = Group(State.FAILED, NO_MAILBOX, number=2)
    [command] = Shell("my file.yaml").advised(group, ["-rf@example.com", "`id`$HOME@example.com"])
    assert shlex.split(command.line) == [
        *("bulkmail", "suppress", "add", "--"),
        *("-rf@example.com", "`id`$HOME@example.com"),
    ]
    listing = Shell("my file.yaml", is_rehearsal=True).list_all(group).line
    assert shlex.split(listing)[2:4] == ["my file.yaml", "--sandbox"]


def test_the_page_asks_for_nothing_from_elsewhere(tmp_path: Path) -> None:
    filled = Filled(tmp_path, people(3))
    filled.run([*failed("550 5.7.1 see https://example.com/why"), *accepted(2)])
    page = filled.page()
    policy = "default-src 'none'; style-src 'unsafe-inline'; img-src data:; base-uri 'none'; form-action 'none'"
    assert ("content", policy) in page.attributes
    loading = {"href", "src", "srcset", "data", "action", "poster", "xlink:href", "background"}
    assert [pair for pair in page.attributes if pair[0] in loading] == []
    assert "url(" not in page.html and "@import" not in page.html
    assert not {"script", "link", "iframe", "object", "embed", "form"} & {*page.tags}


# -- where it is written, and when ---------------------------------------------------------------


def test_a_page_goes_to_a_file_or_to_standard_output(tmp_path: Path) -> None:
    filled = Filled(tmp_path, people(1))
    filled.run(accepted(1))
    out = tmp_path / "page.html"
    result = filled.report("--format", "html", "--out", str(out))
    assert (result.exit_code, result.output) == (0, "")
    stamp = re.compile(r"Read from the ledger on .*?, by")
    told = out.read_text("utf-8")
    assert stamp.sub("", told) == stamp.sub("", filled.page().html)
    assert told.startswith("<!doctype html>") and told.endswith("</html>\n")


def test_a_page_while_a_run_writes(tmp_path: Path) -> None:
    """The ledger is held by the run; the page is as it was at one time, and says so."""
    filled = Filled(tmp_path, people(20))
    filled.run(accepted(5), ends=False)
    with filled.ledger.enrolling():
        filled.ledger.enrol(filled.record, people(40))
        page = filled.page()
    assert "<h1>5 of 20 people were sent it so far</h1>" in page.html
    assert "A run is under way." in page.text
    assert "the run that is under way goes on with them" in page.text
    assert page.commands == [], "nothing can be decided meanwhile"


def test_who_was_in_flight_when_a_run_was_killed_may_have_it(tmp_path: Path) -> None:
    filled = Filled(tmp_path, people(3))
    filled.run(accepted(1), ends=False)
    [second, _] = filled.ledger.unsent(filled.record)
    filled.ledger.record("a", None, [Intent(second.id, BEGUN, BEGUN, "<2@example.org>")])
    assert "in doubt" not in filled.page().text.replace("as in doubt", "")
    filled.ledger.close()
    page = filled.page()
    assert "in doubt 1 may have it" in page.text and "still to be sent 1 " in page.text


async def test_a_rehearsal_says_so_and_a_real_run_has_its_groups(
    serve: StartServer, project: Project
) -> None:
    server = await serve(
        answer=lambda verb, argument: (
            b"550 5.1.1 no such user\r\n" if verb == "RCPT" and "person1@" in argument
            else b"452 4.2.2 mailbox full\r\n" if verb == "RCPT" and "person2@" in argument
            else None
        )
    )  # fmt: skip
    project.many(4)
    project.campaign(server)
    rehearsed = await project.bulkmail("run", "letter.yaml", "--sandbox", "--yes")
    assert rehearsed.status == 0
    page = await project.bulkmail("report", "letter.yaml", "--sandbox", "--format", "html")
    assert "<h1>All 4 people were sent it</h1>" in page.out
    assert "rehearsal, nothing left this computer" in page.out
    assert "the server on this computer kept it" in page.out
    assert 'class="course"' not in page.out, "it was over at once"

    result = await project.bulkmail("run", "letter.yaml", "--yes", "--wait", "1s")
    assert result.status == 75
    assert "  1 failed: no such mailbox (5.1.1) · 1 at example.com\n" in result.out
    assert "  1 deferred: mailbox full (4.2.2) · 1 at example.com\n" in result.out
    page = await project.bulkmail("report", "letter.yaml", "--format", "html")
    assert "<h1>2 of 4 people were sent it so far</h1>" in page.out
    retried = await project.bulkmail("retry", "letter.yaml", "--why", "no-mailbox", "--yes")
    assert (retried.status, retried.out.split("\n")[0]) == (0, "1 pending again")
    again = await project.bulkmail("retry", "letter.yaml", "--why", "no-mailbox", "--yes")
    assert again.status == 65 and "nobody is failed, expired, no-mailbox" in again.err


def test_the_documentation_names_every_meaning() -> None:
    told = (Path(__file__).parent.parent / "docs/reports.md").read_text("utf-8")
    assert re.findall(r"^\| `([a-z][a-z-]+)` \| (.*?) \|", told, re.MULTILINE) == [
        (meant.key, meant.name) for meant in MEANINGS
    ]


def test_a_group_in_a_line(tmp_path: Path) -> None:
    rows = [row for n in range(5) for row in people(n + 1, f"d{n}.example")]
    filled = Filled(tmp_path, rows)
    filled.run([one for n in range(15) for one in failed(NOBODY, f"{n}@x")])
    view = SqliteView(tmp_path / "bulkmail.sqlite")
    [group] = grouped(view.not_accepted(filled.record))
    view.close()
    assert in_a_line(group) == (
        "15 failed: no such mailbox (5.1.1) · 5 at d4.example, 4 at d3.example, 3 at d2.example"
        " and 3 at 2 others"
    )


@pytest.mark.parametrize(
    ("part", "whole", "told"),
    [
        (0, 0, "–"),
        (0, 5, "0 %"),
        (5, 5, "100 %"),
        (1, 3, "33.3 %"),
        (1, 10000, "under 0.1 %"),
        (9999, 10000, "over 99.9 %"),
    ],
)
def test_percentages_never_round_to_all_or_nothing(part: int, whole: int, told: str) -> None:
    assert percent(part, whole) == told


def test_no_cell_of_the_table_is_a_formula(tmp_path: Path) -> None:
    """`report --format csv`, opened in a spreadsheet."""
    rows = [Row("=1+1@example.com", {"name": "@SUM(A1)", "-x": "+1", "y": "\t=2"}, "people.csv:2")]
    filled = Filled(tmp_path, rows)
    filled.run(failed("550 5.7.1 =no"))
    told = filled.report("--format", "csv").stdout
    cells = [cell for line in csv.reader(told.splitlines()) for cell in line]
    assert not [cell for cell in cells if cell.startswith(("=", "+", "-", "@", "\t", "\r"))]
    assert {"'=1+1@example.com", "'@SUM(A1)", "'-x", "'+1", "'\t=2"} <= {*cells}
