"""Bytes of a server into replies (RFC 5321 4.2). Pure, incremental, bounded in memory.

Accepts what servers do (a bare LF, a code without text); refuses what is no reply.
"""

import re
from collections.abc import Iterator
from functools import lru_cache

from bulkmail.model import Reply

MAX_LINE_BYTES = 4096
MAX_REPLY_BYTES = 65536
_LINE = re.compile(rb"([2-5][0-9]{2})(?:([ -])(.*))?", re.DOTALL)
_ENHANCED = re.compile(r"([245]\.[0-9]{1,3}\.[0-9]{1,3})(?:\s|$)")
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f]+")


class MalformedReplyError(ValueError):
    """What the server sent is not an SMTP reply; where the next one begins is unknown."""


class ReplyReader:
    """Collects bytes; `receive` returns the replies that are complete."""

    def __init__(self) -> None:
        self._unread = b""
        self._code = b""
        self._texts: list[bytes] = []
        self._size = 0

    def receive(self, data: bytes) -> Iterator[Reply]:
        """The replies completed by `data`; raises MalformedReplyError if then comes none."""
        *lines, self._unread = (self._unread + data).split(b"\n")
        for line in lines:
            if (reply := self._take(line.rstrip(b"\r"))) is not None:
                yield reply
        if len(self._unread) > MAX_LINE_BYTES:
            raise MalformedReplyError("a reply line without end")

    def _take(self, line: bytes) -> Reply | None:
        if not self._texts and (reply := _one_line(line)) is not None:
            return reply
        match = _LINE.fullmatch(line)
        if match is None or len(line) > MAX_LINE_BYTES:
            raise MalformedReplyError(f"not an SMTP reply: {printable(line[:80])!r}")
        code, separator, text = match.group(1), match.group(2), match.group(3) or b""
        if self._texts and code != self._code:
            raise MalformedReplyError(f"one reply with two codes, {self._code!r} and {code!r}")
        self._code = code
        self._texts.append(text)
        self._size += len(text)
        if self._size > MAX_REPLY_BYTES:
            raise MalformedReplyError("a reply without end")
        if separator == b"-":
            return None
        reply = make_reply(int(code), b"\n".join(self._texts))
        self._texts, self._size = [], 0
        return reply


@lru_cache(maxsize=64)
def _one_line(line: bytes) -> Reply | None:
    """The reply that a line makes by itself; servers say most of them again and again."""
    match = _LINE.fullmatch(line)
    if match is None or match[2] == b"-" or len(line) > MAX_LINE_BYTES:
        return None
    return make_reply(int(match[1]), match[3] or b"")


def make_reply(code: int, text: bytes) -> Reply:
    """A reply from its code and the text of its lines, one a line.

    An enhanced code that each line repeats (RFC 2034 4) stands once in the text.
    """
    enhanced = _ENHANCED.match(printable(text))
    if enhanced is None:
        return Reply(code, "", printable(text))
    first, *more = text.split(b"\n")
    repeated = enhanced.group(1).encode("ascii")
    more = [line.strip().removeprefix(repeated).strip() for line in more]
    return Reply(code, enhanced.group(1), printable(b"\n".join([first, *more])))


def printable(text: bytes) -> str:
    """Text of a server, safe to print and store: one line, no control characters."""
    return _CONTROL.sub(" ", text.decode("utf-8", "replace")).strip()
