"""One thread works in long stretches, and lets others in between."""

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

_LOOK_AGAIN_SECONDS = 0.0005


class Turns:
    """A lock whose holder gives way to whoever waits: a plain one is back before they wake."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._counting = threading.Lock()
        self._waiting = 0

    @contextmanager
    def turn(self) -> Iterator[None]:
        """Has the lock for the block."""
        self._count(1)
        self._lock.acquire()
        self._count(-1)
        try:
            yield
        finally:
            self._lock.release()

    def give_way(self) -> None:
        """Inside a turn: lets everyone go first who is waiting."""
        if not self._waiting:
            return
        self._lock.release()
        try:
            while self._waiting:
                time.sleep(_LOOK_AGAIN_SECONDS)
        finally:
            self._lock.acquire()

    def _count(self, change: int) -> None:
        with self._counting:
            self._waiting += change
