"""What a worker says on standard error: lines for a person, or JSON for a program."""

import logging
import os
import re
import socket
from collections import defaultdict
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

import click

from bulkmail.cli import text
from bulkmail.cli.unread import may_be_unread
from bulkmail.cluster.observing import Event, Observer
from bulkmail.model import Outcome, Recipient, State

KINDS = 1000
"""So many kinds of refusals are told, one of each; all are counted."""
TOLD = (State.FAILED, State.EXPIRED, State.IN_DOUBT, State.DEFERRED)

_ADDRESS = re.compile(r'("[^"]*"|[^\s<>()\[\],;"]+)@(?=[\w\[])')


def without_addresses(told: str) -> str:
    """`…@example.com` for every address; a URL keeps its user."""
    return _ADDRESS.sub(lambda found: found[0] if "://" in found[1] else "…@", told)


class Log(Observer):
    """No address stands in it, of whomever, unless `with_addresses`: servers repeat them in their
    replies. Of refusals alike the first is told, with its place in the list.
    """

    def __init__(self, *, as_json: bool, with_addresses: bool) -> None:
        self._as_json = as_json
        self._with_addresses = with_addresses
        self._worker = f"{socket.gethostname()}:{os.getpid()}"
        self._counts: defaultdict[str, dict[State, int]] = defaultdict(dict)
        self._changed: set[str] = set()
        self._kinds: set[tuple[object, ...]] = set()

    def settled(self, campaign: str, recipient: Recipient, state: State, outcome: Outcome) -> None:
        if state is State.PENDING:
            return
        counts = self._counts[campaign]
        counts[state] = counts.get(state, 0) + 1
        self._changed.add(campaign)
        if state in TOLD:
            self._tell_of_refusal(campaign, recipient, state, outcome)

    def left(self, campaign: str, people: int, workers: int) -> None:
        if campaign in self._changed:
            told = f"{text.people(people)} left for {workers} worker" + "s" * (workers != 1)
            self._tell_counts(campaign, told, {"left": people, "workers": workers})

    def said(self, what: str) -> None:
        self.happened(Event("remark", what))

    def happened(self, event: Event) -> None:
        """What was settled before comes first, and what it was in all with a campaign's end."""
        if event.campaign in self._changed:
            self._tell_counts(event.campaign, "", {})
        self._write(event.level, event.name, event.campaign, event.message, event.fields)

    def _tell_counts(self, campaign: str, left: str, more: Mapping[str, object]) -> None:
        """What this worker has settled since it began."""
        self._changed.discard(campaign)
        states = self._counts[campaign]
        told = f"{text.states(states)} here" + (f" · {left}" if left else "")
        self._write(logging.INFO, "settled", campaign, told, {"states": states, **more})

    def _tell_of_refusal(
        self, campaign: str, recipient: Recipient, state: State, outcome: Outcome
    ) -> None:
        reply = outcome.reply
        kind = (campaign, state, *((reply.code, reply.enhanced) if reply else (outcome.cause,)))
        if not self._with_addresses and (kind in self._kinds or len(self._kinds) >= KINDS):
            return
        self._kinds.add(kind)
        level = logging.INFO if state is State.DEFERRED else logging.WARNING
        told = f"{state.replace('_', ' ')}: {outcome} ({recipient.source}, {recipient.domain})"
        fields = {
            "state": state,
            "reply": str(reply or ""),
            "source": recipient.source,
            "domain": recipient.domain,
        }
        if self._with_addresses:
            told, fields["email"] = f"{recipient.address} {told}", recipient.address
        self._write(level, "refused", campaign, told, fields)

    def _write(
        self, level: int, name: str, campaign: str, told: str, fields: Mapping[str, object]
    ) -> None:
        now = datetime.now(UTC)
        if self._as_json:
            line = text.json_line(
                {
                    "time": now.isoformat(timespec="milliseconds").replace("+00:00", "Z"),
                    "level": logging.getLevelName(level).lower(),
                    "event": name,
                    "campaign": campaign or None,
                    "worker": self._worker,
                    "message": self._clean(told),
                    **{key: self._clean(value) for key, value in fields.items()},
                }
            )
        else:
            about = f"{campaign}: " if campaign else ""
            told = " / ".join(self._clean(told).splitlines())
            shown = text.visible(f"{now.astimezone():%Y-%m-%d %H:%M:%S} {about}{told}")
            line = shown.encode("utf-8", "backslashreplace")
        with may_be_unread():
            click.echo(line, err=True)

    def _clean(self, value: Any) -> Any:
        if isinstance(value, str) and not self._with_addresses:
            return without_addresses(value)
        return value
