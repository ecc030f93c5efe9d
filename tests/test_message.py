"""Messages: what goes in comes back out of the standard library's parser; nothing illegal leaves."""

import binascii
import email
import email.policy
import re
from dataclasses import replace
from email.header import decode_header, make_header
from email.headerregistry import Address
from email.message import EmailMessage
from email.utils import parseaddr

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bulkmail.compose.content_ids import with_content_ids
from bulkmail.compose.message import (
    Composer,
    Design,
    FileFaultError,
    Mailbox,
    PersonalFile,
    Source,
)
from bulkmail.compose.skeleton import Attachment, in_quoted_printable
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
        "subject": Source("{{ subject }}", "july.yaml:3"),
        "html": None,
        "text": "letter.txt",
        "variables": {},
    }
    return Design(**{**values, **changes})  # type: ignore[arg-type]


def composer(templates: dict[str, str] | None = None, **changes: object) -> Composer:
    sources = templates or {"letter.txt": "{{ body }}", "letter.html": "<p>{{ body }}</p>"}
    return Composer(
        design(**changes),
        lambda name: (sources[name], name) if name in sources else None,
        SEED,
        open_file,
    )


def open_file(file: PersonalFile, path: str, name: str | None) -> Attachment:
    """Files that are named by their content; `missing` is not there."""
    if "missing" in path:
        raise FileFaultError(f"{path}: No such file or directory")
    return Attachment(name or path.rpartition("/")[2], "application/pdf", path.encode())


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
        composer(subject=Source("Dear {{ nmae }}", "july.yaml:3")).compose(recipient(), AT)


def test_columns_that_are_no_identifiers() -> None:
    templates = {"letter.txt": '{{ row["First Name"] }} {{ 기수 }}'}
    mail = composer(templates).compose(recipient(**{"First Name": "Yeonju", "기수": "13"}), AT)
    assert parsed(mail).get_content() == "Yeonju 13\r\n"


def test_one_recipient_cannot_change_the_next() -> None:
    templates = {"letter.txt": "{% set _ = dates.append('x') %}"}
    with pytest.raises(RenderError, match="unsafe"):
        composer(templates, variables={"dates": []}).compose(recipient(), AT)


# -- what else stands in a header ------------------------------------------------------------------


@given(value=TEXT)
def test_any_value_of_another_header_arrives_intact(value: str) -> None:
    fields = {"X-Note": Source("{{ note }}", "july.yaml:5")}
    try:
        mail = composer(headers=fields).compose(recipient(note=value), AT)
    except RenderError as error:
        assert "a word of more than" in str(error)
        return
    check_legal(mail)
    assert parsed(mail)["X-Note"] == value.strip(" ")


def test_a_long_token_is_not_encoded() -> None:
    """Programs that read such fields do not decode RFC 2047."""
    tags = ", ".join(f"tag{number}=value{number}" for number in range(20))
    fields = {"X-SES-MESSAGE-TAGS": Source(tags, "a:1"), "X-Key": Source("k" * 300, "a:2")}
    mail = composer(headers=fields).compose(recipient(), AT)
    check_legal(mail)
    assert b"=?" not in octets(mail).partition(b"X-SES")[2].partition(b"MIME-Version")[0]
    assert parsed(mail)["X-SES-MESSAGE-TAGS"] == tags
    assert parsed(mail)["X-Key"] == "k" * 300


@pytest.mark.parametrize(
    ("value", "what"),
    [
        ("a\nBcc: x@example.com", "a line break"),
        ("a\x1b", "control"),
        ("k" * 999, "a word of more"),
    ],
)
def test_no_value_breaks_out_of_another_header(value: str, what: str) -> None:
    fields = {"X-Note": Source("{{ note }}", "july.yaml:5")}
    with pytest.raises(RenderError, match=what) as caught:
        composer(headers=fields).compose(recipient(note=value), AT)
    assert caught.value.place == "july.yaml:5"


LEAVE = Source("https://likelion.example/leave?m={{ id | urlencode }}", "july.yaml:7")


@pytest.mark.parametrize(
    "value", ["a  b", "=?utf-8?q?x?=", "a   b " + "c" * 80 + "  d", "https://x.example/?a=?b"]
)
def test_plain_values_keep_every_space(value: str) -> None:
    fields = {"X-Note": Source(value, "july.yaml:5")}
    assert parsed(composer(headers=fields).compose(recipient(), AT))["X-Note"] == value


