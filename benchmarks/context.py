"""Context distillation: a student without the context, beside the base with it and without it; and a scratchpad.

    python benchmarks/context.py DATA [TASK ...] --results context.jsonl

Snell et al., 2022, https://arxiv.org/abs/2209.15189. Of a task's rows the inputs alone are learned from, answered by
the base itself, which is told the task, and is shown its examples where it has to write. No label chooses a checkpoint.

The task `addition` has no folder: sums of numbers of `--digits` digits are made here. The teacher is the base,
fine-tuned on `--scratchpads` sums that are worked out in writing; its student learns to write the answer at once, from
the answers that the teacher works out to `--rows` others. Beside it a base fine-tuned on as many right answers.
"""

from argparse import Namespace
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from pathlib import Path
from random import Random
from statistics import mean
from typing import Any

from cells import Cells, Figures, answered, arguments, drawn, graded, score, wanted

from prompt2model.answers import as_answered
from prompt2model.config import TrainConfig
from prompt2model.course import asked_of_student
from prompt2model.methods.context import MARK
from prompt2model.prompts import messages
from prompt2model.questions import question
from prompt2model.records import Example, Source, Splits, Student, TaskSpec
from prompt2model.stages.train import train
from prompt2model.student import open_model
from prompt2model.teachers import open_teacher
from prompt2model.weights import DEFAULT_MODEL

ADDITION = TaskSpec(instruction="Add the two numbers.", kind="generation", metric="exact_match")
ARMS = ("base without context", "base in context", "student")
SUMS = ("teacher at once", "teacher with scratchpad", "student", "fine-tuning")
FULL = ("base in context", "teacher with scratchpad")
"""What the tokens of a call are compared with."""


def main(argv: Sequence[str] | None = None) -> None:
    sizes = {"rows": 600, "test_rows": 200, "epochs": 3.0, "learning_rate": 0.0, "examples": 4}
    sums = {"digits": 8, "scratchpads": 500}
    tasks = ["sst2", "question_repair", "addition"]
    args = arguments(__doc__, argv, tasks, base=DEFAULT_MODEL, targets="full", **sizes, **sums)
    cells = Cells(args)
    for name in args.tasks:
        for seed in args.seeds:
            lab: Any = Sums(args, cells, seed) if name == "addition" else Task(args, name, seed)
            for arm in wanted(SUMS if name == "addition" else ARMS, args):
                if (
                    arm == "student" or name == "addition" or seed == args.seeds[0]
                ):  # what learns nothing depends on no seed
                    cells.once(partial(lab.measure, arm), task=name, arm=arm, seed=seed)
    for line in cells.lines:
        in_full = [one["tokens_a_call"] for one in cells.lines if one["task"] == line["task"] and one["arm"] in FULL]
        line |= {"tokens_saved": mean(in_full) - line["tokens_a_call"]} if in_full else {}
    cells.print("score", "auc", "tokens_a_call", "tokens_saved", "n", "seconds")


def learned(args: Namespace, seed: int, task: TaskSpec, rows: Sequence[Example], base: str, **how: Any) -> Student:
    """A student of the rows; without a validation, the last step's."""
    where = {"folder": how.pop("folder"), "teacher": how.pop("teacher", None)}
    config = TrainConfig(epochs=args.epochs, learning_rate=args.learning_rate, patience=0, **how)
    return train(task, Splits(train=tuple(rows)), base, config, seed=seed, **where)


@dataclass(frozen=True)
class Task:
    """A task of DATA with one seed."""

    args: Namespace
    name: str
    seed: int

    def measure(self, arm: str, folder: Path) -> Figures:
        (task, splits), args = drawn(self.args, self.name, self.seed, validation=0.0), self.args
        shown = () if task.labels else task.examples[: args.examples]
        if arm == "student":
            options = {"teacher": "base", "targets": args.targets, "examples": len(shown)}
            how = {"method": "context", "options": options, "folder": folder / "student"}
            return score(task, learned(args, self.seed, task, splits.train, args.base, **how).folder, splits.test)
        model = open_model(args.base)
        if arm == "base without context":
            return score(task, model, splits.test)
        can = frozenset() if shown else model.can
        asked = [question(task, row.input, shown, can=can) for row in splits.test]
        return graded(task, answered(task, model, asked, splits.test), splits.test)


@dataclass(frozen=True)
class Sums:
    """Additions with one seed."""

    args: Namespace
    cells: Cells
    seed: int

    def measure(self, arm: str, folder: Path) -> Figures:
        _, rows, test = self.rows
        if arm == "teacher with scratchpad":
            written = [in_context(row) for row in test]
            asked = [asked_of_student(row) for row in written]
            return graded(ADDITION, answered(as_answered(ADDITION, MARK), self.teacher, asked, written), test)
        if arm == "teacher at once":
            return score(ADDITION, self.teacher, test)
        base, how = self.args.base, {"method": "seqkd", "folder": folder / "student"}
        if arm == "student":
            base = self.teacher
            how |= {"method": "context", "options": {"scratchpad": True, "examples": 0}}
            how |= {"teacher": open_teacher(f"transformers:{base}")}
        return score(ADDITION, learned(self.args, self.seed, ADDITION, rows, base, **how).folder, test)

    @cached_property
    def rows(self) -> tuple[list[Example], list[Example], list[Example]]:
        """Different sums: for the scratchpad, to be answered at once, and for the test."""
        args = self.args
        made = additions(args.scratchpads + args.rows + args.test_rows, args.digits, self.seed)
        return (
            made[args.test_rows + args.rows :],
            made[args.test_rows : args.test_rows + args.rows],
            made[: args.test_rows],
        )

    @cached_property
    def teacher(self) -> str:
        """The folder of the base that was fine-tuned with scratchpads."""
        rows = [in_context(row) for row in self.rows[0]]
        return self.cells.student(
            lambda folder: learned(self.args, self.seed, ADDITION, rows, self.args.base, method="seqkd", folder=folder),
            task="addition",
            role="teacher",
            seed=self.seed,
        )


def additions(count: int, digits: int, seed: int) -> list[Example]:
    """Different sums of two numbers of so many digits, with the work as the rationale."""
    least = 10 ** (digits - 1)
    pairs = (divmod(place, 9 * least) for place in Random(seed).sample(range((9 * least) ** 2), count))
    return [_addition(a + least, b + least) for a, b in pairs]


def _addition(a: int, b: int) -> Example:
    return Example(
        input=f"{a} + {b}",
        output=str(a + b),
        rationale=worked_out(a, b),
        source=Source(kind="data", name="addition"),
    )


def worked_out(a: int, b: int) -> str:
    """Digit by digit from the right, with what is carried: `8+3+0=11 1+2+1=04` for 18 + 23."""
    steps, carried = [], 0
    for x, y in zip(reversed(str(a)), reversed(str(b)), strict=True):
        total = int(x) + int(y) + carried
        steps.append(f"{x}+{y}+{carried}={total:02d}")
        carried = total // 10
    return " ".join(steps)


def in_context(row: Example) -> Example:
    """The row as a teacher with a scratchpad reads and answers it: in one turn, as a template for students has it."""
    asked = messages("answer/scratchpad.j2", task=ADDITION, text=row.input, examples=())
    text = "\n\n".join(message.content for message in asked)
    return row.model_copy(update={"input": text, "output": f"{row.rationale}\n{MARK} {row.output}"})


if __name__ == "__main__":
    main()
