"""`python -m benchmarks`: bulk senders side by side, in rounds, against one server.

In every round each sender has its turn, so that what else the machine does meets all of them. A
whole run, of all scenarios and at least three rounds, writes docs/performance.md and its picture.
"""

import argparse
import os
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from benchmarks import cores, document, server, summary
from benchmarks.measuring import UNABLE, Result, Task, measure
from benchmarks.scenarios import SCENARIOS, Scenario
from benchmarks.summary import Row

OUT = Path(__file__).with_name("out")
ROUNDS = 3


def main() -> None:
    arguments = _arguments()
    OUT.mkdir(exist_ok=True)
    program, remark = server.program(OUT)
    load = os.getloadavg()[0]
    said = [f"Measured {cores.said()}; load of the machine before it {load:.1f}."]
    said += [f"{remark[0].upper()}{remark[1:]}."] if remark else []
    print("\n".join([document.machine(arguments.rounds), *said]), flush=True)
    chosen = [s for s in SCENARIOS if s.key in (arguments.scenario or [s.key])]
    measured = []
    unable: dict[str, Result] = {}
    is_timed = remark is None and cores.are_enough()
    for scenario in chosen:
        rows = _measured(scenario, arguments, program, unable, is_timed=is_timed)
        print(f"\n{scenario.title}\n{summary.in_columns(summary.table(rows))}")
        print("\n".join(summary.remarks(rows)), flush=True)
        measured.append((scenario, rows))
    is_whole = not (arguments.scenario or arguments.only) and arguments.part == 1
    if arguments.write or (is_whole and arguments.rounds >= ROUNDS):
        document.write(measured, arguments.rounds, said)
        print(f"\n{document.DOCS.name}/performance.md and .svg are written")


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("--rounds", type=int, default=ROUNDS, help="default %(default)s")
    parser.add_argument("--scenario", action="append", choices=[s.key for s in SCENARIOS])
    parser.add_argument("--only", action="append", help="senders whose name holds this")
    parser.add_argument("--part", type=int, default=1, help="a PARTth of the messages, for a try")
    parser.add_argument("--write", action="store_true", help="write the document in any case")
    return parser.parse_args()


def _measured(
    scenario: Scenario,
    arguments: argparse.Namespace,
    program: Sequence[str],
    unable: dict[str, Result],
    *,
    is_timed: bool,
) -> list[Row]:
    """`unable` remembers from scenario to scenario who need not be tried again."""
    wanted = arguments.only or [""]
    tasks = [
        _part(task, arguments.part)
        for task in scenario.tasks
        if any(word in task.sender.name for word in wanted)
    ]
    left_out = {
        task.sender.name: Result(None, why)
        for task in tasks
        if (why := task.sender.missing()) is not None
    } | unable
    rounds: list[Mapping[str, Result]] = []
    for number in range(1, arguments.rounds + 1):
        results = dict(left_out)
        for task in tasks:
            name = task.sender.name
            if name in left_out:
                continue
            found = results[name] = measure(
                task,
                program,
                OUT / "run",
                delay_ms=scenario.delay_ms,
                attachment=scenario.attachment,
            )
            _tell(f"{scenario.key}, round {number}: {name}", found)
            if found.figures is None:  # once wrong, it has no figure whatever comes
                left_out[name] = found
                if found.said == UNABLE:
                    unable[name] = found
        rounds.append(results)
    messages = {task.sender.name: task.people for task in tasks}
    return summary.summed_up(rounds, messages, is_timed=is_timed)


def _part(task: Task, part: int) -> Task:
    return replace(task, people=max(10, task.people // part), first=max(2, task.first // part))


def _tell(what: str, result: Result) -> None:
    figures = result.figures
    if figures is None:
        print(f"  {what}: {result.said}", flush=True)
        return
    print(
        f"  {what}: {summary.number(figures.sending_us)} µs,"
        f" {figures.per_second:,.0f}/s, the server {figures.load:.0%} busy"
        f" ({figures.sink_us:.1f} µs a message)",
        flush=True,
    )


if __name__ == "__main__":
    main()
