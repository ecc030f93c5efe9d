"""`bulkmail retry`, `settle`, `pause` and `cancel`: what a person decides about a campaign."""

import time
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from pathlib import Path

import click

from bulkmail.cli import options, text
from bulkmail.cli.question import confirm
from bulkmail.cli.recorded import recorded
from bulkmail.errors import CampaignError, ExitStatus
from bulkmail.ledger import CampaignRecord, Ledger
from bulkmail.ledger.decisions import RETRIED, Decisions
from bulkmail.model import UNSENT, State
from bulkmail.report.groups import key_of

STOP_SECONDS = 45.0
"""A run drains for 30 seconds at most, and then says goodbye to its servers."""

_addresses = click.argument("addresses", metavar="[ADDRESS]...", nargs=-1)
_yes = click.option("--yes", is_flag=True, help="Answer the question with yes.")


def _states(
    context: click.Context, parameter: click.Parameter, value: str | None
) -> tuple[State, ...]:
    """Those of `retry`, separated by commas."""
    known = [str(state) for state in RETRIED]
    names = value.split(",") if value else []
    if wrong := [name for name in names if name not in known]:
        raise click.BadParameter(f"{wrong[0]!r} is none of {', '.join(known)}")
    return tuple(State(name) for name in names)


@click.command()
@options.campaign_file
@_addresses
@click.option(
    "--state",
    "states",
    callback=_states,
    metavar="STATE[,STATE]",
    help="failed, expired, in_doubt, cancelled. Default: failed,expired; with ADDRESS, all.",
)
@options.why_option
@_yes
def retry(
    file: Path,
    addresses: tuple[str, ...],
    states: tuple[State, ...],
    why: tuple[str, ...],
    yes: bool,
) -> None:
    """Put recipients back to pending: the next run sends to them again.

    All who failed or expired, or those in other states, or ADDRESS only.
    """
    if why and addresses:
        raise click.UsageError("name either addresses or --why")
    chosen = states or (RETRIED if addresses else (State.FAILED, State.EXPIRED))
    if why:
        addresses = _of_whom(file, chosen, why)
    with _recorded(file) as (ledger, record), ledger.deciding(record, chosen, addresses) as decided:
        if record.cancelled_at is not None and (addresses or State.CANCELLED not in chosen):
            raise CampaignError(
                f'"{record.name}" was cancelled as a whole; take that back first:'
                f" bulkmail retry {file} --state cancelled"
            )
        tally = _known(decided, chosen, addresses)
        question = f"Send to {text.people(sum(tally.values()))} again: {text.states(tally)}?"
        if doubtful := decided.doubtful():
            click.echo(
                f"{text.people(doubtful)} may have it already, and would get it twice", err=True
            )
        confirm(question, yes=yes)
        number = decided.retry(time.time())
    click.echo(f"{number:,} pending again")
    click.echo(f"  send to them:   bulkmail run {file}")


@click.command()
@options.campaign_file
@_addresses
@click.option("--accepted", is_flag=True, required=True, help="They have it.")
@_yes
def settle(file: Path, addresses: tuple[str, ...], accepted: bool, yes: bool) -> None:
    """Record that those in doubt have it, all or ADDRESS only: they are not sent to again."""
    states = (State.IN_DOUBT,)
    with _recorded(file) as (ledger, record), ledger.deciding(record, states, addresses) as decided:
        tally = _known(decided, states, addresses)
        confirm(f"Record that {text.people(tally[State.IN_DOUBT])} in doubt have it?", yes=yes)
        number = decided.settle(time.time())
    click.echo(f"{number:,} accepted, as you say")


@click.command()
@options.campaign_file
def pause(file: Path) -> None:
    """End the run of FILE that is under way, as Ctrl-C in its terminal would.

    What is under way is finished; `bulkmail run` continues.
    """
    if _stop(file):
        click.echo(f"paused\n  go on:          bulkmail run {file}")
    else:
        click.echo(f"no run of {file} is under way")


@click.command()
@options.campaign_file
@_yes
def cancel(file: Path, yes: bool) -> None:
    """Give up whoever was not sent to yet, and end the run that is under way."""
    _, view, record = recorded(file)
    tally = view.tally(record)
    view.close()
    unsent = sum(tally.get(state, 0) for state in (*UNSENT, State.IN_FLIGHT))
    confirm(f"Give up {text.people(unsent)} whom it was not sent to yet?", yes=yes)
    _stop(file)
    with _recorded(file) as (ledger, record):
        number = ledger.cancel(record, time.time())
    click.echo(f"{number:,} cancelled")
    click.echo(f"  take it back:   bulkmail retry {file} --state cancelled")


@contextmanager
def _recorded(file: Path) -> Iterator[tuple[Ledger, CampaignRecord]]:
    """The ledger of the campaign in `file`, opened to be written. Not while a run is under way."""
    home, view, record = recorded(file)
    view.close()
    ledger = home.ledger(record.name)
    try:
        ledger.recover(record, time.time())
        yield ledger, record
    finally:
        ledger.close()


def _of_whom(file: Path, states: Sequence[State], why: Sequence[str]) -> tuple[str, ...]:
    """The addresses of those of whom that was said. Raises CampaignError for nobody."""
    _, view, record = recorded(file)
    with closing(view):
        addresses = tuple(
            person.address
            for person in view.not_accepted_people(record, states)
            if key_of(person)[1].key in why
        )
    if not addresses:
        named = ", ".join((*states, *why)).replace("_", " ")
        raise CampaignError(f"nobody is {named}; nothing was changed")
    return addresses


def _known(
    decided: Decisions, states: Sequence[State], addresses: Sequence[str]
) -> dict[State, int]:
    """How many are decided about. Raises CampaignError for nobody, or an address that is none."""
    named = ", ".join(state.replace("_", " ") for state in states)
    if others := decided.others():
        raise CampaignError(
            "\n".join(f"{address} is not {named} in this campaign" for address in others)
            + "\nnothing was changed"
        )
    if not (tally := decided.tally()):
        hint = "" if State.IN_DOUBT in states else ". Those in doubt are chosen by --state in_doubt"
        raise CampaignError(f"nobody is {named}; nothing was changed{hint}")
    return tally


def _stop(file: Path) -> bool:
    """Ends the run of FILE that is under way; whether there was one."""
    home, view, record = recorded(file)
    view.close()
    if not home.ask_to_stop(record, time.time()):
        return False
    click.echo("waiting for what is under way", err=True)
    if not home.has_stopped(record, STOP_SECONDS):
        click.echo("the run was told to stop and has not yet; see `bulkmail status`", err=True)
        raise SystemExit(ExitStatus.CONTINUE)
    return True
