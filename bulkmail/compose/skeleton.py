"""The MIME structure of a campaign's messages, flattened once, with gaps for what is personal.

The standard library's `email` builds and flattens one message with a marker in each gap; filling
the gaps is then all that a recipient costs. What is filled in is 7-bit, in lines of 76 octets at
most that end in CRLF. Knows nothing of templates or recipients.
"""

import binascii
import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from email.message import EmailMessage, MIMEPart
from email.policy import SMTP
from functools import lru_cache

SHORT_LINE = 500
"""Characters. Lines that are shorter are encoded once; the memory for them is bounded."""
BASE64_FROM_NON_ASCII_PART = 1 / 6
"""A body with more than this part of its octets outside ASCII is shorter in base64."""


@dataclass(frozen=True, slots=True)
class Attachment:
    """A file with the name that readers see. `media_type` is `type/subtype`."""

    name: str
    media_type: str
    content: bytes


class Skeleton:
    """Bodies by subtype, `plain` and `html`, in that order (RFC 2046 5.1.4: the richest last).

    `samples` holds for each body a text like those that will be filled in; it decides the encoding.
    `images` go with the HTML by content-id (RFC 2387, 2392). An attachment that is None is a gap:
    the person's own. `tag` makes boundaries and content-ids of this campaign.
    """

    def __init__(
        self,
        samples: Mapping[str, str],
        images: Mapping[str, Attachment],
        attachments: Sequence[Attachment | None],
        tag: str,
    ) -> None:
        self._tag = tag
        self._base64 = {subtype: is_shorter_in_base64(text) for subtype, text in samples.items()}
        self._gaps: list[tuple[str | None, bytes]] = []
        self.shared = self._cut(self._message(images, attachments))
        """What is the same in all messages; the gaps are between."""

    def content_id(self, name: str) -> str:
        """What stands behind `cid:` for the image `name` (RFC 2392)."""
        return f"{name}@{self._tag}"

    def fill(
        self, head: bytes, bodies: Mapping[str, str], attachments: Sequence[Attachment]
    ) -> tuple[bytes, ...]:
        """The content, in pieces that each begin a line; `attachments` for the gaps, in order."""
        own = iter(attachments)
        content = [head + self.shared[0]]
        for (subtype, _), following in zip(self._gaps, self.shared[1:], strict=True):
            if subtype is None:
                content.append(attached(next(own)).as_bytes(policy=SMTP))
            else:
                encode = in_base64 if self._base64[subtype] else in_quoted_printable
                content.append(encode(_ending_once(bodies[subtype])))
            content.append(following)
        return tuple(content)

    def bodies(self, content: Sequence[bytes]) -> dict[str, str]:
        """The bodies by subtype, with LF, of what `fill` made: as a mail program decodes them."""
        bodies = {}
        for (subtype, _), piece in zip(self._gaps, content[1::2], strict=True):
            if subtype is not None:
                decode = binascii.a2b_base64 if self._base64[subtype] else binascii.a2b_qp
                bodies[subtype] = decode(piece).decode("utf-8").replace("\r\n", "\n")
        return bodies

    # -- building --------------------------------------------------------------------------------

    def _message(
        self, images: Mapping[str, Attachment], attachments: Sequence[Attachment | None]
    ) -> EmailMessage:
        bodies = [self._body(subtype) for subtype in self._base64]
        if images:
            bodies[-1] = self._related(bodies[-1], images)
        body = bodies[0] if len(bodies) == 1 else self._multipart("alternative", bodies)
        if attachments:
            files = [attached(file) if file else self._gap_for_file() for file in attachments]
            body = self._multipart("mixed", [body, *files])
        message = EmailMessage(policy=SMTP)
        message["MIME-Version"] = "1.0"
        for name, value in body.items():
            message[name] = value
        message.set_payload(body.get_payload())
        return message

    def _cut(self, message: EmailMessage) -> list[bytes]:
        """The flattened message, cut where the gaps are."""
        flat = message.as_bytes(policy=SMTP)
        pieces = []
        for _, gap in self._gaps:
            before, found, flat = flat.partition(gap)
            assert found
            pieces.append(before)
        return [*pieces, flat]

    def _body(self, subtype: str) -> MIMEPart:
        part = MIMEPart(policy=SMTP)
        part["Content-Type"] = f'text/{subtype}; charset="utf-8"'
        encoding = "base64" if self._base64[subtype] else "quoted-printable"
        part["Content-Transfer-Encoding"] = encoding
        marker = self._marker()
        part.set_payload(marker)
        self._gaps.append((subtype, marker.encode("ascii")))
        return part

    def _gap_for_file(self) -> MIMEPart:
        """A part that is replaced as a whole, headers and all."""
        part = MIMEPart(policy=SMTP)
        part["Content-Type"] = "application/octet-stream"
        part.set_payload(self._marker())
        self._gaps.append((None, part.as_bytes(policy=SMTP)))
        return part

    def _marker(self) -> str:
        return f"@@{self._tag}-{len(self._gaps)}@@\r\n"

    def _related(self, html: MIMEPart, images: Mapping[str, Attachment]) -> MIMEPart:
        parts = [attached(image, cid=self.content_id(name)) for name, image in images.items()]
        return self._multipart("related", [html, *parts], 'type="text/html"; ')

    def _multipart(self, subtype: str, parts: list[MIMEPart], more: str = "") -> MIMEPart:
        """The boundary holds `=_`, which neither base64 nor quoted-printable can produce."""
        container = MIMEPart(policy=SMTP)
        boundary = f'boundary="=_{subtype}_{self._tag}"'
        container["Content-Type"] = f"multipart/{subtype}; {more}{boundary}"
        container.set_payload([*parts])
        return container


