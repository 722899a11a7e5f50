"""Meta pseudo labels: a teacher labels inputs for the student, and learns from what its labels did to the student.

Pham et al., 2021, https://arxiv.org/abs/2003.10580, section 2. With L the student's loss on labelled rows, S the
student before its step on the labels ŷ that the teacher T drew, and S' after it, the teacher's gradient is

    ∇_T E_ŷ[ L(S') ] = E_ŷ[ h ∇(−log T(ŷ)) ],   h = L(S) − L(S')

for subtracting L(S), which ŷ does not change, leaves the mean as it is. To first order h is the dot product in the
paper: the step's size times ∇L · ∇(−log S(ŷ)). The teacher is another student, which learns the labelled rows beside.

Three differences from the paper: the teacher hears of a step's labels with the next step, for one optimiser moves
both; the student is fine-tuned on the labelled rows first, not last, and meets them no more, so that L stays a measure;
and the teacher has no consistency loss (UDA). A step in which no labelled row was drawn tells the teacher nothing about
its labels: rows with and without labels should be about as many. The price is the teacher: its weights, gradients and
moments (under LoRA only its adapters'), and more than twice the time. The student is kept.
"""

from collections.abc import Sequence
from dataclasses import replace
from random import Random
from typing import Any

import torch
from pydantic import Field
from torch import Tensor

from prompt2model.batches import Batch, Lesson, Row
from prompt2model.course import Course, Prepared, label_lessons
from prompt2model.heads import ending, equipment, likelihood_loss, log_likelihoods
from prompt2model.memory import in_batches
from prompt2model.methods import plainly
from prompt2model.pseudo_labels import OfInputs, check_has_labels, label_probabilities, with_unlabelled
from prompt2model.records import Example, TaskSpec
from prompt2model.student import LocalModel, twin
from prompt2model.supply import Block

ARCHITECTURES = ("decoder", "encoder-decoder")

STUDENT, TEACHER, FEEDBACK = "student", "teacher", "feedback"
"""Pseudo-labels, which the student learns; labelled rows, which the teacher learns; what it hears of its labels."""


class Options(OfInputs):
    """What is labelled, and how much the teacher hears of it."""

    feedback: float = Field(1.0, ge=0, description="Weight of what the teacher hears, beside the labelled rows' loss.")
    warm_up: float = Field(1.0, ge=0, description="Epochs on the rows as they are beforehand, for both.")


def needs(options: Options) -> tuple[str, ...]:
    """Nothing: the teacher is made of the student."""
    return ()


def suits(task: TaskSpec, options: Options) -> None:
    """Raises ConfigError unless the task is a classification: the teacher draws one of the labels."""
    check_has_labels(task, "meta_pseudo_labels", "the teacher draws one of the labels")


def warm_up(options: Options) -> dict[str, Any]:
    """Epochs on the labelled rows, after which the teacher's labels are worth something."""
    return plainly(options.warm_up)


def shares(options: Options) -> dict[str, float]:
    """Half each for student and teacher; the validation's rows, of no part, are the student's."""
    return {"": 1.0, STUDENT: 0.5, TEACHER: 0.5, FEEDBACK: 0.5 * options.feedback}


def equip(model: Any, course: Course) -> None:
    """The teacher."""
    model.equipment = twin(model)


def prepare(examples: Sequence[Example], course: Course) -> Prepared:
    """The labelled rows, and the inputs without a label with an empty output."""
    return Prepared(with_unlabelled(examples, course.options.inputs, need_labelled=True))


def rows(examples: Sequence[Example], course: Course) -> list[Lesson]:
    """The answer after the student's own prompt; of an input without a label, every label in its place."""
    return label_lessons(examples, course)


def block(options: Options) -> Block:
    """A step: what it did is measured before the next."""
    return Block()


