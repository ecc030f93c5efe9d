"""A project's ledger in PostgreSQL: read, asked, copied, and stopped, while others write it."""

import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing

import psycopg
import pytest

from bulkmail import engine
from bulkmail.errors import LedgerBusyError, LedgerError, NoLedgerError
from bulkmail.ledger import CampaignRecord, SqliteLedger
from bulkmail.ledger.postgres import PostgresHome, PostgresLedger
from bulkmail.ledger.postgres.opening import VERSION
from bulkmail.model import Row, State

SENDING = """
WITH worker AS (
    INSERT INTO worker (name, started_at, has_files, lease_until)
    VALUES ('w', 0, false, clock_timestamp() + make_interval(secs => %s)) RETURNING id
)
UPDATE shard SET worker_id = worker.id FROM worker WHERE campaign_id = %s
"""


def people(number: int) -> list[Row]:
    return [Row(f"p{n}@example.com", {"name": f"P {n}"}, f"m.csv:{n}") for n in range(number)]


@pytest.fixture
def home(postgres_url: str) -> PostgresHome:
    return PostgresHome(postgres_url, engine)


@pytest.fixture
def sql(postgres_url: str) -> Iterator[psycopg.Connection]:
    """A connection beside those of the ledger."""
    with psycopg.connect(
        postgres_url, autocommit=True, options="-c search_path=bulkmail"
    ) as connection:
        yield connection


@pytest.fixture
def ledger(home: PostgresHome) -> Iterator[PostgresLedger]:
    ledger = home.ledger("july")
    yield ledger
    ledger.close()


@pytest.fixture
def campaign(ledger: PostgresLedger) -> CampaignRecord:
    """Planned, for 30 people."""
    with ledger.enrolling():
        campaign = ledger.campaign("july", 1000.0)
        ledger.enrol(campaign, people(30))
        content_id = ledger.contents.id_of(campaign, "content")
        ledger.hand_out(campaign, content_id, "{}", [], limit=None, after_seconds=0)
    ledger.begin_run(campaign, 2000.0)
    return campaign


# -- opening -------------------------------------------------------------------------------------


def test_many_open_a_new_database_at_once(home: PostgresHome, sql: psycopg.Connection) -> None:
    """One makes the tables."""
    together = threading.Barrier(6)

    def open_one(number: int) -> int:
        together.wait(30)
        with closing(home.ledger(f"letter {number}")) as ledger:
            return ledger.campaign(f"letter {number}", 1.0).id

    with ThreadPoolExecutor(6) as threads:
        assert sorted(threads.map(open_one, range(6))) == [1, 2, 3, 4, 5, 6]
    assert sql.execute("SELECT number FROM version ORDER BY number").fetchall() == [
        (number + 1,) for number in range(VERSION)
    ]


def test_tables_that_could_not_all_be_made_are_none(
    home: PostgresHome, sql: psycopg.Connection
) -> None:
    """A table stands where the queue has its own."""
    sql.execute("CREATE SCHEMA bulkmail CREATE TABLE pgqueuer (id integer)")
    with pytest.raises(LedgerError, match="pgqueuer"):
        home.ledger("july")
    assert not home.exists()
    sql.execute("DROP TABLE pgqueuer")
    home.ledger("july").close()
    assert home.exists()


def test_tables_of_a_newer_version_are_refused_with_words(
    home: PostgresHome, campaign: CampaignRecord, sql: psycopg.Connection
) -> None:
    sql.execute("INSERT INTO version VALUES (99)")
    for use in (
        lambda: home.ledger("august"),
        home.view,
        home.exists,
        lambda: home.scratch("july", "content"),
        lambda: home.suppress(["kim@example.com"], "", 0.0),
        lambda: home.ask_to_stop(campaign, 0.0),
    ):
        with pytest.raises(LedgerError, match=r"newer bulkmail \(version 99; this one knows \d+\)"):
            use()


@pytest.mark.parametrize(
    ("option", "words"),
    [
        ("role%3Dpg_monitor", "permission denied"),
        ("default_transaction_read_only%3Don", "read-only transaction"),
    ],
)
def test_who_may_not_write_is_told(
    home: PostgresHome, postgres_url: str, option: str, words: str
) -> None:
    also = "&" if "?" in postgres_url else "?"
    other = PostgresHome(f"{postgres_url}{also}options=-c%20{option}", engine)
    with pytest.raises(LedgerError, match=words):
        other.ledger("july")
    home.ledger("july").close()
    with pytest.raises(LedgerError, match=words):
        other.suppress(["kim@example.com"], "", 0.0)


def test_a_database_that_cannot_be_reached_is_told_without_its_password() -> None:
    with pytest.raises(
        LedgerError, match=r"postgresql://kim@127\.0\.0\.1:1/news: .*refused"
    ) as told:
        PostgresHome("postgresql://kim:secret@127.0.0.1:1/news?sslmode=disable", engine).exists()
    assert "secret" not in str(told.value)


