"""The provider's Batch API: half the price, within a day. https://platform.openai.com/docs/guides/batch

A batch that was sent is noted in the user's folder before it is waited for: the same requests again, days later or
after a kill, wait for that batch instead of sending another.
"""

import asyncio
import hashlib
import json
import logging
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import aiohttp

from prompt2model import chat
from prompt2model.errors import RunError, TeacherError
from prompt2model.home import home
from prompt2model.records import Reply, Request
from prompt2model.servers import event_loop, open_session

MOST_REQUESTS, MOST_BYTES = 50_000, 150_000_000
"""Of one batch; OpenAI takes 50,000 requests and 200 MB."""
MOST_TRIES = 3
"""How often a request is sent that failed for a passing reason."""
LONGEST_WAIT_SECONDS = 60.0
"""Between two looks at a batch."""
PATIENCE_SECONDS = 600.0
"""How long a server may be out while a batch is waited for."""
UPLOAD_SECONDS = 600.0
OVER = ("completed", "failed", "expired", "cancelled")

logger = logging.getLogger(__name__)

Body = Callable[[Request], dict[str, Any]]


@dataclass
class Batches:
    """Requests to one model, sent in batches."""

    name: str
    address: str
    key: str
    body: Body
    """What is sent for a request."""
    poll_seconds: float = 1.0
    """Before the second look at a batch; it doubles with each."""

    def answer(self, requests: Iterable[Request]) -> Iterator[list[tuple[int, Reply]]]:
        """The replies, a batch at a time; no two requests may be the same, as none are behind a cache.

        Raises TeacherError when batches are refused or the server is out.
        """
        asked = [_Line(index, request, self.body(request)) for index, request in enumerate(requests)]
        with event_loop() as loop:
            for number in range(MOST_TRIES):
                is_last, again = number == MOST_TRIES - 1, list[_Line]()
                for note, lines in self._sent(asked, loop):
                    outcomes = self._outcomes(note, lines, loop)
                    again += [] if is_last else [line for line in lines if _may_pass(outcomes[line.id])]
                    yield [(line.index, _reply(outcomes[line.id])) for line in lines if line not in again]
                    note.delete()
                if not (asked := again):
                    return
                logger.warning("%s: %d requests of the batch failed and are sent again.", self.name, len(asked))

    def _sent(
        self, asked: Sequence["_Line"], loop: asyncio.AbstractEventLoop
    ) -> Iterator[tuple["_Note", list["_Line"]]]:
        """Batches that were sent before and hold some of the requests, then new ones with the rest."""
        waiting = {line.id: line for line in asked}
        for note in _Note.kept(self.name):
            if lines := [waiting.pop(one) for one in note.ids if one in waiting]:
                yield note, lines
        for some in _chunks(list(waiting.values())):
            note = _Note(self.name, [line.id for line in some])
            note.file = self._upload(some, loop)
            note.write()
            yield note, some

    def _outcomes(self, note: "_Note", lines: Sequence["_Line"], loop: asyncio.AbstractEventLoop) -> dict[str, Any]:
        """By the requests' ids: the reply, or the trouble that came instead."""
        batch = self._wait(note, loop)
        texts = [self._content(batch[name], loop) for name in ("output_file_id", "error_file_id") if batch.get(name)]
        told = {one["custom_id"]: one for text in texts for one in map(json.loads, text.splitlines()) if one}
        if not told and batch["status"] == "failed":
            note.delete()
            raise TeacherError(
                f"{self.name} refuses the batch: {json.dumps(batch.get('errors'))[:300]}",
                hint="Without --batch each request is sent on its own.",
            )
        missing = chat.Trouble(f"not done when the batch was {batch['status']}", retry=True)
        return {line.id: _outcome(told[line.id], line) if line.id in told else missing for line in lines}

    def _wait(self, note: "_Note", loop: asyncio.AbstractEventLoop) -> dict[str, Any]:
        """The batch when it is over. It is created if that was not done, or found if nobody noted its name."""
        if not note.batch:
            note.batch = self._found(note, loop) or self._create(note, loop)
            note.write()
        seconds, heard_at = self.poll_seconds, time.monotonic()
        while True:
            try:
                batch = self._call(loop, "GET", f"batches/{note.batch}")
                heard_at = time.monotonic()
                if batch["status"] in OVER:
                    return batch
                logger.info("%s: batch %s is %s.", self.name, note.batch, batch["status"])
            except TeacherError as error:
                if not error.retryable or time.monotonic() - heard_at > PATIENCE_SECONDS:
                    raise
            time.sleep(seconds)
            seconds = min(2 * seconds, LONGEST_WAIT_SECONDS)

    def _found(self, note: "_Note", loop: asyncio.AbstractEventLoop) -> str:
        listed = self._call(loop, "GET", "batches?limit=100").get("data", ())
        return next((one["id"] for one in listed if one.get("input_file_id") == note.file), "")

    def _create(self, note: "_Note", loop: asyncio.AbstractEventLoop) -> str:
        wanted = {
            "input_file_id": note.file,
            "endpoint": "/v1/chat/completions",
            "completion_window": "24h",
        }
        return str(self._call(loop, "POST", "batches", json=wanted)["id"])

    def _upload(self, lines: Sequence["_Line"], loop: asyncio.AbstractEventLoop) -> str:
        content = "\n".join(line.text for line in lines).encode()

        def form() -> aiohttp.FormData:
            data = aiohttp.FormData({"purpose": "batch"})
            data.add_field("file", content, filename="requests.jsonl", content_type="application/jsonl")
            return data

        return str(self._call(loop, "POST", "files", data=form)["id"])

    def _content(self, file: str, loop: asyncio.AbstractEventLoop) -> str:
        return self._fetch(loop, "GET", f"files/{file}/content", {}).decode()

    def _call(self, loop: asyncio.AbstractEventLoop, method: str, path: str, **sent: Any) -> dict[str, Any]:
        content = self._fetch(loop, method, path, sent)
        try:
            return dict(json.loads(content))
        except (ValueError, TypeError) as error:
            raise TeacherError(
                f"{self.address} does not speak the Batch API: {content[:100]!r}.",
                hint="Without --batch each request is sent on its own.",
            ) from error

    def _fetch(self, loop: asyncio.AbstractEventLoop, method: str, path: str, sent: Mapping[str, Any]) -> bytes:
        try:
            return asyncio.run_coroutine_threadsafe(self._ask(method, path, sent), loop).result()
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            raise TeacherError(
                f"{self.address} does not answer: {type(error).__name__}: {error}.",
                hint="The same command goes on from here: a batch that was sent is waited for.",
                retryable=True,
            ) from error

    async def _ask(self, method: str, path: str, sent: Mapping[str, Any]) -> bytes:
        made = {name: value() if callable(value) else value for name, value in sent.items()}
        async with (
            open_session(self.address, self.key, UPLOAD_SECONDS) as session,
            session.request(method, f"{self.address}/{path}", **made) as response,
        ):
            content = await response.read()
        if response.status >= 300:
            text = content[:300].decode("utf-8", "replace").replace(self.key, "[key]")
            raise TeacherError(
                f"{self.address} refuses {method} {path.partition('?')[0]} ({response.status}): {text}",
                hint="Does the server have a Batch API? Without --batch each request is sent on its own.",
                retryable=response.status >= 500 or response.status == 429,
            )
        return content


