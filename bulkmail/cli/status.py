"""`bulkmail status`."""

from collections.abc import Sequence
from contextlib import closing
from pathlib import Path

import click

from bulkmail.cli import options, text
from bulkmail.cli.recorded import recorded
from bulkmail.errors import MissingFileError
from bulkmail.ledger import CampaignRecord, Home, LedgerView


@click.command()
@click.argument(
    "file", metavar="[FILE]", required=False, type=click.Path(path_type=Path, dir_okay=False)
)
@options.ledger_option
@options.sandbox_flag
@options.json_flag
def status(file: Path | None, ledger: str | None, in_sandbox: bool, as_json: bool) -> None:
    """How many recipients are in each state; without FILE, for all campaigns of this project.

    For a ledger in PostgreSQL also what is left, which workers are alive, and how fast they send.
    """
    if ledger is not None and (file is not None or in_sandbox):
        raise click.UsageError("--ledger is for all campaigns there; without FILE and --sandbox")
    if file is not None:
        home, view, record = recorded(file, in_sandbox)
        _tell(home, view, [record], as_json=as_json)
        return
    homes = [options.named_home(ledger)] if ledger else options.ledgers_here(in_sandbox=in_sandbox)
    for home in homes:
        if not home.exists():
            raise MissingFileError(f"nothing was ever recorded in {home.name}")
        view = home.view()
        _tell(home, view, view.campaigns(), as_json=as_json)


def _tell(
    home: Home, view: LedgerView, records: Sequence[CampaignRecord], *, as_json: bool
) -> None:
    """`records` are of `view`, which is closed."""
    with closing(view):
        if home.is_shared:
            from bulkmail.cli import overview

            overview.tell(home, view, records, as_json=as_json)
            return
        for record in records:
            tally = view.tally(record)
            since = view.running_since(record) if home.is_under_way(view, record) else None
            if as_json:
                told = {"campaign": record.name, "states": tally, "under_way": since is not None}
                click.echo(text.json_line(told))
            else:
                running = f" · a run is under way since {text.moment(since)}" if since else ""
                click.echo(f"{record.name}: {text.states(tally)}{running}")
