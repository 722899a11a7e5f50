"""Rows written by a teacher: balanced, sifted, counted, bounded, and the same again after an interruption."""

import logging
from collections import Counter
from collections.abc import Iterable, Iterator
from random import Random

import pytest

from prompt2model.cache import Cached, key
from prompt2model.config import GenerateConfig
from prompt2model.conversation import Reply, Request
from prompt2model.errors import BudgetExceeded, ConfigError, DataError, TeacherError
from prompt2model.failures import Remembered
from prompt2model.ledger import prompt_text
from prompt2model.recipe import plan
from prompt2model.records import Example, Found, Source, TaskSpec
from prompt2model.show import notes_of
from prompt2model.stages.generate import MOST_REJECTED, generate, round_sizes
from prompt2model.teachers.scripted import Scripted

LABELS = ("positive", "negative")
NOTHING = Found(base="a/base")


def user(text: str, output: str) -> Example:
    return Example(input=text, output=output, source=Source(kind="user", name="description"))


REVIEWS = TaskSpec(
    instruction="Say whether a film review is positive or negative.",
    kind="classification",
    labels=LABELS,
    examples=(user("what a lovely little film this is", "positive"), user("two hours that I want back", "negative")),
)
TITLES = TaskSpec(instruction="Give the story a title.", kind="generation")


def words(seed: int, count: int = 8) -> str:
    rng = Random(seed)
    return " ".join("".join(rng.choices("abcdefghijklmnop", k=6)) for _ in range(count))


def wanted_label(request: Request) -> str:
    """The label that a prompt asks for: the one it names last."""
    return max(LABELS, key=prompt_text(request).rfind)


def write_or_judge(request: Request) -> str:
    """A perfect teacher: what it writes for a label contains it in a way that it recognises."""
    if request.choices:
        return "positive" if "yes" in prompt_text(request) else "negative"
    return ("yes " if wanted_label(request) == "positive" else "no ") + words(request.seed)


class Elsewhere(Scripted):
    """A scripted teacher that answers with whole inputs: it goes on with none that was begun."""

    is_local = False


def test_the_rows_are_as_many_as_asked_for_and_balanced():
    made = generate(REVIEWS, NOTHING, GenerateConfig(count=50), teacher=Scripted(write_or_judge))
    assert Counter(row.output for row in made.examples) == {"positive": 25, "negative": 25}
    assert made.statement.startswith("Complete: 50 rows kept of ")
    assert made.strategies == ("label_first",)
    assert made.filters == ("format", "duplicate", "relabel")


def test_every_row_says_who_wrote_it_and_in_answer_to_what():
    teacher = Scripted(write_or_judge)
    made = generate(REVIEWS, NOTHING, GenerateConfig(count=20), teacher=teacher)
    asked = {key(teacher.identity, request): request for request in teacher.asked}
    for row in made.examples:
        assert (row.source.kind, row.source.name, row.source.strategy) == ("teacher", "scripted", "label_first")
        assert words(asked[row.source.request].seed) in row.input


def test_labelling_anew_leaves_the_teachers_probabilities_in_the_row():
    made = generate(REVIEWS, NOTHING, GenerateConfig(count=10), teacher=Scripted(write_or_judge))
    for row in made.examples:
        assert sum(row.probabilities.values()) == pytest.approx(1)
        assert max(row.probabilities, key=row.probabilities.get) == row.output


def test_an_open_task_is_written_input_first_without_a_second_answer(caplog):
    def answer(request: Request) -> str:
        return words(request.seed) if request.temperature else "A title"

    teacher = Scripted(answer)
    with caplog.at_level(logging.INFO):
        made = generate(TITLES, NOTHING, GenerateConfig(count=12), teacher=teacher)
    assert (made.strategies, made.filters) == (("input_first",), ("format", "duplicate"))
    assert {row.output for row in made.examples} == {"A title"}
    assert len(teacher.asked) == 2 * (12 + made.dropped["more than needed"])
    assert "input_first: an open question is answered best with a fresh mind" in caplog.text


