"""YAML into values: text stays text, YAML's traps are told with the line mended, ready to paste."""

import json
import time

import pytest
import yaml
from hypothesis import example, given
from hypothesis import strategies as st

from bulkmail.campaign.nodes import MAX_BYTES, Document, read_yaml
from bulkmail.errors import CampaignError


def told(text: str | bytes) -> list[str]:
    """All that is told about a file, whether it gave a value or not."""
    data = text if isinstance(text, bytes) else text.encode()
    try:
        return [str(problem) for problem in read_yaml(data, "july.yaml").problems]
    except CampaignError as error:
        return str(error).split("\njuly.yaml:")


def value(text: str) -> object:
    document = read_yaml(text.encode(), "july.yaml")
    assert document.problems == []
    return document.value


@pytest.mark.parametrize("text", ["no", "010", "12:30", "+8210", "2026-11-23", ".inf", "~", "1e5", "=", "null", "0x1F"])  # fmt: skip
def test_text_stays_text(text: str) -> None:
    assert value(f"subject: {text}\n") == {"subject": text}


# -- traps, each with its line mended and its twin that is none ------------------------------------

SYNTAX = [
    # id, the line, the column that is named, words, the line mended
    ("01 braces", "subject: {{ name }}님, hi", 10, 'begins with "{{"', 'subject: "{{ name }}님, hi"'),
    ("02 statement", "subject: {% if vip %}Hi{% endif %}", 10, 'begins with "{%"', 'subject: "{% if vip %}Hi{% endif %}"'),
    ("03 bracket", "subject: [News] hello", 10, 'begins with "["', 'subject: "[News] hello"'),
    ("04 colon", "subject: Re: hello", 10, 'holds ": "', 'subject: "Re: hello"'),
    ("05 colon at the end", "subject: Hello:", 10, 'holds ":"', 'subject: "Hello:"'),
    ("06 closing quote", 'from: "News" <a@b.example>', 7, "after its closing quote", "from: '\"News\" <a@b.example>'"),
    ("07 star", "subject: *bold* move", 10, 'begins with "*"', 'subject: "*bold* move"'),
    ("08 alias", "subject: *bold", 10, 'begins with "*"', 'subject: "*bold"'),
    ("09 at", "subject: @home", 10, 'begins with "@"', 'subject: "@home"'),
    ("10 percent", "subject: %off  # soon", 10, 'begins with "%"', 'subject: "%off"  # soon'),
    ("11 backtick", "subject: `x`", 10, 'begins with "`"', 'subject: "`x`"'),
    ("12 and", "subject: & co", 10, 'begins with "&"', 'subject: "& co"'),
    ("13 greater", "subject: > x", 10, 'begins with ">"', 'subject: "> x"'),
    ("14 bar", "subject: | x", 10, 'begins with "|"', 'subject: "| x"'),
    ("15 dash", "subject: - x", 10, 'begins with "-"', 'subject: "- x"'),
    ("16 question", "subject: ? x", 10, 'begins with "?"', 'subject: "? x"'),
    ("17 comma", "subject: , x", 10, 'begins with ","', 'subject: ", x"'),
    ("18 stuck colon", "subject:hello", 1, "a colon needs a space", "subject: hello"),
    ("21 stuck list", "rate:[1/s, 450/day]", 1, "a colon needs a space", "rate: [1/s, 450/day]"),
    ("19 stuck and more", "subject:[News] 50% #1", 1, "a colon needs a space", 'subject: "[News] 50% #1"'),
    ("20 stuck and quoted", 'subject:"hello"', 1, "a colon needs a space", 'subject: "hello"'),
    ("26 two in quotes", 'subject: "a" and "b"', 10, "closing quote", "subject: '\"a\" and \"b\"'"),
    ("28 both quotes", """subject: @it's "new" """, 10, 'begins with "@"', """subject: '@it''s "new"' """),
    ("30 open bracket in text", "subject: [News hello", 10, 'begins with "["', 'subject: "[News hello"'),
    ("31 inside braces", "people: {email: a@b.example, name: Kim: x, plan: pro}", 36, 'holds ": "', 'people: {email: a@b.example, name: "Kim: x", plan: pro}'),
    ("34 comment inside braces", "people: {email: a@b.example, name: Kim #1}", 36, 'a "#" after a space', 'people: {email: a@b.example, name: "Kim #1"}'),
    ("35 in a dashed list", "people:\n  - {{ a }} b", 5, 'begins with "{{"', '  - "{{ a }} b"'),
    ("37 braces over lines", "people: {email: a@b.example,\n   name: {{ n }}x, c: d}", 10, 'begins with "{{"', '   name: "{{ n }}x", c: d}'),
    ("32 template in a path", "files: [{file: a/{{ id }}.pdf, name: b}, {file: c}]", 16, 'holds "{{"', 'files: [{file: "a/{{ id }}.pdf", name: b}, {file: c}]'),
    ("33 template in an URL", "list: {unsubscribe: {url: https://a.example/?m={{ id }}}}", 27, 'holds "{{"', 'list: {unsubscribe: {url: "https://a.example/?m={{ id }}"}}'),
    ("36 bracket in braces", "people: [{email: a@b.example, name: [VIP] Kim}, {email: c}]", 37, 'begins with "["', 'people: [{email: a@b.example, name: "[VIP] Kim"}, {email: c}]'),
    ("40 bracket at a variable", "variables:\n  title: [News] hello", 10, 'begins with "["', '  title: "[News] hello"'),
    ("38 comment in braces over lines", "people: {email: a@b.example,\n   name: Kim #1,\n   c: d}", 10, 'a "#" after a space', '   name: "Kim #1",'),
    ("39 anchor twice", "x: &co y\nsubject: &co", 10, 'begins with "&"', 'subject: "&co"'),
]  # fmt: skip


