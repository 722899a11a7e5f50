"""What a method has at hand while it makes rows and losses: the task, the student's codec, a teacher, its options."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import torch

from prompt2model import progress
from prompt2model.answers import read_label
from prompt2model.batches import Batch, Codec, Lesson
from prompt2model.conclusion import conclusion, is_same_answer
from prompt2model.conversation import Message, Reply, Request
from prompt2model.errors import ConfigError
from prompt2model.heads import ending
from prompt2model.losses import Ending
from prompt2model.questions import question
from prompt2model.records import Example, TaskSpec
from prompt2model.student import LocalModel
from prompt2model.teacher import Teacher


@dataclass(frozen=True)
class Course:
    """One training, apart from the student's weights."""

    task: TaskSpec
    codec: Codec
    """The student's, with its own prompt in its chat template."""
    options: Any = None
    """The method's `Options`."""
    max_length: int = 512
    """Longest row, in tokens."""
    teacher: LocalModel | None = None
    """The white box, for methods that need `logits`."""
    writer: Teacher | None = None
    """Whoever answers in words, for methods that ask before the training; paid for once, its replies are kept."""
    seed: int = 0

    @property
    def white_box(self) -> LocalModel:
        """The teacher. Raises ConfigError when there is none: the method did not say that it needs one."""
        if self.teacher is None:
            raise ConfigError("This method needs a white-box teacher.", hint="--teacher transformers:MODEL")
        return self.teacher


@dataclass(frozen=True)
class Prepared:
    """Examples as a method wants them, and how many were dropped, by reason."""

    examples: Sequence[Example]
    dropped: dict[str, int] = field(default_factory=dict)


def writing_teacher(course: Course) -> Teacher:
    """Whoever answers in words. Raises ConfigError when there is nobody: the method did not say that it needs one."""
    if course.writer is None:
        raise ConfigError("This method needs a teacher that answers in words.", hint="Name one with --teacher.")
    return course.writer


def replies_of_teacher(requests: Sequence[Request], course: Course) -> list[Reply]:
    """All replies of the writing teacher, in the order of the requests."""
    found: dict[int, Reply] = {}
    with progress.task("asking the teacher for answers", total=len(requests)) as advance:
        for group in writing_teacher(course).answer(requests):
            found.update(group)
            advance(len(group))
    return [found[index] for index in range(len(requests))]


def with_sound_rationales(examples: Sequence[Example], task: TaskSpec) -> Prepared:
    """The examples, their rationales without the sentence that gives the answer; one that gives another is taken out.

    A rationale that gives no answer cannot be judged, and stays.
    """
    kept, wrong = [], 0
    for example in examples:
        found = conclusion(example.rationale or "")
        if found is not None:
            is_right = _gives(found[1], example.output, task)
            wrong += not is_right
            example = example.model_copy(update={"rationale": (found[0] or None) if is_right else None})
        kept.append(example)
    return Prepared(kept, {"the rationale ends in another answer": wrong} if wrong else {})


def _gives(answer: str, output: str, task: TaskSpec) -> bool:
    return read_label(answer, task.labels) == output if task.labels else is_same_answer(answer, output)


def answered_for_both(examples: Sequence[Example], course: Course) -> list[Lesson]:
    """One row for each example: its answer after the student's own prompt, and for the teacher after the teacher's."""
    return [
        (
            replace(
                course.codec.row(asked_of_student(example), example.output, max_length=course.max_length),
                teacher_prompt=teacher_prompt(example, course),
            ),
        )
        for example in examples
    ]


def asked_of_student(example: Example) -> tuple[Message, ...]:
    """The input alone: what the instruction says, the student has learned."""
    return (Message(role="user", content=example.input),)


def label_rows(example: Example, probabilities: Mapping[str, float], course: Course) -> Lesson:
    """A row for each label, weighed by its probability: the sum of their losses is −Σ_y p(y) log q(y), the cross
    entropy to the whole distribution over the labels."""
    return tuple(
        course.codec.row(asked_of_student(example), label, max_length=course.max_length, weight=probability)
        for label, probability in probabilities.items()
        if probability > 0
    )


def label_lessons(examples: Sequence[Example], course: Course) -> list[Lesson]:
    """A row with the label of each example; of one without a label, a row for every label."""
    every = dict.fromkeys(course.task.labels, 1.0)
    return [
        (course.codec.row(asked_of_student(example), example.output, max_length=course.max_length),)
        if example.output
        else label_rows(example, every, course)
        for example in examples
    ]


def asked_of_teacher(example: Example, course: Course, *, can: frozenset[str] = frozenset()) -> tuple[Message, ...]:
    """The task with its instruction and examples, as suits what the teacher `can` do; or the input alone for a local
    teacher that was itself trained for the task, as its chat template tells: it is the student's.

    Where the answer's tokens are compared with the student's, nothing that it `can` do is named, and so the answer is
    not begun for it: after "Label:" it would write " positive", with a space, which is another token than "positive".
    """
    teacher = course.teacher
    if teacher is not None and teacher.codec.tokenizer.chat_template == course.codec.tokenizer.chat_template:
        return asked_of_student(example)
    return question(course.task, example.input, course.task.examples, can=can)


def teacher_prompt(example: Example, course: Course) -> tuple[int, ...] | None:
    """What the teacher reads before the answer, as tokens; None when it reads what the student reads."""
    asked = asked_of_teacher(example, course)
    if asked == asked_of_student(example):
        return None
    return read_by_teacher(asked, course)


def read_by_teacher(asked: Sequence[Message], course: Course, *, end: str = "") -> tuple[int, ...]:
    """What the teacher reads, as tokens, cut so that a row's answer fits behind it, or half of its context is left.

    A decoder also reads the `end`, whatever its template does with the ends of messages.
    """
    codec, context = course.white_box.codec, course.white_box.context_tokens
    after = codec.completion(end, ended=False) if end and codec.architecture == "decoder" else ()
    room = max(context - course.max_length, context // 2) - len(after) if context else None
    return (*codec.prompt(asked, continues=asked[-1].role == "assistant", max_tokens=room), *after)


@torch.no_grad()
def teacher_ending(batch: Batch, course: Course, layers: Sequence[int] = ()) -> Ending:
    """The teacher run over the same completions, after its own prompts, up to its head."""
    return ending(course.white_box.model, batch.for_teacher, layers)


def common_vocabulary(course: Course) -> int:
    """Tokens that the tokenizer has: embeddings are padded beyond them, by different amounts within one family."""
    return len(course.codec.tokenizer)


def white_box(teacher: Teacher | None) -> LocalModel | None:
    """The local model in the wrappers that count and keep its replies; None when the teacher is no such model."""
    while teacher is not None and not isinstance(teacher, LocalModel):
        teacher = getattr(teacher, "within", None)
    return teacher


def check_same_tokenizer(student: Codec, teacher: LocalModel, method: str, others: str) -> None:
    """Raises ConfigError when the two do not cut texts into the same tokens: then their distributions do not compare.

    The tokenizers are compared, not the sizes of the embeddings, which are padded differently within one family.
    """
    ours, theirs = student.tokenizer.get_vocab(), teacher.codec.tokenizer.get_vocab()
    if ours != theirs:
        raise ConfigError(
            f"{method} compares the student's and the teacher's distributions token by token, and {teacher.name} has "
            f"another tokenizer ({len(theirs)} tokens, not {len(ours)}; {len(ours.items() ^ theirs.items())} differ).",
            hint=f"Take a teacher of the same family, or a method that learns from texts: {others}.",
        )
