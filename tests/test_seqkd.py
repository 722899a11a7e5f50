"""Sequence-level distillation on the teacher's answers: asked for, chosen among, counted where there is none."""

import math

import pytest
from chat_server import serve
from teachers_here import BY_HEART, NAMED, NAMING, SOURCE, save_obedient
from train_here import TASK

from prompt2model.config import GenerateConfig, TrainConfig, load_config
from prompt2model.conversation import Message, Reply, Request
from prompt2model.course import Course, asked_of_student, asked_of_teacher, white_box
from prompt2model.decoding import likelihoods
from prompt2model.errors import ConfigError
from prompt2model.filters import Sieve, agreement
from prompt2model.methods import open_method, seqkd
from prompt2model.pipeline import build, read_back
from prompt2model.planning import plan
from prompt2model.questions import question
from prompt2model.records import Example, Source, Splits
from prompt2model.stages.train import train
from prompt2model.student import load, open_model
from prompt2model.student_prompt import set_student_prompt
from prompt2model.teacher import check_abilities, replies
from prompt2model.teachers import open_teacher
from prompt2model.teachers.scripted import Scripted

BEAMS = ("text", "beams")
ASKED = "Say it politely."


def prepared(teacher: Scripted, task=NAMING, given=("the film", "a text"), **options):
    course = Course(task, None, seqkd.Options(answers="teacher", **options), writer=teacher)
    return seqkd.prepare(
        [Example(input=f"input {n}", output=text, source=SOURCE) for n, text in enumerate(given)], course
    )


def test_given_answers_are_learned_unless_the_teachers_are_asked_for():
    assert seqkd.needs(seqkd.Options()) == ()
    assert seqkd.prepare(NAMED, Course(NAMING, None, seqkd.Options())).examples is NAMED


def test_the_teacher_answers_greedily_and_what_it_cannot_answer_is_counted():
    teacher = Scripted(["one", Reply(text="two th", finish="length"), "  ", Reply(finish="failed", failure="no")])
    found = prepared(teacher, given=("a", "b", "c", "d"))
    assert [(row.input, row.output) for row in found.examples] == [("input 0", "one")]
    assert found.dropped == {"cut off": 1, "no answer": 1, "no": 1}
    assert {request.temperature for request in teacher.asked} == {0.0}
    assert NAMING.instruction in teacher.asked[0].messages[0].content


def test_of_several_answers_the_nearest_to_the_given_one_is_learned():
    teacher = Scripted(["a song", "the films", "the fish", "a texts", "words", "text"], can=("text",))
    found = prepared(teacher, samples=3, temperature=1.0, best_of="given")
    assert [row.output for row in found.examples] == ["the films", "a texts"]
    assert len({request.seed for request in teacher.asked[:3]}) == 3


def test_of_several_answers_the_teachers_likeliest_is_learned_and_equal_ones_are_not_weighed():
    teacher = Scripted(["one", "two", "one", "same", "same", "same", [-5.0, -2.0]], can=("text", "likelihood"))
    found = prepared(teacher, samples=3, temperature=1.0)
    assert [row.output for row in found.examples] == ["two", "same"]
    assert [(request.choices, request.whole) for request in teacher.asked if request.choices] == [
        (("one", "two"), True)
    ]
    assert len({request.seed for request in teacher.asked[:6]}) == 6


def test_the_likeliest_answer_is_looked_for_by_a_teacher_that_knows_the_likelihood_of_whole_texts():
    needs = seqkd.needs(seqkd.Options(answers="teacher", samples=2, temperature=1.0))
    with pytest.raises(ConfigError, match="likelihood"):
        check_abilities(Scripted([], can=("text", "logprobs")), needs, "The method seqkd")


def test_the_likelihood_of_a_whole_text_counts_that_it_ends(base):
    teacher = open_model(str(base))
    asked = Request(messages=(Message(role="user", content=ASKED),), choices=("one", "two"))
    found = {
        whole: replies(teacher, [asked.model_copy(update={"whole": whole})])[0].logprobs for whole in (False, True)
    }
    prompt = teacher.codec.prompt(asked.messages)
    for whole, logprobs in found.items():
        choices = [teacher.codec.completion(choice, ended=whole) for choice in asked.choices]
        assert logprobs == pytest.approx(likelihoods(teacher.model, teacher.codec, [prompt], choices)[0].tolist())
    assert all(ended < begun for ended, begun in zip(found[True], found[False], strict=True))


def test_a_label_is_the_likeliest_or_read_from_a_text():
    found = prepared(Scripted([[-3.0, -0.1], [-0.1, -3.0]]), TASK)
    assert [row.output for row in found.examples] == ["negative", "positive"]
    found = prepared(Scripted(["Positive.", "who knows"], can=("text",)), TASK)
    assert [row.output for row in found.examples] == ["positive"]
    assert found.dropped == {"not a label": 1}


