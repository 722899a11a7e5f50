"""Each bad input ends with a message and a hint on standard error, exit code 1, and no traceback."""

import json
import os
from collections.abc import Callable
from pathlib import Path

import pytest
from chat_server import serve
from command import Caller, Said, quick, write_script

TASK = "Classify a film as positive or negative."


@pytest.fixture
def call(capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Caller:
    return Caller(capfd, monkeypatch)


@pytest.fixture
def build(call: Caller, tiny_decoder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Said]:
    """`build(description, *more)` in a folder of its own; without what is wrong, it would end in a model."""
    monkeypatch.chdir(tmp_path)
    options = quick(tiny_decoder, write_script(tmp_path / "answers.jsonl"))

    def run(description: object, *more: object, stdin: str | bytes = "") -> Said:
        return call("build", description, "--out", tmp_path / "run", *options, *more, stdin=stdin)

    return run


def check(said: Said, message: str, hint: str = "") -> None:
    lines = said.err.splitlines()
    assert said.code == 1, said.err
    assert said.out == ""
    assert "Traceback" not in said.err
    errors = [number for number, line in enumerate(lines) if line.startswith("Error: ")]
    assert len(errors) == 1, said.err
    told = "\n".join(lines[errors[0] :])
    assert message in told
    assert hint in told.partition("\nHint: ")[2]
    assert told.partition("\nHint: ")[2], "no hint"


# The description


@pytest.mark.parametrize(
    ("description", "message", "hint"),
    [
        ("", "The description is empty.", "Say in a sentence"),
        (" \n\t ", "The description is empty.", "Say in a sentence"),
        ("nowhere.md", "There is no file nowhere.md.", "Check the path"),
        (f"{TASK}\n\nInput: a fine film\nOutput:\n", "Example 1 has no output", "take the example out"),
        (f"{TASK}\n\na fine film -> positive\na fine film -> negative\n", "different outputs", "Keep the right one."),
        (f"{TASK}\n\na fine film -> positive\na long film -> middling\n", "none of the labels", "Correct the example"),
        ("x" * 200_000, "too long", "parse.max_characters"),
        ("\0\0\0", "is not text", "UTF-8"),
    ],
    ids=["empty", "blank", "no file", "half an example", "contradiction", "no label", "200 kB", "binary"],
)
def test_a_description_that_cannot_be_used(build, description, message, hint):
    check(build(description), message, hint)


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("empty.md", b"", "The description is empty."),
        ("task.md", os.urandom(4000) + b"\0\xff", "is not text"),
        ("task.txt", b"a sentence. " * 50_000, "too long"),
    ],
    ids=["empty", "binary", "600 kB"],
)
def test_a_file_that_is_no_description(build, tmp_path, name, content, message):
    (tmp_path / name).write_bytes(content)
    check(build(tmp_path / name), message)


@pytest.mark.parametrize(("stdin", "message"), [("", "is empty"), (b"\xff\xff\x00", "not text")])
def test_a_standard_input_that_is_no_description(build, stdin, message):
    check(build("-", stdin=stdin), message)


def test_a_folder_is_no_description(build, tmp_path):
    (tmp_path / "task.md").mkdir()
    check(build(tmp_path / "task.md"), "cannot be read")


# Rows


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("rows.csv", 'text,label\n"a film,positive\n', "rows.csv"),
        ("rows.csv", "number,price\n1,2.5\n2,3.5\n", "rows.csv"),
        ("rows.csv", "text,label\na fine film,7\na sad end,8\n", "label"),
        ("rows.csv", "", "rows.csv"),
        ("rows.csv", "text,label\n", "rows.csv"),
        ("rows.jsonl", '{"input": "a"}\n{"input": \n', "rows.jsonl"),
        ("rows.jsonl", "", "rows.jsonl"),
        ("rows.parquet", "this is no parquet", "rows.parquet"),
        ("rows.txt", "a fine film", "rows.txt"),
    ],
    ids=[
        "broken CSV",
        "wrong columns",
        "labels that do not fit",
        "empty CSV",
        "CSV of a header",
        "broken JSONL",
        "empty JSONL",
        "no Parquet",
        "another format",
    ],
)
@pytest.mark.parametrize("flag", ["--data", "--test-data"])
def test_rows_that_cannot_be_read(build, tmp_path, flag, name, content, message):
    (tmp_path / name).write_text(content)
    check(build(TASK, flag, tmp_path / name), message)


def test_a_file_of_rows_that_is_not_there(build, tmp_path):
    (tmp_path / "rows.csv").write_text("text,label\n")
    check(build(TASK, "--data", tmp_path / "row.csv"), "There is no file", "Did you mean")


# Names and settings


