"""The README.md of an exported model: what it is, how it was made, how good it is, how to call it."""

import re
from collections.abc import Iterator
from typing import Any

from prompt2model import report as reports
from prompt2model.prompts import render
from prompt2model.records import Found, Made, Measured, ModelCard, Report, Splits, Student, TaskSpec

HUB_ID = re.compile(r"[\w-][\w.-]*/[\w-][\w.-]*", re.ASCII)
PRIVATE = re.compile(r"://|(?<![\w.])(~|\.{1,2})?/\w|[A-Za-z]:\\")
"""An address, or the path of a file: an error message may name one."""
FREE_LICENCES = ("apache-2.0", "mit", "bsd-2-clause", "bsd-3-clause", "cc0-1.0", "unlicense")
"""Licences that say nothing about what a model's answers may be used for (SPDX names, lower case)."""


def model_card(
    task: TaskSpec,
    found: Found,
    made: Made,
    splits: Splits,
    student: Student,
    report: Report,
    *,
    name: str,
    is_encoder_decoder: bool,
) -> str:
    """The card of the model `name`, metadata first as the Hub reads it; it names no folder, address or key."""
    lines = reports.lines(report)
    teacher = _teacher(made, splits)
    return render(
        "export/card.md.j2",
        metadata=_metadata(task, found, splits, student, report, name=name),
        title=_short(task.instruction),
        task=task,
        base=reports.public_name(student.base),
        base_licence=_licence(found, student.base),
        student=student,
        teacher=reports.public_name(teacher) if teacher else "",
        teacher_is_free=_licence(found, teacher.removeprefix("transformers:")) in FREE_LICENCES,
        made=made,
        sources=reports.sources(splits),
        licences={reports.public_name(name): licence for name, licence in found.licences.items()},
        metrics=reports.metrics(report),
        lines=lines,
        names=[_answered_by(line) for line in lines],
        notes=[note for note in report.notes if not PRIVATE.search(note)],
        text=task.examples[0].input if task.examples else "…",
        is_encoder_decoder=is_encoder_decoder,
    )


def _short(text: str, most: int = 80) -> str:
    first = text.strip().partition("\n")[0]
    return first if len(first) <= most else first[: most - 1].rsplit(" ", 1)[0] + "…"


def _answered_by(line: reports.Line) -> str:
    return reports.public_name(line.name) if line.who in ("base", "teacher") else line.name


def _metadata(task: TaskSpec, found: Found, splits: Splits, student: Student, report: Report, *, name: str) -> str:
    """The YAML head of the card, as huggingface.co/docs/hub/model-cards describes it."""
    from huggingface_hub import ModelCardData

    facts: dict[str, Any] = {
        "license": _licence(found, student.base) or None,
        "base_model": student.base if HUB_ID.fullmatch(student.base) else None,
        "datasets": _datasets(splits) or None,
        "language": task.language,
        "library_name": "transformers",
        "pipeline_tag": "text-generation",
        "tags": ["prompt2model", "distillation", student.method],
    }
    results = list(_results(task, report))
    if results:
        facts |= {"model_name": name, "eval_results": results}
    return str(ModelCardData(**facts).to_yaml()).strip()


def _results(task: TaskSpec, report: Report) -> Iterator[Any]:
    """The student's scores as the Hub's model index has them."""
    from huggingface_hub import EvalResult

    for measured in report.measured:
        for score in measured.scores if measured.who == "student" else ():
            yield EvalResult(
                task_type="text-classification" if task.kind == "classification" else "text-generation",
                dataset_type=f"{measured.rows}-rows",
                dataset_name=_test_name(measured),
                metric_type=score.metric,
                metric_value=round(score.value, 4),
            )


def _test_name(measured: Measured) -> str:
    by = "a person wrote or labelled" if measured.rows == "real" else "the teacher wrote"
    return f"{measured.n} held-out rows that {by}"


def _datasets(splits: Splits) -> list[str]:
    """The Hub data sets among the sources of the rows."""
    rows = (*splits.train, *splits.validation, *splits.test)
    names = dict.fromkeys(row.source.name.partition(":")[0] for row in rows if row.source.kind == "data")
    return [name for name in names if HUB_ID.fullmatch(name) and not name.endswith((".csv", ".jsonl", ".parquet"))]


def _licence(found: Found, model: str) -> str:
    """The licence of a model that retrieval has a card of, in lower case; "" where it is not known."""
    cards = [ranked.card for ranked in found.models if isinstance(ranked.card, ModelCard)]
    return next((card.licence.lower() for card in cards if card.id == model), "")


def _teacher(made: Made, splits: Splits) -> str:
    """Who wrote the rows that the student learned from, if anyone did."""
    written = (row.source.name for row in (*splits.train, *splits.validation) if row.source.kind == "teacher")
    return next(written, made.teacher if made.examples else "")
