"""Filters that every written example passes, one file each. A plug-in here is a module with

    NEEDS       abilities that the teacher must have, () for none
    KINDS       kinds of task it can judge
    LOOKS_AT    what else of a run it looks at: the "test" rows, the "marks" of a person; () for nothing
    sift(candidates: Sequence[Example], sieve: Sieve) -> list[Example | Dropped]

The result is as long as `candidates`: each kept (perhaps with its probabilities) or dropped. A filter with settings of
its own has a pydantic model of them, `Options`, and finds them with `sieve.options(NAME)`.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol, TypeVar, cast

from prompt2model.config import GenerateConfig
from prompt2model.marks import Mark
from prompt2model.records import Dropped, Example, TaskSpec
from prompt2model.registry import load, read_options
from prompt2model.teacher import Teacher

T = TypeVar("T")


@dataclass
class Sieve:
    """What filters may look at besides the candidates. There is one for the whole of the writing."""

    task: TaskSpec
    teacher: Teacher
    config: GenerateConfig
    kept: list[Example] = field(default_factory=list)
    """The user's examples, the rows of the data that was given, and everything that has passed in earlier rounds."""
    test: Sequence[Example] = ()
    """Rows kept apart for the test."""
    marks: Sequence[Mark] = ()
    """Rows that a person has accepted or rejected."""
    _made: dict[Callable[["Sieve"], Any], Any] = field(default_factory=dict, repr=False)

    def options(self, name: str) -> Any:
        """The filter's own, an instance of its `Options`. Raises ConfigError when the user's do not fit."""
        return read_options(load("filters", name), self.config.options.get(name, {}), f"generate.options.{name}")

    def once(self, make: Callable[["Sieve"], T]) -> T:
        """What `make(sieve)` gave when it was first asked for: an index that grows, a model that is trained."""
        if make not in self._made:
            self._made[make] = make(self)
        return cast(T, self._made[make])


def looked_at(names: Iterable[str]) -> set[str]:
    """What the filters of these names look at besides the rows. Raises ConfigError for a name that is none's."""
    return {what for name in names if name != "auto" for what in load("filters", name).LOOKS_AT}


class Index(Protocol):
    """Texts, and for a new one an earlier one that is too like it."""

    def __len__(self) -> int: ...

    def add(self, text: str) -> None: ...

    def find(self, text: str) -> str | None: ...


def without_likes(
    candidates: Sequence[Example], sieve: Sieve, make: Callable[[Sieve], Index], reason: Callable[[str, str], str]
) -> list[Example | Dropped]:
    """Each candidate whose input is not like that of a kept row or of an earlier candidate.

    `make` makes an empty index; `reason` says why an input was dropped for the earlier one.
    """
    known, fresh = sieve.once(make), make(sieve)
    for row in sieve.kept[len(known) :]:
        known.add(row.input)
    judged: list[Example | Dropped] = []
    for row in candidates:
        like = known.find(row.input)
        like = fresh.find(row.input) if like is None else like
        if like is None:
            fresh.add(row.input)
            judged.append(row)
        else:
            judged.append(Dropped(reason=reason(row.input, like), text=f"{row.input} ≈ {like}"))
    return judged
