"""The ledger: one row per recipient, and the only truth about who has what.

    pending ──claim──▶ in_flight ──▶ accepted   a 2xx to the final dot: the server is responsible
       ▲                  ├────────▶ deferred ──(due)──▶ in_flight
       │                  ├────────▶ expired    deferred for longer than the campaign says
       │                  ├────────▶ failed
       └──release─────────┤
                          └────────▶ in_doubt   the connection or the process died after the
                                                content may have been taken
    enrolled ▶ invalid, duplicate               pending, deferred ▶ cancelled, suppressed
    a person's choice: failed, expired, in_doubt, cancelled ▶ pending; in_doubt ▶ accepted

Guarantee. A recipient is `in_flight` in committed, synced storage before its final dot can leave:
what cannot be recorded is not sent. `accepted` is only ever written after a 2xx to the dot.

What a crash costs. A claim is memory only. An intent is committed only for a message that holds a
slot (connections x window), so at most the slots are `in_flight` when a process is killed. The
next run finds them so and records each as `in_doubt`, with the event counted; they are listed and
not sent again, unless the campaign says `in_doubt: resend`, which puts them back to pending.
RFC 1047 and RFC 5321 3.8 say why no client can know better.

Same message for ever. Enrolment stores a random seed; Message-ID, boundaries and the date of the
first intent are derived from the row, so a retry sends the bytes that were sent before.

`opening.py` says what is a ledger, `sqlite.py` is the storage, `enrolment.py` how rows become
recipients, `claims.py` who is next, `decisions.py` what a person decides afterwards, `stopping.py`
how a run is told to end, `suppression.py` the list of those who never get anything; the tables
stand in `migrations/`, the SQL there. `view.py` reads a ledger, `browsing.py` leafs through its
people; `group.py` lets many tasks share one commit.
"""

from bulkmail.ledger.browsing import Browser, Page, Person
from bulkmail.ledger.group import CampaignLedger
from bulkmail.ledger.home import Home, SqliteHome, under_way_at
from bulkmail.ledger.ledger import Ledger
from bulkmail.ledger.opening import is_ledger
from bulkmail.ledger.records import CampaignRecord, Enrolment
from bulkmail.ledger.sqlite import SqliteLedger
from bulkmail.ledger.view import LedgerView, SqliteView

__all__ = [
    "Browser",
    "CampaignLedger",
    "CampaignRecord",
    "Enrolment",
    "Home",
    "Ledger",
    "LedgerView",
    "Page",
    "Person",
    "SqliteHome",
    "SqliteLedger",
    "SqliteView",
    "is_ledger",
    "under_way_at",
]
