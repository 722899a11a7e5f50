"""Servers that speak OpenAI's chat protocol: OpenAI itself, and every compatible one by its address."""

import asyncio
import logging
import os
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace
from functools import cached_property
from queue import Empty, SimpleQueue
from typing import Any

import aiohttp

from prompt2model import chat
from prompt2model.asking import GRACE_SECONDS, Answered, Asking
from prompt2model.batch_api import Batches
from prompt2model.chat_troubles import Trouble
from prompt2model.conversation import Reply, Request
from prompt2model.errors import TeacherError
from prompt2model.ledger import BATCH, MOST_PAID_ATTEMPTS, heard, lost, price, thinks, with_attempts
from prompt2model.pace import FIRST, Pace, Window
from prompt2model.patience import Health, Options
from prompt2model.records import Spent
from prompt2model.registry import did_you_mean
from prompt2model.schemas import NOT_JSON, misfit
from prompt2model.servers import (
    OFFICIAL,
    UNREADABLE,
    check_address,
    event_loop,
    key_for,
    models,
    only_model,
    open_session,
    room_for_connections,
    without_key,
)
from prompt2model.several import MOST, Numbered, together
from prompt2model.teachers import OPENAI_MODEL

DECIDING, WHITE_BOX = ("reasoning_effort", "logprobs"), ()

SLOW = 0.5
"""An answer that took this share of the time-out had waited for others: fewer are to be under way."""
NO_SCHEMAS = 3
"""So many answers in a row that are no JSON are those of a server that takes a schema and does not keep to it."""
MOST_AT_ONCE = 256
"""Replies handed on together, at most: they are kept in one transaction."""

NOTHING = Spent()

logger = logging.getLogger(__name__)


def connect(model: str, *, url: str = "", **options: Any) -> "Chat":
    """A model behind a server; with no name, the server's only model. `options` are those of `patience.Options`.

    The address is `url`, else OPENAI_BASE_URL, else OpenAI's own; the key is OPENAI_API_KEY, which only OpenAI's own
    server must have. Raises ConfigError for an address that cannot be used, TeacherError when the key is missing.
    """
    address = check_address(url or os.environ.get("OPENAI_BASE_URL", "").strip() or OFFICIAL)
    key = key_for(address)
    model = model or only_model(address, key, OPENAI_MODEL)
    return Chat(f"{address}#{model}" if url else f"openai:{model}", model, address, key, Options(**options))


