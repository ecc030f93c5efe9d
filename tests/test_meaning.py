"""What replies mean for a person. Texts are those of real servers."""

import pytest

from bulkmail.model import Concern, Outcome, Phase, State
from bulkmail.smtp import meaning as words
from bulkmail.smtp.judgement import judge
from bulkmail.smtp.meaning import (
    BAD_ADDRESS,
    BLOCKED,
    BROKEN_OFF,
    CANCELLED,
    DUPLICATE,
    IN_DOUBT,
    INVALID,
    LATER,
    MAILBOX_DISABLED,
    MAILBOX_FULL,
    MEANINGS,
    NO_DOMAIN,
    NO_MAILBOX,
    NOT_YET,
    OTHER,
    POLICY,
    QUOTA,
    SENDER_REFUSED,
    SENDER_UNAUTHENTICATED,
    SERVER_TROUBLE,
    SUPPRESSED,
    TOO_LARGE,
    TOO_MUCH,
    UNDER_WAY,
    Meaning,
    code_of,
    meaning,
    without_ids,
)
from bulkmail.smtp.reply import make_reply

REPLIES = [
    # Google
    ("550 5.1.1 The email account that you tried to reach does not exist. Please try double-checking the recipient's email address for typos or unnecessary spaces. - gsmtp", NO_MAILBOX),
    ("550 5.2.1 The email account that you tried to reach is disabled. - gsmtp", MAILBOX_DISABLED),
    ("550 5.2.1 The user you are trying to contact is receiving mail at a rate that prevents additional messages from being delivered. - gsmtp", TOO_MUCH),
    ("450 4.2.1 The user you are trying to contact is receiving email too quickly. Please resend your message at a later time.", TOO_MUCH),
    ("450 4.2.1 Peak SMTP relay limit exceeded for this customer. This is a temporary error.", TOO_MUCH),
    ("552 5.2.2 The email account that you tried to reach is over quota. - gsmtp", MAILBOX_FULL),
    ("452 4.2.2 The email account that you tried to reach is over quota. - gsmtp", MAILBOX_FULL),
    ("550 5.4.5 Daily user sending limit exceeded", QUOTA),
    ("550 5.7.1 Our system has detected that this message is likely unsolicited mail. - gsmtp", POLICY),
    ("421 4.7.0 [IP 15] Our system has detected an unusual rate of unsolicited mail originating from your IP address.", TOO_MUCH),
    ("550 5.7.26 This mail has been blocked because the sender is unauthenticated. Gmail requires all senders to authenticate with either SPF or DKIM.", SENDER_UNAUTHENTICATED),
    ("550 5.7.25 [IP] The IP address sending this message does not have a PTR record setup", SENDER_UNAUTHENTICATED),
    ("421 4.7.26 This mail has been rate limited because it is unauthenticated.", SENDER_UNAUTHENTICATED),
    ("552 5.3.4 Your message exceeded Google's message size limits.", TOO_LARGE),
    ("535 5.7.8 Username and Password not accepted.", SENDER_REFUSED),
    ("530 5.7.0 Authentication Required", SENDER_REFUSED),
    ("534 5.7.9 Application-specific password required.", SENDER_REFUSED),
    # Microsoft
    ("550 5.1.10 RESOLVER.ADR.RecipientNotFound; Recipient not found by SMTP address lookup", NO_MAILBOX),
    ("550 5.4.1 Recipient address rejected: Access denied. AS(201806281)", NO_MAILBOX),
    ("550 5.5.0 Requested action not taken: mailbox unavailable", NO_MAILBOX),
    ("451 4.7.650 The mail server [IP] has been temporarily rate limited due to IP reputation.", TOO_MUCH),
    ("421 RP-001 (COL0-MC3-F15) Unfortunately, some messages from IP weren't sent. Please try again. We have limits for how many messages can be sent per hour and per day.", TOO_MUCH),
    ("421 RP-001: The mail server IP connecting to Outlook.com server has exceeded the rate limit allowed.", TOO_MUCH),
    ("550 5.7.1 Unfortunately, messages from [IP] weren't sent. Please contact your Internet service provider since part of their network is on our block list (S3150).", BLOCKED),
    ("550 5.7.606 Access denied, banned sending IP [192.0.2.7].", BLOCKED),
    ("550 5.7.509 Access denied, sending domain example.org does not pass DMARC verification and has a DMARC policy of reject.", SENDER_UNAUTHENTICATED),
    ("550 5.7.515 Access denied, sending domain example.org does not meet the required authentication level.", SENDER_UNAUTHENTICATED),
    ("554 5.2.0 STOREDRV.Deliver.Exception:SendAsDeniedException", SENDER_REFUSED),
    ("550 5.7.60 SMTP; Client does not have permissions to send as this sender", SENDER_REFUSED),
    ("550 5.1.8 Access denied, bad outbound sender", SENDER_REFUSED),
    # Yahoo, Amazon SES
    ("421 4.7.0 [TSS04] Messages from IP temporarily deferred due to unexpected volume or user complaints", TOO_MUCH),
    ("421 Max message per connection reached, closing transmission channel", TOO_MUCH),
    ("554 5.7.9 Message not accepted for policy reasons.", POLICY),
    ("554 delivery error: dd This user doesn't have a yahoo.com account", NO_MAILBOX),
    ("454 Throttling failure: Maximum sending rate exceeded", TOO_MUCH),
    ("454 Throttling failure: Daily message quota exceeded", QUOTA),
    ("554 Message rejected: Email address is not verified.", SENDER_REFUSED),
    # Postfix, Exim, Dovecot
    ("550 5.1.1 <kim@example.com>: Recipient address rejected: User unknown in virtual mailbox table", NO_MAILBOX),
    ("550 5.1.1 <dmarc@example.com>: Recipient address rejected: User unknown", NO_MAILBOX),
    ("450 4.1.1 <kim@example.com>: Recipient address rejected: unverified address", LATER),
    ("550 5.1.2 <kim@gmial.example>: Recipient address rejected: Domain not found", NO_DOMAIN),
    ("450 4.1.2 <kim@gmial.example>: Recipient address rejected: Domain not found", NO_DOMAIN),
    ("556 5.1.10 Recipient address has null MX", NO_DOMAIN),
    ("550 5.4.4 unrouteable", NO_DOMAIN),
    ("501 5.1.3 Bad recipient address syntax", BAD_ADDRESS),
    ("553 5.6.7 addresses outside ASCII need SMTPUTF8", BAD_ADDRESS),
    ("501 malformed address", BAD_ADDRESS),
    ("550 Unrouteable address", NO_MAILBOX),
    ("550 No Such User Here", NO_MAILBOX),
    ("552 5.2.2 <kim@example.com> Quota exceeded (mailbox for user is full)", MAILBOX_FULL),
    ("552 Mailbox is full", MAILBOX_FULL),
    ("552 Mailbox size limit exceeded", MAILBOX_FULL),
    ("552 5.2.3 Mailbox size limit exceeded", MAILBOX_FULL),
    ("552 Requested mail action aborted: exceeded storage allocation", MAILBOX_FULL),
    ("550 Account disabled", MAILBOX_DISABLED),
    ("550 5.7.1 No such user", NO_MAILBOX),
    ("553 5.3.0 <kim@example.com>... User unknown", NO_MAILBOX),
    ("451 4.7.1 <kim@example.com>: Recipient address rejected: Greylisted, see http://postgrey.schweikert.ch/help/example.com.html", LATER),
    ("450 4.2.0 <kim@example.com>: Recipient address rejected: Greylisted", LATER),
    ("451 Temporary local problem - please try later", LATER),
    ("452 4.3.1 Insufficient system storage", SERVER_TROUBLE),
    ("421 4.3.2 Service shutting down", SERVER_TROUBLE),
    ("451 4.3.0 <kim@example.com>: Temporary lookup failure", SERVER_TROUBLE),
    ("552 5.3.4 Message size exceeds fixed limit", TOO_LARGE),
    ("552 Message size exceeds maximum permitted", TOO_LARGE),
    ("553 5.7.1 <news@example.org>: Sender address rejected: not owned by user", SENDER_REFUSED),
    ("554 5.7.1 <kim@example.com>: Relay access denied", SENDER_REFUSED),
    ("550 relay not permitted", SENDER_REFUSED),
    ("554 5.7.1 Service unavailable; Client host [192.0.2.7] blocked using zen.spamhaus.org", BLOCKED),
    ("554 5.7.1 Spam message rejected", POLICY),
    ("550 This message contains a virus", POLICY),
    ("550 5.7.1 no", POLICY),
    ("554 5.6.0 no", OTHER),
    ("550 no", OTHER),
    ("550", OTHER),
    ("no reply at all", OTHER),
]  # fmt: skip


