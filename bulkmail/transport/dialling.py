"""A TCP connection to a name with any number of addresses."""

import asyncio
import socket

Address = tuple[socket.AddressFamily, int, int, tuple[object, ...]]


class Dialler:
    """Tries the addresses of a name in the order of the resolver, each for its share of the time.

    An address that took a connection and came to nothing afterwards goes behind the others: see
    `came_to_nothing`.
    """

    def __init__(self, host: str, port: int) -> None:
        self._host = host
        self._port = port
        self._bad: list[tuple[object, ...]] = []
        self._last: tuple[object, ...] = ()

    async def dial(self, seconds: float) -> socket.socket:
        """A connected socket. Raises what the resolver or the last address raised."""
        addresses = await self._addresses()
        deadline = asyncio.get_running_loop().time() + seconds
        error: OSError = OSError("it has no address")
        for number, address in enumerate(addresses):
            left = deadline - asyncio.get_running_loop().time()
            try:
                async with asyncio.timeout(left / (len(addresses) - number)):
                    return await self._connected(address)
            except OSError as this:  # TimeoutError among them
                error = this
        raise error

    def came_to_nothing(self) -> None:
        """The address dialled last did not greet, or not as one that can be used."""
        self._bad = [*(bad for bad in self._bad if bad != self._last), self._last]

    async def _addresses(self) -> list[Address]:
        found = await asyncio.get_running_loop().getaddrinfo(
            self._host, self._port, type=socket.SOCK_STREAM
        )
        addresses = [(family, kind, proto, at) for family, kind, proto, _, at in found]
        return sorted(addresses, key=lambda address: self._badness(address[3]))

    def _badness(self, at: tuple[object, ...]) -> int:
        """0, or higher the less long ago it came to nothing."""
        return self._bad.index(at) + 1 if at in self._bad else 0

    async def _connected(self, address: Address) -> socket.socket:
        family, kind, proto, at = address
        connection = socket.socket(family, kind, proto)
        try:
            connection.setblocking(False)
            await asyncio.get_running_loop().sock_connect(connection, at)
        except BaseException:
            connection.close()
            raise
        self._last = at
        return connection
