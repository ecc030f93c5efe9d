"""What every ledger promises, wherever it is kept: the same is enrolled, recorded, decided, told."""

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import pytest

from bulkmail.errors import LedgerError
from bulkmail.ledger import CampaignRecord, Ledger, LedgerView
from bulkmail.model import Intent, Outcome, Phase, Reply, Row, Settlement, State

from .kept import PLACES, SHARED, Kept, KeptByPostgres, KeptBySqlite, due

OK = Outcome(Phase.DOT, Reply(250, "2.0.0", "2.0.0 ok"))
LATER = Outcome(Phase.RCPT, Reply(450, "4.2.1", "4.2.1 later"))
LOST = Outcome(Phase.DOT, None, "the connection was lost")


def row(address: str, line: int = 2, fault: str | None = None, **fields: str) -> Row:
    return Row(address, fields, f"m.csv:{line}", fault)


def people(number: int) -> list[Row]:
    return [row(f"p{index}@example.com", index + 2, name=f"P {index}") for index in range(number)]


def intent(recipient_id: int, at: float = 1000.0) -> Intent:
    return Intent(recipient_id, at, at, f"<{recipient_id}@example.org>")


def opened(place: str, request: pytest.FixtureRequest) -> Kept:
    if place == "postgres":
        return KeptByPostgres(request.getfixturevalue("postgres_url"))
    folder: Path = request.getfixturevalue("tmp_path")
    return KeptBySqlite(folder / "bulkmail.sqlite" if place == "file" else None)


@pytest.fixture(params=PLACES)
def kept(request: pytest.FixtureRequest) -> Iterator[Kept]:
    kept = opened(request.param, request)
    yield kept
    kept.close()


where_others_look = pytest.mark.parametrize("kept", SHARED, indirect=True)


@pytest.fixture
def ledger(kept: Kept) -> Ledger:
    return kept.ledger


@pytest.fixture
def campaign(ledger: Ledger) -> CampaignRecord:
    return ledger.campaign("july", 1000.0)


def states(ledger: Ledger | LedgerView, campaign: CampaignRecord) -> dict[str, int]:
    return {str(state): number for state, number in ledger.tally(campaign).items()}


def ids_of(ledger: Ledger, campaign: CampaignRecord) -> list[int]:
    return [recipient.id for recipient in ledger.unsent(campaign)]


def defer(kept: Kept, ids: Sequence[int], due_at: Callable[[int], float]) -> None:
    kept.record(None, [intent(id_) for id_ in ids])
    kept.record(None, [Settlement(id_, State.DEFERRED, LATER, due_at=due_at(id_)) for id_ in ids])


# -- enrolling, sending, deciding ----------------------------------------------------------------


def test_enrolling_filters_and_tells(kept: Kept, ledger: Ledger, campaign: CampaignRecord) -> None:
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
    kept: Kept, ledger: Ledger, campaign: CampaignRecord
) -> None:
    """Who has it keeps it; who is new is added; who is pending gets the new data."""
    ledger.enrol(campaign, people(2))
    first, second = ledger.unsent(campaign)
    kept.record(None, [intent(first.id)])
    kept.record(None, [Settlement(first.id, State.ACCEPTED, OK)])
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
    kept: Kept, ledger: Ledger, campaign: CampaignRecord
) -> None:
    ledger.enrol(campaign, people(3))
    assert ledger.enrol(campaign, people(2)).removed == 1
    assert ledger.cancel_removed(campaign) == 1
    assert states(ledger, campaign) == {"pending": 2, "cancelled": 1}
    assert ledger.enrol(campaign, people(3)).removed == 0
    assert states(ledger, campaign) == {"pending": 3}, "put back, they are sent to"


def test_who_was_deferred_cancelled_and_put_back_is_claimed_with_the_new_data(
    kept: Kept, ledger: Ledger, campaign: CampaignRecord
) -> None:
    ledger.enrol(campaign, people(1))
    [recipient] = due(ledger, campaign, 0.0)
    kept.record(None, [intent(recipient.id)])
    kept.record(None, [Settlement(recipient.id, State.DEFERRED, LATER, due_at=9e9)])
    ledger.enrol(campaign, [row("other@example.com")])
    ledger.cancel_removed(campaign)
    ledger.enrol(campaign, [row("p0@example.com", name="New"), row("other@example.com")])
    claimed = due(ledger, campaign, 0.0)
    assert [(r.address, dict(r.fields)) for r in claimed] == [
        ("p0@example.com", {"name": "New"}),
        ("other@example.com", {}),
    ]


