"""OpenAI's chat protocol: what is sent for a request, and what a reply or an error means. No network in here."""

import json
import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any, Literal

import openai
from pydantic import BaseModel, ValidationError

from prompt2model.ledger import most_tokens_in, most_tokens_out
from prompt2model.prompts import render
from prompt2model.records import Reply, Request

REASONING_EFFORT = "low"
"""Asked of models that think first: a row of training data is not worth a long thought."""

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
    ends_all: Literal["", "key", "access", "model", "quota"] = ""
    """What is missing when no request can succeed."""


def body(request: Request, model: str, *, reasoning: bool, refused: Collection[str]) -> dict[str, Any]:
    """The request as the server takes it: without the parameters that it refused before."""
    in_text = request.json_schema is not None and "response_format" in refused
    messages = [message.model_dump() for message in request.messages]
    if in_text:
        messages[-1]["content"] += "\n\n" + render("teachers/json_in_text.j2", schema=request.json_schema)
    newer = reasoning or "max_tokens" in refused
    wanted = {
        "max_completion_tokens" if newer else "max_tokens": most_tokens_out(request, reasoning=reasoning),
        "temperature": request.temperature,
        "top_p": request.top_p,
        "seed": request.seed,
        "stop": list(request.stop) or None,
        "reasoning_effort": REASONING_EFFORT if reasoning else None,
        "response_format": _response_format(request.json_schema) if request.json_schema else None,
    }
    kept = {name: value for name, value in wanted.items() if value is not None and name not in refused}
    return {"model": model, "messages": messages, **kept}


def read(content: bytes, request: Request, sent: Mapping[str, Any]) -> Reply | Trouble:
    """The reply in the server's answer to what was sent."""
    try:
        answer = _Completion.model_validate(json.loads(content))
    except (ValueError, RecursionError) as error:
        is_shape = isinstance(error, ValidationError)
        reason = "the reply holds no answer" if is_shape else "the reply is not JSON"
        return Trouble(reason, _start(content), retry=True, may_be_paid=True)
    if not answer.choices:
        return Trouble("the reply holds no answer", _start(content), retry=True, may_be_paid=True)
    finish, text = _finish(answer.choices[0]), _text(answer.choices[0].message, request)
    if finish == "stop" and "response_format" in sent and not _is_json(text):
        only_text = frozenset({"response_format"})
        return Trouble("the reply is not JSON", text[:200], retry=True, may_be_paid=True, refused=only_text)
    if request.json_schema and "response_format" not in sent:
        text = FENCED.sub(r"\1", text)
    usage = answer.usage or _Usage(prompt_tokens=most_tokens_in(request), completion_tokens=len(text.encode()))
    return Reply(text=text, finish=finish, tokens_in=usage.prompt_tokens, tokens_out=usage.completion_tokens)


def trouble(error: openai.APIError | TimeoutError, sent: Mapping[str, Any]) -> Trouble:
    """What an exception of the client means for the request that was sent."""
    if isinstance(error, openai.APIStatusError):
        return _status(error, sent)
    never_sent = "Connect" in type(error.__cause__).__name__
    cause = f"{type(error.__cause__ or error).__name__}: {error.__cause__ or error}"
    if never_sent:
        return Trouble("no connection", cause, retry=True, is_outage=True)
    timed_out = isinstance(error, TimeoutError | openai.APITimeoutError)
    reason = "timed out" if timed_out else "the connection broke"
    return Trouble(reason, cause, retry=True, is_outage=True, may_be_paid=True)


def _status(error: openai.APIStatusError, sent: Mapping[str, Any]) -> Trouble:
    status, text = error.status_code, _error_text(error)
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
            return Trouble(reason, text, retry=True, is_outage=True, wait_seconds=_wait(error))
        case _ if status >= 500:
            return Trouble(f"server error ({status})", text, retry=True, is_outage=True, wait_seconds=_wait(error))
    if refused := _refused(error.param, f"{text} {error.body}", sent):
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
    wanted = {"name": "answer", "schema": schema, "strict": _is_strict(schema)}
    return {"type": "json_schema", "json_schema": wanted}


def _is_strict(schema: Any) -> bool:
    """Whether OpenAI's strict mode takes it: every object lists all its properties as required and allows no other."""
    if isinstance(schema, list):
        return all(map(_is_strict, schema))
    if not isinstance(schema, dict):
        return True
    if schema.get("type") == "object":
        properties = schema.get("properties", {})
        if schema.get("additionalProperties") is not False or set(schema.get("required", ())) != set(properties):
            return False
    return all(map(_is_strict, schema.values()))


class _Message(BaseModel):
    content: Any = None
    refusal: Any = None


class _Choice(BaseModel):
    message: _Message
    finish_reason: Any = None


class _Usage(BaseModel):
    prompt_tokens: int = 0
    completion_tokens: int = 0


class _Completion(BaseModel):
    """The part of a server's answer that is read. Servers differ in the rest, and many leave some out."""

    choices: list[_Choice] | None
    usage: _Usage | None = None


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


def _is_json(text: str) -> bool:
    try:
        json.loads(text)
    except (ValueError, RecursionError):
        return False
    return True


def _error_text(error: openai.APIStatusError) -> str:
    message = error.body.get("message") if isinstance(error.body, dict) else None
    return message if isinstance(message, str) else error.message


def _wait(error: openai.APIStatusError) -> float:
    """Retry-After in seconds; RFC 9110 allows a number or a date."""
    value = error.response.headers.get("retry-after", "")
    if re.fullmatch(r"\d+(\.\d+)?", value.strip()):
        return float(value)
    try:
        when = parsedate_to_datetime(value)
    except ValueError:
        return 0.0
    return max((when.replace(tzinfo=when.tzinfo or UTC) - datetime.now(UTC)).total_seconds(), 0.0)


def _start(content: bytes) -> str:
    return content[:200].decode("utf-8", "replace")
