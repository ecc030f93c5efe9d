"""The campaign file: its keys, their types, and every mistake at once with its place.

`CampaignFile` is the shape; nothing here opens a file that the campaign names.
"""

import difflib
import re
from collections.abc import Mapping
from email.headerregistry import Address
from email.policy import default as email_policy
from ipaddress import ip_address
from typing import Annotated, Any, Literal

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Discriminator,
    Field,
    RootModel,
    Tag,
    ValidationError,
    model_validator,
)
from pydantic_core import ErrorDetails

from bulkmail.address import PATTERNS, address_check
from bulkmail.campaign.nodes import Path, Places
from bulkmail.compose.message import Mailbox
from bulkmail.errors import CampaignError, Problem
from bulkmail.model import Rate, Security

LATER = frozenset(
    {
        *("headers", "list", "exclude", "images", "rate_per_domain", "retry", "in_doubt"),
        *("stop_after_failures", "start_at", "dkim", "unsubscribe", "bounces", "relays"),
    }
)
"""Keys that are planned: said so, rather than called unknown."""

MAX_INLINE_PEOPLE = 1000
_UNITS = {"s": 1, "m": 60, "min": 60, "h": 3600, "d": 86400, "day": 86400}
_RATE = re.compile(r"\s*([0-9]{1,9})\s*/\s*([a-z]+)\s*")
_CONTROL = re.compile(r"[\x00-\x1f\x7f]")


def _mailbox(value: object) -> Mailbox:
    if isinstance(value, Mailbox):
        return value
    if not isinstance(value, str) or _CONTROL.search(value):
        raise ValueError('must be text like "Name <name@example.org>"')
    header = email_policy.header_factory("From", value)
    addresses: tuple[Address, ...] = getattr(header, "addresses", ())
    if len(addresses) != 1 or header.defects:
        raise ValueError(f'must be one address like "Name <name@example.org>", not "{value}"')
    return Mailbox(addresses[0].display_name, _plain_address(addresses[0].addr_spec))


def _plain_address(address: str) -> str:
    if (reason := address_check("standard")(address)) is not None:
        raise ValueError(f'"{address}" {reason}')
    return address


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
        raise ValueError(f'"{text}" is no rate; write a number and s, min, h or day, like 450/day')
    return Rate(int(match.group(1)), _UNITS[match.group(2)])


def _pattern(value: str) -> str:
    try:
        address_check(value)
    except re.error as error:
        raise ValueError(f"must be {', '.join(PATTERNS)} or a regex: {error}") from None
    return value


def _password(value: str) -> str:
    if value != "ask" and not value.startswith(("env:", "file:")):
        raise ValueError(
            "a password does not belong into a campaign file; write `ask` to be asked, env:NAME to"
            " take it from the environment, or file:PATH"
        )
    return value


def _variable_names(value: dict[str, Any]) -> dict[str, Any]:
    if taken := sorted({"row", "email", "campaign"} & value.keys()):
        raise ValueError(f'"{taken[0]}" has a meaning of its own in templates; choose another name')
    return value


OneMailbox = Annotated[Mailbox, BeforeValidator(_mailbox)]
PlainAddress = Annotated[str, AfterValidator(_plain_address)]
Rates = Annotated[tuple[Rate, ...], BeforeValidator(_rates)]


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, populate_by_name=True)


class TemplateNames(_Part):
    """`template:`; at least one of the two."""

    html: str | None = None
    text: str | None = None

    @model_validator(mode="after")
    def _one_at_least(self) -> "TemplateNames":
        if self.html is None and self.text is None:
            raise ValueError("needs html or text, or both")
        return self


class FileSource(_Part):
    """Recipients in a CSV file. `columns` maps the names of templates to the file's headings."""

    file: str
    columns: Mapping[str, str] = Field(default_factory=dict)
    encoding: str = "utf-8"


class Person(RootModel[dict[str, str]]):
    """A recipient that stands in the campaign file itself."""


def _source_kind(value: object) -> str | None:
    if isinstance(value, FileSource) or (isinstance(value, dict) and "file" in value):
        return "file"
    if isinstance(value, Person) or (isinstance(value, dict) and "email" in value):
        return "person"
    return None


Source = Annotated[
    Annotated[FileSource, Tag("file")] | Annotated[Person, Tag("person")],
    Discriminator(
        _source_kind,
        custom_error_type="source",
        custom_error_message="needs {file: members.csv} or {email: kim@example.com, name: …}",
    ),
]


class AttachmentFile(_Part):
    """A file for every message; `name` is what readers see, by default the file's own."""

    file: str
    name: str | None = None


class Addresses(_Part):
    """Which addresses are written to, and what happens with the others."""

    pattern: Annotated[str, AfterValidator(_pattern)] = "standard"
    duplicates: Literal["skip", "error"] = "skip"
    invalid: Literal["skip", "error"] = "skip"


