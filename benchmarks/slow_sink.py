"""The stand-in for benchmarks/sink.c where there is no C compiler: the same arguments, the same
words, in asyncio. It costs more than some senders do. Delays are those of commands and replies;
handshakes take no time.
"""

import asyncio
import json
import os
import ssl
import sys
import time
from pathlib import Path

FINAL_DOT = b"\r\n.\r\n"


class Sink:
    """What all connections share."""

    def __init__(self, delay: float, keep: int, extensions: list[str]) -> None:
        self.delay = delay
        self.keep = keep
        lines = ["sink.example", "SIZE 104857600", "8BITMIME", *extensions]
        lines += ["ENHANCEDSTATUSCODES"]
        self.greeting = "".join(f"250-{line}\r\n" for line in lines) + "250 SMTPUTF8\r\n"
        self.records: list[bytes] = []
        self.begun = self.by_bdat = self.opened = 0
        self.watched, self.marks = 0, (0, 0)

    def take(self, recipient: str, content: bytes, command: str, is_kept: bool) -> None:
        kept = content if is_kept else b""
        head = f"{recipient} {len(content)} {command} {len(kept)}\n"
        self.records.append(head.encode() + kept)
        self.by_bdat += command == "B"
        if len(self.records) in self.marks:
            self._mark()

    def _mark(self) -> None:
        mark = {
            "taken": len(self.records),
            "client_ns": cpu_of(self.watched),
            "sink_ns": time.process_time_ns(),
            "at_ns": time.monotonic_ns(),
            "by_bdat": self.by_bdat,
            "connections": self.opened,
        }
        print(json.dumps(mark), flush=True)


class Connection(asyncio.Protocol):
    """One client; `_left` is how much of a chunk is still to come, `_in_data` that content is."""

    def __init__(self, sink: Sink) -> None:
        self._sink = sink
        self._heard = bytearray()
        self._content = bytearray()
        self._recipient = ""
        self._is_kept = self._in_data = self._is_last = False
        self._left: int | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport
        self._sink.opened += 1
        self._later(self._write, b"220 sink.example ESMTP\r\n")

    def data_received(self, data: bytes) -> None:
        self._later(self._hear, data)

    def _later(self, do: object, data: bytes) -> None:
        assert callable(do)
        if self._sink.delay:
            asyncio.get_running_loop().call_later(self._sink.delay, do, data)
        else:
            do(data)

    def _write(self, data: bytes) -> None:
        self._transport.write(data)
        if data.startswith(b"221"):
            self._transport.close()

    def _hear(self, data: bytes) -> None:
        self._heard += data
        replies = ""
        while (reply := self._next()) is not None:
            replies += reply
        if replies:
            self._later(self._write, replies.encode())

    def _next(self) -> str | None:
        """The reply to what is complete; None if nothing is."""
        if self._left is not None:
            return self._chunk()
        if self._in_data:
            at = (b"\r\n" + self._heard).find(FINAL_DOT)
            if at < 0:
                return None
            self._content += self._heard[:at]
            del self._heard[: at + 3]
            self._in_data = False
            return self._take("D")
        line, found, _ = self._heard.partition(b"\n")
        if not found:
            return None
        del self._heard[: len(line) + 1]
        return self._command(line.decode().strip())

    def _chunk(self) -> str | None:
        assert self._left is not None
        if len(self._heard) < self._left:
            return None
        self._content += self._heard[: self._left]
        del self._heard[: self._left]
        self._left = None
        return self._take("B") if self._is_last else "250 2.0.0 Ok, more\r\n"

    def _take(self, command: str) -> str:
        self._sink.take(self._recipient, bytes(self._content), command, self._is_kept)
        return "250 2.0.0 Ok: taken\r\n"

    def _command(self, line: str) -> str:
        verb, _, argument = line.partition(" ")
        verb = verb.upper()
        if verb == "EHLO":
            return self._sink.greeting
        if verb == "MAIL":
            self._content.clear()
            self._is_kept = self._sink.begun % self._sink.keep == 0
            self._sink.begun += 1
        elif verb == "RCPT":
            self._recipient = argument.partition("<")[2].partition(">")[0]
            return "250 2.1.5 Ok\r\n"
        elif verb == "DATA":
            self._in_data = True
            return "354 End with a dot\r\n"
        elif verb == "BDAT":
            size, _, last = argument.partition(" ")
            self._left, self._is_last = int(size), last.upper() == "LAST"
            return ""
        elif verb == "AUTH":
            return "235 2.7.0 Ok\r\n"
        elif verb == "QUIT":
            return "221 2.0.0 Bye\r\n"
        return "250 2.1.0 Ok\r\n"


def cpu_of(pid: int) -> int:
    """User and system time of another process in nanoseconds; -1 where the system tells none."""
    if sys.platform != "linux":
        return -1
    return time.clock_gettime_ns((~pid << 3) | 2)  # clock_getcpuclockid(3), as Linux defines it


async def serve(sink: Sink, certificate: str, key: str) -> None:
    tls = None
    if certificate != "-":
        tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        tls.load_cert_chain(certificate, key)
    loop = asyncio.get_running_loop()
    server = await loop.create_server(lambda: Connection(sink), "127.0.0.1", 0, ssl=tls)
    print(server.sockets[0].getsockname()[1], flush=True)
    while line := await asyncio.to_thread(os.read, 0, 256):
        _, pid, first, last = line.split()
        sink.watched, sink.marks = int(pid), (int(first), int(last))
    server.close()


def main() -> None:
    certificate, key, capture, delay, keep, *extensions = sys.argv[1:]
    sink = Sink(int(delay) / 1000, int(keep), extensions)
    asyncio.run(serve(sink, certificate, key))
    Path(capture).write_bytes(b"".join(sink.records))


if __name__ == "__main__":
    main()
