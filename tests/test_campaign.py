"""Campaign files: what is understood, and how mistakes are told."""

import os
import signal
import threading
import time
from contextlib import suppress
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import TypeAdapter

from bulkmail.campaign import read_campaign
from bulkmail.campaign.files import media_type
from bulkmail.campaign.patience import SECONDS, in_time
from bulkmail.campaign.secrets import read_secret
from bulkmail.campaign.values import OneMailbox
from bulkmail.compose.message import FileFaultError, Mailbox, PersonalFile
from bulkmail.errors import CampaignError, ExitStatus, MissingFileError, SecretError
from bulkmail.model import Rate, Security

from .conftest import rows_of

GOOD = """\
from: "소식 <news@likelion.example>"
subject: "{{ name }}님"
template: {text: letter.txt}
recipients:
  - {email: kim@example.com, name: 김연주}
smtp: {host: smtp.example.org, port: 465}
"""


@pytest.fixture
def write(tmp_path: Path):
    """Writes july.yaml beside its template and list; its path."""
    (tmp_path / "letter.txt").write_text("Dear {{ name }}\n")
    (tmp_path / "people.csv").write_text("email,name\nkim@example.com,Kim\n")

    def write(text: str | bytes) -> Path:
        path = tmp_path / "july.yaml"
        path.write_bytes(text if isinstance(text, bytes) else text.encode())
        return path

    return write


def problems(path: Path) -> list[str]:
    """The mistakes that are told, from `july.yaml:` on."""
    with pytest.raises(CampaignError) as caught:
        rows_of(read_campaign(path))
    assert caught.value.status is ExitStatus.DATA
    return [line.replace(f"{path.parent}/", "") for line in str(caught.value).split("\n")]


def test_defaults(write) -> None:
    campaign = read_campaign(write(GOOD))
    assert campaign.name == "july"
    assert campaign.design.author == Mailbox("소식", "news@likelion.example")
    assert campaign.design.return_path == "news@likelion.example"
    assert campaign.file.rate == (Rate(1, 1),)
    assert campaign.submission().security is Security.TLS
    assert campaign.ledger_path == campaign.folder / "bulkmail.sqlite"


def test_text_stays_text(write) -> None:
    text = GOOD.replace(
        "{email: kim@example.com, name: 김연주}",
        "{email: kim@example.com, name: no, code: 010, at: 12:30, tel: +8210, empty: , on: 2026-11-23}",
    )
    [row] = rows_of(read_campaign(write(text)))
    assert row.fields == {
        "name": "no", "code": "010", "at": "12:30", "tel": "+8210", "empty": "", "on": "2026-11-23"
    }  # fmt: skip


