"""What the client says in an SMTP session, in which groups, and when it may.

One command at a time, unless the server announces more. With PIPELINING (RFC 2920) MAIL, RCPT and
DATA leave in one write, and join the write of the content before them when the next mail object is
there by then. DATA ends its group: content waits for its 354. With CHUNKING (RFC 3030) too, a mail
object leaves whole, RSET, MAIL, RCPT and BDAT with its content, and after the first one of the
session others follow before any of it is answered, as many as the window holds. After a refusal
DATA and BDAT wait for the reply to RCPT until the next acceptance, because servers count errors and
hang up; so does a BDAT of long content.

Knows of replies only which are to come, and to what.
"""

from collections import deque
from dataclasses import dataclass

from bulkmail.model import Phase
from bulkmail.smtp.announced import Announced
from bulkmail.smtp.content import FINAL_DOT, MAX_JOINED_BYTES, portions, stuffed
from bulkmail.smtp.credit import Replies, Step
from bulkmail.smtp.transaction import Transaction

_Question = tuple[Step, Transaction | None]


@dataclass(slots=True)
class _Write:
    """Bytes to hand to the transport, and the replies that they ask for; `content_of` is whose
    content is among them, if any's is.
    """

    data: bytes
    asks: list[_Question]
    joins: bool = True
    content_of: Transaction | None = None