@pytest.mark.parametrize(
    ("line", "column", "words", "mended"), [pytest.param(*case, id=name) for name, *case in SYNTAX]
)
def test_a_syntax_error_is_told_with_its_line_mended(
    line: str, column: int, words: str, mended: str
) -> None:
    """What is shown is true: with the mended line in place the file is good YAML, without traps."""
    before, after = "campaign: x\n", "\nlast: 1\n"
    [problem] = told(before + line + after)
    head, shown = problem.split("\n", 1)
    number = int(head.split(":")[1])
    assert head.startswith(f"july.yaml:{number}:{column}: ")
    assert words in head and head.endswith("; write")
    assert shown == "    " + mended
    lines = (before + line + after).split("\n")
    lines[number - 1] = mended
    assert told("\n".join(lines)) == []


TRAPS = [
    # id, the file, its one place, words, the line mended, the value as it was meant
    ("50 braces", "subject: {{ name }}", "1:10", 'begins with "{{"', 'subject: "{{ name }}"', {"subject": "{{ name }}"}),
    ("51 comment", "subject: 50% off #1 today", "1:10", "begins a comment", 'subject: "50% off #1 today"', {"subject": "50% off #1 today"}),
    ("52 comment and note", "subject: 50% off #1  # ok", "1:10", "begins a comment", 'subject: "50% off #1"  # ok', {"subject": "50% off #1"}),
    ("53 all a comment", "subject: #1 in Korea", "1:10", 'begins with "#"', 'subject: "#1 in Korea"', {"subject": "#1 in Korea"}),
    ("54 comment at a person", "recipients:\n  - email: a@b.example\n    name: Kim #1", "3:11", "begins a comment", '    name: "Kim #1"', {"recipients": [{"email": "a@b.example", "name": "Kim #1"}]}),
    ("55 comment at a variable", "variables: \n  a:\n    - b #1", "3:7", "begins a comment", '    - "b #1"', {"variables": {"a": ["b #1"]}}),
    ("56 comment at a header", "headers:\n  X-Note: no #1", "2:11", "begins a comment", '  X-Note: "no #1"', {"headers": {"X-Note": "no #1"}}),
    ("57 comment at an attachment", "attachments:\n  - file: a.pdf\n    name: Plan #1.pdf", "3:11", "begins a comment", '    name: "Plan #1.pdf"', {"attachments": [{"file": "a.pdf", "name": "Plan #1.pdf"}]}),
    ("61 tag", "subject: !important news", "1:10", 'begins with "!"', 'subject: "!important news"', {"subject": "!important news"}),
    ("62 mark alone", "subject: ! now", "1:10", 'begins with "!"', 'subject: "! now"', {"subject": "! now"}),
    ("64 anchor", "subject: &co x", "1:10", 'begins with "&"', 'subject: "&co x"', {"subject": "&co x"}),
    ("65 anchor alone", "subject: &co", "1:10", 'begins with "&"', 'subject: "&co"', {"subject": "&co"}),
    ("66 anchor and comment", "subject: &co #1", "1:10", 'begins with "&"', 'subject: "&co #1"', {"subject": "&co #1"}),
    ("69 comment in a name before its address", "from: News #1 <a@b.example>", "1:7", "begins a comment", 'from: "News #1 <a@b.example>"', {"from": "News #1 <a@b.example>"}),
    ("67 quotes inside", 'subject: it\'s "new" #1', "1:10", "begins a comment", "subject: 'it''s \"new\" #1'", {"subject": 'it\'s "new" #1'}),
]  # fmt: skip


