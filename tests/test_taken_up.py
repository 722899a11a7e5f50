"""A training by any method that is killed and started again ends, bit for bit, as one that was left alone."""

import json
from pathlib import Path

import pytest
from killing import Killed, kill_after
from train_here import main
from trainings import training

CASES = (
    ("the teacher's distributions", "encoder-decoder", 3),
    ("the likeliest tokens on disk", "decoder", 5),
    ("a projection", "decoder", 3),
    ("a projection", "encoder-decoder", 5),
    ("its own answers", "encoder-decoder", 3),
    ("a policy", "decoder", 2),
    ("a policy", "encoder-decoder", 3),
    ("a context's distributions", "encoder-decoder", 2),
    ("two tasks", "decoder", 3),
    ("two tasks", "encoder-decoder", 5),
    ("thoughts", "encoder-decoder", 3),
)
"""With the number of its checkpoints after which it is killed; a policy has four in its first phase."""


@pytest.mark.parametrize(("name", "architecture", "saves"), CASES)
def test_a_killed_training_goes_on_to_the_same_result(tmp_path, monkeypatch, name, architecture, saves):
    text = tmp_path / "plain.txt"
    text.write_text("the film is good and the answer is a text " * 50)
    base, _, settings = training(name, architecture, tmp_path, text)
    if architecture == "encoder-decoder":
        make_forgetful(Path(base))
    with monkeypatch.context() as patch:
        kill_after(patch, saves)
        with pytest.raises(Killed):
            main(base, tmp_path / "killed", {**settings, "save_every_seconds": 0.0})
    is_in_first_phase = not (tmp_path / "killed" / "unfinished").exists()
    assert is_in_first_phase == (name == "a policy")
    for folder in ("killed", "straight"):
        main(base, tmp_path / folder, dict(settings))
    killed, straight = (json.loads((tmp_path / one / "result-0.json").read_text()) for one in ("killed", "straight"))
    assert killed == straight
    assert len(straight["losses"]) > saves


def make_forgetful(base: Path) -> None:
    """Give the model dropout."""
    config = json.loads((base / "config.json").read_text())
    (base / "config.json").write_text(json.dumps({**config, "dropout_rate": 0.2}))
