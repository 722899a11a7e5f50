"""Inputs read out of replies, and what a teacher is shown."""

from random import Random

import pytest

from prompt2model.conversation import Message, Reply, Request
from prompt2model.drafts import MOST_SHOWN, hint, read_draft, shown
from prompt2model.records import Dropped, Example, Source, TaskSpec

PROMPT = Request(messages=(Message(role="user", content="Write one new input whose label is clearly billing."),))


def row(text: str, output: str = "bug", kind: str = "user") -> Example:
    return Example(input=text, output=output, source=Source(kind=kind, name="x"))


def mails(*examples: str) -> TaskSpec:
    return TaskSpec(
        instruction="Sort support mails into bug, billing or other.",
        kind="classification",
        labels=("bug", "billing", "other"),
        examples=tuple(row(text) for text in examples),
    )


def read(text: str, *examples: str, finish: str = "stop") -> str | Dropped:
    return read_draft(Reply(text=text, finish=finish), PROMPT, mails(*examples))


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("  My invoice is wrong.  \n", "My invoice is wrong."),
        ("My invoice is wrong.\n\nLabel: billing", "My invoice is wrong."),
        ('"My invoice is wrong."', "My invoice is wrong."),
        ("“My invoice is wrong.”", "My invoice is wrong."),
        ('"My invoice is wrong.', "My invoice is wrong."),
        ('"Save" and "Load" fail', '"Save" and "Load" fail'),
        ("'s Hertogenbosch has 'no' shop", "'s Hertogenbosch has 'no' shop"),
        ("1. My invoice is wrong.", "My invoice is wrong."),
        ("- My invoice is wrong.\n- Another", "My invoice is wrong."),
        ("Input: My invoice is wrong.", "My invoice is wrong."),
        ("**Input:** My invoice is wrong.", "My invoice is wrong."),
        ("New input 3: My invoice is wrong.", "My invoice is wrong."),
        ("Sure, here is one:\n\nMy invoice is wrong.", "My invoice is wrong."),
        ("```text\nMy invoice is wrong.\n```\nI hope this helps", "My invoice is wrong."),
        ("Subject: billing question", "Subject: billing question"),
        ("2 invoices came at once", "2 invoices came at once"),
        ("発票が間違っています。", "発票が間違っています。"),
    ],
)
def test_an_input_is_read_without_what_surrounds_it(text, expected):
    assert read(text) == expected


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", "empty reply"),
        ("  \n ", "empty reply"),
        ('""', "empty reply"),
        ("Input:", "empty reply"),
        ("Label: billing", "says its label"),
        ("My invoice is wrong. Label: Billing", "says its label"),
        ("My invoice is wrong (billing)", "says its label"),
        ("Sort support mails into bug, billing or other.", "copied from the prompt"),
        ("sort support mails into bug billing or other: my invoice is wrong", "copied from the prompt"),
        ("Write one new input whose label is clearly billing.", "copied from the prompt"),
    ],
)
def test_what_is_no_input_is_dropped_with_a_reason(text, reason):
    draft = read(text)
    assert isinstance(draft, Dropped)
    assert draft.reason == reason


def test_a_reply_that_failed_is_dropped_for_its_own_reason():
    assert read_draft(Reply(finish="failed", failure="time-out"), PROMPT, mails()).reason == "time-out"
    assert read_draft(Reply(finish="filtered"), PROMPT, mails()).reason == "the teacher's reply was filtered"


def test_a_text_that_was_cut_off_is_dropped_but_a_whole_first_line_is_not():
    assert read("My invoice is", finish="length").reason == "cut off"
    assert read("My invoice is wrong.\nAnd then I", finish="length") == "My invoice is wrong."


def test_inputs_have_as_many_lines_as_the_users_examples_show():
    reply = "claim: a\nperspective: b\n\nclaim: c"
    assert read(reply) == "claim: a"
    assert read(reply, "claim: x\nperspective: y") == "claim: a\nperspective: b"
    assert read(reply, "one\n\ntwo") == reply


def test_a_prefix_that_the_users_examples_have_too_stays():
    assert read("Text: hello there", "Text: good day") == "Text: hello there"
    assert read("1. e4 e5", "1. d4 d5") == "1. e4 e5"


def test_the_users_rows_are_shown_first_and_half_have_the_label():
    pool = [row(f"user {i}", "bug" if i % 2 else "other") for i in range(4)]
    pool += [row(f"made {i}", "billing" if i % 2 else "bug", kind="teacher") for i in range(20)]
    for seed in range(20):
        few = shown(pool, 4, Random(seed), "bug")
        assert [example.output == "bug" for example in few] == [False, False, True, True]
        assert all(example.is_real for example in few)
        billing = shown(pool, 4, Random(seed), "billing")
        assert [example.is_real for example in billing] == [True, True, False, False]
    assert shown([], 4, Random(0), "bug") == []
    assert len(shown(pool, 0, Random(0))) == 0


def test_with_enough_written_rows_the_least_worn_are_shown_and_none_twice():
    worn = [row(f"the printer is broken {i}", kind="teacher") for i in range(20)]
    fresh = [row(f"my {subject} died", kind="teacher") for subject in ("monitor", "keyboard", "scanner", "router")]
    drawn = [shown([*worn, *fresh], 4, Random(seed), "bug") for seed in range(50)]
    assert all(len({example.input for example in few}) == len(few) == 2 for few in drawn)
    share = sum(example in fresh for few in drawn for example in few) / 100
    assert share > 2 * len(fresh) / 24


def test_with_enough_written_rows_the_users_stand_first_about_half_of_the_time():
    pool = [row("the printer burns"), *(row(f"written {i}", kind="teacher") for i in range(30))]
    drawn = [shown(pool, 4, Random(seed), "bug") for seed in range(200)]
    assert all(len(few) == 2 and not few[1].is_real for few in drawn)
    assert 80 <= sum(few[0].is_real for few in drawn) <= 120
    assert [len(shown(pool, count, Random(1), "bug")) for count in (0, 1, 2)] == [0, 1, 1]


def test_of_many_written_rows_the_first_are_shown():
    written = [
        row(f"a complaint of the month number {place}", "bug", kind="teacher") for place in range(3 * MOST_SHOWN)
    ]
    drawn = {one.input for seed in range(200) for one in shown(written, 4, Random(seed), "bug")}
    assert drawn <= {one.input for one in written[:MOST_SHOWN]}
    assert len(drawn) > MOST_SHOWN / 2


def test_without_a_label_half_are_the_users_and_half_early_written_ones():
    written = [row(f"written {place}", kind="teacher") for place in range(3 * MOST_SHOWN)]
    users = [row(f"the user's own {place}") for place in range(4)]
    drawn = [shown([*users, *written], 4, Random(seed)) for seed in range(200)]
    assert all([one.is_real for one in few] == [True, True, False, False] for few in drawn)
    early = {one.input for few in drawn for one in few[2:]}
    assert early <= {one.input for one in written[:MOST_SHOWN]}
    assert len(early) > MOST_SHOWN / 2
    assert all(one.is_real for one in shown([*users, *written[:20]], 4, Random(0)))


def test_hints_name_one_suggestion_of_each_aspect_and_vary():
    hints = {hint(Random(seed)) for seed in range(50)}
    assert len(hints) > 40
    assert {text.count("; ") for text in hints} == {next(iter(hints)).count("; ")}
