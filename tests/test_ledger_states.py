"""Any order of things that happen to a ledger: a model of one page says where everyone stands.

The same for a ledger in a file, for a scratch one, which is what checks and rehearsals use, and for
one in PostgreSQL.
"""

import shutil
import tempfile
from collections import Counter
from dataclasses import dataclass
from itertools import count, cycle
from pathlib import Path

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from bulkmail.ledger import Ledger
from bulkmail.model import Intent, Outcome, Phase, Reply, Row, Settlement, State

from .kept import Kept, KeptByPostgres, KeptBySqlite

NAMES = [f"p{number}@d{number % 2}.example" for number in range(4)]
PEOPLE = st.sets(st.sampled_from(NAMES))
MOST = st.just(set(NAMES)) | PEOPLE
FEW = st.just(set()) | st.just(set()) | PEOPLE
SELDOM = st.sampled_from([False, False, False, True])
SETTLED = st.sampled_from(
    [State.ACCEPTED, State.FAILED, State.IN_DOUBT, State.EXPIRED, State.DEFERRED, State.PENDING]
)
SAID = Outcome(Phase.DOT, Reply(250, "2.0.0", "2.0.0 whatever"))
HAS_IT = {State.ACCEPTED, State.IN_FLIGHT, State.IN_DOUBT}


@dataclass
class Person:
    """What the ledger should say of one."""

    state: State
    doubts: int = 0
    due_at: float = 0.0
    listed: bool = True
    consented: bool = False
    copies: int = 0
    """How often a server may have taken a message for this person."""

    def to(self, state: State) -> None:
        self.state = state
        self.due_at = 0.0


