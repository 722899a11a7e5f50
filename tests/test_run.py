"""A run, opened again or gone on with."""

from pathlib import Path
from typing import Any

import pytest

import prompt2model as p2m
from prompt2model import store
from prompt2model.config import GenerateConfig, SplitConfig, contents, load_config
from prompt2model.errors import RunError
from prompt2model.pipeline import build, given_to_train, stage_key
from prompt2model.records import Example, Found, Made, Source, Splits, TaskSpec
from prompt2model.run import Run


def test_the_rows_of_a_run_are_a_dataset(tmp_path: Path) -> None:
    row = Example(input="fine", output="good", source=Source(kind="data", name="rows.csv", row=0))
    store.once(tmp_path, "split", Splits, lambda: Splits(train=(row, row), test=(row,)), depends_on=None)
    dataset = Run(tmp_path).dataset
    assert dataset.num_rows == {"train": 2, "validation": 0, "test": 1}
    assert dataset["test"][0] == {"input": "fine", "output": "good", "source": "data: rows.csv"}


def test_a_run_is_opened_by_the_name_of_its_folder(tmp_path: Path) -> None:
    assert Run(str(tmp_path)).folder == tmp_path  # type: ignore[arg-type]


def test_descriptions_that_begin_alike_have_folders_of_their_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.chdir(tmp_path)
    two, three = (f"Classify a film as positive or {rest}." for rest in ("negative", "negative or neutral"))
    first, again, second = (build(text, until="parse", retrieve__hub="off").folder for text in (two, two, three))
    assert first == again != second
    assert first.name == "classify-a-film-as-positive-or"
    assert (second / "description.md").read_text() == three
    assert not caplog.records
    build(three, out=first, until="parse", retrieve__hub="off")
    assert "holds a run of another description" in caplog.text


def test_a_folder_whose_model_is_not_ours_is_refused_before_anything_is_made(tmp_path: Path) -> None:
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "notes.txt").write_text("mine")
    with pytest.raises(RunError, match="is not an exported model"):
        build("Say whether a film is good or bad.", out=tmp_path, until="parse")
    assert not (tmp_path / "parse.json").exists()


def test_stages_called_alone_take_their_usual_settings() -> None:
    task = p2m.parse("Say whether a film is good or bad.\n\nfine -> good\npoor -> bad")
    splits = p2m.split(task, Found(base=""), Made())
    assert (task.labels, len(splits.train)) == (("good", "bad"), 2)


def test_a_file_that_was_edited_is_read_again(tmp_path: Path, tiny_decoder: Path) -> None:
    data, test = tmp_path / "rows.csv", tmp_path / "test.csv"
    data.write_text("input,output\n" + "".join(f"the film number {n} is good,good\n" for n in range(30)))
    test.write_text("input,output\na dull evening,bad\n")
    flags: dict[str, Any] = {
        "retrieve__data": (str(data),),
        "retrieve__base": str(tiny_decoder),
        "retrieve__hub": "off",
        "split__test_data": str(test),
        "generate__count": 0,
    }

    def splits() -> Splits:
        return build("Say whether a film is good or bad.", out=tmp_path / "run", until="split", **flags).splits

    assert len(splits().train) + len(splits().validation) == 30
    data.write_text(data.read_text() + "a waste of two hours,bad\n")
    assert len(splits().train) + len(splits().validation) == 31
    test.write_text(test.read_text() + "a lovely evening,good\n")
    assert len(splits().test) == 2


@pytest.mark.parametrize("teacher", ["auto", "transformers:HuggingFaceTB/SmolLM2-135M-Instruct"])
def test_a_teacher_that_has_no_part_is_neither_loaded_nor_measured(
    teacher: str, tmp_path: Path, tiny_decoder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def unwanted(*_: Any, **__: Any) -> Any:
        raise RunError("The teacher was opened.", hint="")

    monkeypatch.setattr("prompt2model.pipeline.open_teacher", unwanted)
    data = tmp_path / "rows.csv"
    rows = [f"the film number {n} is {('good', 'bad')[n % 2]},{('good', 'bad')[n % 2]}\n" for n in range(30)]
    data.write_text("input,output\n" + "".join(rows))
    config = load_config(
        retrieve__base=str(tiny_decoder),
        retrieve__data=str(data),
        retrieve__hub="off",
        generate__count=0,
        train__epochs=1,
        teacher=teacher,
    )
    if teacher != "auto":  # it is named, and so is to be compared with
        with pytest.raises(RunError, match="was opened"):
            build("Say whether a film is good or bad.", out=tmp_path / "run", config=config)
        return
    run = build("Say whether a film is good or bad.", out=tmp_path / "run", config=config)
    assert [one.who for one in run.report.measured] == ["majority", "base", "student"]


def test_training_depends_on_the_files_that_its_options_name(tmp_path: Path) -> None:
    file = tmp_path / "plain.txt"
    file.write_text("once upon a time")
    config = load_config(train__method="self_training", train__options={"inputs": str(file)})
    given = given_to_train(TaskSpec(instruction="x"), Splits(), "a/base", config)
    before = store.digest(stage_key("train", given))
    assert store.digest(stage_key("train", given)) == before
    file.write_text("there was a king")
    assert store.digest(stage_key("train", given)) != before


@pytest.mark.parametrize(("stage", "is_noticed"), [("split", True), ("train", True), ("evaluate", False)])
def test_writing_depends_on_the_records_of_a_run_that_its_options_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, stage: str, is_noticed: bool
) -> None:
    def key() -> str:
        return store.digest(stage_key("generate", [GenerateConfig(options={"hard_cases": {"run": "first"}})]))

    monkeypatch.chdir(tmp_path)
    folder = store.open_run(tmp_path / "first")
    before = key()
    for content in ({"rows": 1}, {"rows": 2}):
        store.write_json(folder / f"{stage}.json", content)
        assert (key() != before) is is_noticed
        before = key()


def test_a_setting_that_names_nothing_names_no_run_where_one_works(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store.write_json(tmp_path / "split.json", {})
    monkeypatch.chdir(tmp_path)
    assert contents(SplitConfig(test_data="")) == {}
    assert list(contents(SplitConfig(test_data="."))) == ["./split.json"]
