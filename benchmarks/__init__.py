"""What bulkmail costs, beside other senders and by itself. Nothing here is part of the package.

`make bench` or `python -m benchmarks`: bulk senders side by side against one server, in rounds;
writes the tables of docs/performance.md and its picture. `python -m benchmarks.stages`: the stages
of a message, in microseconds each. `python -m benchmarks.memory`: peak memory of the commands by
the length of the list. `python -m benchmarks.claims`: claims in a list of a million.
"""
