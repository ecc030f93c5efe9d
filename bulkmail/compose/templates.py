"""Jinja2 templates into text: sandboxed, bounded, strict about undefined names, escaping in HTML.

Sources are handed in by a function, so that what was read once stays for the whole run.
An error tells the template's file and line, and the name that was probably meant.
"""

import re
import traceback
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import suppress
from difflib import get_close_matches
from itertools import islice

from jinja2 import (
    FunctionLoader,
    StrictUndefined,
    TemplateNotFound,
    TemplatesNotFound,
    TemplateSyntaxError,
    nodes,
)

from bulkmail.compose import blocks
from bulkmail.compose.bounds import BoundedEnvironment, BoundedTemplate
from bulkmail.compose.names import Load, reachable

MAX_WAYS = 50
"""Blocks are looked at where a template extends others in so many ways, or fewer."""
MAX_SHOWN_NAMES = 15
"""So many names are shown to somebody who used another one."""


class RenderError(ValueError):
    """A template could not be compiled or rendered. `place` is `file:line`."""

    def __init__(self, place: str, message: str) -> None:
        self.place = place
        self.message = message
        super().__init__(f"{place}: {message}")


class _Unknown(StrictUndefined):
    """Knows the keys of the mapping in which a name was looked for."""

    __slots__ = ()

    @property
    def _undefined_message(self) -> str:
        mapping, name = self._undefined_obj, self._undefined_name
        if self._undefined_hint or not isinstance(mapping, Mapping) or not isinstance(name, str):
            return super()._undefined_message
        return f"{name!r} is undefined{did_you_mean(name, mapping)}"