def test_an_address_field_is_never_encoded() -> None:
    """RFC 2047 5 (3)."""
    good = {"Sender": Source("News <news@example.org>", "july.yaml:5")}
    assert parsed(composer(headers=good).compose(recipient(), AT))["Sender"] is not None
    bad = {"Sender": Source("소식 <news@example.org>", "july.yaml:5")}
    with pytest.raises(RenderError, match="Sender must be plain ASCII"):
        composer(headers=bad).compose(recipient(), AT)


@given(id_=TEXT.filter(lambda text: len(text) < 70))
def test_list_headers_are_never_encoded(id_: str) -> None:
    """RFC 2369 and 8058: mail readers look for `<https:` in the bytes, in any length."""
    mail = composer(
        list_id=Mailbox("", "news.likelion.example"),
        unsubscribe_url=LEAVE,
        unsubscribe_mailto="leave@likelion.example",
    ).compose(recipient(id=id_), AT)
    check_legal(mail)
    head = octets(mail).partition(b"\r\n\r\n")[0]
    assert re.search(
        rb"^List-Unsubscribe: <https://likelion\.example/leave\?m=[!-~]*>,\r\n"
        rb" <mailto:leave@likelion\.example>\r$",
        head,
        re.MULTILINE,
    )
    assert b"List-ID: <news.likelion.example>\r\n" in head


def test_the_address_for_leaving_is_a_uri() -> None:
    """RFC 6068 2: what has a meaning in a URI is percent-encoded."""
    mail = composer(unsubscribe_mailto="a+b?subject=x&y%20@example.org").compose(recipient(), AT)
    uri = b"<mailto:a+b%3Fsubject%3Dx%26y%2520@example.org>"
    assert b"List-Unsubscribe: " + uri + b"\r\n" in octets(mail)


def test_a_list_id_may_have_a_phrase() -> None:
    """RFC 2919 3."""
    mail = composer(list_id=Mailbox("소식", "news.likelion.example")).compose(recipient(), AT)
    assert parsed(mail)["List-ID"] == "소식 <news.likelion.example>"


@pytest.mark.parametrize("id_", ["a b", "a>", "김", "a\nb", "x" * 900])
def test_what_is_no_address_is_not_offered_for_leaving(id_: str) -> None:
    url = Source("https://likelion.example/{{ id }}", "july.yaml:7")
    with pytest.raises(RenderError, match=r"urlencode|over 900 characters") as caught:
        composer(unsubscribe_url=url).compose(recipient(id=id_), AT)
    assert caught.value.place == "july.yaml:7"


# -- other parts -----------------------------------------------------------------------------------

LOGO = Attachment("logo.png", "image/png", b"\x89PNG logo")
FILES = (
    Attachment("a.pdf", "application/pdf", b"%PDF a"),
    PersonalFile(Source("invoices/{{ id }}.pdf", "july.yaml:9"), None),
    Attachment("b.pdf", "application/pdf", b"%PDF b"),
    PersonalFile(Source("{{ id }}.pdf", "j:10"), Source("{{ name }}.pdf", "j:10")),
)


def structure(message: EmailMessage) -> object:
    if message.is_multipart():
        return [message.get_content_subtype(), *map(structure, message.iter_parts())]
    return message.get_content_type()


@pytest.mark.parametrize("text", ["letter.txt", None])
@pytest.mark.parametrize("html", ["letter.html", None])
@pytest.mark.parametrize("images", [{}, {"logo": LOGO}])
@pytest.mark.parametrize("attachments", [(), FILES])
def test_parts_are_nested_as_they_must_be(
    text: str | None, html: str | None, images: dict[str, Attachment], attachments: object
) -> None:
    """RFC 2046 5.1.3 mixed, 5.1.4 alternative, RFC 2387 related; only what is needed."""
    if html is None and (text is None or images):
        return
    changes = {"text": text, "html": html, "images": images, "attachments": attachments}
    mail = composer(**changes).compose(recipient(id="7"), AT)
    check_legal(mail)
    expected: object = "text/plain"
    if html:
        shown = ["related", "text/html", "image/png"] if images else "text/html"
        expected = ["alternative", "text/plain", shown]
    if attachments:
        expected = ["mixed", expected, *["application/pdf"] * 4]
    assert structure(parsed(mail)) == expected


