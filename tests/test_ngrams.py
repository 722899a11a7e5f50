"""The n-gram index: counts and places are those of going through all the words."""

from random import Random

import pytest

from prompt2model.ngrams import DEEPEST, NGrams, Position
from prompt2model.wording import words


def random_texts(seed: int) -> list[str]:
    rng = Random(seed)
    texts = [" ".join(rng.choices(["a", "b", "the", "film", "電"], k=rng.randint(0, 40))) for _ in range(60)]
    return [*texts, *rng.sample(texts, 10)]


def occurrences(texts: list[list[str]], wanted: list[str]) -> list[Position]:
    return [
        Position(number, place)
        for number, text in enumerate(texts)
        for place in range(len(text))
        if text[place : place + len(wanted)] == wanted
    ]


@pytest.mark.parametrize("seed", range(4))
def test_counts_and_positions_are_those_of_going_through_all_words(seed):
    texts, rng = random_texts(seed), Random(seed)
    index, tokenised = NGrams(texts), [words(text) for text in texts]
    for _ in range(150):
        tokens = rng.choice(tokenised) or ["a"]
        n = rng.randint(1, min(DEEPEST + 4, len(tokens)))
        first = rng.randrange(len(tokens) - n + 1)
        phrase = tokens[first : first + n]
        if rng.random() < 0.3:
            phrase[rng.randrange(n)] = rng.choice(["b", "never"])
        expected = occurrences(tokenised, phrase)
        assert index.positions(" ".join(phrase)) == expected
        assert index.count(" ".join(phrase)) == len(expected)


def test_no_ngram_reaches_from_one_text_into_the_next():
    index = NGrams(["a b", "c d"])
    assert (index.count("a b"), index.count("b c"), index.count("c d")) == (1, 0, 1)


@pytest.mark.parametrize("n", [1, 2, 13, 16, 17, 52])
def test_the_first_shared_ngram_is_named(n):
    shared = [f"s{number}" for number in range(n)]
    index = NGrams([" ".join(["x", *shared, "y"]), "something else"])
    assert index.shared(["before", *shared, "and", "after"], n) == " ".join(shared)
    assert index.shared(["before", *shared[:-1], "and", "after"], n) is None
    assert index.shared(["short"], n) is None


def test_an_ngram_of_many_texts_is_no_shared_one_where_that_is_asked():
    index = NGrams(["a b c", "a b d", "a b a b", "x y"])
    assert [index.shared(["a", "b"], 2, most_texts=most) for most in (1, 2, 3)] == [None, None, "a b"]
    assert index.shared(["a", "b", "c"], 2, most_texts=1) == "b c"


@pytest.mark.parametrize("texts", [[], [""], ["", "?"]])
def test_an_index_over_nothing_has_nothing(texts):
    assert NGrams(texts).count("anything") == 0


@pytest.mark.parametrize("phrase", ["", " "])
def test_a_phrase_of_no_word_is_refused(phrase):
    with pytest.raises(ValueError, match="a word at least"):
        NGrams(["w"]).count(phrase)
