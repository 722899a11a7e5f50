import gzip
import io
import json
import shlex
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hub_server import CONVERTED, MAIN, TOKEN, Hub, Repo, serve

from prompt2model.config import RetrieveConfig, load_config
from prompt2model.errors import DataError, HubError, Prompt2ModelError
from prompt2model.records import Example, Source, TaskSpec
from prompt2model.rows import Rows, read_rows

OPEN = TaskSpec(instruction="Answer.")
MOOD = TaskSpec(instruction="Say the mood.", kind="classification", labels=("positive", "negative"))
TWO = [{"input": "good", "output": "positive"}, {"input": "bad", "output": "negative"}]


def write(folder: Path, name: str, content: str | bytes | list[dict[str, Any]]) -> str:
    """The path of a file with this content; a list of rows is written as JSON lines."""
    path = folder / name
    if isinstance(content, list):
        content = "".join(json.dumps(row) + "\n" for row in content)
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return str(path)


def parquet(rows: dict[str, list[Any]], *, labels: dict[str, list[str]] | None = None, **options: Any) -> bytes:
    """A Parquet file, with label names where `datasets` writes them."""
    features = {column: {"names": names, "_type": "ClassLabel"} for column, names in (labels or {}).items()}
    table = pa.table(rows).replace_schema_metadata({"huggingface": json.dumps({"info": {"features": features}})})
    sink = io.BytesIO()
    pq.write_table(table, sink, **options)
    return sink.getvalue()


def texts(rows: Rows) -> list[tuple[str, str]]:
    return [(example.input, example.output) for example in rows.examples]


# Formats


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("rows.csv", "input,output\ngood,positive\nbad,negative\n"),
        ("rows.csv", "\ufeffinput,output\r\ngood,positive\r\n\r\nbad,negative"),
        ("rows.csv", 'input;output\n"good";positive\nbad;negative\n'),
        ("rows.csv", "input,output\ngood,positive\nbad,negative\n".encode("utf-16")),
        ("rows.csv.gz", gzip.compress(b"input,output\ngood,positive\nbad,negative\n", mtime=0)),
        ("rows.tsv", "input\toutput\ngood\tpositive\nbad\tnegative\n"),
        ("rows.jsonl", TWO),
        ("rows.jsonl.gz", gzip.compress("\n".join(map(json.dumps, TWO)).encode(), mtime=0)),
        ("rows.ndjson", TWO),
        ("rows.json", json.dumps(TWO)),
        ("rows.json", "\n" + json.dumps(TWO, indent=2) + "\n"),
        ("rows.json", json.dumps({"version": 1, "data": TWO}, indent=1)),
        ("rows.json", json.dumps({"version": 1, "data": TWO})),
        ("rows.json", json.dumps({"input": ["good", "bad"], "output": ["positive", "negative"]})),
        ("rows.json", json.dumps({"input": ["good", "bad"], "output": ["positive", "negative"]}, indent=1)),
        ("rows.json", '{"input":{"0":"good","1":"bad"},"output":{"0":"positive","1":"negative"}}'),
        ("rows.JSON", TWO),
        ("rows.parquet", parquet({"input": ["good", "bad"], "output": ["positive", "negative"]})),
    ],
)
def test_every_format_gives_the_same_rows(tmp_path: Path, name: str, content: str | bytes) -> None:
    rows = read_rows(write(tmp_path, name, content), MOOD, RetrieveConfig())
    assert texts(rows) == [("good", "positive"), ("bad", "negative")]
    assert rows.columns == {"input": "input", "output": "output"}
    assert [example.source.row for example in rows.examples] == [0, 1]
    assert {example.source.name for example in rows.examples} == {name}
    assert {example.source.kind for example in rows.examples} == {"data"}


def test_a_quoted_cell_may_hold_separators_quotes_and_lines(tmp_path: Path) -> None:
    path = write(tmp_path, "rows.csv", 'input,output\n"a, ""b""\nc",x\n')
    assert texts(read_rows(path, OPEN, RetrieveConfig())) == [('a, "b"\nc', "x")]


def test_a_cell_may_be_as_long_as_a_book(tmp_path: Path) -> None:
    path = write(tmp_path, "rows.csv", f"input,output\n{'word ' * 100_000},x\n")
    assert len(read_rows(path, OPEN, RetrieveConfig()).examples[0].input) == 499_999


