"""How many were accepted over time, as a curve: long pauses are cut out of it, and said."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise

MAX_BUCKETS = 1000
MAX_SPANS = 5
LEAST_SECONDS = 3
"""What is over sooner has no course."""
CUT_PART = 0.25
"""A pause is cut out if it is longer than this part of what is left without longer ones."""
WIDTH, HEIGHT = 1000.0, 200.0
BREAK = 64.0
"""The width of a pause that was cut out."""
LEAST_WIDTH = 0.5
"""What a short span gets at least, of an equal share of the width."""


@dataclass(slots=True)
class Bucket:
    """So many were accepted from `first_at` to `last_at`."""

    first_at: float
    last_at: float
    number: int


@dataclass(frozen=True, slots=True)
class Span:
    """A stretch of the run between pauses that were cut out; `x`s are those of the drawing.

    `pause_seconds` is how long nothing was sent before it.
    """

    start_at: float
    end_at: float
    x_start: float
    x_end: float
    pause_seconds: float


@dataclass(frozen=True, slots=True)
class Curve:
    """A drawing of WIDTH by HEIGHT: paths of SVG, and where its labels go.

    `lines` and `areas` are one for each span; `pauses` are (x, y) where one is cut out; `ticks` are
    (number, y), the lowest first; the curve ends at `end_y`.
    """

    total: int
    spans: list[Span]
    lines: list[str]
    areas: list[str]
    pauses: list[tuple[float, float]]
    ticks: list[tuple[int, float]]
    end_y: float

    @property
    def seconds(self) -> float:
        """How long it took, without the pauses that were cut out."""
        return sum(span.end_at - span.start_at for span in self.spans)


def drawn(accepted: Iterable[tuple[float, int]]) -> Curve | None:
    """The curve of (when, how many) sorted by time; None where there is no course to draw."""
    buckets = _thinned(accepted)
    if not buckets or buckets[-1].last_at - buckets[0].first_at < LEAST_SECONDS:
        return None
    pieces = _cut(buckets)
    spans = list(_placed(pieces))
    total = sum(bucket.number for bucket in buckets)
    top = _ceiling(total)
    lines, areas, pauses = [], [], []
    so_far = 0
    for piece, span in zip(pieces, spans, strict=True):
        if span.pause_seconds:
            pauses.append((_short(span.x_start - BREAK / 2), _y(so_far, top)))
        points = list(_points(piece, span, so_far, top))
        so_far += sum(bucket.number for bucket in piece)
        lines.append("M" + " L".join(f"{x} {y}" for x, y in points))
        areas.append(f"{lines[-1]} L{points[-1][0]} {HEIGHT:g} L{points[0][0]} {HEIGHT:g} Z")
    ticks = [(number, _y(number, top)) for number in _ticks(total)]
    return Curve(total, spans, lines, areas, pauses, ticks, _y(total, top))


def _thinned(accepted: Iterable[tuple[float, int]]) -> list[Bucket]:
    """As few buckets as can be drawn; a pause that can be seen stays one."""
    buckets: list[Bucket] = []
    width = 0.0
    for at, number in accepted:
        _add(buckets, Bucket(at, at, number), width)
        while len(buckets) > MAX_BUCKETS:
            span = buckets[-1].last_at - buckets[0].first_at
            width = max(2 * width, span / MAX_BUCKETS)
            fewer: list[Bucket] = []
            for bucket in buckets:
                _add(fewer, bucket, width)
            buckets = fewer
    return buckets


def _add(buckets: list[Bucket], bucket: Bucket, width: float) -> None:
    """At the end, or into the last bucket if both together are no wider than `width`."""
    if buckets and bucket.last_at - buckets[-1].first_at <= width:
        buckets[-1].last_at = bucket.last_at
        buckets[-1].number += bucket.number
    else:
        buckets.append(bucket)


def _cut(buckets: Sequence[Bucket]) -> list[list[Bucket]]:
    """The pieces between the pauses that are cut out."""
    pauses = sorted(
        (
            (after.first_at - before.last_at, at)
            for at, (before, after) in enumerate(pairwise(buckets), 1)
        ),
        reverse=True,
    )
    left = buckets[-1].last_at - buckets[0].first_at
    cuts = []
    for pause, at in pauses[: MAX_SPANS - 1]:
        if len(buckets) == 2 or pause < CUT_PART * left:
            break
        left -= pause
        cuts.append(at)
    edges = [0, *sorted(cuts), len(buckets)]
    return [list(buckets[a:b]) for a, b in pairwise(edges)]


def _placed(pieces: Sequence[Sequence[Bucket]]) -> Iterator[Span]:
    """The pieces side by side, each as wide as it took long, but none too narrow to be seen."""
    seconds = [piece[-1].last_at - piece[0].first_at for piece in pieces]
    least = LEAST_WIDTH / len(pieces)
    parts = [max(one / (sum(seconds) or 1.0), least) for one in seconds]
    room = WIDTH - BREAK * (len(pieces) - 1)
    x, ended_at = 0.0, pieces[0][0].first_at
    for piece, part in zip(pieces, parts, strict=True):
        start_at, end_at = piece[0].first_at, piece[-1].last_at
        width = room * part / sum(parts)
        yield Span(start_at, end_at, x, x + width, start_at - ended_at)
        x, ended_at = x + width + BREAK, end_at


def _points(
    piece: Sequence[Bucket], span: Span, so_far: int, top: int
) -> Iterator[tuple[float, float]]:
    seconds = (span.end_at - span.start_at) or 1.0
    width = span.x_end - span.x_start
    yield _short(span.x_start), _y(so_far, top)
    for bucket in piece:
        so_far += bucket.number
        part = (bucket.last_at - span.start_at) / seconds
        yield _short(span.x_start + width * part), _y(so_far, top)
    yield _short(span.x_end), _y(so_far, top)


def _y(number: int, top: int) -> float:
    return _short(HEIGHT * (1 - number / top))


def _short(value: float) -> float:
    return round(value, 1)


def _ceiling(total: int) -> int:
    """A little above, so that the end has room for its number."""
    return max(total + 1, round(total * 1.08))


def _ticks(total: int) -> list[int]:
    """Up to six round numbers from 0 on, none above `total`."""
    step = 1
    while True:
        for factor in (1, 2, 5):
            if total <= 5 * step * factor:
                return list(range(0, total + 1, step * factor))
        step *= 10
