"""`python -m bulkmail.sandbox FOLDER PORT`: prints where it listens as a JSON line, then serves."""

import asyncio
import json
import signal
import sys
from pathlib import Path

from bulkmail.sandbox.maildir import Maildir
from bulkmail.sandbox.process import MAILDIR
from bulkmail.sandbox.receiving import Behaviour
from bulkmail.sandbox.server import HOST, Server, make_certificate


async def serve(folder: Path, port: int) -> None:
    """Serves until standard input ends."""
    context, ca_file = make_certificate(folder)
    maildir = Maildir(folder / MAILDIR)
    server = Server(Behaviour(), context, maildir.keep)
    port = await server.start(port)
    print(json.dumps({"host": HOST, "port": port, "ca_file": str(ca_file)}), flush=True)
    await asyncio.to_thread(sys.stdin.read)
    await server.stop()
    maildir.close()


def main() -> None:
    # Ctrl-C at the terminal is for the run, which still needs the server while it drains.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        asyncio.run(serve(Path(sys.argv[1]), int(sys.argv[2])))
    except ImportError:
        error = "the sandbox needs its extra: pip install 'bulkmail[sandbox]'"
        print(json.dumps({"error": error}), flush=True)


main()
