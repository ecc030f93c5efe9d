"""A Jinja2 sandbox in which a template cannot run or allocate without end by mistake.

Work is counted, not timed, so that a check and a sending run always agree. A parsed template is
changed so that it pays, in steps, for what it is going to do; functions, filters and operators
whose result can be far larger than what they are given have a guard, which sees their arguments
first. Nothing is computed while a template is compiled, and nothing that one rendering did is seen
by the next. Lists that Jinja2 would make as they are read are made at once.

The template's author is the campaign's author: this is a net for mistakes and for templates copied
from elsewhere, not a wall against somebody who attacks their own machine. It knows neither files
nor mail.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sized
from functools import partial
from itertools import chain, islice
from types import BuiltinMethodType, MappingProxyType, MethodType
from typing import Any

from jinja2 import Template, TemplateSyntaxError, nodes
from jinja2.compiler import CodeGenerator
from jinja2.runtime import BlockReference, Context, LoopContext, Macro
from jinja2.sandbox import ImmutableSandboxedEnvironment, safe_range
from jinja2.visitor import NodeTransformer

from bulkmail.compose.guards import (
    FILTERS,
    ITEMS,
    NO_LIPSUM,
    OPERATORS,
    REFUSED_METHODS,
    TEXT_METHODS,
    BoundError,
    check_items,
    check_length,
    check_number,
)

STEPS = 1_000_000
"""A rendering may take as many: about a second, at most."""
DEPTH = 50
"""Macros, blocks and recursive loops in one another. Python itself would give up at about 200, but
where exactly depends on who calls."""

_CHARACTERS_A_STEP = 10


class Meter:
    """What the rendering under way may still do."""

    def __init__(self) -> None:
        self.renew()

    def renew(self) -> None:
        """A new rendering begins."""
        self._left, self.depth = STEPS, 0
        self._weights: dict[int, tuple[object, int]] = {}

    def pay(self, steps: int) -> None:
        self._left -= steps
        if self._left < 0:
            raise BoundError(f"the template goes on and on (more than {STEPS:,} steps)")

    def turns(self, values: Any, steps: int) -> Any:
        """The values that a loop goes through, whose turns are paid for in advance."""
        if isinstance(values, Sized):
            self.pay(len(values) * steps)
        return values

    def made(self, value: Any) -> Any:
        """What an operator, filter or function returned, paid for."""
        if isinstance(value, str):
            check_length(len(value))
            self.pay(len(value) // _CHARACTERS_A_STEP)
        elif isinstance(value, int):
            check_number(value)
        elif isinstance(value, list | tuple):
            check_items(len(value))
            self.pay(len(value) + sum(len(x) for x in value if isinstance(x, list | tuple)))
        elif isinstance(value, Iterator) and not isinstance(value, LoopContext):
            return self.made(list(islice(value, ITEMS + 1)))
        return value

    def held(self, value: Any) -> Any:
        """A list or mapping that an expression made, refused where it holds too much in all: one
        that is put into itself twice, again and again, could never be printed or compared.
        """
        made = self.made(value)
        self._weight(made)
        return made

    def mapping(self, *args: Any, **named: Any) -> Any:
        """The function `dict` of templates."""
        return self.held(dict(*args, **named))

    def _weight(self, value: Any) -> int:
        """The characters and items of `value` and of all that it holds, as often as it holds it.

        What was measured in this rendering is not measured again, and stays, since its id does.
        """
        if isinstance(value, str):
            return len(value)
        if not isinstance(value, list | tuple | dict | MappingProxyType):
            return 1
        if (known := self._weights.get(id(value))) is not None:
            return known[1]
        inside = value if isinstance(value, list | tuple) else chain(value, value.values())
        weight = len(value) + sum(map(self._weight, inside))
        check_length(weight)
        self._weights[id(value)] = value, weight
        return weight

    def shown(self, value: Any) -> str:
        """A value as it is printed in the body of a loop, paid for."""
        text = value if isinstance(value, str) else str(value)
        self._left -= len(text) // _CHARACTERS_A_STEP
        if self._left < 0:
            self.pay(0)
        return text


_DICT_ATTRIBUTES = frozenset(dir(dict))
_METHOD_TYPES = (BuiltinMethodType, MethodType)
_TEMPLATE_CODE = (Macro, LoopContext, BlockReference)


class _Metered:
    """A function, method or filter. Its attributes are out of reach for templates: `_`."""

    def __init__(
        self,
        meter: Meter,
        name: str,
        function: Callable[..., Any],
        guard: Callable[..., object] | None = None,
    ) -> None:
        self._meter, self._name, self._function, self._guard = meter, name, function, guard
        self._own = 0
        if hasattr(function, "jinja_pass_arg"):  # Jinja2 gives it an argument of its own first
            self.jinja_pass_arg = function.jinja_pass_arg
            self._own = 1

    def __call__(self, *args: Any, **named: Any) -> Any:
        if len(args) > self._own and isinstance(value := args[self._own], str):
            self._meter.pay(len(value) // _CHARACTERS_A_STEP)
        if self._guard is not None:
            self._guard(*args[self._own :], **named)
        return self._meter.made(self._function(*args, **named))

    def __repr__(self) -> str:
        raise BoundError(f"{self._name!r} is a function, not a text; to call it write (…) after it")


# What is inserted into a parsed template, as filters with names that no template can write.
_TURNS, _PAY, _MADE, _HELD, _SHOWN = " turns", " pay", " made", " held", " shown"


class _Paying(NodeTransformer):
    """A parsed template, changed so that it pays for its work."""

    _loops = 0

    def __init__(self, name: str | None, filename: str | None) -> None:
        self._name, self._filename = name, filename

    def visit_For(self, node: nodes.For) -> nodes.For:
        steps = _steps(node)
        self._loops += 1
        self.generic_visit(node)
        self._loops -= 1
        node.iter = _own(_TURNS, node.iter, nodes.Const(steps))
        if node.recursive:  # loop(…) gives other lists to the same body
            node.body.insert(0, _pay(node, steps))
        return node

    def visit_body(self, node: Any) -> nodes.Node:
        steps = _steps(node)
        self.generic_visit(node)
        node.body.insert(0, _pay(node, steps))
        return node  # type: ignore[no-any-return]

    visit_Template = visit_Block = visit_Macro = visit_CallBlock = visit_body

    def visit_Output(self, node: nodes.Output) -> nodes.Output:
        """In a loop each output pays: its text waits in memory, maybe as an escaped copy."""
        self.generic_visit(node)
        if self._loops:
            node.nodes = [
                each if isinstance(each, nodes.TemplateData) else _own(_SHOWN, each)
                for each in node.nodes
            ]
        return node

    def visit_Include(self, node: nodes.Include) -> nodes.FilterBlock:
        """The text of an included template is measured like that of a macro."""
        self._check_named(node, node.template)
        made = nodes.Filter(None, _MADE, [], [], None, None, lineno=node.lineno)
        return nodes.FilterBlock([node], made, lineno=node.lineno)

    def visit_Extends(self, node: Any) -> nodes.Node:
        """What a message is made of is known, and part of its digest, before it is rendered."""
        self._check_named(node, node.template)
        return self.generic_visit(node)

    visit_Import = visit_FromImport = visit_Extends

    def _check_named(self, node: nodes.Node, template: nodes.Expr) -> None:
        named = template.items if isinstance(template, nodes.List | nodes.Tuple) else [template]
        if not all(isinstance(name, nodes.Const) for name in named):
            message = "the name of a template is written out; choose among them with {% if %}"
            raise TemplateSyntaxError(message, node.lineno, self._name, self._filename)

    def visit_literal(self, node: Any) -> nodes.Node:
        """One that names nothing holds what stands in it."""
        is_target = isinstance(node, nodes.Tuple) and node.ctx != "load"
        is_plain = node.find(nodes.Name) is None
        self.generic_visit(node)
        return node if is_target or is_plain else _own(_HELD, node)

    visit_List = visit_Tuple = visit_Dict = visit_literal

    def visit_Concat(self, node: nodes.Concat) -> nodes.Filter:
        self.generic_visit(node)
        return _own(_MADE, node)


def _own(name: str, node: nodes.Node, *args: nodes.Expr) -> nodes.Filter:
    return nodes.Filter(node, name, list(args), [], None, None, lineno=node.lineno)


def _pay(node: nodes.Node, steps: int) -> nodes.ExprStmt:
    return nodes.ExprStmt(_own(_PAY, nodes.Const(steps, lineno=node.lineno)), lineno=node.lineno)


def _steps(body: nodes.Node) -> int:
    """What going through `body` once costs: its pieces and its own text."""
    text = sum(len(data.data) for data in body.find_all(nodes.TemplateData))
    return 1 + sum(1 for _ in body.find_all(nodes.Node)) + text // _CHARACTERS_A_STEP


class _Code(CodeGenerator):
    """Leaves all computing to the rendering, which is metered."""

    def _output_child_to_const(self, node: nodes.Expr, frame: Any, finalize: Any) -> str:
        if not isinstance(node, nodes.TemplateData):
            raise nodes.Impossible
        return super()._output_child_to_const(node, frame, finalize)


class BoundedTemplate(Template):
    """A template whose renderings are independent of one another."""

    environment: "BoundedEnvironment"

    def rendered(self, names: Mapping[str, object]) -> str:
        """As `render` of Jinja2, without what only other callers need; half as long."""
        environment = self.environment
        environment.meter.renew()
        context = Context(environment, {**environment.globals, **names}, self.name, self.blocks)
        try:
            return environment.concat(self.root_render_func(context))
        except Exception:
            environment.handle_exception()

    def _get_default_module(self, ctx: Context | None = None) -> Any:
        """Made anew for each import: Jinja2 would keep it, and what one recipient's rendering did
        to a namespace in it, for the next recipient."""
        return self.make_module()


class BoundedEnvironment(ImmutableSandboxedEnvironment):
    """Raises BoundError, from within the template's line, when a bound is reached.

    One rendering at a time: they share the meter.
    """

    template_class = BoundedTemplate
    code_generator_class = _Code
    intercepted_binops = frozenset(OPERATORS)

    def __init__(self, **options: Any) -> None:
        self.meter = meter = Meter()
        super().__init__(**options, optimized=False)
        self.globals["range"] = _Metered(meter, "range", safe_range)
        self.globals["dict"] = _Metered(meter, "dict", meter.mapping)
        self.globals["lipsum"] = _Metered(meter, "lipsum", NO_LIPSUM)
        self.filters = {
            **{
                name: _Metered(meter, name, function, FILTERS.get(name))
                for name, function in self.filters.items()
            },
            _TURNS: meter.turns,
            _PAY: meter.pay,
            _MADE: meter.made,
            _HELD: meter.held,
            _SHOWN: meter.shown,
        }

    def _parse(self, source: str, name: str | None, filename: str | None) -> nodes.Template:
        tree: nodes.Template = _Paying(name, filename).visit(super()._parse(source, name, filename))
        tree.set_environment(self)
        return tree

    def concat(self, pieces: Iterable[str]) -> str:
        """What templates, macros, blocks and `{% set %}…{% endset %}` join their output with."""
        return self.meter.made("".join(pieces))  # type: ignore[no-any-return]

    def call_binop(self, context: Context, operator: str, left: Any, right: Any) -> Any:
        OPERATORS[operator](left, right)
        return self.meter.held(super().call_binop(context, operator, left, right))

    def getattr(self, obj: Any, attribute: str) -> Any:
        if type(obj) is dict and attribute in obj and attribute not in _DICT_ATTRIBUTES:
            return obj[attribute]  # as Jinja2 does, but without an exception on the way
        return super().getattr(obj, attribute)

    def is_safe_attribute(self, obj: Any, attr: str, value: Any) -> bool:
        if isinstance(obj, type) or attr in REFUSED_METHODS:  # dict.update(row, …)
            return False
        return super().is_safe_attribute(obj, attr, value)

    def wrap_str_format(self, value: Any) -> Callable[..., Any] | None:
        """Whatever a template gets from an object comes by here: all methods become metered."""
        if not isinstance(value, _METHOD_TYPES):
            return None
        owner, name = value.__self__, value.__name__
        if not self.is_safe_attribute(owner, name, value):
            return None
        guard = TEXT_METHODS.get(name) if isinstance(owner, str) else None
        function = super().wrap_str_format(value) or value
        return _Metered(self.meter, name, function, guard and partial(guard, owner))

    def call(__self, __context: Context, __obj: Any, *args: Any, **kwargs: Any) -> Any:
        if not isinstance(__obj, _TEMPLATE_CODE):
            return super().call(__context, __obj, *args, **kwargs)
        meter = __self.meter
        meter.depth += 1
        if meter.depth > DEPTH:
            raise BoundError(f"macros or loops call one another without end ({DEPTH} deep)")
        try:
            return super().call(__context, __obj, *args, **kwargs)
        finally:
            meter.depth -= 1
