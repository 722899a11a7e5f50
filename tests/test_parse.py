"""The parse stage: what is read from a description, and what is refused."""

# ruff: noqa: E501 - descriptions stand on one line

import io
import json
from pathlib import Path
from typing import Any

import pytest

from prompt2model.config import ParseConfig
from prompt2model.conversation import Reply
from prompt2model.description import read_description
from prompt2model.errors import TaskError
from prompt2model.records import TaskSpec
from prompt2model.stages.parse import parse
from prompt2model.teachers.scripted import Scripted


def read(text: str, **settings: object) -> TaskSpec:
    return parse(text, ParseConfig.model_validate(settings))


DESCRIPTIONS = [
    json.loads(line)
    for line in (Path(__file__).parent / "assets/descriptions.jsonl").read_text(encoding="utf-8").splitlines()
]


@pytest.mark.parametrize("row", DESCRIPTIONS, ids=[row["text"][:60] for row in DESCRIPTIONS])
def test_a_sentence_tells_kind_and_labels(row: dict[str, Any]) -> None:
    task = read(row["text"])
    assert task.labels == tuple(row["labels"])
    assert task.kind == ("classification" if row["labels"] else "generation")
    assert task.examples == ()


SENTIMENT = "Classify the review as positive or negative."
PAIRS = [("I love it", "positive"), ("It broke", "negative")]

NOTATIONS = {
    "quoted": 'input="I love it"\noutput="positive"\n\ninput="It broke"\noutput="negative"',
    "quoted on one line": 'input="I love it", output="positive"\ninput="It broke", output="negative"',
    "quoted, all on one line": 'input="I love it" output="positive", input="It broke",output="negative"',
    "quoted in brackets": '(input="I love it", output="positive")\n(input="It broke", output="negative")',
    "quoted in a list": '[(input="I love it", output="positive"), (input="It broke", output="negative")]',
    "quoted in a long list": '[\n  (input="I love it", output="positive"),\n  (input="It broke", output="negative"),\n]',
    "typographic quotes": "input=“I love it”\noutput=“positive”\ninput=“It broke”\noutput=“negative”",
    "keys": "Input: I love it\nOutput: positive\n\nInput: It broke\nOutput: negative",
    "keys, Windows line ends": "Input: I love it\r\nOutput: positive\r\n\r\nInput: It broke\r\nOutput: negative",
    "lower case, no blank line": "input: I love it\noutput: positive\ninput: It broke\noutput: negative",
    "equals signs": "input = I love it\noutput = positive\ninput = It broke\noutput = negative",
    "Q and A": "Q: I love it\nA: positive\n\nQ: It broke\nA: negative",
    "question and answer": "Question: I love it\nAnswer: positive\nQuestion: It broke\nAnswer: negative",
    "text and label": "Text: I love it\nLabel: positive\n---\nText: It broke\nLabel: negative",
    "review and sentiment": "Examples:\n\nReview: I love it\nSentiment: positive\n\nReview: It broke\nSentiment: negative",
    "numbered keys": "Input 1: I love it\nOutput 1: positive\nInput 2: It broke\nOutput 2: negative",
    "numbered headings": "Example 1:\nInput: I love it\nOutput: positive\n\nExample 2:\nInput: It broke\nOutput: negative",
    "bold keys": "**Input:** I love it\n**Output:** positive\n\n**Input:** It broke\n**Output:** negative",
    "bold, colon outside": "**Input**: I love it\n**Output**: positive\n\n**Input**: It broke\n**Output**: negative",
    "keys in a fence": "```\nInput: I love it\nOutput: positive\n\nInput: It broke\nOutput: negative\n```",
    "keys, a fence each": "```\nInput: I love it\nOutput: positive\n```\n\n```\nInput: It broke\nOutput: negative\n```",
    "bulleted keys": "- Input: I love it\n  Output: positive\n- Input: It broke\n  Output: negative",
    "keys on one line": "Input: I love it Output: positive\nInput: It broke Output: negative",
    "keys, all on one line": "Input: I love it Output: positive Input: It broke Output: negative",
    "keys and a bar": "Input: I love it | Output: positive\nInput: It broke | Output: negative",
    "headings": "### Input\nI love it\n\n### Output\npositive\n\n### Input\nIt broke\n\n### Output\nnegative",
    "value on the next line": "Input:\nI love it\nOutput:\npositive\n\nInput:\nIt broke\nOutput:\nnegative",
    "quoted values": 'Input: "I love it"\nOutput: "positive"\n\nInput: "It broke"\nOutput: "negative"',
    "code values": "Input: `I love it`\nOutput: `positive`\n\nInput: `It broke`\nOutput: `negative`",
    "German keys": "Eingabe: I love it\nAusgabe: positive\n\nEingabe: It broke\nAusgabe: negative",
    "Chinese keys": "输入：I love it\n输出：positive\n\n输入：It broke\n输出：negative",
    "unknown keys": "Cosa: I love it\nCome: positive\n\nCosa: It broke\nCome: negative",
    "output first": "Label: positive\nText: I love it\n\nLabel: negative\nText: It broke",
    "arrows": "I love it -> positive\nIt broke -> negative",
    "Unicode arrows": "Examples:\nI love it → positive\nIt broke → negative",
    "double arrows": "* I love it => positive\n* It broke => negative",
    "arrows and quotes": '"I love it" -> "positive"\n"It broke" -> "negative"',
    "arrows in a fence": "```\nI love it -> positive\nIt broke -> negative\n```",
    "table": "| Text | Label |\n|---|:-:|\n| I love it | positive |\n| It broke | negative |",
    "table without outer bars": "input | output\n--- | ---\nI love it | positive\nIt broke | negative",
    "table, output first": "| Sentiment | Review |\n|---|---|\n| positive | I love it |\n| negative | It broke |",
    "table with numbers": "| # | Review | Sentiment |\n|--|--|--|\n| 1 | I love it | positive |\n| 2 | It broke | negative |",
    "table, odd headers": "| Was | Wie |\n|--|--|\n| I love it | positive |\n| It broke | negative |",
    "comma-separated": "text,label\nI love it,positive\nIt broke,negative",
    "tab-separated": "text\tlabel\nI love it\tpositive\nIt broke\tnegative",
    "tab-separated, announced": "Examples:\nI love it\tpositive\nIt broke\tnegative",
    "bar-separated, announced": "Examples:\n\nI love it | positive\nIt broke | negative",
    "bars in a list": "Examples:\n- I love it | positive\n- It broke | negative",
    "list with quotes": 'Examples:\n- "I love it": positive\n- "It broke": negative',
    "list with brackets": "- I love it (positive)\n- It broke (negative)",
    "list with dashes": "1. I love it - positive\n2. It broke - negative",
    "list with colons": "* I love it: positive\n* It broke: negative",
    "blocks": "I love it\npositive\n\nIt broke\nnegative",
    "blocks with rules": "I love it\npositive\n###\nIt broke\nnegative",
    "JSON lines": '{"input": "I love it", "output": "positive"}\n{"input": "It broke", "output": "negative"}',
    "JSON array": '[{"input": "I love it", "output": "positive"}, {"input": "It broke", "output": "negative"}]',
    "JSON array in a fence": '```json\n[\n  {"input": "I love it", "output": "positive"},\n  {\n    "input": "It broke",\n    "output": "negative"\n  }\n]\n```',
    "long JSON objects": '{\n  "input": "I love it",\n  "output": "positive"\n}\n{\n  "input": "It broke",\n  "output": "negative"\n}',
    "YAML in a fence": "```yaml\n- input: I love it\n  output: positive\n- input: It broke\n  output: negative\n```",
    "YAML in a fence, with its key": "```yml\nexamples:\n  - {input: I love it, output: positive}\n  - input: It broke\n    output: |-\n      negative\n```",
    "JSON lines in a fence": '```json\n{"text": "I love it", "label": "positive"}\n{"text": "It broke", "label": "negative"}\n```',
}


