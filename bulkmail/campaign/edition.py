"""A campaign as text, for those who send it from machines that have none of its files.

An *edition* is JSON: the campaign file as it was read, the settings, every template by name, and
the files that messages share by their SHA-256. Whoever has these composes the same messages, byte
for byte. It holds no password; where one comes from stands in the campaign file.

Every template that somebody's message can need is in it, whoever was composed before: names of
templates are written out (`compose.bounds` refuses others), so that all of them can be told from
the sources. Names that name nothing are in it, too: `{% include "x" ignore missing %}` has to find
nothing elsewhere. Any other name is an error there, never a template that is missing in silence.
"""

import hashlib
import json
import ssl
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from bulkmail.campaign.campaign import Campaign
from bulkmail.campaign.file import CampaignFile
from bulkmail.campaign.files import Files, shown
from bulkmail.campaign.nodes import Places, read_text
from bulkmail.campaign.reading import personal_file, project_of, understood, with_settings
from bulkmail.campaign.templates import Found, KnownTemplates
from bulkmail.compose.message import FileFaultError, OpenFile, PersonalFile
from bulkmail.compose.skeleton import Attachment
from bulkmail.errors import CampaignError, MissingFileError, Problem

FORMAT = 1
"""Another number is another form, which this version does not read."""
_BROKEN = "what the database holds of this campaign cannot be read; plan it again: bulkmail run"

FileOf = Callable[[str], bytes]
"""A file's content, by its SHA-256 in hex. Raises LookupError."""


@dataclass(frozen=True)
class _SharedFile:
    """`name` is what readers see; `sha256` that of the content, in hex."""

    name: str
    media_type: str
    sha256: str


@dataclass(frozen=True)
class _Edition:
    """As JSON. `file` is the campaign file as shown to a person, `text` what stands in it.

    `attachments` are in its order, with None for a file of each person; `images` go by name.
    `digest` is that of the campaign's content.
    """

    file: str
    text: str
    settings: Mapping[str, str]
    templates: Mapping[str, Found]
    attachments: list[_SharedFile | None]
    images: Mapping[str, _SharedFile]
    ca_pem: str | None
    digest: str


def edition_of(campaign: Campaign) -> tuple[str, dict[str, bytes]]:
    """The edition, and the files that it names: content by SHA-256.

    Raises CampaignError for what cannot be had on another machine.
    """
    problems = [*_password_problems(campaign), *_authority_problems(campaign)]
    if problems:
        raise CampaignError(problems)
    files: dict[str, bytes] = {}

    def shared(file: Attachment) -> _SharedFile:
        sha256 = hashlib.sha256(file.content).hexdigest()
        files[sha256] = file.content
        return _SharedFile(file.name, file.media_type, sha256)

    digest = campaign.digest()  # asks for all templates that are named
    edition = _Edition(
        campaign.places.file,
        campaign.places.source.text,
        campaign.settings,
        campaign.load.read,
        [shared(f) if isinstance(f, Attachment) else None for f in campaign.attachments],
        {name: shared(image) for name, image in campaign.images.items()},
        campaign.ca_pem,
        digest,
    )
    return json.dumps({"format": FORMAT, **asdict(edition)}, sort_keys=True), files


def campaign_of(edition: str, file_of: FileOf, files_folder: Path | None) -> Campaign:
    """The campaign of which `edition` is, to be composed and sent; its sources of recipients are
    not at hand.

    `files_folder` stands for the folder of the campaign file, where there is a file for each
    person. Raises CampaignError where it is needed and missing, and for an edition of another
    version or one whose content is not what was planned.
    """
    told = _read(edition)
    path = Path(told.file)
    document = read_text(told.text, told.file)
    file = with_settings(understood(document, path), told.settings)
    fetch = _Fetch(path, file_of)
    campaign = Campaign(
        path,
        path.parent,
        file,
        document.places,
        KnownTemplates(told.templates),
        _opener(file, path, files_folder),
        _attachments(file, document.places, told, fetch),
        {name: fetch.shared(told.images.get(name)) for name in file.images},
        told.settings,
        told.ca_pem,
    )
    if campaign.digest() != told.digest:
        raise CampaignError(
            f"{path}: what is in the database is not the content that was planned, or this version"
            " understands it in another way; nothing of it is sent from here. Use the same version"
            " of bulkmail and Python everywhere, and plan it again: bulkmail run"
        )
    return campaign


