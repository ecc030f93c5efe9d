"""Which addresses mail is sent to. Pure.

`classic` is the regex that beginners learn; `standard`, the default, is the same idea mended for
addresses that exist; anything else is a regex of the user's own. RFC 5321 4.1.2, 4.5.3.1.
"""

import re
from collections.abc import Callable

MAX_LOCAL_PART = 64
MAX_ADDRESS = 254

CLASSIC = r"^[a-zA-Z0-9.+_-]+@[a-zA-Z0-9]+\.[a-zA-Z]{2,3}$"
_ATOM = r"[a-zA-Z0-9!#$%&'*+/=?^_`{|}~-]+"
_LABEL = r"[a-zA-Z0-9](?:[a-zA-Z0-9-]{0,61}[a-zA-Z0-9])?"
_TOP_LABEL = r"(?:[a-zA-Z]{2,63}|xn--[a-zA-Z0-9-]{1,59})"
STANDARD = rf"{_ATOM}(?:\.{_ATOM})*@(?:{_LABEL}\.)+{_TOP_LABEL}"

PATTERNS = {"standard": STANDARD, "classic": CLASSIC}

_SENDABLE = re.compile(r"[!-~]+")
_SYNTAX = frozenset('<>(),;:\\"[]')


def address_check(pattern: str) -> Callable[[str], str | None]:
    """A function that tells why an address is not sent to, or None if it is.

    `pattern` is `standard`, `classic` or a regex, matched against the whole address. Raises
    `re.error` where it is no regex. Whatever the pattern lets through, an address that cannot
    stand in an SMTP command as it is, is refused.
    """
    regex = re.compile(PATTERNS.get(pattern, pattern))

    def reason(address: str) -> str | None:
        if not address:
            return "the address is empty"
        if not _SENDABLE.fullmatch(address):
            return "holds a character that is not plain ASCII, or a space"
        local_part, at, domain = address.rpartition("@")
        if not (at and local_part and domain):
            return "is not of the form name@domain"
        if len(local_part) > MAX_LOCAL_PART or len(address) > MAX_ADDRESS:
            return "is longer than RFC 5321 allows (64 before the @, 254 in all)"
        if "@" in local_part or not _SYNTAX.isdisjoint(address):
            return "is not one plain address"
        if not regex.fullmatch(address):
            return f"does not match the pattern {pattern!r}"
        return None

    return reason


def address_key(address: str) -> str:
    """Two rows are the same person if this is equal."""
    return address.casefold()


def domain_of(address: str) -> str:
    """The domain in lower case."""
    return address.rpartition("@")[2].lower()
