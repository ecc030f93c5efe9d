"""Refusals of a message that look like a refusal of all: the same one again and again.

One alone is taken for the recipient's; so many alike without an acceptance between them stop the
run, and nobody is to blame. Until it is clear which of the two they are, they are undecided.
"""

from collections import Counter

from bulkmail.model import Outcome, Phase, Recipient

Undecided = tuple[Recipient, Outcome]


class Refusals:
    """Undecided refusals since the last acceptance. Equal is what has equal codes and phase."""

    def __init__(self) -> None:
        self._undecided: list[Undecided] = []
        self._alike: Counter[tuple[Phase, int, str]] = Counter()

    def add(self, recipient: Recipient, outcome: Outcome) -> int:
        """How many are alike now, this one among them."""
        reply = outcome.reply
        kind = (outcome.phase, reply.code if reply else 0, reply.enhanced if reply else "")
        self._undecided.append((recipient, outcome))
        self._alike[kind] += 1
        return self._alike[kind]

    def take(self) -> list[Undecided]:
        """All that are undecided, which begin anew."""
        undecided, self._undecided = self._undecided, []
        self._alike.clear()
        return undecided
