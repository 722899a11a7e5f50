"""What the benchmarks of the papers' claims share: arguments, a task's rows, cells that are measured once, the table.

DATA is a folder with a folder for each task: `prompt.md`, `train.jsonl`, `test.jsonl`. A cell is one arm with one seed
on one task; it is kept as a line of the results file. The same command again goes on where it was killed, and with
other tasks, arms or seeds it measures what is not there yet; with other sizes the cells are others.
"""

import json
import shutil
from argparse import ArgumentParser, Namespace, RawDescriptionHelpFormatter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from statistics import mean, stdev
from time import perf_counter
from typing import Any, TypeVar

from sklearn.metrics import roc_auc_score

from prompt2model import registry, store
from prompt2model.answers import Answer, ask
from prompt2model.config import ParseConfig, RetrieveConfig, SplitConfig
from prompt2model.conversation import Message
from prompt2model.course import asked_of_student
from prompt2model.errors import ConfigError, DataError, WeightsError
from prompt2model.records import Example, Found, Made, Record, Splits, Student, TaskSpec
from prompt2model.rows import read_rows
from prompt2model.stages.parse import parse
from prompt2model.stages.split import split
from prompt2model.student import LocalModel, open_model

Figures = dict[str, Any]
R = TypeVar("R", bound=Record)


def arguments(about: str, argv: Sequence[str] | None, tasks: Sequence[str], **sizes: Any) -> Namespace:
    """What the command line says; each of the sizes is a flag with that default."""
    parser = ArgumentParser(description=about, formatter_class=RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path, metavar="DATA", help="a folder with a folder for each task")
    parser.add_argument("tasks", nargs="*", default=list(tasks), metavar="TASK", help=f"default: {' '.join(tasks)}")
    parser.add_argument("--results", type=Path, required=True, help="the file of finished cells, one JSON line each")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1], metavar="SEED", help="default: 0 1")
    parser.add_argument("--only", nargs="+", metavar="ARM", help="these arms, not all")
    for name, default in sizes.items():
        flag = f"--{name.replace('_', '-')}"
        parser.add_argument(flag, type=type(default), default=default, help=f"default: {default!r}")
    return parser.parse_args(argv)


def wanted(arms: Iterable[str], args: Namespace) -> list[str]:
    """The arms that are to be measured."""
    return [arm for arm in arms if not args.only or arm in args.only]


@dataclass
class Cells:
    """The results file, and beside it a folder for models in the making."""

    args: Namespace
    lines: list[dict[str, Any]] = field(default_factory=list)
    """Those that were asked for, in that order: what was varied, and its figures."""

    def once(self, measure: Callable[[Path], Figures], **cell: Any) -> None:
        """The cell's figures, as they are kept or measured now in a folder of its own.

        `seconds` are those of the last attempt; the first cell that needs a student of `student` pays for it. What
        cannot be had is said, and not kept.
        """
        kept = next((line for line in self._kept() if line["cell"] == cell and line["sizes"] == self.sizes), None)
        try:
            kept = kept or self._measured(measure, cell)
        except (ConfigError, DataError, WeightsError) as error:
            print(error, flush=True)
        else:
            self.lines.append(kept["cell"] | kept["figures"])

    def find(self, figures: Figures, **cell: Any) -> Figures | None:
        """The figures of a kept cell of which this is known, if there is one."""
        for line in self._kept():
            known = (line["cell"].items() >= cell.items(), line["figures"].items() >= figures.items())
            if all(known) and line["sizes"] == self.sizes:
                return dict(line["figures"])
        return None

    def _measured(self, measure: Callable[[Path], Figures], cell: dict[str, Any]) -> dict[str, Any]:
        print(", ".join(map(str, cell.values())), "…", flush=True)
        folder, started = self._folder(cell), perf_counter()
        figures = measure(folder) | {"seconds": perf_counter() - started}
        found = {"cell": cell, "sizes": self.sizes, "figures": figures}
        with self.args.results.open("a", encoding="utf-8") as file:
            file.write(json.dumps(found, ensure_ascii=False) + "\n")
        shutil.rmtree(folder)
        return found

    def student(self, make: Callable[[Path], Student], **cell: Any) -> str:
        """The folder of a student that several cells learn from, trained once and left beside the results."""
        return str(self.shared(Student, lambda folder: make(folder / "student"), **cell).folder)

    def shared(self, record: type[R], make: Callable[[Path], R], **cell: Any) -> R:
        """What several cells need, made once and left beside the results."""
        folder = self._folder(cell)
        return store.once(folder, "shared", record, lambda: make(folder), depends_on=[cell, self.sizes])

    def print(self, *columns: str) -> None:
        print("\n" + table(self.lines, columns) + "\n", flush=True)

    @property
    def sizes(self) -> dict[str, Any]:
        """All arguments that are neither files nor choices of cells."""
        return {
            name: value
            for name, value in vars(self.args).items()
            if name not in ("data", "tasks", "results", "seeds", "only")
        }

    def _kept(self) -> list[dict[str, Any]]:
        file = self.args.results
        return [json.loads(line) for line in file.read_text("utf-8").splitlines()] if file.is_file() else []

    def _folder(self, cell: dict[str, Any]) -> Path:
        return store.open_run(self.args.results.with_suffix(".work") / store.digest([cell, self.sizes])[:16])


