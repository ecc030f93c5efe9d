"""The server of the sandbox and the tests is a strict peer: what it keeps was legal to send."""

import pytest

from bulkmail.sandbox.receiving import Behaviour, Received, Receiver

ALL = ("PIPELINING", "SIZE 2000", "8BITMIME", "SMTPUTF8")


def receiver(extensions: tuple[str, ...] = ALL) -> tuple[Receiver, list[Received]]:
    kept: list[Received] = []
    return Receiver(Behaviour(extensions=extensions, login_required=False), kept.append), kept


def said(server: Receiver, *lines: str) -> str:
    """The last reply to these lines."""
    replies = [server.receive(f"{line}\r\n".encode()) for line in lines]
    return replies[-1].decode()


def test_extensions_are_announced_by_default() -> None:
    server = Receiver(Behaviour(), lambda received: None)
    announced = said(server, "EHLO client.example")
    assert all(
        f"250-{keyword}\r\n" in announced for keyword in ("SIZE 26214400", "8BITMIME", "SMTPUTF8")
    )


@pytest.mark.parametrize(
    ("extensions", "command", "reply"),
    [
        (ALL, "MAIL FROM:<a@example.org>", "250"),
        (ALL, "MAIL FROM:<>", "250"),
        (ALL, "MAIL FROM:<a@example.org> SIZE=2000", "250"),
        (ALL, "MAIL FROM:<a@example.org> SIZE=2001", "552 5.3.4"),
        (("SIZE",), "MAIL FROM:<a@example.org> SIZE=999999999", "250"),
        (("SIZE 0",), "MAIL FROM:<a@example.org> SIZE=999999999", "250"),
        (ALL, "MAIL FROM:<a@example.org> SIZE=9 BODY=8BITMIME SMTPUTF8", "250"),
        (ALL, "mail from:<a@example.org> size=9 body=8bitmime smtputf8", "250"),
        (ALL, "MAIL FROM:<a@example.org> BODY=7BIT", "250"),
        (ALL, "MAIL FROM:<김@example.org> SMTPUTF8", "250"),
        (ALL, "MAIL FROM:<김@example.org>", "553 5.6.7"),
        (ALL, "MAIL FROM:<a@example.org> SIZE", "555"),
        (ALL, "MAIL FROM:<a@example.org> SIZE=x", "555"),
        (ALL, "MAIL FROM:<a@example.org> SIZE=1 SIZE=1", "555"),
        (ALL, "MAIL FROM:<a@example.org> BODY=BINARYMIME", "555"),
        (ALL, "MAIL FROM:<a@example.org> RET=HDRS", "555"),
        ((), "MAIL FROM:<a@example.org> SIZE=9", "555"),
        ((), "MAIL FROM:<a@example.org> BODY=8BITMIME", "555"),
        ((), "MAIL FROM:<김@example.org> SMTPUTF8", "555"),
        (ALL, "MAIL FROM:<a b@example.org>", "501"),
        (ALL, "MAIL FROM:<a@example.org> <b@example.org>", "555"),
        (ALL, "MAIL FROM:a@example.org", "501"),
    ],
)
def test_mail(extensions: tuple[str, ...], command: str, reply: str) -> None:
    server, _ = receiver(extensions)
    assert said(server, command).startswith(reply)


@pytest.mark.parametrize(
    ("parameters", "command", "reply"),
    [
        ("", "RCPT TO:<a@example.com>", "250"),
        ("", "RCPT TO:<김@example.com>", "553 5.6.7"),
        (" SMTPUTF8", "RCPT TO:<김@example.com>", "250"),
        ("", "RCPT TO:<a@example.com> NOTIFY=NEVER", "555"),
        (" SMTPUTF8", "RCPT TO:<a\u00a0b@example.com>", "501"),
    ],
)
def test_rcpt(parameters: str, command: str, reply: str) -> None:
    server, _ = receiver()
    assert said(server, f"MAIL FROM:<n@example.org>{parameters}", command).startswith(reply)


def test_octets_that_are_no_utf8_are_no_path() -> None:
    server, _ = receiver()
    assert server.receive(b"MAIL FROM:<\xff@example.org> SMTPUTF8\r\n").startswith(b"501")


@pytest.mark.parametrize(
    ("parameters", "content", "reply"),
    [
        ("", b"Subject: x\r\n\r\nHi\r\n", "250"),
        ("", b"x" * 998 + b"\r\n", "250"),
        ("", b"x" * 999 + b"\r\n", "550 5.6.0 a line is longer"),
        ("", b"a\r\n" + b"x" * 999 + b"\r\nb\r\n", "550 5.6.0 a line is longer"),
        ("", b"a\nb\r\n", "550 5.6.0 a line does not end in CRLF"),
        ("", b"a\rb\r\n", "550 5.6.0 a line does not end in CRLF"),
        ("", "é\r\n".encode(), "550 5.6.0 8-bit"),
        (" BODY=7BIT", "é\r\n".encode(), "550 5.6.0 8-bit"),
        (" BODY=8BITMIME", "é\r\n".encode(), "250"),
        (" SIZE=10", (b"x" * 498 + b"\r\n") * 4, "250"),
        (" SIZE=10", (b"x" * 498 + b"\r\n") * 4 + b"\r\n", "552 5.3.4"),
    ],
)
def test_content_is_judged_at_its_dot(parameters: str, content: bytes, reply: str) -> None:
    """What is refused is not kept, and the session goes on."""
    server, kept = receiver()
    said(server, f"MAIL FROM:<n@example.org>{parameters}", "RCPT TO:<a@example.com>", "DATA")
    told = server.receive(content + b".\r\n").decode()
    assert told.startswith(reply)
    assert [message.content for message in kept] == ([content] if reply == "250" else [])
    assert said(server, "MAIL FROM:<n@example.org>").startswith("250")


def test_the_parameters_of_mail_are_kept() -> None:
    server, kept = receiver()
    said(
        server, "MAIL FROM:<n@example.org> SIZE=9 SMTPUTF8", "RCPT TO:<김@example.com>", "DATA", "."
    )
    [message] = kept
    assert (message.forward_paths, message.parameters) == (
        ["김@example.com"],
        {"SIZE": "9", "SMTPUTF8": ""},
    )


def test_a_replaced_refusal_takes_back_nothing() -> None:
    """A recipient that was never taken is not taken back from the others."""
    kept: list[Received] = []
    behaviour = Behaviour(
        login_required=False,
        answer=lambda verb, argument: b"550 no\r\n" if "nobody" in argument else None,
    )
    server = Receiver(behaviour, kept.append)
    said(server, "MAIL FROM:<n@example.org>", "RCPT TO:<a@example.com>")
    assert said(server, "RCPT TO:<nobody") == "550 no\r\n"
    said(server, "DATA", ".")
    assert [message.forward_paths for message in kept] == [["a@example.com"]]
