"""What a teacher is, for everything that asks one."""

from collections.abc import Iterable, Iterator, Sequence
from typing import Protocol, runtime_checkable

from prompt2model.conversation import Reply, Request
from prompt2model.errors import ConfigError
from prompt2model.records import Spent

ABILITIES = {
    "text": "writes an answer",
    "json_schema": "keeps to a JSON schema",
    "logprobs": "gives the likelihood of answers that it is shown",
    "likelihood": "gives the likelihood of whole texts",
    "top_logprobs": "tells the likeliest tokens at each place of its answer",
    "logits": "gives the whole distribution of every token (white box)",
    "beams": "searches several beams for its likeliest answer",
}
WHITE_BOX = ("logits", "beams", "likelihood")
"""Abilities that no server has: which of them a teacher has is known before it is connected."""


class Teacher(Protocol):
    """Someone who answers requests, many at once."""

    name: str
    """As `--teacher` takes it."""
    identity: str
    """Name and revision: what the cache and the stages key on."""
    can: frozenset[str]
    """Which of ABILITIES it has."""
    is_local: bool
    """Whether it runs in this process, without money or network."""

    def answer(self, requests: Iterable[Request]) -> Iterator[list[tuple[int, Reply]]]:
        """Replies as they come, in groups that belong together: (index of the request, its reply).

        A local teacher takes all requests at once, another each when it can send it.

        Every request gets exactly one reply; one that failed has `finish="failed"` and a reason. Raises TeacherError
        when no request can succeed (no connection, a refused key, no such model).
        """
        ...


class Around:
    """A teacher around another, as which it is known."""

    def __init__(self, teacher: Teacher) -> None:
        self.within, self.is_local = teacher, teacher.is_local
        self.name, self.identity, self.can = teacher.name, teacher.identity, teacher.can


@runtime_checkable
class Accounted(Protocol):
    """A teacher that keeps count of what it cost, as those of `open_teacher` do."""

    @property
    def spent(self) -> Spent: ...


def spent_by(teacher: Teacher) -> Spent:
    """What the teacher has cost so far; nothing when it keeps no count."""
    return teacher.spent if isinstance(teacher, Accounted) else Spent()


def replies(teacher: Teacher, requests: Sequence[Request]) -> list[Reply]:
    """All replies, in the order of the requests."""
    found: dict[int, Reply] = {}
    for group in teacher.answer(requests):
        found.update(group)
    return [found[index] for index in range(len(requests))]


def check_abilities(teacher: Teacher, needs: Iterable[str], who: str) -> None:
    """Raises ConfigError when the teacher lacks what `who` needs."""
    missing = [need for need in needs if need not in teacher.can]
    if missing:
        lacks = " and ".join(ABILITIES[need] for need in missing)
        raise ConfigError(
            f"{who} needs a teacher that {lacks}; {teacher.name} does not.",
            hint="A server may tell its likeliest tokens: --set teacher_options.logprobs=true"
            if "top_logprobs" in missing
            else "A local teacher can: --teacher transformers:HuggingFaceTB/SmolLM2-135M-Instruct",
        )
