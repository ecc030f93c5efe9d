"""Work that may have no end, such as that of a regex of the user's own, stopped after a second."""

import signal
import threading
from collections.abc import Callable
from types import FrameType
from typing import TypeVar

SECONDS = 1

A = TypeVar("A")
R = TypeVar("R")


class EndlessError(Exception):
    """Something took too long."""


def in_time(function: Callable[[A], R]) -> Callable[[A], R]:
    """`function`, which raises EndlessError where a call takes over a second of the processor.

    By a signal, for which Python's regexes look as they work; only the main thread can have one,
    and in others nothing is stopped.
    """

    def limited(argument: A) -> R:
        if threading.current_thread() is not threading.main_thread():
            return function(argument)
        before = signal.signal(signal.SIGVTALRM, _stop)
        signal.setitimer(signal.ITIMER_VIRTUAL, SECONDS)
        try:
            return function(argument)
        finally:
            signal.setitimer(signal.ITIMER_VIRTUAL, 0)
            signal.signal(signal.SIGVTALRM, before)

    return limited


def _stop(number: int, frame: FrameType | None) -> None:
    raise EndlessError
