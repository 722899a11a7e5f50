"""The response cache: a request that was answered once is never asked again, also after a kill."""

import hashlib
import json
import sqlite3
from collections.abc import Iterable, Iterator, Sequence
from contextlib import closing, contextmanager
from itertools import islice
from pathlib import Path

from filelock import FileLock

from prompt2model.conversation import Reply, Request
from prompt2model.errors import RunError
from prompt2model.records import Spent
from prompt2model.teacher import Around, Teacher, spent_by

WAIT_SECONDS = 60.0
"""How long one process waits for another that is writing."""
OF_BEAMS = {"beams", "n_best", "others"}
"""Fields of a request and its reply that say nothing unless there are several beams."""
LOOKED_UP = 500
"""Requests that are looked up at a time; there are builds of SQLite that take no more than 999 variables."""


def key(identity: str, request: Request) -> str:
    """The SHA-256 of everything that decides an answer: the teacher's identity, the request, the shape of a reply.

    What only beam search has is left out elsewhere, and so are likeliest tokens and whole choices where none are asked
    for, and what only says what a reply cost: replies from before there were any are found by their old keys.
    """
    unasked = {name for name in ("top_logprobs", "whole") if not getattr(request, name)}
    left_out = {"tokens_cached"} | unasked | (set() if request.beams > 1 else OF_BEAMS)
    asked = request.model_dump(mode="json", exclude=left_out)
    decides = [identity, asked, sorted(Reply.model_fields.keys() - left_out)]
    return hashlib.sha256(json.dumps(decides, sort_keys=True).encode()).hexdigest()


class Cached(Around):
    """A teacher that answers from a file what was asked before, and asks the teacher within for the rest.

    The replies of one group are kept in one transaction before they are handed on: a local teacher's batch is kept
    whole or not at all. Failed requests are not kept.
    """

    def __init__(self, teacher: Teacher, path: Path) -> None:
        """Raises RunError when the file cannot be written or is not a cache."""
        super().__init__(teacher)
        self._path, self._hits = path, 0
        with _or_run_error(path):
            path.parent.mkdir(parents=True, exist_ok=True)
            # SQLite refuses at once, without waiting, when two processes change a new file's mode.
            with FileLock(f"{path}.lock", timeout=WAIT_SECONDS), closing(self._open()) as file:
                file.execute("PRAGMA journal_mode=WAL")
                file.execute("CREATE TABLE IF NOT EXISTS replies (key TEXT PRIMARY KEY, reply TEXT NOT NULL)")

    @property
    def spent(self) -> Spent:
        """What the teacher within has cost, and how many requests were answered without it."""
        return spent_by(self.within) + Spent(requests=self._hits, cached=self._hits)

    def answer(self, requests: Iterable[Request]) -> Iterator[list[tuple[int, Reply]]]:
        """What is known first; then the teacher's replies as they come. A request that occurs twice is asked once.
        Those that are asked keep their order, on which the batches of local teachers depend."""
        requests = list(requests)
        places: dict[str, list[int]] = {}
        for index, request in enumerate(requests):
            places.setdefault(key(self.identity, request), []).append(index)
        with closing(self._open()) as file:
            missing: list[str] = []
            for keys in _batched(places):
                known = self._known(file, keys)
                missing += [asked for asked in keys if asked not in known]
                if hits := [(index, reply) for asked, reply in known.items() for index in places[asked]]:
                    self._hits += len(hits)
                    yield hits
            if missing:
                yield from self._ask(file, requests, missing, places)

    def _ask(
        self, file: sqlite3.Connection, requests: Sequence[Request], missing: list[str], places: dict[str, list[int]]
    ) -> Iterator[list[tuple[int, Reply]]]:
        for group in self.within.answer(requests[places[asked][0]] for asked in missing):
            kept = self._keep(file, [(missing[index], reply) for index, reply in group])
            yield [pair for asked, reply in kept for pair in self._shared(places[asked], reply)]

    def _shared(self, places: list[int], reply: Reply) -> list[tuple[int, Reply]]:
        """The reply in all its places; only the first was paid for."""
        first, *others = places
        if reply.finish == "failed":
            return [(index, reply) for index in places]
        self._hits += len(others)
        again = reply.model_copy(update={"cached": True})
        return [(first, reply), *((index, again) for index in others)]

    def _known(self, file: sqlite3.Connection, keys: Sequence[str]) -> dict[str, Reply]:
        """In the order of the keys."""
        places = ", ".join("?" * len(keys))
        with _or_run_error(self._path):
            rows = dict(file.execute(f"SELECT key, reply FROM replies WHERE key IN ({places})", keys))  # noqa: S608
        return {asked: _read(rows[asked]) for asked in keys if asked in rows}

    def _keep(self, file: sqlite3.Connection, answered: list[tuple[str, Reply]]) -> list[tuple[str, Reply]]:
        """Keep one group. Where another process was first, its reply counts: it is the one a resumed run would read."""
        good = [(asked, reply) for asked, reply in answered if reply.finish != "failed"]
        with _or_run_error(self._path), file:
            file.execute("BEGIN IMMEDIATE")
            earlier: dict[str, Reply] = {}
            for keys in _batched(asked for asked, _ in good):
                earlier |= self._known(file, keys)
            rows = [(asked, _write(reply)) for asked, reply in good if asked not in earlier]
            file.executemany("INSERT INTO replies VALUES (?, ?)", rows)
        return [(asked, earlier.get(asked, reply)) for asked, reply in answered]

    def _open(self) -> sqlite3.Connection:
        with _or_run_error(self._path):
            file = sqlite3.connect(self._path, timeout=WAIT_SECONDS, isolation_level=None, check_same_thread=False)
            file.execute("PRAGMA synchronous=NORMAL")
            return file


def _batched(keys: Iterable[str], size: int = LOOKED_UP) -> Iterator[list[str]]:
    """The keys, so many at a time: also a million of them, and their replies, are never in memory at once."""
    rest = iter(keys)
    while some := list(islice(rest, size)):
        yield some


def _write(reply: Reply) -> str:
    """As JSON by the standard library: pydantic's own turns a log-likelihood of minus infinity into null."""
    return json.dumps(reply.model_dump())


def _read(text: str) -> Reply:
    return Reply.model_validate(json.loads(text) | {"cached": True})


@contextmanager
def _or_run_error(path: Path) -> Iterator[None]:
    try:
        yield
    except sqlite3.OperationalError as error:
        raise RunError(
            f"The response cache {path} cannot be used: {error}.", hint="Is the disk full, or the folder read-only?"
        ) from error
    except sqlite3.DatabaseError as error:
        raise RunError(
            f"The response cache {path} is damaged: {error}.", hint="Move it away; it is built anew."
        ) from error
    except OSError as error:
        raise RunError(
            f"The response cache {path} cannot be made: {error.strerror or error}.",
            hint="Choose another folder for it with PROMPT2MODEL_HOME.",
        ) from error
