"""A classifier's leaning to some labels, taken out of its weights."""

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoModelForSeq2SeqLM

from prompt2model import calibration
from prompt2model.calibration import CLOSE_ENOUGH_NATS, MOST_NATS, calibrate, may_lean, neutral_texts
from prompt2model.conversation import Message
from prompt2model.heads import head_inputs
from prompt2model.questions import answer_request
from prompt2model.records import Example, Source, TaskSpec
from prompt2model.student import LocalModel, load
from prompt2model.teacher import replies

TASK = TaskSpec(instruction="Is it good?", kind="classification", labels=("positive", "negative"))


def rows(*pairs: tuple[str, str]) -> list[Example]:
    return [Example(input=text, output=label, source=Source(kind="teacher", name="x")) for text, label in pairs]


ROWS = rows(*[(f"the film is good {i}", "positive") for i in range(8)], *[("a bad film", "negative")] * 8)


def margins(model, codec, task, texts) -> torch.Tensor:
    """log p(first label) − log p(second label) of each text. -> (texts,)"""
    student = LocalModel(model, codec, name="student")
    asked = [
        answer_request(task, (Message(role="user", content=text),), can=student.can, max_tokens=4) for text in texts
    ]
    return torch.tensor([reply.logprobs[0] - reply.logprobs[1] for reply in replies(student, asked)])


@pytest.fixture
def unbounded(monkeypatch):
    monkeypatch.setattr(calibration, "MOST_NATS", 100.0)


@pytest.mark.usefixtures("unbounded")
def test_the_labels_are_as_likely_as_they_are_frequent(base):
    model, codec = load(base, precision="float32")
    texts = neutral_texts(ROWS, codec, seed=0)
    before = margins(model, codec, TASK, texts).quantile(0.5)
    leaning = calibrate(model, codec, TASK, ROWS, seed=0)
    assert leaning["positive"] - leaning["negative"] == pytest.approx(float(before), abs=2 * CLOSE_ENOUGH_NATS)
    assert abs(float(margins(model, codec, TASK, texts).quantile(0.5))) < 2 * CLOSE_ENOUGH_NATS
    uneven = rows(*[("a good film", "positive")] * 29, *[("a bad film", "negative")] * 9)
    calibrate(model, codec, TASK, uneven, seed=0)
    assert float(margins(model, codec, TASK, neutral_texts(uneven, codec, 0)).quantile(0.5)) == pytest.approx(
        torch.tensor(3.0).log().item(), abs=2 * CLOSE_ENOUGH_NATS
    )


def test_what_plain_transformers_loads_no_longer_leans(base, tmp_path):
    model, codec = load(base, precision="float32")
    calibrate(model, codec, TASK, ROWS, seed=0)
    model.save_pretrained(tmp_path)
    family = AutoModelForSeq2SeqLM if codec.architecture == "encoder-decoder" else AutoModelForCausalLM
    plain = family.from_pretrained(tmp_path).eval()
    assert abs(float(margins(plain, codec, TASK, neutral_texts(ROWS, codec, 0)).quantile(0.5))) < 2 * CLOSE_ENOUGH_NATS


def test_a_model_that_does_not_lean_stays_as_it_is(tiny_decoder):
    model, codec = load(tiny_decoder, precision="float32")
    calibrate(model, codec, TASK, ROWS, seed=0)
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    calibrate(model, codec, TASK, ROWS, seed=0)
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items())


def test_only_the_labels_first_tokens_are_moved(tiny_decoder):
    model, codec = load(tiny_decoder, precision="float32")
    before = model.get_output_embeddings().weight.clone()
    calibrate(model, codec, TASK, ROWS, seed=0)
    moved = (model.get_output_embeddings().weight != before).any(1).nonzero().flatten().tolist()
    assert sorted(moved) == sorted(codec.completion(label)[0] for label in TASK.labels)


def together(model, codec, task, texts, labels) -> float:
    """The median of the log odds of these labels together against all others."""
    student = LocalModel(model, codec, name="student")
    asked = [
        answer_request(task, (Message(role="user", content=text),), can=student.can, max_tokens=4) for text in texts
    ]
    found = torch.tensor([reply.logprobs for reply in replies(student, asked)])
    mine = torch.tensor([label in labels for label in task.labels])
    return float((found[:, mine].logsumexp(1) - found[:, ~mine].logsumexp(1)).quantile(0.5))


def test_no_more_than_so_much_is_taken_away(base, monkeypatch):
    model, codec = load(base, precision="float32")
    texts = neutral_texts(ROWS, codec, seed=0)
    calibrate(model, codec, TASK, ROWS, seed=0)
    uneven = rows(*[("a good film", "positive")] * 19, ("a bad film", "negative"))
    monkeypatch.setattr(calibration, "MOST_NATS", 100.0)
    calibrate(model, codec, TASK, uneven, seed=0)
    monkeypatch.undo()
    before = float(margins(model, codec, TASK, texts).quantile(0.5))
    assert before > MOST_NATS + 0.5
    leaning = calibrate(model, codec, TASK, ROWS, seed=0)
    after = float(margins(model, codec, TASK, texts).quantile(0.5))
    assert before - after == pytest.approx(MOST_NATS, abs=3 * CLOSE_ENOUGH_NATS)
    assert leaning["positive"] - leaning["negative"] == pytest.approx(MOST_NATS, abs=2 * CLOSE_ENOUGH_NATS)


