"""The student beside its base, its teacher and the majority answer, all scripted."""

import json
import math
from collections.abc import Callable
from pathlib import Path

import pytest

from prompt2model import answers, registry
from prompt2model.config import EvaluateConfig
from prompt2model.conversation import Message, Reply, Request
from prompt2model.errors import ConfigError, TeacherError, WeightsError
from prompt2model.records import Example, Measured, Report, Source, Splits, Student, TaskSpec
from prompt2model.stages.evaluate import compare, evaluate
from prompt2model.teacher import Teacher
from prompt2model.teachers.scripted import Scripted

MOODS = TaskSpec(
    instruction="Say how the text feels.",
    examples=(Example(input="What a day!", output="good", source=Source(kind="user", name="description")),),
    kind="classification",
    labels=("good", "bad"),
    metric="accuracy",
)
ECHO = TaskSpec(instruction="Repeat the text.", metric="rouge_l")


def row(text: str, output: str, kind: str = "data") -> Example:
    return Example(input=text, output=output, source=Source(kind=kind, name="rows.csv"))


def moods(n: int, kind: str = "data") -> tuple[Example, ...]:
    return tuple(row(f"{kind} text {index}", ("good", "bad")[index % 2], kind) for index in range(n))


def number(request: Request) -> int:
    """The row that a request is about."""
    asked = [message for message in request.messages if message.role == "user"]
    return int(asked[-1].content.split()[-1].strip("`"))


def truth(request: Request) -> str:
    return ("good", "bad")[number(request) % 2]


def always(answer: str) -> Callable[[Request], str]:
    return lambda request: answer


@pytest.fixture
def student(tmp_path: Path) -> Student:
    (tmp_path / "student").mkdir()
    return Student(
        folder=tmp_path / "student",
        base="owner/base",
        method="seqkd",
        parameters=10,
        trained_parameters=10,
        steps=1,
        best_step=1,
        tokens=100,
        seconds=1,
        tokens_per_second=100,
        precision="float32",
    )


@pytest.fixture
def look(student: Student) -> Callable[..., Report]:
    """Evaluates scripted models: `base` and `taught` answer for the base model and the student."""

    def look(
        task: TaskSpec,
        test: tuple[Example, ...],
        *,
        base: Teacher | None = None,
        taught: Teacher | None = None,
        teacher: Teacher | None = None,
        train: tuple[Example, ...] = (*moods(3), row("more", "bad"), row("and more", "bad")),
        **settings: object,
    ) -> Report:
        models = {
            "owner/base": base or Scripted(always("good"), name="base"),
            str(student.folder): taught or Scripted(truth, name="student"),
        }
        return compare(
            task,
            Splits(train=train, test=test),
            student,
            EvaluateConfig(**settings),
            connect=lambda name, batch_rows: models[name],
            teacher=teacher,
        )

    return look


def find(report: Report, who: str, rows: str = "real") -> Measured:
    return next(one for one in report.measured if one.who == who and one.rows == rows)


def score(measured: Measured, metric: str) -> float:
    return next(one.value for one in measured.scores if one.metric == metric)


def test_every_contender_is_scored_on_the_same_rows(look: Callable[..., Report]) -> None:
    teacher = Scripted(lambda request: "good" if number(request) < 6 else truth(request), name="teacher")
    report = look(MOODS, moods(40), teacher=teacher)
    assert [(one.who, one.rows, one.n) for one in report.measured] == [
        (who, "real", 40) for who in ("majority", "base", "student", "teacher")
    ]
    found = {one.who: score(one, "accuracy") for one in report.measured}
    assert found == {"majority": 0.5, "base": 0.5, "student": 1.0, "teacher": pytest.approx(37 / 40)}
    assert [one.metric for one in report.measured[0].scores] == ["accuracy", "f1"]


def test_a_score_stands_within_its_interval(look: Callable[..., Report]) -> None:
    accuracy = find(look(MOODS, moods(40)), "base").scores[0]
    assert 0.3 < accuracy.low < accuracy.value < accuracy.high < 0.7


def test_the_majority_answer_is_the_commonest_training_output(look: Callable[..., Report]) -> None:
    majority = find(look(MOODS, moods(4)), "majority")
    assert majority.name == "always “bad”"
    assert majority.tokens_per_answer == majority.seconds_per_answer == 0


def test_without_training_rows_there_is_no_majority(look: Callable[..., Report]) -> None:
    assert [one.who for one in look(MOODS, moods(4), train=()).measured] == ["base", "student"]


def test_the_base_is_told_the_task_and_the_student_only_the_input(look: Callable[..., Report]) -> None:
    base, taught = Scripted(always("good")), Scripted(truth)
    look(MOODS, moods(1), base=base, taught=taught)
    assert taught.asked[0].messages == (Message(role="user", content="data text 0"),)
    asked = " ".join(message.content for message in base.asked[0].messages)
    assert "Say how the text feels." in asked


