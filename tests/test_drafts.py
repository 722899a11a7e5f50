"""Inputs read out of replies, and what a teacher is shown."""

from random import Random

import pytest

from prompt2model.conversation import Message, Reply, Request
from prompt2model.draft_reading import ends_of_input, read_draft, read_drafts
from prompt2model.drafts import MOST_SHOWN, hint, most_in_list, shown
from prompt2model.questions import longest_input
from prompt2model.records import Dropped, Example, Source, TaskSpec

PROMPT = Request(messages=(Message(role="user", content="Write one new input whose label is clearly billing."),))
GOES_ON = PROMPT.model_copy(update={"continues": True})


def row(text: str, output: str = "bug", kind: str = "user") -> Example:
    return Example(input=text, output=output, source=Source(kind=kind, name="x"))


def mails(*examples: str) -> TaskSpec:
    return TaskSpec(
        instruction="Sort support mails into bug, billing or other.",
        kind="classification",
        labels=("bug", "billing", "other"),
        examples=tuple(row(text) for text in examples),
    )


def read(text: str, *examples: str, finish: str = "stop", request: Request = PROMPT) -> str | Dropped:
    return read_draft(Reply(text=text, finish=finish), request, mails(*examples))


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
@pytest.mark.parametrize("request_", [PROMPT, GOES_ON], ids=["answers", "goes on"])
def test_an_input_is_read_without_what_surrounds_it(text, expected, request_):
    assert read(text, request=request_) == expected


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
    for request in (PROMPT, GOES_ON):
        assert read("My invoice is", finish="length", request=request).reason == "cut off"
        assert read('"My invoice is', finish="length", request=request).reason == "cut off"
    assert read("My invoice is wrong.\nAnd then I", finish="length", request=GOES_ON) == "My invoice is wrong."
    assert read("My invoice is wrong.\nAnd then I", "a line", finish="length") == "My invoice is wrong."


def test_inputs_have_as_many_lines_as_the_users_examples_show():
    reply = "claim: a\nperspective: b\n\nclaim: c"
    assert read(reply, request=GOES_ON) == "claim: a"
    for request in (PROMPT, GOES_ON):
        assert read(reply, "claim: x\nperspective: y", request=request) == "claim: a\nperspective: b"
        assert read(reply, "one\n\ntwo", request=request) == reply


def test_who_was_told_to_give_one_input_and_nothing_else_is_believed_where_no_example_says_otherwise():
    mail = "Subject: Lunch\n\nHi Anna,\n\nare you coming?"
    assert read(mail) == mail
    for added in ("**Label:** other", "This email is clearly about neither.", "Note: I made it short."):
        assert read(f"{mail}\n\n{added}") == mail
    assert read("1. The app crashes\n\n2. My card") == "The app crashes"
    cut = read("claim: a\n\nperspective: b\n\nclai", "claim: x\nperspective: y", finish="length")
    assert isinstance(cut, Dropped)
    assert read("claim: a\n\nperspective: b", "claim: x\nperspective: y") == "claim: a\nperspective: b"


@pytest.mark.parametrize(
    ("text", "examples"),
    [
        ("Hi team,\n\nI was charged twice. Can you look?\n\nBest,\nAnn", ["I was charged twice"]),
        ("Question: Where is it?\n\nAnswer: Lyon", ["Question: Who is it?\n\nAnswer: Ann"]),
        ("def area(r):\n    return 3.14 * r * r", ["x = 1"]),
        ("Dear Sir or Madam:\n\nI want a refund.\nAt once.", ["I want a refund."]),
        ("Groceries for Sunday\n- 2 eggs\n- milk", []),
        ("Groceries for Sunday\n- 2 eggs\n- milk", ["milk"]),
    ],
)
def test_an_input_of_several_lines_stays_whole(text, examples):
    assert read(text, *examples) == text


