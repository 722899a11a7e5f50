"""The folder that a person takes away: loaded by plain transformers, whole or not there, and nothing private in it."""

import json
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
import yaml
from huggingface_hub import ModelCard as HubCard
from transformers import AutoTokenizer, pipeline

from prompt2model.config import ExportConfig
from prompt2model.errors import ConfigError, RunError, WeightsError
from prompt2model.exporters import safetensors
from prompt2model.records import (
    Artifact,
    Example,
    Found,
    Made,
    Measured,
    ModelCard,
    Ranked,
    Report,
    Score,
    Source,
    Splits,
    Student,
    TaskSpec,
)
from prompt2model.stages.export import export
from prompt2model.student import load
from prompt2model.student_prompt import set_student_prompt

TASK = TaskSpec(
    instruction='Say "good" or "bad": is the film worth it?\n| not a table | <b>',
    examples=(Example(input='"A" joy\nto ```see```', output="good", source=Source(kind="user", name="description")),),
    kind="classification",
    labels=("good", "bad: no #1"),
    metric="accuracy",
)


def rows(n: int, kind: str, name: str) -> tuple[Example, ...]:
    return tuple(
        Example(input=f"film {index}", output=TASK.labels[index % 2], source=Source(kind=kind, name=name))
        for index in range(n)
    )


SPLITS = Splits(
    train=(*rows(6, "teacher", "openai:gpt-5-mini"), *rows(4, "data", "owner/films:en")),
    test=rows(5, "data", "/home/me/films.csv"),
)
MADE = Made(
    examples=SPLITS.train[:6], teacher="openai:gpt-5-mini", strategies=("label_first",), filters=("format", "novelty")
)
REPORT = Report(
    task=TASK,
    measured=(
        Measured(
            who="student",
            name="trained by seqkd",
            rows="real",
            n=872,
            scores=(
                Score(metric="accuracy", value=0.8234, low=0.8, high=0.85),
                Score(metric="f1", value=0.8, low=0.7, high=0.9),
            ),
        ),
        Measured(who="teacher", name="http://me:key@10.0.0.1:8000/v1#big", rows="real", n=872, scores=()),
    ),
    notes=(
        "The student is better than its base model by more than the noise.",
        "The base model was not measured: The folder /home/me/base has no config.json.",
        "The teacher was not measured: no answer from http://10.0.0.1:8000/v1.",
    ),
)


def card_of(model: str, licence: str) -> Ranked:
    card = ModelCard(
        id=model, description="", architecture="decoder", parameters=1, size_bytes=1, licence=licence, downloads=1
    )
    return Ranked(card=card, score=1, reasons=(), at_hand=True)


FOUND = Found(
    base="owner/base",
    models=(card_of("owner/base", "Apache-2.0"), card_of("owner/free", "mit")),
    licences={"owner/films:en": "cc-by-4.0"},
)


@pytest.fixture
def student(tmp_path: Path, tiny_decoder: Path) -> Student:
    """A trained student, as far as its folder tells."""
    return trained(tiny_decoder, tmp_path / "run" / "student")


def trained(base: Path, folder: Path) -> Student:
    shutil.copytree(base, folder)
    _, codec = load(base, precision="float32")
    set_student_prompt(codec)
    codec.tokenizer.save_pretrained(folder)
    return Student(
        folder=folder,
        base="owner/base",
        method="seqkd",
        parameters=20_000,
        trained_parameters=20_000,
        steps=3,
        best_step=2,
        tokens=100,
        seconds=1,
        tokens_per_second=100,
        precision="float32",
    )


@pytest.fixture
def write(student: Student, tmp_path: Path) -> Callable[..., Artifact]:
    """Exports the student into `model`, with other records where they are given."""

    def write(**other: object) -> Artifact:
        given = {"task": TASK, "found": FOUND, "made": MADE, "splits": SPLITS, "student": student, "report": REPORT}
        where = {"config": ExportConfig(), "folder": tmp_path / "model"}
        return export(**(given | where | other))

    return write


def card(artifact: Artifact) -> str:
    return (artifact.folder / "README.md").read_text(encoding="utf-8")