def test_one_plans_or_decides_at_a_time(
    home: PostgresHome, ledger: PostgresLedger, monkeypatch: pytest.MonkeyPatch
) -> None:
    """For one campaign; until the process ends."""
    monkeypatch.setattr("bulkmail.ledger.postgres.ledger.BUSY_SECONDS", 0.1)
    with pytest.raises(LedgerBusyError, match="prepared elsewhere"):
        home.ledger("july")
    home.ledger("august").close()
    ledger.close()
    monkeypatch.undo()
    home.ledger("july").close()


# -- reading -------------------------------------------------------------------------------------


def test_where_nothing_was_recorded_there_is_nothing_to_read(home: PostgresHome) -> None:
    assert not home.exists()
    with pytest.raises(NoLedgerError, match="nothing was ever recorded in postgresql://"):
        home.view()


@pytest.mark.parametrize(("version", "words"), [(99, "newer bulkmail"), (-1, "older bulkmail")])
def test_tables_of_another_version_are_told(
    home: PostgresHome, campaign: CampaignRecord, sql: psycopg.Connection, version: int, words: str
) -> None:
    sql.execute("UPDATE version SET number = %s", [version])
    with pytest.raises(LedgerError, match=words):
        home.view()


def test_what_is_held_stays_as_it_is(
    home: PostgresHome, ledger: PostgresLedger, campaign: CampaignRecord
) -> None:
    with closing(home.view()) as held, closing(home.view()) as other:
        held.hold()
        assert held.tally(campaign) == {State.PENDING: 30}
        ledger.cancel(campaign, 1.0)
        assert held.tally(campaign) == {State.PENDING: 30}
        assert other.tally(campaign) == {State.CANCELLED: 30}


def test_a_reading_may_be_left_early_and_others_begin_meanwhile(
    home: PostgresHome, ledger: PostgresLedger, campaign: CampaignRecord
) -> None:
    ledger.enrol(campaign, people(5000))
    with closing(home.view()) as view:
        view.hold()
        one, other = view.report(campaign, []), view.not_accepted_people(campaign, [])
        assert next(one)["email"] == next(other).address == "p0@example.com"
        one.close()
        assert next(other).address == "p1@example.com"
        assert view.tally(campaign) == {State.PENDING: 5000}


def test_a_reading_that_was_not_held_leaves_the_view_usable(
    home: PostgresHome, ledger: PostgresLedger, campaign: CampaignRecord
) -> None:
    ledger.enrol(campaign, people(5000))
    with closing(home.view()) as view:
        rows = view.report(campaign, [])
        assert next(rows)["email"] == "p0@example.com"
        rows.close()
        assert view.tally(campaign) == {State.PENDING: 5000}


# -- stopping ------------------------------------------------------------------------------------


def test_a_campaign_is_under_way_while_a_worker_holds_a_shard_of_it(
    home: PostgresHome, campaign: CampaignRecord, sql: psycopg.Connection
) -> None:
    with closing(home.view()) as view:
        assert not home.is_under_way(view, None)
        assert not home.is_under_way(view, campaign), "nobody has taken anything yet"
        sql.execute(SENDING, [60, campaign.id])
        assert home.is_under_way(view, campaign)
        sql.execute("UPDATE worker SET lease_until = clock_timestamp()")
        assert not home.is_under_way(view, campaign)


def test_who_asks_to_stop_closes_the_campaign(
    home: PostgresHome, campaign: CampaignRecord, sql: psycopg.Connection
) -> None:
    """Nobody has begun: the run is over; a second time there is nothing to stop."""
    assert home.ask_to_stop(campaign, 3000.0)
    assert sql.execute("SELECT is_open, ended_at FROM campaign, run").fetchall() == [
        (False, 3000.0)
    ]
    assert home.has_stopped(campaign, 0)
    assert not home.ask_to_stop(campaign, 4000.0)


def test_who_asks_to_stop_can_wait_for_those_who_send(
    home: PostgresHome, campaign: CampaignRecord, sql: psycopg.Connection
) -> None:
    """Also who asks again."""
    sql.execute(SENDING, [60, campaign.id])
    assert home.ask_to_stop(campaign, 3000.0) and home.ask_to_stop(campaign, 3000.0)
    assert not home.has_stopped(campaign, 0)
    assert sql.execute("SELECT is_open, ended_at FROM campaign, run").fetchall() == [(False, None)]
    found: list[bool] = []
    waiting = threading.Thread(target=lambda: found.append(home.has_stopped(campaign, 60)))
    waiting.start()
    sql.execute("UPDATE shard SET worker_id = NULL")
    waiting.join()
    assert found == [True]
    [(ended_at,)] = sql.execute("SELECT ended_at FROM run").fetchall()
    assert ended_at is not None


