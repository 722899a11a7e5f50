"""Context distillation: the teacher reads instruction and examples, the student learns to answer the input alone.

Snell, Klein & Zhong, 2022, https://arxiv.org/abs/2209.15189, section 2. The labels of a classification are distilled as
whole answers: each counts by its probability, so that it does not matter in which tokens the teacher writes it.

Several contexts are distilled at once or one after another, as in the paper. At once, the loss is the sum of theirs,
each over inputs of its own: the inputs are dealt out among the contexts at random, so that more examples are learned
from than a teacher can read. One after another, each is a training of its own on all inputs, which starts from the
student so far and may overwrite what that had learned. Where the base teaches, its next teacher is the student so far.
Unlike the paper's, all these students read the same, the input alone, and of every teacher's text the same is learned.

What a teacher has thought in its scratchpad stays before it where its distribution is learned: it reads that up to
"Answer:" and a line break, after which an answer begins with the same token as the student's; after a space it
would not.
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from functools import cache
from random import Random
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator
from torch import Tensor

from prompt2model.answers import read_label, softmax
from prompt2model.batches import Batch, Lesson
from prompt2model.conversation import Message, Reply, Request
from prompt2model.course import (
    Course,
    Prepared,
    asked_of_student,
    common_vocabulary,
    read_by_teacher,
    replies_of_teacher,
    teacher_ending,
    writing_teacher,
)
from prompt2model.description import read_description
from prompt2model.distributions import Recipe, with_distributions
from prompt2model.heads import ending
from prompt2model.losses import cross_entropy, forward_kl, sampled_forward_kl, summed
from prompt2model.notations import Reading, read_notation
from prompt2model.prompts import messages
from prompt2model.questions import question
from prompt2model.records import Example, Source, TaskSpec

ARCHITECTURES = ("decoder", "encoder-decoder")
MARK = "Answer:"
"""What the last line of a scratchpad begins with."""


class Options(BaseModel):
    """What the teacher reads, and what is learned from its answers."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    teacher: Literal["named", "base"] = Field("named", description="The run's teacher, or the untrained base itself.")
    instruction: str = Field("", description="What the teacher is told; empty: the task's own instruction.")
    examples: int = Field(4, ge=0, description="Examples of a description that the teacher is shown.")
    contexts: tuple[str, ...] = Field(
        (),
        description="Descriptions, a file or a text each, whose instruction and examples the teacher reads in place of "
        "the task's own.",
    )
    order: Literal["simultaneous", "sequential"] = Field(
        "simultaneous", description="Whether several contexts share the inputs, or teach all of them one after another."
    )
    scratchpad: bool = Field(False, description="The teacher thinks in writing first; only its answer is learned.")
    targets: Literal["hard", "soft", "full"] = Field(
        "hard", description="The teacher's answers, a histogram of tokens drawn at each position, or its distribution."
    )
    draws: int = Field(100, ge=1, description="Tokens drawn at each position for soft targets.")
    temperature: float = Field(0.0, ge=0, le=2, description="Of the teacher's texts; 0 takes the likeliest tokens.")
    max_tokens: int = Field(256, gt=0, description="Longest answer of the teacher, its scratchpad included, in tokens.")

    @field_validator("contexts")
    @classmethod
    def _open(cls, contexts: tuple[str, ...]) -> tuple[str, ...]:
        """Their texts: what cannot be read is told before anything is paid for."""
        texts = tuple(map(read_description, contexts))
        for text in texts:
            _reading(text)
        return texts

    @model_validator(mode="after")
    def _align(self) -> "Options":
        if self.contexts and self.instruction:
            raise ValueError("contexts have instructions of their own")
        return self


def needs(options: Options) -> tuple[str, ...]:
    """Texts, or the whole distribution; nobody where the base teaches itself."""
    if options.teacher == "base":
        return ()
    return ("text",) if options.targets == "hard" else ("logits",)


def taught_by_base(options: Options) -> bool:
    """Whether the base as it is before the training is the teacher."""
    return options.teacher == "base"


def labels_by_teacher(options: Options) -> bool:
    """Always: what the rows have as outputs is not learned."""
    return True


def warm_up(options: Options) -> dict[str, Any]:
    """Of contexts that are distilled one after another, the training on all but the last."""
    earlier = options.contexts[:-1] if options.order == "sequential" else ()
    return {"options": {**options.model_dump(), "contexts": earlier}} if earlier else {}


def questions(examples: Sequence[Example], course: Course) -> list[Request]:
    """Every input in the teacher's context."""
    return [_request(example, seed, course) for seed, example in enumerate(examples)]


def prepare(examples: Sequence[Example], course: Course) -> Prepared:
    """The examples with the answers that the teacher gives in its context; what cannot be used is counted."""
    options, labels = course.options, course.task.labels
    found = _answered(examples, questions(examples, course), course)
    if not (options.scratchpad and labels and options.targets != "hard"):
        return found
    asked = [Request(messages=_thought_through(one, course), choices=labels, continues=True) for one in found.examples]
    weighed = _answered(found.examples, asked, course)  # by the labels' likelihoods behind what it thought
    return Prepared(weighed.examples, dict(Counter(found.dropped) + Counter(weighed.dropped)))


def _answered(examples: Sequence[Example], requests: Sequence[Request], course: Course) -> Prepared:
    kept, dropped = [], Counter[str]()
    for example, request, reply in zip(examples, requests, replies_of_teacher(requests, course), strict=True):
        found = _read(reply, request, course)
        if isinstance(found, str):
            dropped[found] += 1
        else:
            kept.append(example.model_copy(update=found))
    return Prepared(kept, dict(dropped))


