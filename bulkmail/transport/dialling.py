"""A TCP connection to a name with any number of addresses."""

import asyncio
import socket
import threading
from contextlib import suppress
from typing import Any

Place = tuple[Any, ...]
"""As the socket module names it: for IPv4 (address, port)."""
Address = tuple[socket.AddressFamily, int, int, Place]


class Dialler:
    """Tries the addresses of a name in the order of the resolver, each for its share of the time.

    An address that took a connection and came to nothing afterwards goes behind the others: see
    `came_to_nothing`.
    """

    def __init__(self, host: str, port: int) -> None:
        self._host = host
        self._port = port
        self._bad: list[Place] = []

    async def dial(self, seconds: float) -> tuple[socket.socket, Place]:
        """A connected socket, and where to. Raises what the resolver or the last address raised."""
        addresses = sorted(await resolved(self._host, self._port), key=self._badness)
        deadline = asyncio.get_running_loop().time() + seconds
        error: OSError = OSError("it has no address")
        for number, address in enumerate(addresses):
            left = deadline - asyncio.get_running_loop().time()
            try:
                async with asyncio.timeout(left / (len(addresses) - number)):
                    return await _connected(address), address[3]
            except OSError as this:  # TimeoutError among them
                error = this
        raise error

    def came_to_nothing(self, place: Place) -> None:
        """It did not greet, or not as one that can be used."""
        self._bad = [*(bad for bad in self._bad if bad != place), place]

    def _badness(self, address: Address) -> int:
        """0, or higher the less long ago it came to nothing."""
        place = address[3]
        return self._bad.index(place) + 1 if place in self._bad else 0


async def _connected(address: Address) -> socket.socket:
    family, kind, protocol, place = address
    connection = socket.socket(family, kind, protocol)
    try:
        connection.setblocking(False)
        await asyncio.get_running_loop().sock_connect(connection, place)
    except BaseException:
        connection.close()
        raise
    return connection


async def resolved(host: str, port: int) -> list[Address]:
    """In a thread that nobody waits for when the program ends, as resolvers can hang."""
    loop = asyncio.get_running_loop()
    found: asyncio.Future[list[Address]] = loop.create_future()

    def tell(addresses: list[Address], error: OSError | None) -> None:
        if found.done():
            return
        if error is None:
            found.set_result(addresses)
        else:
            found.set_exception(error)

    def resolve() -> None:
        addresses: list[Address] = []
        failure: OSError | None = None
        try:
            for family, kind, protocol, _, place in socket.getaddrinfo(
                host, port, type=socket.SOCK_STREAM
            ):
                addresses.append((family, kind, protocol, place))
        except OSError as error:
            failure = error
        except UnicodeError:  # no name that can be asked for
            failure = socket.gaierror(socket.EAI_NONAME, f"{host} is no name")
        with suppress(RuntimeError):  # the loop has ended
            loop.call_soon_threadsafe(tell, addresses, failure)

    threading.Thread(target=resolve, name="resolver", daemon=True).start()
    return await found
