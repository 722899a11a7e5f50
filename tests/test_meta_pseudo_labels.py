"""Meta pseudo labels: the teacher's gradient is that of the student's loss after its step on the teacher's labels."""

from itertools import count
from pathlib import Path

import pytest
import torch
from killing import Killed, kill_after
from test_train import same, weights
from train_here import TASK, films

from prompt2model.batches import weighed
from prompt2model.config import TrainConfig
from prompt2model.course import Course
from prompt2model.errors import ConfigError, DataError
from prompt2model.heads import likelihood_loss
from prompt2model.methods import meta_pseudo_labels as meta
from prompt2model.records import Source, Splits, Student, TaskSpec
from prompt2model.stages.train import train
from prompt2model.student import LocalModel, load
from prompt2model.student_prompt import set_student_prompt


@pytest.fixture
def inputs(tmp_path) -> Path:
    file = tmp_path / "inputs.txt"
    file.write_text("\n".join(row.input for row in films(24, first=200)))
    return file


@pytest.fixture
def at_hand(base):
    """A student with a teacher that differs from it, the course, and lessons: two without a label, three with one."""
    model, codec = load(base, precision="float32")
    set_student_prompt(codec)
    model.get_input_embeddings().padding_idx = None  # else the padding, which is a turn's end too, gets no gradient
    course = Course(TASK, codec, meta.Options())
    meta.equip(model, course)
    with torch.no_grad():
        for parameter in model.equipment.parameters():
            parameter.add_(0.05 * torch.randn(parameter.shape, generator=torch.Generator().manual_seed(0)))
    unlabelled = [row.model_copy(update={"output": ""}) for row in films(2)]
    return LocalModel(model, codec, name="student"), course, meta.rows([*unlabelled, *films(3, first=10)], course)


def own(model) -> list[torch.Tensor]:
    """The student's weights, without its teacher's."""
    return [parameter for name, parameter in model.named_parameters() if not name.startswith("equipment.")]


def rows_of(part: str, lessons) -> list:
    return [row for lesson in lessons for row in lesson if row.part == part]


def gradient(loss: torch.Tensor, of) -> torch.Tensor:
    return torch.cat([one.flatten() for one in torch.autograd.grad(loss, of)])


def loss_of(part: str, student: LocalModel, lessons, course: Course) -> torch.Tensor:
    """As the loop would have it of these rows."""
    rows = weighed(rows_of(part, lessons), meta.shares(course.options))
    return meta.loss(student.model, course.codec.collate(rows), course)


def labelled_loss(student: LocalModel, lessons, course: Course) -> torch.Tensor:
    """The student's, a mean over the labelled rows' tokens."""
    return likelihood_loss(student.model, course.codec.collate(weighed(rows_of("teacher", lessons), {"teacher": 1.0})))


def after_a_step(student: LocalModel, learned, course: Course, rate: float):
    """What the teacher hears of a plain step of the student on what was drawn, and the labelled loss after it."""
    weights_of, slopes = own(student.model), gradient(loss_of("student", student, learned, course), own(student.model))
    before = [parameter.detach().clone() for parameter in weights_of]
    with torch.no_grad():
        for parameter, slope in zip(weights_of, slopes.split([one.numel() for one in weights_of]), strict=True):
            parameter -= rate * slope.view_as(parameter)
        heard, loss = meta.hindsight(student, learned, course), float(labelled_loss(student, learned, course))
        for parameter, value in zip(weights_of, before, strict=True):
            parameter.copy_(value)
    return heard, loss


def drawn(student: LocalModel, lessons, course: Course) -> dict[tuple, list]:
    """The lessons with every pair of labels that the teacher can draw for the two inputs."""
    found: dict[tuple, list] = {}
    for seed in count():
        made = meta.rollouts(student, lessons, course, [2 * seed, 2 * seed + 1, 0, 0, 0])
        found.setdefault(tuple(row.completion for row in rows_of("student", made)), made)
        if len(found) == 4:
            return found
    raise AssertionError


def law(teacher, lessons) -> torch.Tensor:
    """log T(label) of the inputs without a label, with a gradient: (inputs, labels)."""
    tables = [
        torch.stack([-likelihood_loss(teacher.model, teacher.codec.collate([row])) for row in lesson])
        for lesson in lessons
        if len(lesson) > 1
    ]
    return torch.stack(tables).log_softmax(1)


def test_the_teachers_gradient_is_that_of_the_students_loss_over_all_labels_it_can_draw(at_hand):
    student, course, lessons = at_hand
    teacher = LocalModel(student.model.equipment, course.codec, name="teacher")
    answers = [course.codec.completion(label) for label in TASK.labels]
    of = list(teacher.model.parameters())
    log_t, objective, estimate = law(teacher, lessons), torch.zeros(()), torch.zeros(())
    for labels, learned in drawn(student, lessons, course).items():
        heard, loss = after_a_step(student, learned, course, rate=0.5)
        log_chance = sum(log_t[place, answers.index(label)] for place, label in enumerate(labels))
        objective = objective + log_chance.exp() * loss
        slope = gradient(loss_of("feedback", student, heard, course), of)
        estimate = estimate + float(log_chance.detach().exp()) * slope
    exact = gradient(objective, of)
    assert exact.norm() > 1e-3
    torch.testing.assert_close(2 * estimate / 0.5, exact, rtol=1e-3, atol=1e-5 + 1e-3 * float(exact.abs().max()))