@pytest.mark.parametrize(
    ("config", "is_local", "expected"),
    [
        ({"count": 4000}, True, (64, 128)),
        ({"count": 400}, False, (64, 64)),
        ({"count": 4000}, False, (64, 500)),
        ({"count": 100_000}, False, (64, 4096)),
        ({"count": 4000, "anneal_from": 0.5}, False, (500, 500)),
        ({"count": 4000, "round_size": 7}, False, (7, 7)),
        ({"count": 4000, "round_size": 700}, True, (700, 700)),
    ],
)
def test_more_candidates_are_asked_for_at_a_time_once_some_are_kept(config, is_local, expected):
    assert round_sizes(GenerateConfig(**config), is_local=is_local) == expected


def test_a_server_whose_answers_are_all_cut_off_is_given_up_soon():
    teacher = Elsewhere(
        lambda asked: words(asked.seed) if asked.temperature else Reply(text="and so on", finish="length")
    )
    with pytest.raises(DataError) as caught:
        generate(TITLES, NOTHING, GenerateConfig(count=40_000), teacher=teacher)
    assert len(teacher.asked) <= 3 * 2 * 64
    assert "a higher generate.max_tokens" in caught.value.hint


def test_answers_may_be_as_long_as_the_users_are():
    essay = user("my summer", "word " * 800)
    teacher = Scripted(lambda asked: words(asked.seed) if asked.temperature else "a title")
    generate(TITLES.model_copy(update={"examples": (essay,)}), NOTHING, GenerateConfig(count=2), teacher=teacher)
    assert {asked.max_tokens for asked in teacher.asked if not asked.temperature} == {2000}


@pytest.mark.parametrize(
    ("settings", "rounds"),
    [
        ({}, [64, 128, 128]),
        ({"round_size": 80}, [80, 80, 80, 80]),
        ({"anneal_from": 0.5}, [64, 64, 64, 64, 64]),
    ],
)
def test_a_local_teacher_is_asked_for_more_at_a_time_once_there_is_enough_to_show(settings, rounds):
    """All that it writes is kept: a round is as large as it may be."""
    asked: list[int] = []

    class Counting(Scripted):
        def answer(self, requests):
            requests = list(requests)
            asked.append(len(requests))
            yield from super().answer(requests)

    config = GenerateConfig(count=320, filters=("format",), strategies=("label_first",), **settings)
    made = generate(REVIEWS, NOTHING, config, teacher=Counting(write_or_judge))
    assert (len(made.examples), asked) == (320, rounds)


def temperatures(teacher: Scripted) -> list[float]:
    return [request.temperature for request in teacher.asked if not request.choices]


def test_what_is_written_has_the_same_temperature_from_first_to_last():
    teacher = Scripted(write_or_judge)
    generate(REVIEWS, NOTHING, GenerateConfig(count=40, round_size=10, temperature=1.3), teacher=teacher)
    assert set(temperatures(teacher)) == {1.3}


def test_annealed_the_temperature_rises_with_the_rows_that_are_kept():
    teacher = Scripted(write_or_judge)
    config = GenerateConfig(count=40, round_size=10, anneal_from=0.5, filters="format", strategies="label_first")
    made = generate(REVIEWS, NOTHING, config, teacher=teacher)
    assert made.dropped == {}
    assert [temperatures(teacher).count(one) for one in (0.5, 0.625, 0.75, 0.875)] == [10] * 4


@pytest.mark.parametrize("settings", [{"count": 60}, {"count": 400, "round_size": 100_000}])
def test_in_one_round_no_temperature_rises(settings):
    teacher = Scripted([])
    with pytest.raises(ConfigError, match="there is no second round") as caught:
        generate(REVIEWS, NOTHING, GenerateConfig(anneal_from=0.5, **settings), teacher=teacher)
    assert f"generate.round_size={-(-settings['count'] // 8)}" in caught.value.hint
    assert not teacher.asked


def test_no_rows_wanted_no_request_made():
    teacher = Scripted([])
    made = generate(REVIEWS, NOTHING, GenerateConfig(count=0), teacher=teacher)
    assert (made.examples, teacher.asked, made.statement) == ((), [], "Nothing was to be written.")


def test_a_label_that_the_teacher_rarely_gets_right_catches_up():
    def clumsy(request: Request) -> str:
        text = write_or_judge(request)
        return text.replace("no ", "yes ") if request.seed % 3 and not request.choices else text

    config = GenerateConfig(count=40, over_generate=10, filters=("agreement",))
    made = generate(REVIEWS, NOTHING, config, teacher=Scripted(clumsy))
    assert Counter(row.output for row in made.examples) == {"positive": 20, "negative": 20}
    assert made.dropped["teacher disagrees"] > 20


