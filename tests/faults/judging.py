"""Rows 10 to 17: what a reply means, for the recipient, the domain, the account or the run."""

from dataclasses import replace
from functools import partial
from typing import Any

from bulkmail.delivery import Stop
from bulkmail.errors import ExitStatus
from bulkmail.sandbox.receiving import Hangup

from .case import WITH_DATA, Seen, Wire, case, in_doubt
from .connecting import Act, of
from .peer import Answer, Ask, at, each
from .world import ONE, World, until_the_next_is_there

ANY = (Wire.NONE,)
PIPELINED = (Wire.PIPELINING,)
PROVEN: dict[str, Any] = {"content_proven": True}
"""Rows 12 and 15 judge the run's first message otherwise, if no earlier run had one accepted."""

# -- 10, 11: too much ----------------------------------------------------------------------------

HOLD_SECONDS = 0.1


def slows(reply: bytes | Hangup, verb: str, domain: str = "") -> Act:
    """Once, at person 2: nothing goes for the hold, to `domain` if it is only about that.

    Even numbers are at gmail.com, odd ones at yahoo.com.
    """

    async def act(world: World) -> Seen:
        world.number = 10
        world.domain = lambda n: ("gmail.com", "yahoo.com")[n % 2]
        answer = at(verb, reply, times=1)
        complained: list[float] = []

        def noting(ask: Ask) -> bytes | None:
            try:
                said = answer(ask)
            except Hangup:
                complained.append(ask.at)
                raise
            if said is not None:
                complained.append(ask.at)
            return said

        peer = await world.peer(noting)
        seen = await world.run(peer, hold=HOLD_SECONDS, window=2)
        return _with_notes(seen, peer.asked, complained, domain)

    return act


def _with_notes(seen: Seen, asked: list[Ask], complained: list[float], domain: str) -> Seen:
    if not complained:
        seen.notes.append("the server never complained")
        return seen
    start, end = complained[0], complained[0] + HOLD_SECONDS * 0.9
    since = [ask for ask in asked if ask.verb == "MAIL" and start < ask.at < end]
    others = [ask for ask in since if domain and (ask.person or 0) % 2]
    # Two had been handed to the session before, if the session takes three at once.
    handed = 2 * asked[0].connection.behaviour.announces("PIPELINING")
    held = [ask for ask in since if ask not in others]
    if len(held) > handed:
        seen.notes.append(f"{len(held)} messages went while it was to be slow")
    if domain and len(others) < 3:
        seen.notes.append("the other domain had to wait, too")
    return seen


def at_login(reply: bytes, times: int) -> Act:
    return of(at("AUTH", reply, None, times))


TEN = "A" * 10
case(10, "AUTH 454, always", at_login(b"454 4.7.0 Temporary authentication failure\r\n", 99), "PPPPP", 69,
     wires=ANY, connections=ONE.attempts_before_first, says="454")  # fmt: skip
case(10, "AUTH 421, always", at_login(b"421 4.7.0 Too many login attempts\r\n", 99), "PPPPP", 69,
     wires=ANY, connections=ONE.attempts_before_first, says="421")  # fmt: skip
case(10, "AUTH 454, once", at_login(b"454 4.7.0 Temporary authentication failure\r\n", 1), "AAAAA",
     wires=ANY, connections=2, twin=True)  # fmt: skip
case(10, "MAIL 421, once", slows(Hangup(b"421 4.3.2 too busy\r\n"), "MAIL"), TEN)
case(10, "MAIL 451, once", slows(b"451 4.3.0 try again later\r\n", "MAIL"), TEN)
case(10, "MAIL 452, once", slows(b"452 4.3.1 insufficient system storage\r\n", "MAIL"), TEN)
case(10, "MAIL 451, always", of(at("MAIL", b"451 4.3.0 try again later\r\n", None)), "PPPPP", 75,
     says=r"wants no more for now \(451")  # fmt: skip

