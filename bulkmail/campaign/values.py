"""The values of a campaign file: text as its author writes it, into what it means.

Each type carries its own check, whose words are for the author, and what an editor's schema says.
"""

import re
from contextlib import suppress
from datetime import datetime, timedelta
from email.headerregistry import Address
from email.policy import default as email_policy
from ipaddress import ip_address
from typing import Annotated, Any
from urllib.parse import parse_qs, urlsplit
from zoneinfo import ZoneInfo

from pydantic import AfterValidator, BeforeValidator, PlainSerializer, WithJsonSchema

from bulkmail.address import PATTERNS, address_check, domain_of, wire_address
from bulkmail.compose.message import Mailbox
from bulkmail.model import Rate
from bulkmail.pace import EVERY_OTHER

POSTGRES_SCHEMES = ("postgresql:", "postgres:")
"""What the URL of a PostgreSQL database begins with."""

OWN_NAMES = frozenset({"row", "email", "campaign"})
"""Names that templates know by themselves; neither a variable nor a column may take them."""

MAX_SHOWN = 60
"""So much of a wrong value is repeated in the error."""

_UNITS = {"s": 1, "m": 60, "min": 60, "h": 3600, "d": 86400, "day": 86400}
_DURATION = re.compile(r"\s*([0-9]{1,6})\s*([a-z]+)\s*")
_RATE = re.compile(r"\s*([0-9]{1,9})\s*/\s*([a-z]+)\s*")
_CONTROL = re.compile(r"[\x00-\x1f\x7f]")
_NAMED = re.compile(r"""\s*(?P<name>(?!.*=\?)[^<>@"\\]*?)\s*<(?P<address>[^<>\s]+)>\s*""")
"""A name as people write it, commas and all; RFC 5322 3.4 would want quotes around some."""
_FIELD_NAME = re.compile(r"[!-9;-~]{1,40}")
"""RFC 5322 2.2."""
MAX_LIST_ID = 255
"""RFC 2919 3."""
_HOST = re.compile(r"[a-zA-Z0-9_-]+(\.[a-zA-Z0-9_-]+)*\.?|[0-9a-fA-F:.%]*:[0-9a-fA-F:.%a-z]*")
"""A name, or an IPv4 or IPv6 address."""
_DOMAIN = re.compile(r"[a-z0-9-]+(\.[a-z0-9-]+)+")
_CONTENT_ID = re.compile(r"[A-Za-z0-9._-]{1,60}")
_LIST_ID = re.compile(r"(?:(?P<name>[^<>]*?)\s*<)?(?P<id>[a-zA-Z0-9_-]+(?:\.[a-zA-Z0-9_-]+)+)>?")
"""RFC 2919 3: an optional phrase, and an identifier like a domain name."""

OWN_HEADERS = {
    **dict.fromkeys(("from", "reply-to", "subject", "return-path"), "it has a key of its own"),
    **dict.fromkeys(("to", "date", "message-id"), "every message has its own, made by bulkmail"),
    **dict.fromkeys(("cc", "bcc"), "each message goes to one person"),
    **dict.fromkeys(
        ("list-id", "list-unsubscribe", "list-unsubscribe-post"), "it has a key of its own, `list`"
    ),
    **dict.fromkeys(("received", "delivered-to", "dkim-signature"), "servers write it"),
}
"""Header fields that `headers` may not hold, and why; MIME-* and Content-* come on top."""

Text = WithJsonSchema({"type": ["string", "number", "boolean", "null"]})
"""Text in YAML may look like a number; it stays text."""


def _mailbox(value: object) -> Mailbox:
    if isinstance(value, Mailbox):
        return value
    if not isinstance(value, str) or _CONTROL.search(value):
        raise ValueError('must be text like "Name <name@example.org>"')
    _ascii_local_part(value)
    if (plain := _NAMED.fullmatch(value)) is not None:
        return Mailbox(plain["name"], _own_address(plain["address"]))
    addresses: tuple[Address, ...] = ()
    with suppress(Exception):  # Python's parser raises many kinds for what is no address
        header = email_policy.header_factory("From", value)
        addresses = () if header.defects else getattr(header, "addresses", ())
    if len(addresses) != 1:
        raise ValueError(f'must be one address like "Name <name@example.org>", not "{value}"')
    return Mailbox(addresses[0].display_name, _own_address(addresses[0].addr_spec))


