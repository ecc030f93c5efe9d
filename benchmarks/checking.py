"""Whether a sender did the work: what the server took, against what each person is to get.

    python -m benchmarks.checking CAPTURE PEOPLE ATTACHMENT(0|1) PERSONAL(0|1)

prints the first faults, or nothing. Everyone must stand in the capture exactly once and nobody
else; the messages that were kept whole must have the same subject, texts and attachments as the
letter, whatever their encodings and boundaries; the others must not differ from these in size. With
PERSONAL 0, for what sends one message to everyone, recipients are only counted. Shares no code with
any sender.
"""

import email
import email.policy
import sys
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from email.message import EmailMessage
from pathlib import Path

from benchmarks.material import Letter, Person, letter, people

SHOWN = 5
DIFFERENCE = 200
"""Octets by which messages may differ in size: names and numbers differ by less, attachments by
more."""


@dataclass(frozen=True, slots=True)
class Taken:
    """One message that the server took; `content` None: it was not kept."""

    recipient: str
    size: int
    by_bdat: bool
    content: bytes | None


def read_capture(path: Path) -> Iterator[Taken]:
    """As benchmarks/sink.c writes it. Dots are no longer stuffed."""
    with path.open("rb") as file:
        for line in file:
            recipient, size, command, kept = line.decode().split()
            content = file.read(int(kept)) if int(kept) else None
            if content is not None and command == "D":
                content = _unstuffed(content)
            yield Taken(recipient, int(size), command == "B", content)


def faults(
    taken: Iterable[Taken], expected: dict[str, Letter | None] | dict[str, Callable[[], Letter]]
) -> Iterator[str]:
    """What is wrong, one line each, by recipient. `expected` has everyone who is to get one."""
    copies: Counter[str] = Counter()
    sizes: list[int] = []
    others: list[Taken] = []
    for message in taken:
        copies[message.recipient] += 1
        to = message.recipient
        if to not in expected:
            yield f"{to}: is not among the recipients"
        elif message.content is None:
            others.append(message)
        else:
            sizes.append(message.size)
            wanted = expected[to]
            yield from difference(message, wanted() if callable(wanted) else wanted)
    for to in expected:
        if copies[to] != 1:
            yield f"{to}: got {copies[to]} messages"
    if others and not sizes:
        yield "no message was kept whole"
    for message in others:
        if sizes and not min(sizes) - DIFFERENCE <= message.size <= max(sizes) + DIFFERENCE:
            yield f"{message.recipient}: a message of {message.size} octets, unlike the others"


def difference(message: Taken, wanted: Letter | None) -> Iterator[str]:
    """What `message` has that the letter does not, or the other way round. None: anything does."""
    if message.content is None or wanted is None:
        return
    found = parsed(message.content)
    to = message.recipient
    for what in ("subject", "text", "html"):
        if getattr(found, what) != getattr(wanted, what):
            yield f"{to}: another {what}"
    if len(found.attachments) != len(wanted.attachments):
        yield f"{to}: {len(found.attachments)} attachments, not {len(wanted.attachments)}"
    elif found.attachments != wanted.attachments:
        yield f"{to}: another attachment"


def parsed(content: bytes) -> Letter:
    """A message as a reader of mail sees it."""
    message = email.message_from_bytes(content, policy=email.policy.default)
    texts = {"plain": "", "html": ""}
    attachments = []
    for part in message.walk():
        assert isinstance(part, EmailMessage)
        if part.is_multipart():
            continue
        if part.get_filename() is not None:
            payload = part.get_payload(decode=True)
            attachments.append(payload if isinstance(payload, bytes) else b"")
        elif part.get_content_maintype() == "text":
            text = str(part.get_content()).replace("\r\n", "\n").rstrip("\n")
            texts[part.get_content_subtype()] = text
    subject = str(message["Subject"])
    return Letter(subject, texts["plain"], texts["html"], tuple(attachments))


def _unstuffed(content: bytes) -> bytes:
    return (b"\n" + content).replace(b"\n..", b"\n.")[1:]


def _wanted(person: Person, with_attachment: bool) -> Callable[[], Letter]:
    return lambda: letter(person, with_attachment=with_attachment)


def main() -> None:
    capture, number, with_attachment = Path(sys.argv[1]), int(sys.argv[2]), sys.argv[3] == "1"
    taken = read_capture(capture)
    found: list[str] = []
    if sys.argv[4] == "1":
        expected = {p.email: _wanted(p, with_attachment) for p in people(number)}
        found = list(faults(taken, expected))
    else:
        copies = Counter(message.recipient for message in taken)
        if len(copies) != number or set(copies.values()) != {1}:
            found = [f"{len(copies)} recipients, {copies.total()} messages, not {number}"]
    for line in found[:SHOWN]:
        print(line)
    if len(found) > SHOWN:
        print(f"and {len(found) - SHOWN} more")


if __name__ == "__main__":
    main()