def digest(files: Sequence[Attachment]) -> str:
    """SHA-256 of names, types and contents."""
    whole = hashlib.sha256()
    for file in files:
        content = hashlib.sha256(file.content).hexdigest()
        whole.update(f"{file.name}\0{file.media_type}\0{content}\0".encode())
    return whole.hexdigest()


def attached(file: Attachment, *, cid: str | None = None) -> MIMEPart:
    """A file as a part; with `cid` an image of the HTML, else an attachment (RFC 2183)."""
    part = MIMEPart(policy=SMTP)
    maintype, _, subtype = file.media_type.partition("/")
    part.set_content(
        file.content,
        maintype=maintype,
        subtype=subtype,
        disposition="attachment" if cid is None else "inline",
        filename=file.name,
        cid=None if cid is None else f"<{cid}>",
    )
    return part


def in_base64(text: str) -> bytes:
    """RFC 2045 6.8, in CRLF lines of 76; of UTF-8 with CRLF line ends (6.8), for LF in `text`."""
    encoded = binascii.b2a_base64(text.replace("\n", "\r\n").encode("utf-8"), newline=False)
    lines = [encoded[start : start + 76] for start in range(0, len(encoded), 76)]
    return b"\r\n".join(lines) + b"\r\n"


def in_quoted_printable(text: str) -> bytes:
    """RFC 2045 6.7, of UTF-8 with CRLF line ends, for `text` that ends in LF."""
    lines = text.split("\n")
    lines.pop()
    return b"".join(
        [_short_line(line) if len(line) < SHORT_LINE else _line(line) for line in lines]
    )


def _line(line: str) -> bytes:
    return binascii.b2a_qp(line.encode("utf-8") + b"\r\n", istext=True)


_short_line = lru_cache(maxsize=1024)(_line)
"""Most lines of a message are the same in all of them."""


def _ending_once(text: str) -> str:
    """With LF line ends, and one at the end."""
    if "\r" in text:
        text = text.replace("\r\n", "\n").replace("\r", "\n")
    return text.rstrip("\n") + "\n"


def is_shorter_in_base64(text: str) -> bool:
    octets = text.encode("utf-8")
    return sum(octet > 127 for octet in octets) > len(octets) * BASE64_FROM_NON_ASCII_PART
