"""A worker's network as a namespace of the kernel's, with two cables: one to the database and one
to the mail server. The first can be pulled, so that packets are lost as on a network.

Where that is allowed: Linux, root, and `ip`. The addresses are those for benchmarks (RFC 2544).
"""

import os
import random
import shutil
import subprocess
from pathlib import Path

from .relay import Relay

HOSTS = Path("/etc/netns")
"""What `ip netns exec` puts in the place of /etc/hosts."""


def allowed() -> bool:
    """Whether one can be made here."""
    if shutil.which("ip") is None or os.name != "posix" or os.geteuid() != 0:
        return False
    name = _name()
    try:
        _ip("netns", "add", name)
        _ip("netns", "del", name)
    except subprocess.CalledProcessError:
        return False
    return True


class Namespace(Relay):
    """See `Relay`; what is not cut goes through one, too, so that it can be reset."""

    def __init__(self, port: int) -> None:
        super().__init__(port)
        self._name = _name()
        self._database, self._mail = f"{self._name}d", f"{self._name}m"
        self.by = ("ip", "netns", "exec", self._name)

    async def __aenter__(self) -> int:
        _ip("netns", "add", self._name)
        net = random.SystemRandom().randrange(256)
        _ip("-n", self._name, "link", "set", "lo", "up")
        self.host = self._cable(self._database, f"198.18.{net}")
        mail_host = self._cable(self._mail, f"198.19.{net}")
        place = HOSTS / self._name
        place.mkdir(parents=True)
        (place / "hosts").write_text(f"{mail_host} localhost\n")
        return await super().__aenter__()

    async def __aexit__(self, *exc_info: object) -> None:
        await super().__aexit__(*exc_info)
        _ip("netns", "del", self._name)  # and its cables
        shutil.rmtree(HOSTS / self._name)

    def cut(self) -> None:
        _ip("link", "set", self._database, "down")

    def mend(self) -> None:
        _ip("link", "set", self._database, "up")

    def _cable(self, name: str, net: str) -> str:
        """From here into the namespace; the address at this end."""
        _ip("link", "add", name, "type", "veth", "peer", "name", name, "netns", self._name)
        _ip("addr", "add", f"{net}.1/30", "dev", name)
        _ip("-n", self._name, "addr", "add", f"{net}.2/30", "dev", name)
        _ip("link", "set", name, "up")
        _ip("-n", self._name, "link", "set", name, "up")
        return f"{net}.1"


def _name() -> str:
    return f"bulkmail{random.SystemRandom().randrange(16**4):04x}"


def _ip(*arguments: str) -> None:
    subprocess.run(("ip", *arguments), check=True, capture_output=True)