@pytest.mark.parametrize(
    "content",
    [
        ",input,output\n0,good,positive\n1,bad,negative\n",
        "input,output,\ngood,positive,\nbad,negative,\n",
        "input,output,\ngood,positive\nbad,negative\n",
        ",input,output,\n17,good,positive,\n4,bad,negative,\n",
    ],
)
def test_a_column_of_row_numbers_or_of_nothing_needs_no_name(tmp_path: Path, content: str) -> None:
    rows = read_rows(write(tmp_path, "rows.csv", content), MOOD, RetrieveConfig())
    assert texts(rows) == [("good", "positive"), ("bad", "negative")]
    assert rows.notes == ("A column without a name was left out; it holds row numbers or nothing.",)


def test_a_single_quote_in_tabbed_text_is_text(tmp_path: Path) -> None:
    path = write(tmp_path, "rows.tsv", 'input\toutput\n"so they say\ta\nsecond\tb\n')
    assert texts(read_rows(path, OPEN, RetrieveConfig())) == [('"so they say', "a"), ("second", "b")]


def test_a_long_array_is_read_across_its_pieces(tmp_path: Path) -> None:
    rows = [{"input": f"{place} " + "ä" * 3000, "output": str(place)} for place in range(100)]
    path = write(tmp_path, "rows.json", json.dumps(rows, ensure_ascii=False))
    assert [output for _, output in texts(read_rows(path, OPEN, RetrieveConfig()))] == [str(n) for n in range(100)]


@pytest.mark.parametrize("name", ["rows.csv", "rows.jsonl", "rows.json"])
def test_the_cap_holds_while_reading(tmp_path: Path, name: str) -> None:
    """Beyond the cap the file is broken, and that is not noticed."""
    good = {"rows.csv": "input,output\na,1\nb,2\nc,3\n", "rows.jsonl": TWO, "rows.json": json.dumps(TWO)[:-1] + ","}[
        name
    ]
    broken = write(tmp_path, name, good)
    with Path(broken).open("a") as file:
        file.write('"' + "broken" * 100_000)
    assert len(read_rows(broken, OPEN, RetrieveConfig(max_rows=1)).examples) == 1
    with pytest.raises(DataError):
        read_rows(broken, OPEN, RetrieveConfig())


@pytest.mark.parametrize("end", ["\u2028", "\u2029", "\x85"])
@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("rows.jsonl", '{"input": "one|two", "output": "x"}\n{"input": "three", "output": "y|z"}\n'),
        ("rows.json", '[{"input": "one|two", "output": "x"},\n{"input": "three", "output": "y|z"}]'),
        ("rows.csv", "input,output\r\none|two,x\r\nthree,y|z\r\n"),
        ("rows.tsv", 'input\toutput\r\n"one|two"\tx\r\nthree\t"y|z"\r\n'),
    ],
)
def test_the_other_line_ends_of_unicode_are_text(tmp_path: Path, name: str, content: str, end: str) -> None:
    rows = read_rows(write(tmp_path, name, content.replace("|", end)), OPEN, RetrieveConfig())
    assert texts(rows) == [(f"one{end}two", "x"), ("three", f"y{end}z")]


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("rows.csv", b"input,output\rgood,positive\rbad,negative\r"),
        ("rows.csv", "input,output\rgood,positive\rbad,negative".encode("utf-16")),
        ("rows.tsv", b"input\toutput\rgood\tpositive\rbad\tnegative"),
        ("rows.jsonl", json.dumps(TWO[0]).encode() + b"\r" + json.dumps(TWO[1]).encode()),
    ],
)
def test_carriage_returns_end_the_lines_of_a_file_without_line_feeds(tmp_path: Path, name: str, content: bytes) -> None:
    rows = read_rows(write(tmp_path, name, content), MOOD, RetrieveConfig())
    assert texts(rows) == [("good", "positive"), ("bad", "negative")]


# Columns


