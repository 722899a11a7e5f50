"""A finished run, opened again."""

from pathlib import Path

from prompt2model import store
from prompt2model.records import Example, Source, Splits
from prompt2model.run import Run


def test_the_rows_of_a_run_are_a_dataset(tmp_path: Path) -> None:
    row = Example(input="fine", output="good", source=Source(kind="data", name="rows.csv", row=0))
    store.once(tmp_path, "split", Splits, lambda: Splits(train=(row, row), test=(row,)), depends_on=None)
    dataset = Run(tmp_path).dataset
    assert dataset.num_rows == {"train": 2, "validation": 0, "test": 1}
    assert dataset["test"][0] == {"input": "fine", "output": "good", "source": "data: rows.csv"}