def test_images_are_found_by_their_content_id() -> None:
    """RFC 2392: `cid:` and the Content-ID of the part are one; the id is a msg-id (RFC 2045 7)."""
    source = """<img src="cid:logo"><p style="background:url(cid:logo)">cid:logo {{ body }}</p>
    <img src='cid:logo2'>"""
    images = {"logo": LOGO, "logo2": Attachment("2.gif", "image/gif", b"GIF89a")}
    mail = composer({"letter.html": source}, text=None, html="letter.html", images=images)
    message = parsed(mail.compose(recipient(body='"cid:logo"'), AT))
    _, related = message.iter_parts()
    html, first, second = related.iter_parts()
    assert related["Content-Type"].params["type"] == "text/html"
    assert first["Content-Disposition"] == 'inline; filename="logo.png"'
    shown = re.findall(r"""(?:src=["']|url\()cid:([^"')]+)""", html.get_content())
    ids = [part["Content-ID"].strip("<>") for part in (first, second)]
    assert shown == [ids[0], ids[0], ids[1]]
    assert all(re.fullmatch(r"[a-z0-9]+@[0-9a-f]+", id_) for id_ in ids)
    assert "cid:logo &#34;cid:logo&#34;</p>" in html.get_content(), "words stay words"


@pytest.mark.parametrize(
    "tag",
    [
        '<img src="cid:logo">', "<img src='cid:logo'>", "<img src=cid:logo>", '<IMG SRC = "CID:logo">',
        '<td background="cid:logo">', '<td style="background:url(cid:logo)">',
        "<td style=\"background:url('cid:logo')\">", '<td style="background:url(&quot;cid:logo&quot;)">',
        '<img alt="a > b" src="cid:logo">', "<td title='x->y' background='cid:logo'>",
        "<style>td { background: url( 'cid:logo' ) }</style>", "<td style='background:url(&#34;cid:logo&#34;)'>",
        '<video poster=" cid:logo ">', '<img/src="cid:logo"/>', '<!--[if mso]><v:fill src="cid:logo"/><![endif]-->',
        "<!--[if mso]><style>td { background: url(cid:logo) }</style><![endif]-->",
        '<img srcset="big.png 2x, cid:logo 1x">', '<img srcset=" cid:logo ">', "<img srcset=cid:logo>",
        '<a href="cid:logo">', '<!-- [IF gte mso 9]><v:fill src="cid:logo"/><![endif]-->',
        '<!--[if !mso]><!--><img src="cid:logo"><!--<![endif]-->', '<!--><img src="cid:logo"><!-- x -->',
        '<!-- x --><img src="cid:logo"><!-- x -->', '<!-- x --!><img src="cid:logo"><!-- x -->',
        '<![if !mso]><img src="cid:logo"><![endif]>',
        '<style><!-- td { background: url(cid:logo) } --></style>',
    ],
)  # fmt: skip
def test_an_image_is_found_however_it_is_written(tag: str) -> None:
    maker = composer({"l.html": tag}, text=None, html="l.html", images={"logo": LOGO})
    html = parsed(maker.compose(recipient(), AT)).get_body(("html",))
    assert html is not None and re.search(r"cid:logo@[0-9a-f]{24}", html.get_content())


@pytest.mark.parametrize("between", [", ", ",", " ,\t "])
def test_every_image_of_a_srcset_is_found(between: str) -> None:
    """A mail reader chooses among them, and each must be there."""
    images = {"small": LOGO, "big": LOGO}
    source = (
        f'<img srcset="cid:small 1x{between}cid:big 1.5x{between}https://x.example/?a,cid:b 3x">'
    )
    maker = composer({"l.html": source}, text=None, html="l.html", images=images)
    html = parsed(maker.compose(recipient(), AT)).get_body(("html",))
    assert html is not None
    told = re.sub("@[0-9a-f]{24} ", "@ ", html.get_content().strip())
    assert told == source.replace("cid:small ", "cid:small@ ").replace("cid:big ", "cid:big@ ")


