"""What readers, or their mail providers, would stumble over in a message that is legal.

Each rule looks at the letter as its reader gets it, decoded from the message's own bytes, and has a
name under which docs/checks.md explains it. Pure. A tag, a domain or a line that many letters have
is looked at once.
"""

import re
from collections.abc import Callable, Iterator
from enum import StrEnum
from functools import lru_cache
from html import unescape
from typing import NamedTuple

CLIPPED_BYTES = 102 * 1024
"""Gmail shows no more of the HTML, and hides the rest behind a link."""
LARGE_BYTES = 10_000_000
"""Encoded. Many servers of recipients take no larger message."""
SUBJECT_CHARACTERS = 78
"""RFC 5322 2.1.1 recommends so many for a line; phones show about 40."""
LINE_BYTES = 998
"""RFC 5322 2.1.1."""

LINK_TO_FILES = "put the files on a web page, and a link to them here"
SHORT = 500
"""Characters of a text that is remembered."""
_REPEATED = 60
"""Characters of what was found that are repeated."""


class Severity(StrEnum):
    """`error` is what nobody can have meant; `warning` what will cost readers or deliveries."""

    ERROR = "error"
    WARNING = "warning"


class Finding(NamedTuple):
    """`rule` is its name, `place` the parts of the message: `subject`, `text` and `HTML`, or one
    of `address`, `data`, `message`, or a key of the campaign file. `what` is wrong, and `mend` says
    what to do.
    """

    rule: str
    severity: Severity
    place: str
    what: str
    mend: str


class Letter(NamedTuple):
    """A message as its reader gets it. `longest_line` and `size` are in bytes, as sent."""

    subject: str
    text: str | None
    html: str | None
    longest_line: int
    size: int


def findings(letter: Letter) -> list[Finding]:
    """What is to be said of `letter`."""
    found = [
        *_of_size(letter),
        *_of_subject(letter.subject),
        *_of_parts(letter),
        *(each for line in (letter.text or "").split("\n") for each in _of_line(line)),
        *(each for piece in _shown(letter.html or "").split("<") for each in _of_piece(piece)),
    ]
    return _merged(found) if found else []


def _merged(found: list[Finding]) -> list[Finding]:
    """What stands in several parts of the letter, once, as severely as in any of them."""
    alike: dict[tuple[str, str], list[Finding]] = {}
    for finding in found:
        alike.setdefault((finding.rule, finding.what), []).append(finding)
    merged = []
    for same in alike.values():
        *most, last = dict.fromkeys(finding.place for finding in same)
        place = f"{', '.join(most)} and {last}" if most else last
        severity = min(finding.severity for finding in same)  # error, warning
        merged.append(same[0]._replace(place=place, severity=severity))
    return merged


def _once(look: Callable[[str], Iterator[Finding]]) -> Callable[[str], tuple[Finding, ...]]:
    """What `look` says of a text, kept for the next letters that have it, unless it is long."""
    kept = lru_cache(maxsize=4096)(lambda text: tuple(look(text)))
    return lambda text: kept(text) if len(text) < SHORT else tuple(look(text))


# -- the whole -----------------------------------------------------------------------------------


def _of_size(letter: Letter) -> Iterator[Finding]:
    if letter.longest_line > LINE_BYTES:
        what = f"a line has {letter.longest_line:,} bytes; no server need take over {LINE_BYTES}"
        yield _error("line-length", "message", what, "break the line in the template or the data")
    if letter.size > LARGE_BYTES:
        has, takes = letter.size / 1e6, LARGE_BYTES / 1e6
        what = f"the message has {has:.1f} MB; many mailboxes take no more than {takes:.0f}"
        yield _warning("size", "message", what, LINK_TO_FILES)


def _of_subject(subject: str) -> Iterator[Finding]:
    yield from _of_words("subject", subject)
    if not subject.strip():
        yield _error("subject-empty", "subject", "the subject is empty", "say what it is about")
    elif len(subject) > SUBJECT_CHARACTERS:
        what = f"the subject has {len(subject)} characters: {_short(subject)}"
        mend = f"{SUBJECT_CHARACTERS} are shown at most, 40 on a phone: begin with what matters"
        yield _warning("subject-length", "subject", what, mend)


def _of_parts(letter: Letter) -> Iterator[Finding]:
    if not (letter.text or "").strip():
        mend = "write a text template, or leave `text` out, and it is made from the HTML"
        yield _warning("no-text", "text", "the text part is empty", mend)
    if letter.html is None:
        return
    octets = len(letter.html.encode("utf-8", "replace"))
    if octets > CLIPPED_BYTES:
        what = f"the HTML has {octets / 1024:.0f} KB; Gmail cuts it off at 102"
        yield _warning("html-clipped", "HTML", what, "shorten it; images belong into `images`")


