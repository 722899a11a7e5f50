"""Every row lands on one side or is counted; no twin stands on two sides; real rows are measured on first."""

import json
from collections import Counter
from pathlib import Path
from random import Random

import pytest

from prompt2model.config import RetrieveConfig, SplitConfig
from prompt2model.errors import ConfigError, DataError
from prompt2model.jaccard import similarity
from prompt2model.marks import Mark
from prompt2model.records import Example, Found, Made, Source, Splits, TaskSpec
from prompt2model.stages.split import FEW_REAL_ROWS, MOST_SHOWN, shown_to_teacher, split

LABELS = ("bug", "billing", "other")
MAILS = TaskSpec(instruction="Sort mails into bug, billing or other.", kind="classification", labels=LABELS)
TITLES = TaskSpec(instruction="Give the story a title.", kind="generation")


def row(text: str, output: str = "bug", kind: str = "teacher") -> Example:
    return Example(input=text, output=output, source=Source(kind=kind, name="x"))


def sentence(rng: Random) -> str:
    return " ".join("".join(rng.choices("abcdefghij", k=5)) for _ in range(rng.randint(3, 12)))


def random_rows(seed: int, count: int, kind: str, labels: tuple[str, ...] = LABELS) -> tuple[Example, ...]:
    """Rows of which a third are near twins, repetitions or contradictions of earlier ones."""
    rng = Random(f"{seed}/{kind}")
    rows: list[Example] = []
    for _ in range(count):
        text = sentence(rng)
        if rows and rng.random() < 0.33:
            text = rng.choice(rows).input + rng.choice(["", "!", " indeed"])
        rows.append(row(text, rng.choices(labels, weights=range(1, len(labels) + 1))[0], kind))
    return tuple(rows)


def parts(user: int, data: int, teacher: int, seed: int = 0) -> tuple[TaskSpec, Found, Made]:
    task = MAILS.model_copy(update={"examples": random_rows(seed, user, "user")})
    found = Found(base="a/base", examples=random_rows(seed, data, "data"))
    return task, found, Made(examples=random_rows(seed, teacher, "teacher"))


def given(task: TaskSpec, found: Found, made: Made) -> list[Example]:
    return [*task.examples, *found.examples, *made.examples]


def sides(splits: Splits) -> list[tuple[Example, ...]]:
    return [splits.train, splits.validation, splits.test]


SIZES = [(0, 0, 1), (1, 0, 0), (0, 0, 2), (2, 0, 3), (5, 0, 0), (4, 0, 120), (0, 90, 0), (3, 60, 80), (30, 0, 60)]


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("size", SIZES)
def test_every_row_lands_on_one_side_or_is_counted(size, seed):
    before = parts(*size, seed=seed)
    splits = split(*before, SplitConfig(), seed=seed)
    landed = [row for side in sides(splits) for row in side]
    assert len(landed) + sum(splits.dropped.values()) == sum(size)
    assert not Counter(row.model_dump_json() for row in landed) - Counter(
        row.model_dump_json() for row in given(*before)
    )
    assert splits.train


@pytest.mark.parametrize("near_twin", [0.5, 0.8, 1.0])
@pytest.mark.parametrize("size", SIZES)
def test_no_input_and_no_near_twin_is_on_two_sides(size, near_twin):
    splits = split(*parts(*size), SplitConfig(near_twin=near_twin))
    train, validation, test = sides(splits)
    for side, others in ((test, (*train, *validation)), (validation, train)):
        for one in side:
            assert all(similarity(one.input, other.input) < near_twin for other in others)


def test_the_same_seed_splits_the_same_and_another_does_not():
    before = parts(4, 60, 120)
    assert split(*before, SplitConfig(), seed=3) == split(*before, SplitConfig(), seed=3)
    assert split(*before, SplitConfig(), seed=3) != split(*before, SplitConfig(), seed=4)