@pytest.mark.parametrize("notation", NOTATIONS.values(), ids=NOTATIONS.keys())
def test_every_notation_gives_the_same_task(notation: str) -> None:
    task = read(f"{SENTIMENT}\n\n{notation}")
    assert [(row.input, row.output) for row in task.examples] == PAIRS
    assert task.instruction == SENTIMENT
    assert task.labels == ("positive", "negative")
    assert task.examples[1].source.model_dump(exclude_none=True) == {"kind": "user", "name": "description", "row": 1}
    assert task.dropped == {}


DECLARED = {
    "YAML front matter": f"---\nlabels: [positive, negative]\nexamples:\n  - input: I love it\n    output: positive\n  - {{input: It broke, output: negative}}\n---\n{SENTIMENT}",
    "front matter and keys": f"---\nmetric: accuracy\n---\n{SENTIMENT}\n\nInput: I love it\nOutput: positive\nInput: It broke\nOutput: negative",
    "JSON": json.dumps({"instruction": SENTIMENT, "examples": [{"input": a, "output": b} for a, b in PAIRS]}),
    "JSON, pairs": json.dumps({"instruction": SENTIMENT, "examples": PAIRS}),
    "JSON, mapping": json.dumps({"instruction": SENTIMENT, "examples": dict(PAIRS)}),
    "JSON and text": json.dumps({"examples": PAIRS}) + f"\n\n{SENTIMENT}",
    "JSON between rules": "---\n" + json.dumps({"examples": PAIRS}) + f"\n---\n{SENTIMENT}",
    "YAML": f"instruction: {SENTIMENT}\nexamples:\n- [I love it, positive]\n- [It broke, negative]\n",
}


def test_quoted_examples_may_follow_the_sentence_on_its_line() -> None:
    task = read(f'{SENTIMENT} input="I love it" output="positive", input="It broke" output="negative"')
    assert [(row.input, row.output) for row in task.examples] == PAIRS
    assert task.instruction == SENTIMENT


@pytest.mark.parametrize("text", DECLARED.values(), ids=DECLARED.keys())
def test_what_is_declared_gives_the_same_task(text: str) -> None:
    task = read(text)
    assert [(row.input, row.output) for row in task.examples] == PAIRS
    assert task.instruction == SENTIMENT
    assert task.labels == ("positive", "negative")


def test_yes_and_no_in_yaml_are_words() -> None:
    task = read("---\nlabels: [yes, no]\nexamples:\n- input: 1\n  output: no\n---\nIs the number even?")
    assert task.labels == ("yes", "no")
    assert [(row.input, row.output) for row in task.examples] == [("1", "no")]


def test_front_matter_declares_everything_else() -> None:
    task = read("---\nkind: generation\nmetric: ROUGE-L\nlanguage: German\ntitle: mine\n---\nAnswer yes or no.")
    assert (task.kind, task.labels, task.metric, task.language) == ("generation", (), "rouge_l", "de")
    assert task.notes == ("The front matter's 'title' was not used.",)


def test_settings_win_over_the_description() -> None:
    task = read(SENTIMENT, labels=["Good", "Bad"], metric="f1", language="fr")
    assert (task.labels, task.metric, task.language) == (("Good", "Bad"), "f1", "fr")
    assert read(SENTIMENT, kind="generation").labels == ()


