"""Messages: what goes in comes back out of the standard library's parser; nothing illegal leaves."""

import email
import email.policy
import re
from email.header import decode_header, make_header
from email.headerregistry import Address
from email.message import EmailMessage
from email.utils import parseaddr

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bulkmail.compose.message import Attachment, Composer, Design, Mailbox
from bulkmail.compose.templates import RenderError
from bulkmail.model import MailObject, Recipient

SEED = b"seed of these tests"
AT = 1_795_000_000.25

TEXT = st.text(st.characters(exclude_categories=["Cs", "Cc"]))
LINES = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"))


def design(**changes: object) -> Design:
    values: dict[str, object] = {
        "campaign": "newsletter",
        "author": Mailbox("멋쟁이사자처럼 소식", "news@likelion.example"),
        "reply_to": Mailbox("", "editors@likelion.example"),
        "return_path": "bounces@likelion.example",
        "subject": "{{ subject }}",
        "subject_place": "july.yaml:3",
        "html": None,
        "text": "letter.txt",
        "variables": {},
        "attachments": (),
    }
    return Design(**{**values, **changes})  # type: ignore[arg-type]


def composer(templates: dict[str, str] | None = None, **changes: object) -> Composer:
    sources = templates or {"letter.txt": "{{ body }}", "letter.html": "<p>{{ body }}</p>"}
    return Composer(
        design(**changes), lambda name: (sources[name], name) if name in sources else None, SEED
    )


def recipient(**fields: str) -> Recipient:
    return Recipient(
        1,
        "kim@example.com",
        {"name": "Kim", "subject": "Hello", "body": "Text", **fields},
        "m.csv:2",
    )


def octets(mail: MailObject) -> bytes:
    return b"".join(mail.content)


def parsed(mail: MailObject) -> EmailMessage:
    message = email.message_from_bytes(octets(mail), policy=email.policy.default)
    assert isinstance(message, EmailMessage)
    assert not [part.defects for part in message.walk() if part.defects]
    return message


def display_name(mail: MailObject) -> str:
    """Of To, by the older parser: the newer one (`addresses`) runs spaces together."""
    raw = email.message_from_bytes(octets(mail))["To"].replace("\r\n", "")
    return str(make_header(decode_header(parseaddr(raw)[0])))


def check_legal(mail: MailObject) -> None:
    """RFC 5322 2.1.1, RFC 5321 4.5.3.1.6: 7-bit, CRLF only, no line over 998 octets."""
    data = octets(mail)
    assert data.isascii()
    assert data.endswith(b"\r\n")
    assert not re.search(rb"(?<!\r)\n|\r(?!\n)|\0", data)
    assert max(map(len, data.split(b"\r\n"))) <= 998
    for piece in mail.content[1:]:
        assert data.find(b"\r\n" + piece) >= 0, "a piece starts a line"


@given(name=TEXT.map(str.strip), subject=TEXT)
def test_any_name_and_subject_arrive_intact(name: str, subject: str) -> None:
    mail = composer().compose(recipient(name=name, subject=subject), AT)
    check_legal(mail)
    message = parsed(mail)
    assert message["Subject"] == subject
    assert [address.addr_spec for address in message["To"].addresses] == ["kim@example.com"]
    assert display_name(mail) == name


@given(name=TEXT, subject=TEXT)
def test_headers_stay_within_their_lines(name: str, subject: str) -> None:
    """RFC 2047 2: an encoded word has at most 75 characters, its line at most 76."""
    head = octets(composer().compose(recipient(name=name, subject=subject), AT)).split(b"\r\n\r\n")[
        0
    ]
    for line in head.split(b"\r\n"):
        if b"=?utf-8?" in line:
            assert len(line) <= 76
        assert all(len(word) <= 75 for word in re.findall(rb"=\?utf-8\?b\?[^?]*\?=", line))


@given(body=LINES)
def test_any_text_arrives_intact_in_both_encodings(body: str) -> None:
    """Quoted-printable for templates in Latin letters, base64 for others; ends in one line break."""
    for source in ("{{ body }}", "안녕하세요 {{ body }}"):
        mail = composer({"letter.txt": source}).compose(recipient(body=body), AT)
        check_legal(mail)
        expected = source.replace("{{ body }}", body).replace("\r\n", "\n").replace("\r", "\n")
        payload = parsed(mail).get_payload(decode=True)
        assert isinstance(payload, bytes)
        assert payload.decode() == (expected.rstrip("\n") + "\n").replace("\n", "\r\n")


@given(body=LINES)
def test_html_and_text_are_alternatives(body: str) -> None:
    message = parsed(composer(html="letter.html").compose(recipient(body=body), AT))
    assert message.get_content_type() == "multipart/alternative"
    kinds = [part.get_content_type() for part in message.iter_parts()]
    assert kinds == ["text/plain", "text/html"], "the richest comes last, RFC 2046 5.1.4"


