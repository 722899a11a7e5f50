"""Trains tiny models as a process of its own: `python train_here.py BASE FOLDER SETTINGS-AS-JSON [BASE FOLDER …]`.

Writes the losses, the scores and a digest of the weights to FOLDER/result-RANK.json, and the first step's gradients to
FOLDER/gradients.safetensors.
"""

import hashlib
import json
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from safetensors.torch import save_file

from prompt2model import memory
from prompt2model.config import TrainConfig
from prompt2model.optimiser import MasterAdamW
from prompt2model.records import Example, Source, Splits, TaskSpec
from prompt2model.stages.train import train
from prompt2model.student import open_model

WORDS = {"good": "positive", "fine": "positive", "bad": "negative", "poor": "negative"}
TASK = TaskSpec(
    instruction="Is the film good?", kind="classification", labels=("positive", "negative"), metric="accuracy"
)
WRITING = TaskSpec(instruction="Is the film good?", kind="generation", metric="exact_match")
SOURCE = Source(kind="data", name="films.csv")
USUAL_TOKENS = dict(memory.LEARNED_AT_ONCE)


def films(count: int, first: int = 0, *, reasoned: bool = False) -> tuple[Example, ...]:
    """Rows of different lengths whose output follows from one word, which a rationale may name."""
    rows = []
    for number in range(first, first + count):
        word = list(WORDS)[number % 4]
        text = f"the {'very ' * (number % 5)}film {number} is {word}"
        rationale = f"{'the film is ' * (number % 3)}{word}" if reasoned else None
        rows.append(Example(input=text, output=WORDS[word], source=SOURCE, rationale=rationale))
    return tuple(rows)


def main(base: str, folder: Path, settings: dict[str, Any]) -> None:
    seconds = settings.pop("save_every_seconds", 90.0)
    most = settings.pop("most_tokens", None)
    memory.LEARNED_AT_ONCE = dict.fromkeys(USUAL_TOKENS, most) if most else USUAL_TOKENS
    reasoned, task = settings.pop("reasoned", False), TASK if settings.pop("labels", True) else WRITING
    splits = Splits(train=films(40, reasoned=reasoned), validation=films(9, first=100, reasoned=reasoned))
    teacher = open_model(settings.pop("teacher"), precision="float32") if "teacher" in settings else None
    how = {"folder": folder, "seed": 3, "save_every_seconds": seconds, "teacher": teacher}
    with first_gradients(folder / "gradients.safetensors"):
        student = train(task, splits, base, TrainConfig(**settings), **how)
    digest = hashlib.sha256((folder / "model.safetensors").read_bytes()).hexdigest()
    result = {
        "losses": student.losses,
        "history": [(one.step, one.score, one.validation_loss_nats) for one in student.history],
        "tokens": student.tokens,
        "weights": digest,
    }
    (folder / f"result-{os.environ.get('RANK', '0')}.json").write_text(json.dumps(result))


@contextmanager
def first_gradients(path: Path) -> Iterator[None]:
    """Leaves those of the first step in the file, before they are clipped; of several trainings the last one's."""
    step, last = MasterAdamW.step, [None]

    def keep_and_step(optimiser: MasterAdamW, *how: Any) -> float:
        if optimiser is not last[0] and os.environ.get("RANK", "0") == "0":
            path.parent.mkdir(parents=True, exist_ok=True)
            found = {str(place): one.grad for place, one in enumerate(optimiser.parameters) if one.grad is not None}
            save_file({name: gradient.contiguous() for name, gradient in found.items()}, path)
        last[0] = optimiser
        return step(optimiser, *how)

    MasterAdamW.step = keep_and_step
    try:
        yield
    finally:
        MasterAdamW.step = step


if __name__ == "__main__":
    for base, folder, settings in zip(sys.argv[1::3], sys.argv[2::3], sys.argv[3::3], strict=True):
        main(base, Path(folder), json.loads(settings))
