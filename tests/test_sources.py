"""Files of people: every row with its place, nothing lost in silence, and mistakes told in words."""

import csv
import io
import json
import os
import re
import tracemalloc
import unicodedata
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

import bulkmail
from bulkmail.campaign import read_campaign
from bulkmail.campaign.file import FileSource, Person
from bulkmail.campaign.sources import address_rows, file_rows, person_row
from bulkmail.campaign.sources.lines import MAX_ROW
from bulkmail.errors import CampaignError, ExitStatus, MissingFileError
from bulkmail.model import Row

from .conftest import rows_of

PLACE = "july.yaml:5:5"
MATERIAL = Path(bulkmail.__file__).parents[2] / "shared" / "material" / "csv"


class Folder:
    """Writes one file of people at a time, and reads it as a campaign would."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.remarks: list[str] = []

    def write(self, data: str | bytes, name: str = "people.csv") -> Path:
        path = self.path / name
        path.write_bytes(data if isinstance(data, bytes) else data.encode())
        return path

    def rows(self, data: str | bytes, name: str = "people.csv", **told: object) -> list[Row]:
        source = FileSource.model_validate({"file": name, **told})
        return list(file_rows(source, self.write(data, name), PLACE, self.remarks.append))

    def addresses(self, data: str | bytes, name: str, **told: object) -> list[tuple[str, str]]:
        source = FileSource.model_validate({"file": name, **told})
        return list(address_rows(source, self.write(data, name), PLACE))

    def mistakes(self, data: str | bytes, name: str = "people.csv", **told: object) -> list[str]:
        return mistakes(lambda: self.rows(data, name, **told))


def mistakes(read: Callable[[], object]) -> list[str]:
    """The mistakes of a file that is wrong as a whole."""
    with pytest.raises(CampaignError) as caught:
        read()
    assert caught.value.status is ExitStatus.DATA
    return str(caught.value).split("\n")


@pytest.fixture
def folder(tmp_path: Path) -> Folder:
    return Folder(tmp_path)


def test_people_of_the_campaign_file_are_trimmed() -> None:
    person = Person({"email": " kim@example.com", "name": "김연주 "})
    assert person_row(person, PLACE) == Row("kim@example.com", {"name": "김연주"}, PLACE)


@pytest.mark.parametrize(
    "cells",
    [
        {"email": "kim\0@example.com"},
        {"email": "kim@example.com", "name": "K\0im"},
        {"email": "kim@example.com", "na\0me": "Kim"},
    ],
)
def test_a_person_of_the_campaign_file_with_a_nul_is_told_as_in_a_table(
    cells: dict[str, str],
) -> None:
    told = Row("", {}, PLACE, "holds a NUL character")
    assert person_row(Person.model_validate(cells), PLACE) == told


# -- what is wrong, beside its twin that is not --------------------------------------------------

TWINS = {
    "1 none: an empty file": ("", "email\n", "people.csv is empty; its first line must hold"),
    "2 none: blank lines only": ("\n \n", "\nemail\n", "people.csv is empty"),
    "3 missing column": (
        "mail,name\n", "email,name\n",
        "july.yaml:5:5: no column \"email\"; people.csv has: mail, name. Write `columns: {\"email\": \"mail\"}`",
    ),
    "4 missing column, none like it": (
        "who,name\n", "who,email\n",
        "no column \"email\"; people.csv has: who, name. Say which it is with `columns: {email: …}`",
    ),
    "5 no heading line": (
        "kim@mail.example,Kim\n", "email,name\nkim@mail.example,Kim\n",
        "people.csv has: kim@mail.example, Kim. The first line must hold the headings",
    ),
    "6 a heading twice": (
        "email,name, name\n", "email,name,Name\n", 'people.csv:1: the heading "name" stands twice',
    ),
    "7 a name that templates own": (
        "\nemail,row\n", "email,rows\n",
        'july.yaml:5:5: people.csv: "row" has a meaning of its own in templates; rename it there, or here by `columns: {"row_": "row"}`',
    ),
    "8 another": ("email,campaign\n", "email,campaigns\n", 'by `columns: {"campaign_": "campaign"}`'),
    "9 an unclosed quote": (
        'email,name\na@b.example,A\na@b.example,"open\n\n', 'email,name\na@b.example,A\na@b.example,"open\n\n"',
        "people.csv:3: a quote that opens in this row is never closed",
    ),
    "10 an unclosed quote in the heading": (
        'email,"name\na@b.example,A\n', 'email,"name"\na@b.example,A\n',
        "people.csv:1: a quote that opens in this row is never closed",
    ),
    "11 an unclosed quote, and another after it": (
        'email,name\na@b.example,"A\nb@b.example,"B"\n', 'email,name\na@b.example,"A"\nb@b.example,"B"\n',
        "people.csv:2: a quote that opens in this row is never closed, or one in a cell is not doubled",
    ),
    "12 a quote that is not doubled": (
        'email,name\na@b.example,"A "B" C"\n', 'email,name\na@b.example,"A ""B"" C"\n',
        "people.csv:2: a quote that opens in this row is never closed, or one in a cell is not doubled",
    ),
    "13 an unclosed quote in a long file": (
        'email,name\na@b.example,"A\n' + "b@b.example,B\n" * 20_000, 'email,name\na@b.example,"A"\n' + "b@b.example,B\n" * 20_000,
        "people.csv:2: a quote that opens in this row is never closed",
    ),
    "14 a cell of 131,073 characters": (
        f"email,name\na@b.example,{'x' * 131_073}\n", f"email,name\na@b.example,{'x' * 131_072}\n",
        "(field larger than field limit (131072))",
    ),
    "15 a line without end": (
        "email,name\n" + "x," * MAX_ROW, "email,name\n" + "x," * 1000, "people.csv:2: a row of over 1,048,576 characters",
    ),
    "16 a row of short lines without end": (
        "email\n" + '"\n",' * MAX_ROW, "email\n" + '"\n",' * 1000, "people.csv:2: a row of over 1,048,576 characters",
    ),
    "17 a heading line without end": ("x," * MAX_ROW, "email," + "x" * 1000, "people.csv:1: a row of over"),
    "18 cp949": (
        "email,name\na@b.example,A\na@b.example,김연주\n".encode("cp949"), "email,name\na@b.example,A\na@b.example,김연주\n",
        "people.csv:3: byte 0xb1 is not utf-8; a file saved by Korean Excel needs `encoding: cp949`",
    ),
    "19 cp949 in the heading": (
        "이메일,이름\n".encode("cp949"), "email,이름\n",
        "people.csv:1: byte 0xc0 is not utf-8; a file saved by Korean Excel needs `encoding: cp949`",
    ),
    "20 cp1252": (
        "email,name\na@b.example,José\nb@b.example,Zoë’s\n".encode("cp1252"), "email,name\na@b.example,José\n",
        "people.csv:2: byte 0xe9 is not utf-8; say which encoding it is; Western European Excel needs `encoding: cp1252`",
    ),
    "21 no encoding at all": (
        b"email,name\r\na@b.example,\xff\x00\xfe\x81\r\n", b"email,name\r\na@b.example,\xc3\xbf\r\n",
        "people.csv:2: byte 0xff is not utf-8",
    ),
    "22 cut off in a character": (
        "email,name\na@b.example,김".encode()[:-1], "email,name\na@b.example,김", "people.csv:2: byte 0xea is not utf-8",
    ),
    "23 UTF-16 without its mark": (
        "email,name\n".encode("utf-16-le"), "email,name\n".encode("utf-16"),
        "people.csv:1: the heading line holds NUL characters; is the file UTF-16? `encoding: utf-16-le`",
    ),
}  # fmt: skip


@pytest.mark.parametrize("number", TWINS)
def test_a_file_that_is_wrong_as_a_whole(folder: Folder, number: str) -> None:
    """It is told where and why, and a file that hardly differs is read."""
    wrong, right, expected = TWINS[number]
    [told] = folder.mistakes(wrong)
    assert expected in told
    folder.rows(right)


ROWS = {
    "1 a long row": ("kim@example.com,Kim,extra", "kim@example.com,Kim", "has 3 cells; the header has 2"),
    "2 a short row": ("kim@example.com", "kim@example.com,", "has 1 cells; the header has 2"),
    "3 an unquoted comma": ("kim@example.com,Kim, Jr.", 'kim@example.com,"Kim, Jr."', "has 3 cells"),
    "4 a NUL": ("kim@example.com,K\0im", "kim@example.com,K\x01im", "holds a NUL character"),
    "5 a NUL in the address": ("kim\0@example.com,Kim", "kim@example.com,Kim", "holds a NUL character"),
    "6 a NUL in quotes": ('kim@example.com,"K\0\nim"', 'kim@example.com,"K\nim"', "holds a NUL character"),
}  # fmt: skip


@pytest.mark.parametrize("number", ROWS)
def test_a_row_that_is_wrong_alone(folder: Folder, number: str) -> None:
    """It has a fault and no fields; its twin has none, and the rows around it go on."""
    wrong, right, fault = ROWS[number]
    found = folder.rows(f"email,name\na@example.com,A\n{wrong}\nb@example.com,B\n")
    assert [fault in (row.fault or "") for row in found] == [False, True, False]
    assert found[1].fields == {} and "\0" not in found[1].address
    assert [row.fault for row in folder.rows(f"email,name\n{right}\n")] == [None]


GOOD = """\
from: "소식 <news@likelion.example>"
subject: "{{ name }}님"
template: {text: letter.txt}
recipients:
  - {file: people.csv}
