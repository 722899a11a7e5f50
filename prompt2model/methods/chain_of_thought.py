"""Chain-of-thought distillation: the student learns to write the rationale and then the answer.

Magister et al., 2022, https://arxiv.org/abs/2212.08410, section 3; so were the students of DeepSeek-R1 made,
https://arxiv.org/abs/2501.12948, section 2.4. An input may come with several rationales that end right (rejection
sampling): each is a row.
"""

from collections import Counter
from collections.abc import Sequence
from typing import Any

from pydantic import BaseModel, ConfigDict
from torch import Tensor

from prompt2model.batches import Batch, Lesson
from prompt2model.conclusion import ANSWER_AFTER, concluded
from prompt2model.course import Course, Prepared, asked_of_student, with_sound_rationales
from prompt2model.heads import likelihood_loss
from prompt2model.records import Example

ARCHITECTURES = ("decoder", "encoder-decoder")


class Options(BaseModel):
    """None: the rationales are all there is."""

    model_config = ConfigDict(frozen=True, extra="forbid")


def needs(options: Options) -> tuple[str, ...]:
    """Nothing: the rationales are there."""
    return ()


def lives_on(options: Options) -> str:
    """What every row must have."""
    return "rationale"


def answer_after(options: Options) -> str:
    """The phrase between the rationale and the answer."""
    return ANSWER_AFTER


def prepare(examples: Sequence[Example], course: Course) -> Prepared:
    """The examples with a rationale that ends in their answer and fits whole: cut off, it would lose the answer."""
    sound = with_sound_rationales(examples, course.task)
    kept, dropped = [], Counter(sound.dropped)
    unsound = sum(sound.dropped.values())
    dropped["no rationale"] = sum(not example.rationale for example in sound.examples) - unsound
    for example in sound.examples:
        if not example.rationale:
            continue
        if len(course.codec.completion(_written(example))) > max(1, course.max_length // 2):
            dropped["longer than half of train.max_length"] += 1
        else:
            kept.append(example)
    return Prepared(kept, dict(+dropped))


def rows(examples: Sequence[Example], course: Course) -> list[Lesson]:
    """One row for each example: the student's own prompt, the rationale, the answer; none without a sound rationale."""
    return [
        (course.codec.row(asked_of_student(example), _written(example), max_length=course.max_length),)
        if example.rationale
        else ()
        for example in with_sound_rationales(examples, course.task).examples
    ]


def loss(model: Any, batch: Batch, course: Course) -> Tensor:
    """The weighted sum of the negative log-likelihoods of rationale and answer, in nats."""
    return likelihood_loss(model, batch)


def _written(example: Example) -> str:
    return concluded(example.rationale or "", example.output)
