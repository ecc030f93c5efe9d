"""A network between one worker and the database, which can be cut."""

import asyncio
from contextlib import suppress

HOST = "127.0.0.1"


class Relay:
    """Hands bytes on, both ways, from a port of its own to `port`; an asynchronous context."""

    def __init__(self, port: int) -> None:
        self.host = HOST
        """Where it listens, and …"""
        self.by: tuple[str, ...] = ()
        """… the command by which programs are started that are to use it."""
        self._to = port
        self._open = asyncio.Event()
        self._open.set()
        self._writers: set[asyncio.StreamWriter] = set()
        self._connections: set[asyncio.Task[None]] = set()

    async def __aenter__(self) -> int:
        """Its port."""
        self._server = await asyncio.start_server(self._accept, self.host, 0)
        port: int = self._server.sockets[0].getsockname()[1]
        return port

    async def __aexit__(self, *exc_info: object) -> None:
        self._server.close()
        self.mend()
        self.reset()
        await asyncio.gather(*self._connections)
        await self._server.wait_closed()

    def cut(self) -> None:
        """Nothing comes through, and nobody is told."""
        self._open.clear()

    def mend(self) -> None:
        """All that was held up comes through."""
        self._open.set()

    def reset(self) -> None:
        """Connections are broken off; new ones can be made, if it is not cut."""
        for writer in tuple(self._writers):
            writer.transport.abort()

    def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.create_task(self._connected(reader, writer))
        self._connections.add(task)
        task.add_done_callback(self._connections.discard)

    async def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._writers.add(writer)
        try:
            await self._open.wait()
            there_reader, there = await asyncio.open_connection(HOST, self._to)
        except OSError:
            writer.transport.abort()
        else:
            self._writers.add(there)
            ways = (self._hand_on(reader, there), self._hand_on(there_reader, writer))
            await asyncio.gather(*ways)
            self._writers.discard(there)
        finally:
            self._writers.discard(writer)

    async def _hand_on(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(OSError):
            while data := await reader.read(65536):
                await self._open.wait()
                writer.write(data)
                await writer.drain()
        writer.close()
