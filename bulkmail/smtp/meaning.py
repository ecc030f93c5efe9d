"""What the ledger recorded about a recipient, in words for a person: why, and what to do.

One table, read from the top, as in `judgement.py`, which decides what the program does; this only
words it. Pure. RFC 5321 4.2 (codes); RFC 3463, RFC 7372, RFC 7505 and the IANA registry of enhanced
status codes; where servers give none, or another one than they mean, what they write.
"""

import re
from dataclasses import dataclass
from enum import StrEnum
from functools import lru_cache

from bulkmail.model import UNSENT, Phase, State

READ_CHARACTERS = 600
"""Of a reply; the rest is links and disclaimers, and may be as long as the server likes."""


class Remedy(StrEnum):
    """What helps those who did not get it."""

    MEND_LIST = "mend_list"  # correct the row, and run again: the corrected address is a new person
    LEAVE_OUT = "leave_out"  # never write there again
    TRY_AGAIN = "try_again"  # the same message, later or after something else was mended
    GO_ON = "go_on"  # run again
    ASK = "ask"  # only a person can find out
    NOTHING = "nothing"


@dataclass(frozen=True, slots=True)
class Meaning:
    """`key` names it on the command line, `name` in half a sentence; `why` and `todo` are whole."""

    key: str
    name: str
    why: str
    todo: str
    remedy: Remedy


NO_MAILBOX = Meaning(
    "no-mailbox",
    "no such mailbox",
    "The server of the domain says that nobody has this address.",
    "Look for a typing mistake and correct it in the list. If there is none, the person has left:"
    " never write there again, for servers remember who does.",
    Remedy.LEAVE_OUT,
)
MAILBOX_FULL = Meaning(
    "mailbox-full",
    "mailbox full",
    "The mailbox has no room for another message.",
    "Try again in some days. A mailbox that stays full is one that nobody reads.",
    Remedy.TRY_AGAIN,
)
MAILBOX_DISABLED = Meaning(
    "mailbox-disabled",
    "mailbox disabled",
    "The mailbox is there and takes no mail: it was closed, locked or left unused.",
    "Ask the person for another address, and leave this one out.",
    Remedy.LEAVE_OUT,
)
BAD_ADDRESS = Meaning(
    "bad-address",
    "address not understood",
    "The server cannot read the address, or takes none with letters outside ASCII.",
    "Correct it in the list and run again: only the corrected address gets it.",
    Remedy.MEND_LIST,
)
NO_DOMAIN = Meaning(
    "no-domain",
    "no such domain",
    "Nobody takes mail for what stands after the @.",
    "Look for a typing mistake, such as gmial.com, correct it in the list and run again: only the"
    " corrected address gets it.",
    Remedy.MEND_LIST,
)
LATER = Meaning(
    "later",
    "asked to come later",
    "The server does not take it now. Many do so with a sender whom they see for the first time"
    " (greylisting).",
    "Time is all that it takes: send to them again later.",
    Remedy.TRY_AGAIN,
)
TOO_MUCH = Meaning(
    "too-much",
    "too much at once",
    "The server got more mail than it takes in a while, from this sender or for this mailbox.",
    "Lower `rate`, or set `rate_per_domain`, in the campaign file; then send to them again later.",
    Remedy.TRY_AGAIN,
)
QUOTA = Meaning(
    "quota",
    "quota used up",
    "The account may send no more for now.",
    "Go on when it may again, mostly after a day; `rate: 450/day` keeps below it by itself.",
    Remedy.TRY_AGAIN,
)
SENDER_UNAUTHENTICATED = Meaning(
    "sender-auth",
    "sender not authenticated (SPF, DKIM, DMARC)",
    "The server could not verify that the mail comes from the domain in `from`.",
    "Mend SPF, DKIM and DMARC in the DNS of that domain, or send through a server that signs for"
    " it; then send to them again.",
    Remedy.TRY_AGAIN,
)
BLOCKED = Meaning(
    "block-list",
    "sending server on a block list",
    "The server takes no mail from the address (IP) of the server that sends yours.",
    "Its operator has to ask for removal from the list; or send through another server. Then send"
    " to them again.",
    Remedy.TRY_AGAIN,
)
SENDER_REFUSED = Meaning(
    "sender",
    "sender refused",
    "The server does not let this account, or this `from`, send.",
    "Compare `from` and `smtp.username` with what the server allows, and verify the address there;"
    " then send to them again.",
    Remedy.TRY_AGAIN,
)
POLICY = Meaning(
    "policy",
    "refused as spam or by policy",
    "The server did not like the message, or who sends it.",
    "Read its words. Look at subject, links and attachments, and ask the postmaster of the domain;"
    " then send to them again.",
    Remedy.TRY_AGAIN,
)
TOO_LARGE = Meaning(
    "too-large",
    "message too large",
    "The message is larger than the server takes.",
    "Make the attachments smaller, or put a link in their place; then send to them again.",
    Remedy.TRY_AGAIN,
)
SERVER_TROUBLE = Meaning(
    "server",
    "server in trouble",
    "The server, or one behind it, could not take mail.",
    "It mostly passes: send to them again later.",
    Remedy.TRY_AGAIN,
)
BROKEN_OFF = Meaning(
    "broken-off",
    "connection lost on the way",
    "The connection broke before the whole message was there: they do not have it.",
    "Send to them again.",
    Remedy.TRY_AGAIN,
)
IN_DOUBT = Meaning(
    "in-doubt",
    "no answer after the whole message",
    "The connection or the run ended between the end of the message and the server's answer: they"
    " may have it, or not.",
    "Ask one of them, or look into the server's log. Until you say which it is, they are not sent"
    " to again.",
    Remedy.ASK,
)
OTHER = Meaning(
    "other",
    "refused",
    "The server gave no reason that is known here.",
    "Read its words.",
    Remedy.TRY_AGAIN,
)
NOT_YET = Meaning(
    "not-yet",
    "not sent to yet",
    "It was not their turn yet.",
    "Nothing is lost: a run goes on where the last one was.",
    Remedy.GO_ON,
)
UNDER_WAY = Meaning(
    "under-way",
    "under way",
    "Their message was on its way when this was read.",
    "If no run is under way, it was cut off there: the next one records them as in doubt.",
    Remedy.NOTHING,
)
INVALID = Meaning(
    "invalid",
    "no address that can be sent to",
    "The row holds no address that mail could reach.",
    "Correct the row and run again: only who is new gets it.",
    Remedy.MEND_LIST,
)
DUPLICATE = Meaning(
    "duplicate",
    "stands in the list twice",
    "The same person stands above, and is counted there.",
    "Nothing: everyone gets one message.",
    Remedy.NOTHING,
)
SUPPRESSED = Meaning(
    "suppressed",
    "left out on purpose",
    "They are in `exclude`, or on the list of those who are never sent to.",
    "Nothing, if that is still so.",
    Remedy.NOTHING,
)
CANCELLED = Meaning(
    "cancelled",
    "given up",
    "The campaign was cancelled before it was their turn, or they left its recipients.",
    "Nothing, if that was meant.",
    Remedy.NOTHING,
)

