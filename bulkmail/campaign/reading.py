"""From a campaign file to a Campaign: everything that can be known without composing."""

import difflib
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TypeVar

from bulkmail.campaign.campaign import Campaign, Located
from bulkmail.campaign.file import NAME, AttachmentFile, CampaignFile, FileSource
from bulkmail.campaign.files import Files, read, shown
from bulkmail.campaign.mistakes import parse
from bulkmail.campaign.nodes import Document, Places, read_yaml
from bulkmail.campaign.templates import TemplateFolders
from bulkmail.campaign.values import OWN_NAMES
from bulkmail.compose.message import FileFaultError, PersonalFile, Source
from bulkmail.compose.skeleton import Attachment
from bulkmail.errors import CampaignError, MissingFileError, Problem

_Seen = TypeVar("_Seen")


def read_campaign(path: Path, settings: Mapping[str, str] | None = None) -> Campaign:
    """Reads and checks the campaign file at `path`, its templates' names and its attachments.

    `settings` take the place of its variables.
    """
    document, settings = _document(path), settings or {}
    file = understood(document, path)
    declared = set(file.variables)
    file = with_settings(file, settings)
    project = project_of(path.resolve().parent)
    load = TemplateFolders([path.parent, project / "templates"])
    files = Files(path.parent, project)
    gathered = _Gathered(document.places, files)
    attachments = tuple(
        gathered.attachment(entry, index) for index, entry in enumerate(file.attachments)
    )
    images = {name: gathered.file(image, "images", name) for name, image in file.images.items()}
    gathered.check_templates(file, load)
    gathered.check_sources(file)
    ca_pem = gathered.authority(file)
    if gathered.problems:
        raise MissingFileError(gathered.problems)
    campaign = Campaign(
        path,
        project,
        file,
        document.places,
        load,
        files.open_personal,
        tuple(filter(None, attachments)),
        {name: image for name, image in images.items() if image is not None},
        settings,
        ca_pem,
    )
    _check_settings(campaign, settings, declared)
    return campaign


def locate_campaign(path: Path) -> Located:
    """Which campaign the file at `path` is, and where its ledger is; opens no other file."""
    return Located(path, project_of(path.resolve().parent), understood(_document(path), path))


def understood(document: Document, path: Path) -> CampaignFile:
    """What stands in the campaign file at `path`. Raises CampaignError."""
    file = parse(document)
    if file.campaign is None and not NAME.fullmatch(path.stem):
        raise CampaignError(
            f"{path}: its name is none for a campaign; say `campaign: a-name` in it"
        )
    return file


def with_settings(file: CampaignFile, settings: Mapping[str, str]) -> CampaignFile:
    """The file with `settings` in the place of its variables."""
    return file.model_copy(update={"variables": {**file.variables, **settings}})


def personal_file(entry: AttachmentFile, place: str) -> PersonalFile:
    """What `entry` is, where each person has one."""
    name = Source(entry.name, place) if entry.name else None
    return PersonalFile(Source(entry.file, place), name)


def _document(path: Path) -> Document:
    try:
        return read_yaml(read(path), str(path))
    except FileFaultError as error:
        raise MissingFileError(str(error)) from None


class _Gathered:
    """The files that a campaign names, and every problem with them."""

    def __init__(self, places: Places, files: Files) -> None:
        self.problems: list[Problem] = []
        self._places = places
        self._files = files

    def attachment(self, entry: AttachmentFile, index: int) -> Attachment | PersonalFile | None:
        place = self._places.value(("attachments", index))
        if entry.is_personal:
            return personal_file(entry, place)
        return self.file(entry.file, "attachments", index, name=entry.name)

    def file(self, file: str, *path: str | int, name: str | None = None) -> Attachment | None:
        try:
            return self._files.open(file, name)
        except FileFaultError as error:
            self.problems.append(Problem(self._places.value(path), str(error)))
            return None

    def check_templates(self, file: CampaignFile, load: TemplateFolders) -> None:
        for kind, name in (("html", file.template.html), ("text", file.template.text)):
            if name is None:
                continue
            try:
                found = load(name)
            except MissingFileError as error:
                self._missing(("template", kind), str(error))
            else:
                if found is None:
                    self._missing(("template", kind), f'no template "{name}" in {load.where()}')

    def check_sources(self, file: CampaignFile) -> None:
        """Are those of recipients there?"""
        named = {("recipients", i): source for i, source in enumerate(file.recipients)}
        named |= {("exclude", i): source for i, source in enumerate(file.exclude)}
        for path, source in named.items():
            if isinstance(source, FileSource):
                self._look((*path, "file"), source.file, self._exists)

    def authority(self, file: CampaignFile) -> str | None:
        """The PEM text in the CA file; what is not ASCII there is no part of it (RFC 7468 2)."""
        if file.smtp.ca_file is None:
            return None
        content = self._look(("smtp", "ca_file"), file.smtp.ca_file, read)
        return None if content is None else content.decode("ascii", "ignore")

    def _look(
        self, path: tuple[str | int, ...], file: str, look: Callable[[Path], _Seen]
    ) -> _Seen | None:
        try:
            return look(self._files.path(file))
        except FileFaultError as error:
            self._missing(path, str(error))
            return None

    @staticmethod
    def _exists(path: Path) -> None:
        if not os.path.exists(path):
            raise FileFaultError(f"no file {shown(path)}")

    def _missing(self, path: tuple[str | int, ...], message: str) -> None:
        self.problems.append(Problem(self._places.value(path), message))


def _check_settings(campaign: Campaign, settings: Mapping[str, str], declared: set[str]) -> None:
    """A name that was mistyped would leave the old value in everyone's mail."""
    known = declared | campaign.template_names.used
    for name in settings:
        if name in OWN_NAMES:
            raise CampaignError(f'--set {name}: "{name}" has a meaning of its own in templates')
        if name not in known:
            near = difflib.get_close_matches(name, known, n=1)
            hint = f'; did you mean "{near[0]}"?' if near else ""
            raise CampaignError(
                f"--set {name}: {campaign.path} has no such variable, and no template uses it{hint}"
            )


def project_of(folder: Path) -> Path:
    """The nearest folder, from that of a campaign upwards, that has `templates/`, else its own."""
    folder = folder.resolve()
    return next((f for f in (folder, *folder.parents) if (f / "templates").is_dir()), folder)
