"""Rows 1 to 9: from the name of the server to the login."""

import asyncio
import datetime
import socket
import ssl
import warnings
from collections.abc import Awaitable, Callable
from dataclasses import replace
from functools import partial
from typing import Any

import trustme

from bulkmail.model import Security
from bulkmail.sandbox.receiving import Hangup
from bulkmail.sandbox.server import HOST
from bulkmail.transport import dialling

from .case import WITH_DATA, Seen, Wire, case
from .peer import CHUNKING, PIPELINING, PLAIN, Answer, Connection, ResetConnection, at
from .world import HASTY, ONE, Certificate, World, until_the_next_is_there

ANY = (Wire.NONE,)
Act = Callable[[World], Awaitable[Seen]]
UNREACHABLE = "127.0.0.1:[0-9]+ cannot be reached"
TRIES = ONE.attempts_before_first


def of(
    answer: Answer | None = None,
    told: dict[str, Any] | None = None,
    joined: bool = False,
    **run: Any,
) -> Act:
    """A run of five people against a peer that answers so. `joined`: it takes its time before a
    354, so that with PIPELINING the next message's commands are behind each dot. With CHUNKING all
    five are out but the first, which goes alone.
    """

    async def act(world: World) -> Seen:
        peer = await world.peer(answer, **(told or {}))
        if joined:
            peer.before_354 = partial(until_the_next_is_there, world)
        return await world.run(peer, **run)

    return act


def resolves_to(*addresses: str | OSError) -> None:
    """What the resolver says in this case: the one thing that is made up here."""
    loop, really = asyncio.get_running_loop(), dialling.resolved

    async def resolved(host: str, port: int) -> list[Any]:
        if asyncio.get_running_loop() is not loop:
            return await really(host, port)
        found: list[Any] = []
        for address in addresses:
            if isinstance(address, OSError):
                raise address
            if ":" in address:
                at: tuple[Any, ...] = (address, port, 0, 999)  # no interface has this number
                found.append((socket.AF_INET6, socket.SOCK_STREAM, 6, at))
            else:
                found.append((socket.AF_INET, socket.SOCK_STREAM, 6, (address, port)))
        return found

    dialling.resolved = resolved


# -- 1, 2: no server ------------------------------------------------------------------------------


async def refused(world: World) -> Seen:
    peer = await world.peer()
    await peer.stop()
    return await world.run(peer)


async def refused_at_first(world: World) -> Seen:
    peer = await world.peer()
    await peer.stop()
    return await world.run(peer, before=lambda n: peer.start() if n == TRIES else None)


def resolved(*addresses: str | OSError) -> Act:
    async def act(world: World) -> Seen:
        peer = await world.peer()
        resolves_to(*addresses)
        return await world.run(peer, host="localhost", timeouts=HASTY)

    return act


async def black_hole(world: World) -> Seen:
    """It listens, and that is all."""
    peer = await world.peer()
    with socket.create_server((HOST, 0)) as hole:
        port = hole.getsockname()[1]
        return await world.run(peer, port=port, timeouts=replace(HASTY, connect=0.1))


def full(port: int) -> list[socket.socket]:
    """A socket at 127.0.0.2 that takes no connection any more, not even the kernel's half."""
    hole = socket.create_server(("127.0.0.2", port), backlog=0)
    sockets = [hole]
    for _ in range(4):
        sockets.append(socket.socket())
        sockets[-1].setblocking(False)
        sockets[-1].connect_ex(("127.0.0.2", port))
    return sockets


def other_address(blocked: Callable[[int], list[socket.socket]]) -> Act:
    """Two addresses, the first of which is no good."""

    async def act(world: World) -> Seen:
        peer = await world.peer()
        sockets = blocked(peer.port)
        resolves_to("127.0.0.2", HOST)
        try:
            return await world.run(peer, host="localhost", timeouts=replace(HASTY, connect=0.6))
        finally:
            for one in sockets:
                one.close()

    return act


case(1, "connection refused", refused, "PPPPP", 69, wires=ANY, says=UNREACHABLE, connections=TRIES)
case(1, "refused twice, then it listens", refused_at_first, "AAAAA", wires=ANY, twin=True)
case(1, "no route", resolved("fe80::1"), "PPPPP", 69, wires=ANY, says="localhost.* cannot be reached",
     connections=TRIES, logins=0)  # fmt: skip