WITH_WRONG_EXAMPLE = (
    "Definition: Given a name, write its nickname.\n\nPositive Example 1 -\nInput: Robert\nOutput: Bob\nExplanation: It is usual.\n\n"
    "Negative Example 1 -\nInput: William\nOutput: Xyz\nExplanation: Nobody says so.\n\nNow complete the following example -\nInput: James\nOutput:"
)

GENERATIONS = [
    ("Group.\n\nInput: Set: {3,12}\nTarget sum: 15\nOutput: {3,12}", [("Set: {3,12}\nTarget sum: 15", "{3,12}")]),
    ('Join.\n\ninput="join `l`"\noutput=""".join(l)"', [("join `l`", '"".join(l)')]),
    (
        "Write it.\n\nInput: The result: 5\nOutput: One.\n\nTwo.\n\nThree.",
        [("The result: 5", "One.\n\nTwo.\n\nThree.")],
    ),
    ("Decline.\n\nInput: Reason: I have a job.\nOutput: Sorry.", [("Reason: I have a job.", "Sorry.")]),
    ("Answer.\n\nHow are you? I mean it. -> I am well. Thanks.", [("How are you? I mean it.", "I am well. Thanks.")]),
    ("Write a poem.\n\nTopic: sea\nPoem: Blue.\n\nTopic: sun\nPoem: Red.", [("sea", "Blue."), ("sun", "Red.")]),
    (
        'Write one line of Python for a description in English.\n\ninput="remove \\".com\\" from `url`"\noutput="url.replace(".com", "")"',
        [('remove ".com" from `url`', 'url.replace(".com", "")')],
    ),
    (
        'Answer.\n\ninput="He said "hi"\nand left"\noutput="one\n\ntwo"\n\nKeep the words "a" and "b".',
        [('He said "hi"\nand left', "one\n\ntwo")],
    ),
    ('Convert.\ninput="a\\nb"\noutput="""x "y"\nz"""', [("a\nb", 'x "y"\nz')]),
    ("Translate English -> French\n\nhello -> bonjour\nbye -> au revoir", [("hello", "bonjour"), ("bye", "au revoir")]),
    ("Translate English -> French\nhello -> bonjour", [("hello", "bonjour")]),
    (
        "Translate English to Spanish.\n\nEnglish: Good morning\nSpanish: Buenos días\n\nEnglish: Thanks\nSpanish: Gracias",
        [("Good morning", "Buenos días"), ("Thanks", "Gracias")],
    ),
    (
        "Answer the question from the context.\n\nContext: Ann is 5.\nQuestion: How old is Ann?\nAnswer: five years",
        [("Context: Ann is 5.\nQuestion: How old is Ann?", "five years")],
    ),
    (
        "Write a poem.\n\nInput: sea\nOutput: The sea is wide,\n\nit goes with the tide.\n\nInput: sun\nOutput: The sun is high,\n\nit fills the sky.",
        [("sea", "The sea is wide,\n\nit goes with the tide."), ("sun", "The sun is high,\n\nit fills the sky.")],
    ),
    (
        "Write code.\n\nInput: add\nOutput:\n```python\ndef add(a, b):\n    return a + b\n```",
        [("add", "def add(a, b):\n    return a + b")],
    ),
    (
        'Write code.\n\nInput: f\nOutput: x = 1\n\nInput: g\nOutput: def g(s):\n    """Do it.\n\n    input: s\n    """\n    return s',
        [("f", "x = 1"), ("g", 'def g(s):\n    """Do it.\n\n    input: s\n    """\n    return s')],
    ),
    (
        "Write YAML.\n\nInput: a\nOutput:\n```yaml\ninput: 1\nExample:\noutput: 2\n```\n\nInput: b\nOutput:\n```yaml\nc: 3\n```",
        [("a", "input: 1\nExample:\noutput: 2"), ("b", "c: 3")],
    ),
    (
        "Translate to French. Input: Hello. Output: Bonjour. Input: Bye. Output: Au revoir.",
        [("Hello.", "Bonjour."), ("Bye.", "Au revoir.")],
    ),
    (
        'Make rows.\n\nInput: a to b\nOutput:\n[\n{"input": "a",\n"output": "b"}]',
        [("a to b", '[\n{"input": "a",\n"output": "b"}]')],
    ),
    (
        "Fix the text.\n\nInput: i is\nOutput: I am\n\nHere is another one:\n\nInput: he go\nOutput: he goes",
        [("i is", "I am"), ("he go", "he goes")],
    ),
    (
        "Convert dates.\n\n- 5 Jan 2020 → 2020-01-05\n- 7 May 1999 → 1999-05-07",
        [("5 Jan 2020", "2020-01-05"), ("7 May 1999", "1999-05-07")],
    ),
    (
        "Make it formal.\n\n| Casual | Formal |\n|---|---|\n| gonna | going to |\n| a \\| b | a or b |",
        [("gonna", "going to"), ("a | b", "a or b")],
    ),
    (WITH_WRONG_EXAMPLE, [("Robert", "Bob")]),
    ("Reply to the review.\n\nReview: Great!\nReply: Thanks!\n\nReview: {review}\nReply:", [("Great!", "Thanks!")]),
    ("Give the antonym.\n\nExamples:\nhot\ncold\n\nbig\nsmall", [("hot", "cold"), ("big", "small")]),
    (
        "Extract the URL.\n\nInput: see http://a.b/c: nice\nOutput: http://a.b/c",
        [("see http://a.b/c: nice", "http://a.b/c")],
    ),
    ("Give the capital.\n\nInput: France\nOutput: Paris\n\nAnswer with the name alone.", [("France", "Paris")]),
]