def table(lines: Sequence[dict[str, Any]], columns: Sequence[str]) -> str:
    """Markdown: what was varied, apart from the seed, and of each figure the mean over the seeds ± their deviation."""
    varied = [name for name in ("task", "arm", "percent") if any(name in line for line in lines)]
    groups: dict[tuple[Any, ...], list[dict[str, Any]]] = {}
    for line in lines:
        groups.setdefault(tuple(line.get(name, "") for name in varied), []).append(line)
    head = [*varied, "seeds", *columns]
    rows = [
        [*group, len(same), *(_spread([line[name] for line in same if name in line]) for name in columns)]
        for group, same in groups.items()
    ]
    return "\n".join("| " + " | ".join(map(str, row)) + " |" for row in [head, ["---"] * len(head), *rows])


def _spread(values: Sequence[float]) -> str:
    if not values:
        return "–"
    apart = f" ± {stdev(values):.2g}" if len(set(values)) > 1 else ""
    return f"{mean(values):.4g}{apart}"


def drawn(args: Namespace, name: str, seed: int, *, validation: float = 0.15) -> tuple[TaskSpec, Splits]:
    """The task, and `args.rows` of its rows, drawn with the seed; the test rows are the same for every seed."""
    folder = args.data / name
    task = parse((folder / "prompt.md").read_text("utf-8"), ParseConfig())
    rows = read_rows(str(folder / "train.jsonl"), task, RetrieveConfig()).examples
    found = Found(base="", examples=tuple(Random(seed).sample(rows, min(args.rows, len(rows)))))
    config = SplitConfig(test_data=str(folder / "test.jsonl"), validation=validation)
    return task, fewer_tests(split(task, found, Made(), config, seed=seed), args.test_rows)


def fewer_tests(splits: Splits, most: int) -> Splits:
    test = splits.test
    return splits.model_copy(update={"test": tuple(Random(0).sample(test, min(most, len(test))))})


def score(task: TaskSpec, model: LocalModel | str | Path, rows: Sequence[Example]) -> Figures:
    """The figures of a student that reads the inputs alone."""
    return graded(task, answered(task, model, [asked_of_student(row) for row in rows], rows), rows)


def answered(
    task: TaskSpec, model: LocalModel | str | Path, asked: Sequence[tuple[Message, ...]], rows: Sequence[Example]
) -> list[Answer]:
    """The answers to what is asked, at most about as long as the longest output of the rows."""
    model = model if isinstance(model, LocalModel) else open_model(str(model))
    most = max(len(model.codec.completion(row.output)) for row in rows) + 8
    return ask(task, asked, model, max_tokens=most, what="measuring")


def graded(task: TaskSpec, answers: Sequence[Answer], rows: Sequence[Example]) -> Figures:
    """The task's metric, in per cent; n; the tokens read and written for an answer; of two labels the AUC too.

    The AUC, in per cent, is that of the probabilities: it says how well the labels are told apart, wherever the
    threshold is.
    """
    texts, truth = [answer.text for answer in answers], [row.output for row in rows]
    value = registry.load("metrics", task.metric).compute(texts, truth)
    tokens = mean(answer.tokens for answer in answers)
    found = {"metric": task.metric, "score": 100 * value, "n": len(rows), "tokens_a_call": tokens}
    if len(task.labels) == len(set(truth)) == 2 and all(answer.probability is not None for answer in answers):
        first = task.labels[0]
        of_first = [one.probability if one.text == first else 1 - (one.probability or 0) for one in answers]
        found["auc"] = 100 * float(roc_auc_score([output == first for output in truth], of_first))
    return found
