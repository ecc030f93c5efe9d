"""`bulkmail worker`."""

import asyncio
import logging
from pathlib import Path

import click

from bulkmail.cli import options
from bulkmail.cli.loop import loop_factory
from bulkmail.cli.signals import ended_by_signals


@click.command()
@click.option(
    "--ledger",
    "url",
    envvar=options.LEDGER_VARIABLE,
    required=True,
    metavar="URL",
    help="postgresql://user@host/database; default: the environment's BULKMAIL_LEDGER.",
)
@click.option("--until-idle", is_flag=True, help="End when no campaign is being sent.")
@click.option(
    "--files",
    type=click.Path(path_type=Path, file_okay=False, exists=True),
    help="The folder of the campaign, for attachments that are for one person each.",
)
@options.lease_option
@click.option(
    "--log-format",
    type=click.Choice(["text", "json"]),
    default="text",
    show_default=True,
    help="What is said on standard error; json: one object per line.",
)
@click.option(
    "--log-addresses",
    is_flag=True,
    help="Every refusal with its address; else one of each kind, and addresses as …@domain.",
)
def worker(
    url: str,
    until_idle: bool,
    files: Path | None,
    lease_seconds: float,
    log_format: str,
    log_addresses: bool,
) -> None:
    """Send for campaigns that were planned elsewhere, over a ledger in PostgreSQL.

    Any number of workers, on any hosts, share the work; passwords come from each one's own
    environment. Runs until it is stopped.

    \b
    Exit status: 0 nothing is left (--until-idle); 143 or 130 stopped by SIGTERM or Ctrl-C, after
    what was under way; 74 the ledger cannot be written.
    """
    try:
        from bulkmail.cli.log import Log
        from bulkmail.cluster.observing import Event
        from bulkmail.cluster.tenure import Charge
        from bulkmail.cluster.worker import Worker
    except ModuleNotFoundError as error:
        raise options.without_postgres(error) from None
    logging.getLogger("pgqueuer").setLevel(logging.CRITICAL)
    log = Log(as_json=log_format == "json", with_addresses=log_addresses)
    charge = Charge(url, log, files=files, until_idle=until_idle, lease_seconds=lease_seconds)

    async def work() -> int:
        sending = Worker(charge)
        with ended_by_signals(sending, charge.observer.said):
            stop = await sending.run()
        log.happened(Event("ended", f"ends: {stop.reason if stop else 'nothing is open'}"))
        return stop.status if stop else 0

    with asyncio.Runner(loop_factory=loop_factory()) as runner:
        raise SystemExit(runner.run(work()))
