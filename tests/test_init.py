"""`bulkmail init`: what a newcomer gets, and that nothing of theirs is ever touched."""

import csv
import importlib
import json
import os
import shutil
import struct
import subprocess
from importlib.resources import files
from pathlib import Path

import jsonschema
import pytest
import yaml
from click.testing import CliRunner

from bulkmail.cli.init import SCHEMA, STARTER, init
from bulkmail.compose.templates import Templates
from bulkmail.errors import CampaignError, ExitStatus
from tests.conftest import Project, Result

RESERVED = ("example.com", "example.org", "example.net")
PACKAGED = Path(str(files("bulkmail") / "starter"))


def make(*arguments: str | Path) -> str:
    """What `bulkmail init` prints. Whatever it raises is raised here."""
    result = CliRunner().invoke(init, [str(a) for a in arguments], catch_exceptions=False)
    assert result.exit_code == 0, result.output
    return result.output


def refused(*arguments: str | Path) -> str:
    """Why it makes nothing."""
    with pytest.raises(CampaignError) as caught:
        make(*arguments)
    assert caught.value.status is ExitStatus.DATA
    return str(caught.value)


def content(folder: Path) -> dict[str, bytes]:
    """Every file below `folder`; folders have no content but are listed."""
    return {
        str(path.relative_to(folder)): path.read_bytes() if path.is_file() else b""
        for path in folder.rglob("*")
    }


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder the user stands in."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def news(here: Path) -> Path:
    make("news")
    return here / "news"


def test_everything_in_the_package_is_made_and_nothing_else(news: Path) -> None:
    """No file of the starter is forgotten, and none is named that is not there."""
    packaged = {str(p.relative_to(PACKAGED)) for p in PACKAGED.rglob("*") if p.is_file()}
    made = {name for name in content(news) if (news / name).is_file()}
    assert made == set(STARTER)
    assert {name.lstrip(".") for name in made} == packaged | {SCHEMA}


@pytest.mark.parametrize(
    ("arguments", "campaign"),
    [
        ((), "campaigns/hello.yaml"),
        (("news",), "news/campaigns/hello.yaml"),
        (("a/b",), "a/b/campaigns/hello.yaml"),
        (("our news",), "'our news/campaigns/hello.yaml'"),
        (("../beside",), "../beside/campaigns/hello.yaml"),
    ],
)
def test_the_next_commands_can_be_typed_where_the_user_stands(
    here: Path, monkeypatch: pytest.MonkeyPatch, arguments: tuple[str, ...], campaign: str
) -> None:
    """Paths are relative to here, and quoted where the shell would split them."""
    (here / "desk").mkdir()
    monkeypatch.chdir(here / "desk")
    lines = [line.strip() for line in make(*arguments).splitlines()]
    assert [line for line in lines if line.startswith("bulkmail ")] == [
        f"bulkmail check {campaign}",
        f"bulkmail test {campaign} --to me@example.com --sandbox",
        f"bulkmail run {campaign} --sandbox",
    ]
    assert Path(campaign.strip("'")).is_file()


def test_what_was_made_is_shown_as_a_tree(here: Path) -> None:
    """Every folder and file once, inside its folder, and no line too long for a terminal."""
    tree = make("news").partition("\n\n")[0].splitlines()
    assert [line.strip("│├└─ ").split("  ")[0] for line in tree] == [
        "news/",
        "campaigns/",
        "hello.yaml",
        "members.csv",
        "files/",
        "logo.png",
        "templates/",
        "hello.html.j2",
        "base.html.j2",
        ".gitignore",
        "README.md",
        "campaign.schema.json",
    ]
    assert max(map(len, tree)) < 80


def test_a_folder_with_other_files_is_fine(here: Path) -> None:
    """Also with files in the starter's own folders: they stay as they are."""
    others = {"notes.txt": "mine", "campaigns/july.yaml": "mine too"}
    project = Project(here)
    for name, words in others.items():
        project.write(name, words)
    make()
    assert {name: (here / name).read_text() for name in others} == others
    assert all((here / name).is_file() for name in STARTER)


