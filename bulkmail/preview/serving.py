"""The server of the page: on loopback only, at an address that nobody can guess."""

import secrets
import socket
from collections.abc import Callable

import uvicorn

from bulkmail.errors import ServerError
from bulkmail.preview.app import application
from bulkmail.preview.shown import Shown

HOST = "127.0.0.1"
_TOKEN_BYTES = 16


def serve(shown: Shown, port: int, ready: Callable[[str], None]) -> None:
    """Serves until Ctrl-C; `ready` is told the address, once it can be opened.

    Raises ServerError if the port is taken.
    """
    token = secrets.token_urlsafe(_TOKEN_BYTES)
    with _listening(port) as listening:
        port = listening.getsockname()[1]
        hosts = [f"{HOST}:{port}", f"localhost:{port}"]
        app = application(shown, token, hosts, lambda: server.should_exit)
        server = uvicorn.Server(
            uvicorn.Config(
                app,
                loop="asyncio",
                http="h11",
                ws="none",
                lifespan="off",
                log_level="warning",
                access_log=False,
                server_header=False,
                timeout_graceful_shutdown=2,
            )
        )
        ready(f"http://{HOST}:{port}/{token}/")
        try:
            server.run(sockets=[listening])
        except KeyboardInterrupt:
            return


def _listening(port: int) -> socket.socket:
    listening = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    try:
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listening.bind((HOST, port))
        listening.listen()
    except OSError as error:
        listening.close()
        raise ServerError(f"{HOST}:{port}: {error.strerror}; name another --port") from None
    return listening