MEANINGS = (
    *(NO_MAILBOX, MAILBOX_FULL, MAILBOX_DISABLED, BAD_ADDRESS, NO_DOMAIN, LATER, TOO_MUCH, QUOTA),
    *(SENDER_UNAUTHENTICATED, BLOCKED, SENDER_REFUSED, POLICY, TOO_LARGE, SERVER_TROUBLE),
    *(BROKEN_OFF, IN_DOUBT, OTHER, NOT_YET, UNDER_WAY),
    *(INVALID, DUPLICATE, SUPPRESSED, CANCELLED),
)

_OF_STATE = {
    State.IN_DOUBT: IN_DOUBT,
    State.IN_FLIGHT: UNDER_WAY,
    State.INVALID: INVALID,
    State.DUPLICATE: DUPLICATE,
    State.SUPPRESSED: SUPPRESSED,
    State.CANCELLED: CANCELLED,
}

_NOBODY = (
    r"user unknown|recipientnotfound|unrouteable address|not our customer|no mailbox"
    r"|(no such|unknown|invalid) (user|recipient|mailbox|address|account)"
    r"|(user|mailbox|recipient|account)\b.{0,80}(not found|n[o']t (exist|have)|unavailable"
    r"|not (known|listed)|unknown)"
)
_FULL = (
    r"mailbox.{0,40}full|over.?quota|quota (is )?exceeded|exceed.{0,40}quota|out of storage"
    r"|exceeded storage allocation|mailbox.{0,20}(size limit|exceed)"
)
_SURELY_NOBODY = r"user unknown|(no such|unknown) (user|mailbox)"
"""Whatever the code."""
_DISABLED = r"(account|mailbox|user|recipient)\b.{0,80}(disabled|inactive|suspended|deactivated)"
_NOWHERE = (
    r"null ?mx|no such domain|unrouteable mail domain|(domain|host)( name)? (was )?not found"
    r"|domain.{0,80}not exist|domain.{0,40}(does not|doesn't) accept mail|no mx\b"
)
_MUCH = (
    r"rate.?(exceeded|limit)|relay limit exceeded|throttl|too (many|much)|too quickly"
    r"|at a rate|unusual rate|unexpected volume|exceeded the rate|limits? for how many|slow down"
    r"|per (connection|session)"
)
_LARGE = r"(message|size).{0,40}(size|big|large|limit)"
_UNVERIFIED = r"\b(spf|dkim|dmarc)\b|unauthenticated|ptr record|reverse (dns|hostname)"
_LISTED = (
    r"(block|black|deny).?list|banned sending ip|client host (rejected|blocked)|\brbl\b|dnsbl"
    r"|spamhaus|spamcop|barracuda.{0,40}reputation"
)
_SENDER = (
    r"address is not verified|sendasdenied|sender (address )?(rejected|refused|not allowed)"
    r"|sender verif\w+ failed|bad outbound sender|relay(ing)?\b.{0,40}(denied|not permitted)"
    r"|authentication (is )?required|permissions to send as"
    r"|not (authorized|permitted|allowed) to send"
)
_LIKED_NOT = r"\bspam|policy|policies|content.{0,40}(rejected|refused|blocked)|virus|phish"

