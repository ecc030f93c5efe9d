"""Where templates are read from: each once, so that a run sends one version."""

import hashlib
import json
import os
from collections.abc import Iterator, Mapping
from pathlib import Path

from bulkmail.campaign.files import read, shown
from bulkmail.compose.message import FileFaultError
from bulkmail.compose.names import reachable
from bulkmail.errors import CampaignError, MissingFileError, Problem

MAX_TEMPLATE_BYTES = 500_000
"""It takes some seconds to compile one of this length."""


Found = tuple[str, str] | None
"""A template's source, and its file as shown to a person; None: there is none of that name."""


class KnownTemplates:
    """Templates that were read, by name. Raises CampaignError for a name that was not asked for
    where they were read: whether it names a template is not known.
    """

    def __init__(self, known: Mapping[str, Found]) -> None:
        self._read = dict(known)

    def __call__(self, name: str) -> Found:
        if name not in self._read:
            self._read[name] = self._find(name)
        return self._read[name]

    def digest(self, name: str) -> str:
        """SHA-256 over this template and all that it names, whether anyone needs them; what it is
        called by itself makes no difference, but what the others are called does: some of those
        that are named may be missing.
        """
        found = [(other, source) for other, source in reachable(self, [name])]
        sources = json.dumps(
            [source if other == name else [other, source] for other, source in found]
        )
        return hashlib.sha256(sources.encode("ascii")).hexdigest()

    @property
    def read(self) -> Mapping[str, Found]:
        """By each name that was asked for, those among them that name nothing."""
        return self._read

    def candidates(self) -> Iterator[Path]:
        """Where each template that was asked for stands, or would be looked for."""
        return iter(())

    def _find(self, name: str) -> Found:
        raise CampaignError(f"the template {name!r} was not prepared with the campaign")


class TemplateFolders(KnownTemplates):
    """Reads templates by name from the first folder that has them.

    A name that leads out of a folder, by itself or by a link, names nothing. Raises
    MissingFileError for what cannot be read, CampaignError for what is no text.
    """

    def __init__(self, folders: list[Path]) -> None:
        super().__init__({})
        self._folders = folders

    def where(self) -> str:
        """The folders that are looked in, for an error's text."""
        return " or ".join(dict.fromkeys(shown(folder) for folder in self._folders))

    def candidates(self) -> Iterator[Path]:
        for name in self._read:
            yield from (folder / name for folder in self._folders)

    def _find(self, name: str) -> Found:
        for folder in self._folders:
            try:
                path = Path(os.path.realpath(folder / name))
            except ValueError:  # a NUL, or half a character
                return None
            if path.is_relative_to(os.path.realpath(folder)) and os.path.exists(path):
                return _text(path), shown(path)
        return None


def _text(path: Path) -> str:
    try:
        content = read(path)
        if len(content) > MAX_TEMPLATE_BYTES:
            message = (
                f"has {len(content) / 1000:,.0f} KB; a letter of over 102 KB is cut by readers"
            )
            raise CampaignError([Problem(shown(path), message)])
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = error.object.count(b"\n", 0, error.start) + 1
        message = "is not UTF-8; save it as UTF-8"
        raise CampaignError([Problem(f"{shown(path)}:{line}", message)]) from None
    except FileFaultError as error:
        raise MissingFileError(str(error)) from None
