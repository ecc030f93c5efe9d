"""The pure parts of the benchmarks: what the checker finds, and what the tables say. No times."""

from email.message import EmailMessage
from email.policy import SMTP
from pathlib import Path
from xml.etree import ElementTree

import pytest

from benchmarks import document, summary
from benchmarks.checking import Taken, faults, parsed, read_capture
from benchmarks.material import ATTACHMENT, Letter, Person, letter, people
from benchmarks.measuring import Figures, Result, figures
from benchmarks.scenarios import SCENARIOS
from benchmarks.server import Mark

PEOPLE = list(people(3))
EXPECTED = {person.email: letter(person, with_attachment=True) for person in PEOPLE}


def taken(person: Person, *, to: str | None = None, **changes: object) -> Taken:
    """The message of `person`, as some sender would encode it."""
    wanted = letter(person, with_attachment=True)
    message = EmailMessage(policy=SMTP)
    message["Subject"] = changes.get("subject", wanted.subject)
    message.set_content(changes.get("text", wanted.text), cte=changes.get("cte", "7bit"))
    message.add_alternative(changes.get("html", wanted.html), subtype="html")
    for content in changes.get("attachments", wanted.attachments):
        message.add_attachment(
            content, maintype="application", subtype="octet-stream", filename=ATTACHMENT
        )
    content = message.as_bytes()
    return Taken(to or person.email, len(content), False, content)


def found(*messages: Taken) -> list[str]:
    return list(faults(messages, EXPECTED))


@pytest.mark.parametrize("cte", ["7bit", "base64", "quoted-printable"])
def test_what_everyone_got_is_right_in_any_encoding(cte: str) -> None:
    assert found(*(taken(person, cte=cte) for person in PEOPLE)) == []


@pytest.mark.parametrize(
    ("changes", "what"),
    [
        ({"subject": "Another"}, "another subject"),
        ({"text": "Dear nobody,\n"}, "another text"),
        ({"html": "<p>Dear nobody,</p>\n"}, "another html"),
        ({"attachments": [b"x"]}, "another attachment"),
        ({"attachments": []}, "0 attachments, not 1"),
        ({"attachments": [EXPECTED[PEOPLE[0].email].attachments[0]] * 2}, "2 attachments, not 1"),
    ],
)
def test_a_wrong_message_is_found(changes: dict[str, object], what: str) -> None:
    messages = taken(PEOPLE[0], **changes), taken(PEOPLE[1]), taken(PEOPLE[2])
    assert found(*messages) == [f"{PEOPLE[0].email}: {what}"]


def test_a_neighbours_message_is_found() -> None:
    swapped = taken(PEOPLE[1], to=PEOPLE[0].email)
    wrong = found(swapped, taken(PEOPLE[1]), taken(PEOPLE[2]))
    assert f"{PEOPLE[0].email}: another subject" in wrong


def test_who_got_none_or_two_is_found_and_who_is_not_meant() -> None:
    messages = taken(PEOPLE[0]), taken(PEOPLE[0]), taken(PEOPLE[2]), taken(PEOPLE[2], to="x@y.z")
    assert found(*messages) == [
        "x@y.z: is not among the recipients",
        f"{PEOPLE[0].email}: got 2 messages",
        f"{PEOPLE[1].email}: got 0 messages",
    ]


def test_what_was_not_kept_must_be_of_the_same_size() -> None:
    kept = taken(PEOPLE[0])
    like_it = Taken(PEOPLE[1].email, kept.size + 5, False, None)
    without_attachment = Taken(PEOPLE[2].email, kept.size - 130_000, False, None)
    [wrong] = found(kept, like_it, without_attachment)
    assert wrong.startswith(PEOPLE[2].email)
    assert "no message was kept whole" in found(like_it)


def test_a_capture_is_read_with_its_dots_as_they_were(tmp_path: Path) -> None:
    path = tmp_path / "capture"
    data, chunk = b"..a\r\n.b\r\n\r\n..\r\n", b"..a\r\n"
    path.write_bytes(b"a@b %d D %d\n%sc@d 9 D 0\ne@f %d B %d\n%s"
                     % (len(data), len(data), data, len(chunk), len(chunk), chunk))  # fmt: skip
    assert [message.content for message in read_capture(path)] == [
        b".a\r\n.b\r\n\r\n.\r\n", None, b"..a\r\n",
    ]  # fmt: skip


def test_line_ends_at_the_end_do_not_count() -> None:
    assert parsed(b"Subject: x\r\n\r\nhello\r\n\r\n") == Letter("x", "hello", "", ())