@pytest.mark.parametrize(
    ("text", "place", "words", "mended", "meant"),
    [pytest.param(*case, id=name) for name, *case in TRAPS],
)
def test_a_trap_in_good_yaml_is_told_once_with_its_line_mended(
    text: str, place: str, words: str, mended: str, meant: object
) -> None:
    """One problem a trap, and a value of which nothing else is told."""
    document = read_yaml(text.encode(), "july.yaml")
    [problem] = document.problems
    assert problem.place == f"july.yaml:{place}"
    assert words in problem.message
    assert problem.message.split("\n")[1:] == ["    " + mended]
    assert document.value == meant
    lines = text.split("\n")
    lines[int(place.split(":")[0]) - 1] = mended
    assert value("\n".join(lines)) == meant


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        pytest.param('subject: "{{ name }}"', {"subject": "{{ name }}"}, id="50 quoted"),
        pytest.param("x: {a: {b: c}}", {"x": {"a": {"b": "c"}}}, id="50 a mapping in a mapping"),
        pytest.param("subject: Hello   # a note", {"subject": "Hello"}, id="51 a note"),
        pytest.param("subject: Hello ## a note", {"subject": "Hello"}, id="51 a note of two"),
        pytest.param("subject: C#1 #", {"subject": "C#1"}, id="51 no space before"),
        pytest.param("subject: 'Hello' #a note", {"subject": "Hello"}, id="51 after a quote"),
        pytest.param("port: 465 #tls", {"port": "465"}, id="51 a key of no prose"),
        pytest.param("from: News <a@b.example> #edit", {"from": "News <a@b.example>"}, id="69 a note after an address"),
        pytest.param("variables: #none", {"variables": ""}, id="53 no prose itself"),
        pytest.param("recipients: [{file: a.csv #x\n}]", {"recipients": [{"file": "a.csv"}]}, id="54 a file"),
        pytest.param("x: {email: a@b.example, nick: }", {"x": {"email": "a@b.example", "nick": ""}}, id="58 its colon"),
        pytest.param("x: {a: 1, b: 2}", {"x": {"a": "1", "b": "2"}}, id="58 pairs"),
        pytest.param('x: {name: "Kim, Jr."}', {"x": {"name": "Kim, Jr."}}, id="58 quoted"),
        pytest.param("x: {url: https://a.example}", {"x": {"url": "https://a.example"}}, id="60 an URL"),
        pytest.param("subject: important!", {"subject": "important!"}, id="61 at the end"),
        pytest.param("subject: &co x\nreply_to: *co", {"subject": "x", "reply_to": "x"}, id="64 an anchor in use"),
        pytest.param('"<<": x', {"<<": "x"}, id="70 no merge key"),
        pytest.param("smtp: &co {a: b}", {"smtp": {"a": "b"}}, id="64 an anchor elsewhere"),
        pytest.param("subject: a & b", {"subject": "a & b"}, id="64 in the middle"),
    ],
)  # fmt: skip
def test_what_only_looks_like_a_trap_is_none(text: str, expected: object) -> None:
    assert value(text) == expected


@pytest.mark.parametrize(
    ("text", "mended"),
    [
        ("x: {email: a, name: Kim, Jr.}", 'x: {email: a, name: "Kim, Jr."}'),
        ("x: {name: Kim, Jr., MD, plan: pro}", 'x: {name: "Kim, Jr., MD", plan: pro}'),
        ("x: [{name: Kim, Jr.}, {name: Lee}]", 'x: [{name: "Kim, Jr."}, {name: Lee}]'),
    ],
)
def test_a_comma_that_cuts_a_value_in_braces_is_told_once(text: str, mended: str) -> None:
    """What follows the comma is no key, so that nobody is told of an unknown one."""
    document = read_yaml(text.encode(), "july.yaml")
    [problem] = document.problems
    assert "a comma inside {…}" in problem.message
    assert problem.message.split("\n")[1:] == ["    " + mended]
    assert "Jr." not in str(document.value)
    assert "Jr." in str(value(mended))


