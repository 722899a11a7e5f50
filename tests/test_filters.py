"""The filters: what each drops, and what it must not drop."""

import json
import logging
import math
from collections import Counter
from collections.abc import Callable, Sequence
from random import Random

import numpy as np
import pytest
from texts import rouge_l

from prompt2model.config import GenerateConfig
from prompt2model.conversation import Reply, Request
from prompt2model.errors import ConfigError
from prompt2model.filters import (
    Sieve,
    agreement,
    balance,
    contamination,
    critic,
    duplicate,
    format,
    judge,
    language,
    length,
    likelihood,
    novelty,
    relabel,
)
from prompt2model.jaccard import similarity
from prompt2model.ledger import prompt_text
from prompt2model.marks import Mark
from prompt2model.records import Dropped, Example, Source, TaskSpec
from prompt2model.registry import load
from prompt2model.sameness import says_the_same, word_f1
from prompt2model.teachers.scripted import Scripted

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
        (TITLES, row("The same.", " The same. "), "output is the input"),
        (TITLES, row("the same", "The Same"), "kept"),
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


@pytest.mark.parametrize(
    ("output", "expected"),
    [("Where was the Rhine regulated with a canal?", "kept"), ("Der Rhein wurde reguliert.", "output is the input")],
    ids=["repaired", "translated"],
)
def test_format_allows_unchanged_rows_where_people_change_little(output, expected):
    shown = row("Why was uh where was the Rhine regulated with a canal?", output, "user")
    assert reason(format.sift([row("who is it", "Who is it?")], sieve(TITLES, shown))[0]) == expected


# length


def test_length_knows_the_usual_lengths_from_rows_by_people_only():
    real = (row("x" * 200, "a title", "user"), row("x" * 400, "title", "user"))
    written = (row("x" * 40000, "y" * 4000),)
    judged = length.sift(
        [row("a" * 1640, "fits"), row("a" * 1641, "fits"), row("a" * 9, "fits"), row("a" * 300, "t" * 300)],
        sieve(TITLES, *real, *written),
    )
    odd = "length unlike the examples"
    assert [reason(one) for one in judged] == ["kept", odd, odd, odd]


def test_length_lets_an_output_say_that_there_is_nothing():
    shown = row("Anna Smith wrote to us.", '{"name": "Anna Smith"}', "user")
    assert reason(length.sift([row("Somebody wrote to us.", "{}")], sieve(TITLES, shown))[0]) == "kept"


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


@pytest.mark.parametrize(
    ("beginning", "expected"),
    [
        ("ฉันต้องการคืน", "kept"),
        ("我想问一下你们的营业时间是", "kept"),
        ("我想问一下你们的营业时间是" * 3, "shares 13 words"),
    ],
)
def test_contamination_counts_words_where_no_spaces_are_written(beginning, expected):
    test = [row(f"{beginning}เสื้อ上午还是下午甲乙丙丁戊己庚辛" + "ท" * (40 * ("ฉ" in beginning)), kind="data")]
    other = f"{beginning}โทรศัพท์寅卯辰巳午未申酉戌亥" + "ม" * (40 * ("ฉ" in beginning))
    (judged,) = contamination.sift([row(other)], sieve(TITLES, test=test))
    assert reason(judged).startswith(expected)


def test_contamination_lets_words_pass_that_many_test_rows_share():
    form = "name {} email null phone null address null city null zip null country null note null"
    test = [row(form.format(place), form.format(place), "data") for place in range(11)]
    other = row("something else", form.format("x"))
    ours = sieve(TITLES, test=test)
    assert reason(contamination.sift([other], ours)[0]) == "kept"
    assert reason(contamination.sift([other], sieve(TITLES, test=test[:10]))[0]).startswith("shares 13")
    strict = ours.config.model_copy(update={"options": {"contamination": {"common_rows": 0}}})
    assert reason(contamination.sift([other], Sieve(TITLES, Scripted([]), strict, [], test))[0]).startswith("shares 13")


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