def test_a_label_that_cannot_be_had_ends_the_writing_with_a_statement():
    def one_sided(request: Request) -> str:
        return write_or_judge(request) if request.choices else "yes " + words(request.seed)

    config = GenerateConfig(count=40, round_size=20, over_generate=10, filters=("agreement",))
    made = generate(REVIEWS, NOTHING, config, teacher=Scripted(one_sided))
    assert {row.output for row in made.examples} == {"positive"}
    assert len(made.examples) < 40
    assert made.statement.startswith("Stopped before 40 rows: the last 3 rounds kept less than 5% each.")
    assert "'teacher disagrees'" in made.statement
    made = generate(REVIEWS, NOTHING, GenerateConfig(count=40, round_size=20), teacher=Scripted(one_sided))
    assert {row.output for row in made.examples} == {"positive"}
    assert made.statement.startswith("Complete, but of some labels too few: 0 of 'negative'; ")
    assert notes_of(made) == (made.statement,)


def test_labels_take_more_than_their_share_only_when_the_others_cannot_be_had():
    """Of what input_first brings, nine in ten are positive: spare ones fill up what the negative ones leave open."""

    def lopsided(request: Request) -> str:
        if request.choices:
            return write_or_judge(request)
        return ("no " if request.seed % 10 == 0 else "yes ") + words(request.seed)

    made = generate(REVIEWS, NOTHING, GenerateConfig(count=40, strategies=("input_first",)), teacher=Scripted(lopsided))
    counts = Counter(row.output for row in made.examples)
    assert counts.total() == 40
    assert counts["positive"] > 20 > counts["negative"] > 0


def test_a_teacher_that_repeats_itself_is_stopped_and_the_reason_said():
    teacher = Elsewhere(lambda request: "positive" if request.choices else "the same sentence every time")
    made = generate(REVIEWS, NOTHING, GenerateConfig(count=100, filters=("duplicate",)), teacher=teacher)
    assert len(made.examples) == 1
    assert len(teacher.asked) <= 400
    assert made.statement.startswith(
        "Stopped before 100 rows: the last 3 rounds kept less than 5% each. 1 rows kept of"
    )
    assert "the main reason to drop one was 'copied from the prompt'" in made.statement
    assert sum(made.dropped.values()) == len(teacher.asked) - 1


def test_a_teacher_that_never_makes_sense_ends_in_an_error_with_the_counts():
    teacher = Scripted(lambda request: "")
    with pytest.raises(DataError, match=r"none could be used: \d+ × empty reply") as caught:
        generate(REVIEWS, NOTHING, GenerateConfig(count=100), teacher=teacher)
    assert "--teacher" in caught.value.hint
    assert len(teacher.asked) <= 400


def test_failed_requests_are_counted_by_their_reason():
    def unreliable(request: Request) -> str | Reply:
        if request.seed % 4 == 0 and not request.choices:
            return Reply(finish="failed", failure="time-out")
        return write_or_judge(request)

    made = generate(REVIEWS, NOTHING, GenerateConfig(count=30), teacher=Scripted(unreliable))
    assert len(made.examples) == 30
    assert made.dropped["time-out"] > 0


def test_the_limit_of_candidates_holds():
    """One in eight is good: above the dry mark, so the limit is what ends it."""

    def rarely(request: Request) -> str:
        return words(request.seed) if request.seed % 8 == 0 else ""

    teacher = Scripted(rarely)
    config = GenerateConfig(count=100, over_generate=3, round_size=30, filters=("duplicate",))
    made = generate(REVIEWS, NOTHING, config, teacher=teacher)
    assert len(teacher.asked) == 300
    assert "300 candidates were the limit (generate.over_generate)" in made.statement


def test_every_candidate_is_kept_or_counted():
    def mixed(request: Request) -> str:
        return write_or_judge(request) if request.choices or request.seed % 2 else "yes again and again the same"

    teacher = Scripted(mixed)
    made = generate(REVIEWS, NOTHING, GenerateConfig(count=40), teacher=teacher)
    written = sum(not request.choices for request in teacher.asked)
    assert len(made.examples) + sum(made.dropped.values()) == written


