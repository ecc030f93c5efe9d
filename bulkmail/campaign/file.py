"""The campaign file: its keys and their types. Opens no file that the campaign names."""

import re
from collections.abc import Mapping
from datetime import timedelta
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
    WithJsonSchema,
    model_validator,
)

from bulkmail.campaign.values import (
    Duration,
    Line,
    Moment,
    OneMailbox,
    OwnAddress,
    Rates,
    Text,
    address_pattern,
    domain_rates,
    header_names,
    host_name,
    image_names,
    is_loopback,
    ledger_name,
    list_id,
    no_own_names,
    password_reference,
)
from bulkmail.compose.message import Mailbox
from bulkmail.model import Rate, Security, State

_TEMPLATED = re.compile(r"\{[{%]")
NAME = re.compile(r"^\w[\w .@+-]{0,99}$")
"""Of a campaign."""
States = Literal["pending", "accepted", "deferred", "failed", "in_doubt", "expired", "cancelled"]


def _person(value: dict[str, str]) -> dict[str, str]:
    no_own_names({name: "" for name in value if name != "email"})
    return value


def _file_entry(value: object) -> object:
    return {"file": value} if isinstance(value, str) else value


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, populate_by_name=True)


class TemplateNames(_Part):
    """The message's templates: HTML, text or both. Without text it is made from the HTML."""

    html: Line | None = None
    text: Line | None = None

    @model_validator(mode="after")
    def _one_at_least(self) -> "TemplateNames":
        if self.html is None and self.text is None:
            raise ValueError("needs html or text, or both")
        return self


class FileSource(_Part):
    """People in a file: .csv, .tsv or .jsonl."""

    file: Line
    columns: Mapping[str, str] = Field(
        default_factory=dict,
        description="Names for templates: the file's headings. `email` is the address.",
    )
    encoding: Annotated[str, Field(description="Such as cp949 for Korean Excel.")] = "utf-8"


class EarlierCampaign(_Part):
    """People of an earlier campaign, with all their fields, by what became of them there."""

    campaign: Annotated[str, Field(min_length=1)]
    states: Annotated[tuple[States, ...], Field(min_length=1)] = ("failed", "expired")

    @property
    def known_states(self) -> tuple[State, ...]:
        """In flight without a run is in doubt, which only that campaign's next run records."""
        states = tuple(State(state) for state in self.states)
        return (*states, State.IN_FLIGHT) if State.IN_DOUBT in states else states


class Person(RootModel[dict[str, Annotated[str, Text]]]):
    """A recipient that stands in the campaign file itself: `email`, and any other fields."""

    model_config = ConfigDict(json_schema_extra={"required": ["email"]})
    root: Annotated[dict[str, Annotated[str, Text]], AfterValidator(_person)]


def _source_kind(value: object) -> str | None:
    if isinstance(value, dict):
        keys = (("email", "<person>"), ("file", "<file>"), ("campaign", "<earlier>"))
        return next((kind for key, kind in keys if key in value), None)
    return None


Source = Annotated[
    Annotated[FileSource, Tag("<file>")]
    | Annotated[EarlierCampaign, Tag("<earlier>")]
    | Annotated[Person, Tag("<person>")],
    Discriminator(
        _source_kind,
        custom_error_type="source",
        custom_error_message=(
            "needs {file: members.csv}, {email: kim@example.com, name: …}"
            " or {campaign: an-earlier-one, states: [failed]}"
        ),
    ),
]
ExcludeFile = Annotated[
    FileSource, BeforeValidator(_file_entry, json_schema_input_type=str | FileSource)
]


class AttachmentFile(_Part):
    """A file for every message, or, with a template in its path or name, one for each person."""

    file: Annotated[Line, Field(min_length=1)]
    name: Annotated[Line, Field(min_length=1, description="What readers see.")] | None = None

    @property
    def is_personal(self) -> bool:
        return bool(_TEMPLATED.search(self.file) or _TEMPLATED.search(self.name or ""))


AttachmentEntry = Annotated[
    AttachmentFile, BeforeValidator(_file_entry, json_schema_input_type=str | AttachmentFile)
]


class Addresses(_Part):
    """Which addresses are written to, and what happens with the others."""

    pattern: Annotated[str, AfterValidator(address_pattern)] = "standard"
    duplicates: Literal["skip", "error"] = "skip"
    invalid: Literal["skip", "error"] = "skip"


