"""What the page asks for, whether a campaign or the sandbox answers. All of it becomes JSON."""

from typing import Any, Protocol

from bulkmail.compose import lint
from bulkmail.preview.opened import Opened

Json = dict[str, Any]


class Shown(Protocol):
    """Messages by the number of their recipient, which begins with 1. Any thread may ask."""

    def state(self) -> Json:
        """`campaign`: facts; `sandbox`: whether it is its mail; `edition`: it changes when messages
        may have; `people`: it changes when they are read anew; `read`, `reading`, `left_out`;
        `remarks` about the sources; `problems` as in `mistakes`.
        """

    def page(self, after: int, limit: int, text: str, left_out: bool) -> Json:
        """`people`, `next` and `at_end` as in `ledger.Page`."""

    def person(self, number: int) -> Json | None:
        """Who that is, and either `mail`, or why there is none."""

    def find(self, address: str, number: int) -> int | None:
        """The number of `address` now, if it was `number`."""

    def opened(self, number: int) -> Opened | None:
        """The message, if there is one."""

    def close(self) -> None: ...


def mail_json(mail: Opened, address: str) -> Json:
    """All of a message but its HTML and its source."""
    name, author = mail.author
    findings = [*lint.of_address(address), *lint.findings(mail.letter)]
    return {
        "from": {"name": name, "address": author},
        "to": mail.header("to"),
        "subject": mail.header("subject"),
        "date": mail.header("date"),
        "preheader": mail.preheader,
        "size": len(mail.raw),
        "headers": mail.headers,
        "text": mail.text,
        "html": mail.html is not None,
        "remote": mail.remote_images,
        "links": [link._asdict() for link in mail.links],
        "attachments": [
            {"name": file.name, "type": file.media_type, "size": len(file.content)}
            for file in mail.attachments
        ],
        "findings": [finding._asdict() for finding in findings],
    }
