"""Where HTML and CSS load what goes with the message, as `cid:NAME` (RFC 2392).

Only an address that *is* `cid:NAME` counts, in an attribute or a style sheet that holds addresses;
words, addresses that merely hold these letters, and comments stay as they are. Data of recipients
is escaped, and never one of these places.
"""

import re
from collections.abc import Callable

_TAG = r"""<style\b.*?</style\s*>|<[a-z/!?](?:"[^"]*"|'[^']*'|[^<>"']++)*+>"""
"""Or a style sheet."""
_TAGS = re.compile(_TAG, re.DOTALL | re.IGNORECASE)
_PIECES = re.compile(rf"<!--(?:-?>|.*?(?:--!?>|\Z))|{_TAG}", re.DOTALL | re.IGNORECASE)
"""Comments beside them; one that does not end hides the rest."""

_CONDITIONAL = re.compile(r"<!--\s*+\[if\b", re.IGNORECASE)
"""A comment for Outlook, which looks into it."""

_ATTRIBUTE = re.compile(r"""(?<![^\s"'/])([^\s"'<>/=]++)(\s*+=\s*+)("[^"]*"|'[^']*'|[^\s"'<>]++)""")

# What stands before an address, and the name of the image.
_ADDRESS = re.compile(r"""\A(["']?\s*+)cid:([^"']*)""", re.IGNORECASE)
_CSS = re.compile(
    r"""(\burl\(\s*+(?:["']|&quot;|&\#3[49];)?\s*+)cid:([^\s"'()<>&]*)""", re.IGNORECASE
)
_CANDIDATES = re.compile(
    r"""((?:\A["']?|,(?=\s)|\s[\d.]+[wxh]\s*,)\s*)cid:([^\s,"']*)""", re.IGNORECASE
)
"""Of `srcset`: addresses may hold commas, but end with a space."""

_ATTRIBUTES = {
    **dict.fromkeys(("src", "background", "poster", "data", "href", "xlink:href"), _ADDRESS),
    "srcset": _CANDIDATES,
    "style": _CSS,
}


def with_content_ids(html: str, content_id: Callable[[str], str]) -> str:
    """`html` with `content_id(NAME)` for each NAME that is loaded."""
    if "cid:" not in html.lower():
        return html

    def renamed(found: re.Match[str]) -> str:
        return f"{found[1]}cid:{content_id(found[2].strip())}"

    def attribute(found: re.Match[str]) -> str:
        name, equals, value = found.groups()
        addresses = _ATTRIBUTES.get(name.lower())
        return found[0] if addresses is None else name + equals + addresses.sub(renamed, value)

    def piece(found: re.Match[str]) -> str:
        text = found[0]
        if "cid:" not in text.lower():
            return text
        if text.startswith("<!--"):
            return text[:4] + _TAGS.sub(piece, text[4:]) if _CONDITIONAL.match(text) else text
        if text[:6].lower() == "<style":
            return _CSS.sub(renamed, text)
        return _ATTRIBUTE.sub(attribute, text)

    return _PIECES.sub(piece, html)
