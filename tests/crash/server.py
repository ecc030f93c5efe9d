"""The recording server: `python -m tests.crash.server FOLDER SEED PEOPLE WIRE [rough] [everywhere]`.

It prints where it listens, then a line for every event: a connection `opened` or `closed`, a message
`taken`. Before the final dot is answered the message stands in FOLDER/taken.jsonl, and then a random
pause passes: who is killed meanwhile cannot know. Of a message whose end did not come nothing is
kept. Every refusal and every reply to an end holds the token of whom it is about, and leaves before
the next command is looked at. A rough one also ends sessions now and then, at MAIL, with a word or
without; one that is everywhere listens on all addresses, not on that of loopback alone. It ends when
its standard input does and all connections have, so that what is read then is all there will ever
be.

The protocol is that of the sandbox; one thread a connection makes its pauses simple.
"""

import json
import random
import socket
import socketserver
import ssl
import sys
import threading
import time
from pathlib import Path

from bulkmail.sandbox.receiving import Behaviour, Hangup, Received, Receiver
from bulkmail.sandbox.server import HOST, make_certificate

from .people import Reception, people

TAKEN = "taken.jsonl"
LONGEST_PAUSE_SECONDS = 0.05
ROUGHNESS = 0.02
"""How often, of commands MAIL."""
LEFT_OUT = {"plain": {"PIPELINING"}, "pipelining": {"CHUNKING"}, "chunking": set()}
EXTENSIONS = {
    wire: tuple(line for line in Behaviour().extensions if line not in left_out)
    for wire, left_out in LEFT_OUT.items()
}
"""Of each wire mode."""


def tell(event: str) -> None:
    """One write, as other threads tell, too."""
    sys.stdout.write(f"{event}\n")
    sys.stdout.flush()


class Record:
    """What was taken, one JSON object a line: `to`, `content`."""

    def __init__(self, path: Path, seed: int) -> None:
        self._file = path.open("a", encoding="ascii", buffering=1)
        self._dice = random.Random(f"pauses {seed}")
        self._lock = threading.Lock()

    def keep(self, received: Received) -> None:
        [to] = received.forward_paths
        line = json.dumps({"to": to, "content": received.content.decode("latin-1")})
        with self._lock:
            self._file.write(line + "\n")
            pause = self._dice.uniform(0, LONGEST_PAUSE_SECONDS)
            tell("taken")
        time.sleep(pause)


class Replies:
    """What is said about each person."""

    def __init__(self, seed: int, number: int, *, rough: bool) -> None:
        self._dice = random.Random(f"ends {seed}")
        self._roughness = ROUGHNESS if rough else 0.0
        self._people = {person.address: person for person in people(seed, number)}
        self._refused_for_now: set[str] = set()

    def answer(self, verb: str, argument: str) -> bytes | None:
        if verb == "MAIL" and self._dice.random() < self._roughness:
            raise Hangup(self._dice.choice((b"", b"421 4.3.2 going down\r\n")))
        if verb not in ("RCPT", "."):
            return None
        person = self._people[argument.removeprefix("TO:").strip("<>")]
        said = f"250 2.0.0 kept {person.token}"
        if verb == "RCPT":
            said = "250 2.1.5 ok"
            if person.reception is Reception.REFUSED:
                said = f"550 5.1.1 nobody is called {person.token}"
            elif (
                person.reception is Reception.LATER and person.address not in self._refused_for_now
            ):
                self._refused_for_now.add(person.address)
                said = f"450 4.2.0 not now, {person.token}"
        return f"{said}\r\n".encode()


class Server(socketserver.ThreadingTCPServer):
    daemon_threads = False
    request_queue_size = 64

    def __init__(
        self, host: str, behaviour: Behaviour, tls: ssl.SSLContext, record: Record
    ) -> None:
        super().__init__((host, 0), Connection)
        self.behaviour = behaviour
        self.tls = tls
        self.record = record


class Connection(socketserver.BaseRequestHandler):
    """One client, until it says QUIT or is killed."""

    server: Server
    request: socket.socket

    def setup(self) -> None:
        tell("opened")

    def finish(self) -> None:
        tell("closed")

    def handle(self) -> None:
        receiver = Receiver(self.server.behaviour, self.server.record.keep)
        try:
            self.request.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, True)
            with self.server.tls.wrap_socket(self.request, server_side=True) as channel:
                channel.sendall(receiver.greet())
                try:
                    while not receiver.closed and (data := channel.recv(65536)):
                        for reply in receiver.replies(data):
                            channel.sendall(reply)
                except Hangup as hangup:
                    channel.sendall(hangup.last_words)
        except OSError:
            pass  # it was killed, as is the purpose


def main() -> None:
    place, seed_of, people_of, wire, *manners = sys.argv[1:]
    folder, seed, number = Path(place), int(seed_of), int(people_of)
    tls, ca_file = make_certificate(folder)
    replies = Replies(seed, number, rough="rough" in manners)
    behaviour = Behaviour(EXTENSIONS[wire], answer=replies.answer)
    # Namespaces come by addresses of their own, and call it by its name.
    host, bound = ("localhost", "") if "everywhere" in manners else (HOST, HOST)
    with Server(bound, behaviour, tls, Record(folder / TAKEN, seed)) as server:
        told = {"host": host, "port": server.server_address[1], "ca_file": str(ca_file)}
        print(json.dumps(told), flush=True)
        threading.Thread(target=server.serve_forever).start()
        sys.stdin.read()
        server.shutdown()


if __name__ == "__main__":
    main()
