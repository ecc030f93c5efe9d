"""The conversation against scripted replies, without a socket.

What is written is shortened:
`M1` is MAIL for the first message, `R1` its RCPT, `D` DATA, `C1` its content, `.` the dot, `X` RSET,
`B1` BDAT with the content.
"""

import re
from collections.abc import Callable
from dataclasses import dataclass, field

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bulkmail.model import Envelope, MailObject, Outcome, Phase, Reply, State
from bulkmail.sandbox.receiving import Behaviour, Received, Receiver
from bulkmail.smtp.announced import Announced
from bulkmail.smtp.content import MAX_JOINED_BYTES, stuffed
from bulkmail.smtp.conversation import Conversation
from bulkmail.smtp.ending import Ending
from bulkmail.smtp.judgement import judge
from bulkmail.smtp.reply import make_reply

OK = b"250 2.0.0 ok\r\n"
MAIL_OK = b"250 2.1.0 ok\r\n"
RCPT_OK = b"250 2.1.5 ok\r\n"
RSET_OK = b"250 2.0.0 flushed\r\n"
GO = b"354 go\r\n"
NO_USER = b"550 5.1.1 no such user\r\n"
NO_RCPT = b"554 5.5.1 no valid recipients\r\n"
ECHO = b"503 5.5.1 out of sequence\r\n"

_SHORT = [
    (rb"MAIL FROM:<sender(\d)@example\.org>\r\n", rb"M\1 "),
    (rb"RCPT TO:<to(\d)@example\.com>\r\n", rb"R\1 "),
    (rb"DATA\r\n", b"D "),
    (rb"BDAT 11 LAST\r\nContent (\d)\r\n", rb"B\1 "),
    (rb"RSET\r\n", b"X "),
    (rb"Content (\d)\r\n", rb"C\1 "),
    (rb"\.\r\n", b". "),
    (rb"QUIT\r\n", b"Q "),
]


POSTFIX = b"250 2.1.0 Ok\r\n", b"250 2.1.5 Ok\r\n", b"250 2.0.0 Ok: queued as 4T2\r\n"
EXIM = b"250 OK\r\n", b"250 Accepted\r\n", b"250 OK id=1rAbCd-0001\r\n"
EXCHANGE = (
    b"250 2.1.0 Sender OK\r\n",
    b"250 2.1.5 Recipient OK\r\n",
    b"250 2.6.0 <1@x> [InternalId=1] Queued mail for delivery\r\n",
)
GMAIL = (
    b"250 2.1.0 OK d9-44f - gsmtp\r\n",
    b"250 2.1.5 OK d9-44f - gsmtp\r\n",
    b"250 2.0.0 OK  1700000000 d9-44f - gsmtp\r\n",
)
SAME = b"250 OK\r\n", b"250 OK\r\n", b"250 OK\r\n"
LMTP = b"250 2.1.0 ok\r\n", b"250 2.1.5 ok\r\n", b"250 2.1.5 Ok SESSIONID=<x-1>\r\n"
SERVERS = pytest.mark.parametrize(
    "server", [POSTFIX, EXIM, EXCHANGE, GMAIL, SAME], ids=["postfix", "exim", "exchange", "gmail", "same"]
)  # fmt: skip
Server = tuple[bytes, bytes, bytes]


def mail(number: int, content: bytes | None = None) -> MailObject:
    envelope = Envelope(f"sender{number}@example.org", f"to{number}@example.com")
    return MailObject(envelope, (content or b"Content %d\r\n" % number,), f"<{number}@example.org>")


@dataclass
class Session:
    """A conversation whose writes and outcomes are collected."""

    conversation: Conversation
    outcomes: dict[int, Outcome] = field(default_factory=dict)

    def offer(self, *numbers: int) -> str:
        for number in numbers:
            self.conversation.offer(mail(number))
        return self.written()

    def answer(self, *replies: bytes) -> str:
        """Passes replies on, one by one; what is written because of them, in short."""
        written = []
        for reply in replies:
            self.conversation.receive(reply)
            written.append(self.written())
        return " ".join(filter(None, written))

    def written(self) -> str:
        data = b""
        while (more := self.conversation.next_write()) is not None:
            data += more
        for pattern, short in _SHORT:
            data = re.sub(pattern, short, data)
        for message, outcome in self.conversation.take_settled():
            number = int(message.message_id[1])
            assert number not in self.outcomes, "settled twice"
            self.outcomes[number] = outcome
        return data.decode().strip()

    def end(self, cause: str = "gone") -> None:
        self.conversation.end(cause)
        self.written()

    def phases(self) -> dict[int, str]:
        """Number to phase, with the reply's code where there was one."""
        return {
            number: f"{outcome.phase} {outcome.reply.code}" if outcome.reply else str(outcome.phase)
            for number, outcome in self.outcomes.items()
        }


def plain() -> Session:
    return Session(Conversation(Announced()))


def pipelining() -> Session:
    return Session(Conversation(Announced(pipelining=True)))


def chunking(
    window: int = 3, *, warm: Server | None = (b"250 ok\r\n", b"250 ok\r\n", b"250 ok\r\n")
) -> Session:
    """`warm`: a server of which a message was taken already, so that its replies are known."""
    session = Session(Conversation(Announced(pipelining=True, chunking=True), window))
    if warm is not None:
        mail_ok, rcpt_ok, end_ok = warm
        assert session.offer(9) == "X M9 R9 B9" and session.conversation.room == 0
        session.answer(mail_ok if warm is SAME else RSET_OK, mail_ok, rcpt_ok, end_ok)
        session.outcomes.clear()
    return session


def test_plain_says_one_command_at_a_time() -> None:
    session = plain()
    assert session.conversation.room == 1
    assert session.offer(1) == "M1"
    assert session.conversation.room == 0
    assert [session.answer(reply) for reply in (OK, OK, GO)] == ["R1", "D", "C1 ."]
    assert session.answer(b"250 2.0.0 queued\r\n") == ""
    assert session.outcomes == {1: Outcome(Phase.DOT, Reply(250, "2.0.0", "2.0.0 queued"))}
    assert session.offer(2) == "M2"