def test_to_first_order_the_feedback_is_the_papers_dot_product(at_hand):
    student, course, lessons = at_hand
    answers = [course.codec.completion(label) for label in TASK.labels]
    for labels, learned in drawn(student, lessons, course).items():
        ((first, *_), _), _ = after_a_step(student, learned, course, rate=1e-3)
        pull = float(rows_of("student", learned)[0].signals["pull"][0, 0])
        fall = float(first.signals["feedback"][0]) / (pull * sum(map(len, answers)))
        of = own(student.model)
        known = gradient(labelled_loss(student, learned, course), of)
        guessed = gradient(loss_of("student", student, learned, course), of)
        assert fall == pytest.approx(1e-3 * float(known @ guessed), rel=0.02), labels


def test_labels_are_drawn_as_likely_as_the_teacher_finds_them(at_hand):
    student, course, lessons = at_hand
    teacher = LocalModel(student.model.equipment, course.codec, name="teacher")
    chances = law(teacher, lessons).exp()[0].tolist()
    made = meta.rollouts(student, [lessons[0]] * 400, course, range(400))
    first = course.codec.completion(TASK.labels[0])
    times = sum(row.completion == first for row in rows_of("student", made))
    assert abs(times - 400 * chances[0]) < 4 * (400 * chances[0] * chances[1]) ** 0.5


def test_a_step_without_labelled_rows_tells_the_teacher_nothing(at_hand):
    student, course, lessons = at_hand
    assert meta.hindsight(student, [], course) == []
    assert meta.hindsight(student, meta.rollouts(student, lessons[:2], course, [0, 1]), course) == []
    assert meta.hindsight(student, meta.rollouts(student, lessons[2:], course, [0, 1, 2]), course) == []


def test_the_student_learns_what_was_drawn_and_the_teacher_the_rest(at_hand):
    student, course, lessons = at_hand
    learned = meta.rollouts(student, lessons, course, range(5))
    heard, _ = after_a_step(student, learned, course, rate=0.5)
    for part, model in (("student", own(student.model)), ("teacher", student.model.equipment.parameters())):
        of = list(model)
        everything = meta.loss(student.model, course.codec.collate(_weighed([*learned, *heard], course)), course)
        parts = ["student"] if part == "student" else ["teacher", "feedback"]
        alone = sum(loss_of(one, student, [*learned, *heard], course) for one in parts)
        torch.testing.assert_close(gradient(everything, of), gradient(alone, of), rtol=1e-4, atol=1e-6)


def _weighed(lessons, course: Course) -> list:
    return weighed([row for lesson in lessons for row in lesson], meta.shares(course.options))


# It learns


def trained(base: Path, folder: Path, rows=None, task: TaskSpec = TASK, options=None, **changed) -> Student:
    how = {"epochs": 3, "learning_rate": 3e-3, "batch_rows": 8, "patience": 0, "validations_per_epoch": 1}
    how |= {"method": "meta_pseudo_labels", "options": options or {}, "precision": "float32"}
    seconds = 0.0 if folder.name == "killed" else 90.0
    splits = Splits(train=rows or films(24), validation=films(8, first=100))
    return train(task, splits, str(base), TrainConfig(**{**how, **changed}), folder=folder, save_every_seconds=seconds)


@pytest.mark.parametrize("lora_rank", [0, 4])
def test_the_student_learns_from_the_teacher_and_is_kept_alone(base, tmp_path, inputs, lora_rank):
    student = trained(base, tmp_path / "student", options={"inputs": str(inputs), "warm_up": 3.0}, lora_rank=lora_rank)
    assert student.steps == 3 * (24 + 24) // 8
    assert student.history[-1].validation_loss_nats < student.history[0].validation_loss_nats
    assert (student.trained_parameters < student.parameters) == bool(lora_rank)
    assert not any("equipment" in name for name in weights(student.folder))


def test_a_killed_training_goes_on_with_what_the_teacher_is_to_hear_bit_for_bit(
    tiny_decoder, tmp_path, inputs, monkeypatch
):
    options = {"inputs": str(inputs), "warm_up": 0.0}
    straight = trained(tiny_decoder, tmp_path / "straight", options=options)
    with monkeypatch.context() as patch:
        kill_after(patch, 7)
        with pytest.raises(Killed):
            trained(tiny_decoder, tmp_path / "killed", options=options)
    resumed = trained(tiny_decoder, tmp_path / "killed", options=options)
    assert resumed.losses == straight.losses
    assert same(weights(resumed.folder), weights(straight.folder))


def test_without_labelled_rows_or_labels_it_is_refused(tiny_decoder, tmp_path, inputs):
    rows = tuple(row.model_copy(update={"source": Source(kind="teacher", name="x")}) for row in films(8))
    with pytest.raises(DataError, match="no labelled rows"):
        trained(tiny_decoder, tmp_path, rows, options={"warm_up": 0.0})
    with pytest.raises(ConfigError, match="needs a classification"):
        trained(tiny_decoder, tmp_path, task=TaskSpec(instruction="Write.", metric="exact_match"))
