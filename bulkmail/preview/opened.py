"""A message from its bytes, as mail programs open it, by the standard library's `email`.

It may be anybody's: what does not decode is shown as well as it can be, and nothing raises.
"""

import email
import re
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from email import policy
from email.header import decode_header, make_header
from email.message import Message
from email.utils import parseaddr
from html.parser import HTMLParser
from typing import NamedTuple

from bulkmail.compose.lint import Letter

PREHEADER_CHARACTERS = 140
SHOWN_LINKS = 200
_UNSEEN = (
    r"\u00ad\u034f\u061c\u115f\u1160\u17b4\u17b5\u180e\u200b-\u200f\u2028-\u202e\u2060-\u2064\ufeff"
)
_INVISIBLE = re.compile(f"[{_UNSEEN}]")
_PADDING = re.compile(rf"(?:[{_UNSEEN}]\s*){{10,}}")
"""What preheaders are filled up with, so that nothing of the letter shows after them."""
_FOLD = re.compile(r"\r?\n(?=[ \t])")
_CONTROL = re.compile(r"[\x00-\x1f\x7f\u202a-\u202e\u2066-\u2069]")
"""Those that turn the direction of text around, too: an address would read as another one."""
_REMOTE = re.compile(
    r"""(?:src|srcset|background|poster)\s*=\s*["']?\s*(?:https?:)?//"""
    r"""|url\(\s*["']?\s*(?:https?:)?//""",
    re.IGNORECASE,
)


class File(NamedTuple):
    """A part that is saved, not shown. `media_type` is what the message says of it."""

    name: str
    media_type: str
    content: bytes


class Link(NamedTuple):
    """What readers see of a link, and where it leads."""

    text: str
    url: str


@dataclass(frozen=True, slots=True)
class Opened:
    """A message as its reader gets it. `images` are those in the HTML, by content-id."""

    raw: bytes
    headers: list[tuple[str, str]]
    text: str | None
    html: str | None
    images: dict[str, File]
    attachments: list[File]

    def header(self, name: str) -> str:
        """The first field of that name, decoded; empty if there is none."""
        return next((value for known, value in self.headers if known.lower() == name), "")

    @property
    def author(self) -> tuple[str, str]:
        """Display name and address of `From:`."""
        return parseaddr(self.header("from"))

    @property
    def letter(self) -> Letter:
        """For `lint`."""
        lines = self.raw.split(b"\n")
        longest = max(len(line.rstrip(b"\r")) for line in lines)
        return Letter(self.header("subject"), self.text, self.html, longest, len(self.raw))

    @property
    def preheader(self) -> str:
        """What an inbox shows after the subject."""
        words = _read(self.html).text if self.html is not None else self.text or ""
        words = _PADDING.split(words, 1)[0]
        return " ".join(_INVISIBLE.sub("", words).split())[:PREHEADER_CHARACTERS]

    @property
    def links(self) -> list[Link]:
        return _read(self.html).links if self.html is not None else []

    @property
    def remote_images(self) -> bool:
        """Whether it asks for pictures from elsewhere."""
        return bool(self.html and _REMOTE.search(self.html))


def opened(raw: bytes) -> Opened:
    """The message in `raw`."""
    message = email.message_from_bytes(raw, policy=policy.compat32)
    text = html = None
    images: dict[str, File] = {}
    attachments: list[File] = []
    for part in _leaves(message):
        kind = part.get_content_type()
        if part.get_content_disposition() != "attachment" and not part.get_filename():
            if kind == "text/plain" and text is None:
                text = _text(part)
                continue
            if kind == "text/html" and html is None:
                html = _text(part)
                continue
        file = File(_name(part, len(attachments)), kind, _content(part))
        content_id = str(part.get("Content-ID", "")).strip().strip("<>")
        if content_id and kind.startswith("image/") and f"cid:{content_id}" in (html or ""):
            images[content_id] = file
        else:
            attachments.append(file)
    headers = [(name, _decoded(value)) for name, value in message.items()]
    return Opened(raw, headers, text, html, images, attachments)


def _leaves(message: Message) -> Iterator[Message]:
    for part in message.walk():
        if not part.is_multipart():
            yield part


def _content(part: Message) -> bytes:
    content = part.get_payload(decode=True)
    return content if isinstance(content, bytes) else b""


def _text(part: Message) -> str:
    charset = part.get_content_charset("utf-8")
    try:
        text = _content(part).decode(charset, "replace")
    except LookupError:
        text = _content(part).decode("utf-8", "replace")
    return text.replace("\r\n", "\n")


def _name(part: Message, number: int) -> str:
    """Of a file, without what a disk or a header would take for more than a name."""
    name = _decoded(part.get_filename() or "").replace("\\", "/").rpartition("/")[2]
    return name.strip(". ") or f"part-{number + 1}"


def _decoded(value: object) -> str:
    """A header field's value on one line, its encoded words read (RFC 2047)."""
    line = _FOLD.sub("", str(value))
    with suppress(LookupError, ValueError):
        line = str(make_header(decode_header(line)))
    line = line.encode("utf-8", "surrogateescape").decode("utf-8", "replace")
    return _CONTROL.sub("\N{REPLACEMENT CHARACTER}", line.replace("\t", " "))


# -- HTML ----------------------------------------------------------------------------------------


class _Reader(HTMLParser):
    """The words of HTML, and its links."""

    _SILENT = frozenset({"style", "script", "title", "template"})

    def __init__(self) -> None:
        super().__init__(convert_charrefs=True)
        self.links: list[Link] = []
        self._words: list[str] = []
        self._silent: list[str] = []
        self._url: str | None = None
        self._link_words: list[str] = []

    @property
    def text(self) -> str:
        return " ".join(self._words)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag == "body":
            self._silent.clear()
        elif tag in self._SILENT:
            self._silent.append(tag)
        elif tag in ("a", "area"):
            self._end_link()
            self._url = dict(attrs).get("href")
        elif tag == "img" and self._url is not None:
            self._link_words.append(dict(attrs).get("alt") or "image")

    def handle_endtag(self, tag: str) -> None:
        if tag in self._silent:
            del self._silent[self._silent.index(tag) :]
        elif tag == "a":
            self._end_link()

    def handle_data(self, data: str) -> None:
        if self._silent:
            return
        self._words.append(data)
        if self._url is not None:
            self._link_words.append(data)

    def _end_link(self) -> None:
        if self._url and len(self.links) < SHOWN_LINKS:
            words = " ".join(" ".join(self._link_words).split())
            self.links.append(Link(words, self._url.strip()))
        self._url = None
        self._link_words = []


def _read(html: str) -> _Reader:
    reader = _Reader()
    reader.feed(html)
    reader.close()
    return reader
