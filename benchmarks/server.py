"""The server that is sent to: benchmarks/sink.c compiled on the spot, or its slow stand-in.

Without a C compiler or OpenSSL's headers `benchmarks/slow_sink.py` takes its place, which speaks
the same and is told the same, but is slower than some senders: throughput then does not count.
"""

import json
import shutil
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from benchmarks import cores
from benchmarks.certificate import CERTIFICATE, KEY

SOURCE = Path(__file__).with_name("sink.c")
HOW_TO_GET_IT = "apt install gcc libssl-dev, or: brew install openssl"


@dataclass(frozen=True, slots=True)
class Mark:
    """What stood when a message was taken. `client_ns` is the CPU time of the sender's process."""

    taken: int
    client_ns: int
    sink_ns: int
    at_ns: int
    by_bdat: int
    connections: int


class Sink:
    """One server for one measurement: `with` starts it and, at the end, writes the capture."""

    def __init__(
        self,
        program: Sequence[str],
        folder: Path,
        *,
        tls: bool,
        delay_ms: int,
        keep: int,
        extensions: Sequence[str],
    ) -> None:
        self.capture = folder / "capture"
        files = [folder / CERTIFICATE, folder / KEY] if tls else ["-", "-"]
        self._command = [*program, *files, self.capture, str(delay_ms), str(keep), *extensions]

    def __enter__(self) -> "Sink":
        self._process = subprocess.Popen(
            list(map(str, self._command)),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            bufsize=1,
            preexec_fn=cores.pin_server,
        )
        assert self._process.stdout is not None
        self.port = int(self._process.stdout.readline())
        return self

    def __exit__(self, *exc_info: object) -> None:
        assert self._process.stdin is not None
        self._process.stdin.close()
        self._process.wait()

    def watch(self, pid: int, first: int, last: int) -> None:
        """Marks are made after message `first` and after message `last`."""
        assert self._process.stdin is not None
        self._process.stdin.write(f"watch {pid} {first} {last}\n")

    def marks(self) -> list[Mark]:
        """Those that were made. To be called after the end of `with`."""
        assert self._process.stdout is not None
        return [Mark(**json.loads(line)) for line in self._process.stdout]


def program(folder: Path) -> tuple[list[str], str | None]:
    """How to start the server, and what to say about it if it is the slow one."""
    target = folder / "sink"
    compiler = shutil.which("cc")
    if compiler is None:
        return _slow("no C compiler")
    flags = ["-O2", "-o", str(target), str(SOURCE), *_openssl(), "-lssl", "-lcrypto"]
    result = subprocess.run([compiler, *flags], capture_output=True, text=True, check=False)
    if result.returncode:
        return _slow("benchmarks/sink.c does not compile here")
    return [str(target)], None


def _openssl() -> list[str]:
    """Where it is, if it is not where compilers look."""
    if shutil.which("pkg-config") is None:
        return []
    asked = subprocess.run(
        ["pkg-config", "--cflags", "--libs", "openssl"], capture_output=True, text=True, check=False
    )
    return asked.stdout.split()


def _slow(why: str) -> tuple[list[str], str]:
    said = f"{why} ({HOW_TO_GET_IT}): the server is a slow one, and throughput does not count"
    return [sys.executable, "-m", "benchmarks.slow_sink"], said
