"""Filters that every written example passes, one file each. A plug-in here is a module with

    NEEDS    abilities that the teacher must have, () for none
    KINDS    kinds of task it can judge
    sift(candidates: Sequence[Example], sieve: Sieve) -> list[Example | Dropped]

The result is as long as `candidates`: each kept (perhaps with its probabilities) or dropped.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from prompt2model.config import GenerateConfig
from prompt2model.records import Example, TaskSpec
from prompt2model.teacher import Teacher
from prompt2model.twins import Twins


@dataclass(frozen=True)
class Sieve:
    """What a filter may look at besides the candidates."""

    task: TaskSpec
    kept: Sequence[Example]
    """The user's examples, the rows of the data that was given, and everything kept in earlier rounds."""
    twins: Twins
    """The inputs of `kept`, indexed."""
    teacher: Teacher
    config: GenerateConfig
