"""The provider's Batch API: half the price, within a day. https://platform.openai.com/docs/guides/batch

A batch that was sent is noted in the user's folder before it is waited for: the same requests again, days later or
after a kill, wait for that batch instead of sending another. The note is kept until all its requests are done with: an
answer that led to a second attempt is found again as well, and leads to the same attempt, which is noted too.
"""

import json
import logging
import time
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from itertools import islice
from typing import Any, TypeVar

import openai
from openai.types import Batch

from prompt2model import chat
from prompt2model.batch_lines import Line, Settled, as_sent, chunks, meaning, unanswered
from prompt2model.batch_notes import Note, kept
from prompt2model.chat_troubles import Trouble
from prompt2model.conversation import Reply, Request
from prompt2model.errors import TeacherError
from prompt2model.ledger import heard, lost, with_attempts
from prompt2model.records import Spent
from prompt2model.servers import connected, without_key
from prompt2model.several import together

MOST_REQUESTS = 50_000
"""Of one batch, as OpenAI takes them."""
LONGEST_WAIT_SECONDS = 60.0
"""Between two looks at a batch."""
PATIENCE_SECONDS = 600.0
"""How long a server may be out while a batch is waited for."""
UPLOAD_SECONDS = 600.0
NOT_BATCHED = "Without --batch each request is sent on its own."
NO_BATCHES = f"Does the server have a Batch API? {NOT_BATCHED}"
GONE = (400, 404, 410, 422)
"""What is said to a batch that is to be made of a file that is no longer there."""
OVER = ("completed", "failed", "expired", "cancelled")

logger = logging.getLogger(__name__)

T = TypeVar("T")
Body = Callable[[Request, int], dict[str, Any]]


