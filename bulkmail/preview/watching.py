"""The files that a campaign is made of, and whether one of them changed."""

import os
from collections.abc import Iterable
from pathlib import Path

from bulkmail.campaign import Campaign, Located, locate_campaign
from bulkmail.campaign.file import FileSource
from bulkmail.errors import BulkmailError

Stamp = tuple[int, int, int] | None
"""Of a file: time of change, size, inode; None: there is none."""


def stamps(paths: Iterable[Path]) -> dict[Path, Stamp]:
    return {path: _stamp(path) for path in paths}


def _stamp(path: Path) -> Stamp:
    try:
        status = os.stat(path)
    except (OSError, ValueError):
        return None
    return status.st_mtime_ns, status.st_size, status.st_ino


def files_of(path: Path, campaign: Campaign | None) -> list[Path]:
    """Everything that the campaign file at `path` names, as far as it can be read; `campaign` is
    what was read of it last.
    """
    files = [path]
    try:
        located = locate_campaign(path)
    except BulkmailError:
        located = None
    if located is not None:
        files += [*_templates(located), *data_files(located), *_attached(located)]
    if campaign is not None:
        files += campaign.load.candidates()
    return list(dict.fromkeys(files))


def data_files(located: Located) -> list[Path]:
    """The files that people are read from, or left out by."""
    sources = (*located.file.recipients, *located.file.exclude)
    named = [source.file for source in sources if isinstance(source, FileSource)]
    return [located.folder / file for file in named]


def _templates(located: Located) -> list[Path]:
    names = filter(None, (located.file.template.html, located.file.template.text))
    folders = (located.folder, located.project / "templates")
    return [folder / name for name in names for folder in folders]


def _attached(located: Located) -> list[Path]:
    """Attachments and images; of what is for one person each, the folder."""
    names = [*located.file.images.values()]
    for entry in located.file.attachments:
        fixed = entry.file.partition("{")[0]
        names.append(os.path.dirname(fixed) if entry.is_personal else entry.file)
    return [located.folder / name for name in names]
