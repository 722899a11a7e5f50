"""Texts for the tests of what compares texts."""

from collections.abc import Sequence
from random import Random

from prompt2model.rewordings import common_words
from prompt2model.wording import words

WORDS = ["the", "film", "was", "good", "bad", "very", "long", "電影", "好", "不", "ดี", "café", "😀", "12"]


def random_texts(seed: int, count: int, vocabulary: Sequence[str] = WORDS) -> list[str]:
    """Texts of which many are edits of earlier ones, so that near twins are common; some are empty."""
    rng = Random(seed)
    texts: list[str] = []
    for _ in range(count):
        some = (
            rng.choice(texts).split() if texts and rng.random() < 0.6 else rng.choices(vocabulary, k=rng.randint(0, 14))
        )
        for _ in range(rng.randint(0, 2)):
            place = rng.randrange(len(some) + 1)
            some = [*some[:place], rng.choice(vocabulary), *some[place + rng.randint(0, 1) :]]
        texts.append(" ".join(some))
    return texts


def rouge_l(one: str, other: str) -> float:
    """The F1 of the longest common subsequence of words; 0 where a text has none."""
    ours, theirs = words(one), words(other)
    places = {word: sum(1 << bit for bit, its in enumerate(ours) if its == word) for word in ours}
    common = common_words(places, len(ours), theirs)
    return 2 * common / (len(ours) + len(theirs)) if common else 0.0
