"""The client's side of an SMTP session after the login, without I/O: mail in, bytes out; bytes in,
outcomes out.

Promises: every mail object offered gets exactly one outcome, decided by a reply to its own
commands or by how far it had come when nothing more was said; a reply is never credited to another
mail object; and `DOT` is entered before the bytes of the final dot are handed out.
Knows neither sockets nor time nor what an outcome means.

With PIPELINING (RFC 2920) MAIL, RCPT and DATA leave in one write, and join the write of the
content before them when the next mail object is there by then. DATA ends its group: content waits
for its 354. After a refusal DATA waits for the reply to RCPT until the next acceptance, because
servers count errors and hang up.

What the server announced that it does not take is settled without a word of it being said.

Replies have no address: a client pairs them with its commands by counting. So the reply to a dot
that was said with commands behind it is held until the replies to those fit, too. If one is missing
or too many, it may be another command's, and the message is in doubt, unless the reply is unlike
those that this server gave to MAIL and RCPT; a refusal of an envelope does not count then either.
What no client can tell: a server that loses one reply and makes up another; one that answers a dot,
alone on its way, before it has decided; and one that closes right after a reply to MAIL that looks
as if it were the lost one to the dot before it, where its replies to both are the same.
"""

from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from enum import Enum, auto

from bulkmail.model import MailObject, Outcome, Phase, Reply
from bulkmail.smtp.reply import MalformedReplyError, ReplyReader

MAX_JOINED_BYTES = 65536
"""Content up to this size leaves in one write with its dot and the next mail's commands; longer
content leaves in pieces of this size, so that the dot is handed out only after the rest went."""

FINAL_DOT = b".\r\n"


@dataclass(frozen=True, slots=True)
class Announced:
    """The extensions that the server has, from its last EHLO reply; nothing, by default.

    `size` is SIZE (RFC 1870), `max_bytes` its number, or None where there is no fixed limit.
    `smtputf8` (RFC 6531) and `eightbitmime` (RFC 6152) only count together: RFC 6531 3.1 asks
    for both.
    """

    pipelining: bool = False
    size: bool = False
    max_bytes: int | None = None
    smtputf8: bool = False
    eightbitmime: bool = False

    def against(self, mail: MailObject) -> Outcome | None:
        """Why `mail` need not be offered to this server, or None."""
        if mail.needs_smtputf8 and not (self.smtputf8 and self.eightbitmime):
            # If only the reverse-path is, then all messages are concerned and no recipient.
            theirs = not mail.envelope.forward_path.isascii()
            cause = "the server does not take addresses outside ASCII (SMTPUTF8)"
            return Outcome(Phase.UNADDRESSABLE if theirs else Phase.UNSENDABLE, None, cause)
        if self.max_bytes is not None and mail.size_bytes > self.max_bytes:
            has, takes = _sizes(mail.size_bytes, self.max_bytes)
            cause = f"the message has {has}; the server takes {takes} at most (SIZE)"
            return Outcome(Phase.UNSENDABLE, None, cause)
        return None

    def parameters(self, mail: MailObject) -> str:
        """What MAIL says of `mail` after its path (RFC 5321 4.1.1.11), with a space before each."""
        size = f" SIZE={mail.size_bytes}" if self.size else ""
        return f"{size} BODY=8BITMIME SMTPUTF8" if mail.needs_smtputf8 else size


class Ending(Enum):
    """How a session came to its end, which tells what to make of the replies before it."""

    ORDERLY = auto()
    """By QUIT, by a 421, or because nobody wanted to go on."""
    CUT_OFF = auto()
    """The connection ended without a word."""
    ASTRAY = auto()
    """Replies stayed away, were none, or did not fit the commands."""


class _Step(Enum):
    """What a reply can answer."""

    RSET = auto()
    MAIL = auto()
    RCPT = auto()
    DATA = auto()
    DOT = auto()
    LONE_DOT = auto()
    QUIT = auto()


class _Transaction:
    """One mail object under way. `script` holds the commands that are not yet said; `held` the
    reply to its dot, while it is not certain that it is that.
    """

    __slots__ = ("held", "mail", "phase", "refusal", "replies", "script")

    def __init__(self, mail: MailObject) -> None:
        self.mail = mail
        self.phase = Phase.QUEUED
        self.script: deque[_Step] = deque()
        self.refusal: Outcome | None = None
        self.held: Reply | None = None
        self.replies: dict[Phase, Reply] = {}


class _Write:
    """Bytes to hand to the transport, and the replies that they ask for."""

    __slots__ = ("asks", "data")

    def __init__(self, data: bytes, asks: list[tuple[_Step, _Transaction | None]]) -> None:
        self.data = data
        self.asks = asks


