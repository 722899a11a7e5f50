"""The filters: what each drops, and what it must not drop."""

import math
from collections.abc import Sequence
from random import Random

import pytest

from prompt2model.config import GenerateConfig
from prompt2model.filters import Sieve, agreement, contamination, duplicate, format, language, length, novelty
from prompt2model.records import Dropped, Example, Reply, Source, TaskSpec
from prompt2model.rewordings import rouge_l
from prompt2model.teachers.scripted import Scripted
from prompt2model.twins import similarity

REVIEWS = TaskSpec(instruction="Is it good or bad?", kind="classification", labels=("good", "bad"))
TITLES = TaskSpec(instruction="Give the story a title.", kind="generation")


def row(text: str, output: str = "good", kind: str = "teacher") -> Example:
    return Example(input=text, output=output, source=Source(kind=kind, name="x"))


def sieve(task: TaskSpec, *kept: Example, teacher: Scripted | None = None, test: Sequence[Example] = ()) -> Sieve:
    return Sieve(task, teacher or Scripted([]), GenerateConfig(), list(kept), test)


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


def test_format_allows_unchanged_rows_where_the_user_shows_one():
    shown = row("this is right", "This is right.", "user")
    assert reason(format.sift([row("so is this", "so is this")], sieve(TITLES, shown))[0]) == "kept"


# length


def test_length_knows_the_usual_lengths_from_rows_by_people_only():
    real = (row("ten letters", "a title", "user"), row("twenty letters, more", "title", "user"))
    written = (row("x" * 4000, "y" * 4000),)
    judged = length.sift(
        [row("a" * 120, "fits"), row("a" * 121, "fits"), row("a", "fits"), row("usual text", "t" * 300)],
        sieve(TITLES, *real, *written),
    )
    odd = "length unlike the examples"
    assert [reason(one) for one in judged] == ["kept", odd, odd, odd]


def test_length_says_nothing_where_no_person_wrote_a_row():
    assert reason(length.sift([row("x" * 9000)], sieve(REVIEWS, row("short")))[0]) == "kept"


def test_length_leaves_labels_alone():
    real = (row("a fine film", "bad", "user"), row("another fine film", "bad", "user"))
    assert reason(length.sift([row("a film", "x" * 300)], sieve(REVIEWS, *real))[0]) == "kept"


# language


@pytest.mark.parametrize(
    ("code", "text", "expected"),
    [
        ("en", "the film was good", "kept"),
        ("en", "great", "kept"),
        ("en", "12 + 4", "kept"),
        ("en", "an exercise in Schadenfreude", "kept"),
        ("en", "Das Essen war kalt.", "another language"),
        ("en", "这部电影很好", "another language"),
        ("de", "Das Essen war kalt.", "kept"),
        ("de", "The food was cold and the waiter rude.", "another language"),
        ("tlh", "The food was cold and the waiter rude.", "kept"),
    ],
)
def test_language_drops_what_is_surely_in_another(code, text, expected):
    task = REVIEWS.model_copy(update={"language": code})
    assert reason(language.sift([row(text)], sieve(task))[0]) == expected


# duplicate and novelty


@pytest.mark.parametrize(("module", "like"), [(duplicate, "duplicate"), (novelty, "reworded")])
def test_what_is_there_already_is_dropped_among_kept_rows_and_among_candidates(module, like):
    candidates = [row("a film about nothing at all"), row("Something new"), row("something new!"), row("another one")]
    judged = module.sift(candidates, sieve(REVIEWS, row("A film about nothing at all.", kind="user")))
    assert [reason(one) for one in judged] == [like, "kept", like, "kept"]


@pytest.mark.parametrize("module", [duplicate, novelty])
def test_the_row_that_was_there_is_named(module):
    (judged,) = module.sift([row("the old row")], sieve(REVIEWS, row("The old row")))
    assert judged.text == "the old row ≈ The old row"


@pytest.mark.parametrize("module", [duplicate, novelty])
def test_a_candidate_that_another_filter_drops_is_in_nobodys_way(module):
    ours = sieve(REVIEWS)
    assert reason(module.sift([row("one film")], ours)[0]) == "kept"
    assert reason(module.sift([row("one film")], ours)[0]) == "kept"
    ours.kept.append(row("one film"))
    assert reason(module.sift([row("one film")], ours)[0]) != "kept"


