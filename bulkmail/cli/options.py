"""What several commands take, and the places that follow from it."""

import os
from pathlib import Path
from typing import TYPE_CHECKING

import click

from bulkmail.campaign import LEDGER_NAME, Campaign, Located
from bulkmail.campaign.files import shown
from bulkmail.campaign.values import POSTGRES_SCHEMES, duration
from bulkmail.errors import CampaignError, MissingFileError, SecretError
from bulkmail.ledger import Home, SqliteHome, SqliteLedger, under_way_at
from bulkmail.smtp.meaning import MEANINGS

if TYPE_CHECKING:
    from bulkmail.ledger.postgres import PostgresHome

SANDBOX_FOLDER = "sandbox"
LEAST_LEASE_SECONDS = 2.0
"""Less, and a busy machine loses its lease while it works."""
LEDGER_VARIABLE = "BULKMAIL_LEDGER"
"""The environment's: the URL of a ledger in PostgreSQL."""

campaign_file = click.argument(
    "file", metavar="FILE", type=click.Path(path_type=Path, dir_okay=False)
)
sandbox_flag = click.option(
    "--sandbox", "in_sandbox", is_flag=True, help="What was sent with `run --sandbox`."
)


cancel_removed_flag = click.option(
    "--cancel-removed", is_flag=True, help="Give up people who left the recipients."
)
new_flag = click.option(
    "--new", is_flag=True, help="Send what people have from another campaign again."
)


def _settings(
    context: click.Context, parameter: click.Parameter, values: tuple[str, ...]
) -> dict[str, str]:
    pairs = [value.partition("=") for value in values]
    for name, equals, _ in pairs:
        if not (equals and name.isidentifier()):
            raise click.BadParameter("must be NAME=VALUE, such as issue=12")
    return {name: value for name, _, value in pairs}


set_option = click.option(
    "--set",
    "settings",
    multiple=True,
    callback=_settings,
    metavar="NAME=VALUE",
    help="Take the place of a variable of the campaign. May stand several times.",
)
ledger_option = click.option(
    "--ledger",
    metavar="URL|FILE",
    help="postgresql://user@host/database, or a file. Default: the project's, here or in a folder"
    f" above, and that of {LEDGER_VARIABLE} in the environment.",
)


def _database(context: click.Context, parameter: click.Parameter, value: str) -> str:
    if not value.startswith(POSTGRES_SCHEMES):
        raise click.BadParameter("must be a URL such as postgresql://user@host/database")
    return value


database_option = click.option(
    "--ledger",
    "url",
    envvar=LEDGER_VARIABLE,
    required=True,
    callback=_database,
    metavar="URL",
    help=f"postgresql://user@host/database; default: the environment's {LEDGER_VARIABLE}.",
)
json_flag = click.option("--json", "as_json", is_flag=True, help="One JSON object per line.")


def duration_of(context: click.Context, parameter: click.Parameter, value: str) -> float:
    """In seconds."""
    try:
        return duration(value).total_seconds()
    except ValueError as error:
        raise click.BadParameter(str(error)) from None


def _lease(context: click.Context, parameter: click.Parameter, value: str) -> float:
    if (seconds := duration_of(context, parameter, value)) < LEAST_LEASE_SECONDS:
        raise click.BadParameter(f"must be {LEAST_LEASE_SECONDS:g}s or more")
    return seconds


lease_option = click.option(
    "--lease",
    "lease_seconds",
    callback=_lease,
    envvar="BULKMAIL_LEASE",
    default="15s",
    show_default=True,
    metavar="DURATION",
    help="With a ledger in PostgreSQL: whoever is silent for so long loses their part to others.",
)


def _why(context: click.Context, parameter: click.Parameter, value: str | None) -> tuple[str, ...]:
    keys = tuple(name.strip() for name in value.split(",")) if value else ()
    known = [meant.key for meant in MEANINGS]
    if wrong := [key for key in keys if key not in known]:
        raise click.BadParameter(f"{wrong[0]!r} is none of {', '.join(known)}")
    return keys


why_option = click.option(
    "--why",
    callback=_why,
    metavar="WHY[,WHY]",
    help="Only those of whom this was said, e.g. mailbox-full,no-mailbox; docs/reports.md has all.",
)


def ledger_home(campaign: Located, in_sandbox: bool = False) -> Home:
    """Where the campaign's ledger is kept, or that of rehearsals. Raises CampaignError if it is
    one.
    """
    path, rehearsed = campaign.ledger_path, sandbox_folder(campaign) / LEDGER_NAME
    if path and path.resolve() == rehearsed.resolve():
        raise CampaignError(f"{campaign.path}: `ledger` is that of rehearsals; name another file")
    if in_sandbox:
        return file_home(rehearsed)
    return file_home(path) if path else database_home(str(campaign.ledger_url))


def database_home(url: str) -> "PostgresHome":
    """The ledger in a PostgreSQL database. Raises SecretError without the extra for it."""
    try:
        from bulkmail import engine
        from bulkmail.ledger.postgres import PostgresHome
    except ModuleNotFoundError as error:
        raise without_postgres(error) from None
    return PostgresHome(url, engine)


def without_postgres(error: ModuleNotFoundError) -> Exception:
    """What to raise where something for a ledger in PostgreSQL could not be imported."""
    if error.name not in ("psycopg", "pgqueuer"):
        return error
    return SecretError("a ledger in PostgreSQL needs its extra: pip install 'bulkmail[postgres]'")


def file_home(path: Path) -> SqliteHome:
    return SqliteHome(path, shown(path))


def named_home(ledger: str) -> Home:
    """The ledger that `--ledger` names: the URL of a database, or a file."""
    if ledger.startswith(POSTGRES_SCHEMES):
        return database_home(ledger)
    return file_home(Path(ledger))


def environment_homes() -> list[Home]:
    """The ledger that LEDGER_VARIABLE names, if it is set."""
    ledger = os.environ.get(LEDGER_VARIABLE)
    return [named_home(ledger)] if ledger else []


def ledgers_here(*, in_sandbox: bool) -> list[Home]:
    """That of the project which the current folder belongs to, and that of the environment."""
    name = Path(SANDBOX_FOLDER, LEDGER_NAME) if in_sandbox else Path(LEDGER_NAME)
    here = Path.cwd()
    paths = (folder / name for folder in (here, *here.parents))
    of_project = next((file_home(path) for path in paths if os.path.isfile(path)), None)
    found: list[Home] = [of_project] if of_project else []
    if not in_sandbox:
        found += environment_homes()
    if not found:
        told = "" if in_sandbox else f", and no {LEDGER_VARIABLE} in the environment"
        raise MissingFileError(f"no {name} here or in a folder above{told}; name a campaign FILE")
    return found


def scratch(campaign: Campaign) -> tuple[SqliteLedger, bool]:
    """What would become of the campaign's ledger, without touching it, and whether a run is under
    way there.
    """
    home = ledger_home(campaign)
    under_way = under_way_at(home, campaign.name)
    return home.scratch(campaign.name, campaign.digest()), under_way


def sandbox_folder(campaign: Located) -> Path:
    return campaign.project / SANDBOX_FOLDER