smtp: {host: smtp.example.org, port: 465}
"""


@pytest.mark.parametrize(
    ("row", "fault"),
    [
        ("kim@example.com,Kim,extra", "has 3 cells; the header has 2"),
        ("kim@example.com", "has 1 cells; the header has 2"),
        ('kim@example.com,"K\nim"', "holds a line break"),
        ("kim,Kim", "is not of the form name@domain"),
        (",Kim", "the address is empty"),
        ("kim@example.com,Kim", None),
    ],
)
def test_faults_of_rows_in_a_campaign(tmp_path: Path, row: str, fault: str | None) -> None:
    """What a file does not know about its rows, the campaign adds."""
    (tmp_path / "july.yaml").write_text(GOOD, "utf-8")
    (tmp_path / "letter.txt").write_text("Dear {{ name }}\n")
    (tmp_path / "people.csv").write_text(f"email,name\n{row}\n")
    [found] = rows_of(read_campaign(tmp_path / "july.yaml"))
    assert found.fault is None if fault is None else fault in (found.fault or "")


# -- CSV -----------------------------------------------------------------------------------------


def test_csv_rows(folder: Folder) -> None:
    data = '\ufeffemail,name,"First, Name"\r\nkim@example.com , 김연주 ,"a ""b"""\r\n\r\n"lee@example.com",,\r\n'
    assert folder.rows(data) == [
        Row("kim@example.com", {"name": "김연주", "First, Name": 'a "b"'}, "people.csv:2"),
        Row("lee@example.com", {"name": "", "First, Name": ""}, "people.csv:4"),
    ]
    assert folder.remarks == ["people.csv: 2 cells had spaces around them, which were trimmed"]


@pytest.mark.parametrize(
    ("cells", "remarks"),
    [
        ("Kim", []),
        (" Kim", ["people.csv: 1 cell had spaces around it, which were trimmed"]),
        ("K im", []),
        ("\u3000", ["people.csv: 1 cell had spaces around it, which were trimmed"]),
    ],
)
def test_trimming_is_counted(folder: Folder, cells: str, remarks: list[str]) -> None:
    folder.rows(f"email,name\nkim@example.com,{cells}\n")
    assert folder.remarks == remarks


def test_characters_that_cannot_be_seen_arrive(folder: Folder) -> None:
    """Right-to-left marks and zero-width characters are the campaign's to judge."""
    name = "\u200fأحمد\u200b\u202e."
    [row] = folder.rows(f"email,name\nahmed@example.com,{name}\n")
    assert row.fields == {"name": name}


def test_rows_that_hold_nothing_are_skipped(folder: Folder) -> None:
    """Spreadsheets leave them behind; a row with one cell is none of them."""
    found = folder.rows("email,name\n,\n   \n ,,, \na@example.com,\n,B\n")
    assert [(row.address, row.source) for row in found] == [
        ("a@example.com", "people.csv:5"),
        ("", "people.csv:6"),
    ]


@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
def test_places_are_right(folder: Folder, end: str) -> None:
    """Whatever ends the lines, stands in quotes or looks like a line break elsewhere."""
    lines = [
        "email,note",
        'a@example.com,"x',
        'y"',
        "b@example.com,x\u2028x\x85x\x0bx\x0cx\x1ex",
        "",
        'c@example.com,"',
        "",
        '"',
        "d@example.com,",
    ]
    found = folder.rows(end.join(lines))
    assert [row.source for row in found] == [f"people.csv:{n}" for n in (2, 4, 6, 9)]
    assert found[0].fields == {"note": f"x{end}y"}
    assert found[1].fields == {"note": "x\u2028x\x85x\x0bx\x0cx\x1ex"}


