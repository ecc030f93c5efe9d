"""The rounds of a scenario summed up: medians, ratios, and the tables that show them.

Senders are measured one after another within a round, and a ratio is that of two figures of the
same round, of which the median is taken: a machine that is busier now and then moves both.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import median

from benchmarks.measuring import BUSY, Figures, Result

BULKMAIL = "bulkmail, "
"""How names of bulkmail's rows begin; its wire mode stands behind it."""


@dataclass(frozen=True, slots=True)
class Row:
    """One sender. `ratios`: its CPU time against bulkmail's, by bulkmail's wire mode.

    Not `is_timed`: whatever the server, its throughput does not count.
    """

    name: str
    messages: int
    figures: Figures | None
    ratios: Mapping[str, float]
    said: str = ""
    is_timed: bool = True

    @property
    def has_throughput(self) -> bool:
        """Whether it was this sender that was measured, and not the server."""
        return self.is_timed and self.figures is not None and self.figures.load < BUSY


def summed_up(
    rounds: Sequence[Mapping[str, Result]], messages: Mapping[str, int], *, is_timed: bool = True
) -> list[Row]:
    """One row for each sender. Whoever was wrong once has no figures."""
    rows = []
    for name, number in messages.items():
        results = [found[name] for found in rounds]
        figures = [result.figures for result in results if result.figures is not None]
        said = next((result.said for result in results if result.said), "")
        if len(figures) < len(results):
            said = next(result.said for result in results if result.figures is None)
            rows.append(Row(name, number, None, {}, said))
        else:
            ratios = _ratios(rounds, name)
            rows.append(Row(name, number, _medians(figures), ratios, said, is_timed))
    return rows


def modes(rows: Sequence[Row]) -> list[str]:
    """Bulkmail's wire modes that have figures."""
    return [
        row.name.removeprefix(BULKMAIL)
        for row in rows
        if row.name.startswith(BULKMAIL) and row.figures is not None
    ]


def table(rows: Sequence[Row]) -> list[list[str]]:
    """Cells, the heading first."""
    against = modes(rows)
    heading = [
        "sender", "CPU, µs a message", *(f"× {mode}" for mode in against),
        "messages/s", "server's load", "before the first, CPU s", "peak, MB", "messages",
    ]  # fmt: skip
    return [heading, *(_cells(row, against) for row in rows)]


def in_markdown(cells: Sequence[Sequence[str]]) -> str:
    lines = ["| " + " | ".join(row) + " |" for row in cells]
    lines.insert(1, "|---|" + "---:|" * (len(cells[0]) - 1))
    return "\n".join(lines)


def in_columns(cells: Sequence[Sequence[str]]) -> str:
    """For a terminal."""
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    return "\n".join(
        "  ".join(
            cell.ljust(width) if index == 0 else cell.rjust(width)
            for index, (cell, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in cells
    )


def remarks(rows: Sequence[Row]) -> list[str]:
    """What is to be said beside the table: who has no figures, and why."""
    return [f"{row.name}: {row.said}" for row in rows if row.said]


def number(value: float) -> str:
    """Two or three digits are as many as can be repeated."""
    if value >= 99.5:
        return f"{value:,.0f}"
    return f"{value:.1f}" if value >= 0.95 else f"{value:.2f}"


def _cells(row: Row, against: Sequence[str]) -> list[str]:
    figures = row.figures
    if figures is None:
        return [row.name, "no figure", *[""] * (len(against) + 4), f"{row.messages:,}"]
    return [
        row.name,
        number(figures.sending_us),
        *(number(row.ratios[mode]) for mode in against),
        f"{figures.per_second:,.0f}" if row.has_throughput else "–",
        f"{figures.load:.0%}",
        f"{figures.before_s:.1f}",
        f"{figures.peak_mb:.0f}" if figures.peak_mb else "–",
        f"{row.messages:,}",
    ]


def _medians(figures: Sequence[Figures]) -> Figures:
    names = ("sending_us", "before_s", "per_second", "load", "sink_us", "peak_mb")
    return Figures(**{name: median(getattr(found, name) for found in figures) for name in names})


def _ratios(rounds: Sequence[Mapping[str, Result]], name: str) -> dict[str, float]:
    ratios: dict[str, list[float]] = {}
    for found in rounds:
        figures = found[name].figures
        for other, result in found.items():
            if other.startswith(BULKMAIL) and result.figures is not None and figures is not None:
                ratio = figures.sending_us / result.figures.sending_us
                ratios.setdefault(other.removeprefix(BULKMAIL), []).append(ratio)
    return {mode: median(found) for mode, found in ratios.items()}
