"""The ledger: what is enrolled, claimed, intended and settled, and what a crash leaves."""

import asyncio
import sqlite3
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import pytest

from bulkmail.errors import ExitStatus, LedgerBusyError, LedgerError
from bulkmail.ledger import (
    CampaignLedger,
    CampaignRecord,
    SqliteLedger,
    SqliteView,
)
from bulkmail.ledger.claims import Claims
from bulkmail.ledger.disk import network_share
from bulkmail.ledger.opening import is_run_under_way
from bulkmail.ledger.stopping import ask_to_stop
from bulkmail.ledger.suppression import release, suppress
from bulkmail.model import Intent, Outcome, Phase, Reply, Row, Settlement, State

OK = Outcome(Phase.DOT, Reply(250, "2.0.0", "2.0.0 ok"))
LATER = Outcome(Phase.RCPT, Reply(450, "4.2.1", "4.2.1 later"))


def row(address: str, line: int = 2, fault: str | None = None, **fields: str) -> Row:
    return Row(address, fields, f"m.csv:{line}", fault)


def people(number: int) -> list[Row]:
    return [row(f"p{index}@example.com", index + 2, name=f"P {index}") for index in range(number)]


def intent(recipient_id: int, at: float = 1000.0) -> Intent:
    return Intent(recipient_id, at, at, f"<{recipient_id}@example.org>")


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "bulkmail.sqlite"


@pytest.fixture
def ledger(path: Path) -> Iterator[SqliteLedger]:
    ledger = SqliteLedger(path)
    yield ledger
    ledger.close()


@pytest.fixture
def campaign(ledger: SqliteLedger) -> CampaignRecord:
    return ledger.campaign("july", 1000.0)


def changes_of(ledger: SqliteLedger, campaign: CampaignRecord) -> CampaignLedger:
    return CampaignLedger(ledger, campaign, "a", ledger.contents.id_of(campaign, "content"))


def states(ledger: SqliteLedger, campaign: CampaignRecord) -> dict[str, int]:
    return {str(state): number for state, number in ledger.tally(campaign).items()}


def test_enrolling_filters_and_tells(ledger: SqliteLedger, campaign: CampaignRecord) -> None:
    """Of rows for one person the first counts, whatever the case of letters."""
    found = ledger.enrol(
        campaign,
        [
            row("kim@example.com", 2),
            row("nobody", 3, fault="is not of the form name@domain"),
            row("KIM@example.com", 4),
            row("nobody", 5, fault="is not of the form name@domain"),
        ],
    )
    assert (found.recipients, found.invalid, found.duplicates) == (1, 2, 1)
    assert [(place, str(state)) for place, state, _ in found.filtered] == [
        ("m.csv:3", "invalid"),
        ("m.csv:4", "duplicate"),
        ("m.csv:5", "invalid"),
    ]
    assert states(ledger, campaign) == {"pending": 1, "invalid": 2, "duplicate": 1}


def test_enrolling_again_keeps_what_is_known(
    ledger: SqliteLedger, campaign: CampaignRecord
) -> None:
    """Who has it keeps it; who is new is added; who is pending gets the new data."""
    ledger.enrol(campaign, people(2))
    first, second = ledger.unsent(campaign)
    ledger.record("a", None, [intent(first.id)])
    ledger.record("a", None, [Settlement(first.id, State.ACCEPTED, OK)])
    found = ledger.enrol(
        campaign,
        [
            row("P0@example.com", 2, name="Changed"),
            row("p1@example.com", 3, name="Changed"),
            row("new@example.com", 4),
            row("bad", 5, fault="no"),
        ],
    )
    assert (found.recipients, found.duplicates, found.removed) == (3, 0, 0)
    assert states(ledger, campaign) == {"accepted": 1, "pending": 2, "invalid": 1}
    assert [(r.address, dict(r.fields)) for r in ledger.unsent(campaign)] == [
        ("p1@example.com", {"name": "Changed"}),
        ("new@example.com", {}),
    ]
    assert second.id in [r.id for r in ledger.unsent(campaign)]


def test_who_left_the_list_is_told_and_can_be_cancelled(
    ledger: SqliteLedger, campaign: CampaignRecord
) -> None:
    ledger.enrol(campaign, people(3))
    assert ledger.enrol(campaign, people(2)).removed == 1
    assert ledger.cancel_removed(campaign) == 1
    assert states(ledger, campaign) == {"pending": 2, "cancelled": 1}
    assert ledger.enrol(campaign, people(3)).removed == 0
    assert states(ledger, campaign) == {"pending": 3}, "put back, they are sent to"


def test_who_was_deferred_cancelled_and_put_back_is_claimed_with_the_new_data(
    ledger: SqliteLedger, campaign: CampaignRecord
) -> None:
    ledger.enrol(campaign, people(1))
    [recipient] = ledger.claims(campaign).take(10, 0.0)[0]
    ledger.record("a", None, [intent(recipient.id)])
    ledger.record("a", None, [Settlement(recipient.id, State.DEFERRED, LATER, due_at=9e9)])
    ledger.enrol(campaign, [row("other@example.com")])
    ledger.cancel_removed(campaign)
    ledger.enrol(campaign, [row("p0@example.com", name="New"), row("other@example.com")])
    claimed = ledger.claims(campaign).take(10, 0.0)[0]
    assert [(r.address, dict(r.fields)) for r in claimed] == [
        ("p0@example.com", {"name": "New"}),
        ("other@example.com", {}),
    ]