def test_html_is_escaped_and_text_is_not() -> None:
    message = parsed(composer(html="letter.html").compose(recipient(body="<b>&"), AT))
    plain, html = (part.get_content().strip() for part in message.iter_parts())
    assert plain == "<b>&"
    assert html == "<p>&lt;b&gt;&amp;</p>"


@given(name=TEXT.filter(lambda name: name.strip()), content=st.binary(max_size=3000))
def test_attachments_arrive_intact_under_their_name(name: str, content: bytes) -> None:
    attachments = (Attachment("codelion.png", "image/png", content), Attachment(name, "a/b", b"x"))
    mail = composer(attachments=attachments).compose(recipient(), AT)
    check_legal(mail)
    first, second = parsed(mail).iter_attachments()
    assert (first.get_filename(), first.get_content_type()) == ("codelion.png", "image/png")
    assert first.get_content() == content
    assert second.get_payload(decode=True) == b"x"


@pytest.mark.parametrize(
    "name", ["12월 시간표.pdf", "a b.pdf", "a'b%20.pdf", "ü" * 60 + ".pdf", '"x".pdf']
)
def test_file_names_of_any_script(name: str) -> None:
    """RFC 2231."""
    attachments = (Attachment(name, "application/pdf", b"%PDF-"),)
    [part] = parsed(composer(attachments=attachments).compose(recipient(), AT)).iter_attachments()
    assert part.get_filename() == name


def test_required_headers_stand_once() -> None:
    """RFC 5322 3.6; one To, equal to the forward-path."""
    mail = composer().compose(recipient(), AT)
    message = parsed(mail)
    for name in ("From", "To", "Subject", "Date", "Message-ID", "MIME-Version", "Content-Type"):
        assert len(message.get_all(name)) == 1
    assert message["From"].addresses == (
        Address("멋쟁이사자처럼 소식", addr_spec="news@likelion.example"),
    )
    assert message["Reply-To"] == "editors@likelion.example"
    assert message["Date"].datetime.timestamp() == int(AT)
    assert mail.envelope.reverse_path == "bounces@likelion.example"
    assert mail.envelope.forward_path == "kim@example.com"
    assert mail.message_id == message["Message-ID"]
    assert "kim" not in mail.message_id


def test_the_same_seed_and_date_give_the_same_bytes() -> None:
    attachments = (Attachment("a.bin", "application/octet-stream", b"\0" * 100),)
    changes = {"html": "letter.html", "attachments": attachments}
    first = composer(**changes).compose(recipient(), AT)
    assert composer(**changes).compose(recipient(), AT) == first
    assert composer(**changes).compose(recipient(), AT + 60) != first


@pytest.mark.parametrize("break_", ["\r", "\n", "\r\nBcc: eve@example.com", "\0", "\x1b"])
@pytest.mark.parametrize("field", ["subject", "name"])
def test_nothing_breaks_out_of_a_header(field: str, break_: str) -> None:
    with pytest.raises(RenderError, match=r"july\.yaml:3"):
        composer().compose(recipient(**{field: f"Hello{break_}"}), AT)


def test_a_tab_in_a_subject_is_text() -> None:
    assert parsed(composer().compose(recipient(subject="a\tb"), AT))["Subject"] == "a\tb"


@pytest.mark.parametrize(
    ("templates", "place", "what"),
    [
        ({"letter.txt": "a\nb {{ nmae }}"}, "letter.txt:2", "'nmae' is undefined"),
        ({"letter.txt": "a\n{% if %}"}, "letter.txt:2", "Expected an expression"),
        ({"letter.txt": "{{ 1 / 0 }}"}, "letter.txt:1", "division by zero"),
        ({"letter.txt": "\n{% include 'x' %}"}, "letter.txt:2", "x"),
        ({"letter.txt": "{% include 'b' %}", "b": "\n\n{{ zip }}"}, "b:3", "'zip' is undefined"),
        ({"letter.txt": "{{ name.__class__.__mro__ }}"}, "letter.txt:1", "unsafe"),
    ],
)
def test_a_template_error_tells_its_line(templates: dict[str, str], place: str, what: str) -> None:
    with pytest.raises(RenderError) as caught:
        composer(templates).compose(recipient(), AT)
    assert caught.value.place == place
    assert what in caught.value.message


def test_an_error_in_the_subject_tells_the_campaign_file() -> None:
    with pytest.raises(RenderError, match=r"july\.yaml:3: 'nmae' is undefined"):
        composer(subject="Dear {{ nmae }}").compose(recipient(), AT)


def test_columns_that_are_no_identifiers() -> None:
    templates = {"letter.txt": '{{ row["First Name"] }} {{ 기수 }}'}
    mail = composer(templates).compose(recipient(**{"First Name": "Yeonju", "기수": "13"}), AT)
    assert parsed(mail).get_content() == "Yeonju 13\r\n"


def test_one_recipient_cannot_change_the_next() -> None:
    templates = {"letter.txt": "{% set _ = dates.append('x') %}"}
    with pytest.raises(RenderError, match="unsafe"):
        composer(templates, variables={"dates": []}).compose(recipient(), AT)
