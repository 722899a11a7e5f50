"""Drops rows that the teacher, asked by a rubric of yes-or-no questions, finds wanting."""

import json
import re
from collections.abc import Sequence
from functools import cache

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


class Options(BaseModel):
    """How much has to be true."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    least_score: float = Field(0.8, ge=0, le=1, description="Share of the rubric's questions that must be a yes.")


def sift(candidates: Sequence[Example], sieve: Sieve) -> list[Example | Dropped]:
    """Each candidate of which enough is true; the reason of a dropped one is the first question answered with no.

    Questions that can be answered with yes or no add up better than one grade. The judge is the run's teacher, whose
    requests are in the plan and in the budget. It judges its own writing mildly; a `least_score` of 1 asks for more.
    """
    least = sieve.options("judge").least_score
    requests = [_request(row, sieve) for row in candidates]
    return [_judged(row, reply, least) for row, reply in zip(candidates, replies(sieve.teacher, requests), strict=True)]


@cache
def rubric() -> dict[str, str]:
    """The questions of templates/filters/rubric.j2 by their names."""
    lines = [line.partition(": ") for line in render("filters/rubric.j2").splitlines()]
    return {name: question for name, _, question in lines}


def _request(row: Example, sieve: Sieve) -> Request:
    asked = messages("filters/judge.j2", task=sieve.task, row=row, rubric=rubric())
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
    failed = [name for name, is_so in verdict.items() if not is_so]
    if 1 - len(failed) / len(verdict) >= least_score:
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
