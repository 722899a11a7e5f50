"""OpenAI's chat protocol: what is sent for a request, and what a reply or an error means. No network in here."""

import json
import math
import re
import string
from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any, Literal

from pydantic import BaseModel, ValidationError

from prompt2model.conversation import Message, Reply, Request
from prompt2model.ledger import most_tokens_in, most_tokens_out
from prompt2model.prompts import render
from prompt2model.schemas import is_strict

TOP_LOGPROBS = 20
"""Tokens of a place, as many as servers give at most; hence no more choices can be told apart."""

OPTIONAL = ("max_tokens", "temperature", "top_p", "seed", "stop", "reasoning_effort")
"""Parameters that some servers refuse and a request can do without; max_completion_tokens replaces max_tokens."""

REFUSED = re.compile(
    r"unsupported|not support|unrecogni|unknown|unexpected|not permitted|not allowed|extra|only the def", re.I
)
NO_SCHEMA = re.compile(r"response_format|json_schema|schema|structured output|grammar", re.I)
TOO_LONG = re.compile(r"context.{0,10}length|too long|maximum context|too many tokens", re.I)
FENCED = re.compile(r"\A\s*```[a-z]*\n(.*?)\n?```\s*\Z", re.I | re.S)


@dataclass(frozen=True)
class Trouble:
    """Why a request was not answered this time."""

    reason: str
    """A few words, the same for all requests that fail for this reason."""
    detail: str = ""
    retry: bool = False
    is_outage: bool = False
    """The server's state, not this request, is the reason."""
    may_be_paid: bool = False
    """The server may have written an answer that did not arrive whole."""
    wait_seconds: float = 0.0
    """As long as the server asked to be left alone."""
    refused: frozenset[str] = frozenset()
    """Parameters to leave out from now on; without them the request is sent again at once."""
    ends_all: Literal["", "key", "access", "model", "quota", "likelihoods"] = ""
    """What is missing when no request can succeed."""


def body(request: Request, model: str, *, effort: str, refused: Collection[str], answers: int = 1) -> dict[str, Any]:
    """The request as the server takes it: without the parameters that it refused before.

    `effort` is how much a model that thinks first is asked to think; empty for one that does not. Several answers are
    drawn without a seed: servers have given them all the same one (https://github.com/ggml-org/llama.cpp/pull/18700).
    """
    newer = bool(effort) or "max_tokens" in refused
    wanted = {
        "max_completion_tokens" if newer else "max_tokens": most_tokens_out(request, reasoning=bool(effort)),
        "temperature": request.temperature,
        "top_p": request.top_p,
        "seed": request.seed if answers == 1 else None,
        "n": answers if answers > 1 else None,
        "stop": list(request.stop) or None,
        "reasoning_effort": effort or None,
        "response_format": _response_format(request.json_schema) if request.json_schema else None,
        "logprobs": True if request.choices or request.top_logprobs else None,
        "top_logprobs": TOP_LOGPROBS if request.choices else request.top_logprobs or None,
    }
    kept = {name: value for name, value in wanted.items() if value is not None and name not in refused}
    return {"model": model, "messages": _messages(request, "response_format" in refused), **kept}


def repair(request: Request, answer: str, misfit: str) -> Request:
    """The request with the answer that does not fit its schema, and what is wrong with it."""
    again = render("teachers/repair.j2", misfit=misfit[:200])
    turns = (Message(role="assistant", content=answer), Message(role="user", content=again))
    return request.model_copy(update={"messages": (*request.messages, *turns)})


def unfit(reply: Reply) -> Reply:
    """The reply as one that failed, for it does not fit its schema: it is counted by that reason and not kept, so that
    it is asked for again in another run. The text stays, for whoever can make something of it."""
    return Reply(text=reply.text, finish="failed", failure="the answer does not fit its schema")


def answered(
    status: int, headers: Mapping[str, str], content: bytes, request: Request, sent: Mapping[str, Any]
) -> list[Reply] | Trouble:
    """What the server's answer means for the request that was sent: one reply, or up to as many as were asked for.

    The first bears the tokens of all: the prompt was read once.
    """
    return _read(content, request, sent) if status < 300 else _refusal(status, headers, content, sent)


def _messages(request: Request, in_text: bool) -> list[dict[str, Any]]:
    """The conversation; a schema that the server does not take, and choices, are put into words at its end.

    The beginning of an answer, on which the likelihoods of a local model would be conditioned, gives way to letters.
    """
    turns = request.messages[:-1] if request.choices and request.continues else request.messages
    messages = [message.model_dump() for message in turns]
    if in_text and request.json_schema is not None:
        messages[-1]["content"] += "\n\n" + render("teachers/json_in_text.j2", schema=request.json_schema)
    if request.choices:
        lettered = list(zip(string.ascii_uppercase, request.choices, strict=False))
        messages[-1]["content"] += "\n\n" + render("teachers/choose.j2", lettered=lettered)
    return messages


