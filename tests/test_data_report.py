"""The data report: its numbers are right, and the page shows them, safely."""

import json
import os
import subprocess
import sys
from itertools import combinations
from random import Random

import numpy as np
import pytest
from command import sentences, write_script

from prompt2model import charts, data_report, marks, pipeline, store
from prompt2model.accounts import Entry
from prompt2model.cli import run as call
from prompt2model.config import load_config
from prompt2model.errors import DataError
from prompt2model.jaccard import similarity
from prompt2model.marks import Mark
from prompt2model.records import Dropped, Example, Made, Source, Spent, TaskSpec

TASK = TaskSpec(instruction="Is it <good> or bad?", kind="classification", labels=("good", "bad", "unsure"))


def row(text: str, output: str, strategy: str = "label_first") -> Example:
    return Example(input=text, output=output, source=Source(kind="teacher", name="a/model", strategy=strategy))


MADE = Made(
    examples=(row("a fine film", "good"), row("a <b>dull</b> film", "bad"), row("so fine", "good", "input_first")),
    dropped={"near twin": 1, "empty": 3},
    rejected=(Dropped(reason="near twin", text="a fine film ≈ <script>alert(1)</script>"),),
    teacher="a/model",
    filters=("format", "duplicate"),
    spent=Spent(requests=7, usd=0.06),
    statement="Complete: 3 rows kept of 7 written.",
)


def test_the_figures_count_what_was_kept_and_dropped():
    found = data_report.figures(TASK, MADE)
    assert (found.rows, found.labels) == (3, {"good": 2, "bad": 1, "unsure": 0})
    assert found.sources == {"written by a/model, label_first": 2, "written by a/model, input_first": 1}
    assert list(found.dropped.items()) == [("empty", 3), ("near twin", 1)]
    assert found.usd_per_row == pytest.approx(0.02)
    assert found.input_words == (3, 4, 2)
    given = row("another film", "bad").model_copy(update={"rationale": "it is said to be dull"})
    with_reasons = MADE.model_copy(update={"explained": (*MADE.examples, given)})
    assert data_report.figures(TASK, with_reasons).usd_per_row == pytest.approx(0.015)


@pytest.mark.parametrize(
    ("texts", "n", "expected"),
    [
        (["a b a b"], 1, 0.5),
        (["a b a b"], 2, 2 / 3),
        (["a b", "A, b!"], 2, 0.5),
        (["a"], 2, 0.0),
        ([], 1, 0.0),
    ],
)
def test_distinct_ngrams_are_the_share_of_different_ones(texts, n, expected):
    assert data_report.distinct(texts, n) == pytest.approx(expected)


def test_self_similarity_is_that_of_the_nearest_other():
    rng = Random(0)
    texts = [" ".join(rng.choices("abcdef", k=5)) for _ in range(12)]
    nearest = [max(similarity(one, other) for other in texts[:i] + texts[i + 1 :]) for i, one in enumerate(texts)]
    assert data_report.self_similarity(texts) == pytest.approx(sum(nearest) / 12)
    assert data_report.self_similarity(["alone"]) == 0


def test_self_similarity_looks_at_all_rows_whatever_their_number():
    rng = Random(1)
    firsts = [" ".join(f"w{rng.randrange(5000)}" for _ in range(12)) for _ in range(1000)]
    pairs = [text for first in firsts for text in (first, f"{first} indeed")]
    some, all_ = data_report.self_similarity(pairs[:100]), data_report.self_similarity(pairs)
    assert all_ == pytest.approx(some, abs=0.01)
    assert all_ > 0.8


def test_a_row_with_several_chains_of_thought_is_one_row():
    thought = [MADE.examples[0].model_copy(update={"rationale": why}) for why in ("for this", "for that")]
    found = data_report.figures(TASK, MADE.model_copy(update={"examples": (*thought, *MADE.examples[1:])}))
    assert found == data_report.figures(TASK, MADE)


def test_half_a_character_is_told_and_harms_nobody(tmp_path):
    half = "\ud83d"
    made = MADE.model_copy(
        update={"examples": (row(f"{half} half", "good"),), "rejected": (Dropped(reason="control", text=half),)}
    )
    page = data_report.write_page(tmp_path, TASK, made)
    assert "\ufffd half" in page.read_text(encoding="utf-8")
    assert store.digest(made)
    assert row("\ud83d\ude00", "good").input == "😀"


