"""Ways to write examples, one file each. A plug-in here is a module with

    NEEDS      abilities that the teacher must have
    KINDS      kinds of task it can write for
    Options    a pydantic model of the strategy's own settings
    write(round: Round) -> Iterator[Example | Dropped]     about `round.count` candidates, none promised

Candidates that cannot be read from a reply are yielded as `Dropped` with a reason, never skipped.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from random import Random
from typing import Any, TypeVar, cast

from pydantic import BaseModel, ConfigDict

from prompt2model.config import GenerateConfig
from prompt2model.records import Example, TaskSpec
from prompt2model.teacher import Teacher

T = TypeVar("T")


class NoOptions(BaseModel):
    """The root of a strategy's options, and those of one that has none."""

    model_config = ConfigDict(frozen=True, extra="forbid")


@dataclass(frozen=True)
class Round:
    """One round of writing."""

    task: TaskSpec
    pool: Sequence[Example]
    """The user's examples and what has been kept so far: what few-shot prompts draw from."""
    teacher: Teacher
    count: int
    rng: Random
    """Seeded by the run's seed and the round's number, so that a resumed run asks the same."""
    config: GenerateConfig
    options: Any = None
    """The strategy's own, an instance of its `Options`."""
    is_rehearsal: bool = False
    """Nothing may be downloaded or loaded: the round is written to count what would be asked."""
    made: dict[Callable[["Round"], Any], Any] = field(default_factory=dict, repr=False)
    """What `once` has made, the same in all rounds of a strategy."""

    @property
    def temperature(self) -> float:
        """Of what this round writes: annealed, it moves in a straight line from `anneal_from` to `temperature`, with
        the share of the rows that is kept.

        What is kept is shown to the teacher: it is to be good before it is to be varied. Viswanathan et al., 2023,
        https://arxiv.org/abs/2308.12261, whose code went from 0.5 to 1.7.
        """
        first, last = self.config.anneal_from, self.config.temperature
        kept = len(self.pool) - len(self.task.examples)
        return first + (last - first) * min(kept / max(self.config.count, 1), 1.0) if first else last

    def once(self, make: Callable[["Round"], T]) -> T:
        """What `make(round)` gave in the first round that asked for it: a list that is used up, seeds that grow."""
        if make not in self.made:
            self.made[make] = make(self)
        return cast(T, self.made[make])
