"""Under `accelerate launch` every method learns as it does in one process: two share the rows and the work."""

from pathlib import Path
from typing import Any

import pytest
from launching import largest_difference, outcome, together
from tiny import save_decoder, save_encoder_decoder
from train_here import films

BASES = {"decoder": save_decoder, "encoder-decoder": save_encoder_decoder}
HOW = {"epochs": 2, "batch_rows": 13, "learning_rate": 3e-3, "precision": "float32", "validations_per_epoch": 1}
"""13 rows a step are no multiple of two, and the last step of an epoch has one row for two processes."""

METHODS = {
    "a projection": {"method": "hidden", "options": {"layers": [2]}},
    "the likeliest tokens on disk": {"method": "word_kd", "options": {"source": "top_k", "k": 8}},
    "drawn tokens on disk": {"method": "word_kd", "options": {"source": "sampled", "k": 8}},
    "two tasks": {"method": "step_by_step", "reasoned": True},
    "thoughts": {"method": "chain_of_thought", "reasoned": True},
    "its own labels": {"method": "self_training", "options": {"threshold": 0.5, "soft": True}},
    "two students": {"method": "self_training", "options": {"threshold": 0.5, "labelled_by": "peer"}},
    "two students' adapters": {
        "method": "self_training",
        "options": {"threshold": 0.5, "labelled_by": "peer"},
        "lora_rank": 4,
    },
    "what its labels did": {"method": "meta_pseudo_labels"},
}
WITH_TEACHER, WITH_INPUTS = ("hidden", "word_kd"), ("self_training", "meta_pseudo_labels")
CASES = (
    ("a projection", "decoder"),
    ("a projection", "encoder-decoder"),
    ("the likeliest tokens on disk", "decoder"),
    ("drawn tokens on disk", "encoder-decoder"),
    ("two tasks", "decoder"),
    ("two tasks", "encoder-decoder"),
    ("thoughts", "decoder"),
    ("its own labels", "decoder"),
    ("two students", "encoder-decoder"),
    ("two students' adapters", "decoder"),
    ("what its labels did", "decoder"),
)


@pytest.fixture(scope="module")
def learned(tmp_path_factory) -> dict[tuple[str, str], Path]:
    """The folder of each case, after all have been trained by the same processes: to start them takes the longest."""
    home = tmp_path_factory.mktemp("cases")
    inputs = home / "inputs.txt"
    inputs.write_text("\n".join(row.input for row in films(30, first=200)))
    folders = {case: home / str(number) for number, case in enumerate(CASES)}
    together([training(*case, folder, inputs) for case, folder in folders.items()], home)
    return folders


def training(name: str, architecture: str, folder: Path, inputs: Path) -> tuple[str, Path, dict[str, Any]]:
    save, settings = BASES[architecture], {**HOW, **METHODS[name]}
    if settings["method"] in WITH_TEACHER:
        settings["teacher"] = str(save(folder / "teacher", seed=2))
    if settings["method"] in WITH_INPUTS:
        settings["options"] = {**settings.get("options", {}), "inputs": str(inputs)}
    return str(save(folder / "base", seed=1, width=16)), folder, settings


@pytest.mark.slow
@pytest.mark.parametrize(("name", "architecture"), CASES)
def test_two_processes_learn_as_one_does(learned, name, architecture):
    alone, first, second = outcome(learned[name, architecture])
    assert first == second
    assert first["tokens"] == alone["tokens"]
    assert first["losses"] == pytest.approx(alone["losses"], rel=1e-4)
    for ours, theirs in zip(first["history"], alone["history"], strict=True):
        assert ours == pytest.approx(theirs, rel=1e-4)
    assert largest_difference(learned[name, architecture]) < 5e-4  # AdamW makes steps of rounding where gradients are 0
