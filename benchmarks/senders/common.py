"""What the senders that are written here share: their job, their people, and a message built with
the standard library as everyone builds it.
"""

import csv
import json
import ssl
import sys
from collections.abc import Iterator
from email.message import EmailMessage
from email.utils import formatdate, make_msgid
from pathlib import Path
from typing import Any

import jinja2

from benchmarks.material import ATTACHMENT, AUTHOR, HTML, PEOPLE, SUBJECT, TEXT


class Work:
    """One sender's folder."""

    def __init__(self) -> None:
        self.folder = Path(sys.argv[1])
        self.job: dict[str, Any] = json.loads((self.folder / "job.json").read_text())
        self.context = ssl.create_default_context(cafile=self.job["ca_file"])
        loader = jinja2.FileSystemLoader(self.folder)
        environment = jinja2.Environment(loader=loader, autoescape=jinja2.select_autoescape())
        self._subject = environment.from_string(SUBJECT)
        self._text = environment.get_template(TEXT)
        self._html = environment.get_template(HTML)
        self._attachment = (self.folder / ATTACHMENT).read_bytes()

    def people(self) -> Iterator[dict[str, str]]:
        with (self.folder / PEOPLE).open(newline="") as file:
            yield from csv.DictReader(file)

    def message(self, person: dict[str, str]) -> EmailMessage:
        message = EmailMessage()
        message["From"] = f"The programme <{AUTHOR}>"
        message["To"] = f"{person['name']} <{person['email']}>"
        message["Subject"] = self._subject.render(person)
        message["Date"] = formatdate()
        message["Message-ID"] = make_msgid(domain="example.org")
        message.set_content(self._text.render(person))
        message.add_alternative(self._html.render(person), subtype="html")
        if self.job["attachment"]:
            message.add_attachment(
                self._attachment,
                maintype="application",
                subtype="octet-stream",
                filename=ATTACHMENT,
            )
        return message
