"""Rows 25 and 29: windows that break, and servers that announce CHUNKING and cannot do it."""

from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from typing import Any

from bulkmail.sandbox.receiving import Hangup

from .breaking import hangs_up, hears_one, lies, messages_a_connection, never, then, without_codes
from .case import WITH_DATA, Act, Seen, Wire, case, in_doubt
from .connecting import of
from .peer import CHUNKING, PIPELINING, PLAIN, Answer, Ask, Connection, ResetConnection, at, each
from .world import HASTY, ONE, World

CHUNKED = (Wire.CHUNKING,)
ANNOUNCED = b"250-peer\r\n250-CHUNKING\r\n250-PIPELINING\r\n250 AUTH PLAIN LOGIN\r\n"


# -- what it is -----------------------------------------------------------------------------------


def within(window: int, people: int = 40, **told: Any) -> Act:
    """So many people on one connection."""

    async def act(world: World) -> Seen:
        world.number = people
        peer = await world.peer(**told)
        seen = await world.run(peer, window=window)
        if peer.count("BDAT") != people:
            seen.notes.append(f"BDAT was said {peer.count('BDAT')} times")
        return seen

    return act


def without_bdat(extensions: tuple[str, ...], **submission: Any) -> Act:
    """It is not said."""

    async def act(world: World) -> Seen:
        peer = await world.peer(extensions=lambda number: extensions)
        seen = await world.run(peer, **submission)
        if peer.count("BDAT") or peer.pipelined:
            seen.notes.append(f"said {[ask.verb for ask in peer.asked]}")
        return seen

    return act


for window in (1, 2, 3, 16, 1000):
    case(29, f"CHUNKING: does what it announces, window {window}", within(window), "A" * 40, wires=CHUNKED,
         connections=1, twin=True)  # fmt: skip
case(29, "CHUNKING: long content amid the window", of(sizes={2: 200_000}), "AAAAA", wires=CHUNKED,
     connections=1, twin=True)  # fmt: skip
case(29, "CHUNKING: without PIPELINING", without_bdat(("CHUNKING", *PLAIN)), "AAAAA", wires=CHUNKED,
     connections=1, twin=True)  # fmt: skip
case(29, "CHUNKING: pipelining is off", without_bdat(CHUNKING, pipelining=False), "AAAAA", wires=CHUNKED,
     connections=1, twin=True)  # fmt: skip
case(29, "CHUNKING: reset after the dot, window 1", of(at(".", ResetConnection(), 1, times=1), window=1),
     in_doubt("AXAAA", "10111", connections=2), wires=CHUNKED)  # fmt: skip


# -- servers that cannot do it --------------------------------------------------------------------


def announces_it_only() -> dict[str, Any]:
    """To it BDAT is an unknown command, and the lines of a message are more of them."""
    return {
        "extensions": lambda number: PIPELINING,
        "answer": at("EHLO", ANNOUNCED, None),
    }


def at_bdat(reply: bytes | None) -> Callable[[], dict[str, Any]]:
    """It answers so, and takes nothing."""
    return lambda: {"answer": at("BDAT", reply, None)}


def hung(connection: Connection, data: bytes) -> bytes:
    """It reads no further at BDAT."""
    before, bdat, _ = data.partition(b"BDAT")
    if bdat:
        connection.then = never
        connection.peer.pipelined.add(connection.number)
    return before


# The run's first message goes alone; a plain session follows, then one that is believed once more,
# with as many under way as a session takes.
ALONE = "XAAXAAAA"
case(
    29,
    "CHUNKING: does not know BDAT",
    lies(announces_it_only, remarks=0, pipelined={1, 2, 3, 4, 5}),
    "A" * 8,
    wires=CHUNKED,
)
case(29, "CHUNKING: BDAT is answered 502", lies(at_bdat(b"502 5.5.1 what?\r\n"), remarks=0, pipelined={1, 2, 3, 4, 5}), "A" * 8,
     wires=CHUNKED)  # fmt: skip
case(29, "CHUNKING: wants to say 354 first", lies(at_bdat(b"354 go on\r\n"), pipelined={1, 3}),
     in_doubt(ALONE), wires=CHUNKED)  # fmt: skip
case(29, "CHUNKING: hangs at BDAT", lies(lambda: {"hears": hung}, pipelined={1, 3}), in_doubt(ALONE),
     wires=CHUNKED)  # fmt: skip
