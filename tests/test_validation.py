"""The validation comes to the same figures where memory runs out."""

from functools import partial

import pytest
from accelerate import Accelerator
from train_here import SOURCE, TASK, films

from prompt2model.batches import weighed
from prompt2model.course import Course
from prompt2model.errors import RunError
from prompt2model.methods import seqkd
from prompt2model.records import Example, TaskSpec
from prompt2model.student import load
from prompt2model.student_prompt import set_student_prompt
from prompt2model.validation import HeldOut, mean_loss, score

SAYING = TaskSpec(instruction="Say it.", kind="generation", metric="chrf")
SAID = tuple(Example(input=f"a film {n}", output="the film is good", source=SOURCE) for n in range(9))


@pytest.fixture
def student(base):
    """A student that nobody has taught, and its codec."""
    model, codec = load(base, precision="float32")
    set_student_prompt(codec)
    return model, codec


def with_memory_for(rows: int, model):
    """A model on a machine whose memory holds so many rows; and the sizes of the batches that were too large."""
    refused = []

    def run_out(module, inputs, named):
        size = len(named.get("input_ids", named.get("decoder_input_ids")))
        if size > rows:
            refused.append(size)
            raise RuntimeError("CUDA out of memory. Tried to allocate 20.00 MiB")

    return model.register_forward_pre_hook(run_out, with_kwargs=True), refused


def loss_of(student, **settings) -> float:
    model, codec = student
    rows = [row for lesson in seqkd.rows(films(21), Course(TASK, codec)) for row in lesson]
    loss = partial(seqkd.loss, model, course=Course(TASK, codec))
    return mean_loss(weighed(rows, {"": 1.0}), loss, codec, Accelerator(), **{"max_tokens": 2048, **settings})


@pytest.mark.parametrize("holds", [1, 5])
def test_when_memory_runs_out_the_loss_is_that_of_smaller_batches(student, holds):
    calm = loss_of(student)
    hook, refused = with_memory_for(holds, student[0])
    pressed = loss_of(student)
    hook.remove()
    assert refused
    assert pressed == pytest.approx(calm, rel=1e-5)


def test_the_loss_is_the_same_in_batches_of_any_size_and_of_no_rows_none(student):
    assert loss_of(student, max_tokens=64) == pytest.approx(loss_of(student), rel=1e-5)
    assert mean_loss([], None, student[1], Accelerator(), max_tokens=64) == 0.0


def test_memory_that_does_not_suffice_for_one_row_is_an_error_with_a_cure(student):
    hook, refused = with_memory_for(0, student[0])
    with pytest.raises(RunError, match="over a single row") as caught:
        loss_of(student)
    hook.remove()
    assert refused[-1] == 1
    assert "smaller model" in caught.value.hint


@pytest.mark.parametrize(("task", "rows"), [(TASK, films(9)), (SAYING, SAID)], ids=["labels", "texts"])
def test_when_memory_runs_out_the_score_is_that_of_smaller_batches(student, task, rows):
    model, codec = student
    held_out = HeldOut(task, rows, ())
    calm = score(held_out, model, codec, Accelerator())
    hook, refused = with_memory_for(2, model)
    pressed = score(held_out, model, codec, Accelerator())
    hook.remove()
    assert refused
    assert pressed == calm
