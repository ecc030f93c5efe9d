"""Rows 18 to 29: connections that break, hang or lie while messages are under way."""

import asyncio
import random
import socket
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import replace
from functools import partial
from typing import Any

from bulkmail.model import Rate, Recipient
from bulkmail.sandbox.receiving import Hangup
from bulkmail.transport import Timeouts

from .case import Seen, Wire, case, in_doubt
from .connecting import Act, of
from .peer import Answer, Ask, Connection, ResetConnection, at, each
from .world import HASTY, ONE, PATIENT, World, until_the_next_is_there

PIPELINED = (Wire.PIPELINING,)
ANY = (Wire.NONE,)
Then = Callable[[Connection], Awaitable[None]]


def then(verb: str, what: Then, reply: bytes = b"", person: int = 2, times: int = 1) -> Answer:
    """At this command of this person: the reply, and then what a coroutine does."""
    answer = at(verb, reply, person, times)

    def answering(ask: Ask) -> bytes | None:
        if (said := answer(ask)) is not None:
            ask.connection.then = what
        return None if ask.verb == "BDAT" else said

    return answering


async def take(connection: Connection) -> None:
    """Is responsible for the message under way, without a word of it."""
    connection.peer.taken.append(f"p{connection.person}@example.com")


BEHIND_ONE = in_doubt("AXXXX", "10000")
"""With CHUNKING, where the connection ends before the reply to person 1's end …"""
BEHIND_TWO = in_doubt("AAXXX", "11000")
"""… and after it: all were out."""
BEHIND_TWO_READ = in_doubt("AAXXX")
"""The same, where the server has read them, and may take them yet."""

# -- 18, 19: before the dot -----------------------------------------------------------------------

BIG = 12_000_000
"""More than the buffers of both systems hold, so that it is not out when the server acts."""


def big(what: Then) -> Act:
    """Person 2's content is big, and the server does this when some of it has come."""

    async def in_the_midst(connection: Connection) -> None:
        await connection.reader.read(65536)
        await what(connection)

    async def act(world: World) -> Seen:
        peer = await world.peer(then("DATA", in_the_midst, b"354 go on\r\n"), receive_buffer=16384)
        return await world.run(peer, sizes={2: BIG}, timeouts=HASTY)

    return act


async def reads_when_it_is_too_late(world: World) -> Seen:
    """When the client has given up, its own buffer still holds most of the content, and the dot.
    What is aborted is not flushed, so the message never becomes whole.
    """

    async def what(connection: Connection) -> None:
        await gave_up.wait()
        end = b""
        with suppress(OSError):
            while data := await connection.reader.read(65536):
                end = (end + data)[-1000:]
        if b"\r\n.\r\n" in end:
            await take(connection)

    def settled(recipient: Recipient, *more: object) -> None:
        if recipient.address == world.address(2):
            gave_up.set()

    def answer(ask: Ask) -> bytes | None:
        if ask.verb == "DATA" and ask.person == 2:
            assert world.delivery is not None
            for session in world.delivery._shared.sessions:
                client = session._transport.get_extra_info("socket")  # type: ignore[attr-defined]
                client.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 16384)
        return one_message(ask)

    gave_up = asyncio.Event()
    world.on_settled = settled
    one_message = then("DATA", what, b"354 go on\r\n")
    peer = await world.peer(answer, receive_buffer=16384)
    seen = await world.run(peer, sizes={2: 750_000}, timeouts=HASTY)
    await peer.at_rest()
    return replace(world.seen(), notes=seen.notes)


async def reset(connection: Connection) -> None:
    raise ResetConnection


async def never(connection: Connection) -> None:
    await asyncio.Event().wait()


def refuses(reply: bytes) -> Then:
    """Says so, and reads on until the client leaves."""

    async def what(connection: Connection) -> None:
        await connection.say(reply)
        while await connection.reader.read(65536):
            pass

    return what


case(
    18, "reset at DATA", of(at("DATA", ResetConnection(), times=1)), "AADAA", 75, chunked=BEHIND_TWO
)
case(18, "close at DATA", of(at("DATA", Hangup(), times=1)), "AADAA", 75, chunked=BEHIND_TWO)
case(18, "reset at MAIL", of(at("MAIL", ResetConnection(), times=1)), "AAAAA", twin=True,
     chunked=BEHIND_TWO)  # fmt: skip
case(18, "reset amid the content", big(reset), "AADAA", 75)
case(18, "a big content is read to its end", of(None, {"receive_buffer": 16384}, sizes={2: 3_000_000}), "AAAAA",
     twin=True)  # fmt: skip
