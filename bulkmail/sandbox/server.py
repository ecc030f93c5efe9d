"""The sandbox's listening side: asyncio and TLS around a `Receiver` per connection, on loopback."""

import asyncio
import itertools
import ssl
from collections.abc import Callable, Iterator
from pathlib import Path

from bulkmail.sandbox.receiving import Behaviour, Hangup, Received, Receiver

HOST = "127.0.0.1"
Keep = Callable[[Received, int], None]


class Connection(asyncio.Protocol):
    """One client."""

    def __init__(self, server: "Server", number: int) -> None:
        self._server = server
        self._receiver = Receiver(server.behaviour, lambda received: server.keep(received, number))
        self._transport: asyncio.Transport | None = None
        self._upgrade: asyncio.Task[None] | None = None
        self._early = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport
        self._server.connections.add(self)
        self._reply(self._greeting())

    def data_received(self, data: bytes) -> None:
        if self._upgrade is not None and not self._upgrade.done():
            self._early += data  # the transport to answer on is only known when it is done
        else:
            self._reply(self._receiver.replies(data))

    def connection_lost(self, exc: Exception | None) -> None:
        self._server.connections.discard(self)

    def abort(self) -> None:
        if self._transport is not None:
            self._transport.abort()

    def _greeting(self) -> Iterator[bytes]:
        yield self._receiver.greet()

    def _reply(self, replies: Iterator[bytes]) -> None:
        """Those from before a hang-up are still said."""
        assert self._transport is not None
        try:
            for reply in replies:
                self._transport.write(reply)
        except Hangup as hangup:
            self._transport.write(hangup.last_words)
            self._transport.close()
            return
        if self._receiver.closed:
            self._transport.close()
        elif self._receiver.wants_tls:
            self._transport.pause_reading()
            self._receiver.secured()
            self._upgrade = asyncio.ensure_future(self._start_tls())

    async def _start_tls(self) -> None:
        assert self._transport is not None
        loop = asyncio.get_running_loop()
        try:
            self._transport = await loop.start_tls(
                self._transport, self, self._server.tls, server_side=True
            )
        except OSError:
            self.abort()
        else:
            early, self._early = self._early, b""
            self._reply(self._receiver.replies(early))


class Server:
    """Serves on a free port of loopback between `start` and `stop`."""

    def __init__(self, behaviour: Behaviour, tls: ssl.SSLContext, keep: Keep) -> None:
        self.behaviour = behaviour
        self.tls = tls
        self.keep = keep
        self.connections: set[Connection] = set()
        self.accepted = 0
        self._numbers = itertools.count(1)
        self._listening: asyncio.Server | None = None

    async def start(self, port: int = 0) -> int:
        """Starts to listen; the port."""
        loop = asyncio.get_running_loop()
        # Without STARTTLS the whole connection is TLS (RFC 8314 3.3).
        tls = None if self.behaviour.starttls else self.tls
        self._listening = await loop.create_server(self._connection, HOST, port, ssl=tls)
        return int(self._listening.sockets[0].getsockname()[1])

    async def stop(self) -> None:
        """Stops listening and breaks off what is connected."""
        assert self._listening is not None
        self._listening.close()
        for connection in tuple(self.connections):
            connection.abort()
        await self._listening.wait_closed()

    def _connection(self) -> Connection:
        self.accepted += 1
        return Connection(self, next(self._numbers))


def make_certificate(folder: Path) -> tuple[ssl.SSLContext, Path]:
    """A server context with a new certificate for loopback, and the file of the CA to trust for it.

    The CA's key is never written. Raises ImportError where the extra `sandbox` is not installed.
    """
    import trustme

    ca = trustme.CA()
    ca_file = folder / "ca.pem"
    ca.cert_pem.write_to_path(str(ca_file))
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    ca.issue_cert(HOST, "localhost").configure_cert(context)
    return context, ca_file
