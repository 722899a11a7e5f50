"""Self-training: the student labels inputs as it is, believes what it is sure of, and learns from that.

In co-training two students do so for each other.
"""

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from killing import Killed, kill_after
from test_train import same, weights
from torch.nn import functional
from train_here import TASK, films

from prompt2model.batches import weighed
from prompt2model.config import TrainConfig
from prompt2model.course import Course
from prompt2model.decoding import likelihoods
from prompt2model.errors import ConfigError, DataError
from prompt2model.methods import self_training
from prompt2model.records import Source, Splits, Student, TaskSpec
from prompt2model.stages.train import train
from prompt2model.student import LocalModel, adapt, load
from prompt2model.student_prompt import set_student_prompt

ARCHITECTURES = ("tiny_decoder", "tiny_encoder_decoder")


@pytest.fixture
def inputs(tmp_path) -> Path:
    file = tmp_path / "inputs.jsonl"
    file.write_text("".join(json.dumps({"input": row.input, "other": 1}) + "\n" for row in films(24, first=200)))
    return file


def trained(base: Path, folder: Path, rows=None, task: TaskSpec = TASK, options=None, **changed) -> Student:
    how = {"epochs": 3, "learning_rate": 3e-3, "batch_rows": 8, "patience": 0, "validations_per_epoch": 1}
    config = TrainConfig(method="self_training", options=options or {}, precision="float32", **{**how, **changed})
    seconds = 0.0 if folder.name == "killed" else 90.0
    splits = Splits(train=rows or films(16), validation=films(8, first=100))
    return train(task, splits, str(base), config, folder=folder, save_every_seconds=seconds)


def at_hand(base: Path, **options):
    """The student, its course, and lessons of four inputs without a label."""
    model, codec = load(base, precision="float32")
    set_student_prompt(codec)
    course = Course(TASK, codec, self_training.Options(**options))
    unlabelled = [row.model_copy(update={"output": ""}) for row in films(4)]
    return LocalModel(model, codec, name="student"), course, self_training.rows(unlabelled, course)


def probabilities(student: LocalModel, course: Course, lessons) -> torch.Tensor:
    """Of each label, by its likelihood with its end: (lessons, labels)."""
    choices = [course.codec.completion(label) for label in TASK.labels]
    return likelihoods(student.model, course.codec, [one[0].prompt for one in lessons], choices).softmax(1)


def test_a_soft_pseudo_label_weighs_every_label_by_its_probability(base):
    student, course, lessons = at_hand(base, soft=True, threshold=0.0)
    expected = probabilities(student, course, lessons)
    made = self_training.rollouts(student, lessons, course, [0] * len(lessons))
    torch.testing.assert_close(torch.tensor([[row.weight for row in one] for one in made]), expected)
    assert [course.codec.text(row.completion) for row in made[0]] == list(TASK.labels)


def test_the_loss_of_soft_labels_is_the_cross_entropy_to_the_whole_distribution(base):
    student, course, lessons = at_hand(base, soft=True, threshold=0.0)
    rows = [row for one in self_training.rollouts(student, lessons, course, [0] * len(lessons)) for row in one]
    found = self_training.loss(student.model, course.codec.collate(rows), course)
    targets = probabilities(student, course, lessons)
    choices = [course.codec.completion(label) for label in TASK.labels]
    logs = likelihoods(student.model, course.codec, [one[0].prompt for one in lessons], choices)  # log q(label), exact
    torch.testing.assert_close(found.detach(), -(targets * logs).sum(), rtol=1e-4, atol=1e-4)
    at_once = self_training.loss(student.model, course.codec.collate(weighed(rows, {"": 1.0})), course)
    tokens = sum(row.weight * len(row.completion) for row in rows)
    torch.testing.assert_close(at_once * tokens, found, rtol=1e-4, atol=1e-4)


