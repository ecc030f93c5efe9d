"""The kill test: real runs over real sockets, killed at seeded instants until a campaign is done.

It proves what the README promises: everyone ends in one recorded state, `accepted` only after the
server's 2xx to the final dot, and nobody is sent a message a second time without a recorded event
of doubt and the author's choice. `server` is a process of its own that survives all kills, and what
it wrote down is the truth; `campaign` starts runs and kills them; `judge` compares the truth with
the ledger and with what everybody should have, and knows nothing of bulkmail.

`cluster` does the same to workers that share a ledger in PostgreSQL, and to their database and
network: `relay` is that network, or `namespace`, where that is allowed.

A seed decides people, refusals, wire mode, `in_doubt`, kinds and instants of the kills, and the
server's pauses. `make crash` tries many; `make crash SEEDS=7` tries that one again,
`make crash CLUSTER=7` those of a cluster.
"""