@pytest.mark.parametrize(
    ("change", "to", "expected"),
    [
        ("subject:", "subjct:", 'july.yaml:2:1: unknown key "subjct"; did you mean "subject"?'),
        ("smtp:", "retry: {first: 5}\nsmtp:", 'july.yaml:6:16: retry.first: "5" is no length of time'),
        ("smtp:", "retry: {first: 5h}\nsmtp:", "july.yaml:6:8: retry: must grow: first, longest, give_up"),
        ("smtp:", "retry: {fist: 5h}\nsmtp:", 'unknown key "fist"; did you mean "first"?'),
        ("smtp:", "in_doubt: send\nsmtp:", "july.yaml:6:11: in_doubt: must be 'hold' or 'resend'"),
        ("smtp:", "start_at: 2026-12-01 09:00\nsmtp:", "july.yaml:6:11: start_at: must be a time with its zone"),
        ("smtp:", "start_at: 2026-12-01 09:00 Asia/Soul\nsmtp:", "start_at: must be a time with its zone"),
        ("smtp:", "start_at: 2026-02-30 09:00 Asia/Seoul\nsmtp:", "start_at: must be a time with its zone"),
        ("smtp:", "start_at: tomorrow\nsmtp:", "start_at: must be a time with its zone"),
        ("subject:", "dkim: {}\nsubject:", 'july.yaml:2:1: "dkim" comes in a later version'),
        ("smtp:", "headers: {Bcc: x}\nsmtp:", 'july.yaml:6:10: headers: "Bcc" cannot be set here: each'),
        ("smtp:", "headers: {from: x}\nsmtp:", '"from" cannot be set here: it has a key of its own'),
        ("smtp:", "headers: {Resent-To: x}\nsmtp:", '"Resent-To" cannot be set here: each message goes'),
        ("smtp:", "headers: {To: a, Subject: b}\nsmtp:", '"To" cannot be set here: every message has its own, made by bulkmail; "Subject" cannot'),
        ("smtp:", "cc: x@y.example\nsmtp:", 'unknown key "cc"; each message goes to one person'),
        ("smtp:", "attachments: a.png\nsmtp:", "attachments: must be written like  attachments: [files/plan.pdf]"),
        ("smtp:", "images: [a.png]\nsmtp:", "images: must be written like  images: {logo: files/logo.png}"),
        ("smtp:", "list: {unsubscribe: a@b.example}\nsmtp:", "list.unsubscribe: must be written like  unsubscribe: {mailto:"),
        ("smtp:", "exclude: [{file: a.csv, encodng: cp949}]\nsmtp:", 'unknown key "encodng"; did you mean "encoding"?'),
        ('"{{ name }}님"', '""', "july.yaml:2:10: subject: is empty"),
        ("host: smtp.example.org", "host: smtp.example.org:465", "smtp.host: must be the name of a server alone"),
        ("host: smtp.example.org", "host: https://smtp.example.org", "smtp.host: must be the name of a server alone"),
        ("{email: kim@example.com, name: 김연주}", "{file: people.csv, encodng: cp949}", 'july.yaml:5:24: unknown key "encodng"; did you mean "encoding"?'),
        ("smtp:", "headers: {Content-Type: x}\nsmtp:", '"Content-Type" cannot be set here: it follows'),
        ("smtp:", "headers: {MIME-Version: x}\nsmtp:", '"MIME-Version" cannot be set here: it follows'),
        ("smtp:", "headers: {List-Unsubscribe: x}\nsmtp:", "it has a key of its own, `list`"),
        ("smtp:", "headers: {Message-ID: x}\nsmtp:", "every message has its own"),
        ("smtp:", "headers: {X-A: x, x-a: y}\nsmtp:", '"x-a" cannot be set here: it stands twice'),
        ("smtp:", "headers: {'X A': x}\nsmtp:", "that is no name of a header field"),
        ("smtp:", "list: {id: news}\nsmtp:", 'july.yaml:6:12: list.id: must be like "news.example.org"'),
        ("smtp:", "list: {id: '%s.b'}\nsmtp:" % ("a" * 300), "list.id: must be like"),
        ("smtp:", 'list: {id: "N\\a <a.b>"}\nsmtp:', "list.id: must be like"),
        ("smtp:", "reply_to: '\"'\nsmtp:", "reply_to: must be one address"),
        ("smtp:", "start_at: 2026-12-01 09:00+09:00 Europe/Berlin\nsmtp:", "start_at: must be a time with its zone"),
        ("smtp:", "start_at: 9999-12-31 23:59-12:00\nsmtp:", "start_at: must be a time with its zone"),
        ("smtp:", "list: {idd: news}\nsmtp:", 'july.yaml:6:8: unknown key "idd"; did you mean "id"?'),
        ("smtp:", "list: {unsubscribe: {}}\nsmtp:", "july.yaml:6:21: list.unsubscribe: needs mailto or url"),
        ("smtp:", "list: {unsubscribe: {malto: x}}\nsmtp:", 'unknown key "malto"; did you mean "mailto"?'),
        ("smtp:", "list: {unsubscribe: {mailto: x}}\nsmtp:", 'list.unsubscribe.mailto: "x" is not of the'),
        ("smtp:", "list: {unsubscribe: {url: leave.example}}\nsmtp:", 'must begin with "https://"'),
        ("smtp:", "images: {logo: a.png}\nsmtp:", "images stand in HTML: template.html is missing"),
        ("smtp:", "images: {'a b': a.png}\nsmtp:", 'july.yaml:6:9: images: "a b" is no name for an image'),
        ("smtp:", "ledger: postgresql://a:b@x/y\nsmtp:", "july.yaml:6:9: ledger: a password does not stand in"),
        ("{email: kim@example.com, name: 김연주}", "{campaign: june, state: [failed]}", 'unknown key "state"; did you mean "states"?'),
        ("{email: kim@example.com, name: 김연주}", "{campaign: june, states: [bounced]}", "july.yaml:5:31: recipients.1.states.1: must be 'pending'"),
        ("{email: kim@example.com, name: 김연주}", "{campaign: july}", '"july" is this campaign itself'),
        ("{email: kim@example.com, name: 김연주}", "{campaign: june}", 'july.yaml:5:5: no campaign "june"'),
        ("name: 김연주", "row: x", '"row" has a meaning of its own in templates'),
        ("port: 465", "username: x, password: 'keyring:x'", "keyring: comes in a later version"),
        ("소식 <news@likelion.example>", "김 <김@likelion.example>", 'from: "김" before the @ must be plain ASCII'),
        ("{text: ", "{txt: ", 'july.yaml:3:12: unknown key "txt"; did you mean "text"?'),
        ("port: 465", "prot: 465", 'july.yaml:6:32: unknown key "prot"; did you mean "port"?'),
        ("port: 465", "port: 465, port: 587", 'the key "port" stands twice, first at july.yaml:6'),
        ("port: 465", "port: x", "july.yaml:6:38: smtp.port: must be a whole number"),
        ("port: 465", "port: 0", "july.yaml:6:38: smtp.port: must be greater than or equal to 1"),
        ("port: 465", "port: 2525", "july.yaml:6:7: smtp: with port 2525 say also security"),
        ("port: 465", "security: ssl", "smtp.security: must be 'tls', 'starttls' or 'none'"),
        ("port: 465", "username: x", "username and password belong together; password is missing"),
        ("port: 465", "username: x, password: hunter2", "does not belong into a campaign file"),
        ("port: 465", "security: none, username: x, password: ask", "unprotected connection"),
        ("host: smtp.example.org, ", "", 'july.yaml:6:1: "host" is missing in smtp'),
        ("from:", "# from:", 'july.yaml:2:1: "from" is missing'),
        ("소식 <news@likelion.example>", "소식", "july.yaml:1:7: from: must be one address"),
        ("소식 <news@likelion.example>", "a@b.example, c@d.example", "from: must be one address"),
        ("소식 <news@likelion.example>", "X <a@b>", 'from: "a@b" has no dot after the @'),
        ("{text: letter.txt}", "{}", "july.yaml:3:11: template: needs html or text"),
        ("{text: letter.txt}", "letter.txt", "july.yaml:3:11: template:"),
        ("  - {email: kim@example.com, name: 김연주}", "  - kim@example.com", "needs {file: members"),
        ("  - {email: kim@example.com, name: 김연주}", "  []", "july.yaml:5:3: recipients:"),
        ("name: 김연주", "name: [a]", "july.yaml:5:36: recipients.1.name: must be a valid string"),
        ("smtp:", "rate: 5\nsmtp:", 'july.yaml:6:7: rate: "5" is no rate'),
        ("smtp:", "rate: 0/s\nsmtp:", "is no rate"),
        ("smtp:", "rate: -1/s\nsmtp:", "is no rate"),
        ("smtp:", "rate: .inf\nsmtp:", "is no rate"),
        ("smtp:", "rate: []\nsmtp:", "july.yaml:6:7: rate: must be like"),
        ("smtp:", "rate: 1/fortnight\nsmtp:", "is no rate"),
        ("smtp:", "rate_per_domain: 20/min\nsmtp:", 'must be written like  rate_per_domain: {gmail.com: 20/min, "*": 60/min}'),
        ("smtp:", "rate_per_domain: {gmail.com: 20}\nsmtp:", 'july.yaml:6:30: rate_per_domain.gmail.com: "20" is no rate'),
        ("smtp:", "rate_per_domain: {kim@gmail.com: 20/min}\nsmtp:", '"kim@gmail.com" is no domain; write like gmail.com: 20/min'),
        ("smtp:", "rate_per_domain: {'*.com': 20/min}\nsmtp:", '"*.com" is no domain'),
        ("smtp:", "rate_per_domain: {a.example: 1/s, A.example: 2/s}\nsmtp:", '"A.example" stands here twice'),
        ("smtp:", "stop_after_failures: 0\nsmtp:", "july.yaml:6:22: stop_after_failures: must be greater than or equal to 1"),
        ("smtp:", "stop_after_failures: never\nsmtp:", "stop_after_failures: must be a whole number"),
        ("smtp:", "addresses: {pattern: '['}\nsmtp:", "must be standard, classic or a regex"),
        ("smtp:", "variables: {email: x}\nsmtp:", 'july.yaml:6:12: variables: "email" has a meaning'),
        ("smtp:", "variables: {name: x}\nsmtp:", 'july.yaml:6:13: "name" is also a column of july'),
        ("smtp:", "campaign: ../x\nsmtp:", "july.yaml:6:11: campaign:"),
        ("smtp:", "smtp2: &a [*a]\nsmtp:", "an alias that leads back to itself"),
        ("smtp:", "smtp2: !!python/name:os.system x\nsmtp:", "is not understood here"),
        ("smtp:", "? [a]\n: b\nsmtp:", "a key must be text"),
        ("smtp:", "\tsmtp:", "july.yaml:6:1:"),
        ("smtp:", "---\nsmtp:", "one file is one campaign"),
    ],
)  # fmt: skip
def test_mistakes_are_told_with_their_place(write, change: str, to: str, expected: str) -> None:
    assert change in GOOD
    told = problems(write(GOOD.replace(change, to)))
    assert any(expected in line for line in told), told