# -- words ---------------------------------------------------------------------------------------

_PLACEHOLDER = re.compile(
    r"(?<![$`])\{\{[^{}<\n]{0,60}(?:\}\})?|\{%[^{}<\n]{0,60}%\}|\*\|\w+\|\*|%%\w\w+%%"
    r"|\[(?:FIRST|LAST|FULL)?[ _-]?NAME\]"
)
"""Of Jinja2, Mailchimp and others."""

_GREETING = r"\b(?:Dear|Hello|Hi|Hey|Hallo|Liebe[rs]?|Bonjour|Hola|Ciao|Olá)"
_NOTHING = r"(?:None|nan|NaN|null|undefined)"
_NOBODY = re.compile(
    rf"{_GREETING}[ \xa0]+{_NOTHING}(?=[ \xa0]*(?:[,!.:<]|$))|\b{_NOTHING} ?님"
    rf"|안녕하세요[,.!]? {_NOTHING}\b"
)
"""What programs write where nothing is."""

_EMPTY_GREETING = re.compile(
    rf"{_GREETING}[ \xa0]+,|(?:^|>)[ \xa0]*Dear[ \xa0]*[,:]"
    r"|(?:(?:^|[>,.!?]|안녕하세요)[ \xa0]*)님(?=[,께!?. ]|$)",
    re.MULTILINE,
)
"""`Hello,` is a greeting, `Hello ,` and `Dear,` are one whose name is missing."""


@_once
def _of_line(line: str) -> Iterator[Finding]:
    """Of the text part."""
    yield from _of_words("text", line)
    for url in _URL.findall(line):
        yield from _of_link("text", url)


def _of_words(place: str, text: str) -> Iterator[Finding]:
    if found := _PLACEHOLDER.search(text):
        mend = "was it meant for another program, or does it stand in the data?"
        yield _error("placeholder", place, f"{_short(found[0])} is left over", mend)
    if found := _NOBODY.search(text):
        mend = "leave the cell empty, and write {{ name or 'reader' }}"
        yield _error("no-name", place, f"it says {_short(found[0])}", mend)
    elif found := _EMPTY_GREETING.search(text):
        what = f"it says {_short(found[0])}, to nobody"
        yield _warning("empty-greeting", place, what, "write {{ name or 'reader' }}")


# -- links and images ----------------------------------------------------------------------------

_HIDDEN = tuple(
    (re.compile(begin, re.IGNORECASE), re.compile(end, re.IGNORECASE))
    for begin, end in (("<!--", "-->"), (r"<style\b", r"</style\s*>"))
)
_TAG = re.compile(r"""(img|a|area)(?=[\s/>])((?:"[^"]*"|'[^']*'|[^'">])*)>""", re.IGNORECASE)
_ATTRIBUTE = re.compile(
    r"""(?<=[\s"'/])([a-z:-]+)(?:\s*=\s*(?:"([^"]*)"|'([^']*)'|([^\s"'>]+)))?""", re.IGNORECASE
)
_URL = re.compile(r"""\bhttps?://[^\s<>"')\]]+""", re.IGNORECASE)
_SCHEME = re.compile(r"[a-z][a-z0-9+.-]*:", re.IGNORECASE)
_HARMLESS = ("https:", "http:", "mailto:", "tel:", "sms:", "cid:", "data:", "webcal:", "geo:")
_LOCAL = re.compile(
    r"https?://(?:[^/?#@]*@)?(?:localhost|(?:127|10)(?:\.\d+){3}|0\.0\.0\.0|\[::1\]"
    r"|192\.168\.\d+\.\d+|169\.254\.\d+\.\d+|172\.(?:1[6-9]|2\d|3[01])\.\d+\.\d+"
    r"|[\w.-]+\.(?:local|localhost|internal|lan))(?=[:/?#]|\Z)",
    re.IGNORECASE,
)


def _shown(html: str) -> str:
    """`html` without comments and style sheets; what does not end hides the rest."""
    for begin, end in _HIDDEN:
        kept, at = [], 0
        while (start := begin.search(html, at)) is not None:
            kept.append(html[at : start.start()])
            stop = end.search(html, start.start() + 2)  # `<!-->` is whole
            at = stop.end() if stop else len(html)
        html = "".join([*kept, html[at:]])
    return html


@_once
def _of_piece(piece: str) -> Iterator[Finding]:
    """Of HTML from behind a `<` up to the next: a tag and the words after it."""
    if not piece.startswith(("code", "pre", "kbd", "samp")):
        yield from _of_words("HTML", piece)
    if (tag := _TAG.match(piece)) is None:
        return
    attributes = {
        found[1].lower(): unescape(found[2] or found[3] or found[4] or "").strip()
        for found in _ATTRIBUTE.finditer(tag[2])
    }
    if tag[1].lower() == "img":
        yield from _of_image(attributes)
    elif "href" in attributes:
        yield from _of_link("HTML", attributes["href"])


