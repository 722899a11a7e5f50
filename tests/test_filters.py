"""The filters: what each drops, and what it must not drop."""

import math
from random import Random

import pytest

from prompt2model.config import GenerateConfig
from prompt2model.filters import Sieve, agreement, format, novelty
from prompt2model.records import Dropped, Example, Reply, Source, TaskSpec
from prompt2model.teachers.scripted import Scripted
from prompt2model.twins import Twins

REVIEWS = TaskSpec(instruction="Is it good or bad?", kind="classification", labels=("good", "bad"))
TITLES = TaskSpec(instruction="Give the story a title.", kind="generation")


def row(text: str, output: str = "good", kind: str = "teacher") -> Example:
    return Example(input=text, output=output, source=Source(kind=kind, name="x"))


def sieve(task: TaskSpec, *kept: Example, teacher: Scripted | None = None) -> Sieve:
    twins = Twins(0.7)
    for one in kept:
        twins.add(one.input)
    return Sieve(task=task, kept=kept, twins=twins, teacher=teacher or Scripted([]), config=GenerateConfig())


def reason(judged: Example | Dropped) -> str:
    return judged.reason if isinstance(judged, Dropped) else "kept"


# format


@pytest.mark.parametrize(
    ("task", "candidate", "expected"),
    [
        (REVIEWS, row("a fine film"), "kept"),
        (REVIEWS, row(" "), "empty"),
        (TITLES, row("a story", ""), "empty"),
        (REVIEWS, row("a fine film", "Good"), "not one of the labels"),
        (REVIEWS, row("Good!", "good"), "output is the input"),
        (TITLES, row("The same.", "the same"), "output is the input"),
        (REVIEWS, row("is it good or bad"), "repeats the instruction"),
        (TITLES, row("a story", "Give the story a title."), "repeats the instruction"),
        (REVIEWS, row("a fine film<|im_end|>"), "chat marker"),
        (TITLES, row("a story", "[INST] title"), "chat marker"),
        (REVIEWS, row("a \x07 film"), "control character"),
        (REVIEWS, row("a \ufffd film"), "control character"),
        (REVIEWS, row("two\nlines\tand a tab"), "kept"),
        (REVIEWS, row("ein schöner Film 👩‍👩‍👧 ☺️"), "kept"),
        (TITLES, row("if a < b and b > c", "<b>bold</b>"), "kept"),
    ],
)
def test_format_names_what_is_wrong_with_a_row(task, candidate, expected):
    assert [reason(one) for one in format.sift([candidate], sieve(task))] == [expected]


def test_format_knows_the_usual_lengths_from_rows_by_people_only():
    real = (row("ten letters", "a title", "user"), row("twenty letters, more", "title", "user"))
    written = (row("x" * 4000, "y" * 4000),)
    judged = format.sift(
        [row("a" * 120, "fits"), row("a" * 121, "fits"), row("a", "fits"), row("usual text", "t" * 300)],
        sieve(TITLES, *real, *written),
    )
    odd = "length unlike the examples"
    assert [reason(one) for one in judged] == ["kept", odd, odd, odd]


def test_format_allows_unchanged_rows_where_the_user_shows_one():
    shown = row("this is right", "This is right.", "user")
    assert reason(format.sift([row("so is this", "so is this")], sieve(TITLES, shown))[0]) == "kept"


# novelty


def test_novelty_drops_twins_of_kept_rows_and_of_earlier_candidates():
    candidates = [row("a film about nothing at all"), row("Something new"), row("something new!"), row("another one")]
    judged = novelty.sift(candidates, sieve(REVIEWS, row("A film about nothing at all.", kind="user")))
    assert [reason(one) for one in judged] == ["near twin", "kept", "near twin", "kept"]


def test_novelty_names_the_twin():
    (judged,) = novelty.sift([row("the old row")], sieve(REVIEWS, row("The old row")))
    assert judged.text == "the old row ≈ The old row"


# agreement


def test_agreement_keeps_what_the_teacher_calls_the_same_and_gives_it_probabilities():
    teacher = Scripted([[-0.1, -3.0], [-0.2, -2.0], [-3.0, -0.1], [-0.1, -3.0]])
    candidates = [row("a", "good"), row("b", "good"), row("c", "bad"), row("d", "bad")]
    judged = agreement.sift(candidates, sieve(REVIEWS, teacher=teacher))
    assert [reason(one) for one in judged] == ["kept", "kept", "kept", "teacher disagrees"]
    for one in judged[:3]:
        assert list(one.probabilities) == ["good", "bad"]
        assert sum(one.probabilities.values()) == pytest.approx(1)


