"""A message as its reader will see it, in a terminal."""

import email
import email.policy
from email.message import EmailMessage

from rich.console import Console, Group, RenderableType
from rich.panel import Panel
from rich.table import Table
from rich.text import Text

from bulkmail.cli import text


def show_message(console: Console, content: bytes, title: str) -> None:
    """Prints headers, the text part and the attachments of the message `content`."""
    message = email.message_from_bytes(content, policy=email.policy.default)
    headers = Table.grid(padding=(0, 2))
    for name in ("From", "To", "Subject", "Date"):
        headers.add_row(Text(name, style="dim"), Text(text.visible(str(message[name] or ""))))
    parts: list[RenderableType] = [headers, Text()]
    body = message.get_body(("plain",)) or message.get_body(("html",))
    if body is not None:
        parts.append(Text(text.visible(body.get_content().replace("\r\n", "\n").rstrip())))
    attachments = [_attachment(part) for part in message.iter_attachments()]
    if attachments:
        parts += [Text(), Text(text.visible("\n".join(attachments)), style="dim")]
    console.print(
        Panel(Group(*parts), title=title, title_align="left", padding=(1, 2), width=_width(console))
    )


def _width(console: Console) -> int:
    return min(console.width, 84)


def _attachment(part: EmailMessage) -> str:
    content = part.get_payload(decode=True)
    octets = len(content) if isinstance(content, bytes) else 0
    return f"▪ {part.get_filename()}  {part.get_content_type()}, {text.size(octets)}"
