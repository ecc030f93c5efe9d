"""The loop with a real server and a real ledger: who is charged, who goes on, how fast."""

import asyncio
import itertools
import sqlite3
import time
from collections import Counter, deque
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import MappingProxyType
from typing import Protocol

import pytest

from bulkmail.delivery import Delivery, Limits, Stop
from bulkmail.delivery.desk import Desk, Granted, Halt
from bulkmail.delivery.queues import Later, Queues
from bulkmail.errors import ExitStatus
from bulkmail.ledger import CampaignLedger, CampaignRecord, SqliteLedger, SqliteView
from bulkmail.model import Envelope, MailObject, Outcome, Phase, Rate, Recipient, Row, State
from bulkmail.pace import DomainPaces, Pace
from bulkmail.sandbox.receiving import Hangup
from bulkmail.transport import SubmissionServer, Timeouts

from .conftest import RecordingServer, StartServer

QUICK = Limits(
    connections=4, first_reconnect=0.01, longest_reconnect=0.05, drain=0.3, busy_at_first=0.5
)


SOON = replace(QUICK, first_retry=0.05)
"""For who is hit so often by chance that it is taken for their own trouble."""


class Letter:
    """A composer of short messages."""

    def compose(self, recipient: Recipient, at: float) -> MailObject:
        content = f"To: {recipient.address}\r\n\r\nHello {recipient.address}\r\n".encode()
        return MailObject(
            Envelope("news@example.org", recipient.address), (content,), f"<{recipient.id}@x>"
        )


@dataclass
class Campaign:
    """A ledger with people in it, and runs over it."""

    path: Path
    ledger: SqliteLedger
    record: CampaignRecord
    content_id: int
    settled: list[tuple[str, str]] = field(default_factory=list)
    delivery: Delivery | None = None
    composer: Letter = field(default_factory=Letter)

    async def run(
        self,
        server: RecordingServer,
        limits: Limits = QUICK,
        rates: Sequence[Rate] = (),
        timeouts: Timeouts | None = None,
        on_settled: Callable[[Recipient, State], None] = lambda recipient, state: None,
        content_proven: bool = False,
        domain_rates: Mapping[str, Sequence[Rate]] = MappingProxyType({}),
        paces: tuple[Pace, DomainPaces] | None = None,
    ) -> Stop | None:
        pace, domain_paces = paces or (Pace(rates), DomainPaces(domain_rates))
        account = server.submission.account
        now = time.time()
        ago = asyncio.get_running_loop().time() - now
        for domain, grants in self.ledger.grants(account, now).items():
            recalled = [(at + ago, n) for at, n in grants]
            if domain:
                domain_paces.recall(domain, recalled)
            else:
                pace.recall(recalled)
        changes = CampaignLedger(self.ledger, self.record, account, self.content_id)

        def settled(recipient: Recipient, state: State, outcome: Outcome) -> None:
            self.settled.append((recipient.address, state))
            on_settled(recipient, state)

        transport = SubmissionServer(server.submission, timeouts)
        self.delivery = Delivery(
            changes,
            transport,
            self.composer,
            pace,
            domain_paces,
            limits,
            settled,
            content_proven=content_proven,
        )
        try:
            return await self.delivery.run()
        finally:
            await changes.close()

    def states(self) -> dict[str, int]:
        return {str(state): number for state, number in self.ledger.tally(self.record).items()}

    def rows(self) -> dict[str, dict[str, object]]:
        """What the ledger says of everyone, by address."""
        with closing(SqliteView(self.path)) as view:
            return {str(row["email"]): row for row in view.report(self.record, [])}

    def state_of(self, address: str) -> dict[str, object]:
        return self.rows()[address]


class Enrol(Protocol):
    def __call__(self, number: int, address: Callable[[int], str] = ...) -> Campaign: ...


@pytest.fixture
async def enrol(tmp_path: Path) -> AsyncIterator[Enrol]:
    made = []

    def enrol(
        number: int, address: Callable[[int], str] = lambda n: f"p{n}@example.com"
    ) -> Campaign:
        path = tmp_path / "bulkmail.sqlite"
        ledger = SqliteLedger(path)
        record = ledger.campaign("july", time.time())
        ledger.enrol(record, (Row(address(n), {}, f"m.csv:{n + 2}") for n in range(number)))
        made.append(ledger)
        return Campaign(path, ledger, record, ledger.contents.id_of(record, "content"))

    yield enrol
    for ledger in made:
        ledger.close()


IN_TURN = ("PIPELINING",)
"""Extensions with which no content is out before its recipient was taken."""


def everyone(number: int) -> list[str]:
    return [f"p{n}@example.com" for n in range(number)]


@pytest.mark.parametrize(
    "extensions", [(), ("PIPELINING", "SIZE 1000000"), ("PIPELINING", "CHUNKING")]
)
async def test_everyone_gets_it_once(
    serve: StartServer, enrol: Enrol, extensions: tuple[str, ...]
) -> None:
    server, campaign = await serve(extensions=extensions), enrol(700)
    assert await campaign.run(server) is None
    assert sorted(server.paths) == sorted(everyone(700))
    assert campaign.states() == {"accepted": 700}
    for message in server.received:
        assert message.content.endswith(f"Hello {message.forward_paths[0]}\r\n".encode())


async def test_the_intent_is_on_disk_before_the_dot(serve: StartServer, enrol: Enrol) -> None:
    """At every dot, the server looks into the ledger: it reads `in_flight`, never anything else."""
    campaign = enrol(50)
    view = SqliteView(campaign.path)
    seen = []

    def answer(verb: str, argument: str) -> None:
        if verb == ".":
            rows = view.report(campaign.record, [State.IN_FLIGHT])
            seen.append(argument in {row["email"] for row in rows})

    await campaign.run(await serve(answer=answer))
    view.close()
    assert seen == [True] * 50


async def test_the_first_message_goes_alone(serve: StartServer, enrol: Enrol) -> None:
    """No second connection, and no second MAIL, before the first 2xx."""
    said = []
    server = await serve(answer=lambda verb, argument: said.append(verb))
    await enrol(100).run(server)
    until_first_dot = said[: said.index(".")]
    assert until_first_dot.count("CONNECT") == until_first_dot.count("MAIL") == 1
    assert server.server.accepted == 4


async def test_nothing_follows_the_first_message_unanswered(
    serve: StartServer, enrol: Enrol
) -> None:
    """If its content is refused, nobody else's envelope was even begun.

    The server takes its time before the 354, so that a second message would be ready by then.
    """
    said = []
    server = await serve()

    def go_ahead() -> None:
        [connection] = server.server.connections
        assert connection._transport is not None
        connection._receiver._in_data = True
        connection._transport.write(b"354 go ahead\r\n")

    def answer(verb: str, argument: str) -> bytes | None:
        said.append(verb)
        if verb == "DATA":
            asyncio.get_running_loop().call_later(0.1, go_ahead)
            return b""
        return b"554 5.7.1 spam\r\n" if verb == "." else None

    server.server.behaviour.answer = answer
    await enrol(100).run(server)
    assert said.count("MAIL") == said.count("CONNECT") == 1