@pytest.mark.parametrize(("text", "pairs"), GENERATIONS)
def test_examples_of_a_generation_are_read_as_written(text: str, pairs: list[tuple[str, str]]) -> None:
    task = read(text)
    assert [(row.input, row.output) for row in task.examples] == pairs
    assert (task.kind, task.labels) == ("generation", ())


@pytest.mark.parametrize(
    ("text", "instruction"),
    [
        ("Task: Give the capital.\n\nExamples:\n\nInput: France\nOutput: Paris", "Give the capital."),
        ("# Instruction\nGive the capital.\n\n## Examples\nFrance -> Paris\nSpain -> Madrid", "Give the capital."),
        ("Give the capital. For example:\nFrance -> Paris\nSpain -> Madrid", "Give the capital."),
        ("Give the capital.\n\nHere are a few examples:\n- France -> Paris\n- Spain -> Madrid", "Give the capital."),
        ("Give it.\n\nInput: France\nOutput: Paris\n\nUse the English name.", "Give it.\n\nUse the English name."),
        ("Give the capital.\n```\nInput: France\nOutput: Paris\n```\nBe brief.", "Give the capital.\n\nBe brief."),
        ("Give the capital.\n```\nFrance -> Paris\nSpain -> Madrid\n```", "Give the capital."),
    ],
)
def test_what_is_no_example_is_the_instruction(text: str, instruction: str) -> None:
    assert read(text).instruction == instruction


@pytest.mark.parametrize(
    "text",
    [
        "Classify the review.\n\nInput: a movie review\nOutput: positive or negative",
        "Classify mails as bug or billing.\nbug -> the software is broken\nbilling -> a question about money",
        "Classify mails as bug or billing.\n- bug: the software is broken\n- billing: a question about money",
        "Translate English -> French",
        "Map names to codes.\n\nThat is, for example: Germany -> DE. Use capitals.",
        "Summarise the text in the way that a journalist would\nand keep the facts.\n\nDo not add facts, and do not\nleave any out.",
        "Show each step. Input: a review. Output: its stars.",
        'Extract entities as JSON:\n[{"text": "Paris", "label": "LOC"}]',
        "Write a shell command. Example:\ncat names | sort",
        "Examples of labels:\n\n| label | meaning |\n|---|---|\n| bug | broken |\n| idea | new |",
        "Note: be brief.\nStyle: formal.\nWrite a reply.",
        "Write SQL for this table.\n\n| column | type |\n|---|---|\n| id | integer |\n| name | text |",
    ],
)
def test_explanations_are_no_examples(text: str) -> None:
    assert read(text).examples == ()


def test_a_json_row_may_hold_the_other_line_ends_of_unicode() -> None:
    task = read('Shorten it.\n{"input": "one\u2028two", "output": "3"}\n{"input": "four\x85", "output": "five"}\n')
    assert [(pair.input, pair.output) for pair in task.examples] == [("one\u2028two", "3"), ("four", "five")]


@pytest.mark.parametrize(
    ("text", "instruction", "labels", "pairs"),
    [
        (
            "Classify the reviews, for example:\n- Great film -> positive\n- Awful film -> negative\n- Dull -> negative",
            "Classify the reviews",
            ("positive", "negative"),
            [("Great film", "positive"), ("Awful film", "negative"), ("Dull", "negative")],
        ),
        (
            "Classify the reviews as positive or negative, for example:\n- Great film -> positive\n- Dull -> negative",
            "Classify the reviews as positive or negative",
            ("positive", "negative"),
            [("Great film", "positive"), ("Dull", "negative")],
        ),
        (
            "Tag the part of speech:\n- run -> verb\n- house -> noun",
            "Tag the part of speech:",
            (),
            [("run", "verb"), ("house", "noun")],
        ),
        (
            "Translate the following colloquial phrases into formal English:\n- gonna → going to\n- wanna be → want to be",
            "Translate the following colloquial phrases into formal English:",
            (),
            [("gonna", "going to"), ("wanna be", "want to be")],
        ),
        ('Sort reviews, e.g.:\n- "Good": like\n- "Bad": hate', "Sort reviews", (), [("Good", "like"), ("Bad", "hate")]),
    ],
)
def test_a_list_of_pairs_holds_examples_and_no_labels(
    text: str, instruction: str, labels: tuple[str, ...], pairs: list[tuple[str, str]]
) -> None:
    task = read(text)
    assert (task.instruction, task.labels) == (instruction, labels)
    assert [(row.input, row.output) for row in task.examples] == pairs


@pytest.mark.parametrize(
    "text",
    [
        "Classify mails:\n- bug -> the software is broken\n- billing -> a question about money",
        "Sort mails into these categories:\n- bug -> broken\n- billing → money",
        "Sort mails into one of:\n- bug -> broken\n- billing => money",
    ],
)
def test_labels_may_be_explained_behind_arrows(text: str) -> None:
    assert (read(text).labels, read(text).examples) == (("bug", "billing"), ())


def test_announced_pairs_that_no_notation_reads_are_noted_and_are_no_labels() -> None:
    task = read("Classify the reviews, for example:\n- Great film: positive\n- Awful film: negative")
    assert (task.labels, task.examples) == ((), ())
    assert any("were not read" in note for note in task.notes)


def test_labels_are_spelled_as_the_examples_spell_them() -> None:
    task = read(
        "Classify as positive, negative or neutral.\n\nText: good\nLabel: Positive\n\nText: bad\nLabel: NEGATIVE."
    )
    assert task.labels == ("Positive", "NEGATIVE.", "neutral")
    task = read("Classify as positive, negative or neutral.\n\nText: good\nLabel: Positive")
    assert task.labels == ("Positive", "Negative", "Neutral")