class Templates:
    """The templates of a campaign. `text` and `html` differ in escaping only."""

    def __init__(self, load: Load) -> None:
        self._load = load
        self._files: dict[str, str] = {}
        """Of the templates that were loaded, by name."""
        self._text = self._environment(load, autoescape=False)
        self._html = self._environment(load, autoescape=True)

    def _environment(self, load: Load, *, autoescape: bool) -> BoundedEnvironment:
        def source(name: str) -> tuple[str, str, Callable[[], bool]] | None:
            found = load(name)
            if found is None:
                return None
            text, file = found
            self._files[name] = file
            return text, file, lambda: True

        return BoundedEnvironment(
            loader=FunctionLoader(source),
            undefined=_Unknown,
            autoescape=autoescape,
            auto_reload=False,
        )

    def html(self, name: str) -> BoundedTemplate:
        """The HTML template `name`. Raises RenderError."""
        return self._get(self._html, name)

    def text(self, name: str) -> BoundedTemplate:
        """The plain text template `name`. Raises RenderError."""
        return self._get(self._text, name)

    def inline(self, source: str, place: str) -> BoundedTemplate:
        """A text template that stands in the campaign file at `place`. Raises RenderError."""
        try:
            template = self._text.from_string(source)
        except Exception as error:  # Python's own compiler can give up, too
            raise RenderError(place, self._message(error, ())) from None
        assert isinstance(template, BoundedTemplate)
        template.filename = place
        return template

    def _get(self, environment: BoundedEnvironment, name: str) -> BoundedTemplate:
        try:
            template = environment.get_template(name)
            self._check_blocks(environment, name)
            assert isinstance(template, BoundedTemplate)
            return template
        except RenderError:
            raise
        except TemplateNotFound as error:
            raise RenderError(name, f"no such template: {error}") from None
        except Exception as error:  # Python's own compiler can give up, too
            place = self._place(error) or self._files.get(name, name)
            raise RenderError(place, self._message(error, ())) from None

    def _check_blocks(self, environment: BoundedEnvironment, name: str) -> None:
        """Raises RenderError for the first thing that no reader would see."""
        for below, source in reachable(self._load, [name]):
            tree = environment.parse(source)
            extends = blocks.extending(tree)
            if extends is None or not extends.names:
                continue
            file = (self._load(below) or ("", below))[1]
            for line, message in blocks.misplaced(extends.after, " or ".join(extends.names)):
                raise RenderError(f"{file}:{line}", message)
            above = (way for name in extends.names for way in self._ways(environment, name))
            if None in (ways := list(islice(above, MAX_WAYS + 1))) or len(ways) > MAX_WAYS:
                continue
            told = [way for way in ways if way]
            known = blocks.names(template for way in told for template in way)
            have = " and ".join(extends.names) + (" has" if len(extends.names) == 1 else " have")
            for block in blocks.hidden(tree, extends, told):
                message = f"{have} no block {block.name!r}{did_you_mean(block.name, known)}"
                if block.name in known:
                    message = (
                        f"the block {block.name!r} would not be shown: the block around it, higher"
                        " up, is replaced in between"
                    )
                raise RenderError(f"{file}:{block.lineno}", message)

    def _ways(
        self, environment: BoundedEnvironment, name: str, below: tuple[str, ...] = ()
    ) -> Iterator[list[nodes.Template] | None]:
        """The template `name` and all that it extends, in each way; None for one that cannot be
        told.
        """
        if name in below or (source := self._load(name)) is None:
            yield None  # told where it is compiled
            return
        tree = environment.parse(source[0])
        if (extends := blocks.extending(tree)) is None:
            yield None
            return
        if not extends.surely:
            yield [tree]
        for parent in extends.names:
            for way in self._ways(environment, parent, (*below, name)):
                yield None if way is None else [tree, *way]

    def render(self, template: BoundedTemplate, context: Mapping[str, object]) -> str:
        """Raises RenderError with the innermost template line for whatever goes wrong inside."""
        try:
            text = template.rendered(context)
        except Exception as error:  # whatever a template can raise is the template's error
            place = self._place(error) or template.filename or "template"
            raise RenderError(place, self._message(error, context)) from None
        fault = _character_fault(text)
        if fault is not None:
            raise RenderError(template.filename or "template", fault)
        return text

    def _place(self, error: Exception) -> str | None:
        if isinstance(error, TemplateSyntaxError):
            return f"{error.filename or error.name}:{error.lineno}"
        files = self._files.values()
        for frame, line in reversed(list(traceback.walk_tb(error.__traceback__))):
            if frame.f_code.co_filename in files:
                return f"{frame.f_code.co_filename}:{line}"
        return None

    def _message(self, error: Exception, names: Iterable[str]) -> str:
        """What `error` says, in words; `names` are those that the template could have meant."""
        match error:
            case TemplateNotFound(name=str(name)) if not isinstance(error, TemplatesNotFound):
                return f"no template {name!r}"
            case TemplateSyntaxError():
                message = error.message or "wrong syntax"
            case RecursionError() | SyntaxError() | MemoryError():  # of Python's compiler, too
                message = (
                    "templates, blocks or brackets are in one another without end, or too deep"
                )
            case UnicodeEncodeError():
                return _character_fault(error.object) or str(error)
            case _:
                message = str(error) or type(error).__name__
        for pattern, candidates in (
            (r"'(.+)' is undefined", names),
            (r"No filter named '(.+?)'.*", filter(str.isidentifier, self._text.filters)),
            (r"No test named '(.+?)'.*", self._text.tests),
        ):
            found = re.fullmatch(pattern, message)
            if found:
                known = sorted(candidates)
                hint = did_you_mean(found[1], known)
                if not hint and candidates is names and 0 < len(known) <= MAX_SHOWN_NAMES:
                    hint = f"; there is {', '.join(known)}"
                return message.removesuffix(".") + hint
        return message


def did_you_mean(name: str, candidates: Iterable[str]) -> str:
    """The end of a sentence about `name`, which is none of the candidates."""
    known = {c.casefold(): c for c in candidates if isinstance(c, str)}
    close = get_close_matches(name.casefold(), known, 1)
    return f"; did you mean {known[close[0]]!r}?" if close else ""


_UNSENDABLE = re.compile(r"[\0\ud800-\udfff]")


def _character_fault(text: str) -> str | None:
    """Why a rendered text cannot be sent: RFC 3629 3 has no surrogates, RFC 2045 2.7 no NUL."""
    with suppress(UnicodeEncodeError):
        if b"\0" not in text.encode():
            return None
    found = _UNSENDABLE.search(text)
    assert found is not None
    start, end = found.span()
    near = ascii(text[max(start - 20, 0) : end + 20])
    if found.group() == "\0":
        return f"a NUL character cannot be sent; near {near}"
    return (
        f"half of a character (U+{ord(found.group()):04X}) cannot be written in UTF-8; near {near}"
    )