@pytest.mark.parametrize(
    ("verb", "reply", "status"),
    [
        ("AUTH", b"535 5.7.8 no\r\n", ExitStatus.LOGIN),
        ("CONNECT", b"554 5.7.1 go away\r\n", ExitStatus.UNAVAILABLE),
        ("MAIL", b"550 5.7.1 sender refused\r\n", ExitStatus.UNAVAILABLE),
        ("MAIL", b"553 5.7.1 Sender address rejected: not owned\r\n", ExitStatus.UNAVAILABLE),
        ("RCPT", b"550 5.7.1 relaying denied\r\n", ExitStatus.UNAVAILABLE),
        (".", b"554 5.7.1 spam\r\n", ExitStatus.UNAVAILABLE),
        (".", b"550 5.4.5 Daily user sending limit exceeded\r\n", ExitStatus.CONTINUE),
        ("MAIL", b"421 4.7.0 busy\r\n", ExitStatus.CONTINUE),
        ("MAIL", b"451 4.3.0 busy\r\n", ExitStatus.CONTINUE),
        ("CONNECT", b"421 4.7.0 too many connections\r\n", ExitStatus.UNAVAILABLE),
    ],
)
async def test_what_concerns_all_stops_at_once_and_blames_nobody(
    serve: StartServer, enrol: Enrol, verb: str, reply: bytes, status: ExitStatus
) -> None:
    said = []

    def answer(now: str, argument: str) -> bytes | None:
        said.append(now)
        return reply if now == verb else None

    server, campaign = await serve(answer=answer), enrol(30)
    stop = await campaign.run(server)
    assert stop is not None and stop.status is status
    assert reply[:3].decode() in stop.reason
    assert campaign.states() == {"pending": 30}
    assert {row["attempts"] for row in campaign.rows().values()} == {0}
    assert server.received == []
    assert said.count(verb) <= 3


async def test_refused_recipients_are_data(serve: StartServer, enrol: Enrol) -> None:
    refused = {
        "p3@example.com": b"550 5.1.1 no such user\r\n",
        "p4@example.com": b"450 4.2.1 greylisted\r\n",
    }

    def answer(verb: str, argument: str) -> bytes | None:
        return refused.get(argument[4:-1]) if verb == "RCPT" else None

    server, campaign = await serve(answer=answer), enrol(20)
    stop = await campaign.run(server, replace(QUICK, wait=60))
    assert stop is not None and stop.status is ExitStatus.CONTINUE
    assert stop.reason.startswith("the next retry is due on 20")
    assert campaign.states() == {"accepted": 18, "failed": 1, "deferred": 1}
    assert campaign.state_of("p3@example.com")["reason"] == "550 5.1.1 no such user"
    due = campaign.ledger.claims(campaign.record).next_due_at()
    assert due is not None and due == pytest.approx(stop.resume_at, abs=1)
    assert 290 < due - time.time() <= 300 * 1.2
    assert len(server.paths) == 18 and not set(refused) & set(server.paths)


async def test_content_refused_later_fails_that_recipient(serve: StartServer, enrol: Enrol) -> None:
    """The same reply to the run's first message would stop the run."""
    server, campaign = (
        await serve(answer=lambda v, a: b"554 5.6.0 bad\r\n" if (v, a) == (".", "p7@example.com") else None),
        enrol(20),
    )  # fmt: skip
    assert await campaign.run(server) is None
    assert campaign.states() == {"accepted": 19, "failed": 1}


SPAM = b"554 5.7.1 looks like spam\r\n"


async def test_equal_refusals_in_a_row_stop_the_run_and_blame_nobody(
    serve: StartServer, enrol: Enrol
) -> None:
    """Accepted at first, then the server has had enough of this content."""
    server = await serve()
    server.server.behaviour.answer = lambda verb, argument: (
        SPAM if verb == "." and len(server.received) >= 20 else None
    )
    campaign = enrol(60)
    stop = await campaign.run(server, replace(QUICK, stop_after_failures=5))
    assert stop is not None and stop.status is ExitStatus.UNAVAILABLE
    assert stop.reason.startswith("5 messages in a row were refused alike, the last with: 554 5.7")
    assert campaign.states() == {"accepted": 20, "pending": 40}
    assert "failed" not in dict(campaign.settled).values()
    server.server.behaviour.answer = lambda verb, argument: None
    assert await campaign.run(server) is None
    assert sorted(server.paths) == sorted(everyone(60))


async def test_refusals_with_acceptances_between_are_the_recipients_own(
    serve: StartServer, enrol: Enrol
) -> None:
    """Two alike are not three; the acceptance after them decides, and the end of the run does."""
    refused = {f"p{n}@example.com" for n in (4, 5, 9, 10, 18, 19)}
    server, campaign = await serve(), enrol(20)
    server.server.behaviour.answer = lambda verb, argument: (
        SPAM if verb == "." and argument in refused else None
    )
    one = replace(QUICK, connections=1, stop_after_failures=3)
    assert await campaign.run(server, one) is None
    assert campaign.states() == {"accepted": 14, "failed": 6}
    failed = {address for address, state in campaign.settled if state == "failed"}
    assert failed == refused
    assert campaign.state_of("p4@example.com")["attempts"] == 1


async def test_unknown_mailboxes_in_a_row_do_not_stop_the_run(
    serve: StartServer, enrol: Enrol
) -> None:
    unknown = b"550 5.1.1 no such user\r\n"
    server, campaign = await serve(), enrol(40)
    server.server.behaviour.answer = lambda verb, argument: (
        unknown if verb == "RCPT" and "<p0@" not in argument else None
    )
    assert await campaign.run(server, replace(QUICK, stop_after_failures=3)) is None
    assert campaign.states() == {"accepted": 1, "failed": 39}


async def test_the_deferred_are_tried_again_in_the_same_run(
    serve: StartServer, enrol: Enrol
) -> None:
    """A greylisting server: a third is refused at first; the others do not wait for them."""
    seen: dict[str, int] = {}

    def answer(verb: str, argument: str) -> bytes | None:
        if verb != "RCPT":
            return None
        number = int(argument[5 : argument.index("@")])
        seen[argument] = seen.get(argument, 0) + 1
        return b"450 4.2.0 greylisted\r\n" if number % 3 == 1 and seen[argument] < 3 else None

    server, campaign = await serve(answer=answer), enrol(60)
    assert await campaign.run(server, replace(QUICK, first_retry=0.1)) is None
    assert campaign.states() == {"accepted": 60}
    assert sorted(server.paths) == sorted(everyone(60))
    assert [int(path[1:].partition("@")[0]) % 3 for path in server.paths[:40]].count(1) == 0
    assert campaign.state_of("p1@example.com")["attempts"] == 3