@pytest.mark.parametrize(
    "html",
    [
        '<a href="https://x.example/?u=cid:x">', "<a href=https://x.example/?u=cid:x>",
        '<img src="https://x.example/?url(cid:x)">', '<img src="https://x.example/?src=cid:x">',
        '<img alt="it has src=cid:x" src="a.png">', '<img alt="cid:x" data-src="cid:x" title="url(cid:x)">',
        '<img srcset="https://x.example/a,cid:x 2x">', '<td style="color: red /* cid:x */">',
        '<!-- <img src="cid:x"> -->', '<!--<td background="cid:x"> [if mso] --><p>Hi</p>', "<!-- <style>td { background: url(cid:x) }</style> -->", '<!-- <img src="cid:x">',
        "<style>/* cid:x */</style>", "<!-- src=cid:x -->", "<p title='src=\"cid:x\"'>",
    ],
)  # fmt: skip
def test_an_address_that_only_holds_cid_is_no_image(html: str) -> None:
    """It is sent as it was written, not refused for an image that nobody meant."""
    maker = composer({"l.html": html}, text=None, html="l.html")
    body = parsed(maker.compose(recipient(), AT)).get_body(("html",))
    assert body is not None and body.get_content().strip() == html


@pytest.mark.timeout(20)
@pytest.mark.parametrize(
    "piece", ["x", " ", "x ", "x=1 ", "= ", "'' ", "x='' ", "/", "style='url(" + " " * 9_999 + "' "]
)
def test_images_are_looked_for_in_linear_time(piece: str) -> None:
    """A long letter is one that takes longer, not one that hangs."""
    source = f'<img {piece * (100_000 // len(piece))} src="cid:logo">'
    maker = composer(
        {"l.html": source, "l.txt": ""}, text="l.txt", html="l.html", images={"logo": LOGO}
    )
    assert b"cid:logo@" in octets(maker.compose(recipient(), AT)).replace(b"=\r\n", b"")


@pytest.mark.parametrize("images", [{}, {"logo": LOGO}])
def test_an_image_that_is_not_there_is_told(images: dict[str, Attachment]) -> None:
    maker = composer({"l.html": '<img src="cid:lgoo">'}, text=None, html="l.html", images=images)
    with pytest.raises(RenderError, match='cid:lgoo, but `images` has no "lgoo"') as caught:
        maker.compose(recipient(), AT)
    assert caught.value.place == "l.html"


@pytest.mark.parametrize(
    ("name", "hint"),
    [
        ("Logo", "(it has logo, Foto); did you mean 'logo'?"),
        ("LOGO", "(it has logo, Foto); did you mean 'logo'?"),
        ("foto1", "(it has logo, Foto); did you mean 'Foto'?"),
        ("x", "(it has logo, Foto)"),
    ],
)
def test_the_image_that_was_meant_is_told(name: str, hint: str) -> None:
    images = {"logo": LOGO, "Foto": LOGO}
    source = {"l.html": f'<img src="cid:{name}">'}
    maker = composer(source, text=None, html="l.html", images=images)
    with pytest.raises(RenderError) as caught:
        maker.compose(recipient(), AT)
    assert caught.value.message.endswith(hint)


