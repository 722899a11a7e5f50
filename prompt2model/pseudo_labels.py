"""Inputs without a label: where they come from, and how likely a model finds each label for them.

Among lessons they are those with a row for each label.
"""

import logging
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, FilePath

from prompt2model.batches import Codec, Lesson
from prompt2model.decoding import likelihoods
from prompt2model.errors import ConfigError, DataError
from prompt2model.inputs import read_inputs
from prompt2model.memory import in_batches
from prompt2model.records import Example, Source, TaskSpec

logger = logging.getLogger(__name__)


class OfInputs(BaseModel):
    """Options of a method that labels inputs."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    inputs: FilePath | None = Field(
        None,
        description="A file of inputs without labels: a line each (.txt), or a table's column `input` or only column; "
        "without it the training rows that the teacher wrote, whose labels are doubted.",
    )


def check_has_labels(task: TaskSpec, method: str, why: str) -> None:
    """Raises ConfigError, saying why, unless the task is a classification."""
    if len(task.labels) < 2:
        raise ConfigError(
            f"The method {method} needs a classification: {why}.",
            hint="For texts, let a teacher answer the inputs and train with --method seqkd.",
        )


def with_unlabelled(examples: Sequence[Example], file: Path | None, *, need_labelled: bool) -> list[Example]:
    """The labelled examples, and inputs with an empty output: the file's, or those whose label a teacher wrote.

    Raises DataError when there are no such inputs, or no labelled examples where they are needed.
    """
    unlabelled = _inputs_of(file) if file else [_without_label(row) for row in examples if not row.is_real]
    labelled = list(examples) if file else [row for row in examples if row.is_real]
    if need_labelled and not labelled:
        raise DataError(
            "There are no labelled rows to begin with: every training row was written by a teacher.",
            hint="Give rows with --data, or a file of inputs, which leaves the teacher's labels as they are.",
        )
    if not unlabelled:
        raise DataError(
            "There are no inputs without a label: no training row was written by a teacher.",
            hint='Name a file of inputs: --set train.options.inputs="inputs.txt"',
        )
    return [*labelled, *unlabelled]


def label_probabilities(
    model: Any, codec: Codec, lessons: Sequence[Lesson], batch_rows: int
) -> Iterator[tuple[int, list[float]]]:
    """The place of each lesson without a label, and the probability of every label, in the order of its rows."""
    asked = [place for place, lesson in enumerate(lessons) if len(lesson) > 1]

    def judged(batch: list[int]) -> list[list[float]]:
        choices = [row.completion for row in lessons[asked[batch[0]]]]
        table = likelihoods(model, codec, [lessons[asked[index]][0].prompt for index in batch], choices)
        found: list[list[float]] = table.double().softmax(1).tolist()  # (rows, labels)
        return found

    lengths = [len(lessons[place][0].prompt) for place in asked]
    for batch, tables in in_batches(lengths, batch_rows, judged):
        yield from zip([asked[index] for index in batch], tables, strict=True)


def _inputs_of(path: Path) -> list[Example]:
    """The file's inputs, each once."""
    found = read_inputs(path)
    for note in found.notes:
        logger.warning("%s: %s", path.name, note)
    texts = dict.fromkeys(filter(None, map(str.strip, found.texts)))
    return [
        Example(input=text, output="", source=Source(kind="data", name=path.name, row=number))
        for number, text in enumerate(texts)
    ]


def _without_label(row: Example) -> Example:
    return row.model_copy(update={"output": "", "probabilities": None})
