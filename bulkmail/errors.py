"""What can stop a command, and the exit status it ends with.

A refused recipient is data, never one of these: an exception here ends the command.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import IntEnum


class ExitStatus(IntEnum):
    """Those of sysexits.h, which mail programs have always used, and a shell's for signals."""

    DONE = 0
    LOOK = 1  # finished, but some failed or are in doubt: a person must look
    USAGE = 2
    DATA = 65
    NO_INPUT = 66
    UNAVAILABLE = 69
    BUG = 70
    LEDGER = 74
    CONTINUE = 75  # unfinished; running again will go on
    LOGIN = 77
    CONFIG = 78
    INTERRUPTED = 130
    TERMINATED = 143


class BulkmailError(Exception):
    """Something that ends the command. `str()` is written for the person who reads it."""

    status = ExitStatus.BUG


@dataclass(frozen=True, slots=True)
class Problem:
    """One thing that is wrong, and where: `place` is `file:line:column`, or as much as is known."""

    place: str
    message: str

    def __str__(self) -> str:
        return f"{self.place}: {self.message}"


class CampaignError(BulkmailError):
    """The campaign is wrong or needs a yes; nothing was sent. Holds every problem found at once."""

    status = ExitStatus.DATA

    def __init__(self, problems: Sequence[Problem] | str) -> None:
        self.problems = [] if isinstance(problems, str) else list(problems)
        super().__init__(problems if isinstance(problems, str) else "\n".join(map(str, problems)))


class MissingFileError(CampaignError):
    """A file that the campaign or the command line names cannot be read."""

    status = ExitStatus.NO_INPUT


class LedgerError(BulkmailError):
    """The ledger cannot be written, or is not one: sending stopped before the next final dot."""

    status = ExitStatus.LEDGER


class NoLedgerError(LedgerError):
    """A file is no ledger: no database, or that of another program."""


class LedgerBusyError(BulkmailError):
    """Another run holds this ledger."""

    status = ExitStatus.CONTINUE


class ServerError(BulkmailError):
    """The submission server cannot be used at all: unknown, not trusted, refusing this client."""

    status = ExitStatus.UNAVAILABLE


class ServerUnreachableError(ServerError):
    """The server did not answer, or broke off: another attempt may succeed."""


class LoginError(BulkmailError):
    """The server refused the login."""

    status = ExitStatus.LOGIN


class SecretError(BulkmailError):
    """A secret or a setting is missing."""

    status = ExitStatus.CONFIG
