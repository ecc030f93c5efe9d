"""The same happens to a ledger in a file and to one in PostgreSQL: they tell the same of it."""

from collections import Counter
from collections.abc import Iterator
from contextlib import closing
from itertools import count
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from bulkmail.cli import report_html
from bulkmail.ledger import CampaignRecord
from bulkmail.model import UNSENT, Intent, Outcome, Phase, Reply, Row, Settlement, State
from bulkmail.report.advice import Shell

from .kept import Kept, KeptByPostgres, KeptBySqlite

ADDRESSES = (
    *("kim@example.com", "Kim@Example.com", "lee@예시.example", "lee@xn--vv4b11d.example"),
    *("ß@b.example", "SS@b.example", "choi@c.example", "jung@c.example", "'\"\\\t;--@d.example"),
)
CELLS = st.sampled_from(
    ["", "Kim", "\\N", "a\tb\nc\\", "\0", "𝒦 💌", '"', "{}", "\r", " ", "x" * 3000]
)
ROWS = st.builds(
    Row,
    st.sampled_from(ADDRESSES),
    st.dictionaries(st.sampled_from(["name", "a b", "'", '"%?s', "예"]), CELLS, max_size=2),
    st.sampled_from(["m.csv:2", "m.csv:3", "other.csv:2"]),
    st.sampled_from([None, None, None, None, "no address", "\\."]),
)
EXCLUDED = st.lists(
    st.tuples(st.sampled_from(ADDRESSES), st.sampled_from(["asked to", "stands in out.csv:4"])),
    max_size=3,
)
OUTCOMES = st.sampled_from(
    [
        *(State.ACCEPTED, State.ACCEPTED, State.FAILED, State.IN_DOUBT),
        *(State.EXPIRED, State.DEFERRED, State.PENDING, State.IN_FLIGHT),
    ]
)
DECIDED = st.sampled_from([State.FAILED, State.EXPIRED, State.IN_DOUBT, State.CANCELLED])
ENROL = st.tuples(st.just("enrol"), st.lists(ROWS, min_size=3, max_size=12), EXCLUDED)
STEPS = st.lists(
    st.one_of(
        ENROL,
        ENROL,
        st.tuples(st.just("send"), st.lists(OUTCOMES, min_size=1, max_size=6)),
        st.tuples(st.just("retry"), DECIDED, st.lists(st.sampled_from(ADDRESSES), max_size=2)),
        st.tuples(st.just("settle"), st.lists(st.sampled_from(ADDRESSES), max_size=2)),
        st.tuples(st.sampled_from(["recover", "resend", "cancel_removed", "cancel", "mark"])),
    ),
    min_size=12,
    max_size=25,
)
NAMES = count()
TABLE = (
    "address, address_key, domain, fields, source, reading, added_reading, changed_reading,"
    " files_digest, state, reason, attempts, in_doubt_events, consented, first_attempt_at,"
    " last_attempt_at, again_at, due_at, phase, reply, message_id"
)


