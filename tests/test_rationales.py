"""Rationales: traces that end in the right answer are kept, the others are counted, and every row gets its own."""

from collections.abc import Iterable, Iterator
from io import StringIO
from typing import Any

import pytest
from rich.console import Console

from prompt2model import progress
from prompt2model.cache import Cached
from prompt2model.conclusion import is_same_answer
from prompt2model.config import GenerateConfig, SplitConfig
from prompt2model.conversation import Reply, Request
from prompt2model.errors import TeacherError
from prompt2model.ledger import prompt_text
from prompt2model.rationales import Explained, Trace, add_rationales, read_trace
from prompt2model.records import Dropped, Example, Found, Made, Source, TaskSpec
from prompt2model.several import MOST, together
from prompt2model.stages.generate import generate
from prompt2model.stages.split import split
from prompt2model.teachers.scripted import Scripted

LABELS = ("toxic", "not toxic")
COMMENTS = TaskSpec(instruction="Is the comment toxic?", kind="classification", labels=LABELS)
SUMS = TaskSpec(instruction="Solve the problem.", output_form="a number")
A, B = "24 eggs less 3 are 21", "6 * 4 - 3 is what is left"
THOUGHTS = "The writer insults nobody and thanks the team"


def row(text: str, output: str = "", kind: str = "data") -> Example:
    return Example(input=text, output=output, source=Source(kind=kind, name="rows.csv"))


def thought(answer: str, thoughts: str = THOUGHTS) -> str:
    return f"{thoughts}.\nThe answer is {answer}."


def explain(rows: list[Example], answers: list[str | Reply], task: TaskSpec = COMMENTS, traces: int = 3):
    teacher = Scripted(answers, can=("text",))
    teacher.is_local = False
    return add_rationales(rows, task, teacher, traces=traces, max_tokens=100), teacher.asked


@pytest.mark.parametrize(
    ("text", "answer"),
    [
        (f"{THOUGHTS}.\nThe answer is not toxic.", "not toxic"),
        (f"{THOUGHTS}. So the answer is: Not Toxic", "not toxic"),
        (f"{THOUGHTS}.\n\n**The final answer is: “not toxic”.**", "not toxic"),
        (f"{THOUGHTS}. Therefore, the answer is **not toxic**.\n\nI hope this helps!", "not toxic"),
        (f"At first the answer is toxic, one thinks. {THOUGHTS}.\nThe answer is not toxic.", "not toxic"),
        (f"{THOUGHTS}.\n#### not toxic", "not toxic"),
    ],
)
def test_a_trace_is_read_as_thoughts_and_a_label(text, answer):
    trace = read_trace(Reply(text=text), COMMENTS)
    assert isinstance(trace, Trace)
    assert trace.answer == answer
    assert trace.thoughts.endswith(THOUGHTS + ".")


@pytest.mark.parametrize(
    ("reply", "reason"),
    [
        (Reply(text=THOUGHTS), "ends in no answer"),
        (Reply(text=THOUGHTS, finish="length"), "cut off"),
        (Reply(text=f"{THOUGHTS}. The answer is hard to tell."), "ends in no label"),
        (Reply(text="The answer is toxic."), "gives no reason"),
        (Reply(finish="failed", failure="time-out"), "time-out"),
        (Reply(finish="filtered"), "the teacher's reply was filtered"),
    ],
)
def test_what_is_no_trace_is_dropped_with_its_reason(reply, reason):
    trace = read_trace(reply, COMMENTS)
    assert isinstance(trace, Dropped)
    assert trace.reason == reason


@pytest.mark.parametrize(
    ("answer", "truth", "expected"),
    [
        ("Paris", "paris", True),
        ("Paris", "Paris.", True),
        ("in Paris", "Paris", False),
        ("$1,000", "1000", True),
        ("42 apples", "42", True),
        ("42.0", "42", True),
        ("-3", "3", False),
        ("21", "4 * 6 = 24, and 24 - 3 = 21.\n#### 21", True),
        ("24", "4 * 6 = 24, and 24 - 3 = 21.\n#### 21", False),
        ("no number", "21", False),
        ("xs[2:3]", "xs[1:3]", False),
        ("xs.sort(reverse=True)", "xs.sort(reverse=True)", True),
    ],
)
def test_an_answer_is_compared_as_text_or_by_its_last_number(answer, truth, expected):
    assert is_same_answer(answer, truth) is expected


