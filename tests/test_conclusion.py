"""Where a chain of thought ends: what is put together comes apart again, and what others wrote is read."""

import pytest

from prompt2model.conclusion import answer_in, concluded, conclusion, unwrapped

THOUGHTS = ("Two and two make four.", "The answer is not clear at first.\nThen it is.", "", "  spaced  ")
ANSWERS = ("4", "He left.", "first line\nsecond line", "positive", "4.50 $")


@pytest.mark.parametrize("thoughts", THOUGHTS)
@pytest.mark.parametrize("answer", ANSWERS)
def test_an_answer_comes_out_as_it_went_in(thoughts, answer):
    assert answer_in(concluded(thoughts, answer)) == answer


@pytest.mark.parametrize("text", ["", "I think it is 4", "The answer is", "The answer is \n", "the answer: 4"])
def test_a_text_that_comes_to_no_answer_has_none(text):
    assert answer_in(text) is None


def test_a_whole_conclusion_keeps_its_lines_and_its_marks():
    for answer in ('{\n "name": "Ann"\n}', "- one\n- two", "Der Hund schläft.", "__init__", "* a\n* b"):
        assert conclusion(f"So it is.\nThe answer is:\n{answer}\n", is_whole=True) == ("So it is.", answer)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("** **4**", "4"),
        ("“4”**", "4"),
        ('"Paris"', "Paris"),
        ("`a` or `b`", "`a` or `b`"),
        ("__init__", "__init__"),
        ("* a\n* b", "* a\n* b"),
    ],
)
def test_what_is_around_an_answer_is_no_part_of_it(text, expected):
    assert unwrapped(text) == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("Two and two. So the answer is 4.", ("Two and two.", "4")),
        ("Two and two.\nThe final answer is: **4**", ("Two and two.", "4")),
        ("2 + 2 = 4\n#### 4", ("2 + 2 = 4", "4")),
        ("The answer is 3? No. Therefore, the answer is 4", ("The answer is 3? No.", "4")),
        ("Two and two make four.", None),
        ("So the answer is", None),
    ],
)
def test_the_conclusion_is_read_as_people_and_teachers_write_it(text, expected):
    assert conclusion(text) == expected