case(29, "CHUNKING: hears one command at a time, and hangs", lies(lambda: {"hears": hears_one}, pipelined={1, 3}),
     in_doubt(ALONE), wires=CHUNKED)  # fmt: skip
case(29, "CHUNKING: hangs up", lies(lambda: {"hears": hangs_up}, pipelined={1, 3}), in_doubt(ALONE),
     wires=CHUNKED)  # fmt: skip


def hangs_up_once(connection: Connection, data: bytes) -> bytes:
    return hangs_up(connection, data) if connection.number == 1 else data


case(29, "CHUNKING: breaks once", lies(lambda: {"hears": hangs_up_once}, remarks=0, pipelined={1, 3, 4, 5}),
     in_doubt("X" + "A" * 7), wires=CHUNKED, twin=True)  # fmt: skip


def early(reply: bytes) -> Act:
    """Long content of person 2: BDAT is answered as soon as it is read."""

    async def act(world: World) -> Seen:
        async def say(connection: Connection) -> None:
            await connection.say(reply)
            while await connection.reader.read(65536):
                pass

        peer = await world.peer(then("BDAT", say), receive_buffer=16384)
        return await world.run(peer, sizes={2: 12_000_000}, timeouts=HASTY)

    return act


case(
    29,
    "CHUNKING: answers BDAT before its octets came",
    early(b"250 2.0.0 kept\r\n"),
    "AADAA",
    75,
    wires=CHUNKED,
)


# -- replies that are lost, said twice, or refuse -------------------------------------------------


def spoilt(
    verb: str,
    says: Callable[[bytes], bytes],
    *,
    person: int = 2,
    number: int = 5,
    window: int = 16,
    limit: int = 100,
    answer: Answer | None = None,
) -> Act:
    """What it says instead of its reply to this command. Each end has a reply of its own, and nobody
    may have a neighbour's.
    """

    async def act(world: World) -> Seen:
        world.number = number
        peer = await world.peer(
            each(*([answer] if answer else []), to_each),
            spoils=lambda ask, reply: says(reply) if is_it(ask) else reply,
        )
        limits = replace(ONE, messages_per_connection=limit)
        seen = await world.run(peer, window=window, timeouts=HASTY, limits=limits)
        for n, row in world.rows().items():
            if row["state"] == "accepted" and not answer and row["reply"] != f"250 2.0.0 p{n}":
                seen.notes.append(f"person {n} has the reply {row['reply']}")
        return seen

    def is_it(ask: Ask) -> bool:
        # RSET comes before the command that tells whose it is.
        return (ask.verb, ask.person) == (verb, person - (verb == "RSET"))

    return act


def to_each(ask: Ask) -> bytes | None:
    return b"250 2.0.0 p%d\r\n" % ask.person if ask.verb == "." and ask.person is not None else None


def lost(reply: bytes) -> bytes:
    return b""


def twice(reply: bytes) -> bytes:
    return reply * 2


ALIKE = without_codes(b"250 OK\r\n")


def all_alike(ask: Ask) -> bytes | None:
    return b"250 OK\r\n" if ask.verb == "RSET" else ALIKE(ask)


for verb in ("RSET", "MAIL", "RCPT", "."):
    case(29, f"CHUNKING: the reply to {verb} is lost", spoilt(verb, lost), in_doubt("AAXXX", "11..."),
         wires=CHUNKED)  # fmt: skip
    case(29, f"CHUNKING: the reply to {verb} is lost, later", spoilt(verb, lost, person=6, number=12, window=4),
         in_doubt("A{6}X{2,4}A{2,4}"), wires=CHUNKED)  # fmt: skip
    case(29, f"CHUNKING: the reply to {verb} is said twice", spoilt(verb, twice),
         in_doubt("AAAXX" if verb == "." else "AAXXX"), wires=CHUNKED)  # fmt: skip
    case(29, f"CHUNKING: the reply to {verb} is said twice, later", spoilt(verb, twice, person=6, number=12, window=4),
         in_doubt("A{6}[AX]X{1,4}A{1,4}"), wires=CHUNKED)  # fmt: skip
    # As many replies as commands are all that can be counted on.
    for how, said in ((lost, "is lost"), (twice, "is said twice")):
        case(29, f"CHUNKING: the reply to {verb} {said}, all replies alike",
             spoilt(verb, how, answer=all_alike), in_doubt("AXXXX"), wires=CHUNKED)  # fmt: skip