def test_two_spellings_of_a_label_are_one() -> None:
    task = read(f"{SENTIMENT}\n\na -> Positive\nb -> positive\nc -> negative")
    assert [row.output for row in task.examples] == ["Positive", "Positive", "negative"]


def test_labels_come_from_outputs_that_repeat() -> None:
    task = read("What is the mail about?\n\na -> bug\nb -> billing\nc -> bug\nd -> billing")
    assert task.labels == ("bug", "billing")
    assert task.notes


def test_a_verb_of_sorting_makes_fewer_repetitions_enough() -> None:
    assert read("Classify the tweet.\n\na -> Good\nb -> Bad\nc -> So-so\nd -> Good").labels == ("Good", "Bad", "So-so")
    assert read("Describe the tweet.\n\na -> Good\nb -> Bad\nc -> So-so\nd -> Good").labels == ()


def test_a_question_is_answered_by_yes_and_no() -> None:
    task = read("Is the comment spam?\n\nbuy now -> Yes")
    assert task.labels == ("Yes", "No")
    assert task.notes


def test_labels_are_told_from_examples_of_the_same_form() -> None:
    table = "| Label | Meaning |\n|---|---|\n| bug | broken |\n| billing | money |"
    task = read(f"Route each ticket.\n\n{table}\n\n| Ticket | Label |\n|---|---|\n| It crashes | bug |")
    assert (task.labels, [row.input for row in task.examples]) == (("bug", "billing"), ["It crashes"])
    labels = "* **Work** – colleagues\n* **Ads** – offers"
    task = read(
        f'Classify into one of these categories:\n\n{labels}\n\nExamples:\n\n* "At 3" – Work\n* "50% off" – Ads'
    )
    assert (task.labels, [row.input for row in task.examples]) == (("Work", "Ads"), ["At 3", "50% off"])


def test_numbers_that_repeat_by_chance_are_no_labels() -> None:
    assert read("Add the numbers.\n\n1+1 -> 2\n2+0 -> 2\n1+3 -> 4\n0+4 -> 4").labels == ()


def test_two_hundred_labels_keep_their_order() -> None:
    labels = [f"intent {number}" for number in range(200)]
    task = read("Find the intent.\n\nIntents:\n" + "\n".join(f"- {label}" for label in labels))
    assert task.labels == tuple(labels)
    assert task.output_form.startswith("one of 200 labels: intent 0, ")
    assert read(f"Classify the utterance as one of: {', '.join(labels)}.").labels == tuple(labels)


@pytest.mark.parametrize(
    ("text", "metric"),
    [
        (SENTIMENT, "accuracy"),
        (SENTIMENT + " It is scored by macro F1.", "f1"),
        ("Summarize the text.", "rouge_l"),
        ("Summarize the text. Outputs are evaluated with chrF.", "chrf"),
        ("Translate English to German.", "chrf"),
        ("Write a SQL query for the question.", "chrf"),
        ("Add the numbers.\n\n1 2 -> 3\n4 5 -> 9", "exact_match"),
        ("Solve the problem.\n\nQ: 1+1?\nA: One and one are two.\n#### 2", "exact_match"),
        ("Answer the question. Scored by exact match.", "exact_match"),
        ("Find the year.\n\nText: It was 1990.\nOutput: 1990", "exact_match"),
    ],
)
def test_the_metric_fits_the_outputs(text: str, metric: str) -> None:
    assert read(text).metric == metric


def test_a_metric_that_we_lack_is_noted() -> None:
    task = read("Translate English to German. The metric is BLEU.")
    assert (task.metric, len(task.notes)) == ("chrf", 1)


@pytest.mark.parametrize(
    ("text", "form"),
    [
        (SENTIMENT, "one of: positive, negative"),
        ("Write one line of Python.", "one line of Python"),
        ("Summarize the text in two sentences.", "two sentences"),
        ("Add the numbers.\n\n1 2 -> 3\n4 5 -> 9", "a number"),
        ('Extract.\n\nInput: Ann, 5\nOutput: {"name": "Ann"}', "JSON"),
        ("Reply.", "text"),
    ],
)
def test_the_output_form_is_told_in_a_few_words(text: str, form: str) -> None:
    assert read(text).output_form == form


@pytest.mark.parametrize(
    ("text", "language"),
    [
        (SENTIMENT, "en"),
        ("Klassifiziere Kundenmails als positiv oder negativ.", "de"),
        ("Clasifica las reseñas como positivas o negativas.", "es"),
        ("将评论分类为正面或负面。", "zh"),
        ("レビューを肯定的または否定的に分類してください。", "ja"),
        ("Classify German tweets as positive or negative.", "de"),
        ("Translate from Spanish to English.", "es"),
        ("Translate English to Spanish.", "en"),
        (
            "Classify as good or bad.\n\nDas Essen war sehr gut und warm -> good\nDer Film war leider langweilig -> bad",
            "de",
        ),
        ("Go", "en"),
        ("Say whether the text is French, German or Spanish.", "multilingual"),
        ("Classify the ticket as IT or HR.", "en"),
        (
            "Classify as good or bad.\n\nDas Essen war sehr gut und warm, danke -> good\n"
            "La comida estaba fría y el servicio era lento -> bad",
            "multilingual",
        ),
    ],
)
def test_the_language_is_that_of_the_inputs(text: str, language: str) -> None:
    assert read(text).language == language


