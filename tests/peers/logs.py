"""What servers write down about messages, in their own words. Pure: text in, records out."""

import re
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, field

NOBODY = "somebody that the log does not name"


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


_POSTFIX_CAME = re.compile(
    r"/cleanup\[\d+\]: (\w+): info: header Message-ID: <([^>]*)> .* to=<([^>]*)> "
)
_POSTFIX_WHOLE = re.compile(r"/qmgr\[\d+\]: (\w+): from=<[^>]*>, size=\d+, nrcpt=")
_POSTFIX_SENT = re.compile(r"/discard\[\d+\]: (\w+): to=<([^>]*)>.* status=sent ")
_POSTFIX_REFUSED = re.compile(
    r"/smtpd\[\d+\]: \w+: reject: RCPT from \S+: ([45])\d\d .* to=<([^>]*)> "
)


def postfix_log(lines: Iterable[str]) -> Log:
    """Postfix names a message while it comes, which proves nothing; its queue manager sees whole
    ones, which it has accepted. `status=sent` says the same, but is not written about all of them
    where Postfix is stopped; after that either may be written again about what it had accepted.
    """
    log = Log()
    message_ids: dict[str, str] = {}
    recipients: dict[str, str] = {}
    whole: dict[str, None] = {}
    for line in lines:
        if came := _POSTFIX_CAME.search(line):
            message_ids[came[1]], recipients[came[1]] = came[2], came[3]
        elif of_manager := _POSTFIX_WHOLE.search(line):
            whole[of_manager[1]] = None
        elif sent := _POSTFIX_SENT.search(line):
            whole[sent[1]], recipients[sent[1]] = None, sent[2]
        elif refused := _POSTFIX_REFUSED.search(line):
            log.refused[refused[2]].append(refused[1])
    for queue_id in whole:
        copy = Copy(queue_id, message_ids.get(queue_id, ""))
        log.taken[recipients.get(queue_id, NOBODY)].append(copy)
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