def test_whoever_is_excluded_is_suppressed_and_told_why(
    ledger: SqliteLedger, campaign: CampaignRecord
) -> None:
    found = ledger.enrol(campaign, people(3), [("P1@example.com", "stands in out.csv:4")])
    assert (found.recipients, found.suppressed, found.duplicates) == (2, 1, 0)
    assert found.filtered == [("m.csv:3", State.SUPPRESSED, "stands in out.csv:4")]
    assert states(ledger, campaign) == {"pending": 2, "suppressed": 1}
    assert [r.address for r in ledger.unsent(campaign)] == ["p0@example.com", "p2@example.com"]


def test_who_is_excluded_later_gets_no_more_and_who_has_it_keeps_it(
    ledger: SqliteLedger, campaign: CampaignRecord
) -> None:
    """Deferred and pending become suppressed; accepted stays; taken off, they are pending."""
    ledger.enrol(campaign, people(3))
    first, second, _ = ledger.unsent(campaign)
    ledger.record("a", None, [intent(first.id), intent(second.id)])
    ledger.record("a", None, [Settlement(first.id, State.ACCEPTED, OK)])
    ledger.record("a", None, [Settlement(second.id, State.DEFERRED, LATER, due_at=9e9)])
    everyone = [(f"p{n}@example.com", "left") for n in range(3)]
    assert ledger.enrol(campaign, people(3), everyone).suppressed == 2
    assert states(ledger, campaign) == {"accepted": 1, "suppressed": 2}
    ledger.enrol(campaign, people(3))
    assert states(ledger, campaign) == {"accepted": 1, "pending": 2}
    assert len(ledger.claims(campaign).take(10, 0.0)[0]) == 2, (
        "also the one that was deferred is claimed"
    )


def test_a_second_row_of_an_excluded_person_is_a_duplicate(
    ledger: SqliteLedger, campaign: CampaignRecord
) -> None:
    rows = [row("kim@example.com", 2), row("Kim@example.com", 3)]
    found = ledger.enrol(campaign, rows, [("kim@example.com", "left")])
    assert (found.recipients, found.suppressed, found.duplicates) == (0, 1, 1)


def test_one_person_in_two_spellings_of_a_domain(
    ledger: SqliteLedger, campaign: CampaignRecord
) -> None:
    """An IDN and its A-labels (RFC 5890) are one mailbox, also where it is excluded."""
    rows = [row("kim@예시.example", 2), row("kim@xn--vv4b11d.example", 3)]
    assert ledger.enrol(campaign, rows).duplicates == 1
    assert ledger.enrol(campaign, rows, [("kim@xn--vv4b11d.example", "left")]).suppressed == 1


def test_whoever_left_out_is_listed_for_each_reason(
    ledger: SqliteLedger, campaign: CampaignRecord
) -> None:
    """Many duplicates do not hide the one address that is wrong."""
    rows = [row("kim@example.com", n) for n in range(2, 40)] + [row("x", 40, fault="no")]
    listed = [place for place, state, _ in ledger.enrol(campaign, rows).filtered
              if state is State.INVALID]  # fmt: skip
    assert listed == ["m.csv:40"]


def test_only_who_is_new_or_changed_is_to_be_proved_again(
    ledger: SqliteLedger, campaign: CampaignRecord
) -> None:
    ledger.enrol(campaign, people(3), [("p2@example.com", "left")])
    ledger.contents.set_proven(campaign, "content")
    record = ledger.campaign("july", 2000.0)
    assert record.proven_digest == "content"

    def unproven(rows: list[Row]) -> list[str]:
        ledger.enrol(campaign, rows)
        return [r.address for r in ledger.unsent(record, record.proven_reading)]

    assert unproven([*people(2), row("p2@example.com", 9, name="P 2")]) == ["p2@example.com"]
    changed = [row("p0@example.com", 2, name="New"), *people(3)[1:], row("new@example.com")]
    assert unproven(changed) == ["p0@example.com", "p2@example.com", "new@example.com"]


def test_the_suppression_list(path: Path, ledger: SqliteLedger) -> None:
    """It can be changed while a run holds the ledger."""
    assert suppress(path, ["Kim@example.com", "lee@example.com"], "asked to", 1000.0) == 2
    assert suppress(path, ["kim@EXAMPLE.com", "choi@example.com"], "again", 2000.0) == 1
    assert release(path, ["LEE@example.com", "nobody@example.com"]) == 1
    view = SqliteView(path)
    assert list(view.suppressed()) == [
        ("choi@example.com", "again", 2000.0),
        ("Kim@example.com", "asked to", 1000.0),
    ]
    view.close()


def test_the_suppression_list_of_a_ledger_that_cannot_be_written(tmp_path: Path) -> None:
    with pytest.raises(LedgerError, match="unable to open"):
        suppress(tmp_path / "nowhere" / "bulkmail.sqlite", ["kim@example.com"], "", 0.0)


def test_people_of_an_earlier_campaign(
    path: Path, ledger: SqliteLedger, campaign: CampaignRecord
) -> None:
    """By state, with all their fields, in order, however many."""
    ledger.enrol(campaign, people(1200))
    ids = [r.id for r in ledger.unsent(campaign)][::2]
    ledger.record("a", None, [intent(id_) for id_ in ids])
    ledger.record("a", None, [Settlement(id_, State.FAILED, LATER) for id_ in ids])
    view = SqliteView(path)
    assert list(view.people(campaign, [State.FAILED])) == people(1200)[::2]
    view.close()


