"""The stages of a message by themselves, in microseconds each: `python -m benchmarks.stages`.

Each line is one stage of bulkmail's own code, as a run calls it, on the letter that the senders are
compared with. The best of several repetitions counts: what disturbs a stage only makes it longer.
What is missing from their sum to the CPU time of a sending message is the loop, the desk, TLS and
the kernel.
"""

import argparse
import shutil
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

from benchmarks import material
from benchmarks.senders.bulkmail import CAMPAIGN, write_campaign
from bulkmail.campaign import Campaign, read_campaign
from bulkmail.compose.message import Composer
from bulkmail.ledger import SqliteLedger
from bulkmail.model import Intent, MailObject, Outcome, Phase, Recipient, Row, Settlement, State
from bulkmail.sandbox.receiving import Behaviour, Receiver
from bulkmail.smtp.conversation import Conversation
from bulkmail.smtp.judgement import judge
from bulkmail.smtp.reply import make_reply
from bulkmail.transport.submission import announced

REPETITIONS = 5
AT = 1_800_000_000.0
FOLDER = Path(__file__).with_name("out") / "stages"
EXTENSIONS = {"plain": (), "PIPELINING": ("PIPELINING",), "CHUNKING": ("PIPELINING", "CHUNKING")}
ACCEPTED = Outcome(Phase.DOT, make_reply(250, b"2.0.0 Ok: taken"))


@dataclass(frozen=True, slots=True)
class Stage:
    """`once` does it for `number` people, and returns the seconds that count."""

    name: str
    number: int
    once: Callable[[], float]

    def us(self) -> float:
        return min(self.once() for _ in range(REPETITIONS)) / self.number * 1e6


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--people", type=int, default=5_000)
    number = parser.parse_args().people
    shutil.rmtree(FOLDER, ignore_errors=True)
    for stage in stages(number):
        print(f"{stage.name:<44} {stage.us():9.2f} µs", flush=True)
    shutil.rmtree(FOLDER)


def stages(number: int) -> Iterator[Stage]:
    for attachment in (False, True):
        yield from _stages(_campaign(number, attachment=attachment), number, attachment=attachment)


def _stages(campaign: Campaign, number: int, *, attachment: bool) -> Iterator[Stage]:
    rows = list(_rows(campaign))
    people = [Recipient(n, row.address, row.fields, row.source) for n, row in enumerate(rows)]
    composer = Composer(campaign.design, campaign.load, b"seed", campaign.open_file)
    mails = [composer.compose(person, AT) for person in people[:500]]
    suffix = ", attachment of 100 KB" if attachment else ""
    if not attachment:
        yield Stage("read a row of CSV", number, timed(lambda: list(_rows(campaign))))
        yield Stage("enrol", number, _enrolling(rows))
        yield Stage("claim, 100 at once", number, _claiming(rows))
    yield Stage(f"compose{suffix}", number, timed(lambda: _compose(composer, people)))
    for wire, extensions in EXTENSIONS.items():
        yield Stage(f"conversation, {wire}{suffix}", len(mails), _conversing(mails, extensions))
    if not attachment:
        yield Stage("judge", number, timed(lambda: [judge(ACCEPTED) for _ in range(number)]))
        for group in (20, 100, 500):
            name = f"record intent and outcome, {group} in a commit"
            yield Stage(name, len(rows[:2000]), _recording(rows[:2000], mails, group))


def timed(do: Callable[[], object]) -> Callable[[], float]:
    def once() -> float:
        started = time.perf_counter()
        do()
        return time.perf_counter() - started

    return once


def _campaign(number: int, *, attachment: bool) -> Campaign:
    folder = FOLDER / ("attachment" if attachment else "letter")
    folder.mkdir(parents=True)
    material.write(folder, number)
    (folder / "ca.pem").touch()
    job = {"host": "127.0.0.1", "port": 465, "ca_file": "ca.pem", "connections": 1}
    write_campaign(folder, {**job, "attachment": attachment})
    return read_campaign(folder / CAMPAIGN)


