"""The fault suite: what servers, networks and machines do to a run, and what must come of it.

Rows 1 to 31, each with cases over real sockets and real TLS on loopback, in both wire modes where
these differ, and with near twins that must not trigger. `make faults` prints all of them in a
table; `make test` runs them, too.

`case` says what a case is and compares; `peer` is the hostile server, `world` the run against it;
the other modules hold the cases: `connecting` rows 1 to 9, `judging` 10 to 17, `breaking` 18 to 29,
`surviving` 30 and 31. Times are scaled: a run's timeouts and limits are parameters, and where
minutes matter the loop's clock is put forward.
"""
