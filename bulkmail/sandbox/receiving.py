"""The server's side of SMTP (RFC 5321, 1870, 2920, 3030, 4954, 6152, 6531), without I/O: bytes in,
bytes out.

Honest by default, and strict: what the extensions it announces do not allow, it refuses, so that
what it keeps was legal to send. What it announces is told; `Behaviour.answer` can replace any
reply, which is how tests make it refuse, lie or hang.
"""

import base64
import binascii
import math
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace

_PATH = re.compile(r"(?:FROM|TO):\s*<([^<>\s\x00-\x1f\x7f\ufffd]*)>(?:\s+(.*))?", re.IGNORECASE)
_PARAMETERS = {
    "SIZE": ("SIZE", re.compile(r"[0-9]{1,20}")),
    "BODY": ("8BITMIME", re.compile(r"7BIT|8BITMIME", re.IGNORECASE)),
    "SMTPUTF8": ("SMTPUTF8", re.compile(r"")),
}
"""Of MAIL: the extension that each belongs to, and what it may be set to."""

_CHUNK = re.compile(r"([0-9]{1,10})( LAST)?", re.IGNORECASE)
_SIZE = re.compile(r"SIZE ([0-9]{1,20})", re.IGNORECASE)
_MAX_LINE = 4096
_MAX_CONTENT_LINE = 998
_TOO_BIG = b"552 5.3.4 message too big\r\n"
_NOT_ASCII = b"553 5.6.7 addresses outside ASCII need SMTPUTF8\r\n"


@dataclass(slots=True)
class Received:
    """A message as it came: dots unstuffed, lines in CRLF. `parameters` are those of MAIL."""

    reverse_path: str
    forward_paths: list[str]
    parameters: dict[str, str] = field(default_factory=dict)
    content: bytes = b""


@dataclass(frozen=True, slots=True)
class _Chunk:
    """What BDAT announced: octets, whether they are the last, and what they are refused with."""

    size: int
    is_last: bool
    refusal: bytes | None


class Hangup(Exception):
    """Raised by an `answer`: the connection is broken off, after `last_words`."""

    def __init__(self, last_words: bytes = b"") -> None:
        self.last_words = last_words


@dataclass(slots=True)
class Behaviour:
    """What the server announces and accepts.

    `login` is (username, password), or None to accept any. `answer(verb, argument)` is asked before
    every reply, `CONNECT` and the end of a message `.` included; bytes replace the reply, None
    leaves it. `BDAT` is asked when it comes, before its octets do, which are taken in any case.
    """

    extensions: tuple[str, ...] = (
        "PIPELINING",
        "CHUNKING",
        "SIZE 26214400",
        "8BITMIME",
        "SMTPUTF8",
        "ENHANCEDSTATUSCODES",
    )
    login_required: bool = True
    login: tuple[str, str] | None = None
    starttls: bool = False
    answer: Callable[[str, str], bytes | None] = field(default=lambda verb, argument: None)

    def announces(self, keyword: str) -> bool:
        return any(line.split(" ")[0].upper() == keyword for line in self.extensions)

    @property
    def max_bytes(self) -> float:
        """The number of SIZE; infinite where none is announced (RFC 1870 4)."""
        for line in self.extensions:
            if number := _SIZE.fullmatch(line):
                return int(number[1]) or math.inf
        return math.inf