def test_spread_is_the_mean_distance_of_all_pairs():
    vectors = np.random.default_rng(0).normal(size=(9, 5))
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    expected = np.mean([1 - one @ other for one, other in combinations(vectors, 2)])
    assert data_report.spread(vectors) == pytest.approx(expected)


def test_length_bands_have_no_gap_and_hold_every_text():
    counts = [1, 2, 3, 3, 17, 0]
    found = data_report.bands(counts)
    assert found == [
        ("0 words", 1), ("1 word", 1), ("2–3 words", 3), ("4–7 words", 0), ("8–15 words", 0), ("16–31 words", 1),
    ]  # fmt: skip
    assert sum(count for _, count in found) == len(counts)


def test_bars_are_as_long_as_their_counts_are_large():
    drawn = charts.bars([("a", 10), ("b", 5), ("a very long name of a reason to drop a row", 0)])
    assert drawn is not None
    assert drawn.bars[0].width == 2 * drawn.bars[1].width
    assert (drawn.bars[2].width, drawn.bars[2].name[-1], drawn.bars[0].text) == (0, "…", "10")
    assert charts.bars([]) is None


def test_the_page_shows_the_figures_and_the_rows_and_escapes_them():
    page = data_report.html(TASK, MADE)
    for text in ("a fine film", "near twin", "0.02000", "Complete: 3 rows kept of 7 written.", "format, duplicate"):
        assert text in page
    assert "<script" not in page
    assert "<b>dull" not in page
    assert "&lt;script&gt;" in page
    assert page.count("<svg") == 3  # labels, lengths of inputs, reasons


def test_a_page_without_rows_says_so_and_the_page_is_the_same_each_time():
    assert "Nothing was to be written." in data_report.html(TASK, Made(statement="Nothing was to be written."))
    assert data_report.html(TASK, MADE) == data_report.html(TASK, MADE)


@pytest.fixture
def run(tmp_path):
    """A run of which the first stages are done."""
    store.once(tmp_path, "parse", TaskSpec, lambda: TASK, depends_on=1)
    store.once(tmp_path, "generate", Made, lambda: MADE, depends_on=1)
    return tmp_path


def test_the_price_of_a_row_is_that_of_all_goes_at_it(run, capsys):
    for usd in (0.03, 0.06):  # the first one was broken off
        entry = Entry(stage="generate", teacher="a/model", spent=Spent(requests=4, usd=usd))
        with (run / "ledger.jsonl").open("a") as file:
            file.write("\n" + entry.model_dump_json())
    assert call(["data", str(run)]) == 0
    assert "$0.03000" in capsys.readouterr().out
    assert "0.0900 for 8 requests" in (run / "data.html").read_text(encoding="utf-8")


def test_rows_of_an_unknown_price_are_not_said_to_have_cost_nothing():
    spent = Spent(requests=7, unpriced=7)
    assert data_report.figures(TASK, MADE, spent).usd_per_row is None
    assert "price unknown, for 7 requests" in data_report.html(TASK, MADE, spent)


def test_the_command_data_shows_the_figures_and_writes_the_page(run, capsys):
    assert call(["data", str(run)]) == 0
    told = capsys.readouterr()
    assert "2 good, 1 bad, 0 unsure" in told.out
    assert "$0.02000" in told.out
    assert "data.html" in told.err
    assert (run / "data.html").read_text(encoding="utf-8") == data_report.html(TASK, MADE)
    assert call(["data", str(run), "--json", "--quiet"]) == 0
    assert json.loads(capsys.readouterr().out)["rows"] == 3


# marks


def mark(text: str, accepted: bool) -> Mark:
    return Mark(input=text, output="good", accepted=accepted)


def test_of_two_marks_of_a_row_the_last_one_counts(tmp_path):
    marks.add_marks(tmp_path, [mark("a", True), mark("b", True)])
    marks.add_marks(tmp_path, [mark("a", False)])
    assert marks.read_marks(tmp_path / marks.FILE) == [mark("a", False), mark("b", True)]
    assert marks.read_marks(tmp_path / "none.jsonl") == []


