"""The figures as bars on a logarithmic scale, in SVG written by hand."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from xml.sax.saxutils import escape

from benchmarks.summary import BULKMAIL, number

WIDTH, NAMES, RIGHT = 880, 250, 90
BAR, STEP, HEAD, FOOT, GAP = 20, 28, 54, 34, 18
OURS, OTHERS, INK, FAINT, GRID, PAPER = (
    "#1f6f78", "#b9a88a", "#22272b", "#5b646b", "#e3e0d8", "#fbfaf7",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Panel:
    """One chart: a title, what is counted, and a bar for each name, shown as `value` says."""

    title: str
    unit: str
    bars: tuple[tuple[str, float], ...]

    @property
    def height(self) -> int:
        return HEAD + STEP * len(self.bars) + FOOT


def picture(panels: Sequence[Panel], foot: str) -> str:
    height = sum(panel.height + GAP for panel in panels) + 34
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{WIDTH}" height="{height}"'
        f' viewBox="0 0 {WIDTH} {height}" font-family="system-ui, Helvetica, Arial, sans-serif"'
        ' role="img">',
        f"<title>{escape('; '.join(panel.title for panel in panels))}</title>",
        f'<rect width="{WIDTH}" height="{height}" fill="{PAPER}"/>',
    ]
    top = 8
    for panel in panels:
        parts += _panel(panel, top)
        top += panel.height + GAP
    parts += [_text(20, top + 8, foot, 12, FAINT), "</svg>", ""]
    return "\n".join(parts)


def _panel(panel: Panel, top: int) -> list[str]:
    values = [value for _, value in panel.bars]
    low, high = _decades(values)
    bottom = top + HEAD + STEP * len(panel.bars)
    parts = [
        _text(20, top + 24, panel.title, 16, INK, weight="600"),
        _text(20, top + 43, panel.unit, 12, FAINT),
    ]
    for decade in range(low, high + 1):
        x = _x(10.0**decade, low, high)
        parts.append(
            f'<line x1="{x:.1f}" y1="{top + HEAD - 4}" x2="{x:.1f}" y2="{bottom}" stroke="{GRID}"/>'
        )
        parts.append(_text(x, bottom + 16, _tick(10.0**decade), 11, FAINT, anchor="middle"))
    for index, (name, value) in enumerate(panel.bars):
        y = top + HEAD + STEP * index
        ours = name.startswith(BULKMAIL)
        x = _x(value, low, high)
        parts += [
            _text(NAMES - 10, y + 15, name, 13, INK, anchor="end", weight="600" if ours else "400"),
            f'<rect x="{NAMES}" y="{y}" width="{max(2.0, x - NAMES):.1f}" height="{BAR}" rx="2"'
            f' fill="{OURS if ours else OTHERS}"/>',
            _text(x + 7, y + 15, number(value), 13, INK, weight="600" if ours else "400"),
        ]
    return parts


def _decades(values: Sequence[float]) -> tuple[int, int]:
    """A bar begins at a power of ten below all values, so that the least has some length."""
    low = math.floor(math.log10(min(values) * 0.7))
    return low, max(low + 1, math.ceil(math.log10(max(values))))


def _x(value: float, low: int, high: int) -> float:
    part = (math.log10(value) - low) / (high - low)
    return NAMES + part * (WIDTH - NAMES - RIGHT)


def _tick(value: float) -> str:
    return f"{value:,.0f}" if value >= 1 else f"{value:g}"


def _text(
    x: float,
    y: float,
    text: str,
    size: int,
    fill: str,
    *,
    anchor: str = "start",
    weight: str = "400",
) -> str:
    return (
        f'<text x="{x:.1f}" y="{y}" font-size="{size}" fill="{fill}" text-anchor="{anchor}"'
        f' font-weight="{weight}">{escape(text)}</text>'
    )
