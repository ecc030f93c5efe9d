"""`bulkmail sandbox`."""

import time
from pathlib import Path

import click

from bulkmail.sandbox import Sandbox


@click.command()
@click.option(
    "--folder",
    type=click.Path(path_type=Path, file_okay=False),
    default=Path("sandbox"),
    show_default=True,
    help="Where the mail is kept.",
)
@click.option("--port", type=click.IntRange(0, 65535), default=0, help="Default: a free one.")
def sandbox(folder: Path, port: int) -> None:
    """A mail server on this computer, with TLS, that keeps what it is sent and delivers nothing."""
    with Sandbox(folder, port) as server:
        told = server.submission
        click.echo(f"listening on {told.host}:{told.port}, implicit TLS, any username and password")
        click.echo(f"trust      smtp.ca_file: {told.ca_file}")
        click.echo(f"mail in    {server.maildir}")
        click.echo("Ctrl-C ends it", err=True)
        try:
            while True:
                time.sleep(3600)
        except KeyboardInterrupt:
            pass
