"""Rewrite the rows of another data set for the task: explain the task, plan the rewriting, rewrite row by row.

DataTune: Gandhi et al., 2024, https://arxiv.org/abs/2404.14361, section 3. Rows that people wrote are harder and more
varied than what a teacher makes up; `prompt2model datasets` ranks data sets that could be rewritten.
"""

import json
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from pydantic import Field

from prompt2model.answers import read_label
from prompt2model.cache import key
from prompt2model.config import RetrieveConfig
from prompt2model.conversation import Message, Reply, Request
from prompt2model.draft_reading import judged
from prompt2model.drafts import draft_request
from prompt2model.errors import ConfigError, TeacherError
from prompt2model.prompts import messages
from prompt2model.questions import longest_answer
from prompt2model.records import Dropped, Example, Source
from prompt2model.rows import is_on_hub, read_raw
from prompt2model.strategies import NoOptions, Round
from prompt2model.teacher import replies

NEEDS = ("text",)
KINDS = ("classification", "generation")

SHOWN_ROWS = 3
"""Rows that the plan is made for."""
CELL_CHARACTERS = 4000
"""Of each cell of a row that is shown, at most."""


class Options(NoOptions):
    """What is rewritten."""

    data: str = Field("", description="The rows to rewrite: a file, or a data set of the Hub (owner/name[:config]).")
    max_rows: int = Field(2000, gt=0, description="Most rows read; holds before downloading.")


def write(round: Round) -> Iterator[Example | Dropped]:
    """The next rows of the data set as examples of the task; none when all have been used."""
    work = round.once(_begin)
    numbers, work.left = work.left[: round.count], work.left[round.count :]
    rows = [work.rows[number] for number in numbers]
    requests = [_request(round, _prompt(round, "row", work, [row]), _shown(row)) for row in rows]
    for number, request, reply in zip(numbers, requests, replies(round.teacher, requests), strict=True):
        yield _read(reply, request, round, work, number)


@dataclass
class _Work:
    """A data set, and how its rows become examples of the task."""

    name: str
    rows: list[dict[str, Any]]
    left: list[int]
    """The rows not yet used, in a random order."""
    explanation: str = ""
    plan: str = ""


def _begin(round: Round) -> _Work:
    """The rows, and the teacher's explanation of the task and plan for them. Raises DataError without rows, and
    TeacherError when there is no plan."""
    if not round.options.data:
        raise ConfigError(
            "The strategy transform needs rows to rewrite.",
            hint="prompt2model datasets ranks some: --set generate.options.transform.data=owner/name",
        )
    name, rows = _rows(round)
    work = _Work(name, rows, round.rng.sample(range(len(rows)), len(rows)))
    shown = [rows[number] for number in work.left[:SHOWN_ROWS]]
    work.explanation = _told(round, _prompt(round, "explain", work, shown))
    work.plan = _told(round, _prompt(round, "plan", work, shown))
    return work


def _rows(round: Round) -> tuple[str, list[dict[str, Any]]]:
    if round.is_rehearsal and is_on_hub(round.options.data):
        return round.options.data, [{"text": "x" * CELL_CHARACTERS}] * round.count
    return read_raw(round.options.data, RetrieveConfig(max_rows=round.options.max_rows))


def _told(round: Round, prompt: tuple[Message, ...]) -> str:
    (reply,) = replies(round.teacher, [_request(round, prompt).model_copy(update={"temperature": 0.0})])
    if not reply.text.strip():
        why = reply.failure or reply.finish
        raise TeacherError(
            f"There is no plan for rewriting {round.options.data}: {why}.", hint="Try another --teacher."
        )
    return reply.text.strip()


def _request(round: Round, prompt: tuple[Message, ...], row: str = "") -> Request:
    """Room for an input as long as the row, in tokens of three bytes, and an output."""
    first = draft_request(prompt, round)
    most = max(first.max_tokens, len(row.encode()) // 3) + longest_answer(round.task, round.config.max_tokens)
    return first.model_copy(update={"max_tokens": most})


def _prompt(round: Round, step: str, work: _Work, rows: Sequence[dict[str, Any]]) -> tuple[Message, ...]:
    return messages(
        "generate/transform.j2",
        step=step,
        instruction=round.task.instruction,
        labels=round.task.labels,
        examples=round.task.examples[: round.config.few_shot],
        explanation=work.explanation,
        plan=work.plan,
        rows=[_shown(row) for row in rows],
    )


def _shown(row: dict[str, Any]) -> str:
    """The row as JSON, its long cells cut."""
    texts = {column: value if isinstance(value, int | float) else str(value) for column, value in row.items()}
    cut = {column: text[:CELL_CHARACTERS] if isinstance(text, str) else text for column, text in texts.items()}
    return json.dumps(cut, ensure_ascii=False)


_PARTS = re.compile(r"<input>(?P<input>.*?)</input>\s*<output>(?P<output>.*?)</output>", re.DOTALL)


def _read(reply: Reply, request: Request, round: Round, work: _Work, number: int) -> Example | Dropped:
    """The example in the reply, or why there is none. Its input may well stand in the row: a person wrote that."""
    if reply.finish in ("failed", "filtered"):
        return Dropped(reason=reply.failure or f"the teacher's reply was {reply.finish}")
    found = _PARTS.search(reply.text)
    if found is None:
        is_refusal = reply.text.strip().casefold().startswith("no example")
        reason = "the row does not fit the task" if is_refusal else "no example in the reply"
        return Dropped(reason="cut off" if reply.finish == "length" else reason, text=reply.text)
    told = "\n".join([work.explanation, work.plan, *(example.input for example in round.task.examples)])
    draft, output = judged(found["input"].strip(), told, round.task), found["output"].strip()
    if isinstance(draft, Dropped):
        return draft
    source = Source(
        kind="teacher",
        name=round.teacher.name,
        request=key(round.teacher.identity, request),
        strategy="transform",
        made_from=f"{work.name}:{number}",
    )
    answer = read_label(output, round.task.labels) or output if round.task.labels else output
    return Example(input=draft, output=answer, source=source)