def test_rows_of_a_side_keep_the_order_they_came_in():
    rng = Random(0)
    made = Made(examples=tuple(row(sentence(rng)) for _ in range(60)))
    place = {example.input: number for number, example in enumerate(made.examples)}
    for side in sides(split(MAILS, Found(base="b"), made, SplitConfig())):
        places = [place[example.input] for example in side]
        assert places == sorted(places)


@pytest.mark.parametrize("kind", ["data", "teacher"])
def test_labels_have_the_same_shares_on_every_side(kind):
    rng = Random(0)
    rows = tuple(
        row(sentence(rng), label, kind) for label, n in zip(LABELS, (20, 60, 120), strict=True) for _ in range(n)
    )
    splits = split(MAILS, Found(base="b", examples=rows), Made(), SplitConfig())
    for side in sides(splits):
        shares = Counter(example.output for example in side)
        for label, share in zip(LABELS, (0.1, 0.3, 0.6), strict=True):
            assert shares[label] == pytest.approx(share * len(side), abs=1.5)


def test_shares_and_caps_hold():
    rng = Random(0)
    made = Made(examples=tuple(row(sentence(rng)) for _ in range(400)))
    sizes = [len(side) for side in sides(split(MAILS, Found(base="b"), made, SplitConfig(test=0.2, validation=0.1)))]
    assert sizes == [280, 40, 80]
    capped = split(MAILS, Found(base="b"), made, SplitConfig(max_test=30, max_validation=10))
    assert [len(side) for side in sides(capped)] == [360, 10, 30]
    alone = split(MAILS, Found(base="b"), made, SplitConfig(test=0, validation=0))
    assert [len(side) for side in sides(alone)] == [400, 0, 0]
    assert alone.notes[0] == "There is no test: its share of 400 rows is less than one, or too many are near twins."


def test_real_rows_are_measured_on_first_given_data_before_the_users_examples():
    rng = Random(0)
    task = MAILS.model_copy(update={"examples": tuple(row(sentence(rng), kind="user") for _ in range(10))})
    found = Found(base="b", examples=tuple(row(sentence(rng), kind="data") for _ in range(30)))
    made = Made(examples=tuple(row(sentence(rng)) for _ in range(60)))
    splits = split(task, found, made, SplitConfig())
    assert Counter(example.source.kind for example in splits.test) == {"data": 15}
    assert Counter(example.source.kind for example in splits.validation) == {"data": 5, "teacher": 10}
    alone = split(task, found, Made(), SplitConfig(test=0.4, validation=0.1))
    assert Counter(example.source.kind for example in alone.test) == {"data": 16}
    assert Counter(example.source.kind for example in alone.validation) == {"data": 4}


@pytest.mark.parametrize("real", [1, 5, FEW_REAL_ROWS - 1])
def test_a_few_real_rows_are_learned_from_and_the_note_says_so(real):
    rng = Random(0)
    task = MAILS.model_copy(update={"examples": tuple(row(sentence(rng), kind="user") for _ in range(real))})
    splits = split(task, Found(base="b"), Made(examples=tuple(row(sentence(rng)) for _ in range(100))), SplitConfig())
    assert sum(example.is_real for example in splits.train) == real
    assert splits.notes[0] == f"Rows by a person are few ({real}, below 20): all of them are learned from."
    assert splits.notes[1] == f"The test has {len(splits.test)} rows: 0 by a person, {len(splits.test)} by the teacher."


def test_real_rows_alone_are_split_however_few():
    rng = Random(0)
    task = MAILS.model_copy(update={"examples": tuple(row(sentence(rng), kind="user") for _ in range(10))})
    assert [len(side) for side in sides(split(task, Found(base="b"), Made(), SplitConfig()))] == [6, 2, 2]


def test_rows_that_are_all_twins_are_all_learned_from():
    made = Made(examples=tuple(row("the one and only mail" + "!" * n) for n in range(40)))
    assert [len(side) for side in sides(split(MAILS, Found(base="b"), made, SplitConfig()))] == [40, 0, 0]


