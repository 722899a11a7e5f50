"""Servers that speak OpenAI's chat protocol: OpenAI itself, and every compatible one by its address."""

import asyncio
import json
import logging
import os
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from queue import Empty, SimpleQueue
from threading import Thread
from typing import Any
from urllib.parse import urlsplit
from urllib.request import getproxies, proxy_bypass

import aiohttp

from prompt2model import chat
from prompt2model.chat import Trouble
from prompt2model.errors import ConfigError, TeacherError
from prompt2model.ledger import MOST_PAID_ATTEMPTS, most_tokens_in, most_tokens_out, price
from prompt2model.pace import FIRST, Pace, Window
from prompt2model.patience import Health, Options
from prompt2model.records import Reply, Request
from prompt2model.registry import did_you_mean
from prompt2model.schemas import misfit
from prompt2model.teachers import OPENAI_MODEL

OFFICIAL = "https://api.openai.com/v1"
LOOK_UP_SECONDS = 15.0
IDLE_SECONDS = 4.0
"""An idle connection is closed before the server does it, just as the next request is sent."""
MOST_AT_ONCE = 256
"""Replies handed on together, at most: they are kept in one transaction."""

logger = logging.getLogger(__name__)


def connect(model: str, *, url: str = "", **options: Any) -> "Chat":
    """A model behind a server; with no name, the server's only model. `options` are those of `patience.Options`.

    The address is `url`, else OPENAI_BASE_URL, else OpenAI's own; the key is OPENAI_API_KEY, which only OpenAI's own
    server must have. Raises ConfigError for an address that cannot be used, TeacherError when the key is missing.
    """
    address = check_address(url or os.environ.get("OPENAI_BASE_URL", "").strip() or OFFICIAL)
    key = _key(address)
    model = model or _only_model(address, key)
    return Chat(f"{address}#{model}" if url else f"openai:{model}", model, address, key, Options(**options))


