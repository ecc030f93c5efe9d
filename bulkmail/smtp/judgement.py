"""What the outcome of a transaction means: for the recipient, the session, the run.

One table, read from the top; the first row that fits decides. Pure: no connection, no clock.
RFC 5321 4.2 (codes), RFC 3463 (enhanced codes), RFC 1047 and RFC 5321 3.8 (why a lost reply to the
final dot is in doubt). What Gmail and Amazon SES say about quotas is from their documentation.
"""

import re
from dataclasses import dataclass

from bulkmail.model import Concern, Outcome, Phase, State, Verdict

ENVELOPE = frozenset({Phase.QUEUED, Phase.MAIL, Phase.RCPT})
ANY = frozenset(Phase)


@dataclass(frozen=True, slots=True)
class _Row:
    """`says` is matched against the reply as `code text`, which begins with any enhanced code."""

    phases: frozenset[Phase]
    says: re.Pattern[str]
    verdict: Verdict


def _row(phases: frozenset[Phase] | Phase, says: str, concern: Concern, state: State) -> _Row:
    if isinstance(phases, Phase):
        phases = frozenset({phases})
    return _Row(phases, re.compile(says, re.IGNORECASE), Verdict(concern, state))


_UNANSWERED = {
    # Not said at all, since the server announced what its reply would be.
    Phase.UNSENDABLE: Verdict(Concern.MESSAGE, State.FAILED),
    Phase.UNADDRESSABLE: Verdict(Concern.RECIPIENT, State.FAILED),
    **dict.fromkeys(ENVELOPE, Verdict(Concern.SESSION, State.PENDING)),
    Phase.DATA: Verdict(Concern.RECIPIENT, State.DEFERRED),
    Phase.CONTENT: Verdict(Concern.RECIPIENT, State.DEFERRED),
    Phase.DOT: Verdict(Concern.RECIPIENT, State.IN_DOUBT),
}

_MUCH = (
    r"rate (exceeded|limit)|rate-limit|relay limit exceeded|throttl|too (many|much) (mail|message)"
    r"|too many connections|unusual rate|unexpected volume|exceeded the rate|limits? for how many"
)
"""How servers say that it is too much at once."""

_SENDER = (
    r"address is not verified|SendAsDenied|sender address rejected|sender verif\w+ failed"
    r"|banned sending IP|on our block list|client host rejected|bad outbound sender"
)
"""How they say that they do not like who sends, or from where."""

_ACCEPTED = Verdict(Concern.RECIPIENT, State.ACCEPTED)
"""What is most often so, before the table."""

_REPLIES = (
    # A reply that fits no question: the two sides no longer agree on where they are.
    _row(Phase.DOT, r"3|50[0-4]", Concern.RECIPIENT, State.IN_DOUBT),
    # Quotas of the account, whatever the phase.
    _row(
        ANY,
        r"\d+ 5\.4\.5 |.*(daily (message quota|user sending)|exceeded the max (e?mails|defers))",
        Concern.QUOTA,
        State.PENDING,
    ),
    # The account, the sender address or the client's own address, whatever the phase; RFC 7372 has
    # 5.7.20 to 5.7.26, authentication of the sender that failed.
    _row(
        ANY,
        rf"530 |5\d\d (5\.7\.2\d |5\.1\.[78] |.*({_SENDER}))",
        Concern.RUN,
        State.PENDING,
    ),
    _row(ANY, rf"4\d\d (4\.1\.[78] |.*({_SENDER}))", Concern.ACCOUNT, State.PENDING),
    # A mailbox that gets too much, from everyone; Gmail says it with a 5xx, too.
    _row(
        Phase.RCPT,
        r"(450|550) \d\.2\.1 .*receiving (e?mail|messages) (too quickly|at a rate)",
        Concern.RECIPIENT,
        State.DEFERRED,
    ),
    # The end of a session that did nothing wrong.
    _row(
        ANY,
        r"421 (4\.4\.2 |.*(per (connection|session)|timed? ?out|\bidle\b|shutting down"
        r"|too many errors))",
        Concern.SESSION,
        State.PENDING,
    ),
    # Too much at once: for the domain of the recipient, or else for the server.
    _row(Phase.RCPT, rf"4[35]\d .*({_MUCH}).*\bdomain\b", Concern.DOMAIN, State.PENDING),
    _row(Phase.RCPT, rf"4[35]\d .*\bdomain\b.*({_MUCH})", Concern.DOMAIN, State.PENDING),
    _row(ANY, rf"421|454|4\d\d (4\.3\.\d |.*({_MUCH}))", Concern.ACCOUNT, State.PENDING),
    # An address that this server cannot parse.
    _row(Phase.RCPT, r"501", Concern.RECIPIENT, State.FAILED),
    _row(ANY, r"[23]|50[0-4]", Concern.SESSION, State.PENDING),
    _row(Phase.MAIL, r"4", Concern.ACCOUNT, State.PENDING),
    # SIZE= (RFC 1870 6.1) and SMTPUTF8 (RFC 6531 3.5) tell MAIL of one message, not of the sender.
    _row(Phase.MAIL, r"552 (5\.3\.4 |.*\bsize\b)", Concern.MESSAGE, State.FAILED),
    _row(frozenset({Phase.MAIL, Phase.RCPT}), r"55[03] 5\.6\.7 ", Concern.RECIPIENT, State.FAILED),
    _row(Phase.MAIL, r"5", Concern.RUN, State.PENDING),
    _row(ANY, r"4", Concern.RECIPIENT, State.DEFERRED),
    # RFC 3463 3.2, 3.3: of X.1 and X.2 these are about the recipient's address and mailbox, though
    # some servers say so only at the end; X.3, X.5, X.6 and X.7 are not, though said at RCPT.
    _row(ANY, r"5\d\d 5\.(1\.([0-6]|10)|2\.\d) ", Concern.RECIPIENT, State.FAILED),
    _row(Phase.RCPT, r"5\d\d (5\.[3567]\.|.*\brelay)", Concern.MESSAGE, State.FAILED),
    _row(Phase.RCPT, r"5", Concern.RECIPIENT, State.FAILED),
    _row(ANY, r"5", Concern.MESSAGE, State.FAILED),
)


def judge(outcome: Outcome) -> Verdict:
    """The verdict on a transaction that ended with `outcome`."""
    if outcome.reply is None:
        return _UNANSWERED[outcome.phase]
    if outcome.phase is Phase.DOT and 200 <= outcome.reply.code < 300:
        return _ACCEPTED
    said = str(outcome.reply)
    return next(
        row.verdict for row in _REPLIES if outcome.phase in row.phases and row.says.match(said)
    )
