"""Context distillation: the teacher's context, where its positions stand, and a student that answers without it."""

from dataclasses import replace

import pytest
import torch
from teachers_here import BY_HEART, NAMED, NAMING, SOURCE, save_obedient

from prompt2model.answers import ask
from prompt2model.config import TrainConfig
from prompt2model.course import Course, asked_of_student
from prompt2model.errors import ConfigError
from prompt2model.methods import context, open_method
from prompt2model.records import Example, Splits, TaskSpec
from prompt2model.stages.train import train
from prompt2model.student import LocalModel, load, open_model
from prompt2model.student_prompt import set_student_prompt
from prompt2model.teachers.scripted import Scripted

FILMS = TaskSpec(
    instruction="Is it good?",
    kind="classification",
    labels=("positive", "negative"),
    metric="accuracy",
    examples=(Example(input="fine", output="positive", source=SOURCE, rationale="Fine is good."),),
)


@pytest.fixture(params=["tiny_decoder", "tiny_encoder_decoder"])
def course(request) -> Course:
    """A model as its own teacher, full targets."""
    folder = request.getfixturevalue(request.param)
    model, codec = load(folder, precision="float32")
    teacher = LocalModel(model, load(folder, precision="float32")[1], name="base")
    set_student_prompt(codec)
    return Course(NAMING, codec, context.Options(targets="full", teacher="base"), teacher=teacher, writer=teacher)


def rows_of(course: Course):
    return [row for lesson in context.rows(NAMED, course) for row in lesson]


def test_a_model_does_not_differ_from_itself_in_the_same_context(course):
    rows = [replace(row, prompt=row.teacher_prompt) for row in rows_of(course)]
    loss = context.loss(course.white_box.model, course.codec.collate(rows), course)
    assert float(loss.detach()) == pytest.approx(0.0, abs=1e-5)


def test_teacher_and_student_stand_at_the_same_token_of_the_answer(course):
    model, rows = course.white_box.model, rows_of(course)
    assert {len(row.teacher_prompt) - len(row.prompt) for row in rows} != {0}
    expected = 0.0
    for row in rows:
        log_p, log_q = (log_probabilities(model, course, prompt, row) for prompt in (row.teacher_prompt, row.prompt))
        expected += float((log_p.exp() * (log_p - log_q)).sum())
    found = context.loss(model, course.codec.collate(rows), course)
    assert expected > 1e-3
    assert float(found.detach()) == pytest.approx(expected, rel=1e-3, abs=1e-5)


@torch.no_grad()
def log_probabilities(model, course: Course, prompt, row) -> torch.Tensor:
    """Of every token at each place of the answer, (T, V), from one unpadded pass."""
    if course.codec.architecture == "decoder":
        logits = model(input_ids=torch.tensor([[*prompt, *row.completion]])).logits[0, len(prompt) - 1 : -1]
    else:
        begun = torch.tensor([[course.codec.start_token, *row.completion[:-1]]])
        logits = model(input_ids=torch.tensor([prompt]), decoder_input_ids=begun).logits[0]
    return logits.double().log_softmax(-1)


def prepared(teacher: Scripted, task: TaskSpec = FILMS, texts=("a", "b", "c", "d"), **options):
    course = Course(task, None, context.Options(**options), writer=teacher)
    return context.prepare([Example(input=text, output="?", source=SOURCE) for text in texts], course)


def test_the_teacher_reads_the_instruction_and_the_examples():
    teacher = Scripted(["positive"], can=("text",))
    prepared(teacher, texts=("a film",), instruction="Judge the film.")
    roles = [message.role for message in teacher.asked[0].messages]
    assert roles == ["system", "user", "assistant", "user"]
    assert "Judge the film." in teacher.asked[0].messages[0].content
    assert teacher.asked[0].messages[-1].content == "a film"


def test_of_a_scratchpad_the_answer_alone_is_kept_and_what_has_none_is_counted():
    thoughts = ["It is bad.\nAnswer: negative", "I do not know.", "Hm.\nAnswer: maybe", "So\nAnswer: positive."]
    teacher = Scripted(thoughts, can=("text",))
    found = prepared(teacher, scratchpad=True)
    assert [(row.input, row.output) for row in found.examples] == [("a", "negative"), ("d", "positive")]
    assert found.dropped == {"no answer": 1, "not a label": 1}
    assert "Fine is good.\nAnswer: positive" in teacher.asked[0].messages[2].content


def test_a_scratchpad_has_no_soft_targets():
    with pytest.raises(ConfigError, match="scratchpad"):
        open_method("context", {"scratchpad": True, "targets": "soft"})


@pytest.mark.parametrize("targets", ["soft", "full"])
def test_labels_count_by_their_probability(tiny_decoder, targets):
    likely = torch.tensor([0.8, 0.2]).log().tolist()
    found = prepared(Scripted([likely]), texts=("a",), targets=targets)
    codec = load(tiny_decoder, precision="float32")[1]
    course = Course(FILMS, codec, context.Options(targets=targets, draws=2000))
    (lesson,) = context.rows(found.examples, course)
    shares = {codec.text(row.completion): row.weight for row in lesson}
    assert shares == pytest.approx({"positive": 0.8, "negative": 0.2}, abs=0.03 if targets == "soft" else 1e-6)
    assert sum(shares.values()) == pytest.approx(1.0)


@pytest.fixture(scope="module")
def obedient(tiny_decoder, tmp_path_factory) -> str:
    return save_obedient(tiny_decoder, tmp_path_factory.mktemp("obedient"))


@pytest.mark.parametrize("targets", ["hard", "soft", "full"])
def test_the_student_does_untold_what_its_base_does_when_told(obedient, tmp_path, targets):
    def untold(folder) -> list[str]:
        asked = [asked_of_student(row) for row in NAMED]
        found = ask(NAMING, asked, open_model(str(folder), precision="float32"), max_tokens=20, what="")
        return [answer.text for answer in found]

    assert untold(obedient) == ["x"] * 4
    blank = tuple(row.model_copy(update={"output": "unknown"}) for row in NAMED)
    options = {"teacher": "base", "targets": targets}
    config = TrainConfig(**BY_HEART, method="context", options=options)
    student = train(NAMING, Splits(train=blank, validation=NAMED), obedient, config, folder=tmp_path)
    assert untold(student.folder) == [row.output for row in NAMED]
    assert student.teacher == obedient