_TABLE = tuple(
    (re.compile(says, re.IGNORECASE | re.DOTALL), meant)
    for says, meant in (
        (r"\d+ 5\.4\.5 |.*daily (message quota|user sending)", QUOTA),
        (r".*exceeded the max (e?mails|defers)", QUOTA),
        # Gmail gives the code of a disabled mailbox to one that gets too much.
        (r"... .\.2\.1 .*(too quickly|at a rate)", TOO_MUCH),
        # Of the sender, although the subject of the code is addresses.
        (r"53[0458] |... .\.(1\.[78]|7\.8) ", SENDER_REFUSED),
        (rf"(?!... .\.[12]\.[1-6] ).*({_SENDER})", SENDER_REFUSED),
        # Addresses and mailboxes (RFC 3463 3.2, 3.3).
        (rf"... 5\.1\.10 .*({_NOWHERE})|556 |... 5\.(1\.2|4\.4) ", NO_DOMAIN),
        (rf"... 4\.1\.2 .*({_NOWHERE})", NO_DOMAIN),
        (r"... 5\.1\.([016]|10) |... 5\.4\.1 recipient", NO_MAILBOX),
        (r"... 5\.(1\.3|6\.7) ", BAD_ADDRESS),
        (r"... .\.2\.2 ", MAILBOX_FULL),
        (r"... 5\.2\.1 ", MAILBOX_DISABLED),
        (rf"5.. (5\.[037]\.[01] )?.*({_SURELY_NOBODY})", NO_MAILBOX),
        (rf"552 (?!5\.3\.4 ).*({_FULL})", MAILBOX_FULL),
        (rf"... .\.(3\.4|2\.3) |5.. .*({_LARGE})", TOO_LARGE),
        # Who sends (RFC 7372, RFC 8617; 30 and 32 of Gmail; 509 and 515 of Outlook).
        (r"... .\.7\.(2[0-79]|3[02]|509|515) ", SENDER_UNAUTHENTICATED),
        (rf".*({_UNVERIFIED})", SENDER_UNAUTHENTICATED),
        (rf"... .\.7\.(511|60[6-9]|6[1-4]\d) |.*({_LISTED})", BLOCKED),
        # For now.
        (rf"4.. .*({_MUCH})|... .\.7\.28 |454 ", TOO_MUCH),
        (r"4.. .*gr[ae]y.?list|4.. 4\.7\.", LATER),
        (r"421|4.. 4\.[34]\.|5.. 5\.3\.", SERVER_TROUBLE),
        (rf"4.. .*({_FULL})", MAILBOX_FULL),
        (r"4", LATER),
        # For good, in words.
        (rf"... 5\.7\.|.*({_LIKED_NOT})", POLICY),
        (rf".*({_FULL})", MAILBOX_FULL),
        (rf".*({_DISABLED})", MAILBOX_DISABLED),
        (rf".*({_NOWHERE})", NO_DOMAIN),
        (rf".*({_NOBODY})", NO_MAILBOX),
        (r"501|553", BAD_ADDRESS),
    )
)
"""Matched against a reply as `code text`, which begins with any enhanced code."""


_CODE = re.compile(r"([2-5]\d\d)(?: ([245]\.\d{1,3}\.\d{1,3})(?=\s|$))?")
_BRACKETED = re.compile(r"<[^<>]*>")
_IS_ID = re.compile(r"[@\d]|^[a-f]{6,}$").search


def meaning(state: State, phase: str, reply: str, reason: str) -> Meaning:
    """What is recorded of a recipient who is not accepted. Takes any text.

    A `reply` that is not the `reason` is one of earlier, before somebody decided otherwise.
    """
    if (known := _OF_STATE.get(state)) is not None:
        return known
    if reply and reply == reason:
        return of_reply(reply)
    if phase == Phase.UNADDRESSABLE:
        return BAD_ADDRESS
    if phase == Phase.UNSENDABLE:
        return TOO_LARGE if reason.endswith("(SIZE)") else SENDER_REFUSED
    if state is State.PENDING or (reply and state in UNSENT):
        return NOT_YET
    return OTHER if reply else BROKEN_OFF


def of_reply(said: str) -> Meaning:
    """What a refusal means: `said` is `code text`, as `str(Reply)` has it."""
    return _of_alike(without_ids(said))


def without_ids(said: str) -> str:
    """A reply, but for what is different in each: addresses, queue ids, times. Its codes stay."""
    found = _CODE.match(said)
    codes = found[0] if found else ""
    text = _BRACKETED.sub("", said[len(codes) : READ_CHARACTERS])
    return " ".join([codes, *(word for word in text.split() if not _IS_ID(word))])


@lru_cache(maxsize=1024)
def _of_alike(said: str) -> Meaning:
    return next((meant for says, meant in _TABLE if says.match(f"{said} ")), OTHER)


def code_of(reply: str) -> str:
    """The enhanced code of a reply, such as `5.1.1`, else its code; empty where it has none."""
    found = _CODE.match(reply)
    return "" if found is None else found[2] or found[1]