@pytest.mark.timeout(20)
@pytest.mark.parametrize("end", ["", "-->"])
@pytest.mark.parametrize("piece", ["<!--", "<!--[if mso]>", "<!-- x --!", "<!-- x -- "])
def test_comments_without_end_are_read_in_linear_time(piece: str, end: str) -> None:
    html = piece * (100_000 // len(piece)) + '<img alt="cid:">' + end
    assert with_content_ids(html, str.upper) == html


def test_words_about_images_are_words() -> None:
    maker = composer({"l.html": "<p>cid:x {{ body }}</p>"}, text=None, html="l.html")
    html = parsed(maker.compose(recipient(body='src="cid:y"'), AT)).get_body(("html",))
    assert html is not None and "cid:x src=&#34;cid:y&#34;" in html.get_content()


def test_each_gets_the_files_of_their_own_in_their_place() -> None:
    mail = composer(attachments=FILES).compose(recipient(id="7", name="김연주"), AT)
    files = [(p.get_filename(), p.get_content()) for p in parsed(mail).iter_attachments()]
    assert files == [
        ("a.pdf", b"%PDF a"),
        ("7.pdf", b"invoices/7.pdf"),
        ("b.pdf", b"%PDF b"),
        ("김연주.pdf", b"7.pdf"),
    ]


def test_a_file_that_is_not_there_is_told_with_its_place() -> None:
    with pytest.raises(RenderError, match=r"july\.yaml:9: invoices/missing\.pdf: No such file"):
        composer(attachments=FILES).compose(recipient(id="missing"), AT)


def test_files_that_changed_since_they_were_checked_are_not_sent() -> None:
    maker = composer(attachments=FILES)
    checked = replace(recipient(id="7"), files_digest=maker.files_digest(recipient(id="7")))
    assert maker.compose(checked, AT) == maker.compose(recipient(id="7"), AT)
    with pytest.raises(RenderError, match="changed since it was checked"):
        maker.compose(replace(checked, fields={**checked.fields, "id": "8"}), AT)


def test_the_text_is_made_from_the_html_where_none_is_given() -> None:
    html = "<h1>안녕하세요 {{ name }}</h1><p>읽어 <a href='https://a.example/x'>주세요</a></p>"
    mail = composer({"letter.html": html}, text=None, html="letter.html")
    plain, _ = parsed(mail.compose(recipient(name="<김>"), AT)).iter_parts()
    assert "안녕하세요 <김>" in plain.get_content()
    assert "주세요 (https://a.example/x)" in plain.get_content()


def test_a_test_message_has_the_data_of_one_and_goes_to_another() -> None:
    mail = composer({"letter.txt": "for {{ email }}"}).compose(recipient(), AT, "me@example.org")
    message = parsed(mail)
    assert mail.envelope.forward_path == "me@example.org"
    assert message["To"] == "Kim <me@example.org>"
    assert message.get_content() == "for kim@example.com\r\n"


def test_addresses_outside_ascii() -> None:
    """A domain goes as A-labels (RFC 5890); only a local part needs UTF-8 in To (RFC 6532)."""
    idn = replace(recipient(), address="kim@예시.example")
    mail = composer().compose(idn, AT)
    check_legal(mail)
    assert mail.envelope.forward_path == "kim@xn--vv4b11d.example"
    assert parsed(mail)["To"].addresses[0].addr_spec == "kim@xn--vv4b11d.example"
    local = composer().compose(replace(recipient(), address="김@example.com"), AT)
    assert "To: Kim <김@example.com>\r\n".encode() in octets(local)
    assert octets(local).replace("김".encode(), b"").isascii()


def test_the_oracle_agrees() -> None:
    """The standard library builds the same message part by part; both parse to the same."""
    mail = composer(html="letter.html", attachments=FILES[:1]).compose(recipient(body="본문"), AT)
    oracle = EmailMessage(policy=email.policy.SMTP)
    oracle.set_content("본문\n")
    oracle.add_alternative("<p>본문</p>\n", subtype="html")
    oracle.add_attachment(b"%PDF a", maintype="application", subtype="pdf", filename="a.pdf")
    theirs = email.message_from_bytes(oracle.as_bytes(), policy=email.policy.default)
    ours = parsed(mail)
    assert structure(ours) == structure(theirs)
    pairs = list(zip(ours.walk(), theirs.walk(), strict=True))
    for mine, other in pairs:
        assert mine.get_filename() == other.get_filename()
        assert mine.get_content_disposition() == other.get_content_disposition()
        if not mine.is_multipart():
            text = other.get_payload(decode=True).replace(b"\r\n", b"\n")
            assert mine.get_payload(decode=True).replace(b"\r\n", b"\n") == text


LETTERS = st.text(
    st.sampled_from("ab=. \t\néЖ한🎈-<>") | st.characters(codec="utf-8"), max_size=300
)


@given(text=LETTERS.map(lambda text: text.replace("\r", "") + "\n"), times=st.integers(1, 12))
def test_quoted_printable_is_that_of_the_standard_library(text: str, times: int) -> None:
    """Line by line, long lines and those that were met before included."""
    long = text.replace("\n", " ") * times + "\n" + text
    whole = binascii.b2a_qp(long.replace("\n", "\r\n").encode(), istext=True)
    assert in_quoted_printable(long) == whole
    assert in_quoted_printable(long) == whole
