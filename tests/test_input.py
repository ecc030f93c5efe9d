"""Bad input: every kind of it is told, or its row left out, before the first connection.

Each item of the four lists has a number, a case that shows it, and a near twin: almost the same
input, which is fine and goes to everybody. The commands are the real ones, and the server is there
to be connected to; they run in this process where another one would add nothing but time.
"""

import asyncio
import contextlib
import csv
import gc
import io
import json
import os
import re
import ssl
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import pytest
from click.testing import CliRunner

from bulkmail.cli import commands
from bulkmail.model import Security, Submission
from bulkmail.sandbox.receiving import Behaviour, Received
from bulkmail.sandbox.server import HOST, Server

from .conftest import Project, RecordingServer, Result, StartServer

ITEMS = {
    # Campaign file
    "C1": "duplicate keys",
    "C2": "unknown keys",
    "C3": "wrong types",
    "C4": "tabs",
    "C5": "several documents",
    "C6": "empty",
    "C7": "a list at the top",
    "C8": "NUL",
    "C9": "Latin-1",
    "C10": "UTF-16",
    "C11": "unknown tags",
    "C12": "aliases that expand without end",
    "C13": "aliases that refer to themselves",
    "C14": "3,000 levels deep",
    "C15": "a 100,000-digit number",
    "C16": ".inf",
    "C17": "negative rates",
    "C18": "zero rates",
    # Recipients
    "R1": "none",
    "R2": "all filtered",
    "R3": "missing column",
    "R4": "short rows",
    "R5": "long rows",
    "R6": "an unclosed quote",
    "R7": "wrong encoding",
    "R8": "NUL in a row",
    "R9": "duplicates",
    "R10": "case variants",
    "R11": "trailing newline",
    "R12": "local part over 64",
    "R13": "address over 254",
    "R14": "quoted local parts",
    "R15": "comments",
    "R16": "address literals",
    "R17": "a@b,c@d",
    "R18": "Name <a@b>",
    "R19": "IDN",
    "R20": "non-ASCII local part",
    "R21": "right-to-left characters",
    "R22": "zero-width characters",
    "R23": "CR in a field that reaches a header",
    "R24": "LF in a field that reaches a header",
    "R25": "formulas in report cells",
    "R26": "a million rows",
    "R27": "more than 1,000 people inline",
    # Templates
    "T1": "undefined variable",
    "T2": "syntax error",
    "T3": "missing filter",
    "T4": "endless loops",
    "T5": "'a' * 10**9",
    "T6": "lipsum(n=100000)",
    "T7": "attempts to escape",
    "T8": "one recipient changing the next",
    "T9": "include '/etc/passwd'",
    "T10": "../",
    "T11": "symlinks out",
    "T12": "lone surrogates",
    "T13": "recipient data compiled as a template",
    "T14": "recipient data not escaped in HTML",
    # Files
    "F1": "missing",
    "F2": "unreadable",
    "F3": "a folder",
    "F4": "FIFO",
    "F5": "device",
    "F6": "a symlink out of the campaign's folder",
    "F7": "larger with base64 than the server's SIZE",
    "F8": "changed in mid-run",
    "F9": "campaign edited between run and continuation",
}

FILE = "letter.yaml"
CAMPAIGN = """\
from: News <news@example.org>
subject: "For {{ name }}"
template: {text: letter.txt}
recipients: [{file: people.csv}]
rate: unlimited
smtp:
  host: 127.0.0.1
  port: %PORT%
  security: tls
  username: sender
  password: env:TEST_PASSWORD
  ca_file: %CA%
"""
PEOPLE = "email,name\nkim@example.com,Kim\nlee@example.com,Lee\n"
KIM, PARK, LEE = "kim@example.com", "park@example.com", "lee@example.com"
BOTH, ALL = (KIM, LEE), (KIM, PARK, LEE)

Content = str | tuple[str, str] | Callable[[Path], None]
"""Of a file: text in UTF-8, text and its encoding, or what makes something else at its path."""
Files = Mapping[str, Content]
PROJECT: Files = {FILE: CAMPAIGN, "people.csv": PEOPLE, "letter.txt": "Dear {{ name }},\n"}


# -- cases ----------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Refused:
    """The command says `words` about `place`, and ends."""

    place: str
    words: str
    status: int = 65

    def fits(self, told: str) -> bool:
        """Whether a line of what was told says it."""
        lines = told.splitlines()
        return any(line.startswith(self.place) and self.words in line for line in lines)


@dataclass(frozen=True)
class LeftOut:
    """The row at `place` gets nothing, the others do."""

    place: str
    state: str
    why: str
    reaches: tuple[str, ...] = BOTH


@dataclass(frozen=True)
class Case:
    """`fault` and `twin` are the files that differ from PROJECT's.

    The twin reaches `twin_reaches`, with `shows` in each message.
    """

    number: str
    fault: Files
    expected: Refused | LeftOut
    twin: Files
    twin_reaches: tuple[str, ...] = BOTH
    shows: str = ""
    label: str = ""
    needs_rights: bool = False

    def __str__(self) -> str:
        return " ".join(filter(None, (self.number, ITEMS[self.number], self.label)))


def changed(*pairs: tuple[str, str], add: str = "") -> str:
    """The campaign with its texts changed, each of which stands there once; `add` comes behind."""
    text = CAMPAIGN
    for old, new in pairs:
        assert text.count(old) == 1, f"{old!r} stands {text.count(old)} times in the campaign"
        text = text.replace(old, new)
    return text + add


def campaign(
    number: str,
    fault: Content,
    place: str,
    words: str,
    twin: Content,
    *,
    label: str = "",
) -> Case:
    """Two campaign files."""
    expected = Refused(f"{FILE}{place}", words)
    return Case(number, {FILE: fault}, expected, {FILE: twin}, label=label)


def people(*rows: str) -> Files:
    return {"people.csv": "email,name\n" + "".join(f"{row}\n" for row in rows)}


def row(
    number: str,
    fault: str,
    why: str,
    twin: str = f"{PARK},Park",
    address: str = PARK,
    state: str = "invalid",
    label: str = "",
) -> Case:
    """A row between those of Kim and Lee."""
    return Case(
        number,
        people(f"{KIM},Kim", fault, f"{LEE},Lee"),
        LeftOut("people.csv:3", state, why),
        people(f"{KIM},Kim", twin, f"{LEE},Lee"),
        (KIM, address, LEE),
        label=label,
    )


def template(
    number: str,
    fault: str,
    words: str,
    twin: str,
    shows: str = "",
    *,
    files: Files | None = None,
    twin_files: Files | None = None,
    place: str = "letter.txt:1",
    status: int = 65,
    label: str = "",
) -> Case:
    """Two first lines of the template, and what else stands beside it."""
    return Case(
        number,
        {"letter.txt": f"{fault}\n", **(files or {})},
        Refused(place, words, status),
        {"letter.txt": f"{twin}\n", **(twin_files or {})},
        shows=shows,
        label=label,
    )


