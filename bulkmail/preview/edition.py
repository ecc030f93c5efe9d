"""A campaign as its files are now: its people, and what composes their messages."""

import os
import threading
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from bulkmail.campaign import Campaign, read_campaign
from bulkmail.compose.message import Composer
from bulkmail.compose.templates import RenderError
from bulkmail.errors import BulkmailError, CampaignError, Problem
from bulkmail.ledger import Person
from bulkmail.model import State
from bulkmail.preview.following import Following
from bulkmail.preview.mistakes import problems_of, with_lines
from bulkmail.preview.opened import Opened, opened
from bulkmail.preview.reading import MEANT, Past, People
from bulkmail.preview.shown import Json, mail_json
from bulkmail.preview.watching import Stamp, data_files, files_of, stamps


class Preview:
    """A campaign file that is followed by a thread until `close`. See `Shown`."""

    def __init__(
        self, path: Path, settings: Mapping[str, str], past: Callable[[Campaign], Past]
    ) -> None:
        self._path = path
        self._settings = settings
        self._past = past
        self._seed = os.urandom(32)
        self._at = time.time()
        self._edition = 0
        self._people_edition = 0
        self._campaign: Campaign | None = None
        self._people: People | None = None
        self._people_of: object = None
        """What `_people` were read from."""
        self._composer: Composer | None = None
        self._problems: list[Problem] = []
        self._files: dict[Path, Stamp] = {}
        self._changing = threading.RLock()
        """Held while anything of the above changes, or a message is composed of it."""
        self.refresh()
        self._following = Following(self._look)

    def follow(self) -> None:
        """From now on changes of the files are seen."""
        self._following.start()

    def close(self) -> None:
        self._following.close()
        with self._changing:
            if self._people is not None:
                self._people.close()

    @property
    def campaign(self) -> Campaign | None:
        return self._campaign

    @property
    def people(self) -> People | None:
        return self._people

    @property
    def problems(self) -> list[Problem]:
        """Of the campaign as a whole."""
        problem = self._people.problem if self._people is not None else None
        return [*self._problems, *(problems_of(problem) if problem else ())]

    # -- following -------------------------------------------------------------------------------

    def refresh(self) -> None:
        """Reads the campaign anew; where it is wrong, people stay as they were."""
        with self._changing:
            # Before reading, so that what changes meanwhile is seen as a change.
            before = stamps(files_of(self._path, self._campaign))
            self._composer, self._problems = None, []
            try:
                self._read()
            except BulkmailError as error:
                self._problems = problems_of(error)
            self._files = {**stamps(files_of(self._path, self._campaign)), **before}
            self._edition += 1

    def _read(self) -> None:
        campaign = read_campaign(self._path, self._settings)
        past = self._past(campaign)
        seed = past.seed(campaign.name) or self._seed
        people_of = _people_of(campaign)
        if self._people is None or people_of != self._people_of:
            before, self._people = self._people, People(campaign, past)
            self._people_of = people_of
            self._people_edition += 1
            if before is not None:
                before.close()
        self._campaign = campaign
        try:
            self._composer = Composer(campaign.design, campaign.load, seed, campaign.open_file)
        except RenderError as error:
            raise CampaignError([Problem(error.place, error.message)]) from None

    def _look(self) -> None:
        with self._changing:
            if stamps(self._files) != self._files:
                self.refresh()
            elif self._campaign is not None:
                # Composing may have asked for more templates.
                new = set(self._campaign.load.candidates()) - self._files.keys()
                self._files.update(stamps(new))

    # -- what the page asks for ------------------------------------------------------------------

    def state(self) -> Json:
        people = self._people
        return {
            "campaign": self._facts(),
            "sandbox": False,
            "edition": self._edition,
            "people": self._people_edition,
            "read": people.read if people else 0,
            "reading": bool(people and people.reading),
            "left_out": people.left_out if people else 0,
            "remarks": people.remarks if people else [],
            "problems": [with_lines(problem, self._files) for problem in self.problems],
        }

    def page(self, after: int, limit: int, text: str, left_out: bool) -> Json:
        if self._people is None:
            return {"people": [], "next": 0, "at_end": True}
        page = self._people.page(after, limit, text, left_out)
        people = [person_json(person) for person in page.people]
        return {"people": people, "next": page.next_id, "at_end": page.at_end}

    def person(self, number: int) -> Json | None:
        found = self._people.person(number) if self._people is not None else None
        if found is None:
            return None
        fields = {"email": found.recipient.address, **found.recipient.fields}
        told = {**person_json(found), "fields": list(fields.items())}
        told |= {"mail": None, "problem": None}
        if found.state not in MEANT:
            return told
        try:
            mail = self._composed(found)
        except RenderError as error:
            told["problem"] = with_lines(Problem(error.place, error.message), self._files)
        else:
            told["mail"] = mail and mail_json(mail, found.recipient.address)
        return told

    def find(self, address: str, number: int) -> int | None:
        return self._people.find(address, number) if self._people is not None else None

    def opened(self, number: int) -> Opened | None:
        found = self._people.person(number) if self._people is not None else None
        if found is None or found.state not in MEANT:
            return None
        try:
            return self._composed(found)
        except RenderError:
            return None

    def _composed(self, person: Person) -> Opened | None:
        """The message of `person`; None while the campaign is wrong as a whole."""
        with self._changing:
            if self._composer is None:
                return None
            mail = self._composer.compose(person.recipient, self._at)
        return opened(b"".join(mail.content))

    def _facts(self) -> Json:
        campaign = self._campaign
        if campaign is None:
            return {"name": self._path.name, "file": self._path.name, "about": ""}
        author = campaign.file.author
        return {
            "name": campaign.name,
            "file": campaign.path.name,
            "about": f"{author.display_name} <{author.address}>".strip(),
        }


def person_json(person: Person) -> Json:
    recipient = person.recipient
    return {
        "number": recipient.id,
        "address": recipient.address,
        "name": recipient.fields.get("name", ""),
        "source": recipient.source,
        "left_out": "" if person.state in MEANT else _why(person.state),
        "reason": person.reason,
    }


def _why(state: State) -> str:
    return "excluded" if state is State.SUPPRESSED else state.value


def _people_of(campaign: Campaign) -> tuple[Any, ...]:
    """Equal as long as the same people would be read from the campaign."""
    file = campaign.file
    return (
        campaign.name,
        file.recipients,
        file.exclude,
        file.addresses,
        frozenset(file.variables),
        campaign.names_in_headers(),
        stamps(data_files(campaign)),
    )