class Chat:
    """A model that answers over HTTP, many requests at a time."""

    is_local = False

    def __init__(self, name: str, model: str, address: str, key: str, options: Options) -> None:
        known = price(name)
        self._effort = options.reasoning_effort if known and known.reasoning else ""
        self.name = name
        self.identity = " ".join(filter(None, (f"{address}#{model}", self._effort)))
        self.can = frozenset({"text", "json_schema", *(["logprobs"] if options.logprobs else [])})
        self._model, self._address, self._key, self._options = model, address, key, options
        self._refused: frozenset[str] = frozenset()
        self._pace = Pace(options.requests_per_minute, options.tokens_per_minute)
        self._width = FIRST

    def answer(self, requests: Iterable[Request]) -> Iterator[list[tuple[int, Reply]]]:
        """Replies as they come, those together that came together. A request is taken when there is room for it.

        Raises TeacherError when the server refuses all, or is out for too long.
        """
        arrived: SimpleQueue[tuple[int, Reply] | None] = SimpleQueue()
        window = Window(self._options.concurrency, self._width)
        with _event_loop() as loop:
            work = asyncio.run_coroutine_threadsafe(self._ask_all(requests, window, arrived.put), loop)
            work.add_done_callback(lambda _: arrived.put(None))
            for group in _groups(arrived):
                yield group
                loop.call_soon_threadsafe(window.leave, len(group))
            self._width = window.size
            work.result()

    def _check(self, request: Request) -> None:
        if not request.choices and not request.continues:
            return
        if request.continues and not request.choices:
            what = "it continues no text: it can only answer"
        elif "logprobs" not in self.can:
            what = "it gives no likelihoods, or nobody has said so (teacher_options.logprobs=true)"
        elif len(request.choices) > chat.TOP_LOGPROBS:
            what = f"it tells {len(request.choices)} choices not apart: {chat.TOP_LOGPROBS} are the most"
        else:
            return
        raise TeacherError(
            f"{self.name} cannot be asked that: {what}.",
            hint="A local teacher can: --teacher transformers:HuggingFaceTB/SmolLM2-135M-Instruct",
        )

    async def _ask_all(
        self, requests: Iterable[Request], window: Window, put: Callable[[tuple[int, Reply]], None]
    ) -> None:
        """Every request under way or not yet taken by the caller holds a place: little is lost by a kill."""
        waiting, health = iter(enumerate(requests)), Health(self.name, self._options)
        try:
            async with self._session() as session, asyncio.TaskGroup() as tasks:
                watch = tasks.create_task(health.watch())
                under_way: set[asyncio.Task[None]] = set()
                while await _enter(window) and (numbered := next(waiting, None)):
                    self._check(numbered[1])
                    asked = tasks.create_task(self._answer(session, *numbered, window, health, put))
                    under_way.add(asked)
                    asked.add_done_callback(under_way.discard)
                await asyncio.gather(*under_way)
                watch.cancel()
                health.ended()
        except BaseExceptionGroup as group:
            raise group.exceptions[0] from None

    async def _answer(
        self,
        session: aiohttp.ClientSession,
        index: int,
        request: Request,
        window: Window,
        health: Health,
        put: Callable[[tuple[int, Reply]], None],
    ) -> None:
        with health.asking():
            put((index, await self._ask(session, request, window, health)))

    def _session(self) -> aiohttp.ClientSession:
        return aiohttp.ClientSession(
            headers={"Authorization": f"Bearer {self._key}", "Content-Type": "application/json"},
            connector=aiohttp.TCPConnector(limit=0, keepalive_timeout=IDLE_SECONDS),
            timeout=aiohttp.ClientTimeout(total=self._options.timeout_seconds),
            proxy=_proxy(self._address),
        )

    async def _ask(self, session: aiohttp.ClientSession, request: Request, window: Window, health: Health) -> Reply:
        """The reply after as many attempts as it takes, or a failed one that says why."""
        began, attempts, unheard = 0.0, 0, 0
        while True:
            await health.pause()
            outcome = await self._paced(session, request, window)
            began = began or time.monotonic()
            if isinstance(outcome, Reply):
                health.succeeded()
                fitting = outcome if unheard else await self._fitting(session, request, outcome, window)
                return self._with_unheard(fitting, request, unheard)
            if outcome.ends_all:
                raise await self._end(session, outcome)
            attempts, unheard = attempts + (not outcome.refused), unheard + outcome.may_be_paid
            seconds = health.seconds_until_retry(outcome, attempts)
            is_late = time.monotonic() - began + seconds > self._options.patience_seconds
            if not outcome.retry or attempts >= self._options.attempts or unheard >= MOST_PAID_ATTEMPTS or is_late:
                health.failed(outcome)
                return self._with_unheard(Reply(finish="failed", failure=outcome.reason), request, unheard)
            await asyncio.sleep(seconds)

    async def _fitting(self, session: aiohttp.ClientSession, request: Request, reply: Reply, window: Window) -> Reply:
        """The reply, or where it does not fit the schema that of one further attempt, told what is wrong."""
        wrong = misfit(reply.text, request.json_schema) if request.json_schema and reply.finish == "stop" else ""
        if not wrong:
            return reply
        again = chat.repair(request, reply.text, wrong)
        repaired = await self._paced(session, again, window)
        if isinstance(repaired, Trouble):
            return self._with_unheard(reply, again, int(repaired.may_be_paid))
        tokens_in, tokens_out = reply.tokens_in + repaired.tokens_in, reply.tokens_out + repaired.tokens_out
        return repaired.model_copy(update={"tokens_in": tokens_in, "tokens_out": tokens_out})

    def _with_unheard(self, reply: Reply, request: Request, unheard: int) -> Reply:
        """With the tokens of attempts whose answer was lost, at their most: they may be on the bill."""
        if not unheard:
            return reply
        tokens_in = reply.tokens_in + unheard * most_tokens_in(request)
        tokens_out = reply.tokens_out + unheard * most_tokens_out(request, reasoning=bool(self._effort))
        return reply.model_copy(update={"tokens_in": tokens_in, "tokens_out": tokens_out})

    async def _paced(self, session: aiohttp.ClientSession, request: Request, window: Window) -> Reply | Trouble:
        """One attempt, sent when the rate allows it."""
        tokens = guess_tokens(request)
        if (seconds := self._pace.take(tokens)) > 0:
            window.waited()
            await asyncio.sleep(seconds)
        outcome = await self._once(session, request)
        self._pace.settle(tokens, outcome.tokens_in + outcome.tokens_out if isinstance(outcome, Reply) else tokens)
        window.answered(refused=isinstance(outcome, Trouble) and outcome.is_outage)
        return outcome

    async def _once(self, session: aiohttp.ClientSession, request: Request) -> Reply | Trouble:
        sent = chat.body(request, self._model, effort=self._effort, refused=self._refused)
        try:
            async with session.post(f"{self._address}/chat/completions", data=json.dumps(sent).encode()) as response:
                content = await response.read()
                self._pace.told(response.headers)
                outcome = chat.answered(response.status, response.headers, content, request, sent)
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            outcome = _unanswered(error)
        if isinstance(outcome, Reply):
            return outcome
        self._leave_out(outcome.refused)
        outcome = replace(outcome, detail=self._without_key(outcome.detail))
        logger.debug("%s: %s: %s", self.name, outcome.reason, outcome.detail)
        return outcome

    def _leave_out(self, refused: frozenset[str]) -> None:
        """Remember what the server does not take, so that it is asked without from now on."""
        if new := refused - self._refused:
            self._refused |= new
            logger.warning("%s does not take %s; it is asked without.", self.name, ", ".join(sorted(new)))

    async def _end(self, session: aiohttp.ClientSession, trouble: Trouble) -> TeacherError:
        hints = {
            "key": "Is OPENAI_API_KEY set, and is it the key of this server?",
            "access": "The key may not use this model, or not from here.",
            "quota": "Add credit to the account that OPENAI_API_KEY belongs to.",
        }
        hint = hints.get(trouble.ends_all) or await self._other_models(session)
        return TeacherError(f"{self.name} cannot be asked, {trouble.reason}: {trouble.detail[:300]}", hint=hint)

    async def _other_models(self, session: aiohttp.ClientSession) -> str:
        try:
            return did_you_mean(self._model, await _models(session, self._address))
        except (aiohttp.ClientError, TimeoutError, OSError, ValueError, TypeError, KeyError):
            return f"Does the address end as the server wants it? {self._address} was asked; most end in /v1."

    def _without_key(self, text: str) -> str:
        return text.replace(self._key, "[key]") if len(self._key) > 4 else text


