"""One mail object on its way through a session (RFC 5321 3.3), and what was heard of it."""

from collections import deque

from bulkmail.model import MailObject, Outcome, Phase, Reply
from bulkmail.smtp.credit import Step


class Transaction:
    """`script` holds the commands that are not yet said; `unanswered` counts replies to come.

    `held` is the reply to its end, `refusal` its first refusal; neither counts before it is certain
    that it is that.
    """

    __slots__ = ("held", "mail", "phase", "refusal", "replies", "script", "size", "unanswered")

    def __init__(self, mail: MailObject) -> None:
        self.mail = mail
        self.size = mail.size_bytes
        self.phase = Phase.QUEUED
        self.script: deque[Step] = deque()
        self.unanswered = 0
        self.refusal: Outcome | None = None
        self.held: Reply | None = None
        self.replies: dict[Step, Reply] = {}

    @property
    def outcome(self) -> Outcome | None:
        """What it came to, if all was said and answered."""
        if self.held is not None:
            return Outcome(Phase.DOT, self.held)
        is_over = not (self.unanswered or self.script or self.phase is Phase.CONTENT)
        return self.refusal if is_over else None
