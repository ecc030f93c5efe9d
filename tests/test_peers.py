"""What `make peers` reads in the logs of real servers, and that its judge is not blind."""

from dataclasses import replace
from pathlib import Path

import pytest

from .peers import judge
from .peers.judge import Entry, Evidence, Kind
from .peers.logs import Copy, Log, exim_log, postfix_log
from .peers.people import Person, Reception, people
from .peers.servers import Written

POSTFIX = """\
Nov 24 13:21:12 postfix postfix/smtpd[101]: connect from localhost[127.0.0.1]
Nov 24 13:21:12 postfix postfix/smtpd[101]: 4C1A: client=localhost[127.0.0.1]
Nov 24 13:21:12 postfix postfix/cleanup[102]: 4C1A: info: header Message-ID: <kim@sender.test> from localhost[127.0.0.1]; \
from=<news@sender.test> to=<person0@people.test> proto=ESMTP helo=<[127.0.0.1]>
Nov 24 13:21:12 postfix postfix/cleanup[102]: 4C1A: message-id=<kim@sender.test>
Nov 24 13:21:12 postfix postfix/qmgr[103]: 4C1A: from=<news@sender.test>, size=707, nrcpt=1 (queue active)
Nov 24 13:21:12 postfix postfix/cleanup[104]: 5D2B: info: header Message-ID: <lee@sender.test> from localhost[127.0.0.1]; \
from=<news@sender.test> to=<person1@people.test> proto=ESMTP helo=<[127.0.0.1]>
Nov 24 13:21:12 postfix postfix/cleanup[104]: 5D2B: message-id=<lee@sender.test>
Nov 24 13:21:12 postfix postfix/smtpd[101]: NOQUEUE: reject: RCPT from localhost[127.0.0.1]: 550 5.1.1 \
<unknown2@people.test>: Recipient address rejected: User unknown in virtual mailbox table; \
from=<news@sender.test> to=<unknown2@people.test> proto=ESMTP helo=<[127.0.0.1]>
Nov 24 13:21:12 postfix postfix/smtpd[101]: NOQUEUE: reject: RCPT from localhost[127.0.0.1]: 450 4.2.1 \
<later3@people.test>: Recipient address rejected: <later3@people.test>: greylisted, try again; \
from=<news@sender.test> to=<later3@people.test> proto=ESMTP helo=<[127.0.0.1]>
Nov 24 13:21:12 postfix postfix/discard[105]: 4C1A: to=<person0@people.test>, relay=none, delay=0.01, \
delays=0.01/0/0/0, dsn=2.0.0, status=sent (people.test)
Nov 24 13:21:12 postfix postfix/qmgr[103]: 4C1A: removed
"""

EXIM = """\
2026-11-24 13:21:12 [101] SMTP connection from ([127.0.0.1]) [127.0.0.1] lost while reading message data
2026-11-24 13:21:12 [101] 1xVqAb-00074L-0S <= news@sender.test H=([127.0.0.1]) [127.0.0.1] P=esmtps \
X=TLS1.3:ECDHE_X25519__ECDSA_SECP256R1_SHA256__AES_256_GCM:256 CV=no S=790 id=kim@sender.test \
for person0@people.test
2026-11-24 13:21:12 [101] H=([127.0.0.1]) [127.0.0.1] F=<news@sender.test> rejected RCPT \
<unknown2@people.test>: 5.1.1 <unknown2@people.test> unknown user
2026-11-24 13:21:12 [101] H=([127.0.0.1]) [127.0.0.1] F=<news@sender.test> temporarily rejected RCPT \
<later3@people.test>: 4.2.1 <later3@people.test> greylisted, try again
"""


