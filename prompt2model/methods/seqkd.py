"""Sequence-level distillation: maximum likelihood on the teacher's (or the data's) answers.

Kim & Rush, 2016, https://arxiv.org/abs/1606.07947, section 3.2; LaMini-LM, https://arxiv.org/abs/2304.14402. The paper
takes the teacher's likeliest answer, found by beam search, for its mode: `beams=5`. With `samples=5` and
`best_of="given"` it is that of the n best which is nearest to the given one, the paper's Seq-Inter (section 3.3), by
chrF++ in place of smoothed BLEU.
"""

from collections import Counter
from collections.abc import Sequence
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator
from torch import Tensor

from prompt2model import registry
from prompt2model.answers import read_label
from prompt2model.batches import Batch, Lesson
from prompt2model.conversation import Reply, Request
from prompt2model.course import (
    Course,
    Prepared,
    asked_of_student,
    asked_of_teacher,
    label_rows,
    replies_of_teacher,
    writing_teacher,
)
from prompt2model.heads import likelihood_loss
from prompt2model.questions import answer_request
from prompt2model.records import Example

ARCHITECTURES = ("decoder", "encoder-decoder")


class Options(BaseModel):
    """Whose answers, and which of several."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    answers: Literal["given", "teacher"] = Field(
        "given", description="Those of the training rows, or the teacher answers each input anew."
    )
    samples: int = Field(
        1, ge=1, description="Answers of the teacher to each input, with beams the n best; one of them is learned."
    )
    beams: int = Field(1, ge=1, description="Of the search for the teacher's likeliest answer; 1 is greedy.")
    best_of: Literal["likelihood", "given"] = Field(
        "likelihood",
        description="Which of several is learned: the teacher's likeliest, or the nearest to the given one by chrF++.",
    )
    temperature: float = Field(0.0, ge=0, le=2, description="Of the teacher's answers; 0 takes the likeliest tokens.")
    max_tokens: int = Field(256, gt=0, description="Longest answer of the teacher, in tokens.")
    soft_labels: bool = Field(
        False, description="Learn the teacher's probabilities of all labels where a row has them, not its label alone."
    )

    @model_validator(mode="after")
    def _differ(self) -> "Options":
        if self.samples > 1 and self.beams == 1 and not self.temperature:
            raise ValueError("samples above 1 need a temperature above 0, or beams")
        if self.beams > 1 and self.temperature:
            raise ValueError("beam search is deterministic: set temperature to 0")
        if 1 < self.beams < self.samples:
            raise ValueError(f"samples ({self.samples}) cannot exceed beams ({self.beams})")
        return self


def needs(options: Options) -> tuple[str, ...]:
    """Nothing where the answers are there; texts, and beams or likelihoods where the likeliest is looked for."""
    if options.answers == "given":
        return ()
    if options.beams > 1:
        return ("text", "beams")
    return ("text", "likelihood") if options.samples > 1 and options.best_of == "likelihood" else ("text",)


def labels_by_teacher(options: Options) -> bool:
    """Where it answers the inputs anew."""
    return options.answers == "teacher"


def questions(examples: Sequence[Example], course: Course) -> list[Request]:
    """Every input, as often as it is to be answered."""
    each = [example for example in examples for _ in range(_times(course))]
    return [_request(example, course, number) for number, example in enumerate(each)]


def prepare(examples: Sequence[Example], course: Course) -> Prepared:
    """The examples with the teacher's answers where those are asked for; inputs without one are counted."""
    if course.options is None or course.options.answers == "given":
        return Prepared(examples)
    kept, dropped = [], Counter[str]()
    for example, (answers, reason) in zip(examples, _answers(examples, course), strict=True):
        if answers:
            kept.append((example, answers))
        else:
            dropped[reason] += 1
    chosen = _chosen(kept, course)
    rows = [example.model_copy(update={"output": output}) for (example, _), output in zip(kept, chosen, strict=True)]
    return Prepared(rows, dict(dropped))


def rows(examples: Sequence[Example], course: Course) -> list[Lesson]:
    """One row for each example: the student's own prompt, then the answer; of soft labels one for each label."""
    soft = course.options is not None and course.options.soft_labels
    return [
        label_rows(example, example.probabilities, course)
        if soft and example.probabilities
        else (course.codec.row(asked_of_student(example), example.output, max_length=course.max_length),)
        for example in examples
    ]


def loss(model: Any, batch: Batch, course: Course) -> Tensor:
    """The weighted sum of the negative log-likelihoods of the answers' tokens, in nats."""
    return likelihood_loss(model, batch)


def _answers(examples: Sequence[Example], course: Course) -> list[tuple[list[str], str]]:
    """The different answers to each input in the order of their samples or their likelihood, and why one is missing."""
    times = _times(course)
    asked = questions(examples, course)
    replies = replies_of_teacher(asked, course)
    read = [_read(reply, request, course) for reply, request in zip(replies, asked, strict=True)]
    found = [read[start : start + times] for start in range(0, len(read), times)]
    return [(list(dict.fromkeys(text for texts, _ in of for text in texts if text)), of[0][1]) for of in found]


def _times(course: Course) -> int:
    """How often each input is answered: a label is the likeliest one, and one search finds the n best."""
    return 1 if course.task.labels or course.options.beams > 1 else int(course.options.samples)


def _request(example: Example, course: Course, number: int = 0) -> Request:
    writer, options = writing_teacher(course), course.options
    asked = asked_of_teacher(example, course, can=writer.can)
    if course.task.labels:
        return answer_request(course.task, asked, can=writer.can, max_tokens=options.max_tokens)
    return Request(
        messages=asked,
        max_tokens=options.max_tokens,
        temperature=options.temperature,
        seed=course.seed * 1_000_003 + number if options.temperature else 0,
        beams=options.beams,
        n_best=options.samples if options.beams > 1 else 1,
    )


def _read(reply: Reply, request: Request, course: Course) -> tuple[list[str], str]:
    """The answers, and why there is none where there is none."""
    labels, others = course.task.labels, [text.strip() for text in reply.others]
    if reply.finish in ("failed", "filtered"):
        return [], reply.failure or reply.finish
    if request.choices:
        return [request.choices[reply.logprobs.index(max(reply.logprobs))]], ""
    if reply.finish == "length":
        return others, "cut off"
    if labels:
        return [read_label(reply.text, labels) or ""], "not a label"
    return [reply.text.strip(), *others], "no answer"


def _chosen(kept: Sequence[tuple[Example, list[str]]], course: Course) -> list[str]:
    """One answer for each input: Kim & Rush call the nearest to the given one Seq-Inter (section 3.3)."""
    if course.options.best_of == "given":
        likeness = registry.load("metrics", "chrf").compute
        return [max(answers, key=lambda one: likeness([one], [example.output])) for example, answers in kept]
    if course.options.beams > 1:
        return [answers[0] for _, answers in kept]
    several = [index for index, (_, answers) in enumerate(kept) if len(answers) > 1]
    asked = [
        _request(kept[i][0], course).model_copy(update={"choices": tuple(kept[i][1]), "whole": True}) for i in several
    ]
    replies = replies_of_teacher(asked, course)
    found = {i: reply.logprobs for i, reply in zip(several, replies, strict=True) if reply.logprobs}
    return [answers[found[i].index(max(found[i])) if i in found else 0] for i, (_, answers) in enumerate(kept)]
