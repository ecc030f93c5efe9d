"""A campaign that was read: what its messages share, who gets them, and through which server."""

import hashlib
import json
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from itertools import chain
from pathlib import Path

from bulkmail.address import PATTERNS, address_check
from bulkmail.campaign.file import CampaignFile, EarlierCampaign, FileSource
from bulkmail.campaign.nodes import Places
from bulkmail.campaign.patience import SECONDS, EndlessError, in_time
from bulkmail.campaign.secrets import read_secret
from bulkmail.campaign.sources import address_rows, file_rows, person_row
from bulkmail.campaign.sources.lines import AddressFault
from bulkmail.campaign.templates import KnownTemplates
from bulkmail.campaign.values import POSTGRES_SCHEMES
from bulkmail.compose.headers import UnsafeHeaderError, check_header_text
from bulkmail.compose.message import Design, OpenFile, PersonalFile, Source
from bulkmail.compose.names import TemplateNames, named_by, names
from bulkmail.compose.skeleton import Attachment, digest
from bulkmail.errors import CampaignError, Problem
from bulkmail.model import Row, State, Submission

LEDGER_NAME = "bulkmail.sqlite"

Earlier = Callable[[str, Collection[State]], Iterator[Row]]
"""The people of an earlier campaign in these states. Raises LookupError with words."""


@dataclass(frozen=True)
class Located:
    """A campaign file that was understood. `folder` holds it; `project` holds all campaigns."""

    path: Path
    project: Path
    file: CampaignFile

    @property
    def folder(self) -> Path:
        return self.path.parent

    @property
    def name(self) -> str:
        return self.file.campaign or self.path.stem

    @property
    def ledger_url(self) -> str | None:
        """Of the PostgreSQL database that holds its ledger; None: a file does."""
        ledger = self.file.ledger
        return ledger if ledger and ledger.startswith(POSTGRES_SCHEMES) else None

    @property
    def ledger_path(self) -> Path | None:
        """None: it is in a database, see `ledger_url`."""
        if self.ledger_url is not None:
            return None
        return self.folder / self.file.ledger if self.file.ledger else self.project / LEDGER_NAME


