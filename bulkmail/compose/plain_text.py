"""The plain text part of a message, made from its HTML when the author gave no text template.

What a person reads in the HTML comes through unchanged, without the signs of Markdown; what is
hidden there, such as the preview line of newsletters, is left out. Newsletters are built of nested
tables: those become paragraphs. Nothing is wrapped, for mail readers do that. It knows nothing of
messages or encodings.
"""

import re
import unicodedata
from functools import cache
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from bs4 import Tag
    from markdownify import MarkdownConverter as _Converter
else:
    _Converter = object  # the library is loaded when it is needed: it costs a tenth of a second

_BREAK, _CELL, _SPACE = "\0", "\1", "\2"
"""Until all is joined: a line break, the end of a cell, a space that stays. No text has them."""
_MARKERS = str.maketrans("", "", _BREAK + _CELL + _SPACE)
_BLANK = " \t\n\xa0" + _BREAK

_HIDDEN = re.compile(r"(?:^|;)\s*(?:display\s*:\s*none|visibility\s*:\s*hidden)", re.IGNORECASE)
_DROPPED = frozenset({"head", "title", "style", "script", "template", "noscript"})
_SHORT = 24
"""Characters of a cell, such as a leaf of a calendar, whose lines are read as one."""

_FILLER = "[\xad\u034f\u200b\u200c\u2060\ufeff]+"
_FILLERS = re.compile(rf"(?:(?<=\s)|^){_FILLER}|{_FILLER}(?=\s|$)")
"""Characters of no width beside spaces, where they only fill. Within words they are spelling."""


def plain_text(html: str) -> str:
    """`html` as a text that reads well: at most one blank line in a row, ends in one newline.

    Raises ValueError for elements that are nested hundreds deep.
    """
    try:
        text = _converter().convert(html.translate(_MARKERS))
    except RecursionError:
        raise ValueError("elements of the HTML stand in one another too deep") from None
    lines = "\n".join(map(_tidy, re.split(f"[\n{_BREAK}{_CELL}]", text)))
    return re.sub(r"\n{3,}", "\n\n", lines).strip("\n") + "\n"


@cache
def _converter() -> Any:
    from markdownify import MarkdownConverter

    options = {"wrap": True, "wrap_width": None, "strip_pre": None}
    return type("PlainText", (_PlainText, MarkdownConverter), {})(**options)


def _tidy(line: str) -> str:
    line = re.sub("[ \t]+", " ", _FILLERS.sub("", line)).strip(" ")
    return line.replace("\xa0", " ").replace(_SPACE, " ").rstrip()


def _lines(text: str) -> list[str]:
    """The lines of a block that are not blank."""
    return [line.strip(" ") for line in re.split(f"[\n{_BREAK}]", text) if _tidy(line)]


def _one_line(text: str) -> str:
    return " ".join(_lines(text))


def _columns(text: str) -> int:
    """How wide a text is in a fixed-width font: Korean, Chinese, Japanese count twice."""
    return sum(2 if unicodedata.east_asian_width(c) in "WF" else 1 for c in text)


def _indented(text: str, first: str) -> str:
    """A block whose first line begins with `first`, and the others as far in."""
    lines = re.split(f"[\n{_BREAK}]", text.strip(_BLANK))
    return f"\n{_SPACE * len(first)}".join([first + lines[0], *lines[1:]])