async def test_a_stop_is_heard_while_only_retries_are_waited_for(
    serve: StartServer, enrol: Enrol
) -> None:
    server, campaign = await serve(), enrol(3)
    server.server.behaviour.answer = lambda verb, argument: (
        b"450 4.2.0 greylisted\r\n" if verb == "RCPT" and "<p1@" in argument else None
    )
    running = asyncio.create_task(campaign.run(server))
    while len(campaign.settled) < 3:
        await asyncio.sleep(0.01)
    assert campaign.delivery is not None
    campaign.delivery.stop(Stop(ExitStatus.INTERRUPTED, "told to"))
    assert await asyncio.wait_for(running, 5) == Stop(ExitStatus.INTERRUPTED, "told to")
    assert campaign.states() == {"accepted": 2, "deferred": 1}


async def test_sessions_do_not_wait_for_a_retry_that_is_far(
    serve: StartServer, enrol: Enrol
) -> None:
    """They say goodbye; the retry opens a new one."""
    server, campaign = await serve(), enrol(3)
    server.server.behaviour.answer = lambda verb, argument: (
        b"450 4.2.0 greylisted\r\n" if verb == "RCPT" and "<p1@" in argument else None
    )
    running = asyncio.create_task(campaign.run(server, replace(QUICK, first_retry=60)))
    while not (len(campaign.settled) == 3 and not server.server.connections):
        await asyncio.sleep(0.01)
    assert not running.done()
    assert campaign.delivery is not None
    campaign.delivery.stop(Stop(ExitStatus.INTERRUPTED, "told to"))
    await asyncio.wait_for(running, 5)


async def test_a_message_that_breaks_its_session_does_not_hold_up_the_others(
    serve: StartServer, enrol: Enrol
) -> None:
    """Not when it is the first of the list either; and it is refused in the end, for now."""
    tried = []

    def answer(verb: str, argument: str) -> None:
        if verb == "RCPT" and "<p0@" in argument:
            tried.append(argument)
            raise Hangup

    server, campaign = await serve(answer=answer, extensions=IN_TURN), enrol(30)
    stop = await campaign.run(server, replace(QUICK, connections=1, wait=60))
    assert stop is not None and stop.status is ExitStatus.CONTINUE
    assert campaign.states() == {"accepted": 29, "deferred": 1}
    assert campaign.state_of("p0@example.com")["attempts"] == 1 and len(tried) == 3


async def test_a_server_that_breaks_all_sessions_blames_nobody(
    serve: StartServer, enrol: Enrol
) -> None:
    server, campaign = await serve(extensions=IN_TURN), enrol(30)
    server.server.behaviour.answer = lambda verb, argument: (
        _hang_up() if verb == "RCPT" and len(server.received) >= 10 else None
    )
    stop = await campaign.run(server)
    assert stop is not None and stop.status is ExitStatus.UNAVAILABLE
    states = campaign.states()
    # Whose message went down with so many sessions is tried later, as one that may break them.
    assert 10 <= states["accepted"] <= 14 and states.get("deferred", 0) <= 3
    assert "failed" not in states and "in_doubt" not in states


async def test_a_content_that_was_accepted_before_is_not_refused_to_all(
    serve: StartServer, enrol: Enrol
) -> None:
    """The last one of a campaign can fail, although it is the first of its run."""
    server, campaign = await serve(), enrol(5)
    await campaign.run(server, replace(QUICK, messages=4))
    server.server.behaviour.answer = lambda v, a: b"554 5.7.1 no\r\n" if v == "." else None
    assert (await campaign.run(server, content_proven=True)) is None
    assert campaign.states() == {"accepted": 4, "failed": 1}


async def test_a_connection_lost_at_the_dot_is_in_doubt_and_only_there(
    serve: StartServer, enrol: Enrol
) -> None:
    def answer(verb: str, argument: str) -> None:
        if verb == "." and argument == "p5@example.com":
            raise Hangup

    server, campaign = await serve(extensions=IN_TURN, answer=answer), enrol(40)
    assert await campaign.run(server) is None
    assert campaign.states() == {"accepted": 39, "in_doubt": 1}
    row = campaign.state_of("p5@example.com")
    assert (row["state"], row["in_doubt_events"]) == ("in_doubt", 1)
    assert sorted(server.paths) == sorted(set(everyone(40)) - {"p5@example.com"})


async def test_in_doubt_is_not_sent_again(serve: StartServer, enrol: Enrol) -> None:
    campaign = enrol(3)
    server = await serve(
        extensions=IN_TURN,
        answer=lambda verb, argument: (
            _hang_up() if (verb, argument) == (".", "p1@example.com") else None
        ),
    )
    await campaign.run(server)
    server.server.behaviour.answer = lambda verb, argument: None
    await campaign.run(server)
    assert campaign.states() == {"accepted": 2, "in_doubt": 1}
    assert "p1@example.com" not in server.paths


def _hang_up() -> None:
    raise Hangup


async def test_connections_that_break_before_the_dot_lose_nobody(
    serve: StartServer, enrol: Enrol
) -> None:
    """Every 17th RCPT breaks its connection; all get it once, on other ones."""
    numbers = itertools.count(1)

    def answer(verb: str, argument: str) -> None:
        if verb == "RCPT" and next(numbers) % 17 == 0:
            raise Hangup

    server, campaign = await serve(answer=answer, extensions=IN_TURN), enrol(200)
    assert await campaign.run(server, SOON) is None
    assert campaign.states() == {"accepted": 200}
    assert sorted(server.paths) == sorted(everyone(200))
    assert server.server.accepted >= 200 // 17


async def test_a_server_that_closes_after_some_messages(serve: StartServer, enrol: Enrol) -> None:
    """421 after 10 messages a connection: reconnected, nothing lost."""
    counts: dict[str, int] = {"since": 0}

    def answer(verb: str, argument: str) -> bytes | None:
        counts["since"] = 0 if verb == "CONNECT" else counts["since"] + (verb == ".")
        if verb == "MAIL" and counts["since"] >= 10:
            raise Hangup(b"421 Max message per connection reached\r\n")
        return None

    server, campaign = await serve(answer=answer), enrol(100)
    assert await campaign.run(server, replace(QUICK, connections=1)) is None
    assert campaign.states() == {"accepted": 100}
    assert sorted(server.paths) == sorted(everyone(100))


async def test_messages_per_connection(serve: StartServer, enrol: Enrol) -> None:
    server, campaign = await serve(), enrol(100)
    limits = replace(QUICK, connections=1, messages_per_connection=7)
    assert await campaign.run(server, limits) is None
    assert campaign.states() == {"accepted": 100}
    assert server.server.accepted == 15


async def test_a_server_that_allows_fewer_connections(serve: StartServer, enrol: Enrol) -> None:
    """The third connection is refused; the two that are open do the work."""
    open_now: set[object] = set()
    server = await serve()
    server.server.behaviour.answer = lambda verb, argument: (
        b"421 4.7.0 too many connections\r\n"
        if verb == "CONNECT" and len(server.server.connections) > 2
        else None
    )
    campaign = enrol(200)
    assert await campaign.run(server) is None
    assert campaign.states() == {"accepted": 200}
    assert not open_now