def _rows(campaign: Campaign) -> Iterator[Row]:
    def earlier(name: str, states: object) -> Iterator[Row]:
        raise LookupError(name)

    return campaign.rows(earlier, lambda remark: None)


def _compose(composer: Composer, people: Iterable[Recipient]) -> None:
    for person in people:
        composer.compose(person, AT)


def _conversing(mails: list[MailObject], extensions: tuple[str, ...]) -> Callable[[], float]:
    """The client's half alone; the server's is the sandbox's, whose time does not count."""

    def once() -> float:
        lines = (*extensions, "SIZE 100000000", "8BITMIME", "SMTPUTF8", "ENHANCEDSTATUSCODES")
        receiver = Receiver(Behaviour(lines, login_required=False), lambda received: None)
        receiver.greet()
        receiver.receive(b"EHLO client.example\r\n")
        words = (line.partition(" ") for line in lines)
        known = announced({name.lower(): value for name, _, value in words})
        conversation = Conversation(known)
        waiting, settled, seconds = iter(mails), 0, 0.0
        while settled < len(mails):
            started = time.perf_counter()
            for mail in islice(waiting, max(0, conversation.room)):
                conversation.offer(mail)
            said = []
            while (data := conversation.next_write()) is not None:
                said.append(data)
            seconds += time.perf_counter() - started
            replies = receiver.receive(b"".join(_flat(said)))
            started = time.perf_counter()
            conversation.receive(replies)
            settled += sum(1 for _ in conversation.take_settled())
            seconds += time.perf_counter() - started
            assert conversation.ended is None, conversation.ended
        return seconds

    return once


def _flat(said: Iterable[Any]) -> Iterator[bytes]:
    for data in said:
        yield data if isinstance(data, bytes) else b"".join(data)


def _new_ledger() -> SqliteLedger:
    for path in FOLDER.glob("bulkmail.sqlite*"):
        path.unlink()
    return SqliteLedger(FOLDER / "bulkmail.sqlite")


def _enrolling(rows: list[Row]) -> Callable[[], float]:
    def once() -> float:
        ledger = _new_ledger()
        campaign = ledger.campaign("stages", AT)
        started = time.perf_counter()
        with ledger.enrolling():
            ledger.enrol(campaign, rows)
        seconds = time.perf_counter() - started
        ledger.close()
        return seconds

    return once


def _claiming(rows: list[Row]) -> Callable[[], float]:
    def once() -> float:
        ledger = _new_ledger()
        campaign = ledger.campaign("stages", AT)
        with ledger.enrolling():
            ledger.enrol(campaign, rows)
        claims, is_last = ledger.claims(campaign), False
        started = time.perf_counter()
        while not is_last:
            _, is_last = claims.take(100, AT)
        seconds = time.perf_counter() - started
        ledger.close()
        return seconds

    return once


def _recording(rows: list[Row], mails: list[MailObject], group: int) -> Callable[[], float]:
    """Each commit, synced, has the intents of a group and the outcomes of the one before it."""

    def once() -> float:
        ledger = _new_ledger()
        campaign = ledger.campaign("stages", AT)
        with ledger.enrolling():
            ledger.enrol(campaign, rows)
        ids = [recipient.id for recipient in ledger.unsent(campaign)]
        message_id = mails[0].message_id
        seconds = 0.0
        before: list[Settlement] = []
        for start in range(0, len(ids) + group, group):
            started = time.perf_counter()
            intents = [Intent(id_, AT, AT, message_id) for id_ in ids[start : start + group]]
            ledger.record("account", None, [*before, *intents])
            seconds += time.perf_counter() - started
            before = [Settlement(i.recipient_id, State.ACCEPTED, ACCEPTED, at=AT) for i in intents]
        ledger.close()
        return seconds

    return once


if __name__ == "__main__":
    main()
