"""Self-training: the student learns from its own labels of inputs that have none, where it is sure of them.

Yarowsky, 1995, https://aclanthology.org/P95-1026, section 4; soft pseudo-labels are the targets of Hinton et al., 2015,
https://arxiv.org/abs/1503.02531. It starts from a student fine-tuned on the rows as they are. Then each epoch is a
round: the student as it is labels all inputs that have no label, and learns from those of which it is sure and from
the labelled rows.

In co-training (Blum & Mitchell, 1998, https://doi.org/10.1145/279943.279962) two students label for each other. Theirs
see two views of an input, each of which would do; a text has no second half that would. So ours differ by what they
have learned: each of the labelled rows has its half, with its own dropout, and there is no common fine-tuning. As long
as they are the same they have nothing to tell each other: the first round is on the labelled rows alone. The price is
the second student: its weights, gradients and moments (under LoRA only its adapters'), and twice the time. The first
is kept.
"""

import zlib
from collections.abc import Sequence
from dataclasses import replace
from typing import Any, Literal

import torch
from pydantic import Field
from torch import Tensor

from prompt2model.batches import Batch, Lesson
from prompt2model.course import Course, Prepared, label_lessons
from prompt2model.heads import equipment, likelihood_loss
from prompt2model.methods import plainly
from prompt2model.pseudo_labels import OfInputs, check_has_labels, label_probabilities, with_unlabelled
from prompt2model.records import Example, TaskSpec
from prompt2model.student import LocalModel, twin
from prompt2model.supply import Block

ARCHITECTURES = ("decoder", "encoder-decoder")

FIRST, SECOND = "first", "second"
"""Whose row it is, of two students."""


class Options(OfInputs):
    """What is labelled, and which labels are believed. The number of rounds is `train.epochs`."""

    threshold: float = Field(0.9, ge=0, le=1, description="Probability of its likeliest label from which one counts.")
    soft: bool = Field(False, description="Learn the probabilities of all labels, not the likeliest label alone.")
    labelled_by: Literal["itself", "peer"] = Field(
        "itself",
        description="Who labels for the student: it itself, or a second student, for which it labels in turn "
        "(co-training).",
    )
    passes: int = Field(1, gt=0, description="Passes over what was labelled, before it is labelled anew.")
    warm_up: float | None = Field(
        None,
        ge=0,
        description="Epochs on the rows as they are beforehand: 1, but 0 for two students, whose first round is that.",
    )


def needs(options: Options) -> tuple[str, ...]:
    """Nothing: the student is its own teacher."""
    return ()


def suits(task: TaskSpec, options: Options) -> None:
    """Raises ConfigError unless the task is a classification: a text has no likelihood among all texts."""
    check_has_labels(task, "self_training", "it goes by how likely each label is")


def warm_up(options: Options) -> dict[str, Any]:
    """Epochs on the labelled rows, after which the student's own labels are worth something."""
    usual = 0.0 if options.labelled_by == "peer" else 1.0
    return plainly(usual if options.warm_up is None else options.warm_up)


def shares(options: Options) -> dict[str, float]:
    """Half of each student, so that the loss is their mean; the validation's rows, of no part, are the first's."""
    return {"": 1.0, FIRST: 0.5, SECOND: 0.5}


def equip(model: Any, course: Course) -> None:
    """The second student, a copy of the first. Weights that are not trained are the same for both."""
    if course.options.labelled_by == "peer":
        model.equipment = twin(model)


def prepare(examples: Sequence[Example], course: Course) -> Prepared:
    """The labelled rows, and the inputs without a label with an empty output."""
    options: Options = course.options
    return Prepared(with_unlabelled(examples, options.inputs, need_labelled=options.labelled_by == "peer"))


def rows(examples: Sequence[Example], course: Course) -> list[Lesson]:
    """The answer after the student's own prompt; of an input without a label, every label in its place."""
    return label_lessons(examples, course)


def block(options: Options) -> Block:
    """A whole epoch: a round."""
    return Block(steps=0, passes=options.passes)


def rollouts(student: LocalModel, lessons: Sequence[Lesson], course: Course, seeds: Sequence[int]) -> list[Lesson]:
    """The lessons with pseudo-labels where they had none, empty where nobody is sure enough."""
    second = equipment(student.model)
    if second is not None:
        return _for_each_other(student, second, lessons, course)
    found = list(lessons)
    for place, probabilities in label_probabilities(student.model, course.codec, lessons, student.batch_rows):
        found[place] = _labelled(lessons[place], probabilities, course.options)
    return found


def loss(model: Any, batch: Batch, course: Course) -> Tensor:
    """The weighted sum of the negative log-likelihoods of the labels' tokens, in nats; of two students, each on its
    rows. In the validation it is the first's alone, which is kept."""
    second = equipment(model)
    if second is None or not any(batch.parts):
        return likelihood_loss(model, batch)
    mine = batch.is_of(FIRST)
    return likelihood_loss(model, batch.only(mine)) + likelihood_loss(second, batch.only(~mine))


def _for_each_other(student: LocalModel, second: Any, lessons: Sequence[Lesson], course: Course) -> list[Lesson]:
    """The labelled lessons, each for one of the two; of the others, what each believes, for the other."""
    found = [() if len(lesson) > 1 else _for_one(lesson) for lesson in lessons]
    if not _are_same(student.model, second):
        for teaches, learns in ((student.model, SECOND), (second, FIRST)):
            for place, probabilities in label_probabilities(teaches, course.codec, lessons, student.batch_rows):
                believed = _labelled(lessons[place], probabilities, course.options)
                found[place] += tuple(replace(row, part=learns) for row in believed)
    return found


def _for_one(lesson: Lesson) -> Lesson:
    """The lesson as that of one student, always the same: its tokens tell which."""
    (row,) = lesson
    return (replace(row, part=(FIRST, SECOND)[zlib.crc32(repr(row.prompt).encode()) % 2]),)


def _are_same(first: Any, second: Any) -> bool:
    weights = dict(first.named_parameters())
    trained = [(name, parameter) for name, parameter in second.named_parameters() if parameter.requires_grad]
    return all(torch.equal(weights[name], parameter) for name, parameter in trained)


def _labelled(lesson: Lesson, probabilities: Sequence[float], options: Options) -> Lesson:
    """The likeliest label's row, or every label's with its probability as its weight."""
    best = max(range(len(lesson)), key=lambda label: probabilities[label])
    if probabilities[best] < options.threshold:
        return ()
    if options.soft:
        return tuple(replace(row, weight=weight) for row, weight in zip(lesson, probabilities, strict=True))
    return (lesson[best],)
