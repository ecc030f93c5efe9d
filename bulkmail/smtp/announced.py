"""What a submission server announced in its last EHLO reply, and what that means for a message."""

from dataclasses import dataclass

from bulkmail.model import MailObject, Outcome, Phase


@dataclass(frozen=True, slots=True)
class Announced:
    """The extensions that the server has; nothing, by default.

    `size` is SIZE (RFC 1870), `max_bytes` its number, or None where there is no fixed limit.
    `smtputf8` (RFC 6531) and `eightbitmime` (RFC 6152) only count together: RFC 6531 3.1 asks
    for both. So do `pipelining` (RFC 2920) and `chunking` (RFC 3030): without the first the second
    saves nothing.
    """

    pipelining: bool = False
    chunking: bool = False
    size: bool = False
    max_bytes: int | None = None
    smtputf8: bool = False
    eightbitmime: bool = False

    def against(self, mail: MailObject, size_bytes: int) -> Outcome | None:
        """Why `mail`, which has that size, need not be offered to this server, or None."""
        if mail.needs_smtputf8 and not (self.smtputf8 and self.eightbitmime):
            # If only the reverse-path is, then all messages are concerned and no recipient.
            theirs = not mail.envelope.forward_path.isascii()
            cause = "the server does not take addresses outside ASCII (SMTPUTF8)"
            return Outcome(Phase.UNADDRESSABLE if theirs else Phase.UNSENDABLE, None, cause)
        if self.max_bytes is not None and size_bytes > self.max_bytes:
            has, takes = _sizes(size_bytes, self.max_bytes)
            cause = f"the message has {has}; the server takes {takes} at most (SIZE)"
            return Outcome(Phase.UNSENDABLE, None, cause)
        return None

    def parameters(self, mail: MailObject, size_bytes: int) -> str:
        """What MAIL says of `mail` after its path (RFC 5321 4.1.1.11), with a space before each."""
        size = f" SIZE={size_bytes}" if self.size else ""
        return f"{size} BODY=8BITMIME SMTPUTF8" if mail.needs_smtputf8 else size


def _sizes(*numbers_of_bytes: int) -> list[str]:
    """In megabytes, or exactly where these would not tell them apart."""
    texts = [f"{number / 1e6:.1f} MB" for number in numbers_of_bytes]
    if len(set(texts)) == len(texts) and min(numbers_of_bytes) >= 1e6:
        return texts
    return [f"{number:,} bytes" for number in numbers_of_bytes]
