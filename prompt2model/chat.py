"""OpenAI's chat protocol: what is sent for a request, and what a reply or an error means. No network in here."""

import json
import math
import re
import string
from collections.abc import Collection, Mapping
from dataclasses import replace
from typing import Any, Literal

from pydantic import BaseModel, ValidationError

from prompt2model.chat_troubles import Trouble, error_in_reply, refusal, start
from prompt2model.conversation import Message, Reply, Request
from prompt2model.ledger import most_tokens_in, most_tokens_out, thinks
from prompt2model.prompts import render
from prompt2model.schemas import is_strict

TOP_LOGPROBS = 20
"""Tokens of a place, as many as servers give at most; hence no more choices can be told apart."""

FENCED = re.compile(r"\A\s*```[a-z]*\n(.*?)\n?```\s*\Z", re.I | re.S)


BROKEN_OFF = ("error", "abort", "aborted", "cancelled", "canceled", "network_error", "insufficient_system_resource")
"""Of an answer that is half there; any other word is a good end in some server's tongue."""
ENDS: dict[Literal["", "length", "filtered"], tuple[str, ...]] = {
    "": BROKEN_OFF,
    "length": ("length", "max_tokens", "model_length", "max_output_tokens"),
    "filtered": ("content_filter", "safety", "recitation", "prohibited_content", "refusal", "sensitive"),
}


def body(request: Request, model: str, *, effort: str, refused: Collection[str], answers: int = 1) -> dict[str, Any]:
    """The request as the server takes it: without the parameters that it refused before.

    `effort` is how much a model that thinks first is asked to think; empty for one that does not. Several answers are
    drawn without a seed: servers have given them all the same one (https://github.com/ggml-org/llama.cpp/pull/18700).
    OpenAI's models that think are not told how to draw: they refuse it, and in a batch that takes a day to learn.
    A top_p of 1 is said too, for some servers have a lower one of their own; the few that refuse it are not told again.
    """
    newer = bool(effort) or "max_tokens" in refused
    is_drawn = effort in ("", "none") or not thinks(model)
    wanted = {
        "max_completion_tokens" if newer else "max_tokens": most_tokens_out(request, reasoning=bool(effort)),
        "temperature": request.temperature if is_drawn else None,
        "top_p": request.top_p if is_drawn else None,
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
    if status < 300 and (told := error_in_reply(content)):
        status = told
    return _read(content, request, sent) if status < 300 else refusal(status, headers, content, sent)


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
        return Trouble(reason, start(content), retry=True, may_be_paid=True)
    if not answer.choices:
        return Trouble("the reply holds no answer", start(content), retry=True, may_be_paid=True)
    read = [_reply(choice, request, sent) for choice in answer.choices[: sent.get("n", 1)]]
    if isinstance(read[0], Trouble) and len(read) == 1:
        return read[0]
    replies = [one if isinstance(one, Reply) else Reply(finish="failed", failure=one.reason) for one in read]
    first, *others = replies
    first = first.model_copy(update=_tokens(answer.usage, request, replies, sent))
    if not (request.choices or request.top_logprobs) or first.finish == "filtered":
        return [first, *others]
    told = answer.choices[0].logprobs
    if told is None or (isinstance(told, dict) and told.get("content") is None):
        return replace(_without_likelihoods(first.text), ends_all="likelihoods")
    likely = (_with_logprobs if request.choices else _with_places)(first, answer.choices[0], request)
    return likely if isinstance(likely, Trouble) else [likely]


def _reply(choice: "_Choice", request: Request, sent: Mapping[str, Any]) -> Reply | Trouble:
    finish, text = _finish(choice), _text(choice.message, request)
    if not finish:
        return Trouble(f"broken off ({choice.finish_reason})"[:60], text[:200], retry=True, may_be_paid=True)
    is_for_text = not (request.choices or request.top_logprobs or request.json_schema)  # which has a repair of its own
    if finish == "stop" and is_for_text and not text.strip():
        return Trouble("empty answer", f"finish_reason: {choice.finish_reason}"[:200], retry=True, may_be_paid=True)
    is_asked_in_text = request.json_schema and "response_format" not in sent
    return Reply(text=FENCED.sub(r"\1", text) if is_asked_in_text else text, finish=finish)


def _tokens(usage: Any, request: Request, replies: Collection[Reply], sent: Mapping[str, Any]) -> dict[str, int]:
    """What was read and written, by the names that a reply has for it. What a server does not tell counts at its most:
    a budget must not be passed for that. Some leave thoughts out of what was written, but not out of the total."""
    told = usage if isinstance(usage, dict) else {}
    read, written, total = (_count(told.get(f"{what}_tokens")) for what in ("prompt", "completion", "total"))
    details = told.get("prompt_tokens_details")
    cached = _count(details.get("cached_tokens")) if isinstance(details, dict) else 0
    limit = sent.get("max_completion_tokens") or sent.get("max_tokens") or request.max_tokens
    most = min(sum(len(reply.text.encode()) for reply in replies), limit * len(replies))
    return {
        "tokens_in": read or most_tokens_in(request),
        "tokens_out": max(written, total - read if read else 0) or most,
        "tokens_cached": min(cached, read),
    }


def _count(told: Any) -> int:
    return max(told, 0) if isinstance(told, int) else 0


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


class _Completion(BaseModel):
    """The part of a server's answer that is read. Servers differ in the rest, and many leave some out."""

    choices: list[_Choice] | None
    usage: Any = None


class _Token(BaseModel):
    token: str
    logprob: float


class _Position(BaseModel):
    token: str = ""
    top_logprobs: list[_Token]


class _Logprobs(BaseModel):
    content: list[_Position]


def _finish(choice: _Choice) -> Literal["", "stop", "length", "filtered"]:
    """How the answer ended, in the words of many servers; nothing where it broke off."""
    if choice.message.refusal:
        return "filtered"
    said = str(choice.finish_reason or "stop").lower()
    return next((known for known, words in ENDS.items() if said in words), "stop")


def _text(message: _Message, request: Request) -> str:
    """The text, cut where the request says stop: some servers refuse that parameter, and some ignore it."""
    content = message.content
    if isinstance(content, list):
        parts = [part.get("text") for part in content if isinstance(part, dict)]
        content = "".join(part for part in parts if isinstance(part, str))
    text = content if isinstance(content, str) else ""
    for stop in request.stop:
        text = text.partition(stop)[0]
    return text.encode("utf-8", "replace").decode()
