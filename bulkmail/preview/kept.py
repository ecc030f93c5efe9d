"""The sandbox's mail as it was received, read from the files of its Maildir."""

import json
import os
from array import array
from contextlib import suppress
from datetime import datetime
from pathlib import Path
from typing import Any

from bulkmail.preview.following import Following
from bulkmail.preview.opened import Opened, opened
from bulkmail.preview.shown import Json, mail_json

SCANNED = 5_000
"""So many lines of the journal are looked at in one portion of a search."""


class Kept:
    """What stands in the journal of the Maildir at `folder`, and what is added. See `Shown`."""

    def __init__(self, folder: Path, name: str) -> None:
        self._folder = folder
        self._name = name
        self._journal = folder / "journal.jsonl"
        self._places = array("Q")
        """Where each line of the journal begins."""
        self._end = 0
        self._edition = 1
        self._look()
        self._following = Following(self._look)

    def follow(self) -> None:
        """From now on new mail is seen."""
        self._following.start()

    def close(self) -> None:
        self._following.close()

    def _look(self) -> None:
        """Takes in whole lines that were added; a journal that shrank is another one."""
        with suppress(OSError):
            if self._journal.stat().st_size < self._end:
                self._places, self._end = array("Q"), 0
                self._edition += 1
            with self._journal.open("rb") as file:
                file.seek(self._end)
                for line in file:
                    if line.endswith(b"\n"):
                        self._places.append(self._end)
                        self._end += len(line)

    # -- what the page asks for ------------------------------------------------------------------

    def state(self) -> Json:
        facts = {
            "name": self._name,
            "file": str(self._folder),
            "about": "what the sandbox received",
        }
        return {
            "campaign": facts,
            "sandbox": True,
            "edition": self._edition,
            "people": self._edition,
            "read": len(self._places),
            "reading": False,
            "left_out": 0,
            "remarks": [],
            "problems": [],
        }

    def page(self, after: int, limit: int, text: str, left_out: bool) -> Json:
        until = min(len(self._places), after + SCANNED)
        people: list[Json] = []
        number = after
        while number < until and len(people) < limit:
            number += 1
            entry = self._entry(number)
            if not left_out and text.casefold() in " ".join(_paths(entry)).casefold():
                people.append(_person(entry, number))
        return {"people": people, "next": number, "at_end": number >= len(self._places)}

    def person(self, number: int) -> Json | None:
        if not 1 <= number <= len(self._places):
            return None
        entry = self._entry(number)
        fields = [(name, str(entry.get(name, ""))) for name in ("reverse_path", "file")]
        told = {**_person(entry, number), "fields": fields, "mail": None, "problem": None}
        mail = self.opened(number)
        if mail is None:
            message = "the file of this message is gone"
            told["problem"] = {"place": str(self._folder), "message": message, "lines": []}
        else:
            told["mail"] = mail_json(mail, told["address"])
        return told

    def find(self, address: str, number: int) -> int | None:
        person = self.person(number)
        return number if person and person["address"] == address else None

    def opened(self, number: int) -> Opened | None:
        if not 1 <= number <= len(self._places):
            return None
        # A mail reader moves a file to cur/, and adds its flags to the name.
        name = os.path.basename(str(self._entry(number).get("file", "")))
        for path in (self._folder / "new" / name, *(self._folder / "cur").glob(f"{name}*")):
            if name and path.is_file():
                return opened(path.read_bytes())
        return None

    def _entry(self, number: int) -> dict[str, Any]:
        with suppress(OSError, ValueError, IndexError), self._journal.open("rb") as file:
            file.seek(self._places[number - 1])
            entry = json.loads(file.readline())
            if isinstance(entry, dict):
                return entry
        return {}


def _paths(entry: dict[str, Any]) -> list[str]:
    return [str(path) for path in entry.get("forward_paths", ())]


def _person(entry: dict[str, Any], number: int) -> Json:
    at = datetime.fromtimestamp(float(entry.get("at", 0.0)))
    return {
        "number": number,
        "address": ", ".join(_paths(entry)),
        "name": "",
        "source": f"received {at:%Y-%m-%d %H:%M:%S}",
        "left_out": "",
        "reason": "",
    }