def _own_address(address: str) -> str:
    """An address of the author's side, as it goes over the wire (RFC 5890 2.3.2.1)."""
    if (reason := address_check("standard")(address)) is not None:
        raise ValueError(f'"{address}" {reason}')
    _ascii_local_part(address)
    return wire_address(address)


def _ascii_local_part(text: str) -> None:
    """Few servers take another one (RFC 6531), and none of them would for every recipient."""
    found = re.search(r"[^\s<>]+(?=@)", text)
    if found and not found.group().isascii():
        raise ValueError(f'"{found.group()}" before the @ must be plain ASCII')


def _rates(value: object) -> tuple[Rate, ...]:
    if isinstance(value, tuple):
        return value
    if value == "unlimited":
        return ()
    texts = value if isinstance(value, list) else [value]
    if not texts:
        raise ValueError('must be like "1/s" or [1/s, 450/day], or "unlimited"')
    return tuple(_rate(text) for text in texts)


def _rate(text: object) -> Rate:
    match = _RATE.fullmatch(text) if isinstance(text, str) else None
    if match is None or match.group(2) not in _UNITS or int(match.group(1)) == 0:
        shown = str(text)[:MAX_SHOWN]
        raise ValueError(f'"{shown}" is no rate; write a number and s, min, h or day, like 450/day')
    return Rate(int(match.group(1)), _UNITS[match.group(2)])


def duration(value: object) -> timedelta:
    """`90s`, `5m`, `4h`, `2d`. Raises ValueError."""
    if isinstance(value, timedelta):
        return value
    match = _DURATION.fullmatch(value) if isinstance(value, str) else None
    if match is None or match.group(2) not in _UNITS:
        shown = str(value)[:MAX_SHOWN]
        raise ValueError(f'"{shown}" is no length of time; write like 30s, 5m, 4h or 2d')
    return timedelta(seconds=int(match.group(1)) * _UNITS[match.group(2)])


def _moment(value: object) -> datetime:
    """A time with its zone, by name or as an offset."""
    if isinstance(value, datetime):
        return value
    at, _, zone = str(value).rpartition(" ")
    try:
        if zone and not zone[0].isdigit():
            naive = datetime.fromisoformat(at)
            moment = naive.replace(tzinfo=ZoneInfo(zone)) if naive.tzinfo is None else None
        else:
            moment = datetime.fromisoformat(str(value))
    except (ValueError, LookupError, OSError):  # what ZoneInfo raises for a zone that is none
        moment = None
    if moment is None or moment.tzinfo is None or not 2000 < moment.year < 3000:
        raise ValueError(
            'must be a time with its zone, like "2026-12-01 09:00 Asia/Seoul" or'
            ' "2026-12-01 09:00+09:00"'
        )
    return moment


def address_pattern(value: str) -> str:
    try:
        address_check(value)
    except (re.error, OverflowError, RecursionError) as error:
        raise ValueError(f"must be {', '.join(PATTERNS)} or a regex: {error}") from None
    return value


def password_reference(value: str) -> str:
    if value.startswith(("cmd:", "keyring:")):
        raise ValueError(f"{value.partition(':')[0]}: comes in a later version")
    if value != "ask" and not value.startswith(("env:", "file:")):
        raise ValueError(
            "a password does not belong into a campaign file; write `ask` to be asked, env:NAME to"
            " take it from the environment, or file:PATH"
        )
    return value


def _one_line(value: str) -> str:
    if (found := _CONTROL.search(value)) is not None:
        what = "a line break" if found.group() in "\r\n" else "a control character"
        raise ValueError(f"holds {what}")
    return value


def host_name(value: str) -> str:
    if not _HOST.fullmatch(value):
        shown = value[:MAX_SHOWN]
        raise ValueError(
            f'must be the name of a server alone, such as smtp.gmail.com, not "{shown}"; the port'
            " has a key of its own"
        )
    return value


def no_own_names(value: dict[str, Any]) -> dict[str, Any]:
    if taken := sorted(OWN_NAMES & value.keys()):
        raise ValueError(f'"{taken[0]}" has a meaning of its own in templates; choose another name')
    return value


