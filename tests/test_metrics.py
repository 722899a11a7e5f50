"""Metrics against the libraries that define them, and intervals against their laws."""

import math
import random
from types import ModuleType, SimpleNamespace

import numpy as np
import pytest
from rouge_score.rouge_scorer import RougeScorer
from sacrebleu.metrics import CHRF
from sklearn.metrics import accuracy_score, f1_score

from prompt2model import bootstrap, registry
from prompt2model.errors import DataError
from prompt2model.metrics import accuracy, chrf, exact_match, f1, rouge_l

ALL = [registry.load("metrics", name) for name in ("accuracy", "chrf", "exact_match", "f1", "rouge_l")]
LABELS = ["bug", "billing", "other"]
WORDS = [
    "the",
    "quick",
    "brown",
    "foxes",
    "jumped",
    "over",
    "some",
    "lazy",
    "dogs",
    "and",
    "3",
    "running",
    "hens",
    "don't",
]


@pytest.fixture
def rng() -> random.Random:
    return random.Random(7)


def labels(rng: random.Random, n: int, right: float) -> tuple[list[str], list[str]]:
    truth = rng.choices(LABELS, weights=[6, 3, 1], k=n)
    return [label if rng.random() < right else rng.choice([*LABELS, "none"]) for label in truth], truth


def texts(rng: random.Random, n: int) -> tuple[list[str], list[str]]:
    truth = [" ".join(rng.choices(WORDS, k=rng.randint(1, 9))) for _ in range(n)]
    return [" ".join(word for word in text.split() if rng.random() < 0.7) for text in truth], truth


def answers(metric: ModuleType, rng: random.Random, n: int) -> tuple[list[str], list[str]]:
    return labels(rng, n, 0.7) if "classification" in metric.KINDS else texts(rng, n)


def test_accuracy_is_that_of_scikit_learn(rng: random.Random) -> None:
    guesses, truth = labels(rng, 300, 0.7)
    assert accuracy.compute(guesses, truth) == pytest.approx(accuracy_score(truth, guesses))


def test_accuracy_takes_no_answer_that_only_resembles_the_label() -> None:
    assert accuracy.compute(["Bug", "bug ", "bug"], ["bug"] * 3) == pytest.approx(1 / 3)


def test_f1_is_that_of_scikit_learn_over_the_true_labels(rng: random.Random) -> None:
    guesses, truth = labels(rng, 300, 0.7)
    expected = f1_score(truth, guesses, labels=sorted(set(truth)), average="macro")
    assert f1.compute(guesses, truth) == pytest.approx(expected)


def test_f1_of_answers_outside_the_labels_is_zero() -> None:
    assert f1.compute(["maybe", "maybe"], ["bug", "other"]) == 0


def test_rouge_l_is_that_of_rouge_score_on_english(rng: random.Random) -> None:
    guesses, truth = texts(rng, 60)
    scorer = RougeScorer(["rougeL"], use_stemmer=True)
    expected = [scorer.score(a, b)["rougeL"].fmeasure for a, b in zip(truth, guesses, strict=True)]
    assert rouge_l.per_row(guesses, truth) == pytest.approx(expected)
    assert rouge_l.compute(guesses, truth) == pytest.approx(np.mean(expected))


@pytest.mark.parametrize(
    "text", ["Привет, мир", "猫が好きです", "σήμερα βρέχει", "สวัสดีชาวโลก", "مرحبا بالعالم", "किताब पढ़ो", "မြန်မာ"]
)
def test_rouge_l_reads_other_alphabets(text: str) -> None:
    assert rouge_l.compute([text], [text]) == 1
    assert rouge_l.compute(["nothing alike"], [text]) == 0


@pytest.mark.parametrize(
    ("one", "other", "expected"),
    [
        ("犬が好きです", "猫が好きです", 5 / 6),  # a character each
        ("iPhoneが好き", "iphoneが嫌い", 2 / 4),  # among words of other scripts too
        ("เสื่อ", "เสือ", 2 * 4 / (5 + 4)),  # a mat and a tiger, by a tone mark
        ("किताब", "किताबें", 0),  # one word each, whatever signs it has
        ("नई किताब", "नई कलम", 1 / 2),
    ],
)
def test_rouge_l_counts_words_with_their_marks_and_characters_where_no_spaces_are(one, other, expected) -> None:
    assert rouge_l.compute([one], [other]) == pytest.approx(expected)


def test_chrf_is_chrf_plus_plus_of_sacrebleu(rng: random.Random) -> None:
    guesses, truth = texts(rng, 60)
    expected = CHRF(word_order=2).corpus_score(guesses, [truth]).score / 100
    assert chrf.compute(guesses, truth) == pytest.approx(expected)


