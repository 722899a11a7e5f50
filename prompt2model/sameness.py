"""Whether two answers say the same."""

import json
from collections import Counter
from functools import cache
from typing import Any

from prompt2model.answers import read_label
from prompt2model.conclusion import is_same_answer, numbers
from prompt2model.records import TaskSpec
from prompt2model.wording import normalise, words

COMMON_WORDS = 0.5
"""Share of common words (F1) from which two answers to an open question say the same."""
FEW_WORDS = 12
"""Answers of so many words or fewer have to give the same numbers, too."""


def says_the_same(answer: str, other: str, task: TaskSpec) -> bool:
    """Whether the other text gives that answer, which for a classification is a label.

    In an open task the two are the same words or number, JSON of the same values, or texts of which enough words are
    common, those aside that stand in every one of the user's outputs: `name: Ann, age: 5` is not `name: Bob, age: 7`.
    """
    if task.labels:
        return read_label(other, task.labels) == answer
    if is_same_answer(other, answer):
        return True
    values = _values(answer), _values(other)
    if values[0] is not None and values[1] is not None:
        return bool(values[0] == values[1])
    is_short = min(len(words(answer)), len(words(other))) <= FEW_WORDS
    if is_short and Counter(numbers(answer)) != Counter(numbers(other)):
        return False
    outputs = tuple(example.output for example in task.examples)
    return word_f1(answer, other, without=_in_all(outputs)) >= COMMON_WORDS


def word_f1(one: str, other: str, without: frozenset[str] = frozenset()) -> float:
    """The F1 of two texts' common words, each counted as often as it occurs: ROUGE-1, in any script.

    Words of `without` count only where one of the texts has no others.
    """
    ours, theirs = Counter(words(one)), Counter(words(other))
    if ours.keys() - without and theirs.keys() - without:
        ours, theirs = (Counter({word: n for word, n in one.items() if word not in without}) for one in (ours, theirs))
    return 2 * (ours & theirs).total() / max(ours.total() + theirs.total(), 1)


@cache
def _in_all(outputs: tuple[str, ...]) -> frozenset[str]:
    """The words that all of them share, where there are several."""
    return frozenset.intersection(*(frozenset(words(output)) for output in outputs)) if outputs[1:] else frozenset()


def _values(text: str) -> Any:
    """What the text holds as JSON, its strings normalised; none where it is no object and no list."""
    try:
        found = json.loads(text)
    except (ValueError, RecursionError):
        return None
    return _plain(found) if isinstance(found, dict | list) else None


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _plain(one) for name, one in value.items()}
    if isinstance(value, list):
        return [_plain(one) for one in value]
    return normalise(value) if isinstance(value, str) else value