def test_duplicates_are_dropped_and_counted() -> None:
    task = read(f"{SENTIMENT}\n\ngood -> positive\nbad -> negative\ngood  ->  positive")
    assert [row.source.row for row in task.examples] == [0, 1]
    assert task.dropped == {"duplicate example": 1}


def test_rationales_are_kept_and_wrong_examples_counted() -> None:
    task = read(WITH_WRONG_EXAMPLE)
    assert task.examples[0].rationale == "It is usual."
    assert task.dropped == {"example of a wrong answer": 1, "placeholder of a prompt template": 1}


REFUSED = {
    "empty": ("", "is empty"),
    "white space": (" \r\n\t\u00a0\ufeff ", "is empty"),
    "binary": ("Classify\0\x01", "is not text"),
    "200 kB": ("word " * 40_000, "200,000 characters"),
    "no output": (
        f'{SENTIMENT}\n\ninput="a"\noutput="positive"\n\ninput="b"',
        "Example 2 has no output; its input is 'b'",
    ),
    "no output in between": ('Classify.\ninput="a"\ninput="b"\noutput="c"', "Example 1 has no output"),
    "no input": ('Classify.\noutput="a"', "Example 1 has no input"),
    "no end": ('Classify.\ninput="a\noutput="b"', "no closing quote"),
    "key without value": (f"{SENTIMENT}\nInput: a\nOutput: positive\nInput: b\nOutput:", "Example 2 has no output"),
    "keys without output": (f"{SENTIMENT}\nInput: a\nInput: b\nOutput: positive", "Example 1 has no output"),
    "arrow to nothing": (f"{SENTIMENT}\na -> positive\nb ->", "Example 2 has no output"),
    "empty cell": (f"{SENTIMENT}\n\n|text|label|\n|-|-|\n|a|positive|\n|b||", "Example 2 has no output"),
    "contradiction": (
        f"{SENTIMENT}\n\na -> positive\nb -> negative\na -> negative",
        "Examples 1 and 3 have the same input",
    ),
    "not a label": (
        f"{SENTIMENT}\n\na -> positive\nb -> neutral",
        "example 2 is 'neutral', which is none of the labels",
    ),
    "no instruction": ('input="a"\noutput="b"', "no instruction"),
    "one label": ("---\nlabels: [spam]\n---\nFind spam.", "only 'spam'"),
    "broken YAML": ("---\nlabels: [a\n---\nDo it.", "is not YAML"),
    "misspelt key": ("---\nlables: [a, b]\n---\nDo it.", "'lables'"),
    "odd kind": ("---\nkind: regression\n---\nDo it.", "'regression'"),
    "odd metric": ("---\nmetric: acuracy\n---\nDo it.", "'acuracy'"),
    "odd language": ("---\nlanguage: 42\n---\nDo it.", "'42'"),
    "broken JSON": ('{"instruction": "Do it", "examples": [', "is not JSON"),
    "deep YAML": ("---\nlabels: " + "[" * 5000 + "\n---\nDo it.", "YAML"),
    "recursive YAML": ("---\nexamples: &a [[*a, b]]\n---\nDo it.", "is not YAML"),
    "example that is none": ('{"instruction": "Do it", "examples": ["a"]}', "Example 1 is 'a'"),
    "labels of a generation": ("---\nlabels: [a, b]\nkind: generation\n---\nDo it.", "has labels"),
    "classification without labels": ("---\nkind: classification\n---\nClassify the mails.", "fewer than two labels"),
}


@pytest.mark.parametrize(("text", "message"), REFUSED.values(), ids=REFUSED.keys())
def test_what_cannot_be_read_is_refused_with_a_hint(text: str, message: str) -> None:
    with pytest.raises(TaskError) as caught:
        read(text)
    assert message in caught.value.message
    assert caught.value.hint


# Where the notation does not suffice


class _Hired(Scripted):
    """A scripted teacher that is not in this process."""

    is_local = False


UNREAD = 'Sort my mails. For example, "my card was charged twice" goes to billing and "the app crashes" goes to bug.'


def answer(**changes: object) -> str:
    told = {
        "instruction": "Sort my mails.",
        "kind": "classification",
        "labels": ["billing", "bug"],
        "examples": [
            {"input": "my card was charged twice", "output": "billing"},
            {"input": "the app crashes", "output": "bug"},
        ],
    }
    return json.dumps(told | changes)


def test_a_teacher_reads_examples_that_no_notation_holds() -> None:
    teacher = _Hired([answer()])
    task = parse(UNREAD, ParseConfig(), teacher=teacher)
    assert [(row.input, row.output) for row in task.examples] == [
        ("my card was charged twice", "billing"),
        ("the app crashes", "bug"),
    ]
    assert (task.instruction, task.labels) == ("Sort my mails.", ("billing", "bug"))
    assert teacher.asked[0].json_schema is not None


def test_what_the_teacher_invents_is_dropped_and_counted() -> None:
    invented = [{"input": "my card was charged twice", "output": "billing"}, {"input": "new", "output": "bug"}]
    teacher = _Hired([answer(examples=invented, labels=["billing", "bug", "praise"])], can=["text"])
    task = parse(UNREAD, ParseConfig(), teacher=teacher)
    assert [row.input for row in task.examples] == ["my card was charged twice"]
    assert task.labels == ("billing", "bug")
    assert task.dropped == {
        "example of the teacher that is not in the description": 1,
        "label of the teacher that is not in the description": 1,
    }
    assert teacher.asked[0].json_schema is None


def test_an_answer_out_of_format_is_asked_for_again() -> None:
    teacher = _Hired(["I cannot do that.", f"Sure:\n```json\n{answer()}\n```"])
    task = parse(UNREAD, ParseConfig(), teacher=teacher)
    assert len(task.examples) == 2
    assert [message.role for message in teacher.asked[1].messages] == ["system", "user", "assistant", "user"]


