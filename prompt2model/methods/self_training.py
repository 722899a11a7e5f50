"""Self-training: the student learns from its own labels of inputs that have none, where it is sure of them.

Yarowsky, 1995, https://aclanthology.org/P95-1026, section 4; soft pseudo-labels are the targets of Hinton et al., 2015,
https://arxiv.org/abs/1503.02531. It starts from a student fine-tuned on the rows as they are. Then each epoch is a
round: the student as it is labels all inputs that have no label, and learns from those of which it is sure and from
the labelled rows.
"""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, FilePath
from torch import Tensor

from prompt2model.batches import Batch, Lesson
from prompt2model.course import Course, Prepared, asked_of_student, label_rows
from prompt2model.decoding import likelihoods
from prompt2model.errors import ConfigError, DataError
from prompt2model.heads import ending
from prompt2model.losses import cross_entropy, summed
from prompt2model.memory import in_batches
from prompt2model.methods import plainly
from prompt2model.records import Example, Source, TaskSpec
from prompt2model.student import MAX_PADDED_TOKENS, LocalModel
from prompt2model.supply import Block
from prompt2model.tables import read_table

ARCHITECTURES = ("decoder", "encoder-decoder")

MAX_INPUTS = 1_000_000


class Options(BaseModel):
    """What is labelled, and which labels are believed. The number of rounds is `train.epochs`."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    inputs: FilePath | None = Field(
        None,
        description="A file of inputs without labels: a line each (.txt), or a table's column `input` or only column; "
        "without it the training rows that the teacher wrote, whose labels are doubted.",
    )
    threshold: float = Field(0.9, ge=0, le=1, description="Probability of its likeliest label from which one counts.")
    soft: bool = Field(False, description="Learn the probabilities of all labels, not the likeliest label alone.")
    passes: int = Field(1, gt=0, description="Passes over what was labelled, before it is labelled anew.")
    warm_up: float = Field(1.0, ge=0, description="Epochs on the rows as they are beforehand.")


def needs(options: Options) -> tuple[str, ...]:
    """Nothing: the student is its own teacher."""
    return ()


def suits(task: TaskSpec, options: Options) -> None:
    """Raises ConfigError unless the task is a classification: a text has no likelihood among all texts."""
    if len(task.labels) < 2:
        raise ConfigError(
            "The method self_training needs a classification: it goes by how likely each label is.",
            hint="For texts, let a teacher answer the inputs and train with --method seqkd.",
        )


def warm_up(options: Options) -> dict[str, Any]:
    """Epochs on the labelled rows, after which the student's own labels are worth something."""
    return plainly(options.warm_up)


def prepare(examples: Sequence[Example], course: Course) -> Prepared:
    """The labelled rows, and the inputs without a label with an empty output."""
    path = course.options.inputs
    unlabelled = _read(path) if path else [_without_label(row) for row in examples if not row.is_real]
    if not unlabelled:
        raise DataError(
            "There are no inputs without a label: no training row was written by a teacher.",
            hint='Name a file of inputs: --set train.options.inputs="inputs.txt"',
        )
    labelled = examples if path else [row for row in examples if row.is_real]
    return Prepared([*labelled, *unlabelled])


def rows(examples: Sequence[Example], course: Course) -> list[Lesson]:
    """The answer after the student's own prompt; of an input without a label, every label in its place."""
    every = dict.fromkeys(course.task.labels, 1.0)
    return [
        (course.codec.row(asked_of_student(example), example.output, max_length=course.max_length),)
        if example.output
        else label_rows(example, every, course)
        for example in examples
    ]


def block(options: Options) -> Block:
    """A whole epoch: a round."""
    return Block(steps=0, passes=options.passes)


def rollouts(student: LocalModel, lessons: Sequence[Lesson], course: Course, seeds: Sequence[int]) -> list[Lesson]:
    """The lessons with pseudo-labels where they had none, empty where the student is not sure enough."""
    found = list(lessons)
    for place, probabilities in _labels(student.model, lessons, course, student.batch_rows):
        found[place] = _labelled(lessons[place], probabilities, course.options)
    return found


def loss(model: Any, batch: Batch, course: Course) -> Tensor:
    """The weighted sum of the negative log-likelihoods of the labels' tokens, in nats."""
    return summed(
        lambda logits, place: cross_entropy(logits, batch.targets[place]), ending(model, batch), batch.weights
    )


def _labels(
    model: Any, lessons: Sequence[Lesson], course: Course, batch_rows: int
) -> Iterator[tuple[int, Sequence[float]]]:
    """The place of each lesson without a label, and the probability of every label."""
    asked = [place for place, lesson in enumerate(lessons) if len(lesson) > 1]

    def labelled(batch: list[int]) -> list[list[float]]:
        first = lessons[asked[batch[0]]]
        prompts = [lessons[asked[index]][0].prompt for index in batch]
        table = likelihoods(model, course.codec, prompts, [row.completion for row in first])  # (rows, labels)
        found: list[list[float]] = table.double().softmax(1).tolist()
        return found

    lengths = [len(lessons[place][0].prompt) for place in asked]
    for batch, tables in in_batches(lengths, batch_rows, MAX_PADDED_TOKENS, labelled):
        yield from zip([asked[index] for index in batch], tables, strict=True)


def _labelled(lesson: Lesson, probabilities: Sequence[float], options: Options) -> Lesson:
    """The likeliest label's row, or every label's with its probability as its weight."""
    best = max(range(len(lesson)), key=lambda label: probabilities[label])
    if probabilities[best] < options.threshold:
        return ()
    if options.soft:
        return tuple(replace(row, weight=weight) for row, weight in zip(lesson, probabilities, strict=True))
    return (lesson[best],)


def _without_label(row: Example) -> Example:
    return row.model_copy(update={"output": "", "probabilities": None})


def _read(path: Path) -> list[Example]:
    """The file's inputs, each once."""
    with path.open("rb") as file:
        if path.suffix == ".txt":
            texts = [line.strip() for line in file.read().decode("utf-8-sig", errors="replace").splitlines()]
        else:
            table = read_table(file, path.name, max_rows=MAX_INPUTS).rows
            column = _column(list(table[0]), path.name)
            texts = [str(row.get(column) or "").strip() for row in table]
    return [
        Example(input=text, output="", source=Source(kind="data", name=path.name, row=number))
        for number, text in enumerate(dict.fromkeys(filter(None, texts)))
    ]


def _column(columns: Sequence[str], name: str) -> str:
    if "input" in columns or len(columns) == 1:
        return "input" if "input" in columns else columns[0]
    raise DataError(
        f"It is not clear which column of {name} holds the inputs: {', '.join(columns)}.", hint="Call it `input`."
    )
