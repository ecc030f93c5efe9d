"""`bulkmail status`."""

from pathlib import Path

import click

from bulkmail.cli import options, text
from bulkmail.cli.recorded import recorded


@click.command()
@click.argument(
    "file", metavar="[FILE]", required=False, type=click.Path(path_type=Path, dir_okay=False)
)
@options.sandbox_flag
@options.json_flag
def status(file: Path | None, in_sandbox: bool, as_json: bool) -> None:
    """How many recipients are in each state; without FILE, for all campaigns of this project."""
    if file is not None:
        home, ledger, record = recorded(file, in_sandbox)
        records = [record]
    else:
        home = options.ledger_here(in_sandbox=in_sandbox)
        ledger = home.view()
        records = ledger.campaigns()
    for record in records:
        tally = ledger.tally(record)
        since = ledger.running_since(record) if home.is_under_way(ledger, record) else None
        if as_json:
            told = {"campaign": record.name, "states": tally, "under_way": since is not None}
            click.echo(text.json_line(told))
        else:
            running = f" · a run is under way since {text.moment(since)}" if since else ""
            click.echo(f"{record.name}: {text.states(tally)}{running}")
    ledger.close()
