"""Files that a campaign sends along: read once, with the type that they really have.

Refuses what is no plain file (a device or a FIFO would block, or never end), what a symbolic link
brings in from outside the project, and what no mail server would take.
"""

import mimetypes
import os
import re
import stat
from pathlib import Path, PurePath

import puremagic

from bulkmail.compose.headers import UnsafeHeaderError, check_header_text
from bulkmail.compose.message import FileFaultError, PersonalFile
from bulkmail.compose.skeleton import Attachment

MAX_FILE_BYTES = 100_000_000
UNKNOWN = "application/octet-stream"
_TYPE = re.compile(r"[a-z]+/[a-zA-Z0-9.+-]+")
_COMPOSITE = ("message/", "multipart/")
"""Types that may not be in base64 (RFC 2046 5.2.1); such a file is sent without its type."""
_BY_NAME = mimetypes.MimeTypes()
"""Python's own table, not the machine's: a file has the same type wherever it is sent from."""


class Files:
    """Opens files by their path relative to `folder`, within `project`. Raises FileFaultError."""

    def __init__(self, folder: Path, project: Path) -> None:
        self._folder = folder
        self._project = project

    def open(self, file: str, name: str | None = None) -> Attachment:
        """The file, under `name` or its own."""
        path = self.path(file)
        content = read(path)
        shown_name = name or path.name
        try:
            check_header_text(shown_name)
        except UnsafeHeaderError as error:
            raise FileFaultError(f"the name of a file holds {error}") from None
        return Attachment(shown_name, media_type(shown_name, content), content)

    def open_personal(self, file: PersonalFile, path: str, name: str | None) -> Attachment:
        """The file at `path`, which data of a recipient is part of: it stays in its folder."""
        fixed = self._folder / os.path.dirname(file.path.text.partition("{")[0])
        try:
            leads_out = not _real(self._folder / path).is_relative_to(_real(fixed))
        except ValueError as error:  # a NUL
            raise FileFaultError(f"{path!r}: {error}") from None
        if leads_out:
            raise FileFaultError(f"{path!r} leads out of {shown(fixed)}")
        return self.open(path, name)

    def path(self, file: str) -> Path:
        """Where `file` is. As written it may lead anywhere; a link on the way may not leave the
        project.
        """
        path = self._folder / file
        project, folder = self._project.resolve(), self._folder.resolve()
        written = Path(os.path.normpath(folder / file))
        if written.is_relative_to(project) and not _real(written).is_relative_to(project):
            raise FileFaultError(f"{shown(path)} is a link that leads out of {shown(project)}")
        return path


def _real(path: Path) -> Path:
    """Without links; one that leads in a circle stays."""
    return Path(os.path.realpath(path))


def read(path: Path) -> bytes:
    """The content of a plain file. Raises FileFaultError."""
    try:
        status = path.stat()
        if stat.S_ISDIR(status.st_mode):
            raise FileFaultError(f"{shown(path)} is a folder")
        if not stat.S_ISREG(status.st_mode):
            raise FileFaultError(f"{shown(path)} is not a plain file")
        if status.st_size > MAX_FILE_BYTES:
            megabytes = status.st_size / 1_000_000
            raise FileFaultError(
                f"{shown(path)} has {megabytes:,.0f} MB; no mail server takes that"
            )
        return path.read_bytes()
    except OSError as error:
        raise FileFaultError(f"{shown(path)}: {error.strerror}") from None


def media_type(name: str, content: bytes) -> str:
    """`type/subtype`, by the ending of the name; by the content where the name says nothing, or
    calls one kind of picture or document another.
    """
    endings = "".join(PurePath(name).suffixes[-2:])
    by_name, compression = _BY_NAME.guess_type(f"file{endings}")  # a whole name may look like a URL
    by_content = _by_content(content)
    if compression is not None or (by_name or by_content).startswith(_COMPOSITE):
        return UNKNOWN
    if by_name is None:
        return by_content or UNKNOWN
    if _is_recognisable(by_name) and _is_recognisable(by_content):
        return by_content
    return by_name


def _is_recognisable(media_type: str) -> bool:
    """Whether a first look at the content tells this type from others for certain."""
    return media_type in ("image/png", "image/jpeg", "image/gif", "image/webp", "application/pdf")


def _by_content(content: bytes) -> str:
    try:
        found = str(puremagic.from_string(content[:4096], mime=True)).strip()
    except (puremagic.PureError, ValueError):
        return ""
    return found if _TYPE.fullmatch(found) else ""


def shown(path: Path) -> str:
    """A path as a person would write it from here."""
    relative = os.path.relpath(path)
    return str(path) if relative.startswith("..") else relative