def test_a_hard_pseudo_label_is_the_likeliest_where_it_reaches_the_threshold(base):
    student, course, lessons = at_hand(base)
    best, label = probabilities(student, course, lessons).max(1)
    limit = float(best.sort().values[2])
    course = Course(TASK, course.codec, self_training.Options(threshold=limit - 1e-6))
    made = self_training.rollouts(student, lessons, course, [0] * len(lessons))
    for place, lesson in enumerate(made):
        assert bool(lesson) == (float(best[place]) >= limit - 1e-6)
        if lesson:
            assert lesson == (lessons[place][int(label[place])],)
    assert functional.one_hot(label).sum() == 4


def test_a_labelled_row_keeps_its_label(base):
    student, course, lessons = at_hand(base, threshold=1.0)
    own = self_training.rows(films(1), course)
    assert self_training.rollouts(student, [*own, *lessons], course, [0] * 4) == [*own, (), (), (), ()]


@pytest.mark.parametrize("soft", [False, True])
def test_it_learns_from_its_own_labels_in_rounds(base, tmp_path, inputs, soft):
    options = {"inputs": str(inputs), "soft": soft, "threshold": 0.5, "warm_up": 4.0}
    student = trained(base, tmp_path / "student", options=options)
    assert student.steps == 3 * (16 + 24) // 8
    assert student.losses[-1] < student.losses[0]
    assert student.history[-1].score >= 0.5


def test_without_a_file_the_rows_that_the_teacher_wrote_are_labelled_anew(tiny_decoder):
    codec = load(tiny_decoder, precision="float32")[1]
    teacher = Source(kind="teacher", name="x")
    rows = [*films(2), *(row.model_copy(update={"source": teacher}) for row in films(3, first=50))]
    prepared = self_training.prepare(rows, Course(TASK, codec, self_training.Options()))
    assert [row.output for row in prepared.examples] == ["positive", "positive", "", "", ""]
    with pytest.raises(DataError, match="no inputs without a label"):
        self_training.prepare(films(2), Course(TASK, codec, self_training.Options()))


def test_lines_of_a_file_are_inputs_each_once_and_end_at_line_feeds(tiny_decoder, tmp_path):
    (tmp_path / "inputs.txt").write_bytes("one\u2028two\r\n\n three\x85four\none\u2028two".encode())
    codec = load(tiny_decoder, precision="float32")[1]
    options = self_training.Options(inputs=tmp_path / "inputs.txt")
    prepared = self_training.prepare(films(1), Course(TASK, codec, options))
    assert [row.input for row in prepared.examples[1:]] == ["one\u2028two", "three\x85four"]


@pytest.mark.parametrize("labelled_by", ["itself", "peer"])
def test_a_killed_training_goes_on_within_its_round_bit_for_bit(
    tiny_decoder, tmp_path, inputs, monkeypatch, labelled_by
):
    options = {"inputs": str(inputs), "threshold": 0.5, "soft": True, "warm_up": 0.0, "passes": 2}
    options["labelled_by"] = labelled_by
    straight = trained(tiny_decoder, tmp_path / "straight", options=options)
    with monkeypatch.context() as patch:
        kill_after(patch, 7)
        with pytest.raises(Killed):
            trained(tiny_decoder, tmp_path / "killed", options=options)
    resumed = trained(tiny_decoder, tmp_path / "killed", options=options)
    assert resumed.losses == straight.losses
    assert same(weights(resumed.folder), weights(straight.folder))


def test_a_student_that_is_sure_of_nothing_is_an_error_with_a_cure(tiny_decoder, tmp_path):
    rows = tuple(row.model_copy(update={"source": Source(kind="teacher", name="x")}) for row in films(8))
    with pytest.raises(DataError, match="Nothing is left to learn from") as caught:
        trained(tiny_decoder, tmp_path, rows, options={"threshold": 1.0, "warm_up": 0.0})
    assert "threshold" in caught.value.hint