case(19, "552 amid the content", big(refuses(b"552 5.3.4 too big\r\n")), "AAFAA", 1)
case(19, "452 amid the content", big(refuses(b"452 4.2.2 no room\r\n")), "AADAA", 75, twin=True)
case(19, "the server stops reading amid the content", big(never), "AADAA", 75)


# -- 20 to 22: after the dot ----------------------------------------------------------------------


async def take_and_reset(connection: Connection) -> None:
    await take(connection)
    raise ResetConnection


case(20, "reset after the dot, not taken", of(then(".", reset, person=1), joined=True), "AXAAA", 1,
     taken="10111", chunked=BEHIND_ONE)  # fmt: skip
case(20, "reset after the dot, taken", of(then(".", take_and_reset, person=1), joined=True), "AXAAA", 1,
     taken="11111", chunked=in_doubt("AXXXX", "11000"))  # fmt: skip
case(
    20,
    "close after the dot",
    of(at(".", Hangup(), 1, times=1), joined=True),
    "AXAAA",
    1,
    taken="10111",
    chunked=BEHIND_ONE,
)
case(20, "close after the reply to the dot", of(at("MAIL", Hangup(), 2, times=1), joined=True), "AAAAA",
     twin=True, chunked=BEHIND_TWO)  # fmt: skip
case(20, "reset after the reply to the dot", of(at("MAIL", ResetConnection(), 2, times=1), joined=True),
     "AAAAA", twin=True, chunked=BEHIND_TWO)  # fmt: skip
case(20, "the dot is in the client's buffer when the client gives up", reads_when_it_is_too_late, "AAXAA", 1,
     taken="11011", chunked=BEHIND_TWO)  # fmt: skip


def after(minutes: float, reply: bytes = b"250 2.0.0 taken at last\r\n") -> Act:
    """The real timeouts; the clock is put forward."""

    async def act(world: World) -> Seen:
        async def late(connection: Connection) -> None:
            await take(connection)
            await asyncio.sleep(0.02)  # the replies before it are heard
            await world.clock.forward(minutes * 60)
            await connection.say(reply)

        return await world.run(await world.peer(then(".", late)), timeouts=Timeouts())

    return act


case(21, "the reply to the dot after 9 min 50 s", after(9 + 50 / 60), "AAAAA")
case(21, "the reply to the dot after 11 min", after(11), "AAXAA", 1, taken="11111", chunked="AAXXX")


SIX_LINES = b"".join(b"421%c4.3.2 line %d\r\n" % (b"- "[n == 5], n) for n in range(6))
BUSY = b"421 4.3.2 shutting down\r\n"
case(22, "dot 451", of(at(".", b"451 4.2.0 later\r\n", 1, times=1), joined=True), "ADAAA", 75)
case(22, "dot 421 with six lines, once", of(at(".", Hangup(SIX_LINES), 1, times=1), joined=True), "AAAAA",
     connections=2)  # fmt: skip
case(22, "dot 421 and close, messages behind it", of(at(".", Hangup(BUSY), 1, times=1), joined=True), "AAAAA",
     connections=2)  # fmt: skip


# -- 23, 24: what is no reply ---------------------------------------------------------------------

FLOOD = 10_000_000


