"""Postfix and Exim, thrown away when done: each in a folder of its own, on ports of loopback.

One port for each wire mode, TLS from the first byte. The limits are those that the servers come with,
since it is their patience that the runs have to live with.
"""

import os
import random
import re
import shutil
import smtplib
import socket
import ssl
import stat
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing, contextmanager, suppress
from enum import StrEnum
from pathlib import Path
from typing import NamedTuple, Protocol

import trustme

from bulkmail.sandbox.server import HOST

from .logs import Log, exim_log, postfix_log
from .people import DOMAIN, Reception

PATIENCE_SECONDS = 60.0
QUIET_SECONDS = 0.3
"""A log that has not grown for so long, with nothing left to deliver, is complete."""


class Wire(StrEnum):
    """How a run is to talk. A server announces what the mode needs, and nothing beyond it."""

    PLAIN = "plain"
    PIPELINING = "pipelining"
    CHUNKING = "chunking"

    @property
    def announced(self) -> frozenset[str]:
        return _MODES[self].announced

    @property
    def slots(self) -> int:
        return _MODES[self].slots


class _Mode(NamedTuple):
    announced: frozenset[str]
    slots: int
    """Messages of one connection that can be in doubt after a kill."""


_MODES = {
    Wire.PLAIN: _Mode(frozenset(), 1),
    Wire.PIPELINING: _Mode(frozenset({"PIPELINING"}), 3),
    Wire.CHUNKING: _Mode(frozenset({"PIPELINING", "CHUNKING"}), 16),
}
OPTIONAL = frozenset({"PIPELINING", "CHUNKING"})
"""What both servers announce unless they are told not to."""


class Missing(Exception):
    """A server that cannot be had here, and why."""


class Setting(NamedTuple):
    """What a server is started with."""

    folder: Path
    greylist_port: int


class Server(Protocol):
    """A running one. `log`, complete, and `accepted` are of what was written since `mark`."""

    @property
    def title(self) -> str: ...
    @property
    def ports(self) -> Mapping[Wire, int]: ...
    @property
    def ca_file(self) -> Path: ...
    def mark(self) -> None: ...
    def accepted(self) -> int: ...
    def log(self) -> Log: ...
    def start(self) -> None: ...
    def stop(self) -> None: ...


class Certificate(NamedTuple):
    """For HOST, and the CA that a client is to trust. A server may read the key as another user."""

    ca_file: Path
    chain: Path
    key: Path

    @classmethod
    def made_in(cls, folder: Path) -> "Certificate":
        authority = trustme.CA()
        issued = authority.issue_cert(HOST)
        made = cls(folder / "ca.pem", folder / "cert.pem", folder / "key.pem")
        authority.cert_pem.write_to_path(made.ca_file)
        for blob in issued.cert_chain_pems:
            blob.write_to_path(made.chain, append=True)
        issued.private_key_pem.write_to_path(made.key)
        return made


class Written:
    """A log file from a mark on."""

    def __init__(self, path: Path, acceptance: str) -> None:
        self._path = path
        self._acceptance = acceptance.encode()
        self.mark()

    def mark(self) -> None:
        self._begin = self._read_to = self.size
        self._count = 0

    @property
    def size(self) -> int:
        return self._path.stat().st_size if self._path.exists() else 0

    def accepted(self) -> int:
        """Counted on from the last time, by whole lines, since it is asked all the time."""
        if self.size > self._read_to:
            new = self._bytes(self._read_to)
            whole = new[: new.rfind(b"\n") + 1]
            self._read_to += len(whole)
            self._count += whole.count(self._acceptance)
        return self._count

    def lines(self, busy: Callable[[], bool] = lambda: False) -> list[str]:
        """When it is complete: not `busy`, and quiet. Raises TimeoutError if that does not come."""
        size, since = -1, time.monotonic()
        for _ in _patiently(f"{self._path} is not complete"):
            if busy() or size != self.size:
                size, since = self.size, time.monotonic()
            elif time.monotonic() - since > QUIET_SECONDS:
                break
        return self._bytes(self._begin).decode(errors="replace").splitlines()

    def _bytes(self, begin: int) -> bytes:
        if not self._path.exists():
            return b""
        with self._path.open("rb") as file:
            file.seek(begin)
            return file.read()