def test_postfix_has_taken_what_its_queue_manager_has_seen_and_nothing_else() -> None:
    """Not what it only began to receive (5D2B)."""
    log = postfix_log(POSTFIX.splitlines())
    assert log.taken == {"person0@people.test": [Copy("4C1A", "kim@sender.test")]}
    assert log.refused == {"unknown2@people.test": ["5"], "later3@people.test": ["4"]}
    two = postfix_log((POSTFIX + POSTFIX.replace("4C1A", "7F4D")).splitlines())
    assert [copy.queue_id for copy in two.taken["person0@people.test"]] == ["4C1A", "7F4D"]


def test_where_postfix_is_stopped_lines_are_missing_or_come_again() -> None:
    """One message is one, by its name; that somebody got one is never overlooked."""
    lines = POSTFIX.splitlines()
    whole = postfix_log(lines)
    assert postfix_log(lines + lines).taken == whole.taken
    assert postfix_log(line for line in lines if "status=sent" not in line).taken == whole.taken
    assert postfix_log(line for line in lines if "qmgr" not in line).taken == whole.taken
    unnamed = postfix_log(line for line in lines if "/qmgr" in line)
    assert unnamed.messages == 1 and evidence(log=unnamed).faults()


def test_exim_has_taken_what_has_come_in() -> None:
    log = exim_log(EXIM.splitlines())
    assert log.taken == {"person0@people.test": [Copy("1xVqAb-00074L-0S", "kim@sender.test")]}
    assert log.refused == {"unknown2@people.test": ["5"], "later3@people.test": ["4"]}
    assert exim_log((EXIM + EXIM).splitlines()).messages == 2


def test_a_log_is_counted_from_its_mark_and_by_whole_lines(tmp_path: Path) -> None:
    path = tmp_path / "log"
    written = Written(path, " <= ")
    assert (written.accepted(), written.lines()) == (0, [])
    path.write_text("a <= b\n")
    assert written.accepted() == 1
    written.mark()
    with path.open("a") as file:
        for more, accepted in (("c <= d\ne <", 1), ("= f", 1), ("\n", 2), ("g\n", 2)):
            file.write(more)
            file.flush()
            assert written.accepted() == accepted
    assert written.lines() == ["c <= d", "e <= f", "g"]


def test_a_seed_decides_who_is_refused() -> None:
    one = people("a", 100, 20, 10)
    assert one == people("a", 100, 20, 10) != people("b", 100, 20, 10)
    assert sum(person.reception is Reception.UNKNOWN for person in one) == 20
    assert sum(person.reception is Reception.LATER for person in one) == 10
    assert len({person.address for person in one}) == 100


# -- the judge -------------------------------------------------------------------------------------

KIM, LEE = Person(0, Reception.TAKEN), Person(1, Reception.TAKEN)
HAN, MIN = Person(2, Reception.UNKNOWN), Person(3, Reception.LATER)
KIMS, LEES, MINS = (Copy(name.upper(), f"{name}@sender.test") for name in ("kim", "lee", "min"))
NOBODY = f"550 5.1.1 <{HAN.address}>: User unknown"
NOT_NOW = f"450 4.2.1 <{MIN.address}>: greylisted, try again"
KIM_HAS_IT = Entry(KIM.address, "accepted", "250 2.0.0 Ok: queued as KIM", "<kim@sender.test>")
LEE_MAY = Entry(LEE.address, "in_doubt", "", "<lee@sender.test>", 1)
LEE_HAS_IT = replace(LEE_MAY, state="accepted", reply="250 OK id=LEE")
HAN_FAILED = Entry(HAN.address, "failed", NOBODY, "<han@sender.test>")
MIN_HAS_IT = Entry(
    MIN.address, "accepted", "250 2.0.0 Ok: queued as MIN", "<min@sender.test>", 0, (NOT_NOW,)
)
ENTRIES = {entry.address: entry for entry in (KIM_HAS_IT, LEE_MAY, HAN_FAILED, MIN_HAS_IT)}


