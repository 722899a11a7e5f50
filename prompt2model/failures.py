"""Requests of a run that failed for good: who takes the run up finds them failed again.

What a run asks next depends on what it has. Were a request that failed in an earlier round to succeed when the run is
taken up, the pool would be another, and nearly everything after it would be asked, and paid for, anew.
"""

import json
import logging
from collections.abc import Iterable, Iterator
from pathlib import Path

from prompt2model.cache import key
from prompt2model.conversation import Reply, Request
from prompt2model.errors import RunError
from prompt2model.teacher import Around, Teacher

logger = logging.getLogger(__name__)

FILE = "failed.jsonl"
"""In a run's folder."""


class Remembered(Around):
    """A teacher that is not asked again what has failed in a part of the run that is done."""

    def __init__(self, teacher: Teacher, path: Path | None) -> None:
        """Without a path nothing is remembered."""
        super().__init__(teacher)
        self._path = path
        self._settled, self._fresh = _read(path), dict[str, str]()
        if self._settled:
            logger.info(
                "%d requests failed before, and are not sent again while %s is there.", len(self._settled), path
            )

    def answer(self, requests: Iterable[Request]) -> Iterator[list[tuple[int, Reply]]]:
        """Those that failed first, then the teacher's replies as they come."""
        requests = list(requests)
        keys = [key(self.identity, request) for request in requests] if self._path else [""] * len(requests)
        failed = [index for index, asked in enumerate(keys) if asked in self._settled]
        if failed:
            yield [(index, self._failed(keys[index])) for index in failed]
        left = [index for index, asked in enumerate(keys) if asked not in self._settled]
        for group in self.within.answer([requests[index] for index in left]):
            placed = [(left[place], reply) for place, reply in group]
            self._fresh |= {keys[index]: reply.failure for index, reply in placed if reply.finish == "failed"}
            yield placed

    def _failed(self, asked: str) -> Reply:
        """As it came then; nothing was sent for it now."""
        return Reply(finish="failed", failure=self._settled[asked], cached=True)

    def settle(self) -> None:
        """What has failed until now is part of what is done. Raises RunError when that cannot be written down.

        Each line begins with a line end of its own: what a kill left half written spoils no other.
        """
        if self._path and self._fresh:
            lines = [json.dumps({"key": asked, "failure": failure}) for asked, failure in self._fresh.items()]
            try:
                with self._path.open("a", encoding="utf-8") as file:
                    file.writelines(f"\n{line}" for line in lines)
            except OSError as error:
                raise RunError(
                    f"{self._path} cannot be written: {error.strerror}.", hint="Is the disk full?"
                ) from error
            self._settled |= self._fresh
            self._fresh = {}


def _read(path: Path | None) -> dict[str, str]:
    """The failures by their keys; a line that a kill left half written is none."""
    found: dict[str, str] = {}
    for line in path.read_text("utf-8").splitlines() if path and path.is_file() else ():
        try:
            one = json.loads(line)
        except ValueError:
            continue
        found[one["key"]] = one["failure"]
    return found