def test_a_campaign_that_has_another_name_but_the_same_content_and_people(
    ledger: SqliteLedger, campaign: CampaignRecord
) -> None:
    ledger.enrol(campaign, people(3))
    content = ledger.contents.id_of(campaign, "content")
    sent = ids_of(ledger, campaign)[:2]
    other = ledger.campaign("august", 2000.0)
    ledger.enrol(other, [*people(3), row("new@example.com")])
    assert ledger.contents.sent_before(other, "content") is None, "nobody has it yet"
    ledger.record("a", content, [intent(id_) for id_ in sent])
    ledger.record("a", content, [Settlement(sent[0], State.ACCEPTED, OK)])
    assert ledger.contents.sent_before(other, "content") == ("july", 2), "in flight may have it"
    assert ledger.contents.sent_before(other, "other content") is None
    assert ledger.contents.sent_before(campaign, "content") is None


def test_who_has_which_content(ledger: SqliteLedger, campaign: CampaignRecord) -> None:
    """By what each was given, not by what the campaign was last: it may have changed and back."""
    ledger.enrol(campaign, people(5))
    first, second, third, fourth, _ = ids_of(ledger, campaign)
    old, new = (ledger.contents.id_of(campaign, digest) for digest in ("old", "new"))
    assert ledger.contents.id_of(campaign, "old") == old
    ledger.record("a", old, [intent(first), intent(second)])
    ledger.record("a", old, [Settlement(first, State.ACCEPTED, OK),
                             Settlement(second, State.FAILED, LATER)])  # fmt: skip
    assert (ledger.contents.who_has(campaign, old), ledger.contents.is_proven(campaign, old)) == (
        (1, 0),
        True,
    )
    assert (ledger.contents.who_has(campaign, new), ledger.contents.is_proven(campaign, new)) == (
        (0, 1),
        False,
    )
    ledger.record("a", new, [intent(third), intent(fourth)])
    ledger.record("a", new, [Settlement(third, State.IN_DOUBT, LATER),
                             Settlement(fourth, State.PENDING, LATER)])  # fmt: skip
    assert ledger.contents.who_has(campaign, new) == (1, 1)
    assert not ledger.contents.is_proven(campaign, new), "nobody answered that it was accepted"
    other = ledger.campaign("august", 2000.0)
    ledger.enrol(other, people(5))
    assert (
        ledger.contents.sent_before(other, "old")
        == ledger.contents.sent_before(other, "new")
        == ("july", 1)
    )


def test_who_was_deferred_here_and_got_it_there_is_noticed(
    ledger: SqliteLedger, campaign: CampaignRecord
) -> None:
    """Also who may have it from there: an event of doubt is never forgotten."""
    ledger.enrol(campaign, people(2))
    defer(ledger, ids_of(ledger, campaign), lambda id_: 1.0)
    other = ledger.campaign("august", 2000.0)
    ledger.enrol(other, people(2))
    content = ledger.contents.id_of(other, "content")
    got, doubtful = ids_of(ledger, other)
    ledger.record("a", content, [intent(got), intent(doubtful)])
    ledger.record("a", content, [Settlement(got, State.ACCEPTED, OK),
                                 Settlement(doubtful, State.IN_DOUBT, OK)])  # fmt: skip
    assert ledger.contents.sent_before(campaign, "content") == ("august", 2)


def test_who_was_meant_again_stays_so(ledger: SqliteLedger, campaign: CampaignRecord) -> None:
    """Also with other data, and when sent to again after a doubt; who comes back is not meant."""
    ledger.enrol(campaign, people(3))
    content = ledger.contents.id_of(campaign, "content")
    ledger.record("a", content, [intent(id_) for id_ in ids_of(ledger, campaign)])
    other = ledger.campaign("august", 2000.0)
    ledger.enrol(other, people(3))
    ledger.contents.set_meant_again(other, "content")
    first, *_ = ids_of(ledger, other)
    ledger.record("a", ledger.contents.id_of(other, "content"), [intent(first)])
    other = ledger.campaign("august", 2000.0)
    ledger.recover(other, 5.0)
    mended = [row("p0@example.com", name="Mended"), *people(3)[1:]]
    ledger.enrol(other, mended)
    ledger.resend_in_doubt(other, 6.0)
    assert ledger.contents.sent_before(ledger.campaign("august", 2000.0), "content") is None
    ledger.enrol(other, mended[:2])
    ledger.cancel_removed(other)
    ledger.enrol(other, mended)
    assert ledger.contents.sent_before(ledger.campaign("august", 2000.0), "content") == ("july", 1)


def test_who_may_have_it_is_in_doubt_until_sent_to_again(
    ledger: SqliteLedger, campaign: CampaignRecord
) -> None:
    """Sent to again as the campaign said then, refused for now, and held as it says now."""
    ledger.enrol(campaign, people(1))
    [id_] = ids_of(ledger, campaign)
    content = ledger.contents.id_of(campaign, "content")
    ledger.record("a", content, [intent(id_)])
    ledger.recover(campaign, 5.0)
    ledger.enrol(campaign, people(1))
    ledger.resend_in_doubt(campaign, 6.0)
    ledger.record("a", content, [intent(id_)])
    ledger.record("a", content, [Settlement(id_, State.DEFERRED, LATER, due_at=9e9)])
    assert ledger.contents.who_has(campaign, content) == (1, 0)
    ledger.recover(campaign, 5.0)
    assert states(ledger, campaign) == {"in_doubt": 1}
    ledger.enrol(campaign, people(1), excluded=[("p0@example.com", "suppressed")])
    assert states(ledger, campaign) == {"in_doubt": 1}
    ledger.enrol(campaign, people(1))
    ledger.resend_in_doubt(campaign, 6.0)
    assert states(ledger, campaign) == {"deferred": 1}, "due when it was due"
    assert ledger.claims(campaign).next_due_at() == 9e9