def _of_image(attributes: dict[str, str]) -> Iterator[Finding]:
    source = attributes.get("src", "")
    if source.lower().startswith("cid:"):
        source = source.partition("@")[0]
    if "alt" not in attributes:
        what = f"the image {_short(source)} has no alt"
        mend = 'write alt="what it shows", or alt="" for a mere ornament'
        yield _warning("image-alt", "HTML", what, mend)
    if not source.lower().startswith(("https:", "http:", "cid:", "data:")):
        what = f"the image {_short(source)} is found by nobody's mail program"
        mend = 'name it in `images` and write src="cid:NAME", or write its whole address'
        yield _error("image-source", "HTML", what, mend)
    elif _LOCAL.match(source):
        yield _local("HTML", source)


@lru_cache(maxsize=4096)
def _of_link(place: str, url: str) -> tuple[Finding, ...]:
    if not url or url == "#":
        return (_warning("link-empty", place, "a link leads nowhere", "write where it leads"),)
    if url.startswith("#"):
        return ()
    if not _SCHEME.match(url):
        mend = f"write https://{url.lstrip('/')}"
        return (_error("link-scheme", place, f"the link {_short(url)} has no scheme", mend),)
    if not url.lower().startswith(_HARMLESS):
        what = f"mail programs do not follow {_short(url)}"
        return (_warning("link-scheme", place, what, "link to a page, https://…"),)
    return (_local(place, url),) if _LOCAL.match(url) else ()


def _local(place: str, url: str) -> Finding:
    """In the text it may be words about a computer."""
    what = f"{_short(url)} is a computer of your own"
    say = _warning if place == "text" else _error
    return say("link-local", place, what, "write the address that everyone can reach")


# -- addresses -----------------------------------------------------------------------------------

_POPULAR = (
    *("gmail.com", "googlemail.com", "yahoo.com", "hotmail.com", "outlook.com", "icloud.com"),
    *("naver.com", "hanmail.net", "kakao.com", "protonmail.com", "yandex.ru", "comcast.net"),
    *("t-online.de", "orange.fr", "hotmail.co.uk", "yahoo.co.uk", "yahoo.co.jp", "yahoo.co.in"),
    *("verizon.net", "rediffmail.com", "freenet.de", "libero.it", "wanadoo.fr", "foxmail.com"),
)
"""Long enough that a name which is one letter away is hardly ever meant."""
_REAL = frozenset(
    {
        *("mail.com", "ymail.com", "email.com", "orage.fr", "range.fr", "cloud.com"),
        *("yahoo.co.id", "aver.com"),
    }
)
_NO_DOMAINS = {
    **dict.fromkeys(
        ("con", "cmo", "ocm", "vom", "xom", "comm", "coom", "cpm", "c0m", "cim"), "com"
    ),
    **dict.fromkeys(("ner", "nte", "met", "ent"), "net"),
}
"""Top-level domains that do not exist, and what was meant."""


@lru_cache(maxsize=65536)
def likely_domain(domain: str) -> str | None:
    """What `domain`, in lower case, was probably meant to be; None: itself."""
    if domain in _POPULAR or domain in _REAL:
        return None
    name, dot, top = domain.rpartition(".")
    if dot and top in _NO_DOMAINS:
        mended = f"{name}.{_NO_DOMAINS[top]}"
        return likely_domain(mended) or mended
    return next((known for known in _POPULAR if _one_apart(domain, known)), None)


def of_address(address: str) -> list[Finding]:
    """What is to be said of a recipient's address."""
    domain = address.rpartition("@")[2].lower()
    if (meant := likely_domain(domain)) is None:
        return []
    what = f"{domain} is probably meant to be {meant}"
    return [_warning("address-typo", "address", what, "mend it in the recipients' file")]


def _one_apart(one: str, other: str) -> bool:
    """Whether a letter was left out, added, exchanged, or two were swapped."""
    if abs(len(one) - len(other)) > 1:
        return False
    start = next((n for n, (a, b) in enumerate(zip(one, other, strict=False)) if a != b), None)
    if start is None:
        return one != other
    a, b = one[start:], other[start:]
    return a[1:] == b[1:] or a[1:] == b or a == b[1:] or (a[1::-1] == b[:2] and a[2:] == b[2:])


def _short(text: str) -> str:
    words = " ".join(text.split())
    return f'"{words[:_REPEATED]}…"' if len(words) > _REPEATED else f'"{words}"'


def _error(rule: str, place: str, what: str, mend: str) -> Finding:
    return Finding(rule, Severity.ERROR, place, what, mend)


def _warning(rule: str, place: str, what: str, mend: str) -> Finding:
    return Finding(rule, Severity.WARNING, place, what, mend)