@dataclass
class Batches:
    """Requests to one model, sent in batches."""

    name: str
    address: str
    key: str
    body: Body
    """What is sent for a request that so many answers are wanted to."""
    misfit: Callable[[Request, Reply], str]
    """Why a reply does not fit its request's schema; empty when it does."""
    most_answers: Callable[[], int]
    """That one line may ask for."""
    leave_out: Callable[[frozenset[str]], None]
    """Is told which parameters the server does not take."""
    reasoning: bool = False
    """Whether the model thinks first, in tokens that are paid for."""
    most_requests: int = MOST_REQUESTS
    """Of one batch."""
    identity: str = ""
    """Of the teacher, in whatever words its requests are put."""
    poll_seconds: float = 1.0
    """Before the second look at a batch; it doubles with each."""
    is_heard: bool = False
    """Whether the server has ever said anything: one that has is worth waiting for."""
    is_answered: bool = False
    """Whether any line has been answered."""
    is_narrowed: bool = False
    """Whether the last batch was too large for the account: then one is tried before others are sent beside it."""

    def answer(self, requests: Iterable[Request]) -> Iterator[list[tuple[int, Reply]]]:
        """The replies, a batch at a time, of batches that are all sent before the first is waited for.

        No two requests may be the same, as none are behind a cache. Raises TeacherError when batches are refused or
        cancelled, or the server is out.
        """
        noted, notes = {one for note in kept(self.name) for one in note.ids}, list[Note]()
        groups = together(requests, self.most_answers)
        asked = [line for group in groups for line in as_sent(group, self.identity, noted)]
        with connected(self.address, self.key, UPLOAD_SECONDS) as client:
            while asked:
                sent = list(islice(self._sent(list(map(self._put, asked)), client), 1 if self.is_narrowed else None))
                under_way = {line.id for _, lines in sent for line in lines}
                asked = [line for line in asked if line.id not in under_way]
                for note, lines in sent:
                    if (outcomes := self._outcomes(note, lines, client)) is None:
                        asked = [*lines, *asked]
                        continue
                    notes.append(note)
                    self.is_narrowed = False
                    self.leave_out(frozenset().union(*map(_refused, outcomes.values())))
                    self._check_any_can_be_answered(note, outcomes.values())
                    known = [line for line in lines if line.id in outcomes]
                    settled = [self._settled(line, outcomes[line.id]) for line in known]
                    asked += [line for _, again in settled for line in again]
                    yield [reply for replies, _ in settled for reply in replies]
                    over = [line for line, (_, again) in zip(known, settled, strict=True) if not again]
                    handed_on = {one for line in over for one in (*line.earlier, line.id)}
                    for one in notes:
                        one.forget(handed_on)
                    if len(known) < len(lines):
                        note.forget({line.id for line in lines})
                        raise self._cancelled(note)
                if count := sum(len(line.group) for line in asked):
                    logger.warning("%s: %d requests of the batch failed and are sent again.", self.name, count)

    def _check_any_can_be_answered(self, note: Note, outcomes: Collection[list[Reply] | Trouble]) -> None:
        """Raises TeacherError where nothing has been answered yet, and all lines failed for what others would fail for
        too. The batch is not looked at again: another one may be sent when there is credit."""
        ends = [one for one in outcomes if isinstance(one, Trouble) and one.ends_all]
        self.is_answered = self.is_answered or any(isinstance(one, list) for one in outcomes)
        if ends and len(ends) == len(outcomes) and not self.is_answered:
            note.delete()
            said = without_key(ends[0].detail, self.key)[:300]
            raise TeacherError(f"{self.name} cannot be asked, {ends[0].reason}: {said}", hint=NOT_BATCHED)

    def _cancelled(self, note: Note) -> TeacherError:
        return TeacherError(
            f"{self.name}: batch {note.batch} was cancelled at the provider.",
            hint="What it had answered is kept; the same command sends again what is missing.",
        )

    def _put(self, line: Line) -> Line:
        """The line as it is sent from what is known by now of the server."""
        return replace(line, sent=self.body(line.repair or line.asked, len(line.group)))

    def _sent(self, asked: Sequence[Line], client: openai.OpenAI) -> Iterator[tuple[Note, list[Line]]]:
        """Batches that were sent before and hold some of the requests, then new ones with the rest."""
        waiting = {line.id: line for line in asked}
        for note in kept(self.name):
            there = [one for one in note.ids if one in waiting]
            if there and (note.batch or self._is_made_of_file(note, client)):
                yield note, [waiting.pop(one) for one in there]
        for some in chunks(list(waiting.values()), self.most_requests):
            content = "\n".join(line.text for line in some).encode()
            put = partial(client.files.create, file=("requests.jsonl", content), purpose="batch")
            note = Note(self.name, [line.id for line in some], self._patiently("the upload of a batch", put).id)
            note.write()
            self._create(note, client)
            yield note, some

    def _outcomes(self, note: Note, lines: Sequence[Line], client: openai.OpenAI) -> dict[str, Any] | None:
        """By the requests' ids: the reply, or the trouble that came instead; nothing for those that the batch had not
        come to when it was cancelled. None where it was too large for the account: smaller ones are to be sent."""
        batch = self._wait(note, client)
        if _lacked_room(batch):  # by now those that were sent before it are over
            self._create(note, client)
            batch = self._wait(note, client)
        if _lacked_room(batch) and len(lines) > 1:
            self.most_requests, self.is_narrowed = -(-len(lines) // 2), True
            logger.warning("%s: a batch is too large for the account; %d at most now.", self.name, self.most_requests)
            note.delete()
            return None
        with self._translated("the results of a batch", _forgotten(note)):
            files = [file for file in (batch.output_file_id, batch.error_file_id) if file]
            get = [partial(client.files.content, file) for file in files]
            texts = [self._patiently("the results of a batch", one, _forgotten(note)).read().decode() for one in get]
            rows = [json.loads(line) for text in texts for line in text.split("\n") if line.strip()]
            told = {row["custom_id"]: row for row in rows}
        if not told and batch.status == "failed":
            note.delete()
            why = batch.errors.to_json(indent=None) if batch.errors else "no reason given"
            raise TeacherError(f"{self.name} refuses the batch: {without_key(why, self.key)[:300]}", hint=NOT_BATCHED)
        if batch.status == "cancelled":
            return {line.id: meaning(row, line) for line in lines if (row := told.get(line.id, {})).get("response")}
        missing = Trouble(f"not done when the batch was {batch.status}", retry=True)
        return {line.id: meaning(told[line.id], line) if line.id in told else missing for line in lines}

    def _wait(self, note: Note, client: openai.OpenAI) -> Batch:
        """The batch when it is over."""
        seconds, heard_at = self.poll_seconds, time.monotonic()
        while True:
            try:
                with self._translated("a look at a batch", _forgotten(note)):
                    batch = client.batches.retrieve(note.batch)
                    status = batch.status
                heard_at, self.is_heard = time.monotonic(), True
                if status in OVER:
                    return batch
                logger.info("%s: batch %s is %s.", self.name, note.batch, status)
            except TeacherError as error:
                if not error.retryable or time.monotonic() - heard_at > PATIENCE_SECONDS:
                    raise
            time.sleep(seconds)
            seconds = min(2 * seconds, LONGEST_WAIT_SECONDS)

    def _is_made_of_file(self, note: Note, client: openai.OpenAI) -> bool:
        """Whether the file of a note, of which no batch was made, becomes one now. Where the provider no longer has it,
        nothing was paid: the note goes, and its requests are sent anew."""
        try:
            self._create(note, client)
        except TeacherError as error:
            if getattr(error.__cause__, "status_code", 0) not in GONE:
                raise
            note.delete()
        return bool(note.batch)

    def _create(self, note: Note, client: openai.OpenAI) -> None:
        """Note the name of the batch with the note's file: one that is there, if nobody noted it, or a new one."""

        def find_or_make() -> Batch:
            there = [one for one in client.batches.list(limit=100).data if one.input_file_id == note.file]
            return next((one for one in there if not _lacked_room(one)), None) or client.batches.create(
                input_file_id=note.file, endpoint="/v1/chat/completions", completion_window="24h"
            )

        note.batch = self._patiently("a batch", find_or_make).id
        note.write()

    def _patiently(self, what: str, call: Callable[[], T], cure: str = NO_BATCHES) -> T:
        """What the server gives, asked for again while it is out, if it has ever been heard of."""
        seconds, began = self.poll_seconds, time.monotonic()
        while True:
            try:
                with self._translated(what, cure):
                    got = call()
                self.is_heard = True
                return got
            except TeacherError as error:
                is_over = time.monotonic() - began + seconds > PATIENCE_SECONDS
                if not (error.retryable and self.is_heard) or is_over:
                    raise
                logger.info("%s Asked again in %.0f s.", error.message, seconds)
            time.sleep(seconds)
            seconds = min(2 * seconds, LONGEST_WAIT_SECONDS)

    def _settled(self, line: Line, outcome: list[Reply] | Trouble) -> Settled:
        """The replies by their requests' numbers, and the lines to be sent next: among them, once, a request whose
        answer does not fit its schema, told what is wrong."""
        if isinstance(outcome, Trouble):
            paid = lost(line.asked, len(line.group), reasoning=self.reasoning) if outcome.may_be_paid else Spent()
            return unanswered(line, line.group, outcome, line.before + paid)
        if line.is_alone:
            self.leave_out(frozenset({"n"}))
        first, *others = outcome
        if wrong := self.misfit(line.asked, first):
            before, repair = line.before + heard(first), chat.repair(line.asked, first.text, wrong)
            if line.is_last(before):
                return [(line.group[0][0], with_attempts(chat.unfit(first), before))], []
            return [], [line.again(line.group, before, repair)]
        replies = [with_attempts(first, line.before), *others]
        left, none_paid = line.group[len(replies) :], Spent(requests=line.before.requests)
        failed, again = unanswered(line, left, Trouble("too few answers"), none_paid)
        return [(number, reply) for (number, _), reply in zip(line.group, replies, strict=False)] + failed, again

    @contextmanager
    def _translated(self, what: str, cure: str = NO_BATCHES) -> Iterator[None]:
        """The client's errors as ours, without the key."""
        try:
            yield
        except openai.APIStatusError as error:
            text = without_key(error.response.text, self.key)[:300]
            raise TeacherError(
                f"{self.address} refuses {what} ({error.status_code}): {text}",
                hint=cure,
                retryable=error.status_code >= 500 or error.status_code == 429,
            ) from error
        except openai.APIConnectionError as error:
            raise TeacherError(
                f"{self.address} does not answer ({without_key(str(error.__cause__ or error), self.key)}).",
                hint="The same command goes on from here: a batch that was sent is waited for.",
                retryable=True,
            ) from error
        except (openai.OpenAIError, ValueError, TypeError, AttributeError, KeyError) as error:
            raise TeacherError(
                f"{self.address} does not speak the Batch API: {what} is answered by something else.", hint=NOT_BATCHED
            ) from error


def _lacked_room(batch: Batch) -> bool:
    """Whether it was refused for the requests or tokens of those that are waiting already."""
    told = batch.errors.data if batch.errors else None
    return any((one.code or "").endswith("limit_exceeded") for one in told or ())


def _forgotten(note: Note) -> str:
    return f"Where the provider no longer has the batch, delete {note.path}: its requests are then sent again."


def _refused(outcome: list[Reply] | Trouble) -> frozenset[str]:
    return outcome.refused if isinstance(outcome, Trouble) else frozenset()