def test_a_decision_counts_for_one_doubt(ledger: SqliteLedger, campaign: CampaignRecord) -> None:
    """After a new one the campaign says again what becomes of them."""
    ledger.enrol(campaign, people(1))
    [id_] = ids_of(ledger, campaign)
    content = ledger.contents.id_of(campaign, "content")
    ledger.record("a", content, [intent(id_)])
    ledger.recover(campaign, 5.0)
    with ledger.deciding(campaign, [State.IN_DOUBT]) as decided:
        assert decided.retry(6.0) == 1
    ledger.recover(campaign, 7.0)
    assert states(ledger, campaign) == {"pending": 1}, "that was decided"
    ledger.record("a", content, [intent(id_)])
    ledger.record("a", content, [Settlement(id_, State.IN_DOUBT, OK)])
    ledger.enrol(campaign, people(1))
    ledger.resend_in_doubt(campaign, 8.0)
    ledger.recover(campaign, 9.0)
    assert states(ledger, campaign) == {"in_doubt": 1}


def test_an_enrolment_that_fails_leaves_nothing(path: Path, ledger: SqliteLedger) -> None:
    with pytest.raises(RuntimeError), ledger.enrolling():
        campaign = ledger.campaign("july", 1000.0)
        ledger.enrol(campaign, people(5))
        raise RuntimeError("the answer was no")
    view = SqliteView(path)
    assert view.campaigns() == []
    view.close()


def test_the_way_of_a_recipient(ledger: SqliteLedger, campaign: CampaignRecord) -> None:
    ledger.enrol(campaign, people(1))
    [recipient] = ledger.claims(campaign).take(10, 0.0)[0]
    ledger.record("a", None, [intent(recipient.id, 1000.0)])
    assert states(ledger, campaign) == {"in_flight": 1}
    assert ledger.claims(campaign).take(10, 0.0)[0] == []
    ledger.record("a", None, [Settlement(recipient.id, State.DEFERRED, LATER, due_at=1300.0)])
    assert ledger.claims(campaign).take(10, 1299.0)[0] == []
    [again] = ledger.claims(campaign).take(10, 1300.0)[0]
    assert (again.attempts, again.first_attempt_at) == (1, 1000.0)
    ledger.record("a", None, [intent(recipient.id, 1300.0)])
    ledger.record("a", None, [Settlement(recipient.id, State.ACCEPTED, OK)])
    assert states(ledger, campaign) == {"accepted": 1}


def test_a_released_recipient_is_pending_and_no_attempt_counts(
    ledger: SqliteLedger, campaign: CampaignRecord
) -> None:
    """Nothing of its message was ever sent: the next try is the first, with its own date."""
    ledger.enrol(campaign, people(1))
    [recipient] = ledger.claims(campaign).take(10, 0.0)[0]
    ledger.record("a", None, [intent(recipient.id)])
    lost = Outcome(Phase.MAIL, None, "lost")
    ledger.record("a", None, [Settlement(recipient.id, State.PENDING, lost)])
    [again] = ledger.claims(campaign).take(10, 0.0)[0]
    assert (again.attempts, again.first_attempt_at) == (0, None)


def test_what_was_in_flight_when_a_run_died_is_in_doubt(
    path: Path, ledger: SqliteLedger, campaign: CampaignRecord
) -> None:
    ledger.enrol(campaign, people(3))
    ids = [recipient.id for recipient in ledger.unsent(campaign)]
    ledger.record("a", None, [intent(ids[0]), intent(ids[1])])
    ledger.record("a", None, [Settlement(ids[0], State.ACCEPTED, OK)])
    ledger.close()
    after = SqliteLedger(path)
    assert after.recover(campaign, 5.0) == 1
    assert states(after, campaign) == {"accepted": 1, "in_doubt": 1, "pending": 1}
    assert [recipient.id for recipient in after.unsent(campaign)] == [ids[2]]
    after.close()


def test_a_state_that_something_else_changed_is_an_error(
    ledger: SqliteLedger, campaign: CampaignRecord
) -> None:
    """All of the group is undone: nothing is sent on a state that is not known."""
    ledger.enrol(campaign, people(2))
    first, second = ledger.unsent(campaign)
    ledger.record("a", None, [intent(first.id)])
    with pytest.raises(LedgerError, match="not in the state"):
        ledger.record("a", None, [intent(second.id), intent(first.id)])
    assert states(ledger, campaign) == {"in_flight": 1, "pending": 1}
    with pytest.raises(LedgerError, match="not in the state"):
        ledger.record("a", None, [Settlement(second.id, State.ACCEPTED, OK)])


def test_grants_are_remembered_by_account(ledger: SqliteLedger, campaign: CampaignRecord) -> None:
    ledger.enrol(campaign, people(3))
    first, second, third = ledger.unsent(campaign)
    ledger.record("kim@a:465", None, [intent(first.id, 100.0), intent(second.id, 101.0)])
    ledger.record("kim@b:465", None, [intent(third.id, 102.0)])
    assert ledger.grants("kim@a:465", now=200.0) == {"": [(101.0, 2)]}
    assert ledger.grants("kim@a:465", now=86400 + 101.5) == {}
    assert ledger.grants("kim@b:465", now=200.0) == {"": [(102.0, 1)]}