async def test_a_server_that_dies_is_69_and_can_be_continued(
    serve: StartServer, enrol: Enrol
) -> None:
    server, campaign = await serve(), enrol(200)
    stopping: list[asyncio.Task[None]] = []

    def die_at_50(recipient: Recipient, state: State) -> None:
        if len(campaign.settled) == 50:
            stopping.append(asyncio.ensure_future(server.server.stop()))

    stop = await campaign.run(server, on_settled=die_at_50)
    await asyncio.gather(*stopping)
    assert stop is not None and stop.status is ExitStatus.UNAVAILABLE
    states = campaign.states()
    assert states.get("pending", 0) > 50 and "in_flight" not in states
    again = await serve()
    assert await campaign.run(again) is None
    after = campaign.states()
    assert after["accepted"] + after.get("in_doubt", 0) + after.get("deferred", 0) == 200
    assert len(set(server.paths + again.paths)) == len(server.paths + again.paths)


async def test_limit_stops_after_so_many(serve: StartServer, enrol: Enrol) -> None:
    server, campaign = await serve(), enrol(30)
    stop = await campaign.run(server, replace(QUICK, messages=12))
    assert stop is not None and stop.status is ExitStatus.CONTINUE
    assert campaign.states() == {"accepted": 12, "pending": 18}
    assert await campaign.run(server, replace(QUICK, messages=18)) is None
    assert sorted(server.paths) == sorted(everyone(30))


async def test_stopping_drains(serve: StartServer, enrol: Enrol) -> None:
    """What is under way is finished; nothing is in doubt, nothing in flight."""
    server, campaign = await serve(extensions=IN_TURN), enrol(300)

    def stop_at_40(recipient: Recipient, state: State) -> None:
        if len(campaign.settled) == 40:
            assert campaign.delivery is not None
            campaign.delivery.stop(Stop(ExitStatus.INTERRUPTED, "told to"))

    stop = await campaign.run(server, on_settled=stop_at_40)
    assert stop == Stop(ExitStatus.INTERRUPTED, "told to")
    states = campaign.states()
    assert set(states) == {"accepted", "pending"}
    most = 3 * QUICK.connections  # under way at once, with PIPELINING
    assert states["accepted"] == len(server.paths) < 40 + most
    await campaign.run(server)
    assert sorted(server.paths) == sorted(everyone(300))


async def test_draining_is_bounded(serve: StartServer, enrol: Enrol) -> None:
    """A server that answers no dot any more: the run ends all the same, and says in doubt."""
    silent = {"from": 20}
    server, campaign = await serve(extensions=IN_TURN), enrol(100)

    def answer(verb: str, argument: str) -> bytes | None:
        if verb == "." and len(server.received) >= silent["from"]:
            assert campaign.delivery is not None
            campaign.delivery.stop(Stop(ExitStatus.INTERRUPTED, "told to"))
            return b""
        return None

    server.server.behaviour.answer = answer
    stop = await campaign.run(server)
    assert stop is not None
    states = campaign.states()
    assert states["accepted"] == 20 and 1 <= states["in_doubt"] <= 4
    assert sum(states.values()) == 100 and "in_flight" not in states


async def test_a_silent_server_holds_what_it_may_have(serve: StartServer, enrol: Enrol) -> None:
    server, campaign = await serve(extensions=()), enrol(10)
    server.server.behaviour.answer = lambda verb, argument: (
        b"" if (verb, argument) == (".", "p4@example.com") else None
    )
    timeouts = Timeouts(replies=MappingProxyType(dict.fromkeys(Phase, 0.2)))
    assert await campaign.run(server, timeouts=timeouts) is None
    assert campaign.states() == {"accepted": 9, "in_doubt": 1}


async def test_a_ledger_that_fails_stops_the_run_before_the_next_dot(
    serve: StartServer, enrol: Enrol
) -> None:
    """The disk is full from now on: a real limit of SQLite's, not a mock."""
    server, campaign = await serve(), enrol(2000)
    db = campaign.ledger._db
    [pages] = db.execute("PRAGMA page_count").fetchone()
    db.execute(f"PRAGMA max_page_count = {pages + 3}")
    ledger = CampaignLedger(campaign.ledger, campaign.record, "a", campaign.content_id)
    delivery = Delivery(
        ledger,
        SubmissionServer(server.submission),
        Letter(),
        Pace([]),
        DomainPaces({}),
        QUICK,
        lambda recipient, state, outcome: None,
    )

    def failed() -> None:
        delivery.stop(Stop(ExitStatus.LEDGER, str(ledger.commits.failure)))
        delivery.abort("the ledger cannot be written")

    ledger.commits.on_failure = failed
    stop = await delivery.run()
    await ledger.close()
    assert stop is not None and stop.status is ExitStatus.LEDGER
    db.execute(f"PRAGMA max_page_count = {pages * 10}")  # somebody made room
    campaign.ledger.recover(campaign.record, 5.0)
    states = campaign.states()
    assert len(server.paths) <= states.get("accepted", 0) + states.get("in_doubt", 0)
    assert states["pending"] > 1000
    rows = campaign.rows()
    assert {rows[address]["state"] for address in server.paths} <= {"accepted", "in_doubt"}


# -- when ---------------------------------------------------------------------------------------


async def test_nothing_goes_before_the_start(serve: StartServer, enrol: Enrol) -> None:
    server, campaign = await serve(), enrol(2)
    start_at = time.time() + 0.3
    assert await campaign.run(server, replace(QUICK, start_at=start_at)) is None
    assert time.time() > start_at and sorted(server.paths) == everyone(2)


async def test_a_start_that_is_far_away_ends_the_run_and_says_when(
    serve: StartServer, enrol: Enrol
) -> None:
    server, campaign = await serve(), enrol(2)
    start_at = time.time() + 60
    stop = await campaign.run(server, replace(QUICK, start_at=start_at, wait=59))
    assert stop is not None
    assert (stop.status, stop.resume_at) == (ExitStatus.CONTINUE, start_at)
    assert stop.reason.startswith("it is to start on 20")
    assert server.server.accepted == 0 and campaign.states() == {"pending": 2}


async def test_waiting_for_the_start_hears_the_stop(serve: StartServer, enrol: Enrol) -> None:
    server, campaign = await serve(), enrol(2)
    running = asyncio.create_task(campaign.run(server, replace(QUICK, start_at=time.time() + 30)))
    while campaign.delivery is None:
        await asyncio.sleep(0)
    campaign.delivery.stop(Stop(ExitStatus.INTERRUPTED, "by SIGINT"))
    stop = await asyncio.wait_for(running, 5)
    assert stop is not None and stop.status is ExitStatus.INTERRUPTED
    assert server.server.accepted == 0


