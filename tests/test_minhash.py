"""MinHash: signatures estimate what they should, and no twin is missed or made up."""

from random import Random

import numpy as np
import pytest
from scipy.stats import binom

from prompt2model.jaccard import similarity
from prompt2model.minhash import MISSED, MOST_KEPT, NUMBERS, MinHashes, bands, least_equal, signature
from prompt2model.twins import Twins


def edited_texts(seed: int, count: int, vocabulary: int = 60) -> list[str]:
    """Texts of 5 to 60 words of which many are edits of earlier ones."""
    rng, texts = Random(seed), []
    for _ in range(count):
        words = rng.choice(texts).split() if texts and rng.random() < 0.6 else []
        words = words or [f"w{rng.randrange(vocabulary)}" for _ in range(rng.randint(5, 60))]
        for _ in range(rng.randint(0, 4)):
            place = rng.randrange(len(words) + 1)
            words = [*words[:place], f"w{rng.randrange(vocabulary)}", *words[place + rng.randint(0, 1) :]]
        texts.append(" ".join(words))
    return texts


def test_equal_numbers_estimate_the_jaccard_index():
    texts, rng = edited_texts(0, 300), Random(0)
    off = []
    for _ in range(1500):
        one, other = rng.choice(texts), rng.choice(texts)
        off.append(float(np.mean(signature(one) == signature(other))) - similarity(one, other))
    assert abs(np.mean(off)) < 0.01
    assert np.std(off) < 0.5 / np.sqrt(NUMBERS)  # at most: that of a coin thrown so often
    assert max(map(abs, off)) < 0.25


def test_a_signature_is_the_same_in_every_process_and_for_every_spelling():
    assert signature("The film, was good!").tolist() == signature("the film was good").tolist()
    assert signature("the film was good")[:3].tolist() == [33374695, 742485559, 10811295]


@pytest.mark.parametrize("threshold", [0.3, 0.5, 0.7, 0.8, 0.9])
@pytest.mark.parametrize("seed", range(3))
def test_it_finds_exactly_what_the_exact_index_finds(seed, threshold):
    ours, texts = MinHashes(threshold), edited_texts(seed, 250)
    for place, text in enumerate(texts):
        assert ours.find(text) == Twins(texts[:place], threshold).find(text)
        ours.add(text)


def test_of_texts_that_are_kept_without_their_ngrams_twins_are_found_too():
    index, long = MinHashes(0.8), " ".join(f"w{number}" for number in range(MOST_KEPT))
    index.add(long)
    assert index.find(f"{long} w1") == long
    assert index.find(long.replace("7", "8")) is None


@pytest.mark.parametrize("threshold", [0.2, 0.5, 0.8, 0.99, 1.0])
def test_signatures_of_texts_that_are_alike_seldom_seem_far_apart(threshold):
    least = least_equal(threshold)
    assert binom.cdf(least - 1, NUMBERS, threshold) <= MISSED < binom.cdf(least, NUMBERS, threshold)


@pytest.mark.parametrize("threshold", [0.2, 0.3, 0.5, 0.6, 0.7, 0.8, 0.9, 0.99, 1.0])
def test_the_bands_fit_into_a_signature_and_miss_next_to_nothing(threshold):
    count, rows = bands(threshold)
    assert count * rows <= NUMBERS
    assert (1 - threshold**rows) ** count <= MISSED


@pytest.mark.parametrize("text", ["", " ", "?!", "word", "\ud800", "電影"])
def test_odd_texts_equal_themselves_alone(text):
    index = MinHashes(0.9)
    index.add("an ordinary text")
    assert index.find(text) is None
    index.add(text)
    assert index.find(text) == text
