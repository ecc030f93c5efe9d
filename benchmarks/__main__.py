"""`python -m benchmarks`."""

import sys
from pathlib import Path
from benchmarks.measuring import measure
from benchmarks.scenarios import SCENARIOS
from benchmarks.server import program

out = Path(__file__).parent / "out"
out.mkdir(exist_ok=True)
prog, said = program(out)
print(said or "")
for s in SCENARIOS:
    if s.key in sys.argv[1:]:
        for t in s.tasks:
            if any(a in t.sender.name for a in sys.argv[2:]):
                print(
                    t.sender.missing() or "",
                    t.sender.name,
                    measure(t, prog, out / "run", delay_ms=s.delay_ms, attachment=s.attachment),
                    flush=True,
                )
