"""On-policy distillation: a generalised Jensen-Shannon divergence to the teacher, partly on the student's own answers.

GKD: Agarwal et al., 2024, https://arxiv.org/abs/2306.13649, algorithm 1.
"""

from collections.abc import Sequence
from random import Random
from typing import Any

from pydantic import BaseModel, ConfigDict, Field
from torch import Tensor

from prompt2model.batches import Batch, Lesson
from prompt2model.course import Course, answered_for_both, common_vocabulary, teacher_ending
from prompt2model.heads import ending
from prompt2model.losses import jensen_shannon, summed
from prompt2model.records import Example
from prompt2model.rollouts import sampled
from prompt2model.student import LocalModel
from prompt2model.supply import Block

ARCHITECTURES = ("decoder", "encoder-decoder")


class Options(BaseModel):
    """Which divergence, and on whose answers."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    beta: float = Field(0.5, ge=0, le=1, description="0 is the forward KL, 1 the reverse KL, between them mixtures.")
    student_share: float = Field(
        0.5, ge=0, le=1, description="Share of examples whose answer the student writes anew; the rest keep theirs."
    )
    temperature: float = Field(
        1.0, gt=0, description="Softens both distributions, in the loss (scaled by its square) and in sampling."
    )
    max_new_tokens: int = Field(256, gt=0, description="Longest answer that the student writes, in tokens.")


def needs(options: Options) -> tuple[str, ...]:
    """The whole distribution."""
    return ("logits",)


def rows(examples: Sequence[Example], course: Course) -> list[Lesson]:
    """The answer after the student's own prompt, and for the teacher after the teacher's."""
    return answered_for_both(examples, course)


def block(options: Options) -> Block:
    """Every answer is learned from once, by the student that wrote it."""
    return Block()


def rollouts(student: LocalModel, lessons: Sequence[Lesson], course: Course, seeds: Sequence[int]) -> list[Lesson]:
    """The lessons, in a share of them the student's answer instead of the given one."""
    options: Options = course.options
    chosen = [place for place, seed in enumerate(seeds) if Random(seed).random() < options.student_share]  # noqa: S311
    written = sampled(
        student,
        [lessons[place][0] for place in chosen],
        [seeds[place] for place in chosen],
        max_length=course.max_length,
        max_new_tokens=options.max_new_tokens,
        temperature=options.temperature,
    )
    fresh = dict(zip(chosen, written, strict=True))
    return [(fresh[place],) if place in fresh else lesson for place, lesson in enumerate(lessons)]


def loss(model: Any, batch: Batch, course: Course) -> Tensor:
    """T² JSD_β(p ‖ q), summed over the tokens, in nats; no gradient goes through the drawing of the answers."""
    options: Options = course.options
    student, teacher = ending(model, batch), teacher_ending(batch, course)
    common = common_vocabulary(course)

    def of_tokens(logits: Tensor, _: slice, wanted: Tensor) -> Tensor:
        return jensen_shannon(logits[:, :common], wanted[:, :common], options.beta, options.temperature)

    return summed(of_tokens, student, batch.weights, teacher=teacher)
