"""Context distillation: the teacher's context, where its positions stand, and a student that answers without it."""

from dataclasses import replace

import pytest
import torch
from killing import Killed, kill_after
from safetensors.torch import load_file
from teachers_here import BY_HEART, NAMED, NAMING, SOURCE, save_obedient

from prompt2model import store
from prompt2model.answers import ask
from prompt2model.config import TrainConfig
from prompt2model.conversation import Reply
from prompt2model.course import Course, asked_of_student
from prompt2model.errors import ConfigError, TaskError
from prompt2model.methods import context, open_method
from prompt2model.records import Example, Splits, Student, TaskSpec
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


SHORT = "Name it in short."
IN_FULL = """Name it, as here.

Input: user
Output: an assistant

Input: good
Output: the good film
"""
BOTH = (SHORT, IN_FULL)


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


@pytest.mark.parametrize("contexts", [(), BOTH])
def test_teacher_and_student_stand_at_the_same_token_of_the_answer(course, contexts):
    course = replace(course, options=course.options.model_copy(update={"contexts": contexts}))
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


def test_behind_a_scratchpad_the_teacher_is_asked_again_how_likely_the_labels_are():
    likely = torch.tensor([0.7, 0.3]).log().tolist()
    teacher = Scripted(["It is fine.\nAnswer: negative", likely])
    found = prepared(teacher, texts=("a",), scratchpad=True, targets="full")
    first, second = teacher.asked
    assert not first.choices
    assert second.choices == FILMS.labels
    assert second.continues
    assert [message.content for message in second.messages] == [
        *(message.content for message in first.messages),
        "It is fine.\nAnswer:",
    ]
    (row,) = found.examples
    assert row.output == "positive"
    assert row.probabilities == pytest.approx({"positive": 0.7, "negative": 0.3})


TRIMMED = "{% for message in messages %}{{ message.role }}: {{ message.content | trim }}{% endfor %}"


@pytest.mark.parametrize("template", ["its own", "none", TRIMMED], ids=["own", "none", "trimmed"])
def test_behind_a_scratchpad_the_teacher_stands_at_the_same_token(course, template):
    if template != "its own":
        course.white_box.codec.tokenizer.chat_template = None if template == "none" else template
    course = replace(course, options=course.options.model_copy(update={"scratchpad": True}))
    row = Example(input="a film", output="good", rationale="So it is.", source=SOURCE)
    ((found,),) = context.rows([row], course)
    read, codec = course.white_box.codec.text(found.teacher_prompt), course.codec
    assert read.rstrip().endswith("So it is.\nAnswer:")
    assert read.endswith("\n") == (codec.architecture == "decoder")  # where the answer follows in the same text
    assert codec.text(found.completion) == "good"
    log_p, log_q = (
        log_probabilities(course.white_box.model, course, prompt, found)
        for prompt in (found.teacher_prompt, found.prompt)
    )
    expected = float((log_p.exp() * (log_p - log_q)).sum())
    loss = context.loss(course.white_box.model, codec.collate([found]), course)
    assert float(loss.detach()) == pytest.approx(expected, rel=1e-3, abs=1e-5)


def test_a_rationale_that_the_teacher_did_not_think_is_none_of_its_own():
    teacher = Scripted(["Answer: positive", "Hm.\nAnswer: positive"], can=("text",))
    rows = [Example(input=text, output="?", rationale="Of a data set.", source=SOURCE) for text in "ab"]
    course = Course(FILMS, None, context.Options(scratchpad=True), writer=teacher)
    assert [row.rationale for row in context.prepare(rows, course).examples] == [None, "Hm."]


def test_likelihoods_that_fail_behind_a_scratchpad_are_counted():
    teacher = Scripted(["It is fine.\nAnswer: negative", Reply(text="", finish="failed", failure="gone")])
    found = prepared(teacher, texts=("a",), scratchpad=True, targets="full")
    assert found.examples == []
    assert found.dropped == {"gone": 1}


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


# Several contexts


