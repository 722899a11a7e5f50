"""Calls that end in time, whatever the library below them does about time-outs and retries."""

import threading
import time
from collections.abc import Callable, Sequence
from typing import TypeVar

T = TypeVar("T")


def within(seconds: float, calls: Sequence[Callable[[], T]]) -> list[T]:
    """What the calls return, made at once, each in its thread. Raises TimeoutError, or the first error that one raised.

    A thread that comes too late is left behind: it is a daemon, so it holds up neither this call nor the exit.
    """
    results: dict[int, T] = {}
    errors: dict[int, BaseException] = {}

    def run(place: int) -> None:
        try:
            results[place] = calls[place]()
        except BaseException as error:  # noqa: BLE001 - raised again below, in the thread that asked
            errors[place] = error

    threads = [threading.Thread(target=run, args=(place,), daemon=True) for place in range(len(calls))]
    end = time.monotonic() + seconds
    for thread in threads:
        thread.start()
    for place, thread in enumerate(threads):
        thread.join(max(0.0, end - time.monotonic()))
        if place in errors:
            raise errors[place]
        if place not in results:
            raise TimeoutError(f"no answer within {seconds:g} seconds")
    return [results[place] for place in range(len(calls))]