SES = b"454 Throttling failure: Maximum sending rate exceeded.\r\n"
GMAIL = b"421 4.7.0 Try again later, closing connection. (MAIL) gsmtp\r\n"
GMAIL_IP = b"421-4.7.28 Our system has detected an unusual rate of unsolicited mail\r\n421 4.7.28 gsmtp\r\n"
YAHOO = (
    b"421 4.7.0 [TSS04] Messages from 192.0.2.1 temporarily deferred due to unexpected volume\r\n"
)
OUTLOOK = b"451 4.7.650 The mail server [192.0.2.1] has been temporarily rate limited due to IP reputation\r\n"
OF_DOMAIN = b"450 4.7.1 too many messages for domain gmail.com, rate limited\r\n"
for verb in ("MAIL", "RCPT", "DATA", "."):
    case(11, f"SES 454 Maximum sending rate at {verb}", slows(SES, verb), TEN)
    case(11, f"Gmail 421 4.7.0 at {verb}", slows(Hangup(GMAIL), verb), TEN)
case(11, "Gmail 421 4.7.28 at the dot", slows(Hangup(GMAIL_IP), "."), TEN)
case(11, "Yahoo TSS04 at MAIL", slows(Hangup(YAHOO), "MAIL"), TEN)
case(11, "Outlook 451 4.7.650 at RCPT", slows(OUTLOOK, "RCPT"), TEN)
case(11, "RCPT: too many messages for a domain", slows(OF_DOMAIN, "RCPT", "gmail.com"), TEN)
case(11, "RCPT: a mailbox that gets too much", of(at("RCPT", b"450 4.2.1 The user you are trying to contact is receiving mail at a rate that prevents\r\n")),
     "AADAA", 75, twin=True)  # fmt: skip

# -- 12: quota and account ------------------------------------------------------------------------


def says_the_hour(stop: Stop) -> bool:
    """In words and as a time."""
    return stop.resume_at is not None and " at " in stop.reason.rpartition(" on ")[2]


def stops(verb: str, reply: bytes, person: int | None = None) -> Act:
    """Within a run that had messages accepted, or at its first; nobody is to blame."""

    async def act(world: World) -> Seen:
        seen = await world.run(await world.peer(at(verb, reply, person)))
        stop = world.stop
        if stop is not None and stop.status is ExitStatus.CONTINUE and not says_the_hour(stop):
            seen.notes.append(f"no hour is said: {stop.reason}")
        return seen

    return act


DAILY = b"550-5.4.5 Daily user sending limit exceeded. For more information on Gmail\r\n550 5.4.5 sending limits\r\n"
SES_DAILY = b"454 Throttling failure: Daily message quota exceeded.\r\n"
for verb in ("MAIL", "RCPT", "DATA", "."):
    case(
        12,
        f"{verb} 550 5.4.5, first message",
        stops(verb, DAILY),
        "PPPPP",
        75,
        says="quota is used up",
    )
    case(
        12,
        f"{verb} 550 5.4.5, later",
        stops(verb, DAILY, 2),
        "AAP[AP]P",
        75,
        chunked="AAPAA",
        says="quota is used up",
    )
    case(
        12,
        f"{verb} 454 Daily message quota",
        stops(verb, SES_DAILY, 2),
        "AAP[AP]P",
        75,
        chunked="AAPAA",
        says="quota is used up",
    )
UNVERIFIED = (
    b"554 Message rejected: Email address is not verified. The following identities failed\r\n"
)
SEND_AS = b"554 5.2.252 SendAsDenied; news@example.org not allowed to send as other@example.org\r\n"
case(
    12,
    "dot 554 Email address is not verified",
    stops(".", UNVERIFIED, 2),
    "AAP[AP]P",
    69,
    chunked="AAPAA",
    says="not verified",
)
case(12, "dot 554 SendAsDenied", stops(".", SEND_AS, 2), "AAP[AP]P", 69, says="SendAsDenied",
     chunked="AAPAA")  # fmt: skip