def nested(levels: int) -> str:
    return changed(add=f"variables: {{deep: {'[' * levels}{']' * levels}}}\n")


def pattern(levels: int) -> str:
    return changed(add=f"addresses: {{pattern: '{'(' * levels}.*{')' * levels}'}}\n")


def aliases(levels: int) -> str:
    """Each level stands for ten of the one before."""
    lines = ["variables:", f"  a0: &a0 [{', '.join('x' * 10)}]"]
    for level in range(1, levels):
        lines.append(f"  a{level}: &a{level} [{', '.join([f'*a{level - 1}'] * 10)}]")
    return changed(add="\n".join(lines) + "\n")


def inline(number: int) -> str:
    persons = "".join(f"  - {{email: person{i}@example.com, name: P}}\n" for i in range(number))
    return changed(("recipients: [{file: people.csv}]\n", f"recipients:\n{persons}"))


def with_port(port: str) -> str:
    return changed(("  port: %PORT%", f"  port: {port}"))


def with_rate(rate: str) -> str:
    return changed(("rate: unlimited", f"rate: {rate}"))


def nul(label: str, text: str, place: str) -> Case:
    """A NUL in a name, written as YAML's escape; the twin is the same name without it."""
    fault = {FILE: text, "a": "a"}
    twin = {FILE: text.replace("\\0", ""), "a": "a"}
    expected = Refused(FILE + place, "holds a control character", 65)
    return Case("C8", fault, expected, twin, label=f"in {label}")


def at(path: str) -> str:
    """A campaign with the attachment `path`."""
    return changed(add=f"attachments: [{path}]\n")


DIGITS = "9" * 100_000
LOCAL = "p" * 64
DOMAIN = ".".join(["d" * 61, "e" * 61, "f" * 57, "example"])
assert len(f"{LOCAL}@{DOMAIN}") == 254

CAMPAIGN_CASES = [
    campaign("C1", changed(add="rate: 1/s\n"), ":13:1",
             'the key "rate" stands twice, first at letter.yaml:5', changed(add="variables: {rate: 1/s}\n")),
    campaign("C2", changed(add="atachments: []\n"), ":13:1",
             'unknown key "atachments"; did you mean "attachments"?', changed(add="attachments: []\n")),
    campaign("C3", changed(add="variables: none of them\n"), ":13:12",
             "variables: must be written like", changed(add="variables: {none: of them}\n")),
    campaign("C3", changed(("[{file: people.csv}]", "people.csv")), ":4:13", "recipients: must be",
             CAMPAIGN.replace("[{file: people.csv}]", "\n- file: people.csv"), label="recipients"),
    campaign("C3", with_port("smtp"), ":8:9", "smtp.port: must be a whole number", CAMPAIGN, label="port"),
    campaign("C3", changed(add="addresses: {pattern: '.{9999999999}'}\n"), ":13:22", "addresses.pattern: must",
             changed(add="addresses: {pattern: '.{9,99999}'}\n"), label="pattern"),
    campaign("C4", changed(("template: {text: letter.txt}", "template:\n\ttext: letter.txt")), ":4:1",
             "tab", changed(("template: {text: letter.txt}", "template:\n    text: letter.txt"))),
    campaign("C5", changed(add="---\nrate: 1/s\n"), ":13:1", "document", "---\n" + CAMPAIGN),
    campaign("C6", "", "", "is empty; a campaign needs from, subject, template", "# July\n" + CAMPAIGN),
    campaign("C6", "# July\n", "", "is empty", "# July\n" + CAMPAIGN, label="but for a comment"),
    campaign("C7", "".join(f"- {line}\n" if line[0] != " " else f"  {line}\n" for line in CAMPAIGN.splitlines()),
             ":1:1", "a campaign file is a list of `key: value`", CAMPAIGN),
    campaign("C8", changed(("For {{", "For\0 {{")), ":2:14", "the character U+0000 is not YAML text",
             changed(("For {{", "For0 {{"))),
    campaign("C8", changed(("For {{", "For\\0 {{")), ":2", "a NUL character cannot be sent",
             changed(("For {{", "For\\\\0 {{")), label="by an escape"),
    nul("attachments", at('"a\\0"'), ":13:15"),
    nul("an attachment's name", at('{file: a, name: "b\\0"}'), ":13"),
    nul("images", changed(("text: ", "html: "), add='images: {b: "a\\0"}\n'), ":13:13"),
    nul("ledger", changed(add='ledger: "b\\0"\n'), ":13:9"),
    nul("smtp.host", changed(("127.0.0.1", '"127.0.0.1\\0"')), ":7:9"),
    nul("smtp.ca_file", changed(("%CA%", '"%CA%\\0"')), ":12:12"),
    nul("smtp.password", changed(("env:TEST_PASSWORD", '"env:TEST_PASSWORD\\0"')), ":11:13"),
    campaign("C9", (changed(("For {{", "Für {{")), "latin-1"), ":2", "byte 0xfc is not UTF-8; save it as UTF-8",
             changed(("For {{", "Für {{"))),
    campaign("C9", (changed(("For {{", "Für {{")), "latin-1"), ":2:12", "byte 0xfc is not UTF-8",
             changed(("For {{", "Für {{")), label="and its column"),
    campaign("C10", (CAMPAIGN, "utf-16"), ":1", "is not UTF-8 but UTF-16; save it as UTF-8",
             (CAMPAIGN, "utf-8-sig")),
    campaign("C11", changed(("subject: ", "subject: !!python/object ")), ":2:10",
             "the tag !!python/object is not understood here",
             changed(('"For {{ name }}"', '"!!python/object {{ name }}"'))),
    campaign("C12", aliases(6), ":14:", "this is too much: over 100,000 values", aliases(3)),
    campaign("C13", changed(add="variables: &all {self: *all}\n"), ":13:", "an alias",
             changed(add="variables: {one: &one {self: 1}, two: *one}\n")),
    campaign("C14", nested(3000), ":13:1", "is nested too deeply, over 100 levels", nested(90)),
    campaign("C14", pattern(3000), ":13:22", "addresses.pattern: must", pattern(90), label="in a pattern"),
    campaign("C15", with_port(DIGITS), ":8:9", "smtp.port: Unable to parse input string as an integer",
             changed(add=f"variables: {{number: {DIGITS}}}\n")),
    campaign("C15", with_rate(f"{DIGITS}/s"), ":5:7", "is no rate", with_rate("999999999/s"), label="rate"),
    campaign("C16", changed(add="  connections: .inf\n"), ":13:16", "smtp.connections: must be a whole number",
             changed(add="variables: {connections: .inf}\n")),
    campaign("C16", with_rate(".inf"), ":5:7", '".inf" is no rate', with_rate("unlimited"), label="rate"),
    campaign("C17", with_rate("-100/s"), ":5:7", '"-100/s" is no rate; write a number and s, min, h or day',
             with_rate("100/s")),
    campaign("C18", with_rate("[100/s, 0/day]"), ":5:7", '"0/day" is no rate; write a number',
             with_rate("[100/s, 10/day]")),
]  # fmt: skip

