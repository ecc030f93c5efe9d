"""YAML into plain values that remember where they stood.

Text stays text: `no`, `010` and `12:30` are strings here, and whoever wants a number asks for one.
Finds what YAML itself lets pass: duplicate keys, unknown tags, aliases that never end, and the
traps of `traps.py`. What leaves no value at all raises; the rest is told beside the value, so that
the mistakes of the campaign can be told with it. Knows no key of a campaign.
"""

from collections.abc import Hashable
from dataclasses import dataclass, field
from typing import Any, cast

import yaml
from yaml.reader import ReaderError

from bulkmail.campaign import traps
from bulkmail.campaign.traps import Path, Source, Trap
from bulkmail.errors import CampaignError, Problem

__all__ = ["Document", "Path", "Places", "read_text", "read_yaml"]

MAX_BYTES = 1_000_000
MAX_NODES = 100_000
MAX_DEPTH = 100
_TAGS = {f"tag:yaml.org,2002:{kind}" for kind in ("str", "seq", "map")}


@dataclass(frozen=True, slots=True)
class Places:
    """Where every key and every value of one file stands. Paths are as pydantic's `loc`."""

    file: str
    source: Source = field(repr=False)
    keys: dict[Path, str] = field(default_factory=dict)
    values: dict[Path, str] = field(default_factory=dict)
    brackets: dict[Path, tuple[int, int]] = field(default_factory=dict)
    """Start and end of the values written as `[…]` or `{…}`."""

    def value(self, path: Path) -> str:
        """`file:line:column` of the value at `path`, or of what is nearest above it."""
        while path and path not in self.values:
            path = path[:-1]
        return self.values.get(path, self.file)

    def key(self, path: Path) -> str:
        """`file:line:column` of the key that names the value at `path`."""
        return self.keys.get(path) or self.value(path)

    def known(self, loc: Path) -> Path:
        """`loc` without the steps that are not in the file (pydantic names a union's branch)."""
        path: Path = ()
        for step in loc:
            if (*path, step) in self.values:
                path = (*path, step)
        return path

    def mended(self, path: Path) -> str | None:
        """The line of a value in brackets, with it in quotes, for where text was wanted.

        None if the value is not in brackets, or not all on one short line.
        """
        span = self.brackets.get(path)
        return self.source.with_quotes(*span) if span else None

    def at(self, offset: int) -> str:
        """`file:line:column` of an offset in the text."""
        line, column = self.source.position(offset)
        return f"{self.file}:{line}:{column}"


@dataclass(frozen=True, slots=True)
class Document:
    """A file as far as it could be read: `problems` stand beside the value, in order of place."""

    value: Any
    places: Places
    problems: list[Problem]


def read_yaml(data: bytes, file: str) -> Document:
    """The one document in `data`. Raises CampaignError if there is no value to be had from it."""
    return read_text(_decoded(data, file), file)


def read_text(text: str, file: str) -> Document:
    """The same for a file that was decoded; its text is `Places.source` afterwards."""
    source = Source.of(text)
    places = Places(file, source)
    try:
        root, aliased = _compose(source.text, file)
    except yaml.MarkedYAMLError as error:
        trap = traps.syntax_trap(source, error, lambda text: _compose(text, file))
        raise CampaignError([Problem(places.at(trap.start), str(trap))]) from None
    except ReaderError as error:
        code = ord(source.text[error.position])
        what = f"the character U+{code:04X} is not YAML text; take it out"
        raise CampaignError([Problem(places.at(error.position), what)]) from None
    if root is None:
        raise CampaignError([Problem(file, "is empty; a campaign needs from, subject, template …")])
    builder = _Builder(places, aliased)
    value = builder.build(root, ())
    found = sorted(builder.traps, key=lambda trap: trap.start)
    problems = [Problem(places.at(trap.start), str(trap)) for trap in dict.fromkeys(found)]
    return Document(value, places, problems)


def _decoded(data: bytes, file: str) -> str:
    if len(data) > MAX_BYTES:
        size = f"is {len(data) / 1_000_000:.0f} MB long"
        people = "a campaign file holds 1,000 people at most, more go into a CSV file"
        raise CampaignError([Problem(file, f"{size}; {people}")])
    if data.startswith((b"\xff\xfe", b"\xfe\xff")):
        raise CampaignError([Problem(f"{file}:1:1", "is not UTF-8 but UTF-16; save it as UTF-8")])
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        # error.object, not data: the codec counts from behind the BOM.
        before = error.object[: error.start].decode("utf-8")
        what = f"byte {error.object[error.start]:#04x} is not UTF-8; save it as UTF-8"
        raise CampaignError(
            [Problem(Places(file, Source.of(before)).at(len(before)), what)]
        ) from None


