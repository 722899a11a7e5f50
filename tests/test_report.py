"""The report in the terminal, in Markdown and as a page."""

import io
import re
from html.parser import HTMLParser
from pathlib import Path

import pytest
from rich.console import Console

from prompt2model import charts, prompts, report
from prompt2model.records import (
    Checkpoint,
    Dropped,
    Example,
    Found,
    Made,
    Measured,
    Prediction,
    Report,
    Score,
    Source,
    Splits,
    Student,
    TaskSpec,
)

EVIL = "<script>alert(1)</script> | `x` [link](javascript:1) \"'"


def example(text: str, label: str, kind: str = "teacher", name: str = "transformers:owner/teacher") -> Example:
    return Example(input=text, output=label, source=Source(kind=kind, name=name))


def measured(who: str, value: float, rows: str = "real", **facts: object) -> Measured:
    scores = (
        Score(metric="accuracy", value=value, low=value - 0.05, high=value + 0.05),
        Score(metric="f1", value=value / 2, low=value / 3, high=value),
    )
    return Measured(who=who, name=f"{who} model", rows=rows, n=1872, scores=scores, **facts)


TASK = TaskSpec(
    instruction="Say whether a mail is about a bug or about billing.",
    kind="classification",
    labels=("bug", "billing"),
    metric="accuracy",
    dropped={"example without output": 1},
)
REPORT = Report(
    task=TASK,
    measured=(
        measured("majority", 0.5),
        measured("base", 0.66, seconds_per_answer=0.0312, tokens_per_answer=81.4),
        measured("student", 0.82, seconds_per_answer=0.021, tokens_per_answer=22),
        measured("teacher", 0.9, notes=("2 of 1872 not answered and left out: time-out",)),
        measured("student", 0.7, rows="synthetic"),
    ),
    predictions=(
        Prediction(input="It crashes.", expected="bug", answer="bug", probability=0.99),
        Prediction(input="I paid twice.", expected="billing", answer="bug", probability=0.6, base_answer="bug"),
        Prediction(input=EVIL, expected="billing", answer="bug", probability=0.9, base_answer="billing"),
    ),
    notes=("The student is better than its base model by more than the noise: +16.0 points.",),
)
STUDENT = Student(
    folder=Path("run/student"),
    base="owner/base",
    method="seqkd",
    parameters=134_515_008,
    trained_parameters=134_515_008,
    steps=400,
    best_step=200,
    tokens=123_456,
    seconds=480,
    tokens_per_second=257.2,
    precision="bfloat16",
    history=tuple(
        Checkpoint(
            step=step,
            epoch=step / 100,
            loss_nats=0.5,
            validation_loss_nats=100 / step,
            metric="accuracy",
            score=0.6 + step / 2000,
            seconds=float(step),
        )
        for step in (100, 200, 300, 400)
    ),
    losses=tuple(2 / (1 + step / 50) for step in range(400)),
)
MADE = Made(
    examples=tuple(example(f"{EVIL} {index}", ("bug", "billing")[index % 2]) for index in range(30)),
    dropped={"not in the labels": 12, "duplicate": 40},
    rejected=tuple(Dropped(reason="duplicate", text=f"{EVIL} again {index}") for index in range(15)),
    teacher="transformers:owner/teacher",
    strategies=("label_first",),
    filters=("format", "novelty"),
    statement="The writing is complete.",
)
SPLITS = Splits(
    train=MADE.examples[:20],
    validation=MADE.examples[20:],
    test=(example("It crashes.", "bug", "data", "/home/me/mails.csv"),),
)


def whole(**more: object) -> str:
    return report.html(REPORT, found=Found(base="owner/base"), made=MADE, splits=SPLITS, student=STUDENT, **more)


class Page(HTMLParser):
    """The tags of a page, its text, and whether every tag that opens is closed."""

    VOID = ("meta", "line", "circle", "polyline", "br", "link", "img")

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.open: list[str] = []
        self.texts: list[str] = []
        self.attributes: list[tuple[str, str | None]] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes += attrs
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes += attrs

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.texts.append(data)