@pytest.mark.parametrize(
    ("row", "expected"),
    [
        ({"text": "good film", "label": "positive"}, ("text", "label")),
        ({"Sentence": "good film", "Label": "positive"}, ("Sentence", "Label")),
        ({"id": 7, "review": "good film", "sentiment": "positive"}, ("review", "sentiment")),
        ({"premise": "a b", "hypothesis": "c d", "label": "positive"}, ("premise + hypothesis", "label")),
        ({"blob": "a good film", "uid": "x1", "verdict_2": "positive"}, ("blob", "verdict_2")),
        ({"title": "A film", "text": "a good film", "stars": 5, "mood": "positive"}, ("text", "mood")),
        ({"text": "good film", "label": 1, "label_text": "positive"}, ("text", "label_text")),
        ({"Satz": "ein guter Film", "Kategorie": "positive"}, ("Satz", "Kategorie")),
    ],
)
def test_the_columns_of_a_classification_follow_from_names_and_labels(
    tmp_path: Path, row: dict[str, Any], expected: tuple[str, str]
) -> None:
    rows = read_rows(write(tmp_path, "rows.jsonl", [row]), MOOD, RetrieveConfig())
    assert (rows.columns["input"], rows.columns["output"]) == expected
    assert rows.examples[0].output == "positive"


@pytest.mark.parametrize(
    ("row", "columns", "example"),
    [
        ({"question": "1 + 1?", "answer": 2}, "question -> answer", ("1 + 1?", "2")),
        ({"prompt": "Hello", "completion": "Hi"}, "prompt -> completion", ("Hello", "Hi")),
        ({"source": "Haus", "target": "house"}, "source -> target", ("Haus", "house")),
        ({"id": "1", "document": "Long.", "summary": "L."}, "document -> summary", ("Long.", "L.")),
        (
            {"instruction": "Add.", "input": "1 and 1", "output": "2"},
            "instruction + input -> output",
            ("instruction: Add.\ninput: 1 and 1", "2"),
        ),
        (
            {"instruction": "Say hi.", "input": "", "output": "hi"},
            "instruction + input -> output",
            ("instruction: Say hi.", "hi"),
        ),
        (
            {"id": "x", "context": "Bonn.", "question": "Where?", "answers": {"text": ["Bonn"], "answer_start": [0]}},
            "context + question -> answers",
            ("context: Bonn.\nquestion: Where?", "Bonn"),
        ),
        (
            {
                "messages": [
                    {"role": "system", "content": "Be kind."},
                    *({"role": r, "content": r} for r in ("user", "assistant")),
                ]
            },
            "messages (user) -> messages (assistant)",
            ("user", "assistant"),
        ),
        (
            {"conversations": [{"from": "human", "value": "Hello"}, {"from": "gpt", "value": "Hi"}]},
            "conversations (user) -> conversations (assistant)",
            ("Hello", "Hi"),
        ),
    ],
)
def test_the_columns_of_an_open_task_follow_from_their_names(
    tmp_path: Path, row: dict[str, Any], columns: str, example: tuple[str, str]
) -> None:
    rows = read_rows(write(tmp_path, "rows.jsonl", [row]), OPEN, RetrieveConfig())
    assert " -> ".join(rows.columns.values()) == columns
    assert texts(rows) == [example]


def test_named_columns_are_taken_and_several_inputs_are_joined_with_their_names(tmp_path: Path) -> None:
    path = write(tmp_path, "rows.jsonl", [{"a": "one", "b": None, "c": 3, "d": {"en": "four", "de": "vier"}}])
    config = RetrieveConfig(input_column="a, b,c", output_column="d.de")
    assert texts(read_rows(path, OPEN, config)) == [("a: one\nc: 3", "vier")]
    assert read_rows(path, OPEN, config).columns == {"input": "a + b + c", "output": "d.de"}


def test_one_named_column_leaves_the_other_to_be_inferred(tmp_path: Path) -> None:
    row = {"id": "1", "body": "A long text about it.", "title": "Short title", "label": "x"}
    path = write(tmp_path, "rows.jsonl", [row])
    assert read_rows(path, OPEN, RetrieveConfig(output_column="title")).columns["input"] == "body"
    assert read_rows(path, OPEN, RetrieveConfig(input_column="title")).columns["output"] == "label"


@pytest.mark.parametrize(
    ("row", "task"),
    [
        ({"en": "a house", "de": "ein Haus"}, OPEN),
        ({"question": "why?", "answer": "so", "summary": "s", "document": "d"}, OPEN),
        ({"subject_line": "Hello there", "body_html": "Dear you", "mood": "positive"}, MOOD),
        ({"text": "good film", "first": "positive", "second": "negative"}, MOOD),
        ({"number": 1, "other": 2}, MOOD),
    ],
)
def test_columns_that_are_not_clear_are_asked_for_with_the_first_row(
    tmp_path: Path, row: dict[str, Any], task: TaskSpec
) -> None:
    with pytest.raises(DataError, match="not clear which columns") as caught:
        read_rows(write(tmp_path, "rows.jsonl", [row]), task, RetrieveConfig())
    assert all(column in caught.value.message for column in row)
    assert str(next(iter(row.values()))) in caught.value.message
    assert "retrieve.input_column" in caught.value.hint


