"""Peak memory and CPU of the commands, by the number of recipients.

    python -m benchmarks.memory 10000 1000000

makes a CSV file of that many people (the last repeats the first, and one in a thousand has no
address), and runs `check`, `run`, `status`, `report` and a second `run` on it, against a server of
our own in another process that takes everything and keeps nothing. Loopback only.
"""

import asyncio
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from bulkmail.sandbox.receiving import Behaviour
from bulkmail.sandbox.server import HOST, Server, make_certificate

CAMPAIGN = """\
from: "News <news@example.org>"
subject: "For {{{{ name }}}}"
template: {{text: letter.txt}}
recipients: [{{file: people.csv}}]
rate: unlimited
smtp: {{host: {host}, port: {port}, security: tls, ca_file: ca.pem, connections: 4}}
"""
COMMANDS = (
    ("check", "letter.yaml"),
    ("run", "letter.yaml", "--yes"),
    ("status", "letter.yaml"),
    ("report", "letter.yaml"),
    ("report", "letter.yaml", "--state", "invalid,duplicate"),
    ("run", "letter.yaml", "--yes"),
)


def write_project(folder: Path, number: int) -> None:
    (folder / "letter.txt").write_text("Dear {{ name }},\n\nyour number is {{ number }}.\n")
    with (folder / "people.csv").open("w", encoding="utf-8") as file:
        file.write("email,name,number,city\n")
        for index in range(number - 1):
            at = "" if index % 1000 == 999 else "@"
            file.write(f"person{index}{at}example.com,김 Person {index},{index},서울\n")
        file.write("PERSON0@example.com,Again,0,부산\n")


async def serve(folder: Path) -> None:
    """Until standard input ends. Run as a process of its own."""
    context, _ = make_certificate(folder)
    behaviour = Behaviour(login_required=False)
    server = Server(behaviour, context, lambda received, number: None)
    print(await server.start(), flush=True)
    await asyncio.to_thread(sys.stdin.read)
    await server.stop()


def measured(folder: Path, arguments: tuple[str, ...]) -> dict[str, object]:
    """Runs one command; its peak memory is that of the process alone, by the system's account."""
    started = time.monotonic()
    process = subprocess.Popen(
        [sys.executable, "-m", "bulkmail", *arguments],
        cwd=folder,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stderr is not None
    told = process.stderr.read()
    _, status, usage = os.wait4(process.pid, 0)
    per_megabyte = 1_000_000 if sys.platform == "darwin" else 1000
    return {
        "command": " ".join(arguments),
        "exit": os.waitstatus_to_exitcode(status),
        "peak_mb": round(usage.ru_maxrss / per_megabyte, 1),
        "cpu_s": round(usage.ru_utime + usage.ru_stime, 1),
        "wall_s": round(time.monotonic() - started, 1),
        **({"said": told[-200:]} if os.waitstatus_to_exitcode(status) else {}),
    }


def main() -> None:
    for number in map(int, sys.argv[1:]):
        with tempfile.TemporaryDirectory() as name:
            folder = Path(name)
            write_project(folder, number)
            with subprocess.Popen(
                [sys.executable, "-m", "benchmarks.memory", "--serve", name],
                stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
            ) as server:  # fmt: skip
                assert server.stdin is not None and server.stdout is not None
                port = server.stdout.readline().strip()
                (folder / "letter.yaml").write_text(CAMPAIGN.format(host=HOST, port=port))
                for arguments in COMMANDS:
                    print(json.dumps({"rows": number, **measured(folder, arguments)}), flush=True)
                server.stdin.close()


if __name__ == "__main__":
    if sys.argv[1:2] == ["--serve"]:
        asyncio.run(serve(Path(sys.argv[2])))
    else:
        main()