def test_a_campaign_at_its_question_cannot_be_stopped_nor_the_suppression_list_changed(
    home: PostgresHome,
    ledger: PostgresLedger,
    campaign: CampaignRecord,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The plan would not see it."""
    monkeypatch.setattr("bulkmail.ledger.postgres.home.BUSY_SECONDS", 0.1)
    with ledger.enrolling():
        ledger.campaign("july", 1000.0)
        with pytest.raises(LedgerBusyError, match="answer the question"):
            home.ask_to_stop(campaign, 3000.0)
        with pytest.raises(LedgerBusyError, match="nothing was changed"):
            home.suppress(["kim@example.com"], "", 0.0)
        with pytest.raises(LedgerBusyError, match="nothing was changed"):
            home.release(["kim@example.com"])
    assert home.ask_to_stop(campaign, 3000.0)


def test_the_suppression_list(home: PostgresHome) -> None:
    """Made with the tables, if it is the first that is recorded."""
    assert home.suppress(["Kim@example.com", "lee@example.com"], "asked to", 1000.0) == 2
    assert home.suppress(["kim@EXAMPLE.com", "choi@example.com"], "again", 2000.0) == 1
    assert home.release(["LEE@example.com", "nobody@example.com"]) == 1
    with closing(home.view()) as view:
        assert list(view.suppressed()) == [
            ("choi@example.com", "again", 2000.0),
            ("Kim@example.com", "asked to", 1000.0),
        ]


# -- a copy --------------------------------------------------------------------------------------


def test_a_copy_of_nothing_is_empty(home: PostgresHome) -> None:
    with closing(home.scratch("july", "content")) as scratch:
        assert scratch.known("july") is None
    assert not home.exists()


def told(ledger: SqliteLedger | PostgresLedger, table: str, columns: str) -> list[tuple]:
    return ledger._db.execute(f"SELECT {columns} FROM {table} ORDER BY id").fetchall()


def test_a_copy_holds_the_campaign_and_whoever_has_its_content(
    home: PostgresHome, ledger: PostgresLedger, campaign: CampaignRecord, sql: psycopg.Connection
) -> None:
    """While it is sent and its planner holds it; in their order, numbered without gaps."""
    for name, digest in (("august", "content"), ("other", "other content")):
        other = ledger.campaign(name, 5.0)
        ledger.enrol(other, people(3))
        content_id = ledger.contents.id_of(other, digest)
        sql.execute("UPDATE recipient SET state = 'accepted', content_id = %s"
                    " WHERE campaign_id = %s AND address < 'p2'", [content_id, other.id])  # fmt: skip
    ledger.enrol(campaign, people(30)[::-1])
    home.suppress(["lee@example.com"], "asked to", 1.0)
    sql.execute("UPDATE recipient SET state = 'in_flight' WHERE address = 'p7@example.com'")
    sql.execute("UPDATE recipient SET state = 'failed' WHERE address = 'p8@example.com'")
    sql.execute("SELECT remember(id, 7) FROM recipient WHERE address IN"
                " ('p7@example.com', 'p8@example.com') ORDER BY id DESC")  # fmt: skip
    with ledger.enrolling(), closing(home.scratch("july", "content")) as copy:
        ledger.campaign("july", 1.0)
        assert copy.known("july") == ledger.known("july")
        assert copy.tally(campaign) == ledger.tally(campaign)
        assert copy.known("other") is None
        columns = (
            "address, address_key, domain, fields, source, reading, added_reading, changed_reading,"
            " state, reason, attempts, content_id, in_doubt_events, due_at, reply"
        )
        own = f"recipient WHERE campaign_id = {campaign.id}"
        assert told(copy, own, columns) == told(ledger, own, columns)
        assert told(copy, own, "id") == [(n,) for n in range(1, 31)]
        assert told(copy, "run", "started_at, ended_at") == [(2000.0, None)]
        whose = "event JOIN recipient ON recipient.id = recipient_id"
        assert copy._db.execute(
            f"SELECT address, what, at FROM {whose} ORDER BY event.id"
        ).fetchall() == [("p8@example.com", "failed", 7.0), ("p7@example.com", "in_flight", 7.0)]
        assert copy._db.execute("SELECT address FROM suppression").fetchall() == [
            ("lee@example.com",)
        ]
        assert copy.people_digest(campaign) == ledger.people_digest(campaign)
        assert copy.contents.sent_before(campaign, "content", ["name"]) == ("august", 2)
        assert ledger.contents.sent_before(campaign, "content", ["name"]) == ("august", 2)
        copy.recover(campaign, 9.0)
        copy.enrol(campaign, people(40))
        assert copy.tally(campaign) == {State.PENDING: 38, State.IN_DOUBT: 1, State.FAILED: 1}
    assert ledger.tally(campaign) == {State.PENDING: 28, State.IN_FLIGHT: 1, State.FAILED: 1}