@pytest.mark.parametrize(
    ("header", "row", "remarks"),
    [
        ("email,name", "kim@example.com,Kim", []),
        ("email", "kim@example.com", []),
        ("email;name", "kim@example.com;Kim", ["people.csv: cells are separated by semicolons"]),
        ("email\tname", "kim@example.com\tKim", ["people.csv: cells are separated by tabs"]),
        ("email|name", "kim@example.com|Kim", ["people.csv: cells are separated by vertical bars"]),
        ('"a;b;c;d",email', "x;y,kim@example.com", []),
        ('"a,b,c,d";email', "x,y;kim@example.com", ["people.csv: cells are separated by semicolons"]),
        ("a,b,c;email", "x;kim@example.com", ["people.csv: cells are separated by semicolons"]),
        ("a;b;c,email", "x,kim@example.com", []),
        ('"two\nlines";email', "x;kim@example.com", ["people.csv: cells are separated by semicolons"]),
    ],
)  # fmt: skip
def test_the_heading_line_says_what_separates_cells(
    folder: Folder, header: str, row: str, remarks: list[str]
) -> None:
    """The delimiter is the one by which there is an address; another than the comma is said."""
    [found] = folder.rows(f"{header}\n{row}\n")
    assert (found.address, found.fault, folder.remarks) == ("kim@example.com", None, remarks)


def test_a_heading_that_is_missing_is_told_by_the_likeliest_delimiter(folder: Folder) -> None:
    [told] = folder.mistakes("이름;주소, 전화;이메일\n")
    assert 'people.csv has: 이름, 주소, 전화, 이메일. Write `columns: {"email": "이메일"}`' in told


def test_tabs_separate_the_cells_of_a_tsv(folder: Folder) -> None:
    """By its name, whatever the heading line looks like; nothing needs to be said."""
    [row] = folder.rows('email\t"a,b"\nkim@example.com\t"x\t""y"""\n', "people.TSV")
    assert row == Row("kim@example.com", {"a,b": 'x\t"y"'}, "people.TSV:2")
    assert folder.remarks == []
    [told] = folder.mistakes("email,name\n", "people.tsv")
    assert 'no column "email"; people.tsv has: email,name' in told


@pytest.mark.parametrize("codec", ["utf-16", "utf-8-sig", "utf-32"])
def test_a_byte_order_mark_is_no_guess(folder: Folder, codec: str) -> None:
    """Excel's "Unicode Text" is UTF-16 with tabs."""
    [row] = folder.rows("email\tname\r\nkim@example.com\t김연주\r\n".encode(codec))
    assert row == Row("kim@example.com", {"name": "김연주"}, "people.csv:2")


@pytest.mark.parametrize("codec", ["utf-16-le", "utf-16-be", "utf-8", "utf-32-be"])
@pytest.mark.parametrize("told", ["cp949", "utf-16-le", "utf-16", "utf-32"])
def test_a_byte_order_mark_knows_better_than_the_campaign(
    folder: Folder, codec: str, told: str
) -> None:
    """Otherwise stray letters would stand before the first heading."""
    [row] = folder.rows("\ufeffemail,name\nkim@example.com,김\n".encode(codec), encoding=told)
    assert row == Row("kim@example.com", {"name": "김"}, "people.csv:2")


@pytest.mark.parametrize("encoding", ["cp949", "CP949", "euc-kr", "utf-16-le", "shift_jis"])
def test_an_encoding_that_is_told(folder: Folder, encoding: str) -> None:
    name = "김연주" if encoding != "shift_jis" else "表"
    data = f"email,name\nkim@example.com,{name}\n".encode(encoding)
    [row] = folder.rows(data, encoding=encoding)
    assert row.fields["name"] == name


@pytest.mark.parametrize(
    ("data", "encoding", "expected"),
    [
        ("email\n\n한글".encode(), "cp949", "people.csv:3: byte 0xed is not cp949; the file looks like UTF-8: leave `encoding` out"),
        ("email,이름이\n".encode(), "ascii", "people.csv:1: byte 0xec is not ascii; the file looks like UTF-8"),
        ("email,x\na@b.example,똠방\n".encode("cp949"), "euc-kr", "people.csv:2: byte 0x8c is not euc_kr; a file saved by Korean Excel needs `encoding: cp949`"),
        (b"email,x\na@b.example,Jos\xe9\n", "cp949", "people.csv:2: byte 0xe9 is not cp949; say which encoding it is; Western European Excel needs `encoding: cp1252`"),
        (b"email\n", "utf-16", "july.yaml:5:5: people.csv has no byte order mark; say `encoding: utf-16-le` or utf-16-be"),
        (b"email", "utf-16-le", "people.csv:1: byte 0x6c is not utf-16-le; the file looks like UTF-8"),
    ],
)  # fmt: skip
def test_another_encoding_is_proposed_where_it_makes_sense(
    folder: Folder, data: bytes, encoding: str, expected: str
) -> None:
    [told] = folder.mistakes(data, encoding=encoding)
    assert expected in told


@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
@pytest.mark.parametrize("codec", ["utf-8", "cp949"])
def test_the_line_of_a_wrong_byte_is_right(folder: Folder, end: str, codec: str) -> None:
    """Also in a long file, where characters lie across what is read at once."""
    lines = ["email,name", *["a@example.com,김연주"] * 20_000]
    data = end.join(lines).encode(codec) + end.encode() + b"\x80\xff"
    [told] = folder.mistakes(data, encoding=codec)
    assert told.startswith("people.csv:20002: byte 0x80 is not ")


@pytest.mark.parametrize(
    "encoding",
    ["utf-9", "", "base64", "rot13", "locale", "undefined", "unicode_escape", "utf-7", "a\0b", "ü"],
)
def test_an_unknown_encoding_is_told(folder: Folder, encoding: str) -> None:
    """So is one that Python knows, but that is no encoding of text."""
    [told] = folder.mistakes("email\n", encoding=encoding)
    assert f'july.yaml:5:5: unknown encoding "{encoding}"; usual ones are utf-8, cp949' in told


# -- headings and the names of templates ---------------------------------------------------------


def test_columns_give_names_to_headings(folder: Folder) -> None:
    """Every heading stays as a name beside the new one."""
    data = "이름,이메일,기수\n김연주,kim@example.com,13\n"
    [row] = folder.rows(data, columns={"email": "이메일", "name": "이름"})
    assert row == Row(
        "kim@example.com",
        {"이름": "김연주", "name": "김연주", "이메일": "kim@example.com", "기수": "13"},
        "people.csv:2",
    )


