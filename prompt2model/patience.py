"""How hard a server is asked, when it is asked again, and when it is given up."""

import asyncio
import random
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from prompt2model.chat import Trouble
from prompt2model.errors import TeacherError
from prompt2model.ledger import IN_FLIGHT


@dataclass(frozen=True)
class Limits:
    """How hard a server is asked, and when it is given up."""

    concurrency: int = IN_FLIGHT
    attempts: int = 8
    first_pause_seconds: float = 0.5
    """The longest pause after the first failure; it doubles with each, and its length is drawn anew each time."""
    longest_pause_seconds: float = 30.0
    timeout_seconds: float = 300.0
    """For one attempt; a local server on a CPU may let sixteen requests wait for one another."""
    patience_seconds: float = 300.0
    """For one request with all its attempts; and for the whole server while nothing succeeds."""
    give_up_after: int = 8
    """So many requests failing in a row mean that the others would fail too."""


class Health:
    """Whether the server answers at all: counts failures in a row, and spreads a request to slow down to everyone."""

    def __init__(self, name: str, limits: Limits, total: int) -> None:
        self._name, self._limits, self._total = name, limits, total
        self._in_a_row: Counter[str] = Counter()
        self._has_succeeded, self._under_way = False, 0
        self._heard_at, self._resume_at = time.monotonic(), 0.0
        self._last: Trouble | None = None

    @contextmanager
    def asking(self) -> Iterator[None]:
        """Around one request: the server's silence counts only while it is asked."""
        if not self._under_way:
            self._heard_at = time.monotonic()
        self._under_way += 1
        try:
            yield
        finally:
            self._under_way -= 1

    def succeeded(self) -> None:
        self._in_a_row.clear()
        self._has_succeeded, self._heard_at = True, time.monotonic()

    def failed(self, trouble: Trouble) -> None:
        """Raises TeacherError when the others would fail too."""
        self._in_a_row[trouble.reason] += 1
        count = self._in_a_row.total()
        is_whole = trouble.is_outage and not self._has_succeeded and count == self._total
        is_streak = count >= self._limits.give_up_after and (trouble.is_outage or not self._has_succeeded)
        if is_whole or is_streak:
            reasons = ", ".join(f"{reason}, {times} times" for reason, times in self._in_a_row.most_common())
            raise self._given_up(f"failed requests in a row: {reasons}")

    def seconds_until_retry(self, trouble: Trouble, attempts: int) -> float:
        """Exponential backoff with full jitter, after what the server asked; 0 when only a parameter is left out."""
        self._last = trouble
        if trouble.refused:
            return 0.0
        if trouble.wait_seconds <= self._limits.patience_seconds:
            self._resume_at = max(self._resume_at, time.monotonic() + trouble.wait_seconds)
        most = min(self._limits.longest_pause_seconds, self._limits.first_pause_seconds * 2.0 ** (attempts - 1))
        return trouble.wait_seconds + random.uniform(0, most)  # noqa: S311 - spreads load, guards nothing

    async def pause(self) -> None:
        while (seconds := self._resume_at - time.monotonic()) > 0:
            await asyncio.sleep(seconds)

    async def watch(self) -> None:
        """Raises TeacherError when nothing has succeeded for too long."""
        while (silent := time.monotonic() - self._heard_at) < self._limits.patience_seconds or not self._under_way:
            await asyncio.sleep(max(self._limits.patience_seconds - silent, 1.0))
        raise self._given_up(f"nothing came for {self._limits.patience_seconds:g} seconds")

    def _given_up(self, what: str) -> TeacherError:
        last = f" The last: {self._last.reason}, {self._last.detail[:200] or 'no details'}." if self._last else ""
        return TeacherError(
            f"{self._name} does not answer: {what}.{last}",
            hint="Is the server up? The same command goes on from here: what was answered is kept.",
            retryable=True,
        )
