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
from bulkmail.ledger.suppression import suppress
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


def test_the_suppression_list_of_a_ledger_that_cannot_be_written(tmp_path: Path) -> None:
    with pytest.raises(LedgerError, match="unable to open"):
        suppress(tmp_path / "nowhere" / "bulkmail.sqlite", ["kim@example.com"], "", 0.0)


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