def test_agreement_keeps_the_label_of_the_majority_of_fresh_answers_and_its_share():
    answers = [
        *("Good.", "good", "bad"),
        *("bad", "bad", "The answer is good"),
        *("dunno", "good", "no idea"),
        *("good", "bad", "dunno"),
    ]
    teacher = Scripted([*answers, *[Reply(finish="failed", failure="time-out")] * 3], can=("text",))
    judged = agreement.sift([row(text) for text in "abcde"], sieve(REVIEWS, teacher=teacher))
    disagrees = "teacher disagrees"
    assert [reason(one) for one in judged] == ["kept", disagrees, disagrees, disagrees, "time-out"]
    assert judged[0].confidence == pytest.approx(2 / 3)
    assert all(request.temperature > 0 for request in teacher.asked)
    assert [request.seed for request in teacher.asked[:3]] == [1, 2, 3]


def test_a_row_gets_the_label_that_the_teacher_is_sure_of():
    good, bad, rather_good, rather_bad = [-0.1, -3.0], [-3.0, -0.1], [-0.65, -0.75], [-0.75, -0.65]
    teacher = Scripted([good, bad, bad, good, rather_bad, rather_good, rather_good, rather_bad])
    candidates = [row(text, "good" if text in "aceg" else "bad") for text in "abcdefgh"]
    judged = relabel.sift(candidates, sieve(REVIEWS, teacher=teacher))
    assert [reason(one) for one in judged] == ["kept"] * 4 + ["teacher unsure"] * 4
    assert [one.output for one in judged[:4]] == ["good", "bad", "bad", "good"]
    assert all(one.output == max(one.probabilities, key=one.probabilities.get) for one in judged[:4])


def test_a_row_with_a_rationale_gets_no_other_label():
    """The rationale argues for the label that it was written with."""
    teacher = Scripted([[-0.1, -3.0], [-3.0, -0.1], [-3.0, -0.1], [-0.1, -3.0]])
    candidates = [row("a", "good"), row("b", "bad"), row("c", "good"), row("d", "bad")]
    candidates[2] = candidates[2].model_copy(update={"rationale": "it is praised", "confidence": 1.0})
    candidates[3] = candidates[3].model_copy(update={"confidence": 1.0})
    judged = relabel.sift(candidates, sieve(REVIEWS, teacher=teacher))
    assert [reason(one) for one in judged] == ["kept", "kept", "teacher disagrees", "kept"]
    assert (judged[3].output, judged[3].confidence) == ("good", None)


def test_of_many_labels_the_likeliest_has_to_stand_out_from_the_next():
    task = REVIEWS.model_copy(update={"labels": tuple("abcd")})
    shares = ([0.31, 0.09, 0.3, 0.3], [0.1, 0.5, 0.2, 0.2], [0.2, 0.2, 0.5, 0.1], [0.2, 0.2, 0.1, 0.5])
    teacher = Scripted([[math.log(share) for share in row] for row in shares])
    judged = relabel.sift([row("1", "b"), row("2", "b"), row("3", "c"), row("4", "d")], sieve(task, teacher=teacher))
    assert [reason(one) for one in judged] == ["teacher unsure", "kept", "kept", "kept"]


def test_a_row_about_which_the_teacher_does_not_answer_is_not_labelled_anew():
    teacher = Scripted([[-0.1, -3.0], Reply(finish="failed", failure="time-out"), [-3.0, -0.1]])
    judged = relabel.sift([row("a", "good"), row("b", "bad"), row("c", "bad")], sieve(REVIEWS, teacher=teacher))
    assert [reason(one) for one in judged] == ["kept", "time-out", "kept"]


def test_agreement_drops_a_row_without_likelihoods_for_the_teachers_reason():
    teacher = Scripted([[-0.1, -3.0], Reply(finish="failed", failure="time-out"), [-3.0, -0.1]])
    judged = agreement.sift([row("a", "good"), row("b", "bad"), row("c", "bad")], sieve(REVIEWS, teacher=teacher))
    assert [reason(one) for one in judged] == ["kept", "time-out", "kept"]


def test_agreement_survives_a_round_in_which_no_request_succeeded():
    teacher = Scripted(lambda request: Reply(finish="failed", failure="time-out"))
    assert [reason(one) for one in agreement.sift([row("a"), row("b")], sieve(REVIEWS, teacher=teacher))] == [
        "time-out"
    ] * 2


