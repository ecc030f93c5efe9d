"""Recipients into mail objects, by rendering what is personal into what is shared.

The result is 7-bit, with CRLF and no line over 998 octets, for any data; only an address outside
ASCII puts UTF-8 into a header (RFC 6532), and the envelope of such a message shows it.

The same seed, recipient and date give the same bytes, for ever: the Message-ID is a hash of the
address (BLAKE2, RFC 7693) with the seed as its key, the boundaries come from the seed, too.
"""

import hashlib
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from urllib.parse import quote

from bulkmail.address import address_key, domain_of, wire_address
from bulkmail.compose import headers
from bulkmail.compose.bounds import BoundedTemplate
from bulkmail.compose.content_ids import with_content_ids
from bulkmail.compose.lint import Letter
from bulkmail.compose.names import Load
from bulkmail.compose.plain_text import plain_text
from bulkmail.compose.skeleton import Attachment, Skeleton, digest
from bulkmail.compose.templates import RenderError, Templates, did_you_mean
from bulkmail.model import Envelope, MailObject, Recipient

MAX_URI_LENGTH = 900
_URI = re.compile(r"https?://[!#-;=?-\[\]_a-z~]+", re.IGNORECASE)
"""RFC 3986 2, without what would end it inside `<…>`."""


@dataclass(frozen=True, slots=True)
class Mailbox:
    """RFC 5322 3.4: a display name, which may be empty, and an address."""

    display_name: str
    address: str


@dataclass(frozen=True, slots=True)
class Source:
    """A template that stands in the campaign file, and where: `file:line:column`."""

    text: str
    place: str


@dataclass(frozen=True, slots=True)
class PersonalFile:
    """An attachment for each person: templates of its path and of the name that readers see."""

    path: Source
    name: Source | None


@dataclass(frozen=True, slots=True)
class Design:
    """Everything that is the same for all messages of a campaign.

    `html` and `text` are names of templates, at least one of them given. `images` go by the name
    that stands behind `cid:` in the HTML.
    """

    campaign: str
    author: Mailbox
    reply_to: Mailbox | None
    return_path: str
    subject: Source
    html: str | None
    text: str | None
    variables: Mapping[str, object]
    attachments: tuple[Attachment | PersonalFile, ...] = ()
    images: Mapping[str, Attachment] = field(default_factory=dict)
    headers: Mapping[str, Source] = field(default_factory=dict)
    list_id: Mailbox | None = None
    unsubscribe_mailto: str | None = None
    unsubscribe_url: Source | None = None


class FileFaultError(ValueError):
    """A file that is meant for one person cannot be used. `str()` says why."""


OpenFile = Callable[[PersonalFile, str, str | None], Attachment]
"""The file at a rendered path, under a name or its own. Raises FileFaultError."""

_Context = Mapping[str, object]


