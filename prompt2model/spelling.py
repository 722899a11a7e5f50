"""Whether an output is one of the labels, and how the labels are spelled: as the examples spell them."""

import re
from collections import Counter
from collections.abc import Callable, Sequence

from prompt2model.wording import one_line

LONGEST_ENDING = 3
"""`support` is the label `supports`, `supporting` is it too."""
SHORT_WORDS = 4
SHORT_CHARACTERS = 40


def same_label(output: str, labels: Sequence[str]) -> int | None:
    """The place of the label that the output is, but for case, final stop and a word's ending; none if it is none."""
    key = _key(output)
    keys = [_key(label) for label in labels]
    if output in labels:
        return list(labels).index(output)
    if key in keys:
        return keys.index(key)
    near = [place for place, label in enumerate(keys) if _differ_in_ending(key, label)]
    return near[0] if len(near) == 1 else None


def respelled(labels: Sequence[str], outputs: Sequence[str]) -> tuple[str, ...]:
    """The labels as the outputs spell them; a way of writing that all of those share is taken over for the others."""
    seen: dict[int, str] = {}
    for output in outputs:
        place = same_label(output, labels)
        if place is not None:
            seen.setdefault(place, output)
    shared = [
        write for write in _WAYS if seen and all(write(labels[place]) == spelled for place, spelled in seen.items())
    ]
    write = shared[0] if shared else str
    return tuple(seen.get(place, write(label)) for place, label in enumerate(labels))


_NUMBER_LIKE = re.compile(r"[^\w\s]*\d[\d.,:/]*\s?[^\w\s]?|\[.*\]", re.DOTALL)
"""A number, a price, a time, a list."""


def repeated(outputs: Sequence[str], *, at_least: int) -> bool:
    """Whether a few short outputs come again and again: `at_least` times each on average, and not always one."""
    counts = Counter(outputs)
    short = all(len(output.split()) <= SHORT_WORDS and len(output) <= SHORT_CHARACTERS for output in counts)
    often = len(outputs) >= at_least * len(counts) or (at_least == 2 and len(outputs) == 3)
    numbers = all(_NUMBER_LIKE.fullmatch(output) for output in counts)
    return short and 1 < len(counts) < len(outputs) and often and (not numbers or len(outputs) >= 3 * len(counts))


_WAYS: tuple[Callable[[str], str], ...] = (
    str,
    str.lower,
    str.capitalize,
    str.upper,
    str.title,
    lambda label: label.removesuffix("s"),
    lambda label: label.removesuffix("s").capitalize(),
)


_JOINTS = re.compile(r"(?!(?<!\w)-\d)[-_]")
"""What joins words; not the sign of a number."""


def _key(text: str) -> str:
    return one_line(_JOINTS.sub(" ", text.casefold())).rstrip(".!。")


def _differ_in_ending(one: str, other: str) -> bool:
    short, long = sorted((one, other), key=len)
    return len(short) >= 4 and long.isalpha() and long.startswith(short) and len(long) - len(short) <= LONGEST_ENDING