case(1, "black hole", black_hole, "PPPPP", 69, wires=ANY, says="did not answer in time",
     connections=TRIES, logins=0)  # fmt: skip
case(1, "the resolver fails for now", resolved(socket.gaierror(socket.EAI_AGAIN, "try again")),
     "PPPPP", 69, wires=ANY, connections=TRIES)  # fmt: skip
case(1, "first of two addresses refuses", other_address(lambda port: []), "AAAAA", wires=ANY)
case(1, "first of two addresses is a black hole", other_address(full), "AAAAA", wires=ANY)
case(1, "first of two addresses takes the connection and says nothing",
     other_address(lambda port: [socket.create_server(("127.0.0.2", port))]), "AAAAA", wires=ANY)  # fmt: skip
case(
    1,
    "the address after one without a route",
    resolved("fe80::1", HOST),
    "AAAAA",
    wires=ANY,
    twin=True,
)

case(2, "the name does not exist", resolved(socket.gaierror(socket.EAI_NONAME, "no such name")),
     "PPPPP", 69, wires=ANY, connections=1, says="the name localhost is not known")  # fmt: skip


# -- 3, 4: greetings ------------------------------------------------------------------------------

BUSY = b"421 4.7.0 too many connections\r\n"


def first_connections(number: int, verb: str, reply: bytes | Exception) -> Answer:
    """The first so many connections are answered so."""

    def answer(ask: Any) -> bytes | None:
        if ask.verb != verb or ask.connection.number > number:
            return None
        if isinstance(reply, Exception):
            raise reply
        return reply

    return answer


def allowed(first: int, later: int, change_at: int, people: int) -> Act:
    """So many connections at once, and later, when so many messages were taken, more."""

    async def act(world: World) -> Seen:
        world.number = people
        peer = await world.peer()
        most = {first: 0, later: 0}

        def answer(ask: Any) -> bytes | None:
            limit = later if len(peer.taken) >= change_at else first
            if ask.verb == "CONNECT" and len(peer.open_now) > limit:
                raise Hangup(BUSY)
            if ask.verb == "MAIL":
                most[limit] = max(most[limit], len(peer.open_now))
            return None

        peer.answer = answer
        seen = await world.run(peer, limits=replace(ONE, connections=4))
        if most[later] <= first:
            seen.notes.append(f"never more than {most[later]} connections")
        return seen

    return act


case(3, "no greeting", of(at("CONNECT", b"", None), timeouts=replace(HASTY, connect=0.1)), "PPPPP", 69,
     wires=ANY, logins=0, connections=TRIES, says="did not answer in time")  # fmt: skip
case(3, "greeting 421, always", of(at("CONNECT", Hangup(BUSY), None)), "PPPPP", 69, wires=ANY,
     logins=0, connections=TRIES, says="421")  # fmt: skip
case(3, "greeting 421, twice", of(first_connections(2, "CONNECT", Hangup(BUSY))), "AAAAA", wires=ANY,
     twin=True)  # fmt: skip
case(3, "two connections at once, later four", allowed(2, 4, 60, 400), "A" * 400,
     wires=WITH_DATA)  # fmt: skip

case(4, "greeting 554", of(at("CONNECT", b"554 5.7.1 go away\r\n", None)), "PPPPP", 69, wires=ANY,
     connections=1, logins=0, says="554 5.7.1 go away")  # fmt: skip


# -- 5, 6, 7: TLS ---------------------------------------------------------------------------------


def in_the_clear(what: str, number: int = 10**9) -> Act:
    """A server without TLS where TLS is spoken: it hangs, resets, or talks SMTP."""

    async def act(world: World) -> Seen:
        async def takes_over(connection: Connection) -> bool:
            if what == "hangs":
                await connection.reader.read()
            elif what == "resets":
                await connection.reader.read(1)
                raise ResetConnection
            return what != "talks"

        peer = await world.peer(takes_over=takes_over, speaks_tls=False)

        async def begin_tls(attempt: int) -> None:
            if attempt == number + 1:
                await peer.stop()
                peer.speaks_tls, peer.takes_over = True, _honestly
                await peer.start()

        return await world.run(peer, timeouts=replace(HASTY, connect=0.2), before=begin_tls)

    return act


