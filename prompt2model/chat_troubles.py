"""What a server of OpenAI's chat protocol means that does not answer: whether to ask again, when, and without what."""

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any, Literal

from prompt2model.pace import seconds

OPTIONAL = ("max_tokens", "temperature", "top_p", "seed", "stop", "reasoning_effort")
"""Parameters that some servers refuse and a request can do without; max_completion_tokens replaces max_tokens."""

REFUSED = re.compile(
    r"unsupported|not support|unrecogni|unknown|unexpected|not permitted|not allowed|extra|only the def|deprecated"
    r"|cannot both|not both|only one of|top_p\W{1,3}must be",
    re.I,
)
NOT_BOTH = re.compile(r"cannot both|not both|only one", re.I)
NO_CREDIT = re.compile(
    r"credit balance|insufficient[ _](?:credit|balance|quota|fund)|billing[ _](?:not_active|hard)", re.I
)
FLAGGED = re.compile(r"moderation|flagged|content.{0,10}(?:policy|filter)", re.I)
"""An input that a provider will not have read, which says nothing of others."""
SAID_WAIT = re.compile(r"(?:try again in |retryDelay\W+)((?:\d+(?:\.\d+)?(?:h|ms|m|s))+)\b", re.I)
NO_SCHEMA = re.compile(r"response_format|json_schema|schema|structured output|grammar", re.I)
TOO_LONG = re.compile(r"context.{0,10}length|too long|maximum context|too many tokens", re.I)
TIMED_OUT = (408, 504, 524)
"""Who passed the request on did not wait for the answer, which may be written and billed all the same."""


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
    is_limit: bool = False
    """The server is up, and asks for fewer requests a minute."""
    ends_all: Literal["", "key", "access", "model", "quota", "likelihoods"] = ""
    """What is missing when no request can succeed."""


def error_in_reply(content: bytes) -> int:
    """The status that an error has which comes as if all were well, as through some routers; 0 where there is none."""
    if b'"error"' not in content:
        return 0
    try:
        said = json.loads(content)
    except (ValueError, RecursionError):
        return 0
    if not isinstance(said, dict) or not said.get("error") or said.get("choices"):
        return 0
    code = said["error"].get("code") if isinstance(said["error"], dict) else None
    return code if isinstance(code, int) and 400 <= code < 600 else 500


def refusal(status: int, headers: Mapping[str, str], content: bytes, sent: Mapping[str, Any]) -> Trouble:
    """What it means that the server answers with this status, from 400 on, to the parameters that were sent."""
    error = _error(content)
    text, wait = error.message, _wait(headers) or _said_wait(content)
    said = f"{error.code} {text}" if status in (400, 403, 429) and not error.is_dumped else str(error.code)
    if status == 402 or NO_CREDIT.search(said):
        return Trouble(f"no credit left ({status})", text, ends_all="quota")
    match status:
        case 403 if FLAGGED.search(start(content)):
            return Trouble("the input is not let through (403)", text)
        case 401:
            return Trouble("the key is refused (401)", text, ends_all="key")
        case 403:
            return Trouble("access is refused (403)", text, ends_all="access")
        case 404:
            return Trouble("no such model (404)", text, ends_all="model")
        case 408 | 409 | 429:
            reason = {408: "timed out (408)", 409: "conflict (409)", 429: "rate limited (429)"}[status]
            return replace(_outage(status, reason, text, wait), is_limit=status == 429)
        case _ if status >= 500:
            return _outage(status, f"server error ({status})", text, wait)
    if refused := _refused(error.param, f"{text} {start(content)}", sent):
        return Trouble(f"refused ({status})", text, retry=True, refused=refused)
    return Trouble(f"the prompt is too long ({status})" if TOO_LONG.search(text) else f"refused ({status})", text)


def _outage(status: int, reason: str, text: str, wait_seconds: float) -> Trouble:
    is_lost = status in TIMED_OUT
    return Trouble(reason, text, retry=True, is_outage=True, may_be_paid=is_lost, wait_seconds=wait_seconds)


def _refused(param: str | None, text: str, sent: Mapping[str, Any]) -> frozenset[str]:
    """Which of the parameters that were sent the server does not take."""
    if "response_format" in sent and not TOO_LONG.search(text) and NO_SCHEMA.search(f"{param} {text}"):
        return frozenset({"response_format"})
    if not REFUSED.search(text):
        return frozenset()
    named = [param] if param else [name for name in OPTIONAL if re.search(rf"\b{name}\b", text)]
    if len(named) > 1 and NOT_BOTH.search(text):
        named = named[-1:]  # of temperature and top_p, which usually is 1
    return frozenset(name for name in named if name in OPTIONAL and name in sent)


@dataclass(frozen=True)
class _Error:
    message: str
    param: str | None = None
    code: str | None = None
    is_dumped: bool = False
    """It is in no form that is known: the message is all that was said, perhaps the input too."""


def _error(content: bytes) -> _Error:
    """What a refusal says, in OpenAI's form, {"error": {"message": …}}, or in any other."""
    try:
        said = json.loads(content)
    except (ValueError, RecursionError):
        return _Error(start(content))
    inner = said.get("error", said) if isinstance(said, dict) else said
    if not isinstance(inner, dict):
        return _Error(str(inner)[:2000])
    message, param, code = (inner.get(name) for name in ("message", "param", "code"))
    return _Error(
        message if isinstance(message, str) else json.dumps(inner)[:2000],
        param if isinstance(param, str) else None,
        code if isinstance(code, str) else None,
        is_dumped=not isinstance(message, str),
    )


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
    except (ValueError, OverflowError):
        return 0.0
    return max((when.replace(tzinfo=when.tzinfo or UTC) - datetime.now(UTC)).total_seconds(), 0.0)


def _said_wait(content: bytes) -> float:
    """The seconds to wait that some servers tell in words alone."""
    said = SAID_WAIT.search(start(content))
    return (said and seconds(said[1].lower())) or 0.0


def start(content: bytes) -> str:
    """To be cut further by whoever shows it, when no half of a key can be left by that."""
    return content[:2000].decode("utf-8", "replace")
