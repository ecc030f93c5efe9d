"""The content of a message as it goes over the wire: dots stuffed, in pieces."""

from collections.abc import Iterator
from functools import lru_cache

MAX_JOINED_BYTES = 65536
"""What is said in one write. Longer content leaves in pieces of this size, so that its end is
handed out only after the rest went."""

FINAL_DOT = b".\r\n"


def stuffed(piece: bytes) -> bytes:
    """RFC 5321 4.5.2: a line that begins with a dot gets another. `piece` starts a line."""
    return _stuffed_once(piece) if len(piece) > MAX_JOINED_BYTES else _stuffed(piece)


def _stuffed(piece: bytes) -> bytes:
    if b"\n." in piece:
        piece = piece.replace(b"\n.", b"\n..")
    return b"." + piece if piece.startswith(b".") else piece


_stuffed_once = lru_cache(maxsize=2)(_stuffed)
"""Long pieces are those that all messages share: each is looked through once. Its hash, too, is
made once, and kept with it."""


def portions(pieces: tuple[bytes, ...]) -> Iterator[bytes]:
    """Short pieces together, long ones in parts, none of them empty."""
    short: list[bytes] = []
    for piece in pieces:
        if short and sum(map(len, short)) + len(piece) > MAX_JOINED_BYTES:
            yield b"".join(short)
            short.clear()
        if len(piece) <= MAX_JOINED_BYTES:
            short += [piece] if piece else []
            continue
        yield from _parts(piece)
    if short:
        yield b"".join(short)


@lru_cache(maxsize=2)
def _parts(piece: bytes) -> list[bytes]:
    starts = range(0, len(piece), MAX_JOINED_BYTES)
    return [piece[start : start + MAX_JOINED_BYTES] for start in starts]