def test_a_few_rejected_candidates_are_kept_to_look_at():
    teacher = Elsewhere(lambda request: "positive" if request.choices else "x" * 5000)
    made = generate(REVIEWS, NOTHING, GenerateConfig(count=60, filters=("duplicate",)), teacher=teacher)
    assert len(made.rejected) == MOST_REJECTED
    assert all(len(one.text) <= 500 and one.reason == "duplicate" for one in made.rejected)


def test_the_same_seed_asks_and_makes_the_same_and_another_seed_does_not():
    runs = []
    for seed in (1, 1, 2):
        teacher = Scripted(write_or_judge)
        made = generate(REVIEWS, NOTHING, GenerateConfig(count=20), teacher=teacher, seed=seed)
        runs.append((made.examples, made.rejected, teacher.asked))
    assert runs[0] == runs[1]
    assert runs[0][0] != runs[2][0]


class Killed(Exception):
    pass


@pytest.mark.parametrize("anneal_from", [0.0, 0.5])
@pytest.mark.parametrize("after", [3, 40, 70, 100, 120])
def test_an_interrupted_writing_goes_on_and_asks_nothing_twice(tmp_path, after, anneal_from):
    config = GenerateConfig(count=60, round_size=20, anneal_from=anneal_from)
    whole = Scripted(write_or_judge)
    expected = generate(REVIEWS, NOTHING, config, teacher=whole)

    reached: list[Request] = []

    def dies(request: Request) -> str:
        if len(reached) == after:
            raise Killed
        reached.append(request)
        return write_or_judge(request)

    with pytest.raises(Killed):
        generate(REVIEWS, NOTHING, config, teacher=Cached(Scripted(dies), tmp_path / "cache"))
    again = Scripted(write_or_judge)
    made = generate(REVIEWS, NOTHING, config, teacher=Cached(again, tmp_path / "cache"))
    assert (made.examples, made.dropped, made.rejected) == (expected.examples, expected.dropped, expected.rejected)
    assert not {key("scripted", request) for request in reached} & {key("scripted", r) for r in again.asked}
    assert made.spent.requests - made.spent.cached == len(again.asked)


def test_what_failed_before_an_interruption_has_failed_when_it_goes_on(tmp_path):
    """Else the pool is another, and whatever was asked after the failure is asked and paid for again."""
    config, failures = GenerateConfig(count=60, round_size=20, strategies=("label_first",)), tmp_path / "failed.jsonl"
    asked: list[Request] = []

    def fails_then_dies(request: Request) -> str | Reply:
        asked.append(request)
        if len(asked) == 90:
            raise Killed
        return Reply(finish="failed", failure="time-out") if len(asked) == 5 else write_or_judge(request)

    teacher = Cached(Scripted(fails_then_dies), tmp_path / "cache")
    with pytest.raises(Killed):
        generate(REVIEWS, NOTHING, config, teacher=teacher, failures=failures)
    with failures.open("a") as file:
        file.write('\n{"key": "half a li')
    again = Scripted(write_or_judge)
    made = generate(REVIEWS, NOTHING, config, teacher=Cached(again, tmp_path / "cache"), failures=failures)
    assert made.dropped["time-out"] == 1
    late = Remembered(Scripted([Reply(finish="failed", failure="late")]), failures)
    list(late.answer([Request(messages=())]))
    late.settle()
    ((_, found),) = next(iter(Remembered(Scripted([]), failures).answer([Request(messages=())])))
    assert found.failure == "late"
    assert not {key("scripted", request) for request in asked[:89]} & {key("scripted", r) for r in again.asked}