def test_where_rows_contradict_each_other_the_person_wins():
    task = MAILS.model_copy(update={"examples": (row("it crashes", "bug", "user"),)})
    found = Found(base="b", examples=(row("it crashes", "other", "data"), row("too dear", "billing", "data")))
    made = Made(
        examples=(
            row("it  crashes", "billing"),
            row("too dear", "billing"),
            row("hello", "other"),
            row("hello", "bug"),
            row("hello again, friend", "greeting"),
        )
    )
    splits = split(task, found, made, SplitConfig())
    kept = {(example.input, example.output, example.source.kind) for side in sides(splits) for example in side}
    assert kept == {("it crashes", "bug", "user"), ("too dear", "billing", "data"), ("hello", "other", "teacher")}
    assert splits.dropped == {
        "contradicts a row by a person": 2,
        "same row again": 1,
        "contradicts an earlier row": 1,
        "output is none of the labels": 1,
    }


def test_an_open_task_may_have_several_answers_by_people_to_one_input():
    found = Found(base="b", examples=tuple(row("a story", title, "data") for title in ("One", "Two")))
    made = Made(examples=(row("a story", "Three"), row("a tale", "Four"), row("a tale", "Five")))
    splits = split(TITLES, found, made, SplitConfig(test=0, validation=0))
    assert [example.output for example in splits.train] == ["One", "Two", "Four"]
    assert splits.dropped == {"contradicts a row by a person": 1, "contradicts an earlier row": 1}


def test_nothing_to_learn_from_is_an_error():
    with pytest.raises(DataError, match="no row to learn from") as caught:
        split(MAILS, Found(base="b"), Made(), SplitConfig())
    assert "--data" in caught.value.hint


def test_shares_that_leave_nothing_to_learn_from_are_refused():
    from prompt2model.config import load_config

    with pytest.raises(ConfigError, match="leave no rows to learn from"):
        load_config(settings=["split.test=0.6", "split.validation=0.4"])


# a file of rows for the test


@pytest.fixture
def kept_file(tmp_path: Path) -> Path:
    rng = Random(9)
    rows = [{"input": sentence(rng), "output": rng.choice(LABELS)} for _ in range(50)]
    path = tmp_path / "test.jsonl"
    path.write_text("".join(json.dumps(one) + "\n" for one in rows))
    return path


def inputs_of(path: Path) -> list[str]:
    return [json.loads(line)["input"] for line in path.read_text().splitlines()]


def test_rows_given_for_the_test_are_the_whole_test(kept_file):
    splits = split(*parts(4, 30, 60), SplitConfig(test_data=str(kept_file), max_test=10))
    assert [example.input for example in splits.test] == inputs_of(kept_file)
    assert {example.source.kind for example in splits.test} == {"data"}
    assert splits.validation


def test_no_twin_of_a_given_test_row_is_learned_from(kept_file):
    first, second, *_ = inputs_of(kept_file)
    made = Made(examples=(row(first), row(second + "?"), row("something else entirely")))
    splits = split(MAILS, Found(base="b"), made, SplitConfig(test_data=str(kept_file)))
    assert [example.input for example in (*splits.train, *splits.validation)] == ["something else entirely"]
    assert splits.dropped["twin of a test row"] == 2


def test_only_twins_of_test_rows_leave_nothing_to_learn_from(kept_file):
    made = Made(examples=(row(inputs_of(kept_file)[0]),))
    with pytest.raises(DataError, match="1 × twin of a test row"):
        split(MAILS, Found(base="b"), made, SplitConfig(test_data=str(kept_file)))


def test_test_rows_with_unknown_labels_are_counted_and_none_left_is_an_error(tmp_path):
    path = tmp_path / "test.jsonl"
    path.write_text('{"input": "a b c", "output": "bug"}\n{"input": "d e f", "output": "nonsense"}\n')
    splits = split(*parts(0, 0, 30), SplitConfig(test_data=str(path)))
    assert [example.output for example in splits.test] == ["bug"]
    path.write_text('{"input": "d e f", "output": "nonsense"}\n')
    with pytest.raises(DataError, match="nonsense"):
        split(*parts(0, 0, 30), SplitConfig(test_data=str(path)))