async def _honestly(connection: Connection) -> bool:
    return False


case(
    5,
    "the handshake hangs",
    in_the_clear("hangs"),
    "PPPPP",
    69,
    wires=ANY,
    connections=TRIES,
    logins=0,
)
case(5, "the handshake is reset", in_the_clear("resets"), "PPPPP", 69, wires=ANY, connections=TRIES,
     logins=0)  # fmt: skip
case(5, "the handshake is reset once", in_the_clear("resets", 1), "AAAAA", wires=ANY, twin=True)
case(6, "plain text on the port", in_the_clear("talks"), "PPPPP", 69, wires=ANY, connections=1, logins=0,
     says="no TLS with.* nothing was sent and no login tried")  # fmt: skip


def shows(make: Callable[[trustme.CA], trustme.LeafCert | None], trusted: bool = True) -> Act:
    """A server with a certificate of a CA that is trusted or not; None: the CA's own."""

    async def act(world: World) -> Seen:
        ca = trustme.CA()
        context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        if (leaf := make(ca)) is not None:
            leaf.configure_cert(context)
        else:
            pem = world.folder / "own.pem"
            pem.write_bytes(ca.private_key_pem.bytes() + ca.cert_pem.bytes())
            context.load_cert_chain(pem)
        ca_file = world.folder / "ca.pem"
        (ca if trusted else trustme.CA()).cert_pem.write_to_path(str(ca_file))
        world.certificate = Certificate(context, ca_file)
        return await world.run(await world.peer())

    return act


def issued(name: str = HOST, days: int = 9) -> Callable[[trustme.CA], trustme.LeafCert]:
    now = datetime.datetime.now(datetime.UTC)
    return lambda ca: ca.issue_cert(
        name,
        not_before=now - datetime.timedelta(20),
        not_after=now + datetime.timedelta(days),
    )