def test_a_base_that_only_writes_is_shown_the_users_examples(look: Callable[..., Report]) -> None:
    base = Scripted(always("good"), can=("text",))
    look(MOODS, moods(1), base=base, taught=Scripted(truth))
    assert "What a day!" in " ".join(message.content for message in base.asked[0].messages)


def test_a_label_carries_its_probability_among_the_labels(look: Callable[..., Report]) -> None:
    taught = Scripted([[math.log(0.3), math.log(0.1)]])
    prediction = look(MOODS, moods(1), taught=taught).predictions[0]
    assert (prediction.answer, prediction.probability) == ("good", pytest.approx(0.75))
    assert (prediction.expected, prediction.base_answer, prediction.rows) == ("good", "good", "real")


def test_real_and_synthetic_rows_are_measured_apart_and_real_ones_first(look: Callable[..., Report]) -> None:
    report = look(MOODS, (*moods(4, "teacher"), *moods(2)))
    assert [one.rows for one in report.measured] == ["real"] * 3 + ["synthetic"] * 3
    assert [one.n for one in report.measured] == [2] * 3 + [4] * 3
    assert [one.rows for one in report.predictions] == ["real"] * 2 + ["synthetic"] * 4


def test_rows_that_are_all_synthetic_are_said_to_be(look: Callable[..., Report]) -> None:
    assert any("written by the teacher" in note for note in look(MOODS, moods(4, "teacher")).notes)


def test_a_difference_beyond_the_noise_is_called_one(look: Callable[..., Report]) -> None:
    notes = look(MOODS, moods(60)).notes
    assert any(
        note.startswith("The student is better than its base model by more than the noise: +50.0 points [+")
        and note.endswith("of accuracy on 60 real rows.")
        for note in notes
    )


def test_a_worse_student_is_called_worse(look: Callable[..., Report]) -> None:
    notes = look(MOODS, moods(60), base=Scripted(truth), taught=Scripted(always("bad"))).notes
    assert any("worse than its base model by more than the noise: -50.0 points [-" in note for note in notes)


def test_a_difference_within_the_noise_is_not_called_one(look: Callable[..., Report]) -> None:
    taught = Scripted(lambda request: truth(request) if number(request) < 3 else "good")
    notes = look(MOODS, moods(40), taught=taught).notes
    assert any("differs from its base model by no more than the noise" in note for note in notes)


def test_a_handful_of_rows_tells_nothing(look: Callable[..., Report]) -> None:
    assert "1 real row: too few to tell the student from its base model." in look(MOODS, moods(1)).notes


def test_the_same_model_is_not_asked_twice(look: Callable[..., Report]) -> None:
    base, teacher = Scripted(always("good"), identity="m@1"), Scripted([], name="transformers:m", identity="m@1")
    report = look(MOODS, moods(4), base=base, teacher=teacher)
    assert find(report, "teacher").scores == find(report, "base").scores
    assert find(report, "teacher").name == "transformers:m"
    assert "measured once" in find(report, "teacher").notes[0]


def test_a_teacher_that_only_writes_is_read_as_a_label(look: Callable[..., Report]) -> None:
    texts = ["**Good.**", "bad", "I would say it is good", "good or bad, who knows", "", "bad"]
    teacher = Scripted(texts, name="writer", can=("text",))
    measured = find(look(MOODS, moods(6), teacher=teacher), "teacher")
    assert score(measured, "accuracy") == pytest.approx(4 / 6)
    assert measured.notes == ("2 of 6 answers name no answer, or several labels; they count as wrong",)
    assert all(request.temperature == 0 for request in teacher.asked)


