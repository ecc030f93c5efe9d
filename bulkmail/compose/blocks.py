"""What Jinja2 leaves out of a template that extends another, or prints above all of it: blocks that
are not shown, and what stands in no block. It says no word of it; a letter would go out without its
own, or begin with what belongs into it.
"""

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from jinja2 import nodes

MAX_SHOWN_TEXT = 40
"""So many characters are shown of a text that would be left out."""

_TEXT = re.compile(r"(?s:\s|<!--.*?-->)*+(\S.*)")

_SCOPES: dict[type[nodes.Node], str] = {
    nodes.For: "for",
    nodes.With: "with",
    nodes.Scope: "autoescape",
    nodes.FilterBlock: "filter",
}
"""Statements with a scope of their own; a block in one is printed where it stands."""


@dataclass(frozen=True, slots=True)
class Extending:
    """What a template extends, by name, in whichever way: the first that is reached counts.

    `surely`: one of them whatever the data, rather than nothing. `after` is what comes after one.
    """

    names: tuple[str, ...]
    surely: bool
    after: tuple[nodes.Node, ...]


def extending(tree: nodes.Template) -> Extending | None:
    """None where a name is not written out, which is refused where the template is compiled."""
    found = [node.template for node in tree.find_all(nodes.Extends)]
    names = [str(name.value) for name in found if isinstance(name, nodes.Const)]
    if len(names) < len(found):
        return None
    after: list[nodes.Node] = []
    surely = _extends(tree.body, after)
    return Extending(tuple(dict.fromkeys(names)), surely, tuple(after))


def _extends(body: Iterable[nodes.Node], after: list[nodes.Node]) -> bool:
    """Whether every path through `body` extends something. Adds what comes after that."""
    extended = False
    for node in body:
        if extended:
            after.append(node)
        elif isinstance(node, nodes.If):
            branches = [node.body, *(other.body for other in node.elif_), node.else_]
            each = [_extends(branch, after) for branch in branches]
            extended = all(each)
        else:
            extended = isinstance(node, nodes.Extends)
    return extended


def names(trees: Iterable[nodes.Template]) -> set[str]:
    """Of all blocks in these templates."""
    return {block.name for tree in trees for block in tree.find_all(nodes.Block)}


def hidden(
    tree: nodes.Template, extends: Extending, ways: Iterable[Sequence[nodes.Template]]
) -> Iterator[nodes.Block]:
    """The blocks of a template that are never shown, whichever way is taken: what it extends, what
    that extends, and so on. Where nothing is extended they are shown where they stand.
    """
    shown = set[str]().union(*(_shown([tree, *above]) for above in ways))
    for block in _outer(tree if extends.surely else nodes.Template([*extends.after])):
        if block.name not in shown:
            yield block


def misplaced(after: Iterable[nodes.Node], parents: str) -> Iterator[tuple[int, str]]:
    """Where something comes after `extends` in no block, by its line, and what is wrong with it."""
    for node, scope in _printed(after, None):
        match node:
            case nodes.TemplateData():
                if found := _TEXT.match(node.data):
                    line = node.lineno + node.data.count("\n", 0, found.start(1))
                    yield line, _left_out(repr(found[1][:MAX_SHOWN_TEXT]), parents)
            case nodes.Include():
                yield node.lineno, _above("include")
            case nodes.CallBlock():
                yield node.lineno, _above("call")
            case nodes.FilterBlock():
                yield node.lineno, _above("filter")
            case nodes.Block() if scope is not None:
                tag = f"{{% {scope} %}}"
                message = f"the block {node.name!r} stands in {tag}, and would be printed above"
                yield node.lineno, f"{message} everything, too; move {tag} into the block"
            case nodes.Expr():
                yield node.lineno, _left_out("{{ … }}", parents)


def _left_out(what: str, parents: str) -> str:
    return f"{what} stands in no block, and {parents} would leave it out; move it into one"


def _above(tag: str) -> str:
    tag = f"{{% {tag} %}}"
    return f"{tag} stands in no block, and would be printed above everything; move it into one"


def _shown(chain: Sequence[nodes.Template]) -> set[str]:
    """The blocks that are shown when the last template is, each as the first that has it says."""
    shown = _used(chain)
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


def _used(chain: Sequence[nodes.Template]) -> set[str]:
    """What is printed by `self.NAME()`; all blocks where that cannot be told."""
    used: set[str] = set()
    for tree in chain:
        unknown = sum(node.name == "self" for node in tree.find_all(nodes.Name))
        for node in tree.find_all((nodes.Getattr, nodes.Getitem)):
            match node:
                case (
                    nodes.Getattr(node=nodes.Name(name="self"), attr=name)
                    | nodes.Getitem(node=nodes.Name(name="self"), arg=nodes.Const(value=str(name)))
                ):
                    used.add(name)
                    unknown -= 1
        if unknown:
            used |= names(chain)
    return used


def _outer(tree: nodes.Template) -> list[nodes.Block]:
    """Without those within others, which are shown where these are."""
    blocks = list(tree.find_all(nodes.Block))
    inner = {id(block) for outer in blocks for block in outer.find_all(nodes.Block)}
    return [block for block in blocks if id(block) not in inner]


def _printed(
    body: Iterable[nodes.Node], scope: str | None
) -> Iterator[tuple[nodes.Node, str | None]]:
    """What statements print, or would, with the innermost scope that it stands in; but for what
    blocks, macros, `call` and `set` do with theirs.
    """
    for node in body:
        match node:
            case nodes.Output():
                yield from ((printed, scope) for printed in node.nodes)
            case nodes.Block() | nodes.Include() | nodes.CallBlock():
                yield node, scope
            case nodes.Macro() | nodes.AssignBlock() | nodes.Expr():
                pass
            case _:
                yield from _printed(node.iter_child_nodes(), _SCOPES.get(type(node), scope))
                if isinstance(node, nodes.FilterBlock):  # makes something of nothing, too
                    yield node, scope