@pytest.mark.parametrize(
    ("guess", "truth", "same"),
    [
        ("  two\n words ", "two words", True),
        ("Two words", "two words", False),
        ("two words.", "two words", False),
        ("so 3*4=12\n#### 12", "It is 12.\n#### 12", True),
        ("#### 1,000", "#### 1000", True),
        ("#### $1000.00", "a\n#### 1,000\n", True),
        ("#### -5.", "#### -5", True),
        ("#### 10,00", "#### 1000", False),
        ("12", "#### 12", True),
        ("The answer is 12", "#### 12", False),
        ("#### 5\n#### 6", "#### 6", True),
        ("#### six", "#### six", True),
        ("#### ", "#### 0", False),
        ("1,000", "1000", False),
        ("#### heading\ntext", "#### heading\nother", False),
    ],
)
def test_exact_match_looks_past_spaces_and_number_formats(guess: str, truth: str, same: bool) -> None:
    assert exact_match.compute([guess], [truth]) == float(same)


@pytest.mark.parametrize("metric", ALL, ids=lambda metric: metric.__name__.rsplit(".", 1)[-1])
def test_every_metric_is_one_at_equality_and_within_its_scale(metric: ModuleType, rng: random.Random) -> None:
    guesses, truth = answers(metric, rng, 50)
    assert metric.compute(truth, truth) == pytest.approx(1)
    assert 0 <= metric.compute(guesses, truth) < 1


@pytest.mark.parametrize("metric", ALL, ids=lambda metric: metric.__name__.rsplit(".", 1)[-1])
def test_lists_that_cannot_be_compared_are_refused(metric: ModuleType) -> None:
    with pytest.raises(DataError, match="no row"):
        metric.compute([], [])
    with pytest.raises(DataError, match="1 predictions stand beside 2 references"):
        metric.compute(["a"], ["a", "b"])


@pytest.mark.parametrize("metric", ALL, ids=lambda metric: metric.__name__.rsplit(".", 1)[-1])
def test_the_cheap_way_to_resample_is_the_costly_one(metric: ModuleType, rng: random.Random) -> None:
    guesses, truth = answers(metric, rng, 20)
    plain = SimpleNamespace(compute=metric.compute)
    cheap = bootstrap.interval(metric, guesses, truth, resamples=bootstrap.COSTLY_RESAMPLES, seed=3)
    assert bootstrap.interval(plain, guesses, truth, seed=3) == pytest.approx(cheap)


def test_an_interval_of_a_share_is_that_of_the_normal_distribution(rng: random.Random) -> None:
    guesses, truth = labels(rng, 3000, 0.7)
    assert bootstrap.CHUNK_CELLS < 3000 * 2000
    share = accuracy.compute(guesses, truth)
    reach = 1.96 * math.sqrt(share * (1 - share) / 3000)
    low, high = bootstrap.interval(accuracy, guesses, truth, resamples=2000)
    assert (low, high) == (pytest.approx(share - reach, abs=0.003), pytest.approx(share + reach, abs=0.003))


@pytest.mark.parametrize("metric", ALL, ids=lambda metric: metric.__name__.rsplit(".", 1)[-1])
def test_an_interval_holds_the_score_and_the_seed_decides_it(metric: ModuleType, rng: random.Random) -> None:
    guesses, truth = answers(metric, rng, 80)
    low, high = bootstrap.interval(metric, guesses, truth, seed=1)
    assert low < metric.compute(guesses, truth) < high
    assert bootstrap.interval(metric, guesses, truth, seed=1) == (low, high)
    assert len({bootstrap.interval(metric, guesses, truth, resamples=50, seed=seed) for seed in range(5)}) > 1


@pytest.mark.parametrize("metric", ALL, ids=lambda metric: metric.__name__.rsplit(".", 1)[-1])
@pytest.mark.parametrize("n", [1, 5])
def test_rows_that_are_all_alike_have_an_interval_without_width(metric: ModuleType, n: int) -> None:
    assert bootstrap.interval(metric, ["bug"] * n, ["bug"] * n) == pytest.approx((1, 1))
    apart = bootstrap.paired_difference(metric, ["bug"] * n, ["bug"] * n, ["bug"] * n)
    assert apart == (0, 0, 0)
    assert not apart.is_more_than_noise


def test_a_paired_difference_is_narrower_than_two_intervals_apart(rng: random.Random) -> None:
    theirs, truth = labels(rng, 300, 0.6)
    ours = [right if rng.random() < 0.3 else guess for guess, right in zip(theirs, truth, strict=True)]
    apart = bootstrap.paired_difference(accuracy, ours, theirs, truth)
    alone = [bootstrap.interval(accuracy, answered, truth) for answered in (ours, theirs)]
    assert apart.value == pytest.approx(accuracy.compute(ours, truth) - accuracy.compute(theirs, truth))
    assert apart.is_more_than_noise
    assert apart.high - apart.low < alone[0][1] - alone[1][0] - (alone[0][0] - alone[1][1])


def test_two_guessers_do_not_differ_by_more_than_noise(rng: random.Random) -> None:
    ours, truth = labels(rng, 200, 0.5)
    theirs = [rng.choice(LABELS) if rng.random() < 0.5 else label for label in truth]
    assert not bootstrap.paired_difference(accuracy, ours, theirs, truth).is_more_than_noise


def test_no_rows_have_no_interval() -> None:
    for metric in (accuracy, chrf, SimpleNamespace(compute=accuracy.compute)):
        with pytest.raises(DataError):
            bootstrap.interval(metric, [], [])
