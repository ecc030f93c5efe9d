"""The campaign as its author wrote it: file, templates, attachments and recipient sources.

`read_campaign` checks everything that can be known without composing or connecting, and raises
CampaignError with all of it at once. Files are read once; what was read stays for the whole run.
"""

import hashlib
import json
import mimetypes
import os
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path

from jinja2 import Environment
from jinja2.meta import find_referenced_templates

from bulkmail.address import address_check
from bulkmail.campaign.file import AttachmentFile, CampaignFile, FileSource, parse
from bulkmail.campaign.nodes import Places, read_yaml
from bulkmail.campaign.secrets import read_secret
from bulkmail.campaign.sources import csv_rows, person_row
from bulkmail.compose.headers import UnsafeHeaderError, check_header_text
from bulkmail.compose.message import Attachment, Design
from bulkmail.errors import CampaignError, MissingFileError, Problem
from bulkmail.model import Row, Submission

LEDGER_NAME = "bulkmail.sqlite"
_MEDIA_TYPES = mimetypes.MimeTypes()
"""Python's own table, not the machine's: a file has the same type wherever it is sent from."""


class TemplateFolders:
    """Reads templates by name from the first folder that has them; each is read once."""

    def __init__(self, folders: list[Path]) -> None:
        self._folders = folders
        self._read: dict[str, tuple[str, str] | None] = {}

    def __call__(self, name: str) -> tuple[str, str] | None:
        if name not in self._read:
            self._read[name] = self._find(name)
        return self._read[name]

    def digest(self, *names: str) -> str:
        """SHA-256 over these templates and all that they name, whether or not anyone needs them."""
        sources: dict[str, str] = {}
        names_left = list(names)
        while names_left:
            name = names_left.pop()
            if name not in sources and (found := self(name)) is not None:
                sources[name] = found[0]
                referenced = find_referenced_templates(Environment().parse(found[0]))
                names_left += [other for other in referenced if other is not None]
        return hashlib.sha256(json.dumps(sources, sort_keys=True).encode()).hexdigest()

    def where(self) -> str:
        """The folders that are looked in, for an error's text."""
        return " or ".join(shown(folder) for folder in self._folders)

    def _find(self, name: str) -> tuple[str, str] | None:
        for folder in self._folders:
            path = (folder / name).resolve()
            if path.is_relative_to(folder.resolve()) and path.is_file():
                try:
                    return path.read_text("utf-8-sig"), shown(path)
                except UnicodeDecodeError as error:
                    message = f"is not UTF-8 at byte {error.start}"
                    raise CampaignError([Problem(shown(path), message)]) from None
                except OSError as error:
                    raise MissingFileError([Problem(shown(path), str(error.strerror))]) from None
        return None


