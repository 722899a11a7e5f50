"""How fast a server is asked: as many requests at once as it takes, at the rate that it allows or that was set."""

import asyncio
import math
import re
import time
from collections.abc import Callable, Mapping

FIRST = 16
"""Requests under way at once before anything is known of a server."""
FEW = 2
TOLERATED = 0.05
"""So many refusals, and such a share, say nothing: servers stumble."""
LATEST_SECONDS = 86_400.0
"""A rate that is whole again later than that says nothing of this run."""
A_TIME = 1e9
"""From here on a number is no duration but a Unix time, of 2001 at the earliest."""
EASED = 4
"""As many under way at least where answers are slow: some servers are slow with one alone."""
SAVED_SECONDS = 0.1
"""So much of a rate that was set can be saved up while nothing is asked."""
WORTH_DOUBLING = 1.2
"""The gain in replies a second from which twice as many at once were worth it."""


class Window:
    """How many requests are under way at once: doubled while that pays, then one more a round, fewer when refused.

    A round is as many answers as the window is wide. Additive increase, multiplicative decrease: Chiu and Jain, 1989;
    the decrease is by half the share that was refused, as in DCTCP (Alizadeh et al., 2010), so that a few refusals
    by chance cost little. A window that is not full, or that waits for a set rate, does not grow.
    """

    def __init__(self, most: int, size: int = FIRST, clock: Callable[[], float] = time.monotonic) -> None:
        self.size, self.under_way, self.doubling = min(size, most), 0, True
        self._most, self._clock = most, clock
        self._waiter: asyncio.Future[None] | None = None
        self._best = 0.0
        self._answers, self._refused, self._began = 0, 0, clock()
        self._was_full = self._was_paced = False
        self._sent_before = 0

    async def enter(self) -> bool:
        """Wait for a place, and be in. One caller at a time: the requests have an order."""
        while self.under_way >= self.size:
            self._was_full = True
            self._waiter = asyncio.get_running_loop().create_future()
            await self._waiter
        self.under_way += 1
        return True

    def leave(self, places: int = 1) -> None:
        """Free places."""
        self.under_way -= places
        if self._waiter and not self._waiter.done():
            self._waiter.set_result(None)

    @property
    def is_closed(self) -> bool:
        return not self._most

    def close(self) -> None:
        """Let nobody in any more."""
        self.size = self._most = 0

    def waited(self) -> None:
        """A request of this round had to wait for the rate: the width is not what holds it up."""
        self._was_paced = True

    def answered(self, *, refused: bool, is_slow: bool = False) -> None:
        """Count an answer; the last one of a round decides how wide the next will be.

        Where a time-out was near with few under way, they wait for one another: from then on there are half as many.
        """
        if self._sent_before:
            self._sent_before -= 1
        elif is_slow and EASED < self.size <= FIRST:
            self.size, self.doubling, self._sent_before = max(EASED, self.size // 2), False, self.under_way
            self._new_round()
            return
        self._answers, self._refused = self._answers + 1, self._refused + refused
        if self._answers < self.size:
            return
        share = self._refused / self._answers
        if self._refused > FEW + TOLERATED * self._answers:
            self.size, self.doubling = min(max(1, int(self.size * (1 - share / 2))), self._most), False
        elif self._was_full and not self._was_paced:
            self._grow((self._answers - self._refused) / max(self._clock() - self._began, 1e-9))
        self._new_round()

    def _grow(self, replies_per_second: float) -> None:
        self.doubling = self.doubling and replies_per_second > WORTH_DOUBLING * self._best
        self._best = max(self._best, replies_per_second)
        self.size = min(2 * self.size if self.doubling else self.size + 1, self._most)

    def _new_round(self) -> None:
        self._answers, self._refused, self._began = 0, 0, self._clock()
        self._was_full = self._was_paced = False


def waits(requests: float, most: int) -> int:
    """How many times an answer is waited for until so many requests are answered, where doubling the window pays."""
    size, waits = min(FIRST, most), 0
    while requests > size < most:
        requests, size, waits = requests - size, min(2 * size, most), waits + 1
    return waits + math.ceil(requests / size)


class Bucket:
    """A token bucket: so much a second may be used, and what is not used is saved up to a limit."""

    def __init__(self, per_second: float = math.inf, clock: Callable[[], float] = time.monotonic) -> None:
        self._per_second, self._most = per_second, max(per_second * SAVED_SECONDS, 1.0)
        self._level, self._clock, self._at = self._most, clock, clock()
        self._under_way = 0.0

    def take(self, amount: float) -> float:
        """The seconds to wait before using so much."""
        self._refill()
        self._level -= amount
        self._under_way += amount
        return -self._level / self._per_second if self._level < 0 else 0.0

    def settle(self, amount: float, used: float) -> None:
        """What was taken has been used, less or more of it than was thought."""
        self._under_way -= amount
        self._level += amount - used

    def told(self, limit: float, left: float, reset_seconds: float) -> None:
        """What the server says: the most that it saves up, what is left of it now, and when it is whole again."""
        if limit > left and reset_seconds > 0:
            self._refill()
            self._per_second, self._most = (limit - left) / reset_seconds, max(limit, 1.0)
            self._level = min(self._level, left - self._under_way)

    def _refill(self) -> None:
        before, self._at = self._at, self._clock()
        if self._per_second < math.inf:
            self._level = min(self._level + (self._at - before) * self._per_second, self._most)


class Pace:
    """The rates of requests and of tokens: those that were set, or else those that the server tells."""

    def __init__(
        self,
        requests_per_minute: float = 0.0,
        tokens_per_minute: float = 0.0,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._is_set = bool(requests_per_minute), bool(tokens_per_minute)
        self._requests = Bucket(requests_per_minute / 60 or math.inf, clock)
        self._tokens = Bucket(tokens_per_minute / 60 or math.inf, clock)

    def take(self, tokens: float) -> float:
        """The seconds to wait before sending a request of about so many tokens."""
        return max(self._requests.take(1), self._tokens.take(tokens))

    def settle(self, tokens: float, used: float) -> None:
        """A request of so many tokens came back."""
        self._requests.settle(1, 1)
        self._tokens.settle(tokens, used)

    def told(self, headers: Mapping[str, str]) -> None:
        """Follow `x-ratelimit-limit-requests`, `-remaining-` and `-reset-` and those of tokens, where none was set.

        The reset is a duration or, as at DigitalOcean, a Unix time.
        """
        for kind, bucket, is_set in zip(
            ("requests", "tokens"), (self._requests, self._tokens), self._is_set, strict=True
        ):
            names = (f"x-ratelimit-{fact}-{kind}" for fact in ("limit", "remaining", "reset"))
            limit, left, reset = (seconds(headers.get(name, "")) for name in names)
            if is_set or limit is None or left is None or reset is None:
                continue
            reset -= time.time() if reset > A_TIME else 0.0
            if reset <= LATEST_SECONDS:
                bucket.told(limit, left, reset)


def seconds(text: str) -> float | None:
    """A duration as rate limits tell it, as in `6m0s`, `1.5s`, `120ms` or a plain number; none if it is not one."""
    text = text.strip()
    if re.fullmatch(r"\d+(\.\d+)?", text):
        return float(text)
    if not re.fullmatch(r"(\d+(\.\d+)?(d|h|ms|m|s))+", text):
        return None
    units = {"d": 86400.0, "h": 3600.0, "m": 60.0, "s": 1.0, "ms": 0.001}
    return sum(float(number) * units[unit] for number, unit in re.findall(r"(\d+(?:\.\d+)?)(d|h|ms|m|s)", text))