def test_a_column_that_does_not_exist_is_answered_with_the_nearest(tmp_path: Path) -> None:
    path = write(tmp_path, "rows.jsonl", TWO)
    with pytest.raises(DataError, match="no column 'inputt'") as caught:
        read_rows(path, OPEN, RetrieveConfig(input_column="inputt"))
    assert "Did you mean input" in caught.value.hint


@pytest.mark.parametrize(
    ("name", "content", "line"),
    [
        ("rows.csv", "good,positive\nbad,negative\nfine,positive\n", "input,output;"),
        ("rows.csv", "pos;7;good\nneg;8;bad\npos;9;fine\n", "output;column2;input;"),
        ("rows.tsv", "a film to see again\tmixed\nbad\tnegative\ngood\tpositive\n", "input\toutput;"),
        ("rows.csv", "What is it?,question\nIt is.,statement\n", "input,output;"),
    ],
)
def test_a_first_line_that_is_a_row_is_not_taken_for_names(tmp_path: Path, name: str, content: str, line: str) -> None:
    labels = ("question", "statement") if "question" in content else MOOD.labels
    task = TaskSpec(instruction="Sort.", kind="classification", labels=labels)
    with pytest.raises(DataError, match="seems to be a row") as caught:
        read_rows(write(tmp_path, name, content), task, RetrieveConfig())
    assert content.splitlines()[0].replace("\t", " ") in caught.value.message
    assert f"as in {line}" in caught.value.hint


def test_names_that_are_not_known_are_told(tmp_path: Path) -> None:
    path = write(tmp_path, "rows.csv", "Ansicht,Urteil\ngood film,positive\nbad film,negative\n")
    read = read_rows(path, MOOD, RetrieveConfig())
    assert read.notes == (
        "None of the names in the first line is known: Ansicht,Urteil. "
        "If it is a row, add a line above it, as in input,output.",
    )
    assert read_rows(path, MOOD, RetrieveConfig(output_column="Urteil")).notes == ()
    with pytest.raises(DataError, match="not clear which columns") as caught:
        read_rows(path, OPEN, RetrieveConfig())
    assert caught.value.hint.endswith(read.notes[0])


# Values


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (3.0, "3"),
        (2.5, "2.5"),
        (7, "7"),
        (True, "true"),
        ("  spaced \n", "spaced"),
        (["", "first", "second"], "first"),
        ({"text": ["inner"]}, "inner"),
        ({"a": 1, "b": [2]}, '{"a": 1, "b": [2]}'),
    ],
)
def test_a_value_is_written_as_a_person_would(tmp_path: Path, value: Any, text: str) -> None:
    path = write(tmp_path, "rows.jsonl", [{"input": "x", "output": value}])
    assert texts(read_rows(path, OPEN, RetrieveConfig())) == [("x", text)]


@pytest.mark.parametrize(
    ("column", "output"), [("entities", "Anna, Bob, Rome"), ("answers", "Anna"), ("output", "Anna")]
)
def test_a_list_of_outputs_is_a_set_or_a_choice_by_the_name_of_its_column(tmp_path, column, output):
    content = json.dumps({"input": "Anna and Bob went to Rome.", column: ["Anna", "Bob", "Rome"]}) + "\n"
    (tmp_path / "rows.jsonl").write_text(content)
    task = TaskSpec(instruction="Name who and what is named.")
    read = read_rows(str(tmp_path / "rows.jsonl"), task, RetrieveConfig(input_column="input", output_column=column))
    assert [example.output for example in read.examples] == [output]


def test_a_number_with_a_sign_is_another_label(tmp_path):
    (tmp_path / "rows.csv").write_text("text,label\na good one,1\na bad one,0\nnobody has seen it,-1\n")
    task = TaskSpec(instruction="Is it good?", kind="classification", labels=("0", "1"))
    read = read_rows(str(tmp_path / "rows.csv"), task, RetrieveConfig())
    assert [example.output for example in read.examples] == ["1", "0"]
    assert read.dropped == {"output is none of the labels": 1}


