"""A look at files, now and then, in a thread of its own."""

import threading
from collections.abc import Callable

LOOK_SECONDS = 0.5


class Following:
    """Calls `look` from `start` until `close`, which waits for one that is under way."""

    def __init__(self, look: Callable[[], None]) -> None:
        self._look = look
        self._closing = threading.Event()
        self._thread = threading.Thread(target=self._follow, name="following", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def close(self) -> None:
        self._closing.set()
        if self._thread.is_alive():
            self._thread.join()

    def _follow(self) -> None:
        while not self._closing.wait(LOOK_SECONDS):
            self._look()