@pytest.mark.parametrize(
    ("more", "message", "hint"),
    [
        (("--method", "seqdk"), "There is no method named 'seqdk'.", "Did you mean seqkd"),
        (("--teacher", "opnai:gpt"), "There is no teacher named 'opnai'.", "Did you mean openai?"),
        (("--teacher", "gpt"), "'gpt' does not name a teacher.", "Kinds"),
        (("--teacher", "scripted:nowhere.jsonl"), "nowhere.jsonl", "--teacher scripted:"),
        (("--teacher", "http://me:pass@localhost/v1#m"), "password", "OPENAI_API_KEY"),
        (("--teacher", "openai:gpt-5-mini"), "OPENAI_API_KEY is not set", "export OPENAI_API_KEY"),
        (("--set", "parse.metric=acuracy"), "There is no metric named 'acuracy'.", "accuracy"),
        (("--set", "evaluate.metrics=rouge_l"), "does not fit a classification", "accuracy"),
        (("--set", "generate.filters=nvelty"), "There is no filter named 'nvelty'.", "Did you mean novelty?"),
        (("--set", "generate.strategies=lable_first"), "There is no strategy", "Did you mean label_first"),
        (("--set", "export.formats=gguff"), "There is no exporter", "safetensors"),
        (
            ("--set", "generate.cuont=3"),
            "There is no setting generate.cuont. Did you mean count?",
            "prompt2model config",
        ),
        (("--set", "train.batch_rows=many"), "train.batch_rows is 'many'", "prompt2model config"),
        (("--set", "train.epochs"), "not of the form", "prompt2model config"),
        (("--set", "train.options.beta=1"), "train.options", "seqkd"),
        (("--count", "-3"), "generate.count is -3", "prompt2model config"),
        (("--count", "some"), "Invalid value for '--count'", "prompt2model build --help"),
        (("--budget", "-1"), "budget_usd is -1", "prompt2model config"),
        (("--epochs", "0"), "train.epochs is 0", "prompt2model config"),
        (("--config", "nowhere.toml"), "nowhere.toml cannot be read", "prompt2model config --toml"),
        (("--base", "someone/unknown-model"), "someone/unknown-model cannot be had", "Connect to the Hub"),
        (("--base", "smolm2-135m"), "There is no base model 'smolm2-135m'", "Did you mean SmolLM2-135M"),
        (("--no-such-option",), "No such option", "prompt2model build --help"),
        (("and another",), "unexpected extra argument", "prompt2model build --help"),
    ],
)
def test_a_name_or_a_setting_that_does_not_exist(build, more, message, hint):
    check(build(TASK, *more), message, hint)


def test_a_base_that_is_no_model(build, tmp_path):
    (tmp_path / "empty").mkdir()
    check(build(TASK, "--base", tmp_path / "empty"), "no config.json")


def test_a_white_box_teacher_with_other_tokens_is_told_before_anything_is_written(
    build, tmp_path, tiny_encoder_decoder
):
    more = ("--method", "word_kd", "--teacher", f"transformers:{tiny_encoder_decoder}", "--count", "4")
    check(build(TASK, *more), "has another tokenizer", "Take a teacher of the same family")
    assert not (tmp_path / "run" / "generate.json").exists()


@pytest.mark.parametrize("content", ["epochs == 2", "[train\n", "\x00"])
def test_a_settings_file_that_is_no_toml(build, tmp_path, content):
    (tmp_path / "run.toml").write_text(content)
    check(build(TASK, "--config", tmp_path / "run.toml"), "is not TOML")


def test_all_wrong_settings_are_told_at_once(build):
    said = build(TASK, "--set", "generate.cuont=3", "--set", "train.batch_rows=0", "--budget", "-1")
    check(said, "There is no setting generate.cuont.")
    assert "train.batch_rows is 0" in said.err
    assert "budget_usd is -1" in said.err


@pytest.mark.parametrize("command", [["bulid"], ["bulid", "something"], ["modles", TASK], ["hello"]])
def test_a_command_that_does_not_exist(call, command):
    check(call(*command), f"There is no command '{command[0]}'", "prompt2model")


def test_a_command_without_its_argument(call):
    check(call("predict"), "Missing argument 'RUN'", "prompt2model predict --help")


# Folders


def test_an_out_folder_that_is_a_file(build, tmp_path):
    (tmp_path / "run").write_text("")
    check(build(TASK), "cannot be written", "--out")


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_an_out_folder_that_may_not_be_written(call, tmp_path):
    (tmp_path / "locked").mkdir(mode=0o500)
    check(call("build", TASK, "--out", tmp_path / "locked" / "run"), "cannot be written", "--out")


@pytest.mark.parametrize("command", ["predict", "evaluate", "report", "export", "train"])
def test_a_folder_that_is_no_run(call, tmp_path, command):
    more = ["--out", tmp_path / "out"] if command == "export" else []
    check(call(command, tmp_path, *more), str(tmp_path))


@pytest.mark.parametrize("command", ["predict", "evaluate", "report", "export"])
def test_a_run_that_is_not_finished(build, call, tmp_path, command):
    check(build(TASK, "--set", "train.max_length=8"), "train.max_length")
    more = ["--out", tmp_path / "out"] if command == "export" else []
    check(call(command, tmp_path / "run", *more), str(tmp_path / "run"), "--out")


def test_a_run_whose_file_is_damaged(build, call, tmp_path):
    check(build(TASK, "--set", "train.max_length=8"), "train.max_length")
    (tmp_path / "run" / "split.json").write_text("{")
    check(call("train", tmp_path / "run"), "split.json cannot be read", "delete split.json")