class History:
    """What happens to one campaign of a ledger."""

    def __init__(self, kept: Kept, name: str) -> None:
        self.kept, self.ledger = kept, kept.ledger
        self.now = 1_790_000_000.0
        self.campaign = self.ledger.campaign(name, self.now)
        self.content = self.ledger.contents.id_of(self.campaign, "content")
        self.run = self.ledger.begin_run(self.campaign, self.now)

    def do(self, what: str, *how: Any) -> object:
        self.now += 100.25
        return getattr(self, what)(*how)

    def enrol(self, rows: list[Row], excluded: list[tuple[str, str]]) -> object:
        with self.ledger.enrolling():
            return self.ledger.enrol(self.campaign, rows, excluded)

    def send(self, outcomes: list[State]) -> None:
        """To as many, in their order; who is in flight stays so."""
        for one, state in zip(self.ledger.unsent(self.campaign), outcomes, strict=False):
            self.now += 0.5
            self.kept.record(
                self.content, [Intent(one.id, self.now, self.now, f"<{one.address}>", one.domain)]
            )
            if state is not State.IN_FLIGHT:
                said = Reply(250, "", "ok") if state is State.ACCEPTED else Reply(450, "4.2.1", "?")
                outcome = Outcome(Phase.DOT, None if state is State.IN_DOUBT else said, "lost")
                due_at = self.now + 60 if state is State.DEFERRED else 0.0
                self.kept.record(
                    self.content, [Settlement(one.id, state, outcome, due_at, at=self.now)]
                )

    def retry(self, state: State, addresses: list[str]) -> object:
        with self.ledger.deciding(self.campaign, [state], addresses) as decided:
            told = decided.tally(), decided.doubtful(), decided.others()
            return *told, decided.retry(self.now)

    def settle(self, addresses: list[str]) -> object:
        with self.ledger.deciding(self.campaign, [State.IN_DOUBT], addresses) as decided:
            return decided.settle(self.now)

    def recover(self) -> object:
        return self.ledger.recover(self.campaign, self.now)

    def resend(self) -> object:
        """As a run does: whoever is left out is known from its reading."""
        with self.ledger.enrolling():
            self.ledger.enrol(self.campaign, [Row(a, {}, "again.csv:2") for a in ADDRESSES[:5]])
            return self.ledger.resend_in_doubt(self.campaign, self.now)

    def cancel_removed(self) -> object:
        return self.ledger.cancel_removed(self.campaign)

    def cancel(self) -> object:
        return self.ledger.cancel(self.campaign, self.now)

    def mark(self) -> None:
        contents = self.ledger.contents
        contents.set_proven(self.campaign, "content")
        contents.set_meant_again(self.campaign, "content")
        contents.set_content_digest(self.campaign, "content")
        for one in self.ledger.unsent(self.campaign):
            contents.set_files_digest(one, one.domain)

    # -- what is told ----------------------------------------------------------------------------

    def recorded(self) -> dict[str, object]:
        """Everything, by the ledger that is open."""
        ledger, campaign = self.ledger, self.campaign
        known = ledger.known(campaign.name)
        assert known is not None
        where = f"FROM recipient WHERE campaign_id = {campaign.id}"
        return {
            "campaign": {**{n: getattr(known, n) for n in known.__slots__}, "id": 0, "seed": b""},
            "people": [
                tuple(row) for row in ledger._db.execute(f"SELECT {TABLE} {where} ORDER BY id")
            ],
            "tally": ledger.tally(campaign),
            "unsent": [r.address for r in ledger.unsent(campaign)],
            "changed": [r.address for r in ledger.unsent(campaign, 1)],
            "domains": Counter(dict(ledger.unsent_by_domain(campaign))),
            "among": ledger.unsent_among(campaign, iter(ADDRESSES)),
            "digest": ledger.people_digest(campaign),
            "who has": ledger.contents.who_has(campaign, self.content),
            "proven": ledger.contents.is_proven(campaign, self.content),
            "sent before": ledger.contents.sent_before(campaign, "content", ["name", "예"]),
        }

    def read(self) -> dict[str, object]:
        """Everything, by who looks."""
        with closing(self.kept.view()) as view:
            campaign: CampaignRecord | None = view.campaign(self.campaign.name)
            assert campaign is not None
            told = {
                "report": list(view.report(campaign, [])),
                "some": list(view.report(campaign, list(UNSENT))),
                "columns": view.columns(campaign, []),
                "running": view.running_since(campaign),
                "runs": view.runs(campaign),
                "acceptances": view.acceptances(campaign),
                "times": list(view.accepted_by_time(campaign, 0.7)),
                "largest": view.domains(campaign, 2),
                "alike": Counter(view.not_accepted(campaign)),
                "people": list(view.people(campaign, [State.ACCEPTED, State.IN_DOUBT])),
                "who has it": Counter(view.who_has_it(campaign)),
            }
        with closing(self.kept.view()) as view:
            page = report_html.html(view, campaign, [], (), Shell("letter.yaml"))
        return {**told, "page": page.replace(campaign.name, "…")}


@pytest.fixture
def both(tmp_path: Path, postgres_url: str) -> Iterator[tuple[Kept, Kept]]:
    both = KeptBySqlite(tmp_path / "bulkmail.sqlite"), KeptByPostgres(postgres_url)
    yield both
    for kept in both:
        kept.close()


@settings(
    max_examples=12,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(first=ENROL, steps=STEPS)
def test_the_same_history_is_told_the_same(
    both: tuple[Kept, Kept], first: tuple[Any, ...], steps: list[tuple[Any, ...]]
) -> None:
    """Of a campaign among others that were sent before, with the same content."""
    name = f"{next(NAMES)}"
    in_file, in_postgres = (History(kept, name) for kept in both)
    for step in (first, *steps):
        assert in_file.do(*step) == in_postgres.do(*step)
        assert in_file.recorded() == in_postgres.recorded()
    for history in (in_file, in_postgres):
        history.ledger.end_run(history.run, history.now)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(report_html.time, "time", lambda: in_file.now)
        assert in_file.read() == in_postgres.read()