def test_figures_are_those_between_two_marks() -> None:
    first = Mark(100, 2_000_000_000, 0, 0, 0, 1)
    last = Mark(1100, 2_050_000_000, 10_000_000, 100_000_000, 0, 1)
    got = figures(first, last, cpu_s=9.0, peak_mb=60.0, people=1100)
    assert (got.sending_us, got.per_second, got.load, got.sink_us) == (50.0, 10_000.0, 0.1, 10.0)
    assert got.before_s == pytest.approx(1.995)
    unknown = Mark(100, -1, 0, 0, 0, 1)
    assert figures(unknown, last, cpu_s=1.1, peak_mb=60.0, people=1100).sending_us == 1000.0


def result(us: float, load: float = 0.1) -> Result:
    return Result(Figures(us, 1.0, 5_000.0, load, 3.0, 60.0))


NAMES = {"bulkmail, PIPELINING": 100, "bulkmail, CHUNKING": 100, "other": 10, "wrong": 10}
ROUNDS = [
    {"bulkmail, PIPELINING": result(20), "bulkmail, CHUNKING": result(10), "other": result(200),
     "wrong": result(5)},
    {"bulkmail, PIPELINING": result(40), "bulkmail, CHUNKING": result(10), "other": result(900),
     "wrong": Result(None, "a@b: got 2 messages")},
    {"bulkmail, PIPELINING": result(30), "bulkmail, CHUNKING": result(10), "other": result(210, 0.9),
     "wrong": result(5)},
]  # fmt: skip


def test_ratios_are_the_medians_of_those_within_a_round() -> None:
    [pipelining, _, other, wrong] = summary.summed_up(ROUNDS, NAMES)
    assert pipelining.ratios == {"PIPELINING": 1.0, "CHUNKING": 3.0}
    assert other.ratios == {"PIPELINING": 10.0, "CHUNKING": 21.0}
    assert other.figures is not None and other.figures.sending_us == 210
    assert wrong.figures is None
    assert summary.remarks([wrong, other]) == ["wrong: a@b: got 2 messages"]


def test_a_table_has_no_figure_of_who_was_wrong_and_no_throughput_of_a_busy_server() -> None:
    rounds = [{**found, "busy": result(30, load=0.81)} for found in ROUNDS]
    rows = summary.table(summary.summed_up(rounds, {**NAMES, "busy": 10}))
    by_name = {row[0]: row for row in rows}
    assert rows[0][2:5] == ["× PIPELINING", "× CHUNKING", "messages/s"]
    assert by_name["other"][1:5] == ["210", "10.0", "21.0", "5,000"]
    assert by_name["busy"][4:6] == ["–", "81%"]
    assert by_name["wrong"][1] == "no figure" and set(by_name["wrong"][2:-1]) == {""}
    assert len({len(row) for row in rows}) == 1
    lines = summary.in_markdown(rows).split("\n")
    assert lines[1].startswith("|---|---:|") and lines[0].count("|") == lines[1].count("|")


def test_the_document_gets_new_figures_and_keeps_its_text(tmp_path: Path) -> None:
    rows = summary.summed_up(ROUNDS, NAMES)
    path = tmp_path / "performance.md"
    path.write_text(f"Before.\n\n{document.BEGIN}\nold\n{document.END}\n\nAfter.\n")
    for _ in range(2):
        document.write([(scenario, rows) for scenario in SCENARIOS], 3, ["Said."], tmp_path)
    text = path.read_text()
    assert text.startswith("Before.\n") and text.endswith("\n\nAfter.\n") and "old" not in text
    assert text.count("| other | 210 |") == len(SCENARIOS)
    picture = ElementTree.parse(tmp_path / "performance.svg").getroot()
    shown = [element.text for element in picture.iter("{http://www.w3.org/2000/svg}text")]
    assert "210" in shown and "wrong" not in shown


def test_the_document_in_the_repository_has_its_place_for_figures() -> None:
    text = (document.DOCS / "performance.md").read_text()
    assert 0 < text.index(document.BEGIN) < text.index(document.END)


def test_the_letter_is_what_costs_other_senders_least() -> None:
    """ASCII in short lines needs no encoding."""
    for person in people(500):
        wanted = letter(person, with_attachment=False)
        text = f"{wanted.subject}\n{wanted.text}\n{wanted.html}"
        assert text.isascii() and max(map(len, text.split("\n"))) <= 76
        assert "{{" not in text
