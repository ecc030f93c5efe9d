"""mailmerge, by its command line: it makes a TLS context, a connection and a login a message."""

import sys
from pathlib import Path
from typing import Any

from benchmarks.material import ATTACHMENT, AUTHOR, HTML, PEOPLE, SUBJECT, TEXT

_SERVER = """\
[smtp_server]
host = {host}
port = {port}
security = SSL/TLS
username = sender
"""
_TEMPLATE = """\
TO: {{{{ name }}}} <{{{{ email }}}}>
SUBJECT: {subject}
FROM: The programme <{author}>
MIME-Version: 1.0
Content-Type: multipart/alternative; boundary="=_part"
{attachment}
--=_part
Content-Type: text/plain; charset="us-ascii"

{text}
--=_part
Content-Type: text/html; charset="us-ascii"

{html}
--=_part--
"""


def command(folder: Path, job: dict[str, Any]) -> list[str]:
    """Writes its files; how it is started there."""
    (folder / "mailmerge_server.conf").write_text(_SERVER.format(**job))
    template = _TEMPLATE.format(
        subject=SUBJECT,
        author=AUTHOR,
        attachment=f"ATTACHMENT: {ATTACHMENT}\n" if job["attachment"] else "",
        text=(folder / TEXT).read_text(),
        html=(folder / HTML).read_text(),
    )
    (folder / "mailmerge_template.txt").write_text(template)
    options = ["--no-dry-run", "--no-limit", "--database", PEOPLE, "--output-format", "raw"]
    # It trusts the system's authorities: the one that is made for this run is named to OpenSSL.
    environment = f"SSL_CERT_FILE={job['ca_file']}"
    return ["env", environment, str(Path(sys.executable).with_name("mailmerge")), *options]
