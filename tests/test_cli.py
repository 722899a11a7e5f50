"""The command line: what goes to standard output, what to standard error, and what the exit code is."""

import json
import os
import pty
import re
import shlex
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import pytest
from chat_server import serve
from command import Caller, Said, quick, sentences, write_script

from prompt2model import registry, store
from prompt2model.accounts import Entry, add, entries, total
from prompt2model.book import OWN, SHARED, Book
from prompt2model.cli import COMMANDS, routed, run
from prompt2model.cli.consent import accept_cost
from prompt2model.cli.screen import Screen
from prompt2model.cli.telling import accounting
from prompt2model.config import load_config
from prompt2model.errors import BudgetExceeded, ConfigError
from prompt2model.marks import FILE, Mark, add_marks, read_marks
from prompt2model.plans import Step
from prompt2model.records import Example, Report, Spent, TaskSpec
from prompt2model.run import Run

TASK = "Classify a film as positive or negative."
STAGES = ("parse", "retrieve", "generate", "split", "train", "evaluate", "export")
COMMAND = [sys.executable, "-m", "prompt2model"]


@pytest.fixture
def call(capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Caller:
    return Caller(capfd, monkeypatch)


@pytest.fixture(scope="module")
def built(tiny_decoder: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[str]]:
    """A finished run that tests may look at but not change, and the command that made it."""
    folder = tmp_path_factory.mktemp("built")
    command = [
        "build",
        TASK,
        "--out",
        str(folder / "run"),
        *quick(tiny_decoder, write_script(folder / "answers.jsonl")),
    ]
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PROMPT2MODEL_HOME", str(folder / "home"))
        assert run([*command, "--quiet", "--json"]) == 0
    return folder / "run", command


@pytest.fixture
def copy(built: tuple[Path, list[str]], tmp_path: Path) -> Path:
    """The finished run, to be changed."""
    return Path(shutil.copytree(built[0], tmp_path / "copy"))


# From a sentence to a model


def test_a_sentence_becomes_a_model_and_every_stage_is_told(call: Caller, tiny_decoder: Path, tmp_path: Path):
    options = quick(tiny_decoder, write_script(tmp_path / "answers.jsonl"))
    said = call(TASK, "--out", tmp_path / "run", *options)
    assert said.code == 0
    told = [line.split()[0] for line in said.err.splitlines() if line.split()[:1] and line.split()[0] in STAGES]
    assert told == list(STAGES)
    assert "labels positive, negative" in said.err
    for part in ("majority", "base", "student", "model", "report.html"):
        assert part in said.out
    assert f"prompt2model predict {tmp_path / 'run'}" in said.err
    assert (tmp_path / "run" / "model" / "model.safetensors").is_file()
    assert (tmp_path / "run" / "report.html").is_file()


def test_the_same_command_again_makes_nothing_anew(built, call: Caller):
    folder, command = built
    before = {path: path.stat().st_mtime_ns for path in folder.glob("*.json")}
    assert call(*command).code == 0
    assert {path: path.stat().st_mtime_ns for path in folder.glob("*.json")} == before


def test_json_is_one_document_on_standard_output(built, call: Caller):
    summary = call(*built[1], "--json").json()
    assert summary["folder"] == str(built[0])
    assert summary["rows"] == {"train": 42, "validation": 9, "test": 9}
    assert [one["who"] for one in summary["measured"]] == ["majority", "base", "student"]


def test_quiet_leaves_standard_error_empty(built, call: Caller):
    said = call(*built[1], "--quiet")
    assert (said.code, said.err) == (0, "")
    assert "student" in said.out


def test_the_settings_of_a_run_are_kept_in_it(built, call: Caller):
    said = call("config", "--config", built[0] / "settings.toml", "--json").json()
    assert (said["generate"]["count"], said["train"]["epochs"]) == (60, 1.0)


def test_a_description_comes_from_a_file_or_from_standard_input(call: Caller, tmp_path: Path):
    (tmp_path / "task.md").write_text(f"{TASK}\n\nthe end is sad -> negative\nthe music is fine -> positive\n")
    from_file = call("parse", tmp_path / "task.md", "--json")
    piped = call("parse", "-", "--json", stdin=(tmp_path / "task.md").read_text())
    assert from_file.out == piped.out
    task = TaskSpec.model_validate_json(piped.out)
    assert (task.labels, len(task.examples)) == (("positive", "negative"), 2)


# Where the arguments go


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        ([TASK], ["build", TASK]),
        ([TASK, "--count", "5"], ["build", TASK, "--count", "5"]),
        (["--yes", TASK], ["build", "--yes", TASK]),
        (["-"], ["build", "-"]),
        ([""], ["build", ""]),
        (["task.md"], ["build", "task.md"]),
        (["把英文翻译成中文。"], ["build", "把英文翻译成中文。"]),
        (["build", "bulid"], ["build", "bulid"]),
        (["--help"], ["--help"]),
        (["--version"], ["--version"]),
        ([], []),
    ],
)
def test_a_first_argument_that_is_no_command_goes_to_build(arguments, expected):
    assert routed(arguments) == expected


