"""smtp-source of Postfix: C, no TLS, no PIPELINING, one ready message for everyone."""

import base64
import shutil
from pathlib import Path
from typing import Any

from benchmarks.material import ATTACHMENT, AUTHOR, letter, people


def program() -> str | None:
    return shutil.which("smtp-source") or shutil.which("smtp-source", path="/usr/sbin")


def command(folder: Path, job: dict[str, Any]) -> list[str]:
    """Writes the message; how it is started."""
    person = next(people(1))
    wanted = letter(person, with_attachment=job["attachment"])
    lines = [
        f"From: The programme <{AUTHOR}>",
        f"To: {person.name} <{person.email}>",
        f"Subject: {wanted.subject}",
        "MIME-Version: 1.0",
        'Content-Type: multipart/mixed; boundary="=_mixed"',
        *("", "--=_mixed", 'Content-Type: multipart/alternative; boundary="=_both"'),
        *("", "--=_both", "Content-Type: text/plain", "", wanted.text),
        *("--=_both", "Content-Type: text/html", "", wanted.html, "--=_both--"),
    ]
    for content in wanted.attachments:
        lines += [
            *("--=_mixed", "Content-Type: application/octet-stream"),
            "Content-Transfer-Encoding: base64",
            *(f"Content-Disposition: attachment; filename={ATTACHMENT}", ""),
            base64.encodebytes(content).decode("ascii"),
        ]
    path = folder / "message.txt"
    path.write_text("\n".join([*lines, "--=_mixed--", ""]))
    return [
        *(str(program()), "-d", "-N", "-F", str(path)),
        *("-s", str(job["connections"]), "-m", str(job["people"])),
        *("-f", AUTHOR, "-t", "person@example.com", f"{job['host']}:{job['port']}"),
    ]