def head(artifact: Artifact) -> dict[str, object]:
    return yaml.safe_load(card(artifact).split("---\n")[1])


def called(artifact: Artifact) -> str:
    """What the card's own snippet prints, run by a Python that knows nothing of us."""
    snippet = re.search(r"```python\n(.*?)\n```\n", card(artifact), re.DOTALL).group(1)
    done = subprocess.run(
        [sys.executable, "-I", "-c", snippet], cwd=artifact.folder, capture_output=True, text=True, check=True
    )
    return done.stdout


def test_the_artifact_lists_the_files_of_the_folder(write: Callable[..., Artifact], tmp_path: Path) -> None:
    artifact = write()
    assert artifact.folder == tmp_path / "model"
    assert artifact.format == "safetensors"
    assert set(artifact.files) == {path.name for path in artifact.folder.iterdir()}
    assert {"model.safetensors", "config.json", "tokenizer.json", "README.md", "task.json"} <= set(artifact.files)
    assert TaskSpec.model_validate_json((artifact.folder / "task.json").read_text()) == TASK


def test_its_folder_may_be_named_by_a_text(write: Callable[..., Artifact], tmp_path: Path) -> None:
    assert write(folder=str(tmp_path / "mine")).folder == tmp_path / "mine"


def test_plain_transformers_answers_from_the_folder(write: Callable[..., Artifact]) -> None:
    answer = pipeline("text-generation", str(write().folder), device="cpu")
    chat = [{"role": "user", "content": "a film"}]
    said = [answer(chat)[0]["generated_text"][-1] for _ in range(2)]
    assert said[0]["role"] == "assistant"
    assert said[0] == said[1]


def test_answers_are_greedy_end_and_are_as_long_as_the_rows_need(write: Callable[..., Artifact]) -> None:
    folder = write().folder
    config = json.loads((folder / "generation_config.json").read_text())
    tokenizer = AutoTokenizer.from_pretrained(folder)
    assert config["do_sample"] is False
    assert config["eos_token_id"] == tokenizer.eos_token_id
    assert config["max_new_tokens"] == max(16, 2 * len(tokenizer("bad: no #1").input_ids))
    assert not {"temperature", "top_p", "_from_model_config"} & set(config)
    model, _ = load(folder, precision="float32")
    assert model.generation_config.max_new_tokens == config["max_new_tokens"]


def test_the_weights_are_the_students(write: Callable[..., Artifact], student: Student) -> None:
    exported, original = (load(folder, precision="float32")[0] for folder in (write().folder, student.folder))
    for mine, theirs in zip(exported.parameters(), original.parameters(), strict=True):
        assert torch.equal(mine, theirs)


def test_the_head_of_the_card_is_what_the_hub_reads(write: Callable[..., Artifact]) -> None:
    artifact = write()
    facts = head(artifact)
    assert facts["license"] == "apache-2.0"
    assert facts["base_model"] == "owner/base"
    assert facts["datasets"] == ["owner/films"]
    assert (facts["language"], facts["pipeline_tag"], facts["library_name"]) == (
        "en",
        "text-generation",
        "transformers",
    )
    data = HubCard.load(artifact.folder / "README.md").data
    result = data.eval_results[0]
    assert (result.metric_type, result.metric_value) == ("accuracy", 0.8234)
    assert result.dataset_name == "872 held-out rows that a person wrote or labelled"
    assert data.model_name == "model"


def test_the_card_tells_how_the_model_was_made(write: Callable[..., Artifact]) -> None:
    text = card(write())
    for line in (
        "| base model | owner/base (apache-2.0) |",
        "| teacher | openai:gpt-5-mini |",
        "| method | seqkd |",
        r"| rows written by | label\_first |",
        "| rows kept by | format, novelty |",
        "| written by openai:gpt-5-mini | – | 6 | 0 | 0 |",
        "| owner/films:en | cc-by-4.0 | 4 | 0 | 0 |",
        "| films.csv | – | 0 | 0 | 5 |",
        r"| **this model** | trained by seqkd | real | 872 | 82.3 \[80.0–85.0\] | 80.0 \[70.0–90.0\] |",
        "| teacher | big (a server of its own) | real | 872 | – | – |",
        "- The student is better than its base model by more than the noise.",
        r"It answers with one of: good, bad: no \#1.",
    ):
        assert line in text.splitlines(), line