def test_columns_rename_what_templates_own(folder: Folder) -> None:
    """What a template would not see by its own name is there by the other."""
    data = "email,row,campaign\nkim@example.com,7,spring\n"
    columns = {"seat": "row", "source": "campaign"}
    [row] = folder.rows(data, columns=columns)
    assert row.fields == {"seat": "7", "source": "spring", "row": "7", "campaign": "spring"}
    objects = '{"email": "kim@example.com", "row": 7, "campaign": "spring"}\n'
    [row] = folder.rows(objects, "people.jsonl", columns=columns)
    assert row.fields == {"seat": "7", "source": "spring", "row": "7", "campaign": "spring"}
    [row] = folder.rows('{"row": "kim@example.com"}', "people.jsonl", columns={"email": "row"})
    assert (row.address, row.fault) == ("kim@example.com", None)


@pytest.mark.parametrize(
    ("columns", "expected"),
    [
        ({"name": "Name"}, 'columns: "name" is "Name", but people.csv has "name" too; rename one'),
        ({"email": "Mail"}, 'columns: "email" is "Mail", but people.csv has "email" too'),
        ({"row": "Name"}, 'people.csv: "row" has a meaning of its own in templates; rename it there, or here by `columns: {"row_": "Name"}`'),
        ({"who": "Nam"}, 'no column "Nam" for "who"; people.csv has: email, name, Name, Mail. Write `columns: {"who": '),
        ({"x": "zzz", "who": "name"}, 'no column "zzz" for "x"; people.csv has: email, name, Name, Mail'),
    ],
)  # fmt: skip
def test_columns_that_do_not_fit_the_headings(
    folder: Folder, columns: dict[str, str], expected: str
) -> None:
    [told] = folder.mistakes("email,name,Name,Mail\n", columns=columns)
    assert told.startswith(f"july.yaml:5:5: {expected}")
    assert folder.rows("email,name\n", columns={"name": "name", "nick": "name"}) == []


DECOMPOSED = unicodedata.normalize("NFD", "이메일")


@pytest.mark.parametrize(
    ("heading", "meant"),
    [
        ("E-mail", "E-mail"),
        ("Email", "Email"),
        ("EMAIL ", "EMAIL"),
        ("mail", "mail"),
        ("Email Address", "Email Address"),
        ("이메일", "이메일"),
        ("메일", "메일"),
        ("이메일 주소", "이메일 주소"),
        ('"mail: work, #1"', "mail: work, #1"),
        ("mail\x1b[2J", r"mail\u001b[2J"),
        (DECOMPOSED, DECOMPOSED),
        ("이메일 수신동의,이메일", "이메일"),
    ],
)
def test_the_mapping_that_is_proposed_can_be_pasted(
    folder: Folder, heading: str, meant: str
) -> None:
    """Pasted, the file is read; and no heading acts on the terminal."""
    data = f"{heading},name\n"
    [told] = folder.mistakes(data)
    assert told.endswith(f'Write `columns: {{"email": "{meant}"}}`') and told.isprintable()
    pasted = re.search("`columns: (.*)`", told)
    assert pasted is not None
    text = GOOD.replace("people.csv}", f"people.csv, columns: {pasted.group(1)}}}")
    (folder.path / "july.yaml").write_text(text, "utf-8")
    (folder.path / "letter.txt").write_text("Dear {{ name }}\n")
    assert rows_of(read_campaign(folder.path / "july.yaml")) == []


def test_a_proposal_keeps_the_columns_that_are_told(folder: Folder) -> None:
    [told] = folder.mistakes("이메일,이름\n", columns={"name": "이름"})
    assert told.endswith('Write `columns: {"name": "이름", "email": "이메일"}`')


def test_a_long_heading_line_is_told_in_short(folder: Folder) -> None:
    [told] = folder.mistakes(",".join(f"{n}{'x' * 100}" for n in range(1000)))
    assert len(told) < 1200 and "19" + "x" * 38 + "…, …. Say" in told


def test_columns_without_a_heading(folder: Folder) -> None:
    """Spreadsheets leave empty ones behind; text in one makes the row faulty rather than vanish."""
    data = "email,,name,,\na@b.example,,A,,\nb@b.example,,B\nc@b.example,,C,,x\nd@b.example,\n"
    found = folder.rows(data)
    assert [row.fields for row in found] == [{"name": "A"}, {"name": "B"}, {}, {}]
    assert [row.fault for row in found] == [
        None,
        None,
        "has text in column 5, which has no heading",
        "has 2 cells; the header has 5",
    ]


def test_all_mistakes_of_a_heading_line_are_told_at_once(folder: Folder) -> None:
    told = folder.mistakes("who,who,row\n", columns={"name": "이름"})
    assert [line.partition(": ")[0] for line in told] == [
        "july.yaml:5:5",
        "people.csv:1",
        "july.yaml:5:5",
        "july.yaml:5:5",
    ]


# -- JSON Lines ----------------------------------------------------------------------------------


def objects(folder: Folder, *lines: str, **told: object) -> list[Row]:
    return folder.rows("\n".join(lines), "people.jsonl", **told)


def test_json_lines(folder: Folder) -> None:
    """Text as it is but trimmed, numbers as they are written, nothing for null."""
    found = folder.rows(
        '\ufeff{"email": " kim@example.com", "name": "김연주", "price": 1.50, "n": -0, "no": "010"}\r\n'
        '\r\n{"email": "lee@example.com", "vip": true, "old": false, "name": null, "big": 1E400}',
        "People.JSONL",
    )
    assert found == [
        Row("kim@example.com", {"name": "김연주", "price": "1.50", "n": "-0", "no": "010"}, "People.JSONL:1"),
        Row("lee@example.com", {"vip": "true", "old": "false", "name": "", "big": "1E400"}, "People.JSONL:3"),
    ]  # fmt: skip
    assert folder.remarks == ["People.JSONL: 1 cell had spaces around it, which were trimmed"]


def test_numbers_of_any_length_are_text(folder: Folder) -> None:
    [row] = objects(folder, '{"email": "a@example.com", "n": %s}' % ("9" * 100_000))
    assert row.fields == {"n": "9" * 100_000}


def test_columns_give_names_to_keys(folder: Folder) -> None:
    """A key that an object lacks is left out: a template that needs it will say so."""
    found = objects(
        folder,
        '{"mail": "a@example.com", "이름": "A"}',
        '{"mail": "b@example.com"}',
        columns={"email": "mail", "name": "이름"},
    )
    assert [row.address for row in found] == ["a@example.com", "b@example.com"]
    assert [row.fields for row in found] == [
        {"mail": "a@example.com", "이름": "A", "name": "A"},
        {"mail": "b@example.com"},
    ]


