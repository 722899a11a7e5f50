"""Servers that speak OpenAI's chat protocol: OpenAI itself, and every compatible one by its address."""

import asyncio
import logging
import os
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from queue import SimpleQueue
from threading import Thread
from typing import Any
from urllib.parse import urlsplit

import openai

from prompt2model import chat
from prompt2model.chat import Trouble
from prompt2model.errors import ConfigError, TeacherError
from prompt2model.ledger import MOST_PAID_ATTEMPTS, most_tokens_in, most_tokens_out, price
from prompt2model.patience import Health, Limits
from prompt2model.records import Reply, Request
from prompt2model.registry import did_you_mean
from prompt2model.teachers import OPENAI_MODEL

OFFICIAL = "https://api.openai.com/v1"
LOOK_UP_SECONDS = 15.0

logger = logging.getLogger(__name__)


def connect(model: str, *, url: str = "", **limits: Any) -> "Chat":
    """A model behind a server; with no name, the server's only model.

    The address is `url`, else OPENAI_BASE_URL, else OpenAI's own; the key is OPENAI_API_KEY, which only OpenAI's own
    server must have. Raises ConfigError for an address that cannot be used, TeacherError when the key is missing.
    """
    address = check_address(url or os.environ.get("OPENAI_BASE_URL", "").strip() or OFFICIAL)
    key = _key(address)
    model = model or _only_model(address, key)
    return Chat(f"{address}#{model}" if url else f"openai:{model}", model, address, key, Limits(**limits))


class Chat:
    """A model that answers over HTTP, many requests at a time."""

    can = frozenset({"text", "json_schema"})
    is_local = False

    def __init__(self, name: str, model: str, address: str, key: str, limits: Limits) -> None:
        self._reasons_first = bool((known := price(name)) and known.reasoning)
        self.name = name
        self.identity = f"{address}#{model}" + (f" {chat.REASONING_EFFORT}" if self._reasons_first else "")
        self._model, self._address, self._key, self._limits = model, address, key, limits
        self._refused: frozenset[str] = frozenset()

    def answer(self, requests: Sequence[Request]) -> Iterator[list[tuple[int, Reply]]]:
        """Each reply as it comes. Raises TeacherError when the server refuses all, or is out for too long."""
        self._check(requests)
        arrived: SimpleQueue[tuple[int, Reply] | None] = SimpleQueue()
        room = asyncio.Semaphore(self._limits.concurrency)
        with _event_loop() as loop:
            work = asyncio.run_coroutine_threadsafe(self._ask_all(requests, room, arrived.put), loop)
            work.add_done_callback(lambda _: arrived.put(None))
            while (answered := arrived.get()) is not None:
                yield [answered]
                loop.call_soon_threadsafe(room.release)
            work.result()

    def _check(self, requests: Sequence[Request]) -> None:
        if any(request.choices or request.continues for request in requests):
            raise TeacherError(
                f"{self.name} gives no likelihoods and continues no text: it can only answer.",
                hint="A local teacher can: --teacher transformers:HuggingFaceTB/SmolLM2-135M-Instruct",
            )

    async def _ask_all(
        self, requests: Sequence[Request], room: asyncio.Semaphore, put: Callable[[tuple[int, Reply]], None]
    ) -> None:
        """Every request under way or not yet taken by the caller holds a place in `room`: little is lost by a kill."""
        waiting, health = iter(enumerate(requests)), Health(self.name, self._limits, len(requests))

        async def work(client: openai.AsyncOpenAI) -> None:
            for index, request in waiting:
                await room.acquire()
                with health.asking():
                    put((index, await self._ask(client, request, health)))

        try:
            async with self._client() as client, asyncio.TaskGroup() as tasks:
                watch = tasks.create_task(health.watch())
                workers = [tasks.create_task(work(client)) for _ in range(self._limits.concurrency)]
                await asyncio.wait(workers)
                watch.cancel()
        except BaseExceptionGroup as group:
            raise group.exceptions[0] from None

    def _client(self) -> openai.AsyncOpenAI:
        return openai.AsyncOpenAI(
            api_key=self._key, base_url=self._address, max_retries=0, timeout=self._limits.timeout_seconds
        )

    async def _ask(self, client: openai.AsyncOpenAI, request: Request, health: Health) -> Reply:
        """The reply after as many attempts as it takes, or a failed one that says why."""
        began, attempts, unheard = time.monotonic(), 0, 0
        while True:
            await health.pause()
            outcome = await self._once(client, request)
            if isinstance(outcome, Reply):
                health.succeeded()
                return self._with_unheard(outcome, request, unheard)
            if outcome.ends_all:
                raise await self._end(client, outcome)
            attempts, unheard = attempts + (not outcome.refused), unheard + outcome.may_be_paid
            seconds = health.seconds_until_retry(outcome, attempts)
            is_late = time.monotonic() - began + seconds > self._limits.patience_seconds
            if not outcome.retry or attempts >= self._limits.attempts or unheard >= MOST_PAID_ATTEMPTS or is_late:
                health.failed(outcome)
                return self._with_unheard(Reply(finish="failed", failure=outcome.reason), request, unheard)
            await asyncio.sleep(seconds)

    def _with_unheard(self, reply: Reply, request: Request, unheard: int) -> Reply:
        """With the tokens of attempts whose answer was lost, at their most: they may be on the bill."""
        tokens_in = reply.tokens_in + unheard * most_tokens_in(request)
        tokens_out = reply.tokens_out + unheard * most_tokens_out(request, reasoning=self._reasons_first)
        return reply.model_copy(update={"tokens_in": tokens_in, "tokens_out": tokens_out})

    async def _once(self, client: openai.AsyncOpenAI, request: Request) -> Reply | Trouble:
        sent = chat.body(request, self._model, reasoning=self._reasons_first, refused=self._refused)
        try:
            async with asyncio.timeout(self._limits.timeout_seconds):
                raw = await client.chat.completions.with_raw_response.create(**sent)
        except (openai.APIError, TimeoutError) as error:
            outcome: Reply | Trouble = chat.trouble(error, sent)
        else:
            outcome = chat.read(raw.content, request, sent)
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

    async def _end(self, client: openai.AsyncOpenAI, trouble: Trouble) -> TeacherError:
        hints = {
            "key": "Is OPENAI_API_KEY set, and is it the key of this server?",
            "access": "The key may not use this model, or not from here.",
            "quota": "Add credit to the account that OPENAI_API_KEY belongs to.",
        }
        hint = hints.get(trouble.ends_all) or await self._other_models(client)
        return TeacherError(f"{self.name} cannot be asked, {trouble.reason}: {trouble.detail[:300]}", hint=hint)

    async def _other_models(self, client: openai.AsyncOpenAI) -> str:
        try:
            listed = await client.models.list(timeout=LOOK_UP_SECONDS)
            return did_you_mean(self._model, [model.id for model in listed.data])
        except (openai.OpenAIError, ValueError, TypeError):
            return f"Does the address end as the server wants it? {self._address} was asked; most end in /v1."

    def _without_key(self, text: str) -> str:
        return text.replace(self._key, "[key]") if len(self._key) > 4 else text


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
        with openai.OpenAI(api_key=key, base_url=address, max_retries=1, timeout=LOOK_UP_SECONDS) as client:
            models = sorted(model.id for model in client.models.list().data)
    except (openai.OpenAIError, ValueError, TypeError, AttributeError) as error:
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
