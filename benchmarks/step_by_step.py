"""Distilling step-by-step against plain fine-tuning, on the same rows: 12.5, 25, 50 and 100 % of them.

    python benchmarks/step_by_step.py DATA [TASK ...] --results step_by_step.jsonl

Hsieh et al., 2023, https://arxiv.org/abs/2305.02301, figures 4 and 5. Where outputs are worked solutions that end in
`#### answer`, as those of GSM8K, people wrote the rationales. Rows of other tasks get theirs from `--teacher`, which
thinks up to `--traces` times about each until it comes to the row's answer.
"""

import re
from argparse import Namespace
from collections.abc import Callable, Sequence
from functools import cache, partial
from pathlib import Path

from cells import Cells, Figures, arguments, drawn, score, wanted

from prompt2model.config import TrainConfig
from prompt2model.rationales import add_rationales
from prompt2model.records import Example, Splits, TaskSpec
from prompt2model.stages.train import train
from prompt2model.teachers import open_teacher
from prompt2model.weights import DEFAULT_MODEL

PERCENT = (12.5, 25.0, 50.0, 100.0)
ARMS = {"fine-tuning": "seqkd", "step by step": "step_by_step"}
MARK = "####"
CALCULATION = re.compile(r"<<.*?>>")
"""What GSM8K's solutions say to a calculator."""


def main(argv: Sequence[str] | None = None) -> None:
    sizes = {"rows": 800, "test_rows": 500, "epochs": 3.0, "learning_rate": 0.0, "traces": 2}
    teacher = f"transformers:{DEFAULT_MODEL}"
    args = arguments(__doc__, argv, ["grade_school_math"], base=DEFAULT_MODEL, teacher=teacher, **sizes)
    cells = Cells(args)
    for name in args.tasks:
        for seed in args.seeds:
            given = cache(partial(explained, args, name, seed))
            for percent in PERCENT:
                for arm in wanted(ARMS, args):
                    measure = partial(measured, args, given, ARMS[arm], percent, seed)
                    cells.once(measure, task=name, percent=percent, arm=arm, seed=seed)
    cells.print("score", "rows", "rationales", "n", "seconds")


def measured(
    args: Namespace, given: Callable[[], tuple[TaskSpec, Splits]], method: str, percent: float, seed: int, folder: Path
) -> Figures:
    """The score of a student of the first rows, with or without their rationales."""
    task, splits = given()
    rows = splits.train[: max(1, round(percent / 100 * len(splits.train)))]
    config = TrainConfig(method=method, epochs=args.epochs, learning_rate=args.learning_rate, patience=0)
    less = splits.model_copy(update={"train": rows})
    student = train(task, less, args.base, config, folder=folder / "student", seed=seed)
    told = {"rows": len(rows), "rationales": sum(row.rationale is not None for row in rows)}
    return score(task, student.folder, splits.test) | told


def explained(args: Namespace, name: str, seed: int) -> tuple[TaskSpec, Splits]:
    """The task and its rows, in random order, with rationales where some could be had."""
    task, splits = drawn(args, name, seed)
    sides = {side: tuple(map(reasoned, getattr(splits, side))) for side in ("train", "validation", "test")}
    if not any(row.rationale for row in sides["train"]):
        teacher = open_teacher(args.teacher)
        found = add_rationales(sides["train"], task, teacher, traces=args.traces, max_tokens=128, seed=seed)
        sides["train"] = tuple(found.rows)
    return task, splits.model_copy(update=sides)


def reasoned(row: Example) -> Example:
    """The row with its solution as the rationale, and what follows the last mark as the answer."""
    solution, _, answer = row.output.rpartition(MARK)
    rationale = CALCULATION.sub("", solution).strip()
    return row.model_copy(update={"output": answer.strip(), "rationale": rationale or row.rationale})


if __name__ == "__main__":
    main()