class Ledgers(RuleBasedStateMachine):
    """One campaign, killed and continued at will."""

    is_file = True
    name = "july"

    @initialize()
    def begin(self) -> None:
        self.folder = Path(tempfile.mkdtemp())
        self.now = 1000.0
        self.people: dict[str, Person] = {}
        self.claimed: dict[str, int] = {}
        self.taken: set[str] = set()
        self.kept = self._open()
        self.campaign = self.ledger.campaign(self.name, 1.0)
        self.content = self.ledger.contents.id_of(self.campaign, "content")
        self.start(set(NAMES), set(), False, False)

    def _open(self) -> Kept:
        return KeptBySqlite(self.folder / "bulkmail.sqlite" if self.is_file else None)

    def _reopened(self) -> None:
        """As after a kill, which no disk need survive here: that is proved in test_durability."""
        self.kept.reopened()
        self.ledger._db.execute("PRAGMA synchronous = OFF")

    @property
    def ledger(self) -> Ledger:
        return self.kept.ledger

    def teardown(self) -> None:
        self.kept.close()
        shutil.rmtree(self.folder)

    # -- a run begins ----------------------------------------------------------------------------

    @rule(listed=MOST, excluded=FEW, resend=st.booleans(), cancel_removed=SELDOM)
    def start(
        self, listed: set[str], excluded: set[str], resend: bool, cancel_removed: bool
    ) -> None:
        """After whatever end of the last one: a kill leaves what it leaves."""
        self._reopened()
        self.ledger.recover(self.campaign, self.now)
        self._recovered()
        self.ledger.enrol(
            self.campaign,
            [Row(name, {}, "m.csv") for name in sorted(listed)],
            [(name, "asked to") for name in excluded],
        )
        self._enrolled(listed, excluded)
        if cancel_removed:
            self.ledger.cancel_removed(self.campaign)
            for person in self.people.values():
                if not person.listed and person.state in (State.PENDING, State.DEFERRED):
                    self._given_up(person)
        if resend:
            self.ledger.resend_in_doubt(self.campaign, self.now)
            for name, person in self.people.items():
                if person.state is State.IN_DOUBT and person.listed and name not in excluded:
                    if person.due_at > self.now:
                        person.state = State.DEFERRED
                    else:
                        person.to(State.PENDING)
        self.claims = self.kept.claims(self.campaign)
        self.claimed, self.taken = {}, set()

    def _recovered(self) -> None:
        for person in self.people.values():
            if person.state is State.IN_FLIGHT:
                person.state, person.consented = State.IN_DOUBT, False
                person.doubts += 1
            elif person.state in (State.PENDING, State.DEFERRED) and (
                person.doubts and not person.consented
            ):
                person.state = State.IN_DOUBT

    def _enrolled(self, listed: set[str], excluded: set[str]) -> None:
        for name, person in self.people.items():
            person.listed = name in listed
            if not person.listed:
                continue
            if person.state in (State.CANCELLED, State.SUPPRESSED):
                person.to(State.SUPPRESSED if name in excluded else State.PENDING)
            elif name in excluded and person.state in (State.PENDING, State.DEFERRED):
                self._given_up(person, State.SUPPRESSED)
            if name in excluded:
                person.consented = False
        for name in listed - self.people.keys():
            self.people[name] = Person(State.SUPPRESSED if name in excluded else State.PENDING)

    def _given_up(self, person: Person, state: State = State.CANCELLED) -> None:
        """Nobody who may have it is called cancelled or suppressed."""
        person.consented = False
        if person.doubts:
            person.state = State.IN_DOUBT
        else:
            due_at = person.due_at
            person.to(state)
            person.due_at = due_at

    # -- it sends --------------------------------------------------------------------------------

    @rule(limit=st.integers(1, 5), later=st.floats(0, 50))
    def claim(self, limit: int, later: float) -> None:
        """Only who is unsent and due, each once in a run."""
        self.now += later
        found, _ = self.claims.take(limit, self.now)
        for recipient in found:
            person = self.people[recipient.address]
            assert person.state in (State.PENDING, State.DEFERRED)
            assert person.due_at <= self.now and recipient.address not in self.claimed
            self.claimed[recipient.address] = recipient.id

    @precondition(lambda self: self.claimed)
    @rule(data=st.data())
    def intend(self, data: st.DataObject) -> None:
        self._intend(data.draw(st.sampled_from(sorted(self.claimed))))

    def _intend(self, name: str) -> None:
        intent = Intent(self.claimed[name], self.now, self.now, f"<{name}>")
        self.kept.record(self.content, [intent])
        self.people[name].state = State.IN_FLIGHT
        self.people[name].copies += 1
        del self.claimed[name]
        self.taken.add(name)

    @precondition(lambda self: self.taken)
    @rule(data=st.data(), state=SETTLED)
    def settle(self, data: st.DataObject, state: State) -> None:
        self._settle(data.draw(st.sampled_from(sorted(self.taken))), state)

    @rule(states=st.lists(SETTLED, min_size=1, max_size=4))
    def send(self, states: list[State]) -> None:
        """The whole way for all who can be claimed."""
        self.claim(9, 20.0)
        for name, state in zip(sorted(self.claimed), cycle(states), strict=False):
            self._intend(name)
            self._settle(name, state)

    def _settle(self, name: str, state: State) -> None:
        person, due_at = self.people[name], self.now + 10 if state is State.DEFERRED else 0.0
        [id_] = self.ledger._db.execute(
            "SELECT id FROM recipient WHERE address = ? AND campaign_id = ?",
            (name, self.campaign.id),
        ).fetchone()
        self.kept.record(self.content, [Settlement(id_, state, SAID, due_at, at=self.now)])
        self.taken.discard(name)
        if state is State.PENDING:
            person.state = State.DEFERRED if person.due_at else State.PENDING
        else:
            person.to(state)
            person.due_at = due_at
        if state not in (State.ACCEPTED, State.IN_DOUBT):
            person.copies -= 1
        else:
            person.consented = False
        person.doubts += state is State.IN_DOUBT

    # -- a person decides ------------------------------------------------------------------------

    @precondition(lambda self: not self.taken)
    @rule(names=PEOPLE, state=st.sampled_from([State.FAILED, State.IN_DOUBT, State.CANCELLED]))
    def retry(self, names: set[str], state: State) -> None:
        with self.ledger.deciding(self.campaign, [state], names) as decided:
            decided.retry(self.now)
        for name, person in self.people.items():
            if person.state is state and (name in names or not names):
                person.to(State.PENDING)
                person.consented = person.doubts > 0
        self.claims = self.kept.claims(self.campaign)
        self.claimed = {}

    @precondition(lambda self: not self.taken)
    @rule(really=SELDOM)
    def has_it(self, really: bool) -> None:
        if not really:
            return
        with self.ledger.deciding(self.campaign, [State.IN_DOUBT]) as decided:
            decided.settle(self.now)
        for person in self.people.values():
            if person.state is State.IN_DOUBT:
                person.state = State.ACCEPTED

    @precondition(lambda self: not self.taken)
    @rule(really=SELDOM)
    def cancel(self, really: bool) -> None:
        if not really:
            return
        self.ledger.cancel(self.campaign, self.now)
        for person in self.people.values():
            if person.state in (State.PENDING, State.DEFERRED):
                self._given_up(person)
                person.due_at = 0.0
        self.claims = self.kept.claims(self.campaign)
        self.claimed = {}

    # -- always ----------------------------------------------------------------------------------

    @invariant()
    def everyone_is_where_the_model_says(self) -> None:
        if not hasattr(self, "kept"):
            return
        rows = self.ledger._db.execute(
            "SELECT address, state, in_doubt_events, due_at FROM recipient WHERE campaign_id = ?",
            (self.campaign.id,),
        ).fetchall()
        seen = {name: (State(state), doubts) for name, state, doubts, _ in rows}
        assert len(rows) == len(seen), "one row for each person"
        assert seen == {name: (p.state, p.doubts) for name, p in self.people.items()}
        tally = self.ledger.tally(self.campaign)
        assert tally == Counter(person.state for person in self.people.values())

    @invariant()
    def nobody_is_sent_to_again_without_an_event(self) -> None:
        for person in getattr(self, "people", {}).values():
            assert person.copies <= person.doubts + (person.state in HAS_IT)

    @invariant()
    def every_doubt_is_an_event(self) -> None:
        if not hasattr(self, "kept"):
            return
        [number] = self.ledger._db.execute(
            "SELECT count(*) FROM event JOIN recipient ON recipient.id = recipient_id"
            " WHERE what = 'in_doubt' AND campaign_id = ?",
            (self.campaign.id,),
        ).fetchone()
        assert number == sum(person.doubts for person in self.people.values())


class ScratchLedgers(Ledgers):
    is_file = False


_NAMES = count()


class PostgresLedgers(Ledgers):
    """Each campaign in the same database."""

    url = ""

    def _open(self) -> Kept:
        self.name = f"july {next(_NAMES)}"
        return KeptByPostgres(self.url, self.name)

    def _reopened(self) -> None:
        self.kept.reopened()


_BUDGET = settings(
    max_examples=200,
    stateful_step_count=40,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much],
)
Ledgers.TestCase.settings = _BUDGET
ScratchLedgers.TestCase.settings = _BUDGET
TestLedgers = Ledgers.TestCase
TestScratchLedgers = ScratchLedgers.TestCase


def test_ledgers_in_postgres(postgres_url: str) -> None:
    machine = type("PostgresLedgers", (PostgresLedgers,), {"url": postgres_url})
    run_state_machine_as_test(
        machine, settings=settings(_BUDGET, max_examples=25, stateful_step_count=30)
    )
