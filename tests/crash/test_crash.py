"""Some thirty kills, in all wire modes and with both choices; and that the judge is not blind."""

from dataclasses import replace
from email.message import EmailMessage
from pathlib import Path

import pytest

from . import judge
from .__main__ import campaigns
from .campaign import Fate
from .judge import Copy, Entry, Evidence, Kind
from .people import Person, Reception
from .report import faults, table

SEEDS = range(1, 5)


async def test_no_kill_loses_anybody_or_repeats_anybody_in_silence(tmp_path: Path) -> None:
    """Nor confuses people, nor leaves more in doubt than were under way; and the kills do hit."""
    results = await campaigns(tmp_path, SEEDS)
    told = table(results)
    print(told)
    assert not any(result.faults for result in results), f"{told}\n{faults(results)}"
    assert sum(result.kills for result in results) >= 30, told
    assert sum(result.hits for result in results) >= 15, told
    assert sum(result.unanswered for result in results) >= 15, told
    for fate in Fate:
        assert sum(result.fates[fate] for result in results) >= 2, told


# -- the judge -----------------------------------------------------------------------------------

KIM = Person("kim@example.com", "Kim", "11", Reception.TAKEN)
LEE = Person("lee@example.com", "Lee", "22", Reception.TAKEN)
HAN = Person("han@example.com", "Han", "33", Reception.REFUSED)


def copy_for(person: Person, to: Person | None = None, message_id: str = "") -> Copy:
    """What the server takes for `to` if the sender composes what `person` should have."""
    message = EmailMessage()
    message["To"] = f"{person.name} <{person.address}>"
    message["Subject"] = f"{person.name}, your token is {person.token}"
    message["Message-ID"] = message_id or f"<{person.token}@example.org>"
    message.set_content(f"{person.name},\n\nthe token of {person.address} is\n.{person.token}\n")
    html = f"<p>{person.name},</p>\n<p>the token of {person.address} is {person.token}</p>\n"
    message.add_alternative(html, subtype="html")
    message.set_boundary("=_alternative")
    return Copy((to or person).address, bytes(message).replace(b"\n", b"\r\n"))


def entry_of(person: Person, state: str = "accepted", events: int = 0) -> Entry:
    said = {"accepted": "250 2.0.0 kept", "failed": "550 5.1.1 nobody is called"}.get(state)
    reply = f"{said} {person.token}" if said else ""
    return Entry(person.address, state, events, reply, f"<{person.token}@example.org>")


GOOD = Evidence(
    [KIM, LEE, HAN],
    [entry_of(KIM), entry_of(LEE, "in_doubt", 1), entry_of(HAN, "failed")],
    [copy_for(KIM), copy_for(LEE)],
    may_resend=False,
)


def with_entries(*entries: Entry) -> Evidence:
    """GOOD, but for what the ledger says of these people."""
    others = {entry.address: entry for entry in GOOD.entries}
    return replace(GOOD, entries=[*(others | {one.address: one for one in entries}).values()])


def with_copies(*copies: Copy) -> Evidence:
    return replace(GOOD, copies=copies)


def test_the_judge_finds_nothing_where_nothing_is_wrong() -> None:
    assert GOOD.faults_at_the_end() == []
    assert GOOD.doubts == 1
    twice = with_copies(copy_for(KIM), copy_for(LEE), copy_for(LEE))
    resent = replace(
        twice,
        may_resend=True,
        entries=[entry_of(KIM), entry_of(LEE, "accepted", 1), entry_of(HAN, "failed")],
    )
    assert resent.faults_at_the_end() == []


@pytest.mark.parametrize(
    ("evidence", "kind"),
    [
        (replace(GOOD, entries=GOOD.entries[1:]), Kind.LOST),
        (replace(GOOD, entries=[*GOOD.entries, entry_of(KIM)]), Kind.RECORD),
        (with_entries(entry_of(KIM, "pending")), Kind.LOST),
        (with_entries(entry_of(KIM, "deferred")), Kind.LOST),
        (with_entries(entry_of(KIM, "failed")), Kind.LOST),
        (with_entries(entry_of(HAN, "accepted")), Kind.LOST),
        (with_copies(copy_for(LEE)), Kind.LOST),
        (replace(GOOD, may_resend=True), Kind.LOST),
        (with_copies(copy_for(KIM), copy_for(KIM), copy_for(LEE)), Kind.DUPLICATE),
        (with_copies(copy_for(KIM), copy_for(LEE), copy_for(LEE)), Kind.DUPLICATE),
        (with_entries(entry_of(LEE, "in_doubt", 0)), Kind.RECORD),
        (with_entries(replace(entry_of(KIM), reply=entry_of(LEE).reply)), Kind.RECORD),
        (with_entries(replace(entry_of(KIM), reply="250 2.0.0 kept 22")), Kind.RECORD),
        (with_entries(replace(entry_of(HAN, "failed"), reply="550 5.1.1 nobody")), Kind.RECORD),
        (with_entries(replace(entry_of(KIM), message_id="<0@example.org>")), Kind.RECORD),
        (with_copies(copy_for(LEE, to=KIM), copy_for(LEE)), Kind.CONTENT),
        (with_copies(copy_for(KIM), copy_for(replace(LEE, token="11"))), Kind.CONTENT),
        (with_copies(copy_for(KIM), copy_for(replace(LEE, name="L"))), Kind.CONTENT),
        (with_copies(copy_for(KIM), copy_for(LEE, message_id="<11@example.org>")), Kind.CONTENT),
        (with_copies(copy_for(KIM), replace(copy_for(LEE), to="who@example.com")), Kind.CONTENT),
        (with_copies(copy_for(KIM), replace(copy_for(LEE), content=b"x" * 999)), Kind.CONTENT),
    ],
)  # fmt: skip
def test_the_judge_finds_what_is_wrong(evidence: Evidence, kind: Kind) -> None:
    assert kind in {fault.kind for fault in evidence.faults_at_the_end()}


def test_the_judge_knows_nothing_of_bulkmail() -> None:
    """Or it would find right what bulkmail finds right."""
    assert judge.__file__ is not None
    assert "bulkmail" not in Path(judge.__file__).read_text("utf-8").partition('"""\n\n')[2]