def test_all_mistakes_are_told_at_once_in_their_order(write) -> None:
    told = problems(write(GOOD.replace("subject:", "subjct:").replace("port: 465", "port: x")))
    assert [line.split(" ")[0] for line in told] == [
        "july.yaml:1:1:",
        "july.yaml:2:1:",
        "july.yaml:6:38:",
    ]


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        (b"", "is empty"),
        (b"- a\n- b\n", "july.yaml:1:1: a campaign file is a list of `key: value`"),
        (b"just text", "a campaign file is a list"),
        ("from: 소식".encode("cp949"), "july.yaml:1:7: byte 0xbc is not UTF-8"),
        ("from: x".encode("utf-16"), "is not UTF-8"),
        (b"from: \0", "is not YAML"),
        (b"from: [", "july.yaml:1:7"),
        (b"[" * 5000, "nested too deeply"),
        (b"port: " + b"9" * 100_000, '"from" is missing'),
        (
            b"a: &a [x,x,x,x,x,x,x,x,x]\n"
            + b"".join(
                b"%c: &%c [%s]\n" % (c, c, b",".join([b"*%c" % (c - 1)] * 9)) for c in b"bcdefgh"
            ),
            "too much",
        ),
    ],
)
def test_what_is_no_campaign_file_is_told_so(write, data: bytes, expected: str) -> None:
    assert any(expected in line for line in problems(write(data)))