def floods(piece: bytes) -> Then:
    """Without end, or 10 MB of it."""

    async def what(connection: Connection) -> None:
        for _ in range(FLOOD // len(piece)):
            await connection.say(piece)
        connection.peer.violations.append("the client listened to all of a flood")

    return what


NO_REPLIES = {
    "garbage": b"\x8f\xff\x12 garbage\r\n",
    "HTTP": b"HTTP/1.1 400 Bad Request\r\n\r\n",
    "NUL": b"2\x0050 taken\r\n",
    "354": b"354 what\r\n",
    "mixed codes": b"250-one\r\n550 two\r\n",
    "code 199": b"199 what\r\n",
    "code 600": b"600 what\r\n",
    "code 999": b"999 what\r\n",
    "a code without a line's form": b"2500 what\r\n",
    "nothing but a line end": b"\r\n",
}
for what, reply in NO_REPLIES.items():
    case(23, f"{what} at RCPT, once", of(at("RCPT", reply, times=1)), "AAAAA", connections=2,
         chunked=BEHIND_TWO_READ)  # fmt: skip
    case(23, f"{what} at the dot", of(at(".", reply, times=1)), "AAXAA", 1, chunked="AAXXX")
for code in range(500, 505):
    says = b"%d 5.5.1 what?\r\n" % code
    case(23, f"{code} at MAIL, once", of(at("MAIL", says, times=1)), "AAAAA", connections=2)
    case(23, f"{code} at the dot", of(at(".", says, times=1)), "AAXAA", 1, chunked="AAXXX")
case(23, "504 that is an echo", of(each(at("RCPT", b"550 5.1.1 no such user\r\n"), at("DATA", b"504 5.5.1 no\r\n"))),
     "AAFAA", 1, twin=True)  # fmt: skip
for what, piece in (
    ("endless lines", b"250-more\r\n" * 1000),
    ("a line of 10 MB", b"250 more" * 1000),
):
    case(23, f"{what} at RCPT, once", of(then("RCPT", floods(piece))), "AAAAA", connections=2,
         chunked=BEHIND_TWO)  # fmt: skip
    case(23, f"{what} at the dot", of(then(".", floods(piece))), "AAXAA", 1, chunked=BEHIND_TWO)


def slowly(pause: float) -> Then:
    async def what(connection: Connection) -> None:
        await take(connection)
        for byte in b"250 2.0.0 taken, letter by letter\r\n":
            await connection.say(bytes([byte]))
            await asyncio.sleep(pause)

    return what


def mixed(ask: Ask) -> bytes | None:
    """People are refused in different ways, in a pattern that no shift leaves as it is."""
    replies = {
        (1, "RCPT"): b"550-5.1.1 no such\r\n550 5.1.1 user\r\n",
        (2, "RCPT"): b"450 4.2.0 later\r\n",
        (4, "."): b"554 5.6.0 bad content\r\n",
        (7, "DATA"): b"451 4.2.0 later\r\n",
        (7, "BDAT"): b"451 4.2.0 later\r\n",
        (8, "RCPT"): b"550 5.1.1 no such user\r\n",
    }
    return replies.get((ask.person if ask.person is not None else -1, ask.verb))


def mixture(byte_by_byte: bool) -> Act:
    async def act(world: World) -> Seen:
        world.number = 12
        return await world.run(await world.peer(mixed, byte_by_byte=byte_by_byte))

    return act


case(24, "the reply to the dot comes one byte a second", of(then(".", slowly(0.05)), timeouts=HASTY), "AAXAA", 1,
     taken="11111", chunked=in_doubt("AAXXX", "111.."))  # fmt: skip
case(
    24,
    "the reply to the dot comes byte by byte, in time",
    of(then(".", slowly(0))),
    "AAAAA",
    twin=True,
)
case(24, "all replies come byte by byte, some refuse", mixture(True), "AFDAFAADFAAA", 75)
case(24, "all replies come glued, some refuse", mixture(False), "AFDAFAADFAAA", 75)


# -- 25 to 28: servers that come and go -----------------------------------------------------------


def while_idle(last_words: bytes) -> Act:
    """After person 1's message; the rate leaves a pause behind it."""

    async def act(world: World) -> Seen:
        left = asyncio.Event()

        async def leave(connection: Connection) -> None:
            connection.writer.write(last_words)
            connection.writer.close()
            left.set()

        def answer(ask: Ask) -> None:
            if ask.verb == "." and ask.person == 1:
                tasks.append(asyncio.ensure_future(later(ask.connection)))

        async def later(connection: Connection) -> None:
            await asyncio.sleep(0.01)
            await leave(connection)

        tasks: list[asyncio.Future[None]] = []
        seen = await world.run(await world.peer(answer), rates=[Rate(15, 1)])
        await asyncio.gather(*tasks)
        return seen

    return act


def messages_a_connection(number: int, last_words: bytes) -> Answer:
    """It leaves at the MAIL after so many."""

    def answer(ask: Ask) -> None:
        mine = [other for other in ask.connection.peer.asked if other.connection is ask.connection]
        if ask.verb == "MAIL" and sum(other.verb == "." for other in mine) >= number:
            raise Hangup(last_words)

    return answer


def every_third(ask: Ask) -> None:
    if ask.verb == "CONNECT" and ask.connection.number % 3 == 0:
        raise Hangup


GLUED = b"250 2.1.5 ok\r\n421 4.4.2 idle too long\r\n"
TEN = replace(ONE, connections=2, messages_per_connection=1)
case(25, "421 while idle", while_idle(b"421 4.4.2 idle too long\r\n"), "AAAAA", connections=2)
case(
    25,
    "421 right behind the reply to RCPT",
    of(at("RCPT", Hangup(GLUED), times=1)),
    "AAAAA",
    connections=2,
)
case(25, "silent drop while idle", while_idle(b""), "AAAAA", connections=2)
case(25, "two messages a connection, then 421",
     of(messages_a_connection(2, b"421 4.7.0 Max message per connection reached\r\n")), "AAAAA", connections=3)  # fmt: skip
case(
    25,
    "two messages a connection, then a silent drop",
    of(messages_a_connection(2, b"")),
    "AAAAA",
    connections=3,
    chunked=BEHIND_TWO,
)
case(25, "every third connection is closed at once", of(every_third, limits=TEN), "AAAAA")

NO_USER = at("RCPT", b"550 5.1.1 no such user\r\n")


def bounded(answer: Answer, seconds: float = 3.0) -> Act:
    """Hangs cost a moment; and NOOP, which could hang, too, is never said."""

    async def act(world: World) -> Seen:
        peer = await world.peer(answer)
        started = asyncio.get_running_loop().time()
        seen = await world.run(peer, timeouts=HASTY)
        if asyncio.get_running_loop().time() - started > seconds:
            seen.notes.append("it took too long")
        if peer.count("NOOP"):
            seen.notes.append("NOOP was said")
        return seen

    return act


case(26, "RSET hangs", bounded(each(NO_USER, at("RSET", b"", None, times=1))), "AAFAA", 1,
     chunked="XAFAA")  # fmt: skip
case(26, "QUIT hangs", bounded(at("QUIT", b"", None)), "AAAAA", connections=1)
case(26, "QUIT is refused", bounded(at("QUIT", b"451 4.3.0 stay\r\n", None)), "AAAAA", twin=True)


def dies(back_at: int) -> Act:
    """At person 3's MAIL; it listens again at this attempt to connect, or for the next run. With
    CHUNKING that person's message is out.
    """

    async def act(world: World) -> Seen:
        tasks: list[asyncio.Future[None]] = []

        def answer(ask: Ask) -> None:
            if ask.verb == "MAIL" and ask.person == 3 and not tasks:
                tasks.append(asyncio.ensure_future(peer.stop()))
                raise Hangup

        peer = await world.peer(answer)
        seen = await world.run(
            peer, before=lambda n: peer.start() if n == back_at else None, window=1
        )
        if not back_at:
            people = "AAAXP" if world.wire is Wire.CHUNKING else "AAAPP"
            if (seen.people, seen.end) != (people, 69):
                seen.notes.append(f"after the first run: {seen}")
            await peer.start()
            seen = await world.run(peer, content_proven=True)
        await asyncio.gather(*tasks)
        return seen

    return act


case(27, "the server dies and is back later", dies(back_at=7), "AAAAA", connections=7,
     chunked=in_doubt("AAAXA", "11101", connections=7))  # fmt: skip
case(27, "the server dies, 69; the next run goes on", dies(back_at=0), "AAAAA",
     chunked=in_doubt("AAAXA", "11101"))  # fmt: skip

RANDOM = (b"450 4.2.0 no\r\n", b"451 4.3.0 no\r\n", b"452 4.3.1 no\r\n", b"421 4.3.2 no\r\n")


async def five_percent(world: World) -> Seen:
    """At any command, the greeting and the login included. What slows down is scaled, too."""
    world.number = 200
    dice = random.Random(28)

    def answer(ask: Ask) -> bytes | None:
        if ask.verb == "QUIT" or dice.random() >= 0.05:
            return None
        reply = dice.choice(RANDOM)
        if reply.startswith(b"421"):
            raise Hangup(reply)
        return reply

    limits = replace(
        ONE, connections=4, first_retry=0.01, longest_retry=0.05, longest_reconnect=0.02
    )
    return await world.run(await world.peer(answer), limits=limits, hold=0.005)


case(28, "5 % random 4xx everywhere", five_percent, "A" * 200)


# -- 29: servers that announce what they cannot do ------------------------------------------------


def lies(
    peer_told: Callable[[], dict[str, Any]],
    number: int = 8,
    limit: int = 2,
    remarks: int = 1,
    pipelined: set[int] | None = None,
    answer: Answer | None = None,
    timeouts: Timeouts = HASTY,
) -> Act:
    """So many people, a few a connection, so that the server is believed a second time."""

    async def act(world: World) -> Seen:
        world.number = number
        told = peer_told()
        peer = await world.peer(told.pop("answer", answer), **told)
        peer.before_354 = partial(until_the_next_is_there, world)
        limits = replace(ONE, messages_per_connection=limit)
        seen = await world.run(peer, limits=limits, timeouts=timeouts)
        if len(world.remarks) != remarks or any("PIPELINING" not in said for said in world.remarks):
            seen.notes.append(f"said {world.remarks}")
        if pipelined is not None and peer.pipelined != pipelined:
            seen.notes.append(f"pipelined in connections {sorted(peer.pipelined)}")
        return seen

    return act


def commands(data: bytes) -> list[bytes]:
    return data.splitlines(keepends=True)


def hears_one(connection: Connection, data: bytes) -> bytes:
    """Of commands that come at once it hears the first, and of what is behind a dot nothing."""
    if connection.receiver._in_data:
        end = data.find(b"\r\n.\r\n")
        return _noting(connection, data, data if end < 0 else data[: end + 5])
    return _noting(connection, data, commands(data)[0])


def hears_nothing_behind_a_dot(connection: Connection, data: bytes) -> bytes:
    return hears_one(connection, data) if connection.receiver._in_data else data


def _noting(connection: Connection, data: bytes, heard: bytes) -> bytes:
    """What is not heard was said at once all the same."""
    if len(heard) < len(data):
        connection.peer.pipelined.add(connection.number)
    return heard


def hangs_up(connection: Connection, data: bytes) -> bytes:
    if not connection.receiver._in_data and len(commands(data)) > 1:
        connection.peer.pipelined.add(connection.number)
        raise Hangup
    return data


def one_for_two(connection: Connection, replies: bytes) -> bytes:
    """Every second reply of several is missing."""
    lines = commands(replies)
    if len(lines) > 1 and lines[0].startswith(b"250-"):
        return replies  # that to EHLO
    return b"".join(lines[::2])


def without_codes(reply_to_dot: bytes) -> Answer:
    """All is answered `250 OK`, but for the dot."""
    says = {"MAIL": b"250 OK\r\n", "RCPT": b"250 OK\r\n", ".": reply_to_dot}
    return lambda ask: says.get(ask.verb)


def without_a_dots(connection: Connection, replies: bytes) -> bytes:
    """Where there are four, to a dot, MAIL, RCPT and DATA, the first is missing."""
    lines = commands(replies)
    return b"".join(lines[1:] if len(lines) == 4 else lines)


def once(connection: Connection, data: bytes) -> bytes:
    """The first connection breaks in a pipeline."""
    return hangs_up(connection, data) if connection.number == 1 else data


FIRST_AND_THIRD = {1, 3}
case(29, "PIPELINING: hears one command at a time, and hangs",
     lies(lambda: {"hears": hears_one}, pipelined=FIRST_AND_THIRD), "A" * 8, wires=PIPELINED, connections=6)  # fmt: skip
case(29, "PIPELINING: hangs up", lies(lambda: {"hears": hangs_up}, pipelined=FIRST_AND_THIRD), "A" * 8,
     wires=PIPELINED, connections=6)  # fmt: skip
case(29, "PIPELINING: one reply for two commands", lies(lambda: {"says": one_for_two}, pipelined=FIRST_AND_THIRD),
     "A" * 8, wires=PIPELINED, connections=6)  # fmt: skip
case(29, "PIPELINING: hears nothing behind a dot",
     lies(lambda: {"hears": hears_nothing_behind_a_dot}, 12, 4, pipelined=FIRST_AND_THIRD), "A" * 12, wires=PIPELINED)  # fmt: skip
IN_DOUBT = "AXAAAAXAAAAA"
case(29, "PIPELINING: does not answer a dot with commands behind it",
     lies(lambda: {"says": without_a_dots}, 12, 4, pipelined=FIRST_AND_THIRD), IN_DOUBT, 1,
     wires=PIPELINED)  # fmt: skip
case(29, "PIPELINING: does not answer a dot, RCPT is refused behind it",
     lies(lambda: {"says": without_a_dots}, 5, 100, remarks=0, pipelined={1}, answer=NO_USER),
     "AXFAA", 1, wires=PIPELINED)  # fmt: skip
case(29, "PIPELINING: does not answer a dot, all replies alike",
     lies(lambda: {"says": without_a_dots, "answer": without_codes(b"250 OK\r\n")}, 5, 100, remarks=0),
     "AXAAA", 1, wires=PIPELINED)  # fmt: skip
case(29, "PIPELINING: breaks once",
     lies(lambda: {"hears": once}, remarks=0, pipelined={1, 3, 4, 5}, timeouts=PATIENT), "A" * 8,
     wires=PIPELINED, twin=True)  # fmt: skip
case(29, "PIPELINING: does what it announces",
     lies(dict, 12, 100, remarks=0, pipelined={1}, timeouts=PATIENT), "A" * 12,
     wires=PIPELINED, connections=1, twin=True)  # fmt: skip
case(29, "PIPELINING: does what it announces, all replies alike",
     lies(lambda: {"answer": without_codes(b"250 OK\r\n")}, 12, 100, remarks=0, pipelined={1}, timeouts=PATIENT),
     "A" * 12, wires=PIPELINED, connections=1, twin=True)  # fmt: skip