class Chat:
    """A model that answers over HTTP, many requests at a time."""

    is_local = False

    def __init__(self, name: str, model: str, address: str, key: str, options: Options) -> None:
        known = price(name)
        self._effort = options.reasoning_effort if (known.reasoning if known else thinks(model)) else ""
        self.name = name + BATCH * options.batch
        self.identity = " ".join(filter(None, (f"{address}#{model}", self._effort)))
        self.can = frozenset({"text", "json_schema", *(["logprobs", "top_logprobs"] if options.logprobs else [])})
        self._model, self._at, self._options = model, (address, key), options
        self._refused: frozenset[str] = frozenset()
        self._not_json = 0
        self._pace = Pace(options.requests_per_minute, options.tokens_per_minute)
        self._width = FIRST

    def answer(self, requests: Iterable[Request]) -> Iterator[list[Answered]]:
        """Replies as they come, those together that came together. A request is taken when there is room for it.

        Raises TeacherError when the server refuses all, or is out for too long.
        """
        if self._options.batch:
            yield from self._batches.answer(map(self._checked, requests))
            return
        arrived: SimpleQueue[list[Answered] | None] = SimpleQueue()
        window = Window(room_for_connections(self._options.concurrency), self._width)
        with event_loop() as loop:
            work = asyncio.run_coroutine_threadsafe(self._ask_all(requests, window, arrived.put), loop)
            work.add_done_callback(lambda _: arrived.put(None))
            for groups in _groups(arrived):
                yield [answered for group in groups for answered in group]
                loop.call_soon_threadsafe(window.leave, len(groups))
            self._width = window.size or FIRST
            work.result()

    @cached_property
    def _batches(self) -> Batches:
        return Batches(
            self.name,
            *self._at,
            self._body,
            self._misfit,
            self._most_answers,
            self._leave_out,
            reasoning=bool(self._effort),
            identity=self.identity,
        )

    def _body(self, request: Request, answers: int = 1) -> dict[str, Any]:
        return chat.body(request, self._model, effort=self._effort, refused=self._refused, answers=answers)

    def _most_answers(self) -> int:
        """That one request may ask for."""
        return 1 if "n" in self._refused else MOST

    def _checked(self, request: Request) -> Request:
        """The request. Raises TeacherError for one that the protocol cannot put."""
        if not (request.choices or request.continues or request.top_logprobs) and request.beams == 1:
            return request
        if request.beams > 1:
            what = "it searches one beam only"
        elif request.continues and not request.choices:
            what = "it continues no text: it can only answer"
        elif "logprobs" not in self.can:
            what = "it gives no likelihoods, or nobody has said so (teacher_options.logprobs=true)"
        elif len(request.choices) > chat.TOP_LOGPROBS:
            what = f"it tells {len(request.choices)} choices not apart: {chat.TOP_LOGPROBS} are the most"
        else:
            return request
        raise TeacherError(
            f"{self.name} cannot be asked that: {what}.",
            hint="A local teacher can: --teacher transformers:HuggingFaceTB/SmolLM2-135M-Instruct",
        )

    async def _ask_all(
        self, requests: Iterable[Request], window: Window, put: Callable[[list[Answered]], None]
    ) -> None:
        """Every request under way or not yet taken by the caller holds a place: little is lost by a kill.

        Those that differ in the seed alone are one request to the server.
        """
        health, waiting = Health(self.name, self._options), together(requests, self._most_answers)
        try:
            async with open_session(*self._at, self._options.timeout_seconds) as session, asyncio.TaskGroup() as tasks:
                asking = Asking(session, window, health, put)
                watch = tasks.create_task(asking.watch())
                while await window.enter() and (group := next(waiting, None)):
                    self._checked(group[0][1])
                    asking.has_begun(tasks.create_task(self._answer(asking, group)))
                await asyncio.gather(*asking.under_way)
                watch.cancel()
                health.ended()
        except BaseExceptionGroup as group:
            raise group.exceptions[0] from None

    async def _answer(self, asking: Asking, group: Sequence[Numbered]) -> None:
        numbers, requests = zip(*group, strict=True)
        try:
            with asking.health.asking():
                asking.put(list(zip(numbers, await self._ask(asking, requests), strict=True)))
        except TeacherError as error:
            if not asking.window.is_closed:  # else the first that failed says it
                await asking.end(GRACE_SECONDS if error.retryable else self._options.timeout_seconds)
                raise

    async def _ask(
        self, asking: Asking, asked: Sequence[Request], before: Spent = NOTHING, repair: Request | None = None
    ) -> list[Reply]:
        """The replies to one question after as many attempts as it takes, or failed ones that say why.

        `before` are earlier attempts that may have been paid for; `repair` is how the question is put after those.
        """
        health, began, attempts, pauses = asking.health, 0.0, 0, 0
        while True:
            await health.pause()
            outcome = await self._paced(asking, repair or asked[0], len(asked))
            began = began or time.monotonic()
            if not isinstance(outcome, Trouble):
                health.succeeded()
                return await self._completed(asking, asked, outcome, before)
            if outcome.ends_all and not health.is_of_one(outcome):
                raise await self._end(outcome)
            attempts += not (outcome.refused or health.waits_out(outcome))
            pauses += not outcome.refused
            if outcome.may_be_paid:
                before += lost(asked[0], len(asked), reasoning=bool(self._effort))
            seconds = health.seconds_until_retry(outcome, pauses)
            is_late = time.monotonic() - began + seconds > self._options.patience_seconds
            is_last = attempts >= self._options.attempts or before.requests >= MOST_PAID_ATTEMPTS or is_late
            if not outcome.retry and len(asked) > 1:
                return await self._one_by_one(asking, asked, before)
            if not outcome.retry or is_last:
                health.failed(outcome)
                failed = Reply(finish="failed", failure=outcome.reason)
                return [with_attempts(failed, before)] + [failed] * (len(asked) - 1)
            await asyncio.sleep(seconds)

    async def _completed(
        self, asking: Asking, asked: Sequence[Request], replies: Sequence[Reply], before: Spent
    ) -> list[Reply]:
        """The replies that came. One that does not fit its schema is asked for once more, where that is not too dear;
        a server that gives fewer than it was asked for is asked one by one from now on."""
        first, *others = replies
        if wrong := self._misfit(asked[0], first):
            before += heard(first)
            if before.requests >= MOST_PAID_ATTEMPTS:
                return [with_attempts(chat.unfit(first), before)]
            return await self._ask(asking, asked, before, chat.repair(asked[0], first.text, wrong))
        found = [with_attempts(first, before), *others]
        if missing := asked[len(found) :]:
            found += await self._one_by_one(asking, missing, Spent(requests=before.requests))
        return found

    async def _one_by_one(self, asking: Asking, asked: Sequence[Request], before: Spent) -> list[Reply]:
        """Each request on its own; the first bears what was paid for all. Where that brings an answer, several at once
        were what the server does not give."""
        replies = list[Reply]()
        for request in asked:
            replies += await self._ask(asking, [request], before)
            before = Spent(requests=before.requests)
        if any(reply.finish != "failed" for reply in replies):
            self._leave_out(frozenset({"n"}))
        return replies

    def _misfit(self, request: Request, reply: Reply) -> str:
        """Why the reply does not fit the request's schema; empty when it does, or was cut short."""
        if not request.json_schema or reply.finish != "stop":
            return ""
        wrong = misfit(reply.text, request.json_schema)
        self._not_json = self._not_json + 1 if wrong == NOT_JSON else 0
        if self._not_json >= NO_SCHEMAS:
            self._leave_out(frozenset({"response_format"}))
        return wrong

    async def _paced(self, asking: Asking, request: Request, answers: int = 1) -> list[Reply] | Trouble:
        """One attempt, sent when the rate allows it."""
        tokens = guess_tokens(request, answers)
        if (seconds := self._pace.take(tokens)) > 0:
            asking.window.waited()
            await asyncio.sleep(seconds)
        began = time.monotonic()
        outcome = await self._once(asking.session, request, answers)
        is_slow = time.monotonic() - began > SLOW * self._options.timeout_seconds
        used = tokens if isinstance(outcome, Trouble) else sum(reply.tokens_in + reply.tokens_out for reply in outcome)
        self._pace.settle(tokens, used)
        if not asking.health.is_out:  # which says nothing of how many may be under way
            asking.window.answered(refused=isinstance(outcome, Trouble) and outcome.is_outage, is_slow=is_slow)
        return outcome

    async def _once(self, session: aiohttp.ClientSession, request: Request, answers: int) -> list[Reply] | Trouble:
        sent = self._body(request, answers)
        try:
            async with session.post(f"{self._at[0]}/chat/completions", json=sent) as response:
                content = await response.read()
                self._pace.told(response.headers)
                outcome = chat.answered(response.status, response.headers, content, request, sent)
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            outcome = _unanswered(error)
        except (ValueError, TypeError, LookupError, AttributeError, ArithmeticError, RecursionError) as error:
            outcome = Trouble("the reply cannot be read", repr(error), retry=True, may_be_paid=True)
        if not isinstance(outcome, Trouble):
            return outcome
        self._leave_out(outcome.refused)
        outcome = replace(outcome, detail=without_key(outcome.detail, self._at[1]))
        logger.debug("%s: %s: %s", self.name, outcome.reason, outcome.detail)
        return outcome

    def _leave_out(self, refused: frozenset[str]) -> None:
        """Remember what the server does not take, so that it is asked without from now on."""
        if new := refused - self._refused:
            self._refused |= new
            logger.warning("%s does not take %s; it is asked without.", self.name, ", ".join(sorted(new)))

    async def _end(self, trouble: Trouble) -> TeacherError:
        hints = {
            "key": "Is OPENAI_API_KEY set, and is it the key of this server?",
            "access": "The key may not use this model, or not from here.",
            "likelihoods": "Leave teacher_options.logprobs out: the server tells none, and is asked for texts then.",
            "quota": "Add credit to the account that OPENAI_API_KEY belongs to.",
        }
        hint = hints.get(trouble.ends_all, "") or await asyncio.to_thread(self._other_models)
        return TeacherError(f"{self.name} cannot be asked, {trouble.reason}: {trouble.detail[:300]}", hint=hint)

    def _other_models(self) -> str:
        try:
            return did_you_mean(self._model, models(*self._at))
        except UNREADABLE:
            return f"Does the address end as the server wants it? {self._at[0]} was asked; most end in /v1."


def guess_tokens(request: Request, answers: int = 1) -> int:
    """About how many tokens a request takes, as a server reckons that has not answered it yet."""
    return sum(len(message.content) for message in request.messages) // 4 + answers * request.max_tokens


def _groups(arrived: "SimpleQueue[list[Answered] | None]") -> Iterator[list[list[Answered]]]:
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
