"""Jinja2 templates into text: sandboxed, strict about undefined names, escaping in HTML.

Sources are handed in by a function, so that what was read once stays for the whole run.
An error tells the template's file and line.
"""

import traceback
from collections.abc import Callable, Mapping

from jinja2 import FunctionLoader, StrictUndefined, Template, TemplateError, TemplateSyntaxError
from jinja2.sandbox import ImmutableSandboxedEnvironment

Load = Callable[[str], tuple[str, str] | None]
"""Template name to (source, file as shown to a person), or None where there is none."""


class RenderError(ValueError):
    """A template could not be compiled or rendered. `place` is `file:line`."""

    def __init__(self, place: str, message: str) -> None:
        self.place = place
        self.message = message
        super().__init__(f"{place}: {message}")


class Templates:
    """The templates of a campaign. `text` and `html` differ in escaping only."""

    def __init__(self, load: Load) -> None:
        self._files: set[str] = set()
        self._text = self._environment(load, autoescape=False)
        self._html = self._environment(load, autoescape=True)

    def _environment(self, load: Load, *, autoescape: bool) -> ImmutableSandboxedEnvironment:
        def source(name: str) -> tuple[str, str, Callable[[], bool]] | None:
            found = load(name)
            if found is None:
                return None
            text, file = found
            self._files.add(file)
            return text, file, lambda: True

        return ImmutableSandboxedEnvironment(
            loader=FunctionLoader(source),
            undefined=StrictUndefined,
            autoescape=autoescape,
            auto_reload=False,
        )

    def html(self, name: str) -> Template:
        """The HTML template `name`. Raises RenderError."""
        return self._get(self._html, name)

    def text(self, name: str) -> Template:
        """The plain text template `name`. Raises RenderError."""
        return self._get(self._text, name)

    def inline(self, source: str, place: str) -> Template:
        """A text template that stands in the campaign file at `place`. Raises RenderError."""
        try:
            template = self._text.from_string(source)
        except TemplateSyntaxError as error:
            raise RenderError(place, error.message or "wrong syntax") from None
        template.filename = place
        return template

    def _get(self, environment: ImmutableSandboxedEnvironment, name: str) -> Template:
        try:
            return environment.get_template(name)
        except TemplateSyntaxError as error:
            place = f"{error.filename or name}:{error.lineno}"
            raise RenderError(place, error.message or "wrong syntax") from None
        except TemplateError as error:
            raise RenderError(name, f"no such template: {error}") from None

    def render(self, template: Template, context: Mapping[str, object]) -> str:
        """Raises RenderError with the innermost template line for whatever goes wrong inside."""
        try:
            return template.render(context)
        except Exception as error:  # whatever a template can raise is the template's error
            place = self._place(error) or template.filename or "template"
            raise RenderError(place, str(error) or type(error).__name__) from None

    def _place(self, error: Exception) -> str | None:
        if isinstance(error, TemplateSyntaxError):
            return f"{error.filename or error.name}:{error.lineno}"
        for frame, line in reversed(list(traceback.walk_tb(error.__traceback__))):
            if frame.f_code.co_filename in self._files:
                return f"{frame.f_code.co_filename}:{line}"
        return None