def test_a_test_file_is_read_by_the_columns_that_are_named_for_rows(tmp_path):
    named = tmp_path / "test.jsonl"
    named.write_text('{"article": "a b c", "headline": "d", "summary": "e"}\n')
    reading = RetrieveConfig(input_column="article", output_column="headline")
    made, config = Made(examples=random_rows(0, 10, "teacher")), SplitConfig(test_data=str(named))
    found = split(TITLES, Found(base="b"), made, config, reading=reading)
    assert [(one.input, one.output) for one in found.test] == [("a b c", "d")]
    named.write_text('{"input": "a b c", "output": "d"}\n')
    found = split(TITLES, Found(base="b"), made, config, reading=reading)
    assert [(one.input, one.output) for one in found.test] == [("a b c", "d")]
    lacks = [f"test.jsonl has no column {name!r}." for name in ("article", "headline")]
    assert {*lacks, "Read were input as input and output as output."} <= set(found.notes)


def test_what_a_person_has_rejected_is_not_learned_from_when_it_is_given_back():
    mark = Mark(input="one", output="bug", accepted=False)
    found = Found(base="b", examples=(row("one"), row("one", kind="data"), row("two")))
    left = split(MAILS, found, Made(), marks=[mark])
    assert [(one.input, one.is_real) for side in sides(left) for one in side] == [("one", True), ("two", False)]
    with pytest.raises(DataError, match="to learn from: 1 × rejected by a person"):
        split(MAILS, Found(base="b", examples=(row("one"),)), Made(), marks=[mark])
    with pytest.raises(DataError, match="none was given and none was written"):
        split(MAILS, Found(base="b"), Made())


def test_what_a_person_has_rejected_is_on_no_side():
    rows = random_rows(0, 40, "teacher")
    marks = [Mark(input=one.input, output=one.output, accepted=place % 2 == 0) for place, one in enumerate(rows[:6])]
    found = split(MAILS, Found(base="b"), Made(examples=rows), marks=marks)
    left = {(one.input, one.output) for side in sides(found) for one in side}
    rejected = {(mark.input, mark.output) for mark in marks if not mark.accepted}
    assert not left & rejected
    assert found.dropped["rejected by a person"] == sum((one.input, one.output) in rejected for one in rows)


@pytest.mark.parametrize("data", [30, 60, 100, 1000])
def test_half_of_the_rows_by_people_are_learned_from_at_least(data):
    found = split(*parts(0, data, 300))
    real = [sum(one.is_real for one in side) for side in sides(found)]
    assert real[0] >= sum(real) / 2
    assert sum(real[1:]) >= min(sum(real) // 2, 30) - 1


def test_rows_that_will_not_be_measured_on_are_shown_to_the_teacher():
    task, found, _ = parts(2, 12, 0)
    shown, rest = shown_to_teacher(task, found, SplitConfig())
    assert (shown.examples, rest.examples) == ((*task.examples, *found.examples), ())
    many = parts(2, 400, 0)
    assert shown_to_teacher(*many[:2], SplitConfig()) == many[:2]
    shown, rest = shown_to_teacher(*many[:2], SplitConfig(test_data="test.csv"))
    assert len(shown.examples) == 2 + MOST_SHOWN
    assert len(rest.examples) == 400 - MOST_SHOWN
    assert {one.output for one in shown.examples} == set(LABELS)


def test_what_the_teacher_has_seen_is_not_measured_on(tmp_path):
    task, found, made = parts(2, 100, 300)
    (tmp_path / "test.jsonl").write_text('{"input": "a mail of its own that nobody has seen", "output": "bug"}\n')
    config = SplitConfig(test_data=str(tmp_path / "test.jsonl"))
    seen = {one.input for one in shown_to_teacher(task, found, config)[0].examples[2:]}
    splits = split(task, found, made, config)
    assert seen
    assert not seen & {one.input for one in splits.validation}
    assert any(one.is_real for one in splits.validation)
