"""What `status` tells of a ledger in PostgreSQL, and which ledger a command means."""

import asyncio
import json
import time
from collections.abc import Iterator
from contextlib import closing
from typing import Any

import psycopg
import pytest

from bulkmail import engine
from bulkmail.ledger import CampaignRecord
from bulkmail.ledger.postgres import PostgresHome
from bulkmail.ledger.postgres.overview import Overview
from bulkmail.model import Row

from .conftest import Project, Result, StartServer


@pytest.fixture
def home(postgres_url: str) -> PostgresHome:
    return PostgresHome(postgres_url, engine)


@pytest.fixture
def campaign(home: PostgresHome) -> CampaignRecord:
    """July, planned for 24 people in 12 shards."""
    rows = [Row(f"p{n}@example.com", {}, f"m.csv:{n}") for n in range(24)]
    with closing(home.ledger("july")) as ledger:
        with ledger.enrolling():
            campaign = ledger.campaign("july", 1000.0)
            ledger.enrol(campaign, rows)
            content_id = ledger.contents.id_of(campaign, "content")
            ledger.hand_out(campaign, content_id, "{}", [], limit=None, after_seconds=0)
        ledger.begin_run(campaign, 2000.0)
    return campaign


@pytest.fixture
def sql(postgres_url: str) -> Iterator[psycopg.Connection]:
    """A connection beside those of the ledger."""
    with psycopg.connect(
        postgres_url, autocommit=True, options="-c search_path=bulkmail"
    ) as connection:
        yield connection


def worker(sql: psycopg.Connection, name: str, lease_seconds: float, shards: int = 0) -> None:
    """A worker whose lease ends so soon, or ended, with some shards that nobody has."""
    [id_] = sql.execute(
        "INSERT INTO worker (name, started_at, lease_until)"
        " VALUES (%s, 3000, clock_timestamp() + make_interval(secs => %s)) RETURNING id",
        [name, lease_seconds],
    ).fetchone()
    sql.execute(
        "UPDATE shard SET worker_id = %s WHERE id IN"
        " (SELECT id FROM shard WHERE worker_id IS NULL ORDER BY id LIMIT %s)",
        [id_, shards],
    )


def status(project: Project, url: str, *more: str) -> Result:
    result = project.here("status", "--ledger", url, *more)
    assert result.status == 0, result.err
    return result


def granted(sql: psycopg.Connection, account: str, ago: int, number: int, domain: str = "") -> None:
    sql.execute(
        "INSERT INTO granted SELECT %s, %s, floor(extract(epoch FROM clock_timestamp())) - %s,"
        " 1, 0, %s",
        [account, domain, ago, number],
    )


def test_workers_that_live_or_left_something_or_just_ended(
    home: PostgresHome, campaign: CampaignRecord, sql: psycopg.Connection
) -> None:
    worker(sql, "alive:1", 60, shards=3)
    worker(sql, "lost:1", -7200, shards=2)
    worker(sql, "ended:1", -30)
    worker(sql, "long ago:1", -7200)
    worker(sql, "anew:1", -20)
    worker(sql, "anew:1", 60)
    with Overview(home.url, engine) as overview:
        found = overview.workers()
        left = overview.remainder(campaign)
    assert [(w.name, w.is_alive, w.shards, w.started_at) for w in found] == [
        ("alive:1", True, 3, 3000.0),
        ("anew:1", True, 0, 3000.0),
        ("ended:1", False, 0, 3000.0),
        ("lost:1", False, 2, 3000.0),
    ]
    assert 0 < found[0].lease_seconds <= 60 and found[3].lease_seconds < -7100
    assert (left.is_open, left.people, left.shards, left.held) == (True, 24, 12, 3)


def test_rates_are_those_of_the_last_minute_by_account(
    home: PostgresHome, campaign: CampaignRecord, sql: psycopg.Connection
) -> None:
    for ago, number in ((5, 100), (30, 11), (3600, 999)):
        granted(sql, "a@one:465", ago, number)
    granted(sql, "a@one:465", 5, 77, domain="example.com")
    granted(sql, "b@two:465", 20, 5)
    granted(sql, "c@three:465", 3600, 5)
    with Overview(home.url, engine) as overview:
        assert [tuple(rate) for rate in overview.rates()] == [
            ("a@one:465", 10.0, 111),
            ("b@two:465", 0.0, 5),
        ]