def shown(made: Report, width: int = 200) -> str:
    console = Console(width=width, record=True, file=io.StringIO())
    console.print(report.table(made))
    return console.export_text()


def test_the_table_has_a_line_for_each_contender_with_its_interval() -> None:
    text = shown(REPORT)
    assert re.search(r"student +student model +real +1,872 +82\.0 \[77\.0–87\.0\] +41\.0 .* 0\.021 +22", text)
    assert re.search(r"majority .* – +–", text)
    assert re.search(r"student .* synthetic", text)


def test_a_narrow_terminal_folds_a_score_once() -> None:
    text = shown(REPORT, width=80)
    assert max(map(len, text.splitlines())) <= 80
    assert re.search(r"1,872 +82\.0 +41\.0 +0\.021 +22\b", text)
    assert re.search(r"\[77\.0–87\.0\] +\[27\.3–82\.0\]", text)


def test_names_in_the_table_are_no_markup() -> None:
    made = Report(task=TASK, measured=(measured("base", 0.5).model_copy(update={"name": "[red]x[/red] [/nope]"}),))
    assert "[red]x[/red] [/nope]" in shown(made)


def test_a_contender_without_scores_has_dashes() -> None:
    mute = Measured(who="teacher", name="mute", rows="real", n=0, scores=())
    made = Report(task=TASK, measured=(measured("student", 0.5), mute))
    assert re.search(r"teacher +mute +real +0 +– +– +– +–", shown(made))
    assert "mute" in report.html(made)
    assert "mute" in report.markdown(made)


def test_the_markdown_table_is_whole() -> None:
    text = report.markdown(REPORT)
    rows = [line for line in text.splitlines() if line.startswith("|")]
    table = rows[: 2 + len(REPORT.measured)]
    assert len({len(re.findall(r"(?<!\\)\|", line)) for line in table}) == 1
    assert "| **student** | student model | real | 1,872 | 82.0 \\[77.0–87.0\\] |" in text
    assert "- Teacher (real rows): 2 of 1872 not answered" in text


def test_data_formats_nothing_in_markdown() -> None:
    text = report.markdown(REPORT)
    assert "<script" not in text
    assert "&lt;script&gt;" in text
    assert "\\[link\\]" in text
    mistakes = [line for line in text.splitlines() if "alert" in line]
    assert len(re.findall(r"(?<!\\)\|", mistakes[0])) == 6


def test_the_page_is_well_formed_and_runs_and_loads_nothing() -> None:
    page = Page(whole(run=Path("runs/mails")))
    assert page.open == []
    assert not {"script", "link", "img", "iframe", "object"} & set(page.tags)
    assert not [name for name, _ in page.attributes if name.startswith("on") or name in ("src", "href")]
    assert "url(" not in whole()
    assert "prefers-color-scheme: dark" in whole()


def test_data_is_text_on_the_page() -> None:
    page = Page(whole())
    assert sum("<script>alert(1)</script>" in text for text in page.texts) > 20
    assert "<script" not in whole()


def test_the_page_tells_the_whole_story() -> None:
    text = " ".join(" ".join(Page(whole(run=Path("runs/mails"))).texts).split())
    for part in (
        "Say whether a mail is about a bug or about billing.",
        "Classification into bug, billing",
        "82.0 [77.0–87.0]",
        "+16.0 points",
        "Teacher (real rows): 2 of 1872",
        "400 steps over 123,456 tokens in 480 s (257 tokens/s, bfloat16)",
        "written by owner/teacher 20 10 0",
        "mails.csv 0 0 1",
        "bug 10 5 1",
        "generate duplicate 40",
        "parse example without output 1",
        "The surest mistakes",
        "prompt2model predict runs/mails",
    ):
        assert part in text
    assert "/home/me" not in text


