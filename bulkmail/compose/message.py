"""Recipients into mail objects, by splicing what is personal into what is shared.

The standard library's `email` builds and flattens one message with markers where the bodies go;
that is done once. Then a recipient costs the rendering and encoding of what differs. The result is
7-bit, with CRLF and no line over 998 octets, for any data.

The same seed, recipient and date give the same bytes, for ever: the Message-ID is an HMAC of seed
and address, the boundaries come from the seed.
"""

import binascii
import hashlib
import hmac
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from email.message import EmailMessage, MIMEPart
from email.policy import SMTP
from types import MappingProxyType

from jinja2 import Template

from bulkmail.address import address_key, domain_of
from bulkmail.compose import headers
from bulkmail.compose.templates import Load, RenderError, Templates
from bulkmail.model import Envelope, MailObject, Recipient

BASE64_FROM_NON_ASCII_PART = 1 / 6
"""A body with more than this part of its octets outside ASCII is shorter in base64."""


@dataclass(frozen=True, slots=True)
class Mailbox:
    """RFC 5322 3.4: a display name, which may be empty, and an address."""

    display_name: str
    address: str


@dataclass(frozen=True, slots=True)
class Attachment:
    """A file for every message. `media_type` is `type/subtype`."""

    name: str
    media_type: str
    content: bytes


@dataclass(frozen=True, slots=True)
class Design:
    """Everything that is the same for all messages of a campaign.

    `subject` is a template's source, `subject_place` where it stands; `html` and `text` are names
    of templates, at least one of them given.
    """

    campaign: str
    author: Mailbox
    reply_to: Mailbox | None
    return_path: str
    subject: str
    subject_place: str
    html: str | None
    text: str | None
    variables: Mapping[str, object]
    attachments: tuple[Attachment, ...]


@dataclass(frozen=True, slots=True)
class _Body:
    template: Template
    encode: Callable[[bytes], bytes]


class Composer:
    """Composes the messages of one campaign. Raises RenderError for a template that is wrong."""

    def __init__(self, design: Design, load: Load, seed: bytes) -> None:
        self._design = design
        self._seed = seed
        self._templates = Templates(load)
        self._subject = self._templates.inline(design.subject, design.subject_place)
        self._bodies, self._pieces = self._skeleton(load)
        self._message_id_domain = domain_of(design.author.address)
        self._author = _mailbox_header("From", design.author)
        if design.reply_to is not None:
            self._author += _mailbox_header("Reply-To", design.reply_to)

    def compose(self, recipient: Recipient, at: float) -> MailObject:
        """The mail object for `recipient`, dated `at`. Raises RenderError."""
        context = self._context(recipient)
        subject = self._templates.render(self._subject, context)
        message_id = self.message_id(recipient.address)
        try:
            head = (
                self._author
                + _mailbox_header(
                    "To", Mailbox(recipient.fields.get("name", ""), recipient.address)
                )
                + headers.header("Subject", subject)
                + headers.date_header(int(at))
                + f"Message-ID: {message_id}\r\n".encode("ascii")
            )
        except headers.UnsafeHeaderError as error:
            raise RenderError(self._design.subject_place, f"in To or Subject: {error}") from None
        content = [head + self._pieces[0]]
        for body, following in zip(self._bodies, self._pieces[1:], strict=True):
            text = self._templates.render(body.template, context)
            content.append(body.encode(_canonical(text)))
            content.append(following)
        envelope = Envelope(self._design.return_path, recipient.address)
        return MailObject(envelope, tuple(content), message_id)

    def subject(self, recipient: Recipient) -> str:
        """The subject as `recipient` will read it. Raises RenderError."""
        return self._templates.render(self._subject, self._context(recipient))

    def message_id(self, address: str) -> str:
        """RFC 5322 3.6.4. Opaque: nobody without the seed can tell the address from it."""
        digest = hmac.new(self._seed, address_key(address).encode(), hashlib.sha256)
        return f"<{digest.hexdigest()[:32]}@{self._message_id_domain}>"

    def _context(self, recipient: Recipient) -> dict[str, object]:
        return {
            **self._design.variables,
            **recipient.fields,
            "row": MappingProxyType(dict(recipient.fields)),
            "email": recipient.address,
            "campaign": self._design.campaign,
        }

    def _skeleton(self, load: Load) -> tuple[list[_Body], list[bytes]]:
        """The personal bodies in order, and the flattened rest, cut where they go."""
        tag = hmac.new(self._seed, b"boundary", hashlib.sha256).hexdigest()[:24]
        bodies: list[_Body] = []
        parts: list[MIMEPart] = []
        for subtype, name, get in (
            ("plain", self._design.text, self._templates.text),
            ("html", self._design.html, self._templates.html),
        ):
            if name is not None:
                template = get(name)
                found = load(name)
                base64 = found is not None and _is_shorter_in_base64(found[0])
                bodies.append(_Body(template, in_base64 if base64 else in_quoted_printable))
                parts.append(_marked_part(subtype, base64, _marker(tag, len(parts))))
        message = self._assemble(parts, tag)
        flat = message.as_bytes(policy=SMTP)
        pieces = []
        for index in range(len(parts)):
            before, _, flat = flat.partition(_marker(tag, index).encode() + b"\r\n")
            pieces.append(before)
        return bodies, [*pieces, flat]

    def _assemble(self, parts: list[MIMEPart], tag: str) -> EmailMessage:
        body = parts[0] if len(parts) == 1 else _multipart("alternative", parts, tag)
        if self._design.attachments:
            files = [_attached(attachment) for attachment in self._design.attachments]
            body = _multipart("mixed", [body, *files], tag)
        message = EmailMessage(policy=SMTP)
        message["MIME-Version"] = "1.0"
        for name, value in body.items():
            message[name] = value
        message.set_payload(body.get_payload())
        return message