def test_a_wrong_recipient_is_one_mistake(write) -> None:
    told = problems(write(GOOD.replace("email: kim@example.com", "file: people.csv, encodng: x")))
    assert [line.partition(": ")[0] for line in told] == ["july.yaml:5:24", "july.yaml:5:36"]


@pytest.mark.parametrize(
    "host", ["smtp.example.org", "localhost", "127.0.0.1", '"::1"', "mail_1.example."]
)
def test_hosts(write, host: str) -> None:
    assert read_campaign(write(GOOD.replace("smtp.example.org", host))).server.host


def test_a_bom_is_understood(write) -> None:
    assert read_campaign(write(b"\xef\xbb\xbf" + GOOD.encode())).name == "july"


@given(st.text())
def test_no_mailbox_is_too_odd_to_be_told(text: str) -> None:
    """Python's own parser raises many kinds of exception for what is no address."""
    with suppress(ValueError):
        TypeAdapter(OneMailbox).validate_python(text)


@pytest.mark.parametrize(
    ("name", "good"), [("a b.yaml", True), ("...yaml", False), ("a\nb.yaml", False)]
)
def test_a_file_whose_name_is_none_for_a_campaign(write, name: str, good: bool) -> None:
    path = write(GOOD)
    path = path.rename(path.parent / name)
    if good:
        assert read_campaign(path).name == "a b"
    else:
        with pytest.raises(CampaignError, match="say `campaign: a-name` in it"):
            read_campaign(path)
    path.write_text(GOOD + "campaign: named\n")
    assert read_campaign(path).name == "named"


def test_a_template_that_is_far_too_long_is_told(write, tmp_path: Path) -> None:
    (tmp_path / "letter.txt").write_text("x" * 500_001)
    assert "letter.txt: has 500 KB" in problems(write(GOOD))[0]


def test_too_many_people_inline_are_sent_to_a_file(write) -> None:
    people = "\n".join(f"  - {{email: p{i}@example.com}}" for i in range(1001))
    [told] = problems(write(GOOD.replace("  - {email: kim@example.com, name: 김연주}", people)))
    assert "1001 recipients in the campaign file; put them in a CSV file" in told