@pytest.mark.parametrize("name", STARTER)
def test_nothing_is_overwritten(here: Path, name: str) -> None:
    """One file of the same name is enough: nothing is written, and it is named."""
    Project(here).write(f"news/{name}", "mine")
    before = content(here)
    message = refused("news")
    assert content(here) == before
    assert message.splitlines()[1:-1] == [f"  news/{name}"]
    assert "bulkmail init" in message


def test_a_second_time_lists_everything(news: Path) -> None:
    before = content(news)
    assert refused("news").splitlines()[1:-1] == [f"  news/{name}" for name in STARTER]
    assert content(news) == before


def test_a_link_that_leads_nowhere_is_not_written_through(here: Path) -> None:
    (here / "README.md").symlink_to(here / "elsewhere.md")
    assert "README.md" in refused()
    assert os.listdir(here) == ["README.md"]


def test_a_file_of_that_name_is_wrong_usage(here: Path) -> None:
    (here / "news").write_text("mine")
    result = CliRunner().invoke(init, ["news"])
    assert result.exit_code == ExitStatus.USAGE
    assert "'news' is a file" in result.output
    assert content(here) == {"news": b"mine"}


@pytest.mark.parametrize(
    ("blocked", "argument"),
    [("news", "news/inner"), ("news/templates", "news"), ("news/campaigns/files", "news")],
)
def test_a_file_in_the_place_of_a_folder_leaves_nothing_half_done(
    here: Path, blocked: str, argument: str
) -> None:
    """What was written before it came up is taken back."""
    Project(here).write(blocked, "mine")
    before = content(here)
    assert refused(argument).startswith(f"{blocked} is not a folder")
    assert content(here) == before


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="this system has no /dev/full")
@pytest.mark.parametrize("last", STARTER)
def test_a_full_disk_leaves_nothing_half_done(
    here: Path, monkeypatch: pytest.MonkeyPatch, last: str
) -> None:
    """Whichever file no longer fits, those before it and all new folders are taken back."""
    real = Path.open

    def open_on_full_disk(path: Path, mode: str = "r", *more: object) -> object:
        file = real(path, mode, *more)
        if path == Path("a/news", last):
            full = os.open("/dev/full", os.O_WRONLY)
            os.dup2(full, file.fileno())
            os.close(full)
        return file

    monkeypatch.setattr(Path, "open", open_on_full_disk)
    assert refused("a/news").startswith(f"a/news/{last}: No space left on device. Nothing was made")
    assert content(here) == {}