@dataclass(frozen=True)
class Campaign:
    """A campaign that was read. `folder` holds its file; `project` holds all its campaigns."""

    path: Path
    project: Path
    file: CampaignFile
    places: Places
    load: TemplateFolders
    attachments: tuple[Attachment, ...] = field(repr=False)

    @property
    def folder(self) -> Path:
        return self.path.parent

    @property
    def name(self) -> str:
        return self.file.campaign or self.path.stem

    @property
    def ledger_path(self) -> Path:
        return self.folder / self.file.ledger if self.file.ledger else self.project / LEDGER_NAME

    @property
    def design(self) -> Design:
        """What all its messages share."""
        file = self.file
        return Design(
            campaign=self.name,
            author=file.author,
            reply_to=file.reply_to,
            return_path=file.return_path or file.author.address,
            subject=file.subject,
            subject_place=self.places.value(("subject",)).rpartition(":")[0],
            html=file.template.html,
            text=file.template.text,
            variables=file.variables,
            attachments=self.attachments,
        )

    def digest(self) -> str:
        """SHA-256 of the content: headers, templates, variables, attachments."""
        file = self.file
        shared = (
            repr((file.author, file.reply_to, file.return_path, file.subject, file.template)),
            json.dumps(file.variables, sort_keys=True),
            self.load.digest(*filter(None, (file.template.html, file.template.text))),
            *(a.name + hashlib.sha256(a.content).hexdigest() for a in self.attachments),
        )
        return hashlib.sha256("\0".join(shared).encode()).hexdigest()

    def submission(self) -> Submission:
        """The server and login of the campaign; asks for the password if it says so."""
        smtp = self.file.smtp
        password = None
        if smtp.username is not None and smtp.password is not None:
            prompt = f"Password of {smtp.username} at {smtp.host}: "
            password = read_secret(smtp.password, self.folder, prompt)
        ca_file = str(self.folder / smtp.ca_file) if smtp.ca_file else None
        return Submission(
            smtp.host,
            smtp.port,
            smtp.effective_security,
            smtp.username,
            password,
            ca_file,
            smtp.helo,
        )

    def rows(self) -> Iterator[Row]:
        """All rows of all sources, in order, each with its fault if it has one.

        Raises CampaignError for a source that is wrong as a whole.
        """
        address_fault = address_check(self.file.addresses.pattern)
        for row in self._source_rows():
            if clash := self.file.variables.keys() & row.fields.keys():
                name = min(clash)
                message = (
                    f'"{name}" is also a column of {row.source.rpartition(":")[0]}; rename one'
                )
                raise CampaignError([Problem(self.places.key(("variables", name)), message)])
            fault = (
                row.fault or address_fault(row.address) or _name_fault(row.fields.get("name", ""))
            )
            yield row if fault is None else replace(row, fault=fault)

    def _source_rows(self) -> Iterator[Row]:
        for index, source in enumerate(self.file.recipients):
            place = self.places.value(("recipients", index))
            if isinstance(source, FileSource):
                yield from csv_rows(source, self.folder / source.file, place)
            else:
                yield person_row(source, place)


def read_campaign(path: Path) -> Campaign:
    """Reads and checks the campaign file at `path`, its templates' names and its attachments."""
    try:
        data = path.read_bytes()
    except OSError as error:
        raise MissingFileError(f"{path}: {error.strerror}") from None
    value, places = read_yaml(data, str(path))
    file = parse(value, places)
    project = _project(path)
    load = TemplateFolders([path.parent, project / "templates"])
    problems: list[Problem] = []
    attachments = _attachments(file, path.parent, places, problems)
    _check_files(file, path.parent, load, places, problems)
    if problems:
        raise MissingFileError(problems)
    return Campaign(path, project, file, places, load, attachments)


def _name_fault(name: str) -> str | None:
    """The name stands in the To field."""
    try:
        check_header_text(name)
    except UnsafeHeaderError as error:
        return f"the name holds {error}"
    return None


def shown(path: Path) -> str:
    """A path as a person would write it from here."""
    relative = os.path.relpath(path)
    return str(path) if relative.startswith("..") else relative


def _project(path: Path) -> Path:
    """The nearest folder above the campaign that has `templates/`, else the campaign's own."""
    folder = path.resolve().parent
    return next((f for f in (folder, *folder.parents) if (f / "templates").is_dir()), folder)


def _attachments(
    file: CampaignFile, folder: Path, places: Places, problems: list[Problem]
) -> tuple[Attachment, ...]:
    attachments = []
    for index, entry in enumerate(file.attachments):
        path = folder / entry.file
        try:
            attachments.append(_attachment(entry, path))
        except OSError as error:
            place = places.value(("attachments", index))
            problems.append(Problem(place, f"{shown(path)}: {error.strerror}"))
    return tuple(attachments)


def _attachment(entry: AttachmentFile, path: Path) -> Attachment:
    name = entry.name or path.name
    media_type, encoding = _MEDIA_TYPES.guess_type(name)
    if media_type is None or encoding is not None:
        media_type = "application/octet-stream"
    return Attachment(name, media_type, path.read_bytes())


def _check_files(
    file: CampaignFile, folder: Path, load: TemplateFolders, places: Places, problems: list[Problem]
) -> None:
    for kind, name in (("html", file.template.html), ("text", file.template.text)):
        if name is not None and load(name) is None:
            message = f'no template "{name}" in {load.where()}'
            problems.append(Problem(places.value(("template", kind)), message))
    for index, source in enumerate(file.recipients):
        if isinstance(source, FileSource) and not (folder / source.file).is_file():
            message = f"no file {shown(folder / source.file)}"
            problems.append(Problem(places.value(("recipients", index, "file")), message))
