"""A terminal in which one command runs: what is typed into it, and what a person sees in it.

Promises that nothing sleeps and that nothing is waited for longer than SECONDS. Refuses to know
what runs in it.
"""

import codecs
import fcntl
import os
import pty
import re
import struct
import subprocess
import sys
import termios
import threading
from collections.abc import Mapping, Sequence
from pathlib import Path

COLUMNS, LINES = 100, 40
SECONDS = 20.0
"""How long a text may take to be shown, and the command to end after the last one."""

CTRL_C = "\x03"

_CONTROL = re.compile(r"\x1b\[([0-9;?]*)([@-~])|\x1b.|[\x00-\x1f\x7f]|[^\x00-\x1f\x7f]+", re.DOTALL)

# A command that a shell starts has the terminal as its own: only then Ctrl-C reaches it. The new
# session asks for that by itself, since code between fork and exec is unsafe beside threads.
_IN_TERMINAL = """\
import fcntl, termios
fcntl.ioctl(0, termios.TIOCSCTTY, 0)
from bulkmail.__main__ import main
main()
"""


class Terminal:
    """Starts `bulkmail` with `arguments` in a terminal of its own, of COLUMNS by LINES."""

    def __init__(
        self, arguments: Sequence[str], folder: Path, environment: Mapping[str, str]
    ) -> None:
        self._master, slave = pty.openpty()
        fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", LINES, COLUMNS, 0, 0))
        self._process = subprocess.Popen(
            [sys.executable, "-c", _IN_TERMINAL, *arguments],
            cwd=folder,
            env={**environment, "TERM": "xterm-256color"},
            stdin=slave,
            stdout=slave,
            stderr=slave,
            start_new_session=True,
        )
        os.close(slave)
        self._written = ""
        self._waited_up_to = 0
        self._closed = False
        self._change = threading.Condition()
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def type(self, text: str) -> None:
        """As if on the keyboard; Return is \\n."""
        os.write(self._master, text.encode())

    def wait_for(self, text: str) -> None:
        """Returns when `text` is shown, after the text that was last waited for.

        Blocks, also a server that runs in this thread: then nothing is answered until it is shown.
        """
        with self._change:
            found = self._change.wait_for(lambda: self._finds(text) or self._closed, SECONDS)
            if not (found and self._finds(text)):
                self._process.kill()
                self._process.wait()
                raise AssertionError(f"{text!r} was not shown, but:\n{screen(self._written)}")
            self._waited_up_to = self._written.index(text, self._waited_up_to) + len(text)

    def end(self) -> tuple[int, str]:
        """Waits for the command to end: its exit status, and what is seen then."""
        try:
            status = self._process.wait(SECONDS)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
            raise AssertionError(f"did not end:\n{screen(self._written)}") from None
        finally:
            self._reader.join(SECONDS)
            os.close(self._master)
        return status, screen(self._written)

    def _finds(self, text: str) -> bool:
        return text in self._written[self._waited_up_to :]

    def _read(self) -> None:
        decoder = codecs.getincrementaldecoder("utf-8")()
        while data := self._some():
            with self._change:
                self._written += decoder.decode(data)
                self._change.notify_all()
        with self._change:
            self._closed = True
            self._change.notify_all()

    def _some(self) -> bytes:
        try:
            return os.read(self._master, 65536)
        except OSError:  # Linux says EIO when the other end is closed
            return b""


def screen(written: str) -> str:
    """What is seen in the end of all that was written: what was drawn over is gone.

    Lines stay whole, as they do when they are copied from a terminal, however long they are. Raises
    AssertionError at what a terminal does and this does not.
    """
    lines, row, column = [""], 0, 0
    for match in _CONTROL.finditer(written):
        numbers, command = match.groups()
        number = int(numbers) if numbers and numbers.isdigit() else 0
        match command or match[0]:
            case "\n":
                row += 1
                lines += [""] * (row + 1 - len(lines))
            case "\r":
                column = 0
            case "\b":
                column = max(column - 1, 0)
            case "A":
                row = max(row - (number or 1), 0)
            case "K" if number == 2:
                lines[row] = ""
            case "K" if number == 0:
                lines[row] = lines[row][:column]
            case "m" | "h" | "l" | "\a":
                pass  # colours, and whether the cursor is seen
            case text if command is None and text.isprintable():
                line = lines[row].ljust(column)
                lines[row] = line[:column] + text + line[column + len(text) :]
                column += len(text)
            case _:
                raise AssertionError(f"{match[0]!r} is not understood here")
    return "\n".join(line.rstrip() for line in lines).rstrip("\n") + "\n"
