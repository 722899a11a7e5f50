"""How hard a server is asked, when it is asked again, and when it is given up."""

import asyncio
import logging
import random
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Literal

from pydantic import Field

from prompt2model.chat_troubles import Trouble
from prompt2model.config import Settings
from prompt2model.errors import TeacherError

REFUSALS_FOR_ALL = 3
"""From so many in a row on, a wait that the server asks for holds for every request."""

LONGEST_PAUSE_SECONDS = 30.0
GIVE_UP_AFTER = 8
"""So many requests failing in a row mean that the others would fail too: for now, where others were answered before."""

logger = logging.getLogger(__name__)


class Options(Settings):
    """How a server is asked, and when it is given up."""

    requests_per_minute: float = Field(0.0, ge=0, description="Most requests a minute; 0 finds the rate by itself.")
    tokens_per_minute: float = Field(
        0.0, ge=0, description="Most tokens a minute, read and written; 0 finds the rate by itself."
    )
    concurrency: int = Field(4096, gt=0, description="Most requests under way at once.")
    attempts: int = Field(
        8,
        gt=0,
        description="How often one request is tried; a rate limit and an outage of a server that has answered "
        "are waited out, up to patience_seconds.",
    )
    first_pause_seconds: float = Field(
        0.5, ge=0, description="Longest pause after a first failure, in seconds; it doubles with each."
    )
    timeout_seconds: float = Field(
        300.0, gt=0, description="For one attempt; on a CPU requests may wait for one another."
    )
    patience_seconds: float = Field(
        300.0,
        gt=0,
        description="For one request with all its attempts, and for a server from which nothing comes; for that, "
        "timeout_seconds where they are more.",
    )
    reasoning_effort: Literal["none", "minimal", "low", "medium", "high"] = Field(
        "low", description="Asked of models that think first: a row of training data is not worth a long thought."
    )
    logprobs: bool = Field(False, description="Whether the server tells the likelihoods of its first token.")
    batch: bool = Field(False, description="Use the provider's Batch API: half the price, up to a day.")


class Health:
    """Whether the server answers at all: counts failures in a row, and spreads a request to slow down to everyone.

    What another attempt may mend is counted too, and said once, when all that was asked for is there.
    """

    def __init__(self, name: str, limits: Options) -> None:
        self._name, self._limits = name, limits
        self._in_a_row: Counter[str] = Counter()
        self._tried_again: Counter[str] = Counter()
        self._has_succeeded, self._under_way, self._refusals = False, 0, 0
        self._heard_at, self._resume_at = time.monotonic(), 0.0
        self._last: Trouble | None = None
        self._turned_away: set[asyncio.Task[Any] | None] = set()
        """Requests that met an outage since the last answer."""

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
        self._turned_away.clear()
        self._has_succeeded, self._heard_at, self._refusals = True, time.monotonic(), 0

    def failed(self, trouble: Trouble) -> None:
        """Raises TeacherError when the others would fail too."""
        self._in_a_row[trouble.reason] += 1
        is_streak = self._in_a_row.total() >= GIVE_UP_AFTER
        if is_streak and (trouble.is_outage or trouble.ends_all or not self._has_succeeded):
            raise self._given_up(self._failures(), is_up=not trouble.is_outage)

    def is_of_one(self, trouble: Trouble) -> bool:
        """Whether what would end all is a matter of this request alone: others have been answered, and what was refused
        is no key and no credit."""
        return self._has_succeeded and trouble.ends_all in ("access", "model")

    @property
    def is_out(self) -> bool:
        """Whether a server that has answered others turns everyone away now. One request that it cannot answer, however
        often it is sent, does not make an outage."""
        many = max(2, min(GIVE_UP_AFTER, self._limits.concurrency))
        return self._has_succeeded and len(self._turned_away) >= many

    def waits_out(self, trouble: Trouble) -> bool:
        """Whether that is no failed attempt: a server that has answered others asks for fewer requests a minute, or is
        out. Those under way try again from time to time, and hold the places that new ones would take."""
        return self._has_succeeded and (trouble.is_limit or (self.is_out and trouble.is_outage))

    def ended(self) -> None:
        """All requests are done. Raises TeacherError when not one was answered and the server's state is the reason."""
        if self._in_a_row and not self._has_succeeded and self._last and self._last.is_outage:
            raise self._given_up(self._failures())
        if self._tried_again:
            reasons = ", ".join(f"{times} × {reason}" for reason, times in self._tried_again.most_common())
            logger.info("%s did not answer %d attempts: %s.", self._name, self._tried_again.total(), reasons)

    def seconds_until_retry(self, trouble: Trouble, pauses: int) -> float:
        """Exponential backoff with full jitter, after what the server asked; 0 when only a parameter is left out."""
        self._last = trouble
        if trouble.refused:
            return 0.0
        self._tried_again.update([trouble.reason] * trouble.retry)
        if trouble.is_outage and not (trouble.is_limit or trouble.may_be_paid):
            self._turned_away.add(asyncio.current_task())
        self._refusals += bool(trouble.wait_seconds)
        if self._refusals >= REFUSALS_FOR_ALL and trouble.wait_seconds <= self._limits.patience_seconds:
            self._resume_at = max(self._resume_at, time.monotonic() + trouble.wait_seconds)
        doublings = min(pauses - 1, 20)  # a rate limit may be waited out many times, and floats end at 2 ** 1024
        most = min(LONGEST_PAUSE_SECONDS, self._limits.first_pause_seconds * 2.0**doublings)
        return trouble.wait_seconds + random.uniform(0, most)  # noqa: S311 - spreads load, guards nothing

    async def pause(self) -> None:
        while (seconds := self._resume_at - time.monotonic()) > 0:
            await asyncio.sleep(seconds)

    async def watch(self) -> None:
        """Raises TeacherError when nothing has succeeded for too long: no sooner than one attempt may take."""
        most = max(self._limits.patience_seconds, self._limits.timeout_seconds)
        while (silent := time.monotonic() - self._heard_at) < most or not self._under_way:
            await asyncio.sleep(max(most - silent, 1.0))
        raise self._given_up(f"nothing came for {most:g} seconds")

    def _failures(self) -> str:
        reasons = ", ".join(f"{reason}, {times} times" for reason, times in self._in_a_row.most_common())
        return f"failed requests in a row: {reasons}"

    def _given_up(self, what: str, *, is_up: bool = False) -> TeacherError:
        last = f" The last: {self._last.reason}, {self._last.detail[:200] or 'no details'}." if self._last else ""
        asked = "The server is up: what it said stands above." if is_up else "Is the server up?"
        return TeacherError(
            f"{self._name} does not answer: {what}.{last}",
            hint=f"{asked} The same command goes on from here: what was answered is kept.",
            retryable=True,
        )