@pytest.mark.parametrize(
    ("text", "shown", "answer"),
    [
        ("**Paris**\n\nLet me know if you need more.", "Rome", "Paris"),
        ("42\n\nLet me know if you need more.", "", "42"),
        ("Paris.", "Rome", "Paris"),
        ("Der Hund schläft.", "Die Katze wacht.", "Der Hund schläft."),
        ("Der Hund schläft jetzt.", "", "Der Hund schläft jetzt."),
        ('\n{\n "name": "Ann"\n}\n\nDone.', '{\n "name": "Tom"\n}', '{\n "name": "Ann"\n}'),
        ("one\n\ntwo", "a\n\nb", "one\n\ntwo"),
    ],
)
def test_an_answer_is_read_in_the_form_of_the_users_outputs(text, shown, answer):
    task = SUMS.model_copy(update={"examples": (row("x", shown, "user"),) if shown else ()})
    trace = read_trace(Reply(text=f"{THOUGHTS}. The answer is: {text}"), task)
    assert isinstance(trace, Trace)
    assert trace.answer == answer


def test_an_answer_that_explanations_do_not_agree_on_is_none():
    found, _ = explain([row("Eggs?")], [thought("12"), thought("13"), thought("14")], SUMS)
    assert found.rows == [row("Eggs?")]
    found, _ = explain([row("Eggs?")], [thought("12"), thought("12", "24 eggs less 12 are 12"), thought("14")], SUMS)
    assert (found.rows[0].output, found.rows[0].confidence) == ("12", pytest.approx(2 / 3))


def test_a_row_keeps_the_first_trace_that_reaches_its_answer():
    found, asked = explain([row("Thanks all!", "not toxic")], [thought("toxic"), thought("not toxic")])
    assert found.rows == [row("Thanks all!", "not toxic").model_copy(update={"rationale": THOUGHTS + "."})]
    assert found.dropped == {"another answer": 1}
    assert len(asked) == 2


def test_only_rows_without_a_right_trace_are_asked_about_again():
    rows = [row("Thanks all!", "not toxic"), row("Go away.", "toxic")]
    found, asked = explain(rows, [thought("not toxic"), thought("not toxic"), thought("toxic")])
    assert ["Thanks" in prompt_text(request) for request in asked] == [True, False, False]
    assert [one.rationale is not None for one in found.rows] == [True, True]


def test_a_row_that_no_trace_gets_right_stays_as_it_is():
    found, asked = explain([row("Go away.", "toxic")], [thought("not toxic"), "Hm.", thought("not toxic")])
    assert found.rows == [row("Go away.", "toxic")]
    assert found.dropped == {"another answer": 2, "ends in no answer": 1}
    assert len(asked) == 3


def test_a_row_without_an_answer_gets_that_of_most_traces():
    answers = [thought("12", "I guess it may be"), thought("21", "24 eggs less 3 are 21"), thought("21.0", "6 * 4 - 3")]
    found, asked = explain([row("Eggs?")], answers, SUMS)
    assert (found.rows[0].output, found.rows[0].rationale) == ("21", "24 eggs less 3 are 21.")
    assert found.dropped == {"another answer": 1, "more than needed": 1}
    assert len(asked) == 3


def test_the_traces_of_a_row_without_an_answer_are_asked_for_together_and_those_of_others_in_turn():
    rows = [row("Go away.", "toxic"), row("Eggs?"), row("Ham?")]
    _, asked = explain(rows, lambda request: thought("12"), SUMS, traces=3)
    inputs = [request.messages[-1].content for request in asked]
    assert inputs == ["Go away.", *["Eggs?"] * 3, *["Ham?"] * 3, "Go away.", "Go away."]
    assert [len(group) for group in together(asked[:7], lambda: MOST)] == [1, 3, 3]