def test_a_file_named_by_one_word_is_a_description(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "task").write_text(TASK)
    assert routed(["task"]) == ["build", "task"]


@pytest.mark.parametrize("arguments", [["--version"], ["version"]])
def test_the_version_is_printed(call: Caller, arguments):
    assert call(*arguments).out.startswith("prompt2model 1.")


def test_without_arguments_the_help_is_printed(call: Caller):
    said = call()
    assert said.code == 0
    assert all(command in said.out for command in COMMANDS)


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_explains_itself(call: Caller, command: str):
    said = call(command, "--help")
    assert said.code == 0
    assert f"prompt2model {command}" in said.out


# A student, asked


def test_a_student_answers_texts_in_their_order(built, call: Caller):
    said = call("predict", built[0], "a fine film", "a sad end")
    assert said.code == 0
    assert len(said.out.splitlines()) == 2
    assert set(said.out.splitlines()) <= {"positive", "negative"}


def test_an_answer_as_json_has_input_output_and_probability(built, call: Caller):
    said = call("predict", built[0], "a fine film", "--json", "--quiet")
    row = json.loads(said.out)
    assert list(row) == ["input", "output", "probability"]
    assert row["input"] == "a fine film"
    assert 0.5 <= row["probability"] <= 1


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("inputs.txt", "a fine film\na sad end\n"),
        ("inputs.txt", "a fine film\r\na sad end"),
        ("inputs.jsonl", '{"input": "a fine film", "id": 1}\n\n{"input": "a sad end"}\n'),
        ("inputs.txt", '{"input": "a fine film"}\n{"input": "a sad end"}\n'),
    ],
)
def test_inputs_come_from_files_of_lines_or_rows_and_from_standard_input(built, call: Caller, tmp_path, name, content):
    (tmp_path / name).write_bytes(content.encode())
    from_file = call("predict", built[0], "--file", tmp_path / name, "--json")
    assert [json.loads(line)["input"] for line in from_file.out.splitlines()] == ["a fine film", "a sad end"]
    assert call("predict", built[0], "--json", stdin=content).out == from_file.out


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("inputs.csv", "input,id\na fine film,1\na sad end,2\n"),
        ("inputs.csv", ",Satz\n0,a fine film\n1,a sad end\n"),
        ("inputs.json", '[{"input": "a fine film"},\n{"input": "a sad end"}]'),
        ("inputs.json", '{"text": ["a fine film", "a sad end"]}'),
    ],
)
def test_inputs_come_from_tables(built, call: Caller, tmp_path, name, content):
    (tmp_path / name).write_text(content)
    said = call("predict", built[0], "--file", tmp_path / name, "--json")
    assert [json.loads(line)["input"] for line in said.out.splitlines()] == ["a fine film", "a sad end"]
    assert ("A column without a name" in said.err) == content.startswith(",")


def test_every_input_has_its_line_and_the_empty_ones_are_counted(built, call: Caller, tmp_path):
    (tmp_path / "inputs.txt").write_bytes("a fine film\n\n \r\na\u2028sad\x85end\n\n".encode())
    said = call("predict", built[0], "--file", tmp_path / "inputs.txt")
    assert [bool(line) for line in said.out.split("\n")] == [True, False, False, True, False, False]
    assert said.err.count("3 inputs are empty, and so are their answers.") == 1
    piped = {"stdin": (tmp_path / "inputs.txt").read_bytes()}
    rows = call("predict", built[0], "-", "--json", **piped).out.split("\n")[:-1]
    assert call("predict", built[0], "--file", "-", "--json", **piped).out.split("\n")[:-1] == rows
    assert [json.loads(row)["input"] for row in rows] == ["a fine film", "", " ", "a\u2028sad\x85end", ""]
    assert json.loads(rows[1]) == {"input": "", "output": "", "probability": None}
    assert call("predict", built[0], "a fine film", "", "a sad end").out.count("\n") == 3