def test_traps_on_one_line_are_told_each_with_its_mend() -> None:
    problems = told("variables: {a: {{ a }}, b: Kim, Jr., MD, c: !d e}")
    assert [problem.split("\n    variables: ")[1] for problem in problems] == [
        '{a: "{{ a }}", b: Kim, Jr., MD, c: !d e}',
        '{a: {{ a }}, b: "Kim, Jr., MD", c: !d e}',
        '{a: {{ a }}, b: Kim, Jr., MD, c: "!d e"}',
    ]


@pytest.mark.parametrize(
    "text",
    [
        "subject: Hello\n  World #1",
        "subject: {{\n  name }}",
        "x: {name: Kim,\n  Jr.}",
        "x: {files/a.pdf}",
        'x: {name: "Kim", Jr.}',
        "smtp: {host: a, port:465}",
        "port: !!int 5",
        "a: b\n\tsubject: x",
        "subject:\thello",
        'subject: "say "hi" now"',
        'subject: "{{ name }}',
        "subject: 'it's'",
        r'subject: "50\% off"',
        "rate: [1/s, 450/day",
        "attachments: [{{ id }}.pdf, b.pdf]",
        f"subject: {'x' * 600} #1",
    ],
)
def test_what_no_one_pair_of_quotes_mends_is_told_in_words(text: str) -> None:
    [problem] = told(text)
    assert "\n" not in problem


@pytest.mark.parametrize(
    ("text", "place", "words"),
    [
        ("a: b\nfoo\nc: d", "2:1", "a line without a colon"),
        ("a:\n  b: 1\n c: 2", "3:2", "indented unlike those above"),
        ("a: x\n  b: y", "2:4", "is the indent right"),
        ("subject: x #1\n  b: y", "2:3", "indented unlike those above"),
        ("recipients: - {email: a@b.example}", "1:13", "a list is not expected here"),
        ("a: b\n- c", "2:1", "a list is not expected here"),
        ("a: b\n---\nc: d", "2:1", "one file is one campaign"),
        ("a: [b,\n  c\nd: e", "1:4", "this bracket is not closed"),
        ("<<: *x", "1:5", "needs quotes"),
        ("a: b\n@c: d", "2:1", "needs quotes"),
    ],
)
def test_a_syntax_error_without_a_mend_is_told_in_words(text: str, place: str, words: str) -> None:
    """Nothing is proposed that does not help, and nothing in the parser's jargon."""
    [problem] = told(text)
    assert problem.startswith(f"july.yaml:{place}: ") and words in problem
    assert "\n" not in problem and "<block" not in problem and "scalar" not in problem


# -- other mistakes --------------------------------------------------------------------------------


def test_what_can_be_told_beside_other_mistakes_is_in_order_of_place() -> None:
    """Nothing of it hides the rest of the file."""
    text = "a: 1\n<<: {x: y}\na: 2\n? [k]\n: v\nb: !!python/name:os.system x\nc: !t [d]\ne: f\n"
    document = read_yaml(text.encode(), "july.yaml")
    assert [problem.place.removeprefix("july.yaml:") for problem in document.problems] == [
        "2:1", "3:1", "4:3", "6:4", "7:4"
    ]  # fmt: skip
    expected = ["merge key", 'the key "a" stands twice, first at july.yaml:1', "a key must be text"]
    expected += ["!!python/name:os.system is not understood here", "the tag !t is not understood"]
    for problem, words in zip(document.problems, expected, strict=True):
        assert words in problem.message
    assert document.value == {"a": "1", "b": "x", "c": ["d"], "e": "f"}


def test_a_key_in_a_message_does_no_harm_to_a_terminal() -> None:
    [problem] = told('"\\e[31m": 1\n"\\e[31m": 2\n')
    assert "\x1b" not in problem
    [problem] = told(f"{'k' * 500}: 1\n{'k' * 500}: 2\n")
    assert len(problem) < 150


@pytest.mark.parametrize(
    ("path", "mended"),
    [
        (("subject",), 'subject: "[News]"   # a note'),
        (("people", 0, "name"), "  - {email: a@b.example, name: \"[a, 'b']\", plan: pro}"),
        (("people", 1, "name"), "  - {email: a@b.example, name: '{x: \"y\"}'}"),
        (("from",), None),
        (("several",), None),
        (("nowhere",), None),
    ],
)
def test_a_value_in_brackets_where_text_was_wanted_is_shown_in_quotes(path, mended) -> None:
    text = """\
subject: [News]   # a note
from: News
people:
  - {email: a@b.example, name: [a, 'b'], plan: pro}
  - {email: a@b.example, name: {x: "y"}}
several: [a,
  b]
"""
    document = read_yaml(text.encode(), "july.yaml")
    assert document.problems == []
    assert document.places.mended(path) == mended