def test_whoever_is_excluded_is_suppressed_and_told_why(
    kept: Kept, ledger: Ledger, campaign: CampaignRecord
) -> None:
    found = ledger.enrol(campaign, people(3), [("P1@example.com", "stands in out.csv:4")])
    assert (found.recipients, found.suppressed, found.duplicates) == (2, 1, 0)
    assert found.filtered == [("m.csv:3", State.SUPPRESSED, "stands in out.csv:4")]
    assert states(ledger, campaign) == {"pending": 2, "suppressed": 1}
    assert [r.address for r in ledger.unsent(campaign)] == ["p0@example.com", "p2@example.com"]


def test_who_is_excluded_later_gets_no_more_and_who_has_it_keeps_it(
    kept: Kept, ledger: Ledger, campaign: CampaignRecord
) -> None:
    """Deferred and pending become suppressed; accepted stays; taken off, they are pending."""
    ledger.enrol(campaign, people(3))
    first, second, _ = ledger.unsent(campaign)
    kept.record(None, [intent(first.id), intent(second.id)])
    kept.record(None, [Settlement(first.id, State.ACCEPTED, OK)])
    kept.record(None, [Settlement(second.id, State.DEFERRED, LATER, due_at=9e9)])
    everyone = [(f"p{n}@example.com", "left") for n in range(3)]
    assert ledger.enrol(campaign, people(3), everyone).suppressed == 2
    assert states(ledger, campaign) == {"accepted": 1, "suppressed": 2}
    ledger.enrol(campaign, people(3))
    assert states(ledger, campaign) == {"accepted": 1, "pending": 2}
    assert len(due(ledger, campaign, 0.0)) == 2, "also the one that was deferred is claimed"


def test_a_second_row_of_an_excluded_person_is_a_duplicate(
    kept: Kept, ledger: Ledger, campaign: CampaignRecord
) -> None:
    rows = [row("kim@example.com", 2), row("Kim@example.com", 3)]
    found = ledger.enrol(campaign, rows, [("kim@example.com", "left")])
    assert (found.recipients, found.suppressed, found.duplicates) == (0, 1, 1)


def test_one_person_in_two_spellings_of_a_domain(
    kept: Kept, ledger: Ledger, campaign: CampaignRecord
) -> None:
    """An IDN and its A-labels (RFC 5890) are one mailbox, also where it is excluded."""
    rows = [row("kim@예시.example", 2), row("kim@xn--vv4b11d.example", 3)]
    assert ledger.enrol(campaign, rows).duplicates == 1
    assert ledger.enrol(campaign, rows, [("kim@xn--vv4b11d.example", "left")]).suppressed == 1


def test_whoever_left_out_is_listed_for_each_reason(
    kept: Kept, ledger: Ledger, campaign: CampaignRecord
) -> None:
    """Many duplicates do not hide the one address that is wrong."""
    rows = [row("kim@example.com", n) for n in range(2, 40)] + [row("x", 40, fault="no")]
    listed = [place for place, state, _ in ledger.enrol(campaign, rows).filtered
              if state is State.INVALID]  # fmt: skip
    assert listed == ["m.csv:40"]


