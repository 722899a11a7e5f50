"""Texts for the tests of what compares texts."""

from collections.abc import Sequence
from random import Random

WORDS = ["the", "film", "was", "good", "bad", "very", "long", "電影", "好", "不", "ดี", "café", "😀", "12"]


def random_texts(seed: int, count: int, vocabulary: Sequence[str] = WORDS) -> list[str]:
    """Texts of which many are edits of earlier ones, so that near twins are common; some are empty."""
    rng = Random(seed)
    texts: list[str] = []
    for _ in range(count):
        words = (
            rng.choice(texts).split() if texts and rng.random() < 0.6 else rng.choices(vocabulary, k=rng.randint(0, 14))
        )
        for _ in range(rng.randint(0, 2)):
            place = rng.randrange(len(words) + 1)
            words = [*words[:place], rng.choice(vocabulary), *words[place + rng.randint(0, 1) :]]
        texts.append(" ".join(words))
    return texts
