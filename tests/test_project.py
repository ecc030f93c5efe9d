"""The project as a newcomer gets it: the examples, the wheel, the documentation."""

import csv
import email
import email.policy
import json
import re
import subprocess
import sys
from pathlib import Path

import jsonschema
import pytest
import yaml
from click.testing import CliRunner

from bulkmail.campaign import read_campaign
from bulkmail.cli import commands
from bulkmail.compose.message import Composer
from bulkmail.model import Recipient, Security

from .conftest import rows_of

ROOT = Path(__file__).parent.parent


def bulkmail(
    *arguments: str, cwd: Path = ROOT, python_path: str = ""
) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "bulkmail", *arguments],
        cwd=cwd,
        env={"PYTHONPATH": python_path, "PATH": "", "LANG": "C.UTF-8", "COLUMNS": "100"},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


@pytest.fixture
def examples(tmp_path: Path) -> Path:
    """A copy of the examples, so that nothing is written into the repository."""
    for name in ("campaigns", "templates"):
        subprocess.run(["cp", "-r", ROOT / name, tmp_path], check=True)
    return tmp_path


def test_the_newsletter_reaches_27_of_30(examples: Path) -> None:
    """What `make demo` shows."""
    result = bulkmail("run", "campaigns/newsletter.yaml", "--sandbox", "--yes", cwd=examples,
                      python_path=str(ROOT))  # fmt: skip
    assert result.returncode == 0, result.stderr
    assert re.search(
        r"^27 accepted · 2 filtered \(members\.csv:9 .*, :21 .*\) · 1 duplicate · "
        r"[0-9.]+ seconds? · nothing left this computer$",
        result.stdout,
        re.MULTILINE,
    )
    assert "멋쟁이사자처럼 11월 소식입니다" in result.stdout
    assert "12월 시간표.pdf" in result.stdout
    invalid = bulkmail("report", "campaigns/newsletter.yaml", "--sandbox", "--state", "invalid",
                       "--format", "json", cwd=examples, python_path=str(ROOT))  # fmt: skip
    sources = [json.loads(line)["source"] for line in invalid.stdout.splitlines()]
    assert sources == ["members.csv:9", "members.csv:21"]

    with (ROOT / "campaigns/members.csv").open(encoding="utf-8") as file:
        names = {row["이메일"].lower(): row["이름"] for row in csv.DictReader(file)}
    files = list((examples / "sandbox/Maildir/new").iterdir())
    assert len(files) == 27
    for file in files:
        message = email.message_from_bytes(file.read_bytes(), policy=email.policy.default)
        name = names[message["Delivered-To"].lower()]
        assert message["Subject"] == f"{name}님, 멋쟁이사자처럼 11월 소식입니다"
        assert message.get_content_type() == "multipart/mixed"
        assert name in message.get_body(("plain",)).get_content()
        assert name in message.get_body(("html",)).get_content()
        image, pdf = message.iter_attachments()
        assert image.get_content_type() == "image/png"
        assert image.get_content() == (ROOT / "campaigns/files/codelion.png").read_bytes()
        assert pdf.get_content() == (ROOT / "campaigns/files/schedule.pdf").read_bytes()


def test_the_gmail_example_is_ready_but_for_the_password() -> None:
    campaign = read_campaign(ROOT / "campaigns/gmail.yaml")
    smtp = campaign.file.smtp
    assert (smtp.host, smtp.port, smtp.effective_security) == ("smtp.gmail.com", 465, Security.TLS)
    assert smtp.password == "ask"
    assert [str(rate) for rate in campaign.file.rate] == ["1/s", "450/day"]
    composer = Composer(campaign.design, campaign.load, b"seed", campaign.open_file)
    for number, row in enumerate(rows_of(campaign)):
        assert row.fault is None
        composer.compose(Recipient(number, row.address, row.fields, row.source), 0.0)