async def only_old_tls(world: World) -> Seen:
    """Its handshake is made by hand, since asyncio's servers keep their alerts to themselves."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    trustme.CA().issue_cert(HOST).configure_cert(context)
    context.set_ciphers("ALL:@SECLEVEL=0")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        context.minimum_version = ssl.TLSVersion.TLSv1
        context.maximum_version = ssl.TLSVersion.TLSv1

    async def takes_over(connection: Connection) -> bool:
        incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        incoming.write(await connection.reader.read(65536))
        try:
            context.wrap_bio(incoming, outgoing, server_side=True).do_handshake()
        except ssl.SSLError:
            await connection.say(outgoing.read())
        return True

    return await world.run(await world.peer(takes_over=takes_over, speaks_tls=False))


UNTRUSTED: dict[str, Any] = {"connections": 1, "logins": 0, "wires": ANY}
case(6, "a self-signed certificate", shows(lambda ca: None, False), "PPPPP", 69, **UNTRUSTED,
     says="cannot be trusted: self.signed.*no login tried")  # fmt: skip
case(6, "a certificate of an unknown CA", shows(issued(), False), "PPPPP", 69, **UNTRUSTED,
     says="cannot be trusted: unable to get local issuer")  # fmt: skip
case(6, "a certificate for another name", shows(issued("mail.example.org")), "PPPPP", 69, **UNTRUSTED,
     says="cannot be trusted: IP address mismatch")  # fmt: skip
case(6, "an expired certificate", shows(issued(days=-1)), "PPPPP", 69, **UNTRUSTED,
     says="cannot be trusted: certificate has expired")  # fmt: skip
case(6, "only TLS 1.0", only_old_tls, "PPPPP", 69, **UNTRUSTED, says="no TLS with.*no login tried")
case(6, "a certificate of a CA that is trusted", shows(issued()), "AAAAA", wires=ANY, twin=True)

STRIPPED = b"250-peer\r\n250-AUTH PLAIN\r\n250 SIZE 1000\r\n"
INJECTED = b"220 2.0.0 go\r\n250-evil\r\n250-SIZE 10\r\n250 AUTH GSSAPI\r\n"
TLS_LATER = {"starttls": True}
case(7, "STARTTLS is not offered", of(at("EHLO", STRIPPED, None), TLS_LATER), "PPPPP", 69, wires=ANY,
     connections=1, logins=0, says="does not offer STARTTLS; nothing was sent and no login")  # fmt: skip
case(7, "STARTTLS is refused", of(at("STARTTLS", b"454 4.7.0 not now\r\n", None), TLS_LATER), "PPPPP", 69,
     wires=ANY, connections=TRIES, logins=0, says="454")  # fmt: skip
case(7, "STARTTLS is offered", of(None, TLS_LATER), "AAAAA", twin=True, logins=1)
case(
    7, "text injected before TLS", of(at("STARTTLS", INJECTED, None), TLS_LATER), "AAAAA", logins=1
)


# -- 8: EHLO --------------------------------------------------------------------------------------

NO_EHLO = at("EHLO", b"502 5.5.1 command not implemented\r\n", None)
OPEN = {"starttls": True, "login_required": False}
WITHOUT: dict[str, Any] = {"security": Security.NONE, "username": None, "password": None}


def announcing(*extensions: tuple[str, ...], limit: int = 100) -> Act:
    """Other ones at each connection, in turn. What was said must fit them."""

    async def act(world: World) -> Seen:
        peer = await world.peer(extensions=lambda number: extensions[number % len(extensions)])
        seen = await world.run(peer, limits=replace(ONE, messages_per_connection=limit))
        for message in peer.contents:
            if not message.content.isascii():
                seen.notes.append("content was not 7-bit")
        return seen

    return act


case(8, "EHLO is not known; HELO is, and no login is needed", of(NO_EHLO, OPEN, **WITHOUT), "AAAAA",
     wires=ANY, logins=0)  # fmt: skip
case(8, "EHLO is not known, and a login is needed", of(NO_EHLO), "PPPPP", 69, wires=ANY, logins=0,
     connections=1, says="offers no login")  # fmt: skip
case(8, "EHLO 554", of(at("EHLO", b"554 5.7.1 no\r\n", None), OPEN, **WITHOUT), "PPPPP", 69, wires=ANY,
     connections=1, twin=True)  # fmt: skip
case(8, "no SIZE, 8BITMIME, PIPELINING", announcing(()), "AAAAA", wires=ANY, connections=1)
case(8, "other announcements at each connection", announcing((), PLAIN, CHUNKING, PIPELINING, limit=1),
     "AAAAA", wires=ANY, connections=5)  # fmt: skip


# -- 9: the login ---------------------------------------------------------------------------------


def twenty(answer: Answer) -> Act:
    """Sixty people and twenty connections."""

    async def act(world: World) -> Seen:
        world.number = 60
        return await world.run(await world.peer(answer), limits=replace(ONE, connections=20))

    return act


ONCE: dict[str, Any] = {"wires": ANY, "logins": 1, "connections": 1}
case(9, "no AUTH", of(at("EHLO", b"250-peer\r\n250 8BITMIME\r\n", None)), "PPPPP", 69, wires=ANY, logins=0,
     connections=1, says="offers no login that bulkmail knows")  # fmt: skip
case(9, "AUTH 535, twenty connections", twenty(at("AUTH", b"535 5.7.8 no\r\n", None)), "P" * 60, 77, **ONCE,
     says="535 5.7.8 no\nIs it the password of this server")  # fmt: skip
case(9, "AUTH 535 of Microsoft", of(at("AUTH", b"535 5.7.139 SmtpClientAuthentication is disabled\r\n", None)),
     "PPPPP", 77, **ONCE, says="SMTP AUTH disabled")  # fmt: skip
case(9, "AUTH 534 of Gmail", of(at("AUTH", b"534 5.7.9 Application-specific password required\r\n", None)),
     "PPPPP", 77, **ONCE, says="make an app password")  # fmt: skip
case(
    9, "AUTH 538", of(at("AUTH", b"538 5.7.11 encryption required\r\n", None)), "PPPPP", 77, **ONCE
)
case(9, "MAIL 530 after the login", of(at("MAIL", b"530 5.7.0 authentication required\r\n", None)), "PPPPP", 69,
     logins=1, connections=1, says="530")  # fmt: skip
case(
    9,
    "the login is taken, twenty connections",
    twenty(lambda ask: None),
    "A" * 60,
    wires=ANY,
    twin=True,
)