@pytest.mark.parametrize(
    ("change", "to", "expected"),
    [
        ("letter.txt", "leter.txt", 'july.yaml:3:18: no template "leter.txt" in'),
        ("letter.txt", "../letter.txt", "no template"),
        ("letter.txt", "/etc/passwd", "no template"),
        ("smtp:", "attachments: [no.png]\nsmtp:", "july.yaml:6:15: "),
        ("smtp:", "attachments: [{file: .}]\nsmtp:", "is a folder"),
        ("{email: kim@example.com, name: 김연주}", "{file: no.csv}", "july.yaml:5:12: no file "),
        ("smtp:", "exclude: [no.csv]\nsmtp:", "july.yaml:6:11: no file "),
        ("smtp:", "attachments: [no.png, no.pdf]\nsmtp:", "july.yaml:6:23: "),
    ],
)
def test_missing_files_are_status_66(write, change: str, to: str, expected: str) -> None:
    with pytest.raises(MissingFileError) as caught:
        read_campaign(write(GOOD.replace(change, to)))
    assert caught.value.status is ExitStatus.NO_INPUT
    assert expected in str(caught.value)


def test_templates_of_the_project(write, tmp_path: Path) -> None:
    """Beside the campaign first, then in `templates/` of the nearest folder above that has one."""
    path = write(GOOD)
    campaigns = tmp_path / "campaigns" / "2026"
    campaigns.mkdir(parents=True)
    path = path.rename(campaigns / "july.yaml")
    (tmp_path / "templates").mkdir()
    (tmp_path / "letter.txt").rename(tmp_path / "templates" / "letter.txt")
    campaign = read_campaign(path)
    assert campaign.load("letter.txt")[0] == "Dear {{ name }}\n"
    assert campaign.ledger_path == tmp_path / "bulkmail.sqlite"


def test_everything_that_a_campaign_can_say(write, tmp_path: Path) -> None:
    for name in ("a.png", "b.pdf", "letter.html", "out.csv"):
        (tmp_path / name).write_text("email\nlee@example.com\n")
    text = (
        GOOD.replace("{text: letter.txt}", "{html: letter.html, text: letter.txt}")
        + """
headers: {X-Issue: "{{ issue }}", X-Number: 010}
variables: {issue: 11}
list: {id: "Our news <news.likelion.example>", unsubscribe: {mailto: leave@likelion.example, url: "https://likelion.example/?m={{ email }}"}}
exclude: [out.csv, {file: out.csv, columns: {email: email}}]
images: {logo: a.png}
attachments: [b.pdf, {file: "{{ name }}.pdf", name: "{{ name }}님.pdf"}]
"""
    )
    campaign = read_campaign(write(text))
    design = campaign.design
    assert {name: source.text for name, source in design.headers.items()} == {
        "X-Issue": "{{ issue }}", "X-Number": "010"
    }  # fmt: skip
    assert design.headers["X-Number"].place.endswith("july.yaml:8:45")
    assert design.list_id == Mailbox("Our news", "news.likelion.example")
    assert design.unsubscribe_mailto == "leave@likelion.example"
    assert design.images["logo"].name == "a.png"
    _, personal = design.attachments
    assert isinstance(personal, PersonalFile)
    assert personal.path.text == "{{ name }}.pdf" and personal.name is not None
    assert list(campaign.excluded()) == [("lee@example.com", "stands in out.csv:2")] * 2
    assert campaign.template_names.used >= {"name", "issue", "email"}


@pytest.mark.parametrize(
    "text",
    ["2026-12-01 09:00 Asia/Seoul", "2026-12-01 09:00+09:00", "2026-12-01T00:00Z", "2026-12-01 00:00:00 UTC"],
)  # fmt: skip
def test_a_start_may_be_written_in_several_ways(write, text: str) -> None:
    start_at = read_campaign(write(GOOD + f"start_at: {text}\n")).file.start_at
    assert start_at is not None and start_at.timestamp() == 1796083200.0


def test_a_retry_schedule(write) -> None:
    retry = read_campaign(write(GOOD + "retry: {first: 30s, give_up: 1d}\n")).file.retry
    seconds = [d.total_seconds() for d in (retry.first, retry.longest, retry.give_up)]
    assert seconds == [30, 14400, 86400]


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("News <news@example.org>", "News"),
        ("news@example.org", ""),
        ("<news@example.org>", ""),
        ("Likelion, Inc. <news@example.org>", "Likelion, Inc."),
        ("소식 (11월) <news@example.org>", "소식 (11월)"),
        ('"Kim, \\"Jr.\\"" <news@example.org>', 'Kim, "Jr."'),
        ("=?utf-8?b?7IaM7Iud?= <news@example.org>", "소식"),
    ],
)
def test_a_name_before_an_address_is_what_people_write(write, text: str, name: str) -> None:
    path = write(GOOD.replace('"소식 <news@likelion.example>"', f"'{text}'"))
    assert read_campaign(path).design.author == Mailbox(name, "news@example.org")


