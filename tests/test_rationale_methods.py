"""Methods that learn from rationales: step by step in two tasks, or a chain of thought before the answer."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from train_here import TASK, films

from prompt2model import store
from prompt2model.batches import Row, pad, weighed
from prompt2model.config import EvaluateConfig, ExportConfig, TrainConfig
from prompt2model.course import Course, with_sound_rationales
from prompt2model.errors import DataError
from prompt2model.methods import chain_of_thought, step_by_step
from prompt2model.records import Example, Found, Made, Source, Splits, Student, TaskSpec
from prompt2model.stages.evaluate import evaluate
from prompt2model.stages.export import export
from prompt2model.stages.train import train
from prompt2model.student import load
from prompt2model.student_prompt import set_student_prompt
from prompt2model.trained import Trained

SOURCE = Source(kind="data", name="films.csv")
COUNTING = TaskSpec(instruction="How many?", kind="generation", metric="exact_match")
ARCHITECTURES = ("tiny_decoder", "tiny_encoder_decoder")


def row(text: str, output: str, rationale: str | None = None) -> Example:
    return Example(input=text, output=output, source=SOURCE, rationale=rationale)


REASONED = (
    row("good", "positive", "the word good is a good word"),
    row("bad", "negative", "the film is bad, not positive"),
    row("user", "positive", "a user"),
    row("a text", "negative", "a text and the answer"),
)
COUNTED = (row("good and bad", "2 films", "good is 1, bad is 1"), row("bad", "1 film", "bad is 1"))


def taught(base: Path, folder: Path, method: str, rows=REASONED, task: TaskSpec = TASK, **changed) -> Student:
    how = {"epochs": 80, "learning_rate": 1e-2, "batch_rows": 4, "patience": 0, "validations_per_epoch": 1}
    config = TrainConfig(**{**how, "method": method, "precision": "float32", **changed})
    return train(task, Splits(train=rows, validation=rows), str(base), config, folder=folder)


def course(codec, method, **options) -> Course:
    return Course(TASK, codec, method.Options(**options))


# Sound rationales


def test_a_rationale_that_ends_in_another_answer_is_taken_out_and_counted():
    rows = (
        row("a", "positive", "It glows. So the answer is positive."),
        row("b", "positive", "It stinks. The answer is negative."),
        row("c", "positive", "It glows."),
        row("d", "positive", None),
        row("e", "positive", "It glows. The answer is positive or negative."),
    )
    found = with_sound_rationales(rows, TASK)
    assert [one.rationale for one in found.examples] == ["It glows.", None, "It glows.", None, None]
    assert found.dropped == {"the rationale ends in another answer": 2}


def test_a_rationale_of_a_sum_is_judged_by_its_number():
    rows = (row("a", "7 apples\n#### 7", "3 + 4. The answer is 7 apples."), row("b", "8", "3 + 4\n#### 7"))
    found = with_sound_rationales(rows, COUNTING)
    assert [one.rationale for one in found.examples] == ["3 + 4.", None]


# Step by step


@pytest.mark.parametrize("alpha", [0.0, 0.3, 0.5, 1.0])
def test_the_loss_of_one_pass_and_its_gradient_are_those_of_the_authors_two_passes(base, alpha):
    model, codec = load(base, precision="float32")
    set_student_prompt(codec)
    rows = [one for lesson in step_by_step.rows(REASONED, course(codec, step_by_step)) for one in lesson]
    options = step_by_step.Options(alpha=alpha)
    batch = codec.collate(weighed(rows, step_by_step.shares(options)))
    loss = step_by_step.loss(model, batch, course(codec, step_by_step, alpha=alpha))
    loss.backward()
    found = [parameter.grad.clone() for parameter in model.parameters()]
    model.zero_grad()
    passes = {part: their_mean(base, model, codec, [one for one in rows if one.part == part]) for part in PARTS}
    expected = alpha * passes["label"] + (1 - alpha) * passes["rationale"]
    expected.backward()
    torch.testing.assert_close(loss, expected, rtol=1e-5, atol=1e-6)
    for mine, parameter in zip(found, model.parameters(), strict=True):
        torch.testing.assert_close(mine, parameter.grad, rtol=1e-4, atol=1e-6)


PARTS = ("label", "rationale")


def their_mean(base: Path, model, codec, rows: list[Row]) -> torch.Tensor:
    """The loss that transformers computes of a batch when it is given labels."""
    if codec.architecture == "encoder-decoder":
        return model(
            input_ids=pad([one.prompt for one in rows], codec.pad),
            attention_mask=pad([[1] * len(one.prompt) for one in rows], 0),
            labels=pad([one.completion for one in rows], -100),
        ).loss
    return model(
        input_ids=pad([[*one.prompt, *one.completion] for one in rows], codec.pad),
        attention_mask=pad([[1] * len(one) for one in rows], 0),
        labels=pad([[*[-100] * len(one.prompt), *one.completion] for one in rows], -100),
    ).loss


def test_the_label_is_asked_with_the_bare_input_and_the_rationale_by_prefix_or_instruction(base):
    codec = load(base, precision="float32")[1]
    set_student_prompt(codec)
    label, rationale = step_by_step.rows(REASONED[:1], course(codec, step_by_step))[0]
    assert label.prompt == codec.prompt([chain_of_thought.asked_of_student(REASONED[0])[0]])
    asked = codec.text(rationale.prompt)
    assert ("explain: good" in asked) == (codec.architecture == "encoder-decoder")
    assert ("Explain step by step" in asked) == (codec.architecture == "decoder")
    assert codec.text(rationale.completion) == REASONED[0].rationale


def test_a_student_taught_step_by_step_gives_labels_and_can_give_its_reasons(base, tmp_path):
    rows = (*REASONED, row("the text", "positive"))
    wrong = row("fine", "positive", "it is poor. The answer is negative")
    student = taught(base, tmp_path, "step_by_step", (*rows, wrong))
    assert student.dropped == {"the rationale ends in another answer": 1}
    assert student.losses[-1] < 0.5 < 2 < student.losses[0]
    assert student.history[-1].score == 1.0
    model, codec = load(tmp_path, precision="float32")
    rationales = [step_by_step.rows([one], course(codec, step_by_step))[0][1] for one in REASONED]
    with torch.no_grad():
        batch = codec.collate(weighed(rationales, {"rationale": 1.0}))
        assert step_by_step.loss(model, batch, course(codec, step_by_step)) < 1


@pytest.mark.parametrize("method", ["step_by_step", "chain_of_thought"])
def test_adapters_learn_from_rationales_too(tiny_decoder, tmp_path, method):
    student = taught(tiny_decoder, tmp_path, method, lora_rank=8, learning_rate=3e-2, epochs=20)
    assert student.losses[-1] < student.losses[0]
    assert student.trained_parameters < student.parameters


# Chain of thought


@pytest.fixture(scope="module", params=ARCHITECTURES)
def thinker(request, tmp_path_factory) -> tuple[Path, Student]:
    """A run's folder with a student that thinks before it says positive or negative."""
    run = tmp_path_factory.mktemp("thinker")
    student = taught(request.getfixturevalue(request.param), run / "student", "chain_of_thought")
    store.once(run, "parse", TaskSpec, lambda: TASK, depends_on=1)
    store.once(run, "train", Student, lambda: student, depends_on=1)
    return run, student


