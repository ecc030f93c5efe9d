"""`bulkmail migrate`."""

import click

from bulkmail.cli import options


@click.command()
@options.database_option
def migrate(url: str) -> None:
    """Make the tables of a ledger in PostgreSQL, or bring them up to date; nothing else.

    For who owns the schema, where those who plan and send may not change it: docs/scaling.md. Else
    the first run does it by itself.
    """
    home = options.database_home(url)
    home.migrate()
    click.echo(f"{home.name} is up to date")
