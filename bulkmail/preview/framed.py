"""The HTML of a message, made fit for a frame that may do nothing.

The frame's sandbox and its Content-Security-Policy are what keeps it quiet, whatever it holds; what
is changed here are the few things that they do not cover, and pictures that go along.
"""

import re
from base64 import b64encode
from collections.abc import Mapping
from html import escape

from bulkmail.preview.opened import File

_PICTURES = ("image/png", "image/jpeg", "image/gif", "image/webp", "image/bmp", "image/svg+xml")
_DOCTYPE = re.compile(r"\A\s*(?:<!--.*?-->\s*)*<!doctype[^>]*>", re.IGNORECASE | re.DOTALL)
_PRECONNECT = re.compile(r"<link(?=[\s/>])", re.IGNORECASE)
_FRAME = re.compile(r"<(iframe|frame|fencedframe|portal)(?=[\s/>])", re.IGNORECASE)
"""Start tags of what browsers may connect for before they look at a policy; Chromium does for a
frame, and for a link that leads the frame away.
"""
_LEADING = re.compile(
    r"""<(?:a|area|form|base)(?=[\s/])(?:"[^"]*"|'[^']*'|[^'">])*>""", re.IGNORECASE
)
_TARGET = re.compile(r"""(?<=[\s"'/])target(?=\s*=)""", re.IGNORECASE)
_QUIET = "default-src 'none'; style-src 'unsafe-inline'; form-action 'none'; base-uri 'none'"


def policy(*, remote: bool) -> str:
    """The Content-Security-Policy of a message; `remote`: its pictures may come from anywhere."""
    images = "data: https: http:" if remote else "data:"
    return f"{_QUIET}; img-src {images}; frame-ancestors 'self'; sandbox"


def framed(html: str, images: Mapping[str, File], *, with_policy: bool = False) -> str:
    """`html` with its own pictures in it, for a frame.

    Every link opens a new window, which the sandbox refuses: the frame stays where it is. What
    could still make the browser connect elsewhere (preconnect, a frame) loses its name, which no
    spelling can hide. With `with_policy` the policy stands in the HTML, where no server can send
    it.
    """
    for content_id, image in images.items():
        html = html.replace(f"cid:{content_id}", _data_uri(image))
    html = _FRAME.sub(r"<x-\1", _PRECONNECT.sub("<meta", html))
    html = _LEADING.sub(lambda tag: _TARGET.sub("data-target", tag[0]), html)
    head = '<base target="_blank">'
    if with_policy:
        content = escape(f"{_QUIET}; img-src data:")
        head = f'<meta http-equiv="Content-Security-Policy" content="{content}">{head}'
    doctype = _DOCTYPE.match(html)
    end = doctype.end() if doctype else 0
    return f"{html[:end]}{head}{html[end:]}"


def _data_uri(image: File) -> str:
    kind = image.media_type if image.media_type in _PICTURES else "application/octet-stream"
    return f"data:{kind};base64,{b64encode(image.content).decode('ascii')}"
