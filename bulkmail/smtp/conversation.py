"""The client's side of an SMTP session after the login, without I/O: mail in, bytes out; bytes in,
outcomes out.

Promises: every mail object offered gets exactly one outcome, decided by a reply to its own
commands or by how far it had come when nothing more was said; a reply is never credited to another
mail object; and `DOT` is entered before the last bytes of a message are handed out.
Knows neither sockets nor time nor what an outcome means.

One command at a time, unless the server announces more. With PIPELINING (RFC 2920) MAIL, RCPT and
DATA leave in one write, and join the write of the content before them when the next mail object is
there by then. DATA ends its group: content waits for its 354. With CHUNKING (RFC 3030) too, a mail
object leaves whole, RSET, MAIL, RCPT and BDAT with its content, and after the first one of the
session others follow before any of it is answered, as many as the window holds. After a refusal
DATA and BDAT wait for the reply to RCPT until the next acceptance, because servers count errors and
hang up; so does a BDAT of long content.

What the server announced that it does not take is settled without a word of it being said.

The reply to the end of a message behind which more was said is held until it is certain that it is
that: all replies came, or those before it are what this server always says there (see `credit`). If
one is missing or too many, the message is in doubt, and a refusal of an envelope does not count
either. What no client can tell: a server that loses one reply and makes up another; one that
answers a dot, alone on its way, before it has decided; and one that closes right after a reply to
MAIL that looks as if it were the lost one to the dot before it, where its replies to both are the
same.
"""

from collections import deque
from collections.abc import Callable, Iterator
from enum import Enum, auto

from bulkmail.model import MailObject, Outcome, Phase, Reply
from bulkmail.smtp.announced import Announced
from bulkmail.smtp.content import FINAL_DOT, MAX_JOINED_BYTES, portions, stuffed
from bulkmail.smtp.credit import Replies, Step
from bulkmail.smtp.reply import MalformedReplyError, ReplyReader
from bulkmail.smtp.transaction import Transaction

WINDOW = 16
"""Mail objects under way at once, with CHUNKING."""

IN_TURN = 3
"""With PIPELINING alone: one whose end is said, one whose commands are, and one that is ready to
join the content of that, when it may follow."""


class Ending(Enum):
    """How a session came to its end, which tells what to make of the replies before it."""

    ORDERLY = auto()
    """By QUIT, by a 421, or because nobody wanted to go on."""
    CUT_OFF = auto()
    """The connection ended without a word."""
    ASTRAY = auto()
    """Replies stayed away, were none, or did not fit the commands."""


_Question = tuple[Step, Transaction | None]


class _Write:
    """Bytes to hand to the transport, and the replies that they ask for; `content_of` is whose
    content is among them, if any's is.
    """

    __slots__ = ("asks", "content_of", "data", "joins")

    def __init__(
        self, data: bytes, asks: list[_Question], joins: bool, content_of: Transaction | None
    ) -> None:
        self.data = data
        self.asks = asks
        self.joins = joins
        self.content_of = content_of


