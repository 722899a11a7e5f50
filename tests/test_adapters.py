"""Adapters learn from a teacher's distributions too: what they change is of their rank, and the student is whole."""

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from train_here import main
from trainings import training

from prompt2model.conversation import Message, Request
from prompt2model.student import load, open_model, save
from prompt2model.teacher import replies

RANK = 4
HOW = {"lora_rank": RANK, "learning_rate": 3e-2, "epochs": 8, "patience": 0}
SOFT = {"targets": "soft", "draws": 50}


@pytest.mark.parametrize("architecture", ["decoder", "encoder-decoder"])
@pytest.mark.parametrize(
    ("name", "changed"),
    [
        ("the teacher's distributions", {}),
        ("the likeliest tokens on disk", {}),
        ("a context's distributions", {}),
        ("a context's distributions", SOFT),
    ],
)
def test_adapters_alone_learn_and_are_merged_into_a_whole_student(tmp_path, architecture, name, changed):
    base, folder, settings = training(name, architecture, tmp_path, tmp_path)
    if architecture == "decoder":
        make_outspoken(Path(base))
    options = {**settings.get("options", {}), **changed}
    main(base, folder, {**settings, **HOW, "options": options})
    losses = json.loads((folder / "result-0.json").read_text())["losses"]
    assert losses[-1] < 0.9 * losses[0]
    before, after = load_file(f"{base}/model.safetensors"), load_file(folder / "model.safetensors")
    assert before.keys() == after.keys()
    changes = [after[name] - before[name] for name in before if not torch.equal(after[name], before[name])]
    assert {change.dim() for change in changes} == {2}
    assert {int(torch.linalg.matrix_rank(change.double(), atol=1e-5)) for change in changes} == {RANK}
    asked = Request(messages=(Message(role="user", content="the film is bad"),), max_tokens=3)
    assert replies(open_model(str(folder), precision="float32"), [asked])[0].finish in ("stop", "length")


def make_outspoken(base: Path) -> None:
    """Enlarge the embeddings, which are the head too and frozen: small ones leave adapters nothing to say."""
    model, codec = load(base, precision="float32")
    with torch.no_grad():
        model.get_input_embeddings().weight.mul_(5)
    save(model, codec, base)