def test_several_equal_answers_are_refused():
    with pytest.raises(ConfigError, match="samples above 1 need a temperature"):
        open_method("seqkd", {"answers": "teacher", "samples": 4})


def test_a_student_learns_the_teachers_answers_in_place_of_those_given(tiny_decoder, tmp_path):
    blank = tuple(row.model_copy(update={"output": "unknown"}) for row in NAMED)
    said = {row.input: row.output for row in NAMED}
    teacher = Scripted(lambda request: said[request.messages[-1].content], can=("text",))
    config = TrainConfig(**BY_HEART, options={"answers": "teacher"})
    student = train(
        NAMING, Splits(train=blank, validation=NAMED), str(tiny_decoder), config, folder=tmp_path, teacher=teacher
    )
    assert student.history[-1].score == 1.0


def test_a_teacher_that_was_trained_for_the_task_is_asked_for_the_input_alone(base, tmp_path):
    misleading = tuple(row.model_copy(update={"output": "x"}) for row in NAMED)
    told = NAMING.model_copy(update={"instruction": "Say x.", "examples": misleading})
    train(NAMING, Splits(train=NAMED), str(base), TrainConfig(**BY_HEART), folder=tmp_path)
    teacher = open_teacher(f"transformers:{tmp_path}")
    codec = load(base)[1]
    set_student_prompt(codec)
    options = seqkd.Options(answers="teacher", max_tokens=30)
    found = seqkd.prepare(misleading, Course(told, codec, options, teacher=white_box(teacher), writer=teacher))
    assert [row.output for row in found.examples] == [row.output for row in NAMED]


@pytest.mark.parametrize("is_trained", [True, False])
def test_a_label_is_asked_of_a_trained_teacher_without_a_begun_answer_and_of_another_with_one(base, is_trained):
    student, teacher = load(base)[1], open_model(str(base))
    set_student_prompt(student)
    if is_trained:
        set_student_prompt(teacher.codec)
    course = Course(TASK, student, seqkd.Options(), teacher=teacher)
    alone = asked_of_student(NAMED[0])
    begun = question(TASK, NAMED[0].input, TASK.examples, can=teacher.can)
    assert begun[-1].role == "assistant"
    assert asked_of_teacher(NAMED[0], course, can=teacher.can) == (alone if is_trained else begun)


# Beams


def test_beams_are_asked_for_once_an_input_and_the_likeliest_answer_is_learned():
    teacher = Scripted([Reply(text=" one ", others=("two", "three")), Reply(text="x", finish="length")], can=BEAMS)
    found = prepared(teacher, beams=5, samples=3)
    assert [row.output for row in found.examples] == ["one"]
    assert found.dropped == {"cut off": 1}
    assert [(request.beams, request.n_best, request.temperature) for request in teacher.asked] == [(5, 3, 0.0)] * 2


def test_of_the_n_best_the_nearest_to_the_given_answer_is_learned():
    teacher = Scripted(
        [Reply(text="a song", others=("the films", "the fish")), Reply(text="", finish="length", others=("a texts",))],
        can=BEAMS,
    )
    found = prepared(teacher, beams=5, samples=3, best_of="given")
    assert [row.output for row in found.examples] == ["the films", "a texts"]


@pytest.mark.parametrize(
    ("options", "why"),
    [
        ({"beams": 4, "temperature": 0.7}, "beam search is deterministic: set temperature to 0"),
        ({"beams": 2, "samples": 3}, "samples (3) cannot exceed beams (2)"),
    ],
)
def test_samples_and_beams_that_make_no_sense_are_refused(options, why):
    with pytest.raises(ConfigError) as caught:
        open_method("seqkd", {"answers": "teacher", **options})
    assert caught.value.message == f"train.options: {why}."


@pytest.mark.parametrize("plans", [True, False])
def test_a_server_has_no_beams_and_is_refused_before_it_is_asked(tmp_path, plans):
    options = {"answers": "teacher", "beams": 5}
    with serve("ok") as server:
        config = load_config(teacher=f"{server.url}#m", train__method="seqkd", train__options=options)
        with pytest.raises(ConfigError, match="several beams") as caught:
            plan(ASKED, config, tmp_path) if plans else build(ASKED, config=config, out=tmp_path)
    assert caught.value.hint == (
        "Take a local teacher (--teacher transformers:MODEL), or one beam: --set train.options.beams=1."
    )
    assert not server.asked


SAMPLED = {"answers": "teacher", "samples": 5, "temperature": 1.0}


