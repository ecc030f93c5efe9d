"""`bulkmail report`."""

import csv
import io
import json
from collections.abc import Collection, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, BinaryIO

import click

from bulkmail.cli import options
from bulkmail.cli.recorded import recorded
from bulkmail.cli.report_html import html
from bulkmail.model import State
from bulkmail.report.advice import Shell
from bulkmail.smtp.meaning import meaning
from bulkmail.smtp.reply import printable

_COLUMNS = (
    "email",
    "state",
    "source",
    "reason",
    "reply",
    "attempts",
    "in_doubt_events",
    "message_id",
)


def _states(context: click.Context, parameter: click.Parameter, value: str | None) -> list[State]:
    try:
        return [State(name.strip()) for name in value.split(",")] if value else []
    except ValueError as error:
        known = ", ".join(State)
        raise click.BadParameter(f"{error}; states are {known}") from None


@click.command()
@options.campaign_file
@click.option("--state", "states", callback=_states, help="Only these, e.g. failed,in_doubt.")
@options.why_option
@click.option(
    "--format",
    "form",
    type=click.Choice(["text", "csv", "json", "html"]),
    default="text",
    help="html is a page for people: numbers, reasons, what to do; to be shown or printed.",
)
@click.option("--out", type=click.File("wb", lazy=True), help="Write to this file.")
@options.sandbox_flag
def report(
    file: Path,
    states: list[State],
    why: tuple[str, ...],
    form: str,
    out: BinaryIO | None,
    in_sandbox: bool,
) -> None:
    """Who got it, who did not, and why: one line per recipient, or a page to show.

    \b
      bulkmail report FILE --state failed
      bulkmail report FILE --format html --out report.html
    """
    home, ledger, record = recorded(file, in_sandbox)
    if form == "html":
        shell = Shell(str(file), in_sandbox, home.is_under_way(ledger, record))
        made = html(ledger, record, states, why, shell)
        click.echo(made.encode("utf-8", "backslashreplace"), file=out, nl=False)
        ledger.close()
        return
    rows = _of(ledger.report(record, states), why)
    lines = _csv(rows, ledger.columns(record, states)) if form == "csv" else _LINES[form](rows)
    nobody = form != "csv"  # which has its heading
    for line in lines:
        nobody = False
        # Files, and what programs read, are in UTF-8, whatever the encoding of the terminal.
        is_shown = form == "text" and out is None
        click.echo(line if is_shown else line.encode("utf-8", "backslashreplace"), file=out)
    if nobody:
        which = " or ".join((*states, *why)).replace("_", " ")
        click.echo(f"nobody is {which}" if which else "nobody", err=True)
    ledger.close()


def _of(rows: Iterator[dict[str, Any]], why: Collection[str]) -> Iterator[dict[str, Any]]:
    """Those in a group of `why`, or all."""
    for row in rows:
        state, phase = State(row["state"]), row.pop("phase")
        if why and (
            state is State.ACCEPTED
            or meaning(state, phase, row["reply"], row["reason"]).key not in why
        ):
            continue
        yield row


def _text(rows: Iterator[dict[str, Any]]) -> Iterator[str]:
    for row in rows:
        line = f"{row['email']:<34} {row['state']:<10} {row['source']}"
        yield printable(f"{line}  {row['reason']}".encode("utf-8", "replace"))


def _json(rows: Iterator[dict[str, Any]]) -> Iterator[str]:
    for row in rows:
        yield json.dumps(row, ensure_ascii=False)


def _csv(rows: Iterator[dict[str, Any]], own: Sequence[str]) -> Iterator[str]:
    """Our columns, then the recipients' own."""
    yield _csv_line(_headings(own))
    for row in rows:
        fields = row["fields"]
        yield _csv_line([row[name] for name in _COLUMNS] + [fields.get(name, "") for name in own])


def _headings(own: Sequence[str]) -> list[str]:
    """An own column with the name of another, as spreadsheets compare them, is told apart."""
    headings = list(_COLUMNS)
    taken = set(_COLUMNS)
    for name in own:
        while name.casefold() in taken:
            name = f"fields.{name}"
        headings.append(name)
        taken.add(name.casefold())
    return headings


def _csv_line(cells: Iterable[object]) -> str:
    line = io.StringIO()
    csv.writer(line, lineterminator="").writerow(map(_harmless, cells))
    return line.getvalue()


def _harmless(cell: object) -> object:
    """A spreadsheet would run text that begins like a formula; a quote before it makes it text."""
    if isinstance(cell, str) and cell.startswith(("=", "+", "-", "@", "\t", "\r")):
        return f"'{cell}"
    return cell


_LINES = {"text": _text, "json": _json}