class Conversation:
    """One session. Offer while there is `room`; write what `next_write` gives; pass on what comes.

    `take_settled` yields (mail object, outcome) pairs; `ended` says why the session is over, after
    which the transport is to be aborted. `window` mail objects are under way at once at most where
    the server has CHUNKING.
    """

    def __init__(self, announced: Announced, window: int = WINDOW) -> None:
        self.ended: str | None = None
        self.broke_pipeline = False
        """Whether it ended CUT_OFF or ASTRAY while commands said at once were being answered."""
        self.joined = False
        """Whether the end of a message, said at once with other commands, was answered well."""
        self.knows_no_bdat = False
        """Whether it turned out that the server does not have the CHUNKING that it announced."""
        self._announced = announced
        self._in_chunks = announced.chunking and announced.pipelining
        self._window = window if self._in_chunks else IN_TURN if announced.pipelining else 1
        self._reader = ReplyReader()
        self._transactions: deque[Transaction] = deque()
        self._queued: deque[Transaction] = deque()
        """Those of which nothing was said yet."""
        self._speaking: Transaction | None = None
        """The last one of which something was."""
        self._asked: deque[_Question] = deque()
        self._outbox: deque[_Write] = deque()
        self._settled: list[tuple[MailObject, Outcome]] = []
        self._replies = Replies()
        self._careful = False
        self._reset_first = False
        self._in_pipeline = False
        self._no_more = ""
        """What the server answered to RSET, if it refused that: nothing more is said then."""
        self._is_leaving = False
        """Whether that was final, and the last word that was heard."""

    # -- what the session does with it ---------------------------------------------------------

    @property
    def room(self) -> int:
        """How many mail objects may be offered now. In chunks the first of a session goes alone: it
        tells what this server answers to what.
        """
        if self.ended is not None or self._no_more:
            return 0
        is_first = self._in_chunks and not self._replies.is_complete
        return (1 if is_first else self._window) - len(self._transactions)

    @property
    def idle(self) -> bool:
        """Nothing is under way and no reply is awaited."""
        return not (self._transactions or self._asked or self._outbox)

    @property
    def awaited(self) -> tuple[object, Phase] | None:
        """What is waited for, a reply or the writing of content, and the phase it belongs to.

        The object changes when the next thing is waited for: the time allowed starts anew then.
        """
        if self._asked:
            transaction = self._asked[0][1]
            return self._asked[0], transaction.phase if transaction else Phase.QUEUED
        return (self._outbox[0], Phase.CONTENT) if self._outbox else None

    def offer(self, mail: MailObject) -> None:
        """Takes a mail object. Its end may leave at any moment from now on.

        One that the server announced not to take is settled at once, and takes no room.
        """
        assert self.room > 0
        transaction = Transaction(mail)
        if (outcome := self._announced.against(mail, transaction.size)) is not None:
            self._settled.append((mail, outcome))
            return
        self._transactions.append(transaction)
        self._queued.append(transaction)
        self._speak()

    def quit(self) -> None:
        """Says goodbye. Only when idle."""
        assert self.idle
        self._say(b"QUIT\r\n", [(Step.QUIT, None)])

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

    def receive(self, data: bytes) -> None:
        """Takes bytes of the server, in any portions."""
        if self.ended is not None:
            return
        try:
            for reply in self._reader.receive(data):
                self._reply(reply)
                if self.ended is not None:
                    return
            if self._in_chunks and not self._asked:
                self._all_fit()
                self._speak()
        except MalformedReplyError as error:
            self.end(str(error), Ending.ASTRAY)

    def end(self, cause: str, ending: Ending = Ending.ORDERLY) -> None:
        """Nothing more will be heard: every mail object under way is settled by how far it came."""
        if self.ended is not None:
            return
        if self._is_leaving and ending is Ending.CUT_OFF:
            cause, ending = self._no_more, Ending.ORDERLY
            self._forget_unanswered()
        self.ended = cause
        self.broke_pipeline = self._in_pipeline and ending is not Ending.ORDERLY
        is_behind = False
        for transaction in self._transactions:
            outcome = self._by_how_far(transaction, cause, ending)
            if is_behind and outcome.reply is None and outcome.phase is Phase.MAIL:
                outcome = outcome._replace(phase=Phase.QUEUED)  # it had no part in that end
            is_behind |= transaction.outcome is None
            self._settled.append((transaction.mail, outcome))
        self._transactions.clear()
        self._queued.clear()
        self._outbox.clear()
        self._asked.clear()

    def take_settled(self) -> Iterator[tuple[MailObject, Outcome]]:
        """The mail objects settled since the last call, with their outcomes."""
        settled, self._settled = self._settled, []
        yield from settled

    # -- speaking --------------------------------------------------------------------------------

    def _say(
        self,
        data: bytes,
        asks: list[_Question],
        *,
        joins: bool = True,
        content_of: Transaction | None = None,
    ) -> None:
        self._outbox.append(_Write(data, asks, joins, content_of))

    def _handed_out(self) -> bytes:
        write = self._outbox.popleft()
        if write.content_of is not None:
            write.content_of.phase = Phase.CONTENT
        for step, transaction in write.asks:
            if transaction is not None:
                transaction.unanswered += 1
                if step is Step.END:
                    transaction.phase = Phase.DOT
        self._asked.extend(write.asks)
        self._in_pipeline |= len(self._asked) > 1
        self._speak()
        return write.data

    def _speak(self) -> None:
        """Says the next commands of whichever mail object may speak."""
        while True:
            if (speaking := self._speaking) is not None and speaking.script:
                self._say_commands(speaking)
                if speaking.script:
                    return
            if not self._queued or not self._may_follow():
                return
            self._begin(self._queued.popleft())

    def _may_follow(self) -> bool:
        """Whether all before have said their end, so that the commands of the next may be said."""
        if len(self._transactions) == len(self._queued):
            return not self._no_more
        assert self._speaking is not None
        return self._speaking.phase is Phase.DOT and not self._careful

    def _begin(self, transaction: Transaction) -> None:
        """In a window nobody knows yet whether the one before it will leave an envelope behind."""
        is_alone = len(self._transactions) == len(self._queued) + 1
        is_known = is_alone and self._replies.is_complete
        if self._reset_first or (self._in_chunks and not is_known):
            transaction.script.append(Step.RSET)
            self._reset_first = False
        content = Step.END if self._in_chunks else Step.DATA
        transaction.script += (Step.MAIL, Step.RCPT, content)
        transaction.phase = Phase.MAIL
        self._speaking = transaction

    def _say_commands(self, transaction: Transaction) -> None:
        """The commands that may be said now, as one group (RFC 2920 3.1)."""
        lines = ""
        asks: list[_Question] = []
        while script := transaction.script:
            if (asks or self._asked or self._outbox) and self._is_alone(script[0], transaction):
                break
            step = script.popleft()
            lines += self._command(step, transaction)
            if step is Step.END:
                content = transaction.mail.content
                self._say_content(transaction, lines.encode(), asks, content, b"")
                return
            asks.append((step, transaction))
        if asks:
            self._say(lines.encode(), asks)

    def _is_alone(self, step: Step, transaction: Transaction) -> bool:
        """Whether all replies are waited for before this is said."""
        if step is Step.DATA:
            return self._careful or not self._announced.pipelining
        if step is Step.END:
            return self._careful or transaction.size > MAX_JOINED_BYTES
        return not self._announced.pipelining

    def _command(self, step: Step, transaction: Transaction) -> str:
        mail = transaction.mail
        if step is Step.MAIL:
            parameters = self._announced.parameters(mail, transaction.size)
            return f"MAIL FROM:<{mail.envelope.reverse_path}>{parameters}\r\n"
        if step is Step.RCPT:
            return f"RCPT TO:<{mail.envelope.forward_path}>\r\n"
        return f"BDAT {transaction.size} LAST\r\n" if step is Step.END else f"{step.name}\r\n"

    def _say_content(
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
            self._say(b"".join((before, *pieces, after)), asks, content_of=transaction)
            return
        *first, last = portions((before, *pieces, after))
        for portion in first:
            self._say(portion, [], joins=False, content_of=transaction)
        self._say(last, asks, joins=False, content_of=transaction)

    # -- listening -------------------------------------------------------------------------------

    def _reply(self, reply: Reply) -> None:
        if reply.code == 421:
            self._closed_by(reply)
            return
        if not self._asked:
            self._unasked(reply)
            return
        self._is_leaving = False
        step, transaction = self._asked.popleft()
        if transaction is not None:
            transaction.unanswered -= 1
        _ON_REPLY[step](self, transaction, reply)
        if self.ended is None:
            if not (self._asked or self._in_chunks):
                self._all_fit()
            self._speak()

    def _closed_by(self, reply: Reply) -> None:
        """RFC 5321 3.8: the server gives up the session. What it had not answered it did not do."""
        if self._asked:
            step, transaction = self._asked.popleft()
        else:  # it is about the next command, which was not said yet, or about the content
            self._all_fit()
            step, transaction = Step.QUIT, self._transactions[0] if self._transactions else None
        if transaction is not None and transaction.refusal is None:
            phase = _PHASES.get(step, transaction.phase)
            transaction.refusal = Outcome(phase, reply)
        self._forget_unanswered()
        self.end(f"the server closed the session: {reply}")

    def _forget_unanswered(self) -> None:
        """Nothing of which a reply is still to come was done."""
        for transaction in self._transactions:
            if transaction.unanswered and transaction.phase is Phase.DOT:
                transaction.phase = Phase.MAIL

    def _unasked(self, reply: Reply) -> None:
        """A reply to nothing. Amid content it is that content's refusal, else a fault."""
        speaking = self._speaking
        if speaking is not None and speaking.phase is Phase.CONTENT and reply.code >= 400:
            refusal = speaking.refusal or Outcome(Phase.CONTENT, reply)
            self._settle(speaking, refusal)
        self.end(f"the server spoke out of turn: {reply}", Ending.ASTRAY)

    def _on_rset(self, transaction: Transaction, reply: Reply) -> None:
        transaction.replies[Step.RSET] = reply
        if reply.code < 300:
            self._look_for_shift(Step.RSET, reply)
        elif reply.code < 400:
            self.end(f"RSET was answered {reply}", Ending.ASTRAY)
        elif transaction.phase is not Phase.DOT:
            self.end(f"RSET was answered {reply}")
        else:
            self._no_more = f"RSET was answered {reply}"
            self._is_leaving = reply.code >= 500

    def _on_envelope(self, step: Step, transaction: Transaction, reply: Reply) -> None:
        """The first refusal decides; those after it are its echo."""
        if reply.code >= 400:
            self._refused(step, transaction, reply)
        elif reply.code >= 300:
            self.end(f"{step.name} was answered {reply}", Ending.ASTRAY)
        elif transaction.refusal is None:
            transaction.replies[step] = reply
            if transaction.phase is _PHASES[step]:
                transaction.phase = Phase.RCPT if step is Step.MAIL else Phase.DATA
            self._look_for_shift(step, reply)

    def _on_mail(self, transaction: Transaction, reply: Reply) -> None:
        self._on_envelope(Step.MAIL, transaction, reply)

    def _on_rcpt(self, transaction: Transaction, reply: Reply) -> None:
        self._on_envelope(Step.RCPT, transaction, reply)

    def _look_for_shift(self, step: Step, reply: Reply) -> None:
        if self._in_chunks and self._replies.is_anothers(step, reply):
            self.end(f"{step.name} was answered as another command is: {reply}", Ending.ASTRAY)

    def _on_data(self, transaction: Transaction, reply: Reply) -> None:
        if reply.code < 400 and reply.code != 354:
            # This is no answer to DATA, and what went before it may have been none either.
            transaction.phase, transaction.refusal = Phase.RCPT, None
            self.end(f"DATA was answered {reply}", Ending.ASTRAY)
        elif reply.code >= 400:
            self._refused(Step.DATA, transaction, reply)
        elif transaction.refusal is None:
            pieces = tuple(map(stuffed, transaction.mail.content))
            self._say_content(transaction, b"", [], pieces, FINAL_DOT)
        else:
            # RFC 2920 3.1: a server that wants content for nobody gets an empty message.
            transaction.phase = Phase.CONTENT
            self._say(FINAL_DOT, [(Step.LONE_DOT, transaction)])

    def _on_end(self, transaction: Transaction, reply: Reply) -> None:
        if transaction.refusal is not None:
            if reply.code < 400:  # this should be its echo
                transaction.refusal = None
                self.end(f"content for nobody was answered {reply}", Ending.ASTRAY)
            return
        if reply.code < 300:
            self._careful = False
        elif reply.code >= 400:
            self._careful, self._reset_first = True, self._reset_first or self._in_chunks
        is_first = len(self._transactions) == 1 and not self._replies.knows_end
        if self._in_chunks and is_first and 500 <= reply.code <= 504:
            # It does not know BDAT, and was told nothing else: nothing can have been taken.
            self.knows_no_bdat = True
            self._settle(transaction, Outcome(Phase.DATA, reply))
            self.end(f"BDAT was answered {reply}")
        elif 300 <= reply.code < 400 or 500 <= reply.code <= 504:
            self._settle(transaction, Outcome(Phase.DOT, reply))
            self.end(f"the end of a message was answered {reply}", Ending.ASTRAY)
        else:
            transaction.held = reply
            if self._replies.prove(transaction.replies, reply):
                self._settle_certain()

    def _on_lone_dot(self, transaction: Transaction, reply: Reply) -> None:
        """Whatever it is, it is not about a message."""
        transaction.phase = Phase.RCPT

    def _on_quit(self, transaction: None, reply: Reply) -> None:
        self.end("QUIT")

    def _all_fit(self) -> None:
        """Each command that was said was answered, and by a reply to that command.

        In a window nothing else tells than their number: one that is too many comes together with
        the last ones, most likely, so all that is there is heard first.
        """
        for transaction in self._transactions:
            if self._in_chunks and self._replies.is_of_an_address(transaction.held):
                self.end(f"a message was answered as RCPT is: {transaction.held}", Ending.ASTRAY)
                return
            self._replies.learn(transaction.replies)
        self._settle_certain()
        self._in_pipeline = False
        if self._no_more:
            self.end(self._no_more)

    def _settle_certain(self) -> None:
        """All replies so far are what they seem to be."""
        while self._transactions and (outcome := self._transactions[0].outcome) is not None:
            if (held := self._transactions[0].held) is not None:
                self.joined |= self._in_pipeline
                self._replies.learn({Step.END: held})
            self._settle(self._transactions[0], outcome)

    def _by_how_far(self, transaction: Transaction, cause: str, ending: Ending) -> Outcome:
        """The outcome of a mail object that was under way when the session ended."""
        if (held := transaction.held) is not None:
            astray = ending is Ending.ASTRAY
            in_window = self._in_chunks and len(self._transactions) > 1
            if self._replies.may_be_of_an_end(held, astray=astray, in_window=in_window):
                return Outcome(Phase.DOT, held)
            cause = f"{cause}; the {held.code} before it may have been meant for another message"
            return Outcome(Phase.DOT, None, cause)
        is_whole = transaction.phase is Phase.CONTENT or not transaction.unanswered
        is_certain = is_whole and not (self._in_chunks and ending is Ending.ASTRAY)
        if transaction.refusal and (ending is Ending.ORDERLY or is_certain):
            return transaction.refusal
        return Outcome(transaction.phase, None, cause)

    def _refused(self, step: Step, transaction: Transaction, reply: Reply) -> None:
        """The first refusal counts; nothing more is said of this mail object."""
        if transaction.refusal is None:
            transaction.refusal = Outcome(_PHASES[step], reply)
        transaction.script.clear()
        self._careful = self._reset_first = True

    def _settle(self, transaction: Transaction, outcome: Outcome) -> None:
        self._transactions.remove(transaction)
        self._settled.append((transaction.mail, outcome))


_PHASES = {
    Step.RSET: Phase.MAIL,
    Step.MAIL: Phase.MAIL,
    Step.RCPT: Phase.RCPT,
    Step.DATA: Phase.DATA,
    Step.END: Phase.DOT,
}

_ON_REPLY: dict[Step, Callable[..., None]] = {
    Step.RSET: Conversation._on_rset,
    Step.MAIL: Conversation._on_mail,
    Step.RCPT: Conversation._on_rcpt,
    Step.DATA: Conversation._on_data,
    Step.END: Conversation._on_end,
    Step.LONE_DOT: Conversation._on_lone_dot,
    Step.QUIT: Conversation._on_quit,
}
