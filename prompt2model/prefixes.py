"""Beginnings that prompts have in common, which are read once for all of them."""

from collections.abc import Sequence
from itertools import pairwise

WORTH_SHARING = 8
"""Tokens of a common beginning from which reading it apart is paid back."""

Prompt = tuple[int, ...]


def common_beginnings(prompts: Sequence[Prompt]) -> tuple[list[Prompt], list[int]]:
    """Beginnings, and of each prompt the place of its own among them, such that little is to be read.

    Every prompt goes on after its beginning. One that shares nothing worth it has the empty beginning. What is padded
    counts too: beginnings are read side by side, and so are the rests, and both stay in the cache.
    """
    return min((_none(prompts), _one(prompts), fewest_tokens(prompts)), key=lambda found: _cost(prompts, *found))


def fewest_tokens(prompts: Sequence[Prompt]) -> tuple[list[Prompt], list[int]]:
    """The beginnings with which the fewest tokens are read, padding not counted."""
    order = sorted(range(len(prompts)), key=lambda at: prompts[at])
    shared = [_in_common(prompts[a], prompts[b]) for a, b in pairwise(order)]
    saved, first = [0], [0]  # of the first so many prompts: tokens saved at most, and where their last group begins
    for end in range(1, len(order) + 1):
        most, length = (saved[-1], end - 1), len(prompts[order[end - 1]])
        for start in range(end - 2, -1, -1):
            length = min(length, shared[start])
            if length < WORTH_SHARING:
                break
            most = max(most, (saved[start] + (end - 1 - start) * length, start))
        saved.append(most[0])
        first.append(most[1])
    return _grouped(prompts, order, shared, first)


def _none(prompts: Sequence[Prompt]) -> tuple[list[Prompt], list[int]]:
    return [()], [0] * len(prompts)


def _one(prompts: Sequence[Prompt]) -> tuple[list[Prompt], list[int]]:
    """The beginning of all."""
    length = min(_in_common(min(prompts), max(prompts)), min(map(len, prompts)) - 1) if len(prompts) > 1 else 0
    return [prompts[0][:length] if length >= WORTH_SHARING else ()], [0] * len(prompts)


def _cost(prompts: Sequence[Prompt], beginnings: Sequence[Prompt], own: Sequence[int]) -> int:
    """Tokens read, padding included, and the places that the cache then has."""
    longest = max(map(len, beginnings))
    rest = max(len(prompt) - len(beginnings[place]) for prompt, place in zip(prompts, own, strict=True))
    return len(beginnings) * longest + len(prompts) * (rest + longest + rest)


def _grouped(
    prompts: Sequence[Prompt], order: Sequence[int], shared: Sequence[int], first: Sequence[int]
) -> tuple[list[Prompt], list[int]]:
    """The groups, from the last to the first."""
    places: dict[Prompt, int] = {}
    own, end = [0] * len(order), len(order)
    while end:
        start = first[end]
        beginning = prompts[order[start]][: min(shared[start : end - 1], default=0)]
        for at in order[start:end]:
            own[at] = places.setdefault(beginning, len(places))
        end = start
    return list(places), own


def _in_common(a: Prompt, b: Prompt) -> int:
    """How many tokens both begin with, when each must go on."""
    most = min(len(a), len(b)) - 1
    return next((i for i in range(most) if a[i] != b[i]), most)
