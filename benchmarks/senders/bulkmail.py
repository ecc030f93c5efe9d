"""`bulkmail run`, as anybody runs it: TLS verified, the ledger on the disk and synced."""

import sys
from pathlib import Path
from typing import Any

from benchmarks.material import ATTACHMENT, AUTHOR, HTML, PEOPLE, SUBJECT, TEXT

CAMPAIGN = "campaign.yaml"
COMMAND = [sys.executable, "-m", "bulkmail", "run", CAMPAIGN, "--yes"]

_YAML = """\
from: "The programme <{author}>"
subject: "{subject}"
template: {{text: {text}, html: {html}}}
recipients: [{{file: {people}}}]
rate: unlimited
smtp:
  host: {host}
  port: {port}
  security: tls
  ca_file: {ca_file}
  connections: {connections}
  messages_per_connection: 1000000
"""


def write_campaign(folder: Path, job: dict[str, Any]) -> None:
    names = {"author": AUTHOR, "subject": SUBJECT, "text": TEXT, "html": HTML, "people": PEOPLE}
    yaml = _YAML.format(**(job | names))
    if job["attachment"]:
        yaml += f"attachments: [{ATTACHMENT}]\n"
    (folder / "templates").mkdir(exist_ok=True)  # makes it a project, with a ledger of its own
    (folder / CAMPAIGN).write_text(yaml)
