"""DistilBERT's ablation: a student of some of the teacher's layers, without each of three losses, and begun at random.

    python benchmarks/distilbert.py DATA [TASK ...] --results distilbert.jsonl

Sanh et al., 2019, https://arxiv.org/abs/1910.01108, table 4. The teacher is the base, fine-tuned on the task as
usual; the student is every `--every`-th layer of it, and learns by the method `hidden` at `--learning-rate`: what was
taken apart takes a higher one.
"""

from argparse import Namespace
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import torch
from cells import Cells, Figures, arguments, drawn, score, wanted

from prompt2model.config import TrainConfig
from prompt2model.layers import save_every
from prompt2model.stages.train import train
from prompt2model.student import load, open_model, save
from prompt2model.weights import DEFAULT_MODEL

RANDOM = "random start"
ARMS: dict[str, dict[str, Any]] = {
    "teacher": {},
    "all three losses": {},
    "without the states' distance": {"hidden": 0.0},
    "without the teacher's distribution": {"soft": 0.0},
    "without the labels": {"label": 0.0},
    RANDOM: {},
}


def main(argv: Sequence[str] | None = None) -> None:
    sizes = {"rows": 1000, "test_rows": 400, "epochs": 3.0, "learning_rate": 0.0, "every": 2}
    args = arguments(__doc__, argv, ["sst2"], base=DEFAULT_MODEL, **sizes)
    cells = Cells(args)
    for name in args.tasks:
        for seed in args.seeds:
            for arm in wanted(ARMS, args):
                cells.once(partial(measured, args, cells, name, arm, seed), task=name, arm=arm, seed=seed)
    cells.print("score", "auc", "parameters", "n", "seconds")


def measured(args: Namespace, cells: Cells, name: str, arm: str, seed: int, folder: Path) -> Figures:
    """The score of the arm's student, or of the teacher."""
    task, splits = drawn(args, name, seed)
    how = {"epochs": args.epochs, "learning_rate": args.learning_rate, "patience": 0}
    learn = partial(train, task, splits, seed=seed)
    usual = TrainConfig(method="seqkd", **how | {"learning_rate": 0.0})
    teaching = cells.student(
        lambda folder: learn(args.base, usual, folder=folder), task=name, role="teacher", seed=seed
    )
    teacher = open_model(teaching)
    if arm == "teacher":
        return score(task, teacher, splits.test) | {"parameters": teacher.model.num_parameters()}
    config = TrainConfig(method="hidden", options=ARMS[arm], init=f"layers:every={args.every}", **how)
    base = teacher.name
    if arm == RANDOM:
        base = str(save_random(Path(teacher.name), args.every, folder / "random", seed))
        config = config.model_copy(update={"init": ""})
    student = learn(base, config, folder=folder / "student", teacher=teacher)
    return score(task, student.folder, splits.test) | {"parameters": student.parameters}


def save_random(source: Path, every: int, folder: Path, seed: int) -> Path:
    """A model with fewer layers than the source, and random weights."""
    model, codec = load(save_every(source, every, folder), precision="float32")
    torch.manual_seed(seed)
    save(type(model)(model.config), codec, folder)
    return folder


if __name__ == "__main__":
    main()