case(
    12,
    "MAIL 550 5.7.1",
    stops("MAIL", b"550 5.7.1 sender refused\r\n", 2),
    "AAP[AP]P",
    69,
    chunked="AAPAA",
    says="sender refused",
)
case(
    12,
    "MAIL 553 5.7.1",
    stops("MAIL", b"553 5.7.1 not owned by user\r\n"),
    "PPPPP",
    69,
    says="not owned",
)
case(12, "RCPT 550 5.2.2, one mailbox's quota", stops("RCPT", b"550 5.2.2 mailbox quota exceeded\r\n", 2), "AAFAA", 1,
     twin=True)  # fmt: skip

# -- 13, 14: recipients ---------------------------------------------------------------------------

for reply in (
    b"450 4.2.0 mailbox busy",
    b"451 4.7.1 Greylisting in action",
    b"452 4.2.2 over quota for now",
):
    code = reply[:3].decode()
    case(
        13,
        f"RCPT {code}",
        of(at("RCPT", reply + b"\r\n")),
        "AADAA",
        75,
        says="the next retry is due on",
    )
case(13, "RCPT 450 twice, retries are due at once",
     of(at("RCPT", b"450 4.2.0 greylisted\r\n", times=2), limits=replace(ONE, first_retry=0.01)), "AAAAA",
     twin=True)  # fmt: skip

RATE = b"550-5.2.1 The user you are trying to contact is receiving mail at a rate that\r\n550-5.2.1 prevents additional messages from being delivered.\r\n550 5.2.1 gsmtp\r\n"
case(14, "RCPT 550 5.1.1", of(at("RCPT", b"550 5.1.1 no such user\r\n")), "AAFAA", 1)
case(
    14, "RCPT 450 5.1.1", of(at("RCPT", b"450 4.1.1 no such user, yet\r\n")), "AADAA", 75, twin=True
)
case(14, "RCPT 552 5.2.2", of(at("RCPT", b"552 5.2.2 mailbox full\r\n")), "AAFAA", 1)
case(14, "RCPT 452 4.2.2", of(at("RCPT", b"452 4.2.2 mailbox full\r\n")), "AADAA", 75, twin=True)
case(14, "RCPT 550 5.2.1 receiving rate", of(at("RCPT", RATE)), "AADAA", 75)
case(14, "RCPT 550 5.2.1 disabled", of(at("RCPT", b"550 5.2.1 The email account is disabled\r\n")), "AAFAA", 1,
     twin=True)  # fmt: skip

# -- 15: policy and content -----------------------------------------------------------------------

POLICY = b"550 5.7.1 policy\r\n"
SPAM = b"554 5.7.1 spam\r\n"


def later(verb: str, reply: bytes, refused: set[int], limit: int = 3) -> Act:
    """Of ten people, these are refused; so many alike in a row stop the run."""

    async def act(world: World) -> Seen:
        world.number = 10
        peer = await world.peer(
            lambda ask: reply if ask.verb == verb and ask.person in refused else None
        )
        peer.before_354 = partial(until_the_next_is_there, world)
        return await world.run(peer, limits=replace(ONE, stop_after_failures=limit))

    return act


for verb, reply in (
    (".", SPAM),
    ("RCPT", POLICY),
    (".", b"552 5.3.4 too big\r\n"),
    (".", b"571 no\r\n"),
):
    what = f"{verb} {reply.decode().strip()}"
    case(
        15,
        f"{what}, the run's first message",
        of(at(verb, reply, 0)),
        "PPPPP",
        69,
        says=reply[:3].decode(),
    )
    case(15, f"{what}, later", of(at(verb, reply)), "AAFAA", 1)
