"""The client's side of an SMTP session after the login, without I/O: mail in, bytes out; bytes in,
outcomes out.

Promises: every mail object offered gets exactly one outcome, decided by a reply to its own
commands or by how far it had come when nothing more was said; a reply is never credited to another
mail object; and `DOT` is entered before the last bytes of a message are handed out.
Knows neither sockets nor time nor what an outcome means. What is said, and when, is for
`speaking`; what the end of a session leaves, for `ending`.

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

from bulkmail.model import MailObject, Outcome, Phase, Reply
from bulkmail.smtp.announced import Announced
from bulkmail.smtp.credit import Replies, Step
from bulkmail.smtp.ending import Ending, settled_at_the_end
from bulkmail.smtp.reply import MalformedReplyError, ReplyReader
from bulkmail.smtp.speaking import Speaker
from bulkmail.smtp.transaction import Transaction

WINDOW = 16
"""Mail objects under way at once, with CHUNKING."""

IN_TURN = 3
"""With PIPELINING alone: one whose end is said, one whose commands are, and one that is ready to
join the content of that, when it may follow."""


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
        self._reader = ReplyReader()
        self._replies = Replies()
        self._transactions: deque[Transaction] = deque()
        self._speaker = Speaker(announced, self._transactions, self._replies)
        self._in_chunks = self._speaker.in_chunks
        self._window = window if self._in_chunks else IN_TURN if announced.pipelining else 1
        self._settled: list[tuple[MailObject, Outcome]] = []
        self._is_leaving = False
        """Whether RSET was refused for good, and that is the last word that was heard."""

    # -- what the session does with it ---------------------------------------------------------

    @property
    def room(self) -> int:
        """How many mail objects may be offered now. In chunks the first of a session goes alone: it
        tells what this server answers to what.
        """
        if self.ended is not None or self._speaker.no_more:
            return 0
        is_first = self._in_chunks and not self._replies.is_complete
        return (1 if is_first else self._window) - len(self._transactions)

    @property
    def idle(self) -> bool:
        """Nothing is under way and no reply is awaited."""
        return not self._transactions and self._speaker.is_silent

    @property
    def awaited(self) -> tuple[object, Phase] | None:
        """What is waited for, a reply or the writing of content, and the phase it belongs to.

        The object changes when the next thing is waited for: the time allowed starts anew then.
        """
        return self._speaker.awaited

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
        self._speaker.offer(transaction)

    def quit(self) -> None:
        """Says goodbye. Only when idle."""
        assert self.idle
        self._speaker.say_quit()

    def next_write(self) -> bytes | None:
        """The next bytes for the transport, which count as said from now on."""
        return self._speaker.next_write()

    def receive(self, data: bytes) -> None:
        """Takes bytes of the server, in any portions."""
        if self.ended is not None:
            return
        try:
            for reply in self._reader.receive(data):
                self._reply(reply)
                if self.ended is not None:
                    return
            if self._in_chunks and not self._speaker.asked:
                self._all_fit()
                self._speaker.speak()
        except MalformedReplyError as error:
            self.end(str(error), Ending.ASTRAY)

    def end(self, cause: str, ending: Ending = Ending.ORDERLY) -> None:
        """Nothing more will be heard: every mail object under way is settled by how far it came."""
        if self.ended is not None:
            return
        if self._is_leaving and ending is Ending.CUT_OFF:
            cause, ending = self._speaker.no_more, Ending.ORDERLY
            self._forget_unanswered()
        self.ended = cause
        self.broke_pipeline = self._speaker.in_pipeline and ending is not Ending.ORDERLY
        self._settled += settled_at_the_end(
            self._transactions, self._replies, cause, ending, in_chunks=self._in_chunks
        )
        self._transactions.clear()
        self._speaker.fall_silent()

    def take_settled(self) -> Iterator[tuple[MailObject, Outcome]]:
        """The mail objects settled since the last call, with their outcomes."""
        settled, self._settled = self._settled, []
        yield from settled

    # -- listening -------------------------------------------------------------------------------

    def _reply(self, reply: Reply) -> None:
        if reply.code == 421:
            self._closed_by(reply)
            return
        asked = self._speaker.asked
        if not asked:
            self._unasked(reply)
            return
        self._is_leaving = False
        step, transaction = asked.popleft()
        if transaction is not None:
            transaction.unanswered -= 1
        _ON_REPLY[step](self, transaction, reply)
        if self.ended is None:
            if not (asked or self._in_chunks):
                self._all_fit()
            self._speaker.speak()

    def _closed_by(self, reply: Reply) -> None:
        """RFC 5321 3.8: the server gives up the session. What it had not answered it did not do."""
        if self._speaker.asked:
            step, transaction = self._speaker.asked.popleft()
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
        speaking = self._speaker.speaking
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
            self._speaker.no_more = f"RSET was answered {reply}"
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
            self._speaker.say_content(transaction)
        else:
            self._speaker.say_lone_dot(transaction)

    def _on_end(self, transaction: Transaction, reply: Reply) -> None:
        if transaction.refusal is not None:
            if reply.code < 400:  # this should be its echo
                transaction.refusal = None
                self.end(f"content for nobody was answered {reply}", Ending.ASTRAY)
            return
        if reply.code < 300:
            self._speaker.careful = False
        elif reply.code >= 400:
            self._speaker.careful = True
            self._speaker.reset_first |= self._in_chunks
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
        self._speaker.in_pipeline = False
        if self._speaker.no_more:
            self.end(self._speaker.no_more)

    def _settle_certain(self) -> None:
        """All replies so far are what they seem to be."""
        while self._transactions and (outcome := self._transactions[0].outcome) is not None:
            if (held := self._transactions[0].held) is not None:
                self.joined |= self._speaker.in_pipeline
                self._replies.learn({Step.END: held})
            self._settle(self._transactions[0], outcome)

    def _refused(self, step: Step, transaction: Transaction, reply: Reply) -> None:
        """The first refusal counts; nothing more is said of this mail object."""
        if transaction.refusal is None:
            transaction.refusal = Outcome(_PHASES[step], reply)
        transaction.script.clear()
        self._speaker.careful = self._speaker.reset_first = True

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
