"""Batches on their way, a file each in the user's folder: what was sent is found again days later, or after a kill."""

import hashlib
import json
import logging
import os
from collections.abc import Collection
from dataclasses import dataclass, field
from pathlib import Path

from prompt2model.errors import RunError
from prompt2model.home import home

logger = logging.getLogger(__name__)


@dataclass
class Note:
    """A batch that was sent."""

    name: str
    """Of the teacher."""
    ids: list[str]
    """Of its lines whose answers have not been handed on yet."""
    file: str
    batch: str = ""
    """Its name at the provider's; empty until it has been made of the file."""
    path: Path = field(default_factory=Path)

    def __post_init__(self) -> None:
        if not self.path.name:
            digest = hashlib.sha256("\n".join([self.name, *self.ids]).encode()).hexdigest()[:24]
            self.path = home() / "batches" / f"{digest}.json"

    def write(self) -> None:
        told = {"name": self.name, "ids": self.ids, "file": self.file, "batch": self.batch}
        draft = self.path.with_suffix(".part")
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            with draft.open("w", encoding="utf-8") as file:
                json.dump(told, file)
                file.flush()
                os.fsync(file.fileno())  # a note that a power cut left empty would cost a batch
            draft.replace(self.path)
        except OSError as error:
            raise RunError(f"{self.path} cannot be written: {error.strerror}.", hint="Is the disk full?") from error

    def forget(self, handed_on: Collection[str]) -> None:
        """The answers to these lines have been handed on; the note goes with the last one."""
        left = [one for one in self.ids if one not in handed_on]
        if not left:
            self.delete()
        elif len(left) < len(self.ids):
            self.ids = left
            self.write()

    def delete(self) -> None:
        self.path.unlink(missing_ok=True)


def kept(name: str) -> list[Note]:
    """The batches of this teacher that are on their way."""
    found = [note for path in sorted((home() / "batches").glob("*.json")) if (note := _read(path))]
    return [note for note in found if note.name == name]


def _read(path: Path) -> Note | None:
    """The note, unless another process has just done with it, or it cannot be read, which is said."""
    try:
        return Note(**json.loads(path.read_text(encoding="utf-8")), path=path)
    except FileNotFoundError:
        return None
    except (OSError, ValueError, TypeError) as error:
        logger.warning("%s cannot be read (%s): its batch is not waited for.", path, error)
        return None