def test_which_trace_is_the_first_does_not_depend_on_which_arrives_first():
    def think(request: Request) -> str:
        return thought(str(request.seed % 2), f"Number {request.seed} says so itself")

    class Backwards(Scripted):
        def answer(self, requests: Iterable[Request]) -> Iterator[list[tuple[int, Reply]]]:
            return reversed(list(super().answer(requests)))

    rows = [row(f"Sum {number}?") for number in range(20)]
    found = [
        add_rationales(rows, SUMS, kind(think, can=("text",)), traces=4, max_tokens=9) for kind in (Scripted, Backwards)
    ]
    assert found[0] == found[1]


def test_traces_that_were_lost_in_an_interruption_are_asked_for_and_no_others(tmp_path):
    rows = [row(f"Sum {number}?") for number in range(5)]

    def explained(answers: Any) -> tuple[Explained, list[Request]]:
        teacher = Scripted(answers, can=("text",))
        kept = Cached(teacher, tmp_path / "cache")
        return add_rationales(rows, SUMS, kept, traces=3, max_tokens=9), teacher.asked

    texts = [thought(str(number % 2)) for number in range(15)]
    with pytest.raises(TeacherError):
        explained(texts[:7])
    found, asked = explained(texts[7:])
    whole = Scripted(texts, can=("text",))
    assert found == add_rationales(rows, SUMS, whole, traces=3, max_tokens=9)
    assert asked == whole.asked[7:]


def test_several_right_traces_of_a_row_are_rows_when_they_say_different_things():
    texts = [thought("12", "It is a dozen of them"), thought("21", A), thought("21", A), thought("21", B), thought("3")]
    teacher = Scripted(texts, can=("text",))
    found = add_rationales([row("Eggs?", "21")], SUMS, teacher, traces=5, keep=2, max_tokens=9)
    assert [(one.output, one.rationale) for one in found.rows] == [("21", f"{A}."), ("21", f"{B}.")]
    assert found.dropped == {"another answer": 1, "more than needed": 1}
    assert len(teacher.asked) == 4


@pytest.mark.parametrize("output", ["21", ""])
def test_a_task_whose_rows_have_several_traces_is_learned_from_all_of_them_and_measured_once_each(output):
    rows = [row(f"{number} eggs?", output) for number in range(40)]
    teacher = Scripted(lambda request: thought("21", A if request.seed % 2 else B), can=("text",))
    found = add_rationales(rows, SUMS, teacher, traces=12, keep=2, max_tokens=9)
    splits = split(SUMS, Found(base="b", examples=tuple(found.rows)), Made(), SplitConfig(), seed=0)
    for side in (splits.validation, splits.test):
        assert len({one.input for one in side}) == len(side)
    assert len(splits.train) == 2 * len({one.input for one in splits.train})
    assert len({one.input for side in (splits.train, splits.validation, splits.test) for one in side}) == 40


def test_a_few_rows_with_many_traces_each_are_few_rows():
    rows = [row(f"{number} eggs?", "21", "user") for number in range(6)]
    teacher = Scripted(lambda request: thought("21", f"{request.seed} says so, and it is right"), can=("text",))
    found = add_rationales(rows, SUMS, teacher, traces=4, keep=4, max_tokens=9)
    assert len(found.rows) == 24
    written = tuple(row(f"{number} hens?", "3", "teacher") for number in range(40))
    made = Made(explained=tuple(found.rows), examples=written)
    splits = split(SUMS, Found(base="b"), made, SplitConfig(), seed=0)
    assert [one.is_real for one in splits.train].count(True) == 24
    assert any("Rows by a person are few (6" in note for note in splits.notes)


def test_a_row_that_is_explained_already_is_not_asked_about():
    known = row("Go away.", "toxic").model_copy(update={"rationale": "It is rude."})
    found, asked = explain([known], [])
    assert (found.rows, asked) == ([known], [])