def test_rows_cannot_be_written_where_there_is_no_folder(call, tmp_path):
    teacher = write_script(tmp_path / "answers.jsonl")
    check(call("generate", TASK, "--teacher", teacher, "--out", tmp_path / "no" / "rows.jsonl"), "cannot be written")


# Inputs


@pytest.fixture
def exported(tiny_decoder, tmp_path) -> Path:
    """A model as `predict` takes it."""
    folder = tmp_path / "model"
    folder.mkdir()
    task = {"instruction": TASK, "kind": "classification", "labels": ["positive", "negative"], "metric": "accuracy"}
    (folder / "task.json").write_text(json.dumps(task))
    return folder


@pytest.mark.parametrize("texts", [[], [""], ["  ", "\n"]])
def test_nothing_to_predict(call, exported, texts):
    check(call("predict", exported, *texts), "There is no input.", "--file")


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("inputs.txt", b"\n\n", "There is no input."),
        ("inputs.txt", b"\xff\xfe\xff", "is not UTF-8 text"),
        ("inputs.jsonl", b'{"text": "a", "id": 1}', "not clear which column"),
        ("inputs.jsonl", b'{"input": "a"}\n{"text": "b"}', "There is no 'input' in row 2 of"),
        ("inputs.jsonl", b'{"input": "a"}\nplain', "Line 2 of"),
        ("inputs.jsonl", b'{"input": 3}', "is no text"),
        ("inputs.jsonl", b"[1]", "An entry on line 1 of"),
        ("inputs.csv", b"text,label\na,b\n", "not clear which column"),
        ("inputs.csv", b"I liked the film\nIt was sad\n", "seems to be a row"),
        ("inputs.csv", b"nice\nsad\nnice\n", "seems to be a row"),
    ],
)
def test_inputs_that_cannot_be_read(call, exported, tmp_path, name, content, message):
    (tmp_path / name).write_bytes(content)
    check(call("predict", exported, "--file", tmp_path / name), message)


def test_a_file_of_inputs_that_is_not_there(call, exported, tmp_path):
    check(call("predict", exported, "--file", tmp_path / "inputs.txt"), "cannot be read", "Check the path.")


def test_a_model_whose_weights_are_gone(call, exported):
    check(call("predict", exported, "a fine film"), "config.json")


# Teachers


@pytest.mark.parametrize(
    ("mode", "message", "hint"),
    [
        ("401", "Incorrect API key", "OPENAI_API_KEY"),
        ("403", "not for you", "may not use this model"),
        ("404", "no such model", "Did you mean m?"),
        ("429 for a day", "come back tomorrow", "goes on from here"),
        ("429 no credit", "no quota", "Add credit"),
        ("a page", "does not answer", "The server is up: what it said stands above"),
    ],
)
def test_a_teacher_that_does_not_answer(build, monkeypatch, mode, message, hint):
    monkeypatch.setenv("OPENAI_API_KEY", "sk-secret-of-mine")
    with serve(mode) as server:
        said = build(TASK, "--teacher", f"{server.url}#m", "--set", "generate.round_size=8")
    check(said, message, hint)
    assert "sk-secret-of-mine" not in said.err


HASTY = ("--set", "teacher_options.first_pause_seconds=0.02")
"""Pauses between attempts that a test can wait for."""


@pytest.mark.slow
def test_a_teacher_that_answers_429_for_ever(build):
    with serve("429") as server:
        said = build(TASK, "--teacher", f"{server.url}#m", *HASTY)
    check(said, "does not answer", "goes on from here")


@pytest.mark.slow
def test_a_server_where_nobody_listens(build):
    check(build(TASK, "--teacher", "http://127.0.0.1:9/v1#m", *HASTY), "does not answer", "Is the server up?")


def test_a_paid_teacher_that_nobody_has_agreed_to(build, monkeypatch):
    monkeypatch.setenv("OPENAI_API_KEY", "sk-secret-of-mine")
    check(build(TASK, "--teacher", "openai:gpt-5-mini"), "costs money", "--yes")


def test_a_method_that_learns_from_rationales_where_there_are_none(build):
    check(build(TASK, "--method", "chain_of_thought"), "no row has one", "generate.rationales=3")


def test_a_budget_for_a_teacher_of_unknown_price(build):
    with serve("ok") as server:
        said = build(TASK, "--teacher", f"{server.url}#m", "--budget", "1")
    check(said, "A budget cannot be kept", "prices.toml")


def test_a_script_that_runs_dry(build, tmp_path):
    (tmp_path / "few.jsonl").write_text('"one"\n"two"\n')
    check(build(TASK, "--teacher", f"scripted:{tmp_path / 'few.jsonl'}"), "no answer left")


def test_a_teacher_that_writes_nothing_useful(build, tmp_path):
    (tmp_path / "same.jsonl").write_text('{"contains": "", "text": ""}\n' + '""\n' * 300)
    check(build(TASK, "--teacher", f"scripted:{tmp_path / 'same.jsonl'}"), "none could be used", "stronger --teacher")
