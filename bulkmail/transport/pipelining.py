"""Whether a server that announces PIPELINING is believed, over the sessions of one run.

A session that breaks while commands said at once are being answered is followed by a plain one. If
it happens again, the server gets one command at a time to the end of the run, which is told once.
Sessions that were open when it happened first do not count as the second time: a network that fails
ends them all. One that joins messages and ends well takes the suspicion back.
"""

from collections.abc import Callable
from dataclasses import replace

from bulkmail.smtp.announced import Announced
from bulkmail.smtp.conversation import WINDOW, Conversation


class Pipelining:
    """`on_given_up` is called when the server is no longer believed, once; unless `wanted` it never
    is. `window` is that of each conversation.
    """

    def __init__(
        self, on_given_up: Callable[[], None], *, wanted: bool = True, window: int = WINDOW
    ) -> None:
        self._on_given_up = on_given_up
        self._is_given_up = not wanted
        self._window = window
        self._has_no_chunking = False
        self._begun = 0
        self._plain_next = 0
        self._suspect_after: int | None = None
        """How many sessions had begun when the first one broke; None: nothing is suspected."""

    def conversation(self, announced: Announced) -> tuple[Conversation, Callable[[], None]]:
        """A conversation with a server that announced this, and what to call when it has ended."""
        if announced.pipelining and (self._is_given_up or self._plain_next):
            self._plain_next = max(0, self._plain_next - 1)
            announced = replace(announced, pipelining=False)
        if self._has_no_chunking:
            announced = replace(announced, chunking=False)
        self._begun += 1
        number, conversation = self._begun, Conversation(announced, self._window)
        return conversation, lambda: self._ended(number, conversation)

    def _ended(self, number: int, conversation: Conversation) -> None:
        self._has_no_chunking |= conversation.knows_no_bdat
        is_later = self._suspect_after is not None and number > self._suspect_after
        if not conversation.broke_pipeline:
            if is_later and conversation.joined:
                self._suspect_after = None
            return
        self._plain_next += 1
        if self._suspect_after is None:
            self._suspect_after = self._begun
        elif is_later and not self._is_given_up:
            self._is_given_up = True
            self._on_given_up()