def test_a_task_without_labels_and_a_file_that_is_not_there_are_refused(tiny_decoder, tmp_path):
    with pytest.raises(ConfigError, match="needs a classification"):
        trained(tiny_decoder, tmp_path, task=TaskSpec(instruction="Write.", metric="exact_match"))
    with pytest.raises(ConfigError, match="inputs"):
        trained(tiny_decoder, tmp_path, options={"inputs": str(tmp_path / "none.txt")})


@pytest.fixture(scope="module", params=ARCHITECTURES)
def mistaken(request, tmp_path_factory) -> Path:
    """A model that gives labels, and the wrong ones."""
    other = dict(zip(TASK.labels, reversed(TASK.labels), strict=True))
    rows = tuple(row.model_copy(update={"output": other[row.output]}) for row in films(24))
    config = TrainConfig(epochs=20, batch_rows=8, learning_rate=1e-2, precision="float32")
    base = str(request.getfixturevalue(request.param))
    return train(TASK, Splits(train=rows), base, config, folder=tmp_path_factory.mktemp("mistaken")).folder


@pytest.mark.parametrize("labelled_by", ["itself", "peer"])
def test_adapters_unlearn_wrong_labels_too(mistaken, tmp_path, inputs, labelled_by):
    options = {"inputs": str(inputs), "threshold": 0.8, "labelled_by": labelled_by}
    student = trained(mistaken, tmp_path / "student", options=options, lora_rank=4, learning_rate=1e-2, epochs=6)
    assert student.trained_parameters < student.parameters
    assert student.history[0].score < student.history[-1].score
    assert student.history[-1].validation_loss_nats < 0.8 * student.history[0].validation_loss_nats


# Two students


def two_at_hand(base: Path, *, differ: bool = True, **options):
    """Two students, the course, and lessons of four inputs without a label."""
    student, course, lessons = at_hand(base, labelled_by="peer", **options)
    self_training.equip(student.model, course)
    if differ:
        with torch.no_grad():
            for parameter in student.model.equipment.parameters():
                parameter.add_(0.05 * torch.randn(parameter.shape, generator=torch.Generator().manual_seed(0)))
    return student, LocalModel(student.model.equipment, course.codec, name="second"), course, lessons


def test_each_student_learns_what_the_other_says(base):
    first, second, course, lessons = two_at_hand(base, soft=True, threshold=0.0)
    made = self_training.rollouts(first, lessons, course, [0] * 4)
    for teaches, learns in ((first, "second"), (second, "first")):
        found = torch.tensor([[row.weight for row in one if row.part == learns] for one in made])
        torch.testing.assert_close(found, probabilities(teaches, course, lessons))
    assert not torch.allclose(probabilities(first, course, lessons), probabilities(second, course, lessons), atol=1e-3)


def test_what_one_is_sure_of_and_the_other_not_is_learned_by_the_other_alone(base):
    first, second, course, lessons = two_at_hand(base)
    sure = {
        part: probabilities(by, course, lessons).max(1).values for part, by in (("second", first), ("first", second))
    }
    limit = float(torch.cat(list(sure.values())).median())
    course = Course(TASK, course.codec, self_training.Options(labelled_by="peer", threshold=limit))
    made = self_training.rollouts(first, lessons, course, [0] * 4)
    for place, lesson in enumerate(made):
        assert {row.part for row in lesson} == {part for part in sure if float(sure[part][place]) >= limit}
    assert 0 < sum(map(len, made)) < 8


def test_two_students_that_are_the_same_learn_from_labelled_rows_alone_each_from_its_half(base):
    first, _, course, lessons = two_at_hand(base, differ=False, threshold=0.0)
    own = self_training.rows(films(40), course)
    made = self_training.rollouts(first, [*own, *lessons], course, [0] * 44)
    assert made[40:] == [()] * 4
    parts = [one[0].part for one in made[:40]]
    assert 10 < parts.count("first") == 40 - parts.count("second") < 30
    again = self_training.rollouts(first, list(reversed(own)), course, [1] * 40)
    assert [one[0].part for one in reversed(again)] == parts