async def test_a_campaign_that_nobody_sends_says_so(
    project: Project, home: PostgresHome, campaign: CampaignRecord, sql: psycopg.Connection
) -> None:
    told = status(project, home.url)
    assert told.out.splitlines()[0] == "july: 24 pending"
    assert "  12 shards with 24 people left: 0 with workers, 12 waiting" in told.out
    assert "no worker is alive" in told.out and "bulkmail worker --ledger" in told.out

    worker(sql, "web:1", 60, shards=4)
    told = status(project, home.url)
    assert "july: 24 pending · being sent since" in told.out
    assert "4 with workers, 8 waiting" in told.out and "no worker" not in told.out
    sql.execute("UPDATE worker SET lease_until = clock_timestamp() - interval '42 seconds'")
    told = status(project, home.url)
    assert "no worker is alive" in told.out
    assert any(
        line.startswith("web:1") and "4  gone for 4" in line for line in told.out.splitlines()
    ), told.out


async def test_a_campaign_that_is_closed_tells_why(
    project: Project, home: PostgresHome, campaign: CampaignRecord, sql: psycopg.Connection
) -> None:
    sql.execute("UPDATE campaign SET is_open = false")
    assert "  paused; go on: bulkmail run FILE\n" in (status(project, home.url)).out
    worker(sql, "web:1", 60, shards=1)
    assert "what is under way is finished: 1 shard\n" in (status(project, home.url)).out
    sql.execute("UPDATE campaign SET stopped_for = 'the server refuses to go on: 550 no'")
    assert "  stopped: the server refuses to go on: 550 no\n" in (status(project, home.url)).out
    sql.execute("UPDATE campaign SET stopped_for = ''")
    sql.execute("UPDATE recipient SET state = 'cancelled'")
    told = (status(project, home.url)).out
    assert "july: 24 cancelled" in told and "shards with" not in told and "paused" not in told


async def test_a_start_in_the_future_is_told(
    project: Project, home: PostgresHome, campaign: CampaignRecord, sql: psycopg.Connection
) -> None:
    sql.execute("UPDATE pgqueuer SET execute_after = execute_after + interval '3 hours'")
    worker(sql, "web:1", 60)
    assert "waits until 20" in (status(project, home.url)).out
    told = json.loads((status(project, home.url, "--json")).out)
    assert told["shards"]["next_at"] > time.time() + 3600


async def test_as_json_each_campaign_is_one_object(
    project: Project, home: PostgresHome, campaign: CampaignRecord, sql: psycopg.Connection
) -> None:
    with closing(home.ledger("august")) as ledger, ledger.enrolling():
        ledger.campaign("august", 5.0)
    worker(sql, "web:1", 60, shards=2)
    granted(sql, "a@one:465", 3, 20)
    told = {
        line["campaign"]: line
        for line in map(json.loads, (status(project, home.url, "--json")).out.splitlines())
    }
    assert set(told) == {"july", "august"}
    assert told["august"]["shards"]["left"] == 0 and not told["august"]["open"]
    july: dict[str, Any] = told["july"]
    assert (july["states"], july["under_way"], july["open"], july["stopped_for"]) == (
        {"pending": 24}, True, True, "",
    )  # fmt: skip
    shards = july["shards"]
    assert (shards["left"], shards["people"], shards["held"], shards["waiting"]) == (12, 24, 2, 10)
    [seen] = july["workers"]
    assert (seen["name"], seen["alive"], seen["shards"]) == ("web:1", True, 2)
    assert july["rates"] == [{"account": "a@one:465", "in_a_second": 2.0, "in_a_minute": 20}]


# -- which ledger is meant -----------------------------------------------------------------------