def test_ten_rows_are_shown_of_the_kept_and_of_the_dropped() -> None:
    text = whole()
    assert len(re.findall(r"alert\(1\)[^<]* \d+</td><td class=\"text\">(?:bug|billing)", text)) == 10
    assert len(re.findall(r"again \d+</td>", text)) == 10
    assert whole(seed=0) == text != whole(seed=1)


def test_mistakes_come_surest_first_and_right_answers_not_at_all() -> None:
    text = whole().partition("The surest mistakes")[2]
    assert text.index("alert(1)") < text.index("I paid twice.")
    assert "It crashes." not in text


def test_a_report_alone_is_a_page() -> None:
    page = Page(report.html(REPORT))
    assert page.open == []
    assert page.tags.count("svg") == 2
    assert "Training" not in page.texts


def test_an_empty_report_says_that_nothing_was_measured() -> None:
    empty = Report(task=TaskSpec(instruction="x" * 300), measured=(), notes=("There are no test rows.",))
    assert "Nothing was measured." in report.html(empty)
    assert "Nothing was measured." in report.markdown(empty)
    assert "There are no test rows." in report.html(empty)
    shown(empty)


def test_the_dots_stand_where_the_scores_are() -> None:
    chart = charts.dots([charts.Interval("a", 50, 40, 60), charts.Interval("b", 100, 90, 100, is_main=True)])
    assert chart is not None
    at = {tick.text: tick.at for tick in chart.ticks}
    assert chart.dots[0].low == at["40"]
    assert chart.dots[1].x == chart.dots[1].high == at["100"] == chart.right
    assert chart.dots[0].low < chart.dots[0].x < chart.dots[0].high < chart.dots[1].low


@pytest.mark.parametrize("value", [0.0, 1e-9, 55.0, -3.0])
def test_scores_that_are_all_the_same_can_be_drawn(value: float) -> None:
    chart = charts.dots([charts.Interval("a", value, value, value)])
    assert chart is not None
    assert chart.left <= chart.dots[0].x <= chart.right
    assert 2 <= len(chart.ticks) <= 8


def test_a_curve_stays_inside_its_frame_and_thins_what_nobody_can_see() -> None:
    chart = charts.curves([("loss", [(float(step), 1 / (1 + step)) for step in range(5000)])])
    assert chart is not None
    points = chart.lines[0].points
    assert len(points) == charts.MOST_POINTS
    assert all(chart.left <= x <= chart.right and chart.top <= y <= chart.bottom for x, y in points)


def test_a_loss_that_is_no_number_is_left_out() -> None:
    chart = charts.curves([("loss", [(1.0, float("nan")), (2.0, 1.0)]), ("none", [(1.0, float("inf"))])])
    assert chart is not None
    assert [(line.name, len(line.points)) for line in chart.lines] == [("loss", 1)]
    assert charts.curves([("loss", [])]) is None
    assert charts.dots([]) is None


@pytest.mark.parametrize(
    ("name", "public"),
    [
        ("owner/data", "owner/data"),
        ("owner/data:en", "owner/data:en"),
        ("/home/me/rows.csv", "rows.csv"),
        ("./rows.csv", "rows.csv"),
        ("data/raw/rows.csv", "rows.csv"),
        (r"C:\me\rows.csv", "rows.csv"),
        ("transformers:owner/model", "owner/model"),
        ("transformers:/home/me/model/", "model"),
        ("openai:gpt-5-mini", "openai:gpt-5-mini"),
        ("http://user:key@10.0.0.1:8000/v1#name", "name (a server of its own)"),
        ("http://10.0.0.1:8000/v1", "a server of its own"),
    ],
)
def test_a_public_name_has_no_folder_and_no_address(name: str, public: str) -> None:
    assert report.public_name(name) == public


def test_a_cell_formats_nothing() -> None:
    assert prompts.cell("a\n| b `c` *d* <e> &") == r"a \| b \`c\` \*d\* &lt;e&gt; &amp;"