def test_the_traces_of_a_row_are_different_requests_and_the_same_again_with_the_same_seed():
    runs = [explain([row("Go away.", "toxic")], ["Hm."] * 3)[1] for _ in range(2)]
    assert runs[0] == runs[1]
    assert len({request.seed for request in runs[0]}) == 3
    assert all(request.temperature > 0 for request in runs[0])


def test_the_teacher_is_told_the_labels_and_not_the_answer():
    teacher = Scripted(["Hm."], can=("text",))
    teacher.is_local = False
    add_rationales([row("Go away.", "toxic")], COMMENTS, teacher, traces=1, max_tokens=100)
    system, user = teacher.asked[0].messages
    assert "toxic, not toxic" in system.content
    assert user.content == "Go away."


def test_a_local_teacher_that_forgets_to_answer_is_led_back_to_the_question():
    def wanders(request: Request) -> str | Reply:
        if request.choices:
            return "toxic" if "rude" in prompt_text(request) else "not toxic"
        return Reply(text=f"{THOUGHTS}, which is rude. And then there", finish="length")

    teacher = Scripted(wanders)
    found = add_rationales([row("Go away.", "toxic")], COMMENTS, teacher, traces=2, max_tokens=100)
    assert [one.rationale for one in found.rows] == [f"{THOUGHTS}, which is rude."]
    thinking, concluding = teacher.asked
    assert concluding.messages[-1].content.endswith("which is rude.\nThe answer is")
    assert (thinking.choices, concluding.choices) == ((), LABELS)


def test_a_local_teacher_without_likelihoods_writes_the_answer_at_its_end():
    teacher = Scripted(["24 eggs less 3 are 21.", "21 eggs"], can=("text",))
    found = add_rationales([row("Eggs?", "21")], SUMS, teacher, traces=1, max_tokens=100)
    assert found.rows[0].rationale == "24 eggs less 3 are 21."
    assert found.dropped == {}


def write_or_think(request: Request) -> str:
    """Writes inputs, judges them, and thinks aloud; every tenth trace goes wrong."""
    asked = prompt_text(request)
    if request.choices:
        return "toxic" if "rude" in asked else "not toxic"
    if "think step by step" in asked:
        label = "toxic" if ("rude" in asked) == (request.seed % 10 > 0) else "not toxic"
        return thought(label, f"The tone of number {request.seed} decides it")
    label = max(LABELS, key=lambda label: asked.rfind(f"Label: {label}\n"))
    return ("rude " if label == "toxic" else "kind ") + " ".join(f"w{request.seed}x{place}" for place in range(6))


def test_written_and_given_rows_carry_their_rationales_to_all_sides_of_the_split():
    given = tuple(row(f"rude words {n} {n * 7} {n * 13}", "toxic") for n in range(30))
    task = COMMENTS.model_copy(update={"examples": (row("kind words about it", "not toxic", kind="user"),)})
    found = Found(base="a/base", examples=given)
    made = generate(task, found, GenerateConfig(count=20, rationales=3), teacher=Scripted(write_or_think), seed=1)
    assert [one.input for one in made.explained] == [one.input for one in (*task.examples, *given)]
    assert made.dropped_traces["another answer"] > 0
    assert "another answer" not in made.dropped
    splits = split(task, found, made, SplitConfig())
    rows = (*splits.train, *splits.validation, *splits.test)
    assert len(rows) == 51
    assert all(one.rationale for one in rows)


def test_given_rows_are_explained_when_nothing_is_to_be_written():
    found = Found(base="a/base", examples=(row("rude words", "toxic"),))
    with progress.show(Console(file=StringIO())):
        made = generate(COMMENTS, found, GenerateConfig(count=0, rationales=5), teacher=Scripted(write_or_think))
    assert made.examples == ()
    assert made.explained[0].rationale
    assert made.spent.requests >= 1


def test_no_rationales_are_asked_for_by_default():
    teacher = Scripted(write_or_think)
    found = Found(base="a/base", examples=(row("rude words", "toxic"),))
    made = generate(COMMENTS, found, GenerateConfig(count=10), teacher=teacher)
    assert (made.explained, made.dropped_traces) == ((), {})
    assert not any("think step by step" in prompt_text(request) for request in teacher.asked)