def log(
    taken: dict[Person, list[Copy]] | None = None, refused: dict[Person, list[str]] | None = None
) -> Log:
    """What is so, but for what is told of these people."""
    of_taken = {KIM: [KIMS], LEE: [LEES], MIN: [MINS]} | (taken or {})
    of_refused = {HAN: ["5"], MIN: ["4"]} | (refused or {})
    return Log(
        {person.address: copies for person, copies in of_taken.items() if copies},
        {person.address: digits for person, digits in of_refused.items() if digits},
    )


def evidence(*entries: Entry, log: Log = log(), may_resend: bool = False) -> Evidence:  # noqa: B008
    """What is so, but for these people in the ledger."""
    all_entries = ENTRIES | {entry.address: entry for entry in entries}
    return Evidence([KIM, LEE, HAN, MIN], [*all_entries.values()], log, may_resend)


@pytest.mark.parametrize(
    "right",
    [
        evidence(),
        evidence(log=log({LEE: []})),
        evidence(LEE_HAS_IT, may_resend=True),
        evidence(LEE_HAS_IT, log=log({LEE: [LEES, replace(LEES, queue_id="L2")]}), may_resend=True),
    ],
)
def test_the_judge_finds_nothing_where_nothing_is_wrong(right: Evidence) -> None:
    assert right.faults() == []


@pytest.mark.parametrize(
    ("wrong", "kind"),
    [
        (evidence(log=log({KIM: []})), Kind.LOST),
        (evidence(replace(KIM_HAS_IT, state="pending")), Kind.LOST),
        (evidence(replace(KIM_HAS_IT, state="failed")), Kind.LOST),
        (evidence(replace(MIN_HAS_IT, state="deferred")), Kind.LOST),
        (evidence(may_resend=True), Kind.LOST),
        (replace(evidence(), entries=[LEE_MAY, HAN_FAILED, MIN_HAS_IT]), Kind.LOST),
        (evidence(log=log({KIM: [KIMS, KIMS]})), Kind.TWICE),
        (evidence(log=log({LEE: [LEES, LEES]})), Kind.TWICE),
        (evidence(LEE_HAS_IT, log=log({LEE: [LEES] * 3}), may_resend=True), Kind.TWICE),
        (evidence(LEE_HAS_IT, log=log({KIM: [KIMS] * 2}), may_resend=True), Kind.TWICE),
        (evidence(replace(LEE_MAY, in_doubt_events=0)), Kind.WRONG),
        (evidence(replace(KIM_HAS_IT, reply=MIN_HAS_IT.reply)), Kind.WRONG),
        (evidence(replace(KIM_HAS_IT, reply="250 2.0.0 Ok")), Kind.WRONG),
        (evidence(replace(KIM_HAS_IT, message_id="<lee@sender.test>")), Kind.WRONG),
        (evidence(log=log({LEE: [KIMS]})), Kind.WRONG),
        (evidence(replace(HAN_FAILED, state="accepted")), Kind.WRONG),
        (evidence(replace(HAN_FAILED, reply=NOBODY.replace("2", "1"))), Kind.WRONG),
        (evidence(log=log({HAN: [KIMS]})), Kind.WRONG),
        (evidence(log=log(refused={HAN: []})), Kind.WRONG),
        (evidence(log=log(refused={MIN: []})), Kind.WRONG),
        (evidence(log=log(refused={MIN: ["4", "4"]})), Kind.WRONG),
        (evidence(replace(MIN_HAS_IT, refusals=())), Kind.WRONG),
        (evidence(replace(MIN_HAS_IT, refusals=(NOBODY,))), Kind.WRONG),
        (evidence(log=log({Person(9, Reception.TAKEN): [KIMS]})), Kind.WRONG),
    ],
)
def test_the_judge_finds_what_is_wrong(wrong: Evidence, kind: Kind) -> None:
    assert kind in {fault.kind for fault in wrong.faults()}


def test_the_judge_knows_nothing_of_bulkmail() -> None:
    """Or it would find right what bulkmail finds right."""
    assert judge.__file__ is not None
    assert "import bulkmail" not in (text := Path(judge.__file__).read_text("utf-8"))
    assert "from bulkmail" not in text
