"""The command `bulkmail`: arguments, screens, signals, exit statuses.

The only room that names a concrete ledger or transport. Data goes to standard output; questions,
progress and errors go to standard error.
"""

import sys
import traceback
from typing import Any

import click

from bulkmail import __version__
from bulkmail.cli import text
from bulkmail.cli.check import check
from bulkmail.cli.decide import cancel, pause, retry, settle
from bulkmail.cli.init import init
from bulkmail.cli.migrate import migrate
from bulkmail.cli.preview import preview
from bulkmail.cli.report import report
from bulkmail.cli.run import run
from bulkmail.cli.sandbox import sandbox
from bulkmail.cli.schema import schema
from bulkmail.cli.status import status
from bulkmail.cli.suppress import suppress
from bulkmail.cli.test import test
from bulkmail.cli.unread import open_what_is_closed
from bulkmail.cli.worker import worker
from bulkmail.errors import BulkmailError, ExitStatus


class _Commands(click.Group):
    """Turns what a command raises into its exit status."""

    def invoke(self, ctx: click.Context) -> Any:
        open_what_is_closed()
        try:
            return super().invoke(ctx)
        except BulkmailError as error:
            click.echo(text.visible(str(error)), err=True)
            sys.exit(error.status)
        except (KeyboardInterrupt, click.Abort):
            click.echo("stopped by Ctrl-C", err=True)
            sys.exit(ExitStatus.INTERRUPTED)
        except click.FileError as error:
            click.echo(error.format_message(), err=True)
            sys.exit(ExitStatus.NO_INPUT)
        except (click.ClickException, click.exceptions.Exit, BrokenPipeError):
            raise
        except Exception:
            traceback.print_exc()
            click.echo("this is a bug in bulkmail; the ledger is as recorded, run again", err=True)
            sys.exit(ExitStatus.BUG)


@click.group(cls=_Commands, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="bulkmail")
def commands() -> None:
    """Send everyone on a list their own message: nobody skipped, nobody mailed twice in silence.

    A campaign is one YAML file: recipients, templates, attachments, server. Begin with

    \b
      bulkmail init my-news                   a project to start from
      bulkmail preview campaign.yaml          look at everyone's message
      bulkmail check campaign.yaml            prove that everything would go
      bulkmail run campaign.yaml --dry-run    look at what would be sent
      bulkmail run campaign.yaml --sandbox    send it all to a server on this computer
      bulkmail run campaign.yaml              send
    """


for command in (
    *(init, check, preview, test, run, status, report),
    *(retry, settle, pause, cancel),
    *(worker, migrate, suppress, sandbox, schema),
):
    commands.add_command(command)
