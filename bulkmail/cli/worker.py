"""`bulkmail worker`."""

import asyncio
import logging
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING

import click

from bulkmail.cli import options
from bulkmail.cli.loop import loop_factory
from bulkmail.cli.signals import ended_by_signals
from bulkmail.errors import SecretError

if TYPE_CHECKING:
    from bulkmail.cluster.charge import Charge
    from bulkmail.cluster.metrics import Metrics, MetricsServer
    from bulkmail.cluster.observing import Vitals


def _host_and_port(
    context: click.Context, parameter: click.Parameter, value: str | None
) -> tuple[str, int] | None:
    if value is None:
        return None
    host, _, port = value.rpartition(":")
    if not (port.isascii() and port.isdigit() and int(port) < 65536):
        raise click.BadParameter("must be a port, or HOST:PORT, such as 0.0.0.0:9464")
    return host.removeprefix("[").removesuffix("]") or "127.0.0.1", int(port)


@click.command()
@options.database_option
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
@click.option(
    "--metrics",
    "listen",
    callback=_host_and_port,
    metavar="[HOST:]PORT",
    help="Serve /metrics for Prometheus, and /healthz, there; HOST is 127.0.0.1 unless told.",
)
def worker(
    url: str,
    until_idle: bool,
    files: Path | None,
    lease_seconds: float,
    log_format: str,
    log_addresses: bool,
    listen: tuple[str, int] | None,
) -> None:
    """Send for campaigns that were planned elsewhere, over a ledger in PostgreSQL.

    Any number of workers, on any hosts, share the work; passwords come from each one's own
    environment. Runs until it is stopped.

    \b
    Exit status: 0 nothing is left (--until-idle); 143 or 130 stopped by SIGTERM or Ctrl-C, after
    what was under way; 74 the ledger cannot be written; 78 a setting is missing.
    """
    try:
        from bulkmail.cli.log import Log
        from bulkmail.cluster.charge import Charge
        from bulkmail.cluster.observing import Event, Observer, Observers, Vitals
    except ModuleNotFoundError as error:
        raise options.without_postgres(error) from None
    logging.getLogger("pgqueuer").setLevel(logging.CRITICAL)
    log, vitals = Log(as_json=log_format == "json", with_addresses=log_addresses), Vitals()
    with ExitStack() as stack:
        observer: Observer = log
        if listen is not None:
            metrics, server = _metrics(listen, vitals)
            stack.enter_context(server)
            observer = Observers(log, metrics)
            log.happened(Event("metrics", f"serves {server.url}/metrics and /healthz"))
        charge = Charge(
            url,
            observer,
            files=files,
            until_idle=until_idle,
            lease_seconds=lease_seconds,
            vitals=vitals,
        )
        with asyncio.Runner(loop_factory=loop_factory()) as runner:
            raise SystemExit(runner.run(_work(charge)))


async def _work(charge: "Charge") -> int:
    """Until it is told to end; the exit status."""
    from bulkmail.cluster.observing import Event
    from bulkmail.cluster.worker import Worker

    sending = Worker(charge)
    with ended_by_signals(sending, charge.observer.said):
        stop = await sending.run()
    charge.observer.happened(Event("ended", f"ends: {stop.reason if stop else 'nothing is open'}"))
    return stop.status if stop else 0


def _metrics(listen: tuple[str, int], vitals: "Vitals") -> "tuple[Metrics, MetricsServer]":
    """Raises SecretError without the extra for it."""
    try:
        from bulkmail.cluster.metrics import Metrics, MetricsServer
    except ModuleNotFoundError as error:
        if error.name != "prometheus_client":
            raise
        message = "--metrics needs its extra: pip install 'bulkmail[metrics]'"
        raise SecretError(message) from None
    metrics = Metrics(vitals)
    try:
        return metrics, MetricsServer(*listen, metrics, vitals)
    except OSError as error:
        host, port = listen
        told = f"cannot listen on {host}:{port}: {error.strerror or error}"
        raise click.BadParameter(told, param_hint="--metrics") from None
