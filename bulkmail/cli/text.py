"""Numbers, times and lists as a person reads them."""

import json
import math
import re
from collections.abc import Iterator, Sequence
from datetime import datetime

from bulkmail.ledger import Enrolment
from bulkmail.model import Rate, State

_CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]")


def json_line(value: object) -> bytes:
    """JSON in UTF-8 (RFC 8259 8.1), whatever the encoding of the terminal."""
    return json.dumps(value, ensure_ascii=False).encode("utf-8", "backslashreplace")


def people(number: int) -> str:
    return f"{number:,} {'person' if number == 1 else 'people'}"


def recipients(number: int) -> str:
    return f"{number:,} recipient" + "s" * (number != 1)


def under_way(in_flight: int) -> str:
    """That a run of the project is sending while this is told, and to how many people of this
    campaign.
    """
    return "a run is under way" + (f": {in_flight:,} in flight" if in_flight else "")


def visible(told: str) -> str:
    """Without what a terminal would obey: a name or a letter may hold anything."""
    return _CONTROL.sub("\N{REPLACEMENT CHARACTER}", told)


def size(octets: int) -> str:
    """As file managers show it: 27 KB."""
    value = float(octets)
    for unit in ("bytes", "KB", "MB"):
        if value < 1000:
            return f"{value:.3g} {unit}"
        value /= 1000
    return f"{value:.3g} GB"


def duration(seconds: float) -> str:
    """Rounded: `0.4 seconds`, `12 seconds`, `3 minutes`, `5 hours`."""
    if seconds < 9.95:
        return "1 second" if seconds == 1 else f"{seconds:.2g} seconds"
    for limit, unit, name in (
        (120, 1, "second"),
        (7200, 60, "minute"),
        (172800, 3600, "hour"),
        (math.inf, 86400, "day"),
    ):
        if seconds < limit:
            number = round(seconds / unit)
            return f"{number} {name}" + ("" if number == 1 else "s")
    raise AssertionError


def about(seconds: float) -> str:
    """An estimate: `less than a second`, `about 12 seconds`."""
    return "less than a second" if seconds < 1 else f"about {duration(math.ceil(seconds))}"


def start(at: datetime) -> str:
    """A time as its author wrote it, with the zone's name."""
    return f"{at:%Y-%m-%d %H:%M} {getattr(at.tzinfo, 'key', None) or f'{at:%Z}'}"


def moment(at: float) -> str:
    """A time in the reader's zone."""
    return f"{datetime.fromtimestamp(at).astimezone():%Y-%m-%d %H:%M %Z}"


def states(tally: dict[State, int]) -> str:
    """`27 accepted · 2 invalid`, accepted first, then in the order of the states."""
    order = sorted(State, key=lambda state: state is not State.ACCEPTED)
    parts = [f"{tally[state]:,} {state.replace('_', ' ')}" for state in order if tally.get(state)]
    return " · ".join(parts) or "nobody"


def places(sources: Sequence[str]) -> str:
    """`members.csv:9, :21`: the file's name once."""
    return ", ".join(short_places(sources))


def short_places(sources: Sequence[str]) -> Iterator[str]:
    """Each place, without the file's name where it is that of the place before."""
    last = ""
    for source in sources:
        file, colon, line = source.rpartition(":")
        yield f":{line}" if colon and file == last else source
        last = file


def left_out(found: Enrolment, *, with_places: bool = True) -> list[str]:
    """`2 invalid members.csv:9, :21` and `1 duplicate members.csv:26`, as far as there are any."""
    parts = []
    for number, state, word in (
        (found.invalid, State.INVALID, "invalid"),
        (found.duplicates, State.DUPLICATE, "duplicate" + "s" * (found.duplicates > 1)),
        (found.suppressed, State.SUPPRESSED, "excluded"),
    ):
        if number:
            sources = [source for source, filtered, _ in found.filtered if filtered is state]
            more = " …" if number > len(sources) else ""
            parts.append(f"{number:,} {word}" + f" {places(sources)}{more}" * with_places)
    return parts


def estimate(number: int, rates: Sequence[Rate]) -> float:
    """Seconds that the rates need for so many messages, at least."""
    return max(
        (
            number / rate.limit * rate.period_seconds
            if rate.period_seconds <= 60
            else (number - 1) // rate.limit * rate.period_seconds
            for rate in rates
        ),
        default=0.0,
    )