class Conversation:
    """One session. Offer while there is `room`; write what `next_write` gives; pass on what comes.

    `take_settled` yields (mail object, outcome) pairs; `ended` says why the session is over, after
    which the transport is to be aborted.
    """

    def __init__(self, announced: Announced) -> None:
        self.ended: str | None = None
        self.broke_pipeline = False
        """Whether it ended CUT_OFF or ASTRAY while commands said at once were being answered."""
        self.joined = False
        """Whether a dot and the commands behind it were answered as they should."""
        self._announced = announced
        self._window = 2 if announced.pipelining else 1
        self._reader = ReplyReader()
        self._transactions: deque[_Transaction] = deque()
        self._asked: deque[tuple[_Step, _Transaction | None]] = deque()
        self._outbox: deque[_Write] = deque()
        self._settled: list[tuple[MailObject, Outcome]] = []
        self._careful = False
        self._reset_first = False
        self._in_pipeline = False
        self._known: dict[Phase, Reply] = {}
        """The last replies to MAIL, RCPT and the dot that certainly were that."""

    # -- what the session does with it ---------------------------------------------------------

    @property
    def room(self) -> int:
        """How many mail objects may be offered now. One that seems to be accepted takes none."""
        under_way = sum(t.held is None or t.held.code >= 300 for t in self._transactions)
        return 0 if self.ended is not None else self._window - under_way

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
        """Takes a mail object. Its final dot may leave at any moment from now on.

        One that the server announced not to take is settled at once, and takes no room.
        """
        assert self.room > 0
        if (outcome := self._announced.against(mail)) is not None:
            self._settled.append((mail, outcome))
            return
        self._transactions.append(_Transaction(mail))
        self._go_on()

    def quit(self) -> None:
        """Says goodbye. Only when idle."""
        assert self.idle
        self._say(b"QUIT\r\n", [(_Step.QUIT, None)])

    def next_write(self) -> bytes | None:
        """The next bytes for the transport, which count as said from now on."""
        if not self._outbox:
            return None
        write = self._outbox.popleft()
        for step, transaction in write.asks:
            if step is _Step.DOT and transaction is not None:
                transaction.phase = Phase.DOT
        self._asked.extend(write.asks)
        self._in_pipeline |= len(self._asked) > 1
        self._go_on()
        return write.data

    def receive(self, data: bytes) -> None:
        """Takes bytes of the server, in any portions."""
        if self.ended is not None:
            return
        try:
            for reply in self._reader.receive(data):
                self._reply(reply)
                if self.ended is not None:
                    return
        except MalformedReplyError as error:
            self.end(str(error), Ending.ASTRAY)

    def end(self, cause: str, ending: Ending = Ending.ORDERLY) -> None:
        """Nothing more will be heard: every mail object under way is settled by how far it came."""
        if self.ended is not None:
            return
        self.ended = cause
        self.broke_pipeline = self._in_pipeline and ending is not Ending.ORDERLY
        for transaction in self._transactions:
            outcome = self._by_how_far(transaction, cause, ending)
            self._settled.append((transaction.mail, outcome))
        self._transactions.clear()
        self._outbox.clear()
        self._asked.clear()

    def take_settled(self) -> Iterator[tuple[MailObject, Outcome]]:
        """The mail objects settled since the last call, with their outcomes."""
        settled, self._settled = self._settled, []
        yield from settled

    # -- speaking --------------------------------------------------------------------------------

    def _say(self, data: bytes, asks: list[tuple[_Step, _Transaction | None]]) -> None:
        self._outbox.append(_Write(data, asks))

    def _go_on(self) -> None:
        """Says the next commands of whichever mail object may speak."""
        for transaction in self._transactions:
            if transaction.phase is Phase.QUEUED:
                if not self._may_follow(transaction):
                    return
                self._begin(transaction)
            data, asks = self._commands(transaction)
            if asks:
                self._say(data, asks)

    def _may_follow(self, transaction: _Transaction) -> bool:
        """Whether all before it have said their dot, so that its own commands may be said."""
        for before in self._transactions:
            if before is transaction:
                return True
            if before.phase is not Phase.DOT or self._careful:
                return False
        return True

    def _begin(self, transaction: _Transaction) -> None:
        if self._reset_first:
            transaction.script.append(_Step.RSET)
            self._reset_first = False
        transaction.script.extend((_Step.MAIL, _Step.RCPT, _Step.DATA))
        transaction.phase = Phase.MAIL

    def _commands(
        self, transaction: _Transaction
    ) -> tuple[bytes, list[tuple[_Step, _Transaction | None]]]:
        """The commands that may be said now, as one group (RFC 2920 3.1)."""
        data = b""
        asks: list[tuple[_Step, _Transaction | None]] = []
        while transaction.script:
            step = transaction.script[0]
            alone = not self._announced.pipelining or (step is _Step.DATA and self._careful)
            if alone and (asks or self._asked or self._outbox):
                break
            transaction.script.popleft()
            data += self._command(step, transaction.mail)
            asks.append((step, transaction))
        return data, asks

    def _command(self, step: _Step, mail: MailObject) -> bytes:
        if step is _Step.MAIL:
            parameters = self._announced.parameters(mail)
            return f"MAIL FROM:<{mail.envelope.reverse_path}>{parameters}\r\n".encode()
        if step is _Step.RCPT:
            return f"RCPT TO:<{mail.envelope.forward_path}>\r\n".encode()
        return f"{step.name}\r\n".encode("ascii")

    def _say_content(self, transaction: _Transaction) -> None:
        transaction.phase = Phase.CONTENT
        pieces = [stuffed(piece) for piece in transaction.mail.content]
        if sum(map(len, pieces)) > MAX_JOINED_BYTES:
            for portion in _portions(pieces):
                self._say(portion, [])
            self._say(FINAL_DOT, [(_Step.DOT, transaction)])
            return
        data = b"".join((*pieces, FINAL_DOT))
        asks: list[tuple[_Step, _Transaction | None]] = [(_Step.DOT, transaction)]
        if len(self._transactions) > 1 and not self._careful:
            following = self._transactions[1]
            self._begin(following)
            commands, more = self._commands(following)
            data += commands
            asks += more
        self._say(data, asks)

    # -- listening -------------------------------------------------------------------------------

    def _reply(self, reply: Reply) -> None:
        if reply.code == 421:
            self._closed_by(reply)
        elif self._asked:
            step, transaction = self._asked.popleft()
            _ON_REPLY[step](self, transaction, reply)
            self._in_pipeline &= bool(self._asked)
            self._go_on()
        else:
            self._unasked(reply)

    def _closed_by(self, reply: Reply) -> None:
        """RFC 5321 3.8: the server gives up the session. What it had not answered it did not do."""
        if self._asked:
            transaction = self._asked[0][1]
        else:  # it is about the next command, which was not said yet, or about the content
            transaction = self._transactions[0] if self._transactions else None
        if transaction is not None and transaction.refusal is None:
            transaction.refusal = Outcome(transaction.phase, reply)
        self.end(f"the server closed the session: {reply}")

    def _unasked(self, reply: Reply) -> None:
        """A reply to nothing. Amid content it is that content's refusal, else a fault."""
        transaction = self._in_content()
        if transaction is not None and reply.code >= 400:
            transaction.refusal = Outcome(Phase.CONTENT, reply)
        self.end(f"the server spoke out of turn: {reply}", Ending.ASTRAY)

    def _in_content(self) -> _Transaction | None:
        head = self._transactions[0] if self._transactions else None
        return head if head is not None and head.phase is Phase.CONTENT else None

    def _on_rset(self, transaction: _Transaction, reply: Reply) -> None:
        if not 200 <= reply.code < 300:
            ending = Ending.ORDERLY if reply.code >= 400 else Ending.ASTRAY
            self.end(f"RSET was answered {reply}", ending)

    def _on_envelope(self, transaction: _Transaction, reply: Reply) -> None:
        """The reply to MAIL or RCPT. The first refusal decides; those after it are its echo."""
        if reply.code >= 400:
            self._refused(transaction, reply)
        elif reply.code >= 300:
            self.end(f"{transaction.phase.upper()} was answered {reply}", Ending.ASTRAY)
        elif transaction.refusal is None:
            transaction.replies[transaction.phase] = reply
            transaction.phase = Phase.RCPT if transaction.phase is Phase.MAIL else Phase.DATA

    def _on_data(self, transaction: _Transaction, reply: Reply) -> None:
        if reply.code < 400 and reply.code != 354:
            # This is no answer to DATA, and what went before it may have been none either.
            transaction.phase, transaction.refusal = Phase.RCPT, None
            self.end(f"DATA was answered {reply}", Ending.ASTRAY)
            return
        self._fits(transaction)
        if reply.code >= 400:
            self._refused(transaction, reply)
        elif transaction.refusal is None:
            self._say_content(transaction)
        else:
            # RFC 2920 3.1: a server that wants content for nobody gets an empty message.
            self._say(FINAL_DOT, [(_Step.LONE_DOT, transaction)])

    def _on_dot(self, transaction: _Transaction, reply: Reply) -> None:
        if reply.code < 300:
            self._careful = False
        elif reply.code >= 400:
            self._careful = True
        if 300 <= reply.code < 400 or 500 <= reply.code <= 504:
            self._settle(transaction, Outcome(Phase.DOT, reply))
            self.end(f"the final dot was answered {reply}", Ending.ASTRAY)
        elif self._asked:
            transaction.held = reply
        else:
            self._dot_answered(transaction, reply)

    def _on_lone_dot(self, transaction: _Transaction, reply: Reply) -> None:
        assert transaction.refusal is not None
        self._settle(transaction, transaction.refusal)

    def _on_quit(self, transaction: None, reply: Reply) -> None:
        self.end("QUIT")

    def _dot_answered(self, transaction: _Transaction, reply: Reply) -> None:
        self._known[Phase.DOT] = reply
        self._settle(transaction, Outcome(Phase.DOT, reply))

    def _fits(self, transaction: _Transaction) -> None:
        """Each command up to this one's DATA was answered, and by a reply to that command."""
        head = self._transactions[0]
        if head.held is not None:
            self.joined = True
            self._dot_answered(head, head.held)
        self._known |= transaction.replies

    def _by_how_far(self, transaction: _Transaction, cause: str, ending: Ending) -> Outcome:
        """The outcome of a mail object that was under way when the session ended."""
        if (held := transaction.held) is not None:
            if self._is_of_a_dot(held, ending):
                return Outcome(Phase.DOT, held)
            cause = f"{cause}; the {held.code} before it may have been meant for another message"
            return Outcome(Phase.DOT, None, cause)
        is_incomplete = any(
            asker is transaction and step is not _Step.LONE_DOT for step, asker in self._asked
        )
        if transaction.refusal and (ending is Ending.ORDERLY or not is_incomplete):
            return transaction.refusal
        return Outcome(transaction.phase, None, cause)

    def _is_of_a_dot(self, reply: Reply, ending: Ending) -> bool:
        """Whether a held reply counts. Where replies went astray it must be like no other's; where
        the connection just ended, it must not be like another's. Enhanced codes of X.1 are about
        addresses (RFC 3463 3.2).
        """
        is_of_address = reply.enhanced.startswith("2.1.")
        is_anothers = reply in (self._known.get(Phase.MAIL), self._known.get(Phase.RCPT))
        if ending is Ending.ASTRAY:
            return reply.code < 300 and not (is_of_address or is_anothers)
        of_a_dot = self._known.get(Phase.DOT)
        return reply == of_a_dot or not (is_of_address or (is_anothers and of_a_dot is not None))

    def _refused(self, transaction: _Transaction, reply: Reply) -> None:
        """Records the first refusal; settles once nothing more is asked for this mail object."""
        if transaction.refusal is None:
            transaction.refusal = Outcome(transaction.phase, reply)
        transaction.script.clear()
        self._careful = self._reset_first = True
        if all(asker is not transaction for _, asker in self._asked):
            self._settle(transaction, transaction.refusal)

    def _settle(self, transaction: _Transaction, outcome: Outcome) -> None:
        self._transactions.remove(transaction)
        self._settled.append((transaction.mail, outcome))