def told(teacher: Scripted, by: str) -> list[str]:
    """The inputs that the teacher was asked about in the context with this instruction, in order."""
    return [one.messages[-1].content for one in teacher.asked if by in one.messages[0].content]


def test_contexts_share_the_inputs_and_each_shows_its_own_examples(tmp_path):
    (tmp_path / "full.md").write_text(IN_FULL)
    texts = [f"input {number}" for number in range(40)]
    teacher = Scripted(lambda request: f"of {len(request.messages)} messages", can=("text",))
    found = prepared(teacher, NAMING, texts, contexts=(SHORT, str(tmp_path / "full.md")))
    short, full = told(teacher, SHORT), told(teacher, "as here")
    assert sorted(short + full) == sorted(texts)
    assert min(len(short), len(full)) > 10
    assert {row.input for row in found.examples if row.output == "of 6 messages"} == set(full)
    shown = next(one.messages for one in teacher.asked if one.messages[-1].content == full[0])
    assert [message.content for message in shown[1:5]] == ["user", "an assistant", "good", "the good film"]


def test_of_the_examples_of_a_context_as_many_are_shown_as_are_asked_for():
    teacher = Scripted(["x"], can=("text",))
    prepared(teacher, NAMING, ("a",), contexts=(IN_FULL,), examples=1)
    assert [message.content for message in teacher.asked[0].messages[1:]] == ["user", "an assistant", "a"]


def test_an_input_stays_in_its_context_whatever_stands_beside_it():
    def context_of(texts, seed: int = 0) -> dict[str, bool]:
        teacher = Scripted(lambda request: "x", can=("text",))
        course = Course(NAMING, None, context.Options(contexts=BOTH), writer=teacher, seed=seed)
        context.prepare([Example(input=text, output="?", source=SOURCE) for text in texts], course)
        return {one.messages[-1].content: SHORT in one.messages[0].content for one in teacher.asked}

    texts = [f"input {number}" for number in range(40)]
    whole = context_of(texts)
    assert context_of(texts[::-3]).items() <= whole.items()
    assert context_of(texts, seed=1) != whole


def test_the_white_box_reads_an_answer_in_the_context_in_which_it_was_given(course):
    course = replace(course, options=course.options.model_copy(update={"contexts": BOTH}))
    asked = []
    heard = replace(course, writer=Scripted(lambda request: asked.append(request.messages) or "x", can=("text",)))
    examples = context.prepare(NAMED, heard).examples
    prompts = [row.teacher_prompt for lesson in context.rows(examples, course) for row in lesson]
    assert prompts == [course.white_box.codec.prompt(one) for one in asked]
    assert len({messages[0].content for messages in asked}) == 2


@pytest.mark.parametrize(
    ("contexts", "error", "said"),
    [
        (("nowhere.md",), TaskError, "no file nowhere.md"),
        (("Input: a\nOutput: b\n\nInput: c",), TaskError, "has no output"),
        ((" ",), TaskError, "empty"),
    ],
)
def test_a_context_that_cannot_be_read_is_refused_at_once(contexts, error, said):
    with pytest.raises(error, match=said):
        open_method("context", {"contexts": contexts})


def test_contexts_come_with_their_instructions():
    with pytest.raises(ConfigError, match="instructions of their own"):
        open_method("context", {"contexts": [SHORT], "instruction": "Name it."})


AS_TOLD = (NAMING.instruction, NAMING.instruction)
"""What `obedient` answers, and the student that it becomes."""


IN_SEQUENCE = {"contexts": BOTH, "order": "sequential"}


def named_by_context() -> Scripted:
    """A teacher that answers each input in two ways, as it is told to."""
    full = {row.input: row.output for row in NAMED}
    return Scripted(
        lambda request: "x" if SHORT in request.messages[0].content else full[request.messages[-1].content],
        can=("text",),
    )