RECIPIENT_CASES = [
    Case("R1", people(), Refused("letter.yaml:4:1", "nobody to send to: people.csv: holds nobody"),
         people(f"{KIM},Kim"), (KIM,)),
    Case("R1", {FILE: changed(("[{file: people.csv}]", "[]"))},
         Refused("letter.yaml:4:13", "recipients: "), {}, label="in the campaign file"),
    Case("R2", people("kim,Kim", "lee@,Lee"),
         Refused("letter.yaml:4:1", "nobody to send to: 2 invalid people.csv:2, :3"),
         people(f"{KIM},Kim", f"{LEE},Lee")),
    Case("R3", {"people.csv": PEOPLE.replace("email", "Address")},
         Refused("letter.yaml:4:14", 'no column "email"; people.csv has: Address, name'),
         {"people.csv": PEOPLE.replace("email", "Address"),
          FILE: changed(("{file: people.csv}", "{file: people.csv, columns: {email: Address}}"))}),
    row("R4", PARK, "has 1 cells; the header has 2"),
    row("R5", f"{PARK},Park,Seoul", "has 3 cells; the header has 2", f'{PARK},"Park,Seoul"'),
    Case("R6", people(f"{KIM},Kim", f'{PARK},"Park', f"{LEE},Lee"),
         Refused("people.csv:3", "a quote that opens in this row is never closed"),
         people(f"{KIM},Kim", f'{PARK},"Park"', f"{LEE},Lee"), ALL),
    Case("R7", {"people.csv": (PEOPLE.replace("Lee", "이"), "cp949")},
         Refused("people.csv:3", "byte 0xc0 is not utf-8; a file saved by Korean Excel needs"
                                 " `encoding: cp949`"),
         {"people.csv": (PEOPLE.replace("Lee", "이"), "cp949"),
          FILE: changed(("{file: people.csv}", "{file: people.csv, encoding: cp949}"))}),
    row("R8", f"{PARK},Pa\0rk", "holds a NUL character"),
    row("R8", "pa\0rk@example.com,Park", "holds a NUL character", label="in the address"),
    row("R9", f"{KIM},Kim again", "the same person stands above", state="duplicate"),
    row("R10", "Kim@EXAMPLE.com,Kim again", "the same person stands above", "Kim2@EXAMPLE.com,Kim",
        "Kim2@EXAMPLE.com", "duplicate"),
    Case("R11", {FILE: changed(add="addresses: {pattern: '[a-z]+@example\\.com'}\n"),
                 **people(f"{KIM},Kim", f'"{PARK}\nm",Park', f"{LEE},Lee")},
         LeftOut("people.csv:3", "invalid", "holds a space or a control character"),
         {FILE: changed(add="addresses: {pattern: '[a-z]+@example\\.com'}\n"),
          **people(f"{KIM},Kim", f'"{PARK}\n",Park', f"{LEE},Lee")}, ALL, label="in the middle"),
    Case("R11", {FILE: changed(add="addresses: {pattern: '[a-z]+@example\\.com'}\n"),
                 **people(f"{KIM},Kim", f"{PARK}munity,Park", f"{LEE},Lee")},
         LeftOut("people.csv:3", "invalid", "does not match the pattern"),
         {FILE: changed(add="addresses: {pattern: '[a-z]+@example\\.com'}\n"),
          **people(f"{KIM},Kim", f"{PARK},Park", f"{LEE},Lee")}, ALL, label="fullmatch"),
    row("R12", f"p{LOCAL}@example.com,Park", "longer than RFC 5321 allows", f"{LOCAL}@example.com,Park",
        f"{LOCAL}@example.com"),
    row("R13", f"{LOCAL}@d{DOMAIN},Park", "longer than RFC 5321 allows", f"{LOCAL}@{DOMAIN},Park",
        f"{LOCAL}@{DOMAIN}"),
    row("R14", '"""park""@example.com",Park', "is not one plain address"),
    row("R14", '"""park lee""@example.com",Park', "holds a space or a control character",
        label="with a space"),
    row("R15", "park(of Seoul)@example.com,Park", "holds a space", label="with a space"),
    row("R15", "park(Seoul)@example.com,Park", "is not one plain address",
        "park+Seoul@example.com,Park", "park+Seoul@example.com"),
    row("R16", "park@[192.0.2.1],Park", "is not one plain address"),
    row("R17", f'"{PARK},choi@example.com",Park', "is not one plain address"),
    row("R18", f"Park <{PARK}>,Park", "holds a space or a control character"),
    row("R18", f"<{PARK}>,Park", "is not one plain address", label="without a name"),
    Case("R19", people(f"{KIM},Kim", "park@bücher.example,Park", "park@xn--bcher-kva.example,Park"),
         LeftOut("people.csv:4", "duplicate", "the same person stands above",
                 (KIM, "park@xn--bcher-kva.example")),
         people(f"{KIM},Kim", "park@bücher.example,Park", "choi@xn--bcher-kva.example,Choi"),
         (KIM, "park@xn--bcher-kva.example", "choi@xn--bcher-kva.example")),
    row("R21", "park\u202e@example.com,דוד", "holds U+202E (RIGHT-TO-LEFT OVERRIDE)", f"{PARK},דוד"),
    row("R22", "pa\u200brk@example.com,Park", "holds U+200B (ZERO WIDTH SPACE)"),
    row("R22", "park@exam\u200dple.com,Park", "holds U+200D (ZERO WIDTH JOINER)",
        f"{PARK},👩\u200d🎓", label="in the domain"),
    row("R23", f'{PARK},"Park\rBcc: choi@example.com"', "a line break in 'Park\\rBcc: choi@example.com'"),
    row("R24", f'{PARK},"Park\nBcc: choi@example.com"', "a line break in 'Park\\nBcc: choi@example.com'"),
    Case("R24", {FILE: changed(("{{ name }}", "{{ city }}")),
                 "people.csv": f'email,name,city\n{KIM},Kim,"Seoul\nBusan"\n{LEE},Lee,Seoul\n'},
         LeftOut("people.csv:2", "invalid", 'the field "city", which stands in a header', (LEE,)),
         {"letter.txt": "Dear {{ city }}\n",
          "people.csv": f'email,name,city\n{KIM},Kim,"Seoul\nBusan"\n{LEE},Lee,Seoul\n'},
         label="in the subject"),
    Case("R24", {FILE: changed(add='headers: {X-City: "{{ city }}"}\n'),
                 "people.csv": f'email,name,city\n{KIM},Kim,"Seoul\nBusan"\n{LEE},Lee,Seoul\n'},
         LeftOut("people.csv:2", "invalid", 'the field "city", which stands in a header', (LEE,)),
         {FILE: changed(add='headers: {X-City: "{{ city }}"}\n'),
          "people.csv": f'email,name,city\n{KIM},Kim,"Seoul, Busan"\n{LEE},Lee,Seoul\n'},
         label="in a header of one's own"),
    Case("R24", {FILE: at('{file: a, name: "b\\nc"}'), "a": "a"}, Refused("letter.yaml:13", "a line break"),
         {FILE: at('{file: a, name: "bnc"}'), "a": "a"}, label="in an attachment's name"),
    Case("R27", {FILE: inline(1001)},
         Refused("letter.yaml:4:1", "1001 recipients in the campaign file; put them in a CSV file"),
         {FILE: inline(1000)}, tuple(f"person{i}@example.com" for i in range(1000))),
]  # fmt: skip