def test_pipelining_says_the_envelope_in_one_write() -> None:
    session = pipelining()
    assert session.offer(1) == "M1 R1 D"
    assert session.answer(OK, OK) == ""
    assert session.answer(GO) == "C1 ."
    assert session.answer(OK) == ""
    assert session.phases() == {1: "dot 250"}


def test_content_dot_and_the_next_envelope_leave_together() -> None:
    """One round trip a message, with the next one there in time."""
    session = pipelining()
    assert session.offer(1, 2) == "M1 R1 D"
    assert session.answer(OK, OK, GO) == "C1 . M2 R2 D"
    assert session.conversation.room == 1
    assert session.answer(OK) == ""
    assert session.offer(3) == "" and session.conversation.room == 0
    assert session.answer(OK, OK, GO) == "C2 . M3 R3 D"
    assert session.answer(OK, OK, OK) == ""
    assert session.answer(GO, OK) == "C3 ."
    assert session.phases() == {1: "dot 250", 2: "dot 250", 3: "dot 250"}


def test_the_next_envelope_may_follow_a_lone_dot() -> None:
    session = pipelining()
    session.offer(1)
    session.answer(OK, OK, GO)
    assert session.offer(2) == "M2 R2 D"


def test_content_never_leaves_before_its_own_354() -> None:
    session = pipelining()
    session.offer(1, 2)
    session.answer(OK, OK, GO)
    assert session.answer(OK, OK, OK) == ""
    assert session.answer(GO) == "C2 ."


def test_a_refused_recipient_costs_one_reset_and_nobody_else() -> None:
    """RFC 2920 3.1: RCPT refused, DATA refused as its echo."""
    session = pipelining()
    session.offer(1, 2)
    assert session.answer(OK, NO_USER, NO_RCPT) == "X M2 R2"
    assert session.answer(OK, OK, OK) == "D"
    assert session.answer(GO) == "C2 ."
    session.answer(OK)
    assert session.phases() == {1: "rcpt 550", 2: "dot 250"}
    assert session.offer(3) == "M3 R3 D", "after an acceptance DATA goes along again"


def test_a_refused_recipient_in_plain() -> None:
    session = plain()
    session.offer(1)
    session.answer(OK)
    assert session.answer(NO_USER) == ""
    assert session.offer(2) == "X"
    assert [session.answer(OK) for _ in range(3)] == ["M2", "R2", "D"]
    assert session.phases() == {1: "rcpt 550"}


def test_a_server_that_wants_content_for_nobody_gets_a_lone_dot() -> None:
    session = pipelining()
    session.offer(1, 2)
    assert session.answer(OK, NO_USER, GO) == "."
    assert session.answer(OK) == "X M2 R2"
    assert session.phases() == {1: "rcpt 550"}


def test_a_refused_sender_is_told_by_mail_not_by_its_echoes() -> None:
    session = pipelining()
    session.offer(1)
    session.answer(b"553 5.7.1 not yours\r\n", ECHO, ECHO)
    assert session.phases() == {1: "mail 553"}


@pytest.mark.parametrize("start", [pipelining, lambda: chunking(3)])
def test_a_recipient_is_taken_after_a_refused_sender(start: Callable[[], Session]) -> None:
    """Where the content waits for the reply to RCPT, nothing more is said for this one."""
    session = start()
    session.offer(1)
    session.answer(MAIL_OK, NO_USER, NO_RCPT)
    session.offer(2)
    session.answer(RSET_OK, b"451 4.3.0 busy\r\n", RCPT_OK)
    assert session.phases() == {1: "rcpt 550", 2: "mail 451"}
    assert session.offer(3) == "X M3 R3"


@pytest.mark.parametrize("reply", [b"451 4.3.0 busy\r\n", b"554 5.7.1 no\r\n"])
def test_data_refused(reply: bytes) -> None:
    session = pipelining()
    session.offer(1)
    session.answer(OK, OK, reply)
    assert session.phases() == {1: f"data {reply[:3].decode()}"}


def test_a_refused_dot_leaves_the_next_one_alone() -> None:
    session = pipelining()
    session.offer(1, 2)
    session.answer(OK, OK, GO)
    session.answer(b"554 5.7.1 spam\r\n", OK, OK)
    assert session.answer(GO) == "C2 ."
    session.answer(OK)
    assert session.phases() == {1: "dot 554", 2: "dot 250"}


@pytest.mark.parametrize(
    ("answered", "phases"),
    [
        ((), {1: "mail", 2: "queued"}),
        ((OK,), {1: "rcpt", 2: "queued"}),
        ((OK, OK), {1: "data", 2: "queued"}),
        ((OK, OK, GO), {1: "dot", 2: "queued"}),
        ((OK, OK, GO, OK), {1: "dot 250", 2: "mail"}),
        ((OK, OK, GO, OK, OK, OK), {1: "dot 250", 2: "data"}),
        ((OK, OK, GO, OK, OK, OK, GO), {1: "dot 250", 2: "dot"}),
    ],
)
def test_a_lost_connection_is_judged_by_phase(
    answered: tuple[bytes, ...], phases: dict[int, str]
) -> None:
    session = pipelining()
    session.offer(1, 2)
    session.answer(*answered)
    session.end()
    assert session.phases() == phases


def test_421_is_about_the_first_unanswered_and_the_rest_was_not_executed() -> None:
    session = pipelining()
    session.offer(1, 2)
    session.answer(OK, OK, GO)
    session.answer(b"421-4.7.0 too much\r\n421 4.7.0 bye\r\n")
    assert session.phases() == {1: "dot 421", 2: "queued"}
    assert session.conversation.ended == "the server closed the session: 421 4.7.0 too much bye"
    assert session.conversation.room == 0


@pytest.mark.parametrize("start", [plain, pipelining])
def test_a_421_right_behind_a_reply_is_about_the_command_that_was_not_said_yet(
    start: Callable[[], Session],
) -> None:
    session = start()
    session.offer(1)
    session.answer(*([OK] if start is plain else []))
    session.conversation.receive(OK + (b"" if start is plain else OK) + b"421 4.4.2 idle\r\n")
    session.written()
    assert session.phases() == {1: "data 421"}


