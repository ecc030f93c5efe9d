"""What the README shows of `bulkmail` was really shown."""

import re

from .story import FOLDER

README = FOLDER.parents[1] / "README.md"
_BLOCK = re.compile(r"^```[^\n]*\n(\$ bulkmail.*?)^```$", re.MULTILINE | re.DOTALL)


def test_every_screen_in_the_readme_stands_in_a_story() -> None:
    """Word for word."""
    stories = [path.read_text("utf-8") for path in sorted(FOLDER.glob("*.txt"))]
    assert stories
    for block in _BLOCK.findall(README.read_text("utf-8")):
        assert any(block in story for story in stories), f"in no story:\n{block}"
