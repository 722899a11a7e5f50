"""Useful tokens per second, peak memory and validation loss of our training and of TRL's, on the same rows and model.

    pip install trl
    python benchmarks/against_trl.py [seqkd|word_kd] [ROWS]

seqkd stands beside SFTTrainer, word_kd (with a teacher of the same size, the KL alone) beside GKDTrainer off policy.
Each runs in a process of its own: the same rows in steps of eight, float32, AdamW at one rate, one epoch. Padding is
not counted. The validation loss is computed by the same code for both: it says whether the same was learned.
"""

import json
import random
import resource
import subprocess
import sys
import tempfile
import time
from functools import partial
from typing import Any

import torch

from prompt2model.batches import Codec, Lesson, weighed
from prompt2model.course import Course
from prompt2model.memory import MicroBatches
from prompt2model.methods import open_method, seqkd
from prompt2model.optimiser import MasterAdamW
from prompt2model.records import Example, Source, TaskSpec
from prompt2model.student import LocalModel, load
from prompt2model.supply import Supply
from prompt2model.weights import DEFAULT_MODEL, fetch

STEP_ROWS = 8
RATE = 2e-5
TASK = TaskSpec(instruction="Write a sentence about the restaurant.")
PEERS = {"seqkd": "SFTTrainer", "word_kd": "GKDTrainer"}
SLOTS = {
    "name": "The Mill,The Vaults,Aromi,Blue Spice,The Golden Curry,Green Man,The Rice Boat,Wildwood",
    "food": "Italian,Japanese,English,Indian,French,Fast food,Chinese",
    "priceRange": "cheap,moderate,high,less than £20,£20-25,more than £30",
    "area": "city centre,riverside",
    "near": "Crowne Plaza Hotel,Café Sicilia,Burger King,Rainbow Vegetarian Café,The Bakers",
}


def main(method: str, count: int) -> None:
    found = {}
    for who in ("ours", PEERS[method]):
        done = subprocess.run(
            [sys.executable, __file__, method, str(count), who], check=True, stdout=subprocess.PIPE, text=True
        )
        found[who] = json.loads(done.stdout.splitlines()[-1])
        print(who, found[who], flush=True)
    ratio = found["ours"]["tokens_per_second"] / found[PEERS[method]]["tokens_per_second"]
    print(json.dumps({"method": method, "ratio": round(ratio, 2)}))


def one(method: str, count: int, who: str) -> None:
    """One contender, alone in this process."""
    examples = written(count + 64)
    train, validation = examples[:count], examples[count:]
    model, codec = load(fetch(DEFAULT_MODEL), precision="float32")
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    teacher, _ = load(fetch(DEFAULT_MODEL), precision="float32") if method == "word_kd" else (None, None)
    white_box = LocalModel(teacher, codec, name="teacher") if teacher is not None else None
    course = Course(TASK, codec, open_method(method, {"mixing": 0.0} if white_box else {})[1], teacher=white_box)
    lessons = open_method(method, {})[0].rows(train, course)
    started = time.perf_counter()
    (ours if who == "ours" else trl)(method, model, lessons, train, course)
    seconds = time.perf_counter() - started
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    figures = {
        "tokens_per_second": round(sum(len(row) for lesson in lessons for row in lesson) / seconds, 1),
        "peak_gb_above_the_weights": round((peak - before) / 1e6, 2),
        "validation_loss": round(validation_loss(model, codec, validation), 4),
    }
    print(json.dumps(figures))


def written(count: int) -> list[Example]:
    """Rows as of a data-to-text task, 40 to 70 tokens each."""
    rng = random.Random(0)
    return [_row(rng) for _ in range(count)]


def _row(rng: random.Random) -> Example:
    asked = {name: rng.choice(values.split(",")) for name, values in SLOTS.items()}
    for name in rng.sample(["food", "priceRange", "area", "near"], rng.randint(0, 3)):
        del asked[name]
    text = f"{asked['name']} is a {asked.get('priceRange', 'popular')} {asked.get('food', '')} restaurant".replace(
        "  ", " "
    )
    text += f" in the {asked['area']}" if "area" in asked else ""
    text += f", close to {asked['near']}." if "near" in asked else "."
    given = ", ".join(f"{name}[{value}]" for name, value in asked.items())
    return Example(input=given, output=text, source=Source(kind="data", name="written"))


def ours(method: str, model: Any, lessons: list[Lesson], train: list[Example], course: Course) -> None:
    optimiser, micro = MasterAdamW(model.train().parameters()), MicroBatches(model)
    loss = partial(open_method(method, {})[0].loss, course=course)
    supply = Supply(lessons, STEP_ROWS, 0)
    for step in range(supply.steps_per_epoch):
        for part in micro.split(weighed(supply.rows(step), {"": 1.0})):
            loss(model, course.codec.collate(part)).backward()
            optimiser.accumulate()
        optimiser.step(RATE)


def trl(method: str, model: Any, lessons: list[Lesson], train: list[Example], course: Course) -> None:
    from datasets import Dataset

    with tempfile.TemporaryDirectory() as folder:
        how = {
            "output_dir": folder,
            "per_device_train_batch_size": STEP_ROWS,
            "num_train_epochs": 1,
            "learning_rate": RATE,
            "lr_scheduler_type": "constant",
            "bf16": False,
            "gradient_checkpointing": False,
            "report_to": [],
            "save_strategy": "no",
            "logging_strategy": "no",
            "disable_tqdm": True,
            "max_length": 512,
        }
        turns = [
            ([{"role": "user", "content": row.input}], [{"role": "assistant", "content": row.output}]) for row in train
        ]
        if method == "seqkd":
            from trl import SFTConfig, SFTTrainer

            data = Dataset.from_list([{"prompt": asked, "completion": answer} for asked, answer in turns])
            work = SFTTrainer(
                model=model, args=SFTConfig(**how), train_dataset=data, processing_class=course.codec.tokenizer
            )
        else:
            from trl.experimental.gkd import GKDConfig, GKDTrainer

            data = Dataset.from_list([{"messages": asked + answer} for asked, answer in turns])
            work = GKDTrainer(
                model=model,
                teacher_model=course.white_box.model,
                args=GKDConfig(**how, lmbda=0.0, beta=0.0, temperature=1.0),
                train_dataset=data,
                processing_class=course.codec.tokenizer,
            )
        work.train()


@torch.no_grad()
def validation_loss(model: Any, codec: Codec, examples: list[Example]) -> float:
    course = Course(TASK, codec)
    rows = [row for lesson in seqkd.rows(examples, course) for row in lesson]
    parts = MicroBatches(model).split(weighed(sorted(rows, key=len), {"": 1.0}))
    return float(sum(seqkd.loss(model.eval(), codec.collate(part), course) for part in parts))


if __name__ == "__main__":
    chosen, rows = (sys.argv[1:2] or ["seqkd"])[0], int((sys.argv[2:3] or ["160"])[0])
    main(chosen, rows) if len(sys.argv) < 4 else one(chosen, rows, sys.argv[3])