# -- YAML's own tree ------------------------------------------------------------------------------


class _Loader(yaml.BaseLoader):
    """PyYAML's composer with bounds, which notes the nodes that are referred to."""

    def __init__(self, text: str, file: str) -> None:
        super().__init__(text)
        self.aliased: set[int] = set()
        self._file = file
        self._count = 0
        self._depth = 0

    def compose_node(self, parent: yaml.Node | None, index: int) -> yaml.Node | None:
        event = cast(yaml.Event, self.peek_event())  # type: ignore[no-untyped-call]
        place = _place(self._file, cast(yaml.Mark, event.start_mark))
        self._count += 1
        _check_bounds(place, self._depth, self._count)
        self._depth += 1
        node = super().compose_node(parent, index)
        self._depth -= 1
        if isinstance(event, yaml.AliasEvent) and node is not None:
            if cast(yaml.Mark | None, node.end_mark) is None:  # it is still being composed
                raise CampaignError([Problem(place, "an alias that leads back to itself")])
            self.aliased.add(id(node))
        return node


def _compose(text: str, file: str) -> tuple[yaml.Node | None, set[int]]:
    """The root, if there is one, and the ids of all nodes that are referred to."""
    loader = _Loader(text, file)
    return loader.get_single_node(), loader.aliased


def _place(file: str, mark: yaml.Mark) -> str:
    return f"{file}:{mark.line + 1}:{mark.column + 1}"


def _check_bounds(place: str, depth: int, count: int) -> None:
    if depth > MAX_DEPTH:
        raise CampaignError([Problem(place, f"is nested too deeply, over {MAX_DEPTH} levels")])
    if count > MAX_NODES:
        raise CampaignError([Problem(place, f"this is too much: over {MAX_NODES:,} values")])


# -- values ---------------------------------------------------------------------------------------


class _Builder:
    """Makes values of nodes; notes their places, and the traps."""

    def __init__(self, places: Places, aliased: set[int]) -> None:
        self.traps: list[Trap] = []
        self._places = places
        self._source = places.source
        self._aliased = aliased
        self._count = 0

    def build(self, node: yaml.Node, path: Path) -> Any:
        place = self._places.values[path] = _place(self._places.file, node.start_mark)
        self._count += 1  # again for every alias, unlike the composer
        _check_bounds(place, len(path), self._count)
        if isinstance(node, yaml.CollectionNode) and node.flow_style:
            self._places.brackets[path] = (node.start_mark.index, node.end_mark.index)
        if id(node) not in self._aliased and (trap := traps.text_trap(self._source, node, path)):
            self.traps.append(trap)
            return trap.meant
        if node.tag not in _TAGS:
            tag = self._source.text[node.start_mark.index :][:60].split()[0]
            self._tell(node, f"the tag {tag} is not understood here; take it out")
        if isinstance(node, yaml.MappingNode):
            return self._mapping(node, path)
        if isinstance(node, yaml.SequenceNode):
            return [self.build(item, (*path, index)) for index, item in enumerate(node.value)]
        return self._text(node)

    def _mapping(self, node: yaml.MappingNode, path: Path) -> dict[Hashable, Any]:
        result: dict[Hashable, Any] = {}
        before = None
        for key_node, value_node in node.value:
            trap = traps.comma_trap(self._source, before, key_node, value_node)
            if node.flow_style and trap:
                self.traps.append(trap)
                continue
            before = value_node
            if (key := self._key(key_node)) is None:
                continue
            if key in result:
                first = self._places.keys[(*path, key)].rpartition(":")[0]
                shown = repr(key)[1:-1][:60]  # nothing that a terminal would obey
                self._tell(key_node, f'the key "{shown}" stands twice, first at {first}')
                continue
            self._places.keys[(*path, key)] = _place(self._places.file, key_node.start_mark)
            result[key] = self.build(value_node, (*path, key))
        return result

    def _key(self, node: yaml.Node) -> str | None:
        if not isinstance(node, yaml.ScalarNode):
            self._tell(node, 'a key must be text; a value that begins with "{" needs quotes')
            return None
        if node.value == "<<" and node.style is None:
            self._tell(node, 'the merge key "<<" is not understood here; write its keys out')
            return None
        return self._text(node)

    def _text(self, node: yaml.Node) -> str:
        text: str = node.value
        if any("\ud800" <= char <= "\udfff" for char in text):
            self._tell(node, "an escape stands for half a character; write the character itself")
            return text.encode(errors="replace").decode()
        return text

    def _tell(self, node: yaml.Node, words: str) -> None:
        self.traps.append(Trap(node.start_mark.index, words))
