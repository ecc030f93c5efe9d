"""Whether a file lies on a disk of this computer: locks and syncs of others cannot be relied on."""

import re
from pathlib import Path

NETWORK = re.compile(r"nfs\d?|cifs|smb\w*|afs|ceph|lustre|beegfs|gpfs|fuse\.(sshfs|glusterfs|s3fs)")
MOUNTS = Path("/proc/self/mountinfo")
"""Linux's own table (proc(5)); where there is none nothing is known."""


def network_share(path: Path, mounts: Path = MOUNTS) -> str | None:
    """The kind of network file system that `path` lies on; None if it does not, as far as known."""
    try:
        lines = mounts.read_text("utf-8", "surrogateescape").splitlines()
    except OSError:
        return None
    found = max(
        (mount for mount in map(_mount, lines) if path.resolve().is_relative_to(mount[0])),
        key=lambda mount: len(mount[0].parts),
        default=(Path("/"), ""),
    )
    return found[1] if NETWORK.fullmatch(found[1]) else None


def _mount(line: str) -> tuple[Path, str]:
    """Where something is mounted, and what kind it is. Spaces stand there as octal numbers."""
    before, _, after = line.partition(" - ")
    point = re.sub(r"\\([0-7]{3})", lambda match: chr(int(match[1], 8)), before.split(" ")[4])
    return Path(point), after.split(" ")[0]