@pytest.mark.parametrize(
    ("line", "twin", "fault"),
    [
        ('{"name": "Kim"}', '{"email": "kim@example.com"}', 'has no "email"'),
        ('{"email": "a@b.example", "x": [1]}', '{"email": "a@b.example", "x": "[1]"}', 'the value of "x" is not a plain value'),
        ('{"email": {"x": 1}}', '{"email": "{}"}', 'the value of "email" is not a plain value'),
        ('{"email": "a@b.example", "x": {"x": 1, "x": 2}}', '{"email": "a@b.example", "x": 1}', 'the value of "x" is not'),
        ('{"email": "a@b.example", "email": "b@b.example"}', '{"email": "a@b.example"}', 'names "email" twice'),
        ('{"email": "a@b.example", "x": 1, "y": 2, "x": 1}', '{"email": "a@b.example", "x": 1, "y": 2}', 'names "x" twice'),
        (r'{"email": "a@b.example", "x": "\ud800"}', r'{"email": "a@b.example", "x": "\ud83d\ude00"}', r"holds \ud800, which cannot be sent"),
        (r'{"email": "a@b.example", "\uDFFF": ""}', r'{"email": "a@b.example", "\uE000": ""}', r"holds \udfff, which cannot be sent"),
        (r'{"email": "\ud800@b.example", "email": ""}', r'{"email": "\u00e9@b.example"}', r"holds \ud800, which cannot be sent"),
        (r'{"email": "a@b.example", "x": "\u0000"}', r'{"email": "a@b.example", "x": "\u0001"}', r"holds \u0000, which cannot be sent"),
    ],
)  # fmt: skip
def test_an_object_that_is_wrong_alone(folder: Folder, line: str, twin: str, fault: str) -> None:
    """It is a faulty row that can be stored; the objects around it go on, and its twin is one."""
    found = objects(folder, '{"email": "x@example.com"}', line, '{"email": "y@example.com"}')
    assert [fault in (row.fault or "") for row in found] == [False, True, False]
    found[1].address.encode()
    assert [row.fault for row in objects(folder, twin)] == [None]


@pytest.mark.parametrize(
    ("line", "twin", "expected"),
    [
        ("{", "{}", "people.jsonl:2: is not JSON: Expecting property name"),
        ('{"email": "a@b.example"} {}', '{"email": "a@b.example"} ', "is not JSON: Extra data at character 26"),
        ('{"email": "a@b.example}', '{"email": "a@b.example"}', "is not JSON: Unterminated string"),
        ("{'email': 'a@b.example'}", '{"email": "a@b.example"}', "is not JSON: Expecting property name"),
        ('["a@b.example"]', '{"email": "a@b.example"}', 'is not a JSON object; each line must be like {"email": …}'),
        ('"a@b.example"', '{"email": "a@b.example"}', "is not a JSON object"),
        ("1", "{}", "is not a JSON object"),
        ('{"email": "a@b.example", "n": NaN}', '{"email": "a@b.example", "n": "NaN"}', "is not JSON: NaN is no value"),
        ('{"email": "a@b.example", "n": 010}', '{"email": "a@b.example", "n": 10}', "is not JSON: Expecting"),
        ('{"email": "a@b.example", "n": "a\tb"}', r'{"email": "a@b.example", "n": "a\tb"}', "is not JSON: Invalid control"),
        ('{"email": "a@b.example", "x": "\0"}', '{"email": "a@b.example", "x": "0"}', "is not JSON: Invalid control"),
        ("[" * 100_000, "{}", "is not JSON: maximum recursion depth"),
        ('{"a":' * 100_000, "{}", "is not JSON: maximum recursion depth"),
        ('{"x": "%s"}' % ("x" * MAX_ROW), '{"x": "%s"}' % ("x" * (MAX_ROW - 100)), "people.jsonl:2: a row of over 1,048,576"),
        ('{"email": "a@b.example", "row": 1}', '{"email": "a@b.example", "rows": 1}', 'july.yaml:5:5: people.jsonl: "row" has a meaning of its own'),
    ],
)  # fmt: skip
def test_a_line_that_is_no_object(folder: Folder, line: str, twin: str, expected: str) -> None:
    """The file as a whole is broken: what else it lost cannot be known."""
    first = '{"email": "x@example.com"}'
    [told] = mistakes(lambda: objects(folder, first, line))
    assert expected in told
    objects(folder, first, twin)


def test_a_name_for_two_keys_is_told(folder: Folder) -> None:
    line = '{"mail": "a@example.com", "email": "b@example.com"}'
    [told] = mistakes(lambda: objects(folder, line, columns={"email": "mail"}))
    assert told.startswith(
        'july.yaml:5:5: columns: "email" is "mail", but people.jsonl has "email"'
    )


def test_an_object_that_holds_nothing_is_skipped(folder: Folder) -> None:
    assert objects(folder, "{}", '{"email": ""}', '{"email": null, "name": " "}') == []


def test_wrong_bytes_in_json_lines(folder: Folder) -> None:
    line = '{"email": "a@example.com", "name": "김연주"}\n'
    [told] = folder.mistakes(line.encode() + line.encode("cp949"), "people.jsonl")
    assert told.startswith("people.jsonl:2: byte 0xb1 is not utf-8; a file saved by Korean Excel")


# -- addresses never to be sent to ---------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "data"),
    [
        ("out.txt", "\ufeff# left in May\r\n\r\n a@example.com \r\n  # x\r\nB@example.com"),
        ("out.csv", "email;row\n;\na@example.com;1\n\nB@example.com;\n"),
        ("out.tsv", "why\temail\n\t\n\ta@example.com\n\nasked\tB@example.com"),
        ("out.jsonl", '{}\n\n{"email": "a@example.com", "campaign": "x"}\n\n{"email": "B@example.com"}'),
    ],
)  # fmt: skip
def test_lists_of_addresses(folder: Folder, name: str, data: str) -> None:
    """As they are written, each with its place; headings that templates own are no matter here."""
    expected = [("a@example.com", f"{name}:3"), ("B@example.com", f"{name}:5")]
    assert folder.addresses(data, name) == expected
    columns = {"email": "Adresse"}
    assert folder.addresses(data.replace("email", "Adresse"), name, columns=columns) == expected