def test_tables_of_the_card_are_whole(write: Callable[..., Artifact]) -> None:
    blocks = re.findall(r"(?:^\|.*\n)+", card(write()).partition("## How it was made")[2], re.MULTILINE)
    assert len(blocks) == 3
    for block in blocks:
        assert len({len(re.findall(r"(?<!\\)\|", line)) for line in block.splitlines()}) == 1


def test_nothing_private_is_in_the_folder(write: Callable[..., Artifact], student: Student) -> None:
    config = json.loads((student.folder / "config.json").read_text())
    (student.folder / "config.json").write_text(json.dumps(config | {"_name_or_path": "/home/me/base"}))
    artifact = write(student=student.model_copy(update={"base": "/home/me/base"}))
    for name in artifact.files:
        text = (artifact.folder / name).read_bytes()
        assert b"/home/me" not in text, name
        assert b"10.0.0.1" not in text, name
        assert str(student.folder).encode() not in text, name
    assert "base_model" not in head(artifact)


def test_a_teacher_whose_terms_may_restrict_use_is_a_caution(write: Callable[..., Artifact]) -> None:
    assert "**Caution:** openai:gpt-5-mini wrote training rows." in card(write())


@pytest.mark.parametrize(("teacher", "cautioned"), [("transformers:owner/free", False), ("transformers:a/b", True)])
def test_a_teacher_under_a_free_licence_is_none(write: Callable[..., Artifact], teacher: str, cautioned: bool) -> None:
    train = rows(4, "teacher", teacher)
    made = MADE.model_copy(update={"teacher": teacher, "examples": train})
    assert ("Caution" in card(write(made=made, splits=Splits(train=train)))) == cautioned


def test_a_model_trained_on_peoples_rows_names_no_teacher(write: Callable[..., Artifact]) -> None:
    text = card(write(made=Made(), splits=Splits(train=rows(4, "data", "owner/films"))))
    assert "no training row was written by a model" in text
    assert "Caution" not in text


def test_a_base_of_unknown_licence_is_said(write: Callable[..., Artifact]) -> None:
    artifact = write(found=Found(base="owner/base"))
    assert "license" not in head(artifact)
    assert "The licence of its base model is not known" in card(artifact)


def test_a_model_that_was_not_measured_says_so(write: Callable[..., Artifact]) -> None:
    artifact = write(report=Report(task=TASK, measured=(), notes=("There are no test rows.",)))
    assert "It was not measured." in card(artifact)
    assert "model-index" not in head(artifact)


@pytest.mark.parametrize("language", ["no", "on", "en"])
def test_a_language_that_yaml_would_read_as_a_truth_value_stays_a_word(
    write: Callable[..., Artifact], language: str
) -> None:
    assert head(write(task=TASK.model_copy(update={"language": language})))["language"] == language


def test_an_export_is_replaced_by_the_next(write: Callable[..., Artifact], tmp_path: Path) -> None:
    first = write()
    (first.folder / "README.md").write_text("old")
    second = write()
    assert card(second) != "old"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["model", "run"]


def test_an_empty_folder_is_filled(write: Callable[..., Artifact], tmp_path: Path) -> None:
    (tmp_path / "model").mkdir()
    assert "README.md" in write().files


@pytest.mark.parametrize("theirs", ["notes.txt", "task.json", ".git/config"])
def test_a_folder_that_is_not_ours_is_left_alone(write: Callable[..., Artifact], tmp_path: Path, theirs: str) -> None:
    kept = tmp_path / "model" / theirs
    kept.parent.mkdir(parents=True)
    kept.write_text("{}")
    with pytest.raises(RunError, match="is not an exported model"):
        write()
    assert [path for path in (tmp_path / "model").rglob("*") if path.is_file()] == [kept]


def test_the_students_own_folder_is_not_overwritten(write: Callable[..., Artifact], student: Student) -> None:
    for folder in (student.folder, student.folder.parent):
        with pytest.raises(RunError, match="holds the student itself"):
            write(folder=folder)


