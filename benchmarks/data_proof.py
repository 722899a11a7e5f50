"""What makes written data good: students' scores on real test rows, by strategy, with one filter less or more, and
with a temperature that rises.

    python benchmarks/data_proof.py DATA [TASK ...] --results data_proof.jsonl

Each student is made from the task's prompt alone: `--teacher` writes `--rows` rows, as many in each arm, if it can
within `--over-generate` times as many candidates; `rows` and `dropped` count both. `--only "as usual" annealed` names
arms: a constant temperature beside one that rises, which takes more rows than fit into one round.
"""

from argparse import Namespace
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from cells import Cells, Figures, arguments, fewer_tests, score, wanted

from prompt2model import registry
from prompt2model.config import GenerateConfig, ParseConfig, RetrieveConfig, SplitConfig, TrainConfig
from prompt2model.errors import ConfigError
from prompt2model.recipe import plan
from prompt2model.records import Found, TaskSpec
from prompt2model.rows import read_rows
from prompt2model.stages.generate import generate
from prompt2model.stages.parse import parse
from prompt2model.stages.split import split
from prompt2model.stages.train import train
from prompt2model.teacher import Teacher
from prompt2model.teachers import open_teacher
from prompt2model.weights import DEFAULT_MODEL

ANNEALED = {"anneal_from": 0.5, "temperature": 1.5}
"""On average about the usual temperature, 1: what differs is the order."""
NEED_MORE = ("transform", "hard_cases")
"""Strategies that need a data set or a finished run besides the prompt."""
TASKS = ["sst2", "claim_stance", "question_repair", "restaurant_text"]


def main(argv: Sequence[str] | None = None) -> None:
    sizes = {"rows": 200, "test_rows": 300, "epochs": 3.0, "learning_rate": 0.0, "over_generate": 4.0}
    args = arguments(__doc__, argv, TASKS, base=DEFAULT_MODEL, teacher=f"transformers:{DEFAULT_MODEL}", **sizes)
    cells, teacher = Cells(args), open_teacher(args.teacher)
    for name in args.tasks:
        task = parse((args.data / name / "prompt.md").read_text("utf-8"), ParseConfig())
        recipes = dict(arms(task, teacher))
        for arm in wanted(recipes, args):
            for seed in args.seeds:
                measure = partial(measured, args, name, task, teacher, recipes[arm], seed)
                cells.once(measure, task=name, arm=arm, seed=seed)
    cells.print("score", "rows", "dropped", "n", "seconds")


def arms(task: TaskSpec, teacher: Teacher) -> Iterator[tuple[str, dict[str, Any]]]:
    """The usual recipe; annealed; every other strategy that suits; the usual filters without one; and with one more."""
    strategies, filters = plan(task, GenerateConfig(), teacher)
    usual = [strategy.name for strategy in strategies]
    yield "as usual", {}
    yield "annealed", ANNEALED
    for name in registry.names("strategies"):
        if name not in (*usual, *NEED_MORE) and suits(task, teacher, strategies=(name,)):
            yield f"strategy {name}", {"strategies": (name,)}
    for name in filters:
        yield f"without {name}", {"filters": tuple(other for other in filters if other != name)}
    for name in registry.names("filters"):
        is_new = name not in filters and "marks" not in registry.load("filters", name).LOOKS_AT
        if is_new and suits(task, teacher, filters=(name,)):
            yield f"with {name}", {"filters": (*filters, name)}


def suits(task: TaskSpec, teacher: Teacher, **recipe: Any) -> bool:
    try:
        plan(task, GenerateConfig(**recipe), teacher)
    except ConfigError:
        return False
    return True


def measured(
    args: Namespace, name: str, task: TaskSpec, teacher: Teacher, recipe: dict[str, Any], seed: int, folder: Path
) -> Figures:
    """The score of a student of what the recipe writes, on real rows."""
    test = str(args.data / name / "test.jsonl")
    config = GenerateConfig(count=args.rows, over_generate=args.over_generate, **recipe)
    real = read_rows(test, task, RetrieveConfig()).examples
    made = generate(task, Found(base=args.base), config, teacher=teacher, test=real, seed=seed)
    splits = split(task, Found(base=args.base), made, SplitConfig(test_data=test), seed=seed)
    how = TrainConfig(epochs=args.epochs, learning_rate=args.learning_rate)
    student = train(task, splits, args.base, how, folder=folder / "student", seed=seed)
    scored = score(task, student.folder, fewer_tests(splits, args.test_rows).test)
    told = {"strategies": made.strategies, "filters": made.filters, "why": made.dropped}
    return scored | told | {"rows": len(made.examples), "dropped": sum(made.dropped.values())}


if __name__ == "__main__":
    main()