@dataclass(frozen=True)
class Campaign(Located):
    """A campaign that was read, with all the files that it names.

    `settings` took the place of its variables; `ca_pem` is what its `ca_file` holds.
    """

    places: Places
    load: KnownTemplates
    open_file: OpenFile = field(repr=False)
    attachments: tuple[Attachment | PersonalFile, ...] = field(repr=False)
    images: Mapping[str, Attachment] = field(repr=False)
    settings: Mapping[str, str] = field(default_factory=dict, repr=False)
    ca_pem: str | None = field(default=None, repr=False)

    @cached_property
    def design(self) -> Design:
        """What all its messages share."""
        file = self.file
        mailing_list = file.list
        unsubscribe = mailing_list.unsubscribe if mailing_list else None
        url = unsubscribe.url if unsubscribe else None
        return Design(
            campaign=self.name,
            author=file.author,
            reply_to=file.reply_to,
            return_path=file.return_path or file.author.address,
            subject=self._source(file.subject, "subject"),
            html=file.template.html,
            text=file.template.text,
            variables=file.variables,
            attachments=self.attachments,
            images=self.images,
            headers={n: self._source(v, "headers", n) for n, v in file.headers.items()},
            list_id=mailing_list.id if mailing_list else None,
            unsubscribe_mailto=unsubscribe.mailto if unsubscribe else None,
            unsubscribe_url=self._source(url, "list", "unsubscribe", "url") if url else None,
        )

    @cached_property
    def template_names(self) -> TemplateNames:
        """The names that subject, headers and bodies use."""
        return names(self.load, self._templates, self._inline_sources())

    @property
    def has_personal_files(self) -> bool:
        """Whether some attachments are for one person each."""
        return any(isinstance(file, PersonalFile) for file in self.attachments)

    @property
    def _templates(self) -> tuple[str, ...]:
        return tuple(filter(None, (self.file.template.html, self.file.template.text)))

    def digest(self) -> str:
        """SHA-256 of the content: headers, templates, variables, attachments."""
        design = self.design
        content = {
            "envelope": [repr(design.author), repr(design.reply_to), design.return_path],
            "list": [repr(design.list_id), design.unsubscribe_mailto],
            "header_names": list(design.headers),
            "inline": self._inline_sources(),
            "templates": [name and self.load.digest(name) for name in (design.html, design.text)],
            "variables": self.file.variables,
            "images": {name: digest([image]) for name, image in design.images.items()},
            "files": [
                digest([file]) if isinstance(file, Attachment) else file.path.text
                for file in design.attachments
            ],
        }
        if named := self._named_inline():
            content["named_inline"] = [[name, self.load.digest(name)] for name in named]
        return hashlib.sha256(json.dumps(content, sort_keys=True).encode("ascii")).hexdigest()

    @property
    def server(self) -> Submission:
        """The server and login of the campaign, without the password."""
        smtp = self.file.smtp
        ca_file = str(self.folder / smtp.ca_file) if smtp.ca_file else None
        return Submission(
            smtp.host,
            smtp.port,
            smtp.effective_security,
            smtp.username,
            None,
            ca_file,
            smtp.helo,
            smtp.pipelining == "auto",
            smtp.window,
            self.ca_pem,
        )

    def submission(self) -> Submission:
        """The server with the password, which is asked for if the campaign says so."""
        smtp = self.file.smtp
        if smtp.username is None or smtp.password is None:
            return self.server
        prompt = f"Password of {smtp.username} at {smtp.host}: "
        return replace(self.server, password=read_secret(smtp.password, self.folder, prompt))

    def rehearsal(self) -> "Campaign":
        """The same, to be sent at once and as fast as it goes."""
        return replace(self, file=self.file.model_copy(update={"rate": (), "start_at": None}))

    # -- recipients ------------------------------------------------------------------------------

    def rows(self, earlier: Earlier, remark: Callable[[str], None]) -> Iterator[Row]:
        """All rows of all sources, in order, each with its fault if it has one.

        `remark` is told what a person should know about the sources. Raises CampaignError for a
        source that is wrong as a whole.
        """
        address_fault = self._address_check()
        in_headers = self.names_in_headers()
        for row in self._source_rows(earlier, remark, address_fault):
            if clash := self.file.variables.keys() & row.fields.keys():
                name = min(clash)
                source = row.source.rpartition(":")[0]
                message = f'"{name}" is also a column of {source}; rename one'
                raise CampaignError([Problem(self.places.key(("variables", name)), message)])
            fault = (
                row.fault
                or address_fault(row.address, row.source)
                or _header_fault(row.fields, in_headers)
            )
            yield row if fault is None else replace(row, fault=fault)

    def excluded(self) -> Iterator[tuple[str, str]]:
        """(address, why) of everyone in the files of `exclude`. Raises CampaignError."""
        for index, source in enumerate(self.file.exclude):
            place = self.places.value(("exclude", index))
            for address, at in address_rows(source, self.folder / source.file, place):
                yield address, f"stands in {at}"

    def _address_check(self) -> AddressFault:
        """What tells why an address is not sent to. Raises CampaignError for a pattern that does
        not come to an end.
        """
        pattern = self.file.addresses.pattern
        check = address_check(pattern)
        if pattern in PATTERNS:
            return lambda address, _: check(address)
        limited = in_time(check)

        def fault(address: str, place: str) -> str | None:
            try:
                return limited(address)
            except EndlessError:
                message = (
                    f"the pattern {pattern!r} takes over {SECONDS} second for the address at"
                    f" {place}, and may have no end; write it without a repetition in a"
                    " repetition, such as (a+)+"
                )
                raise CampaignError(
                    [Problem(self.places.value(("addresses", "pattern")), message)]
                ) from None

        return fault

    def _source_rows(
        self, earlier: Earlier, remark: Callable[[str], None], address_fault: AddressFault
    ) -> Iterator[Row]:
        for index, source in enumerate(self.file.recipients):
            place = self.places.value(("recipients", index))
            if isinstance(source, FileSource):
                rows = file_rows(source, self.folder / source.file, place, remark, address_fault)
                yield from _or_remark(rows, f"{source.file}: holds nobody", remark)
            elif isinstance(source, EarlierCampaign):
                states = " or ".join(source.states).replace("_", " ")
                nobody = f'"{source.campaign}": nobody there is {states}'
                yield from _or_remark(self._earlier_rows(source, earlier, place), nobody, remark)
            else:
                yield person_row(source, place)

    def _earlier_rows(self, source: EarlierCampaign, earlier: Earlier, place: str) -> Iterator[Row]:
        if source.campaign == self.name:
            message = f'"{self.name}" is this campaign itself; name an earlier one'
            raise CampaignError([Problem(place, message)])
        try:
            for row in earlier(source.campaign, source.known_states):
                yield replace(row, source=f"{source.campaign}/{row.source}")
        except LookupError as error:
            raise CampaignError([Problem(place, str(error))]) from None

    def names_in_headers(self) -> frozenset[str]:
        """Columns that reach a header field: a line break there refuses the row."""
        return names(self.load, (), self._inline_sources()).used | {"name"}

    def _inline_sources(self) -> list[str]:
        """The templates that stand in the campaign file."""
        design = self.design
        sources = [design.subject, *design.headers.values()]
        for file in design.attachments:
            if isinstance(file, PersonalFile):
                sources += [file.path, *([file.name] if file.name else [])]
        if design.unsubscribe_url:
            sources.append(design.unsubscribe_url)
        return [source.text for source in sources]

    def _named_inline(self) -> list[str]:
        """The templates that these name."""
        return list(dict.fromkeys(chain.from_iterable(map(named_by, self._inline_sources()))))

    def _source(self, text: str, *path: str) -> Source:
        return Source(text, self.places.value(path))


def _or_remark(rows: Iterator[Row], nobody: str, remark: Callable[[str], None]) -> Iterator[Row]:
    """The rows; a remark if there are none."""
    empty = True
    for row in rows:
        empty = False
        yield row
    if empty:
        remark(nobody)


def _header_fault(fields: Mapping[str, str], in_headers: frozenset[str]) -> str | None:
    for name in in_headers & fields.keys():
        try:
            check_header_text(fields[name])
        except UnsafeHeaderError as error:
            return f'the field "{name}", which stands in a header, holds {error}'
    return None
