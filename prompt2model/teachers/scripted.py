"""Answers written beforehand: a queue, a function, or a file. For tests, and for trying a pipeline without a model.

In Python: `Scripted(["an answer", [-0.1, -2.3], Reply(finish="length", text="cut")])` or `Scripted(lambda request: …)`.
From a shell: `--teacher scripted:answers.jsonl`, where a line is

    "an answer"                                     taken in turn
    [-0.1, -2.3]                                    log-likelihoods of the request's choices, taken in turn
    {"text": "…", "finish": "length"}               a whole reply, taken in turn
    {"contains": "invoice", "text": "billing"}      the reply to every request whose last message has that text in it

Replies found by `contains` do not depend on the order of the requests, so that a resumed run gets the same ones.
"""

import hashlib
import json
import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

from pydantic import Field, TypeAdapter, ValidationError

from prompt2model.config import Settings
from prompt2model.conversation import Reply, Request
from prompt2model.errors import TeacherError
from prompt2model.ledger import prompt_text

DECIDING = ()
WHITE_BOX = ()


class Options(Settings):
    """How the answers are handed on."""

    group_size: int = Field(1, gt=0, description="Replies handed on together.")


Answer = str | Sequence[float] | Reply
"""A text (for a request with choices: the one that is certain), the choices' log-likelihoods, or a whole reply."""

IN_TURN = 'Answers are taken in the order of the requests; {"contains": …} binds one to its request.'
CERTAIN = 0.999
"""The probability of a choice that is given by name."""


def connect(model: str, **options: Any) -> "Scripted":
    """A teacher that answers from the lines of a JSONL file. Raises TeacherError when the file cannot be read."""
    path = Path(model)
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise TeacherError(
            f"The answers {model!r} cannot be read: {error}.",
            hint="Name a JSONL file: --teacher scripted:answers.jsonl",
        ) from error
    lines = [_line(path, number, line) for number, line in enumerate(text.split("\n"), 1) if line.strip()]
    fixed = [(contains, answer) for contains, answer in lines if contains]
    queue = iter([answer for contains, answer in lines if not contains])
    digest = hashlib.sha256(text.encode()).hexdigest()[:16]
    return Scripted(
        lambda request: _find(fixed, queue, request), name=f"scripted:{model}", identity=f"scripted:{digest}", **options
    )


class Scripted:
    """A teacher that says what it was told to say. `asked` holds the requests that reached it."""

    is_local = True

    def __init__(
        self,
        answers: Iterable[Answer] | Callable[[Request], Answer],
        *,
        name: str = "scripted",
        identity: str = "",
        can: Iterable[str] = ("text", "json_schema", "logprobs"),
        group_size: int = 1,
    ) -> None:
        """`group_size` replies are handed on together, as the batches of a local model are."""
        self.name, self.identity, self.can = name, identity or name, frozenset(can)
        self.asked: list[Request] = []
        self._group_size = group_size
        self._answer = answers if callable(answers) else _queue(answers)

    def answer(self, requests: Iterable[Request]) -> Iterator[list[tuple[int, Reply]]]:
        """Raises TeacherError when the queue runs dry."""
        numbered = list(enumerate(requests))
        for start in range(0, len(numbered), self._group_size):
            yield [(index, self._reply(request)) for index, request in numbered[start : start + self._group_size]]

    def _reply(self, request: Request) -> Reply:
        self.asked.append(request)
        answer = self._answer(request)
        if isinstance(answer, Reply):
            return answer
        tokens_in = len(prompt_text(request).split())
        if request.choices:
            return Reply(logprobs=_logprobs(answer, request.choices), tokens_in=tokens_in)
        if not isinstance(answer, str):
            raise TeacherError(
                f"The script gives likelihoods ({answer!r}) to a request that asks for a text.", hint=IN_TURN
            )
        return Reply(text=answer, tokens_in=tokens_in, tokens_out=len(answer.split()))


def _queue(answers: Iterable[Answer]) -> Callable[[Request], Answer]:
    queue = iter(answers)
    return lambda request: _next(queue, request)


def _next(queue: Iterator[Answer], request: Request) -> Answer:
    for answer in queue:
        return answer
    raise TeacherError(
        f"The script has no answer left for the request {prompt_text(request).strip()[-80:]!r}.",
        hint="Add answers, or give a function of the request.",
    )


def _logprobs(answer: str | Sequence[float], choices: tuple[str, ...]) -> tuple[float, ...]:
    if isinstance(answer, str):
        if answer not in choices:
            raise TeacherError(f"The script answers {answer!r}, which is none of {', '.join(choices)}.", hint=IN_TURN)
        rest = math.log((1 - CERTAIN) / max(len(choices) - 1, 1))
        return tuple(math.log(CERTAIN) if choice == answer else rest for choice in choices)
    if len(answer) != len(choices):
        raise TeacherError(f"The script gives {len(answer)} likelihoods for {len(choices)} choices.", hint=IN_TURN)
    return tuple(answer)


def _line(path: Path, number: int, line: str) -> tuple[str, Answer]:
    """What the request must contain ("" for a place in the queue), and the answer."""
    try:
        value = json.loads(line)
        contains = value.pop("contains", "") if isinstance(value, dict) else ""
        return contains, TypeAdapter[Answer](str | tuple[float, ...] | Reply).validate_python(value)
    except (json.JSONDecodeError, ValidationError) as error:
        raise TeacherError(
            f"Line {number} of {path} is no answer: {line[:80]!r}.",
            hint='A line is "a text", [log-likelihoods], or {"contains": "…", "text": "…"}.',
        ) from error


def _find(fixed: list[tuple[str, Answer]], queue: Iterator[Answer], request: Request) -> Answer:
    last = request.messages[-1].content if request.messages else ""
    for contains, answer in fixed:
        if contains in last:
            return answer
    return _next(queue, request)