def test_a_file_that_comes_up_meanwhile_is_kept(
    here: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Between looking and writing somebody saves a file of that name: theirs stays, ours goes."""
    module = importlib.import_module("bulkmail.cli.init")  # the package's `init` is the command
    real = module._contents

    def slow_contents() -> dict[str, bytes]:
        Project(here).write("news/templates/hello.html.j2", "mine")
        return real()

    monkeypatch.setattr(module, "_contents", slow_contents)
    assert "news/templates/hello.html.j2: File exists" in refused("news")
    assert content(here / "news") == {"templates": b"", "templates/hello.html.j2": b"mine"}


def test_the_schema_accepts_the_campaign(news: Path) -> None:
    """The editor finds the schema by the first line, and has nothing to complain about."""
    campaign = news / "campaigns/hello.yaml"
    first = campaign.read_text("utf-8").splitlines()[0]
    assert first == "# yaml-language-server: $schema=../campaign.schema.json"
    schema = json.loads((campaign.parent / first.partition("=")[2]).read_text("utf-8"))
    jsonschema.validate(yaml.safe_load(campaign.read_text("utf-8")), schema)


def test_the_lines_to_edit_are_those_with_an_address_or_a_list(news: Path) -> None:
    """Who edits exactly the marked lines has replaced every made-up address of the campaign."""
    lines = (news / "campaigns/hello.yaml").read_text("utf-8").splitlines()
    marked = [line for line in lines if line.endswith("# <- edit")]
    assert {len(line) for line in marked} == {len(marked[0])}
    assert [line.partition(":")[0].strip(" -") for line in marked] == [
        *("from", "club", "contact", "file", "id", "unsubscribe", "username")
    ]
    assert [line for line in lines if "@" in line and line not in marked] == []


def test_the_people_are_made_up(news: Path) -> None:
    """Nobody who tries the starter for real can reach a person; names are Korean and Latin."""
    with (news / "campaigns/members.csv").open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 6
    assert {row["email"].partition("@")[2] for row in rows} == set(RESERVED)
    assert all(row["name"] and row["book"] for row in rows)
    assert {row["name"].isascii() for row in rows} == {True, False}


@pytest.mark.parametrize(
    ("name", "book", "greeting", "has_book"),
    [
        ("김하늘", "어린 왕자", "Hello 김하늘,", True),
        ("Zoë & Co", "", "Hello Zoë &amp; Co,", False),
        ("", "Emma", "Hello and welcome,", True),
        ("", "", "Hello and welcome,", False),
    ],
)
def test_the_letter_reads_well_with_empty_cells(
    news: Path, name: str, book: str, greeting: str, has_book: bool
) -> None:
    """An empty cell leaves no gap in a sentence."""

    def load(template: str) -> tuple[str, str]:
        path = news / "templates" / template
        return path.read_text("utf-8"), str(path)

    campaign = yaml.safe_load((news / "campaigns/hello.yaml").read_text("utf-8"))
    templates = Templates(load)
    row = {**campaign["variables"], "email": "kim@example.com", "name": name, "book": book}
    letter = templates.render(templates.html(campaign["template"]["html"]), row)
    assert f">{greeting}</h2>" in letter
    assert ("You told us that you are reading" in letter) is has_book
    assert 'src="cid:logo"' in letter
    assert "kim@example.com" in letter
    assert "mailto:you@gmail.com?subject=unsubscribe" in letter
    subject = templates.render(templates.inline(campaign["subject"], "subject"), row)
    assert subject == f"{name or 'Dear reader'}, a seat is kept for you"


def test_the_picture_is_a_small_png(news: Path) -> None:
    """Twice the size it is shown in, for dense screens, and below 20 KB."""
    png = (news / "campaigns/files/logo.png").read_bytes()
    assert png.startswith(b"\x89PNG\r\n\x1a\n")
    assert struct.unpack(">II", png[16:24]) == (192, 192)
    assert 'width="96" height="96"' in (news / "templates/base.html.j2").read_text("utf-8")
    assert len(png) < 20_000


@pytest.mark.skipif(shutil.which("git") is None, reason="git is not installed")
def test_git_keeps_no_personal_data(news: Path) -> None:
    """`git add .` takes the project, and neither lists nor ledgers nor what was sent."""
    project = Project(news)
    for name in (
        *("bulkmail.sqlite", "bulkmail.sqlite-wal", "bulkmail.sqlite-shm", "bulkmail.sqlite.lock"),
        *("sandbox/Maildir/new/1", "dry-run/hello/1.eml", "campaigns/people.xlsx"),
        *("report.csv", "report.json", "preview.html", "people.jsonl", ".env", "gmail.password"),
    ):
        project.write(name, "personal")
    git = ["git", "-c", "init.defaultBranch=main", "-c", "core.excludesFile=", "-C", str(news)]
    subprocess.run([*git, "init", "-q"], check=True)
    subprocess.run([*git, "add", "."], check=True)
    added = subprocess.run([*git, "ls-files"], check=True, capture_output=True, text=True).stdout
    assert set(added.splitlines()) == set(STARTER) - {"campaigns/members.csv"}


def test_every_command_of_the_readme_is_explained_in_order(news: Path) -> None:
    lines = (news / "README.md").read_text("utf-8").splitlines()
    commands = [line.split("`")[1].split()[1] for line in lines if line.startswith("| `")]
    assert commands == ["check", "test", "run", "run", "report"]
    assert len(lines) <= 20


COMMANDS = {
    "check": ("check", "campaigns/hello.yaml"),
    "test": ("test", "campaigns/hello.yaml", "--to", "me@example.com", "--sandbox"),
    "run": ("run", "campaigns/hello.yaml", "--sandbox", "--yes"),
}


@pytest.mark.parametrize("name", COMMANDS)
async def test_it_works_as_it_is(news: Path, name: str) -> None:
    """The first commands a newcomer types succeed without an edit."""
    result: Result = await Project(news).bulkmail(*COMMANDS[name])
    assert result.status == ExitStatus.DONE, result.err
