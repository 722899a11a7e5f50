"""Ways to write examples, one file each. A plug-in here is a module with

    NEEDS    abilities that the teacher must have
    KINDS    kinds of task it can write for
    write(round: Round) -> Iterator[Example | Dropped]     about `round.count` candidates, none promised

Candidates that cannot be read from a reply are yielded as `Dropped` with a reason, never skipped.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from random import Random

from prompt2model.config import GenerateConfig
from prompt2model.records import Example, TaskSpec
from prompt2model.teacher import Teacher


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
