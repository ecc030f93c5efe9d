"""Which core the sender runs on and which the server, where a system lets one choose."""

import os
import sys


def available() -> list[int]:
    """The cores of this process, in order; empty where they cannot be chosen (macOS)."""
    return sorted(os.sched_getaffinity(0)) if sys.platform == "linux" else []


def pin_client() -> None:
    _pin(0)


def pin_server() -> None:
    _pin(-1)


def are_enough() -> bool:
    """Whether the server has one for itself."""
    return (len(available()) or os.cpu_count() or 1) > 1


def said() -> str:
    """In a few words, for whoever reads the figures."""
    cores = available()
    if not cores:
        return "not pinned to cores, which this system does not offer"
    if len(cores) == 1:
        return "sender and server on one core: throughput does not count"
    return "sender pinned to one core, server to another"


def _pin(index: int) -> None:
    if sys.platform == "linux":
        os.sched_setaffinity(0, {available()[index]})