class Unsubscribe(_Part):
    """Where mail readers send those who leave: `List-Unsubscribe` (RFC 2369)."""

    mailto: OwnAddress | None = None
    url: Annotated[str, Field(min_length=1, description="A template.")] | None = None

    @model_validator(mode="after")
    def _one_at_least(self) -> "Unsubscribe":
        if self.mailto is None and self.url is None:
            raise ValueError("needs mailto or url, or both")
        if self.url is not None and not self.url.startswith(("https://", "http://", "{{")):
            raise ValueError('unsubscribe.url must begin with "https://"')
        return self


class MailingList(_Part):
    """What mail readers are told about the list: `List-ID` (RFC 2919), `List-Unsubscribe`."""

    id: Annotated[Mailbox, BeforeValidator(list_id), WithJsonSchema({"type": "string"})] | None = (
        None
    )
    unsubscribe: Unsubscribe | None = None


class Smtp(_Part):
    """The submission server."""

    host: Annotated[Line, AfterValidator(host_name)]
    port: Annotated[int, Field(ge=1, le=65535)] = 465
    security: Security | None = None
    username: Line | None = None
    password: Annotated[Line, AfterValidator(password_reference)] | None = None
    ca_file: Line | None = None
    helo: Annotated[str, Field(pattern=r"^[A-Za-z0-9.:\[\]-]+$")] | None = None
    connections: Annotated[int, Field(ge=1, le=1000)] = 4
    messages_per_connection: Annotated[int, Field(ge=1)] = 100
    pipelining: Literal["auto", "off"] = "auto"
    window: Annotated[int, Field(ge=1, le=10_000)] = 16

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


class Retry(_Part):
    """When those who were refused for now are tried again: the pauses double."""

    first: Duration = timedelta(minutes=5)
    longest: Duration = timedelta(hours=4)
    give_up: Annotated[Duration, Field(description="After the first attempt.")] = timedelta(days=2)

    @model_validator(mode="after")
    def _ordered(self) -> "Retry":
        if not timedelta(0) < self.first <= self.longest <= self.give_up:
            raise ValueError("must grow: first, longest, give_up")
        return self


class CampaignFile(_Part):
    """A campaign of bulkmail. All values of `variables` and of people are text."""

    campaign: (
        Annotated[
            str,
            Field(
                pattern=NAME.pattern,
                description="Its name in the ledger. The same name continues, a new one is new.",
            ),
        ]
        | None
    ) = None
    author: Annotated[OneMailbox, Field(alias="from")]
    reply_to: OneMailbox | None = None
    return_path: Annotated[OwnAddress, Field(description="Where bounces go.")] | None = None
    subject: Annotated[str, Field(min_length=1, description="A template.")]
    template: TemplateNames
    variables: Annotated[dict[str, Any], AfterValidator(no_own_names)] = Field(
        default_factory=dict, description="Names for the templates, the same for everyone."
    )
    headers: Annotated[dict[str, Annotated[str, Text]], AfterValidator(header_names)] = Field(
        default_factory=dict, description="More header fields; their values are templates."
    )
    list: MailingList | None = None
    recipients: Annotated[tuple[Source, ...], Field(min_length=1)]
    exclude: tuple[ExcludeFile, ...] = Field(
        default=(), description="Files of addresses that are never sent to."
    )
    addresses: Addresses = Addresses()
    attachments: tuple[AttachmentEntry, ...] = ()
    images: Annotated[dict[str, Line], AfterValidator(image_names)] = Field(
        default_factory=dict, description='Pictures in the HTML, by name: src="cid:name".'
    )
    smtp: Smtp
    rate: Rates = (Rate(1, 1),)
    rate_per_domain: Annotated[dict[str, Rates], AfterValidator(domain_rates)] = Field(
        default_factory=dict, description='By domain of the recipient; "*" is each other one.'
    )
    retry: Retry = Retry()
    in_doubt: Literal["hold", "resend"] = Field(
        default="hold", description="What to do with those who may or may not have it."
    )
    stop_after_failures: Annotated[
        int, Field(ge=1, description="Equal refusals of a message in a row that stop the run.")
    ] = 10
    start_at: Moment | None = None
    ledger: Annotated[Line, AfterValidator(ledger_name)] | None = None

    @model_validator(mode="after")
    def _agree(self) -> "CampaignFile":
        if self.images and self.template.html is None:
            raise ValueError("images stand in HTML: template.html is missing")
        return self