@pytest.mark.parametrize("line", ["no JSON", '{"input": "a"}', '{"input": "a", "output": "b", "accepted": "perhaps"}'])
def test_a_line_that_is_no_mark_is_named(tmp_path, line):
    (tmp_path / marks.FILE).write_text(f"{mark('a', True).model_dump_json()}\n{line}\n")
    with pytest.raises(DataError, match=r"marks\.jsonl, line 2 is no mark"):
        marks.read_marks(tmp_path / marks.FILE)


def test_marks_made_elsewhere_are_added_to_a_run(run, tmp_path, capsys):
    given = tmp_path / "given.jsonl"
    given.write_text(f"{mark('a fine film', True).model_dump_json()}\n{mark('so fine', False).model_dump_json()}\n")
    assert call(["mark", str(run), "--file", str(given)]) == 0
    assert "2 marks: 1 accepted, 1 rejected" in capsys.readouterr().err
    assert len(marks.read_marks(run / marks.FILE)) == 2


def test_nobody_is_asked_where_there_is_no_terminal(run, capsys):
    assert call(["mark", str(run)]) == 1
    assert "--file marks.jsonl" in capsys.readouterr().err


def test_a_person_marks_rows_at_a_terminal(run):
    """Under a pseudo-terminal: accept one, be asked again after an answer that is none, reject one, quit."""
    pty = pytest.importorskip("pty")
    main, side = pty.openpty()
    code = f"import sys; from prompt2model.cli import run; sys.exit(run(['mark', {str(run)!r}]))"
    working = subprocess.Popen([sys.executable, "-c", code], stdin=side, stdout=subprocess.DEVNULL, stderr=side)
    os.close(side)
    os.write(main, b"a\nwhat\nr\nq\n")
    assert working.wait(timeout=120) == 0
    os.close(main)
    found = marks.read_marks(run / marks.FILE)
    assert [one.accepted for one in found] == [True, False]
    assert {one.input for one in found} <= {one.input for one in MADE.examples}


# in a run


def test_a_run_gives_the_filters_its_test_rows_and_leaves_the_page(tmp_path, tiny_decoder):
    texts = sentences(400)
    test = tmp_path / "test.jsonl"
    test.write_text("".join(f"{json.dumps({'input': text, 'output': 'good'})}\n" for text in texts[:5]))
    built = pipeline.build(
        "Classify the text as good or bad.",
        out=tmp_path / "run",
        until="generate",
        teacher=write_script(tmp_path / "answers.jsonl"),
        retrieve__hub="off",
        retrieve__base=str(tiny_decoder),
        split__test_data=str(test),
        generate__count=20,
        generate__filters=["contamination"],
    )
    assert built.made.dropped["near twin of a test row"] == 5
    assert not {row.input for row in built.made.examples} & set(texts[:5])
    assert (built.folder / "data.html").is_file()


def test_marks_make_a_run_write_again_only_where_the_critic_is_named(tmp_path):
    looked_at = []
    for filters in (("critic",), ("format",)):
        for known in ([], [mark("a", True)]):
            (tmp_path / marks.FILE).unlink(missing_ok=True)
            marks.add_marks(tmp_path, known)
            config = load_config(generate__filters=filters)
            looked_at.append(pipeline._Building(tmp_path, "text", config, lambda stage, record: None)._looked_at)
    assert looked_at == [(("marks", []),), (("marks", [mark("a", True)]),), (), ()]


@pytest.mark.parametrize("cut", [1, 4, 15, 24, 26, 27, 40, -1])
def test_a_mark_that_a_kill_cut_short_is_left_out_also_when_others_follow(tmp_path, cut):
    file, whole = tmp_path / marks.FILE, mark("né} ☃", True).model_dump_json().encode()
    file.write_text("\ufeff" + mark("a", True).model_dump_json(), encoding="utf-8")
    marks.add_marks(tmp_path, [mark("b", False)])
    assert marks.read_marks(file) == [mark("a", True), mark("b", False)]
    with file.open("ab") as opened:
        opened.write(whole[:cut])
    assert marks.read_marks(file) == [mark("a", True), mark("b", False)]
    marks.add_marks(tmp_path, [mark("c", True)])
    assert marks.read_marks(file) == [mark("a", True), mark("b", False), mark("c", True)]


def test_marks_from_a_file_that_is_not_there_are_an_error(run, tmp_path, capsys):
    assert call(["mark", str(run), "--file", str(tmp_path / "nosuch.jsonl")]) == 1
    assert "There is no file" in capsys.readouterr().err