@pytest.mark.parametrize(
    ("text", "labels", "label"),
    [
        (" good\n", ("good", "bad"), "good"),
        ("GOOD", ("good", "bad"), "good"),
        ("Label: good.", ("good", "bad"), "good"),
        ("goodness", ("good", "bad"), None),
        ("It is not toxic.", ("toxic", "not toxic"), "not toxic"),
        ("C#", ("C++", "C#"), "C#"),
        ("c", ("C++", "C#"), None),
        ("Good", ("good", "Good"), "Good"),
        ("It is US.", ("US", "us"), "US"),
        ("It is Us.", ("US", "us"), None),
        ("3 stars", ("1", "2", "3"), "3"),
        ("", ("good", "bad"), None),
        ("???", ("+", "-"), None),
        ("Not spam.", ("spam", "ham"), None),
        ("This is not positive or negative.", ("positive", "negative", "neutral"), None),
        ("Neither good nor bad, so so.", ("good", "bad", "so so"), "so so"),
        ("Die Kategorie ist Straße.", ("Straße", "Haus"), "Straße"),
        ("This is not spam, it is ham.", ("spam", "ham"), "ham"),
        ("It isn't a good one.", ("good", "bad"), None),
        ("nicht relevant", ("relevant", "irrelevant"), None),
        ("No, it is bad.", ("good", "bad"), "bad"),
        ("No, it is not.", ("yes", "no"), "no"),
        ("This is a hard one.", ("A", "B"), None),
        ("The answer is (b).", ("A", "B"), "B"),
        ("B, for a reason", ("A", "B"), "B"),
        ("-1", ("0", "1"), None),
        ("-1", ("-1", "0", "1"), "-1"),
        ("0.5", ("0", "1"), None),
        ("4/10", ("1", "2", "3", "4", "5"), None),
        ("**Rating:** 4.", ("1", "2", "3", "4", "5"), "4"),
        ("答案是正面。", ("正面", "负面"), "正面"),
        ("这不是正面。", ("正面", "负面"), None),
    ],
)
def test_a_text_is_read_as_the_one_label_it_names(text: str, labels: tuple[str, ...], label: str | None) -> None:
    assert answers.read_label(text, labels) == label


def test_a_softmax_survives_tiny_likelihoods() -> None:
    assert answers.softmax([-4000.0, -4000.0]) == [0.5, 0.5]
    assert answers.softmax([0.0, -math.inf]) == [1.0, 0.0]


@pytest.mark.parametrize(
    ("longest", "answer_after", "limit", "of_base", "of_student"),
    [
        (9, "", 0, 256, 256),
        (700, "", 0, 700, 700),
        (9, "The answer is", 0, 256, 1024),
        (1500, "The answer is", 0, 1500, 1500),
        (700, "", 80, 80, 80),
    ],
)
def test_answers_may_be_as_long_as_what_the_student_learned_unless_it_is_set_otherwise(
    student: Student, longest: int, answer_after: str, limit: int, of_base: int, of_student: int
) -> None:
    models = {"owner/base": Scripted(always("x")), str(student.folder): Scripted(always("The answer is x"))}
    teacher = Scripted(always("x"), identity="another")
    compare(
        ECHO,
        Splits(test=(row("the text 1", "x"),)),
        student.model_copy(update={"longest_tokens": longest, "answer_after": answer_after}),
        EvaluateConfig(max_new_tokens=limit),
        connect=lambda name, batch_rows: models[name],
        teacher=teacher,
    )
    asked = [model.asked[0].max_tokens for model in (models["owner/base"], teacher, models[str(student.folder)])]
    assert asked == [of_base, of_base, of_student]


def test_answers_that_were_cut_off_are_counted(look: Callable[..., Report]) -> None:
    base = Scripted([Reply(text="the text", finish="length"), "the text 1", Reply(text="the", finish="length")])
    taught = Scripted(lambda request: request.messages[-1].content)
    report = look(ECHO, tuple(row(f"the text {n}", f"the text {n}") for n in range(3)), base=base, taught=taught)
    assert find(report, "base").notes == ("2 of 3 answers were cut off (evaluate.max_new_tokens)",)
    assert find(report, "student").notes == ()


def test_requests_that_fail_are_left_out_and_counted(look: Callable[..., Report]) -> None:
    failed = Reply(finish="failed", failure="time-out")
    teacher = Scripted([failed, "bad", failed, "good"], name="flaky")
    measured = find(look(MOODS, moods(4), teacher=teacher), "teacher")
    assert (measured.n, score(measured, "accuracy")) == (2, 0.5)
    assert measured.notes == ("2 of 4 not answered and left out: time-out",)


def test_a_teacher_that_answers_nothing_has_no_score(look: Callable[..., Report]) -> None:
    teacher = Scripted(lambda request: Reply(finish="failed", failure="refused"), name="mute")
    report = look(MOODS, moods(12), teacher=teacher)
    assert (find(report, "teacher").n, find(report, "teacher").scores) == (0, ())
    assert "0 real rows: too few to tell the student from its teacher." in report.notes


def test_a_teacher_that_cannot_be_had_is_a_note(look: Callable[..., Report]) -> None:
    report = look(MOODS, moods(4), teacher=Scripted([], name="dry"))
    assert "teacher" not in {one.who for one in report.measured}
    assert any(note.startswith("The teacher was not measured: The script has no answer left") for note in report.notes)


def test_a_teacher_that_is_not_wanted_is_not_asked(student: Student) -> None:
    teacher = Scripted([])
    report = compare(
        MOODS,
        Splits(test=moods(4)),
        student,
        EvaluateConfig(teacher=False),
        connect=lambda name, batch_rows: Scripted(truth),
        teacher=teacher,
    )
    assert teacher.asked == []
    assert "The teacher was not measured: evaluate.teacher is off." in report.notes