LOOPS = "{% for a in range(99999) %}{% for b in range(99999) %}{% endfor %}{% endfor %}"
SEEN = changed(add="variables: {seen: []}\n")


def outside(name: str, text: str = "of another project") -> Callable[[Path], None]:
    """A link to a file that stands outside the project."""

    def make(path: Path) -> None:
        target = path.parent.parent / name
        target.write_text(text)
        path.symlink_to(target)

    return make


def inside(target: str) -> Callable[[Path], None]:
    return lambda path: path.symlink_to(target)


TEMPLATE_CASES = [
    template("T1", "Dear {{ nam }}", "'nam' is undefined; did you mean 'name'? (for ",
             "Dear {{ name }}", "Dear"),
    template("T1", "{% if name == 'Lee' %}{{ nope }}{% endif %}", "'nope' is undefined; there is campaign, email, name, row (for people.csv:3)",
             "{% if name == 'Choi' %}{{ nope }}{% endif %}", label="for the last one only"),
    Case("T1", {FILE: changed(("{{ name }}", "{{ nam }}"))},
         Refused("letter.yaml:2", "'nam' is undefined; did you mean 'name'? (for "), {},
         label="in the subject"),
    Case("T1", {FILE: changed(("{{ name }}", "{{ nam }}"))},
         Refused("letter.yaml:2:10", "'nam' is undefined; did you mean 'name'?"), {},
         label="in the subject, and its column"),
    template("T2", "Dear {{ name", "unexpected end of template", "Dear {{ name }}", "Dear"),
    template("T2", "{% if name %}Dear", "Unexpected end of template", "{% if name %}Dear{% endif %}",
             "Dear", label="of a block"),
    template("T3", "{{ name | uper }}", "No filter named 'uper'; did you mean 'upper'?",
             "{{ name | upper }}"),
    template("T4", LOOPS, "the template goes on and on",
             "{% for a in range(99) %}{% for b in range(99) %}{% endfor %}{% endfor %}"),
    template("T4", "{% macro m(n) %}{{ m(n + 1) }}{% endmacro %}{{ m(1) }}", "deep",
             "{% macro m(n) %}{% if n < 9 %}{{ m(n + 1) }}{% endif %}{% endmacro %}{{ m(1) }}",
             label="of a macro"),
    template("T5", "{{ name * 10**9 }}", "makes a text of more than", "{{ name * 10 }}",
             label="of a variable"),
    template("T6", "{{ lipsum(n=100000) }}", "lipsum makes another text each time", "{{ lipsum }}", "Lorem",
             twin_files={FILE: changed(add="variables: {lipsum: Lorem}\n")}),
    *(
        template("T7", fault, words, "{{ name.upper() }}", label=label)
        for label, fault, words in (
            ("by a class", "{{ ''.__class__.__mro__[1].__subclasses__() }}", "unsafe"),
            ("by a function", "{{ cycler.__init__.__globals__.os.popen('id').read() }}", "unsafe"),
            ("by a filter", "{{ (name | attr('__class__')).__base__ }}", "unsafe"),
            ("by a format", "{{ '{0.__class__}'.format(name) }}", "unsafe"),
        )
    ),
    template("T8", "{{ seen.append(email) }}", "unsafe", "{% set seen = seen + [email] %}{{ seen | length }}", "1",
             files={FILE: SEEN}, twin_files={FILE: SEEN}),
    template("T8", "{{ row.update({'name': 'X'}) }}", "", "{{ row['name'] }}", label="by its row"),
    template("T9", "{% include '/etc/passwd' %}", "no template '/etc/passwd'", "{% include 'etc/passwd' %}",
             "of this project", twin_files={"etc/passwd": "of this project\n"}),
    template("T9", "{{ name }}", "no template", "{{ name }}", label="as the template itself",
             files={FILE: changed(("text: letter.txt", "text: /etc/passwd"))},
             twin_files={FILE: changed(("text: letter.txt", "text: ./letter.txt"))},
             place="letter.yaml:3:18", status=66),
    template("T10", "{% include '../secret.txt' %}", "no template '../secret.txt'", "{% include 'secret.txt' %}",
             "of this project", files={"../secret.txt": "of another project"},
             twin_files={"../secret.txt": "of another project", "secret.txt": "of this project\n"}),
    template("T11", "{% include 'part.txt' %}", "no template 'part.txt'", "{% include 'part.txt' %}",
             "of this project", files={"part.txt": outside("part.txt")},
             twin_files={"whole.txt": "of this project\n", "part.txt": inside("whole.txt")}),
    template("T11", "{% include 'part.txt' %}", "part.txt", "{% include 'part.txt' %}", "of this project",
             files={"part.txt": inside("part.txt")}, twin_files={"part.txt": "of this project\n"},
             label="to itself"),
    template("T12", "{{ '\\ud83d' }}", "half of a character (U+D83D)", "{{ '\\ud83d' | length }}", "1",
             place="letter.txt"),
]  # fmt: skip


def unreadable(path: Path) -> None:
    path.write_text("secret")
    path.chmod(0)


Change = tuple[str, str]
NAMED: tuple[tuple[str, tuple[Change, ...], str, str, str, str], ...] = (
    ("recipients", (("people.csv", "more.csv"),), "", "more.csv", ":4:", PEOPLE),
    ("template", (("letter.txt", "more.txt"),), "", "more.txt", ":3:", "Dear {{ name }}\n"),
    ("attachment", (), "attachments: [plan.pdf]\n", "plan.pdf", ":13:15", "plan"),
    ("image", (("text: ", "html: "),), "images: {logo: a.png}\n", "a.png", ":13:16", "logo"),
    ("exclude", (), "exclude: [left.csv]\n", "left.csv", ":13:11", "email\na@example.com\n"),
    ("ca_file", (("%CA%", "ca.pem"),), "", "ca.pem", ":12:12", ""),
)
"""What a campaign names: the changes and lines that do it, the file, its place, a good content."""


