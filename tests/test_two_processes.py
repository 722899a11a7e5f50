"""Under `accelerate launch` every method learns as it does in one process: two share the rows and the work."""

from pathlib import Path

import pytest
from launching import largest_difference, outcome, together
from safetensors.torch import load_file
from trainings import training, unlabelled

CASES = (
    ("the teacher's distributions", "decoder"),
    ("the teacher's distributions", "encoder-decoder"),
    ("a projection", "decoder"),
    ("a projection", "encoder-decoder"),
    ("the likeliest tokens on disk", "decoder"),
    ("drawn tokens on disk", "encoder-decoder"),
    ("its own answers", "decoder"),
    ("its own answers", "encoder-decoder"),
    ("a policy", "decoder"),
    ("a policy", "encoder-decoder"),
    ("a context's distributions", "decoder"),
    ("a context's distributions", "encoder-decoder"),
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
    inputs = unlabelled(home / "inputs.txt")
    folders = {case: home / str(number) for number, case in enumerate(CASES)}
    together([training(*case, folder, inputs) for case, folder in folders.items()], home)
    return folders


@pytest.mark.slow
@pytest.mark.parametrize(("name", "architecture"), CASES)
def test_two_processes_learn_as_one_does(learned, name, architecture):
    alone, first, second = outcome(learned[name, architecture])
    assert first == second
    assert first["tokens"] == alone["tokens"]
    assert first["losses"] == pytest.approx(alone["losses"], rel=1e-4)
    for ours, theirs in zip(first["history"], alone["history"], strict=True):
        assert ours == pytest.approx(theirs, rel=1e-4)
    # AdamW makes steps of rounding where gradients are 0
    assert largest_difference(learned[name, architecture], "one", "two") < 5e-4


@pytest.mark.slow
@pytest.mark.parametrize(("name", "architecture"), CASES)
def test_two_processes_have_the_gradient_of_one(learned, name, architecture):
    """Neither AdamW's steps nor clipped gradients would tell one that is too large by a factor."""
    folder = learned[name, architecture]
    largest = max(float(one.abs().max()) for one in load_file(folder / "one" / "gradients.safetensors").values())
    assert largest > 1e-4
    assert largest_difference(folder, "one", "two", of="gradients") < 2e-5 * largest
