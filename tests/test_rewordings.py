"""Rewordings: the index finds what comparing with every text finds, and ROUGE-L is what others compute."""

from random import Random

import pytest
from rouge_score.rouge_scorer import RougeScorer
from texts import random_texts, rouge_l

from prompt2model.rewordings import Rewordings

WORDS = ["the", "the", "film", "was", "good", "bad", "very", "long", "cat", "sat", "mat"]


def test_rouge_l_is_that_of_rouge_score():
    scorer, rng = RougeScorer(["rougeL"]), Random(0)
    texts = random_texts(1, 80, WORDS)
    for _ in range(500):
        one, other = rng.choice(texts), rng.choice(texts)
        assert rouge_l(one, other) == pytest.approx(scorer.score(one, other)["rougeL"].fmeasure)


def test_rouge_l_of_texts_longer_than_a_machine_word_is_that_of_rouge_score():
    scorer, rng = RougeScorer(["rougeL"]), Random(0)
    for _ in range(20):
        one, other = (" ".join(rng.choices(WORDS, k=rng.randint(60, 300))) for _ in range(2))
        assert rouge_l(one, other) == pytest.approx(scorer.score(one, other)["rougeL"].fmeasure)


@pytest.mark.parametrize(
    ("one", "other", "expected"),
    [
        ("dog bites man", "man bites dog", 1 / 3),
        ("the film was good", "The film was GOOD!", 1),
        ("我喜欢这部电影", "我讨厌这部电影", 5 / 7),
        ("", "a", 0),
        ("", "", 0),
        ("a a a", "a", 0.5),
    ],
)
def test_words_count_in_their_order_in_any_script(one, other, expected):
    assert rouge_l(one, other) == pytest.approx(expected)


@pytest.mark.parametrize("threshold", [0.1, 0.3, 0.5, 0.7, 0.8, 0.95])
@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("vocabulary", [4, 60])
def test_the_index_finds_the_first_text_that_comparing_all_finds(seed, threshold, vocabulary):
    index, earlier = Rewordings(threshold), []
    for text in random_texts(seed, 120, [f"w{number}" for number in range(vocabulary)]):
        expected = next((other for other in earlier if rouge_l(text, other) > threshold), None)
        assert index.find(text) == expected
        index.add(text)
        earlier.append(text)
        assert len(index) == len(earlier)


def test_a_text_that_just_reaches_the_threshold_is_no_rewording():
    index = Rewordings(0.5)
    index.add("a b c d")
    assert index.find("a b x y") is None
    assert index.find("a b c y") == "a b c d"
