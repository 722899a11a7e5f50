"""Sequence-level distillation: maximum likelihood on the teacher's (or the data's) answers.

Kim & Rush, 2016, https://arxiv.org/abs/1606.07947, section 3.2; LaMini-LM, https://arxiv.org/abs/2304.14402.
"""

from collections.abc import Sequence
from typing import Any

from pydantic import BaseModel, ConfigDict
from torch import Tensor

from prompt2model.batches import Batch, Lesson
from prompt2model.course import Course, asked_of_student
from prompt2model.heads import ending
from prompt2model.losses import cross_entropy, summed
from prompt2model.records import Example

ARCHITECTURES = ("decoder", "encoder-decoder")


class Options(BaseModel):
    """None: the answers are all there is."""

    model_config = ConfigDict(frozen=True, extra="forbid")


def needs(options: Options) -> tuple[str, ...]:
    """Nothing: the answers are there."""
    return ()


def rows(examples: Sequence[Example], course: Course) -> list[Lesson]:
    """One row for each example: the student's own prompt, then the answer."""
    return [
        (course.codec.row(asked_of_student(example), example.output, max_length=course.max_length),)
        for example in examples
    ]


def loss(model: Any, batch: Batch, course: Course) -> Tensor:
    """The weighted sum of the negative log-likelihoods of the answers' tokens, in nats."""
    return summed(
        lambda logits, place: cross_entropy(logits, batch.targets[place]), ending(model, batch), batch.weights
    )
