"""Mail objects as `.eml` files, which mail readers open."""

from pathlib import Path

from bulkmail.model import MailObject


class EmlFolder:
    """A folder for the messages of one dry run. Removes those of the run before, nothing else."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._count = 0
        if folder.exists():
            for old in folder.glob("[0-9][0-9][0-9][0-9][0-9]* *@*.eml"):
                old.unlink()
        folder.mkdir(parents=True, exist_ok=True)

    def write(self, mail: MailObject) -> Path:
        """Writes one message; its file is named by number and address."""
        self._count += 1
        path = self.folder / f"{self._count:05} {_file_name(mail.envelope.forward_path)}.eml"
        path.write_bytes(b"".join(mail.content))
        return path


def _file_name(address: str) -> str:
    return "".join(c if c.isalnum() or c in "@.+-_" else "_" for c in address)
