"""Distilling step-by-step: the label and the rationale as two tasks of one student, which is asked for the label alone.

Hsieh et al., 2023, https://arxiv.org/abs/2305.02301, section 3.2; the loss is that of the authors' code, which weighs
the two with alpha and 1 − alpha, each a mean over its own tokens.
"""

from collections.abc import Iterator, Sequence
from typing import Any

from pydantic import BaseModel, ConfigDict, Field
from torch import Tensor

from prompt2model.batches import Batch, Lesson, Row
from prompt2model.conversation import Message
from prompt2model.course import Course, Prepared, asked_of_student, with_sound_rationales
from prompt2model.heads import likelihood_loss
from prompt2model.prompts import messages
from prompt2model.records import Example

ARCHITECTURES = ("decoder", "encoder-decoder")


class Options(BaseModel):
    """How much of each task."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    alpha: float = Field(0.5, ge=0, le=1, description="Share of the label's likelihood; the rest is the rationale's.")


def needs(options: Options) -> tuple[str, ...]:
    """Nothing: the rationales are there."""
    return ()


def shares(options: Options) -> dict[str, float]:
    """The label's and the rationale's."""
    return {"label": options.alpha, "rationale": 1 - options.alpha}


def prepare(examples: Sequence[Example], course: Course) -> Prepared:
    """The examples, without the rationales that end in another answer; where none is left, the label is learned."""
    return with_sound_rationales(examples, course.task)


def rows(examples: Sequence[Example], course: Course) -> list[Lesson]:
    """For each example the label after the bare input, and its rationale, if it has one, after a request for it.

    The paper's code puts `predict: ` before the input of the label task. Ours has nothing there: so the student is
    called, the same call as every other student's, and its answers cost not a token more.
    """
    return [tuple(_tasks(example, course)) for example in with_sound_rationales(examples, course.task).examples]


def loss(model: Any, batch: Batch, course: Course) -> Tensor:
    """The weighted sum of the negative log-likelihoods of both tasks' tokens, in nats, in one forward pass."""
    return likelihood_loss(model, batch)


def _tasks(example: Example, course: Course) -> Iterator[Row]:
    yield course.codec.row(asked_of_student(example), example.output, max_length=course.max_length, part="label")
    if example.rationale:
        asked = _asked_for_rationale(example, course)
        yield course.codec.row(asked, example.rationale, max_length=course.max_length, part="rationale")


def _asked_for_rationale(example: Example, course: Course) -> tuple[Message, ...]:
    by_prefix = course.codec.architecture == "encoder-decoder"
    return messages("train/explain.j2", text=example.input, by_prefix=by_prefix)
