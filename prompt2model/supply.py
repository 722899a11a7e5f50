"""Where a step's rows come from: the training rows in random order, or what is made of them as the student learns."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from random import Random
from typing import Any

from torch import Tensor

from prompt2model.batches import Lesson, Row, epoch_of_steps


@dataclass(frozen=True)
class Block:
    """How long rollouts are learned from: the examples of `steps` optimiser steps are rolled out at once, and each
    rollout is learned from in `passes` passes (the inner epochs of PPO)."""

    steps: int = 1
    """0: of a whole epoch."""
    passes: int = 1


Roll = Callable[[Sequence[Lesson], int, Sequence[Lesson]], list[Lesson]]
"""Makes fresh lessons of lessons, with the student as it is now; the number tells one call from another, and the last
are those that it made of the block before."""


@dataclass
class Supply:
    """The rows of each step, as a pure function of its number, the seed, and what `roll` makes."""

    lessons: Sequence[Lesson]
    batch_rows: int
    seed: int
    roll: Roll | None = None
    """None learns from the lessons as they are."""
    block: Block = field(default_factory=Block)
    _fresh: list[Lesson] = field(default_factory=list)
    """The lessons of the current block."""
    _number: int = -1
    """Of the current block."""
    _epoch: tuple[int, list[list[int]]] = (-1, [])
    """The current epoch and the order of its lessons, in steps."""

    @property
    def steps_per_epoch(self) -> int:
        """Optimiser steps in which every lesson is drawn once."""
        return self._draws * self.block.passes

    @property
    def _draws(self) -> int:
        """Steps over the training rows in an epoch."""
        return -(-len(self.lessons) // self.batch_rows)

    @property
    def _steps(self) -> int:
        """Of a block, in one pass."""
        return self.block.steps or self._draws

    def rows(self, step: int) -> list[Row]:
        """The rows of one optimiser step, of all processes, the shortest first; none where a pass is over before."""
        number, place = divmod(step, self._steps * self.block.passes)
        if self.roll is None:
            return _flat(self._drawn(step))
        if number != self._number:
            drawn = [lesson for own in range(self._steps) for lesson in self._drawn(number * self._steps + own)]
            self._fresh, self._number = self.roll(drawn, number, self._fresh), number
        inner, own = divmod(place, self._steps)
        return _flat(self._shuffled(inner)[own])

    def _drawn(self, step: int) -> list[Lesson]:
        """The lessons of a step over the training rows; the order of an epoch depends on seed and epoch alone."""
        epoch, place = divmod(step, self._draws)
        if epoch != self._epoch[0]:
            self._epoch = epoch, _order(self.lessons, self.batch_rows, f"{self.seed}/{epoch}")
        return [self.lessons[index] for index in self._epoch[1][place]]

    def _shuffled(self, inner: int) -> list[list[Lesson]]:
        """The block's lessons in as many steps as it has, in another order in every pass.

        Where few are left of those that were drawn, they fill the first steps: each is learned once in a pass.
        """
        filled = min(self._steps, -(-len(self._fresh) // self.batch_rows))
        rows = -(-len(self._fresh) // filled)
        order = _order(self._fresh, rows, f"{self.seed}/{self._number}/{inner}")
        steps = [[self._fresh[index] for index in step] for step in order]
        return steps + [[]] * (self._steps - len(steps))

    def state(self) -> tuple[dict[str, Tensor], dict[str, Any]]:
        """The current block, for a checkpoint: the signals as tensors, the rest as numbers."""
        tensors: dict[str, Tensor] = {}
        numbers = []
        for place, lesson in enumerate(self._fresh):
            for own, row in enumerate(lesson):
                tensors |= {f"rollout.{place}.{own}.{name}": tensor for name, tensor in row.signals.items()}
            numbers.append([[row.prompt, row.completion, row.weight, row.part, row.teacher_prompt] for row in lesson])
        return tensors, {"number": self._number, "lessons": numbers}

    def restore(self, tensors: Mapping[str, Tensor], numbers: Mapping[str, Any]) -> None:
        """Take up a checkpoint's block."""
        signals: dict[tuple[int, int], dict[str, Tensor]] = {}
        for key, tensor in tensors.items():
            if key.startswith("rollout."):
                _, place, own, name = key.split(".", 3)
                signals.setdefault((int(place), int(own)), {})[name] = tensor
        self._number = numbers["number"]
        self._fresh = [
            tuple(_row(values, signals.get((place, own), {})) for own, values in enumerate(lesson))
            for place, lesson in enumerate(numbers["lessons"])
        ]


def _order(lessons: Sequence[Lesson], batch_rows: int, seed: str) -> list[list[int]]:
    lengths = [sum(len(row) for row in lesson) for lesson in lessons]
    return list(epoch_of_steps(lengths, batch_rows, Random(seed)))  # noqa: S311 - not for secrets


def _flat(lessons: Sequence[Lesson]) -> list[Row]:
    return sorted((row for lesson in lessons for row in lesson), key=len)


def _row(values: Sequence[Any], signals: Mapping[str, Tensor]) -> Row:
    prompt, completion, weight, part, teacher_prompt = values
    other = None if teacher_prompt is None else tuple(teacher_prompt)
    return Row(tuple(prompt), tuple(completion), weight, part, other, signals)