@pytest.mark.usefixtures("unbounded")
def test_labels_that_begin_alike_are_as_likely_together_as_their_rows_are(tiny_decoder):
    task = TASK.model_copy(update={"labels": ("a positive", "a negative", "the film")})
    taught = rows(("the film", "a positive"), ("is", "a negative"), ("bad", "the film"), ("good", "the film"))
    model, codec = load(tiny_decoder, precision="float32")
    calibrate(model, codec, task, taught, seed=0)
    texts = neutral_texts(taught, codec, seed=0)
    assert together(model, codec, task, texts, {"a positive", "a negative"}) == pytest.approx(0, abs=0.1)


@pytest.mark.usefixtures("unbounded")
def test_labels_part_where_their_tokens_differ_first(base):
    """All begin with "a": there is nothing to shift at the first token."""
    task = TASK.model_copy(update={"labels": ("a good", "a bad")})
    taught = rows(*[("the film", "a good")] * 4, *[("is", "a bad")] * 4)
    model, codec = load(base, precision="float32")
    calibrate(model, codec, task, rows(*[("the film", "a good")] * 9, ("is", "a bad")), seed=0)
    leaning = calibrate(model, codec, task, taught, seed=0)
    assert leaning["a good"] - leaning["a bad"] > 1.5  # log 9 at least in part: what was left over counts too
    assert together(model, codec, task, neutral_texts(taught, codec, 0), {"a good"}) == pytest.approx(0, abs=0.1)
    assert calibrate(model, codec, task, taught, seed=0) == {}  # nothing leans any more, and nothing is said


def test_a_label_without_rows_is_not_made_likelier(tiny_decoder):
    task = TASK.model_copy(update={"labels": ("positive", "negative", "the film")})
    model, codec = load(tiny_decoder, precision="float32")
    before = model.get_output_embeddings().weight[codec.completion("the film")[0]].clone()
    assert set(calibrate(model, codec, task, ROWS, seed=0)) == {"positive", "negative"}
    assert torch.equal(model.get_output_embeddings().weight[codec.completion("the film")[0]], before)


def test_a_model_that_scales_its_logits_is_shifted_all_the_same(tiny_decoder):
    model, codec = load(tiny_decoder, precision="float32")
    head = model.get_output_embeddings()
    head.register_forward_hook(lambda _, __, logits: logits / 4)
    calibrate(model, codec, TASK, ROWS, seed=0)
    assert abs(float(margins(model, codec, TASK, neutral_texts(ROWS, codec, 0)).quantile(0.5))) < 2 * CLOSE_ENOUGH_NATS


def test_what_the_head_reads_gives_the_models_logits(base):
    model, codec = load(base, precision="float32")
    prompts = [codec.prompt([Message(role="user", content=text)]) for text in ("the film", "a text and the answer")]
    read = head_inputs(model, codec, prompts)
    for prompt, states in zip(prompts, read, strict=True):
        inputs = {"input_ids": torch.tensor([prompt])}
        if codec.architecture == "encoder-decoder":
            inputs["decoder_input_ids"] = torch.tensor([[codec.start_token]])
        with torch.no_grad():
            logits = model(**inputs).logits[0, -1]
            torch.testing.assert_close(model.get_output_embeddings()(states), logits)


def test_neutral_texts_are_words_of_the_vocabulary_and_as_long_as_the_inputs(tiny_decoder):
    codec = load(tiny_decoder, precision="float32")[1]
    texts = neutral_texts(ROWS, codec, seed=0)
    assert {len(text.split()) for text in texts} == {3, 5}
    assert {word for text in texts for word in text.split()} <= {
        "film",
        "good",
        "bad",
        "tex",
        "text",
        "answ",
        "answer",
        "the",
        "and",
    }
    assert texts == neutral_texts(ROWS, codec, seed=0) != neutral_texts(ROWS, codec, seed=1)


def test_without_spaces_the_neutral_texts_are_of_characters(tiny_decoder):
    codec = load(tiny_decoder, precision="float32")[1]
    texts = neutral_texts(rows(("这部电影很好", "positive"), ("这部电影很糟", "negative")), codec, seed=0)
    assert {len(text) for text in texts} == {6}
    assert set("".join(texts)) == set("这部电影很好糟")


@pytest.mark.parametrize(
    ("kind", "told", "wanted", "expected"),
    [
        ("data", False, "auto", False),
        ("data", True, "auto", True),
        ("teacher", False, "auto", True),
        ("teacher", True, "never", False),
        ("data", False, "always", True),
    ],
)
def test_a_student_may_lean_whose_rows_or_labels_are_a_teachers(kind, told, wanted, expected):
    given = [row.model_copy(update={"source": Source(kind=kind, name="x")}) for row in ROWS]
    assert may_lean(TASK, given, wanted, told=told) is expected
    assert not may_lean(TASK.model_copy(update={"labels": ()}), given, wanted, told=told)