def test_a_failed_export_leaves_the_old_one_and_no_half(
    write: Callable[..., Artifact], student: Student, tmp_path: Path
) -> None:
    before = card(write())
    (student.folder / "model.safetensors").write_bytes(b"cut off")
    with pytest.raises(WeightsError, match=r"model\.safetensors cannot be read"):
        write()
    assert (tmp_path / "model" / "README.md").read_text(encoding="utf-8") == before
    assert sorted(path.name for path in tmp_path.iterdir()) == ["model", "run"]


def test_what_a_killed_export_left_is_cleared_away(write: Callable[..., Artifact], tmp_path: Path) -> None:
    for name in (".model.part", ".model.old"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "half").write_text("x")
    assert "half" not in write().files
    assert sorted(path.name for path in tmp_path.iterdir()) == ["model", "run"]


def test_a_folder_that_cannot_be_written_is_an_error_with_a_cure(
    write: Callable[..., Artifact], tmp_path: Path
) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(RunError, match="cannot be written"):
        write(folder=tmp_path / "file" / "model")


def test_an_unknown_format_is_refused_before_anything_is_written(
    write: Callable[..., Artifact], tmp_path: Path
) -> None:
    with pytest.raises(ConfigError, match="no exporter named 'safetensor'"):
        write(config=ExportConfig(formats=("safetensor",)))
    assert not (tmp_path / "model").exists()


@pytest.mark.parametrize("name", ["pytorch_model.bin", "optimizer.pt", "x.pkl"])
def test_pickled_weights_are_refused(student: Student, tmp_path: Path, name: str) -> None:
    (student.folder / name).write_bytes(b"\x80\x04.")
    with pytest.raises(WeightsError, match=name):
        safetensors.export(student.folder, tmp_path)


def test_what_is_no_part_of_a_model_stays_behind(student: Student, tmp_path: Path) -> None:
    (student.folder / "evil.py").write_text("print()")
    (student.folder / "checkpoints").mkdir()
    (tmp_path / "out").mkdir()
    files = safetensors.export(student.folder, tmp_path / "out")
    assert set(files) == {path.name for path in (tmp_path / "out").iterdir()}
    assert not {"evil.py", "checkpoints"} & set(files)


@pytest.mark.parametrize("name", ["config.json", "model.safetensors", "tokenizer_config.json"])
def test_half_a_student_is_refused(student: Student, tmp_path: Path, name: str) -> None:
    (student.folder / name).unlink()
    with pytest.raises(WeightsError, match="is no whole model"):
        safetensors.export(student.folder, tmp_path)


def test_a_student_that_needs_code_of_its_own_is_refused(student: Student, tmp_path: Path) -> None:
    config = json.loads((student.folder / "config.json").read_text())
    (student.folder / "config.json").write_text(json.dumps(config | {"auto_map": {"AutoConfig": "evil.Config"}}))
    with pytest.raises(WeightsError, match="needs code of its own"):
        safetensors.export(student.folder, tmp_path)


@pytest.mark.slow
def test_the_cards_snippet_runs(write: Callable[..., Artifact]) -> None:
    assert called(write()).endswith("\n")


@pytest.mark.slow
def test_the_cards_snippet_runs_for_an_encoder_decoder(
    write: Callable[..., Artifact], tiny_encoder_decoder: Path, tmp_path: Path
) -> None:
    artifact = write(student=trained(tiny_encoder_decoder, tmp_path / "t5"))
    assert "AutoModelForSeq2SeqLM" in card(artifact)
    assert called(artifact).endswith("\n")


@pytest.mark.slow
def test_the_cards_snippet_answers_with_the_real_model(
    write: Callable[..., Artifact], embedded_model: str, weights_folder: Path, tmp_path: Path
) -> None:
    real = trained(weights_folder, tmp_path / "real")
    question = Example(input="What is the capital of France?", output="Paris", source=TASK.examples[0].source)
    task = TaskSpec(instruction="Answer the question.", examples=(question,))
    artifact = write(student=real, task=task, splits=Splits(train=(question,)))
    assert "Paris" in called(artifact)
    shutil.rmtree(artifact.folder)