def in_base64(data: bytes) -> bytes:
    """RFC 2045 6.8, in CRLF lines of 76."""
    encoded = binascii.b2a_base64(data, newline=False)
    lines = [encoded[start : start + 76] for start in range(0, len(encoded), 76)]
    return b"\r\n".join(lines) + b"\r\n"


def in_quoted_printable(data: bytes) -> bytes:
    """RFC 2045 6.7, for data that ends in CRLF."""
    return binascii.b2a_qp(data, istext=True)


def _canonical(text: str) -> bytes:
    """UTF-8 with CRLF line ends (RFC 2045 6.7, 6.8 ask for it before encoding), ending in one."""
    lines = text.replace("\r\n", "\n").replace("\r", "\n").rstrip("\n") + "\n"
    return lines.replace("\n", "\r\n").encode("utf-8")


def _is_shorter_in_base64(source: str) -> bool:
    octets = source.encode("utf-8")
    return sum(octet > 127 for octet in octets) > len(octets) * BASE64_FROM_NON_ASCII_PART


def _marker(tag: str, index: int) -> str:
    return f"@@{tag}-{index}@@"


def _marked_part(subtype: str, base64: bool, marker: str) -> MIMEPart:
    part = MIMEPart(policy=SMTP)
    part["Content-Type"] = f'text/{subtype}; charset="utf-8"'
    part["Content-Transfer-Encoding"] = "base64" if base64 else "quoted-printable"
    part.set_payload(marker + "\r\n")
    return part


def _multipart(subtype: str, parts: list[MIMEPart], tag: str) -> MIMEPart:
    """The boundary holds `=_`, which neither base64 nor quoted-printable can produce."""
    container = MIMEPart(policy=SMTP)
    container["Content-Type"] = f'multipart/{subtype}; boundary="=_{subtype}_{tag}"'
    container.set_payload([*parts])
    return container


def _attached(attachment: Attachment) -> MIMEPart:
    part = MIMEPart(policy=SMTP)
    maintype, _, subtype = attachment.media_type.partition("/")
    part.set_content(
        attachment.content,
        maintype=maintype,
        subtype=subtype,
        disposition="attachment",
        filename=attachment.name,
    )
    return part


def _mailbox_header(name: str, mailbox: Mailbox) -> bytes:
    return headers.mailbox_header(name, mailbox.display_name, mailbox.address)