def test_its_answer_is_right_in_the_validation(thinker):
    assert thinker[1].answer_after == "The answer is"
    assert thinker[1].history[-1].score == 1.0


def test_its_answer_is_right_when_it_is_called_and_it_was_written_not_chosen(thinker):
    student = Trained(thinker[0])
    assert student([one.input for one in REASONED]) == [one.output for one in REASONED]
    answer = student.answers(["good"])[0]
    assert answer.is_readable
    assert answer.probability is None
    assert answer.tokens > 20


def test_its_answer_is_right_in_the_evaluation(thinker):
    splits = Splits(train=REASONED, test=REASONED)
    report = evaluate(TASK, splits, thinker[1], EvaluateConfig(resamples=10), teacher=None)
    measured = next(one for one in report.measured if one.who == "student")
    assert measured.scores[0].value == 1.0
    assert [one.answer for one in report.predictions] == [one.output for one in REASONED]


def test_its_answer_is_right_on_the_command_line(thinker):
    command = [sys.executable, "-m", "prompt2model", "predict", str(thinker[0]), "bad", "good", "--json"]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert [json.loads(line)["output"] for line in done.stdout.splitlines()] == ["negative", "positive"]


@pytest.fixture(scope="module")
def exported(thinker, tmp_path_factory) -> Path:
    _, student = thinker
    splits = Splits(train=REASONED, test=REASONED)
    report = evaluate(TASK, splits, student, EvaluateConfig(resamples=10), teacher=None)
    found = Found(base=student.base)
    folder = tmp_path_factory.mktemp("exported") / "model"
    export(TASK, found, Made(), splits, student, report, ExportConfig(), folder=folder)
    return folder