@pytest.mark.parametrize(("said", "expected"), REPLIES)
def test_replies(said: str, expected: Meaning) -> None:
    assert meaning(State.FAILED, Phase.RCPT, said, said) is expected


@pytest.mark.parametrize(
    ("state", "phase", "reply", "reason", "expected"),
    [
        (State.IN_DOUBT, "dot", "", "the connection was lost", IN_DOUBT),
        (State.IN_DOUBT, "dot", "354 again?", "354 again?", IN_DOUBT),
        (State.IN_FLIGHT, "", "", "", UNDER_WAY),
        (State.DEFERRED, "data", "", "no answer in 300 seconds", BROKEN_OFF),
        (State.FAILED, "unaddressable", "", "the server does not take addresses outside ASCII (SMTPUTF8)", BAD_ADDRESS),
        (State.FAILED, "unsendable", "", "the message has 30 MB; the server takes 25 MB at most (SIZE)", TOO_LARGE),
        (State.FAILED, "unsendable", "", "the server does not take addresses outside ASCII (SMTPUTF8)", SENDER_REFUSED),
        (State.PENDING, "", "", "", NOT_YET),
        (State.PENDING, "queued", "", "the run or session ended before", NOT_YET),
        (State.PENDING, "dot", "554 5.7.1 spam", "554 5.7.1 spam", POLICY),
        (State.PENDING, "rcpt", "550 5.1.1 no", "to be tried again, as was decided", NOT_YET),
        (State.DEFERRED, "rcpt", "450 4.2.1 no", "is in doubt; to be sent to again, as the campaign says", NOT_YET),
        (State.FAILED, "rcpt", "550 5.1.1 no", "somebody decided", OTHER),
        (State.EXPIRED, "mail", "", "the connection was lost", BROKEN_OFF),
        (State.INVALID, "", "", "has no dot after the @", INVALID),
        (State.DUPLICATE, "", "", "the same person stands above", DUPLICATE),
        (State.SUPPRESSED, "rcpt", "450 4.2.2 full", "stands in out.csv:1", SUPPRESSED),
        (State.CANCELLED, "", "", "the campaign was cancelled", CANCELLED),
    ],
)  # fmt: skip
def test_what_else_is_recorded(
    state: State, phase: str, reply: str, reason: str, expected: Meaning
) -> None:
    assert meaning(state, phase, reply, reason) is expected


