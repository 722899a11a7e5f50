"""Word-level distillation: forward KL to the teacher's distribution at every token, mixed with the answer's likelihood.

Kim & Rush, 2016, https://arxiv.org/abs/1606.07947, section 3.1; Hinton et al., 2015, https://arxiv.org/abs/1503.02531.
The teacher runs beside the student, or its distributions are kept on disk beforehand: the k likeliest tokens of each,
or k tokens drawn from it (https://arxiv.org/abs/2503.16870), which is without bias. A server with the student's
tokenizer tells the likeliest tokens of its own answers, which the student then learns in place of the rows'.
"""

from collections import Counter
from collections.abc import Sequence
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator
from torch import Tensor

from prompt2model.batches import Batch, Lesson, Row
from prompt2model.chat import TOP_LOGPROBS
from prompt2model.conversation import Request
from prompt2model.course import (
    Course,
    Prepared,
    answered_for_both,
    asked_of_student,
    asked_of_teacher,
    common_vocabulary,
    replies_of_teacher,
    teacher_ending,
)
from prompt2model.distributions import DIVERGENCES, Recipe, with_distributions
from prompt2model.heads import ending
from prompt2model.losses import cross_entropy, forward_kl, summed
from prompt2model.records import Dropped, Example
from prompt2model.told import tokens_by_text, told_row

ARCHITECTURES = ("decoder", "encoder-decoder")
TRIED = 16
"""Answers of a server after which none that the student can follow means that none will come."""


class Options(BaseModel):
    """How much of the teacher, how soft, and whether it is there all the time."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    mixing: float = Field(0.5, ge=0, le=1, description="Share of the answer's likelihood; the rest is the teacher's.")
    temperature: float = Field(1.0, gt=0, description="Softens both distributions; the loss is scaled by its square.")
    source: Literal["live", "top_k", "sampled", "server"] = Field(
        "live",
        description="The teacher beside the student, or its distributions kept once on disk: the k likeliest tokens "
        "(the others count as one), or k drawn ones (without bias). Or what a server tells of its own answers.",
    )
    k: int = Field(64, ge=1, description="Tokens kept of each distribution; a server tells 20 at most.")

    @model_validator(mode="after")
    def _can_be_told(self) -> "Options":
        if self.source == "server" and self.temperature != 1:
            raise ValueError("a server tells its distributions at temperature 1")
        return self


def needs(options: Options) -> tuple[str, ...]:
    """The whole distribution, or of a server what it tells of one."""
    return ("text", "top_logprobs") if options.source == "server" else ("logits",)


def questions(examples: Sequence[Example], course: Course) -> list[Request]:
    """Every input, for the server's likeliest answer and what else was likely at each place."""
    longest = max(1, course.max_length // 2 - 1)  # with the token that ends it, it fits into a row
    k = min(course.options.k, TOP_LOGPROBS)
    asked = [asked_of_teacher(example, course) for example in examples]
    return [Request(messages=one, max_tokens=longest, temperature=0.0, top_logprobs=k) for one in asked]


def prepare(examples: Sequence[Example], course: Course) -> Prepared:
    """The examples, of a server with its answers: those that the student cannot follow are counted."""
    if course.options is None or course.options.source != "server":
        return Prepared(examples)
    told = _told(examples[:TRIED], course)
    if any(isinstance(row, Row) for _, row in told):  # else the server is of another family, and costs no more
        told += _told(examples[TRIED:], course)
    dropped = Counter(row.reason for _, row in told if isinstance(row, Dropped))
    return Prepared([example for example, row in told if isinstance(row, Row)], dict(dropped))


def rows(examples: Sequence[Example], course: Course) -> list[Lesson]:
    """The answer, of a server its own, after the student's own prompt, and for the teacher after the teacher's."""
    options: Options = course.options
    if options.source == "server":
        return [(row,) if isinstance(row, Row) else () for _, row in _told(examples, course)]
    lessons = answered_for_both(examples, course)
    if options.source == "live":
        return lessons
    recipe = Recipe(options.source, options.k, options.temperature, course.seed)
    found = with_distributions([row for (row,) in lessons], course.white_box, course.codec, recipe)
    return [(row,) for row in found]


def loss(model: Any, batch: Batch, course: Course) -> Tensor:
    """mixing · (−log q(y)) + (1 − mixing) · T² KL(p ‖ q), summed over the tokens, in nats."""
    options: Options = course.options
    common = common_vocabulary(course)
    student, teacher = ending(model, batch), teacher_ending(batch, course) if options.source == "live" else None

    def of_tokens(logits: Tensor, place: slice, *wanted: Tensor) -> Tensor:
        answer, q = cross_entropy(logits, batch.targets[place]), logits[:, :common]
        divergence = (
            forward_kl(q, wanted[0][:, :common], options.temperature) if wanted else _of_kept(q, place, batch, options)
        )
        return options.mixing * answer + (1 - options.mixing) * divergence

    return summed(of_tokens, student, batch.weights, teacher=teacher)


def _of_kept(q: Tensor, place: slice, batch: Batch, options: Options) -> Tensor:
    """T² KL(p ‖ q) of the tokens at a place, as far as what is kept of p tells."""
    kind = "top_k" if options.source == "server" else options.source
    return DIVERGENCES[kind](q, batch.signals["ids"][place], batch.signals["log_p"][place], options.temperature)


def _told(examples: Sequence[Example], course: Course) -> list[tuple[Example, Row | Dropped]]:
    """Each example with the server's likeliest answer, and that as a row, or why it is none."""
    tokens, k = tokens_by_text(course.codec), min(course.options.k, TOP_LOGPROBS)
    requests = questions(examples, course)
    return [
        (
            example.model_copy(update={"output": reply.text}),
            told_row(reply, asked_of_student(example), course.codec, tokens, k=k, max_length=course.max_length),
        )
        for example, reply in zip(examples, replies_of_teacher(requests, course), strict=True)
    ]
