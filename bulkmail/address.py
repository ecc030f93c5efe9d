"""Which addresses mail is sent to, how they stand in SMTP, and who is the same person. Pure.

`classic` is the regex that beginners learn; `standard`, the default, is the same idea mended for
addresses that exist; anything else is a regex of the user's own. RFC 5321 4.1.2, 4.5.3.1; outside
ASCII RFC 6531 3.3 before the @ and IDNA 2008 (RFC 5891) after it.

An address is sent to as it was written or not at all: nothing is removed from it or mapped to what
may have been meant. Its domain only changes its form, to A-labels. Whether a server takes names
outside ASCII is for the conversation to know.
"""

import re
import unicodedata
import warnings
from collections.abc import Callable
from functools import lru_cache

MAX_LOCAL_PART = 64
MAX_ADDRESS = 254

CLASSIC = r"^[a-zA-Z0-9.+_-]+@[a-zA-Z0-9]+\.[a-zA-Z]{2,3}$"
_ATOM = r"[a-zA-Z0-9!#$%&'*+/=?^_`{|}~\x80-\U0010ffff-]+"
_LABEL = r"[a-zA-Z0-9](?:[a-zA-Z0-9-]{0,61}[a-zA-Z0-9])?"
_TOP_LABEL = r"(?:[a-zA-Z]{2,63}|xn--[a-zA-Z0-9-]{1,59})"
STANDARD = rf"{_ATOM}(?:\.{_ATOM})*@(?:{_LABEL}\.)+{_TOP_LABEL}"
"""Matched against the address with its domain in A-labels."""

PATTERNS = {"standard": STANDARD, "classic": CLASSIC}

_SENDABLE = re.compile(r"[!-~\x80-\U0010ffff]+")
_SYNTAX = frozenset('<>(),;:\\"[]')
_NEVER_MEANT = re.compile(
    "[\u034f\u115f\u1160\u17b4\u17b5\u180b-\u180f\u3164\ufe00-\ufe0f\uff00-\uffef\U000e0100-\U000e01ef]"
)
"""Letters and marks by category, but invisible fillers and variation selectors, or the halfwidth
and fullwidth forms that an input method leaves behind."""


def address_check(pattern: str) -> Callable[[str], str | None]:
    """A function that tells why an address is not sent to, or None if it is.

    `pattern` is `standard`, `classic` or a regex, matched against the whole address as written.
    Raises `re.error` where it is no regex. Whatever the pattern lets through, an address that
    cannot stand in an SMTP command, or has no wire form, is refused.
    """
    with warnings.catch_warnings():  # which tell of Python, not of the campaign
        warnings.simplefilter("ignore")
        regex = re.compile(PATTERNS.get(pattern, pattern))
    form = wire_address if pattern == "standard" else str

    def reason(address: str) -> str | None:
        fault = _fault(address)
        if fault is None and not regex.fullmatch(form(address)):
            if pattern == "standard" and "." not in address.rpartition("@")[2]:
                return "has no dot after the @"
            return f"does not match the pattern {pattern!r}"
        return fault

    return reason


def wire_address(address: str) -> str:
    """`address` as it stands in SMTP: the domain in A-labels, the rest unchanged.

    ASCII is returned as it is. Raises ValueError where the domain has no A-labels, which is never
    so where `address_check` found nothing.
    """
    if address.isascii():
        return address
    local_part, at, domain = address.rpartition("@")
    if not at:
        raise ValueError("is not of the form name@domain")
    return f"{local_part}@{_a_labels(domain)}"


def address_key(address: str) -> str:
    """Two rows are the same person if this is equal. Any text has a key.

    The name without regard to case and composition (Unicode 3.13, D145); the domain in A-labels.
    """
    if address.isascii():
        return address.lower()
    local_part, at, domain = address.rpartition("@")
    try:
        domain = _a_labels(domain)
    except ValueError:
        domain = _canonical(domain)
    folded = unicodedata.normalize("NFD", local_part).casefold()
    return unicodedata.normalize("NFC", folded) + at + domain


def domain_of(address: str) -> str:
    """The domain in A-labels and lower case. Raises ValueError where it has none."""
    domain = address.rpartition("@")[2]
    return domain.lower() if domain.isascii() else _a_labels(domain)


# -- why not -------------------------------------------------------------------------------------


def _fault(address: str) -> str | None:
    """Why no pattern can make this an address."""
    if not address:
        return "the address is empty"
    if not _SENDABLE.fullmatch(address):
        return "holds a space or a control character"
    local_part, at, domain = address.rpartition("@")
    if not address.isascii() and (fault := _international_fault(local_part or address, domain)):
        return fault
    if not (at and local_part and domain):
        return "is not of the form name@domain"
    if "@" in local_part or not _SYNTAX.isdisjoint(address):
        return "is not one plain address"
    return _wire_fault(local_part, domain)


def _international_fault(local_part: str, domain: str) -> str | None:
    """RFC 6531 would take more: only what can be a name to read and to type is taken.

    NFC is asked for because mailboxes are named in it (RFC 6532 3.1) and nobody may compose the
    name on the way to them.
    """
    # What a domain may hold is for IDNA, but for what cannot be seen: that may be meant for no one.
    odd = _odd_one(local_part, "LMN") or _odd_one(domain, "LMNPS")
    if odd is not None:
        name = unicodedata.name(odd, "unnamed")
        return f"holds U+{ord(odd):04X} ({name}), which does not belong in an address"
    if not unicodedata.is_normalized("NFC", local_part):
        return "has letters in pieces before the @ (not Unicode NFC)"
    if any(unicodedata.category(atom[0])[0] == "M" for atom in local_part.split(".") if atom):
        return "has a combining mark where a letter must stand"
    return None


def _odd_one(text: str, classes: str) -> str | None:
    """The first character outside ASCII that is of no such Unicode category, or never meant."""
    for character in text:
        if not character.isascii() and (
            unicodedata.category(character)[0] not in classes or _NEVER_MEANT.match(character)
        ):
            return character
    return None


def _wire_fault(local_part: str, domain: str) -> str | None:
    """RFC 5321 4.5.3.1 counts octets, as they are sent."""
    if not domain.isascii() or "xn--" in domain.lower():
        try:
            domain = _a_labels(domain)
        except ValueError as error:
            return f"has no valid domain (IDNA 2008): {error}"
    octets = len(local_part) if local_part.isascii() else len(local_part.encode())
    if octets > MAX_LOCAL_PART or octets + 1 + len(domain) > MAX_ADDRESS:
        return "is longer than RFC 5321 allows (64 before the @, 254 in all)"
    return None


# -- domains -------------------------------------------------------------------------------------


def _canonical(domain: str) -> str:
    return unicodedata.normalize("NFC", domain.lower())


@lru_cache(maxsize=4096)
def _a_labels(domain: str) -> str:
    """RFC 5891 4 and 5.3, after lower-casing and NFC only. Raises ValueError.

    Only U+002E separates labels, and A-labels are checked and kept. Other ASCII labels are not
    IDNA's concern.
    """
    import idna  # most lists need it for nobody

    return ".".join(
        idna.alabel(label).decode("ascii")
        if not label.isascii() or label.startswith("xn--")
        else label
        for label in _canonical(domain).split(".")
    )
