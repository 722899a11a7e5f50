"""What the teacher wrote, as a page: where rows came from, why others were dropped, how varied the kept ones are."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from random import Random
from statistics import fmean
from typing import Any, TypeVar

from prompt2model import charts
from prompt2model.embeddings import embed, is_at_hand
from prompt2model.jaccard import Likeness
from prompt2model.prompts import render
from prompt2model.records import Example, Made, Spent, TaskSpec
from prompt2model.report import source_name
from prompt2model.wording import words

T = TypeVar("T")

SHOWN_ROWS = 10
"""Of the kept and of the dropped."""
COMPARED_ROWS = 200
"""Inputs that are compared with all others, drawn with the seed."""


@dataclass(frozen=True)
class DataFigures:
    """The kept rows in numbers."""

    rows: int
    sources: dict[str, int]
    labels: dict[str, int]
    """In the task's order; empty where it has none."""
    dropped: dict[str, int]
    distinct: tuple[float, float, float]
    """Different word 1-, 2- and 3-grams of the inputs, as shares of all (Li et al., 2016, arXiv:1510.03055)."""
    self_similarity: float
    """The mean, over some inputs, of the Jaccard index of word n-grams with the most similar of all others."""
    embedding_spread: float | None
    """The mean cosine distance between two inputs; none where no embedding model is at hand."""
    input_words: tuple[int, ...]
    output_words: tuple[int, ...]
    usd_per_row: float | None
    """None where the teacher's price is not known."""


def figures(task: TaskSpec, made: Made, spent: Spent | None = None, *, seed: int = 0) -> DataFigures:
    """The numbers of the page. `spent` is what the rows cost in however many goes; without it, the last one counts."""
    rows = _rows(made)
    inputs = [row.input for row in rows]
    compared = _sample(inputs, COMPARED_ROWS, seed)
    labels = Counter(row.output for row in rows)
    return DataFigures(
        rows=len(rows),
        sources=dict(Counter(_source(row) for row in rows).most_common()),
        labels={label: labels[label] for label in task.labels},
        dropped=dict(sorted(made.dropped.items(), key=lambda item: -item[1])),
        distinct=(distinct(inputs, 1), distinct(inputs, 2), distinct(inputs, 3)),
        self_similarity=self_similarity(inputs, seed=seed),
        embedding_spread=spread(embed(compared)) if len(compared) > 1 and is_at_hand() else None,
        input_words=tuple(len(words(text)) for text in inputs),
        output_words=tuple(len(words(row.output)) for row in rows),
        usd_per_row=_usd_per_row(spent or made.spent, len(rows) + _given_reasons(made)),
    )


def _given_reasons(made: Made) -> int:
    """Given rows for which the teacher was paid to think aloud, and did."""
    return len({(row.input, row.output) for row in made.explained if row.rationale})


def _usd_per_row(spent: Spent, rows: int) -> float | None:
    return spent.usd / max(rows, 1) if spent.is_price_known else None


def _rows(made: Made) -> list[Example]:
    """The kept rows, one with several chains of thought once."""
    return list({(row.input, row.output): row for row in made.examples}.values())


def html(
    task: TaskSpec, made: Made, spent: Spent | None = None, *, known: DataFigures | None = None, seed: int = 0
) -> str:
    """The page: self-contained, without scripts, all data escaped. `known` are its figures, where they are at hand."""
    found = known or figures(task, made, spent, seed=seed)
    lengths = [("inputs", found.input_words), ("outputs", () if task.labels else found.output_words)]
    return render(
        "report/data.html.j2",
        task=task,
        made=made,
        spent=spent or made.spent,
        figures=found,
        labels=charts.bars(list(found.labels.items())),
        reasons=charts.bars(list(found.dropped.items())),
        lengths=[(what, charts.bars(bands(counts))) for what, counts in lengths if counts],
        kept=_sample(_rows(made), SHOWN_ROWS, seed),
        rejected=_sample(made.rejected, SHOWN_ROWS, seed),
    )


def write_page(
    folder: Path, task: TaskSpec, made: Made, spent: Spent | None = None, known: DataFigures | None = None
) -> Path:
    """The page as `data.html` in the folder."""
    page = folder / "data.html"
    page.write_text(html(task, made, spent, known=known), encoding="utf-8")
    return page


def distinct(texts: Sequence[str], n: int) -> float:
    """The share of the word n-grams that are different; 0 where there is none."""
    grams = [tuple(found[place : place + n]) for found in map(words, texts) for place in range(len(found) - n + 1)]
    return len(set(grams)) / len(grams) if grams else 0.0


def self_similarity(texts: Sequence[str], *, seed: int = 0) -> float:
    """How like its most similar other text a text is, on average over some of them; 0 for fewer than two."""
    if len(texts) < 2:
        return 0.0
    likeness, nearest = Likeness(texts), []
    for place in _sample(range(len(texts)), COMPARED_ROWS, seed):
        others = likeness.to(texts[place])
        others[place] = 0.0
        nearest.append(float(others.max()))
    return fmean(nearest)


def spread(vectors: Any) -> float:
    """The mean cosine distance of two of the vectors, (texts, dimensions), each of length 1."""
    total = vectors.sum(axis=0)
    pairs = len(vectors) * (len(vectors) - 1)
    return float(1 - (total @ total - len(vectors)) / pairs)


def bands(counts: Sequence[int]) -> list[tuple[str, int]]:
    """How many texts have so many words: bands that double in width, as in "8–15", without gaps."""
    found = Counter(count.bit_length() for count in counts)
    return [(_band(width), found[width]) for width in range(min(found), max(found) + 1)]


def _band(width: int) -> str:
    first, last = (1 << width) >> 1, (1 << width) - 1
    return f"{first}–{last} words" if last > first else f"{last} {'word' if last == 1 else 'words'}"


def _source(row: Example) -> str:
    strategy = f", {row.source.strategy}" if row.source.strategy else ""
    return source_name(row.source) + strategy


def _sample(rows: Sequence[T], count: int, seed: int) -> list[T]:
    return Random(f"{seed}/data").sample(list(rows), min(count, len(rows)))  # noqa: S311 - not for secrets