def test_agreement_compares_fresh_answers_to_an_open_question():
    failed = Reply(finish="failed", failure="time-out")
    teacher = Scripted(
        [
            *("The lost cat of Rome", "Lost cat of Rome", "Summer"),
            *("Summer", "Winter is coming", "Autumn"),
            *("電影很好看", failed, failed),
            *(failed, failed, failed),
        ],
        can=("text",),
    )
    candidates = [row("a", "A lost cat of Rome"), row("b", "Winter is coming"), row("c", "電影好看"), row("d", "x")]
    judged = agreement.sift(candidates, sieve(TITLES, teacher=teacher))
    assert [reason(one) for one in judged] == ["kept", "teacher disagrees", "kept", "time-out"]
    assert [judged[0].confidence, judged[2].confidence] == [pytest.approx(2 / 3), 1.0]


@pytest.mark.parametrize(
    ("one", "other", "expected"),
    [
        ("0.8", "0.2", False),
        ("72", "75", False),
        ("-0.8", "0.8", False),
        ("$1,000", "1000", True),
        ("Score: 3", "Score: 9", False),
        ('{"product": "A", "price": 5}', '{"product": "B", "price": 9}', False),
        ('{"product": "A", "price": 5}', '{"price": 5, "product": "a"}', True),
        ("person: Anna, city: Rome", "person: Bob, city: Oslo", False),
        ("person: Anna, city: Rome", "person: Anna, city: Roma", True),
        ("the cat sat on the mat", "on the mat sat a cat", True),
        ("the cat sat on the mat", "dogs bark at night", False),
    ],
)
def test_answers_to_open_tasks_say_the_same_where_words_and_numbers_do(one, other, expected):
    shown = [row("a", "person: Tom, city: Bonn", "user"), row("b", "person: Li, city: Wuhan", "user")]
    assert says_the_same(one, other, TITLES.model_copy(update={"examples": tuple(shown)})) is expected


def test_word_f1_is_that_of_rouge_1():
    from rouge_score.rouge_scorer import RougeScorer

    rng, scorer = Random(0), RougeScorer(["rouge1"])
    for _ in range(200):
        one, other = (
            " ".join(rng.choices(["the", "cat", "sat", "on", "a", "mat"], k=rng.randint(1, 9))) for _ in range(2)
        )
        assert word_f1(one, other) == pytest.approx(scorer.score(one, other)["rouge1"].fmeasure)


# likelihood


def test_likelihood_keeps_what_gains_by_its_own_input():
    """Titles that hold a word of their story are likelier after it; "The End" is as likely after any."""

    def tell(request: Request) -> list[float]:
        story = request.messages[-1].content
        return [
            -1.0 if title.split()[-1] in story else -9.0 if title != "The End" else -0.5 for title in request.choices
        ]

    rows = [row(f"a story about {name}", f"The {name}") for name in ("rome", "paris", "oslo")]
    rows += [row("a story about lima", "The End"), row("a story about bern", "The rome")]
    judged = likelihood.sift(rows, sieve(TITLES, teacher=Scripted(tell)))
    worse = "output fits other inputs better"
    assert [reason(one) for one in judged] == ["kept", "kept", "kept", worse, worse]


def test_likelihood_keeps_a_row_that_has_none_to_compare_with_and_names_a_failure():
    failed = Reply(finish="failed", failure="time-out")
    teacher = Scripted([[-1.0], failed])
    assert reason(likelihood.sift([row("a")], sieve(REVIEWS, teacher=teacher))[0]) == "kept"
    assert reason(likelihood.sift([row("a")], sieve(REVIEWS, teacher=teacher))[0]) == "time-out"


def test_likelihood_asks_once_for_a_row_and_never_across_groups():
    teacher = Scripted(lambda request: [-1.0] * len(request.choices))
    rows = [row(f"input {place}", f"output {place}") for place in range(likelihood.GROUP_ROWS + 3)]
    likelihood.sift(rows, sieve(TITLES, teacher=teacher))
    assert [len(request.choices) for request in teacher.asked] == [6] * 6 + [5] * 5


# judge


def verdict(**no: bool) -> str:
    return json.dumps(dict.fromkeys(judge.rubric(), True) | {name.replace("_", " "): said for name, said in no.items()})