def test_the_wheel_works_outside_the_repository(tmp_path: Path) -> None:
    """Built, unpacked elsewhere, and used from there: nothing is missing from it."""
    subprocess.run(
        [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", tmp_path, ROOT],
        check=True,
        capture_output=True,
        timeout=100,
    )
    [wheel] = tmp_path.glob("*.whl")
    installed = tmp_path / "installed"
    subprocess.run([sys.executable, "-m", "zipfile", "-e", wheel, installed], check=True)
    project = tmp_path / "project"
    project.mkdir()
    (project / "letter.txt").write_text("Dear {{ name }}\n")
    (project / "july.yaml").write_text(
        "from: news@example.org\nsubject: Hi\ntemplate: {text: letter.txt}\n"
        "recipients: [{email: kim@example.com, name: 김연주}]\nsmtp: {host: smtp.example.org}\n"
    )
    where = subprocess.run(
        [sys.executable, "-c", "import bulkmail; print(bulkmail.__file__)"],
        cwd=project, env={"PYTHONPATH": str(installed)}, capture_output=True, text=True, check=True,
    ).stdout  # fmt: skip
    assert where.startswith(str(installed))
    result = bulkmail("run", "july.yaml", "--sandbox", "--yes", cwd=project,
                      python_path=str(installed))  # fmt: skip
    assert result.returncode == 0, result.stderr
    assert "1 accepted" in result.stdout
    page = bulkmail("report", "july.yaml", "--sandbox", "--format", "html", cwd=project,
                    python_path=str(installed))  # fmt: skip
    assert "<h1>The one person on the list was sent it</h1>" in page.stdout, page.stderr
    for arguments in (("init", "news"), ("run", "news/campaigns/hello.yaml", "--sandbox", "--yes")):
        made = bulkmail(*arguments, cwd=project, python_path=str(installed))
        assert made.returncode == 0, made.stderr
    assert "6 accepted" in made.stdout


SCHEMA = ROOT / "campaigns" / "campaign.schema.json"


def test_the_examples_point_to_the_schema_that_bulkmail_prints() -> None:
    assert bulkmail("schema", python_path=str(ROOT)).stdout == SCHEMA.read_text("utf-8")
    for path in (ROOT / "campaigns").glob("*.yaml"):
        first = path.read_text("utf-8").split("\n")[0]
        assert first == f"# yaml-language-server: $schema={SCHEMA.name}"
        jsonschema.validate(yaml.safe_load(path.read_bytes()), json.loads(SCHEMA.read_bytes()))


@pytest.mark.parametrize(
    ("change", "path"),
    [
        ({"subjct": "x"}, []),
        ({"rate": "often"}, ["rate"]),
        ({"smtp": {"host": "smtp.example.org", "prot": 465}}, ["smtp"]),
        ({"recipients": []}, ["recipients"]),
        ({"recipients": [{"name": "Kim"}]}, ["recipients", 0]),
        ({"list": {"unsubscribe": "x"}}, ["list", "unsubscribe"]),
    ],
)
def test_an_editor_marks_what_the_schema_does_not_allow(
    change: dict[str, object], path: list[object]
) -> None:
    campaign = {
        "from": "News <news@example.org>",
        "subject": "Hi",
        "template": {"text": "a.txt"},
        "recipients": [{"file": "a.csv"}],
        "smtp": {"host": "smtp.example.org"},
    }
    validator = jsonschema.Draft202012Validator(json.loads(SCHEMA.read_bytes()))
    assert list(validator.iter_errors(campaign)) == []
    [error] = validator.iter_errors({**campaign, **change})
    assert list(error.absolute_path) == path


COMMANDS = (
    "init",
    "check",
    "preview",
    "test",
    "run",
    "status",
    "report",
    "worker",
    "migrate",
    "suppress",
    "sandbox",
    "schema",
)


def test_help() -> None:
    result = bulkmail("--help", python_path=str(ROOT))
    assert result.returncode == 0
    assert result.stdout.startswith("Usage: bulkmail")


@pytest.mark.parametrize("command", COMMANDS)
def test_help_of_a_command(command: str) -> None:
    result = CliRunner().invoke(commands, [command, "--help"], prog_name="bulkmail")
    assert result.exit_code == 0
    assert result.stdout.startswith(f"Usage: bulkmail {command} ")


@pytest.mark.parametrize("arguments", [("run",), ("run", "x.yaml", "--nope"), ("fly",)])
def test_wrong_usage_is_status_2(arguments: tuple[str, ...]) -> None:
    assert bulkmail(*arguments, python_path=str(ROOT)).returncode == 2


def test_a_campaign_that_is_not_there_is_status_66() -> None:
    result = bulkmail("run", "nowhere.yaml", python_path=str(ROOT))
    assert result.returncode == 66
    assert result.stderr == "nowhere.yaml: No such file or directory\n"


def test_the_sample_of_the_readme_is_understood(tmp_path: Path) -> None:
    """The campaign file that the README shows is one that bulkmail reads."""
    sample = re.search(r"```yaml\n(.*?)```", (ROOT / "README.md").read_text("utf-8"), re.DOTALL)
    assert sample is not None
    path = tmp_path / "campaign.yaml"
    path.write_text(sample.group(1), "utf-8")
    for name in re.findall(r"[\w./-]+\.(?:j2|csv|png|pdf)", sample.group(1)):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text("email,name\nkim@example.com,Kim\n")
    assert [row.fault for row in rows_of(read_campaign(path))] == [None] * 2