def test_what_else_a_row_holds_is_in_its_answer(built, call: Caller, tmp_path):
    row = {"id": 7, "input": "a fine film", "output": "mine", "probability": 2, "tags": ["x"]}
    (tmp_path / "inputs.jsonl").write_text(f'{json.dumps(row)}\n{{"input": null, "id": 8}}\n')
    said = call("predict", built[0], "--file", tmp_path / "inputs.jsonl", "--json")
    first, second = map(json.loads, said.out.splitlines())
    assert first["output"] in ("positive", "negative")
    assert (list(first), first["id"], first["tags"]) == (["input", "output", "probability", "id", "tags"], 7, ["x"])
    assert first["probability"] <= 1
    assert second == {"input": "", "output": "", "probability": None, "id": 8}


def test_an_exported_model_answers_as_the_run_does(built, call: Caller, tmp_path: Path):
    said = call("export", built[0], "--out", tmp_path / "mine")
    assert (said.code, said.out.strip()) == (0, str(tmp_path / "mine"))
    asked = [*sentences(5, seed=9), "--json"]
    assert call("predict", tmp_path / "mine", *asked).out == call("predict", built[0], *asked).out


# Stages alone


def test_a_report_is_shown_as_a_table_as_markdown_and_as_json(built, call: Caller):
    table = call("report", built[0])
    assert "student" in table.out
    assert str(built[0] / "report.html") in table.err
    assert "| student |" in call("report", built[0], "--markdown").out.replace("**", "")
    assert Report.model_validate_json(call("report", built[0], "--json").out).task.kind == "classification"


def test_a_student_trained_again_is_measured_again(copy: Path, call: Caller):
    said = call("train", copy, "--epochs", "2", "--json")
    assert said.json()["steps"] == 6
    stale = call("report", copy)
    assert stale.code == 1
    assert "evaluate" in stale.err
    assert call("evaluate", copy).code == 0
    assert call("report", copy).code == 0


def test_a_run_is_trained_again_with_its_own_settings(copy: Path, call: Caller):
    before = (copy / "train.json").read_text()
    assert call("train", copy).code == 0
    assert (copy / "train.json").read_text() == before


def test_a_student_is_trained_on_rows_without_a_teacher(tiny_decoder: Path, call: Caller, tmp_path: Path):
    rows = [f"{text},{label}" for text, label in zip(sentences(40), ["positive", "negative"] * 20, strict=True)]
    (tmp_path / "rows.csv").write_text("\n".join(["text,label", *rows]))
    options = ("--data", tmp_path / "rows.csv", "--base", tiny_decoder, "--epochs", "1", "--set", "retrieve.hub=off")
    said = call("train", TASK, *options, "--out", tmp_path / "run")
    assert said.code == 0, said.err
    assert "text -> label" in (tmp_path / "run" / "retrieve.json").read_text()
    assert call("predict", tmp_path / "run", "a fine film").code == 0


def test_other_test_rows_are_measured_without_those_that_were_learned_from(copy: Path, call: Caller, tmp_path: Path):
    learned = json.loads((copy / "split.json").read_text())["record"]["train"][0]
    rows = [{"input": learned["input"], "output": learned["output"]}, {"input": "quite new", "output": "positive"}]
    (tmp_path / "test.jsonl").write_text("\n".join(map(json.dumps, rows)))
    before = (copy / "evaluate.json").read_text()
    said = call("evaluate", copy, "--test-data", tmp_path / "test.jsonl", "--json")
    report = Report.model_validate_json(said.out)
    assert {(one.rows, one.n) for one in report.measured} == {("real", 1)}
    assert any(note.startswith("1 test rows were left out") for note in report.notes)
    assert (copy / "evaluate.json").read_text() == before


def test_rows_are_written_as_json_lines(call: Caller, tmp_path: Path):
    options = ("--teacher", write_script(tmp_path / "a.jsonl"), "--count", "20", "--set", "generate.filters=format")
    said = call("generate", TASK, *options)
    rows = [Example.model_validate_json(line) for line in said.out.splitlines()]
    assert len(rows) == 20
    assert {row.output for row in rows} == {"positive", "negative"}
    assert call("generate", TASK, *options, "--out", tmp_path / "rows.jsonl").out == ""
    assert len((tmp_path / "rows.jsonl").read_text().splitlines()) == 20


WRITE = ("generate", TASK, "--count", "20", "--set")


