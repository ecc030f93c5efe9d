"""`bulkmail init`: a project that works as it is, for a newcomer to change.

Promises that nothing of the user's is overwritten, and that it makes all of its files or none. It
does not know what they say: they stand in `bulkmail/starter/`, as they will in the project.
"""

import json
import shlex
from collections.abc import Mapping
from contextlib import ExitStack, suppress
from importlib.resources import files
from os.path import lexists
from pathlib import Path, PurePosixPath

import click
from rich.console import Console
from rich.text import Text
from rich.tree import Tree

from bulkmail.campaign.files import shown
from bulkmail.errors import CampaignError

CAMPAIGN = "campaigns/hello.yaml"
SCHEMA = "campaign.schema.json"
STARTER = {
    CAMPAIGN: "the campaign: who, what, by which server",
    "campaigns/members.csv": "who gets it: six people, made up",
    "campaigns/files/logo.png": "the picture in the letter",
    "templates/hello.html.j2": "the words of the letter",
    "templates/base.html.j2": "how letters look",
    ".gitignore": "keeps people's data out of git",
    "README.md": "what to type, step by step",
    SCHEMA: "lets your editor check what you write",
}
"""The files of a new project, relative to it, and what each is for."""

_NOTES_AT = 30  # the column of the notes, in cells of the terminal
_GUIDE = 4  # what one level of the tree is moved to the right by


@click.command()
@click.argument(
    "folder", metavar="[DIR]", required=False, type=click.Path(path_type=Path, file_okay=False)
)
def init(folder: Path | None) -> None:
    """Make a project to start from, in DIR or here: a campaign, a letter, six made-up people.

    It works as it is, and no file that is already there is touched.
    """
    folder = folder or Path()
    _refuse_to_overwrite(folder)
    _write(folder, _contents())
    Console().print(_tree(folder))
    campaign = shlex.quote(shown(folder / CAMPAIGN))
    click.echo(
        "\nIt works as it is. Type next:\n\n"
        f"  bulkmail check {campaign}\n"
        f"  bulkmail test {campaign} --to me@example.com --sandbox\n"
        f"  bulkmail run {campaign} --sandbox\n"
    )


def _contents() -> dict[str, bytes]:
    """What goes into each file of STARTER."""
    # Here, so that a broken or slow schema is a matter of this command alone.
    from bulkmail.campaign.schema import campaign_schema

    schema = json.dumps(campaign_schema(), indent=2, ensure_ascii=False) + "\n"
    package = files("bulkmail") / "starter"
    # In the package `.gitignore` has no dot: git and the wheel's builder would obey it there.
    return {
        name: schema.encode() if name == SCHEMA else (package / name.lstrip(".")).read_bytes()
        for name in STARTER
    }


def _refuse_to_overwrite(folder: Path) -> None:
    """Raises CampaignError if a file of STARTER, or a broken link of that name, is there."""
    there = [shown(path) for path in map(folder.joinpath, STARTER) if lexists(path)]
    if there:
        raise CampaignError(
            f"nothing was written, because {'this is' if len(there) == 1 else 'these are'}"
            f" already there:\n  " + "\n  ".join(there) + "\n"
            "Name a folder that is not there yet, as in: bulkmail init news"
        )


def _write(folder: Path, contents: Mapping[str, bytes]) -> None:
    """Writes `contents` under `folder`, or takes back what it wrote and raises CampaignError."""
    with ExitStack() as made:
        for name, content in contents.items():
            path = folder / name
            try:
                _make_folder(path.parent, made)
                with path.open("xb") as file:
                    made.callback(_take_back, path)
                    file.write(content)
            except OSError as error:
                why = f"{error.filename or path}: {error.strerror}"
                raise CampaignError(f"{why}. Nothing was made; try another folder") from None
        made.pop_all()


def _make_folder(folder: Path, made: ExitStack) -> None:
    if folder.is_dir():
        return
    if lexists(folder):
        raise CampaignError(f"{folder} is not a folder. Nothing was made; name another one")
    _make_folder(folder.parent, made)
    folder.mkdir()
    made.callback(_take_back, folder)


def _take_back(path: Path) -> None:
    # A new folder that somebody else put a file into stays; rmdir refuses.
    with suppress(OSError):
        path.rmdir() if path.is_dir() else path.unlink()


def _tree(folder: Path) -> Tree:
    """The new files, each with its note."""
    root = Tree(Text(f"{shown(folder)}/"))
    branches = {PurePosixPath("."): root}
    for name, note in STARTER.items():
        path = PurePosixPath(name)
        for parent in reversed(path.parents):
            if parent not in branches:
                branches[parent] = branches[parent.parent].add(Text(f"{parent.name}/"))
        width = _NOTES_AT - _GUIDE * len(path.parents)
        branches[path.parent].add(Text.assemble(f"{path.name:<{width}}", (note, "dim")))
    return root
