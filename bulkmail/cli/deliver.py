"""A plan sent: the delivery with its ledger, its server, its display and its signals."""

import asyncio
import time
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import click

from bulkmail.campaign import Campaign
from bulkmail.cli import text
from bulkmail.cli.plan import Plan
from bulkmail.cli.progress import RunProgress
from bulkmail.cli.signals import ended_by_signals
from bulkmail.cli.unread import may_be_unread
from bulkmail.cluster.limits import limits_of
from bulkmail.delivery import Delivery, Stop
from bulkmail.errors import ExitStatus, LedgerError
from bulkmail.ledger import CampaignLedger, Ledger, SqliteLedger
from bulkmail.model import Outcome, Recipient, State, Submission
from bulkmail.pace import DomainPaces, Pace
from bulkmail.transport import SubmissionServer

LISTEN_SECONDS = 0.5

Grants = dict[str, list[tuple[float, int]]]
"""As `SqliteLedger.grants` has them."""


@dataclass(frozen=True, slots=True)
class Bounds:
    """Of one run: `limit` people at most, waits of so many seconds. `as_json` prints every outcome
    as one line of JSON.
    """

    limit: int | None
    wait_seconds: float
    as_json: bool

    def of(self, plan: Plan) -> int:
        """To how many of it this run may send."""
        return min(plan.unsent, self.limit or plan.unsent)


async def deliver(
    plan: Plan,
    ledger: Ledger,
    submission: Submission,
    run_id: int,
    bounds: Bounds,
) -> Stop | None:
    """Sends until everyone is settled, or something stops it: then what. Ends the run `run_id`."""
    assert isinstance(ledger, SqliteLedger)
    campaign = plan.campaign
    changes = CampaignLedger(ledger, plan.record, submission.account, plan.content_id)
    progress = RunProgress(bounds.of(plan), plan.tally.get(State.DEFERRED, 0))

    def settled(recipient: Recipient, state: State, outcome: Outcome) -> None:
        if state is not State.PENDING:
            progress.settled(state, was_deferred=recipient.due_at > 0)
            if bounds.as_json:
                with may_be_unread():
                    click.echo(text.json_line(event_of(recipient, state, outcome)))

    remembered = ledger.grants(submission.account, time.time())
    first_at, _ = next(iter(remembered.get("", ())), (None, 0))
    delivery = Delivery(
        changes,
        SubmissionServer(submission, on_remark=progress.say),
        plan.composer,
        *_paces(campaign, remembered),
        limits_of(
            campaign.file,
            messages=bounds.limit,
            wait_seconds=bounds.wait_seconds,
            account_used_at=first_at,
        ),
        settled,
        content_proven=plan.content_proven,
        on_waiting=progress.waiting,
    )

    def ledger_failed() -> None:
        delivery.stop(Stop(ExitStatus.LEDGER, str(changes.commits.failure)))
        delivery.abort("the ledger cannot be written")

    changes.commits.on_failure = ledger_failed
    with progress, ended_by_signals(delivery, progress.say):
        say_when_it_starts(campaign, bounds.wait_seconds, progress)
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
    ago = time.monotonic() - time.time()
    for domain, grants in remembered.items():
        recalled = [(min(at, time.time()) + ago, number) for at, number in grants]
        if domain:
            domain_paces.recall(domain, recalled)
        else:
            pace.recall(recalled)
    return pace, domain_paces


def say_when_it_starts(campaign: Campaign, wait_seconds: float, progress: RunProgress) -> None:
    start_at = campaign.file.start_at
    if start_at is not None and 0 < start_at.timestamp() - time.time() <= wait_seconds:
        progress.say(f"starts at {text.moment(start_at.timestamp())}")


def event_of(recipient: Recipient, state: State, outcome: Outcome) -> dict[str, Any]:
    """What `--json` says of an outcome."""
    return {
        "event": "settled",
        "email": recipient.address,
        "state": state,
        "reply": str(outcome.reply or ""),
        "reason": "" if state is State.ACCEPTED else str(outcome),
    }
