"""Whose a reply is. Replies have no address: a client pairs them with its commands by counting, and
a server that leaves one out, or makes one up, shifts all that follow.

What each command was answered before tells more than counting alone: honest servers say the same to
each MAIL, and something else to the end of a message. Pure.
"""

from enum import Enum, auto

from bulkmail.model import Reply


class Step(Enum):
    """What a reply can answer."""

    __hash__ = object.__hash__  # that of enums is many times slower

    RSET = auto()
    MAIL = auto()
    RCPT = auto()
    DATA = auto()
    END = auto()
    """The end of a message: the final dot, or the last octet of `BDAT … LAST`."""
    LONE_DOT = auto()
    """The end of a message for nobody."""
    QUIT = auto()


_ABOUT_ADDRESSES = "2.1."
ENVELOPE = frozenset({Step.RSET, Step.MAIL, Step.RCPT})


class Replies:
    """The last replies of one server that certainly answered what they are kept for."""

    def __init__(self) -> None:
        self._known: dict[Step, Reply] = {}
        self.is_complete = False
        """Whether what an envelope is answered is known."""

    def learn(self, replies: dict[Step, Reply]) -> None:
        self._known.update(replies)
        self.is_complete = self.is_complete or self._known.keys() >= ENVELOPE

    @property
    def knows_end(self) -> bool:
        """Whether the end of a message was ever answered as such."""
        return Step.END in self._known

    def is_anothers(self, step: Step, reply: Reply) -> bool:
        """Whether it is what another command was always answered, and not this one."""
        known = self._known
        return reply != known.get(step, reply) and any(
            reply == known.get(other) for other in ENVELOPE
        )

    def prove(self, replies: dict[Step, Reply], end: Reply) -> bool:
        """Whether `end` answered the end of a message for certain, since `replies` to the envelope
        before it are the known ones, and it is unlike them.
        """
        known = self._known
        return all(step in known and replies.get(step) == known[step] for step in ENVELOPE) and (
            end not in replies.values()
        )

    def is_of_an_address(self, reply: Reply | None) -> bool:
        """Whether a reply to the end of a message is about an address (RFC 3463 3.2), where this
        server's are not.
        """
        of_an_end = self._known.get(Step.END)
        return (
            reply is not None
            and reply.enhanced.startswith(_ABOUT_ADDRESSES)
            and of_an_end is not None
            and not of_an_end.enhanced.startswith(_ABOUT_ADDRESSES)
        )

    def may_be_of_an_end(self, reply: Reply, *, astray: bool, in_window: bool) -> bool:
        """Whether a reply counts for the end of a message where the session ended before all its
        replies came. Where they went astray it must be a 2xx like no other's; where the connection
        just ended, it must not be like another's, or about an address. Where nothing else was under
        way, not `in_window`, it may be, if this server's are.
        """
        is_of_address = reply.enhanced.startswith(_ABOUT_ADDRESSES)
        is_anothers = any(reply == self._known.get(step) for step in ENVELOPE)
        if astray:
            return reply.code < 300 and not (is_of_address or is_anothers)
        of_an_end = self._known.get(Step.END)
        if reply == of_an_end and not in_window:
            return True
        has_learnt = in_window or of_an_end is not None
        return not (is_of_address or (is_anothers and has_learnt))