def named(number: str, make: Callable[[Path], None] | None, words: str = "") -> Iterator[Case]:
    """The same fault of everything that a campaign names."""
    for label, pairs, add, path, place, content in NAMED:
        named_so: Files = {FILE: changed(*pairs, add=add)}
        yield Case(
            number,
            {**named_so, path: make} if make else named_so,
            Refused(FILE + place, words or path, 66),
            {**named_so, path: content} if content else {},
            label=label,
            needs_rights=make is unreadable,
        )


FILE_CASES = [
    *named("F1", None),
    Case("F1", {FILE: changed(("letter.txt", "l" * 999))}, Refused("letter.yaml:3:18", "", 66),
         {FILE: changed(("letter.txt", "l" * 99)), "l" * 99: "Dear {{ name }}"},
         label="since its name is too long"),
    Case("F1", {FILE: changed(("people.csv", f"{'p' * 999}.csv"))}, Refused("letter.yaml:4:", "", 66),
         {FILE: changed(("people.csv", f"{'p' * 99}.csv")), f"{'p' * 99}.csv": PEOPLE},
         label="since the name of its recipients is too long"),
    *named("F2", unreadable, "Permission denied"),
    *named("F3", Path.mkdir, "is a folder"),
    Case("F3", {FILE: changed(("letter.txt", "more.txt")), "more.txt": Path.mkdir},
         Refused("letter.yaml:3:18", "more.txt is a folder", 66),
         {FILE: changed(("letter.txt", "more.txt")), "more.txt": "Dear {{ name }}"},
         label="template, and where it is named"),
    *named("F4", os.mkfifo, "is not a"),
    Case("F5", {FILE: at("/dev/zero")}, Refused("letter.yaml:13:15", "is not a plain file", 66),
         {FILE: at("zero"), "zero": "0"}),
    Case("F5", {"people.csv": inside("/dev/null")}, Refused("letter.yaml:4:21", "leads out of", 66),
         {"people.csv": inside("more.csv"), "more.csv": PEOPLE}, label="recipients"),
    Case("F5", {FILE: inside("/dev/null")}, Refused("letter.yaml", "is not a plain file", 66),
         {FILE: inside("other.yaml"), "other.yaml": CAMPAIGN}, label="the campaign"),
    Case("F6", {FILE: at("plan.pdf"), "plan.pdf": outside("plan.pdf")},
         Refused("letter.yaml:13:15", "plan.pdf is a link that leads out of", 66),
         {FILE: at("plan.pdf"), "plan.pdf": inside("other.pdf"), "other.pdf": "plan"}),
    Case("F6", {FILE: at("files/plan.pdf"), "files": lambda path: path.symlink_to("/etc")},
         Refused("letter.yaml:13:15", "is a link that leads out of", 66),
         {FILE: at("files/plan.pdf"), "papers/plan.pdf": "plan", "files": inside("papers")},
         label="by a folder"),
    Case("F6", {FILE: at('{file: "{{ name }}.pdf"}'), "Kim.pdf": "Kim's", "Lee.pdf": outside("Lee.pdf")},
         Refused("letter.yaml:13:15", "leads out of", 65),
         {FILE: at('{file: "{{ name }}.pdf"}'), "Kim.pdf": "Kim's", "Lee.pdf": inside("Kim.pdf")},
         label="of one person"),
    Case("F6", {FILE: changed(("people.csv", "more.csv")), "more.csv": outside("more.csv", PEOPLE)},
         Refused("letter.yaml:4:21", "leads out of", 66),
         {FILE: changed(("people.csv", "more.csv")), "more.csv": inside("people.csv")},
         label="recipients"),
]  # fmt: skip
CASES = CAMPAIGN_CASES + RECIPIENT_CASES + TEMPLATE_CASES + FILE_CASES


# -- a project and its server ---------------------------------------------------------------------

Listen = Callable[..., RecordingServer]


@pytest.fixture(scope="module")
def elsewhere() -> Iterator[asyncio.AbstractEventLoop]:
    """A loop in a thread of its own, for servers: commands handle signals, in the main thread."""
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever)
    thread.start()
    yield loop
    loop.call_soon_threadsafe(loop.stop)
    thread.join()
    loop.close()


@pytest.fixture
def listen(
    elsewhere: asyncio.AbstractEventLoop, certificate: tuple[ssl.SSLContext, Path]
) -> Iterator[Listen]:
    """Starts servers over TLS that keep what they get; they stop with the test."""
    context, ca_file = certificate
    running: list[Server] = []

    def start(keep: Callable[[Received], None] = lambda received: None, **told: object):  # type: ignore[no-untyped-def]
        behaviour = Behaviour(login=("sender", "secret"), **told)  # type: ignore[arg-type]

        def kept(received: Received, session: int) -> None:
            recorder.keep(received, session)
            keep(received)

        server = Server(behaviour, context, kept)
        port = asyncio.run_coroutine_threadsafe(server.start(), elsewhere).result(10)
        running.append(server)
        submission = Submission(HOST, port, Security.TLS, "sender", "secret", str(ca_file))
        recorder = RecordingServer(server, submission)
        return recorder

    yield start
    for server in running:
        asyncio.run_coroutine_threadsafe(server.stop(), elsewhere).result(10)


def lay_out(folder: Path, files: Files, submission: Submission) -> Path:
    """A folder with PROJECT and `files`, to be sent through `submission`."""
    folder.mkdir(exist_ok=True)
    for name, content in {**PROJECT, **files}.items():
        path = folder / name
        path.parent.mkdir(exist_ok=True)
        if callable(content):
            path.unlink(missing_ok=True)
            content(path)
        else:
            text, encoding = (content, "utf-8") if isinstance(content, str) else content
            if path.suffix == ".yaml":
                text = text.replace("%PORT%", str(submission.port))
                text = text.replace("%CA%", str(submission.ca_file))
            path.write_bytes(text.encode(encoding))
    return folder


def bulkmail(folder: Path, *arguments: str) -> Result:
    """Runs the command in this process, as the console script does."""
    with contextlib.chdir(folder):
        told = CliRunner().invoke(
            commands, arguments, prog_name="bulkmail", env={"TEST_PASSWORD": "secret"}
        )
    result = Result(told.exit_code, told.stdout, told.stderr)
    assert "Traceback" not in result.err, result.err
    return result


_BESIDE = re.compile(r"\.sqlite(\.lock.*|-shm)$")


def contents(folder: Path) -> dict[str, bytes]:
    """Of all plain files, but for what SQLite keeps beside a ledger while it is read or locked."""
    found = {
        str(path.relative_to(folder)): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file() and os.access(path, os.R_OK) and not _BESIDE.search(path.name)
    }
    return {name: data for name, data in found.items() if data or not name.endswith("-wal")}


