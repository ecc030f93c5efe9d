"""Sessions with a real server over real TLS: connecting, logging in, every phase of a message."""

import asyncio
import socket
import ssl
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from types import MappingProxyType
from typing import Any

import pytest

from bulkmail.errors import BulkmailError, LoginError, ServerError, ServerUnreachableError
from bulkmail.model import Envelope, MailObject, Outcome, Phase, Security, Submission
from bulkmail.sandbox.receiving import Behaviour, Hangup
from bulkmail.sandbox.server import HOST, make_certificate
from bulkmail.smtp.announced import Announced
from bulkmail.transport import SubmissionServer, Timeouts, dialling
from bulkmail.transport.session import Session
from bulkmail.transport.submission import announced

from .conftest import StartServer

WIRES = {"plain": (), "pipelining": ("PIPELINING",), "chunking": ("PIPELINING", "CHUNKING")}
"""What the server announces for each."""

IMPATIENT = Timeouts(connect=0.3, quit=0.2, replies=MappingProxyType(dict.fromkeys(Phase, 0.2)))


def mail(number: int = 1, content: bytes = b"Subject: Hi\r\n\r\n.Hello\r\n") -> MailObject:
    envelope = Envelope("news@example.org", f"to{number}@example.com")
    return MailObject(envelope, (content,), f"<{number}@example.org>")


async def submit(session: Session, *mails: MailObject) -> list[Outcome]:
    """Submits one after another as there is room; the outcomes of those that were, in order."""
    outcomes: list[asyncio.Future[Outcome]] = []
    for one in mails:
        if not await session.room():
            break
        future = asyncio.get_running_loop().create_future()
        outcomes.append(future)
        session.submit([(one, future.set_result)])
    return await asyncio.gather(*outcomes)


def phases(outcomes: list[Outcome]) -> list[str]:
    return [f"{o.phase} {o.reply.code}" if o.reply else str(o.phase) for o in outcomes]


