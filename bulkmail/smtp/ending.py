"""How a session came to its end, and what the mail objects that were under way come to by it."""

from collections.abc import Collection, Iterator
from enum import Enum, auto

from bulkmail.model import MailObject, Outcome, Phase, Reply
from bulkmail.smtp.credit import Replies
from bulkmail.smtp.transaction import Transaction


class Ending(Enum):
    """How a session came to its end, which tells what to make of the replies before it."""

    ORDERLY = auto()
    """By QUIT, by a 421, or because nobody wanted to go on."""
    CUT_OFF = auto()
    """The connection ended without a word."""
    ASTRAY = auto()
    """Replies stayed away, were none, or did not fit the commands."""


def settled_at_the_end(
    transactions: Collection[Transaction],
    replies: Replies,
    cause: str,
    ending: Ending,
    *,
    in_chunks: bool,
) -> Iterator[tuple[MailObject, Outcome]]:
    """The mail objects that were under way, in order, with their outcomes: by how far they came.

    `replies` is what is known of the server's; mail objects left whole if `in_chunks`.
    """
    in_window = in_chunks and len(transactions) > 1
    is_behind = False
    for transaction in transactions:
        if transaction.held is not None:
            outcome = _held(transaction.held, replies, cause, ending, in_window=in_window)
        else:
            outcome = _not_held(transaction, cause, ending, in_chunks=in_chunks)
        if is_behind and outcome.reply is None and outcome.phase is Phase.MAIL:
            outcome = outcome._replace(phase=Phase.QUEUED)  # it had no part in that end
        is_behind |= transaction.outcome is None
        yield transaction.mail, outcome


def _held(
    reply: Reply, replies: Replies, cause: str, ending: Ending, *, in_window: bool
) -> Outcome:
    """Of one whose end was answered, it seems."""
    astray = ending is Ending.ASTRAY
    if replies.may_be_of_an_end(reply, astray=astray, in_window=in_window):
        return Outcome(Phase.DOT, reply)
    cause = f"{cause}; the {reply.code} before it may have been meant for another message"
    return Outcome(Phase.DOT, None, cause)


def _not_held(transaction: Transaction, cause: str, ending: Ending, *, in_chunks: bool) -> Outcome:
    is_whole = transaction.phase is Phase.CONTENT or not transaction.unanswered
    is_certain = is_whole and not (in_chunks and ending is Ending.ASTRAY)
    if transaction.refusal and (ending is Ending.ORDERLY or is_certain):
        return transaction.refusal
    return Outcome(transaction.phase, None, cause)