@pytest.mark.parametrize(
    ("name", "data", "expected"),
    [
        ("out.csv", "email,why\n,asked\n", "out.csv:2: who stands here would not be excluded: the address is empty"),
        ("out.csv", "email,why\na@example.com\n", "out.csv:2: who stands here would not be excluded: has 1 cells; the header has 2"),
        ("out.csv", "name,email\nKim, Jr.,a@example.com\n", "out.csv:2: who stands here would not be excluded: has 3 cells"),
        ("out.csv", "email\na\0@example.com\n", "out.csv:2: who stands here would not be excluded: holds a NUL"),
        ("out.csv", "email\nKim <a@example.com>\n", "out.csv:2: who stands here would not be excluded: "),
        ("out.csv", "email\na@example.com;b@example.com\n", "out.csv:2: who stands here would not be excluded: "),
        ("out.jsonl", '{"mail": "a@example.com"}\n', 'out.jsonl:1: who stands here would not be excluded: has no "email"'),
        ("out.jsonl", '{"email": null, "why": "asked"}\n', "out.jsonl:1: who stands here would not be excluded: the address is"),
        ("out.jsonl", '{"email": ["a@example.com"]}\n', "out.jsonl:1: who stands here would not be excluded: the value of"),
        ("out.txt", "a@example.com, b@example.com\n", "out.txt:1: who stands here would not be excluded: "),
        ("out.txt", "\nexample.com\n", "out.txt:2: who stands here would not be excluded: is not of the form name@domain"),
        ("out.txt", "a@example.com\0\n", "out.txt:1: who stands here would not be excluded: "),
    ],
)  # fmt: skip
def test_no_row_of_a_list_is_lost(folder: Folder, name: str, data: str, expected: str) -> None:
    """Who is wrongly not excluded would get a mail that they must not get."""
    [told] = mistakes(lambda: folder.addresses(data, name))
    assert told.startswith(expected)


OPEN_QUOTES = {
    "1 a note": ('a@example.com,"asked\nb@example.com,"\n', 'a@example.com,"asked\nin May"\n', 2),
    "2 from the end of a line on": ('a@example.com,"\nb@example.com"\n', 'a@example.com,"\nin May"\n', 2),
    "3 lines that end with CR": ('a@example.com,"x\rb@example.com,"\r', 'a@example.com,"x\ry"\r', 2),
    "4 the second row": ('a@example.com,\nb@example.com,"x\nc@example.com,"\n', 'a@example.com,\nb@example.com,"c@example.com"\n', 3),
    "5 another row's address": ('"a@example.com,x\nb@example.com",\n', '"a@example.com\n",\n', 2),
}  # fmt: skip


@pytest.mark.parametrize("number", OPEN_QUOTES)
def test_no_row_of_a_list_hides_in_a_cell(folder: Folder, number: str) -> None:
    """A quote left open, which a later one closes, makes several lines one cell.

    A note over several lines is fine, so is a line break that is trimmed from an address.
    """
    wrong, right, line = OPEN_QUOTES[number]
    [told] = mistakes(lambda: folder.addresses("email,why\n" + wrong, "out.csv"))
    assert told.startswith(f"out.csv:{line}: who stands here would not be excluded: ")
    if number[0] != "5":
        assert told.endswith(
            "a cell holds a line break and an @; is a quote in this row left open?"
        )
    assert folder.addresses("email,why\n" + right, "out.csv")[0] == ("a@example.com", "out.csv:2")


def test_no_row_hides_in_a_heading(folder: Folder) -> None:
    wrong, right = 'email,"why\na@example.com,"\n', 'email,"why\nso"\na@example.com,\n'
    [told] = mistakes(lambda: folder.addresses(wrong, "out.csv"))
    assert told.startswith("out.csv:1: a cell holds a line break and an @; is a quote")
    assert folder.addresses(right, "out.csv") == [("a@example.com", "out.csv:3")]


def test_a_note_to_a_person_may_hold_lines_and_an_address(folder: Folder) -> None:
    [row] = folder.rows('email,note\na@example.com,"Regards,\nb@example.com"\n')
    assert row.fields == {"note": "Regards,\nb@example.com"} and row.fault is None


def test_ten_rows_of_a_list_are_told_at_most(folder: Folder) -> None:
    told = mistakes(lambda: folder.addresses("email,why\n" + ",asked\n" * 20, "out.csv"))
    assert [line.partition(": ")[0] for line in told] == [f"out.csv:{n}" for n in range(2, 12)]


# -- what is no file to read ---------------------------------------------------------------------


@pytest.mark.parametrize("name", ["people.xlsx", "people", "people.txt", "people.csv.gz"])
def test_other_kinds_of_files_are_told(folder: Folder, name: str) -> None:
    told = folder.mistakes("email\n", name)
    hint = "; save the table as CSV (UTF-8)" if name == "people.xlsx" else ""
    assert told == [f"july.yaml:5:5: {name}: only .csv, .tsv and .jsonl files are read{hint}"]
    if name != "people.txt":
        [told_of_list] = mistakes(lambda: folder.addresses("a@example.com\n", name))
        assert "only .csv, .tsv, .jsonl and .txt files are read" in told_of_list


def test_columns_the_other_way_round(folder: Folder) -> None:
    told = folder.mistakes("이메일,이름\n", columns={"이메일": "email", "이름": "name"})
    assert told == [
        "july.yaml:5:5: `columns` is the other way round; write"
        ' `columns: {"email": "이메일", "name": "이름"}`'
    ]


def test_a_workbook_is_no_csv_whatever_its_name(folder: Folder) -> None:
    told = folder.mistakes(b"PK\x03\x04" + bytes(40))
    assert told == ["july.yaml:5:5: people.csv is an Excel workbook; save it as CSV (UTF-8)"]


def missing(path: Path) -> str:
    with pytest.raises(MissingFileError) as caught:
        list(file_rows(FileSource(file="people.csv"), path, PLACE, lambda _: None))
    assert caught.value.status is ExitStatus.NO_INPUT
    return str(caught.value)


def test_what_is_no_plain_file_is_told(tmp_path: Path) -> None:
    path = tmp_path / "people.csv"
    assert missing(path) == "july.yaml:5:5: people.csv: No such file or directory"
    path.mkdir()
    assert missing(path) == "july.yaml:5:5: people.csv is a folder"
    assert "No such file" in missing(tmp_path / "nowhere" / "people.csv")


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="needs FIFOs")
@pytest.mark.timeout(10)
def test_a_fifo_does_not_block(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "people.csv")
    assert missing(tmp_path / "people.csv") == "july.yaml:5:5: people.csv is not a file"


@pytest.mark.skipif(
    not hasattr(os, "geteuid") or os.geteuid() == 0, reason="root may read everything"
)
def test_a_file_that_may_not_be_read_is_told(tmp_path: Path) -> None:
    path = tmp_path / "people.csv"
    path.touch(mode=0)
    assert missing(path) == "july.yaml:5:5: people.csv: Permission denied"


# -- memory --------------------------------------------------------------------------------------


def peak(read: Callable[[], object]) -> int:
    """Bytes at most while reading."""
    tracemalloc.start()
    try:
        read()
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


def drain(path: Path, **told: object) -> int:
    source = FileSource.model_validate({"file": path.name, **told})
    return sum(1 for _ in file_rows(source, path, PLACE, lambda _: None))