def test_of_several_inputs_only_the_first_is_read():
    assert read("Mail: one\n\nMail: two", "Mail: x") == "Mail: one"
    assert read("1. one\n2. two", "x") == "one"
    assert read("The app fails.\n\nI hope this helps!", "x") == "The app fails."


def test_of_inputs_with_blank_lines_one_ends_where_the_next_is_announced():
    mail = "Dear team,\n\nthe app crashes.\n\nBob"
    for after in ("Label: billing\nText: Hi", "Input: Hi"):
        assert read(f"{mail}\n\n{after}", mail, request=GOES_ON) == mail
        assert ends_of_input(mails(mail))[1:] == ("\n\nLabel:", "\n\nInput:")
    form = "Input: a mail\n\nInput: another"
    assert read(form, form, request=GOES_ON) == form


@pytest.mark.parametrize(
    ("text", "examples"),
    [
        ("def add(a, b):\n    return a + b", ["def one():\n    return 1"]),
        ("def add(a, b):\n    return a + b", []),
        ("Premise:\nA dog runs.\nHypothesis:\nIt moves.", ["Premise:\nIt rains.\nHypothesis:\nIt is wet."]),
        ("```\nx = 1\n```", ["```\ny = 2\n```"]),
    ],
)
def test_what_looks_like_an_announcement_stays_where_inputs_begin_so(text, examples):
    assert read(text, *examples) == text


def test_a_label_is_given_away_by_what_no_example_does():
    asks = "question: Is ice cold? answer: bug"
    assert read("question: Do fish fly? answer: bug").reason == "says its label"
    assert read("question: Do fish fly? answer: bug", asks) == "question: Do fish fly? answer: bug"
    stars = TaskSpec(instruction="Rate it.", kind="classification", labels=("1", "2"))
    for text, is_told in (
        ("a category 2 hurricane", False),
        ("fine. Label: 2", True),
        ("Output: 2 of them left", False),
    ):
        assert isinstance(read_draft(Reply(text=text), PROMPT, stars), Dropped) == is_told


def items(text: str, *examples: str, finish: str = "stop", request: Request = PROMPT) -> list[str]:
    found = read_drafts(Reply(text=text, finish=finish), request, mails(*examples), most=3)
    return [one if isinstance(one, str) else one.reason for one in found]


def test_the_inputs_of_a_list_are_read_without_what_surrounds_them():
    assert items("<example>a</example> <example>1. b</example>\n<example> Input: c </example>") == ["a", "b", "c"]
    assert items("<example>the screen is black\n<example>my card</example>") == ["the screen is black", "my card"]
    assert items("<example>a</example><example>b") == ["a"]
    assert items("nothing of the kind") == ["lists nothing"]
    assert items("<example>a", finish="length") == ["cut off"]
    assert items("".join(f"<example>{one}</example>" for one in "abcd")) == ["a", "b", "c"]


def test_a_list_that_was_begun_goes_on_with_its_first_item():
    assert items("a fine one", request=GOES_ON) == ["a fine one"]
    assert items("a fine one\nand more", request=GOES_ON) == ["a fine one"]
    assert items("a fine o", finish="length", request=GOES_ON) == ["cut off"]


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


def test_more_examples_may_be_wanted_than_there_are():
    written = [row(f"a complaint number {place}", "bug", kind="teacher") for place in range(26)]
    assert len(shown(written, 32, Random(0))) == 26


def test_hints_name_one_suggestion_of_each_aspect_and_vary():
    hints = {hint(Random(seed)) for seed in range(50)}
    assert len(hints) > 40
    assert {text.count("; ") for text in hints} == {next(iter(hints)).count("; ")}


def test_there_is_room_for_inputs_as_long_as_the_users():
    long = mails("word " * 1000)
    assert longest_input(long, 256) == 2500
    assert longest_input(mails("short"), 256) == 256
    assert most_in_list(long, 20) == 3
    assert most_in_list(mails("short"), 20) == most_in_list(mails(), 20) == 20