@pytest.fixture(scope="module")
def history(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """A ledger with something in it that can be lost."""
    ledger = tmp_path_factory.mktemp("history") / "bulkmail.sqlite"
    result = bulkmail(ledger.parent, "suppress", "add", "gone@example.com", "--ledger", ledger.name)
    assert result.status == 0, result.err
    return ledger.read_bytes()


def ways(command: str) -> tuple[str, ...]:
    return (command, FILE, "--yes") if command == "run" else (command, FILE)


def table(case: Case, command: str, wanted: object, result: Result) -> str:
    """What a test that fails has to tell."""
    rows = (
        ("number", case.number),
        ("fault", ITEMS[case.number]),
        ("case", case.label or "-"),
        ("command", command),
        ("wanted", wanted),
        ("status", result.status),
        ("stderr", result.err[-2000:]),
        ("stdout", result.out[-2000:]),
    )
    return "\n" + "\n".join(f"{name:<8} | {value}" for name, value in rows)


# -- the tests ------------------------------------------------------------------------------------

PROVED: list[str] = []
"""Items that have a test of their own."""


def proves(number: str) -> pytest.MarkDecorator:
    """Marks the test of an item: it runs once for the fault and once for its near twin."""
    PROVED.append(number)
    fault = pytest.param(False, id=f"{number} {ITEMS[number]}")
    return pytest.mark.parametrize("twin", [fault, pytest.param(True, id=f"{number} twin")])


def reads_everything() -> bool:
    """Whether no file can be kept from this process."""
    with tempfile.TemporaryDirectory() as folder_name:
        path = Path(folder_name) / "secret"
        unreadable(path)
        return os.access(path, os.R_OK)


def of_kind(kind: type) -> list[object]:
    """The cases of what is left out, or of what is refused."""
    rootless = pytest.mark.skipif(reads_everything(), reason="root may read everything")
    return [
        pytest.param(
            case,
            id=str(case),
            marks=[rootless] if case.needs_rights else [],
        )
        for case in CASES
        if isinstance(case.expected, kind)
    ]


def test_every_item_has_a_case_and_every_case_a_twin() -> None:
    """Nothing of the four lists can be forgotten, and no number stands for two things."""
    sections = {"C": 18, "R": 27, "T": 14, "F": 9}
    assert list(ITEMS) == [
        f"{s}{index + 1}" for s, count in sections.items() for index in range(count)
    ]
    assert len(set(ITEMS.values())) == len(ITEMS)
    assert {case.number for case in CASES} | set(PROVED) == set(ITEMS)
    names = [str(case) for case in CASES]
    assert sorted(set(names)) == sorted(names), "two cases cannot be told apart"
    assert [
        str(case) for case in CASES if {**PROJECT, **case.twin} == {**PROJECT, **case.fault}
    ] == []


@pytest.mark.parametrize("case", of_kind(Refused))
def test_what_is_wrong_is_told_and_nothing_is_sent(
    case: Case, listen: Listen, history: bytes, tmp_path: Path
) -> None:
    """It says where and what; nothing is connected, no file is touched, the ledger least of all."""
    expected = case.expected
    assert isinstance(expected, Refused)
    server = listen()
    project = lay_out(tmp_path / "project", case.fault, server.submission)
    (project / "bulkmail.sqlite").write_bytes(history)
    before = contents(project)
    for command in ("check", "run"):
        result = bulkmail(project, *ways(command))
        told = table(case, command, expected, result)
        assert result.status == expected.status, told
        assert expected.fits(result.err), told
        assert len(result.err) < 2000, f"too long to be read:{told}"
        assert server.server.accepted == 0, told
        assert contents(project) == before, told


@pytest.mark.parametrize("case", of_kind(LeftOut))
def test_a_row_is_left_out_and_the_others_get_theirs(
    case: Case, listen: Listen, tmp_path: Path
) -> None:
    """The row is listed with its place and reason, by `check`, `run` and `report`."""
    expected = case.expected
    assert isinstance(expected, LeftOut)
    server = listen()
    project = lay_out(tmp_path / "project", case.fault, server.submission)
    result = bulkmail(project, *ways("check"))
    told = table(case, "check", expected, result)
    assert result.status == 0, told
    [line] = [line for line in result.out.splitlines() if line.startswith(f"  {expected.place} ")]
    assert line.split()[1] == expected.state and expected.why in line, told
    assert server.server.accepted == 0, told
    result = bulkmail(project, *ways("run"))
    assert result.status == 0, table(case, "run", expected, result)
    assert sorted(server.paths) == sorted(expected.reaches), table(case, "run", expected, result)
    report = bulkmail(project, "report", FILE, "--state", expected.state, "--format", "json")
    [row] = map(json.loads, report.out.splitlines())
    assert row["source"] == expected.place and expected.why in row["reason"]


@pytest.mark.parametrize("case", [pytest.param(case, id=str(case)) for case in CASES])
def test_its_near_twin_reaches_everybody(case: Case, listen: Listen, tmp_path: Path) -> None:
    """What is refused is the fault, and nothing beside it."""
    server = listen()
    project = lay_out(tmp_path / "project", case.twin, server.submission)
    number = len(case.twin_reaches)
    result = bulkmail(project, *ways("check"))
    assert result.status == 0, table(case, "check", "no fault", result)
    everybody = f"{number:,} would get it · every message was composed"
    assert everybody in result.out, table(case, "check", everybody, result)
    result = bulkmail(project, *ways("run"))
    assert result.status == 0, table(case, "run", "no fault", result)
    assert sorted(server.paths) == sorted(case.twin_reaches), table(case, "run", "all", result)
    for message in server.received:
        assert case.shows.encode() in message.content, table(case, "run", case.shows, result)


REPRESENTATIVES = (
    "C2 unknown keys", "R3 missing column", "T1 undefined variable", "F1 missing attachment"
)  # fmt: skip


@pytest.mark.parametrize("case", [c for c in CASES if str(c) in REPRESENTATIVES], ids=str)
async def test_the_same_in_a_process_of_its_own(
    case: Case, serve: StartServer, project: Project, history: bytes
) -> None:
    """One of each list, as it is typed: `python -m bulkmail run`."""
    expected = case.expected
    assert isinstance(expected, Refused)
    server = await serve()
    lay_out(project.folder, case.fault, server.submission)
    (project.folder / "bulkmail.sqlite").write_bytes(history)
    before = contents(project.folder)
    result = await project.bulkmail(*ways("run"))
    assert result.status == expected.status, table(case, "run", expected, result)
    assert expected.words in result.err and expected.place in result.err
    assert server.server.accepted == 0
    assert contents(project.folder) == before
    (project.folder / "bulkmail.sqlite").unlink()
    lay_out(project.folder, {**PROJECT, **case.twin}, server.submission)
    assert (await project.bulkmail(*ways("run"))).status == 0
    assert sorted(server.paths) == sorted(case.twin_reaches)


# -- recipients that go, unharmed or harmless --------------------------------------------------------


@proves("R11")
def test_a_newline_behind_an_address_is_trimmed_and_counted(
    twin: bool, listen: Listen, tmp_path: Path
) -> None:
    """It never reaches the envelope; without it there is nothing to tell."""
    server = listen()
    cell = PARK if twin else f"{PARK}\n"
    project = lay_out(tmp_path / "project", people(f'"{cell}",Park'), server.submission)
    result = bulkmail(project, *ways("check"))
    assert ("people.csv: 1 cell had spaces around it" in result.err) is not twin, result.err
    assert bulkmail(project, *ways("run")).status == 0
    assert server.paths == [PARK]


@proves("R20")
def test_a_local_part_outside_ascii_needs_smtputf8(
    twin: bool, listen: Listen, tmp_path: Path
) -> None:
    """A server without it gets the others' mail, and never a mended address; one with it gets all."""
    server = listen(extensions=("PIPELINING", "8BITMIME", *(["SMTPUTF8"] if twin else [])))
    rows = people(f"{KIM},Kim", "박@example.com,Park", f"{LEE},Lee")
    project = lay_out(tmp_path / "project", rows, server.submission)
    assert bulkmail(project, *ways("check")).status == 0
    result = bulkmail(project, *ways("run"))
    assert result.status == (0 if twin else 1), result.out
    reached = {KIM, LEE, "박@example.com"} if twin else {KIM, LEE}
    assert set(server.paths) == reached and len(server.paths) == len(reached)
    for message in server.received:
        assert ("SMTPUTF8" in message.parameters) is (not message.forward_paths[0].isascii())
    report = bulkmail(project, "report", FILE, "--state", "failed", "--format", "json")
    failed = [json.loads(line) for line in report.out.splitlines()]
    assert [row["email"] for row in failed] == ([] if twin else ["박@example.com"])
    assert all("SMTPUTF8" in row["reason"] for row in failed)


@proves("R25")
def test_no_cell_of_a_report_is_a_formula(twin: bool, listen: Listen, tmp_path: Path) -> None:
    """Text that a spreadsheet would run is made text; other text is left as it is."""
    server = listen()
    first = "" if twin else "="
    rows = people(f"{first}park@example.com,Park", f"{KIM},Kim", f"{first}kim@@example.com,Kim")
    project = lay_out(tmp_path / "project", rows, server.submission)
    assert bulkmail(project, *ways("run")).status == 0
    assert sorted(server.paths) == sorted([f"{first}park@example.com", KIM])
    report = bulkmail(project, "report", FILE, "--format", "csv")
    _, *rows_ = csv.reader(io.StringIO(report.out))
    mark = "" if twin else "'="
    assert sorted(row[0] for row in rows_) == sorted(
        [f"{mark}park@example.com", KIM, f"{mark}kim@@example.com"]
    )
    assert not any(cell.startswith(("=", "+", "-", "@")) for row in rows_ for cell in row)


PEAK = """\
import resource, sys
from pathlib import Path
from bulkmail.__main__ import main
try:
    main()
finally:
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    status = Path("/proc/self/status")
    if status.exists():  # what getrusage says on Linux includes the process that started this one
        peak = status.read_text().partition("VmHWM:")[2].split()[0]
    print(peak, file=sys.stderr)
"""


def checked(project: Path, program: str) -> Result:
    """What `bulkmail check` says in a process of its own, which runs `program`."""
    told = subprocess.run(
        [sys.executable, "-c", program, "check", FILE],
        cwd=project, capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    return Result(told.returncode, told.stdout, told.stderr)


@proves("R26")
def test_memory_does_not_grow_with_the_rows(twin: bool, tmp_path: Path) -> None:
    """Rows are streamed, and duplicates found, last against first, by the ledger's index.

    Five times the rows, in a process that tells how much it held at most: already the addresses
    of 80,000 people, held, would show.
    """
    submission = Submission(HOST, 9, Security.TLS, ca_file="ca.pem")
    peaks = []
    for number in (5_000, 30_000) if twin else (20_000, 100_000):
        last = f"person{number}@example.com" if twin else "PERSON0@example.com"
        rows = (f"person{index}@example.com,{'P' * 80}{index}" for index in range(number))
        files = people(*rows, f"{last},Last")
        files = {**files, FILE: changed(add="addresses: {duplicates: error}\n"), "ca.pem": ""}
        result = checked(lay_out(tmp_path / str(number), files, submission), PEAK)
        *told, peak = result.err.splitlines()
        if twin:
            assert result.status == 0 and f"{number + 1:,} would get it" in result.out
        else:
            assert result.status == 65
            assert told == [f"people.csv:{number + 2}: the same person stands above"]
        peaks.append(int(peak))
    assert peaks[1] < peaks[0] * 1.06, peaks


# -- templates and what is put into them -----------------------------------------------------------


@proves("T5")
def test_a_template_takes_no_memory_before_it_is_rendered(twin: bool, tmp_path: Path) -> None:
    """A constant is not worked out by whoever only reads the template. (40 MB would show as well
    as 1 GB does, and hurt less.)
    """
    submission = Submission(HOST, 9, Security.TLS, ca_file="ca.pem")
    peaks = []
    for number in ("10", "10" if twin else "(4 * 10**7)"):
        files = {"letter.txt": f"{{{{ 'a' * {number} }}}}\n", "ca.pem": ""}
        result = checked(lay_out(tmp_path / "project", files, submission), PEAK)
        *_, told, peak = ["", *result.err.splitlines()]
        peaks.append(int(peak))
    if twin:
        assert result.status == 0, told
    else:
        assert result.status == 65 and told.startswith("letter.txt:1: makes a text of more than")
    assert peaks[1] < peaks[0] * 1.3, peaks


@proves("T8")
def test_no_message_is_changed_by_the_one_before(
    twin: bool, listen: Listen, tmp_path: Path
) -> None:
    """What a template sets is gone with the message, in whatever order and by whatever name."""
    server = listen()
    letter = "{% set ns = namespace(n=0) %}{% set ns.n = ns.n + 1 %}{{ ns.n }} {{ name }}\n"
    if not twin:
        letter += "{% set name = 'changed' %}{% set email = 'changed' %}"
    project = lay_out(tmp_path / "project", {"letter.txt": letter}, server.submission)
    result = bulkmail(project, *ways("run"))
    assert result.status == 0, result.err
    bodies = {m.forward_paths[0]: m.content.partition(b"\r\n\r\n")[2] for m in server.received}
    assert bodies == {KIM: b"1 Kim\r\n", LEE: b"1 Lee\r\n"}


@proves("T13")
def test_what_a_recipient_is_called_is_never_a_template(
    twin: bool, listen: Listen, tmp_path: Path
) -> None:
    """The same text is compiled where the author wrote it, and stays text in a row."""
    server = listen()
    code = "{{ 6 * 7 }}"
    letter = f"Dear {code}\n" if twin else "Dear {{ name }}\n"
    subject = changed(("For {{ name }}", f"For {code}")) if twin else CAMPAIGN
    name = "Kim" if twin else code
    files = {FILE: subject, "letter.txt": letter, **people(f"{KIM},{name}")}
    project = lay_out(tmp_path / "project", files, server.submission)
    assert bulkmail(project, *ways("run")).status == 0
    [message] = server.received
    shown = "42" if twin else code
    assert f"Subject: For {shown}\r\n".encode() in message.content
    assert f"Dear {shown}\r\n".encode() in message.content


@proves("T14")
def test_what_a_recipient_is_called_is_no_markup(
    twin: bool, listen: Listen, tmp_path: Path
) -> None:
    """It is escaped in HTML, and only there; the author's own markup stays."""
    server = listen()
    markup = "<b>Kim</b>"
    letter = f"<p>Dear {markup}</p>\n" if twin else "<p>Dear {{ name }}</p>\n"
    files = {
        FILE: changed(("{text: letter.txt}", "{text: letter.txt, html: letter.html}")),
        "letter.html": letter,
        **people(f"{KIM},{markup}"),
    }
    project = lay_out(tmp_path / "project", files, server.submission)
    assert bulkmail(project, *ways("run")).status == 0
    [message] = server.received
    plain, html = message.content.split(b"Content-Type: text/")[1:]
    assert b"Dear <b>Kim</b>," in plain
    escaped = "&lt;b&gt;Kim&lt;/b&gt;"
    assert f"<p>Dear {markup if twin else escaped}</p>".encode() in html


# -- files, and what changes meanwhile ---------------------------------------------------------------


@pytest.mark.timeout(20)
@proves("F4")
def test_a_campaign_file_that_is_a_fifo_is_not_opened(
    twin: bool, listen: Listen, tmp_path: Path
) -> None:
    """Opening it would wait for ever, for somebody to write to it."""
    project = lay_out(tmp_path / "project", {}, listen().submission)
    if twin:
        assert bulkmail(project, *ways("check")).status == 0
        return
    (project / FILE).unlink()
    os.mkfifo(project / FILE)
    result = bulkmail(project, *ways("check"))
    assert result.status == 66 and "is not a plain file" in result.err


@proves("F7")
def test_what_is_too_large_in_base64_stops_the_run(
    twin: bool, listen: Listen, tmp_path: Path
) -> None:
    """The server's SIZE counts what is sent: 4,000 bytes are 5,480. Nobody is blamed for it."""
    server = listen(extensions=("PIPELINING", "SIZE 5000"))
    files = {FILE: at("plan.bin"), "plan.bin": "x" * (2000 if twin else 4000)}
    project = lay_out(tmp_path / "project", files, server.submission)
    assert bulkmail(project, *ways("check")).status == 0
    result = bulkmail(project, *ways("run"), "--json")
    states = json.loads(result.out.splitlines()[-1])["states"]
    if twin:
        assert (result.status, states) == (0, {"accepted": 2})
        return
    assert (result.status, states) == (69, {"pending": 2})
    assert "the server takes 5,000 bytes at most (SIZE)" in result.out
    assert server.paths == []


@proves("F8")
def test_what_changes_in_mid_run_is_sent_as_it_was(
    twin: bool, listen: Listen, tmp_path: Path
) -> None:
    """Template, attachment and recipients are read once; the twin's files stay as they are."""
    project = tmp_path / "project"

    def rewrite(received: Received) -> None:
        if not twin:
            for name in ("letter.txt", "plan.txt", "people.csv"):
                (project / name).write_text("email,name\nchoi@example.com,{{ name.x }}\n")

    server = listen(rewrite)
    files = {FILE: at("plan.txt"), "plan.txt": "the plan of July\n"}
    lay_out(project, files, server.submission)
    result = bulkmail(project, *ways("run"))
    assert result.status == 0, result.err
    assert sorted(server.paths) == [KIM, LEE]
    for message in server.received:
        assert b"Dear " in message.content and b"dGhlIHBsYW4gb2YgSnVseQo=" in message.content


@proves("F8")
def test_ones_own_file_that_changes_in_mid_run_stops_it(
    twin: bool, listen: Listen, tmp_path: Path
) -> None:
    """Its hash stands in the ledger since it was checked; who would have got it is still pending."""
    project = tmp_path / "project"

    def rewrite(received: Received) -> None:
        if not twin:
            (project / "Lee.txt").write_text("another bill")

    server = listen(rewrite)
    files = {FILE: at('{file: "{{ name }}.txt"}'), "Kim.txt": "Kim's bill", "Lee.txt": "Lee's bill"}
    lay_out(project, files, server.submission)
    result = bulkmail(project, *ways("run"))
    if twin:
        assert result.status == 0 and sorted(server.paths) == [KIM, LEE]
        return
    assert result.status == 65 and server.paths == [KIM]
    assert "Lee.txt changed since it was checked; run again (for people.csv:3)" in result.err
    status = bulkmail(project, "status", FILE, "--json")
    assert json.loads(status.out)["states"] == {"accepted": 1, "pending": 1}


@proves("F9")
@pytest.mark.parametrize("name", [FILE, "letter.txt", "plan.txt"])
def test_a_campaign_that_was_edited_between_two_runs_asks(
    twin: bool, name: str, listen: Listen, tmp_path: Path
) -> None:
    """Who is left would get another content than who has it; its rate may change without a word."""
    server = listen()
    files = {FILE: at("plan.txt"), "plan.txt": "the plan of July", "letter.txt": "Dear {{ name }}"}
    project = lay_out(tmp_path / "project", files, server.submission)
    assert bulkmail(project, *ways("run"), "--limit", "1").status == 75
    before, connections = contents(project)["bulkmail.sqlite"], server.server.accepted
    path = project / name
    if twin:
        campaign_file = project / FILE
        campaign_file.write_text(campaign_file.read_text().replace("unlimited", "100/s"))
        path.write_text(path.read_text())
    else:
        path.write_text(path.read_text().replace("For ", "To ") + "# more\n")
    result = bulkmail(project, *ways("run"))
    if twin:
        assert result.status == 0 and sorted(server.paths) == [KIM, LEE]
        return
    assert result.status == 65, result.err
    assert "The content changed since 1 person got theirs" in result.err
    assert "There is no terminal to answer at; pass --accept-changes" in result.err
    assert server.server.accepted == connections and len(server.paths) == 1
    assert contents(project)["bulkmail.sqlite"] == before
    gc.collect()  # the ledger of the run that was refused, whose process did not end
    assert bulkmail(project, *ways("run"), "--accept-changes").status == 0
    assert sorted(server.paths) == [KIM, LEE]
