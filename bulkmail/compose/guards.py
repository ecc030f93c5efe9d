"""Operators, filters and methods whose result can be far larger than what they are given.

Each has a guard, which sees the arguments first and refuses what must not be computed. Pure.
"""

import re
from collections.abc import Callable, Iterable, Mapping
from string import Formatter
from typing import Any, NoReturn

from jinja2 import TemplateRuntimeError

CHARACTERS = 2_000_000
"""The longest text that a rendering may make, also on the way. Gmail clips HTML over 102 KB."""
ITEMS = 100_000
"""Of the longest list that a rendering may make."""
DIGITS = 18
"""Of a whole number."""


class BoundError(TemplateRuntimeError):
    """A template wants too much, or something that has no place in a message."""


def check_length(characters: int) -> None:
    if characters > CHARACTERS:
        raise BoundError(f"makes a text of more than {CHARACTERS:,} characters")


def check_items(items: int) -> None:
    if items > ITEMS:
        raise BoundError(f"makes a list of more than {ITEMS:,} items")


def check_number(number: int) -> None:
    if not -(10**DIGITS) < number < 10**DIGITS:
        raise BoundError(f"makes a number of more than {DIGITS} digits")


# Guards. Each has the parameters of what it guards, and refuses what must not be computed. Their
# estimates may be too high, but not for anything that a message would hold.


def _times(left: Any, right: Any) -> None:
    for sequence, times in ((left, right), (right, left)):
        if isinstance(times, int) and isinstance(sequence, str):
            check_length(len(sequence) * times)
        elif isinstance(times, int) and isinstance(sequence, list | tuple):
            check_items(len(sequence) * times)


def _power(base: Any, exponent: Any) -> None:
    if isinstance(base, int) and isinstance(exponent, int):
        # The smallest number that the result can be, up to 2**64.
        check_number(1 << min(max((base.bit_length() - 1) * exponent, 0), 64))


_CONVERSION = re.compile(r"%%|%(?:\([^)]*\))?([-#0 +*.\d]*)")


def _printf(text: str, values: Any) -> None:
    """`text % values`."""
    if isinstance(values, Mapping):
        values = values.values()
    elif not isinstance(values, tuple):
        values = (values,)
    _fill(_CONVERSION.findall(text), values)


def _str_format(text: str, *values: object, **named: object) -> None:
    specs = [spec for _, _, spec, _ in Formatter().parse(text) if spec is not None]
    _fill(specs, (*values, *named.values()))


def _fill(specs: list[str], values: Iterable[object]) -> None:
    """A width may stand in the format or be a value; a value may be used many times."""
    values = list(values)
    widths = [int(width) for spec in specs for width in re.findall(r"\d+", spec)]
    longest = max((len(value) for value in values if isinstance(value, str)), default=0)
    if any("*" in spec or "{" in spec for spec in specs):
        longest = max([longest, *(abs(value) for value in values if isinstance(value, int))])
    check_length(sum(widths) + longest * len(specs))


def _replace(text: object, old: object, new: object, count: int | None = None) -> None:
    text, old, new = str(text), str(old), str(new)
    found = text.count(old)
    if count is not None and count >= 0:
        found = min(found, count)
    check_length(len(text) + found * (len(new) - len(old)))


def _join(values: Any, d: object = "", attribute: object = None) -> None:
    texts = sum(len(value) for value in values if isinstance(value, str))
    check_length(texts + len(str(d)) * len(values))


def _indent(text: object, width: int | str = 4, *_: object, **__: object) -> None:
    if not isinstance(text, str):  # a list would be changed for all who come after
        raise BoundError("indent is for texts")
    check_length(len(text) + (text.count("\n") + 1) * _columns(width))


def _columns(indent: int | str | None) -> int:
    return len(indent) if isinstance(indent, str) else indent or 0


def _refuse(words: str) -> Callable[..., NoReturn]:
    def refuse(*_: object, **__: object) -> NoReturn:
        raise BoundError(words)

    return refuse


_Guards = Mapping[str, Callable[..., object]]
OPERATORS: _Guards = {
    "*": _times,
    "**": _power,
    "+": lambda left, right: None,
    "%": lambda left, right: _printf(left, right) if isinstance(left, str) else None,
}
FILTERS: _Guards = {
    "batch": lambda values, linecount, fill_with=None: check_items(linecount),
    "center": lambda text, width=80: check_length(width),
    "format": lambda text, *values, **named: _printf(str(text), named or values),
    "indent": _indent,
    "join": _join,
    "random": _refuse("random chooses anew each time; a message must stay the same"),
    "replace": _replace,
    "round": lambda number, precision=0, method="": check_number(10 ** min(abs(precision), DIGITS)),
    "tojson": lambda value, indent=None: (
        check_length(len(str(value)) * _columns(indent)) if indent else None
    ),
    # It looks at every character of a word, or a run of spaces, for each.
    "wordwrap": lambda text, width=79, long=True, wrapstring="", *_, **__: check_length(
        len(text) * max(len(wrapstring or ""), len(text) // 1000)
    ),
}
TEXT_METHODS: _Guards = {
    **dict.fromkeys(
        ("center", "ljust", "rjust", "zfill"), lambda text, width, fill="": check_length(width)
    ),
    "expandtabs": lambda text, tabsize=8: check_length(len(text) + text.count("\t") * tabsize),
    "format": _str_format,
    "format_map": lambda text, values: _str_format(text, *values.values()),
    "join": lambda separator, values: _join(values, separator),
    "replace": _replace,
}
NO_LIPSUM = _refuse("lipsum makes another text each time; a message must stay the same")
REFUSED_METHODS = frozenset({"encode", "from_bytes", "maketrans", "to_bytes", "translate"})