def test_an_international_domain_goes_as_a_labels(write) -> None:
    campaign = read_campaign(write(GOOD.replace("news@likelion.example", "news@예시.example")))
    assert campaign.design.author.address == "news@xn--vv4b11d.example"


@pytest.mark.parametrize(
    "change",
    [
        ("subject:", "headers: {X-A: b}\nsubject:"),
        ("subject:", "list: {id: a.example}\nsubject:"),
        ("subject:", "variables: {a: b}\nsubject:"),
        ("{{ name }}님", "{{ name }}께"),
        ("소식 <", "소식지 <"),
        ("subject:", "attachments: [people.csv]\nsubject:"),
        ("subject:", "reply_to: a@b.example\nsubject:"),
    ],
)
def test_what_readers_would_see_is_part_of_the_digest(write, change: tuple[str, str]) -> None:
    before = read_campaign(write(GOOD)).digest()
    assert read_campaign(write(GOOD)).digest() == before
    assert read_campaign(write(GOOD.replace(*change))).digest() != before


@pytest.mark.parametrize(
    "change", [("subject:", "rate: 9/s\nsubject:"), ("port: 465", "port: 465, connections: 9"),
               ("subject:", "rate_per_domain: {a.example: 9/s}\nstop_after_failures: 2\nsubject:"),
               ("subject:", "campaign: other\nsubject:"), ("name: 김연주", "name: Kim")]
)  # fmt: skip
def test_rate_connections_names_and_people_are_not(write, change: tuple[str, str]) -> None:
    before = read_campaign(write(GOOD)).digest()
    assert read_campaign(write(GOOD.replace(*change))).digest() == before


def test_what_a_template_in_the_campaign_file_names_is_part_of_it(write) -> None:
    """Of the digest, and of the columns that may hold no line break."""
    path = write(GOOD.replace("{{ name }}님", "{% include 'subject.txt' %}"))
    part = path.parent / "subject.txt"
    part.write_text("{{ name }}")
    before = read_campaign(path)
    part.write_text("{{ name }}, {{ plan }}")
    after = read_campaign(path)
    assert after.digest() != before.digest()
    assert "plan" in after.names_in_headers() - before.names_in_headers()
    assert {"plan"} == after.template_names.used - before.template_names.used


def test_variables_can_be_set_from_outside(write) -> None:
    text = GOOD.replace("smtp:", "variables: {issue: 11, place: Seoul}\nsmtp:")
    campaign = read_campaign(write(text), {"issue": "12"})
    assert campaign.design.variables == {"issue": "12", "place": "Seoul"}
    assert campaign.digest() != read_campaign(write(text)).digest()


@pytest.mark.parametrize(
    ("settings", "told"),
    [
        ({"isue": "12"}, '--set isue: {path} has no such variable, and no template uses it; did you mean "issue"?'),
        ({"email": "x"}, '"email" has a meaning of its own'),
    ],
)  # fmt: skip
def test_a_variable_that_nobody_would_read_is_a_mistake(
    write, settings: dict[str, str], told: str
) -> None:
    path = write(GOOD.replace("smtp:", "variables: {issue: 11}\nsmtp:"))
    with pytest.raises(CampaignError) as caught:
        read_campaign(path, settings)
    assert told.format(path=path) in str(caught.value)


def test_a_variable_that_only_a_template_uses_can_be_set(write, tmp_path: Path) -> None:
    (tmp_path / "letter.txt").write_text("version {{ version }}\n")
    assert read_campaign(write(GOOD), {"version": "1.2"}).design.variables == {"version": "1.2"}


@pytest.mark.parametrize("field", ["name", "title"])
def test_a_line_break_in_a_field_that_reaches_a_header_refuses_the_row(write, field: str) -> None:
    text = GOOD.replace("{{ name }}님", "{{ title }}").replace(
        "name: 김연주}", f'{field}: "a\\nBcc: x@example.com", note: "a\\nb"}}'
    )
    [row] = rows_of(read_campaign(write(text)))
    assert row.fault is not None
    assert f'the field "{field}", which stands in a header, holds a line break' in row.fault


