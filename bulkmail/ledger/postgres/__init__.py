"""The ledger in a PostgreSQL database, for lists, rates and outages that outgrow one machine.

The same states and guarantees as in a file (see `bulkmail.ledger`), for many processes at once. A
campaign that was planned is cut into shards, ranges of its recipients. Who sends is a worker: it
holds a lease, which it renews, and takes shards under it. Taking a shard raises its epoch, and an
intent is committed only with the epoch that its worker took the shard with: that is the fence. A
worker that stood still for longer than its lease, or lost its network, commits nothing more, so
nothing more leaves; what it hears of messages under way is kept (`settle_late`).

Taking over a shard makes in doubt who was in flight there, never pending; who was only claimed is
pending, since claims are memory.

One planner at a time for a campaign, and only while no worker sends it.

`connection.py` speaks to the server, `opening.py` makes the tables, `enrolment.py` turns rows into
recipients, `ledger.py` is for those who plan and decide, `shards.py` for those who send; `rates.py`
keeps the rates over all of them; `view.py` reads, `overview.py` tells who sends, `copying.py`
copies a campaign into a scratch ledger, `home.py` is where all begins. Tables and functions stand
in `migrations/`.
"""

from bulkmail.ledger.postgres.home import PostgresHome
from bulkmail.ledger.postgres.ledger import PostgresLedger

__all__ = ["PostgresHome", "PostgresLedger"]