class Composer:
    """Composes the messages of one campaign. Raises RenderError for a template that is wrong."""

    def __init__(self, design: Design, load: Load, seed: bytes, open_file: OpenFile) -> None:
        self._design = design
        self._seed = seed
        self._open_file = open_file
        self._templates = Templates(load)
        self._subject = self._inline(design.subject)
        self._headers = {name: self._inline(value) for name, value in design.headers.items()}
        self._url = self._inline(design.unsubscribe_url) if design.unsubscribe_url else None
        self._html = self._templates.html(design.html) if design.html else None
        self._text = self._templates.text(design.text) if design.text else None
        self._files = [
            (file, self._inline(file.path), self._inline(file.name) if file.name else None)
            for file in design.attachments
            if isinstance(file, PersonalFile)
        ]
        self._skeleton = Skeleton(
            self._samples(load),
            design.images,
            [file if isinstance(file, Attachment) else None for file in design.attachments],
            hashlib.blake2b(b"boundary", key=seed, digest_size=12).hexdigest(),
        )
        self._longest_shared_line = max(map(_longest_line, self._skeleton.shared))
        self._shared_head = self._author_fields()
        self._domain = domain_of(design.author.address)

    def compose(self, recipient: Recipient, at: float, to: str | None = None) -> MailObject:
        """The mail object for `recipient`, dated `at`, or what `to` gets to see it as a test.

        Raises RenderError, also if files of this person changed since they were checked.
        """
        context = self._context(recipient)
        message_id = self.message_id(to or recipient.address)
        envelope = Envelope(self._design.return_path, wire_address(to or recipient.address))
        head = self._head(recipient, envelope.forward_path, context)
        head += headers.date_header(int(at)) + f"Message-ID: {message_id}\r\n".encode("ascii")
        files = self._own_files(context)
        if files and recipient.files_digest not in ("", digest(files)):
            message = f"{', '.join(f.name for f in files)} changed since it was checked; run again"
            raise RenderError(self._files[0][0].path.place, message)
        content = self._skeleton.fill(head, self._bodies(context), files)
        return MailObject(envelope, content, message_id)

    def letter(self, mail: MailObject) -> Letter:
        """A message of this composer as its reader gets it, decoded from its bytes."""
        bodies = self._skeleton.bodies(mail.content)
        personal = (mail.content[0], *mail.content[1::2])
        longest_line = max(self._longest_shared_line, *map(_longest_line, personal))
        subject = headers.decoded_subject(mail.content[0])
        text, html = bodies.get("plain"), bodies.get("html")
        return Letter(subject, text, html, longest_line, mail.size_bytes)

    def subject(self, recipient: Recipient) -> str:
        """The subject as `recipient` will read it. Raises RenderError."""
        return self._templates.render(self._subject, self._context(recipient))

    def files_digest(self, recipient: Recipient) -> str:
        """Of the attachments that only `recipient` gets; empty without any. Raises RenderError."""
        return digest(self._own_files(self._context(recipient))) if self._files else ""

    def message_id(self, address: str) -> str:
        """RFC 5322 3.6.4. Opaque: nobody without the seed can tell the address from it."""
        keyed = hashlib.blake2b(address_key(address).encode(), key=self._seed, digest_size=16)
        return f"<{keyed.hexdigest()}@{self._domain}>"

    # -- header fields ---------------------------------------------------------------------------

    def _author_fields(self) -> bytes:
        design = self._design
        fields = _mailbox_header("From", design.author)
        if design.reply_to is not None:
            fields += _mailbox_header("Reply-To", design.reply_to)
        if design.list_id is not None:
            fields += headers.list_id_header(design.list_id.display_name, design.list_id.address)
        return fields

    def _head(self, recipient: Recipient, forward_path: str, context: _Context) -> bytes:
        design, render, place = self._design, self._templates.render, self._design.subject.place
        try:
            head = self._shared_head
            head += headers.mailbox_header("To", recipient.fields.get("name", ""), forward_path)
            head += headers.header("Subject", render(self._subject, context))
            for name, template in self._headers.items():
                place = design.headers[name].place
                head += headers.token_header(name, render(template, context))
        except headers.UnsafeHeaderError as error:
            raise RenderError(place, f"in a header field: {error}") from None
        return head + self._unsubscribe(context)

    def _unsubscribe(self, context: _Context) -> bytes:
        """`List-Unsubscribe` (RFC 2369 3.2): one URI a line, never in encoded words."""
        uris = []
        source = self._design.unsubscribe_url
        if self._url is not None and source is not None:
            uri = self._templates.render(self._url, context)
            if len(uri) > MAX_URI_LENGTH:
                raise RenderError(
                    source.place, f"{uri[:40]!r}… has over {MAX_URI_LENGTH} characters"
                )
            if not _URI.fullmatch(uri):
                message = f"{uri[:80]!r} is no web address; write fields as {{{{ x | urlencode }}}}"
                raise RenderError(source.place, message)
            uris.append(f"<{uri}>")
        if self._design.unsubscribe_mailto is not None:
            uris.append(f"<mailto:{quote(self._design.unsubscribe_mailto, safe='@+.-_~')}>")
        value = ",\r\n ".join(uris)
        return f"List-Unsubscribe: {value}\r\n".encode("ascii") if uris else b""

    # -- parts -----------------------------------------------------------------------------------

    def _samples(self, load: Load) -> dict[str, str]:
        """The sources of the bodies, which are in the script that the messages will be in."""
        html, text = (
            (load(name) or ("", ""))[0] if name else ""
            for name in (self._design.html, self._design.text)
        )
        samples = {"plain": text if self._text is not None else self._plain_text(html)}
        return samples | {"html": html} if self._html is not None else samples

    def _bodies(self, context: _Context) -> dict[str, str]:
        bodies, render = {}, self._templates.render
        if self._text is not None:
            bodies["plain"] = render(self._text, context)
        if self._html is not None:
            html = render(self._html, context)
            if self._text is None:
                bodies["plain"] = self._plain_text(html)
            bodies["html"] = with_content_ids(html, self._content_id)
        return bodies

    def _plain_text(self, html: str) -> str:
        try:
            return plain_text(html)
        except ValueError as error:
            raise RenderError(str(self._design.html), str(error)) from None

    def _content_id(self, name: str) -> str:
        """The content-id of the image `name`. Raises RenderError."""
        images = self._design.images
        if name not in images:
            has = f"it has {', '.join(images)}" if images else "it has none"
            message = f'shows cid:{name}, but `images` has no "{name}" ({has})'
            raise RenderError(self._design.html or "", message + did_you_mean(name, images))
        return self._skeleton.content_id(name)

    def _own_files(self, context: _Context) -> list[Attachment]:
        files = []
        for file, path, name in self._files:
            shown = self._templates.render(name, context) if name else None
            try:
                headers.check_header_text(shown or "")
                files.append(self._open_file(file, self._templates.render(path, context), shown))
            except (FileFaultError, headers.UnsafeHeaderError) as error:
                raise RenderError(file.path.place, str(error)) from None
        return files

    def _inline(self, source: Source) -> BoundedTemplate:
        return self._templates.inline(source.text, source.place)

    def _context(self, recipient: Recipient) -> dict[str, object]:
        return {
            **self._design.variables,
            **recipient.fields,
            "row": MappingProxyType(dict(recipient.fields)),
            "email": recipient.address,
            "campaign": self._design.campaign,
        }


def _longest_line(piece: bytes) -> int:
    return max(map(len, piece.split(b"\r\n")))


def _mailbox_header(name: str, mailbox: Mailbox) -> bytes:
    return headers.mailbox_header(name, mailbox.display_name, mailbox.address)