def rollouts(student: LocalModel, lessons: Sequence[Lesson], course: Course, seeds: Sequence[int]) -> list[Lesson]:
    """Inputs with a label that the teacher drew, for the student; labelled rows with the student's loss on them, for
    the teacher."""
    found = list(lessons)
    labelled = [place for place, lesson in enumerate(lessons) if len(lesson) == 1]
    before = _losses(student, [lessons[place][0] for place in labelled], course)
    for place, losses in zip(labelled, before, strict=True):
        found[place] = (replace(lessons[place][0], part=TEACHER, signals={"before": losses}),)
    teacher = equipment(student.model)
    for place, chances in label_probabilities(teacher, course.codec, lessons, student.batch_rows):
        found[place] = (_drawn(lessons[place], chances, seeds[place]),)
    return found


def hindsight(student: LocalModel, learned: Sequence[Lesson], course: Course) -> list[Lesson]:
    """For each label that the student learned, every label with h · (1 − T(ŷ)) or −h · T(y): the sum of the weighted
    log-likelihoods of their tokens has the gradient of h · log T(ŷ), T the law over the labels."""
    known = [row for lesson in learned for row in lesson if row.part == TEACHER]
    guessed = [row for lesson in learned for row in lesson if row.part == STUDENT]
    if not known or not guessed:
        return []
    before = torch.cat([row.signals["before"] for row in known])
    fall = float((before - torch.cat(_losses(student, known, course))).mean())
    answers = [course.codec.completion(label) for label in course.task.labels]
    return [_heard(row, fall, answers) for row in guessed]


def loss(model: Any, batch: Batch, course: Course) -> Tensor:
    """The weighted sum of the negative log-likelihoods of the labels' tokens, in nats: the student's of what was drawn
    for it, the teacher's of the labelled rows and of what it hears. In the validation it is the student's alone."""
    if not any(batch.parts):
        return likelihood_loss(model, batch)
    mine = batch.is_of(STUDENT)
    own, teachers = batch.only(mine), batch.only(~mine)
    is_heard = teachers.is_of(FEEDBACK)
    if is_heard.any():
        weights = torch.where(is_heard, teachers.weights * teachers.signals["feedback"], teachers.weights)
        teachers = replace(teachers, weights=weights)
    return likelihood_loss(model, own) + likelihood_loss(equipment(model), teachers)


def _drawn(lesson: Lesson, chances: Sequence[float], seed: int) -> Row:
    """The row of a label drawn by its probability; with it (T, labels), the same for each of its tokens, how much
    more likely each label would have had to be."""
    (label,) = Random(seed).choices(range(len(lesson)), chances)  # noqa: S311 - no secret
    pull = torch.nn.functional.one_hot(torch.tensor(label), len(chances)) - torch.tensor(chances)  # (labels,)
    row = lesson[label]
    return replace(row, part=STUDENT, signals={"pull": pull.float().expand(len(row.completion), -1).clone()})


def _heard(row: Row, fall: float, answers: Sequence[tuple[int, ...]]) -> Lesson:
    """Every label after the row's prompt. The loop takes a mean over tokens; the factor makes it one over inputs."""
    pulls, tokens = row.signals["pull"][0].tolist(), sum(map(len, answers))
    return tuple(
        Row(row.prompt, answer, part=FEEDBACK, signals={"feedback": torch.full((len(answer),), fall * pull * tokens)})
        for answer, pull in zip(answers, pulls, strict=True)
    )


@torch.no_grad()
def _losses(student: LocalModel, labelled: Sequence[Row], course: Course) -> list[Tensor]:
    """−log q of each row's tokens, (T,)."""
    found: dict[int, Tensor] = {}

    def measured(places: list[int]) -> Sequence[Tensor]:
        batch = course.codec.collate([labelled[place] for place in places]).to(student.model.device)
        losses = -log_likelihoods(ending(student.model, batch), batch.targets, len(course.codec.tokenizer))
        return torch.split(losses.cpu(), [len(labelled[place].completion) for place in places])

    for places, losses in in_batches(list(map(len, labelled)), student.batch_rows, measured):
        found.update(zip(places, [one.clone() for one in losses], strict=True))
    return [found[place] for place in range(len(labelled))]
