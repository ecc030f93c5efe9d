"""Text into header fields: RFC 5322 2.2.3 (folding), RFC 2047 (encoded words), 3.4 (mailboxes).

The result is ASCII, folded with CRLF, and parses back to exactly the text that went in. Text that
could start another header is refused, never mended.
"""

import base64
import re
from datetime import UTC, datetime
from email.header import decode_header, make_header
from email.utils import format_datetime
from functools import lru_cache

LINE_LENGTH = 76
MAX_LINE_LENGTH = 998
"""RFC 5322 2.1.1: what no line may pass, where `LINE_LENGTH` is what it should not."""
_ENCODED_WORD_FRAME = len("=?utf-8?b??=")
_FORBIDDEN = re.compile(r"[\x00-\x08\x0a-\x1f\x7f]")
_PLAIN = re.compile(r"[ -~]*")
_ENCODED_WORD = re.compile(r"=\?[^?\s]+\?[bq]\?[^?\s]*\?=", re.IGNORECASE)
_WORDS = re.compile(r"(?<! ) (?=[^ ])")
_PHRASE = re.compile(r"[A-Za-z0-9!#$%&'*+/=?^_`{|}~ -]+")

ADDRESS_FIELDS = frozenset(
    {
        *("sender", "errors-to", "disposition-notification-to", "return-receipt-to"),
        *("x-confirm-reading-to", "abuse-reports-to", "x-report-abuse-to"),
    }
)
"""Fields of addresses that `headers` may set."""


class UnsafeHeaderError(ValueError):
    """Text with a line break or another control character cannot stand in a header."""


def header(name: str, text: str) -> bytes:
    """The field `name: text`, for text of any script, with its CRLF."""
    return f"{name}: {unstructured(text, len(name) + 2)}\r\n".encode("ascii")


def token_header(name: str, text: str) -> bytes:
    """The field `name: text` for text that programs read: never encoded if it is plain ASCII.

    Spaces around it go. It is folded before single spaces; a word that is longer than a line stays
    whole, since readers of such fields do not decode RFC 2047. Other text becomes encoded words,
    but not where addresses stand, which RFC 2047 5 forbids.
    """
    check_header_text(text)
    text = text.strip(" ")
    if not _PLAIN.fullmatch(text) or _ENCODED_WORD.search(text):
        if name.lower() in ADDRESS_FIELDS:
            raise UnsafeHeaderError(f"{text[:40]!r}, but {name} must be plain ASCII")
        return header(name, text)
    lines = [f"{name}:"]
    for word in _WORDS.split(text):
        if len(lines[-1]) + 1 + len(word) > LINE_LENGTH and lines[-1] != f"{name}:":
            lines.append("")
        lines[-1] += f" {word}"
    if max(map(len, lines)) > MAX_LINE_LENGTH:
        raise UnsafeHeaderError(f"a word of more than {MAX_LINE_LENGTH} characters, {text[:40]!r}…")
    return ("\r\n".join(lines) + "\r\n").encode("ascii")


def mailbox_header(name: str, display_name: str, address: str) -> bytes:
    """The field `name: display_name <address>` (RFC 5322 3.4), with its CRLF.

    Only an address outside ASCII makes it UTF-8 (RFC 6532 3.2).
    """
    if not display_name:
        return f"{name}: {address}\r\n".encode()
    phrase = _phrase(display_name, len(name) + 2)
    last_line = phrase.rpartition("\r\n")[2] if "\r\n" in phrase else f"{name}: {phrase}"
    space = " " if len(last_line) + len(address) + 3 <= LINE_LENGTH else "\r\n "
    return f"{name}: {phrase}{space}<{address}>\r\n".encode()


def list_id_header(phrase: str, list_id: str) -> bytes:
    """The field `List-ID` (RFC 2919 3), with its CRLF."""
    if phrase:
        return mailbox_header("List-ID", phrase, list_id)
    return f"List-ID: <{list_id}>\r\n".encode("ascii")


def unstructured(text: str, used: int) -> str:
    """`text` as the value of an unstructured field; `used` characters stand on its line already."""
    is_plain = _PLAIN.fullmatch(text) and "=?" not in text and text == text.strip()
    if is_plain and used + len(text) <= LINE_LENGTH:
        return text
    check_header_text(text)
    if is_plain:
        folded = _folded(text, used)
        if folded is not None:
            return folded
    return encoded_words(text, used)


def encoded_words(text: str, used: int) -> str:
    """RFC 2047 `B` words in UTF-8, one a line, none over 75 characters, no character cut in two."""
    words = []
    word = b""
    room = _word_room(used)
    for character in text:
        octets = character.encode("utf-8")
        if len(word) + len(octets) > room:
            words.append(word)
            word, room = b"", _word_room(1)
        word += octets
    words.append(word)
    return "\r\n ".join(f"=?utf-8?b?{base64.b64encode(word).decode()}?=" for word in words)


_SUBJECT = re.compile(rb"^Subject: (.*?)\r\n(?![ \t])", re.MULTILINE | re.DOTALL)


def decoded_subject(head: bytes) -> str:
    """The value of `Subject` in a header section, unfolded and decoded; empty if there is none."""
    found = _SUBJECT.search(head)
    value = found[1].decode("ascii").replace("\r\n", "") if found else ""
    return str(make_header(decode_header(value))) if "=?" in value else value


def check_header_text(text: str) -> None:
    """Raises UnsafeHeaderError, which says what is wrong with `text`."""
    found = _FORBIDDEN.search(text)
    if found:
        what = "a line break" if found.group() in "\r\n" else f"control character {found.group()!r}"
        raise UnsafeHeaderError(f"{what} in {text[:60]!r}")


@lru_cache(maxsize=4)
def date_header(at: int) -> bytes:
    """The Date field (RFC 5322 3.6.1) for a time in whole seconds since the epoch, in UTC."""
    return f"Date: {format_datetime(datetime.fromtimestamp(at, UTC))}\r\n".encode("ascii")


def _word_room(used: int) -> int:
    """Octets of text that fit an encoded word on a line with `used` characters."""
    return (LINE_LENGTH - used - _ENCODED_WORD_FRAME) // 4 * 3


def _phrase(text: str, used: int) -> str:
    fits = len(text) <= LINE_LENGTH - used - 2 and "=?" not in text
    if fits and _PHRASE.fullmatch(text) and text == " ".join(text.split()):
        return text
    check_header_text(text)
    if not fits or not _PLAIN.fullmatch(text):
        return encoded_words(text, used)
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'


def _folded(text: str, used: int) -> str | None:
    """ASCII text folded before single spaces; None where a line would still be too long."""
    lines = [""]
    for word in _WORDS.split(text):
        sep = " " if lines[-1] else ""
        if lines[-1] and used + len(lines[-1]) + 1 + len(word) > LINE_LENGTH:
            lines.append(word)
            used, sep = 1, ""
        else:
            lines[-1] += sep + word
        if used + len(lines[-1]) > LINE_LENGTH:
            return None
    return "\r\n ".join(lines)
