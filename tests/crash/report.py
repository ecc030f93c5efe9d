"""Results as a table, one line for each wire mode and choice, and the faults with their seeds."""

from collections.abc import Callable, Sequence

from .campaign import Fate, Result
from .judge import Kind

Cell = Callable[[Sequence[Result]], object]


def _fate(fate: Fate) -> Cell:
    return lambda results: sum(result.fates[fate] for result in results)


def _faults(*kinds: Kind) -> Cell:
    return lambda results: sum(fault.kind in kinds for result in results for fault in result.faults)


def _sum(name: str) -> Cell:
    return lambda results: sum(getattr(result, name) for result in results)


_COLUMNS: dict[str, Cell] = {
    "wire": lambda results: results[0].plan.wire,
    "in_doubt": lambda results: results[0].plan.in_doubt,
    "campaigns": len,
    "kills": _sum("kills"),
    **{fate: _fate(fate) for fate in Fate},
    "too late": _sum("missed"),
    "in flight": _sum("hits"),
    "taken unanswered": _sum("unanswered"),
    "recovery due": _sum("recovering"),
    "messages": _sum("taken"),
    "lost": _faults(Kind.LOST),
    "duplicates": _faults(Kind.DUPLICATE),
    "other faults": _faults(Kind.CONTENT, Kind.RECORD),
    "doubts": _sum("doubts"),
    "most a kill": lambda results: max(result.most_doubts for result in results),
    "bound": lambda results: "/".join(map(str, sorted({result.plan.slots for result in results}))),
}
"""Of the kills: how many by fate; how many left people in flight; how many people were in flight
whose message the server had; how many met a start that had people to recover."""


def table(results: Sequence[Result]) -> str:
    """One column for each mode, since the rows are many."""
    modes = sorted({(result.plan.wire, result.plan.in_doubt) for result in results})
    groups = [
        [result for result in results if (result.plan.wire, result.plan.in_doubt) == mode]
        for mode in modes
    ]
    return "\n".join(
        f"{name:<18}" + "".join(f"{cell(group)!s:>12}" for group in groups)
        for name, cell in _COLUMNS.items()
    )


def faults(results: Sequence[Result], most: int = 10) -> str:
    """Of each campaign so many, and how to try it again."""
    lines = []
    for result in results:
        if result.faults:
            lines.append(f"again: make crash SEEDS={result.plan.seed}")
            lines += [f"  {fault}" for fault in result.faults[:most]]
            lines += [f"  … {len(result.faults) - most} more"] * (len(result.faults) > most)
    return "\n".join(lines)