def test_duplicate_tells_near_twins_from_the_same_input():
    kept = row("the service at this place was so slow that we left before the food came and will not return")
    candidate = row("the service at this place was so slow that we left before the food came and will not be back")
    assert reason(duplicate.sift([candidate], sieve(REVIEWS, kept))[0]) == "near twin"


def test_novelty_is_stricter_than_duplicate_where_one_word_decides():
    kept, candidate = row("I really love it"), row("I really hate it")
    assert reason(duplicate.sift([candidate], sieve(REVIEWS, kept))[0]) == "kept"
    assert reason(novelty.sift([candidate], sieve(REVIEWS, kept))[0]) == "reworded"


def edited_texts(seed: int, count: int) -> list[str]:
    """Texts of which many are edits of earlier ones."""
    rng, texts = Random(seed), []
    for _ in range(count):
        words = (
            rng.choice(texts).split() if texts and rng.random() < 0.6 else [f"w{rng.randrange(40)}" for _ in "abcdefgh"]
        )
        for _ in range(rng.randint(0, 3)):
            place = rng.randrange(len(words) + 1)
            words = [*words[:place], f"w{rng.randrange(40)}", *words[place + rng.randint(0, 1) :]]
        texts.append(" ".join(words))
    return texts


def quadratic(texts: Sequence[str], is_like) -> list[str]:
    """What is kept when every text is compared with all that is kept."""
    kept: list[str] = []
    for text in texts:
        if not any(is_like(text, other) for other in kept):
            kept.append(text)
    return kept


@pytest.mark.parametrize("round_size", [400, 64, 7])
@pytest.mark.parametrize("seed", range(2))
@pytest.mark.parametrize(
    ("module", "is_like"),
    [
        (duplicate, lambda one, other: similarity(one, other) >= 0.7),
        (novelty, lambda one, other: rouge_l(one, other) > 0.7),
    ],
    ids=["duplicate", "novelty"],
)
def test_the_same_rows_are_kept_as_when_all_pairs_are_compared_whatever_the_rounds(module, is_like, seed, round_size):
    texts, ours = edited_texts(seed, 400), sieve(REVIEWS)
    for first in range(0, len(texts), round_size):
        judged = module.sift([row(text) for text in texts[first : first + round_size]], ours)
        ours.kept += [one for one in judged if isinstance(one, Example)]
    assert [one.input for one in ours.kept] == quadratic(texts, is_like)
    assert 20 < len(ours.kept) < 380


# contamination


LONG = "one two three four five six seven eight nine ten eleven twelve thirteen fourteen"


@pytest.mark.parametrize(
    ("text", "output", "expected"),
    [
        ("something else altogether", "good", "kept"),
        (f"a lot of other words in front of it all, so that it is no twin, then {LONG}", "good", "shares 13 words"),
        ("a story", f"an answer with {LONG.upper()}!", "shares 13 words"),
        (
            " ".join(LONG.split()[:12]) + " and that makes twelve of them, too few for anybody to care about",
            "good",
            "kept",
        ),
        ("The soup was cold.", "bad", "near twin of a test row"),
    ],
)
def test_contamination_drops_what_is_measured_on(text, output, expected):
    test = [row(f"{LONG} and fifteen", kind="data"), row("the soup was cold", "bad", "data")]
    (judged,) = contamination.sift([row(text, output)], sieve(TITLES, test=test))
    assert reason(judged).startswith(expected)


def test_contamination_compares_with_the_given_data_where_no_test_is_set_apart():
    ours = sieve(REVIEWS, row("the soup was cold", "bad", "data"), row("the waiter was rude", "bad", "user"))
    judged = contamination.sift([row("The soup was cold."), row("The waiter was rude.")], ours)
    assert [reason(one) for one in judged] == ["near twin of a test row", "kept"]


def test_contamination_says_when_it_has_nothing_to_compare_with(caplog):
    assert reason(contamination.sift([row("a film")], sieve(REVIEWS))[0]) == "kept"
    assert "no test and no data was given" in caplog.text


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