def test_its_answer_is_right_when_it_was_exported(exported):
    assert Trained(exported)([one.input for one in REASONED]) == [one.output for one in REASONED]


def test_the_code_on_its_card_prints_the_answer_alone(exported):
    card = (exported / "README.md").read_text()
    code = card.partition("```python\n")[2].partition("```")[0].replace('text = "…"', 'text = "bad"')
    done = subprocess.run([sys.executable, "-c", code], cwd=exported, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "negative"
    assert "It thinks before it answers" in card


def test_texts_are_answered_after_a_thought_too(tiny_decoder, tmp_path):
    student = taught(tiny_decoder, tmp_path / "student", "chain_of_thought", COUNTED, COUNTING)
    store.once(tmp_path, "parse", TaskSpec, lambda: COUNTING, depends_on=1)
    store.once(tmp_path, "train", Student, lambda: student, depends_on=1)
    assert student.history[-1].score == 1.0
    assert Trained(tmp_path)(["bad", "good and bad"]) == ["1 film", "2 films"]


def test_a_student_that_comes_to_no_answer_says_so(tiny_decoder, tmp_path):
    student = taught(tiny_decoder, tmp_path, "chain_of_thought", epochs=0.01)
    report = evaluate(TASK, Splits(test=REASONED), student, EvaluateConfig(resamples=10), teacher=None)
    measured = next(one for one in report.measured if one.who == "student")
    assert measured.scores[0].value == 0.0
    assert "4 of 4 answers name no answer, or several labels; they count as wrong" in measured.notes


def test_every_sound_rationale_of_an_input_is_learned_and_the_others_are_counted(tiny_decoder):
    codec = load(tiny_decoder, precision="float32")[1]
    rows = (
        row("good", "positive", "the word is good"),
        row("good", "positive", "good is not bad. The answer is positive."),
        row("good", "positive", "it is bad. The answer is negative."),
        row("bad", "negative"),
        row("a text", "negative", "the text is bad " * 100),
    )
    prepared = chain_of_thought.prepare(rows, course(codec, chain_of_thought))
    assert [one.rationale for one in prepared.examples] == ["the word is good", "good is not bad."]
    assert prepared.dropped == {
        "the rationale ends in another answer": 1,
        "no rationale": 1,
        "longer than half of train.max_length": 1,
    }


def test_without_any_rationale_there_is_nothing_to_think(tiny_decoder, tmp_path):
    with pytest.raises(DataError, match="chain_of_thought can use none of the training rows: 8 × no rationale"):
        taught(tiny_decoder, tmp_path, "chain_of_thought", films(8))