@dataclass(frozen=True)
class _Line:
    """A request as it stands in a batch."""

    index: int
    request: Request
    sent: dict[str, Any]

    @property
    def id(self) -> str:
        """The same for the same request, whatever batch it is in."""
        return hashlib.sha256(json.dumps(self.sent, sort_keys=True).encode()).hexdigest()[:40]

    @property
    def text(self) -> str:
        line = {"custom_id": self.id, "method": "POST", "url": "/v1/chat/completions", "body": self.sent}
        return json.dumps(line)


@dataclass
class _Note:
    """A batch on its way, in a file."""

    name: str
    ids: list[str]
    file: str = ""
    batch: str = ""
    path: Path = field(init=False)

    def __post_init__(self) -> None:
        digest = hashlib.sha256("\n".join([self.name, *self.ids]).encode()).hexdigest()[:24]
        self.path = home() / "batches" / f"{digest}.json"

    @staticmethod
    def kept(name: str) -> "list[_Note]":
        """The batches of this teacher that are on their way."""
        told = [json.loads(path.read_text(encoding="utf-8")) for path in sorted((home() / "batches").glob("*.json"))]
        return [_Note(**one) for one in told if one["name"] == name]

    def write(self) -> None:
        told = {"name": self.name, "ids": self.ids, "file": self.file, "batch": self.batch}
        draft = self.path.with_suffix(".part")
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            draft.write_text(json.dumps(told), encoding="utf-8")
            draft.replace(self.path)
        except OSError as error:
            raise RunError(f"{self.path} cannot be written: {error.strerror}.", hint="Is the disk full?") from error

    def delete(self) -> None:
        self.path.unlink(missing_ok=True)


def _chunks(lines: Sequence[_Line]) -> Iterator[list[_Line]]:
    some, size_bytes = list[_Line](), 0
    for line in lines:
        length = len(line.text)
        if some and (len(some) == MOST_REQUESTS or size_bytes + length > MOST_BYTES):
            yield some
            some, size_bytes = [], 0
        some.append(line)
        size_bytes += length
    if some:
        yield some


def _outcome(told: Mapping[str, Any], line: _Line) -> Reply | chat.Trouble:
    response = told.get("response") or {}
    if not response:
        code = (told.get("error") or {}).get("code") or "no response"
        return chat.Trouble(f"not done in the batch ({code})", retry=True)
    content = json.dumps(response.get("body")).encode()
    return chat.answered(int(response.get("status_code", 500)), {}, content, line.request, line.sent)


def _may_pass(outcome: Reply | chat.Trouble) -> bool:
    return isinstance(outcome, chat.Trouble) and outcome.retry


def _reply(outcome: Reply | chat.Trouble) -> Reply:
    return outcome if isinstance(outcome, Reply) else Reply(finish="failed", failure=outcome.reason)