def test_an_input_that_is_cut_into_words_is_put_together(tmp_path: Path) -> None:
    path = write(tmp_path, "rows.jsonl", [{"input": ["a", "good", "film"], "output": "x"}])
    assert texts(read_rows(path, OPEN, RetrieveConfig())) == [("a good film", "x")]


def test_what_is_dropped_is_counted_by_reason_and_the_order_is_kept(tmp_path: Path) -> None:
    rows = [
        {"text": "one", "label": "positive"},
        {"text": None, "label": "positive"},
        {"text": " ", "label": "negative"},
        {"text": "two", "label": None},
        {"text": "three", "label": "mixed"},
        {"text": "four", "label": "negative"},
        {"text": "one", "label": "positive"},
        {"text": "one", "label": "negative"},
        {"label": "negative"},
    ]
    read = read_rows(write(tmp_path, "rows.jsonl", rows), MOOD, RetrieveConfig())
    assert texts(read) == [("one", "positive"), ("four", "negative"), ("one", "negative")]
    assert [example.source.row for example in read.examples] == [0, 5, 7]
    assert read.dropped == {
        "empty input": 3,
        "empty output": 1,
        "output is none of the labels": 1,
        "same row again": 1,
    }
    assert read.notes == ("1 inputs have more than one output.",)


def test_an_empty_answer_cannot_be_taught_and_that_is_said(tmp_path: Path) -> None:
    rows = [{"input": "a", "output": ""}, {"input": "b", "output": None}, {"input": "c", "output": "d"}]
    read = read_rows(write(tmp_path, "rows.jsonl", rows), OPEN, RetrieveConfig())
    assert (texts(read), read.dropped) == ([("c", "d")], {"empty output": 2})
    assert read.notes == (
        "2 rows with an empty output were left out; to teach an empty answer, give it a word, like none.",
    )


def test_labels_are_read_in_the_tasks_spelling_and_that_is_said(tmp_path: Path) -> None:
    rows = [
        {"text": text, "label": label} for text, label in (("a", "POSITIVE "), ("b", "Negative"), ("c", "negative"))
    ]
    read = read_rows(write(tmp_path, "rows.jsonl", rows), MOOD, RetrieveConfig())
    assert [output for _, output in texts(read)] == ["positive", "negative", "negative"]
    assert read.notes == (
        "Labels are read in the task's spelling: 'POSITIVE' as 'positive', 'Negative' as 'negative'.",
    )


def test_an_abbreviated_label_is_the_only_one_that_begins_so(tmp_path: Path) -> None:
    path = write(tmp_path, "rows.csv", "text,label\ngood,pos\nbad,neg\n")
    assert texts(read_rows(path, MOOD, RetrieveConfig())) == [("good", "positive"), ("bad", "negative")]


def test_a_label_that_no_row_has_is_noted(tmp_path: Path) -> None:
    read = read_rows(write(tmp_path, "rows.csv", "text,label\ngood,positive\n"), MOOD, RetrieveConfig())
    assert read.notes == ("No row has the label 'negative'.",)


def test_numbers_of_labels_become_names_where_the_file_says_them(tmp_path: Path) -> None:
    rows = {"text": ["good", "bad", "hidden"], "label": [1, 0, -1]}
    content = parquet(rows, labels={"label": ["negative", "positive"]})
    read = read_rows(write(tmp_path, "rows.parquet", content), MOOD, RetrieveConfig())
    assert texts(read) == [("good", "positive"), ("bad", "negative")]
    assert read.dropped == {"empty output": 1}


@pytest.mark.parametrize(
    ("content", "found", "hint"),
    [
        ("text,label\na b,0\nc d,1\n", "Found: 0, 1. Labels: positive, negative", "numbers of labels"),
        ("text,label\na b,joy\nc d,anger\n", "Found: joy, anger. Labels: positive, negative", "retrieve.output_column"),
    ],
)
def test_labels_that_do_not_fit_are_shown_beside_the_tasks(tmp_path: Path, content: str, found: str, hint: str) -> None:
    with pytest.raises(DataError) as caught:
        read_rows(write(tmp_path, "rows.csv", content), MOOD, RetrieveConfig())
    assert found in caught.value.message
    assert hint in caught.value.hint