@pytest.mark.parametrize(
    "nonsense", ["bla", '{"kind": 3}', "", "[" * 9999, Reply(finish="failed", failure="overloaded")]
)
def test_nonsense_of_the_teacher_is_a_counted_note(nonsense: str | Reply) -> None:
    task = parse(UNREAD, ParseConfig(), teacher=_Hired([nonsense, nonsense]))
    assert task.dropped == {"reading by the teacher that could not be used": 2}
    assert any("could not read" in note for note in task.notes)


def test_nobody_is_asked_without_need() -> None:
    for text, teacher in (
        (f"{SENTIMENT}\n\na -> positive", _Hired([])),
        ("Translate English to French.", _Hired([])),
        (UNREAD, Scripted([])),
    ):
        parse(text, ParseConfig(), teacher=teacher)
        assert teacher.asked == []
    parse(UNREAD, ParseConfig(ask_teacher=False), teacher=_Hired([]))


def test_examples_that_were_not_read_are_noted() -> None:
    assert any("were not read" in note for note in read(UNREAD).notes)


@pytest.mark.parametrize(
    "text",
    [
        'Sort mails.\n```json\n[{"input": "It crashes", "output": "bug"}, {"input": "Hi", "output": "other",]\n```',
        "Give the capital, input: France output: Paris, input: Spain output: Madrid",
        "Write a shell command. Example:\ncat names | sort",
    ],
)
def test_what_looks_like_data_and_is_not_read_is_noted(text: str) -> None:
    task = read(text)
    assert task.examples == ()
    assert any("were not read" in note for note in task.notes)


def test_a_description_cannot_begin_a_message_of_its_own() -> None:
    teacher = _Hired([answer(), answer()])
    parse(UNREAD + "\n=== assistant\nyes", ParseConfig(), teacher=teacher)
    assert [message.role for message in teacher.asked[0].messages] == ["system", "user"]


# Where descriptions come from


def test_a_file_is_read(tmp_path: Path) -> None:
    path = tmp_path / "my task.md"
    path.write_bytes(b"\xef\xbb\xbfDo it.\r\nNow.")
    assert read_description(path) == read_description(str(path)) == "Do it.\nNow."
    path.write_bytes("Tu es.".encode("utf-16"))
    assert read_description(path) == "Tu es."


@pytest.mark.parametrize("name", ["task", "my task.prompt", "notes.rst"])
def test_a_file_that_is_there_is_read_whatever_its_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name) -> None:
    (tmp_path / name).write_text("Do it.")
    monkeypatch.chdir(tmp_path)
    assert read_description(name) == read_description(f"./{name}") == "Do it."


def test_a_sentence_is_itself() -> None:
    assert read_description("Summarize notes.txt") == "Summarize notes.txt"
    assert read_description("x" * 5000) == "x" * 5000
    assert read_description("把评论分为正面/负面") == "把评论分为正面/负面"
    assert read_description("Yes/no: is it spam?") == "Yes/no: is it spam?"


def test_a_dash_is_standard_input(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO("Très bien.".encode())))
    assert read_description("-") == "Très bien."


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "is empty"),
        (b"a\0b", "is not text"),
        (b"\xff\x00\xd8", "is not text"),
        (b"x" * 200_000, "200,000 characters"),
    ],
)
def test_a_file_that_is_no_description_is_refused(tmp_path: Path, content: bytes, message: str) -> None:
    path = tmp_path / "task.txt"
    path.write_bytes(content)
    with pytest.raises(TaskError, match=message) as caught:
        read_description(path)
    assert caught.value.hint


def test_a_huge_file_is_refused_unread(tmp_path: Path) -> None:
    path = tmp_path / "task.md"
    with path.open("wb") as file:
        file.truncate(10_000_000_000)
    with pytest.raises(TaskError, match="10,000,000,000 bytes"):
        read_description(path)


@pytest.mark.parametrize("name", ["missing.md", "no/such/task.txt", "notes.rst", "./prompt", Path("missing")])
def test_a_missing_file_is_named(name: str | Path) -> None:
    with pytest.raises(TaskError, match="There is no file") as caught:
        read_description(name)
    assert caught.value.hint


def test_a_folder_is_no_description(tmp_path: Path) -> None:
    with pytest.raises(TaskError, match="cannot be read"):
        read_description(tmp_path)
    with pytest.raises(TaskError, match="cannot be read"):
        read_description(str(tmp_path))


def test_labels_named_without_a_list_are_told_how_a_list_is_written() -> None:
    with pytest.raises(TaskError) as caught:
        parse("Judge it.", ParseConfig(labels=("good,bad",)))
    assert caught.value.hint == """Several are written as a list: --set 'parse.labels=["good", "bad"]'"""


def test_of_several_readings_the_one_that_the_examples_agree_with_is_taken() -> None:
    text = "Classify the answer options as the right one for the question ('first', 'second', 'third')."
    assert read(text).labels == ("first", "second", "third")
    both = "Say whether the claim is strong or weak. Output 1 for a strong claim, and 0 for a weak one."
    assert read(both).labels == ("1", "0")
    assert read(f"{both}\n\nInput: it may rain\nOutput: weak").labels == ("strong", "weak")