def test_a_base_that_is_gone_is_a_note(student: Student) -> None:
    def connect(name: str, batch_rows: int) -> Teacher:
        if name == "owner/base":
            raise WeightsError("owner/base is not at hand.")
        return Scripted(truth)

    report = compare(MOODS, Splits(test=moods(4)), student, EvaluateConfig(), connect=connect, teacher=None)
    assert [one.who for one in report.measured] == ["student"]
    assert "The base model was not measured: owner/base is not at hand." in report.notes
    assert report.predictions[0].base_answer is None


def test_a_student_that_cannot_answer_is_an_error(look: Callable[..., Report]) -> None:
    with pytest.raises(TeacherError):
        look(MOODS, moods(4), taught=Scripted([]))


def test_replies_from_the_cache_are_not_timed(look: Callable[..., Report]) -> None:
    teacher = Scripted(lambda request: Reply(logprobs=(0.0, -1.0), cached=True, tokens_in=7), name="cached")
    measured = find(look(MOODS, moods(4), teacher=teacher), "teacher")
    assert (measured.seconds_per_answer, measured.tokens_per_answer) == (0, 7)
    assert "4 of 4 answers came from the cache and are not timed" in measured.notes


def test_a_generation_is_judged_by_text_metrics(look: Callable[..., Report]) -> None:
    test = tuple(row(f"the text {index}", f"the text {index}") for index in range(5))
    report = look(
        ECHO,
        test,
        base=Scripted(always("something else")),
        taught=Scripted(lambda request: request.messages[-1].content),
        train=(row("a", "x\ny"), row("b", "x\ny"), row("c", "z")),
    )
    found = find(report, "student")
    assert {one.metric: one.value for one in found.scores} == {"rouge_l": 1, "chrf": pytest.approx(1), "exact_match": 1}
    assert find(report, "majority").name == "always “x y”"
    assert report.predictions[0].probability is None
    assert found.tokens_per_answer > 0
    assert found.seconds_per_answer > 0


def test_no_test_rows_is_a_note(look: Callable[..., Report]) -> None:
    report = look(MOODS, ())
    assert (report.measured, report.predictions) == ((), ())
    assert report.notes == ("There are no test rows: nothing was measured.",)


def test_of_too_many_rows_a_random_part_is_measured_real_ones_first(look: Callable[..., Report]) -> None:
    test = (*moods(20, "teacher"), *sorted(moods(20), key=lambda one: one.output))
    report = look(MOODS, test, max_rows=10)
    assert [one.rows for one in report.predictions] == ["real"] * 10
    assert {one.expected for one in report.predictions} == {"good", "bad"}
    assert any("10 of 40 test rows" in note for note in report.notes)
    assert report.predictions == look(MOODS, test, max_rows=10).predictions


def test_a_metric_that_does_not_fit_is_refused(look: Callable[..., Report]) -> None:
    with pytest.raises(ConfigError, match="'rouge_l' does not fit a classification"):
        look(MOODS, moods(4), metrics=("rouge_l",))


def test_an_unknown_metric_is_refused_before_anything_is_asked(look: Callable[..., Report]) -> None:
    base = Scripted(always("good"))
    with pytest.raises(ConfigError, match="no metric named 'acuracy'"):
        look(MOODS, moods(4), base=base, metrics=("acuracy",))
    assert base.asked == []


def test_a_report_is_json_both_ways(look: Callable[..., Report]) -> None:
    report = look(MOODS, (*moods(4), *moods(2, "teacher")))
    assert Report.model_validate(json.loads(report.model_dump_json())) == report


def test_a_student_without_weights_is_an_error_with_a_cure(student: Student) -> None:
    hollow = student.model_copy(update={"base": str(student.folder)})
    with pytest.raises(WeightsError):
        evaluate(MOODS, Splits(test=moods(1)), hollow, EvaluateConfig(), teacher=None)


@pytest.mark.parametrize("task", [MOODS, ECHO], ids=["classification", "generation"])
def test_models_of_flesh_and_blood_are_measured(task: TaskSpec, student: Student, tiny_decoder: Path) -> None:
    real = student.model_copy(update={"base": str(tiny_decoder), "folder": tiny_decoder})
    teacher = registry.load("teachers", "transformers").connect(str(tiny_decoder))
    config = EvaluateConfig(batch_rows=2, max_new_tokens=5)
    report = evaluate(task, Splits(train=moods(2), test=moods(5)), real, config, teacher=teacher)
    assert [one.who for one in report.measured] == ["majority", "base", "student", "teacher"]
    assert "measured once" in find(report, "teacher").notes[0]
    assert find(report, "base").tokens_per_answer > find(report, "student").tokens_per_answer
    assert find(report, "student").seconds_per_answer > 0
    assert all(0 < (one.probability or 0.5) < 1 for one in report.predictions)