@pytest.mark.parametrize(
    ("name", "header", "row"),
    [
        ("people.csv", "email,name\n", "{n}@example.com,김연주\n"),
        ("people.jsonl", "", '{{"email": "{n}@example.com", "name": "김연주"}}\n'),
    ],
)
def test_memory_does_not_grow_with_the_file(
    folder: Folder, name: str, header: str, row: str
) -> None:
    peaks = []
    for number in (1_000, 1_000, 30_000):
        path = folder.write(header + "".join(row.format(n=n) for n in range(number)), name)
        peaks.append(peak(lambda path=path: drain(path)))
    assert peaks[2] < peaks[1] + 100_000


@pytest.mark.parametrize("name", ["people.csv", "people.tsv", "people.jsonl"])
def test_a_file_without_line_breaks_is_not_read_into_memory(folder: Folder, name: str) -> None:
    """A gigabyte on one line, of which no disk needs to hold anything."""
    path = folder.write("", name)
    os.truncate(path, 1 << 30)
    assert peak(lambda: mistakes(lambda: drain(path))) < 20 * MAX_ROW


def test_an_unclosed_quote_does_not_read_the_file_into_memory(folder: Folder) -> None:
    path = folder.write('email,name\na@example.com,"A\n' + "b@example.com,B\n" * 400_000)
    assert peak(lambda: mistakes(lambda: drain(path))) < 2 * MAX_ROW


# -- real material, and tables of any kind -------------------------------------------------------

SPECTRUM = sorted(MATERIAL.glob("csvs/*.csv"))


@pytest.mark.skipif(not SPECTRUM, reason="csv-spectrum is not here")
def test_csv_spectrum() -> None:
    """Every cell as its truth has it, but for spaces around it."""
    for path in SPECTRUM:
        truth = json.loads((MATERIAL / "json" / f"{path.stem}.json").read_text("utf-8"))
        first, *_ = csv.DictReader(io.StringIO(path.read_text("utf-8"))).fieldnames or ()
        source = FileSource(file=path.name, columns={"email": first})
        found = [
            {first: row.address, **row.fields} for row in file_rows(source, path, PLACE, print)
        ]
        if path.stem == "location_coordinates":  # its truth is one object, of another telephone
            truth = [{**truth, first: "2095257564"}]
        assert found == [{h: cell.strip() for h, cell in record.items()} for record in truth]


CELLS = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=8)
AWKWARD = st.text(st.sampled_from("a,;\t|\"'\r\n \x0b\u2028\ufeff"), max_size=8)
TABLES = st.integers(1, 5).flatmap(
    lambda width: st.lists(st.lists(CELLS | AWKWARD, min_size=width, max_size=width), max_size=8)
)


def line_breaks(text: str) -> int:
    return len(re.findall("\r\n|\r|\n", text))


@given(TABLES, st.sampled_from(",;\t|"), st.sampled_from([csv.QUOTE_ALL, csv.QUOTE_MINIMAL]))
def test_any_table_comes_back(
    tmp_path_factory: pytest.TempPathFactory, table: list[list[str]], delimiter: str, quoting: int
) -> None:
    """What csv.writer writes is read trimmed, in order and with its line; only blank rows go."""
    text = io.StringIO(newline="")
    width = len(table[0]) if table else 1
    delimiter = delimiter if width > 1 else ","  # one heading cannot tell another
    writer = csv.writer(text, delimiter=delimiter, quoting=quoting)
    writer.writerow(["email", *(f"c{n}" for n in range(1, width))])
    expected = []
    for cells in table:
        line = line_breaks(text.getvalue()) + 1
        writer.writerow(cells)
        address, *rest = (cell.strip() for cell in cells)
        if address or any(rest):
            fields = {f"c{n}": cell for n, cell in enumerate(rest, 1)}
            expected.append(Row(address, fields, f"people.csv:{line}"))
    folder = Folder(tmp_path_factory.mktemp("any", numbered=True))
    assert folder.rows(text.getvalue()) == expected


KEYS = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=5)
OBJECTS = st.lists(
    st.dictionaries(KEYS.filter(lambda key: key not in ("email", "row", "campaign")), CELLS)
)


@given(OBJECTS, st.booleans())
def test_any_objects_come_back(
    tmp_path_factory: pytest.TempPathFactory, records: list[dict[str, str]], ascii_only: bool
) -> None:
    """What json.dumps writes is read trimmed, in order and with its line."""
    lines = [json.dumps({"email": "a@example.com", **r}, ensure_ascii=ascii_only) for r in records]
    folder = Folder(tmp_path_factory.mktemp("any", numbered=True))
    assert folder.rows("\n".join(lines), "people.jsonl") == [
        Row("a@example.com", {key: value.strip() for key, value in r.items()}, f"people.jsonl:{n}")
        for n, r in enumerate(records, 1)
    ]


@given(
    st.binary() | st.lists(AWKWARD).map(lambda texts: ("email\n" + "".join(texts)).encode()),
    st.sampled_from(["utf-8", "utf-16", "utf-16-le", "utf-32-be", "cp949", "latin-1", "hz"]),
    st.sampled_from(["people.csv", "people.tsv", "people.jsonl", "people.txt"]),
)
def test_any_bytes_are_read_or_told(
    tmp_path_factory: pytest.TempPathFactory, data: bytes, encoding: str, name: str
) -> None:
    """Whatever a file holds, there is no other end; and what was read can be stored."""
    folder = Folder(tmp_path_factory.mktemp("any", numbered=True))
    for read in (folder.rows, folder.addresses):
        try:
            json.dumps([*map(str, read(data, name, encoding=encoding))]).encode()
        except CampaignError as error:
            assert error.problems


