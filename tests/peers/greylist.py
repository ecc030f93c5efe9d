"""Who is refused for now, the first time: one service for both servers, on a free port of loopback.

It speaks the protocol of Postfix's policy services: lines `name=value`, an empty one, `action=…`.
Exim asks it with `readsocket`, which closes its side when it has asked.
"""

import socketserver
import threading
from collections.abc import Iterator
from contextlib import contextmanager

from bulkmail.sandbox.server import HOST


class Asked(socketserver.StreamRequestHandler):
    """One server's process, as long as it asks."""

    server: "Greylist"

    def handle(self) -> None:
        recipient = ""
        for line in self.rfile:
            name, _, value = line.decode().strip().partition("=")
            if name == "recipient":
                recipient = value
            elif not name:
                self.wfile.write(f"action={self.server.action(recipient)}\n\n".encode())


class Greylist(socketserver.ThreadingTCPServer):
    daemon_threads = True

    def __init__(self) -> None:
        super().__init__((HOST, 0), Asked)
        self._seen: set[str] = set()
        self._lock = threading.Lock()

    @property
    def port(self) -> int:
        return int(self.server_address[1])

    def action(self, recipient: str) -> str:
        with self._lock:
            if recipient in self._seen:
                return "DUNNO"
            self._seen.add(recipient)
        return f"450 4.2.1 <{recipient}>: greylisted, try again"

    def forget(self) -> None:
        """For a campaign to the same people."""
        with self._lock:
            self._seen.clear()


@contextmanager
def greylist() -> Iterator[Greylist]:
    with Greylist() as service:
        thread = threading.Thread(target=service.serve_forever)
        thread.start()
        try:
            yield service
        finally:
            service.shutdown()
            thread.join()
