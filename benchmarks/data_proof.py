"""What makes written data good: students' scores on real test rows, by strategy, with one filter less, alone or more,
with a temperature that rises or is lower, with rationales, and in two rounds.

    python benchmarks/data_proof.py DATA [TASK ...] --results data_proof.jsonl

Each student is made from the task's prompt alone. Per seed `--teacher` writes `--candidates` in the usual way, none
of them sifted; every arm of filters judges the same ones, and the first `--rows` that pass are learned from, as many of
each label. With another strategy, with rationales, and in rounds, it writes until so many have passed the usual
filters; `transform` is given another task's training rows to rewrite. `rows` tells how many there were, `dropped` why
others were not; arms that keep the same rows have one student, and take no `seconds`. `--only "as usual" annealed`
names arms: a constant temperature beside one that rises, which takes more candidates than are asked for at once.
"""

from argparse import Namespace
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from math import ceil
from pathlib import Path
from typing import Any

from cells import Cells, Figures, arguments, fewer_tests, score, wanted

from prompt2model import registry, store
from prompt2model.config import Config, GenerateConfig, ParseConfig, RetrieveConfig, SplitConfig, TrainConfig
from prompt2model.errors import ConfigError
from prompt2model.filters import Sieve
from prompt2model.pipeline import build
from prompt2model.recipe import plan
from prompt2model.records import Dropped, Example, Found, Made, TaskSpec
from prompt2model.rounds import plan_rounds
from prompt2model.rows import read_rows
from prompt2model.stages.generate import generate
from prompt2model.stages.parse import parse
from prompt2model.stages.split import split
from prompt2model.stages.train import train
from prompt2model.teacher import Teacher
from prompt2model.teachers import open_teacher
from prompt2model.weights import DEFAULT_MODEL

Settings = dict[str, Any]
Filters = tuple[str, ...]
ANNEALED: Settings = {"anneal_from": 0.5, "temperature": 1.5}
"""On average about the usual temperature, 1: what differs is the order."""
COOLER: Settings = {"temperature": 0.7}
NEEDS_A_RUN = "hard_cases"
"""The strategy that writes after a first training; rounds make such runs."""
TRACES = 3
"""Most rationales asked for a row."""
REWRITTEN = {
    "sst2": "claim_stance",
    "claim_stance": "sst2",
    "question_repair": "grade_school_math",
    "restaurant_text": "sst2",
}
"""The task whose training rows the strategy transform rewrites for another."""
TASKS = list(REWRITTEN)


def main(argv: Sequence[str] | None = None) -> None:
    sizes = {"rows": 200, "candidates": 500, "test_rows": 300, "epochs": 3.0, "learning_rate": 0.0}
    args = arguments(__doc__, argv, TASKS, base=DEFAULT_MODEL, teacher=f"transformers:{DEFAULT_MODEL}", **sizes)
    cells, teacher = Cells(args), open_teacher(args.teacher)
    for name in args.tasks:
        task = parse((args.data / name / "prompt.md").read_text("utf-8"), ParseConfig())
        for seed in args.seeds:
            lab = Lab(args, cells, name, task, teacher, seed)
            found = dict(arms(lab))
            for arm in wanted(found, args):
                cells.once(partial(lab.measure, *found[arm]), task=name, arm=arm, seed=seed)
    cells.print("score", "auc", "rows", "n", "seconds")


def arms(lab: "Lab") -> Iterator[tuple[str, tuple[Settings, Filters]]]:
    """The usual recipe; the usual filters without one, one alone, one more; other temperatures; a student taught by
    rationales too; two rounds; other strategies that suit."""
    strategies, usual = plan(lab.task, GenerateConfig(), lab.teacher)
    names, filters = [strategy.name for strategy in strategies], tuple(usual)
    yield "as usual", ({}, filters)
    yield "no filter", ({}, ())
    for name in filters:
        yield f"without {name}", ({}, tuple(other for other in filters if other != name))
        yield f"only {name}", ({}, (name,))
    for name in registry.names("filters"):
        is_new = name not in filters and "marks" not in registry.load("filters", name).LOOKS_AT
        if is_new and lab.suits(filters=(name,)):
            yield f"with {name}", ({}, (*filters, name))
    yield "annealed", (ANNEALED, filters)
    yield "cooler", (COOLER, filters)
    yield "with rationales", ({"rationales": TRACES}, filters)
    yield "two rounds", ({"rounds": 2}, filters)
    for name in registry.names("strategies"):
        if name not in (*names, NEEDS_A_RUN) and lab.suits(**lab.recipe(name)):
            yield f"strategy {name}", (lab.recipe(name), filters)