def test_the_loss_of_two_students_is_the_mean_of_each_ones_on_its_rows(base):
    first, second, course, _ = two_at_hand(base)
    rows = [
        row
        for one in self_training.rollouts(first, self_training.rows(films(8), course), course, [0] * 8)
        for row in one
    ]
    assert {row.part for row in rows} == {"first", "second"}
    batch = course.codec.collate(weighed(rows, self_training.shares(course.options)))
    found = self_training.loss(first.model, batch, course)
    alone = Course(TASK, course.codec, self_training.Options())
    expected = 0.0
    for student, part in ((first, "first"), (second, "second")):
        own = [replace(row, part="") for row in rows if row.part == part]
        expected += self_training.loss(student.model, course.codec.collate(weighed(own, {"": 0.5})), alone)
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-6)
    whole = torch.autograd.grad(found, list(first.model.parameters()), allow_unused=True)
    parts = torch.autograd.grad(expected, list(first.model.parameters()), allow_unused=True)
    assert all(torch.allclose(one, other, atol=1e-6) for one, other in zip(whole, parts, strict=True))


def test_a_student_without_rows_in_a_batch_still_has_a_gradient(base):
    first, second, course, _ = two_at_hand(base)
    rows = [replace(one[0], part="first") for one in self_training.rows(films(3), course)]
    self_training.loss(first.model, course.codec.collate(rows), course).backward()
    gradients = [parameter.grad for parameter in second.model.parameters()]
    assert not any(gradient.any() for gradient in gradients)


def test_the_validation_judges_the_student_that_is_kept(base):
    first, second, course, _ = two_at_hand(base)
    batch = course.codec.collate([one[0] for one in self_training.rows(films(4), course)])
    before = self_training.loss(first.model, batch, course)
    with torch.no_grad():
        for parameter in second.model.parameters():
            parameter.zero_()
    assert torch.equal(self_training.loss(first.model, batch, course), before)


def test_two_students_learn_from_each_other_and_one_is_kept(base, tmp_path, inputs):
    options = {"inputs": str(inputs), "threshold": 0.5, "labelled_by": "peer"}
    student = trained(base, tmp_path / "student", options=options, epochs=12)
    assert student.history[-1].validation_loss_nats < 0.5 * student.history[0].validation_loss_nats
    assert student.history[-1].score >= 0.5
    assert student.trained_parameters == student.parameters
    assert not any("equipment" in name for name in weights(student.folder))


def test_a_round_that_is_over_early_is_not_validated_again_until_something_is_learned(tiny_decoder, tmp_path, inputs):
    options = {"inputs": str(inputs), "threshold": 1.0, "warm_up": 0}  # of 40 rows the 16 with a label are learned
    student = trained(tiny_decoder, tmp_path / "student", options=options, validations_per_epoch=5)
    assert [one.step for one in student.history] == [1, 2, 6, 7, 11, 12]
    assert student.steps == 15


def test_adapters_of_two_students_stand_on_the_same_weights(base):
    model, codec = load(base, precision="float32")
    adapted = adapt(model, 4)
    before = {id(parameter) for parameter in adapted.parameters()}
    trained_ones = sum(parameter.requires_grad for parameter in adapted.parameters())
    self_training.equip(adapted, Course(TASK, codec, self_training.Options(labelled_by="peer")))
    added = [parameter for parameter in adapted.parameters() if id(parameter) not in before]
    assert len(added) == trained_ones
    assert all(parameter.requires_grad for parameter in added)


def test_two_students_without_labelled_rows_are_refused(tiny_decoder):
    codec = load(tiny_decoder, precision="float32")[1]
    rows = [row.model_copy(update={"source": Source(kind="teacher", name="x")}) for row in films(4)]
    with pytest.raises(DataError, match="no labelled rows") as caught:
        self_training.prepare(rows, Course(TASK, codec, self_training.Options(labelled_by="peer")))
    assert "--data" in caught.value.hint