def guess_tokens(request: Request) -> int:
    """About how many tokens a request takes, as a server reckons that has not answered it yet."""
    return sum(len(message.content) for message in request.messages) // 4 + request.max_tokens


async def _enter(window: Window) -> bool:
    await window.enter()
    return True


def _groups(arrived: "SimpleQueue[tuple[int, Reply] | None]") -> Iterator[list[tuple[int, Reply]]]:
    """What has arrived by the time it is asked for, until the end is announced."""
    while (first := arrived.get()) is not None:
        group = [first]
        try:
            while len(group) < MOST_AT_ONCE:
                if (further := arrived.get_nowait()) is None:
                    arrived.put(None)
                    break
                group.append(further)
        except Empty:
            pass
        yield group


def _unanswered(error: Exception) -> Trouble:
    """What it means that no whole answer came."""
    cause = f"{type(error).__name__}: {error}"
    if isinstance(error, TimeoutError):
        return Trouble("timed out", cause, retry=True, is_outage=True, may_be_paid=True)
    if isinstance(error, aiohttp.ClientConnectorError):
        return Trouble("no connection", cause, retry=True, is_outage=True)
    return Trouble("the connection broke", cause, retry=True, is_outage=True, may_be_paid=True)


@contextmanager
def _event_loop() -> Iterator[asyncio.AbstractEventLoop]:
    """An event loop in a thread of its own: it also works where one is running already, as in a notebook."""
    loop = asyncio.new_event_loop()
    thread = Thread(target=loop.run_forever, name="teacher", daemon=True)
    thread.start()
    try:
        yield loop
    finally:
        asyncio.run_coroutine_threadsafe(_cancel_others(), loop).result()
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        loop.close()


async def _cancel_others() -> None:
    others = asyncio.all_tasks() - {asyncio.current_task()}
    for task in others:
        task.cancel()
    await asyncio.gather(*others, return_exceptions=True)


def check_address(url: str) -> str:
    """The address without its last slash. Raises ConfigError for one that cannot be used or holds a secret."""
    try:
        parts = urlsplit(url)
        is_address = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:
        is_address = False
    if not is_address:
        raise ConfigError(f"{url!r} is no address of a server.", hint="Write it as http://localhost:8000/v1#MODEL")
    if parts.username or parts.password or parts.query:
        raise ConfigError(
            f"The address of {parts.hostname} holds a user, a password or a query: it would be written down.",
            hint="Put the key into OPENAI_API_KEY.",
        )
    return url.partition("#")[0].rstrip("/")


def _key(address: str) -> str:
    key = os.environ.get("OPENAI_API_KEY", "").strip()
    if not key and address == OFFICIAL:
        raise TeacherError(
            "OpenAI needs a key, and OPENAI_API_KEY is not set.",
            hint="export OPENAI_API_KEY=…, or take a local teacher: --teacher auto",
        )
    if not (key.isascii() and key.isprintable()):
        raise ConfigError("OPENAI_API_KEY holds characters that no key has.", hint="Copy it again, without quotes.")
    return key or "none"


def _only_model(address: str, key: str) -> str:
    """The server's only model, or our default where it has that. Raises TeacherError or ConfigError."""
    try:
        with _event_loop() as loop:
            models = sorted(asyncio.run_coroutine_threadsafe(_look_up(address, key), loop).result())
    except (aiohttp.ClientError, TimeoutError, OSError, ValueError, TypeError, KeyError) as error:
        raise TeacherError(
            f"{address} does not say which models it has ({type(error).__name__}).",
            hint=f"Is the server up, and does its address end in /v1? Else name the model: {address}#MODEL",
        ) from error
    if OPENAI_MODEL in models or len(models) == 1:
        return OPENAI_MODEL if OPENAI_MODEL in models else models[0]
    raise ConfigError(
        f"{address} has {len(models)} models: {', '.join(models[:20]) or 'none'}.",
        hint=f"Name one: {address}#{models[0] if models else 'MODEL'}",
    )


def _proxy(address: str) -> str | None:
    """The proxy of the environment. aiohttp's own `trust_env` would read a .netrc file for every request."""
    parts = urlsplit(address)
    return None if proxy_bypass(parts.hostname or "") else getproxies().get(parts.scheme)


async def _look_up(address: str, key: str) -> list[str]:
    async with aiohttp.ClientSession(headers={"Authorization": f"Bearer {key}"}, proxy=_proxy(address)) as session:
        return await _models(session, address)


async def _models(session: aiohttp.ClientSession, address: str) -> list[str]:
    timeout = aiohttp.ClientTimeout(total=LOOK_UP_SECONDS)
    async with session.get(f"{address}/models", timeout=timeout, raise_for_status=True) as response:
        listed = json.loads(await response.read())
    return [str(model["id"]) for model in listed["data"]]