class Speaker:
    """Says the commands of one mail object after the other, as early as the server lets it.

    `transactions` are all under way, which the conversation keeps; `replies` is what is known of
    the server's.
    """

    def __init__(
        self, announced: Announced, transactions: deque[Transaction], replies: Replies
    ) -> None:
        self.in_chunks = announced.chunking and announced.pipelining
        self.asked: deque[_Question] = deque()
        """What replies are still to come to, in order."""
        self.speaking: Transaction | None = None
        """The last one of which something was said."""
        self.in_pipeline = False
        """Whether commands said at once are being answered."""
        self.careful = False
        """Whether there was a refusal, and no acceptance after it."""
        self.reset_first = False
        """Whether RSET is said before the next."""
        self.no_more = ""
        """What the server answered to RSET, if it refused that: nothing more is said then."""
        self._announced = announced
        self._transactions = transactions
        self._replies = replies
        self._queued: deque[Transaction] = deque()
        """Those of which nothing was said yet."""
        self._outbox: deque[_Write] = deque()

    @property
    def is_silent(self) -> bool:
        """Nothing is to be written, and no reply awaited."""
        return not (self.asked or self._outbox)

    @property
    def awaited(self) -> tuple[object, Phase] | None:
        """See `Conversation.awaited`."""
        if self.asked:
            transaction = self.asked[0][1]
            return self.asked[0], transaction.phase if transaction else Phase.QUEUED
        return (self._outbox[0], Phase.CONTENT) if self._outbox else None

    def offer(self, transaction: Transaction) -> None:
        """Its commands are said when they may follow."""
        self._queued.append(transaction)
        self.speak()

    def speak(self) -> None:
        """Says the next commands of whichever mail object may speak."""
        while True:
            if (speaking := self.speaking) is not None and speaking.script:
                self._say_commands(speaking)
                if speaking.script:
                    return
            if not self._queued or not self._may_follow():
                return
            self._begin(self._queued.popleft())

    def next_write(self) -> bytes | None:
        """The next bytes for the transport, which count as said from now on."""
        if not self._outbox:
            return None
        said = [self._handed_out()]
        size = len(said[0])
        while self._outbox and self._outbox[0].joins:
            size += len(self._outbox[0].data)
            if size > MAX_JOINED_BYTES:
                break
            said.append(self._handed_out())
        return said[0] if len(said) == 1 else b"".join(said)

    def say_content(self, transaction: Transaction) -> None:
        """After a 354."""
        pieces = tuple(map(stuffed, transaction.mail.content))
        self._say_to_the_end(transaction, b"", [], pieces, FINAL_DOT)

    def say_lone_dot(self, transaction: Transaction) -> None:
        """RFC 2920 3.1: a server that wants content for nobody gets an empty message."""
        transaction.phase = Phase.CONTENT
        self._outbox.append(_Write(FINAL_DOT, [(Step.LONE_DOT, transaction)]))

    def say_quit(self) -> None:
        self._outbox.append(_Write(b"QUIT\r\n", [(Step.QUIT, None)]))

    def fall_silent(self) -> None:
        """Nothing more is said, and nothing awaited."""
        self._queued.clear()
        self._outbox.clear()
        self.asked.clear()

    def _handed_out(self) -> bytes:
        write = self._outbox.popleft()
        if write.content_of is not None:
            write.content_of.phase = Phase.CONTENT
        for step, transaction in write.asks:
            if transaction is not None:
                transaction.unanswered += 1
                if step is Step.END:
                    transaction.phase = Phase.DOT
        self.asked.extend(write.asks)
        self.in_pipeline |= len(self.asked) > 1
        self.speak()
        return write.data

    def _may_follow(self) -> bool:
        """Whether all before have said their end, so that the commands of the next may be said."""
        if len(self._transactions) == len(self._queued):
            return not self.no_more
        assert self.speaking is not None
        return self.speaking.phase is Phase.DOT and not self.careful

    def _begin(self, transaction: Transaction) -> None:
        """In a window nobody knows yet whether the one before it will leave an envelope behind."""
        is_alone = len(self._transactions) == len(self._queued) + 1
        is_known = is_alone and self._replies.is_complete
        if self.reset_first or (self.in_chunks and not is_known):
            transaction.script.append(Step.RSET)
            self.reset_first = False
        content = Step.END if self.in_chunks else Step.DATA
        transaction.script += (Step.MAIL, Step.RCPT, content)
        transaction.phase = Phase.MAIL
        self.speaking = transaction

    def _say_commands(self, transaction: Transaction) -> None:
        """The commands that may be said now, as one group (RFC 2920 3.1)."""
        lines = ""
        asks: list[_Question] = []
        while script := transaction.script:
            if (asks or self.asked or self._outbox) and self._is_alone(script[0], transaction):
                break
            step = script.popleft()
            lines += self._command(step, transaction)
            if step is Step.END:
                content = transaction.mail.content
                self._say_to_the_end(transaction, lines.encode(), asks, content, b"")
                return
            asks.append((step, transaction))
        if asks:
            self._outbox.append(_Write(lines.encode(), asks))

    def _is_alone(self, step: Step, transaction: Transaction) -> bool:
        """Whether all replies are waited for before this is said."""
        if step is Step.DATA:
            return self.careful or not self._announced.pipelining
        if step is Step.END:
            return self.careful or transaction.size > MAX_JOINED_BYTES
        return not self._announced.pipelining

    def _command(self, step: Step, transaction: Transaction) -> str:
        mail = transaction.mail
        if step is Step.MAIL:
            parameters = self._announced.parameters(mail, transaction.size)
            return f"MAIL FROM:<{mail.envelope.reverse_path}>{parameters}\r\n"
        if step is Step.RCPT:
            return f"RCPT TO:<{mail.envelope.forward_path}>\r\n"
        return f"BDAT {transaction.size} LAST\r\n" if step is Step.END else f"{step.name}\r\n"

    def _say_to_the_end(
        self,
        transaction: Transaction,
        before: bytes,
        asks: list[_Question],
        pieces: tuple[bytes, ...],
        after: bytes,
    ) -> None:
        """Content with what stands before and behind it; if it is long, all but its end at once."""
        asks.append((Step.END, transaction))
        if transaction.size <= MAX_JOINED_BYTES:
            self._outbox.append(
                _Write(b"".join((before, *pieces, after)), asks, content_of=transaction)
            )
            return
        *first, last = portions((before, *pieces, after))
        for portion in first:
            self._outbox.append(_Write(portion, [], joins=False, content_of=transaction))
        self._outbox.append(_Write(last, asks, joins=False, content_of=transaction))
