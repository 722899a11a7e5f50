"""How fast a server is asked: against servers of arithmetic, whose clock stands still unless it is moved."""

import asyncio
import random
import time
from dataclasses import dataclass

import pytest

from prompt2model.pace import FEW, Bucket, Pace, Window, seconds, waits


@dataclass
class Clock:
    now: float = 0.0

    def __call__(self) -> float:
        return self.now


def rounds(window: Window, clock: Clock, count: int, *, most: float = 1e9, spurious: float = 0.0) -> int:
    """The width after so many rounds of 0.2 seconds each with a server that takes `most` in a round, and of those
    refuses a share by chance."""
    rng = random.Random(0)
    for _ in range(count):
        width = window.size
        asyncio.run(fill(window))
        clock.now += 0.2
        for place in range(width):
            window.answered(refused=place >= most or rng.random() < spurious)
        window.leave(width)
    return window.size


async def fill(window: Window) -> None:
    """Take all the places, and be turned away at one more."""
    for _ in range(window.size - window.under_way):
        await window.enter()
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(window.enter(), 0.001)


def test_a_server_without_a_limit_gets_thousands_at_once_in_a_few_rounds() -> None:
    clock = Clock()
    assert rounds(Window(4096, clock=clock), clock, 8) == 4096


def test_a_limit_is_found_and_kept_to() -> None:
    clock = Clock()
    window = Window(4096, clock=clock)
    widths = [rounds(window, clock, 1, most=100) for _ in range(100)]
    assert all(90 <= width <= 130 for width in widths[10:])


def test_answers_that_waited_for_one_another_until_a_time_out_was_near_narrow_the_window_at_once() -> None:
    window, widths = Window(100, clock=Clock()), list[int]()
    asyncio.run(fill(window))
    for _ in range(40):
        window.answered(refused=False, is_slow=True)
        widths.append(window.size)
        window.leave()
    assert (widths[0], widths[15]) == (8, 8), "those that were sent before say nothing new"
    assert min(widths) == 4
    wide = Window(1000, size=500, clock=Clock())
    wide.answered(refused=False, is_slow=True)
    assert wide.size == 500


def test_refusals_by_chance_do_not_hold_a_server_back() -> None:
    clock = Clock()
    assert rounds(Window(1000, clock=clock), clock, 60, spurious=0.03) > 500


def test_a_server_that_answers_no_faster_gets_only_one_more_a_round() -> None:
    clock = Clock()
    window = Window(4096, clock=clock)
    for _ in range(20):  # ten replies a second, however many are asked for at once
        width = window.size
        asyncio.run(fill(window))
        clock.now += width / 10
        for _ in range(width):
            window.answered(refused=False)
        window.leave(width)
    assert window.size <= 2 * 16 + 20


def test_a_window_that_was_not_full_or_waited_for_a_rate_does_not_grow() -> None:
    window = Window(4096)
    for _ in range(100):
        window.answered(refused=False)
    assert window.size == 16
    asyncio.run(fill(window))
    window.waited()
    for _ in range(16):
        window.answered(refused=False)
    assert window.size == 16


def test_a_window_never_closes_by_refusals_nor_opens_once_closed() -> None:
    window = Window(8)
    for _ in range(1000):
        window.answered(refused=True)
    assert 1 <= window.size <= FEW
    window.close()
    window.answered(refused=False)
    assert window.size == 0


def test_a_bucket_gives_its_rate_and_no_more() -> None:
    clock = Clock()
    bucket = Bucket(10, clock)
    waits = [bucket.take(1) for _ in range(11)]
    assert waits[0] == 0
    assert waits[-1] == pytest.approx(1.0)
    clock.now += 60
    assert [bucket.take(1) for _ in range(3)] == pytest.approx([0, 0.1, 0.2])


def test_tokens_that_were_not_used_are_given_back() -> None:
    pace = Pace(tokens_per_minute=6000, clock=Clock())  # 100 a second, of which 10 may be saved up
    assert pace.take(1000) == pytest.approx(9.9)
    pace.settle(1000, 1)
    assert [pace.take(9), pace.take(1)] == pytest.approx([0, 0.01])


def test_what_the_server_tells_sets_the_rate() -> None:
    """200 of 500 are left, and in 3 seconds all are back: 100 a second."""
    told = {
        "x-ratelimit-limit-requests": "500",
        "x-ratelimit-remaining-requests": "200",
        "x-ratelimit-reset-requests": "3s",
    }
    pace = Pace()
    pace.told(told)
    assert [pace.take(1) for _ in range(200)][-1] == 0
    assert [pace.take(1) for _ in range(100)][-1] == pytest.approx(1.0, abs=0.05)


@pytest.mark.parametrize(
    ("later", "wait"), [(60.0, 60.0), (-5.0, 0.0), (200_000.0, 0.0)], ids=["time", "past", "far off"]
)
def test_a_server_may_tell_the_time_at_which_the_rate_is_whole_again(later: float, wait: float) -> None:
    told = {"limit": "1", "remaining": "0", "reset": f"{time.time() + later:.0f}"}
    pace = Pace()
    pace.told({f"x-ratelimit-{fact}-requests": value for fact, value in told.items()})
    assert pace.take(1) == pytest.approx(wait, abs=2)


def test_a_reset_in_more_than_a_day_says_nothing() -> None:
    pace = Pace()
    pace.told(
        {f"x-ratelimit-{fact}-tokens": value for fact, value in (("limit", "9"), ("remaining", "0"), ("reset", "2d"))}
    )
    assert pace.take(1) == 0


def test_a_rate_that_was_set_is_not_changed_by_what_the_server_tells() -> None:
    pace = Pace(requests_per_minute=60)
    pace.told(
        {f"x-ratelimit-{fact}-requests": value for fact, value in (("limit", "9"), ("remaining", "0"), ("reset", "1h"))}
    )
    assert pace.take(1) == 0
    assert pace.take(1) == pytest.approx(1, abs=0.01)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("6m0s", 360),
        ("2m59.5s", 179.5),
        ("120ms", 0.12),
        ("1h", 3600),
        ("7", 7),
        ("1.5", 1.5),
        ("", None),
        ("soon", None),
    ],
)
def test_durations_are_read_as_rate_limits_tell_them(text: str, expected: float | None) -> None:
    assert seconds(text) == (pytest.approx(expected) if expected is not None else None)


@pytest.mark.parametrize(
    ("requests", "most", "expected"),
    [(0, 64, 0), (10, 64, 1), (16 + 32 + 64, 64, 3), (16 + 32 + 640, 64, 12), (16 + 1, 64, 2), (10, 4, 3)],
)
def test_answers_are_waited_for_as_often_as_a_window_that_doubles_is_filled(
    requests: int, most: int, expected: int
) -> None:
    assert waits(requests, most) == expected