# -- Postfix ---------------------------------------------------------------------------------------

POSTFIX_MAIN = """\
compatibility_level = 3.6
queue_directory = {folder}/spool
data_directory = {folder}/data
maillog_file = {folder}/log
maillog_file_prefixes = {folder}
inet_interfaces = loopback-only
inet_protocols = ipv4
myhostname = postfix.test
enable_long_queue_ids = yes
mydestination =
mynetworks = 127.0.0.0/8
alias_maps =
notify_classes =
default_transport = discard:
local_transport = discard:
virtual_transport = discard:
relay_domains =
header_checks = regexp:{folder}/conf/told
virtual_mailbox_domains = {domain}
virtual_mailbox_maps = regexp:{folder}/conf/known
smtpd_restriction_classes = greylisted
greylisted = check_policy_service inet:{host}:{greylist_port}
smtpd_relay_restrictions = permit_mynetworks, reject
smtpd_recipient_restrictions =
    check_recipient_access regexp:{folder}/conf/later, permit_mynetworks, reject
smtpd_data_restrictions = reject_unauth_pipelining
smtpd_tls_cert_file = {certificate.chain}
smtpd_tls_key_file = {certificate.key}
"""
POSTFIX_LISTENS = """\
{host}:{port} inet n - n - - smtpd
    -o smtpd_tls_wrappermode=yes -o smtpd_discard_ehlo_keywords={suppressed}
"""
POSTFIX_SERVICES = """\
cleanup unix n - n - 0 cleanup
qmgr unix n - n 300 1 qmgr
pickup unix n - n 60 1 pickup
tlsmgr unix - - n 1000? 1 tlsmgr
rewrite unix - - n - - trivial-rewrite
bounce unix - - n - 0 bounce
defer unix - - n - 0 bounce
trace unix - - n - 0 bounce
verify unix - - n - 1 verify
flush unix n - n 1000? 0 flush
proxymap unix - - n - - proxymap
error unix - - n - - error
retry unix - - n - - error
discard unix - - n - - discard
anvil unix - - n - 1 anvil
showq unix n - n - - showq
postlog unix-dgram n - n - 1 postlogd
"""
"""No `smtp`, `local` or `virtual`: nothing can leave."""
QUEUES = ("incoming", "active", "deferred")


class Postfix:
    """Discards what it accepts, and says so in its log, once for each recipient."""

    def __init__(self, setting: Setting) -> None:
        self._command = shutil.which("postfix")
        if self._command is None:
            raise Missing("postfix is not installed")
        self._runs = False
        self._folder, conf = setting.folder, setting.folder / "conf"
        self.title = f"Postfix {_said('postconf', '-d', '-h', 'mail_version').strip()}"
        self.ports = free_ports()
        certificate = Certificate.made_in(self._folder)
        self.ca_file = certificate.ca_file
        self._written = Written(self._folder / "log", " status=sent ")
        for made in (conf, self._folder / "spool", self._folder / "data"):
            made.mkdir()
        (self._folder / "log").touch()
        for owned in ("data", "log"):  # both are opened by programs that are not root any more
            shutil.chown(self._folder / owned, "postfix")
        (conf / "known").write_text(f"!/^{Reception.UNKNOWN}/ ok\n")
        (conf / "told").write_text("/^Message-ID:/ INFO\n")
        (conf / "later").write_text(f"/^{Reception.LATER}/ greylisted\n")
        (conf / "main.cf").write_text(
            POSTFIX_MAIN.format(
                folder=self._folder, host=HOST, domain=DOMAIN,
                greylist_port=setting.greylist_port, certificate=certificate,
            )
        )  # fmt: skip
        listening = (
            POSTFIX_LISTENS.format(
                host=HOST, port=port, suppressed=",".join(sorted(OPTIONAL - wire.announced))
            )
            for wire, port in self.ports.items()
        )
        (conf / "master.cf").write_text("".join(listening) + POSTFIX_SERVICES)

    def start(self) -> None:
        self._do("start")
        self._runs = True

    def stop(self) -> None:
        """Its parent process is told by its id, which stands in the folder, and ends the others."""
        if self._runs:
            self._do("stop")
        self._runs = False

    def mark(self) -> None:
        self._written.mark()

    def accepted(self) -> int:
        return self._written.accepted()

    def log(self) -> Log:
        return postfix_log(self._written.lines(busy=self._delivers))

    def _delivers(self) -> bool:
        """Whether a message is in a queue that came as a whole: Postfix marks it as executable."""
        for name in QUEUES:
            for path in (self._folder / "spool" / name).rglob("*"):
                with suppress(FileNotFoundError):
                    if path.is_file() and path.stat().st_mode & stat.S_IXUSR:
                        return True
        return False

    def _do(self, what: str) -> None:
        assert self._command is not None
        done = subprocess.run(
            [self._command, "-c", self._folder / "conf", what], capture_output=True, text=True
        )
        if done.returncode:
            raise RuntimeError(f"postfix {what}: {done.stderr}")