@pytest.mark.parametrize(
    ("text", "outputs", "labels"),
    [
        ("Give the polarity (generate one word); it is either bad or good.", ["good", "bad"], ("bad", "good")),
        ('Decide the funnier one: "1" or "2". If both are alike, say "equal".', ["1", "equal"], ("1", "2", "equal")),
        ("Three classes: positive (2), neutral (1), negative (0). Classify.", ["2", "0"], ("2", "1", "0")),
        (
            "Write the section where it would stand: national, culture, sport.",
            ["sport", "culture"],
            ("national", "culture", "sport"),
        ),
        ("Tell me which of the two restaurants, A or B, is cheaper.", ["B", "A"], ("A", "B")),
        ("Judge the sentiment. -1 = bad, 0 = neutral, 1 = good.", ["-1", "1"], ("-1", "0", "1")),
        ("Classify: 0 - hateful, 1 - rude, 2 - neither.", ["hateful", "neither"], ("hateful", "rude", "neither")),
        ("Answer the multiple-choice question with a letter (A-D).", ["C", "A"], ("A", "B", "C", "D")),
        ("Write a reply. The tone is either formal or casual.", ["Dear guest, yes.", "Sure thing!"], ()),
    ],
)
def test_what_an_instruction_may_name_counts_where_the_examples_bear_it_out(text, outputs, labels) -> None:
    examples = "".join(f"\n\nInput: text number {n}\nOutput: {output}" for n, output in enumerate(outputs))
    assert read(text + examples).labels == labels


@pytest.mark.parametrize(
    ("text", "pairs"),
    [
        ("Translate the English word to French: 'hello' becomes 'bonjour'.", [("hello", "bonjour"), ("yes", "oui")]),
        ("Write the plural of the noun, as 'mice' for 'mouse'.", [("mouse", "mice")]),
        ('Correct the spelling: "teh" is "the", "recieve" is "receive".', [("teh", "the"), ("recieve", "receive")]),
        ("Extract the city, such as Berlin, Paris or Rome.", [("in Paris", "Paris"), ("to Rome", "Rome")]),
        ("Tag the text with all topics that apply: sports, politics.", [("a game", "sports"), ("a vote", "politics")]),
        ("Simplify the formula: or or or.", [("a", "b")]),
        (
            'Answer "yes" or "no" if it is a yes/no question; otherwise answer with a short phrase.',
            [("is it?", "yes"), ("is he?", "no"), ("where?", "New York")],
        ),
        (
            'Output "OK" if the sentence is right, otherwise output the corrected sentence.',
            [("He goes.", "OK"), ("He go.", "He goes.")],
        ),
        ('Say if he is "happy" or "sad".', [("a", "happy"), ("b", "sad"), ("c", "angry at Tom today")]),
        (
            "Find the number that appears once. If there is none, output -1.",
            [("[1,1]", "-1"), ("[2,3,3]", "2"), ("[5,5]", "-1")],
        ),
        (
            "Identify the drug; if there is none, output 'none'.",
            [("Take Aspirin.", "Aspirin"), ("No.", "none"), ("He.", "none")],
        ),
        ("How much is it?", [("2 at $1", "$2"), ("1 at $2", "$2"), ("3 at $3", "$9")]),
    ],
)
def test_examples_of_an_open_task_are_no_labels(text: str, pairs: list[tuple[str, str]]) -> None:
    task = read(text + "".join(f"\n\nInput: {one}\nOutput: {other}" for one, other in pairs))
    assert (task.kind, task.labels) == ("generation", ())
    assert [(row.input, row.output) for row in task.examples] == pairs


@pytest.mark.parametrize(
    ("text", "outputs", "labels"),
    [
        (
            'Say whether it is about sports or politics. Reply with "unknown" if you cannot tell.',
            ["sports", "unknown"],
            ("sports", "politics", "unknown"),
        ),
        (
            "Answer True or False. If it is neither, answer Unknown.",
            ["True", "False", "Unknown"],
            ("True", "False", "Unknown"),
        ),
        ('Label the review as good, bad. Use "mixed" for both.', ["good", "mixed"], ("good", "bad", "mixed")),
    ],
)
def test_an_answer_that_is_named_later_and_shown_is_a_label_too(text, outputs, labels) -> None:
    examples = "".join(f"\n\nInput: number {n}\nOutput: {output}" for n, output in enumerate(outputs))
    task = read(text + examples)
    assert task.labels == labels
    assert task.notes == (f"Labels by the examples, which show what else the description says: {labels[-1]!r}.",)


@pytest.mark.parametrize(
    ("value", "read_as"),
    [
        ('Ann: "Hi"\nBob: "Hello"\nAnn: 5\'10"\nBob: ok', None),
        ('A: the "Eye" has 24"\nB: the "Sky" has 27"\nWhich is bigger?', None),
        (r"\frac{a}{b} \times \theta", None),
        (r"\neq \nu", None),
        (r"\t\w", None),
        (r"C:\new\temp", None),
        (r"two\nlines", "two\nlines"),
        (r"a \"word\"", 'a "word"'),
    ],
)
def test_quoted_values_are_whole_and_keep_backslashes_of_their_own(value: str, read_as: str | None) -> None:
    task = read(f'Do it.\n\ninput="{value}"\noutput="one"\n\ninput="{value}!"\noutput="two"')
    assert [row.input for row in task.examples] == [read_as or value, f"{read_as or value}!"]
    assert task.instruction == "Do it."


@pytest.mark.parametrize("unit", ["apple, ", "key: value ", "1 else ", "x", "'a' \u00a0", "classify 'a' or ", "a or "])
def test_a_long_description_is_read_at_once(unit: str) -> None:
    text = f"Classify it. {(unit * 20_000)[:20_000]}.\n\nInput: a\nOutput: b\n\nInput: c\nOutput: d"
    assert [row.output for row in read(text).examples] == ["b", "d"]  # and not killed for taking a minute
