"""The names that templates look up in their context, and where a reader would see one empty.

Read from the sources alone, without rendering: so a campaign knows which columns it needs, and can
say for whom one of them is empty before anything is sent. It knows no recipients.
"""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from itertools import chain

from jinja2 import Environment, TemplateSyntaxError, nodes
from jinja2.meta import find_referenced_templates, find_undeclared_variables

from bulkmail.compose.bounds import BoundedEnvironment

Load = Callable[[str], tuple[str, str] | None]
"""Template name to (source, file as shown to a person), or None where there is none."""


@dataclass(frozen=True, slots=True)
class TemplateNames:
    """The names that templates look up in their context, columns among them.

    `used` are all of them; `shown` are those whose emptiness a reader would see, because they are
    printed where nothing asks first whether they are empty.
    """

    used: frozenset[str]
    shown: frozenset[str]


_BROKEN = (TemplateSyntaxError, RecursionError, ValueError)
"""What parsing a template can raise: for its syntax, its nesting, a number of 5,000 digits."""

_PLAIN = Environment()
"""For parsing alone."""


def names(load: Load, templates: Iterable[str], inline: Iterable[str]) -> TemplateNames:
    """The names in `templates`, in the sources `inline`, and in all that they name.

    Read from the sources alone: what is shown by way of a macro or of `set` counts, what is in a
    template that errs does not; such errors are told where it is compiled.
    """
    environment = BoundedEnvironment()  # parsing computes constants
    used: set[str] = set()
    shown: set[str] = set()
    inline = [*inline]
    named = chain(templates, *map(named_by, inline))
    for source in (*inline, *dict(reachable(load, named)).values()):
        try:
            tree = environment.parse(source)
            used |= find_undeclared_variables(tree) | _columns(tree)
        except _BROKEN:
            continue
        walk = _Shown()
        walk.statements([tree], frozenset())
        shown |= walk.names()
    return TemplateNames(frozenset(used), frozenset(shown & used))


def reachable(load: Load, templates: Iterable[str]) -> Iterator[tuple[str, str]]:
    """(name, source) of the templates and of all that they name, each once."""
    seen: set[str] = set()
    left = list(templates)
    while left:
        name = left.pop()
        if name in seen or (found := load(name)) is None:
            continue
        seen.add(name)
        yield name, found[0]
        left += named_by(found[0])


def named_by(source: str) -> list[str]:
    """The templates that `source` includes, imports or extends, or may, whatever the data: their
    names are written out, or it is refused where it is compiled.
    """
    try:
        named = [*find_referenced_templates(_PLAIN.parse(source))]
    except _BROKEN:
        return []
    return [name for name in named if name is not None]


def _column(node: nodes.Node) -> str | None:
    """X for `row["X"]` and `row.X`."""
    match node:
        case nodes.Getitem(node=nodes.Name(name="row"), arg=nodes.Const(value=str(column))):
            return column
        case nodes.Getattr(node=nodes.Name(name="row"), attr=column):
            return column
    return None


def _columns(tree: nodes.Node) -> set[str]:
    found = tree.find_all((nodes.Getitem, nodes.Getattr))
    return {column for node in found if (column := _column(node)) is not None}


def _mentioned(node: nodes.Node) -> frozenset[str]:
    """All names in an expression."""
    return frozenset(
        {name.name for name in (node, *node.find_all(nodes.Name)) if isinstance(name, nodes.Name)}
        | _columns(nodes.Output([node]))
    )


class _Shown:
    """A walk through a template that collects what is printed unguarded."""

    def __init__(self) -> None:
        self._printed: set[str] = set()
        self._set: dict[str, set[str]] = {}
        """A name that the template sets, and the names that it is made of."""

    def names(self) -> set[str]:
        """What was collected, and what that is made of."""
        names, left = set[str](), list(self._printed)
        while left:
            name = left.pop()
            if name not in names:
                names.add(name)
                left += self._set.get(name, ())
        return names

    def statements(self, body: Iterable[nodes.Node], guards: frozenset[str]) -> None:
        for node in body:
            match node:
                case nodes.Output():
                    for expression in node.nodes:
                        self._printed |= printed(expression) - guards
                case nodes.If():
                    inner = guards | _mentioned(node.test)
                    self.statements((*node.body, *node.elif_, *node.else_), inner)
                    continue
                case nodes.Assign(target=nodes.Name(name=name)):
                    self._set.setdefault(name, set()).update(printed(node.node) - guards)
                case nodes.With():
                    for target, value in zip(node.targets, node.values, strict=True):
                        if isinstance(target, nodes.Name):
                            made_of = self._set.setdefault(target.name, set())
                            made_of.update(printed(value) - guards)
                case nodes.CallBlock():
                    self._printed |= printed(node.call) - guards
            inner = guards
            if isinstance(node, nodes.For) and node.test is not None:
                inner |= _mentioned(node.test)
            self.statements(node.iter_child_nodes(), inner)


def printed(node: nodes.Node | None) -> set[str]:
    """The names whose emptiness shows where the expression `node` is printed."""
    match node:
        case None | nodes.Compare() | nodes.Test() | nodes.Not():
            return set()  # prints True or False
        case nodes.Name():
            return {node.name}
        case nodes.Getattr() | nodes.Getitem():
            column = _column(node)
            return printed(node.node) if column is None else {column}
        case nodes.CondExpr():
            return (printed(node.expr1) | printed(node.expr2)) - _mentioned(node.test)
        case nodes.Or() | nodes.And():
            return printed(node.right) - _mentioned(node.left)
        case nodes.Filter(name="default" | "d") if _fills_empty(node):
            return printed(node.args[0])
        case nodes.Filter() if node.name != "format":
            return printed(node.node)
    return set[str]().union(*map(printed, node.iter_child_nodes()))


def _fills_empty(node: nodes.Filter) -> bool:
    """`default("x", true)`; without `true` it fills what is undefined only."""
    boolean = [*node.args[1:2], *(pair.value for pair in node.kwargs if pair.key == "boolean")]
    return bool(node.args) and any(getattr(value, "value", True) for value in boolean)
