"""Rounds: settings of each, one budget, and a second student that has learned more like what the first found hard."""

import json
from collections import Counter
from itertools import count
from pathlib import Path
from typing import Any

import pytest
from chat_server import serve
from command import Caller, quick

import prompt2model as p2m
from prompt2model.accounts import total
from prompt2model.book import SHARED
from prompt2model.config import Config, GenerateConfig
from prompt2model.errors import ConfigError, RunError
from prompt2model.marks import FILE, Mark, add_marks, read_marks
from prompt2model.pipeline import default_folder
from prompt2model.records import Measured, Prediction, Report, Score, TaskSpec
from prompt2model.rounds import begun, in_rounds, plan_rounds, remarks
from prompt2model.run import Run

TASK = "Classify a film as positive or negative."


@pytest.fixture
def call(capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Caller:
    return Caller(capfd, monkeypatch)


@pytest.fixture
def teacher(home_folder: Path):
    """A server that writes texts, lists of them, and labels, for a dollar a million tokens read."""
    (home_folder / "prices.toml").write_text('[models]\n"m" = { input = 1.0, output = 2.0 }\n')
    numbers = count()

    def text(body: dict[str, Any]) -> str:
        if "</example>, and" in body["messages"][-1]["content"]:
            return "\n".join(f"<example>{words(next(numbers))}</example>" for _ in range(4))
        return words(next(numbers)) if body.get("temperature") else "positive"

    with serve("ok", text=text) as server:
        yield server


def words(number: int) -> str:
    return " ".join(f"w{number}x{place}" for place in range(6))


def command(teacher, base: Path, folder: Path, *more: str) -> list[str]:
    return ["build", TASK, "--out", str(folder), *quick(base, f"{teacher.url}#m"), "--count", "40", *more]


def test_rows_grow_evenly_and_each_round_begins_with_the_one_before():
    options = {"hard_cases": {"per_case": 2}, "label_first": {"own": 1}, "judge": {"least_score": 3}}
    config = Config(generate=GenerateConfig(count=100, strategies=("label_first",), options=options), budget_usd=2)
    first, second, third = plan_rounds(config, 3, Path("films"))
    assert [one.folder for one in (first, second, third)] == [
        Path.cwd() / f"films/round-{number}" for number in (1, 2, 3)
    ]
    assert [one.config.generate.count for one in (first, second, third)] == [34, 67, 100]
    assert {one.config.budget_usd for one in (first, second, third)} == {2}
    assert first.config.generate.strategies == ("label_first",)
    assert first.config.generate.options == {"label_first": {"own": 1}, "judge": {"least_score": 3}}
    for before, later in ((first, second), (second, third)):
        assert later.config.generate.strategies == ("hard_cases",)
        hard = {"per_case": 2, "run": str(before.folder)}
        assert later.config.generate.options == {"hard_cases": hard, "judge": {"least_score": 3}}


@pytest.mark.parametrize(("rounds", "count"), [(2, 0), (4, 3), (0, 3), (-1, 3)])
def test_rounds_without_rows_of_their_own_are_refused(rounds, count):
    with pytest.raises(ConfigError, match=f"{rounds} rounds cannot share {count} rows"):
        plan_rounds(Config(generate=GenerateConfig(count=count)), rounds, Path("films"))


def test_a_folder_that_is_a_run_takes_no_rounds(tmp_path: Path):
    (tmp_path / "parse.json").write_text("{}")
    with pytest.raises(RunError, match="already holds a single run"):
        plan_rounds(Config(), 2, tmp_path)


def test_with_more_rows_in_as_many_more_rounds_the_earlier_ones_stay():
    three, four = (plan_rounds(Config(generate=GenerateConfig(count=200 * n)), n, Path("films")) for n in (3, 4))
    assert three == four[:3]


def test_other_processes_and_other_tasks_are_kept_out_of_the_folder(tmp_path: Path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    folder = default_folder(TASK)
    with in_rounds(TASK, Config(), 2, folder):
        with pytest.raises(RunError, match="Another process"), in_rounds(TASK, Config(), 2, folder):
            pass
        other = TASK.replace("negative", "negative, or as neither")
        assert default_folder(TASK) == folder != default_folder(other)
    with pytest.raises(RunError) as caught:
        Run(folder).made  # noqa: B018
    assert "Finish the run first" in caught.value.hint
    (folder / "round-1").mkdir()
    with pytest.raises(RunError) as caught:
        Run(folder).made  # noqa: B018
    assert caught.value.hint == f"Its rounds are runs: {folder / 'round-1'}"


def test_a_round_takes_over_the_marks_of_the_one_before(tmp_path: Path):
    first, second = plan_rounds(Config(), 2, tmp_path)
    begun(first)
    begun(second)
    assert read_marks(second.folder / FILE) == []
    mark = Mark(input="a", output="b", accepted=True)
    add_marks(first.folder, [mark])
    assert read_marks(begun(second) / FILE) == [mark]
    add_marks(first.folder, [Mark(input="c", output="d", accepted=True)])
    assert read_marks(begun(second) / FILE) == [mark]


def report(student: str, teacher: float, *, rows: str = "real", metric: str = "accuracy") -> Report:
    """Of a student that is right where there is a 1, beside a teacher of that score."""
    task, share = TaskSpec(instruction=TASK, labels=("a", "b")), student.count("1") / len(student)
    scores = {"student": share, "teacher": teacher}
    return Report(
        task=task,
        measured=tuple(
            Measured(
                who=who, name=who, rows=rows, n=len(student), scores=(Score(metric=metric, value=value, low=0, high=1),)
            )
            for who, value in scores.items()
        ),
        predictions=tuple(
            Prediction(input=str(at), expected="a", answer="ab"[one == "0"], rows=rows)
            for at, one in enumerate(student)
        ),
    )


def test_what_a_round_brought_is_said_of_the_rows_that_both_were_measured_on():
    first, second = report("01" * 20, 1.0), report("1" * 40 + "0" * 9, 1.0)
    (better,) = remarks([first, second], 2)
    assert better.startswith(
        "The student of round 2 is better than that of round 1 by more than the noise: +50.0 points"
    )
    assert better.endswith("of accuracy on 40 real rows.")
    (worse,) = remarks([first, second, first], 3)
    assert worse.startswith("The student of round 3 is worse than that of round 2 by more than the noise: -50.0 points")
    assert remarks([report("01", 1.0)] * 2, 2) == [
        "2 real rows: too few to tell the student of round 2 from that of round 1."
    ]
    assert remarks([report("01" * 20, 1.0, rows="synthetic")] * 2, 2) == []
    assert remarks([], 2) == remarks([first], 2) == []
    nothing = Report(task=first.task, measured=())
    assert remarks([nothing, nothing], 3) == []


def test_a_student_ahead_of_its_teacher_is_warned_of_before_a_further_round():
    (doubt,) = remarks([report("1" * 15 + "0" * 5, 0.7)], 2)
    assert doubt.startswith("The student is ahead of its teacher, 75.0 to 70.0 of accuracy on 20 real rows.")
    assert remarks([report("1" * 15 + "0" * 5, 0.7)], 1) == [], "no round follows"
    assert remarks([report("1" * 15 + "0" * 5, 0.75)], 2) == []
    assert remarks([report("1110", 0.7)], 2) == [], "too few rows"
    assert remarks([report("1" * 15 + "0" * 5, 0.7, rows="synthetic")], 2) == []


def test_a_second_round_learns_the_rows_of_the_first_and_more_within_one_budget(
    call: Caller, teacher, tiny_decoder: Path, tmp_path: Path
):
    build = command(teacher, tiny_decoder, tmp_path, "--rounds", "2", "--budget", "1")
    said = call(*build, "--json")
    assert said.code == 0, said.err
    told = said.json()
    assert [Path(one["folder"]).name for one in told["rounds"]] == ["round-1", "round-2"]
    assert told["folder"] == told["rounds"][1]["folder"]
    first, second = (Run(Path(one["folder"])) for one in told["rounds"])
    before, after = ({row.input for row in run.made.examples} for run in (first, second))
    assert before < after
    ways = Counter(row.source.strategy for row in second.made.examples)
    assert ways == {"label_first": 20, "hard_cases": 20}
    lines = map(json.loads, (tmp_path / SHARED).read_text().splitlines())
    spent = sum(line.get("usd", 0.0) for line in lines)
    assert spent == pytest.approx(total([*first.ledger, *second.ledger]).usd)
    asked = len(teacher.asked)
    assert call(*build, "--json").json()["rounds"] == told["rounds"]
    assert len(teacher.asked) == asked


def test_a_second_round_has_what_the_first_has_left_of_the_budget(
    call: Caller, teacher, tiny_decoder: Path, tmp_path: Path
):
    said = call(*command(teacher, tiny_decoder, tmp_path, "--rounds", "2", "--budget", "0.0057"))
    assert said.code == 1
    assert "may cost up to $0.0055, and $0.0053 of the budget of $0.0057 is left" in said.err
    assert Run(tmp_path / "round-1").report.measured


def test_the_plan_is_of_the_round_that_comes_next(call: Caller, teacher, tiny_decoder: Path, tmp_path: Path):
    build = command(teacher, tiny_decoder, tmp_path, "--rounds", "2")
    planned = call(*build, "--dry-run", "--json").json()
    assert (Path(planned["folder"]).name, planned["round"], planned["rounds"]) == ("round-1", 1, 2)
    assert "Round 1 of 2" in call(*build, "--dry-run").out
    whole = next(step["requests"] for step in planned["steps"] if step["stage"] == "generate")
    assert not any(tmp_path.iterdir())
    assert call(*build[:-2], "--count", "20", "--out", str(tmp_path / "round-1"), "--yes", "--quiet").code == 0
    planned = call(*build, "--dry-run", "--json").json()
    assert Path(planned["folder"]).name == "round-2"
    later = next(step["requests"] for step in planned["steps"] if step["stage"] == "generate")
    assert whole / 2 < later < 1.5 * whole, "the first round's rows are not asked for again"


def test_rounds_in_python(teacher, tiny_decoder: Path, tmp_path: Path):
    told: list[str] = []
    runs = p2m.build_in_rounds(
        TASK,
        rounds=2,
        out=tmp_path,
        listener=lambda stage, record: told.append(stage),
        teacher=f"{teacher.url}#m",
        retrieve__base=str(tiny_decoder),
        retrieve__hub="off",
        generate__count=24,
        generate__filters="format",
        evaluate__teacher=False,
        train__epochs=1,
    )
    assert [run.folder.name for run in runs] == ["round-1", "round-2"]
    assert [len(run.made.examples) for run in runs] == [12, 24]
    assert told.count("train") == 2
    assert runs[-1].student("a film") in ("positive", "negative")