def test_a_file_sorted_by_label_gives_rows_of_all_labels(tmp_path: Path) -> None:
    rows = [{"text": f"text {n}", "label": "positive" if n < 50 else "negative"} for n in range(100)]
    read = read_rows(write(tmp_path, "rows.jsonl", rows), MOOD, RetrieveConfig(max_rows=10))
    assert [example.source.row for example in read.examples] == list(range(0, 100, 10))
    assert read.notes == ("The first 10 rows lack a label; 10 were taken evenly from the first 100.",)


def test_a_label_that_is_nowhere_leaves_the_first_rows(tmp_path: Path) -> None:
    rows = [{"text": f"text {n}", "label": "positive"} for n in range(100)]
    read = read_rows(write(tmp_path, "rows.jsonl", rows), MOOD, RetrieveConfig(max_rows=10))
    assert [example.source.row for example in read.examples] == list(range(10))
    assert read.notes == ("No row has the label 'negative'.",)


# What goes wrong


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("rows.csv", "", "is empty"),
        ("rows.csv", " \n\n", "is empty"),
        ("rows.csv", "input,output\n", "has no rows"),
        ("rows.csv", "input,output\na,b\nc,d,e\n", "Line 3 of rows.csv has 3 cells; the first line names 2"),
        ("rows.csv", 'input,output\na,b\n"open,d\n', "cannot be read beyond line 3: unexpected end of data"),
        ("rows.csv", 'input,output\n"open,d\n' + "x,y\n" * 50_000, "beyond line 50002: unexpected end of data"),
        ("rows.csv", "input,input\na,b\n", "does not name the columns"),
        ("rows.csv", "input,\na,b\n", 'line 2 has b, does not name the columns: ["input", ""]'),
        ("rows.csv", ",\na,b\n", "does not name the columns"),
        ("rows.csv", "input,output\na\rb,c\n", "beyond line 2: new-line character seen in unquoted field."),
        ("rows.csv", "input,output\nä,b\n".encode("latin-1"), "Line 2 of rows.csv is not UTF-8 text: byte 0xe4"),
        ("rows.csv", b"PK\x03\x04 a workbook", "is a zip archive"),
        ("rows.csv", b"input\0output", "is not text"),
        ("rows.csv", b"PAR1....", "is a Parquet file"),
        ("rows.csv.gz", gzip.compress(b"input,output\na,b\n" * 100, mtime=0)[:-20], "is damaged"),
        ("rows.xlsx", "input,output\na,b\n", "ends in .xlsx, which is not a format of rows"),
        ("rows", "input,output\na,b\n", "ends in no suffix"),
        ("rows.jsonl", '{"input": "a", "output": "b"}\n{"input": "a"', "Line 2 of rows.jsonl is not JSON"),
        ("rows.jsonl", '{"input": "a", "output": "b"', "Line 1 of rows.jsonl is not JSON"),
        ("rows.jsonl", "input,output\na,b\n", "is not JSON; it begins with input,output"),
        ("rows.jsonl", '{"input": "a", "output": "b"}\n[1]\n', "Line 2 of rows.jsonl is not a row"),
        ("rows.jsonl", '{"input": ' + "9" * 5000 + ', "output": "b"}\n', "cannot be read"),
        ("rows.json", '[\n{"input": "a", "output": "b"},\n{"input": }\n]', "Line 3 of rows.json is not JSON"),
        ("rows.json", '[{"input": "a", "output": "b"}', "Line 1 of rows.json is not JSON"),
        ("rows.json", "[[1, 2], [3, 4]]", "An entry on line 1 of rows.json is not a row"),
        ("rows.json", "[]", "has no rows"),
        ("rows.json", "[" * 100_000, "cannot be read"),
        ("rows.json", '{\n"input": "a",\n"output": "b"\n}', "is one object without a list of rows"),
        ("rows.json", '{"input": ["a", "b"], "output": ["c"]}', "'input' has 2, 'output' has 1"),
        ("rows.json", '{"input": [], "output": []}', "None of the 1 rows"),
        ("rows.json", '{\n"data": [\n{"a" 1}\n]}', "Line 3 of rows.json is not JSON"),
        ("rows.json", '"text"', "is not JSON; it begins with"),
        ("rows.parquet", b"input,output\na,b\n", "is not Parquet"),
        ("rows.parquet", parquet({"input": [], "output": []}), "has no rows"),
        ("rows.jsonl", [{"input": "", "output": "b"}, {"input": "a", "output": ""}], "None of the 2 rows"),
        ("rows.jsonl", [{"messages": [{"role": "user", "content": "Hello"}]}], "None of the 1 rows"),
    ],
)
def test_a_file_that_cannot_be_read_is_told_with_the_place_and_the_cure(
    tmp_path: Path, name: str, content: str | bytes | list[dict[str, Any]], message: str
) -> None:
    with pytest.raises(DataError) as caught:
        read_rows(write(tmp_path, name, content), OPEN, RetrieveConfig())
    assert message in caught.value.message
    assert caught.value.hint


