"""What outcomes mean. Texts are those of real servers."""

import pytest

from bulkmail.model import Concern, Outcome, Phase, State
from bulkmail.smtp.judgement import judge
from bulkmail.smtp.reply import make_reply

R, M, S, Q, RUN = (
    Concern.RECIPIENT,
    Concern.MESSAGE,
    Concern.SESSION,
    Concern.QUOTA,
    Concern.RUN,
)

CASES = [
    (Phase.DOT, "250 2.0.0 OK: queued as 4XyZ", R, State.ACCEPTED),
    (Phase.DOT, "252 whatever", R, State.ACCEPTED),
    (Phase.DOT, "354 again?", R, State.IN_DOUBT),
    (Phase.DOT, "500 5.5.2 unrecognized", R, State.IN_DOUBT),
    (Phase.DOT, "451 4.3.0 try again", R, State.DEFERRED),
    (Phase.DOT, "554 5.7.1 spam", M, State.FAILED),
    (Phase.DOT, "421 4.7.0 unusual rate of unsolicited mail", S, State.PENDING),
    (Phase.DOT, "454 Throttling failure: Maximum sending rate exceeded", S, State.PENDING),
    (Phase.DOT, "454 Throttling failure: Daily message quota exceeded", Q, State.PENDING),
    (Phase.DOT, "554 Message rejected: Email address is not verified.", RUN, State.PENDING),
    (Phase.DOT, "550 5.4.5 Daily user sending limit exceeded", Q, State.PENDING),
    (Phase.MAIL, "550 5.4.5 Daily user sending quota exceeded", Q, State.PENDING),
    (Phase.MAIL, "550 5.7.1 sender refused", RUN, State.PENDING),
    (Phase.MAIL, "553 5.7.1 <a@b.example>: Sender address rejected: not owned", RUN, State.PENDING),
    (Phase.MAIL, "530 5.7.0 Authentication Required", RUN, State.PENDING),
    (Phase.MAIL, "451 4.7.650 The mail server has been temporarily rate limited", S, State.PENDING),
    (Phase.MAIL, "452 4.3.1 Insufficient system storage", S, State.PENDING),
    (Phase.MAIL, "503 5.5.1 nested MAIL", S, State.PENDING),
    (Phase.MAIL, "552 5.3.4 Message size exceeds fixed limit", M, State.FAILED),
    (Phase.MAIL, "552 Message size exceeds maximum permitted", M, State.FAILED),
    (Phase.MAIL, "552 5.2.2 Sender is over quota", RUN, State.PENDING),
    (Phase.MAIL, "550 5.6.7 SMTPUTF8 is not supported further on", R, State.FAILED),
    (Phase.RCPT, "553 5.6.7 addresses outside ASCII need SMTPUTF8", R, State.FAILED),
    (Phase.RCPT, "550 5.1.1 no such user", R, State.FAILED),
    (Phase.RCPT, "552 5.2.2 mailbox full", R, State.FAILED),
    (Phase.RCPT, "550 mailbox unavailable", R, State.FAILED),
    (Phase.RCPT, "501 5.1.3 Bad recipient address syntax", R, State.FAILED),
    (Phase.RCPT, "550 5.2.1 The user is receiving mail at a rate that prevents", R, State.DEFERRED),
    (Phase.RCPT, "501 malformed address", R, State.FAILED),
    (Phase.RCPT, "550 5.2.1 mailbox disabled", R, State.FAILED),
    (Phase.RCPT, "450 4.2.1 receiving email too quickly", R, State.DEFERRED),
    (Phase.RCPT, "450 4.2.1 Peak SMTP relay limit exceeded for this customer", S, State.PENDING),
    (Phase.RCPT, "451 4.7.1 Greylisting in action", R, State.DEFERRED),
    (Phase.RCPT, "452 4.2.2 mailbox full", R, State.DEFERRED),
    (Phase.RCPT, "550 5.7.1 blocked", M, State.FAILED),
    (Phase.RCPT, "553 5.7.1 <a@b.example>: Sender address rejected: not owned", RUN, State.PENDING),
    (Phase.RCPT, "421 4.4.2 bye", S, State.PENDING),
    (Phase.DATA, "451 4.3.0 later", R, State.DEFERRED),
    (Phase.DATA, "554 5.7.1 no", M, State.FAILED),
    (Phase.CONTENT, "552 5.3.4 message too big", M, State.FAILED),
    (Phase.CONTENT, "452 4.3.1 disk full", R, State.DEFERRED),
]


@pytest.mark.parametrize(("phase", "said", "concern", "state"), CASES)
def test_replies(phase: Phase, said: str, concern: Concern, state: State) -> None:
    code, _, text = said.partition(" ")
    verdict = judge(Outcome(phase, make_reply(int(code), text.encode())))
    assert (verdict.concern, verdict.state) == (concern, state)


@pytest.mark.parametrize(
    ("phase", "concern", "state"),
    [
        (Phase.UNSENDABLE, M, State.FAILED),
        (Phase.UNADDRESSABLE, R, State.FAILED),
        (Phase.QUEUED, S, State.PENDING),
        (Phase.MAIL, S, State.PENDING),
        (Phase.RCPT, S, State.PENDING),
        (Phase.DATA, R, State.DEFERRED),
        (Phase.CONTENT, R, State.DEFERRED),
        (Phase.DOT, R, State.IN_DOUBT),
    ],
)
def test_silence_is_judged_by_phase(phase: Phase, concern: Concern, state: State) -> None:
    verdict = judge(Outcome(phase, None, "lost"))
    assert (verdict.concern, verdict.state) == (concern, state)


UNSAID = (Phase.UNSENDABLE, Phase.UNADDRESSABLE, Phase.QUEUED)


@pytest.mark.parametrize("phase", [phase for phase in Phase if phase not in UNSAID])
@pytest.mark.parametrize("code", [*range(200, 600, 7), 250, 354, 421, 450, 454, 503, 530, 535, 550])
def test_every_reply_has_a_verdict_and_only_the_dot_accepts(phase: Phase, code: int) -> None:
    """Nothing but a 2xx to the final dot makes a recipient accepted."""
    verdict = judge(Outcome(phase, make_reply(code, b"text")))
    is_acceptance = phase is Phase.DOT and 200 <= code < 300
    assert (verdict.state is State.ACCEPTED) is is_acceptance