def test_a_reply_reads_the_same_as_it_was_received_and_recorded() -> None:
    """Lines that repeat the enhanced code, as Google writes them."""
    reply = make_reply(550, b"5.1.1 The email account\n5.1.1 does not exist. f00 - gsmtp")
    assert str(reply) == "550 5.1.1 The email account does not exist. f00 - gsmtp"
    assert meaning(State.FAILED, "rcpt", str(reply), str(reply)) is NO_MAILBOX
    assert code_of(str(reply)) == "5.1.1"


@pytest.mark.parametrize(
    ("said", "code"),
    [
        ("550 5.1.1 no such user", "5.1.1"),
        ("550 5.1.1", "5.1.1"),
        ("550 no such user", "550"),
        ("550 5.1.1.2 is no code", "550"),
        ("", ""),
        ("the connection was lost", ""),
    ],
)
def test_codes(said: str, code: str) -> None:
    assert code_of(said) == code


def test_replies_that_differ_in_ids_are_alike() -> None:
    first = "550 5.1.1 <kim@a.example>: User unknown q1-20020a05.7 - gsmtp"
    second = "550 5.1.1 <lee@b.example>: User unknown b8-20020b17.3 - gsmtp"
    assert without_ids(first) == without_ids(second) != without_ids("550 5.1.2 User unknown")


def test_a_reply_of_any_length_is_read_in_bounded_time() -> None:
    """What is looked at is cut off; a code before that counts."""
    for unit in ("user ", "a", "domain host ", "@", "<", "message size "):
        said = "550 5.9.9 " + unit * 20000
        assert meaning(State.FAILED, "rcpt", said, said) in MEANINGS
        assert len(without_ids(said)) <= words.READ_CHARACTERS


def test_every_meaning_says_why_and_what_to_do() -> None:
    assert len({meant.key for meant in MEANINGS}) == len(MEANINGS)
    assert {value for value in vars(words).values() if isinstance(value, Meaning)} == {*MEANINGS}
    for meant in MEANINGS:
        assert meant.why.endswith(".") and meant.todo.endswith("."), meant.key
        assert meant.name and meant.name[0].islower(), meant.key


@pytest.mark.parametrize(("said", "expected"), REPLIES)
def test_what_stops_a_run_is_not_worded_as_the_recipients_own(said: str, expected: Meaning) -> None:
    code, _, text = said.partition(" ")
    if code.isdigit():
        verdict = judge(Outcome(Phase.RCPT, make_reply(int(code), text.encode())))
        about_sender = expected in (SENDER_REFUSED, SENDER_UNAUTHENTICATED, BLOCKED)
        assert about_sender or verdict.concern is not Concern.RUN
