"""The Jaccard index of word n-grams: what sets of tuples give, of one pair and of many at once."""

from random import Random

import pytest
from texts import random_texts

from prompt2model.jaccard import NGRAMS, Likeness, likenesses, ngram_hashes, similarity
from prompt2model.wording import words


def by_sets(one: str, other: str) -> float:
    ours, theirs = (
        {tuple(found[i : i + n]) for n in NGRAMS for i in range(len(found) - n + 1)} for found in split(one, other)
    )
    return len(ours & theirs) / len(ours | theirs)


def split(*texts: str) -> list[list[str]]:
    return [words(text) or [""] for text in texts]


@pytest.mark.parametrize("seed", range(3))
def test_it_is_that_of_sets_of_ngrams(seed):
    texts = [*random_texts(seed, 80), "", "?!", "\ud800"]
    index, rng = Likeness(texts), Random(seed)
    for text in [*rng.sample(texts, 30), "", "not one of them", "the film was bad, very bad"]:
        expected = [by_sets(text, other) for other in texts]
        assert index.to(text).tolist() == expected
        assert likenesses(ngram_hashes(text), [ngram_hashes(other) for other in texts]).tolist() == expected
        assert [similarity(text, other) for other in texts[:10]] == expected[:10]


def test_it_is_symmetric_and_one_for_the_same_ngrams():
    rng, texts = Random(0), random_texts(3, 60)
    for _ in range(200):
        one, other = rng.sample(texts, 2)
        assert similarity(one, other) == similarity(other, one)
        assert (similarity(one, other) == 1) == (ngram_hashes(one).tolist() == ngram_hashes(other).tolist())


def test_nothing_is_like_nothing():
    assert Likeness([]).to("a text").tolist() == likenesses(ngram_hashes("a text"), []).tolist() == []