# -- what cannot go along --------------------------------------------------------------------------


def _password_problems(campaign: Campaign) -> list[Problem]:
    password = campaign.file.smtp.password
    if password is None or password.startswith("env:"):
        return []
    message = (
        f"workers on other machines cannot use `{password}`; write env:NAME, such as"
        " env:BULKMAIL_PASSWORD, and set that variable where they run"
    )
    return [Problem(campaign.places.value(("smtp", "password")), message)]


def _authority_problems(campaign: Campaign) -> list[Problem]:
    if campaign.ca_pem is None:
        return []
    try:
        ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT).load_verify_locations(cadata=campaign.ca_pem)
    except (ValueError, ssl.SSLError):
        message = f"{campaign.file.smtp.ca_file} holds no certificates in PEM"
        return [Problem(campaign.places.value(("smtp", "ca_file")), message)]
    return []


# -- reading ---------------------------------------------------------------------------------------


def _read(edition: str) -> _Edition:
    try:
        told: dict[str, Any] = json.loads(edition)
        number = int(told.pop("format"))
    except (ValueError, TypeError, KeyError, AttributeError):
        raise CampaignError(_BROKEN) from None
    if number > FORMAT:
        raise CampaignError("this campaign was planned by a newer bulkmail; upgrade the worker")
    if number < FORMAT:
        message = "this campaign was planned by an older bulkmail; plan it again: bulkmail run"
        raise CampaignError(message)
    try:
        read = _Edition(**told)
        attachments = [_SharedFile(**file) if file else None for file in told["attachments"]]
        images = {name: _SharedFile(**image) for name, image in told["images"].items()}
        templates = {name: _found(found) for name, found in told["templates"].items()}
    except (ValueError, TypeError, AttributeError):
        raise CampaignError(_BROKEN) from None
    return replace(read, attachments=attachments, images=images, templates=templates)


def _found(found: list[str] | None) -> Found:
    if found is None:
        return None
    source, file = found
    return source, file


class _Fetch:
    """Shared files, whose content comes from elsewhere. Raises CampaignError without it."""

    def __init__(self, path: Path, file_of: FileOf) -> None:
        self._path = path
        self._file_of = file_of

    def shared(self, file: _SharedFile | None) -> Attachment:
        if file is None:
            raise CampaignError(f"{self._path}: {_BROKEN}")
        try:
            content = self._file_of(file.sha256)
        except LookupError:
            message = f'{self._path}: the database has lost the file "{file.name}"'
            raise CampaignError(f"{message}; plan it again: bulkmail run") from None
        return Attachment(file.name, file.media_type, content)


def _attachments(
    file: CampaignFile, places: Places, told: _Edition, fetch: _Fetch
) -> tuple[Attachment | PersonalFile, ...]:
    if len(told.attachments) != len(file.attachments):
        raise CampaignError(f"{told.file}: {_BROKEN}")
    return tuple(
        personal_file(entry, places.value(("attachments", index)))
        if entry.is_personal
        else fetch.shared(told.attachments[index])
        for index, entry in enumerate(file.attachments)
    )


def _opener(file: CampaignFile, path: Path, folder: Path | None) -> OpenFile:
    """What opens the files of one person."""
    if not any(entry.is_personal for entry in file.attachments):
        return _none
    if folder is None:
        raise CampaignError(
            f"{path}: it has attachments for one person each, which no database holds; start the"
            f" worker with --files DIR, a copy of the folder of {path.name}"
        )
    if not folder.is_dir():
        raise MissingFileError(f"--files: no folder {shown(folder)}")
    return Files(folder, project_of(folder)).open_personal


def _none(file: PersonalFile, path: str, name: str | None) -> Attachment:
    """Of a campaign that has no such files."""
    raise FileFaultError(f"{path!r} is not at hand")