# -- places ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("line_end", ["\n", "\r\n", "\r"])
@pytest.mark.parametrize("bom", ["", "\ufeff"])
def test_lines_end_as_on_any_system(line_end: str, bom: str) -> None:
    """LF, CRLF, CR, with a byte order mark or without."""
    text = bom + line_end.join(["# 소식", "a:", "  b: [c, d]", "subject: {{ n }}", "e: f", ""])
    document = read_yaml(text.encode(), "july.yaml")
    assert document.value == {"a": {"b": ["c", "d"]}, "subject": "{{ n }}", "e": "f"}
    assert document.places.value(("a", "b", 1)) == "july.yaml:3:10"
    assert document.places.key(("e",)) == "july.yaml:5:1"
    [problem] = map(str, document.problems)
    assert problem.startswith("july.yaml:4:10: ")
    assert problem.endswith('\n    subject: "{{ n }}"')
    [problem] = told(text.replace("f", "g: h"))
    assert problem.startswith("july.yaml:5:4: ") and problem.endswith('\n    e: "g: h"')


# -- bounds ----------------------------------------------------------------------------------------

BOMB = "a: &a [x,x,x,x,x,x,x,x,x]\n" + "".join(
    f"{name}: &{name} [{','.join([f'*{before}'] * 9)}]\n"
    for before, name in zip("abcdefg", "bcdefgh", strict=True)
)


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        pytest.param(b"", "july.yaml: is empty", id="80 empty"),
        pytest.param(b"\xef\xbb\xbf", "july.yaml: is empty", id="81 a BOM alone"),
        pytest.param(b"# a\n# b\n", "july.yaml: is empty", id="82 comments"),
        pytest.param(b"a: b\nc: \0\n", "july.yaml:2:4: the character U+0000 is not YAML", id="83 NUL"),
        pytest.param(b"a: \x1b[31m\n", "july.yaml:1:4: the character U+001B", id="84 escape"),
        pytest.param("a: b\rc: é\r".encode("latin-1"), "july.yaml:2:4: byte 0xe9 is not UTF-8; save it as UTF-8", id="85 Latin-1"),
        pytest.param("a: b\n\nc: 소식\n".encode("cp949"), "july.yaml:3:4: byte 0xbc is not UTF-8; save it as UTF-8", id="86 cp949"),
        pytest.param(b"\xef\xbb\xbfa: \xe9", "july.yaml:1:4: byte 0xe9 is not UTF-8", id="87 behind a BOM"),
        pytest.param("a: b".encode("utf-16"), "july.yaml:1:1: is not UTF-8 but UTF-16", id="88 UTF-16"),
        pytest.param("a: b".encode("utf-16-le"), "U+0000 is not YAML", id="89 UTF-16 without a BOM"),
        pytest.param(b"x" * 75_000_000, "july.yaml: is 75 MB long; a campaign file holds 1,000 people at most, more go into a CSV file", id="90 75 MB"),
        pytest.param(b"[" * 3000, "nested too deeply", id="91 deep in brackets"),
        pytest.param(b"a: " + b"{" * 3000, "nested too deeply", id="92 deep in braces"),
        pytest.param(b"".join(b" " * i + b"a:\n" for i in range(1000)), "nested too deeply", id="93 deep in blocks"),
        pytest.param(b"- " * 3000, "nested too deeply", id="94 deep in dashes"),
        pytest.param(b"? " * 3000, "nested too deeply", id="95 deep in keys"),
        pytest.param(b"".join(b"- &a%d %s%s%s\n" % (i, b"[" * 60, b"*a%d" % (i - 1) if i else b"x", b"]" * 60) for i in range(3)), "nested too deeply", id="96 deep by aliases"),
        pytest.param(BOMB.encode(), "too much: over 100,000 values", id="97 aliases that expand"),
        pytest.param(b"a: &a [*a]", "july.yaml:1:8: an alias that leads back to itself", id="98 an alias in itself"),
        pytest.param(b"&a [*a]", "an alias that leads back to itself", id="99 the root in itself"),
        pytest.param(b"[" + b"x," * 400_000, "too much: over 100,000 values", id="100 too many values"),
        pytest.param(b"a: \"" + b"x\n " * 300_000, "this quote is not closed", id="101 an endless quote"),
        pytest.param(b"people:\n" + b"  - {email: a@b.example, name: Kim}\n" * 1000 + b" a: b\nc: d", "july.yaml:1002:2: this line is indented", id="102 a mistake far below"),
        pytest.param(b"subject: \"a\npeople:\n" + b"  - {email: a@b.example}\n" * 1000, "july.yaml:1:10: this quote is not closed", id="103 a mistake far above"),
    ],
)  # fmt: skip
def test_what_gives_no_value_is_one_clear_error_soon(data: bytes, expected: str) -> None:
    begin = time.perf_counter()
    with pytest.raises(CampaignError) as caught:
        read_yaml(data, "july.yaml")
    seconds = time.perf_counter() - begin
    [problem] = caught.value.problems
    assert expected in str(problem)
    assert seconds < 20  # measured under 2; a shared machine may be slow


