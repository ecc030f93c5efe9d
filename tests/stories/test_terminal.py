"""The terminal of the stories shows what a person would see."""

import os
from pathlib import Path

import pytest

from .terminal import Terminal, screen


@pytest.mark.parametrize(
    ("written", "seen"),
    [
        ("one\r\ntwo\r\n", "one\ntwo\n"),
        ("10 of 20\r\x1b[2K20 of 20\r\n", "20 of 20\n"),
        ("two\r\nlines\r\x1b[2K\x1b[1A\x1b[2Kdone\r\n", "done\n"),
        ("checking\r\x1b[K\r\ndone\r\n", "\ndone\n"),
        ("abc\b\bX\r\n", "aXc\n"),
        ("\x1b[1;31m김연주\x1b[0m님\x1b[?25l\r\n", "김연주님\n"),
        ("sending ^C\r\x1b[2Kstopped\r\n", "stopped\n"),
    ],
)
def test_what_was_drawn_over_is_not_seen(written: str, seen: str) -> None:
    assert screen(written) == seen


def test_what_is_not_understood_is_not_left_out_in_silence() -> None:
    with pytest.raises(AssertionError, match="is not understood"):
        screen("\x1b[2J")


def test_a_text_that_never_comes_is_told_with_what_came(tmp_path: Path) -> None:
    terminal = Terminal(["--version"], tmp_path, os.environ)
    with pytest.raises(AssertionError, match=r"was not shown, but:\nbulkmail, version"):
        terminal.wait_for("Password")
    terminal.end()