_ON_REPLY: dict[_Step, Callable[..., None]] = {
    _Step.RSET: Conversation._on_rset,
    _Step.MAIL: Conversation._on_envelope,
    _Step.RCPT: Conversation._on_envelope,
    _Step.DATA: Conversation._on_data,
    _Step.DOT: Conversation._on_dot,
    _Step.LONE_DOT: Conversation._on_lone_dot,
    _Step.QUIT: Conversation._on_quit,
}


def stuffed(piece: bytes) -> bytes:
    """RFC 5321 4.5.2: a line that begins with a dot gets another. `piece` starts a line."""
    if b"\n." in piece:
        piece = piece.replace(b"\n.", b"\n..")
    return b"." + piece if piece.startswith(b".") else piece


def _sizes(*numbers_of_bytes: int) -> list[str]:
    """In megabytes, or exactly where these would not tell them apart."""
    texts = [f"{number / 1e6:.1f} MB" for number in numbers_of_bytes]
    if len(set(texts)) == len(texts) and min(numbers_of_bytes) >= 1e6:
        return texts
    return [f"{number:,} bytes" for number in numbers_of_bytes]


def _portions(pieces: list[bytes]) -> Iterator[bytes]:
    for piece in pieces:
        for start in range(0, len(piece), MAX_JOINED_BYTES):
            yield piece[start : start + MAX_JOINED_BYTES]