@pytest.mark.parametrize(("give_up", "state"), [(299, "expired"), (361, "deferred")])
async def test_who_would_be_tried_again_too_late_is_expired(
    serve: StartServer, enrol: Enrol, give_up: float, state: str
) -> None:
    later = b"450 4.2.1 later\r\n"
    server = await serve(answer=lambda verb, argument: later if verb == "RCPT" else None)
    campaign = enrol(1)
    await campaign.run(server, replace(QUICK, wait=60, first_retry=300, give_up=give_up))
    assert campaign.states() == {state: 1}
    assert campaign.settled == [("p0@example.com", state)]
    assert campaign.state_of("p0@example.com")["reply"] == "450 4.2.1 later"


# -- rates ---------------------------------------------------------------------------------------

JITTER_SECONDS = 0.15
"""Between a grant and the arrival of its dot: the commit, and round trips on a busy machine."""


def most_in_a_window(times: Sequence[float], seconds: float) -> int:
    return max(sum(start <= time < start + seconds for time in times) for start in times)


@pytest.mark.parametrize("connections", [1, 4, 20])
async def test_a_rate_holds_on_any_number_of_connections(
    serve: StartServer, enrol: Enrol, connections: int
) -> None:
    """Measured at the server: no second holds more dots than allowed, and 5 % at most are missing."""
    server, campaign = await serve(), enrol(150)
    started = time.monotonic()
    await campaign.run(server, replace(QUICK, connections=connections), rates=[Rate(100, 1)])
    seconds = time.monotonic() - started
    assert most_in_a_window(server.arrivals, 1 - JITTER_SECONDS) <= 100
    assert seconds >= 149 / 100 * 0.95
    assert (server.arrivals[-1] - server.arrivals[0]) == pytest.approx(
        1.49, rel=0.05, abs=JITTER_SECONDS
    )


async def test_a_rate_holds_over_a_stop_and_a_new_run(serve: StartServer, enrol: Enrol) -> None:
    server, campaign = await serve(), enrol(90)
    limits = replace(QUICK, messages=30)
    for _ in range(3):
        await campaign.run(server, limits, rates=[Rate(45, 1)])
    assert len(server.arrivals) == 90
    assert most_in_a_window(server.arrivals, 1 - JITTER_SECONDS) <= 45


@pytest.mark.parametrize(
    ("rate", "age_seconds", "renewed"),
    [(Rate(4, 1), 5.0, True), (Rate(4, 1), 0.0, False), (Rate(1, 3600), 5.0, False)],
)
async def test_a_grant_that_waited_long_for_its_connection_is_renewed(
    enrol: Enrol, rate: Rate, age_seconds: float, renewed: bool
) -> None:
    """Else it would leave on top of a later window's. Not where that would cost an hour."""
    campaign = enrol(2)
    ledger = CampaignLedger(campaign.ledger, campaign.record, "a", campaign.content_id)
    paces = DomainPaces({})
    desk = Desk(Queues(ledger, paces), Pace([rate]), paces, QUICK, Halt())
    granted = await desk.next()
    assert isinstance(granted, Granted)
    old = replace(granted, at=granted.at - age_seconds)
    started = time.time()
    fresh = await desk.fresh(old)
    assert fresh is not None and fresh.recipient is old.recipient
    assert (fresh.at != old.at) is renewed
    if renewed:
        assert fresh.at - started >= 0.2, "the next quarter of a second, less the catching up"
    await ledger.close()


async def test_who_waits_for_the_account_is_not_woken_by_asking(enrol: Enrol) -> None:
    """Or it would ask again at once, with all of a processor."""
    campaign = enrol(2)
    ledger = CampaignLedger(campaign.ledger, campaign.record, "a", campaign.content_id)
    paces = DomainPaces({})
    desk = Desk(Queues(ledger, paces), Pace([Rate(1, 60)]), paces, QUICK, Halt())
    assert isinstance(await desk.next(), Granted)
    later = await desk.next()
    assert isinstance(later, Later)
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(desk.until(later), 0.2)
    await ledger.close()


class TooLate(DomainPaces):
    """What is reserved for a domain is over whenever it comes."""

    def may_go(self, domain: str, now: float) -> bool:
        return False


