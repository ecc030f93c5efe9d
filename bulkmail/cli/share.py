"""A plan handed out to workers, and this process as one of them."""

import asyncio
import logging
import time
from contextlib import closing

import click

from bulkmail.campaign.edition import edition_of
from bulkmail.cli import text
from bulkmail.cli.deliver import Bounds, event_of, say_when_it_starts
from bulkmail.cli.plan import Plan
from bulkmail.cli.progress import RunProgress
from bulkmail.cli.signals import ended_by_signals
from bulkmail.cli.unread import may_be_unread
from bulkmail.cluster.charge import Charge
from bulkmail.cluster.observing import Event, Observer
from bulkmail.cluster.worker import Worker
from bulkmail.delivery import Stop
from bulkmail.delivery.desk import come_back
from bulkmail.errors import CampaignError, ExitStatus, Problem
from bulkmail.ledger import Home, Ledger
from bulkmail.ledger.postgres import PostgresHome, PostgresLedger
from bulkmail.model import UNSENT, Outcome, Recipient, State

OTHERS_SECONDS = 10.0
"""For so long other workers are waited for, which finish what they have under way."""


def hand_out(plan: Plan, ledger: Ledger, limit: int | None, *, detach: bool) -> None:
    """In the transaction of the plan: all that workers need, and its shards, queued for them."""
    assert isinstance(ledger, PostgresLedger)
    campaign = plan.campaign
    if detach and campaign.has_personal_files and not ledger.is_sent_with_files():
        message = (
            "some are for one person each, and no worker is alive that has them; start one with"
            " --files DIR, a copy of this folder, or leave out --detach"
        )
        raise CampaignError([Problem(campaign.places.key(("attachments",)), message)])
    edition, files = edition_of(campaign)
    start_at = campaign.file.start_at
    wait = max(0.0, start_at.timestamp() - time.time()) if start_at else 0.0
    ledger.hand_out(
        plan.record, plan.content_id, edition, files.items(), limit=limit, after_seconds=wait
    )


async def send_with_others(
    plan: Plan, home: Home, bounds: Bounds, lease_seconds: float
) -> Stop | None:
    """Sends until nothing of the plan is left, whoever sends it, or something stops this one."""
    assert isinstance(home, PostgresHome)
    start_at = plan.campaign.file.start_at
    if start_at is not None and start_at.timestamp() - time.time() > bounds.wait_seconds:
        return come_back("it is to start", start_at.timestamp())
    progress = RunProgress(bounds.of(plan), plan.tally.get(State.DEFERRED, 0))
    charge = Charge(
        home.url,
        _Shown(progress, as_json=bounds.as_json),
        only=plan.record.id,
        files=plan.campaign.folder,
        wait_seconds=bounds.wait_seconds,
        lease_seconds=lease_seconds,
    )
    worker = Worker(charge)
    with progress, ended_by_signals(worker, progress.say):
        say_when_it_starts(plan.campaign, bounds.wait_seconds, progress)
        stop = await worker.run()
    if stop is not None and stop.status is ExitStatus.INTERRUPTED:
        # Who presses Ctrl-C wants no more of it to leave, from whichever process.
        home.ask_to_stop(plan.record, time.time())
        await asyncio.to_thread(home.has_stopped, plan.record, OTHERS_SECONDS)
    if stop is None or (stop.status is ExitStatus.CONTINUE and stop.resume_at is None):
        return _why_it_is_closed(plan, home, bounds.limit) or stop
    return stop


def _why_it_is_closed(plan: Plan, home: PostgresHome, limit: int | None) -> Stop | None:
    """Nothing of the plan may be sent any more; None if nobody of it is left."""
    with closing(home.view()) as view:
        tally = view.tally(plan.record)
    if not any(tally.get(state) for state in (*UNSENT, State.IN_FLIGHT)):
        return None
    is_left, why = home.standing(plan.record)
    if why:
        return Stop(ExitStatus.UNAVAILABLE, why)
    if is_left:
        return Stop(ExitStatus.CONTINUE, "paused from another terminal")
    return Stop(ExitStatus.CONTINUE, f"limited to {limit:,} in this run") if limit else None


class _Shown(Observer):
    """What this process settles, on its display or as lines of JSON."""

    def __init__(self, progress: RunProgress, *, as_json: bool) -> None:
        self._progress = progress
        self._as_json = as_json
        self._is_lost = False

    def waiting(self, why: str, at: float) -> None:
        self._progress.waiting(why, at)

    def said(self, what: str) -> None:
        self._progress.say(what)

    def happened(self, event: Event) -> None:
        """What goes well is seen anyway, but for a lease after one that was lost."""
        is_back = event.name == "lease_begun" and self._is_lost
        self._is_lost = event.name in ("lease_lost", "connection_lost") or (
            self._is_lost and not is_back
        )
        if event.level > logging.INFO or is_back:
            campaign = f"{event.campaign}: " if event.campaign else ""
            self._progress.say(campaign + event.message)

    def settled(self, campaign: str, recipient: Recipient, state: State, outcome: Outcome) -> None:
        if state is State.PENDING:
            return
        self._progress.settled(state, was_deferred=recipient.due_at > 0)
        if self._as_json:
            with may_be_unread():
                click.echo(text.json_line(event_of(recipient, state, outcome)))

    def left(self, campaign: str, people: int, workers: int) -> None:
        self._progress.left(people, workers)