class _PlainText(_Converter):
    """Each `convert_x` is given the element, its text so far, and the names of what is around."""

    def process_tag(self, node: "Tag", parent_tags: set[str] | None = None) -> str:
        hidden = node.has_attr("hidden") or _HIDDEN.search(str(node.get("style") or ""))
        if hidden or node.name in _DROPPED:
            return ""
        return super().process_tag(node, parent_tags)  # type: ignore[misc,no-any-return]

    def process_text(self, el: Any, parent_tags: set[str] | None = None) -> str:
        if type(el).__name__ != "NavigableString":  # <![if !mso]> and the like
            return ""
        return super().process_text(el, parent_tags)  # type: ignore[misc,no-any-return]

    def escape(self, text: str, parent_tags: set[str]) -> str:
        return text

    def _plain(self, el: "Tag", text: str, parent_tags: set[str]) -> str:
        return text

    convert_b = convert_strong = convert_em = convert_i = convert_del = convert_s = _plain
    convert_code = convert_kbd = convert_samp = convert_sub = convert_sup = convert_video = _plain

    def convert_a(self, el: "Tag", text: str, parent_tags: set[str]) -> str:
        before = " " if text.startswith(" ") else ""
        after = " " if text.endswith(" ") else ""
        return (
            before
            + _link(_one_line(text), str(el.get("href") or "").translate(_MARKERS).strip())
            + after
        )

    def convert_img(self, el: "Tag", text: str, parent_tags: set[str]) -> str:
        return str(el.get("alt") or "").translate(_MARKERS)

    def convert_br(self, el: "Tag", text: str, parent_tags: set[str]) -> str:
        return _BREAK + text

    def convert_p(self, el: "Tag", text: str, parent_tags: set[str]) -> str:
        return f"\n\n{text.strip(_BLANK)}\n\n"

    convert_caption = convert_figcaption = convert_dl = convert_table = convert_p

    def convert_div(self, el: "Tag", text: str, parent_tags: set[str]) -> str:
        return f"\n{text.strip(' ')}\n"

    convert_article = convert_section = convert_header = convert_footer = convert_div
    convert_main = convert_center = convert_dt = convert_div

    def convert_dd(self, el: "Tag", text: str, parent_tags: set[str]) -> str:
        return f"\n{_indented(text, _SPACE * 2)}\n"

    def convert_hN(self, n: int, el: "Tag", text: str, parent_tags: set[str]) -> str:
        title = _one_line(text)
        if not title or n > 2:
            return f"\n\n{title}\n\n"
        return f"\n\n{title}\n{'=-'[n - 1] * _columns(_tidy(title))}\n\n"

    def convert_hr(self, el: "Tag", text: str, parent_tags: set[str]) -> str:
        return f"\n\n{'-' * 40}\n\n"

    def convert_pre(self, el: "Tag", text: str, parent_tags: set[str]) -> str:
        lines = text.strip("\n").replace(" ", _SPACE).expandtabs().replace("\n", _BREAK)
        return f"\n\n{lines}\n\n"

    def convert_blockquote(self, el: "Tag", text: str, parent_tags: set[str]) -> str:
        lines = re.split(f"[\n{_BREAK}]", text.strip(_BLANK))
        return "\n\n" + "\n".join(f"> {line}" for line in lines) + "\n\n"

    def convert_li(self, el: "Tag", text: str, parent_tags: set[str]) -> str:
        bullet = "-"
        if el.parent is not None and el.parent.name == "ol":
            start = str(el.parent.get("start") or 1)
            before = len(el.find_previous_siblings("li"))
            bullet = f"{(int(start) if start.isdecimal() else 1) + before}."
        return f"{_indented(text, bullet + _SPACE)}\n"

    def convert_td(self, el: "Tag", text: str, parent_tags: set[str]) -> str:
        return text.strip(" \n" + _BREAK) + _CELL

    convert_th = convert_td

    def convert_tr(self, el: "Tag", text: str, parent_tags: set[str]) -> str:
        return _row([cell for cell in text.split(_CELL) if _one_line(cell)])


def _row(cells: list[str]) -> str:
    """One line where the cells are lines; else a block for each cell."""
    *others, last = [*map(_short, cells[:-1]), *cells[-1:]] or [""]
    lines = _lines(last)
    if all(len(_lines(cell)) == 1 for cell in others) and (
        len(lines) == 1 or (others and "\n" not in last and _BREAK * 2 not in last)
    ):
        return (
            "\n"
            + _indented(
                "\n".join(
                    [(_SPACE * 2).join([*others, lines[0]]), *(_SPACE * 2 + x for x in lines[1:])]
                ),
                "",
            )
            + "\n"
        )
    return "\n\n" + "\n\n".join([*others, last]) + "\n\n"


def _short(cell: str) -> str:
    line = _one_line(cell)
    return line if len(line) <= _SHORT else cell


def _link(text: str, url: str) -> str:
    """Text and address of a link; only the address where the text is that, too."""
    scheme, _, rest = url.partition(":")
    if scheme.lower() in ("mailto", "tel"):
        url = rest.partition("?")[0]
    elif scheme.lower() not in ("http", "https"):  # a place on the page, a script
        return text
    short = [re.sub("^https?://|/$", "", value) for value in (text, url)]
    return url if not text or short[0] == short[1] else f"{text} ({url})"