async def test_rates_that_can_never_be_kept_together_are_told(
    enrol: Enrol, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("bulkmail.delivery.desk.PATIENCE_SECONDS", 0.1)
    campaign = enrol(2)
    ledger = CampaignLedger(campaign.ledger, campaign.record, "a", campaign.content_id)
    paces, halt = TooLate({"example.com": [Rate(8, 1)]}), Halt()
    desk = Desk(Queues(ledger, paces), Pace([]), paces, QUICK, halt)
    assert await asyncio.wait_for(desk.next(), 30) is None
    assert halt.stop is not None and halt.stop.status is ExitStatus.LEDGER
    assert "too far away for these rates" in halt.stop.reason
    await ledger.close()


async def test_a_used_up_quota_ends_the_run_and_says_when(serve: StartServer, enrol: Enrol) -> None:
    server, campaign = await serve(), enrol(20)
    for _ in range(2):
        stop = await campaign.run(server, rates=[Rate(8, 86400)])
        assert stop is not None and stop.status is ExitStatus.CONTINUE
        assert stop.resume_at == pytest.approx(time.time() + 86400, abs=60)
        assert campaign.states() == {"accepted": 8, "pending": 12}


async def test_a_slow_campaign_uses_one_connection(serve: StartServer, enrol: Enrol) -> None:
    """The rate, not the server, is what is waited for: more sessions would be idle."""
    server, campaign = await serve(), enrol(20)
    await campaign.run(server, rates=[Rate(20, 1)])
    assert server.server.accepted == 1


# -- rates of domains ----------------------------------------------------------------------------


async def test_a_domain_with_a_rate_holds_up_nobody_else(serve: StartServer, enrol: Enrol) -> None:
    """A list sorted by domain, the slow one first: the others are done before its third."""
    server, campaign = await serve(), enrol(90, lambda n: f"p{n}@d{n // 30}.example")
    started = time.monotonic()
    assert (
        await campaign.run(
            server, domain_rates={"d0.example": [Rate(40, 1)], "d2.example": [Rate(10_000, 1)]}
        )
        is None
    )
    assert campaign.states() == {"accepted": 90}
    slow = [at for path, at in zip(server.paths, server.arrivals, strict=True) if "d0." in path]
    others = [at for path, at in zip(server.paths, server.arrivals, strict=True) if "d1." in path]
    assert len(slow) == len(set(server.paths) - {p for p in server.paths if "d0." not in p}) == 30
    assert max(others) < slow[10]
    assert most_in_a_window(slow, 1 - JITTER_SECONDS) <= 40
    assert time.monotonic() - started >= 29 / 40 * 0.9
    in_order = [path for path in server.paths if "d0." in path]
    assert in_order == sorted(in_order, key=lambda path: int(path[1:].partition("@")[0]))


async def test_every_other_domain_has_the_rate_of_the_star(
    serve: StartServer, enrol: Enrol
) -> None:
    """Each for itself; one named beside it can be unlimited."""
    server, campaign = await serve(), enrol(60, lambda n: f"p{n}@d{n % 3}.example")
    await campaign.run(server, domain_rates={"*": [Rate(20, 1)], "d1.example": []})
    last = dict(zip(server.paths, server.arrivals, strict=True))
    of = [[at for path, at in last.items() if f"@d{d}." in path] for d in range(3)]
    assert campaign.states() == {"accepted": 60}
    assert max(of[1]) < of[0][5]
    assert of[0][-1] - of[0][0] == pytest.approx(0.92, rel=0.1, abs=JITTER_SECONDS)
    assert of[2][-1] - of[2][0] == pytest.approx(0.92, rel=0.1, abs=JITTER_SECONDS)


async def test_a_domain_rate_holds_over_a_stop_and_a_new_run(
    serve: StartServer, enrol: Enrol
) -> None:
    server, campaign = await serve(), enrol(40)
    rates = {"example.com": [Rate(25, 1)]}
    for _ in range(2):
        await campaign.run(server, replace(QUICK, messages=20), domain_rates=rates)
    assert len(server.arrivals) == 40
    assert most_in_a_window(server.arrivals, 1 - JITTER_SECONDS) <= 25


async def test_a_domain_that_must_wait_too_long_ends_the_run_and_says_when(
    serve: StartServer, enrol: Enrol
) -> None:
    """Everyone else has it by then."""
    server, campaign = await serve(), enrol(30, lambda n: f"p{n}@d{n // 20}.example")
    stop = await campaign.run(server, domain_rates={"d0.example": [Rate(5, 86400)]})
    assert stop is not None and stop.status is ExitStatus.CONTINUE
    assert stop.reason.startswith("the rate of d0.example allows the next message on 20")
    assert stop.resume_at == pytest.approx(time.time() + 86400, abs=60)
    assert campaign.states() == {"accepted": 15, "pending": 15}


async def test_connections_that_break_lose_nobody_of_a_domain_apart(
    serve: StartServer, enrol: Enrol
) -> None:
    numbers = itertools.count(1)

    def answer(verb: str, argument: str) -> None:
        if verb == "RCPT" and next(numbers) % 7 == 0:
            raise Hangup

    server, campaign = (
        await serve(answer=answer, extensions=IN_TURN),
        enrol(90, lambda n: f"p{n}@d{n // 30}.example"),
    )
    assert await campaign.run(server, SOON, domain_rates={"*": [Rate(200, 1)]}) is None
    assert campaign.states() == {"accepted": 90}
    assert len(server.paths) == len(set(server.paths)) == 90


async def test_the_deferred_of_a_domain_apart_are_tried_again_at_its_rate(
    serve: StartServer, enrol: Enrol
) -> None:
    seen: dict[str, int] = {}

    def answer(verb: str, argument: str) -> bytes | None:
        if verb == "RCPT":
            seen[argument] = seen.get(argument, 0) + 1
            return b"450 4.2.0 greylisted\r\n" if seen[argument] < 2 else None
        return None

    server, campaign = await serve(answer=answer), enrol(41, lambda n: f"p{n}@d{n // 40}.example")
    rates = {"d0.example": [Rate(100, 1)]}
    assert (
        await campaign.run(server, replace(QUICK, first_retry=0.05), (), domain_rates=rates) is None
    )
    assert campaign.states() == {"accepted": 41}
    assert len(server.paths) == len(set(server.paths)) == 41
    assert server.arrivals[-1] - server.arrivals[0] >= 0.3


# -- what the server can bear --------------------------------------------------------------------


def at_most(number: int, seconds: float, reply: bytes) -> Callable[[str, str], bytes | None]:
    """Takes so many messages in any such time; `reply` to the dot of others."""
    taken: deque[float] = deque()

    def answer(verb: str, argument: str) -> bytes | None:
        if verb != ".":
            return None
        now = time.monotonic()
        while taken and taken[0] <= now - seconds:
            taken.popleft()
        if len(taken) >= number:
            return reply
        taken.append(now)
        return None

    return answer


THROTTLED = b"454 Throttling failure: Maximum sending rate exceeded\r\n"


async def test_a_server_that_is_asked_too_much_is_asked_less(
    serve: StartServer, enrol: Enrol
) -> None:
    """Nobody is charged for it, everyone gets it once, and it has to complain a few times only."""
    complaints = []
    limit = at_most(30, 1.0, THROTTLED)

    def answer(verb: str, argument: str) -> bytes | None:
        reply = limit(verb, argument)
        complaints.extend([argument] * (reply is THROTTLED))
        return reply

    server, campaign = await serve(extensions=IN_TURN, answer=answer), enrol(120)
    assert await campaign.run(server) is None
    assert campaign.states() == {"accepted": 120}
    assert sorted(server.paths) == sorted(everyone(120))
    assert 1 <= len(complaints) <= 100
    assert {row["attempts"] for row in campaign.rows().values()} == {1}


async def test_a_server_that_only_complains_is_left_alone(serve: StartServer, enrol: Enrol) -> None:
    """After some complaints in a row, each waited for: nobody is to blame."""
    said = []

    def answer(verb: str, argument: str) -> bytes | None:
        said.append(verb)
        return THROTTLED if verb == "." else None

    server, campaign = await serve(answer=answer), enrol(30)
    stop = await campaign.run(server, replace(QUICK, wait=1.0))
    assert stop is not None and stop.status is ExitStatus.CONTINUE
    assert stop.reason.startswith("the server wants no more for now (454 Throttling failure")
    assert stop.resume_at is not None and 0 < stop.resume_at - time.time() < 3
    assert campaign.states() == {"pending": 30} and said.count(".") == 3


async def test_a_domain_that_is_asked_too_much_waits_alone(
    serve: StartServer, enrol: Enrol
) -> None:
    server = await serve()
    refused: list[float] = []

    def answer(verb: str, argument: str) -> bytes | None:
        if verb == "RCPT" and "@d0." in argument and len(refused) < 2:
            refused.append(time.monotonic())
            return b"450 4.7.1 rate limit of the domain d0.example exceeded\r\n"
        return None

    server.server.behaviour.answer = answer
    campaign = enrol(60, lambda n: f"p{n}@d{n % 3}.example")
    assert await campaign.run(server) is None
    assert campaign.states() == {"accepted": 60}
    arrived = dict(zip(server.paths, server.arrivals, strict=True))
    held = [at for path, at in arrived.items() if "@d0." in path]
    others = [at for path, at in arrived.items() if "@d0." not in path]
    assert max(others) < refused[0] + 0.2 < min(held)
    assert campaign.state_of("p0@d0.example")["attempts"] == 1


async def test_a_domain_that_is_always_too_much_is_refused_in_the_end(
    serve: StartServer, enrol: Enrol, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Then it counts, so that `give_up` has an end for it."""
    monkeypatch.setattr("bulkmail.pace.FIRST_HOLD", 0.02)
    answer = b"450 4.7.1 rate limit of the domain d0.example exceeded\r\n"
    server = await serve(
        answer=lambda verb, argument: answer if verb == "RCPT" and "@d0." in argument else None
    )
    campaign = enrol(4, lambda n: f"p{n}@d{n % 2}.example")
    stop = await campaign.run(server, replace(QUICK, wait=9, first_retry=60))
    assert stop is not None and stop.status is ExitStatus.CONTINUE
    assert campaign.states()["accepted"] == 2 and campaign.states()["deferred"] >= 1


class LateLedger:
    """One person of one domain, who is deferred at the very moment when the ledger is asked when
    the next retry is due: the real one does not know of it yet.
    """

    def __init__(self) -> None:
        self.queues: Queues | None = None
        self.person = Recipient(1, "p@d.example", {}, "m.csv:2", domain="d.example")
        self.left = [self.person]
        self.due_at: float | None = None

    async def claim(
        self, limit: int, now: float, domain: str | None = None
    ) -> tuple[list[Recipient], bool]:
        left, self.left = self.left, []
        return left, True

    def set_apart(self, domain: str) -> None: ...

    async def next_due_at(self, domain: str | None = None) -> float | None:
        known, asked = self.due_at, domain is not None
        if asked and known is None and self.queues is not None:
            self.due_at = time.time() + 60
            self.queues.deferred(self.person, self.due_at)
        return known if asked else None


async def test_who_is_deferred_while_the_ledger_is_asked_is_not_forgotten() -> None:
    ledger, paces = LateLedger(), DomainPaces({"d.example": [Rate(1, 0.1)]})
    queues = Queues(ledger, paces)  # type: ignore[arg-type]
    paces.grant("d.example", asyncio.get_running_loop().time())
    later = await queues.take()
    assert isinstance(later, Later), "the domain waits for its rate"
    await asyncio.sleep(later.at - asyncio.get_running_loop().time())
    assert await queues.take() is ledger.person
    ledger.queues = queues
    later = await queues.take()
    assert isinstance(later, Later) and later.why == "the next retry is due"


@pytest.mark.parametrize(("used_ago", "free_in"), [(None, 86400), (3600, 82800), (86399, 3600)])
async def test_a_quota_says_when_it_may_be_free_again(
    serve: StartServer, enrol: Enrol, used_ago: float | None, free_in: float
) -> None:
    """A day after the account's first message of the last day; in an hour at the earliest."""
    quota = b"454 Throttling failure: Daily message quota exceeded\r\n"
    server, campaign = await serve(answer=lambda v, a: quota if v == "." else None), enrol(3)
    used_at = None if used_ago is None else time.time() - used_ago
    stop = await campaign.run(server, replace(QUICK, account_used_at=used_at))
    assert stop is not None and stop.status is ExitStatus.CONTINUE
    assert stop.resume_at == pytest.approx(time.time() + free_in, abs=30)
    assert "Daily message quota exceeded\nit may be free again on 20" in stop.reason
    assert campaign.states() == {"pending": 3}


async def test_runs_that_end_early_blame_nobody_for_what_is_everyones(
    serve: StartServer, enrol: Enrol
) -> None:
    """Nine at a time, all refused alike: that one more might have been accepted is not known."""
    server, campaign = await serve(answer=lambda v, a: SPAM if v == "." else None), enrol(30)
    for _ in range(3):
        stop = await campaign.run(server, replace(QUICK, messages=9), content_proven=True)
        assert stop is not None and stop.status is ExitStatus.CONTINUE
        assert campaign.states() == {"pending": 30}


@pytest.mark.parametrize(
    ("verb", "reply"),
    [("RCPT", b"452 4.2.2 mailbox full: too many messages\r\n"),
     (".", b"421 4.4.2 Connection timed out\r\n")],
)  # fmt: skip
async def test_who_is_always_too_much_while_others_are_taken_is_refused(
    serve: StartServer, enrol: Enrol, monkeypatch: pytest.MonkeyPatch, verb: str, reply: bytes
) -> None:
    monkeypatch.setattr("bulkmail.pace.FIRST_HOLD", 0.01)

    def answer(now: str, argument: str) -> bytes | None:
        if now == verb and "p5@" in argument:
            if reply.startswith(b"421"):
                raise Hangup(reply)
            return reply
        return None

    server, campaign = await serve(answer=answer), enrol(100)
    stop = await campaign.run(server, replace(QUICK, wait=60))
    assert stop is not None and stop.status is ExitStatus.CONTINUE
    assert campaign.states() == {"accepted": 99, "deferred": 1}
    assert campaign.state_of("p5@example.com")["attempts"] == 1


async def test_a_run_waits_for_no_domain_in_which_nobody_is_left(
    serve: StartServer, enrol: Enrol
) -> None:
    server, campaign = await serve(), enrol(2)
    rates = {"example.com": [Rate(1, 1), Rate(2, 3600)]}
    started = time.monotonic()
    assert await campaign.run(server, domain_rates=rates) is None
    assert campaign.states() == {"accepted": 2} and time.monotonic() - started < 3


async def test_who_expired_is_not_waited_for(serve: StartServer, enrol: Enrol) -> None:
    later = b"450 4.2.1 later\r\n"
    server = await serve(answer=lambda verb, argument: later if verb == "RCPT" else None)
    campaign = enrol(4)
    limits = replace(QUICK, first_retry=60, give_up=30, wait=600)
    assert await campaign.run(server, limits, domain_rates={"*": [Rate(5, 1)]}) is None
    assert campaign.states() == {"expired": 4}


async def test_a_released_message_has_the_date_that_is_recorded(
    serve: StartServer, enrol: Enrol
) -> None:
    """Else one that is sent again after a doubt would have another."""
    dates: dict[float, None] = {}

    class Dated(Letter):
        def compose(self, recipient: Recipient, at: float) -> MailObject:
            dates[at] = None
            return super().compose(recipient, at)

    said = iter([b"450 4.7.0 rate limit exceeded\r\n"])
    server = await serve(answer=lambda verb, argument: next(said, None) if verb == "RCPT" else None)
    campaign = enrol(1)
    campaign.composer = Dated()
    assert await campaign.run(server) is None
    [recorded] = campaign.ledger._db.execute("SELECT first_attempt_at FROM recipient").fetchone()
    assert len(dates) == 2 and list(dates)[-1] == recorded


async def test_a_session_that_heard_many_refusals_is_followed_by_another(
    serve: StartServer, enrol: Enrol
) -> None:
    """Servers count errors, answer slower and hang up: none hears ten on one connection."""
    campaign = enrol(60)
    said: list[str] = []

    def answer(verb: str, argument: str) -> bytes | None:
        unknown = verb == "RCPT" and not any(f"<p{n}@" in argument for n in (0, 30, 36, 42))
        said.append("-" if unknown else verb)
        return b"550 5.1.1 unknown\r\n" if unknown else None

    await campaign.run(
        await serve(extensions=IN_TURN, answer=answer), replace(QUICK, connections=1)
    )
    assert campaign.states() == {"accepted": 4, "failed": 56}
    heard = "".join({"CONNECT": "|", ".": "+", "-": "-"}.get(verb, "") for verb in said)
    refused = [one.count("-") for one in heard.split("|")]
    assert sum(refused) == 56 and max(refused) <= 9 and heard.count("|") < 10


@pytest.mark.parametrize(
    ("verb", "reply"),
    [
        ("CONNECT", b"554 5.7.0 too many connections\r\n"),
        ("AUTH", b"535 5.7.8 logged in elsewhere\r\n"),
        ("AUTH", b"550 too many sessions\r\n"),
        ("EHLO", b"550 no more\r\n"),
    ],
)
async def test_a_second_connection_that_is_refused_is_done_without(
    serve: StartServer, enrol: Enrol, verb: str, reply: bytes
) -> None:
    """What the first one is not told is no reason to stop."""
    asked = itertools.count(1)
    server, campaign = (
        await serve(answer=lambda v, a: reply if v == verb and next(asked) > 1 else None),
        enrol(60),
    )
    assert await campaign.run(server) is None
    assert campaign.states() == {"accepted": 60} and server.server.accepted > 1


async def test_a_server_that_wavers_is_tried_again_once_it_took_something(
    serve: StartServer, enrol: Enrol
) -> None:
    """Refused with 5xx when the only connection is renewed: that is no reason to stop either."""
    greeted = itertools.count(1)
    server, campaign = (
        await serve(
            answer=lambda v, a: (
                b"554 5.3.2 not now\r\n" if v == "CONNECT" and next(greeted) == 2 else None
            )
        ),
        enrol(20),
    )
    limits = replace(QUICK, connections=1, messages_per_connection=10)
    assert await campaign.run(server, limits) is None
    assert campaign.states() == {"accepted": 20}


async def test_a_refusal_that_concerns_the_server_charges_nobody(
    serve: StartServer, enrol: Enrol
) -> None:
    """Its disk is full: it is asked again, slower and slower, until the run ends for now."""
    full = b"452 4.3.1 insufficient system storage\r\n"
    server, campaign = await serve(), enrol(200)
    server.server.behaviour.answer = lambda v, a: (
        full if v == "." and len(server.received) >= 5 else None
    )
    stop = await campaign.run(server, replace(QUICK, wait=2.0))
    assert stop is not None and stop.status is ExitStatus.CONTINUE
    assert "wants no more for now (452 4.3.1" in stop.reason
    states = campaign.states()
    assert states.pop("accepted") + states.pop("pending") == 200 and not states


async def test_a_mailbox_refused_at_the_end_does_not_stop_the_first_message(
    serve: StartServer, enrol: Enrol
) -> None:
    """Some servers say only then that nobody is there."""
    unknown = b"550 5.1.1 user unknown\r\n"
    server, campaign = (
        await serve(answer=lambda v, a: unknown if v == "." and a.startswith("p0@") else None),
        enrol(20),
    )
    assert await campaign.run(server) is None
    assert campaign.states() == {"accepted": 19, "failed": 1}


async def test_who_is_refused_first_is_named(serve: StartServer, enrol: Enrol) -> None:
    """So that one person's own trouble does not hold up all others for ever."""
    server, campaign = (
        await serve(answer=lambda v, a: b"554 5.7.1 no\r\n" if v == "." else None),
        enrol(3),
    )
    stop = await campaign.run(server)
    assert stop is not None and "bulkmail suppress add p0@example.com" in stop.reason


async def test_a_connection_is_not_kept_idle_while_the_rate_is_waited_for(
    serve: StartServer, enrol: Enrol, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("bulkmail.delivery.desk.IDLE_SECONDS", 0.2)
    monkeypatch.setattr("bulkmail.delivery.worker.IDLE_SECONDS", 0.2)
    said = []
    server, campaign = await serve(answer=lambda verb, argument: said.append(verb)), enrol(4)
    assert await campaign.run(server, replace(QUICK, connections=1), rates=[Rate(2, 1)]) is None
    assert campaign.states() == {"accepted": 4}
    assert said.count("QUIT") == said.count("CONNECT") >= 3


async def test_time_in_which_nobody_tried_is_no_patience_used_up(
    serve: StartServer, enrol: Enrol
) -> None:
    later = b"450 4.2.1 later\r\n"
    server = await serve(answer=lambda verb, argument: later if verb == "RCPT" else None)
    campaign = enrol(1)
    limits = replace(QUICK, wait=0, first_retry=300, give_up=3600)
    await campaign.run(server, limits)
    with closing(sqlite3.connect(campaign.path)) as db, db:
        db.execute("UPDATE recipient SET first_attempt_at = first_attempt_at - 259200, due_at = 9")
    await campaign.run(server, limits)
    assert campaign.states() == {"deferred": 1}
    with closing(sqlite3.connect(campaign.path)) as db, db:
        db.execute("UPDATE recipient SET due_at = ?", (time.time(),))
    await campaign.run(server, limits)
    assert campaign.states() == {"expired": 1}, "the time before does count"


async def test_a_clock_that_is_put_back_holds_up_no_retry(
    enrol: Enrol, monkeypatch: pytest.MonkeyPatch
) -> None:
    campaign = enrol(1)
    changes = CampaignLedger(campaign.ledger, campaign.record, "a", campaign.content_id)
    queues = Queues(changes, DomainPaces({}))
    before, loop = queues.clock(), asyncio.get_running_loop().time()
    really = time.time
    monkeypatch.setattr(time, "time", lambda: really() - 86400)
    await asyncio.sleep(0.05)
    assert queues.clock() - before == pytest.approx(
        asyncio.get_running_loop().time() - loop, abs=0.01
    )
    monkeypatch.setattr(time, "time", lambda: really() + 3600)
    assert queues.clock() - before == pytest.approx(3600, abs=1), "a laptop that slept"
    await changes.close()


async def test_a_server_that_wants_no_more_resets_stops_nobody(
    serve: StartServer, enrol: Enrol
) -> None:
    """Exim: after so many it refuses RSET, and closes a moment later; all get it, on others."""
    server, campaign = await serve(), enrol(300)
    resets = Counter[object]()

    def answer(verb: str, argument: str) -> bytes | None:
        if verb != "RSET":
            return None
        [connection] = server.server.connections
        resets[connection] += 1
        if resets[connection] < 30:
            return None
        if resets[connection] == 30:
            connection._receiver.closed = True
            asyncio.get_running_loop().call_later(0.05, connection.abort)
        return b"554 Too many nonmail commands\r\n"

    server.server.behaviour.answer = answer
    limits = replace(QUICK, connections=1, messages_per_connection=1000, attempts=50)
    assert await campaign.run(server, limits) is None
    assert campaign.states() == {"accepted": 300}
    assert sorted(server.paths) == sorted(everyone(300)) and len(resets) >= 10
