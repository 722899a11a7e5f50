"""Word-level distillation: forward KL to the teacher's distribution at every token, mixed with the answer's likelihood.

Kim & Rush, 2016, https://arxiv.org/abs/1606.07947, section 3.1; Hinton et al., 2015, https://arxiv.org/abs/1503.02531.
"""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import torch
from pydantic import BaseModel, ConfigDict, Field
from torch import Tensor

from prompt2model.batches import Batch, Lesson
from prompt2model.course import Course, asked_of_student, common_vocabulary, teacher_ending, teacher_prompt
from prompt2model.heads import ending
from prompt2model.losses import cross_entropy, forward_kl, summed
from prompt2model.records import Example

ARCHITECTURES = ("decoder", "encoder-decoder")


class Options(BaseModel):
    """How much of the teacher, and how soft."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    mixing: float = Field(0.5, ge=0, le=1, description="Share of the answer's likelihood; the rest is the teacher's.")
    temperature: float = Field(1.0, gt=0, description="Softens both distributions; the loss is scaled by its square.")


def needs(options: Options) -> tuple[str, ...]:
    """The whole distribution."""
    return ("logits",)


def rows(examples: Sequence[Example], course: Course) -> list[Lesson]:
    """The answer after the student's own prompt, and for the teacher after the teacher's."""
    return [
        (
            replace(
                course.codec.row(asked_of_student(example), example.output, max_length=course.max_length),
                teacher_prompt=teacher_prompt(example, course),
            ),
        )
        for example in examples
    ]


def loss(model: Any, batch: Batch, course: Course) -> Tensor:
    """mixing · (−log q(y)) + (1 − mixing) · T² KL(p ‖ q), summed over the tokens, in nats."""
    options: Options = course.options
    student, teacher = ending(model, batch), teacher_ending(batch, course)
    common = common_vocabulary(course)

    def of_tokens(logits: Tensor, place: slice) -> Tensor:
        with torch.no_grad():
            wanted = teacher.head(teacher.states[place])[:, :common]
        answer = cross_entropy(logits, batch.targets[place])
        divergence = forward_kl(logits[:, :common], wanted, options.temperature)
        return options.mixing * answer + (1 - options.mixing) * divergence

    return summed(of_tokens, student, batch.weights)
