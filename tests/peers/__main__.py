"""`python -m tests.peers [SECTION …]`: these sections or all, each in a table.

1 if anything is wrong, or where a section has no server to try; 0 for want of root, which is said.
"""

import argparse
import os
import signal
import sys
import tempfile
import time
from collections.abc import Iterable
from contextlib import ExitStack
from pathlib import Path

from .campaign import RunError
from .greylist import greylist
from .sections import SECTIONS, Room
from .servers import KINDS, Missing, Server, Setting, running

MOST_FAULTS = 20
"""Told; the others are counted."""


def servers(folder: Path, greylist_port: int, stack: ExitStack) -> list[Server]:
    """Those that can be had here, running until the stack ends."""
    found: list[Server] = []
    for kind in KINDS:
        place = folder / kind.__name__.lower()
        place.mkdir()
        try:
            server = kind(Setting(place, greylist_port))
        except Missing as missing:
            print(f"left out: {missing}")
            continue
        found.append(stack.enter_context(running(server)))
        print(f"running: {server.title}")
    return found


def tried(room: Room, names: Iterable[str]) -> None:
    """Each section's table, line by line as it comes."""
    for name in names:
        section, began = SECTIONS[name], time.monotonic()
        print(f"\n{name}: {section.__doc__}")
        widths: list[int] = []
        try:
            for row in section(room):
                if not widths:
                    widths = [width(name, cell) for name, cell in row.items()]
                    print(printed(row, widths))
                print(printed(row.values(), widths), flush=True)
        except (RunError, TimeoutError) as error:
            room.faults.append(str(error))
        else:
            if not widths:
                room.faults.append(f"{name}: nothing was tried")
        print(f"({time.monotonic() - began:.0f} seconds)")


def width(name: str, cell: object) -> int:
    """Of a column, by its first line: words differ in length, numbers less."""
    return max(len(name), len(str(cell)), len("pipelining") if isinstance(cell, str) else 0) + 2


def printed(cells: Iterable[object], widths: Iterable[int]) -> str:
    return "".join(f"{cell!s:<{width}}" for cell, width in zip(cells, widths, strict=True)).rstrip()


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.peers", description=__doc__)
    parser.add_argument("sections", nargs="*", metavar="SECTION", help=", ".join(SECTIONS))
    names = parser.parse_args().sections or list(SECTIONS)
    if unknown := set(names) - SECTIONS.keys():
        parser.error(f"{', '.join(unknown)}: there are {', '.join(SECTIONS)}")
    if os.geteuid() != 0:
        print("skipped: the servers need root")
        return 0
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # the servers are to end, too
    with tempfile.TemporaryDirectory(prefix="peers-") as made, ExitStack() as stack:
        folder = Path(made)
        folder.chmod(0o755)  # the servers go on as other users
        service = stack.enter_context(greylist())
        room = Room(folder, servers(folder, service.port, stack), service)
        tried(room, names)
    print(f"\n{len(room.faults)} wrong")
    print("\n".join(room.faults[:MOST_FAULTS]))
    return 1 if room.faults else 0


sys.exit(main())