def test_a_line_break_elsewhere_is_fine(write) -> None:
    text = GOOD.replace("name: 김연주}", 'name: Kim, note: "a\\nb"}')
    [row] = rows_of(read_campaign(write(text)))
    assert row.fault is None


# -- files -----------------------------------------------------------------------------------------

PNG = b"\x89PNG\r\n\x1a\n" + bytes(20)
JPEG = b"\xff\xd8\xff\xe0\x00\x10JFIF\x00" + bytes(20)


@pytest.mark.parametrize(
    ("name", "content", "expected"),
    [
        ("a.png", PNG, "image/png"),
        ("a.png", JPEG, "image/jpeg"),
        ("a.pdf", b"%PDF-1.7\n", "application/pdf"),
        ("a.pdf", PNG, "image/png"),
        ("a", PNG, "image/png"),
        ("a.unknown", b"%PDF-1.7\n", "application/pdf"),
        ("a", b"just text", "application/octet-stream"),
        ("a.png", b"", "image/png"),
        ("a.png", b"just text", "image/png"),
        ("a.csv", b"%PDF-1.7\n", "text/csv"),
        ("a.docx", b"PK\x03\x04" + bytes(40), "application/vnd.openxmlformats-officedocument.wordprocessingml.document"),
        ("data:multipart/mixed;boundary=x,y", b"x", "application/octet-stream"),
        ("http://x/y.png", PNG, "image/png"),
        ("note", b"Xref: a b\n", "application/octet-stream"),
        ("a.eml", b"From: x\n\n", "application/octet-stream"),
        ("a.mht", b"From: x\n\n", "application/octet-stream"),
        ("a.ics", b"BEGIN:VCALENDAR\n", "text/calendar"),
        ("a.tar.gz", b"\x1f\x8b" + bytes(20), "application/octet-stream"),
    ],
)  # fmt: skip
def test_the_type_of_a_file(name: str, content: bytes, expected: str) -> None:
    """By the name; the content decides where the name says nothing or is certainly wrong."""
    assert media_type(name, content) == expected


@pytest.mark.parametrize(
    ("make", "told"),
    [
        (lambda path: None, "No such file"),
        (lambda path: path.mkdir(), "is a folder"),
        (lambda path: os.mkfifo(path), "is not a plain file"),
        (lambda path: path.symlink_to("/etc/passwd"), "is a link that leads out of"),
        (lambda path: path.symlink_to("/dev/zero"), "is a link that leads out of"),
        (lambda path: path.symlink_to(path), "Too many levels"),
        (lambda path: path.touch() or os.truncate(path, 200_000_000), "has 200 MB; no mail server"),
    ],
)  # fmt: skip
def test_files_that_cannot_be_sent(write, tmp_path: Path, make, told: str) -> None:
    make(tmp_path / "plan.pdf")
    with pytest.raises(MissingFileError) as caught:
        read_campaign(write(GOOD.replace("smtp:", "attachments: [plan.pdf]\nsmtp:")))
    assert "july.yaml:6:15: " in str(caught.value) and told in str(caught.value)


def test_links_within_the_project_and_paths_out_of_it_are_the_authors(
    write, tmp_path: Path
) -> None:
    """What is written out is meant; what a link hides may not be."""
    (tmp_path / "real.pdf").write_bytes(b"%PDF-")
    (tmp_path / "plan.pdf").symlink_to("real.pdf")
    outside = tmp_path.parent / f"{tmp_path.name}-outside.pdf"
    outside.write_bytes(b"%PDF-")
    text = GOOD.replace("smtp:", f"attachments: [plan.pdf, ../{outside.name}]\nsmtp:")
    assert len(read_campaign(write(text)).attachments) == 2


PERSONAL = 'attachments: [{file: "files/{{ id }}.pdf"}]\nsmtp:'


@pytest.mark.parametrize(
    ("path", "told"),
    [
        ("files/../secret.pdf", "leads out of"),
        ("/etc/passwd", "leads out of"),
        ("files/link.pdf", "leads out of"),
        ("files/8.pdf", "No such file"),
        ("files/\0.pdf", "null byte"),
        ("files/", "is a folder"),
    ],
)
def test_data_leads_to_no_file_but_those_of_its_folder(
    write, tmp_path: Path, path: str, told: str
) -> None:
    (tmp_path / "secret.pdf").write_bytes(b"x")
    (tmp_path / "files").mkdir()
    (tmp_path / "files" / "link.pdf").symlink_to("../secret.pdf")
    (tmp_path / "files" / "7.pdf").write_bytes(b"%PDF-7")
    campaign = read_campaign(write(GOOD.replace("smtp:", PERSONAL)))
    [file] = campaign.attachments
    assert isinstance(file, PersonalFile)
    assert campaign.open_file(file, "files/7.pdf", None).content == b"%PDF-7"
    with pytest.raises(FileFaultError, match=told):
        campaign.open_file(file, path, None)