def test_421_while_idle_blames_nobody() -> None:
    session = pipelining()
    session.answer(b"421 4.4.2 idle\r\n")
    assert session.phases() == {}
    assert session.conversation.ended


def test_large_content_leaves_in_pieces_and_its_dot_last() -> None:
    """Until the dot is handed out, a lost connection means that nothing was delivered."""
    content = b"x" * 70 + b"\r\n"
    large = mail(1, content * (3 * MAX_JOINED_BYTES // len(content)))
    conversation = Conversation(Announced(pipelining=True))
    conversation.offer(large)
    conversation.next_write()
    conversation.receive(OK + OK + GO)
    pieces = []
    while conversation.awaited is not None and conversation.awaited[1] is Phase.CONTENT:
        pieces.append(conversation.next_write() or b"")
    assert pieces[-1] == b".\r\n"
    assert b"".join(pieces[:-1]) == large.content[0]
    assert max(map(len, pieces)) <= MAX_JOINED_BYTES
    conversation.end("gone")
    [(_, outcome)] = conversation.take_settled()
    assert outcome.phase is Phase.DOT


def half_written() -> Session:
    session = pipelining()
    session.conversation.offer(mail(1, b"y\r\n" * MAX_JOINED_BYTES))
    session.conversation.offer(mail(2))
    session.conversation.next_write()
    session.conversation.receive(OK + OK + GO)
    session.conversation.next_write()
    return session


def test_lost_in_the_midst_of_content_is_before_the_dot() -> None:
    session = half_written()
    session.end()
    assert session.phases() == {1: "content", 2: "queued"}


def test_a_refusal_in_the_midst_of_content_is_that_contents() -> None:
    session = half_written()
    session.conversation.receive(b"552 5.3.4 too big\r\n")
    session.written()
    assert session.phases() == {1: "content 552", 2: "queued"}
    assert session.conversation.ended


@pytest.mark.parametrize(
    "surprise",
    [
        b"250 nobody asked\r\n",
        b"220 hello again\r\n",
        b"junk\r\n",
    ],
)
def test_an_unasked_reply_ends_the_session(surprise: bytes) -> None:
    session = pipelining()
    session.answer(surprise)
    assert session.conversation.ended


@pytest.mark.parametrize(
    ("answered", "phases"),
    [
        ((b"354 what?\r\n",), {1: "mail"}),
        ((OK, b"354 what?\r\n"), {1: "rcpt"}),
        ((OK, OK, b"250 what?\r\n"), {1: "rcpt"}),
        ((OK, OK, GO, GO), {1: "dot 354"}),
    ],
)
def test_a_reply_that_fits_no_question_ends_the_session(
    answered: tuple[bytes, ...], phases: dict[int, str]
) -> None:
    session = pipelining()
    session.offer(1)
    session.answer(*answered)
    assert session.phases() == phases
    assert session.conversation.ended


def test_a_reply_to_a_dot_that_did_not_leave_yet_accepts_nobody() -> None:
    """Replies that come glued to the 354 cannot be about the content."""
    session = pipelining()
    session.conversation.offer(mail(1))
    session.conversation.next_write()
    session.conversation.receive(OK + OK + GO + OK)
    session.written()
    assert session.phases() == {1: "data"}


def test_a_reply_counts_although_junk_follows_it_at_once() -> None:
    session = pipelining()
    session.offer(1)
    session.answer(OK, OK, GO)
    session.answer(OK + b"junk\r\n")
    assert session.phases() == {1: "dot 250"}
    assert session.conversation.ended


def test_one_answer_too_many_is_credited_to_nobody() -> None:
    """A server that answers twice for one message does not have the next one accepted."""
    session = pipelining()
    session.offer(1, 2)
    session.answer(MAIL_OK, RCPT_OK, GO)
    session.answer(OK, OK, MAIL_OK, RCPT_OK)
    assert session.phases() == {1: "dot 250", 2: "rcpt"}


def test_quit_ends_an_idle_session() -> None:
    session = plain()
    session.conversation.quit()
    assert session.written() == "Q"
    session.answer(b"221 bye\r\n")
    assert session.conversation.ended == "QUIT"


def test_size_is_announced_where_the_server_has_it() -> None:
    conversation = Conversation(Announced(size=True))
    conversation.offer(mail(1))
    assert conversation.next_write() == b"MAIL FROM:<sender1@example.org> SIZE=11\r\n"


# -- replies that are missing or too many ---------------------------------------------------------


def joined(server: Server, alone_first: bool = False) -> Session:
    """One message's dot and the next one's envelope are said; the dot is not answered yet."""
    mail_ok, rcpt_ok, dot_ok = server
    session = pipelining()
    if alone_first:
        session.offer(9)
        session.answer(mail_ok, rcpt_ok, GO, dot_ok)
    session.offer(1, 2)
    assert session.answer(mail_ok, rcpt_ok, GO) == "C1 . M2 R2 D"
    return session


@pytest.mark.parametrize("server", [POSTFIX, EXIM, EXCHANGE, GMAIL, SAME, LMTP])
def test_what_honest_servers_say_to_a_dot_counts(server: Server) -> None:
    mail_ok, rcpt_ok, dot_ok = server
    session = joined(server)
    assert session.answer(dot_ok, mail_ok, rcpt_ok, GO) == "C2 ."
    session.answer(dot_ok)
    assert session.phases() == {1: "dot 250", 2: "dot 250"}
    assert session.conversation.joined and not session.conversation.ended


@SERVERS
@pytest.mark.parametrize("ending", [Ending.CUT_OFF, Ending.ORDERLY])
def test_a_dots_reply_counts_although_the_connection_ends_after_it(
    server: Server, ending: Ending
) -> None:
    session = joined(server)
    session.answer(server[2])
    session.conversation.end("gone", ending)
    session.written()
    assert session.phases() == {1: "dot 250", 2: "mail"}


@SERVERS
def test_a_silence_after_a_dots_reply(server: Server) -> None:
    """It counts, unless this server gives the same reply to MAIL."""
    session = joined(server)
    session.answer(server[2])
    session.conversation.end("no reply", Ending.ASTRAY)
    session.written()
    assert session.phases() == {1: "dot" if server is SAME else "dot 250", 2: "mail"}


@SERVERS
def test_a_dot_that_is_not_answered_does_not_get_the_reply_to_mail(server: Server) -> None:
    """The 354 comes one step too early."""
    session = joined(server)
    session.answer(server[0], server[1], GO)
    assert session.phases() == {1: "dot", 2: "rcpt"}
    assert session.conversation.broke_pipeline
    assert "may have been meant for another" in session.outcomes[1].cause


@SERVERS
@pytest.mark.parametrize("ending", [Ending.CUT_OFF, Ending.ASTRAY])
def test_a_dot_that_is_not_answered_before_a_refused_recipient(
    server: Server, ending: Ending
) -> None:
    """Its message is in doubt, and nobody is charged with the refusals one step too early."""
    session = joined(server, alone_first=True)
    session.answer(server[0], NO_USER, NO_RCPT)
    session.conversation.end("gone", ending)
    session.written()
    untold = server is SAME and ending is Ending.CUT_OFF
    assert session.phases() == {9: "dot 250", 1: "dot 250" if untold else "dot", 2: "mail"}


@pytest.mark.parametrize("reply", [b"451 4.3.0 later\r\n", b"550 5.1.8 bad sender\r\n"])
def test_a_dot_that_is_not_answered_before_a_refused_sender(reply: bytes) -> None:
    """If the refusal were taken for the dot's, somebody would get it twice, or be given up."""
    session = joined(POSTFIX)
    session.answer(reply, ECHO, ECHO)
    session.conversation.end("no reply", Ending.ASTRAY)
    session.written()
    assert session.phases() == {1: "dot", 2: "mail"}


def test_a_dots_refusal_counts_once_all_replies_fit() -> None:
    session = joined(POSTFIX)
    session.answer(b"451 4.3.0 later\r\n", MAIL_OK, RCPT_OK)
    assert session.phases() == {}
    session.answer(GO)
    assert session.phases() == {1: "dot 451"}


def test_a_dot_answered_twice_the_same_as_all_else_is_in_doubt() -> None:
    session = joined(SAME)
    session.answer(*SAME, SAME[0])
    assert session.phases() == {1: "dot", 2: "rcpt"}
    assert session.conversation.broke_pipeline


def test_while_the_replies_behind_a_dot_are_awaited_another_may_join() -> None:
    """There is room for it, or every other message would cost two round trips."""
    session = joined(POSTFIX)
    assert session.conversation.room == 1
    assert session.offer(3) == "" and session.conversation.room == 0
    session.answer(POSTFIX[2])
    assert session.phases() == {} and session.conversation.room == 0
    assert session.answer(MAIL_OK, RCPT_OK, GO) == "C2 . M3 R3 D"
    assert session.phases() == {1: "dot 250"}


def test_a_refusal_in_a_group_that_is_not_answered_whole_does_not_count() -> None:
    """On the next session, which is plain, the same refusal is certain."""
    for ending, expected in ((Ending.CUT_OFF, "rcpt"), (Ending.ORDERLY, "rcpt 550")):
        session = pipelining()
        session.offer(1)
        session.answer(MAIL_OK, NO_USER)
        session.conversation.end("gone", ending)
        session.written()
        assert session.phases() == {1: expected}


def test_a_hang_at_a_lone_dot_leaves_the_refusal_before_it() -> None:
    session = pipelining()
    session.offer(1)
    assert session.answer(MAIL_OK, NO_USER, GO) == "."
    session.conversation.end("no reply", Ending.ASTRAY)
    session.written()
    assert session.phases() == {1: "rcpt 550"}


@pytest.mark.parametrize(
    ("answers", "broke"),
    [
        ((), True),
        ((OK, OK), True),
        ((OK, OK, GO), False),
        ((OK, NO_USER, NO_RCPT), False),
    ],
)
def test_only_what_was_said_at_once_breaks_a_pipeline(
    answers: tuple[bytes, ...], broke: bool
) -> None:
    for ending in Ending:
        session = pipelining()
        session.offer(1)
        session.answer(*answers)
        session.conversation.end("gone", ending)
        assert session.conversation.broke_pipeline is (broke and ending is not Ending.ORDERLY)


def test_plain_sessions_never_break_a_pipeline() -> None:
    session = plain()
    session.offer(1)
    session.conversation.end("no reply", Ending.ASTRAY)
    assert not session.conversation.broke_pipeline


def test_a_421_is_no_broken_pipeline() -> None:
    session = joined(POSTFIX)
    session.answer(b"421 4.3.2 bye\r\n")
    assert session.phases() == {1: "dot 421", 2: "queued"}
    assert not session.conversation.broke_pipeline


# -- what the server announced that it does not take ---------------------------------------------

FOREIGN = "김@example.com"
NOT_UTF8 = "the server does not take addresses outside ASCII (SMTPUTF8)"
UTF8 = Announced(size=True, smtputf8=True, eightbitmime=True)
MB = 1_000_000


def sized(size: int, to: str = "to9@example.com", by: str = "sender9@example.org") -> MailObject:
    return MailObject(Envelope(by, to), (b"x" * (size - 2), b"\r\n"), "<9@example.org>")


@pytest.mark.parametrize(
    ("announced", "big", "expected"),
    [
        (Announced(size=True, max_bytes=26214400), sized(26214400), None),
        (Announced(size=True, max_bytes=None), sized(40 * MB), None),
        (
            Announced(size=True, max_bytes=26214400),
            sized(27_400_000),
            (Phase.UNSENDABLE, "the message has 27.4 MB; the server takes 26.2 MB at most (SIZE)"),
        ),
        (
            Announced(size=True, max_bytes=26214400),
            sized(26214401),
            (
                Phase.UNSENDABLE,
                "the message has 26,214,401 bytes; the server takes 26,214,400 bytes at most (SIZE)",
            ),
        ),
        (
            Announced(size=True, max_bytes=900),
            sized(MB),
            (
                Phase.UNSENDABLE,
                "the message has 1,000,000 bytes; the server takes 900 bytes at most (SIZE)",
            ),
        ),
        (Announced(), sized(9, FOREIGN), (Phase.UNADDRESSABLE, NOT_UTF8)),
        (Announced(smtputf8=True), sized(9, FOREIGN), (Phase.UNADDRESSABLE, NOT_UTF8)),
        (Announced(eightbitmime=True), sized(9, FOREIGN), (Phase.UNADDRESSABLE, NOT_UTF8)),
        (Announced(), sized(9, by=FOREIGN), (Phase.UNSENDABLE, NOT_UTF8)),
        (UTF8, sized(9, FOREIGN), None),
        (UTF8, sized(9, by=FOREIGN), None),
    ],
)
def test_what_is_announced_not_to_be_taken_is_settled_unsaid(
    announced: Announced, big: MailObject, expected: tuple[Phase, str] | None
) -> None:
    """Its own outcome at once, no byte of it, and the whole room for the next one."""
    conversation = Conversation(announced)
    room = conversation.room
    conversation.offer(big)
    settled = list(conversation.take_settled())
    if expected is None:
        assert settled == [] and conversation.next_write()
        return
    assert settled == [(big, Outcome(expected[0], None, expected[1]))]
    assert conversation.next_write() is None
    assert conversation.idle and conversation.room == room and conversation.ended is None


@pytest.mark.parametrize(
    ("reverse_path", "forward_path", "said"),
    [
        ("a@example.org", "b@example.com", "MAIL FROM:<a@example.org> SIZE=9"),
        ("a@example.org", FOREIGN, "MAIL FROM:<a@example.org> SIZE=9 BODY=8BITMIME SMTPUTF8"),
        (FOREIGN, "b@example.com", f"MAIL FROM:<{FOREIGN}> SIZE=9 BODY=8BITMIME SMTPUTF8"),
    ],
)
def test_smtputf8_is_said_where_it_is_needed_and_never_otherwise(
    reverse_path: str, forward_path: str, said: str
) -> None:
    """RFC 6531 3.4: paths in UTF-8, and no word more to RCPT."""
    conversation = Conversation(UTF8)
    conversation.offer(sized(9, forward_path, reverse_path))
    assert conversation.next_write() == f"{said}\r\n".encode()
    conversation.receive(OK)
    assert conversation.next_write() == f"RCPT TO:<{forward_path}>\r\n".encode()


def unsendable(session: Session) -> None:
    """Offers one that is refused unsaid, amid whatever goes on."""
    before = session.conversation.room, session.conversation.awaited
    session.conversation.offer(sized(9, FOREIGN))
    assert session.written() == ""
    assert (session.conversation.room, session.conversation.awaited) == before
    assert session.outcomes.pop(9).phase is Phase.UNADDRESSABLE


@pytest.mark.parametrize("start", [plain, pipelining])
def test_unsaid_messages_leave_no_trace_in_the_session(start: Callable[[], Session]) -> None:
    """The same bytes are written at the same points, with or without them."""
    written: list[list[str]] = []
    for interrupted in (False, True):
        session, said = start(), []
        replies = iter((OK, NO_USER, NO_RCPT) if start is pipelining else (OK, NO_USER))
        for number in (1, 2):
            if interrupted:
                unsendable(session)
            said.append(session.offer(number))
            for reply in replies:
                if interrupted and session.conversation.room:
                    unsendable(session)
                said.append(session.answer(reply))
            replies = iter((OK, OK, OK, GO, OK))
        assert session.phases() == {1: "rcpt 550", 2: "dot 250"}
        written.append(said)
    assert written[0] == written[1]


def test_an_unsaid_message_does_not_keep_the_next_one_from_joining() -> None:
    session = pipelining()
    session.offer(1)
    unsendable(session)
    assert session.offer(2) == ""
    assert session.answer(OK, OK, GO) == "C1 . M2 R2 D"


KINDS = {
    "fine": ("to{}@example.com", 100, "dot 250", State.ACCEPTED),
    "unknown": ("unknown{}@example.com", 100, "rcpt 550", State.FAILED),
    "too big": ("to{}@example.com", 1001, "unsendable", State.FAILED),
    "foreign": ("김{}@example.com", 100, "unaddressable", State.FAILED),
    "spam": ("spam{}@example.com", 100, "dot 554", State.FAILED),
}


def server_with(extensions: tuple[str, ...], received: list[Received]) -> Receiver:
    def answer(verb: str, argument: str) -> bytes | None:
        if verb == "RCPT" and "unknown" in argument:
            return NO_USER
        return b"554 5.7.1 spam\r\n" if verb == "." and "spam" in argument else None

    return Receiver(
        Behaviour(extensions=extensions, login_required=False, answer=answer), received.append
    )


@settings(deadline=None)
@given(
    st.sampled_from([[], ["PIPELINING"], ["PIPELINING", "CHUNKING"]]),
    st.lists(st.sampled_from(sorted(KINDS)), max_size=20),
    st.data(),
)
def test_each_gets_its_own_outcome_whatever_goes_unsaid_between(
    wire: list[str], kinds: list[str], data: st.DataObject
) -> None:
    """No reply is credited to another, with an honest server, in any portions and interleaving."""
    extensions = ("SIZE 1000", *wire)
    received: list[Received] = []
    server = server_with(extensions, received)
    conversation = Conversation(
        Announced("PIPELINING" in wire, "CHUNKING" in wire, size=True, max_bytes=1000), 4
    )
    mails = [
        MailObject(
            sized(KINDS[kind][1], KINDS[kind][0].format(n)).envelope,
            sized(KINDS[kind][1]).content,
            str(n),
        )
        for n, kind in enumerate(kinds)
    ]
    waiting, replies, outcomes = list(mails), b"", {}
    while waiting or not conversation.idle:
        if waiting and conversation.room and (conversation.idle or data.draw(st.booleans())):
            conversation.offer(waiting.pop(0))
        elif (said := conversation.next_write()) is not None:
            replies += server.receive(said)
        elif replies:
            some = data.draw(st.integers(1, len(replies)))
            conversation.receive(replies[:some])
            replies = replies[some:]
        else:
            assert waiting and conversation.ended is None, "both sides wait"
        for mail, outcome in conversation.take_settled():
            assert mail.message_id not in outcomes
            outcomes[mail.message_id] = outcome
    assert conversation.ended is None
    for n, kind in enumerate(kinds):
        _, _, told, state = KINDS[kind]
        outcome = outcomes[str(n)]
        code = f" {outcome.reply.code}" if outcome.reply else ""
        assert f"{outcome.phase}{code}" == told
        assert judge(outcome).state is state
    assert [message.forward_paths for message in received] == [
        [f"to{n}@example.com"] for n, kind in enumerate(kinds) if kind == "fine"
    ]


# -- CHUNKING -------------------------------------------------------------------------------------


def test_messages_leave_whole_as_many_as_the_window_holds() -> None:
    """RFC 3030: nothing is waited for. Each but the first begins with RSET."""
    session = chunking(3)
    assert session.conversation.room == 3
    assert session.offer(1, 2, 3) == "M1 R1 B1 X M2 R2 B2 X M3 R3 B3"
    assert session.conversation.room == 0
    session.answer(MAIL_OK, RCPT_OK, OK, RSET_OK, MAIL_OK, RCPT_OK, OK)
    assert session.phases() == {} and session.conversation.room == 0, "not certain yet"
    session.answer(RSET_OK, MAIL_OK, RCPT_OK, OK)
    assert session.phases() == {1: "dot 250", 2: "dot 250", 3: "dot 250"}
    assert session.conversation.room == 3 and session.conversation.joined
    assert session.offer(4) == "M4 R4 B4", "all was taken: there is nothing to reset"


def test_content_is_not_stuffed_in_chunks() -> None:
    conversation = Conversation(Announced(pipelining=True, chunking=True))
    conversation.offer(mail(1, b".a\r\n..\r\n"))
    assert (conversation.next_write() or b"").endswith(b"BDAT 8 LAST\r\n.a\r\n..\r\n")


def test_chunking_without_pipelining_is_not_used() -> None:
    session = Session(Conversation(Announced(chunking=True)))
    assert session.offer(1) == "M1"
    assert session.answer(OK, OK, GO) == "R1 D C1 ."


@pytest.mark.parametrize("missing", range(4))
@pytest.mark.parametrize("server", [POSTFIX, EXIM, GMAIL, SAME])
def test_the_first_message_of_a_session_goes_alone(server: Server, missing: int) -> None:
    """It tells what this server answers to what. If a reply is missing it is in doubt itself."""
    session = chunking(3, warm=None)
    assert session.conversation.room == 1
    assert session.offer(1) == "X M1 R1 B1"
    replies = [RSET_OK, *server]
    session.answer(*replies[:missing], *replies[missing + 1 :])
    assert session.phases() == {} and session.conversation.room == 0
    session.conversation.end("no reply", Ending.ASTRAY)
    session.written()
    assert session.phases() == {1: "dot"}


@pytest.mark.parametrize("server", [POSTFIX, EXIM, EXCHANGE, GMAIL, LMTP])
def test_replies_that_are_known_are_certain_at_once(server: Server) -> None:
    """The window moves on with each message; nothing waits for the last one of it."""
    mail_ok, rcpt_ok, end_ok = server
    session = chunking(3, warm=server)
    session.offer(1, 2, 3)
    session.answer(mail_ok, rcpt_ok, end_ok)
    assert session.phases() == {}, "the first was said without RSET"
    session.answer(RSET_OK, mail_ok, rcpt_ok, end_ok)
    assert session.phases() == {1: "dot 250", 2: "dot 250"}
    assert session.offer(4) == "X M4 R4 B4"


def test_the_replies_of_a_server_that_always_says_the_same_are_certain_once_all_came() -> None:
    session = chunking(3, warm=SAME)
    for _ in range(2):
        session.offer(1, 2, 3)
        session.answer(*[SAME[0]] * 10)
        assert session.phases() == {}
        session.answer(SAME[0])
        assert session.phases() == {1: "dot 250", 2: "dot 250", 3: "dot 250"}
        session.outcomes.clear()


@pytest.mark.parametrize("missing", range(15))
@pytest.mark.parametrize("server", [POSTFIX, SAME], ids=["postfix", "same"])
def test_one_reply_that_is_missing_is_credited_to_nobody(server: Server, missing: int) -> None:
    """Whichever it is. Everybody before it, if this server's replies can be told apart, has it; who
    comes behind is in doubt.
    """
    session = chunking(4, warm=server)
    session.offer(1, 2, 3, 4)
    mail_ok, rcpt_ok, end_ok = server
    replies = [*(mail_ok, rcpt_ok, end_ok, RSET_OK) * 4][:15]
    del replies[missing]
    if server is SAME:
        replies = [SAME[0]] * 14
    session.answer(*replies)
    if session.conversation.ended is None:
        session.conversation.end("no reply", Ending.ASTRAY)
        session.written()
    sure = (missing + 1) // 4 if server is POSTFIX else 0
    assert session.phases() == {n: "dot 250" if n <= sure else "dot" for n in range(1, 5)}
    assert session.conversation.broke_pipeline


@pytest.mark.parametrize(
    "replies",
    [
        (MAIL_OK,),
        (RSET_OK, RCPT_OK),
        (RSET_OK, MAIL_OK, RSET_OK),
        (RSET_OK, MAIL_OK, MAIL_OK),
        (RSET_OK, RSET_OK),
    ],
)
def test_a_reply_that_is_always_anothers_ends_the_session_at_once(
    replies: tuple[bytes, ...],
) -> None:
    """One is missing or too many: who comes behind is in doubt before more is said."""
    session = chunking(3, warm=(MAIL_OK, RCPT_OK, POSTFIX[2]))
    session.offer(1, 2, 3)
    session.answer(MAIL_OK, RCPT_OK, POSTFIX[2])
    session.answer(*replies[:-1])
    assert session.conversation.ended is None
    session.answer(replies[-1])
    assert "was answered as another command is" in (session.conversation.ended or "")
    assert session.phases() == {1: "dot 250", 2: "dot", 3: "dot"}
    assert session.conversation.broke_pipeline


@pytest.mark.parametrize("extra", range(15))
def test_one_reply_too_many_is_credited_to_nobody(extra: int) -> None:
    """A reply said twice: nobody is accepted who was not answered."""
    session = chunking(4, warm=POSTFIX)
    session.offer(1, 2, 3, 4)
    answered = 0
    for place, reply in enumerate([*POSTFIX, RSET_OK] * 4):
        session.answer(reply)
        answered += place % 4 == 2
        if place == extra:
            session.answer(reply)
        accepted = [n for n, phase in session.phases().items() if phase == "dot 250"]
        assert all(n <= answered for n in accepted)
    assert session.conversation.ended
    assert sorted(session.phases()) == [1, 2, 3, 4]


def test_one_reply_too_many_of_those_that_are_all_the_same() -> None:
    """It is noticed if it is there by the time that the last one seems to be."""
    session = chunking(4, warm=SAME)
    session.offer(1, 2, 3, 4)
    session.answer(SAME[0] * 14, SAME[0] * 2)
    assert session.phases() == dict.fromkeys((1, 2, 3, 4), "dot")


@pytest.mark.parametrize("server", [POSTFIX, LMTP])
def test_a_reply_to_rcpt_is_none_to_the_end(server: Server) -> None:
    """Also where its words were not heard before: an enhanced code of X.1 is about an address."""
    session = chunking(3, warm=server)
    session.offer(1)
    session.answer(server[0], server[1], b"250 2.1.5 that one exists\r\n")
    assert session.phases() == {1: "dot" if server is POSTFIX else "dot 250"}


def test_a_refused_recipient_in_the_window_costs_nobody_else() -> None:
    """What follows was said already; more is said once one of those is accepted."""
    session = chunking(3, warm=POSTFIX)
    session.offer(1, 2, 3)
    mail_ok, rcpt_ok, end_ok = POSTFIX
    session.answer(mail_ok, NO_USER, NO_RCPT)
    assert session.phases() == {} and session.conversation.room == 0, "not certain yet"
    assert session.answer(RSET_OK, mail_ok, rcpt_ok) == ""
    assert session.answer(end_ok) == ""
    assert session.phases() == {1: "rcpt 550", 2: "dot 250"}
    assert session.offer(4) == "X M4 R4 B4"
    session.answer(RSET_OK, mail_ok, NO_USER, NO_RCPT, RSET_OK, mail_ok, rcpt_ok, end_ok)
    assert session.phases() == {1: "rcpt 550", 2: "dot 250", 3: "rcpt 550", 4: "dot 250"}


def test_a_row_of_refusals_costs_no_content() -> None:
    session = chunking(3, warm=POSTFIX)
    session.offer(1)
    session.answer(MAIL_OK, NO_USER, NO_RCPT)
    for number in (2, 3, 4):
        assert session.offer(number) == f"X M{number} R{number}"
        assert session.answer(RSET_OK, MAIL_OK, NO_USER) == ""
    assert session.phases() == dict.fromkeys((1, 2, 3, 4), "rcpt 550")


def test_content_that_is_refused_may_leave_its_envelope_behind() -> None:
    """RFC 3030 2 does not say that it is gone."""
    session = chunking(3, warm=POSTFIX)
    session.offer(1)
    session.answer(MAIL_OK, RCPT_OK, b"451 4.3.0 later\r\n")
    assert session.offer(2) == "X M2 R2"
    assert session.phases() == {1: "dot 451"}


def test_421_in_the_window_is_about_one_and_the_rest_was_not_executed() -> None:
    session = chunking(4, warm=POSTFIX)
    session.offer(1, 2, 3, 4)
    session.answer(MAIL_OK, RCPT_OK, POSTFIX[2], RSET_OK, MAIL_OK, b"421 4.3.2 bye\r\n")
    assert session.phases() == {1: "dot 250", 2: "rcpt 421", 3: "queued", 4: "queued"}
    assert not session.conversation.broke_pipeline


def test_a_lost_connection_leaves_the_window_in_doubt() -> None:
    session = chunking(3, warm=POSTFIX)
    session.offer(1, 2, 3)
    session.answer(MAIL_OK, RCPT_OK, POSTFIX[2], RSET_OK)
    session.conversation.end("gone", Ending.CUT_OFF)
    session.written()
    assert session.phases() == {1: "dot 250", 2: "dot", 3: "dot"}


@pytest.mark.parametrize(
    ("ending", "phases"),
    [
        (Ending.CUT_OFF, {1: "dot 250", 2: "mail", 3: "queued"}),
        (Ending.ASTRAY, {1: "dot 250", 2: "dot", 3: "dot"}),
    ],
)
def test_a_server_that_refuses_a_reset_and_closes_has_done_no_more(
    ending: Ending, phases: dict[int, str]
) -> None:
    """Exim, after so many RSETs. Only if it closes: otherwise it may have gone on."""
    session = chunking(3, warm=EXIM)
    session.offer(1, 2, 3)
    session.answer(EXIM[0], EXIM[1], EXIM[2], b"554 Too many nonmail commands\r\n")
    assert session.conversation.room == 0
    session.conversation.end("the server closed the connection", ending)
    session.written()
    assert session.phases() == phases


def test_a_server_that_refuses_a_reset_and_goes_on_is_heard_to_the_end() -> None:
    session = chunking(3, warm=EXIM)
    session.offer(1, 2)
    session.answer(EXIM[0], EXIM[1], EXIM[2], b"500 what?\r\n", *EXIM)
    assert session.phases() == {1: "dot 250", 2: "dot 250"}
    assert session.conversation.ended == "RSET was answered 500 what?"


@pytest.mark.parametrize(
    ("code", "phase"), [(500, "data 500"), (502, "data 502"), (554, "dot 554")]
)
def test_a_server_that_does_not_know_bdat(code: int, phase: str) -> None:
    """Nothing was taken: nobody is in doubt, and this server gets no more of it."""
    session = chunking(3, warm=None)
    session.offer(1)
    session.answer(RSET_OK, MAIL_OK, RCPT_OK, b"%d no\r\n" % code)
    assert session.phases() == {1: phase}
    assert session.conversation.knows_no_bdat is (code != 554)
    assert (session.conversation.ended is None) is (code == 554)


def test_a_server_that_knows_bdat_and_forgets_it_is_not_believed() -> None:
    session = chunking(3)
    session.offer(1)
    session.answer(MAIL_OK, RCPT_OK, b"500 5.5.1 what?\r\n")
    assert session.phases() == {1: "dot 500"} and not session.conversation.knows_no_bdat
    assert session.conversation.ended


@pytest.mark.parametrize(
    ("refusal", "behind", "phases"),
    [
        (b"554 Too many nonmail commands\r\n", (), {1: "dot 250", 2: "mail", 3: "queued"}),
        (b"451 4.3.0 not now\r\n", (), {1: "dot 250", 2: "dot", 3: "dot"}),
        (b"554 no\r\n", (EXIM[0],), {1: "dot 250", 2: "dot", 3: "dot"}),
    ],
)
def test_only_who_refuses_a_reset_for_good_and_falls_silent_has_done_no_more(
    refusal: bytes, behind: tuple[bytes, ...], phases: dict[int, str]
) -> None:
    """A server that is heard to go on, or may, may have taken the rest."""
    session = chunking(3, warm=EXIM)
    session.offer(1, 2, 3)
    session.answer(*EXIM, refusal, *behind)
    session.conversation.end("gone", Ending.CUT_OFF)
    session.written()
    assert session.phases() == phases


@pytest.mark.parametrize("server", [POSTFIX, SAME])
def test_a_421_after_all_replies_leaves_nobody_in_doubt(server: Server) -> None:
    session = chunking(3, warm=server)
    session.offer(1, 2)
    rset_ok = server[0] if server is SAME else RSET_OK
    session.answer(b"".join((*server, rset_ok, *server, b"421 4.4.2 idle\r\n")))
    assert session.phases() == {1: "dot 250", 2: "dot 250"}


@pytest.mark.parametrize("size", [MAX_JOINED_BYTES + 1000, 200_000])
@pytest.mark.parametrize("last", [b"", b"the end\r\n"])
def test_the_last_octets_of_long_content_leave_in_doubt_and_not_before(
    size: int, last: bytes
) -> None:
    session = chunking(3)
    pieces = (b"x" * 998 + b"\r\n") * (size // 1000), last
    session.conversation.offer(mail(1)._replace(content=pieces))
    session.conversation.next_write()
    session.conversation.receive(MAIL_OK + RCPT_OK)
    left = len(b"BDAT LAST \r\n") + len(str(sum(map(len, pieces)))) + sum(map(len, pieces))
    transaction = session.conversation._transactions[0]
    while (data := session.conversation.next_write()) is not None:
        left -= len(data)
        assert data and (transaction.phase is Phase.DOT) is (left == 0)
    assert left == 0


def test_who_waits_behind_a_write_had_no_part_in_the_end() -> None:
    """Their content was ready to be handed out, and nothing of it was."""
    conversation = chunking(4).conversation
    for number in (1, 2, 3):
        conversation.offer(mail(number, (b"x" * 998 + b"\r\n") * 60))
    assert conversation.next_write() is not None
    conversation.end("gone", Ending.CUT_OFF)
    phases = [outcome.phase for _, outcome in conversation.take_settled()]
    assert phases == [Phase.DOT, Phase.QUEUED, Phase.QUEUED]


def test_content_that_is_taken_for_nobody_is_in_doubt() -> None:
    session = chunking(3)
    session.offer(1)
    session.answer(MAIL_OK, NO_USER, OK)
    assert session.phases() == {1: "dot"} and session.conversation.ended


def test_long_content_waits_for_its_recipient_and_leaves_in_pieces() -> None:
    """Its end is handed out last; the next one follows behind it."""
    conversation = chunking(3).conversation
    big = b"x" * 998 + b"\r\n"
    conversation.offer(mail(1, big * 200))
    conversation.offer(mail(2))
    assert (conversation.next_write() or b"").endswith(b"RCPT TO:<to1@example.com>\r\n")
    assert conversation.next_write() is None
    conversation.receive(MAIL_OK + RCPT_OK)
    pieces = []
    while (piece := conversation.next_write()) is not None:
        pieces.append(piece)
        assert len(piece) <= MAX_JOINED_BYTES
    said = b"".join(pieces)
    head, _, rest = said.partition(b"\r\n")
    assert head == b"BDAT 200000 LAST" and rest[:200_000] == big * 200
    assert rest[200_000:].startswith(b"RSET\r\nMAIL FROM:<sender2@example.org>\r\n")


def half_a_chunk() -> Session:
    session = chunking(3)
    session.conversation.offer(mail(1, (b"x" * 998 + b"\r\n") * 200))
    session.conversation.next_write()
    session.conversation.receive(MAIL_OK + RCPT_OK)
    for _ in range(3):
        session.conversation.next_write()
    return session


def test_a_refusal_in_the_midst_of_a_chunk_is_that_messages() -> None:
    """Nothing else was under way that it could be about."""
    session = half_a_chunk()
    session.conversation.receive(b"552 5.3.4 too big\r\n")
    assert session.conversation.ended
    session.written()
    assert session.phases() == {1: "content 552"}


def test_lost_in_the_midst_of_a_chunk_is_before_its_end() -> None:
    session = half_a_chunk()
    session.conversation.end("gone", Ending.CUT_OFF)
    [(_, outcome)] = session.conversation.take_settled()
    assert outcome == Outcome(Phase.CONTENT, None, "gone")


@pytest.mark.parametrize(
    ("content", "sent"),
    [
        (b"a\r\n", b"a\r\n"),
        (b".a\r\n", b"..a\r\n"),
        (b".\r\n", b"..\r\n"),
        (b"a\r\n.\r\n..b\r\nc.\r\n", b"a\r\n..\r\n...b\r\nc.\r\n"),
    ],
)
def test_dots_are_stuffed(content: bytes, sent: bytes) -> None:
    assert stuffed(content) == sent


def test_reply_text_is_kept_whole() -> None:
    assert make_reply(550, b"5.7.1 one\ntwo").text == "5.7.1 one two"
