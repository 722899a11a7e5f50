"""Which method a run gets when none is named."""

import logging

import pytest

from prompt2model.method_choice import choose_method
from prompt2model.methods import open_method
from prompt2model.records import Example, Source
from prompt2model.teachers.scripted import Scripted


def rows(explained: int, count: int) -> list[Example]:
    source = Source(kind="data", name="rows.csv")
    why = ["It thanks the team."] * explained + [None] * (count - explained)
    return [Example(input=str(n), output="x", source=source, rationale=rationale) for n, rationale in enumerate(why)]


@pytest.mark.parametrize(
    ("explained", "count", "name"),
    [(0, 4, "seqkd"), (1, 4, "seqkd"), (2, 4, "step_by_step"), (4, 4, "step_by_step"), (0, 0, "seqkd")],
)
def test_rows_with_rationales_are_learned_from_step_by_step(caplog, explained, count, name):
    caplog.set_level(logging.INFO)
    assert choose_method("auto", rows(explained, count)) == name
    assert f"by the method {name}: " in caplog.text


@pytest.mark.parametrize(
    ("can", "kind", "said"),
    [
        (("text",), "data", ["answers=teacher"]),
        (("text", "logits"), "data", ["answers=teacher", "word_kd"]),
        (("text", "logits"), "teacher", ["word_kd"]),
        (("text",), "teacher", []),
    ],
)
def test_what_a_teacher_at_hand_could_do_besides_is_said(caplog, can, kind, said):
    caplog.set_level(logging.INFO)
    source = Source(kind=kind, name="x")
    given = [row.model_copy(update={"source": source}) for row in rows(0, 4)]
    assert choose_method("auto", given, Scripted([], can=can)) == "seqkd"
    assert [word for word in ("answers=teacher", "word_kd") if word in caplog.text] == said
    caplog.clear()
    choose_method("auto", given, Scripted([], can=can, name="transformers:m"), base="m")
    assert "--method" not in caplog.text


def test_a_method_that_is_named_is_taken():
    assert choose_method("word_kd", rows(4, 4)) == "word_kd"


def test_a_method_that_is_chosen_unasked_needs_nothing_of_a_teacher():
    for name in ("auto", choose_method("auto", rows(0, 4)), choose_method("auto", rows(4, 4))):
        method, options = open_method(name, {})
        assert method.needs(options) == ()
