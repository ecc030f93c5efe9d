"""A Maildir, which mail readers open, and a journal of what arrived when."""

import json
import os
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any, TextIO

from bulkmail.sandbox.receiving import Received


class Maildir:
    """Keeps every message in a file of `new/`, and one line about it in `journal.jsonl`.

    A line holds `at` (seconds since the epoch), `session`, `reverse_path`, `forward_paths` and
    `file`. It is written before the message is acknowledged.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        for name in ("cur", "new", "tmp"):
            (folder / name).mkdir(parents=True, exist_ok=True)
        self._journal: TextIO = (folder / "journal.jsonl").open("a", encoding="utf-8", buffering=1)
        self._count = 0

    def close(self) -> None:
        self._journal.close()

    def keep(self, received: Received, session: int) -> None:
        """Stores a message with the trace fields of final delivery (RFC 5321 4.4)."""
        self._count += 1
        at = time.time()
        name = f"{at:.6f}.{os.getpid()}_{self._count}.sandbox"
        trace = f"Return-Path: <{received.reverse_path}>\r\n" + "".join(
            f"Delivered-To: {path}\r\n" for path in received.forward_paths
        )
        temporary = self.folder / "tmp" / name
        temporary.write_bytes(trace.encode() + received.content)
        temporary.rename(self.folder / "new" / name)
        entry = {
            "at": at,
            "session": session,
            "reverse_path": received.reverse_path,
            "forward_paths": received.forward_paths,
            "file": f"new/{name}",
        }
        self._journal.write(json.dumps(entry, ensure_ascii=False) + "\n")


def journal(folder: Path) -> Iterator[dict[str, Any]]:
    """What arrived in the Maildir at `folder`, oldest first."""
    path = folder / "journal.jsonl"
    if path.exists():
        with path.open(encoding="utf-8") as lines:
            for line in lines:
                with suppress(ValueError):  # half a line, if the sandbox was killed
                    yield json.loads(line)
