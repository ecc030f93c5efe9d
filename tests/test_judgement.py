"""What outcomes mean. Texts are those of real servers."""

import pytest

from bulkmail.model import Concern, Outcome, Phase, State
from bulkmail.smtp.judgement import judge
from bulkmail.smtp.reply import make_reply

R, M, D, S, A, Q, RUN = (
    Concern.RECIPIENT,
    Concern.MESSAGE,
    Concern.DOMAIN,
    Concern.SESSION,
    Concern.ACCOUNT,
    Concern.QUOTA,
    Concern.RUN,
)

CASES = [
    (Phase.DOT, "250 2.0.0 OK: queued as 4XyZ", R, State.ACCEPTED),
    (Phase.DOT, "252 whatever", R, State.ACCEPTED),
    (Phase.DOT, "354 again?", R, State.IN_DOUBT),
    (Phase.DOT, "500 5.5.2 unrecognized", R, State.IN_DOUBT),
    (Phase.DOT, "451 4.2.0 try again", R, State.DEFERRED),
    (Phase.DOT, "554 5.7.1 spam", M, State.FAILED),
    (Phase.DOT, "421 4.7.0 unusual rate of unsolicited mail", A, State.PENDING),
    (Phase.DOT, "454 Throttling failure: Maximum sending rate exceeded", A, State.PENDING),
    (Phase.DOT, "454 Throttling failure: Daily message quota exceeded", Q, State.PENDING),
    (Phase.DOT, "554 Message rejected: Email address is not verified.", RUN, State.PENDING),
    (Phase.DOT, "550 5.4.5 Daily user sending limit exceeded", Q, State.PENDING),
    (Phase.MAIL, "550 5.4.5 Daily user sending quota exceeded", Q, State.PENDING),
    (Phase.MAIL, "550 5.7.1 sender refused", RUN, State.PENDING),
    (Phase.MAIL, "553 5.7.1 <a@b.example>: Sender address rejected: not owned", RUN, State.PENDING),
    (Phase.MAIL, "530 5.7.0 Authentication Required", RUN, State.PENDING),
    (Phase.MAIL, "451 4.7.650 The mail server has been temporarily rate limited", A, State.PENDING),
    (Phase.MAIL, "452 4.3.1 Insufficient system storage", A, State.PENDING),
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
    (Phase.RCPT, "450 4.2.1 Peak SMTP relay limit exceeded for this customer", A, State.PENDING),
    (Phase.RCPT, "451 4.7.1 Greylisting in action", R, State.DEFERRED),
    (Phase.RCPT, "452 4.2.2 mailbox full", R, State.DEFERRED),
    (Phase.RCPT, "550 5.7.1 blocked", M, State.FAILED),
    (Phase.RCPT, "553 5.7.1 <a@b.example>: Sender address rejected: not owned", RUN, State.PENDING),
    (Phase.RCPT, "421 4.4.2 bye", S, State.PENDING),
    (Phase.DATA, "451 4.6.0 later", R, State.DEFERRED),
    (Phase.DATA, "554 5.7.1 no", M, State.FAILED),
    (Phase.CONTENT, "552 5.3.4 message too big", M, State.FAILED),
    # The server itself, whatever it was asked.
    (Phase.CONTENT, "452 4.3.1 disk full", A, State.PENDING),
    (Phase.DOT, "452 4.3.1 Insufficient system storage", A, State.PENDING),
    (Phase.DOT, "451 4.3.0 Error: queue file write error", A, State.PENDING),
    (Phase.DOT, "432 4.3.2 Concurrent connections limit exceeded", A, State.PENDING),
    (Phase.RCPT, "451 4.3.0 <a@b.example>: Temporary lookup failure", A, State.PENDING),
    # The recipient, although it is said at the end.
    (Phase.DOT, "550 5.1.1 user unknown", R, State.FAILED),
    (Phase.DOT, "552 5.2.2 mailbox full", R, State.FAILED),
    (Phase.RCPT, "550 5.4.1 Recipient address rejected: Access denied", R, State.FAILED),
    (Phase.RCPT, "550 5.1.10 RESOLVER.ADR.RecipientNotFound", R, State.FAILED),
    (Phase.RCPT, "554 5.3.0 mail system error", M, State.FAILED),
    # The sender, although it is said at RCPT.
    (Phase.RCPT, "550 Sender verify failed", RUN, State.PENDING),
    (Phase.RCPT, "550 5.1.8 Access denied, bad outbound sender", RUN, State.PENDING),
    (Phase.RCPT, "554 5.7.1 <x[192.0.2.1]>: Client host rejected: no", RUN, State.PENDING),
    (
        Phase.RCPT,
        "450 4.1.8 <a@b.example>: Sender address rejected: Domain not found",
        A,
        State.PENDING,
    ),
    (
        Phase.RCPT,
        "450 4.7.1 Client host rejected: cannot find your hostname, [192.0.2.1]",
        A,
        State.PENDING,
    ),
    (
        Phase.RCPT,
        "550 Domain example.org has exceeded the max emails per hour (200/200 (100%)) allowed.",
        Q,
        State.PENDING,
    ),
    # Too much at once: Gmail, Outlook, Yahoo, Amazon SES, and policy servers in front of others.
    (
        Phase.RCPT,
        "450 4.2.1 The user you are trying to contact is receiving email at a rate that prevents",
        R,
        State.DEFERRED,
    ),
    (Phase.DATA, "454 Throttling failure: Maximum sending rate exceeded", A, State.PENDING),
    (
        Phase.MAIL,
        "421 RP-001 (COL0-MC3-F15) Unfortunately, some messages from IP weren't sent. We have limits for how many",
        A,
        State.PENDING,
    ),
    (
        Phase.MAIL,
        "421 RP-001: The mail server IP has exceeded the rate limit allowed.",
        A,
        State.PENDING,
    ),
    (
        Phase.MAIL,
        "421 4.7.0 [TSS04] Messages from IP temporarily deferred due to unexpected volume",
        A,
        State.PENDING,
    ),
    (Phase.RCPT, "451 4.7.1 too many messages, slow down", A, State.PENDING),
    (
        Phase.RCPT,
        "450 4.7.1 <a@b.example>: rate limit of the domain b.example exceeded",
        D,
        State.PENDING,
    ),
    (Phase.RCPT, "452 4.2.2 domain b.example: too many messages for today", D, State.PENDING),
    (Phase.RCPT, "450 4.1.2 Recipient address rejected: Domain not found", R, State.DEFERRED),
    (Phase.RCPT, "452 4.5.3 Too many recipients", R, State.DEFERRED),
    (
        Phase.MAIL,
        "421 Max message per connection reached, closing transmission channel",
        S,
        State.PENDING,
    ),
    (Phase.MAIL, "421 4.4.2 mx.example.org Error: timeout exceeded", S, State.PENDING),
    (Phase.MAIL, "421 4.3.2 Service shutting down", S, State.PENDING),
    (Phase.MAIL, "421 4.7.0 mx.example.org Error: too many errors", S, State.PENDING),
    # Who sends, not who would get it.
    (
        Phase.DOT,
        "550 5.7.26 This mail has been blocked because the sender is unauthenticated.",
        RUN,
        State.PENDING,
    ),
    (
        Phase.DOT,
        "550 5.7.25 [IP] The IP address sending this message does not have a PTR record setup",
        RUN,
        State.PENDING,
    ),
    (
        Phase.MAIL,
        "550 5.7.1 Unfortunately, messages from [IP] weren't sent; part of their network is on our block list (S3150).",
        RUN,
        State.PENDING,
    ),
    (Phase.RCPT, "550 5.7.606 Access denied, banned sending IP [IP].", RUN, State.PENDING),
    (Phase.DOT, "550 5.7.509 Access denied, sending domain does not pass DMARC", M, State.FAILED),
    (Phase.RCPT, "550 relay not permitted", M, State.FAILED),
    (Phase.RCPT, "554 5.7.1 <a@b.example>: Relay access denied", M, State.FAILED),
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