for verb, reply in ((".", SPAM), ("RCPT", POLICY)):
    name = f"{verb} {reply.decode().strip()}"
    case(15, f"{name}, three alike in a row", later(verb, reply, {4, 5, 6, 7, 8, 9}), "AAAAPPPPPP", 69,
         says="3 messages in a row were refused alike")  # fmt: skip
    case(
        15,
        f"{name}, an acceptance after two",
        later(verb, reply, {2, 3, 5, 6}),
        "AAFFAFFAAA",
        1,
        twin=True,
    )
case(15, "RCPT 550 5.1.1, six in a row", later("RCPT", b"550 5.1.1 no such user\r\n", {4, 5, 6, 7, 8, 9}),
     "AAAAFFFFFF", 1, twin=True)  # fmt: skip
case(15, "dot 554 first, but an earlier run had it accepted", of(at(".", SPAM, 0), None, **PROVEN), "FAAAA", 1,
     twin=True)  # fmt: skip

# -- 16: the ways to say yes ----------------------------------------------------------------------

for reply in (b"251 user not local; will forward\r\n", b"252 cannot verify, but will try\r\n"):
    case(16, f"RCPT {reply[:3].decode()}", of(at("RCPT", reply)), "AAAAA")
for code in (b"200", b"220", b"251", b"252", b"299"):
    case(16, f"dot {code.decode()}", of(at(".", code + b" taken\r\n")), "AAAAA")
case(16, "dot 250 without a text", of(at(".", b"250\r\n", None)), "AAAAA")
case(16, "dot 300", of(at(".", b"300 what\r\n")), "AAXAA", 1, twin=True, chunked=in_doubt("AAXXX"))

# -- 17: DATA -------------------------------------------------------------------------------------

NO_USER = at("RCPT", b"550 5.1.1 no such user\r\n")
GO = at("DATA", b"354 go on, then\r\n")


async def content_for_nobody(world: World) -> Seen:
    """RFC 2920 3.1: a lone dot, then RSET; nothing of the message is said."""
    peer = await world.peer(each(NO_USER, GO))
    seen = await world.run(peer)
    verbs = [ask.verb for ask in peer.asked if ask.person == 2]
    if verbs[:4] != ["MAIL", "RCPT", "DATA", "."] or "RSET" not in verbs:
        seen.notes.append(f"said {verbs}")
    if any(not message.content for message in peer.contents):
        seen.notes.append("an empty message was taken")
    return seen


def early(reply: bytes) -> Answer:
    return at("DATA", reply, times=1)


case(17, "DATA 451", of(early(b"451 4.2.0 later\r\n")), "AADAA", 75)
case(17, "DATA 421, once", slows(Hangup(b"421 4.3.2 too busy\r\n"), "DATA"), TEN)
case(17, "DATA 554 after a refused RCPT", of(each(NO_USER, at("DATA", b"554 5.5.1 no valid recipients\r\n"))),
     "AAFAA", 1)  # fmt: skip
case(17, "DATA 554 after a deferred RCPT",
     of(each(at("RCPT", b"450 4.2.0 later\r\n"), at("DATA", b"554 5.5.1 no valid recipients\r\n"))), "AADAA", 75)  # fmt: skip
case(
    17,
    "DATA 554 after an accepted RCPT, first message",
    of(at("DATA", SPAM, 0)),
    "PPPPP",
    69,
    says="554",
)
case(17, "DATA 554 after an accepted RCPT, later", of(at("DATA", SPAM)), "AAFAA", 1)
case(17, "DATA 250, once", of(early(b"250 2.0.0 ok\r\n")), "AAAAA", connections=2, wires=WITH_DATA)
case(17, "DATA 354 after a refused RCPT", content_for_nobody, "AAFAA", 1, wires=PIPELINED)
case(17, "BDAT 250 after a refused RCPT", of(each(NO_USER, early(b"250 2.0.0 ok\r\n"))), in_doubt("AAXXX"),
     wires=(Wire.CHUNKING,))  # fmt: skip
