"""The fault suite: what servers, networks and machines do to a run, and what must come of it.

Rows 1 to 31, each with cases over real sockets and real TLS on loopback, in all wire modes where
these differ (one command at a time, PIPELINING, CHUNKING), and with near twins that must not trigger. `make faults` prints all of them in a
table; `make test` runs them, too.

`case` says what a case is and compares; `peer` is the hostile server, `world` the run against it;
the other modules hold the cases: `connecting` rows 1 to 9, `judging` 10 to 17, `breaking` 18 to 29,
`chunks` those of 25 and 29 that are about windows, `surviving` 30 and 31. With CHUNKING the server
hears all that the client has to say before it answers: what that costs is the same in each run then. Times are scaled: a run's timeouts and limits are parameters, and where
minutes matter the loop's clock is put forward.
"""
