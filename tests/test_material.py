"""Real material from outside: naughty strings and injection payloads, as data of recipients.

The big list of naughty strings (minimaxir, MIT) and PayloadsAllTheThings (swisskyrepo, MIT) are too
large to be kept here; where they are not beside the repository, these tests are skipped.
"""

import email
import email.policy
import json
from collections.abc import Iterator
from email.message import EmailMessage
from pathlib import Path

import pytest

from bulkmail.campaign import read_campaign
from bulkmail.compose.message import Composer
from bulkmail.model import Recipient, Row

from .conftest import rows_of

MATERIAL = Path(__file__).parent.parent.parent / "shared" / "material"
STRINGS = MATERIAL / "strings" / "blns.json"
PAYLOADS = MATERIAL / "templates-hostile"

pytestmark = pytest.mark.skipif(not MATERIAL.is_dir(), reason=f"no {MATERIAL.name} beside this")

CAMPAIGN = """\
from: news@example.org
subject: "For {{ word }}"
template: {text: letter.txt, html: letter.html}
headers: {X-Word: "{{ word }}"}
list: {unsubscribe: {url: "https://example.org/leave?m={{ word[:40] | urlencode }}"}}
attachments: [{file: plan.pdf, name: "{{ word }}.pdf"}]
recipients: [{file: people.jsonl}]
smtp: {host: smtp.example.org}
"""


def payloads() -> list[str]:
    return [
        line
        for name in ("crlf.txt", "ssti.txt")
        for line in (PAYLOADS / name).read_text("utf-8").splitlines()
        if line.strip()
    ]


def composed(folder: Path, words: list[str]) -> Iterator[tuple[Row, EmailMessage | None]]:
    """Each word through the campaign, from JSON Lines to what a mail reader parses."""
    (folder / "letter.txt").write_text("A {{ word }} Z\n", "utf-8")
    (folder / "letter.html").write_text("<p>A {{ word }} Z</p>\n", "utf-8")
    (folder / "plan.pdf").write_bytes(b"%PDF-")
    (folder / "july.yaml").write_text(CAMPAIGN, "utf-8")
    with (folder / "people.jsonl").open("w", encoding="utf-8") as file:
        for number, word in enumerate(words):
            person = {"email": f"p{number}@example.com", "name": word, "word": word}
            file.write(json.dumps(person) + "\n")
    campaign = read_campaign(folder / "july.yaml")
    composer = Composer(campaign.design, campaign.load, b"seed", campaign.open_file)
    for number, row in enumerate(rows_of(campaign)):
        if row.fault is not None:
            yield row, None
            continue
        mail = composer.compose(Recipient(number, row.address, row.fields, row.source), 0.0)
        content = b"".join(mail.content)
        assert content.isascii() and max(map(len, content.split(b"\r\n"))) <= 998
        message = email.message_from_bytes(content, policy=email.policy.default)
        assert isinstance(message, EmailMessage)
        yield row, message


@pytest.mark.parametrize("words", ["strings", "payloads"])
def test_every_naughty_string_arrives_intact_or_is_refused_by_name(
    tmp_path: Path, words: str
) -> None:
    """And adds no header, no part and no recipient to the message."""
    given = json.loads(STRINGS.read_text("utf-8")) if words == "strings" else payloads()
    assert len(given) > 70
    arrived = refused = 0
    for word, (row, message) in zip(given, composed(tmp_path, given), strict=True):
        if message is None:
            assert row.fault is not None
            assert "stands in a header, holds" in row.fault or "cannot be sent" in row.fault
            refused += 1
            continue
        arrived += 1
        text = word.strip()
        assert message["Subject"] == f"For {text}"
        assert [a.addr_spec for a in message["To"].addresses] == [row.address]
        assert message.keys() == [
            *("From", "To", "Subject", "X-Word", "List-Unsubscribe", "Date", "Message-ID"),
            *("MIME-Version", "Content-Type"),
        ]
        assert " ".join(message["X-Word"].split()) == " ".join(text.split())
        plain = message.get_body(("plain",))
        html = message.get_body(("html",))
        assert plain is not None and plain.get_content() == f"A {text} Z\r\n"
        assert html is not None and "<script" not in html.get_content().lower()
        [plan] = message.iter_attachments()
        assert plan.get_filename() == f"{text}.pdf"
    assert arrived > 0.95 * len(given), "hardly any string needs refusing"
    assert arrived + refused == len(given)
