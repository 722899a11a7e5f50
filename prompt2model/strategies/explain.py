"""Inputs, each answered with an explanation that becomes its rationale; the answer is that of most explanations.

The system messages that draw the explanations out are after Orca: Mukherjee et al., 2023,
https://arxiv.org/abs/2306.02707; the vote is self-consistency: Wang et al., 2022, https://arxiv.org/abs/2203.11171.
"""

from collections.abc import Iterator

from pydantic import Field

from prompt2model.answering import without_repetitions
from prompt2model.drafts import write_inputs
from prompt2model.prompts import render
from prompt2model.questions import form_examples, longest_answer
from prompt2model.rationales import add_rationales
from prompt2model.records import Dropped, Example, Source
from prompt2model.strategies import NoOptions, Round

NEEDS = ("text",)
KINDS = ("classification", "generation")


class Options(NoOptions):
    """How often the teacher explains."""

    traces: int = Field(3, gt=0, description="Explanations of each input, of which the majority's answer is kept.")


def write(round: Round) -> Iterator[Example | Dropped]:
    """As many inputs as are asked for, each with the answer and the reasons of most of its explanations."""
    rows: list[Example] = []
    source = Source(kind="teacher", name=round.teacher.name, strategy="explain")
    for draft in without_repetitions(write_inputs(round), round):
        if isinstance(draft, Dropped):
            yield draft
        else:
            rows.append(Example(input=draft, output="", source=source))
    explained = add_rationales(
        rows,
        round.task,
        round.teacher,
        traces=round.options.traces,
        max_tokens=longest_answer(round.task, round.config.max_tokens),
        manners=render("generate/manners.j2").splitlines(),
        shown=form_examples(round.task, round.config.few_shot),
        seed=round.rng.getrandbits(31),
    )
    for row in explained.rows:
        yield row if row.output else Dropped(reason="its explanations come to no common answer", text=row.input)
