"""YAML's traps: text that YAML reads as something else, told in words, with the line mended.

They have one remedy, quotes around the value. Where the file is not YAML, quotes are tried on the
lines at fault, and shown only if YAML gets past the error with them. Offsets are indices into the
text of the file. Knows no key of a campaign, but for those that hold free text, where YAML's
comments and anchors are taken for a slip.
"""

import re
from bisect import bisect_right
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import islice
from typing import cast

import yaml

MAX_SHOWN_LINE = 500
MAX_TRIED = 200_000  # characters parsed in search of a mend, about a second

Path = tuple[str | int, ...]


# -- text ------------------------------------------------------------------------------------------

_BREAK = re.compile(r"\r\n|[\r\n\x85\u2028\u2029]")
"""What ends a line for YAML 1.1 (4.2)."""

_CUT = re.compile(r"[ \t]+#(?=[^\s#])")
_NOTE = re.compile(r"[ \t]+#(?:[\s#]|$)")
"""A comment whose # stands alone is one; `#1` after a space may have been meant as text."""


@dataclass(frozen=True, slots=True)
class Source:
    """The text of a file, and where its lines begin."""

    text: str
    starts: tuple[int, ...]

    @classmethod
    def of(cls, text: str) -> "Source":
        return cls(text, (0, *(match.end() for match in _BREAK.finditer(text))))

    def position(self, offset: int) -> tuple[int, int]:
        """Line and column, both from 1."""
        number = bisect_right(self.starts, offset)
        return number, offset - self.starts[number - 1] + 1

    def line(self, offset: int) -> tuple[int, int]:
        """Start and end of the line that holds `offset`, without its line break."""
        number = bisect_right(self.starts, offset)
        end = self.starts[number] if number < len(self.starts) else len(self.text)
        start = self.starts[number - 1]
        while end > start and _BREAK.match(self.text[end - 1]):
            end -= 1
        return start, end

    def text_end(self, end: int) -> int:
        """Where a value that YAML ends at `end` ends for people: a comment may have cut it."""
        rest = self.text[end : self.line(end)[1]]
        if len(rest) > MAX_SHOWN_LINE or not _CUT.match(rest):
            return end
        return end + len(_without_note(rest))

    def with_quotes(self, start: int, end: int) -> str | None:
        """The line with `text[start:end]` in quotes; None if that is not on one short line."""
        first, last = self.line(start)
        if end > last or last - first > MAX_SHOWN_LINE:
            return None
        return self.text[first:start] + _quoted(self.text[start:end]) + self.text[end:last]


def _without_note(line: str) -> str:
    return _NOTE.split(line, maxsplit=1)[0].rstrip()


def _quoted(value: str) -> str:
    """`value` as a quoted scalar that reads as exactly that."""
    if '"' in value or "\\" in value:
        return "'" + value.replace("'", "''") + "'"
    return f'"{value}"'


@dataclass(frozen=True, slots=True)
class Trap:
    """One trap, at an offset: what it is, and the line as it should be, where that is known."""

    start: int
    words: str
    line: str | None = None
    meant: str | None = None  # the value as its author saw it, where YAML has another

    def __str__(self) -> str:
        return self.words if self.line is None else f"{self.words}; write\n    {self.line}"


def _whole(source: Source, start: int, end: int, words: str) -> Trap:
    """The trap that is mended by quotes around `text[start:end]`."""
    return Trap(start, words, source.with_quotes(start, end), source.text[start:end])


# -- what in a value needs quotes ------------------------------------------------------------------

_FIRST = re.compile(r"\{[{%#]|[{}\[\]*&!|>%@`,#]|[-?](?= )")
_GOES_ON = re.compile(r"([\"'])[^\"']*\1 ")
_WITHIN = re.compile(r": |:$|\{\{|\s#")


def _why(value: str) -> str | None:
    """What in a value YAML stumbles over, if anything does."""
    if value.startswith(('"', "'")):
        after = "text goes on after its closing quote; the whole value needs quotes"
        return after if _GOES_ON.match(value) else None
    if sign := _FIRST.match(value):
        return f'a value that begins with "{sign.group()}" needs quotes'
    if (sign := _WITHIN.search(value)) is None:
        return None
    if sign.group().endswith("#"):
        return 'a "#" after a space begins a comment; a value that holds one needs quotes'
    return f'a value that holds "{sign.group()}" needs quotes'


# -- traps in good YAML ----------------------------------------------------------------------------

_NOT_PROSE = {"file", "columns", "encoding", "campaign", "states", "email"}


def is_free_text(path: Path) -> bool:
    """Whether people write prose at `path`."""
    match path:
        case ("recipients", int(), key):
            return key not in _NOT_PROSE
        case ("variables" | "headers" | "list", _, *_) | ("attachments", int(), "name"):
            return True
    return path in (("subject",), ("from",), ("reply_to",))


def text_trap(source: Source, node: yaml.Node, path: Path) -> Trap | None:
    """A value of which YAML read less than stands there, or something else.

    A tag, an anchor or a comment ate a part of it, or it is `{{ name }}`, for YAML a mapping.
    """
    start, end = node.start_mark.index, node.end_mark.index
    if "@" not in node.value:  # what follows an address is a note after all
        end = source.text_end(end)
    meant = source.text[start:end].lstrip()
    if isinstance(node, yaml.ScalarNode):
        prose = node.style is None and is_free_text(path)
        trapped = prose and meant.split() != node.value.split()
    else:
        trapped = meant.startswith("{{")
    words = _why(meant) if trapped else None
    return _whole(source, end - len(meant), end, words) if words else None