@pytest.mark.parametrize("when_spent", ["stop", "go_on"])
def test_when_the_budget_is_spent_the_writing_stops_or_goes_on_with_the_rows_there_are(when_spent):
    class Poor(Scripted):
        """Has money for 100 answers."""

        def answer(self, requests: Iterable[Request]) -> Iterator[list[tuple[int, Reply]]]:
            for group in super().answer(requests):
                if len(self.asked) > 100:
                    raise BudgetExceeded("The next request may cost too much.")
                yield group

    teacher = Poor(write_or_judge)
    config = GenerateConfig(count=300, round_size=40, when_spent=when_spent)
    if when_spent == "stop":
        with pytest.raises(BudgetExceeded):
            generate(REVIEWS, NOTHING, config, teacher=teacher)
        return
    made = generate(REVIEWS, NOTHING, config, teacher=teacher)
    assert 0 < len(made.examples) < 60
    assert made.statement.startswith("Stopped before 300 rows: the budget is spent.")
    assert made.dropped["the budget is spent"] > 0
    with pytest.raises(BudgetExceeded):
        generate(REVIEWS, NOTHING, config, teacher=teacher)


def test_what_was_asked_is_in_the_record():
    teacher = Scripted(write_or_judge)
    made = generate(REVIEWS, NOTHING, GenerateConfig(count=20), teacher=teacher)
    assert made.spent.requests == len(teacher.asked)
    assert made.spent.tokens_in > made.spent.tokens_out > 0
    assert made.spent.usd == 0


def test_given_rows_are_not_shown_to_the_teacher_and_not_written_again():
    data = Example(
        input="the given row that nobody may copy", output="positive", source=Source(kind="data", name="rows.csv")
    )

    def copies(request: Request) -> str:
        return write_or_judge(request) if request.choices or request.seed % 2 else data.input + "!"

    teacher = Elsewhere(copies)
    made = generate(REVIEWS, Found(base="a/base", examples=(data,)), GenerateConfig(count=20), teacher=teacher)
    assert not any(data.input in prompt_text(request) for request in teacher.asked if not request.choices)
    assert not any(row.input.startswith(data.input) for row in made.examples)
    assert made.dropped["duplicate"] > 0


def test_the_users_examples_are_shown_and_later_ones_join_them():
    teacher = Scripted(write_or_judge)
    made = generate(REVIEWS, NOTHING, GenerateConfig(count=24, round_size=8), teacher=teacher)
    prompts = [prompt_text(request) for request in teacher.asked if not request.choices]
    assert all(REVIEWS.examples[0].input in prompt for prompt in prompts)
    assert any(row.input in prompt for row in made.examples for prompt in prompts[16:])


def test_a_local_teacher_goes_on_from_a_text_begun_for_it():
    teacher = Scripted(write_or_judge)
    generate(REVIEWS, NOTHING, GenerateConfig(count=4), teacher=teacher)
    for request in teacher.asked:
        assert request.continues
        assert request.messages[-1].role == "assistant"


def test_two_strategies_share_a_round():
    teacher = Scripted(write_or_judge)
    config = GenerateConfig(count=30, strategies=("label_first", "input_first"))
    made = generate(REVIEWS, NOTHING, config, teacher=teacher)
    assert {row.source.strategy for row in made.examples} == {"label_first", "input_first"}


@pytest.mark.parametrize(
    ("task", "settings", "can", "message"),
    [
        (TITLES, {"strategies": ("label_first",)}, ("text",), "'label_first' in generate.strategies is for"),
        (REVIEWS, {"strategies": ("label_frist",)}, ("text",), "no strategy named"),
        (REVIEWS, {"filters": ("novelties",)}, ("text",), "no filter named 'novelties'"),
        (REVIEWS, {"strategies": ()}, ("text",), "generate.strategies is empty"),
        (REVIEWS, {}, ("logprobs",), "needs a teacher that writes an answer; scripted does not"),
        (REVIEWS.model_copy(update={"labels": ("one",)}), {}, ("text",), "at least two labels"),
    ],
)
def test_what_does_not_fit_is_refused_before_the_first_request(task, settings, can, message):
    teacher = Scripted([], can=can)
    with pytest.raises(ConfigError, match=message):
        generate(task, NOTHING, GenerateConfig(**settings), teacher=teacher)
    assert not teacher.asked


def test_a_teacher_without_likelihoods_is_not_asked_for_second_answers_by_default():
    _, filters = plan(REVIEWS, GenerateConfig(), Scripted([], can=("text",)))
    assert list(filters) == ["format", "duplicate"]


def test_a_teacher_that_cannot_be_reached_ends_the_stage():
    with pytest.raises(TeacherError):
        generate(REVIEWS, NOTHING, GenerateConfig(count=5), teacher=Scripted([]))