async def test_a_server_that_goes_away_amid_tls_may_be_back(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """As the first bytes of TLS are written: that is no fault of TLS, though SSL says something."""
    with socket.create_server((HOST, 0)) as listening:
        transport = asyncio.selector_events._SelectorSocketTransport  # type: ignore[attr-defined]
        write = transport.write

        def write_after_the_end(self: object, data: bytes) -> None:
            self._sock.shutdown(socket.SHUT_RDWR)  # type: ignore[attr-defined]
            write(self, data)

        monkeypatch.setattr(transport, "write", write_after_the_end)
        submission = Submission(HOST, listening.getsockname()[1], Security.TLS)
        with pytest.raises(ServerUnreachableError):
            await SubmissionServer(submission).connect()


# -- connecting ----------------------------------------------------------------------------------


@pytest.mark.parametrize("starttls", [False, True])
@pytest.mark.parametrize(
    "extensions", [(), ("PIPELINING", "SIZE 1000000"), ("PIPELINING", "CHUNKING")]
)
async def test_messages_arrive_as_they_were_composed(
    serve: StartServer, starttls: bool, extensions: tuple[str, ...]
) -> None:
    server = await serve(starttls=starttls, extensions=extensions)
    session = await SubmissionServer(server.submission).connect()
    outcomes = await submit(session, *(mail(number) for number in range(10)))
    await session.quit()
    assert phases(outcomes) == ["dot 250"] * 10
    assert server.paths == [f"to{number}@example.com" for number in range(10)]
    assert {message.content for message in server.received} == {mail().content[0]}
    assert {message.reverse_path for message in server.received} == {"news@example.org"}


@pytest.mark.parametrize("wire", WIRES)
async def test_large_content_arrives_whole(serve: StartServer, wire: str) -> None:
    server = await serve(extensions=WIRES[wire])
    content = b"Subject: Large\r\n\r\n" + b"0123456789" * 7 + b"\r\n" + b".dots\r\n" * 1_000_000
    session = await SubmissionServer(server.submission).connect()
    assert phases(await submit(session, mail(1, content), mail(2))) == ["dot 250"] * 2
    await session.quit()
    assert [len(message.content) for message in server.received] == [len(content), 23]
    assert server.received[0].content == content


async def test_a_wrong_password_is_tried_once_and_told(serve: StartServer) -> None:
    tried = []
    server = await serve(
        answer=lambda verb, argument: tried.append(argument) if verb == "AUTH" else None
    )
    wrong = replace(server.submission, password="wrong")
    with pytest.raises(LoginError, match=r"refused the login of sender:\n  535 5\.7\.8"):
        await SubmissionServer(wrong).connect()
    assert len(tried) == 1


@pytest.mark.parametrize(
    ("reply", "error", "told"),
    [
        (b"535 5.7.8 no\r\n", LoginError, "Is it the password of this server"),
        (
            b"535-5.7.8 Username and Password not accepted. For more information, go to\r\n"
            b"535 5.7.8  https://support.google.com/mail/?p=BadCredentials\r\n",
            LoginError,
            "go to https://support.google.com/mail/.p=BadCredentials\nGmail does not take your usual",
        ),
        (b"534 5.7.9 Application-specific password required\r\n", LoginError, "app password"),
        (b"535 5.7.139 SmtpClientAuthentication is disabled\r\n", LoginError, "SMTP AUTH disabled"),
        (b"454 4.7.0 Temporary authentication failure\r\n", ServerUnreachableError, "454"),
        (b"421 4.7.0 Too many login attempts\r\n", ServerUnreachableError, "421"),
    ],
)
async def test_refused_logins(
    serve: StartServer, reply: bytes, error: type[BulkmailError], told: str
) -> None:
    server = await serve(answer=lambda verb, argument: reply if verb == "AUTH" else None)
    with pytest.raises(error, match=told):
        await SubmissionServer(server.submission).connect()


async def test_a_certificate_of_an_unknown_authority(serve: StartServer, tmp_path: Path) -> None:
    """Nothing is said to such a server, least of all a password."""
    said = []
    server = await serve(answer=lambda verb, argument: said.append(verb))
    _, other_ca = make_certificate(tmp_path)
    for submission in (
        replace(server.submission, ca_file=None),
        replace(server.submission, ca_file=str(other_ca)),
    ):
        with pytest.raises(ServerError, match="cannot be trusted") as caught:
            await SubmissionServer(submission).connect()
        assert not isinstance(caught.value, ServerUnreachableError)
    assert said == []


async def test_a_certificate_for_another_name(
    serve: StartServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    server = await serve()
    resolved = dialling.resolved
    monkeypatch.setattr(dialling, "resolved", lambda host, port: resolved(HOST, port))
    with pytest.raises(ServerError, match="Hostname mismatch"):
        await SubmissionServer(replace(server.submission, host="mail.example.org")).connect()


async def test_starttls_with_an_untrusted_certificate(serve: StartServer) -> None:
    server = await serve(starttls=True)
    with pytest.raises(ServerError, match="cannot be trusted"):
        await SubmissionServer(replace(server.submission, ca_file=None)).connect()


async def test_starttls_that_is_not_offered_is_never_a_login_in_clear(serve: StartServer) -> None:
    said = []

    def answer(verb: str, argument: str) -> bytes | None:
        said.append(verb)
        return b"250-sandbox\r\n250 AUTH PLAIN\r\n" if verb == "EHLO" else None

    server = await serve(starttls=True, answer=answer)
    with pytest.raises(ServerError, match="does not offer STARTTLS"):
        await SubmissionServer(server.submission).connect()
    assert "AUTH" not in said and "MAIL" not in said


async def test_plain_text_on_the_port_for_tls(serve: StartServer) -> None:
    server = await serve(starttls=True)
    with pytest.raises(ServerError, match="no TLS with"):
        await SubmissionServer(replace(server.submission, security=Security.TLS)).connect()


@pytest.mark.filterwarnings("ignore:ssl.TLSVersion:DeprecationWarning")
async def test_only_an_old_tls(serve: StartServer) -> None:
    server = await serve()
    server.server.tls.maximum_version, before = (
        ssl.TLSVersion.TLSv1_1,
        server.server.tls.maximum_version,
    )
    try:
        with pytest.raises(ServerError):
            await SubmissionServer(server.submission).connect()
    finally:
        server.server.tls.maximum_version = before


async def test_nobody_listens() -> None:
    with socket.socket() as unused:
        unused.bind((HOST, 0))
        port = unused.getsockname()[1]
    with pytest.raises(ServerUnreachableError, match=f"127.0.0.1:{port} cannot be reached"):
        await SubmissionServer(Submission(HOST, port, Security.TLS)).connect()


async def test_a_name_that_does_not_exist(
    serve: StartServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The resolver's answer is the one thing that is made up here: there is no DNS in the tests."""

    async def unknown(host: str, port: int) -> None:
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    monkeypatch.setattr(dialling, "resolved", unknown)
    server = await serve()
    with pytest.raises(ServerError, match=r"the name smtp\.exmaple is not known") as caught:
        await SubmissionServer(replace(server.submission, host="smtp.exmaple")).connect()
    assert not isinstance(caught.value, ServerUnreachableError)


@pytest.mark.parametrize(
    ("greeting", "error"),
    [
        (b"554 5.7.1 go away\r\n", ServerError),
        (b"421 4.7.0 too many connections\r\n", ServerUnreachableError),
        (b"HTTP/1.1 400 Bad Request\r\n", ServerUnreachableError),
    ],
)
async def test_greetings(serve: StartServer, greeting: bytes, error: type[BulkmailError]) -> None:
    server = await serve(answer=lambda verb, argument: greeting if verb == "CONNECT" else None)
    with pytest.raises(error) as caught:
        await SubmissionServer(server.submission).connect()
    assert type(caught.value) is error


@pytest.mark.parametrize("silent", ["CONNECT", "EHLO", "AUTH"])
async def test_a_silent_server_is_waited_for_within_bounds(serve: StartServer, silent: str) -> None:
    server = await serve(answer=lambda verb, argument: b"" if verb == silent else None)
    with pytest.raises(ServerUnreachableError, match="did not answer in time"):
        await SubmissionServer(server.submission, IMPATIENT).connect()


async def test_no_login_that_is_known(serve: StartServer) -> None:
    server = await serve(
        answer=lambda v, a: b"250-sandbox\r\n250 AUTH GSSAPI\r\n" if v == "EHLO" else None
    )
    with pytest.raises(
        ServerError, match=r"offers no login that bulkmail knows \(it offers gssapi"
    ):
        await SubmissionServer(server.submission).connect()


# -- messages ------------------------------------------------------------------------------------


def at(verb: str, reply: bytes | Hangup | None, only: int | None = None) -> Behaviour:
    """A server that answers `verb` so, always or for recipient number `only`; DATA is BDAT, too."""
    current = {"number": 0}

    def answer(said: str, argument: str) -> bytes | None:
        if said == "MAIL":
            current["number"] += 1
        if said.replace("BDAT", "DATA") != verb or only not in (None, current["number"]):
            return None
        if isinstance(reply, Hangup):
            raise reply
        return reply

    return Behaviour(login=("sender", "secret"), answer=answer)


@pytest.mark.parametrize("wire", WIRES)
@pytest.mark.parametrize(
    ("verb", "reply", "expected"),
    [
        ("MAIL", b"451 4.3.0 busy\r\n", "mail 451"),
        ("RCPT", b"550 5.1.1 no such user\r\n", "rcpt 550"),
        ("DATA", b"451 4.3.0 later\r\n", "data 451"),
        (".", b"554 5.7.1 spam\r\n", "dot 554"),
    ],
)
async def test_a_refusal_is_about_its_own_message(
    serve: StartServer, wire: str, verb: str, reply: bytes, expected: str
) -> None:
    behaviour = at(verb, reply, only=2)
    behaviour.extensions = WIRES[wire]
    if wire == "chunking":
        expected = expected.replace("data", "dot")  # BDAT has one reply for both
    server = await serve(behaviour)
    session = await SubmissionServer(server.submission).connect()
    outcomes = await submit(session, *(mail(number) for number in range(1, 6)))
    await session.quit()
    assert phases(outcomes) == ["dot 250", expected, "dot 250", "dot 250", "dot 250"]
    assert server.paths == [f"to{number}@example.com" for number in (1, 3, 4, 5)]


@pytest.mark.parametrize("wire", WIRES)
@pytest.mark.parametrize(
    ("verb", "expected"), [("MAIL", "mail"), ("RCPT", "rcpt"), ("DATA", "data"), (".", "dot")]
)
async def test_a_broken_connection_is_judged_by_phase(
    serve: StartServer, wire: str, verb: str, expected: str
) -> None:
    behaviour = at(verb, Hangup(), only=1)
    behaviour.extensions = WIRES[wire]
    server = await serve(behaviour)
    session = await SubmissionServer(server.submission).connect()
    outcomes = await submit(session, mail(1), mail(2))
    assert session.ended
    assert not await session.room()
    if wire == "chunking":
        assert phases(outcomes) == ["dot"], "it was out"
    else:
        assert phases(outcomes)[0] == expected
        assert phases(outcomes)[1:] in ([], ["queued"], ["mail"])
    assert server.paths == []


@pytest.mark.parametrize("wire", ["plain", "chunking"])
@pytest.mark.parametrize(
    ("verb", "expected"), [("MAIL", "mail"), ("RCPT", "rcpt"), ("DATA", "data"), (".", "dot")]
)
async def test_a_silent_server_ends_the_session_in_time(
    serve: StartServer, wire: str, verb: str, expected: str
) -> None:
    behaviour = at(verb, b"")
    behaviour.extensions = WIRES[wire]
    if wire == "chunking":
        expected = "dot"  # all is out before any of it is answered
    server = await serve(behaviour)
    session = await SubmissionServer(server.submission, IMPATIENT).connect()
    assert phases(await submit(session, mail())) == [expected]
    assert "no reply within 0.2 s" in (session.ended or "")


async def test_drops_of_a_reply_do_not_buy_time(serve: StartServer) -> None:
    """One timeout a reply, however slowly its bytes trickle in."""
    server = await serve(at(".", b""))
    session = await SubmissionServer(server.submission, IMPATIENT).connect()
    loop = asyncio.get_running_loop()
    started = loop.time()
    submitting = asyncio.ensure_future(submit(session, mail()))

    def trickle() -> None:
        for connection in server.server.connections:
            assert connection._transport is not None
            connection._transport.write(b"2")
        if not submitting.done():
            loop.call_later(0.05, trickle)

    loop.call_later(0.05, trickle)
    outcomes = await submitting
    assert phases(outcomes) == ["dot"]
    assert loop.time() - started < 1


async def test_quit_that_hangs_is_bounded(serve: StartServer) -> None:
    server = await serve(at("QUIT", b""))
    session = await SubmissionServer(server.submission, Timeouts(quit=0.1)).connect()
    assert phases(await submit(session, mail())) == ["dot 250"]
    await session.quit()
    assert session.ended == "no answer to QUIT"


async def test_a_server_that_hangs_up_while_idle(serve: StartServer) -> None:
    server = await serve()
    session = await SubmissionServer(server.submission).connect()
    for connection in tuple(server.server.connections):
        connection.abort()
    while session.ended is None:
        await asyncio.sleep(0)
    assert not await session.room()


async def test_abort_judges_what_is_under_way(serve: StartServer) -> None:
    server = await serve(at(".", b""))
    session = await SubmissionServer(server.submission).connect()
    reached = asyncio.Event()
    answer = server.server.behaviour.answer

    def watch(verb: str, argument: str) -> bytes | None:
        if verb == ".":
            reached.set()
        return answer(verb, argument)

    server.server.behaviour.answer = watch
    submitting = asyncio.ensure_future(submit(session, mail()))
    await reached.wait()
    session.abort("told to")
    [outcome] = await submitting
    assert (outcome.phase, outcome.reply, outcome.cause) == (Phase.DOT, None, "told to")


async def test_a_window_is_out_at_once_and_waited_for_as_one(serve: StartServer) -> None:
    """As many as the campaign says; whoever was answered when it is broken off has it."""
    said = []

    def silent_after_two(verb: str, argument: str) -> bytes | None:
        said.append(verb)
        return b"" if said.count(".") > 2 else None

    server = await serve(answer=silent_after_two)
    submission = replace(server.submission, window=4)
    session = await SubmissionServer(submission, IMPATIENT).connect()
    outcomes = await submit(session, mail(0))
    assert session.free == 4
    outcomes += await submit(session, *(mail(number) for number in range(1, 5)))
    assert phases(outcomes) == ["dot 250", "dot 250", "dot", "dot", "dot"]
    assert "no reply within 0.2 s" in (session.ended or "")


async def test_bdat_is_not_said_where_pipelining_is_off(serve: StartServer) -> None:
    said = []
    server = await serve(answer=lambda verb, argument: said.append(verb))
    session = await SubmissionServer(replace(server.submission, pipelining=False)).connect()
    assert phases(await submit(session, mail(1), mail(2))) == ["dot 250"] * 2
    await session.quit()
    assert said.count("DATA") == 2 and "BDAT" not in said


# -- what the server announces -------------------------------------------------------------------


@pytest.mark.parametrize(
    ("extensions", "expected"),
    [
        ({}, Announced()),
        ({"pipelining": ""}, Announced(pipelining=True)),
        ({"pipelining": "", "chunking": ""}, Announced(pipelining=True, chunking=True)),
        ({"chunking": ""}, Announced(chunking=True)),
        ({"size": "26214400"}, Announced(size=True, max_bytes=26214400)),
        ({"size": " 1000  more"}, Announced(size=True, max_bytes=1000)),
        ({"size": "0"}, Announced(size=True)),
        ({"size": ""}, Announced(size=True)),
        ({"size": "abc"}, Announced(size=True)),
        ({"size": "-1"}, Announced(size=True)),
        ({"size": "10MB"}, Announced(size=True)),
        ({"size": "1\u0661"}, Announced(size=True)),
        ({"size": "9" * 5000}, Announced(size=True)),
        ({"smtputf8": "", "8bitmime": ""}, Announced(smtputf8=True, eightbitmime=True)),
        ({"smtputf8-not": "", "xsize": "1"}, Announced()),
    ],
)
def test_announcements_are_read_whatever_servers_write(
    extensions: dict[str, str], expected: Announced
) -> None:
    assert announced(extensions) == expected


@pytest.mark.parametrize("wire", WIRES)
async def test_what_the_server_announced_not_to_take_is_not_said_to_it(
    serve: StartServer, wire: str
) -> None:
    """Each gets its outcome once, the others arrive, in a server's own spelling."""
    said = []

    def answer(verb: str, argument: str) -> bytes | None:
        said.append(argument)
        return None

    extensions = ("size 1000", "8bitmime", *map(str.lower, WIRES[wire]))
    server = await serve(extensions=extensions, answer=answer)
    session = await SubmissionServer(server.submission).connect()
    big = mail(2, b"x" * 70 + b"\r\n" + mail().content[0] * 50)
    foreign = mail(3)._replace(envelope=Envelope("news@example.org", "김@example.com"))
    outcomes = await submit(session, mail(1), big, foreign, big, mail(4), mail(5))
    await session.quit()
    assert phases(outcomes) == [
        "dot 250",
        "unsendable",
        "unaddressable",
        "unsendable",
        "dot 250",
        "dot 250",
    ]
    assert outcomes[1].cause == (
        "the message has 1,222 bytes; the server takes 1,000 bytes at most (SIZE)"
    )
    assert server.paths == ["to1@example.com", "to4@example.com", "to5@example.com"]
    assert not any("to2@" in argument or "김" in argument for argument in said)


@pytest.mark.parametrize("wire", WIRES)
async def test_addresses_outside_ascii_go_where_the_server_takes_them(
    serve: StartServer, wire: str
) -> None:
    """SMTPUTF8 is said for the one message that needs it."""
    extensions = ("SIZE", "8BITMIME", "SMTPUTF8", *WIRES[wire])
    server = await serve(extensions=extensions)
    session = await SubmissionServer(server.submission).connect()
    envelope = Envelope("news@example.org", "김@xn--vv4b11d.example")
    foreign = mail(2, "To: 김@xn--vv4b11d.example\r\n\r\nHi\r\n".encode())
    foreign = foreign._replace(envelope=envelope)
    outcomes = await submit(session, mail(1), foreign, mail(3))
    await session.quit()
    assert phases(outcomes) == ["dot 250"] * 3
    assert server.paths == ["to1@example.com", "김@xn--vv4b11d.example", "to3@example.com"]
    assert [sorted(message.parameters) for message in server.received] == [
        ["SIZE"],
        ["BODY", "SIZE", "SMTPUTF8"],
        ["SIZE"],
    ]


@pytest.mark.parametrize(
    ("before", "after", "expected"),
    [
        ("SIZE 10", "SIZE 1000", "dot 250"),
        ("SIZE 1000", "SIZE 10", "unsendable"),
    ],
)
async def test_only_what_is_announced_over_tls_counts(
    serve: StartServer, before: str, after: str, expected: str
) -> None:
    """RFC 3207 4.2: what was heard before STARTTLS is forgotten."""
    greeted = []

    def answer(verb: str, argument: str) -> bytes | None:
        if verb != "EHLO":
            return None
        greeted.append(argument)
        if len(greeted) == 1:
            return f"250-sandbox\r\n250-{before}\r\n250 STARTTLS\r\n".encode()
        return None

    server = await serve(starttls=True, extensions=(after,), answer=answer)
    session = await SubmissionServer(server.submission).connect()
    assert phases(await submit(session, mail())) == [expected]
    await session.quit()
    assert len(greeted) == 2


async def test_who_fails_to_hear_an_outcome_does_not_disturb_the_others(
    serve: StartServer,
) -> None:
    server = await serve(extensions=("PIPELINING", "CHUNKING"))
    session = await SubmissionServer(server.submission).connect()
    heard: list[int] = []

    def fails(outcome: Outcome) -> None:
        raise RuntimeError("somebody's own")

    await submit(session, mail(0))
    told: list[dict[str, Any]] = []
    asyncio.get_running_loop().set_exception_handler(lambda loop, context: told.append(context))
    session.submit([(mail(1), fails), (mail(2), lambda outcome: heard.append(2))])
    await session.idle()
    session.abort("enough")
    assert heard == [2]
    assert len(server.paths) == 3


def test_a_resolver_that_hangs_does_not_keep_a_program_from_ending(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Nobody waits for its thread, neither the loop's end nor Python's."""
    program = """if True:
        import asyncio, socket, threading
        from bulkmail.transport.dialling import Dialler
        socket.getaddrinfo = lambda *a, **k: threading.Event().wait()
        async def main():
            await asyncio.wait_for(Dialler("mail.example.org", 25).dial(60), 0.2)
        try:
            asyncio.run(main())
        except TimeoutError:
            print("given up")
    """
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, timeout=20, check=True
    )
    assert done.stdout == "given up\n"


async def test_a_name_that_nobody_can_ask_for_is_not_known() -> None:
    """Labels have 63 characters at most (RFC 1035 2.3.4); the resolver is not even asked."""
    submission = Submission(f"{'a' * 70}.example", 465, Security.TLS)
    with pytest.raises(ServerError, match="is not known; is it misspelt"):
        await SubmissionServer(submission).connect()