def test_a_missing_file_is_answered_with_near_names(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(tmp_path, "reviews.csv", "")
    with pytest.raises(DataError, match="There is no file") as caught:
        read_rows(str(tmp_path / "review.csv"), OPEN, RetrieveConfig())
    assert f"Did you mean {tmp_path / 'reviews.csv'}?" in caught.value.hint
    monkeypatch.chdir(tmp_path)
    with pytest.raises(DataError, match=r"There is no file reviws\.csv") as caught:
        read_rows("reviws.csv", OPEN, RetrieveConfig())
    assert "Did you mean reviews.csv?" in caught.value.hint


def test_a_folder_is_answered_with_the_files_in_it(tmp_path: Path) -> None:
    write(tmp_path, "a.csv", "")
    write(tmp_path, "b.jsonl.gz", "")
    write(tmp_path, "notes.md", "")
    with pytest.raises(DataError, match="is a folder") as caught:
        read_rows(str(tmp_path), OPEN, RetrieveConfig())
    assert caught.value.hint == "Name a file in it: a.csv, b.jsonl.gz"


# The Hub


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch, use_hub: Callable[[str], None]) -> Iterator[Hub]:
    with serve() as running:
        use_hub(running.url)
        monkeypatch.setenv("HF_ENDPOINT", running.url)
        yield running


def dataset(id: str, files: dict[str, bytes], revision: str = MAIN, *, gated: bool = False, **info: Any) -> Repo:
    return Repo(id, "datasets", info=info, files={MAIN: {"README.md": b"#"}, revision: files}, gated=gated)


def test_a_data_set_of_the_hub_is_read_with_its_label_names_and_licence(server: Hub) -> None:
    rows = {"text": ["good", "bad"], "label": [1, 0]}
    content = parquet(rows, labels={"label": ["negative", "positive"]})
    server.add(dataset("a/moods", {"en/train/0000.parquet": content}, CONVERTED, cardData={"license": "mit"}))
    read = read_rows("a/moods:en@train", MOOD, RetrieveConfig())
    assert texts(read) == [("good", "positive"), ("bad", "negative")]
    assert read.columns == {"input": "text", "output": "label"}
    assert read.licence == "mit"
    assert read.examples[0].source.name == "a/moods:en@train"
    assert texts(read_rows("a/moods", MOOD, RetrieveConfig())) == texts(read)


def test_several_files_are_read_in_order_until_there_are_rows_enough(server: Hub) -> None:
    files = {f"train-{n}.csv": f"text,label\na{n},0\nb{n},1\n".encode() for n in range(3)}
    names = [{"name": "label", "dtype": {"class_label": {"names": {"0": "negative", "1": "positive"}}}}]
    server.add(dataset("a/moods", files, cardData={"dataset_info": {"features": names}}))
    server.moved["moods"] = "a/moods"
    read = read_rows("moods", MOOD, RetrieveConfig(max_rows=3))
    assert texts(read) == [("a0", "negative"), ("b0", "positive"), ("a1", "negative")]
    assert [example.source.row for example in read.examples] == [0, 1, 2]
    assert read.examples[0].source.name == "a/moods:default@train"
    assert not any("train-2.csv" in asked for asked in server.asked if "resolve" in asked)


def test_of_a_long_data_set_only_what_is_needed_is_downloaded(server: Hub) -> None:
    line = json.dumps({"input": "x" * 1000, "output": "y"}).encode() + b"\n"
    lines = b"".join(line.replace(b"y", str(n).encode()) for n in range(10_000))
    server.add(dataset("a/long", {"train.jsonl": lines}))
    assert len(read_rows("a/long", OPEN, RetrieveConfig(max_rows=50)).examples) == 50
    assert server.sent_bytes < len(lines) / 3


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("train.parquet", parquet({"input": ["x" * 50_000], "output": ["y"]}, compression="none"), "download of 50."),
        ("train.jsonl", b'{"input": "' + b"x" * 50_000 + b'", "output": "y"}\n', "are larger"),
    ],
)
def test_rows_that_are_too_large_are_refused_with_the_size(
    server: Hub, name: str, content: bytes, message: str
) -> None:
    server.add(dataset("a/large", {name: content}))
    with pytest.raises(DataError, match=message) as caught:
        read_rows("a/large", OPEN, RetrieveConfig(max_download_bytes=10_000))
    assert "no more than 10 kB" in caught.value.message
    assert "retrieve.max_download_bytes" in caught.value.hint