def test_a_server_cannot_choose_the_likeliest_of_several_and_is_refused_before_it_is_asked(tmp_path):
    with serve("ok") as server:
        config = load_config(teacher=f"{server.url}#m", train__method="seqkd", train__options=SAMPLED)
        with pytest.raises(ConfigError, match="likelihood of whole texts") as caught:
            build(ASKED, config=config, out=tmp_path)
    assert caught.value.hint == (
        "Take a local teacher (--teacher transformers:MODEL or vllm:MODEL), "
        "or the answer nearest to the given one: --set train.options.best_of=given."
    )
    assert not server.asked


def test_vllm_can_choose_the_likeliest_of_several_and_has_one_beam(tmp_path):
    sampled, searched = (
        load_config(teacher="vllm:x", train__method="seqkd", train__options=options)
        for options in (SAMPLED, {"answers": "teacher", "beams": 5})
    )
    assert read_back(ASKED, tmp_path, sampled) == {}
    with pytest.raises(ConfigError, match="several beams for its likeliest answer; vllm:x does not"):
        read_back(ASKED, tmp_path, searched)


def test_a_plan_with_beams_and_a_local_teacher_is_made(tiny_decoder, tmp_path):
    options = {"answers": "teacher", "beams": 5}
    config = load_config(
        teacher=f"transformers:{tiny_decoder}",
        retrieve__base=str(tiny_decoder),
        retrieve__hub="off",
        train__method="seqkd",
        train__options=options,
    )
    assert plan(ASKED, config, tmp_path).steps


def test_a_teacher_without_beams_is_refused_in_training_too(tiny_decoder, tmp_path):
    config = TrainConfig(**BY_HEART, method="seqkd", options={"answers": "teacher", "beams": 5})
    teacher = Scripted(["never"], can=("text", "logprobs"))
    with pytest.raises(ConfigError, match="beams"):
        train(NAMING, Splits(train=NAMED), str(tiny_decoder), config, folder=tmp_path, teacher=teacher)
    assert teacher.asked == []


@pytest.fixture(scope="module", params=["tiny_decoder", "tiny_encoder_decoder"])
def obedient(request, tmp_path_factory) -> str:
    return save_obedient(request.getfixturevalue(request.param), tmp_path_factory.mktemp("obedient"))


@pytest.mark.parametrize("lora_rank", [0, 8])
def test_a_student_learns_what_a_local_teacher_finds_with_beams(obedient, tmp_path, lora_rank):
    blank = tuple(row.model_copy(update={"output": "unknown"}) for row in NAMED)
    options = {"answers": "teacher", "beams": 3, "samples": 3, "max_tokens": 30}
    rate = {"learning_rate": 3e-2} if lora_rank else {}
    config = TrainConfig(**{**BY_HEART, **rate}, lora_rank=lora_rank, method="seqkd", options=options)
    rows, teacher = Splits(train=blank, validation=NAMED), open_teacher(f"transformers:{obedient}")
    student = train(NAMING, rows, obedient, config, folder=tmp_path, teacher=teacher)
    assert student.history[-1].score == 1.0
    assert student.dropped == {}


# Soft labels


def test_soft_labels_that_a_server_tells_are_learned_as_they_are(tiny_decoder):
    """It leans to neither label: one is e^1.5 times as likely as the other, which of them follows from the text."""

    def places(body):
        a, b = (-0.2, -1.7) if "good film" in body["messages"][-1]["content"] else (-1.7, -0.2)
        return [{"token": "A", "top_logprobs": [{"token": "A", "logprob": a}, {"token": "B", "logprob": b}]}]

    said = {"a good film": "positive", "a bad film": "negative"}
    source = Source(kind="teacher", name="m")
    written = [Example(input=text, output=label, source=source) for text, label in said.items()]
    with serve("tokens") as server:
        server.places = places
        teacher = open_teacher(f"{server.url}#m", options={"logprobs": True})
        kept = agreement.sift(written, Sieve(TASK, teacher, GenerateConfig()))
    course = Course(TASK, load(tiny_decoder)[1], seqkd.Options(soft_labels=True))
    unsure = Example(input="a good text", output="negative", source=SOURCE)
    lessons = seqkd.rows([*kept, unsure], course)
    likely = 1 / (1 + math.exp(-1.5))
    weights = [[row.weight for row in lesson] for lesson in lessons]
    assert weights == [pytest.approx([likely, 1 - likely]), pytest.approx([1 - likely, likely]), [1.0]]
    ended = [course.codec.completion(label) for label in TASK.labels]
    assert [[row.completion for row in lesson] for lesson in lessons] == [ended, ended, ended[1:]]
    plain = seqkd.rows(kept, Course(TASK, course.codec, seqkd.Options()))
    assert [[row.weight for row in lesson] for lesson in plain] == [[1.0], [1.0]]