def test_grants_of_one_second_are_one_row(ledger: SqliteLedger, campaign: CampaignRecord) -> None:
    """At their latest time, so that a window is never thought emptier than it is."""
    ledger.enrol(campaign, people(3))
    for at, recipient in zip((100.1, 100.9, 101.0), ledger.unsent(campaign), strict=True):
        ledger.record("a", None, [intent(recipient.id, at)])
    assert ledger.grants("a", now=200.0) == {"": [(100.9, 2), (101.0, 1)]}


def test_a_ledger_that_something_else_holds_is_told(
    path: Path, ledger: SqliteLedger, campaign: CampaignRecord
) -> None:
    ledger._db.execute("PRAGMA busy_timeout = 50")
    other = sqlite3.connect(path, isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    with pytest.raises(LedgerError, match="database is locked"), ledger.enrolling():
        pass
    other.close()


def test_one_run_at_a_time(path: Path, ledger: SqliteLedger) -> None:
    with pytest.raises(LedgerBusyError) as caught:
        SqliteLedger(path)
    assert caught.value.status is ExitStatus.CONTINUE
    ledger.close()
    SqliteLedger(path).close()


def test_whether_a_run_is_under_way_can_be_seen(path: Path) -> None:
    """By anybody, without a trace, and not of a run that is over."""
    assert not is_run_under_way(path) and not list(path.parent.iterdir())
    ledger = SqliteLedger(path)
    assert is_run_under_way(path) and is_run_under_way(path)
    ledger.close()
    assert not is_run_under_way(path)
    path.with_name(f"{path.name}.lock").write_bytes(b"no database" * 99)
    assert not is_run_under_way(path)


def test_a_run_starts_while_somebody_looks(path: Path) -> None:
    SqliteLedger(path).close()
    look = sqlite3.connect(f"{path}.lock", isolation_level=None, check_same_thread=False)
    look.executescript("BEGIN; SELECT 1 FROM sqlite_master;")
    seen = threading.Timer(0.05, look.close)
    seen.start()
    SqliteLedger(path).close()
    seen.join()


def test_a_ledger_can_be_read_while_it_is_written(
    path: Path, ledger: SqliteLedger, campaign: CampaignRecord
) -> None:
    ledger.enrol(campaign, people(2))
    with ledger.enrolling():
        ledger.enrol(campaign, people(9))
        view = SqliteView(path)
        assert view.tally(campaign) == {State.PENDING: 2}
        view.close()


def test_the_columns_of_a_report_are_those_of_its_rows(
    path: Path, ledger: SqliteLedger, campaign: CampaignRecord
) -> None:
    """Also if a run enrols others between the two."""
    ledger.enrol(campaign, [row("a@example.com", z="1", a="2"), row("b@example.com", a="3", b="4")])
    view = SqliteView(path)
    assert view.columns(campaign, []) == ["z", "a", "b"]
    ledger.enrol(campaign, [row("c@example.com", c="5")])
    assert [list(told["fields"]) for told in view.report(campaign, [])] == [["z", "a"], ["a", "b"]]
    assert view.columns(campaign, [State.FAILED]) == []
    view.close()
    view = SqliteView(path)
    assert view.columns(campaign, [State.PENDING]) == ["z", "a", "b", "c"]
    view.close()


def test_a_newer_ledger_is_refused_with_words(path: Path) -> None:
    SqliteLedger(path).close()
    sqlite3.connect(path).execute("PRAGMA user_version = 99").connection.close()
    with pytest.raises(LedgerError, match="newer bulkmail"):
        SqliteLedger(path)
    with pytest.raises(LedgerError, match="newer bulkmail"):
        SqliteView(path)


@pytest.mark.parametrize("version", [0, 1, 2, -1])
def test_the_database_of_another_program_is_left_alone(path: Path, version: int) -> None:
    other = sqlite3.connect(path)
    other.execute("CREATE TABLE bookmark (url TEXT)")
    other.execute(f"PRAGMA user_version = {version}")
    other.close()
    content = path.read_bytes()
    for opening in (SqliteLedger, SqliteView, lambda path: SqliteLedger(None, copy_of=path)):
        with pytest.raises(LedgerError, match="a database of another program"):
            opening(path)
    with pytest.raises(LedgerError, match="a database of another program"):
        suppress(path, ["kim@example.com"], "", 0.0)
    assert path.read_bytes() == content


@pytest.mark.parametrize("name", [":memory:", "file:x?mode=memory", "file::memory:"])
def test_a_ledger_is_a_file_whatever_its_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    """SQLite would keep some names in memory, and everyone would get it again."""
    monkeypatch.chdir(tmp_path)
    ledger = SqliteLedger(Path(name))
    ledger.enrol(ledger.campaign("july", 1000.0), people(2))
    ledger.close()
    again = SqliteLedger(Path(name))
    assert states(again, again.campaign("july", 1000.0)) == {"pending": 2}
    again.close()


def test_a_copy_tells_what_would_be_and_changes_nothing(
    path: Path, ledger: SqliteLedger, campaign: CampaignRecord
) -> None:
    """Also while the ledger is in use."""
    ledger.enrol(campaign, people(2))
    copy = SqliteLedger(None, copy_of=path)
    copy.enrol(campaign, people(5))
    assert states(copy, campaign) == {"pending": 5}
    copy.close()
    assert states(ledger, campaign) == {"pending": 2}


def test_a_device_is_no_ledger() -> None:
    with pytest.raises(LedgerError, match="is not a plain file"):
        SqliteView(Path("/dev/null"))


@pytest.mark.parametrize("content", [b"this is no database, but long enough to look at " * 10])
def test_what_is_no_ledger_is_refused_with_words(path: Path, content: bytes) -> None:
    path.write_bytes(content)
    with pytest.raises(LedgerError, match=r"bulkmail\.sqlite: file is not a database"):
        SqliteLedger(path)
    assert path.read_bytes() == content


def test_a_folder_that_does_not_exist_is_told(tmp_path: Path) -> None:
    with pytest.raises(LedgerError, match="unable to open"):
        SqliteLedger(tmp_path / "nowhere" / "bulkmail.sqlite")


def test_commits_are_synced(ledger: SqliteLedger) -> None:
    """synchronous=FULL (2) in WAL mode: a commit that returned survives a power cut."""
    assert ledger._db.execute("PRAGMA synchronous").fetchone() == (2,)
    assert ledger._db.execute("PRAGMA journal_mode").fetchone() == ("wal",)


def test_a_scratch_ledger_leaves_no_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    scratch = SqliteLedger(None)
    campaign = scratch.campaign("july", 1000.0)
    scratch.enrol(campaign, people(3))
    assert states(scratch, campaign) == {"pending": 3}
    scratch.close()
    assert list(tmp_path.iterdir()) == []


# -- groups --------------------------------------------------------------------------------------


async def test_an_intent_is_on_disk_when_it_returns(
    path: Path, ledger: SqliteLedger, campaign: CampaignRecord
) -> None:
    ledger.enrol(campaign, people(1))
    changes = changes_of(ledger, campaign)
    [recipient], _ = await changes.claim(10, 1.0)
    view = SqliteView(path)
    assert await changes.intend([intent(recipient.id)])
    assert view.tally(campaign) == {State.IN_FLIGHT: 1}
    view.close()
    await changes.close()


async def test_changes_that_arrive_during_a_commit_share_the_next(
    ledger: SqliteLedger, campaign: CampaignRecord, monkeypatch: pytest.MonkeyPatch
) -> None:
    ledger.enrol(campaign, people(100))
    changes = changes_of(ledger, campaign)
    groups, first_may_end = [], threading.Event()
    record = ledger.record

    def slow_record(account: str, content_id: int, group: list[Intent | Settlement]) -> None:
        if not groups:
            first_may_end.wait(10)
        groups.append(len(group))
        record(account, content_id, group)

    monkeypatch.setattr(ledger, "record", slow_record)
    recipients, _ = await changes.claim(100, 1.0)
    intents = [asyncio.ensure_future(changes.intend([intent(r.id)])) for r in recipients[:1]]
    while changes.commits.waiting or changes.commits._task is None:
        await asyncio.sleep(0)
    intents += [asyncio.ensure_future(changes.intend([intent(r.id)])) for r in recipients[1:]]
    while len(changes.commits.waiting) < 99:
        await asyncio.sleep(0)
    first_may_end.set()
    assert all(await asyncio.gather(*intents))
    assert groups == [1, 99]
    await changes.close()


def every_claim(
    claims: Claims, limit: int, now: float = 2.0, domain: str | None = None
) -> list[int]:
    """The ids of all that can be claimed, in their order."""
    ids, is_last = [], False
    while not is_last:
        recipients, is_last = claims.take(limit, now, domain)
        ids += [recipient.id for recipient in recipients]
    return ids


def ids_of(ledger: SqliteLedger, campaign: CampaignRecord) -> list[int]:
    return [recipient.id for recipient in ledger.unsent(campaign)]


def defer(ledger: SqliteLedger, ids: Sequence[int], due_at: Callable[[int], float]) -> None:
    ledger.record("a", None, [intent(id_) for id_ in ids])
    ledger.record(
        "a", None, [Settlement(id_, State.DEFERRED, LATER, due_at=due_at(id_)) for id_ in ids]
    )


@pytest.mark.parametrize("limit", [1, 10, 1000])
def test_everyone_is_claimed_once(
    ledger: SqliteLedger, campaign: CampaignRecord, limit: int
) -> None:
    ledger.enrol(campaign, people(25))
    assert every_claim(ledger.claims(campaign), limit) == ids_of(ledger, campaign)


@pytest.mark.parametrize("due_at", [lambda id_: 1.0, lambda id_: 1 + id_ % 7 / 10])
def test_retries_that_are_due_are_claimed_among_the_others(
    ledger: SqliteLedger, campaign: CampaignRecord, due_at: Callable[[int], float]
) -> None:
    """Half of each claim: neither waits for all of the other. Also where all are due together."""
    ledger.enrol(campaign, people(60))
    ids = ids_of(ledger, campaign)
    defer(ledger, ids[10:30], due_at)
    claimed = every_claim(ledger.claims(campaign), 10)
    assert sorted(claimed) == ids
    assert [id_ in ids[10:30] for id_ in claimed[:40]] == ([True] * 5 + [False] * 5) * 4
    retries = [id_ for id_ in claimed if id_ in ids[10:30]]
    assert retries == sorted(retries, key=lambda id_: (due_at(id_), id_))


def test_who_is_not_due_is_not_claimed_and_told_when(
    ledger: SqliteLedger, campaign: CampaignRecord
) -> None:
    ledger.enrol(campaign, people(3))
    first, second, third = ids_of(ledger, campaign)
    defer(ledger, [first, second], {first: 20.0, second: 10.0}.__getitem__)
    claims = ledger.claims(campaign)
    assert every_claim(claims, 10, now=9.0) == [third]
    assert claims.next_due_at() == 10.0
    assert every_claim(claims, 10, now=10.0) == [second]
    assert claims.next_due_at() == 20.0
    assert every_claim(claims, 10, now=30.0) == [first]
    assert claims.next_due_at() is None


def test_one_that_was_due_and_released_is_due_again_and_not_claimed_again(
    ledger: SqliteLedger, campaign: CampaignRecord
) -> None:
    """Not in this run, which has it in memory; in the next one."""
    ledger.enrol(campaign, people(2))
    first, second = ids_of(ledger, campaign)
    defer(ledger, [first], lambda id_: 1.0)
    claims = ledger.claims(campaign)
    assert [r.id for r in claims.take(1, 2.0)[0]] == [first]
    ledger.record("a", None, [intent(first)])
    ledger.record("a", None, [Settlement(first, State.PENDING, Outcome(Phase.MAIL, None, "lost"))])
    assert ledger.tally(campaign) == {State.DEFERRED: 1, State.PENDING: 1}
    assert every_claim(claims, 10) == [second]
    assert every_claim(ledger.claims(campaign), 10) == [first, second]


async def test_who_is_deferred_but_not_committed_is_not_passed_over(
    ledger: SqliteLedger, campaign: CampaignRecord
) -> None:
    """A claim finds nobody who is due after one that it cannot find yet."""
    ledger.enrol(campaign, people(3))
    first, second, _ = ids_of(ledger, campaign)
    defer(ledger, [second], lambda id_: 5.0)
    changes = changes_of(ledger, campaign)
    await changes.intend([intent(first)])
    changes.settle(Settlement(first, State.DEFERRED, LATER, due_at=4.0))
    claimed = [r.id for r in (await changes.claim(10, 6.0))[0]]
    claimed += [r.id for r in (await changes.claim(10, 6.0))[0]]
    assert claimed == [ids_of(ledger, campaign)[2], first, second]
    await changes.close()


def test_a_domain_apart_is_claimed_by_itself(
    ledger: SqliteLedger, campaign: CampaignRecord
) -> None:
    """From where the others were; each person once, in their order, retries too."""
    rows = [Row(f"p{n}@{'a' if n % 3 else 'b'}.example", {}, f"m.csv:{n}") for n in range(90)]
    ledger.enrol(campaign, rows)
    everyone = {r.id: r.domain for r in ledger.unsent(campaign)}
    ids = list(everyone)
    defer(ledger, ids[60:80], lambda id_: 1.0)
    claims = ledger.claims(campaign)
    before = [r.id for r in claims.take(20, 2.0)[0]]
    claims.set_apart("a.example")
    others, apart = every_claim(claims, 7), every_claim(claims, 7, domain="a.example")
    assert sorted(before + others + apart) == ids
    assert {everyone[id_] for id_ in others} == {"b.example"}
    assert {everyone[id_] for id_ in apart} == {"a.example"}


def test_a_claim_looks_at_a_bounded_part_of_what_must_wait(
    ledger: SqliteLedger, campaign: CampaignRecord
) -> None:
    """A list sorted by domain: thousands that are apart stand before the first of the others."""
    domains = ["a.example"] * 3000 + ["b.example"] * 3
    ledger.enrol(campaign, (Row(f"p{n}@{d}", {}, "m") for n, d in enumerate(domains)))
    claims = ledger.claims(campaign)
    claims.set_apart("a.example")
    portions = [claims.take(100, 2.0) for _ in range(4)]
    assert [(len(found), is_last) for found, is_last in portions] == [
        (0, False), (0, False), (0, False), (3, True)]  # fmt: skip


def test_claims_read_no_row_that_is_not_meant(
    ledger: SqliteLedger, campaign: CampaignRecord
) -> None:
    """Both are searches of an index that holds all they ask for."""
    ledger.enrol(campaign, people(1))
    plans: list[str] = []

    def explain(statement: str) -> None:
        if "FROM recipient INDEXED BY" in statement:
            ledger._db.set_trace_callback(None)
            plans.extend(r[3] for r in ledger._db.execute(f"EXPLAIN QUERY PLAN {statement}"))
            ledger._db.set_trace_callback(explain)

    claims = ledger.claims(campaign)
    ledger._db.set_trace_callback(explain)
    claims.take(10, 2.0)
    claims.set_apart("example.com")
    claims.take(10, 2.0, "example.com")
    ledger._db.set_trace_callback(None)
    assert len(plans) == 6
    assert all(plan.startswith("SEARCH recipient USING COVERING INDEX") for plan in plans), plans


def test_grants_of_a_domain_are_remembered_beside_all(
    ledger: SqliteLedger, campaign: CampaignRecord
) -> None:
    ledger.enrol(campaign, people(3))
    first, second, third = ids_of(ledger, campaign)
    rated = [Intent(id_, at, at, "<m@x>", "a.example") for id_, at in ((first, 1.0), (second, 5.0))]
    ledger.record("a", None, rated)
    ledger.record("a", None, [intent(third, 9.0)])
    assert ledger.grants("a", now=10.0) == {
        "": [(5.0, 2), (9.0, 1)], "a.example": [(5.0, 2)]}  # fmt: skip


def test_one_that_was_released_can_be_decided_later(
    ledger: SqliteLedger, campaign: CampaignRecord
) -> None:
    """Its attempt counts then; who is accepted meanwhile cannot be."""
    ledger.enrol(campaign, people(2))
    first, second = ids_of(ledger, campaign)
    refused = Outcome(Phase.DOT, Reply(554, "5.7.1", "5.7.1 spam"))
    ledger.record("a", None, [intent(first, 100.0), intent(second)])
    ledger.record("a", None, [Settlement(first, State.PENDING, refused),
                        Settlement(second, State.ACCEPTED, OK)])  # fmt: skip
    ledger.record("a", None, [Settlement(first, State.FAILED, refused, of_released=True)])
    [row] = ledger._db.execute(
        "SELECT state, attempts, first_attempt_at, reason FROM recipient WHERE id = ?", (first,)
    )
    assert row == ("failed", 1, 100.0, "554 5.7.1 spam")
    with pytest.raises(LedgerError):
        ledger.record("a", None, [Settlement(second, State.FAILED, refused, of_released=True)])


async def test_after_a_failed_commit_nothing_is_intended(
    path: Path, ledger: SqliteLedger, campaign: CampaignRecord
) -> None:
    """A disk that takes no more: a real one, made by SQLite's own limit on the number of pages."""
    ledger.enrol(campaign, people(600))
    changes = changes_of(ledger, campaign)
    failures = []
    changes.commits.on_failure = lambda: failures.append(str(changes.commits.failure))
    recipients, _ = await changes.claim(600, 1.0)
    pages = ledger._db.execute("PRAGMA page_count").fetchone()[0]
    ledger._db.execute(f"PRAGMA max_page_count = {pages + 2}")
    granted = [
        await changes.intend([intent(r.id)._replace(message_id="<x@x>" * 100)]) for r in recipients
    ]
    assert granted[0] and not granted[-1]
    assert "disk is full" in failures[0] and len(failures) == 1
    assert granted == sorted(granted, reverse=True), "once refused, always refused"
    await changes.close()
    assert ledger.tally(campaign)[State.IN_FLIGHT] == sum(granted)


def test_the_lock_ends_with_the_process(path: Path) -> None:
    """Also when it is killed: the lock is the operating system's."""
    code = "import sys; from pathlib import Path; from bulkmail.ledger import SqliteLedger;"
    code += "ledger = SqliteLedger(Path(sys.argv[1])); print('held', flush=True); input()"
    with subprocess.Popen(
        [sys.executable, "-c", code, str(path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as other:
        assert other.stdout is not None and other.stdout.readline() == b"held\n"
        with pytest.raises(LedgerBusyError):
            SqliteLedger(path)
        other.kill()
    SqliteLedger(path).close()


# -- where it lies -------------------------------------------------------------------------------

MOUNTS = """\
22 1 254:0 / / rw,relatime shared:1 - ext4 /dev/vda rw
30 22 0:40 / /net/club rw shared:5 master:2 - nfs4 server:/club rw,vers=4.2
31 30 0:41 / /net/club/local rw - ext4 /dev/vdb rw
32 22 0:42 / /media/Our\\040files rw - cifs //server/files rw
33 22 0:43 / /mnt/sshfs rw - fuse.sshfs kim@server:/ rw
34 22 0:44 / /mnt/fuse rw - fuse.portal portal rw
"""


@pytest.mark.parametrize(
    ("path", "kind"),
    [
        ("/home/kim/bulkmail.sqlite", None),
        ("/net/club/bulkmail.sqlite", "nfs4"),
        ("/net/club/deep/down/bulkmail.sqlite", "nfs4"),
        ("/net/club/local/bulkmail.sqlite", None),
        ("/net/clubs/bulkmail.sqlite", None),
        ("/media/Our files/bulkmail.sqlite", "cifs"),
        ("/mnt/sshfs/bulkmail.sqlite", "fuse.sshfs"),
        ("/mnt/fuse/bulkmail.sqlite", None),
    ],
)
def test_a_network_share_is_known(tmp_path: Path, path: str, kind: str | None) -> None:
    """By Linux's table of mounts: one as it would be, since no test can mount a share."""
    mounts = tmp_path / "mountinfo"
    mounts.write_text(MOUNTS)
    assert network_share(Path(path), mounts) == kind
    assert network_share(Path(path), tmp_path / "none") is None


def test_a_ledger_on_a_network_share_is_refused_with_words(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("bulkmail.ledger.opening.network_share", lambda path: "nfs4")
    with pytest.raises(LedgerError, match=r"lies on a network share \(nfs4\).*ledger: /var/lib"):
        SqliteLedger(path)
    assert not path.exists()


def test_who_asks_a_run_to_stop_is_heard_from_its_first_instant_on(tmp_path: Path) -> None:
    """Not only once it says that it sends; an earlier run's request is not for this one."""
    path = tmp_path / "bulkmail.sqlite"
    killed = SqliteLedger(path)
    record = killed.campaign("july", 1000.0)
    killed.begin_run(record, time.time())
    assert ask_to_stop(path, record, time.time()) and killed.is_asked_to_stop(record)
    killed.close()
    assert not ask_to_stop(path, record, time.time())
    ledger = SqliteLedger(path)
    assert not ledger.is_asked_to_stop(record)
    assert ask_to_stop(path, record, time.time()) and ledger.is_asked_to_stop(record)
    ledger.close()
