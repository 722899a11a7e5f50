"""Useful tokens per second of our training loop and of transformers' Trainer: same model, rows, batch and precision.

    python benchmarks/training_speed.py [ROWS]

Both see the same rows: prompts of 10 to 40 tokens and a one-word answer, 16 in a step. Padding is not counted.
"""

import json
import random
import sys
import tempfile
import time
from functools import partial

import torch
from transformers import Trainer, TrainingArguments

from prompt2model.batches import IGNORED, Row, weighed
from prompt2model.course import Course
from prompt2model.methods import seqkd
from prompt2model.optimiser import MasterAdamW
from prompt2model.records import TaskSpec
from prompt2model.student import load
from prompt2model.weights import DEFAULT_MODEL, fetch

STEP_ROWS = 16


def main() -> None:
    rows = make_rows(int(sys.argv[1]) if len(sys.argv) > 1 else 160)
    figures = {"ours": ours(rows), "Trainer": trainer(rows)}
    figures["ratio"] = figures["ours"] / figures["Trainer"]
    print(json.dumps({name: round(value, 2) for name, value in figures.items()}))


def make_rows(count: int) -> list[Row]:
    rng = random.Random(0)
    return [Row(tuple(rng.choices(range(100, 40_000), k=rng.randint(10, 40))), (5, 2)) for _ in range(count)]


def ours(rows: list[Row]) -> float:
    model, codec = load(fetch(DEFAULT_MODEL), precision="float32")
    optimiser = MasterAdamW(model.train().parameters())
    loss = partial(seqkd.loss, course=Course(TaskSpec(instruction=""), codec))
    ordered = sorted(rows, key=len)
    started = time.perf_counter()
    for first in range(0, len(rows), STEP_ROWS):
        rows_of_step = weighed(ordered[first : first + STEP_ROWS], {"": 1.0})
        loss(model, codec.collate(rows_of_step)).backward()
        optimiser.gradients.accumulate()
        optimiser.step(1e-5)
    return sum(map(len, rows)) / (time.perf_counter() - started)


def trainer(rows: list[Row]) -> float:
    model, codec = load(fetch(DEFAULT_MODEL), precision="float32")
    data = [
        {
            "input_ids": [*row.prompt, *row.completion],
            "labels": [IGNORED] * len(row.prompt) + [*row.completion],
        }
        for row in rows
    ]

    def collate(items: list[dict[str, list[int]]]) -> dict[str, torch.Tensor]:
        width = max(len(item["input_ids"]) for item in items)
        fill = {"input_ids": codec.pad, "labels": IGNORED}
        found = {
            name: torch.tensor([item[name] + [filler] * (width - len(item[name])) for item in items])
            for name, filler in fill.items()
        }
        return {**found, "attention_mask": (found["input_ids"] != codec.pad).long()}

    with tempfile.TemporaryDirectory() as folder:
        arguments = TrainingArguments(
            output_dir=folder,
            per_device_train_batch_size=STEP_ROWS,
            num_train_epochs=1,
            report_to=[],
            save_strategy="no",
            logging_strategy="no",
            disable_tqdm=True,
        )
        work = Trainer(model=model, args=arguments, train_dataset=data, data_collator=collate)
        started = time.perf_counter()
        work.train()
        return sum(map(len, rows)) / (time.perf_counter() - started)


if __name__ == "__main__":
    main()