@dataclass(frozen=True)
class Lab:
    """One task with one seed."""

    args: Namespace
    cells: Cells
    name: str
    task: TaskSpec
    teacher: Teacher
    seed: int

    def recipe(self, strategy: str) -> Settings:
        """Settings by which this strategy alone writes."""
        options = {}
        if strategy == "transform" and self.name in REWRITTEN:
            options = {"transform": {"data": str(self.args.data / REWRITTEN[self.name] / "train.jsonl")}}
        return {"strategies": (strategy,), "options": options}

    def suits(self, **recipe: Any) -> bool:
        try:
            plan(self.task, GenerateConfig(**recipe), self.teacher)
        except ConfigError:
            return False
        return True

    def measure(self, writing: Settings, filters: Filters, folder: Path) -> Figures:
        """The score, on real rows, of a student of what passes the filters."""
        test = str(self.args.data / self.name / "test.jsonl")
        real = read_rows(test, self.task, RetrieveConfig()).examples
        if "rounds" in writing:
            return self.in_rounds(writing["rounds"], filters, folder / "rounds", test)
        if writing.keys() & {"strategies", "rationales"}:
            made = self.written(filters=filters, count=self.args.rows, **writing)
            kept, dropped = list(made.examples), made.dropped
        else:
            kept, dropped = self.sifted(self.candidates(writing), filters, real)
        sifting = {"rows": len(kept), "filters": filters, "dropped": dropped, "kept": store.digest(kept)}
        alike = self.cells.find({"kept": sifting["kept"]}, task=self.name, seed=self.seed)
        return (alike or self.trained(kept, folder, test)) | sifting

    def trained(self, kept: Sequence[Example], folder: Path, test: str) -> Figures:
        """The score of a student of these rows."""
        args = self.args
        made, found = Made(examples=tuple(kept)), Found(base=args.base)
        splits = split(self.task, found, made, SplitConfig(test_data=test), seed=self.seed)
        how = TrainConfig(epochs=args.epochs, learning_rate=args.learning_rate)
        student = train(self.task, splits, args.base, how, folder=folder / "student", seed=self.seed)
        return score(self.task, student.folder, fewer_tests(splits, args.test_rows).test)

    def in_rounds(self, rounds: int, filters: Filters, folder: Path, test: str) -> Figures:
        """The score of the last of several students, who learns what was hard for those before it."""
        args = self.args
        config = Config(
            teacher=args.teacher,
            seed=self.seed,
            retrieve=RetrieveConfig(base=args.base, hub="off"),
            generate=GenerateConfig(count=args.rows, filters=filters),
            split=SplitConfig(test_data=test),
            train=TrainConfig(epochs=args.epochs, learning_rate=args.learning_rate),
        )
        for one in plan_rounds(config, rounds, folder):
            run = build(args.data / self.name / "prompt.md", out=one.folder, config=one.config, until="train")
        found = score(self.task, run.trained.folder, fewer_tests(run.splits, args.test_rows).test)
        return found | {"rows": len(run.made.examples), "filters": filters, "dropped": run.made.dropped}

    def candidates(self, writing: Settings) -> list[Example]:
        """What the teacher writes in this way, unsifted."""
        cell = {"task": self.name, "role": "candidates", "writing": writing, "seed": self.seed}
        write = partial(self.written, filters=(), count=self.args.candidates, **writing)
        return list(self.cells.shared(Made, lambda _: write(), **cell).examples)

    def written(self, **how: Any) -> Made:
        """What the teacher writes with these settings, and what of it passes the filters that are in them."""
        found = Found(base=self.args.base)
        return generate(self.task, found, GenerateConfig(**how), teacher=self.teacher, seed=self.seed)

    def sifted(
        self, rows: list[Example], filters: Filters, test: Sequence[Example]
    ) -> tuple[list[Example], dict[str, int]]:
        """The first that pass all filters, of no label more than its share; and why the others were dropped."""
        sieve, dropped = (
            Sieve(self.task, self.teacher, GenerateConfig(), list(self.task.examples), test),
            Counter[str](),
        )
        for name in filters:
            judged = registry.load("filters", name).sift(rows, sieve)
            dropped.update(one.reason for one in judged if isinstance(one, Dropped))
            rows = [one for one in judged if isinstance(one, Example)]
        share, of_label, kept = ceil(self.args.rows / max(len(self.task.labels), 1)), Counter[str](), list[Example]()
        for row in rows:
            label = row.output if self.task.labels else ""
            if of_label[label] < share and len(kept) < self.args.rows:
                kept.append(row)
                of_label[label] += 1
        return kept, dropped


if __name__ == "__main__":
    main()