# -- Exim ------------------------------------------------------------------------------------------

EXIM_CONF = """\
primary_hostname = exim.test
exim_path = {command}
exim_user = {nobody}
exim_group = {nobody}
spool_directory = {folder}/spool
log_file_path = {folder}/%slog
pid_file_path = {folder}/pid
local_interfaces = {host}
daemon_smtp_ports = {ports}
tls_on_connect_ports = {ports}
tls_advertise_hosts = *
tls_certificate = {certificate.chain}
tls_privatekey = {certificate.key}
pipelining_advertise_hosts = {pipelining}
chunking_advertise_hosts = {chunking}
acl_smtp_rcpt = rcpt
log_selector = +received_recipients +smtp_protocol_error +pid
keep_environment =
queue_only = true
split_spool_directory = true
begin acl
rcpt:
  deny    local_parts = ^{unknown}
          message = 5.1.1 <$local_part@$domain> unknown user
  defer   local_parts = ^{later}
          condition = ${{if match{{${{readsocket{{inet:{host}:{greylist_port}}}\\
                      {{recipient=$local_part@$domain\\n\\n}}{{5s}}}}}}{{450}}}}
          message = 4.2.1 <$local_part@$domain> greylisted, try again
  accept  domains = {domain}
          hosts = {host}
  deny
begin routers
nowhere:
  driver = redirect
  data = :blackhole:
"""
NOBODY = 65534
"""Whom Exim runs as, by number: where it was only unpacked, it has no user of its own."""
WITH_ITS_USER = """\
mount --bind "$1" /etc/passwd && mount --bind "$2" /etc/group && shift 2 && exec "$@"
"""
"""In a mount namespace: the user whose name was compiled into Exim is known there and only there."""