def _read(content: bytes, request: Request, sent: Mapping[str, Any]) -> list[Reply] | Trouble:
    try:
        answer = _Completion.model_validate(json.loads(content))
    except (ValueError, RecursionError) as error:
        is_shape = isinstance(error, ValidationError)
        reason = "the reply holds no answer" if is_shape else "the reply is not JSON"
        return Trouble(reason, _start(content), retry=True, may_be_paid=True)
    if not answer.choices:
        return Trouble("the reply holds no answer", _start(content), retry=True, may_be_paid=True)
    replies = [_reply(choice, request, sent) for choice in answer.choices[: sent.get("n", 1)]]
    first, *others = replies
    most_out = sum(len(reply.text.encode()) for reply in replies)
    usage = answer.usage or _Usage(prompt_tokens=most_tokens_in(request), completion_tokens=most_out)
    first = first.model_copy(update=usage.tokens())
    if not (request.choices or request.top_logprobs) or first.finish == "filtered":
        return [first, *others]
    told = answer.choices[0].logprobs
    if told is None or (isinstance(told, dict) and told.get("content") is None):
        return replace(_without_likelihoods(first.text), ends_all="likelihoods")
    likely = (_with_logprobs if request.choices else _with_places)(first, answer.choices[0], request)
    return likely if isinstance(likely, Trouble) else [likely]


def _reply(choice: "_Choice", request: Request, sent: Mapping[str, Any]) -> Reply:
    text = _text(choice.message, request)
    is_asked_in_text = request.json_schema and "response_format" not in sent
    return Reply(text=FENCED.sub(r"\1", text) if is_asked_in_text else text, finish=_finish(choice))


def _with_logprobs(reply: Reply, choice: "_Choice", request: Request) -> Reply | Trouble:
    """The likelihood of each choice by its letter: a letter is one token, so no choice begins as another does."""
    try:
        first = _Logprobs.model_validate(choice.logprobs).content[0].top_logprobs
    except (ValidationError, IndexError):
        return _without_likelihoods(str(choice.logprobs))
    seen: dict[str, float] = {}
    for one in first:
        letter = one.token.strip().upper()
        seen[letter] = seen.get(letter, 0.0) + math.exp(one.logprob)
    least = min((one.logprob for one in first), default=0.0)
    letters = string.ascii_uppercase[: len(request.choices)]
    if not seen.keys() & set(letters):
        return _without_likelihoods(f"The answer began with {list(seen)[:5]}.")
    # A letter that is not among the likeliest tokens is less likely than the least of them.
    logprobs = tuple(math.log(seen[letter]) if seen.get(letter) else least for letter in letters)
    best = max(range(len(letters)), key=logprobs.__getitem__)
    return reply.model_copy(update={"text": request.choices[best], "logprobs": logprobs, "finish": "stop"})


def _with_places(reply: Reply, choice: "_Choice", request: Request) -> Reply | Trouble:
    """The likeliest tokens of each place. Of those that no text tells apart, as halves of a character, the first."""
    try:
        told = _Logprobs.model_validate(choice.logprobs).content
    except ValidationError:
        return _without_likelihoods(str(choice.logprobs))
    most = request.top_logprobs
    places = [(one.token, {top.token: top.logprob for top in one.top_logprobs[:most][::-1]}) for one in told]
    return reply.model_copy(update={"top_logprobs": tuple(places)})


def _without_likelihoods(detail: str) -> Trouble:
    return Trouble("the reply holds no likelihoods", detail[:200], may_be_paid=True)


def _refusal(status: int, headers: Mapping[str, str], content: bytes, sent: Mapping[str, Any]) -> Trouble:
    error = _error(content)
    text, wait = error.message, _wait(headers)
    if error.code == "insufficient_quota":
        return Trouble("no credit left (429)", text, ends_all="quota")
    match status:
        case 401:
            return Trouble("the key is refused (401)", text, ends_all="key")
        case 403:
            return Trouble("access is refused (403)", text, ends_all="access")
        case 404:
            return Trouble("no such model (404)", text, ends_all="model")
        case 408 | 409 | 429:
            reason = {408: "timed out (408)", 409: "conflict (409)", 429: "rate limited (429)"}[status]
            return Trouble(reason, text, retry=True, is_outage=True, wait_seconds=wait)
        case _ if status >= 500:
            return Trouble(f"server error ({status})", text, retry=True, is_outage=True, wait_seconds=wait)
    if refused := _refused(error.param, f"{text} {_start(content, 2000)}", sent):
        return Trouble(f"refused ({status})", text, retry=True, refused=refused)
    return Trouble(f"the prompt is too long ({status})" if TOO_LONG.search(text) else f"refused ({status})", text)


