"""Mail objects as `.eml` files, which mail readers open."""

from pathlib import Path

from bulkmail.errors import MissingFileError
from bulkmail.model import MailObject

MAX_NAME_BYTES = 200
"""File systems take 255 bytes; number and ending are counted apart."""


class EmlFolder:
    """A folder for the messages of one dry run. Removes those of the run before, nothing else.

    Raises MissingFileError where the folder cannot be used.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._count = 0
        try:
            if folder.exists():
                for old in folder.glob("[0-9][0-9][0-9][0-9][0-9]* *@*.eml"):
                    old.unlink()
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise MissingFileError(f"{folder}: {error.strerror}; name another with --out") from None

    def write(self, mail: MailObject) -> Path:
        """Writes one message; its file is named by number and address."""
        self._count += 1
        path = self.folder / f"{self._count:05} {file_name(mail.envelope.forward_path)}.eml"
        try:
            path.write_bytes(b"".join(mail.content))
        except OSError as error:
            raise MissingFileError(f"{path}: {error.strerror}") from None
        return path


def file_name(text: str) -> str:
    """`text` as the name of a file, shortened if it must be."""
    harmless = "".join(c if c.isalnum() or c in "@.+-_ " else "_" for c in text)
    return harmless.encode()[:MAX_NAME_BYTES].decode("utf-8", "ignore")
