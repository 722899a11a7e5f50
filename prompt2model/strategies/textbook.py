"""Exercises on the task's concepts, each set after a short lesson for some audience; then each is answered.

Textbooks Are All You Need (phi-1): Gunasekar et al., 2023, https://arxiv.org/abs/2306.11644, section 2, where variety
comes from constraining the topic and the audience of what is written. The lesson is not learned from: it is there to
make the exercises that follow it hang together, and differ from those after other lessons.
"""

from collections.abc import Iterator

from pydantic import Field

from prompt2model.answering import answered
from prompt2model.conversation import Message
from prompt2model.drafts import most_in_list, shown, sizes, write_lists
from prompt2model.prompts import messages, render
from prompt2model.records import Dropped, Example
from prompt2model.strategies import NoOptions, Round

NEEDS = ("text",)
KINDS = ("classification", "generation")


class Options(NoOptions):
    """How lessons are asked for."""

    exercises: int = Field(8, gt=0, description="Inputs after one lesson.")
    concepts: tuple[str, ...] = Field((), description="What lessons are about; none given leaves it to the teacher.")


def write(round: Round) -> Iterator[Example | Dropped]:
    """The exercises of several lessons, and the teacher's likeliest answer to each."""
    lessons = round.once(_lessons)
    prompts: list[tuple[int, tuple[Message, ...]]] = []
    for size in sizes(round.count, most_in_list(round.task, round.options.exercises)):
        lesson = lessons.pop(0)
        lessons.append(lesson)
        prompts.append((size, _prompt(round, size, *lesson)))
    yield from answered(write_lists(round, prompts), round, "textbook")


def _lessons(round: Round) -> list[tuple[str, str, str]]:
    """Every audience with every angle and every concept once, in a random order."""
    audiences, angles = (
        [line.partition(": ")[2] for line in render("generate/lessons.j2").splitlines() if line.startswith(aspect)]
        for aspect in ("audience", "angle")
    )
    concepts = round.options.concepts or ("",)
    lessons = [(audience, angle, concept) for audience in audiences for angle in angles for concept in concepts]
    return round.rng.sample(lessons, len(lessons))


def _prompt(round: Round, size: int, audience: str, angle: str, concept: str) -> tuple[Message, ...]:
    return messages(
        "generate/textbook.j2",
        instruction=round.task.instruction,
        labels=round.task.labels,
        examples=shown(round.pool, round.config.few_shot, round.rng),
        audience=audience,
        angle=angle,
        concept=concept,
        size=size,
        language=round.task.language,
        continues=round.teacher.is_local,
    )