def header_names(value: dict[str, str]) -> dict[str, str]:
    seen: set[str] = set()
    wrong = []
    for name in value:
        lower = name.lower()
        reason = OWN_HEADERS.get(lower)
        if not _FIELD_NAME.fullmatch(name):
            reason = "that is no name of a header field"
        elif lower.startswith(("mime-", "content-")):
            reason = "it follows from the parts of the message"
        elif lower.startswith("resent-") or lower == "apparently-to":
            reason = "each message goes to one person"
        elif lower in seen:
            reason = "it stands twice"
        if reason is not None:
            wrong.append(f'"{name}" cannot be set here: {reason}')
        seen.add(lower)
    if wrong:
        raise ValueError("; ".join(wrong))
    return value


def list_id(value: object) -> Mailbox:
    if isinstance(value, Mailbox):
        return value
    match = _LIST_ID.fullmatch(value) if isinstance(value, str) else None
    if (
        match is None
        or (match["name"] is not None) != str(value).endswith(">")
        or len(match["id"]) > MAX_LIST_ID
        or _CONTROL.search(match["name"] or "")
    ):
        raise ValueError('must be like "news.example.org" or "Our news <news.example.org>"')
    return Mailbox(match["name"] or "", match["id"])


def image_names(value: dict[str, str]) -> dict[str, str]:
    for name in value:
        if not _CONTENT_ID.fullmatch(name):
            raise ValueError(f'"{name}" is no name for an image: letters, digits, dot, - and _')
    return value


def domain_rates(value: dict[str, tuple[Rate, ...]]) -> dict[str, tuple[Rate, ...]]:
    """By domain in A-labels and lower case, or `*`."""
    rates: dict[str, tuple[Rate, ...]] = {}
    for name, its_rates in value.items():
        try:
            domain = name if name == EVERY_OTHER else domain_of(f"x@{name}")
        except ValueError:
            domain = ""
        if domain != EVERY_OTHER and ("@" in name or not _DOMAIN.fullmatch(domain)):
            raise ValueError(f'"{name}" is no domain; write like gmail.com: 20/min or "*": 60/min')
        if domain in rates:
            raise ValueError(f'"{name}" stands here twice')
        rates[domain] = its_rates
    return rates


def ledger_name(value: str) -> str:
    """A file, or the URL of a PostgreSQL database without a password."""
    if value.startswith(POSTGRES_SCHEMES):
        try:
            parts = urlsplit(value)
            named = parts.password or "password" in parse_qs(parts.query)
            parts.port  # noqa: B018  it is looked at only now
        except ValueError as error:
            raise ValueError(f"{error}; write postgresql://user@host:port/database") from None
        if named:
            raise ValueError(
                "a password does not stand in a campaign file; put it into PGPASSWORD or ~/.pgpass"
            )
    return value


MailboxText = WithJsonSchema({"type": "string", "examples": ["Name <name@example.org>"]})
RateText = {"type": "string", "pattern": r"^\s*[0-9]+\s*/\s*(s|m|min|h|d|day)\s*$"}
OneMailbox = Annotated[Mailbox, BeforeValidator(_mailbox), MailboxText]
Line = Annotated[str, AfterValidator(_one_line)]
"""Text that stands on one line: paths, names, what goes to the server."""
OwnAddress = Annotated[str, AfterValidator(_own_address)]
Rates = Annotated[
    tuple[Rate, ...],
    BeforeValidator(_rates),
    PlainSerializer(lambda rates: [str(rate) for rate in rates]),
    WithJsonSchema(
        {"anyOf": [RateText, {"type": "array", "items": RateText}, {"const": "unlimited"}]}
    ),
]


Duration = Annotated[
    timedelta,
    BeforeValidator(duration),
    PlainSerializer(lambda value: f"{value.total_seconds() / 60:g}m"),
    WithJsonSchema({"type": "string", "pattern": r"^\s*[0-9]+\s*(s|m|min|h|d|day)\s*$"}),
]
Moment = Annotated[
    datetime,
    BeforeValidator(_moment),
    WithJsonSchema({"type": "string", "examples": ["2026-12-01 09:00 Asia/Seoul"]}),
]


def is_loopback(host: str) -> bool:
    """Whether `host` is this machine itself, by name or by address."""
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host.lower() == "localhost"