@pytest.mark.parametrize(
    "data",
    [
        pytest.param(b"port: " + b"9" * 100_000, id="110 a long number"),
        pytest.param(b"a: \"" + b"x " * 400_000 + b'"', id="111 a long text"),
        pytest.param(b"{a: b," + b"".join(b"k%d," % i for i in range(30_000)) + b"}", id="112 keys without colons"),
        pytest.param(b"variables:\n" + b"  - a #1\n" * 30_000, id="113 a trap in every line"),
        pytest.param(b"#" * (MAX_BYTES - 4) + b"\n- x", id="114 as large as allowed"),
        pytest.param(b"- x\n- y\n", id="115 a list at the top"),
    ],
)  # fmt: skip
def test_what_is_large_or_odd_is_read_all_the_same(data: bytes) -> None:
    begin = time.perf_counter()
    assert isinstance(read_yaml(data, "july.yaml"), Document)
    assert time.perf_counter() - begin < 20


def test_a_mistake_far_down_in_a_large_file_is_told_without_a_mend() -> None:
    """Trying mends costs the reading of the file each time."""
    [problem] = told("a: '" + "x " * 300_000 + "'\nsubject: Re: x\n")
    assert problem.startswith("july.yaml:2:12: ") and "\n" not in problem


# -- for any text ----------------------------------------------------------------------------------

PIECES = st.sampled_from([
    *"[]{}:,-?&*!|>%@`#'\" \t\n\r\\\0", "a", "subject: ", "{{ n }}", "- ", ": ", " #1", "&a ", "*a",
    "!x ", "<<: ", "---\n", "...\n", "\u2028", "\x85", "\ufeff", "님", "\U0001f600",
])  # fmt: skip


@given(
    st.lists(PIECES, max_size=30).map("".join) | st.text(st.characters(exclude_categories=["Cs"]))
)
@example("a: *\n")
@example("%")
@example("a: {b: \n c #1}")
def test_any_text_is_a_document_or_a_campaign_error(text: str) -> None:
    try:
        document = read_yaml(text.encode(), "july.yaml")
    except CampaignError as error:
        assert len(error.problems) == 1
    else:
        assert isinstance(document, Document)
        json.dumps(document.value, ensure_ascii=False).encode()


@given(st.binary(max_size=60))
def test_any_bytes_are_a_document_or_a_campaign_error(data: bytes) -> None:
    try:
        assert isinstance(read_yaml(data, "july.yaml"), Document)
    except CampaignError as error:
        assert len(error.problems) == 1


ONE_LINE = st.text(st.characters(exclude_categories=["Cs", "Cc", "Zl", "Zp"])) | st.lists(
    PIECES.filter(lambda piece: piece.isprintable() or piece == "\ufeff"), max_size=12
).map("".join)


@given(ONE_LINE)
@example("😀")
@example("no")
@example("{{ name }} #1")
def test_text_written_by_a_program_comes_back_exactly(text: str) -> None:
    """As YAML, and as JSON (RFC 8259)."""
    assert value(yaml.safe_dump({"subject": text}, allow_unicode=True)) == {"subject": text}
    assert value(f"subject: {json.dumps(text, ensure_ascii=False)}\n") == {"subject": text}


def test_half_a_character_is_told() -> None:
    document = read_yaml(b'subject: "a\\ud83d"\n', "july.yaml")
    assert document.value == {"subject": "a?"}
    [problem] = document.problems
    assert str(problem).startswith("july.yaml:1:10: an escape stands for half a character")
