"""A plan sent: the delivery with its ledger, its server, its display and its signals."""

import asyncio
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from types import FrameType
from typing import Any

import click

from bulkmail.campaign import Campaign
from bulkmail.cli import text
from bulkmail.cli.plan import Plan
from bulkmail.cli.progress import RunProgress
from bulkmail.cli.unread import may_be_unread
from bulkmail.delivery import Delivery, Limits, Stop
from bulkmail.errors import ExitStatus, LedgerError
from bulkmail.ledger import CampaignLedger, SqliteLedger
from bulkmail.model import Outcome, Recipient, State, Submission
from bulkmail.pace import DomainPaces, Pace
from bulkmail.transport import SubmissionServer

LISTEN_SECONDS = 0.5
SIGNALS = (signal.SIGINT, signal.SIGTERM)

Grants = dict[str, list[tuple[float, int]]]
"""As `SqliteLedger.grants` has them."""


async def deliver(
    plan: Plan,
    ledger: SqliteLedger,
    submission: Submission,
    run_id: int,
    *,
    limit: int | None,
    wait_seconds: float,
    as_json: bool,
) -> Stop | None:
    """Sends until everyone is settled, or something stops it: then what. Ends the run `run_id`.

    `as_json` prints every outcome as one line of JSON.
    """
    campaign = plan.campaign
    changes = CampaignLedger(ledger, plan.record, submission.account, plan.content_id)
    progress = RunProgress(
        min(plan.unsent, limit or plan.unsent), plan.tally.get(State.DEFERRED, 0)
    )

    def settled(recipient: Recipient, state: State, outcome: Outcome) -> None:
        if state is not State.PENDING:
            progress.settled(state, was_deferred=recipient.due_at > 0)
            if as_json:
                with may_be_unread():
                    click.echo(text.json_line(_event(recipient, state, outcome)))

    remembered = ledger.grants(submission.account, time.time())
    delivery = Delivery(
        changes,
        SubmissionServer(submission, on_remark=progress.say),
        plan.composer,
        *_paces(campaign, remembered),
        _limits(campaign, remembered, limit, wait_seconds),
        settled,
        content_proven=plan.content_proven,
        on_waiting=progress.waiting,
    )

    def ledger_failed() -> None:
        delivery.stop(Stop(ExitStatus.LEDGER, str(changes.failure)))
        delivery.abort("the ledger cannot be written")

    changes.on_failure = ledger_failed
    with progress, _signals(delivery, progress):
        _say_when_it_starts(campaign, wait_seconds, progress)
        listening = asyncio.create_task(_listen(delivery, changes))
        try:
            return await delivery.run()
        finally:
            listening.cancel()
            await changes.close()
            with suppress(LedgerError):  # what failed it is told already
                ledger.end_run(run_id, time.time())


async def _listen(delivery: Delivery, changes: CampaignLedger) -> None:
    """Hears `bulkmail pause` and `bulkmail cancel` from another terminal."""
    while not await changes.is_asked_to_stop():  # noqa: ASYNC110  of another process
        await asyncio.sleep(LISTEN_SECONDS)
    delivery.stop(Stop(ExitStatus.CONTINUE, "paused from another terminal"))


def _paces(campaign: Campaign, remembered: Grants) -> tuple[Pace, DomainPaces]:
    """The rates, which count what this account was granted in earlier runs."""
    pace, domain_paces = Pace(campaign.file.rate), DomainPaces(campaign.file.rate_per_domain)
    ago = asyncio.get_running_loop().time() - time.time()
    for domain, grants in remembered.items():
        recalled = [(min(at, time.time()) + ago, number) for at, number in grants]
        if domain:
            domain_paces.recall(domain, recalled)
        else:
            pace.recall(recalled)
    return pace, domain_paces


def _limits(
    campaign: Campaign, remembered: Grants, limit: int | None, wait_seconds: float
) -> Limits:
    file = campaign.file
    first, _ = next(iter(remembered.get("", ())), (None, 0))
    return Limits(
        connections=file.smtp.connections,
        messages_per_connection=file.smtp.messages_per_connection,
        messages=limit,
        start_at=file.start_at.timestamp() if file.start_at else None,
        wait=wait_seconds,
        first_retry=file.retry.first.total_seconds(),
        longest_retry=file.retry.longest.total_seconds(),
        give_up=file.retry.give_up.total_seconds(),
        account_used_at=first,
        stop_after_failures=file.stop_after_failures,
    )


def _say_when_it_starts(campaign: Campaign, wait_seconds: float, progress: RunProgress) -> None:
    start_at = campaign.file.start_at
    if start_at is not None and 0 < start_at.timestamp() - time.time() <= wait_seconds:
        progress.say(f"starts at {text.moment(start_at.timestamp())}")


@contextmanager
def _signals(delivery: Delivery, progress: RunProgress) -> Iterator[None]:
    """Ctrl-C or SIGTERM once: finish what is under way. Twice: abort. Afterwards the run is as good
    as over: they are ignored until the program has ended, so that its exit status tells of the run.
    """
    loop = asyncio.get_running_loop()
    told = 0

    def tell(number: int) -> None:
        nonlocal told
        told += 1
        if told == 1:
            status = ExitStatus.INTERRUPTED if number == signal.SIGINT else ExitStatus.TERMINATED
            by = "Ctrl-C" if number == signal.SIGINT else signal.Signals(number).name
            delivery.stop(Stop(status, by))
            progress.say("finishing what is under way; again to abort")
        else:
            delivery.abort("aborted")

    def handle(number: int, frame: FrameType | None) -> None:
        loop.call_soon_threadsafe(tell, number)

    for number in SIGNALS:
        signal.signal(number, handle)
    try:
        yield
    finally:
        for number in SIGNALS:
            signal.signal(number, signal.SIG_IGN)


def _event(recipient: Recipient, state: State, outcome: Outcome) -> dict[str, Any]:
    return {
        "event": "settled",
        "email": recipient.address,
        "state": state,
        "reply": str(outcome.reply or ""),
        "reason": "" if state is State.ACCEPTED else str(outcome),
    }
