"""What is tried with the servers. A section yields its lines of a table, and keeps what is wrong."""

import random
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from .campaign import CONNECTIONS, NEVER, Campaign
from .greylist import Greylist
from .judge import Evidence, Fault, Kind
from .people import people
from .servers import Postfix, Server, Wire

KILLS = 7
"""Of each campaign, then it is run to its end."""
KILLED_PEOPLE = 800
LONGEST_SECONDS = 0.03
"""Between an acceptance and a kill."""
RESTARTS = 6
"""Of the server, in each campaign."""
RESTARTED_PEOPLE = 1_200
DOWN_SECONDS = 0.5
REFUSED_PEOPLE = 60
UNKNOWN, LATER = 18, 6
MANY = 20_000
MANY_UNKNOWN, MANY_LATER = 400, 100


@dataclass
class Room:
    """Where the sections work: what is there, and what was found to be wrong."""

    folder: Path
    servers: list[Server]
    greylist: Greylist
    faults: list[str] = field(default_factory=list)

    def campaign(
        self, name: str, server: Server, wire: Wire, *number: int, **more: str
    ) -> Campaign:
        """`number`: of people, of unknown ones, of those refused at first."""
        self.greylist.forget()
        return Campaign(self.folder / name, server, wire, people(name, *number), **more)

    def judged(self, name: str, evidence: Evidence, *more: Fault) -> dict[str, int]:
        """How many faults of each kind; they are kept."""
        faults = [*evidence.faults(), *more]
        self.faults += [f"{name}: {fault}" for fault in faults]
        return {kind.value: sum(fault.kind is kind for fault in faults) for kind in Kind}

    @property
    def postfix(self) -> list[Server]:
        return [server for server in self.servers if isinstance(server, Postfix)]


Row = dict[str, object]


def killed(room: Room) -> Iterator[Row]:
    """Runs killed with SIGKILL at seeded instants until their campaigns are done."""
    for server in room.servers:
        for in_doubt in ("hold", "resend"):
            for wire in Wire:
                yield from _killed(room, server, wire, in_doubt)


def _killed(room: Room, server: Server, wire: Wire, in_doubt: str) -> Iterator[Row]:
    name = f"kill {server.title} {wire} {in_doubt}"
    campaign = room.campaign(name, server, wire, KILLED_PEOPLE, in_doubt=in_doubt)
    dice, kills = random.Random(name), 0
    while kills < KILLS:
        sent, parts = server.accepted(), KILLS - kills + 1
        share = max(1, (KILLED_PEOPLE - sent) // parts)
        with campaign.run() as process:
            if not campaign.wait_until(sent + dice.randint(1, share), process):
                break
            time.sleep(dice.uniform(0, LONGEST_SECONDS))
            if process.poll() is not None:
                break
            process.kill()
        kills += 1
    evidence, bound = campaign.finish(), kills * CONNECTIONS * wire.slots
    many = Fault(Kind.WRONG, f"{evidence.doubts} doubts, {bound} at most")
    found = room.judged(name, evidence, *([many] if evidence.doubts > bound else []))
    if kills < KILLS:
        room.faults.append(f"{name}: only {kills} kills hit")
    yield {
        "server": server.title, "wire": wire, "in_doubt": in_doubt, "kills": kills, "people": KILLED_PEOPLE,
        "accepted": evidence.accepted, "doubts": evidence.doubts, "at most": bound,
        "in doubt": len(evidence.in_doubt), "of them taken": evidence.in_doubt_taken,
        "resent, had it": evidence.again, **found,
    }  # fmt: skip


def refused(room: Room) -> Iterator[Row]:
    """Some unknown, some refused at first, all others taken once."""
    for server in room.servers:
        for wire in Wire:
            name = f"refuse {server.title} {wire}"
            campaign = room.campaign(name, server, wire, REFUSED_PEOPLE, UNKNOWN, LATER)
            yield _refusals(room, name, campaign)


def many(room: Room) -> Iterator[Row]:
    """The same with very many people, in the modes that are meant for them."""
    for server in room.servers:
        for wire in (Wire.PIPELINING, Wire.CHUNKING):
            name = f"many {server.title} {wire}"
            campaign = room.campaign(name, server, wire, MANY, MANY_UNKNOWN, MANY_LATER)
            yield _refusals(room, name, campaign) | {"seconds": f"{campaign.seconds:.0f}"}


def _refusals(room: Room, name: str, campaign: Campaign) -> Row:
    evidence = campaign.finish()
    doubted = [Fault(Kind.WRONG, f"{one.address} is in doubt") for one in evidence.in_doubt]
    found = room.judged(name, evidence, *doubted)
    return {
        "server": campaign.server.title, "wire": campaign.wire, "people": len(campaign.people),
        "refused": evidence.refused, "refused at first": evidence.refused_at_first,
        "accepted": evidence.accepted, "in the log": evidence.log.messages, **found,
    }  # fmt: skip


def restarted(room: Room) -> Iterator[Row]:
    """The server stopped and started again in mid-run; Postfix, since Exim lets sessions end."""
    for server in room.postfix:
        for wire in Wire:
            name = f"restart {wire}"
            campaign = room.campaign(name, server, wire, RESTARTED_PEOPLE)
            restarts = 0
            with campaign.run() as process:
                for part in range(1, RESTARTS + 1):
                    if campaign.wait_until(part * RESTARTED_PEOPLE // (RESTARTS + 1), process):
                        server.stop()
                        time.sleep(DOWN_SECONDS)
                        server.start()
                        restarts += 1
                campaign.wait_until(NEVER, process)
            evidence = campaign.evidence(process.returncode)
            found = room.judged(name, evidence)
            if restarts < RESTARTS:
                room.faults.append(f"{name}: only {restarts} restarts")
            yield {
                "wire": wire, "restarts": restarts, "people": RESTARTED_PEOPLE,
                "accepted": evidence.accepted, "in doubt": len(evidence.in_doubt),
                "of them taken": evidence.in_doubt_taken, **found,
                "seconds": f"{campaign.seconds:.0f}",
            }  # fmt: skip


SECTIONS: dict[str, Callable[[Room], Iterator[Row]]] = {
    "kill": killed,
    "refuse": refused,
    "restart": restarted,
    "many": many,
}
