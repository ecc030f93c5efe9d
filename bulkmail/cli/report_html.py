"""`bulkmail report --format html`: a campaign's ledger as one page."""

import time
from collections.abc import Collection
from datetime import datetime
from importlib.resources import files

from bulkmail.ledger import CampaignRecord, LedgerView
from bulkmail.ledger.view import Acceptances, Person
from bulkmail.model import State
from bulkmail.report.advice import Shell
from bulkmail.report.curve import Curve, drawn
from bulkmail.report.groups import Group, Key, grouped, key_of
from bulkmail.report.page import LISTED, Listed, Page, Section, page

DOMAINS = 12
"""So many are shown."""
BUCKETS, LEAST_BUCKET = 4000, 0.001
"""So many buckets a run is asked for in, of so many seconds at least, and of one at most."""


def html(
    ledger: LedgerView,
    record: CampaignRecord,
    states: Collection[State],
    why: Collection[str],
    shell: Shell,
) -> str:
    """The page, as the ledger is now, also while a run writes it. People are listed only if they
    are in `states` and in a group of `why`, as far as there are any.
    """
    ledger.hold()
    groups = grouped(ledger.not_accepted(record))
    asked = [
        group
        for group in groups
        if (not states or group.state in states) and (not why or group.meaning.key in why)
    ]
    listed = _listed(ledger, record, asked)
    found = ledger.acceptances(record)
    domains, number_of_domains = ledger.domains(record, DOMAINS)
    told = Page(
        campaign=record.name,
        shell=shell,
        read_at=time.time(),
        tally=ledger.tally(record),
        runs=ledger.runs(record),
        after_doubt=found.after_doubt if found else 0,
        as_was_said=found.as_was_said if found else 0,
        domains=domains,
        number_of_domains=number_of_domains,
        sections=[_section(group, listed, shell) for group in groups],
        curve=_curve(ledger, record, found),
        when=lambda at: datetime.fromtimestamp(at).astimezone(),
    )
    template = (files("bulkmail") / "report" / "page.html.j2").read_text("utf-8")
    return page(template, told)


def _listed(
    ledger: LedgerView, record: CampaignRecord, groups: Collection[Group]
) -> dict[Key, list[Listed]]:
    """The first people of each of `groups`; no further than they are looked for."""
    left = {(group.state, group.meaning): min(group.number, LISTED) for group in groups}
    listed: dict[Key, list[Listed]] = {key: [] for key in left}
    for person in ledger.not_accepted_people(record, {group.state for group in groups}):
        key = key_of(person)
        if left.get(key, 0) > 0:
            listed[key].append(_listed_person(person))
            left[key] -= 1
            if not any(left.values()):
                break
    return listed


def _listed_person(person: Person) -> Listed:
    name = person.fields.get("name", "")
    return Listed(person.address, name, person.source, person.reason)


def _section(group: Group, listed: dict[Key, list[Listed]], shell: Shell) -> Section:
    people = listed.get((group.state, group.meaning), [])
    commands = shell.advised(group, [person.address for person in people])
    return Section(group, people, commands, shell.list_all(group))


def _curve(ledger: LedgerView, record: CampaignRecord, found: Acceptances | None) -> Curve | None:
    if found is None:
        return None
    seconds = (found.last_at - found.first_at) / BUCKETS
    return drawn(ledger.accepted_by_time(record, min(1.0, max(seconds, LEAST_BUCKET))))