def _refused(param: str | None, text: str, sent: Mapping[str, Any]) -> frozenset[str]:
    """Which of the parameters that were sent the server does not take."""
    if "response_format" in sent and not TOO_LONG.search(text) and NO_SCHEMA.search(f"{param} {text}"):
        return frozenset({"response_format"})
    if not REFUSED.search(text):
        return frozenset()
    named = [param] if param else [name for name in OPTIONAL if re.search(rf"\b{name}\b", text)]
    return frozenset(name for name in named if name in OPTIONAL and name in sent)


def _response_format(schema: dict[str, Any]) -> dict[str, Any]:
    wanted = {"name": "answer", "schema": schema, "strict": is_strict(schema)}
    return {"type": "json_schema", "json_schema": wanted}


class _Message(BaseModel):
    content: Any = None
    refusal: Any = None


class _Choice(BaseModel):
    message: _Message
    finish_reason: Any = None
    logprobs: Any = None


class _Usage(BaseModel):
    prompt_tokens: int = 0
    completion_tokens: int = 0
    prompt_tokens_details: Any = None

    def tokens(self) -> dict[str, int]:
        """By their names in a reply."""
        details = self.prompt_tokens_details if isinstance(self.prompt_tokens_details, dict) else {}
        told = details.get("cached_tokens")
        cached = min(max(told, 0), self.prompt_tokens) if isinstance(told, int) else 0
        return {"tokens_in": self.prompt_tokens, "tokens_out": self.completion_tokens, "tokens_cached": cached}


class _Completion(BaseModel):
    """The part of a server's answer that is read. Servers differ in the rest, and many leave some out."""

    choices: list[_Choice] | None
    usage: _Usage | None = None


class _Token(BaseModel):
    token: str
    logprob: float


class _Position(BaseModel):
    token: str = ""
    top_logprobs: list[_Token]


class _Logprobs(BaseModel):
    content: list[_Position]


@dataclass(frozen=True)
class _Error:
    message: str
    param: str | None = None
    code: str | None = None


def _error(content: bytes) -> _Error:
    """What a refusal says, in OpenAI's form, {"error": {"message": …}}, or in any other."""
    try:
        said = json.loads(content)
    except (ValueError, RecursionError):
        return _Error(_start(content))
    inner = said.get("error", said) if isinstance(said, dict) else said
    if not isinstance(inner, dict):
        return _Error(str(inner)[:2000])
    message, param, code = (inner.get(name) for name in ("message", "param", "code"))
    return _Error(
        message if isinstance(message, str) else json.dumps(inner)[:2000],
        param if isinstance(param, str) else None,
        code if isinstance(code, str) else None,
    )


def _finish(choice: _Choice) -> Literal["stop", "length", "filtered"]:
    if choice.finish_reason == "content_filter" or choice.message.refusal:
        return "filtered"
    return "length" if choice.finish_reason == "length" else "stop"


def _text(message: _Message, request: Request) -> str:
    """The text, cut where the request says stop: some servers refuse that parameter, and some ignore it."""
    content = message.content
    if isinstance(content, list):
        content = "".join(part.get("text") or "" for part in content if isinstance(part, dict))
    text = content if isinstance(content, str) else ""
    for stop in request.stop:
        text = text.partition(stop)[0]
    return text.encode("utf-8", "replace").decode()


def _wait(headers: Mapping[str, str]) -> float:
    """Retry-After in seconds; RFC 9110 allows a number or a date, and some servers say it in milliseconds as well."""
    exact = headers.get("retry-after-ms", "").strip()
    if re.fullmatch(r"\d+(\.\d+)?", exact):
        return float(exact) / 1000
    value = headers.get("retry-after", "").strip()
    if re.fullmatch(r"\d+(\.\d+)?", value):
        return float(value)
    try:
        when = parsedate_to_datetime(value)
    except ValueError:
        return 0.0
    return max((when.replace(tzinfo=when.tzinfo or UTC) - datetime.now(UTC)).total_seconds(), 0.0)


def _start(content: bytes, length: int = 200) -> str:
    return content[:length].decode("utf-8", "replace")
