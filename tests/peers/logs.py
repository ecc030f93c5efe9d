"""What servers write down about messages, in their own words. Pure: text in, records out."""

import re
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class Copy:
    """A message that the server took responsibility for; `queue_id` is its name for it."""

    queue_id: str
    message_id: str
    """Without the angle brackets."""


@dataclass(frozen=True, slots=True)
class Log:
    """By address: the copies taken, and the refusals by their first digit, each in order."""

    taken: dict[str, list[Copy]] = field(default_factory=lambda: defaultdict(list))
    refused: dict[str, list[str]] = field(default_factory=lambda: defaultdict(list))

    @property
    def messages(self) -> int:
        return sum(map(len, self.taken.values()))


_POSTFIX_NAMED = re.compile(r"/cleanup\[\d+\]: (\w+): message-id=<([^>]*)>")
_POSTFIX_SENT = re.compile(r"/discard\[\d+\]: (\w+): to=<([^>]*)>.* status=sent ")
_POSTFIX_REFUSED = re.compile(
    r"/smtpd\[\d+\]: \w+: reject: RCPT from \S+: ([45])\d\d .* to=<([^>]*)> "
)


def postfix_log(lines: Iterable[str]) -> Log:
    """Postfix names a message while it comes, which proves nothing; `status=sent` is written about
    what it had accepted as a whole, once for each recipient.
    """
    log, message_ids = Log(), dict[str, str]()
    for line in lines:
        if named := _POSTFIX_NAMED.search(line):
            message_ids[named[1]] = named[2]
        elif sent := _POSTFIX_SENT.search(line):
            log.taken[sent[2]].append(Copy(sent[1], message_ids.get(sent[1], "")))
        elif refused := _POSTFIX_REFUSED.search(line):
            log.refused[refused[2]].append(refused[1])
    return log


_EXIM_TAKEN = re.compile(r"\] ([\w-]+) <= .* id=(\S+) for (.+)$")
_EXIM_REFUSED = re.compile(r" (temporarily )?rejected RCPT <([^>]*)>")


def exim_log(lines: Iterable[str]) -> Log:
    """Exim writes one line about a message, `<=`, when it has accepted it as a whole."""
    log = Log()
    for line in lines:
        if taken := _EXIM_TAKEN.search(line):
            for address in taken[3].split():
                log.taken[address].append(Copy(taken[1], taken[2]))
        elif refused := _EXIM_REFUSED.search(line):
            log.refused[refused[2]].append("4" if refused[1] else "5")
    return log
