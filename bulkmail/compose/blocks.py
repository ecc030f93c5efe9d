"""What Jinja2 leaves out of a template that extends another: blocks that are not shown, and what
stands in no block. It says no word of it; a letter would go out without its own.
"""

import re
from collections.abc import Iterable, Iterator, Sequence
from itertools import dropwhile

from jinja2 import nodes

MAX_SHOWN_TEXT = 40
"""So many characters are shown of a text that would be left out."""

_TEXT = re.compile(r"(?s:\s|<!--.*?-->)*+(\S.*)")


def parent(tree: nodes.Template) -> str | bool | None:
    """What a template extends: one name; None: nothing; False: that depends."""
    extended = list(tree.find_all(nodes.Extends))
    if len(extended) == 1 and extended[0] in tree.body:
        name = extended[0].template
        return str(name.value) if isinstance(name, nodes.Const) else False
    return False if extended else None


def names(trees: Iterable[nodes.Template]) -> set[str]:
    """Of all blocks in these templates."""
    return {block.name for tree in trees for block in tree.find_all(nodes.Block)}


def hidden(chain: Sequence[nodes.Template]) -> Iterator[nodes.Block]:
    """The blocks of the first template that are not shown: it extends the second, and so on."""
    shown = _shown(chain)
    for block in _outer(chain[0]):
        if block.name not in shown:
            yield block


def lost(tree: nodes.Template) -> tuple[int, str] | None:
    """The first thing that would be printed after `extends`, but in no block: its line, and what
    it is. An `extends` that may or may not happen does not count.
    """
    after = dropwhile(lambda node: not isinstance(node, nodes.Extends), tree.body)
    for node in _printed(after):
        if not isinstance(node, nodes.TemplateData):
            return node.lineno, "{{ … }}"
        if found := _TEXT.match(node.data):
            line = node.lineno + node.data.count("\n", 0, found.start(1))
            return line, repr(found[1][:MAX_SHOWN_TEXT])
    return None


def _shown(chain: Sequence[nodes.Template]) -> set[str]:
    """The blocks that are shown when the last template is, each as the first that has it says."""
    shown = {
        node.attr
        for tree in chain
        for node in tree.find_all(nodes.Getattr)
        if isinstance(node.node, nodes.Name) and node.node.name == "self"
    }
    todo = [(block.name, 0) for block in _outer(chain[-1])] + [(name, 0) for name in shown]
    seen: set[tuple[str, int]] = set()
    while todo:
        name, level = todo.pop()
        shown.add(name)
        found = [b for tree in chain for b in tree.find_all(nodes.Block) if b.name == name]
        if (name, level) in seen or level >= len(found):
            continue
        seen.add((name, level))
        block = found[level]
        todo += [(inner.name, 0) for inner in block.find_all(nodes.Block)]
        if any(used.name == "super" for used in block.find_all(nodes.Name)):
            todo.append((name, level + 1))
    return shown


def _outer(tree: nodes.Template) -> list[nodes.Block]:
    """Without those within others, which are shown where these are."""
    blocks = list(tree.find_all(nodes.Block))
    inner = {id(block) for outer in blocks for block in outer.find_all(nodes.Block)}
    return [block for block in blocks if id(block) not in inner]


def _printed(body: Iterable[nodes.Node]) -> Iterator[nodes.Node]:
    """What statements print themselves, but for what blocks, macros and `set` do with theirs."""
    for node in body:
        if isinstance(node, nodes.Output):
            yield from node.nodes
        elif not isinstance(node, nodes.Block | nodes.Macro | nodes.CallBlock | nodes.AssignBlock):
            yield from _printed(node.iter_child_nodes())
