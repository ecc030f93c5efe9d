"""`bulkmail suppress`: addresses that no campaign of the project sends to."""

import os
import time
from datetime import datetime
from pathlib import Path

import click

from bulkmail.address import address_check
from bulkmail.campaign import LEDGER_NAME
from bulkmail.cli import options, text
from bulkmail.errors import CampaignError
from bulkmail.ledger import Home

_addresses = click.argument("addresses", metavar="ADDRESS...", nargs=-1, required=True)


@click.group()
def suppress() -> None:
    """Addresses that are never sent to, by any campaign of the project."""


@suppress.command()
@_addresses
@click.option("--reason", default="", help="Kept beside the address, and shown in reports.")
@options.ledger_option
def add(addresses: tuple[str, ...], reason: str, ledger: str | None) -> None:
    """Never send to ADDRESS again."""
    problems = [f"{a}: {why}" for a in addresses if (why := address_check(".+")(a))]
    if problems:
        raise CampaignError("\n".join([*problems, "nobody was added"]))
    home = options.named_home(ledger) if ledger else _of_project()
    number = home.suppress(addresses, _text(reason), time.time())
    known = len(addresses) - number
    click.echo(
        f"{number} suppressed in {home.name}"
        + (f" · {known} already stood there" if known else "")
        + "; a run that is under way does not see it"
    )


@suppress.command()
@_addresses
@options.ledger_option
def remove(addresses: tuple[str, ...], ledger: str | None) -> None:
    """Send to ADDRESS again."""
    number = _home(ledger).release(map(_text, addresses))
    missing = len(addresses) - number
    click.echo(f"{number} taken off" + (f" · {missing} did not stand there" if missing else ""))


@suppress.command("list")
@options.ledger_option
@options.json_flag
def list_(ledger: str | None, as_json: bool) -> None:
    """Who is never sent to, since when, and why."""
    view = _home(ledger).view()
    nobody = True
    for address, reason, at in view.suppressed():
        nobody = False
        if as_json:
            told = {"email": address, "reason": reason, "at": at}
            click.echo(text.json_line(told))
        else:
            click.echo(f"{address:<34} {datetime.fromtimestamp(at):%Y-%m-%d}  {reason}".rstrip())
    if nobody:
        click.echo("nobody is suppressed", err=True)
    view.close()


def _home(ledger: str | None) -> Home:
    if ledger:
        return options.named_home(ledger)
    return _only(options.ledgers_here(in_sandbox=False))


def _only(homes: list[Home]) -> Home:
    """Raises CampaignError where it could be one or the other: the wrong one would mail people."""
    if len(homes) > 1:
        names = "\n".join(f"  --ledger {home.name}" for home in homes)
        raise CampaignError(
            f"the project has a ledger, and {options.LEDGER_VARIABLE} names another; say which:\n"
            f"{names}"
        )
    return homes[0]


def _text(argument: str) -> str:
    """What was typed, without bytes that are no text."""
    return argument.encode("utf-8", "replace").decode()


def _of_project() -> Home:
    """The project's ledger, or that of the environment, or where the first run would make one."""
    here = Path.cwd()
    for folder in (here, *here.parents):
        has_ledger = os.path.isfile(folder / LEDGER_NAME)
        if has_ledger or (folder / "templates").is_dir():
            break
    else:
        folder, has_ledger = here, False
    of_environment = options.environment_homes()
    if has_ledger or not of_environment:
        return _only([options.file_home(folder / LEDGER_NAME), *of_environment])
    return of_environment[0]
