"""One stage of a run, made again: with other settings, on other rows, or in another format."""

import os
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

from prompt2model import accounts, store
from prompt2model.book import book_of
from prompt2model.config import Config
from prompt2model.errors import DataError
from prompt2model.pipeline import given_to_evaluate, given_to_train, measures_teacher, needs_in_training, stage_key
from prompt2model.records import Artifact, Example, Report, Splits, Student
from prompt2model.rows import read_test
from prompt2model.run import Run
from prompt2model.stages.evaluate import evaluate
from prompt2model.stages.export import export
from prompt2model.teacher import Teacher
from prompt2model.teachers import open_teacher
from prompt2model.twins import Twins


def is_run(folder: Path) -> bool:
    """Whether rows have been prepared in the folder, so that a student can be trained there."""
    return (folder / "split.json").is_file()


def settings_of(folder: Path) -> Path | None:
    """The file of the settings that the run was last made with."""
    path = folder / "settings.toml"
    return path if path.is_file() else None


def train_again(folder: Path, config: Config) -> Student:
    """A student trained on the run's rows; read back when these settings have made the one that is there.

    Works in several processes at once (`accelerate launch`). What was measured of an earlier student is forgotten.
    """
    from prompt2model.stages.train import train  # torch and transformers take seconds to import

    run = Run(folder)
    splits, base, key = run.splits, run.found.base, _train_key(run, config)
    if store.is_made(folder, "train", Student, depends_on=key):
        return run.trained
    where, is_needed = folder / "student", bool(needs_in_training(config))
    teaching = _teacher(config, folder, "train", is_needed=is_needed)
    with _alone(folder, *_paying(folder, is_needed=is_needed)), teaching as teacher:
        student = train(run.task, splits, base, config.train, folder=where, seed=config.seed, teacher=teacher)
        if is_main_process():
            for stale in ("evaluate.json", "export.json", "report.html"):
                (folder / stale).unlink(missing_ok=True)
            store.once(folder, "train", Student, lambda: student, depends_on=key)
    return student


def is_trained(run: Run, config: Config) -> bool:
    """Whether these settings have made the student that is there."""
    return store.is_made(run.folder, "train", Student, depends_on=_train_key(run, config))


def _train_key(run: Run, config: Config) -> Any:
    return stage_key("train", given_to_train(run.task, run.splits, run.found.base, config))


def evaluate_again(folder: Path, config: Config, test_data: str = "") -> Report:
    """The run's student measured again: on the run's own test rows, which also renews its report, or on other ones.

    Rows of `test_data` that the student has learned from, or their near twins, are left out and counted.
    """
    run, paying = Run(folder), _paying(folder, is_needed=measures_teacher(config))
    if test_data:
        splits, note = _measured_on(test_data, run, config)
        with _alone(*paying):
            measured = _measured(run, splits, config)
        return measured.model_copy(update={"notes": (*measured.notes, *note)})
    with _alone(folder, *paying):
        measured = _measured(run, run.splits, config)
        key = stage_key("evaluate", given_to_evaluate(run.task, run.splits, run.trained, config))
        (folder / "evaluate.json").unlink(missing_ok=True)
        store.once(folder, "evaluate", Report, lambda: measured, depends_on=key)
        run.write_page()
    return measured


def _measured(run: Run, splits: Splits, config: Config) -> Report:
    with _teacher(config, run.folder, "evaluate", is_needed=measures_teacher(config)) as teacher:
        return evaluate(run.task, splits, run.trained, config.evaluate, teacher=teacher, seed=config.seed)


def export_again(folder: Path, config: Config, out: Path) -> Artifact:
    """The run's student and its card in the folder `out`."""
    run = Run(folder)
    made_of = (run.task, run.found, run.made, run.splits, run.trained, run.report)
    return export(*made_of, config.export, folder=out)


def is_main_process() -> bool:
    """Whether this is the process that writes and speaks, where `accelerate launch` or `torchrun` started several."""
    return os.environ.get("RANK", "0") == "0"


@contextmanager
def _alone(*folders: Path) -> Iterator[None]:
    """Keeps other commands out of the folders; the processes of this one work together."""
    with ExitStack() as kept:
        if is_main_process():
            for folder in {folder.resolve(): folder for folder in folders}.values():
                kept.enter_context(store.alone(folder))
        yield


def _paying(folder: Path, *, is_needed: bool) -> list[Path]:
    """The folder whose budget a teacher that is needed is paid from: two at once would each take all that is left."""
    return [book_of(folder).parent] if is_needed else []


@contextmanager
def _teacher(config: Config, folder: Path, stage: str, *, is_needed: bool) -> Iterator[Teacher | None]:
    """The teacher where it is needed; what it is asked within is noted in the run's ledger."""
    name, book = config.teacher, book_of(folder)
    opened: list[Teacher] = []
    if is_needed:
        if is_main_process():
            accounts.settle(folder)
        opened = [open_teacher(name, options=config.teacher_options, budget_usd=config.budget_usd, book=book)]
    with accounts.accounted(folder, stage, opened):
        yield opened[0] if opened else None


def _measured_on(test_data: str, run: Run, config: Config) -> tuple[Splits, tuple[str, ...]]:
    given = read_test(test_data, run.task, config.retrieve)
    rows, seen = _unseen(given.examples, (*run.splits.train, *run.splits.validation), config.split.near_twin)
    if not rows:
        raise DataError(
            f"The student has learned from every row of {test_data}, or from its near twin.",
            hint="Measure it on rows that it has not seen.",
        )
    notes = [f"{seen} test rows were left out: the student has learned from them, or from a near twin."] if seen else []
    notes += [f"{count} rows of {test_data} were left out: {reason}." for reason, count in given.dropped.items()]
    return run.splits.model_copy(update={"test": rows}), (*given.notes, *notes)


def _unseen(
    rows: tuple[Example, ...], learned: tuple[Example, ...], near_twin: float
) -> tuple[tuple[Example, ...], int]:
    twins = Twins([row.input for row in learned], near_twin)
    kept = tuple(row for row in rows if twins.find(row.input) is None)
    return kept, len(rows) - len(kept)
