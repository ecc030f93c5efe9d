"""What to type for a group of people who did not get it, or may not have."""

import shlex
from collections.abc import Sequence
from dataclasses import dataclass

from bulkmail.model import UNSENT, State
from bulkmail.report.groups import Group
from bulkmail.smtp.meaning import Remedy

NAMED = 5
"""So many addresses stand in a command at most; more are named by their group."""

AGAIN = frozenset({State.FAILED, State.EXPIRED})


@dataclass(frozen=True, slots=True)
class Command:
    """`line` is for a shell; `what` says what it does, in a few words."""

    what: str
    line: str


@dataclass(frozen=True, slots=True)
class Shell:
    """How commands about the campaign in `file` are typed; `under_way`: while a run of it is."""

    file: str
    is_rehearsal: bool = False
    under_way: bool = False

    def line(self, command: str, *words: str) -> str:
        flag = ("--sandbox",) if self.is_rehearsal else ()
        return shlex.join(("bulkmail", *command.split(), self.file, *flag, *words))

    def run(self) -> Command:
        return Command("go on", self.line("run"))

    def list_all(self, group: Group) -> Command:
        words = ("--state", str(group.state), "--why", group.meaning.key)
        return Command("list all", self.line("report", *words))

    def advised(self, group: Group, addresses: Sequence[str]) -> list[Command]:
        """What helps the group; `addresses` are those of it, or the first of them.

        A rehearsal has no people to decide about, and while a run is under way nothing can be
        decided: then there is nothing but to go on, or to wait.
        """
        if group.state in UNSENT and not self.under_way:
            return [self.run()]
        if self.is_rehearsal or self.under_way:
            return []
        if group.state is State.IN_DOUBT:
            return [
                Command("they have it", self.line("settle", "--accepted")),
                Command("send it again", self.line("retry", "--state", "in_doubt")),
            ]
        if group.state not in AGAIN:
            return []
        return self._of_those_who_failed(group, addresses)

    def _of_those_who_failed(self, group: Group, addresses: Sequence[str]) -> list[Command]:
        named = list(addresses) if group.number <= NAMED >= len(addresses) > 0 else []
        picked = ("--state", str(group.state), "--why", group.meaning.key)
        remedy = group.meaning.remedy
        if remedy is Remedy.LEAVE_OUT and named:
            line = shlex.join(("bulkmail", "suppress", "add", *_words(named)))
            return [Command("leave them out", line)]
        if remedy is Remedy.LEAVE_OUT:
            folder, slash, _ = self.file.rpartition("/")
            name = f"{group.meaning.key}.csv"  # beside the campaign, where that looks for it
            out = ("--format", "csv", "--out", f"{folder}{slash}{name}")
            return [
                Command("into a file", self.line("report", *picked, *out)),
                Command("in the campaign", f"exclude: [{name}]"),
            ]
        if remedy is Remedy.TRY_AGAIN:
            again = self.line("retry", *(_words(named) or picked))
            return [Command("send again", again), Command("and then", self.line("run"))]
        return [Command("once corrected", self.line("run"))]


def _words(addresses: Sequence[str]) -> list[str]:
    """An address may begin like an option."""
    dashed = any(address.startswith("-") for address in addresses)
    return ["--", *addresses] if dashed else list(addresses)
