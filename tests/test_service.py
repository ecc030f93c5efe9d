"""The example unit for systemd: understood by systemd, and its command by bulkmail."""

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner

from bulkmail.cli import commands

UNIT = Path(__file__).parent.parent / "docs" / "bulkmail-worker.service"
PROGRAM = "/opt/bulkmail/bin/bulkmail"


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="no systemd here")
def test_systemd_understands_it(tmp_path: Path) -> None:
    unit = tmp_path / UNIT.name
    text = UNIT.read_text("utf-8")
    unit.write_text(text.replace(f"ExecStart={PROGRAM} ", f"ExecStart={sys.executable} "))
    found = subprocess.run(
        ["systemd-analyze", "verify", "--man=no", unit], capture_output=True, text=True, check=False
    )
    about_it = [line for line in found.stderr.splitlines() if UNIT.stem in line]
    assert (found.returncode, about_it) == (0, [])


def test_bulkmail_understands_its_command() -> None:
    [line] = re.findall(rf"^ExecStart={PROGRAM} (.*)$", UNIT.read_text("utf-8"), re.MULTILINE)
    result = CliRunner().invoke(commands, [*line.split(), "--help"])
    assert result.exit_code == 0
    for option in re.findall(r"--[\w-]+", line):
        assert option in result.output
    wrong = CliRunner().invoke(commands, [*line.split(), "--nope"])
    assert wrong.exit_code == 2 and "No such option" in wrong.output


def test_it_is_given_the_time_that_it_may_need() -> None:
    """Longer than the drain, and the end of the engine after it."""
    from bulkmail.cluster.tenure import ENGINE_SECONDS
    from bulkmail.delivery import Limits

    [seconds] = re.findall(r"^TimeoutStopSec=(\d+)$", UNIT.read_text("utf-8"), re.MULTILINE)
    assert int(seconds) >= 2 * (Limits().drain + ENGINE_SECONDS)
