"""Results as a table, one line for each wire mode and choice, and the faults with their seeds."""

from collections.abc import Callable, Sequence
from statistics import median

from .campaign import Fate, Result
from .cluster import LEASE_SECONDS, Round, Trouble
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


def _beyond(rounds: Sequence[Round]) -> list[float]:
    return sorted(round.seconds - LEASE_SECONDS for round in rounds)


_CLUSTER_COLUMNS: dict[str, Callable[[Sequence[Round]], object]] = {
    "times": len,
    "hit": lambda rounds: sum(round.doubts > 0 for round in rounds),
    "lost": lambda rounds: _of_kind(rounds, Kind.LOST),
    "duplicates": lambda rounds: _of_kind(rounds, Kind.DUPLICATE),
    "others": lambda rounds: _of_kind(rounds, Kind.CONTENT, Kind.RECORD),
    "doubted": lambda rounds: max(round.doubts for round in rounds),
    "in doubt": lambda rounds: max(round.left for round in rounds),
    "bound": lambda rounds: "/".join(map(str, sorted({round.bound for round in rounds}))),
    "late": lambda rounds: sum(round.late for round in rounds),
    "median s": lambda rounds: f"{median(_beyond(rounds)):.1f}",
    "most s": lambda rounds: f"{max(_beyond(rounds)):.1f}",
}
"""Of each trouble: how often it left somebody in flight whom another worker found; broken promises;
how many were doubted at most in one campaign, how many of these stayed in doubt, and how many may;
outcomes that came late; and seconds from the trouble to the end of its campaign, less the lease."""


def _of_kind(rounds: Sequence[Round], *kinds: Kind) -> int:
    return sum(fault.kind in kinds for round in rounds for fault in round.faults)


def cluster_table(rounds: Sequence[Round]) -> str:
    """A line for each trouble."""
    lines = [f"{'':<24}" + "".join(f"{name:>11}" for name in _CLUSTER_COLUMNS)]
    for trouble in Trouble:
        if own := [round for round in rounds if round.trouble is trouble]:
            cells = (f"{cell(own)!s:>11}" for cell in _CLUSTER_COLUMNS.values())
            lines.append(f"{trouble:<24}" + "".join(cells))
    return "\n".join(lines)


def cluster_faults(rounds: Sequence[Round], most: int = 10) -> str:
    """Of each campaign so many, and how to try it again."""
    lines = []
    for round in rounds:
        if round.faults:
            lines.append(f"{round.trouble}, {round.wire}; again: make crash CLUSTER={round.seed}")
            lines += [f"  {fault}" for fault in round.faults[:most]]
    return "\n".join(lines)


def faults(results: Sequence[Result], most: int = 10) -> str:
    """Of each campaign so many, and how to try it again."""
    lines = []
    for result in results:
        if result.faults:
            lines.append(f"again: make crash SEEDS={result.plan.seed}")
            lines += [f"  {fault}" for fault in result.faults[:most]]
            lines += [f"  … {len(result.faults) - most} more"] * (len(result.faults) > most)
    return "\n".join(lines)