def in_sequence(base, folder, teacher=None, seconds=90.0, **changed) -> Student:
    options = {**IN_SEQUENCE, **changed.pop("options", {})}
    config = TrainConfig(**{**BY_HEART, "validations_per_epoch": 1, **changed}, method="context", options=options)
    rows = Splits(train=tuple(row.model_copy(update={"output": "unknown"}) for row in NAMED), validation=NAMED)
    return train(NAMING, rows, str(base), config, folder=folder, teacher=teacher, save_every_seconds=seconds)


def weights(folder) -> dict[str, torch.Tensor]:
    return load_file(folder / "model.safetensors")


def same(first: dict[str, torch.Tensor], second: dict[str, torch.Tensor]) -> bool:
    return first.keys() == second.keys() and all(torch.equal(first[name], second[name]) for name in first)


@pytest.mark.parametrize("base", ["tiny_decoder", "tiny_encoder_decoder"])
def test_contexts_in_sequence_teach_all_inputs_each_and_the_last_has_the_last_word(request, tmp_path, base):
    teacher = named_by_context()
    student = in_sequence(request.getfixturevalue(base), tmp_path, teacher)
    inputs = [row.input for row in NAMED]
    assert [one.messages[-1].content for one in teacher.asked] == inputs * 2
    assert told(teacher, SHORT) == told(teacher, "as here") == inputs
    assert SHORT in teacher.asked[0].messages[0].content
    first = store.read(tmp_path / "warm-up", "train", Student)
    assert first.losses[-1] < 0.2
    assert first.history[-1].score == 0.0
    assert student.history[-1].score == 1.0


@pytest.mark.parametrize("lora_rank", [0, 4])
@pytest.mark.parametrize("teacher", ["named", "base"])
def test_a_sequence_is_one_training_after_another_and_a_base_teaches_as_it_has_become(
    obedient, tmp_path, teacher, lora_rank
):
    how = {"epochs": 6, "lora_rank": lora_rank, "teacher": None if teacher == "base" else named_by_context()}
    contexts = AS_TOLD if teacher == "base" else BOTH
    options = {"teacher": teacher, "targets": "full" if teacher == "base" else "hard"}
    whole = in_sequence(obedient, tmp_path / "whole", options={**options, "contexts": contexts}, **how)
    base = obedient
    for number, text in enumerate(contexts):
        options["contexts"] = (text,)
        base = in_sequence(base, tmp_path / str(number), options=options, **how).folder
    assert same(weights(whole.folder), weights(base))
    assert whole.base == obedient
    assert whole.teacher == (obedient if teacher == "base" else "scripted")
    assert not [path.name for path in (tmp_path / "whole" / "warm-up").iterdir() if path.is_dir()]


@pytest.mark.parametrize("kind", ["decoder", "encoder-decoder", "lora", "full"])
@pytest.mark.parametrize("saves", [3, 9])
def test_a_sequence_killed_in_either_context_goes_on_to_the_same_student(request, tmp_path, monkeypatch, kind, saves):
    base = {"encoder-decoder": "tiny_encoder_decoder", "full": "obedient"}.get(kind, "tiny_decoder")
    base, how = request.getfixturevalue(base), {"epochs": 6, "lora_rank": 4 * (kind == "lora")}
    if kind == "full":
        how["options"] = {"teacher": "base", "targets": "full", "contexts": AS_TOLD}

    def trained(folder, seconds=90.0) -> tuple[Student, Scripted]:
        teacher = named_by_context()
        return in_sequence(base, folder, teacher, seconds, **how), teacher

    straight, _ = trained(tmp_path / "straight")
    with monkeypatch.context() as patch:
        kill_after(patch, saves)
        with pytest.raises(Killed):
            trained(tmp_path / "killed", seconds=0.0)
    resumed, asked_again = trained(tmp_path / "killed")
    assert resumed.losses == straight.losses
    assert same(weights(resumed.folder), weights(straight.folder))
    if kind != "full":
        assert bool(told(asked_again, SHORT)) == (saves < 6), "what was learned in the first context is kept"


# A student that answers untold


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
