"""What `status` tells of a ledger in PostgreSQL: its campaigns, and who sends them."""

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import click

from bulkmail import engine
from bulkmail.cli import text
from bulkmail.ledger import CampaignRecord, Home, LedgerView
from bulkmail.ledger.postgres import PostgresHome
from bulkmail.ledger.postgres.overview import (
    RECENT_SECONDS,
    CurrentRate,
    Overview,
    Remainder,
    SeenWorker,
)
from bulkmail.model import UNSENT, State


@dataclass(frozen=True)
class _Seen:
    """One campaign at this moment; `since` is when its run began, if somebody sends it."""

    name: str
    tally: dict[State, int]
    since: float | None
    left: Remainder

    @property
    def is_unfinished(self) -> bool:
        return any(self.tally.get(state) for state in (*UNSENT, State.IN_FLIGHT))


def tell(home: Home, view: LedgerView, records: Sequence[CampaignRecord], *, as_json: bool) -> None:
    """One line for each campaign, and what is left of it; then the workers and the rates."""
    assert isinstance(home, PostgresHome)
    with Overview(home.url, engine) as overview:
        seen = []
        for record in records:
            since = view.running_since(record) if home.is_under_way(view, record) else None
            seen.append(_Seen(record.name, view.tally(record), since, overview.remainder(record)))
        workers, rates = overview.workers(), overview.rates()
    if as_json:
        for campaign in seen:
            click.echo(text.json_line(_as_json(campaign, workers, rates)))
        return
    alive = sum(worker.is_alive for worker in workers)
    for campaign in seen:
        running = f" · being sent since {text.moment(campaign.since)}" if campaign.since else ""
        click.echo(f"{campaign.name}: {text.states(campaign.tally)}{running}")
        for line in _what_is_left(campaign, alive):
            click.echo(f"  {text.visible(line)}")
    for line in (*_workers(workers), *_rates(rates)):
        click.echo(text.visible(line))


def _as_json(
    campaign: _Seen, workers: Sequence[SeenWorker], rates: Sequence[CurrentRate]
) -> dict[str, Any]:
    """Workers and rates are those of the whole ledger."""
    left = campaign.left
    return {
        "campaign": campaign.name,
        "states": campaign.tally,
        "under_way": campaign.since is not None,
        "open": left.is_open,
        "stopped_for": left.stopped_for,
        "shards": {
            "left": left.shards,
            "people": left.people,
            "held": left.held,
            "waiting": left.shards - left.held,
            "next_at": left.next_at,
        },
        "workers": [{**worker._asdict(), "alive": worker.is_alive} for worker in workers],
        "rates": [rate._asdict() for rate in rates],
    }


def _what_is_left(campaign: _Seen, alive: int) -> Iterator[str]:
    """Why it is not sent on, if it is not, and its shards."""
    left = campaign.left
    if left.stopped_for:
        yield f"stopped: {left.stopped_for}"
    if not campaign.is_unfinished:
        return
    waiting = left.shards - left.held
    if left.is_open:
        yield f"{_shards(left.shards)} with {text.people(left.people)} left: " + _who_has(left)
        if not alive:
            yield "nobody sends it: no worker is alive. Start some: bulkmail worker --ledger URL"
            yield "(one that runs already, and waits for the ledger, comes within 5 seconds)"
        elif waiting and left.next_at and left.next_at > time.time() + 1 and not left.held:
            yield f"waits until {text.moment(left.next_at)}"
    elif left.held:
        yield f"closed; what is under way is finished: {_shards(left.held)}"
    elif not left.stopped_for:
        why = "paused" if left.shards else "all that was planned is sent, these were not"
        yield f"{why}; go on: bulkmail run FILE"


def _who_has(left: Remainder) -> str:
    return f"{left.held:,} with workers, {left.shards - left.held:,} waiting"


def _shards(number: int) -> str:
    return f"{number:,} shard" + "s" * (number != 1)


def _workers(workers: Sequence[SeenWorker]) -> Iterator[str]:
    """A table."""
    if not workers:
        return
    width = max(len("worker"), *(len(worker.name) for worker in workers))
    yield f"{'worker':<{width}}  {'since':<22}  {'shards':>6}  lease"
    for worker in workers:
        since = text.moment(worker.started_at)
        yield f"{worker.name:<{width}}  {since:<22}  {worker.shards:>6,}  {_lease(worker)}"
        for line in worker.left_for.splitlines() if worker.is_alive else ():
            yield f"  does not send {line}"


def _lease(worker: SeenWorker) -> str:
    if worker.is_alive:
        return "alive"
    return f"gone for {text.duration(round(-worker.lease_seconds))}"


def _rates(rates: Sequence[CurrentRate]) -> Iterator[str]:
    """A table."""
    if not rates:
        return
    width = max(len("account"), *(len(rate.account) for rate in rates))
    yield f"{'account':<{width}}  {f'a second, last {RECENT_SECONDS} s':>19}  {'last minute':>11}"
    for rate in rates:
        yield f"{rate.account:<{width}}  {rate.in_a_second:>19,.1f}  {rate.in_a_minute:>11,}"