# -- rows within rows ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("data", "whole"),
    [
        ('email,name,city\na@x.example,A,"Seoul\nb@x.example,B,Busan\nc@x.example,C,"\nd@x.example,D,Jeju\n', False),
        ('email,name,city\na@x.example,A,"Seoul\nb@x.example,B,"\n', False),
        ('email,name,note\na@x.example,A,"write to me:\nme@y.example, thanks"\n', True),
        ('email,name,note\na@x.example,A,"one\ntwo"\n', True),
        ('email,note\na@x.example,"ask b@x.example, or\nc"\n', True),
        ('email,note\na@x.example,"Please call her.\nOr write to b@x.example, thanks"\n', True),
        ('email,name,note\na@x.example,A,"Yours\nKim, CEO, kim@x.example"\n', True),
        ('email;note\na@x.example;"one; two\nb@x.example"\n', True),
        ('email,name,note,plan\na@x.example,A,"likes tea,basic\nb@x.example,B,wants coffee",pro\n', False),
        ('nick,email\n"Kim,a@x.example\nLee",b@x.example\n', False),
        ('email\tnick\tplan\na@x.example\t"The Boss\tpro\nb@x.example\tLee"\tbasic\n', False),
        ('email\tnote\na@x.example\t"Kim\tthe one\nb@x.example"\n', True),
        ('email,name,city\ra@x.example,A,"Seoul\rb@x.example,B,Busan\rc@x.example,C,"\r', False),
        ('email;name;note;plan\na@x.example;A;"tea;basic\nb@x.example;B;coffee";pro\n', False),
        ('name,email,city,plan\nKim, a@x.example,"Seoul, a\nLee, lee@x.example, 5", b\n', False),
        ('email,name,city\na@x.example,A,"\nb@x.example,B,"\n', False),
        ('email,name,city\na@x.example,A,"Seoul\n\nb@x.example,B,Busan\n"\n', False),
        ('email,name,city,\na@x.example,A,"Seoul\nb@x.example,B,Busan"\n', False),
        ('email,name,city\na@x.example,A,"Seoul\nb@x.example,B,""\nc@x.example,C,5"\n', False),
        ('email,name,city\na@x.example,A,"Seoul\nb@x.example,B\n' + "c@x.example,C,Jeju\n" * 3 + 'd@x.example,D,"\n', False),
        ('email,name,city\na@x.example,A,"Seoul\nb@x.example,B\nc@x.example,C,"\n', True),
        ('email,cc\na@x.example,"boss@x.example,\nassist@x.example"\n', True),
        ('cc,email\n"boss@x.example,\nassist@x.example",a@x.example\n', True),
        ('email,cc,name,plan\na@x.example,"boss@x.example,\nassist@x.example",A,pro\n', True),
        ('email,sign\na@x.example,"Best,\nKim\nkim@x.example,010-1234"\n', True),
        ('email,sign,plan\na@x.example,"Best,\nKim\nkim@x.example,010-1234",pro\n', True),
        ('email,where\na@x.example,"Kim Ltd,\nSeoul 04524,kim@x.example"\n', True),
        ('email,where,plan\na@x.example,"Kim Ltd,\nSeoul 04524,kim@x.example",pro\n', True),
        ('email,name,note\na@x.example,A,"Hello,\nask b@x.example, c@x.example, or\nd@x.example, thanks"\n', True),
        ('email,where\na@x.example,"room 5\x0bkim@x.example,2"\n', True),
    ],
)  # fmt: skip
def test_a_quote_left_open_does_not_make_people_into_data(
    folder: Folder, data: str, whole: bool
) -> None:
    """They would get nothing, and what stands about them would go to somebody else."""
    if whole:
        assert [row.fault for row in folder.rows(data)] == [None]
    else:
        assert folder.mistakes(data) == [
            "people.csv:2: a cell holds a line break and an @; is a quote in this row left open?"
        ]


def test_whose_rows_hide_is_judged_by_the_pattern_of_the_campaign(folder: Folder) -> None:
    data = 'email,name,city\nkim@mail,Kim,"VIP\nlee@mail,Lee,x\npark@mail,Park,5"\n'
    (folder.path / "letter.txt").write_text("Dear {{ name }}\n")
    folder.write(data)
    campaign = folder.path / "july.yaml"
    campaign.write_text(GOOD + 'addresses: {pattern: "[a-z0-9.]+@[a-z0-9.]+"}\n', "utf-8")
    [told] = mistakes(lambda: rows_of(read_campaign(campaign)))
    assert told.startswith("people.csv:2: a cell holds a line break and an @")
    campaign.write_text(GOOD, "utf-8")
    [row] = rows_of(read_campaign(campaign))
    assert row.fault is not None


@pytest.mark.parametrize(
    ("header", "hides"),
    [
        ('email,"name\na@x.example,A\nb@x.example,B"', True),
        ('name,"email\nA,a@x.example"', True),
        ('"email,name\na@x.example,A\nb@x.example",B', True),
        ('email,"name\na@x.example,"', True),
        ('name,"email\n(such as kim@x.example)"', False),
        ('email,"name\n(not kim@x.example, Kim)"', False),
        ('"mail of, say,\nkim@x.example",email', False),
    ],
)
def test_rows_hide_in_the_heading_line(folder: Folder, header: str, hides: bool) -> None:
    """A heading may hold an example of an address."""
    columns = {"email": "email\n(such as kim@x.example)"} if "such" in header else {}
    data = f"{header}\nc@x.example,c@x.example\n"
    if hides:
        assert folder.mistakes(data, columns=columns) == [
            "people.csv:1: a cell holds a line break and an @; is a quote in this row left open?"
        ]
    else:
        [row] = folder.rows(data, columns=columns)
        assert row.fault is None and len(folder.remarks) == 1


@pytest.mark.parametrize(
    ("notes", "remarks"),
    [
        (["one\ntwo", "me@x.example", "me@x.example\n", "\u2028me@x.example"], []),
        (["x\nme@x.example"], ["people.csv: 1 cell holds several lines and an address (:2); nobody is sent to because of it"]),
        (["x\n@"] * 2, ["people.csv: 2 cells hold several lines and an address (:2, :4); nobody is sent to because of them"]),
        (["x\n@"] * 9, ["people.csv: 9 cells hold several lines and an address (:2, :4, :6, …); nobody is sent to because of them"]),
    ],
)  # fmt: skip
def test_an_address_in_a_text_is_remarked(
    folder: Folder, notes: list[str], remarks: list[str]
) -> None:
    """Whether it is a row that hides there, somebody should see before the mail is sent."""
    rows = "".join(f'a@x.example,"{note}"\n' for note in notes)
    assert len(folder.rows("email,note\n" + rows)) == len(notes)
    assert [told for told in folder.remarks if "spaces" not in told] == remarks


@given(st.data(), st.integers(1, 5), st.sampled_from(",;\t|"))
def test_no_row_is_lost_wherever_a_quote_is_left_open(
    tmp_path_factory: pytest.TempPathFactory, data: st.DataObject, width: int, delimiter: str
) -> None:
    """And wherever a later row has another one."""
    delimiter = delimiter if width > 1 else ","
    at = data.draw(st.integers(0, width - 1))
    rows = [[f"c{n}" for n in range(width)] for _ in range(data.draw(st.integers(3, 8)))]
    for number, row in enumerate(rows):
        row[at] = f"{number}@x.example" if number else "email"
    first, last = sorted(
        data.draw(st.lists(st.integers(0, len(rows) - 1), min_size=2, max_size=2, unique=True))
    )
    opens, closes = data.draw(st.integers(0, width - 1)), data.draw(st.integers(0, width - 1))
    rows[first][opens] = '"' + rows[first][opens]
    rows[last][closes] += '"'
    folder = Folder(tmp_path_factory.mktemp("any", numbered=True))
    text = "\n".join(map(delimiter.join, rows))
    try:
        found = folder.rows(text)
    except CampaignError as error:
        assert first == 0 or str(error).startswith(f"people.csv:{first + 1}: a cell")
    else:
        assert any(row.fault for row in found)