def test_judge_keeps_rows_of_which_enough_is_true():
    failed = Reply(finish="failed", failure="time-out")
    teacher = Scripted(
        [
            f"Here it is: {verdict()}",
            verdict(plain=False),
            verdict(correct=False, in_form=False),
            "all fine",
            json.dumps({"correct": True}),
            verdict().replace("true", '"yes"', 1),
            failed,
        ],
        can=("text",),
    )
    judged = judge.sift([row(text) for text in "abcdefg"], sieve(REVIEWS, teacher=teacher))
    unreadable = "unreadable verdict"
    expected = ["kept", "kept", "judged: not correct", unreadable, unreadable, unreadable, "time-out"]
    assert [reason(one) for one in judged] == expected
    assert judged[2].text == "c → good; not correct, in form"


def test_judge_asks_for_as_much_as_is_set():
    for least, expected in ((0.8, "kept"), (1.0, "judged: not plain")):
        teacher = Scripted([verdict(plain=False)], can=("text",))
        config = GenerateConfig(options={"judge": {"least_score": least}})
        (judged,) = judge.sift([row("a")], Sieve(REVIEWS, teacher, config))
        assert reason(judged) == expected


def test_judge_shows_the_row_and_every_question_and_asks_for_json_where_it_can_be_had():
    for can, has_schema in ((("text",), False), (("text", "json_schema"), True)):
        teacher = Scripted([verdict()], can=can)
        judge.sift([row("a fine film")], sieve(REVIEWS, teacher=teacher))
        (request,) = teacher.asked
        prompt = "\n".join(message.content for message in request.messages)
        assert all(text in prompt for text in ("a fine film", "good", REVIEWS.instruction, *judge.rubric().values()))
        assert (request.json_schema is not None) == has_schema


def by_odds(odds: Callable[[str], float]) -> Scripted:
    """A local teacher with likelihoods and without JSON: the log-odds of its yes, given the prompt."""
    return Scripted(lambda asked: Reply(logprobs=(odds(asked.messages[-1].content), 0.0)), can=("text", "logprobs"))


def test_a_local_judge_is_asked_for_the_likelihood_of_a_yes_to_each_question():
    teacher = by_odds(lambda asked: -1.0 if "right for this" in asked and "a wrong one" in asked else 1.0)
    judged = judge.sift([row("a fine one"), row("a wrong one")], sieve(REVIEWS, teacher=teacher))
    assert [reason(one) for one in judged] == ["kept", "judged: not correct"]
    assert len(teacher.asked) == 2 * len(judge.rubric())
    assert all(asked.choices == ("yes", "no") for asked in teacher.asked)


def test_a_local_judge_that_leans_to_no_is_measured_by_what_it_says_of_the_users_examples():
    odds = {"theirs": -3.0, "better": -2.0, "worse": -4.0}
    teacher = by_odds(lambda asked: next(value for text, value in odds.items() if text in asked))
    given = REVIEWS.model_copy(update={"examples": (row("theirs", kind="user"),)})
    ours = sieve(given, teacher=teacher)
    assert [reason(one) for one in judge.sift([row("better"), row("worse")], ours)] == ["kept", "judged: not realistic"]
    asked = len(teacher.asked)
    judge.sift([row("better")], ours)
    assert len(teacher.asked) == asked + len(judge.rubric()), "the examples are judged once"
    assert [reason(one) for one in judge.sift([row("better")], sieve(REVIEWS, teacher=teacher))] == [
        "judged: not realistic"
    ]


def test_a_local_judge_that_gives_no_answer_keeps_nothing():
    teacher = Scripted(lambda asked: Reply(finish="failed", failure="too long"), can=("text", "logprobs"))
    assert [reason(one) for one in judge.sift([row("a")], sieve(REVIEWS, teacher=teacher))] == ["no verdict"]


def test_likelihood_compares_rows_of_all_labels_whatever_their_order():
    """All are right, and all outputs of one label are as likely after any of its inputs."""
    teacher = Scripted(
        lambda asked: [0.0 if f"{label} text" in prompt_text(asked) else -2.0 for label in asked.choices]
    )
    shown = [row(f"{label} text {place}", label) for label in ("good", "bad") for place in range(16)]
    judged = likelihood.sift(shown, sieve(REVIEWS, teacher=teacher))
    assert [reason(one) for one in judged] == ["kept"] * len(shown)
    assert [one.input for one in judged] == [one.input for one in shown]


# balance


