"""Ctrl-C and SIGTERM, for what sends."""

import asyncio
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Protocol

from bulkmail.delivery import Stop
from bulkmail.errors import ExitStatus

SIGNALS = (signal.SIGINT, signal.SIGTERM)


class Sending(Protocol):
    """What is ended by them."""

    def stop(self, stop: Stop) -> None: ...
    def abort(self, cause: str) -> None: ...


@contextmanager
def ended_by_signals(sending: Sending, say: Callable[[str], None]) -> Iterator[None]:
    """Ctrl-C or SIGTERM once: finish what is under way. Twice: abort. Afterwards the run is as good
    as over: they are ignored until the program has ended, so that its exit status tells of the run.
    """
    loop = asyncio.get_running_loop()
    told = 0

    def tell(number: int) -> None:
        nonlocal told
        told += 1
        if told == 1:
            status = ExitStatus.INTERRUPTED if number == signal.SIGINT else ExitStatus.TERMINATED
            by = "Ctrl-C" if number == signal.SIGINT else signal.Signals(number).name
            sending.stop(Stop(status, by))
            say("finishing what is under way; again to abort")
        else:
            sending.abort("aborted")

    def handle(number: int, frame: FrameType | None) -> None:
        loop.call_soon_threadsafe(tell, number)

    for number in SIGNALS:
        signal.signal(number, handle)
    try:
        yield
    finally:
        for number in SIGNALS:
            signal.signal(number, signal.SIG_IGN)