class Exim:
    """Queues what it accepts, and delivers nothing."""

    def __init__(self, setting: Setting) -> None:
        command = os.environ.get("EXIM") or shutil.which("exim4") or shutil.which("exim")
        if not command or not Path(command).is_file():
            raise Missing("exim is not installed")
        self._folder = setting.folder
        self._command = self._runnable(Path(command).resolve())
        version = re.search(r"version (\S+)", _said(*self._command, "-bV"))
        if version is None:
            raise Missing(f"exim does not start: {_said(*self._command, '-bV')}")
        self.title = f"Exim {version[1]}"
        self.ports = free_ports()
        certificate = Certificate.made_in(self._folder)
        self.ca_file = certificate.ca_file
        self._written = Written(self._folder / "mainlog", " <= ")
        self._process: subprocess.Popen[bytes] | None = None
        (self._folder / "spool").mkdir()
        for owned in (self._folder, self._folder / "spool"):
            os.chown(owned, NOBODY, NOBODY)
        (self._folder / "conf").write_text(
            EXIM_CONF.format(
                command=Path(command).resolve(), nobody=NOBODY, folder=self._folder, host=HOST,
                ports=" : ".join(map(str, self.ports.values())), certificate=certificate,
                pipelining=self._hosts("PIPELINING"), chunking=self._hosts("CHUNKING"),
                unknown=Reception.UNKNOWN, later=Reception.LATER, domain=DOMAIN,
                greylist_port=setting.greylist_port,
            )
        )  # fmt: skip

    def start(self) -> None:
        command = [*self._command, "-C", self._folder / "conf", "-bdf"]
        with (self._folder / "output").open("ab") as output:
            self._process = subprocess.Popen(command, stdout=output, stderr=output)

    def stop(self) -> None:
        if self._process is not None:
            self._process.terminate()
            self._process.wait(PATIENCE_SECONDS)
            self._process = None

    def mark(self) -> None:
        self._written.mark()

    def accepted(self) -> int:
        return self._written.accepted()

    def log(self) -> Log:
        return exim_log(self._written.lines())

    def _hosts(self, keyword: str) -> str:
        """To whom a keyword is announced: to all, on the ports of the modes that have it."""
        ports = [str(port) for wire, port in self.ports.items() if keyword in wire.announced]
        return f"${{if inlist{{$received_port}}{{{':'.join(ports)}}}{{*}}{{}}}}"

    def _runnable(self, command: Path) -> list[str | Path]:
        """The command, with the libraries that lie next to it and the user that it asks for."""
        libraries = ":".join(map(str, command.parent.parent.glob("lib/*-linux-gnu")))
        runnable: list[str | Path] = ["env", f"LD_LIBRARY_PATH={libraries}", command]
        unknown = re.search(r'failed to find uid for user name "([^"]+)"', _said(*runnable, "-bV"))
        if unknown is None:
            return runnable
        for name, line in (("passwd", "{}:x:{}:{}::/:/bin/false\n"), ("group", "{}:x:{}:\n")):
            known = Path("/etc", name).read_text() + line.format(unknown[1], NOBODY, NOBODY)
            (self._folder / name).write_text(known)
        files = (self._folder / "passwd", self._folder / "group")
        return ["unshare", "--mount", "sh", "-c", WITH_ITS_USER, "sh", *files, *runnable]


# -- both ------------------------------------------------------------------------------------------

KINDS: tuple[Callable[[Setting], Server], ...] = (Postfix, Exim)
"""Each raises Missing."""


@contextmanager
def running(server: Server) -> Iterator[Server]:
    """Started, and it announces what it is to announce."""
    server.start()
    try:
        for wire in Wire:
            announced = _announced(server, wire)
            if announced != wire.announced:
                raise RuntimeError(f"{server.title} announces {announced} where {wire} is meant")
        yield server
    finally:
        server.stop()


def _announced(server: Server, wire: Wire) -> frozenset[str]:
    tls = ssl.create_default_context(cafile=server.ca_file)
    for _ in _patiently(f"{server.title} does not answer"):
        with suppress(OSError), smtplib.SMTP_SSL(HOST, server.ports[wire], context=tls) as client:
            client.ehlo("bulkmail.test")
            return OPTIONAL & {name.upper() for name in client.esmtp_features}
    raise AssertionError


def free_ports() -> dict[Wire, int]:
    """Below those that a system gives to clients, so that they stay free while a server restarts."""
    ports: dict[Wire, int] = {}
    for port in random.sample(range(20_000, 32_000), 1_000):
        with closing(socket.socket()) as probe, suppress(OSError):
            probe.bind((HOST, port))
            ports[list(Wire)[len(ports)]] = port
        if len(ports) == len(Wire):
            return ports
    raise RuntimeError("no port is free")


def _patiently(complaint: str) -> Iterator[None]:
    """Again and again; raises TimeoutError when it is enough."""
    deadline = time.monotonic() + PATIENCE_SECONDS
    while time.monotonic() < deadline:
        yield
        time.sleep(0.02)
    raise TimeoutError(complaint)


def _said(*command: str | Path) -> str:
    done = subprocess.run(command, capture_output=True, text=True)
    return done.stdout + done.stderr
