"""YAML into plain values that remember where they stood.

Text stays text: `no`, `010` and `12:30` are strings here, and whoever wants a number asks for one.
Finds what YAML itself lets pass: duplicate keys, unknown tags, aliases that never end.
"""

from collections.abc import Hashable
from dataclasses import dataclass, field
from typing import Any

import yaml

from bulkmail.errors import CampaignError, Problem

MAX_NODES = 100_000
Path = tuple[str | int, ...]


@dataclass(frozen=True, slots=True)
class Places:
    """Where every key and every value of one file stands. Paths are as pydantic's `loc`."""

    file: str
    keys: dict[Path, str] = field(default_factory=dict)
    values: dict[Path, str] = field(default_factory=dict)

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


def read_yaml(data: bytes, file: str) -> tuple[Any, Places]:
    """The one document in `data`. Raises CampaignError with every problem of the YAML itself."""
    places = Places(file)
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise CampaignError(
            [
                Problem(
                    f"{file}:{line}",
                    f"byte {data[error.start]:#04x} is not UTF-8; save it as UTF-8",
                )
            ]
        ) from None
    try:
        node = yaml.compose(text, Loader=yaml.BaseLoader)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        raise CampaignError([Problem(_place(file, mark), _what(error))]) from None
    except yaml.YAMLError as error:
        raise CampaignError([Problem(file, f"is not YAML: {error}")]) from None
    except RecursionError:
        raise CampaignError([Problem(file, "is nested too deeply")]) from None
    if node is None:
        raise CampaignError([Problem(file, "is empty; a campaign needs from, subject, template …")])
    builder = _Builder(places)
    value = builder.build(node, ())
    if builder.problems:
        raise CampaignError(builder.problems)
    return value, places


class _Builder:
    def __init__(self, places: Places) -> None:
        self.problems: list[Problem] = []
        self._places = places
        self._open: set[int] = set()
        self._count = 0

    def build(self, node: yaml.Node, path: Path) -> Any:
        self._count += 1
        place = _place(self._places.file, node.start_mark)
        self._places.values[path] = place
        if id(node) in self._open or self._count > MAX_NODES:
            raise CampaignError([Problem(place, "an alias that leads back to itself, or too much")])
        self._open.add(id(node))
        try:
            return self._value(node, path, place)
        finally:
            self._open.discard(id(node))

    def _value(self, node: yaml.Node, path: Path, place: str) -> Any:
        if isinstance(node, yaml.MappingNode):
            return self._mapping(node, path)
        if isinstance(node, yaml.SequenceNode):
            return [self.build(item, (*path, index)) for index, item in enumerate(node.value)]
        if not node.tag.startswith("tag:yaml.org,2002:str"):
            self.problems.append(Problem(place, f"the tag {node.tag} is not understood here"))
        return node.value

    def _mapping(self, node: yaml.MappingNode, path: Path) -> dict[Hashable, Any]:
        result: dict[Hashable, Any] = {}
        for key_node, value_node in node.value:
            place = _place(self._places.file, key_node.start_mark)
            if not isinstance(key_node, yaml.ScalarNode):
                self.problems.append(
                    Problem(place, 'a key must be text; a value that begins with "{" needs quotes')
                )
                continue
            key = key_node.value
            if key in result:
                first = self._places.keys[(*path, key)].rpartition(":")[0]
                self.problems.append(
                    Problem(place, f'the key "{key}" stands twice, first at {first}')
                )
                continue
            self._places.keys[(*path, key)] = place
            result[key] = self.build(value_node, (*path, key))
        return result


def _place(file: str, mark: yaml.Mark | None) -> str:
    return f"{file}:{mark.line + 1}:{mark.column + 1}" if mark else file


def _what(error: yaml.MarkedYAMLError) -> str:
    hint = ""
    if "\\t" in (error.problem or ""):
        hint = "; YAML is indented with spaces, not tabs"
    elif "single document" in (error.context or ""):
        hint = "; one file is one campaign"
    return " ".join(filter(None, (error.context, error.problem))) + hint