async def test_status_looks_at_the_projects_ledger_and_that_of_the_environment(
    serve: StartServer, project: Project, home: PostgresHome, campaign: CampaignRecord
) -> None:
    project.environment["BULKMAIL_LEDGER"] = home.url
    assert project.here("status").out.startswith("july: 24 pending")
    project.campaign(await serve())
    assert (await project.bulkmail("run", "letter.yaml", "--yes")).status == 0
    both = project.here("status").out
    assert both.startswith("letter: 1 accepted\njuly: 24 pending")
    assert project.here("status", "letter.yaml").out == "letter: 1 accepted\n"
    named = project.here("status", "--ledger", "bulkmail.sqlite")
    assert named.out == "letter: 1 accepted\n"
    wrong = project.here("status", "letter.yaml", "--ledger", home.url)
    assert wrong.status == 2 and "without FILE" in wrong.err


async def test_status_where_nothing_is(project: Project, postgres_url: str) -> None:
    result = project.here("status")
    assert result.status == 66 and "no BULKMAIL_LEDGER" in result.err
    result = project.here("status", "--ledger", postgres_url)
    assert result.status == 66 and "nothing was ever recorded in postgresql://" in result.err
    result = project.here("status", "--ledger", "nowhere.sqlite")
    assert result.status == 66 and not (project.folder / "nowhere.sqlite").exists()


async def test_the_suppression_list_of_a_database(
    project: Project, postgres_url: str, home: PostgresHome
) -> None:
    by_name = project.here("suppress", "add", "kim@example.com", "--ledger", postgres_url)
    assert by_name.out.startswith("1 suppressed in postgresql://"), by_name.err
    project.environment["BULKMAIL_LEDGER"] = postgres_url
    assert project.here("suppress", "add", "lee@example.com").status == 0
    listed = project.here("suppress", "list", "--json")
    assert [json.loads(line)["email"] for line in listed.out.splitlines()] == [
        "kim@example.com",
        "lee@example.com",
    ]
    assert project.here("suppress", "remove", "kim@example.com").out == "1 taken off\n"
    with closing(home.view()) as view:
        assert [address for address, *_ in view.suppressed()] == ["lee@example.com"]
    assert not (project.folder / "bulkmail.sqlite").exists()


async def test_where_two_ledgers_could_be_meant_nobody_is_suppressed_in_either(
    project: Project, postgres_url: str, home: PostgresHome
) -> None:
    assert project.here("suppress", "add", "kim@example.com").status == 0
    project.environment["BULKMAIL_LEDGER"] = postgres_url
    for arguments in (("add", "lee@example.com"), ("remove", "kim@example.com"), ("list",)):
        result = project.here("suppress", *arguments)
        assert result.status == 65, result
        assert "--ledger bulkmail.sqlite" in result.err and "--ledger postgresql://" in result.err
    assert not home.exists()
    listed = project.here("suppress", "list", "--ledger", "bulkmail.sqlite")
    assert "kim@example.com" in listed.out and "lee@" not in listed.out


@pytest.mark.parametrize("command", ["worker", "migrate"])
async def test_what_needs_a_database_is_given_one(project: Project, command: str) -> None:
    result = await project.bulkmail(command, "--ledger", "bulkmail.sqlite")
    assert result.status == 2 and "must be a URL such as postgresql://" in result.err
    result = await project.bulkmail(command)
    assert result.status == 2 and "Missing option '--ledger'" in result.err


# -- with workers --------------------------------------------------------------------------------


async def test_while_workers_send_status_names_them(
    serve: StartServer, project: Project, postgres_url: str
) -> None:
    project.many(30)
    project.campaign(await serve(), rate="5/s", more=f"ledger: {postgres_url}")
    planned = await project.bulkmail("run", "letter.yaml", "--yes", "--detach")
    assert planned.status == 0, planned.err
    worker = await project.start("worker", "--ledger", postgres_url)
    try:
        told: dict[str, Any] = {"under_way": False, "rates": []}
        while not (told["under_way"] and told["rates"]):
            told = json.loads((await project.bulkmail("status", "letter.yaml", "--json")).out)
        [seen] = told["workers"]
        assert seen["alive"] and seen["name"].endswith(f":{worker.pid}")
        assert 0 < told["shards"]["held"] <= told["shards"]["left"] <= 12
        assert told["rates"][0]["account"].startswith("sender@")
    finally:
        worker.terminate()
        await asyncio.wait_for(worker.wait(), 60)