def test_a_gated_data_set_is_read_with_the_key_of_someone_who_may(server: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    server.add(dataset("a/secret", {"train.csv": b"text,label\ngood,positive\nbad,negative\n"}, gated=True))
    with pytest.raises(HubError, match="is gated"):
        read_rows("a/secret", MOOD, RetrieveConfig())
    monkeypatch.setenv("HF_TOKEN", TOKEN)
    assert len(read_rows("a/secret", MOOD, RetrieveConfig()).examples) == 2


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("a/nothing", "no repository 'a/nothing'"),
        ("a/moods:fr", "no configuration 'fr'"),
        ("a/moods@dev", "no split 'dev'"),
        ("a/moods/train.csv", "There is no file"),
        ("what is this", "There is no file"),
        ("https://example.com/rows.csv", "There is no file"),
    ],
)
def test_a_source_that_is_not_there_is_told_as_what_it_looks_like(server: Hub, source: str, message: str) -> None:
    server.add(dataset("a/moods", {"train.csv": b"text,label\ngood,positive\n"}))
    with pytest.raises(Prompt2ModelError) as caught:
        read_rows(source, MOOD, RetrieveConfig())
    assert message in caught.value.message
    assert caught.value.hint


def test_the_hub_is_not_asked_when_it_is_off(server: Hub) -> None:
    with pytest.raises(HubError, match="the Hub is not asked"):
        read_rows("a/moods", MOOD, RetrieveConfig(hub="off"))
    assert server.asked == []


def test_a_column_of_reasons_is_read_as_rationale_and_each_reason_is_a_row(tmp_path):
    file = tmp_path / "reasons.csv"
    file.write_text("input,output,rationale\n1+1,2,one and one\n1+1,2,a pair\n1+1,2,a pair\n2+2,4,\n")
    found = read_rows(str(file), TaskSpec(instruction="Add."), RetrieveConfig())
    assert [row.rationale for row in found.examples] == ["one and one", "a pair", None]
    assert found.columns == {"input": "input", "output": "output", "rationale": "rationale"}
    assert found.dropped == {"same row again": 1}


def test_outputs_that_look_like_labels_are_told_to_who_named_none(tmp_path) -> None:
    rows = [{"input": f"text {n}", "output": ('is "so"', "it's not")[n % 2]} for n in range(40)]
    (note,) = read_rows(write(tmp_path, "a.jsonl", rows), OPEN, RetrieveConfig()).notes
    assert note.startswith("All outputs are among 2 texts.")
    assert load_config(None, [shlex.split(note)[-1]]).parse.labels == ('is "so"', "it's not")
    for other in (rows[:10], [{**row, "output": f"{n % 7} is what it comes to here"} for n, row in enumerate(rows)]):
        assert read_rows(write(tmp_path, "b.jsonl", other), OPEN, RetrieveConfig()).notes == ()


def test_what_a_teacher_wrote_is_no_persons_when_it_is_given_back(tmp_path: Path) -> None:
    own = Example(input="fine", output="positive", source=Source(kind="teacher", name="m", strategy="label_first"))
    edited = own.model_copy(update={"input": "dull", "output": "negative"}).model_dump(mode="json") | {"note": "mine"}
    lines = [
        own.model_dump_json(),
        json.dumps(edited),
        json.dumps({"input": "so so", "output": "negative", "source": "me"}),
    ]
    lines.append(json.dumps({"input": "hm", "output": "negative", "source": {"kind": "teacher", "name": "m"}}))
    source = write(tmp_path, "rows.jsonl", "\n".join(lines))
    found = read_rows(source, MOOD, RetrieveConfig(input_column="input", output_column="output"))
    assert [(one.input, one.is_real) for one in found.examples] == [
        ("fine", False),
        ("dull", False),
        ("so so", True),
        ("hm", False),
    ]
    assert found.examples[0].source == own.source
    assert any(note.startswith("3 rows say that a teacher wrote them") for note in found.notes)