case(29, "CHUNKING: a refusal at the dot is lost", spoilt(".", lost, answer=at(".", b"554 5.6.0 no\r\n")),
     in_doubt("AAXXX"), wires=CHUNKED)  # fmt: skip
case(29, "CHUNKING: a refusal at the dot is lost, later",
     spoilt(".", lost, person=6, number=12, window=4, answer=at(".", b"554 5.6.0 no\r\n", 6)),
     in_doubt("A{6}X{2,4}A{2,4}"), wires=CHUNKED)  # fmt: skip
case(29, "CHUNKING: the reply to the first dot of a window is lost", spoilt(".", lost, person=1), in_doubt("AXXXX"),
     wires=CHUNKED)  # fmt: skip
for verb in ("MAIL", "RCPT", "."):
    case(29, f"CHUNKING: the reply to {verb} is lost, first of its session",
         spoilt(verb, lost, person=7, number=12, limit=6), in_doubt("A{6}[AX]X{5}"),
         wires=CHUNKED)  # fmt: skip
    case(29, f"CHUNKING: the reply to {verb} is said twice, first of its session",
         spoilt(verb, twice, person=7, number=12, limit=6), in_doubt("A{6}[AX]{2}X{4}"),
         wires=CHUNKED)  # fmt: skip


# -- servers that close amid a window -------------------------------------------------------------


def forty(answer: Answer, remarks: int | None = 0, **run: Any) -> Act:
    async def act(world: World) -> Seen:
        world.number = 40
        seen = await world.run(await world.peer(answer), **run)
        if remarks is not None and len(world.remarks) != remarks:
            seen.notes.append(f"said {world.remarks}")
        return seen

    return act


def nonmail_commands(most: int) -> Answer:
    """Exim's `smtp_accept_max_nonmail`: it closes where RSET is said once too often."""

    def answer(ask: Ask) -> None:
        connection = ask.connection
        said = sum(
            other.verb == "RSET" and other.connection is connection
            for other in connection.peer.asked
        )
        if ask.verb == "RSET" and said > most:
            raise Hangup(b"554 Too many nonmail commands\r\n")

    return answer


case(29, "CHUNKING: RSET is refused and the connection closed, now and then", forty(nonmail_commands(10)),
     "A" * 40, wires=CHUNKED)  # fmt: skip
case(29, "CHUNKING: RSET is refused, and all goes on", forty(at("RSET", b"500 5.5.1 what?\r\n", None)),
     "A" * 40, wires=CHUNKED)  # fmt: skip
case(29, "CHUNKING: RSET is refused, and nothing goes on",
     of(then("RSET", never, b"554 5.5.0 no\r\n", person=1), timeouts=HASTY), in_doubt("AAXXX", "11000"),
     wires=CHUNKED)  # fmt: skip
PER_CONNECTION = b"421 4.7.0 Max message per connection reached\r\n"
for number in (2, 3, 10):
    case(25, f"{number} messages a connection, then 421, forty people",
         forty(messages_a_connection(number, PER_CONNECTION)), "A" * 40,
         )  # fmt: skip
case(25, "2 messages a connection, then a silent drop, forty people",
     forty(messages_a_connection(2, b""), remarks=None), "A" * 40, wires=WITH_DATA)  # fmt: skip
case(25, "2 messages a connection, then a silent drop, forty people, window 4",
     forty(messages_a_connection(2, b""), remarks=1, window=4), in_doubt("AAX{2,4}AAAAX{2,4}A*"), wires=CHUNKED)  # fmt: skip


def counting_errors(most: int) -> Answer:
    """Two of three are unknown. Postfix's `smtpd_hard_error_limit`: each refusal counts, also that of
    content for nobody.
    """
    errors: Counter[Connection] = Counter()

    def answer(ask: Ask) -> bytes | None:
        unknown = ask.person is not None and ask.person % 3 > 0
        if not unknown or ask.verb not in ("RCPT", "DATA", "BDAT"):
            return None
        errors[ask.connection] += 1
        if errors[ask.connection] > most:
            raise Hangup(b"421 4.7.0 Error: too many errors\r\n")
        return b"550 5.1.1 no such user\r\n" if ask.verb == "RCPT" else b"554 5.5.1 nobody\r\n"

    return answer


for most in (20, 50):
    case(25, f"many are unknown, and it hangs up after {most} errors", forty(counting_errors(most)),
         "(AFF){13}A", 1)  # fmt: skip
