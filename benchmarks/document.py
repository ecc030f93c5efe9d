"""docs/performance.md and its picture: the part between two markers is written by the command."""

import os
import platform
import ssl
import sys
from collections.abc import Sequence
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path

from benchmarks import cores, summary
from benchmarks.picture import Panel, picture
from benchmarks.scenarios import Scenario
from benchmarks.summary import Row

DOCS = Path(__file__).parents[1] / "docs"
BEGIN, END = "<!-- written by make bench -->", "<!-- end of what make bench writes -->"

Measured = Sequence[tuple[Scenario, Sequence[Row]]]


def write(measured: Measured, rounds: int, said: Sequence[str], docs: Path = DOCS) -> None:
    """Replaces the figures in the document, and the picture."""
    path = docs / "performance.md"
    before, _, rest = path.read_text().partition(BEGIN)
    _, _, after = rest.partition(END)
    written = "\n\n".join([BEGIN, machine(rounds), *_sections(measured), *said, END])
    path.write_text(before + written + after)
    (docs / "performance.svg").write_text(picture(_panels(measured), machine(rounds)))


def machine(rounds: int) -> str:
    """What the figures were measured on; no names of hosts, no paths."""
    release = ".".join(platform.release().split(".")[:2])
    versions = f"Python {platform.python_version()}, {' '.join(ssl.OPENSSL_VERSION.split()[:2])}"
    if find_spec("uvloop"):
        versions += f", uvloop {version('uvloop')}"
    rounds_said = f"median of {rounds} rounds" if rounds > 1 else "one round"
    count = len(cores.available()) or os.cpu_count()
    return f"{count} cores{_model()}, {platform.system()} {release}, {versions}; {rounds_said}"


def _model() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return f" ({platform.machine()})" if sys.platform == "darwin" else ""
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return f" ({names[0]})" if names else ""


def _sections(measured: Measured) -> list[str]:
    parts = []
    for scenario, rows in measured:
        parts += [
            f"### {scenario.title[0].upper()}{scenario.title[1:]}",
            summary.in_markdown(summary.table(rows)),
            *(f"- {remark}" for remark in summary.remarks(rows)),
        ]
    return parts


def _panels(measured: Measured) -> list[Panel]:
    """CPU time where the line is short, messages a second where it is long."""
    panels = []
    for scenario, rows in measured:
        bars = []
        for row in rows:
            if row.figures is None or (scenario.delay_ms and not row.has_throughput):
                continue
            figures = row.figures
            value = figures.per_second if scenario.delay_ms else figures.sending_us
            bars.append((row.name, value))
        if bars:
            unit = (
                "messages a second; longer is faster"
                if scenario.delay_ms
                else "CPU microseconds a message; shorter is cheaper"
            )
            title = scenario.title[0].upper() + scenario.title[1:]
            panels.append(Panel(title, f"{unit} (logarithmic scale)", tuple(bars)))
    return panels