class Smtp(_Part):
    """The submission server."""

    host: Annotated[str, Field(min_length=1)]
    port: Annotated[int, Field(ge=1, le=65535)] = 465
    security: Security | None = None
    username: str | None = None
    password: Annotated[str, AfterValidator(_password)] | None = None
    ca_file: str | None = None
    helo: Annotated[str, Field(pattern=r"^[A-Za-z0-9.:\[\]-]+$")] | None = None
    connections: Annotated[int, Field(ge=1, le=1000)] = 4
    messages_per_connection: Annotated[int, Field(ge=1)] = 100

    @model_validator(mode="after")
    def _agree(self) -> "Smtp":
        if self.security is None and self.port not in (465, 587):
            raise ValueError(
                f"with port {self.port} say also security: tls, starttls or none (465 implies tls,"
                " 587 starttls)"
            )
        if (self.username is None) != (self.password is None):
            missing = "password" if self.password is None else "username"
            raise ValueError(f"username and password belong together; {missing} is missing")
        if self.security is Security.NONE and self.username and not is_loopback(self.host):
            raise ValueError(
                "a login over an unprotected connection is refused; use tls or starttls"
            )
        return self

    @property
    def effective_security(self) -> Security:
        if self.security is not None:
            return self.security
        return Security.TLS if self.port == 465 else Security.STARTTLS


class CampaignFile(_Part):
    """A whole campaign file. All values of `variables` and of people are text."""

    campaign: Annotated[str, Field(pattern=r"^\w[\w .@+-]{0,99}$")] | None = None
    author: Annotated[OneMailbox, Field(alias="from")]
    reply_to: OneMailbox | None = None
    return_path: PlainAddress | None = None
    subject: Annotated[str, Field(min_length=1)]
    template: TemplateNames
    variables: Annotated[dict[str, Any], AfterValidator(_variable_names)] = Field(
        default_factory=dict
    )
    recipients: Annotated[list[Source], Field(min_length=1)]
    addresses: Addresses = Addresses()
    attachments: list[
        Annotated[
            AttachmentFile, BeforeValidator(lambda v: {"file": v} if isinstance(v, str) else v)
        ]
    ] = Field(default_factory=list)
    smtp: Smtp
    rate: Rates = (Rate(1, 1),)
    ledger: str | None = None


def parse(value: object, places: Places) -> CampaignFile:
    """Raises CampaignError with every problem, each at its place."""
    if not isinstance(value, dict):
        raise CampaignError(
            [Problem(places.value(()), "a campaign file is a list of `key: value`")]
        )
    people = value.get("recipients")
    if isinstance(people, list) and len(people) > MAX_INLINE_PEOPLE:
        message = f"{len(people)} recipients in the campaign file; put them in a CSV file"
        raise CampaignError([Problem(places.key(("recipients",)), message)])
    try:
        return CampaignFile.model_validate(value)
    except ValidationError as error:
        problems = [_problem(details, places) for details in error.errors()]
        raise CampaignError(sorted(problems, key=_by_position)) from None


def _problem(details: ErrorDetails, places: Places) -> Problem:
    loc = details["loc"]
    path = places.known(loc)
    kind = details["type"]
    if kind == "extra_forbidden":
        return Problem(places.key(path), _unknown(path))
    if kind == "missing":
        name = "from" if loc[-1] == "author" else loc[-1]
        return Problem(places.key(path), f'"{name}" is missing' + _of(path))
    message = details["msg"].removeprefix("Value error, ").replace("Input should", "must")
    return Problem(places.value(path), f"{_dotted(path)}: {message}" if path else message)


def _unknown(path: Path) -> str:
    key = str(path[-1])
    if key in LATER:
        return f'"{key}" comes in a later version; take it out for now'
    near = difflib.get_close_matches(key, _keys_at(path[:-1]), n=1)
    return f'unknown key "{key}"' + (f'; did you mean "{near[0]}"?' if near else "")


def _keys_at(path: Path) -> list[str]:
    parts: dict[str, type[BaseModel]] = {
        "template": TemplateNames,
        "recipients": FileSource,
        "addresses": Addresses,
        "attachments": AttachmentFile,
        "smtp": Smtp,
    }
    shape = parts.get(str(path[0]), CampaignFile) if path else CampaignFile
    return [field.alias or name for name, field in shape.model_fields.items()]


def _of(path: Path) -> str:
    return f" in {_dotted(path)}" if path else ""


def _dotted(path: Path) -> str:
    return ".".join(str(step + 1) if isinstance(step, int) else step for step in path)


def _by_position(problem: Problem) -> tuple[int, ...]:
    return tuple(int(part) for part in problem.place.split(":") if part.isdigit())


def is_loopback(host: str) -> bool:
    """Whether `host` is this machine itself, by name or by address."""
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host.lower() == "localhost"
