"""Drops rows that the teacher, asked by a rubric of yes-or-no questions, finds wanting."""

import json
import re
from collections.abc import Sequence
from functools import cache
from itertools import islice

from pydantic import BaseModel, ConfigDict, Field

from prompt2model.conversation import Reply, Request
from prompt2model.filters import Sieve
from prompt2model.prompts import messages, render
from prompt2model.records import Dropped, Example
from prompt2model.teacher import replies

NEEDS = ("text",)
KINDS = ("classification", "generation")
LOOKS_AT = ()

MAX_TOKENS = 200
YES_OR_NO = ("yes", "no")
ESSENTIAL = "correct"
"""The question that must be a yes, however good the rest is."""


class Options(BaseModel):
    """How much has to be true."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    least_score: float = Field(
        0.8, ge=0, le=1, description="Share of the rubric's questions that must be a yes; that to `correct` always."
    )


def sift(candidates: Sequence[Example], sieve: Sieve) -> list[Example | Dropped]:
    """Each candidate of which enough is true; the reason of a dropped one is the first question answered with no.

    Questions that can be answered with yes or no add up better than one grade. The judge is the run's teacher, whose
    requests are in the plan and in the budget. It judges its own writing mildly; a `least_score` of 1 asks for more.
    A local model is asked one question at a time, and how likely its yes is: small ones write no JSON that can be read.
    """
    least = sieve.options("judge").least_score
    if sieve.teacher.is_local and "logprobs" in sieve.teacher.can and "json_schema" not in sieve.teacher.can:
        needed = sieve.once(_least_odds)
        return [
            _weighed(row, odds, needed, least) for row, odds in zip(candidates, _odds(candidates, sieve), strict=True)
        ]
    requests = [_request(row, sieve) for row in candidates]
    return [_judged(row, reply, least) for row, reply in zip(candidates, replies(sieve.teacher, requests), strict=True)]


def _odds(rows: Sequence[Example], sieve: Sieve) -> list[list[float]]:
    """The log-odds of a yes to each question of the rubric, for each row; none where there is no answer."""
    asked = [
        Request(
            messages=messages("filters/judge.j2", task=sieve.task, row=row, rubric={}, question=question),
            choices=YES_OR_NO,
        )
        for row in rows
        for question in rubric().values()
    ]
    found = iter(replies(sieve.teacher, asked))
    of_row = [[reply.logprobs for reply in islice(found, len(rubric()))] for _ in rows]
    return [[yes - no for yes, no in answers] if all(answers) else [] for answers in of_row]


def _least_odds(sieve: Sieve) -> list[float]:
    """For each question the least log-odds over the user's examples, which are as they should be; 0 at most.

    Without them a model that leans to no would leave nothing.
    """
    of_row = [odds for odds in _odds(sieve.task.examples, sieve) if odds]
    return [min(0.0, *column) for column in zip(*of_row, strict=True)] or [0.0] * len(rubric())


def _weighed(row: Example, odds: Sequence[float], least_odds: Sequence[float], least_score: float) -> Example | Dropped:
    if not odds:
        return Dropped(reason="no verdict", text=row.input)
    return _passed(
        row, {name: one >= needed for name, one, needed in zip(rubric(), odds, least_odds, strict=True)}, least_score
    )


@cache
def rubric() -> dict[str, str]:
    """The questions of templates/filters/rubric.j2 by their names."""
    lines = [line.partition(": ") for line in render("filters/rubric.j2").splitlines()]
    return {name: question for name, _, question in lines}


def _request(row: Example, sieve: Sieve) -> Request:
    asked = messages("filters/judge.j2", task=sieve.task, row=row, rubric=rubric(), question="")
    schema = {
        "type": "object",
        "properties": {name: {"type": "boolean"} for name in rubric()},
        "required": list(rubric()),
        "additionalProperties": False,
    }
    can_schema = "json_schema" in sieve.teacher.can
    return Request(messages=asked, json_schema=schema if can_schema else None, temperature=0.0, max_tokens=MAX_TOKENS)


def _judged(row: Example, reply: Reply, least_score: float) -> Example | Dropped:
    if not reply.text:
        return Dropped(reason=reply.failure or "no verdict", text=row.input)
    verdict = read_verdict(reply.text)
    if verdict is None:
        return Dropped(reason="unreadable verdict", text=reply.text)
    return _passed(row, verdict, least_score)


def _passed(row: Example, verdict: dict[str, bool], least_score: float) -> Example | Dropped:
    failed = [name for name, is_so in verdict.items() if not is_so]
    if ESSENTIAL not in failed and 1 - len(failed) / len(verdict) >= least_score:
        return row
    return Dropped(reason=f"judged: not {failed[0]}", text=f"{row.input} → {row.output}; not {', '.join(failed)}")


def read_verdict(text: str) -> dict[str, bool] | None:
    """The answer to each question; none where one is missing or is neither true nor false."""
    match = re.search(r"\{.*\}", text, re.DOTALL)
    try:
        found = json.loads(match[0] if match else "")
    except (json.JSONDecodeError, RecursionError):
        return None
    verdict = {name: found.get(name) for name in rubric()}
    return verdict if all(isinstance(is_so, bool) for is_so in verdict.values()) else None