def comma_trap(
    source: Source, before: yaml.Node | None, key: yaml.Node, value: yaml.Node
) -> Trap | None:
    """A key without colon and value, as `Jr.` in `{name: Kim, Jr.}`: the end of what is before."""
    start, end = key.start_mark.index, key.end_mark.index
    if not key.value or value.value != "" or source.text[end : value.end_mark.index]:
        return None
    first, last = source.line(start)
    if isinstance(before, yaml.ScalarNode) and before.value and before.style is None:
        begin = before.start_mark.index
        if ":" not in key.value and begin >= first and last - first <= MAX_SHOWN_LINE:
            words = "a comma inside {…} ends a value; one that holds a comma needs quotes"
            return _whole(source, begin, _end_in_braces(source.text, begin, last), words)
    return Trap(start, "this key has no value; a colon and a space stand between the two")


# -- syntax errors ---------------------------------------------------------------------------------

_KEY = r"[^\s\"'{}\[\],:#&*!|>%@`<-][^:{}\[\],]*"
_VALUE = re.compile(rf"(?:^ *(?:- +)*|[{{,] *)({_KEY}): +|^ *(?:- +)+")
_IN_BRACES = re.compile(rf"(?:\{{\{{.*?\}}\}}|\[[^\]]*\]|.)*?(?= *(?:, *{_KEY}: |[\]}}]|,?$))")
"""What stands before a value, and a value inside of braces."""


def _end_in_braces(text: str, start: int, end: int) -> int:
    match = _IN_BRACES.match(text, start, end)
    return match.end() if match else end


_STUCK = re.compile(r"( *(?:- +)*)([A-Za-z_]\w*):([^\s/].*)")
_TEXT_KEYS = {"subject", "from", "reply_to", "name"}
_STRUCTURE = re.compile(r"\[(?![^\[\]]*\] *[^\s,\]}])|\{(?![{%#])|- ")
"""No text: quotes around a list would mend the YAML, but not the campaign."""


def syntax_trap(source: Source, error: yaml.MarkedYAMLError, read: Callable[[str], object]) -> Trap:
    """What is behind a syntax error. `read` raises such an error, or takes the text."""
    cut = source.line(_mark(error).index)[1] + 1
    drafts = (draft for line in _suspects(source, error) for draft in _drafts(source, *line))
    for draft in islice(drafts, MAX_TRIED // cut):
        start, end = source.line(draft.start)
        try:
            read(source.text[:start] + (draft.line or "") + source.text[end:cut])
        except yaml.MarkedYAMLError as left:
            if _mark(left).line <= _mark(error).line:
                continue
        return draft
    return _told(error)


def _mark(error: yaml.MarkedYAMLError) -> yaml.Mark:
    return cast(yaml.Mark, error.problem_mark)  # every error in a text has it


def _suspects(source: Source, error: yaml.MarkedYAMLError) -> list[tuple[int, int]]:
    """Lines that may hold the mistake: of the error, above it, and of what it is the end of."""
    here = source.line(_mark(error).index)
    above = source.line(max(0, len(source.text[: here[0]].rstrip()) - 1))
    lines = [here, above]
    if error.context_mark and "block" not in (error.context or ""):
        lines.append(source.line(error.context_mark.index))
    return [(start, end) for start, end in dict.fromkeys(lines) if end - start <= MAX_SHOWN_LINE]


def _drafts(source: Source, first: int, last: int) -> Iterator[Trap]:
    """The line with a space after its first colon; with quotes around one of its values."""
    line = source.text[first:last]
    if match := _STUCK.fullmatch(line):
        indent, key, value = match.groups()
        words = "a colon needs a space after it"
        if key in _TEXT_KEYS and _why(value):
            value = _quoted(_without_note(value))
        yield Trap(first + len(indent), words, f"{indent}{key}: {value}")
    end = len(_without_note(line))
    for before in _VALUE.finditer(line):
        start = before.end()
        inside = _end_in_braces(line, start, end)
        for stop in sorted({inside, inside if before.start() else end}):
            value = line[start:stop]
            text = before[1] in _TEXT_KEYS or not _STRUCTURE.match(value)
            if text and (why := _why(value)):
                yield Trap(first + start, why, line[:start] + _quoted(value) + line[stop:])


# -- words for what was not mended -----------------------------------------------------------------

_WORDS = [
    ("single document", "a second document begins here; one file is one campaign"),
    (r"\\t", "a tab stands here; YAML takes only spaces, also for the indent"),
    ("quoted scalar.*end of stream", "this quote is not closed"),
    ("expected ':'", 'a line without a colon; a campaign is lines of "key: value"'),
    ("mapping values are not allowed", "a key is not expected here; is the indent right?"),
    ("sequence entries|found '-'", "a list is not expected here; it begins below its key"),
    ("block (mapping|sequence) start", "this line is indented unlike those above it"),
    ("parsing a flow", "this bracket is not closed, or a comma is missing in it"),
    ("but found", "this does not belong to what is above it; is a quote or a bracket missing?"),
    ("escape", "a backslash in double quotes is an escape; in single quotes it is itself"),
    (
        "cannot start|alias|anchor",
        "this sign has a meaning in YAML; what begins with it needs quotes",
    ),
]
"""For PyYAML's jargon, the first that matches."""


def _told(error: yaml.MarkedYAMLError) -> Trap:
    """In words, where something was begun and not ended, else where it went wrong."""
    jargon = f"{error.context or ''} {error.problem or ''}"
    words = next((words for match, words in _WORDS if re.search(match, jargon)), None)
    begun = re.search("quoted scalar|simple key|parsing a flow", jargon)
    mark = error.context_mark if begun and error.context_mark else _mark(error)
    return Trap(mark.index, words or f"this is not YAML: {error.problem}")