def rows(examples: Sequence[Example], course: Course) -> list[Lesson]:
    """The input alone, then the answer; for the teacher the same answer after its own context."""
    options: Options = course.options
    if course.task.labels and options.targets != "hard":
        return [_of_labels(example, course) for example in examples]
    found = [
        course.codec.row(asked_of_student(example), example.output, max_length=course.max_length)
        for example in examples
    ]
    if options.targets != "hard":
        found = [
            replace(
                row,
                teacher_prompt=read_by_teacher(
                    _thought_through(example, course), course, end="\n" if options.scratchpad else ""
                ),
            )
            for row, example in zip(found, examples, strict=True)
        ]
    if options.targets == "soft":
        found = with_distributions(
            found, course.white_box, course.codec, Recipe("sampled", options.draws, 1.0, course.seed)
        )
    return [(row,) for row in found]


def loss(model: Any, batch: Batch, course: Course) -> Tensor:
    """−log q(y) or KL(p(· | context, x) ‖ q(· | x)), summed over the tokens, in nats."""
    targets, common, signals = course.options.targets, common_vocabulary(course), batch.signals
    is_hard = targets == "hard" or bool(course.task.labels)

    def of_tokens(logits: Tensor, place: slice, *wanted: Tensor) -> Tensor:
        if is_hard:
            return cross_entropy(logits, batch.targets[place])
        if targets == "soft":
            return sampled_forward_kl(logits[:, :common], signals["ids"][place], signals["log_p"][place])
        return forward_kl(logits[:, :common], wanted[0][:, :common])

    teacher = None if is_hard or targets == "soft" else teacher_ending(batch, course)
    return summed(of_tokens, ending(model, batch), batch.weights, teacher=teacher)


def _asked(example: Example, course: Course) -> tuple[Message, ...]:
    """The input in the teacher's context. Examples are turns, after which an answer is not begun."""
    options: Options = course.options
    task = _context(example, course)
    shown = task.examples[: options.examples]
    if options.scratchpad:
        return messages("answer/scratchpad.j2", task=task, text=example.input, examples=shown)
    return question(task, example.input, shown, can=frozenset() if shown else writing_teacher(course).can)


def _thought_through(example: Example, course: Course) -> tuple[Message, ...]:
    """What comes before the teacher's answer: behind the question what it wrote in its scratchpad, if it has one."""
    asked = _asked(example, course)
    if not course.options.scratchpad:
        return asked
    return (*asked, Message(role="assistant", content=f"{example.rationale or ''}\n{MARK}".lstrip()))


def _context(example: Example, course: Course) -> TaskSpec:
    """The task as the teacher is told it about this input: of several contexts the last, or one at random."""
    options: Options = course.options
    if not options.contexts:
        return course.task.model_copy(update={"instruction": options.instruction or course.task.instruction})
    random = Random(f"{course.seed}/context/{example.input}")  # noqa: S311 - not for secrets
    text = options.contexts[-1] if options.order == "sequential" else random.choice(options.contexts)
    told = _reading(text)
    source = Source(kind="user", name="a context")
    shown = [Example(input=one.input, output=one.output, rationale=one.rationale, source=source) for one in told.pairs]
    return course.task.model_copy(
        update={"instruction": told.instruction or course.task.instruction, "examples": tuple(shown)}
    )


@cache
def _reading(text: str) -> Reading:
    return read_notation(text)


def _request(example: Example, seed: int, course: Course) -> Request:
    options: Options = course.options
    asked = _asked(example, course)
    continues = asked[-1].role == "assistant"
    if course.task.labels and "logprobs" in writing_teacher(course).can and not options.scratchpad:
        return Request(messages=asked, choices=course.task.labels, continues=continues)
    seed = course.seed * 1_000_003 + seed if options.temperature else 0
    return Request(
        messages=asked, continues=continues, max_tokens=options.max_tokens, temperature=options.temperature, seed=seed
    )


def _read(reply: Reply, request: Request, course: Course) -> dict[str, Any] | str:
    """The answer as fields of an example, or why there is none."""
    if reply.finish in ("failed", "filtered"):
        return reply.failure or reply.finish
    labels = course.task.labels
    if request.choices:
        shares = softmax(reply.logprobs)
        return {"output": labels[shares.index(max(shares))], "probabilities": dict(zip(labels, shares, strict=True))}
    if reply.finish == "length":
        return "cut off"
    thought, marked, answer = reply.text.rpartition(MARK) if course.options.scratchpad else ("", MARK, reply.text)
    if not marked or not answer.strip():
        return "no answer"
    label = read_label(answer, labels) if labels else answer.strip()
    if label is None:
        return "not a label"
    return {"output": label} | ({"rationale": thought.strip() or None} if course.options.scratchpad else {})


def _of_labels(example: Example, course: Course) -> Lesson:
    """A row for each label, weighed by its probability or by its share of the draws; without those the label alone."""
    options: Options = course.options
    shares = dict(example.probabilities or {example.output: 1.0})
    if options.targets == "soft" and example.probabilities:
        random = Random(f"{course.seed}/{example.input}")  # noqa: S311 - not for secrets
        drawn = Counter(random.choices(list(shares), list(shares.values()), k=options.draws))
        shares = {label: count / options.draws for label, count in drawn.items()}
    asked = asked_of_student(example)
    return tuple(
        course.codec.row(asked, label, max_length=course.max_length, weight=share)
        for label, share in shares.items()
        if share > 0
    )
