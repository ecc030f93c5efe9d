"""`bulkmail preview`."""

import errno
import os
import threading
import webbrowser
from contextlib import closing
from pathlib import Path

import click

from bulkmail.campaign import locate_campaign, read_campaign
from bulkmail.cli import options
from bulkmail.cli.past import Past
from bulkmail.cli.plan import fingerprint, planned
from bulkmail.errors import MissingFileError, SecretError
from bulkmail.preview.edition import Preview
from bulkmail.preview.kept import Kept
from bulkmail.preview.standalone import Proved, write
from bulkmail.sandbox.process import MAILDIR


@click.command()
@options.campaign_file
@click.option("--port", type=click.IntRange(0, 65535), default=0, help="Default: a free one.")
@click.option("--no-open", is_flag=True, help="Do not open the browser.")
@options.set_option
@click.option(
    "--out",
    type=click.Path(path_type=Path, dir_okay=False),
    metavar="FILE.html",
    help="Write some of the messages into one file, for whoever approves them.",
)
@options.sandbox_flag
def preview(
    file: Path,
    port: int,
    no_open: bool,
    settings: dict[str, str],
    out: Path | None,
    in_sandbox: bool,
) -> None:
    """Look at every recipient's message of the campaign in FILE, on a page of this computer.

    The page follows the files: save a template, and it shows the change. Nothing is sent or
    recorded.
    """
    if out is not None and in_sandbox:
        raise click.UsageError("--out shows the campaign; leave out --sandbox")
    if in_sandbox:
        _serve(_kept(file), port, no_open)
        return
    if not os.path.exists(file):
        raise MissingFileError(f"{file}: {os.strerror(errno.ENOENT)}")
    shown = Preview(file, settings, Past)
    if out is None:
        _serve(shown, port, no_open)
        return
    with closing(shown):
        write(shown, out, _proved(file, settings))
    click.echo(f"written: {out}")


def _proved(file: Path, settings: dict[str, str]) -> Proved:
    """What `check` says of all messages, and the fingerprint to approve."""
    campaign = read_campaign(file, settings)
    ledger, under_way = options.scratch(campaign)
    with planned(
        campaign, ledger, Past(campaign), under_way=under_way, prove_everyone=True
    ) as plan:
        proved = Proved(fingerprint(plan, ledger), list(plan.proof.findings.told()))
    ledger.close()
    return proved


def _kept(file: Path) -> Kept:
    campaign = locate_campaign(file)
    maildir = options.sandbox_folder(campaign) / MAILDIR
    if not maildir.is_dir():
        raise MissingFileError(f"no mail in {maildir}; first: bulkmail run {file} --sandbox")
    return Kept(maildir, campaign.name)


def _serve(shown: Preview | Kept, port: int, no_open: bool) -> None:
    with closing(shown):
        try:
            from bulkmail.preview.serving import serve
        except ModuleNotFoundError as error:
            if error.name not in ("starlette", "uvicorn"):
                raise
            message = "the page needs its extra: pip install 'bulkmail[preview]'"
            raise SecretError(message) from None

        def ready(address: str) -> None:
            click.echo(address)
            click.echo("Ctrl-C ends it", err=True)
            if not no_open:
                # One in the terminal would not return before it is left.
                threading.Thread(target=webbrowser.open, args=(address,), daemon=True).start()

        shown.follow()
        serve(shown, port, ready)