def test_balance_keeps_no_label_beyond_twice_its_share():
    rng = Random(0)
    candidates = [row(f"text number {place}", "good" if rng.random() < 0.97 else "bad") for place in range(400)]
    judged = balance.sift(candidates, sieve(REVIEWS.model_copy(update={"labels": ("good", "bad", "so so")})))
    kept = Counter(one.output for one in judged if isinstance(one, Example))
    assert kept["bad"] == sum(one.output == "bad" for one in candidates)
    assert kept["good"] <= 2 / 3 * max(kept.total(), 16) + 1
    assert {reason(one) for one in judged} == {"kept", "too many of this label"}


@pytest.mark.parametrize("labels", [3, 5, 10])
def test_balance_treats_labels_alike_whatever_their_order(labels):
    names = tuple(f"label {place}" for place in range(labels))
    candidates = [row(f"text {place} of {name}", name) for name in names for place in range(60 // labels)]
    judged = balance.sift(candidates, sieve(REVIEWS.model_copy(update={"labels": names})))
    assert [reason(one) for one in judged] == ["kept"] * len(candidates)
    assert [one.input for one in judged] == [one.input for one in candidates]


def test_an_open_question_is_asked_afresh_with_the_users_examples():
    shown = row("name=A", "A is a place.", kind="user")
    teacher = Scripted(["B is a place."] * 3)
    form = TITLES.model_copy(update={"examples": (shown,)})
    assert [reason(one) for one in agreement.sift([row("name=B", "B is a place.")], sieve(form, teacher=teacher))] == [
        "kept"
    ]
    assert all("A is a place." in str(asked.messages) for asked in teacher.asked)


def test_balance_keeps_rows_of_more_labels_than_it_counts_shares_of():
    labels = tuple(f"department {number}" for number in range(100))
    candidates = [row(f"Where is it, {number}?", labels[number % 100]) for number in range(200)]
    judged = balance.sift(candidates, sieve(REVIEWS.model_copy(update={"labels": labels})))
    assert sum(isinstance(one, Example) for one in judged) >= 190


def test_balance_does_not_count_the_labels_of_what_people_gave():
    given = [row(f"Spam number {number}, again.", "good", "data") for number in range(60)]
    candidates = [row(f"A letter, number {number}.", ("good", "bad")[number % 2]) for number in range(40)]
    judged = balance.sift(candidates, sieve(REVIEWS, *given))
    assert sum(isinstance(one, Example) for one in judged) >= 36


def test_balance_keeps_no_length_beyond_twice_its_share():
    rng = Random(1)
    lengths = [rng.choice([3] * 20 + [9, 17, 40]) for _ in range(300)]
    candidates = [row(" ".join(f"w{rng.randrange(999)}" for _ in range(length))) for length in lengths]
    judged = balance.sift(candidates, sieve(TITLES))
    kept = Counter(balance.length_band(one) for one in judged if isinstance(one, Example))
    assert max(kept.values()) <= 2 / 4 * kept.total() + 8
    assert sum(kept.values()) < 300
    assert "too many of this length" in {reason(one) for one in judged}


def test_balance_counts_what_was_kept_in_earlier_rounds():
    earlier = [row(f"text number {place}", "good") for place in range(40)]
    labels = REVIEWS.model_copy(update={"labels": ("good", "bad", "so so")})
    (judged,) = balance.sift([row("one more text", "good")], sieve(labels, *earlier))
    assert reason(judged) == "too many of this label"


@pytest.mark.parametrize(("bad", "expected"), [(13, "too many of this label"), (14, "kept")])
def test_balance_leaves_one_of_two_labels_three_quarters(bad, expected):
    earlier = [row(f"text {place}", "good") for place in range(41)] + [row(f"x {place}", "bad") for place in range(bad)]
    (judged,) = balance.sift([row("one more text", "good")], sieve(REVIEWS, *earlier))
    assert reason(judged) == expected


def test_balance_allows_lengths_that_people_write():
    given = [row(" ".join(["w"] * n), kind="data") for n in [*range(1, 8), *range(8, 16), 20, 30, 40, 70] * 20]
    candidates = [row(f"a {place} b c d e f g h i") for place in range(200)]
    assert all(isinstance(one, Example) for one in balance.sift(candidates, sieve(TITLES, *given)))


def test_balance_keeps_a_crowded_topic_small(embeddings):
    pizza = [row(f"I ordered a pizza with {extra} there") for extra in ("ham", "cheese", "olives", "corn", "tuna") * 8]
    others = [
        "The train to Oslo was late", "My laptop battery died", "She teaches algebra", "Rain is expected on Sunday",
        "The museum opens at nine", "He repaired the old bicycle", "Our cat sleeps all day", "Interest rates fell",
        "The choir sang in Latin", "They planted tomatoes", "A goal in the last minute", "The visa was refused",
        "Wear a helmet on site", "The novel has no hero", "Voters stayed at home", "The vaccine is safe",
        "The bridge needs paint", "Whales were seen off Iceland",
    ]  # fmt: skip
    judged = balance.sift([*map(row, others), *pizza], sieve(TITLES))
    kept = [one.input for one in judged if isinstance(one, Example)]
    assert sum("pizza" in text for text in kept) <= 4
    assert "too many of this topic" in {reason(one) for one in judged}


# critic


def marks(count: int) -> list[Mark]:
    rng, made = Random(0), []
    for place in range(count):
        topic = rng.choice(["soup", "pizza", "fish", "steak", "salad"])
        good = (
            f"The {topic} was {rng.choice(['delicious', 'cold', 'bland', 'fresh'])} and the waiter {rng.choice('abc')}."
        )
        bad = f"As a language model, I wrote sentence number {rng.randrange(99)} as requested in the instruction."
        made.append(Mark(input=good if place % 2 else bad, output="good", accepted=bool(place % 2)))
    return made


def test_critic_learns_from_marks_what_a_person_accepts(embeddings, caplog):
    ours = Sieve(REVIEWS, Scripted([]), GenerateConfig(), marks=marks(40))
    candidates = [
        row("The soup was fresh and the waiter kind."),
        row("As a language model, I have written a sentence as the instruction says."),
    ]
    with caplog.at_level(logging.INFO):
        assert [reason(one) for one in critic.sift(candidates, ours)] == ["kept", "the critic"]
        critic.sift(candidates, ours)
    assert caplog.text.count("trained on 40 marks") == 1


def test_critic_wants_marks_of_both_kinds(embeddings):
    ours = Sieve(REVIEWS, Scripted([]), GenerateConfig(), marks=[mark for mark in marks(40) if mark.accepted])
    with pytest.raises(ConfigError, match="there are 20 and 0") as error:
        critic.sift([row("a")], ours)
    assert "prompt2model mark RUN" in error.value.hint


def test_the_critics_threshold_keeps_the_most_good_rows_at_its_precision():
    """Held against going through all thresholds."""
    rng = np.random.default_rng(0)
    for _ in range(50):
        accepted = rng.random(60) < 0.6
        scores = np.round(np.where(accepted, rng.normal(0.7, 0.2, 60), rng.normal(0.4, 0.2, 60)), 1)
        threshold, precision, recall = critic.choose_threshold(scores, accepted)
        reached = {
            cut: accepted[scores >= cut].mean()
            for cut in np.unique(scores)
            if (scores >= cut).sum() >= critic.LEAST_MARKS
        }
        good = {cut: accepted[scores >= cut].sum() for cut in reached}
        enough = [cut for cut, share in reached.items() if share >= critic.PRECISION]
        expected = (
            max(enough, key=lambda cut: (good[cut], reached[cut])) if enough else max(reached, key=reached.__getitem__)
        )
        if not enough:
            assert precision == pytest.approx(reached[expected])
            continue
        assert np.array_equal(scores >= threshold, scores >= expected)
        assert precision == pytest.approx(reached[expected])
        assert recall == pytest.approx(accepted[scores >= expected].sum() / accepted.sum())


# what holds for all


@pytest.mark.parametrize("name", ["format", "length", "language", "duplicate", "novelty", "contamination", "balance"])
def test_a_filter_judges_every_candidate_in_order_and_the_same_each_time(name):
    module, candidates = load("filters", name), [row(text) for text in edited_texts(3, 120)]
    test = [row(candidates[5].input, kind="data")]
    first, again = (module.sift(candidates, sieve(TITLES, row("w1 w2", kind="user"), test=test)) for _ in range(2))
    assert first == again
    assert len(first) == len(candidates)
    assert all(isinstance(one, Dropped) or one is given for one, given in zip(first, candidates, strict=True))