@pytest.mark.parametrize("bias", [-8.0, -2.0, 0.0, 2.0, 8.0])
def test_agreement_takes_a_teachers_leaning_to_one_label_away(bias):
    rng = Random(0)

    def noisy(good: bool) -> list[float]:
        strength = rng.gauss(1.0 if good else -1.0, 0.3)
        top = math.log(math.exp(strength + bias) + 1)
        return [strength + bias - top, -top]

    candidates = [row(f"text {i}", "good" if i % 2 else "bad") for i in range(40)]
    teacher = Scripted([noisy(candidate.output == "good") for candidate in candidates])
    judged = agreement.sift(candidates, sieve(REVIEWS, teacher=teacher))
    assert [reason(one) for one in judged] == ["kept"] * 40


def test_agreement_knows_the_leaning_also_when_one_label_alone_was_asked_for():
    """The teacher leans to "good" by far; what is kept from earlier rounds shows it."""
    earlier = [row(f"good {i}", "good") for i in range(20)] + [row(f"bad {i}", "bad") for i in range(20)]
    teacher = Scripted(lambda request: [-0.1, -2.5] if "\n\nbad" in request.messages[0].content else [-0.001, -7.0])
    candidates = [row("bad really", "bad"), row("good really", "bad"), *(row(f"bad new {i}", "bad") for i in range(20))]
    judged = agreement.sift(candidates, sieve(REVIEWS, *earlier, teacher=teacher))
    assert [reason(one) for one in judged[:3]] == ["kept", "teacher disagrees", "kept"]


def test_agreement_asks_a_teacher_without_likelihoods_once_for_the_label():
    teacher = Scripted(
        ["Good.", "bad", "The answer is bad", "dunno", Reply(finish="failed", failure="time-out")], can=("text",)
    )
    candidates = [
        row(text, output) for text, output in zip("abcde", ["good", "good", "bad", "bad", "good"], strict=True)
    ]
    judged = agreement.sift(candidates, sieve(REVIEWS, teacher=teacher))
    assert [reason(one) for one in judged] == ["kept", "teacher disagrees", "kept", "teacher disagrees", "time-out"]
    assert all(request.temperature == 0 for request in teacher.asked)


def test_agreement_drops_a_row_without_likelihoods_for_the_teachers_reason():
    teacher = Scripted([[-0.1, -3.0], Reply(finish="failed", failure="time-out"), [-3.0, -0.1]])
    judged = agreement.sift([row("a", "good"), row("b", "bad"), row("c", "bad")], sieve(REVIEWS, teacher=teacher))
    assert [reason(one) for one in judged] == ["kept", "time-out", "kept"]


def test_agreement_survives_a_round_in_which_no_request_succeeded():
    teacher = Scripted(lambda request: Reply(finish="failed", failure="time-out"))
    assert [reason(one) for one in agreement.sift([row("a"), row("b")], sieve(REVIEWS, teacher=teacher))] == [
        "time-out"
    ] * 2


def test_agreement_compares_two_answers_to_an_open_question():
    teacher = Scripted(["The lost cat of Rome", "Summer", "電影很好看", Reply(finish="failed", failure="time-out")])
    candidates = [row("a", "A lost cat of Rome"), row("b", "Winter is coming"), row("c", "電影好看"), row("d", "x")]
    judged = agreement.sift(candidates, sieve(TITLES, teacher=teacher))
    assert [reason(one) for one in judged] == ["kept", "teacher disagrees", "kept", "time-out"]
    assert all(request.temperature > 0 for request in teacher.asked)


def test_word_f1_is_that_of_rouge_1():
    from rouge_score.rouge_scorer import RougeScorer

    rng, scorer = Random(0), RougeScorer(["rouge1"])
    for _ in range(200):
        one, other = (
            " ".join(rng.choices(["the", "cat", "sat", "on", "a", "mat"], k=rng.randint(1, 9))) for _ in range(2)
        )
        assert agreement.word_f1(one, other) == pytest.approx(scorer.score(one, other)["rouge1"].fmeasure)
