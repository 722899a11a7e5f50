"""A trained student as it is called: from a run's folder, from an exported one, and from neither."""

import json
import shutil
from pathlib import Path

import pytest
from train_here import TASK, films

from prompt2model import store
from prompt2model.config import TrainConfig
from prompt2model.errors import RunError
from prompt2model.records import Example, Source, Splits, Student, TaskSpec
from prompt2model.stages.train import train
from prompt2model.trained import Trained

GENERATION = TaskSpec(instruction="Name it.", kind="generation", metric="exact_match")


def finish(run: Path, base: Path, task: TaskSpec, rows: tuple[Example, ...], **settings) -> Path:
    """A run's folder as the stages leave it, with a student that has learned the rows."""
    config = TrainConfig(
        **{"epochs": 1, "batch_rows": 4, "learning_rate": 1e-2, "precision": "float32", "patience": 0, **settings}
    )
    student = train(task, Splits(train=rows, validation=rows), str(base), config, folder=run / "student")
    store.once(run, "parse", TaskSpec, lambda: task, depends_on=1)
    store.once(run, "train", Student, lambda: student, depends_on=1)
    return run


@pytest.fixture(scope="module")
def naming(tiny_decoder, tmp_path_factory) -> Path:
    rows = tuple(
        Example(input=text, output=answer, source=Source(kind="user", name="x"))
        for text, answer in {"good": "positive", "bad": "the film is bad"}.items()
    )
    return finish(tmp_path_factory.mktemp("naming"), tiny_decoder, GENERATION, rows, epochs=60)


@pytest.fixture(scope="module")
def sorting(tiny_decoder, tmp_path_factory) -> Path:
    return finish(tmp_path_factory.mktemp("sorting"), tiny_decoder, TASK, films(8))


def test_a_text_has_its_answer_and_a_list_a_list(naming):
    student = Trained(naming)
    assert student("good") == "positive"
    assert student(["bad", "good", "bad"]) == ["the film is bad", "positive", "the film is bad"]
    assert student([]) == []


def test_a_classification_is_answered_with_labels_and_probabilities(sorting):
    student = Trained(str(sorting))
    answers = student.answers(["the film is good", "the film is bad", ""])
    assert all(answer.text in TASK.labels for answer in answers)
    assert all(0.5 <= answer.probability <= 1 for answer in answers)
    assert [answer.text for answer in answers] == student(["the film is good", "the film is bad", ""])


def test_an_exported_folder_answers_as_the_run_does(naming, tmp_path):
    exported = tmp_path / "model"
    shutil.copytree(naming / "student", exported)
    (exported / "task.json").write_text(GENERATION.model_dump_json())
    assert Trained(exported)("bad") == Trained(naming)("bad")


def test_an_answer_may_be_as_long_as_the_model_was_made_to_write(tiny_decoder, tmp_path):
    exported = tmp_path / "model"
    shutil.copytree(tiny_decoder, exported)  # its weights are random: it comes to no end
    (exported / "task.json").write_text(GENERATION.model_dump_json())
    usual = Trained(exported).answers(["good"])[0]
    settings = json.loads((exported / "generation_config.json").read_text())
    (exported / "generation_config.json").write_text(json.dumps({**settings, "max_new_tokens": 300}))
    longer = Trained(exported).answers(["good"])[0]
    assert longer.tokens == usual.tokens + 44
    assert longer.is_cut_off


def test_a_run_that_was_moved_answers_from_where_it_is(naming, tmp_path):
    moved = tmp_path / "moved"
    shutil.copytree(naming, moved)
    student = Trained(moved)
    assert student.folder == moved / "student"
    assert student("good") == "positive"


def test_a_very_long_input_is_answered_all_the_same(naming):
    assert isinstance(Trained(naming)("the film is good, " * 500), str)


def test_nothing_is_loaded_before_the_first_question(sorting):
    assert Trained(sorting)._model is None


def test_a_folder_without_a_student_is_an_error_with_a_cure(tmp_path):
    for folder in (tmp_path, tmp_path / "nothing"):
        with pytest.raises(RunError, match="holds no trained student") as caught:
            Trained(folder)
        assert "--out" in caught.value.hint


@pytest.mark.parametrize("text", ["{", json.dumps({"instruction": 3}), ""])
def test_a_damaged_task_is_an_error_with_a_cure(tmp_path, text):
    (tmp_path / "task.json").write_text(text)
    with pytest.raises(RunError, match=r"task\.json cannot be read") as caught:
        Trained(tmp_path)
    assert caught.value.hint
