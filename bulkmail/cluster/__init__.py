"""Sending from a ledger in PostgreSQL: any number of workers, on any hosts, all equal.

`Worker` is one of them: it holds a lease, and the engine hands it shards of the campaigns that are
open. `Sender` sends those of one campaign by the same loop that sends from a file
(`bulkmail.delivery`), made of the campaign's edition, so that no campaign folder is needed. Nobody
coordinates them: what keeps them apart are epochs in the ledger.

A worker that lost its lease or the database lets what is under way come to its end, keeps what it
hears of it, begins anew with another lease, and records it then.
"""
