"""Short trainings by every method, for tests that compare where and how they ran."""

from pathlib import Path
from typing import Any

from tiny import save_decoder, save_encoder_decoder
from train_here import films

BASES = {"decoder": save_decoder, "encoder-decoder": save_encoder_decoder}
HOW = {"epochs": 2, "batch_rows": 13, "learning_rate": 3e-3, "precision": "float32", "validations_per_epoch": 1}
"""13 rows a step are no multiple of two, and the last step of an epoch has one row for two processes."""

METHODS: dict[str, dict[str, Any]] = {
    "plain": {"method": "seqkd"},
    "adapters": {"method": "seqkd", "lora_rank": 4},
    "the teacher's distributions": {"method": "word_kd"},
    "the likeliest tokens on disk": {"method": "word_kd", "options": {"source": "top_k", "k": 8}},
    "drawn tokens on disk": {"method": "word_kd", "options": {"source": "sampled", "k": 8}},
    "a projection": {"method": "hidden", "options": {"layers": [2]}},
    "its own answers": {"method": "jsd", "options": {"max_new_tokens": 4}},
    "a policy": {
        "method": "reverse_kl",
        "options": {"warm_up_epochs": 1, "max_new_tokens": 4, "whiten": True},
        "max_length": 64,
    },
    "a context": {"method": "context", "options": {"teacher": "base", "targets": "full"}},
    "a context's distributions": {
        "method": "context",
        "options": {"targets": "full", "temperature": 1.0, "max_tokens": 96},
        "labels": False,
    },
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
WITH_TEACHER = ("word_kd", "hidden", "jsd", "reverse_kl", "context")
WITH_INPUTS = ("self_training", "meta_pseudo_labels")
WITH_TEXT = ("reverse_kl",)


def training(name: str, architecture: str, folder: Path, inputs: Path) -> tuple[str, Path, dict[str, Any]]:
    """The arguments of `launching.together`: base, folder, settings."""
    save, settings = BASES[architecture], {**HOW, **METHODS[name]}
    if settings["method"] in WITH_TEACHER:
        settings["teacher"] = str(save(folder / "teacher", seed=2))
    if settings["method"] in WITH_INPUTS:
        settings["options"] = {**settings.get("options", {}), "inputs": str(inputs)}
    if settings["method"] in WITH_TEXT:
        settings["options"] = {**settings["options"], "text": str(inputs)}
    return str(save(folder / "base", seed=1, width=16)), folder, settings


def unlabelled(path: Path) -> Path:
    """A file of inputs."""
    path.write_text("\n".join(row.input for row in films(30, first=200)))
    return path
