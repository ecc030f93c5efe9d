"""Campaign files: what is understood, and how mistakes are told."""

from pathlib import Path

import pytest

from bulkmail.campaign import read_campaign
from bulkmail.campaign.secrets import read_secret
from bulkmail.compose.message import Mailbox
from bulkmail.errors import CampaignError, ExitStatus, MissingFileError, SecretError
from bulkmail.model import Rate, Row, Security

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
        list(read_campaign(path).rows())
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
    [row] = read_campaign(write(text)).rows()
    assert row.fields == {
        "name": "no", "code": "010", "at": "12:30", "tel": "+8210", "empty": "", "on": "2026-11-23"
    }  # fmt: skip


@pytest.mark.parametrize(
    ("change", "to", "expected"),
    [
        ("subject:", "subjct:", 'july.yaml:2:1: unknown key "subjct"; did you mean "subject"?'),
        ("subject:", "headers: {}\nsubject:", 'july.yaml:2:1: "headers" comes in a later version'),
        ("{text: ", "{txt: ", 'july.yaml:3:12: unknown key "txt"; did you mean "text"?'),
        ("port: 465", "prot: 465", 'july.yaml:6:32: unknown key "prot"; did you mean "port"?'),
        ("port: 465", "port: 465, port: 587", 'the key "port" stands twice, first at july.yaml:6'),
        ("port: 465", "port: x", "july.yaml:6:38: smtp.port: must be a valid integer"),
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
        ("소식 <news@likelion.example>", "X <a@b>", 'from: "a@b" does not match'),
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
        ("from: 소식".encode("cp949"), "july.yaml:1: byte 0xbc is not UTF-8"),
        ("from: x".encode("utf-16"), "is not UTF-8"),
        (b"from: \0", "is not YAML"),
        (b"from: [", "july.yaml:1:8"),
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


def test_a_bom_is_understood(write) -> None:
    assert read_campaign(write(b"\xef\xbb\xbf" + GOOD.encode())).name == "july"


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
        ("smtp:", "attachments: [{file: .}]\nsmtp:", "Is a directory"),
        ("{email: kim@example.com, name: 김연주}", "{file: no.csv}", "july.yaml:5:12: no file "),
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


# -- recipients ----------------------------------------------------------------------------------

FROM_CSV = GOOD.replace("{email: kim@example.com, name: 김연주}", "{file: people.csv}")


def rows(write, tmp_path: Path, data: str | bytes, source: str = "{file: people.csv}") -> list[Row]:
    (tmp_path / "people.csv").write_bytes(data if isinstance(data, bytes) else data.encode())
    return list(read_campaign(write(FROM_CSV.replace("{file: people.csv}", source))).rows())


def test_csv_rows(write, tmp_path: Path) -> None:
    data = '\ufeffemail,name,"First, Name"\r\nkim@example.com , 김연주 ,"a ""b"""\r\n\r\n"lee@example.com",,\r\n'
    assert rows(write, tmp_path, data) == [
        Row("kim@example.com", {"name": "김연주", "First, Name": 'a "b"'}, "people.csv:2"),
        Row("lee@example.com", {"name": "", "First, Name": ""}, "people.csv:4"),
    ]


def test_columns_give_names_to_headings(write, tmp_path: Path) -> None:
    source = "{file: people.csv, columns: {email: 이메일, name: 이름}}"
    [row] = rows(write, tmp_path, "이름,이메일,기수\n김연주,kim@example.com,13\n", source)
    assert row == Row(
        "kim@example.com", {"이름": "김연주", "name": "김연주", "기수": "13"}, "people.csv:2"
    )


def test_a_line_break_in_a_cell_does_not_shift_the_places(write, tmp_path: Path) -> None:
    found = rows(write, tmp_path, 'email,note\na@example.com,"x\ny"\nb@example.com,\n')
    assert [row.source for row in found] == ["people.csv:2", "people.csv:4"]
    assert found[0].fault is None


@pytest.mark.parametrize(
    ("row", "fault"),
    [
        ("kim@example.com,Kim,extra", "has 3 cells; the header has 2"),
        ("kim@example.com", "has 1 cells; the header has 2"),
        ('kim@example.com,"K\nim"', "the name holds a line break"),
        ("kim,Kim", "is not of the form name@domain"),
        (",Kim", "the address is empty"),
        ("kim@example.com,Kim", None),
    ],
)
def test_faults_of_rows(write, tmp_path: Path, row: str, fault: str | None) -> None:
    [found] = rows(write, tmp_path, f"email,name\n{row}\n")
    assert found.fault is None if fault is None else fault in (found.fault or "")


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        ("mail,name\n", 'july.yaml:5:5: no column "email" for "email"; people.csv has: mail, name'),
        ("", 'no column "email" for "email"; people.csv has: nothing'),
        ("email,name,name\n", 'people.csv:1: the heading "name" stands twice'),
        ('email,name\na@b.example,"open\n', "is a quote left open above?"),
        ("email,name\na@b.example,이름\n".encode("cp949"), "people.csv:2: byte 0xc0 is not utf-8; a file saved by Korean Excel needs `encoding: cp949`"),
        ("email,name\na@b.example,x\n".encode("utf-16"), "people.csv:1: byte 0xff is not utf-8"),
    ],
)  # fmt: skip
def test_lists_that_cannot_be_read(write, tmp_path: Path, data: str | bytes, expected: str) -> None:
    (tmp_path / "people.csv").write_bytes(data if isinstance(data, bytes) else data.encode())
    told = problems(write(FROM_CSV))
    assert any(expected in line for line in told), told


def test_korean_excel(write, tmp_path: Path) -> None:
    data = "email,name\nkim@example.com,김연주\n".encode("cp949")
    [row] = rows(write, tmp_path, data, "{file: people.csv, encoding: cp949}")
    assert row.fields["name"] == "김연주"


def test_an_unknown_encoding_is_told(write) -> None:
    [told] = problems(write(FROM_CSV.replace("people.csv}", "people.csv, encoding: utf-9}")))
    assert 'july.yaml:5:5: unknown encoding "utf-9"' in told


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
