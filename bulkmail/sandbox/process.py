"""The sandbox as a process of its own."""

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

from bulkmail.errors import MissingFileError, SecretError, ServerError
from bulkmail.model import Security, Submission
from bulkmail.sandbox.maildir import journal

MAILDIR = "Maildir"


class Sandbox:
    """A running sandbox that keeps its mail in `folder`/Maildir; ends with the `with` block."""

    def __init__(self, folder: Path, port: int = 0) -> None:
        self.maildir = folder / MAILDIR
        try:
            self.maildir.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise MissingFileError(f"{error.filename}: {error.strerror}; move it away") from None
        self._process = subprocess.Popen(
            [sys.executable, "-m", "bulkmail.sandbox", str(folder), str(port)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            self.stop()
            raise ServerError("the sandbox did not start; what it said stands above")
        told = json.loads(line)
        if "error" in told:
            self.stop()
            raise SecretError(told["error"])
        self.submission = Submission(
            told["host"],
            told["port"],
            Security.TLS,
            username="sandbox",
            password="sandbox",  # it accepts any
            ca_file=told["ca_file"],
        )

    def kept(self) -> Iterator[Path]:
        """The files of all messages kept, oldest first."""
        for entry in journal(self.maildir):
            yield self.maildir / entry["file"]

    def __enter__(self) -> "Sandbox":
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.stop()

    def stop(self) -> None:
        """Ends the process."""
        assert self._process.stdin is not None and self._process.stdout is not None
        self._process.stdin.close()
        self._process.wait(timeout=10)
        self._process.stdout.close()