def test_types_of_attachments_come_from_their_names(write, tmp_path: Path) -> None:
    for name in ("a.png", "b.pdf", "c.unknown", "d.tar.gz"):
        (tmp_path / name).write_bytes(b"x")
    files = "attachments: [a.png, {file: b.pdf, name: 시간표.pdf}, c.unknown, d.tar.gz]\nsmtp:"
    attachments = read_campaign(write(GOOD.replace("smtp:", files))).attachments
    assert [(a.name, a.media_type) for a in attachments] == [
        ("a.png", "image/png"),
        ("시간표.pdf", "application/pdf"),
        ("c.unknown", "application/octet-stream"),
        ("d.tar.gz", "application/octet-stream"),
    ]


# -- secrets -------------------------------------------------------------------------------------


def test_secrets_from_the_environment_and_from_files(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("APP_PASSWORD", "abcd efgh")
    (tmp_path / "secret").write_text("hunter2\n")
    assert read_secret("env:APP_PASSWORD", tmp_path, "?") == "abcd efgh"
    assert read_secret("file:secret", tmp_path, "?") == "hunter2"


@pytest.mark.parametrize("reference", ["env:NOT_SET", "file:nowhere", "file:empty", "ask"])
def test_a_missing_secret_is_status_78(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, reference: str
) -> None:
    (tmp_path / "empty").write_text("\n")
    monkeypatch.setattr("sys.stdin.isatty", lambda: False)
    with pytest.raises(SecretError) as caught:
        read_secret(reference, tmp_path, "?")
    assert caught.value.status is ExitStatus.CONFIG


def test_rates_of_domains(write) -> None:
    """By the domain as it stands in SMTP; a list of rates, and none, for one of them."""
    path = write(
        GOOD.replace(
            "smtp:",
            'rate_per_domain: {Gmail.com: 20/min, "*": [1/s, 500/day], 예시.example: unlimited}\n'
            "stop_after_failures: 25\nsmtp:",
        )
    )
    file = read_campaign(path).file
    assert file.rate_per_domain == {
        "gmail.com": (Rate(20, 60),),
        "*": (Rate(1, 1), Rate(500, 86400)),
        "xn--vv4b11d.example": (),
    }
    assert file.stop_after_failures == 25


@pytest.mark.timeout(20)
@pytest.mark.parametrize("pattern", ["(a+)+@x.*", "(a|aa)+@x.*", "(.*a){30}", "(\\w+\\.?)*@y.*"])
def test_an_own_pattern_that_has_no_end_is_stopped(write, pattern: str) -> None:
    """The pattern, its place and the row are told; an address that it takes in time is a row."""
    source = f"{GOOD}addresses: {{pattern: '{pattern}'}}\n".replace(
        "{email: kim@example.com, name: 김연주}", "file: people.csv"
    )
    path = write(source)
    (path.parent / "people.csv").write_text(f"email,name\n{'a' * 40}b@x.example,Kim\n")
    [problem] = problems(path)
    assert problem.startswith(f"july.yaml:7:22: the pattern {pattern!r} takes over 1 second")
    assert "people.csv:2" in problem
    (path.parent / "people.csv").write_text("email,name\na@x.example,Kim\nb@x.example,Lee\n")
    rows = rows_of(read_campaign(path))
    assert [row.fault is None or "does not match" in row.fault for row in rows] == [True, True]


def test_only_one_address_is_stopped_not_a_long_list() -> None:
    """The second is that of an address; what else runs meanwhile is not stopped."""
    check = in_time(lambda seconds: sum(range(int(seconds * 1_000_000))) >= 0)
    began = time.process_time()
    while time.process_time() - began < SECONDS * 1.5:
        assert check(0.1)
    assert signal.getitimer(signal.ITIMER_VIRTUAL) == (0.0, 0.0)


def test_in_another_thread_nothing_is_stopped() -> None:
    found: list[str] = []
    thread = threading.Thread(target=lambda: found.append(in_time(str.upper)("a")))
    thread.start()
    thread.join()
    assert found == ["A"]