class Receiver:
    """One connection. `deliver` keeps a message before its dot is answered."""

    def __init__(self, behaviour: Behaviour, deliver: Callable[[Received], None]) -> None:
        self.wants_tls = False
        self.closed = False
        self._behaviour = behaviour
        self._deliver = deliver
        self._unread = bytearray()
        self._message: Received | None = None
        self._in_data = False
        self._chunk: _Chunk | None = None
        self._authenticated = not behaviour.login_required
        self._challenge: list[str] | None = None

    def greet(self) -> bytes:
        return self._answered("CONNECT", "", b"220 sandbox ESMTP keeps everything\r\n")

    def receive(self, data: bytes) -> bytes:
        """The replies to what is complete now. Raises Hangup."""
        return b"".join(self.replies(data))

    def replies(self, data: bytes) -> Iterator[bytes]:
        """The same, one by one: nothing is looked at before the reply to what stands before it."""
        self._unread += data
        while not self.closed and not self.wants_tls:
            reply = self._next()
            if reply is None:
                break
            yield reply

    def _next(self) -> bytes | None:
        """The reply to what came next, which may be empty; None: it is not whole yet."""
        if self._chunk is not None:
            return self._octets(self._chunk)
        return self._content() if self._in_data else self._line()

    def secured(self) -> None:
        """TLS begins: RFC 3207 4.2, nothing from before counts."""
        self.wants_tls = False
        self._unread.clear()
        self._message = None
        self._behaviour = replace(self._behaviour, starttls=False)

    def _line(self) -> bytes | None:
        end = self._unread.find(b"\r\n")
        if end < 0:
            if len(self._unread) > _MAX_LINE:
                raise Hangup(b"500 5.5.2 line too long\r\n")
            return None
        line = self._unread[:end].decode("utf-8", "replace")
        del self._unread[: end + 2]
        if self._challenge is not None:
            return self._credentials(line)
        verb, _, argument = line.partition(" ")
        verb = verb.upper()
        if verb == "BDAT" and (chunk := self._bdat(argument.strip())) is not None:
            self._chunk = chunk
            return b""
        handler = _HANDLERS.get(verb)
        reply = handler(self, argument.strip()) if handler else b"500 5.5.1 what?\r\n"
        return self._answered(verb, argument, reply)

    def _answered(self, verb: str, argument: str, reply: bytes) -> bytes:
        """`answer` may replace the reply; then what it would have begun has not begun."""
        replaced = self._behaviour.answer(verb, argument)
        self.closed = verb == "QUIT" and replaced is None
        if replaced is None:
            return reply
        if verb == "DATA":
            self._in_data = replaced.startswith(b"354")
        elif replaced.startswith(b"2") or not reply.startswith(b"2"):
            pass
        elif verb == "MAIL":
            self._message = None
        elif verb == "RCPT" and self._message:
            self._message.forward_paths.pop()
        return replaced

    # -- commands --------------------------------------------------------------------------------

    def _ehlo(self, argument: str) -> bytes:
        behaviour = self._behaviour
        lines = ["sandbox", *behaviour.extensions]
        if behaviour.starttls:
            lines.append("STARTTLS")
        elif behaviour.login_required:
            lines.append("AUTH PLAIN LOGIN")
        *more, last = lines
        return "".join([*(f"250-{line}\r\n" for line in more), f"250 {last}\r\n"]).encode()

    def _starttls(self, argument: str) -> bytes:
        if not self._behaviour.starttls:
            return b"502 5.5.1 not offered\r\n"
        self.wants_tls = True
        return b"220 2.0.0 go ahead\r\n"

    def _auth(self, argument: str) -> bytes:
        mechanism, _, initial = argument.partition(" ")
        self._challenge = [mechanism.upper()]
        if self._behaviour.starttls or self._challenge[0] not in ("PLAIN", "LOGIN"):
            self._challenge = None
            return b"504 5.5.4 mechanism not offered\r\n"
        if initial:
            return self._credentials(initial)
        return b"334 VXNlcm5hbWU6\r\n" if self._challenge == ["LOGIN"] else b"334 \r\n"

    def _credentials(self, line: str) -> bytes:
        assert self._challenge is not None
        self._challenge.append(line)
        mechanism, *given = self._challenge
        if mechanism == "LOGIN" and len(given) < 2:
            return b"334 UGFzc3dvcmQ6\r\n"
        self._challenge = None
        try:
            texts = [base64.b64decode(text, validate=True).decode() for text in given]
        except (binascii.Error, UnicodeDecodeError):
            return b"501 5.5.2 not base64\r\n"
        credentials = tuple(texts if mechanism == "LOGIN" else texts[0].split("\0")[1:])
        if self._behaviour.login not in (None, credentials):
            return b"535 5.7.8 username and password not accepted\r\n"
        self._authenticated = True
        return b"235 2.7.0 welcome\r\n"

    def _mail(self, argument: str) -> bytes:
        match = _PATH.fullmatch(argument)
        if not self._authenticated:
            return b"530 5.7.0 log in first\r\n"
        if self._message is not None:
            return b"503 5.5.1 nested MAIL\r\n"
        if match is None:
            return b"501 5.5.4 MAIL FROM:<address>\r\n"
        parameters = self._parameters(match.group(2) or "")
        if parameters is None:
            return b"555 5.5.4 parameter not recognized\r\n"
        if int(parameters.get("SIZE", 0)) > self._behaviour.max_bytes:
            return _TOO_BIG
        if not match.group(1).isascii() and "SMTPUTF8" not in parameters:
            return _NOT_ASCII
        self._message = Received(match.group(1), [], parameters)
        return b"250 2.1.0 ok\r\n"

    def _parameters(self, text: str) -> dict[str, str] | None:
        """RFC 5321 4.1.1.11. None if one is unknown, said twice, or of what is not announced."""
        parameters: dict[str, str] = {}
        for word in text.split():
            name, _, value = word.partition("=")
            name = name.upper()
            if name not in _PARAMETERS or name in parameters:
                return None
            extension, values = _PARAMETERS[name]
            if not (values.fullmatch(value) and self._behaviour.announces(extension)):
                return None
            parameters[name] = value
        return parameters

    def _rcpt(self, argument: str) -> bytes:
        match = _PATH.fullmatch(argument)
        if self._message is None:
            return b"503 5.5.1 MAIL first\r\n"
        if match is None:
            return b"501 5.1.3 RCPT TO:<address>\r\n"
        if match.group(2):
            return b"555 5.5.4 parameter not recognized\r\n"
        if not match.group(1).isascii() and "SMTPUTF8" not in self._message.parameters:
            return _NOT_ASCII
        self._message.forward_paths.append(match.group(1))
        return b"250 2.1.5 ok\r\n"

    def _data(self, argument: str) -> bytes:
        if self._message is None or not self._message.forward_paths:
            return b"503 5.5.1 no valid recipients\r\n"
        self._in_data = True
        return b"354 end with a dot\r\n"

    def _content(self) -> bytes | None:
        if self._unread.startswith(b".\r\n"):
            end, content = 3, b""
        else:
            found = self._unread.find(b"\r\n.\r\n")
            if found < 0:
                return None
            end, content = found + 5, bytes(self._unread[: found + 2])
        del self._unread[:end]
        self._in_data = False
        return self._ended(unstuffed(content))

    def _bdat(self, argument: str) -> _Chunk | None:
        """RFC 3030 2. None if it is not offered, or cannot be read."""
        match = _CHUNK.fullmatch(argument)
        if match is None or not self._behaviour.announces("CHUNKING"):
            return None
        replaced = self._behaviour.answer("BDAT", argument)
        if replaced is None and (self._message is None or not self._message.forward_paths):
            replaced = b"503 5.5.1 no valid recipients\r\n"
        return _Chunk(int(match[1]), match[2] is not None, replaced)

    def _octets(self, chunk: _Chunk) -> bytes | None:
        if len(self._unread) < chunk.size:
            return None
        octets = bytes(self._unread[: chunk.size])
        del self._unread[: chunk.size]
        self._chunk = None
        if chunk.refusal is not None:
            return chunk.refusal
        assert self._message is not None
        self._message.content += octets
        if not chunk.is_last:
            return b"250 2.0.0 %d octets\r\n" % chunk.size
        return self._ended(self._message.content)

    def _ended(self, content: bytes) -> bytes:
        """A message came to its end: it is kept, unless there is something against it."""
        received, self._message = self._message or Received("", []), None
        received.content = content
        replaced = self._behaviour.answer(".", " ".join(received.forward_paths))
        reply = self._verdict(received) if replaced is None else replaced
        if received.forward_paths and reply.startswith(b"2"):
            self._deliver(received)
        return reply

    def _verdict(self, received: Received) -> bytes:
        """RFC 5321 4.5.3.1.6 and 2.3.8, RFC 1870 6.3, RFC 6152 3."""
        content = received.content
        if len(content) > self._behaviour.max_bytes:
            return _TOO_BIG
        if max(map(len, content.split(b"\r\n"))) > _MAX_CONTENT_LINE:
            return b"550 5.6.0 a line is longer than 998 octets\r\n"
        if not content.count(b"\r") == content.count(b"\n") == content.count(b"\r\n"):
            return b"550 5.6.0 a line does not end in CRLF\r\n"
        if not content.isascii() and received.parameters.get("BODY", "").upper() != "8BITMIME":
            return b"550 5.6.0 8-bit content without BODY=8BITMIME\r\n"
        return b"250 2.0.0 kept\r\n"

    def _rset(self, argument: str) -> bytes:
        self._message = None
        return b"250 2.0.0 ok\r\n"

    def _noop(self, argument: str) -> bytes:
        return b"250 2.0.0 ok\r\n"

    def _quit(self, argument: str) -> bytes:
        return b"221 2.0.0 bye\r\n"


_HANDLERS: dict[str, Callable[[Receiver, str], bytes]] = {
    "EHLO": Receiver._ehlo,
    "HELO": Receiver._noop,
    "STARTTLS": Receiver._starttls,
    "AUTH": Receiver._auth,
    "MAIL": Receiver._mail,
    "RCPT": Receiver._rcpt,
    "DATA": Receiver._data,
    "RSET": Receiver._rset,
    "NOOP": Receiver._noop,
    "QUIT": Receiver._quit,
}


def unstuffed(content: bytes) -> bytes:
    """RFC 5321 4.5.2, the receiving side."""
    content = content.replace(b"\r\n..", b"\r\n.")
    return content[1:] if content.startswith(b"..") else content
