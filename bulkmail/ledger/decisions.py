"""What a person decides about recipients after a run: to try them again, that they have it, that
the campaign is given up. Retries and settlements are recorded with each recipient.
"""

from collections.abc import Collection, Iterable
from typing import Any

from bulkmail.address import address_key
from bulkmail.ledger.database import Database
from bulkmail.ledger.guarded import guarded
from bulkmail.ledger.records import CampaignRecord
from bulkmail.ledger.view import marks
from bulkmail.model import UNSENT, State

RETRIED = (State.FAILED, State.EXPIRED, State.IN_DOUBT, State.CANCELLED)
"""States from which a person can be tried again."""

# Who may have the message gets the same one again, so its date stays; for others it begins anew.
_RETRY = """
UPDATE recipient
SET state = 'pending', due_at = 0, again_at = ?, reason = 'to be tried again, as was decided',
    consented = CASE WHEN in_doubt_events > 0 THEN 1 ELSE 0 END,
    attempts = CASE WHEN in_doubt_events > 0 THEN attempts ELSE 0 END,
    first_attempt_at = CASE WHEN in_doubt_events > 0 THEN first_attempt_at END
"""

_HAS_IT = "UPDATE recipient SET state = 'accepted', reason = 'has it, as was decided'"

_CANCEL = """
UPDATE recipient
SET state = CASE WHEN in_doubt_events > 0 THEN 'in_doubt' ELSE 'cancelled' END,
    due_at = 0, consented = 0,
    reason = 'the campaign was cancelled'
"""


class Decisions:
    """Decisions about those of a campaign in `states`, all or only `addresses`.

    Made inside a transaction, see `Ledger.deciding`. Raises LedgerError.
    """

    def __init__(
        self,
        db: Database,
        name: str,
        campaign: CampaignRecord,
        states: Collection[State],
        addresses: Iterable[str],
    ) -> None:
        self.name = name
        self._db = db
        self._campaign = campaign
        self._states = tuple(states)
        self._keys = {address_key(address): address for address in addresses}

    @guarded
    def tally(self) -> dict[State, int]:
        """How many would be decided about, by state."""
        found = dict.fromkeys(self._states, 0)
        for where, values in self._where():
            sql = f"SELECT state, count(*) FROM recipient {where} GROUP BY state"
            for state, number in self._db.execute(sql, values):
                found[State(state)] += int(number)
        return {state: number for state, number in found.items() if number}

    @guarded
    def doubtful(self) -> int:
        """How many of them may have the message."""
        number = 0
        for where, values in self._where():
            sql = f"SELECT count(*) FROM recipient {where} AND in_doubt_events > 0"
            number += int(self._db.execute(sql, values).fetchone()[0])
        return number

    @guarded
    def others(self) -> list[str]:
        """The addresses that are not among them: unknown, or in another state."""
        sql = "SELECT 1 FROM recipient " + self._condition + " AND address_key = ? LIMIT 1"
        return [
            address
            for key, address in self._keys.items()
            if self._db.execute(sql, (self._campaign.id, *self._states, key)).fetchone() is None
        ]

    @guarded
    def retry(self, now: float) -> int:
        """Puts them back to pending, also those in doubt; how many. Takes a cancellation back."""
        if State.CANCELLED in self._states:
            sql = "UPDATE campaign SET cancelled_at = NULL WHERE id = ?"
            self._db.execute(sql, (self._campaign.id,))
        return self._change(_RETRY, "retry", now, (now,))

    @guarded
    def settle(self, now: float) -> int:
        """Records that they have it; how many."""
        return self._change(_HAS_IT, "settle", now)

    def _change(self, update: str, what: str, now: float, given: tuple[float, ...] = ()) -> int:
        ids = [
            (id_, now, what)
            for where, values in self._where()
            for [id_] in self._db.execute(
                f"{update} {where} RETURNING id", (*given, *values)
            ).fetchall()
        ]
        self._db.executemany("INSERT INTO event (recipient_id, at, what) VALUES (?, ?, ?)", ids)
        return len(ids)

    @property
    def _condition(self) -> str:
        return f"WHERE campaign_id = ? AND state IN ({marks(self._states)})"

    def _where(self) -> Iterable[tuple[str, tuple[Any, ...]]]:
        """Conditions with their values, one for each address."""
        values = (self._campaign.id, *self._states)
        if not self._keys:
            yield self._condition, values
        for key in self._keys:
            yield f"{self._condition} AND address_key = ?", (*values, key)


def cancel(db: Database, campaign: CampaignRecord, now: float) -> int:
    """Gives up all who are unsent, and the campaign until that is taken back; how many."""
    db.execute("UPDATE campaign SET cancelled_at = ? WHERE id = ?", (now, campaign.id))
    sql = f"{_CANCEL} WHERE campaign_id = ? AND state IN ({marks(UNSENT)})"
    number: int = db.execute(sql, (campaign.id, *UNSENT)).rowcount
    return number