def test_written_rows_are_kept_apart_from_test_rows_as_in_a_run(call: Caller, tmp_path: Path):
    texts = sentences(400)
    (tmp_path / "test.jsonl").write_text(
        "".join(f"{json.dumps({'input': text, 'output': 'positive'})}\n" for text in texts[:5])
    )
    teacher = write_script(tmp_path / "a.jsonl")
    said = call(*WRITE, "generate.filters=contamination", "--teacher", teacher, "--test-data", tmp_path / "test.jsonl")
    rows = [Example.model_validate_json(line) for line in said.out.splitlines()]
    assert len(rows) == 20
    assert not {row.input for row in rows} & set(texts[:5])
    assert "5 near twin of a test row" in " ".join(said.err.split())


@pytest.mark.usefixtures("embeddings")
def test_written_rows_are_judged_by_the_marks_of_a_run(call: Caller, tmp_path: Path):
    kinds = ("sold out of soup number", "as a language model I wrote number")
    labels = ("positive", "negative")
    add_marks(
        tmp_path,
        [Mark(input=f"{kinds[n % 2]} {n}", output=labels[n // 2 % 2], accepted=n % 2 == 0) for n in range(40)],
    )
    (tmp_path / "a.jsonl").write_text("".join(f"{json.dumps(f'{kinds[n % 2]} {n}')}\n" for n in range(100, 120)))
    options = ("--set", "generate.over_generate=1", "--teacher", f"scripted:{tmp_path / 'a.jsonl'}")
    said = call(*WRITE, "generate.filters=critic", *options, "--marks", tmp_path)
    rows = [Example.model_validate_json(line) for line in said.out.splitlines()]
    assert [row.input for row in rows] == [f"{kinds[0]} {n}" for n in range(100, 120, 2)]
    assert "10 the critic" in " ".join(said.err.split())


def test_marks_are_read_as_they_were_written(tmp_path: Path):
    marks = [Mark(input="one\u2028two", output="\x85", accepted=True), Mark(input="a\nb", output="c", accepted=False)]
    add_marks(tmp_path, marks)
    assert read_marks(tmp_path / FILE) == marks


def test_a_critic_without_marks_is_refused_before_anything_is_asked(call: Caller, priced):
    said = call(*WRITE, "generate.filters=critic", "--teacher", f"{priced.url}#m", "--yes")
    assert said.code == 1
    assert "there are 0 and 0" in said.err
    assert "--marks RUN" in " ".join(said.err.split())
    assert priced.asked == []


@pytest.mark.parametrize(("flag", "filter_"), [("--test-data", "contamination"), ("--marks", "critic")])
def test_what_no_filter_would_look_at_is_refused(call: Caller, tmp_path: Path, flag: str, filter_: str):
    said = call(*WRITE, "generate.filters=format", "--teacher", write_script(tmp_path / "a.jsonl"), flag, "elsewhere")
    assert said.code == 1
    assert "elsewhere is given, and none of the filters that are named looks at it." in said.err
    assert f'"{filter_}"]' in " ".join(said.err.split())


@pytest.mark.parametrize("command", ["models", "datasets"])
def test_cards_are_ranked_with_reasons(call: Caller, command: str):
    ranked = call(command, TASK, "--limit", "3", "--set", "retrieve.hub=off", "--json").json()
    assert len(ranked) == 3
    assert [one["score"] for one in ranked] == sorted((one["score"] for one in ranked), reverse=True)
    assert all(one["reasons"] for one in ranked)
    assert ranked[0]["card"]["id"] in call(command, TASK, "-n", "3", "--set", "retrieve.hub=off").out.replace("\n", "")


def test_a_file_of_all_settings_can_be_edited_and_read(call: Caller, tmp_path: Path):
    (tmp_path / "run.toml").write_text(call("config", "--toml").out.replace("epochs = 3.0", "epochs = 7"))
    said = call("config", "--config", tmp_path / "run.toml", "--set", "seed=3", "--json").json()
    assert (said["train"]["epochs"], said["seed"]) == (7.0, 3)
    assert "The default is 3.0." in " ".join(call("config", "--config", tmp_path / "run.toml").out.split())


def test_every_plugin_is_listed(call: Caller):
    listed = {(one["family"], one["name"]) for one in call("plugins", "--json").json()}
    assert listed == {(family, name) for family in registry.FAMILIES for name in registry.names(family)}
    assert "label_first" in call("plugins").out


def test_a_plugin_is_shown_with_its_options_as_they_are_set(call: Caller):
    (told,) = call("plugins", "judge", "--json").json()
    assert [one["key"] for one in told["options"]] == ["generate.options.judge.least_score"]
    setting = shlex.split(call("plugins", "judge").out.partition("--set ")[2])[0]
    used = call("config", "--set", setting, "--set", "generate.filters=judge", "--json").json()
    assert used["generate"]["options"] == {"judge": {"least_score": 0.8}}
    assert "It has no options." in call("plugins", "rouge_l").out
    assert "Did you mean judge" in call("plugins", "juge").err


# Plans and money


def test_a_dry_run_starts_nothing_and_tells_what_would_run(call: Caller, tiny_decoder: Path, tmp_path: Path):
    options = quick(tiny_decoder, write_script(tmp_path / "answers.jsonl"))
    planned = call(TASK, "--out", tmp_path / "run", *options, "--dry-run", "--json").json()
    assert [step["stage"] for step in planned["steps"]] == list(STAGES)
    assert next(step["requests"] for step in planned["steps"] if step["stage"] == "generate") == 60
    assert not (tmp_path / "run").exists()


def test_a_dry_run_of_the_writing_alone(call: Caller, tmp_path: Path):
    script, out = write_script(tmp_path / "answers.jsonl"), tmp_path / "rows.jsonl"
    said = call("generate", TASK, "--teacher", script, "--count", "60", "--out", out, "--dry-run")
    assert re.search(r"^generate +keeps 60 rows", said.out, re.MULTILINE)
    assert not re.search("train|evaluate|base", said.out)
    assert not out.exists()


def test_a_dry_run_of_a_finished_run_reads_everything_back(built, call: Caller):
    planned = call(*built[1], "--dry-run", "--json").json()
    assert all(step["is_kept"] for step in planned["steps"])


def test_a_dry_run_says_from_which_stage_on_it_would_work(built, call: Caller):
    planned = call(*built[1], "--dry-run", "--json", "--set", "train.batch_rows=4").json()
    assert [step["stage"] for step in planned["steps"] if not step["is_kept"]] == ["train", "evaluate", "export"]


def test_rows_are_looked_at_and_rejected_before_a_student_learns_from_them(
    call: Caller, tiny_decoder: Path, tmp_path: Path
):
    folder = tmp_path / "run"
    options = quick(tiny_decoder, write_script(tmp_path / "answers.jsonl"))
    command = ["build", TASK, "--out", str(folder), *options]
    assert [step["stage"] for step in call(*command, "--until", "generate", "--dry-run", "--json").json()["steps"]] == [
        "parse",
        "retrieve",
        "generate",
    ]
    assert call(*command, "--until", "generate", "--json").json() == {"folder": str(folder), "until": "generate"}
    assert "rows" in call("data", str(folder)).out
    rows = json.loads((folder / "generate.json").read_text())["record"]["examples"]
    given = tmp_path / "given.jsonl"
    marks = [{"input": one["input"], "output": one["output"], "accepted": False} for one in rows[:7]]
    given.write_text("".join(f"{json.dumps(one)}\n" for one in marks))
    said = call("mark", str(folder), "--file", str(given)).err
    assert shlex.split(said.partition("--set ")[2])[0] == 'generate.filters=["format", "critic"]'
    assert call(*command, "--until", "split").code == 0
    assert json.loads((folder / "split.json").read_text())["record"]["dropped"] == {"rejected by a person": 7}
    assert "no stage 'generat'" in call(*command, "--until", "generat").err
    assert "--until cannot be combined with --rounds" in call(*command, "--until", "split", "--rounds", "2").err


def test_nobody_else_works_on_a_run_that_is_trained_or_measured(call: Caller, copy: Path):
    with store.alone(copy):
        for command in (("train", str(copy), "--epochs", "2"), ("evaluate", str(copy))):
            assert "Another process is working" in call(*command).err


def test_nobody_else_spends_the_budget_of_a_run_that_is_measured_on_other_rows(
    call: Caller, copy: Path, tmp_path: Path
):
    (tmp_path / "test.jsonl").write_text('{"input": "quite new", "output": "positive"}')
    command = ("evaluate", copy, "--test-data", tmp_path / "test.jsonl")
    paid = ("--set", "evaluate.teacher=true", "--teacher", write_script(tmp_path / "answers.jsonl"))
    with store.alone(copy):
        assert "Another process is working" in call(*command, *paid).err
        assert call(*command).code == 0, "nobody is asked, and nothing is written"


def test_nobody_else_spends_the_budget_of_rounds_of_which_one_is_measured(call: Caller, copy: Path, tmp_path: Path):
    round_1 = Path(shutil.copytree(copy, tmp_path / "rounds" / "round-1"))
    (tmp_path / "rounds" / SHARED).touch()
    paid = ("--set", "evaluate.teacher=true", "--teacher", write_script(tmp_path / "answers.jsonl"))
    with store.alone(tmp_path / "rounds"):
        assert "Another process is working" in call("evaluate", round_1, *paid).err


@pytest.fixture
def priced(home_folder: Path) -> Iterator[Callable[..., Said]]:
    """The name of a server's teacher that has a price, and the server."""
    (home_folder / "prices.toml").write_text('[models]\n"m" = { input = 1.0, output = 2.0 }\n')
    texts = iter(sentences(200))
    with serve("ok", text=lambda body: next(texts)) as server:
        yield server


def test_a_price_is_accepted_by_yes_or_by_a_budget(call: Caller, priced):
    options = ("--teacher", f"{priced.url}#m", "--count", "10", "--set", "generate.filters=format")
    refused = call("generate", TASK, *options)
    assert (refused.code, refused.out, len(priced.asked)) == (1, "", 0)
    assert "--yes" in refused.err
    accepted = call("generate", TASK, *options, "--yes")
    assert accepted.code == 0
    assert "about $0.0" in accepted.err
    assert len(accepted.out.splitlines()) == 10
    assert call("generate", TASK, *options, "--budget", "1").code == 0


def test_a_proxy_whose_only_model_costs_money_is_told_before_it_is_asked(call: Caller, priced):
    options = ("--teacher", priced.url, "--count", "10", "--set", "generate.filters=format")
    refused = call("generate", TASK, *options)
    assert (refused.code, refused.out, len(priced.asked)) == (1, "", 0)
    assert f"--teacher {priced.url}#m names it" in refused.err
    accepted = call("generate", TASK, *options, "--budget", "1")
    assert accepted.code == 0
    assert "Its only model is" in accepted.err
    assert "$1 in, $2 out per million tokens" in accepted.err
    assert len(priced.asked) >= 10


def test_a_plan_says_what_would_be_read_written_and_paid(call: Caller, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("OPENAI_API_KEY", "sk-none")
    rows = tmp_path / "own.csv"
    rows.write_text("Mail body,verdict\nso good,Positive\nso bad,negative\nhello,neither\n")
    command = ["build", TASK, "--data", str(rows), "--set", "retrieve.hub=off", "--dry-run", "--count", "2000"]
    does = {
        step["stage"]: step["does"]
        for step in call(*command, "--teacher", "openai:gpt-5-mini", "--json").json()["steps"]
    }
    assert "reads 2 rows" in does["retrieve"]
    assert "(Mail body -> verdict) without 1: 1 output is none of the labels" in does["retrieve"]
    assert "by label_first, sifted by format, duplicate" in does["generate"]
    assert "if no request has to be repeated" in call(*command, "--teacher", "openai:gpt-5-mini").out
    assert "less than the usual $" in call(*command, "--teacher", "openai:gpt-5-mini", "--budget", "0.1").out
    unknown = ("--teacher", "https://models.example/v1#m")
    assert call(*command, *unknown).out.split()[-1] == "?"
    assert call(*command, *unknown, "--json").json()["total"]["usd"] is None
    assert "A budget cannot be kept" in call(*command, *unknown, "--budget", "5").err


def test_a_base_that_cannot_be_had_is_told_before_a_row_is_paid_for(call: Caller, priced, tmp_path: Path):
    command = ["build", TASK, "--out", str(tmp_path / "run"), "--teacher", f"{priced.url}#m", "--yes"]
    refused = call(*command, "--base", "nosuch/model", "--set", "retrieve.hub=off")
    assert "nosuch/model cannot be had" in refused.err
    assert len(priced.asked) <= 2  # the hypothetical cards


def test_a_run_says_by_stage_what_it_cost_and_how_far_off_the_plan_was(
    call: Caller, priced, tmp_path: Path, tiny_decoder: Path
):
    options = quick(tiny_decoder, f"{priced.url}#m")
    said = call("build", TASK, "--out", tmp_path / "run", *options, "--yes")
    assert said.code == 0
    ledger = Run(tmp_path / "run").ledger
    assert [entry.stage for entry in ledger] == ["retrieve", "generate"]
    assert total(ledger).requests == len(priced.asked)
    assert total(ledger).usd == pytest.approx(len(priced.asked) * (10 * 1 + 5 * 2) / 1e6)
    assert "tokens read" in said.err
    assert "retrieve $0.00" in said.err
    asked, tokens = len(priced.asked), 15 * len(priced.asked)
    assert re.search(r"The plan said 62 requests, [\d,]+ tokens, \d\.\d minutes, \$0\.0", said.err)
    assert re.search(rf"it was +{asked} requests, {tokens} tokens, \d\.\d minutes, \${total(ledger).usd:.4f}", said.err)
    again = call("build", TASK, "--out", tmp_path / "run", *options, "--yes", "--json")
    assert again.code == 0
    assert again.json()["spent"]["requests"] == asked, "of all stages, whoever paid"
    assert len(Run(tmp_path / "run").ledger) == len(ledger), "what is read back costs nothing"


TAUGHT = ("--method", "seqkd", "--set", "train.options.answers=teacher", "--set")


def test_training_again_with_a_paid_teacher_is_agreed_to_and_accounted_for(copy: Path, call: Caller, priced):
    options = (*TAUGHT[:-1], "--teacher", f"{priced.url}#m")
    refused = call("train", copy, *options)
    assert (refused.code, priced.asked) == (1, [])
    assert "42 requests" in " ".join(refused.err.split())
    priced.text = lambda body: "positive"
    said = call("train", copy, *options, "--yes")
    assert said.code == 0, said.err
    assert "The plan said 42 requests, " in said.err
    _, entry = Run(copy).ledger
    assert (entry.stage, entry.spent.requests) == ("train", len(priced.asked))
    assert call("train", copy, *options).code == 0, "what is read back costs nothing"


def test_training_on_rows_with_a_paid_teacher_is_agreed_to(call: Caller, priced, tiny_decoder: Path, tmp_path: Path):
    rows = [f"{text},{label}" for text, label in zip(sentences(40), ["positive", "negative"] * 20, strict=True)]
    (tmp_path / "rows.csv").write_text("\n".join(["text,label", *rows]))
    options = ("--data", tmp_path / "rows.csv", "--base", tiny_decoder, "--set", "retrieve.hub=off")
    refused = call("train", TASK, *options, *TAUGHT, f"teacher={priced.url}#m", "--out", tmp_path / "run")
    assert (refused.code, priced.asked) == (1, [])
    assert "--yes" in refused.err


def test_a_teacher_that_is_measured_again_is_accounted_for(copy: Path, call: Caller, priced):
    priced.text = lambda body: "positive"
    options = ("--set", "evaluate.teacher=true", "--teacher", f"{priced.url}#m", "--budget", "1")
    said = call("evaluate", copy, *options)
    assert said.code == 0, said.err
    assert "The plan said 9 requests, " in said.err
    assert [(entry.stage, entry.spent.requests) for entry in Run(copy).ledger[1:]] == [("evaluate", 9)]


def test_batch_is_a_flag(call: Caller, priced):
    priced.batches.looks_needed = 1
    options = ("--teacher", f"{priced.url}#m", "--count", "80", "--set", "generate.filters=format")
    said = call("generate", TASK, *options, "--yes", "--batch")
    assert said.code == 0, said.err
    assert len(said.out.splitlines()) == 80
    assert len(priced.batches.made) == 1
    assert "$0.5 in, $1 out per million tokens" in said.err, "half of what the server's price list says"


class AtTerminal(Screen):
    """Somebody sits there, and does not agree to what is asked."""

    is_interactive = True

    def accept(self, question: str) -> bool:
        self.question = question
        return False


def test_whoever_is_asked_for_consent_sees_the_price_however_quiet_the_screen_is(priced):
    screen, name = AtTerminal(quiet=True), f"{priced.url}#m"
    steps = [Step(stage="generate", does="", requests=3, most_requests=5, usd=1.25, most_usd=4)]
    with pytest.raises(ConfigError, match="Nobody agreed"):
        accept_cost(load_config(teacher=name), lambda: steps, screen, yes=False)
    assert screen.question.startswith("That is about $1.25 for up to 5 requests, $4.00 when")
    assert screen.question.endswith(f"Go on with {name}?")


def test_a_budget_that_is_too_small_is_never_passed(call: Caller, priced):
    said = call("generate", TASK, "--teacher", f"{priced.url}#m", "--count", "10", "--budget", "0.000001")
    assert said.code == 1
    assert "budget" in said.err
    assert priced.asked == []


@pytest.mark.parametrize("is_file_named", [True, False])
def test_the_budget_of_rows_holds_over_several_calls(
    call: Caller, priced, tmp_path: Path, home_folder: Path, is_file_named: bool
):
    out = ("--out", tmp_path / "rows.jsonl") if is_file_named else ()
    options = ("--teacher", f"{priced.url}#m", "--count", "10", "--set", "generate.filters=format", *out)
    said = call("generate", TASK, *options, "--budget", "1")
    assert said.code == 0, said.err
    assert "The plan said 1" in said.err
    [folder] = [tmp_path / "rows.jsonl.spent"] if is_file_named else (home_folder / "spent").iterdir()
    assert total(entries(folder)).requests == len(priced.asked)
    Book(folder / OWN).add(0.9999)
    (home_folder / "replies.sqlite").unlink()
    asked = len(priced.asked)
    refused = call("generate", TASK, *options, "--budget", "1")
    assert "of the budget of $1 is left" in refused.err
    assert len(priced.asked) == asked
    with store.alone(folder):
        assert "Another process is working" in call("generate", TASK, *options, "--budget", "2").err


def test_rows_that_cost_nothing_leave_no_accounts(call: Caller, tmp_path: Path):
    script = write_script(tmp_path / "answers.jsonl")
    call(*WRITE, "generate.filters=format", "--teacher", script, "--out", tmp_path / "rows.jsonl")
    assert {path.name for path in tmp_path.iterdir()} == {"answers.jsonl", "rows.jsonl"}


# The terminal and the shell


@pytest.mark.parametrize("command", ["plugins", "config"])
def test_a_pipe_that_is_closed_early_is_no_error_to_speak_of(command: str):
    script = f"set -o pipefail; {' '.join(COMMAND)} {command} | true"
    done = subprocess.run(["bash", "-c", script], capture_output=True, text=True, check=False)
    assert "Traceback" not in done.stderr
    assert "BrokenPipe" not in done.stderr


def test_a_process_that_is_told_to_end_does_so_as_after_an_error():
    """So that what a stage has spent is noted on the way out."""
    script = """
import os, signal, sys
from prompt2model.cli import main

class Killing:
    @property
    def buffer(self):
        os.kill(os.getpid(), signal.SIGTERM)

sys.argv, sys.stdin = ["prompt2model", "build", "-"], Killing()
try:
    main()
finally:
    print("noted")
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (128 + signal.SIGTERM, "noted\n"), done.stderr


def test_work_that_is_broken_off_ends_with_what_it_cost(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    def work() -> None:
        with accounting(tmp_path, [Step(stage="generate", does="", requests=9, usd=9)], Screen()):
            add(tmp_path, Entry(stage="generate", teacher="m", spent=Spent(requests=2, usd=2.0)))
            raise BudgetExceeded("The next request may cost more than is left.")

    with pytest.raises(BudgetExceeded):
        work()
    assert capsys.readouterr().err == "teacher 0 tokens read, 0 written, $2.00: generate $2.00\n"


@pytest.mark.slow
def test_ctrl_c_ends_with_130_and_says_that_the_same_command_goes_on(tmp_path: Path, tiny_decoder: Path):
    with serve("ok") as server:
        server.seconds = 0.5
        options = quick(tiny_decoder, f"{server.url}#m")
        command = [*COMMAND, "build", TASK, "--out", str(tmp_path / "run"), *options]
        hears = partial(signal.signal, signal.SIGINT, signal.SIG_DFL)  # a job in the background ignores interrupts
        process = subprocess.Popen(command, stderr=subprocess.PIPE, stdout=subprocess.PIPE, text=True, preexec_fn=hears)
        wait_until(lambda: server.asked)
        out, err = interrupted(process)
    assert process.returncode == 130
    assert out == ""
    assert "the same command goes on from there" in err
    assert "Traceback" not in err


@pytest.mark.slow
def test_somebody_at_a_terminal_is_asked_before_it_costs(tmp_path: Path, home_folder: Path, tiny_decoder: Path):
    (home_folder / "prices.toml").write_text('[models]\n"m" = { input = 1.0, output = 2.0 }\n')
    with serve("ok") as server:
        command = [*COMMAND, "build", TASK, "--out", str(tmp_path / "run"), *quick(tiny_decoder, f"{server.url}#m")]
        master, slave = pty.openpty()
        process = subprocess.Popen(command, stdin=slave, stderr=slave, stdout=subprocess.PIPE)
        os.close(slave)
        heard = read_until(master, b"[y/N]")
        os.write(master, b"n\n")
        assert process.wait(timeout=60) == 1
        assert b"when every answer" in heard
        assert server.asked == []
        os.close(master)
        process.stdout.close()


def interrupted(process: "subprocess.Popen[str]") -> tuple[str, str]:
    """What the process says when Ctrl-C is pressed until it ends: an interrupt in somebody's import may be lost."""
    for _ in range(5):
        process.send_signal(signal.SIGINT)
        try:
            return process.communicate(timeout=5)
        except subprocess.TimeoutExpired:
            continue
    raise AssertionError("the process does not end")


def wait_until(condition: Callable[[], object], seconds: float = 120) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "it did not happen"
        time.sleep(0.05)


def read_until(master: int, expected: bytes) -> bytes:
    heard = b""
    while expected not in heard:
        heard += os.read(master, 1000)
    return heard
