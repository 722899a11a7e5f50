"""A finished run: what its folder holds, as records, rows, a report and a student to call."""

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from prompt2model import accounts, data_report, report, store
from prompt2model.records import Artifact, Found, Made, Report, Spent, Splits, Student, TaskSpec
from prompt2model.trained import Trained


@dataclass(frozen=True)
class Run:
    """A finished run: its records, its student, its report. `Run(folder)` opens one again."""

    folder: Path

    def __post_init__(self) -> None:
        object.__setattr__(self, "folder", Path(self.folder))  # whoever opens a run may name it in a string

    @cached_property
    def task(self) -> TaskSpec:
        return store.read(self.folder, "parse", TaskSpec)

    @cached_property
    def found(self) -> Found:
        return store.read(self.folder, "retrieve", Found)

    @cached_property
    def made(self) -> Made:
        return store.read(self.folder, "generate", Made)

    @cached_property
    def splits(self) -> Splits:
        return store.read(self.folder, "split", Splits)

    @cached_property
    def trained(self) -> Student:
        return store.read(self.folder, "train", Student)

    @cached_property
    def report(self) -> Report:
        return store.read(self.folder, "evaluate", Report)

    @cached_property
    def artifact(self) -> Artifact:
        return store.read(self.folder, "export", Artifact)

    @property
    def ledger(self) -> list[accounts.Entry]:
        """What the teacher was asked and has cost, stage by stage."""
        return accounts.entries(self.folder)

    @cached_property
    def dataset(self) -> Any:
        """The rows as a `datasets.DatasetDict`, to look through, to convert or to push."""
        from datasets import Dataset, DatasetDict  # seconds to import

        sides = {"train": self.splits.train, "validation": self.splits.validation, "test": self.splits.test}
        return DatasetDict(
            {
                side: Dataset.from_dict(
                    {
                        "input": [row.input for row in rows],
                        "output": [row.output for row in rows],
                        "source": [f"{row.source.kind}: {row.source.name}" for row in rows],
                    }
                )
                for side, rows in sides.items()
            }
        )

    @cached_property
    def student(self) -> Trained:
        """Call it: `run.student("text")`, `run.student(["one", "two"])`."""
        return Trained(self.folder)

    @property
    def spent_on_rows(self) -> Spent:
        """What the teacher's writing has cost, in however many goes."""
        spent = accounts.of_stage(self.folder, "generate")
        return spent if spent.requests else self.made.spent

    def html(self) -> str:
        """The report as a page."""
        return report.html(
            self.report, found=self.found, made=self.made, splits=self.splits, student=self.trained, run=self.folder
        )

    def write_data_page(self, known: data_report.DataFigures | None = None) -> Path:
        """`data.html` in the run's folder: what the teacher wrote. `known` are its figures, where they are at hand."""
        return data_report.write_page(self.folder, self.task, self.made, self.spent_on_rows, known)

    def write_page(self) -> Path:
        """`report.html` in the run's folder."""
        page = self.folder / "report.html"
        page.write_text(self.html(), encoding="utf-8")
        return page

    def _repr_html_(self) -> str:
        return self.html()
