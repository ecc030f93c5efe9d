"""`bulkmail migrate`."""

import click

from bulkmail.cli import options


@click.command()
@click.option(
    "--ledger",
    "url",
    envvar=options.LEDGER_VARIABLE,
    required=True,
    metavar="URL",
    help="postgresql://user@host/database; default: the environment's BULKMAIL_LEDGER.",
)
def migrate(url: str) -> None:
    """Make the tables of a ledger in PostgreSQL, or bring them up to date; nothing else.

    For who owns the schema, where those who plan and send may not change it: docs/scaling.md. Else
    the first run does it by itself.
    """
    home = options.database_home(url)
    home.migrate()
    click.echo(f"{home.name} is up to date")