def test_only_who_is_new_or_changed_is_to_be_proved_again(
    kept: Kept, ledger: Ledger, campaign: CampaignRecord
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


@where_others_look
def test_the_suppression_list(kept: Kept, ledger: Ledger) -> None:
    """It can be changed while a run holds the ledger."""
    assert kept.home.suppress(["Kim@example.com", "lee@example.com"], "asked to", 1000.0) == 2
    assert kept.home.suppress(["kim@EXAMPLE.com", "choi@example.com"], "again", 2000.0) == 1
    assert kept.home.release(["LEE@example.com", "nobody@example.com"]) == 1
    view = kept.view()
    assert list(view.suppressed()) == [
        ("choi@example.com", "again", 2000.0),
        ("Kim@example.com", "asked to", 1000.0),
    ]
    view.close()


@where_others_look
def test_people_of_an_earlier_campaign(
    kept: Kept, ledger: Ledger, campaign: CampaignRecord
) -> None:
    """By state, with all their fields, in order, however many."""
    ledger.enrol(campaign, people(1200))
    ids = [r.id for r in ledger.unsent(campaign)][::2]
    kept.record(None, [intent(id_) for id_ in ids])
    kept.record(None, [Settlement(id_, State.FAILED, LATER) for id_ in ids])
    view = kept.view()
    assert list(view.people(campaign, [State.FAILED])) == people(1200)[::2]
    view.close()


def test_a_campaign_that_has_another_name_but_the_same_content_and_people(
    kept: Kept, ledger: Ledger, campaign: CampaignRecord
) -> None:
    ledger.enrol(campaign, people(3))
    content = ledger.contents.id_of(campaign, "content")
    sent = ids_of(ledger, campaign)[:2]
    other = ledger.campaign("august", 2000.0)
    ledger.enrol(other, [*people(3), row("new@example.com")])
    assert ledger.contents.sent_before(other, "content") is None, "nobody has it yet"
    kept.record(content, [intent(id_) for id_ in sent])
    kept.record(content, [Settlement(sent[0], State.ACCEPTED, OK)])
    assert ledger.contents.sent_before(other, "content") == ("july", 2), "in flight may have it"
    assert ledger.contents.sent_before(other, "other content") is None
    assert ledger.contents.sent_before(campaign, "content") is None


def test_who_has_which_content(kept: Kept, ledger: Ledger, campaign: CampaignRecord) -> None:
    """By what each was given, not by what the campaign was last: it may have changed and back."""
    ledger.enrol(campaign, people(5))
    first, second, third, fourth, _ = ids_of(ledger, campaign)
    old, new = (ledger.contents.id_of(campaign, digest) for digest in ("old", "new"))
    assert ledger.contents.id_of(campaign, "old") == old
    kept.record(old, [intent(first), intent(second)])
    kept.record(old, [Settlement(first, State.ACCEPTED, OK),
                             Settlement(second, State.FAILED, LATER)])  # fmt: skip
    assert (ledger.contents.who_has(campaign, old), ledger.contents.is_proven(campaign, old)) == (
        (1, 0),
        True,
    )
    assert (ledger.contents.who_has(campaign, new), ledger.contents.is_proven(campaign, new)) == (
        (0, 1),
        False,
    )
    kept.record(new, [intent(third), intent(fourth)])
    kept.record(new, [Settlement(third, State.IN_DOUBT, LATER),
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
    kept: Kept, ledger: Ledger, campaign: CampaignRecord
) -> None:
    """Also who may have it from there: an event of doubt is never forgotten."""
    ledger.enrol(campaign, people(2))
    defer(kept, ids_of(ledger, campaign), lambda id_: 1.0)
    other = ledger.campaign("august", 2000.0)
    ledger.enrol(other, people(2))
    content = ledger.contents.id_of(other, "content")
    got, doubtful = ids_of(ledger, other)
    kept.record(content, [intent(got), intent(doubtful)])
    kept.record(content, [Settlement(got, State.ACCEPTED, OK),
                                 Settlement(doubtful, State.IN_DOUBT, OK)])  # fmt: skip
    assert ledger.contents.sent_before(campaign, "content") == ("august", 2)


def test_who_was_meant_again_stays_so(kept: Kept, ledger: Ledger, campaign: CampaignRecord) -> None:
    """Also with other data, and when sent to again after a doubt; who comes back is not meant."""
    ledger.enrol(campaign, people(3))
    content = ledger.contents.id_of(campaign, "content")
    kept.record(content, [intent(id_) for id_ in ids_of(ledger, campaign)])
    other = ledger.campaign("august", 2000.0)
    ledger.enrol(other, people(3))
    ledger.contents.set_meant_again(other, "content")
    first, *_ = ids_of(ledger, other)
    kept.record(ledger.contents.id_of(other, "content"), [intent(first)])
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
    kept: Kept, ledger: Ledger, campaign: CampaignRecord
) -> None:
    """Sent to again as the campaign said then, refused for now, and held as it says now."""
    ledger.enrol(campaign, people(1))
    [id_] = ids_of(ledger, campaign)
    content = ledger.contents.id_of(campaign, "content")
    kept.record(content, [intent(id_)])
    ledger.recover(campaign, 5.0)
    ledger.enrol(campaign, people(1))
    ledger.resend_in_doubt(campaign, 6.0)
    kept.record(content, [intent(id_)])
    kept.record(content, [Settlement(id_, State.DEFERRED, LATER, due_at=9e9)])
    assert ledger.contents.who_has(campaign, content) == (1, 0)
    ledger.recover(campaign, 5.0)
    assert states(ledger, campaign) == {"in_doubt": 1}
    ledger.enrol(campaign, people(1), excluded=[("p0@example.com", "suppressed")])
    assert states(ledger, campaign) == {"in_doubt": 1}
    ledger.enrol(campaign, people(1))
    ledger.resend_in_doubt(campaign, 6.0)
    assert states(ledger, campaign) == {"deferred": 1}, "due when it was due"
    assert [r.due_at for r in ledger.unsent(campaign)] == [9e9]


def test_a_decision_counts_for_one_doubt(
    kept: Kept, ledger: Ledger, campaign: CampaignRecord
) -> None:
    """After a new one the campaign says again what becomes of them."""
    ledger.enrol(campaign, people(1))
    [id_] = ids_of(ledger, campaign)
    content = ledger.contents.id_of(campaign, "content")
    kept.record(content, [intent(id_)])
    ledger.recover(campaign, 5.0)
    with ledger.deciding(campaign, [State.IN_DOUBT]) as decided:
        assert decided.retry(6.0) == 1
    ledger.recover(campaign, 7.0)
    assert states(ledger, campaign) == {"pending": 1}, "that was decided"
    kept.record(content, [intent(id_)])
    kept.record(content, [Settlement(id_, State.IN_DOUBT, OK)])
    ledger.enrol(campaign, people(1))
    ledger.resend_in_doubt(campaign, 8.0)
    ledger.recover(campaign, 9.0)
    assert states(ledger, campaign) == {"in_doubt": 1}


@where_others_look
def test_an_enrolment_that_fails_leaves_nothing(kept: Kept, ledger: Ledger) -> None:
    with pytest.raises(RuntimeError), ledger.enrolling():
        campaign = ledger.campaign("july", 1000.0)
        ledger.enrol(campaign, people(5))
        raise RuntimeError("the answer was no")
    view = kept.view()
    assert view.campaigns() == []
    view.close()


def test_the_way_of_a_recipient(kept: Kept, ledger: Ledger, campaign: CampaignRecord) -> None:
    ledger.enrol(campaign, people(1))
    [recipient] = due(ledger, campaign, 0.0)
    kept.record(None, [intent(recipient.id, 1000.0)])
    assert states(ledger, campaign) == {"in_flight": 1}
    assert due(ledger, campaign, 0.0) == []
    kept.record(None, [Settlement(recipient.id, State.DEFERRED, LATER, due_at=1300.0)])
    assert due(ledger, campaign, 1299.0) == []
    [again] = due(ledger, campaign, 1300.0)
    assert (again.attempts, again.first_attempt_at) == (1, 1000.0)
    kept.record(None, [intent(recipient.id, 1300.0)])
    kept.record(None, [Settlement(recipient.id, State.ACCEPTED, OK)])
    assert states(ledger, campaign) == {"accepted": 1}


def test_a_released_recipient_is_pending_and_no_attempt_counts(
    kept: Kept, ledger: Ledger, campaign: CampaignRecord
) -> None:
    """Nothing of its message was ever sent: the next try is the first, with its own date."""
    ledger.enrol(campaign, people(1))
    [recipient] = due(ledger, campaign, 0.0)
    kept.record(None, [intent(recipient.id)])
    lost = Outcome(Phase.MAIL, None, "lost")
    kept.record(None, [Settlement(recipient.id, State.PENDING, lost)])
    [again] = due(ledger, campaign, 0.0)
    assert (again.attempts, again.first_attempt_at) == (0, None)


def test_what_was_in_flight_when_a_run_died_is_in_doubt(
    kept: Kept, ledger: Ledger, campaign: CampaignRecord
) -> None:
    ledger.enrol(campaign, people(3))
    ids = [recipient.id for recipient in ledger.unsent(campaign)]
    kept.record(None, [intent(ids[0]), intent(ids[1])])
    kept.record(None, [Settlement(ids[0], State.ACCEPTED, OK)])
    after = kept.reopened()
    assert after.recover(campaign, 5.0) == 1
    assert states(after, campaign) == {"accepted": 1, "in_doubt": 1, "pending": 1}
    assert [recipient.id for recipient in after.unsent(campaign)] == [ids[2]]


def test_a_state_that_something_else_changed_is_an_error(
    kept: Kept, ledger: Ledger, campaign: CampaignRecord
) -> None:
    """All of the group is undone: nothing is sent on a state that is not known."""
    ledger.enrol(campaign, people(2))
    first, second = ledger.unsent(campaign)
    kept.record(None, [intent(first.id)])
    with pytest.raises(LedgerError):
        kept.record(None, [intent(second.id), intent(first.id)])
    assert states(ledger, campaign) == {"in_flight": 1, "pending": 1}
    with pytest.raises(LedgerError):
        kept.record(None, [Settlement(second.id, State.ACCEPTED, OK)])


@where_others_look
def test_a_ledger_can_be_read_while_it_is_written(
    kept: Kept, ledger: Ledger, campaign: CampaignRecord
) -> None:
    ledger.enrol(campaign, people(2))
    with ledger.enrolling():
        ledger.enrol(campaign, people(9))
        view = kept.view()
        assert view.tally(campaign) == {State.PENDING: 2}
        view.close()


@where_others_look
def test_the_columns_of_a_report_are_those_of_its_rows(
    kept: Kept, ledger: Ledger, campaign: CampaignRecord
) -> None:
    """Also if a run enrols others between the two."""
    ledger.enrol(campaign, [row("a@example.com", z="1", a="2"), row("b@example.com", a="3", b="4")])
    view = kept.view()
    assert view.columns(campaign, []) == ["z", "a", "b"]
    ledger.enrol(campaign, [row("c@example.com", c="5")])
    assert [list(told["fields"]) for told in view.report(campaign, [])] == [["z", "a"], ["a", "b"]]
    assert view.columns(campaign, [State.FAILED]) == []
    view.close()
    view = kept.view()
    assert view.columns(campaign, [State.PENDING]) == ["z", "a", "b", "c"]
    view.close()


@where_others_look
def test_a_copy_tells_what_would_be_and_changes_nothing(
    kept: Kept, ledger: Ledger, campaign: CampaignRecord
) -> None:
    """Also while the ledger is in use."""
    ledger.enrol(campaign, people(2))
    copy = kept.home.scratch("july", "content")
    copy.enrol(campaign, people(5))
    assert states(copy, campaign) == {"pending": 5}
    copy.close()
    assert states(ledger, campaign) == {"pending": 2}


def test_one_that_was_released_can_be_decided_later(
    kept: Kept, ledger: Ledger, campaign: CampaignRecord
) -> None:
    """Its attempt counts then; who is accepted meanwhile cannot be."""
    ledger.enrol(campaign, people(2))
    first, second = ids_of(ledger, campaign)
    refused = Outcome(Phase.DOT, Reply(554, "5.7.1", "5.7.1 spam"))
    kept.record(None, [intent(first, 100.0), intent(second)])
    kept.record(None, [Settlement(first, State.PENDING, refused),
                        Settlement(second, State.ACCEPTED, OK)])  # fmt: skip
    kept.record(None, [Settlement(first, State.FAILED, refused, of_released=True)])
    [row] = ledger._db.execute(
        "SELECT state, attempts, first_attempt_at, reason FROM recipient WHERE id = ?", (first,)
    )
    assert row == ("failed", 1, 100.0, "554 5.7.1 spam")
    with pytest.raises(LedgerError):
        kept.record(None, [Settlement(second, State.FAILED, refused, of_released=True)])


@pytest.mark.parametrize(
    "cell",
    [
        *("\0", "\\u0000", "\\\\0", "\\N", "\\.", "\t\n\r\\", "\x01\x7f\x85\u2028", "\ufeff\ufffd"),
        *("𝒦\U0010ffff", "'\"$$;--", "?%s%(name)s{}", "x" * 1_000_000),
    ],
)
def test_a_cell_may_hold_any_text(ledger: Ledger, campaign: CampaignRecord, cell: str) -> None:
    rows = [row("kim@example.com", name=cell, **{cell[:9]: "x"}), row(cell, 3, fault="no address")]
    if "\0" in cell:
        rows.pop()  # no source has it in an address
    assert ledger.enrol(campaign, rows).recipients == 1
    [found] = ledger.unsent(campaign)
    assert dict(found.fields) == dict(rows[0].fields)
    assert ledger.contents.sent_before(campaign, "content", ["name"]) is None
    assert states(ledger, campaign) == {"pending": 1, **({"invalid": 1} if rows[1:] else {})}


def test_who_has_the_same_text_in_other_cells_has_another_message(
    kept: Kept, ledger: Ledger, campaign: CampaignRecord
) -> None:
    """None is not an empty one; a NUL is a text as any."""
    texts = ["", "\0", "\\u0000", "null", "é"]
    rows = [row(f"p{n}@example.com", **({"name": t} if n else {})) for n, t in enumerate(texts)]
    ledger.enrol(campaign, rows)
    kept.record(
        ledger.contents.id_of(campaign, "content"),
        [intent(id_) for id_ in ids_of(ledger, campaign)],
    )
    other = ledger.campaign("august", 2000.0)
    ledger.enrol(other, rows)
    assert ledger.contents.sent_before(other, "content", ["name"]) == ("july", 5)
    ledger.enrol(
        other, [row(r.address, name=t) for r, t in zip(rows, texts[-1:] + texts, strict=False)]
    )
    assert ledger.contents.sent_before(other, "content", ["name"]) is None
    assert ledger.contents.sent_before(other, "content", ["title"]) == ("july", 5)


def test_rows_stay_in_their_order_also_those_that_are_left_out(
    kept: Kept, ledger: Ledger, campaign: CampaignRecord
) -> None:
    rows = [row(a, n, fault) for n, (a, fault) in enumerate(
        [("b@x.example", None), ("?", "no"), ("B@x.example", None), ("a@x.example", None)])]  # fmt: skip
    for _ in range(2):
        ledger.enrol(campaign, rows)
        told = ledger._db.execute("SELECT address FROM recipient ORDER BY id").fetchall()
    assert told == [("b@x.example",), ("a@x.example",), ("?",), ("B@x.example",)]


def test_who_is_left_out_is_told_by_the_row_of_this_reading(
    kept: Kept, ledger: Ledger, campaign: CampaignRecord
) -> None:
    """Whatever the spelling was when they were sent to, and where rows share a place."""
    ledger.enrol(campaign, people(2))
    defer(kept, ids_of(ledger, campaign), lambda id_: 1.0)
    rows = [row("P0@example.com", 7), row("p1@example.com", 7), row("P1@example.com", 7)]
    found = ledger.enrol(campaign, rows, [("p0@example.com", "left"), ("p0@example.com", "again")])
    assert found.filtered == [
        ("m.csv:7", State.SUPPRESSED, "left"),
        ("m.csv:7", State.DUPLICATE, "the same person stands above"),
    ]


def test_a_rehearsal_that_is_finished_is_forgotten(
    kept: Kept, ledger: Ledger, campaign: CampaignRecord
) -> None:
    ledger.enrol(campaign, people(1))
    kept.record(None, [intent(id_) for id_ in ids_of(ledger, campaign)])
    ledger.forget_finished("july")
    assert ledger.known("july") is not None, "somebody is under way"
    ledger.recover(campaign, 5.0)
    ledger.forget_finished("july")
    assert ledger.known("july") is None
    assert ledger.campaign("july", 1000.0).seed != campaign.seed


def test_events_are_told_with_times(kept: Kept, ledger: Ledger, campaign: CampaignRecord) -> None:
    ledger.enrol(campaign, people(2))
    first, _ = ids_of(ledger, campaign)
    kept.record(None, [intent(first)])
    kept.record(None, [Settlement(first, State.FAILED, LATER, at=1001.0)])
    with ledger.deciding(campaign, [State.FAILED], ["P0@example.com"]) as decided:
        assert decided.retry(1002.5) == 1
    if not hasattr(kept, "home"):
        return
    view = kept.view()
    told, other = view.report(campaign, [])
    assert other["events"] == []
    assert repr(told["events"]) == (
        "[{'at': 1001.0, 'what': 'failed', 'attempt': 1, 'begun_at': 1000.0, 'phase': 'rcpt',"
        " 'reply': '450 4.2.1 later', 'reason': '450 4.2.1 later'},"
        " {'at': 1002.5, 'what': 'retry', 'attempt': 0, 'begun_at': None, 'phase': '',"
        " 'reply': '', 'reason': ''}]"
    )
    view.close()


def test_what_approves_a_campaign_is_the_same_in_any_ledger(
    kept: Kept, ledger: Ledger, campaign: CampaignRecord
) -> None:
    """Also when it was enrolled in another order before, and some were sent to."""
    rows = [row("é@example.com", name="𝒦"), row("z@example.com"), row("A@예시.example", a="\0")]
    ledger.enrol(campaign, [*rows[::-1], row("gone@example.com")])
    kept.record(None, [intent(ids_of(ledger, campaign)[0])])
    ledger.enrol(campaign, [*rows, row("left@example.com"), row("?", fault="no")],
                 [("left@example.com", "left")])  # fmt: skip
    assert ledger.people_digest(campaign) == (
        "682c33b7e0496941c51c745c1ec26df49502fe460de4c7de9e7b2c795632feea"
    )


def test_whoever_is_read_again_follows_the_sources_unless_sent_to(
    kept: Kept, ledger: Ledger, campaign: CampaignRecord
) -> None:
    """In another spelling, with other data; and one whom a person meant to be sent to despite a
    doubt is excluded now.
    """
    names = ["pending", "deferred", "accepted", "failed", "doubtful", "cancelled", "meant", "same"]
    rows = [row(f"{name}@example.com", name="old") for name in names]
    ledger.enrol(campaign, rows)
    ids = dict(zip(names, ids_of(ledger, campaign), strict=True))
    for recipient in ledger.unsent(campaign):
        ledger.contents.set_files_digest(recipient, "files")
    tried = {
        **dict.fromkeys(["deferred", "cancelled"], State.DEFERRED),
        **dict.fromkeys(["doubtful", "meant"], State.IN_DOUBT),
        "accepted": State.ACCEPTED,
        "failed": State.FAILED,
    }
    kept.record(None, [intent(ids[name]) for name in tried])
    kept.record(
        None,
        [
            Settlement(ids[name], state, LOST if state is State.IN_DOUBT else LATER, due_at)
            for name, state in tried.items()
            for due_at in [9e9 if state is State.DEFERRED else 0.0]
        ],
    )
    with ledger.deciding(campaign, [State.IN_DOUBT], ["meant@example.com"]) as decided:
        assert decided.retry(1001.0) == 1
    ledger.enrol(campaign, [r for r in rows if r.address != "cancelled@example.com"])
    assert ledger.cancel_removed(campaign) == 1
    again = [row(f"{name.upper()}@example.com", name="new") for name in names[:-1]]
    ledger.enrol(campaign, [*again, rows[-1]], [("meant@example.com", "left")])
    told = ledger._db.execute(
        "SELECT address, state, fields, files_digest, attempts, changed_reading, added_reading,"
        " consented, due_at, first_attempt_at FROM recipient ORDER BY id"
    ).fetchall()
    new, old = '{"name":"new"}', '{"name":"old"}'
    assert [tuple(one) for one in told] == [
        ("PENDING@example.com", "pending", new, "", 0, 3, 1, 0, 0.0, None),
        ("deferred@example.com", "deferred", new, "", 1, 3, 1, 0, 9e9, 1000.0),
        ("accepted@example.com", "accepted", old, "", 1, 3, 1, 0, 0.0, 1000.0),
        ("failed@example.com", "failed", old, "", 1, 3, 1, 0, 0.0, 1000.0),
        ("doubtful@example.com", "in_doubt", new, "", 1, 3, 1, 0, 0.0, 1000.0),
        ("cancelled@example.com", "pending", new, "", 0, 3, 3, 0, 0.0, None),
        ("meant@example.com", "in_doubt", new, "", 1, 3, 1, 0, 0.0, 1000.0),
        ("same@example.com", "pending", old, "files", 0, 1, 1, 0, 0.0, None),
    ]
    spelled = [row("SAME@example.com", name="old")]
    ledger.enrol(campaign, spelled)
    assert [r.address for r in ledger.unsent(campaign, 3)] == ["SAME@example.com"]


@where_others_look
def test_acceptances_are_told_together_by_time(
    kept: Kept, ledger: Ledger, campaign: CampaignRecord
) -> None:
    ledger.enrol(campaign, people(4))
    times = [1000.0, 1000.5, 1002.25, 1003.0]
    ids = ids_of(ledger, campaign)
    kept.record(None, [intent(id_, at) for id_, at in zip(ids, times, strict=True)])
    kept.record(None, [Settlement(id_, State.ACCEPTED, OK) for id_ in ids])
    view = kept.view()
    assert list(view.accepted_by_time(campaign, 1.0)) == [(1000.5, 2), (1002.25, 1), (1003.0, 1)]
    assert list(view.accepted_by_time(campaign, 1000.0)) == [(1003.0, 4)]
    assert view.acceptances(campaign) == (1000.0, 1003.0, 0, 0)
    view.close()
