"""Useful tokens per second, updates per second, peak memory and validation loss of our training and of TRL's.

    pip install trl==1.14.2
    python benchmarks/against_trl.py [seqkd|word_kd|jsd|reverse_kl] [--rows N] [--sentences N] [--precision bfloat16]

seqkd stands beside SFTTrainer; word_kd (the KL alone) and jsd (beta 0.5, given answers) beside GKDTrainer; reverse_kl
beside MiniLLMTrainer, which versions after 1.14.2 no longer have, whose answers the student draws alone. The teacher is
the base itself, its student every second layer of it. Each contender runs in a process of its own: the same rows in
steps of eight, AdamW, the same rates, one epoch. In bfloat16 ours keeps float32 master weights, and TRL runs float32
weights under autocast (`bf16=True`), both with a teacher in bfloat16. Padding is not counted. Memory is beyond the
weights of the forward pass: what the optimiser keeps is in it. The validation loss, computed by the same code, says
whether the same was learned.
"""

import json
import random
import resource
import subprocess
import sys
import tempfile
import time
from argparse import ArgumentParser, Namespace, RawDescriptionHelpFormatter
from pathlib import Path
from typing import Any

import torch

from prompt2model.batches import Codec, weighed
from prompt2model.config import TrainConfig
from prompt2model.course import Course
from prompt2model.layers import save_every
from prompt2model.memory import MicroBatches
from prompt2model.methods import seqkd
from prompt2model.records import Example, Source, Splits, TaskSpec
from prompt2model.stages.train import train
from prompt2model.student import LocalModel, load, open_model
from prompt2model.student_prompt import set_student_prompt
from prompt2model.weights import DEFAULT_MODEL, fetch

STEP_ROWS, RATE, MAX_LENGTH = 8, 2e-5, 1024
MOST_DRAWN = 64
"""Tokens of an answer that the student draws."""
BLOCK = 4
"""Optimiser steps whose answers are drawn at once, to be learned from once: MiniLLMTrainer fails at a second time."""
TASK = TaskSpec(instruction="Write about the restaurant.")
PEERS = {"seqkd": "SFTTrainer", "word_kd": "GKDTrainer", "jsd": "GKDTrainer", "reverse_kl": "MiniLLMTrainer"}
OPTIONS: dict[str, dict[str, Any]] = {
    "seqkd": {},
    "word_kd": {"mixing": 0.0},
    "jsd": {"student_share": 0.0},
    "reverse_kl": {
        "warm_up_epochs": 0.0,
        "teacher_share": 0.0,
        "max_new_tokens": MOST_DRAWN,
        "rollout_steps": BLOCK,
        "passes": 1,
    },
}
Measured = tuple[Any, Codec, dict[str, float]]
"""The trained model, its codec, and how fast it was trained."""
SLOTS = {
    "name": "The Mill,The Vaults,Aromi,Blue Spice,The Golden Curry,Green Man,The Rice Boat,Wildwood",
    "food": "Italian,Japanese,English,Indian,French,Fast food,Chinese",
    "priceRange": "cheap,moderate,high,less than £20,£20-25,more than £30",
    "area": "city centre,riverside",
    "near": "Crowne Plaza Hotel,Café Sicilia,Burger King,Rainbow Vegetarian Café,The Bakers",
}


def main() -> None:
    parser = ArgumentParser(description=__doc__, formatter_class=RawDescriptionHelpFormatter)
    parser.add_argument("method", nargs="?", choices=PEERS, default="seqkd")
    parser.add_argument("--rows", type=int, default=160)
    parser.add_argument("--sentences", type=int, default=1, help="in a row: 12 make about 512 tokens")
    parser.add_argument("--precision", choices=("float32", "bfloat16"), default="float32")
    parser.add_argument("--base", default=DEFAULT_MODEL)
    parser.add_argument("--who", help="one contender, in this process")
    args = parser.parse_args()
    if args.who:
        print(json.dumps(measured(args)))
        return
    ours, theirs = (_apart(who) for who in ("ours", PEERS[args.method]))
    print(json.dumps({"times as fast": round(ours["updates_per_second"] / theirs["updates_per_second"], 2)}))


def _apart(who: str) -> dict[str, float]:
    command = [sys.executable, *sys.argv, "--who", who]
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
    found: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    print(who, found, flush=True)
    return found


def measured(args: Namespace) -> dict[str, float]:
    """One contender, alone in this process."""
    examples = written(args.rows + 64, args.sentences)
    examples, validation = examples[: args.rows], examples[args.rows :]
    before = peak_bytes()
    base, teacher = fetch(args.base), None
    with tempfile.TemporaryDirectory() as folder:
        if args.method != "seqkd":
            teacher = open_model(str(base), precision=args.precision)
            set_student_prompt(teacher.codec)  # as that of a teacher that was fine-tuned: it is asked alike
            base = save_every(base, 2, Path(folder))
        model, codec, figures = (ours if args.who == "ours" else trl)(args, base, examples, teacher)
    above = peak_bytes() - before - sum(map(weight_bytes, filter(None, (model, teacher and teacher.model))))
    return {
        **{name: float(f"{value:.4g}") for name, value in figures.items()},
        "peak_gb_beyond_the_weights": round(above / 1e9, 2),
        "validation_loss": round(validation_loss(model, codec, validation), 4),
    }


def written(count: int, sentences: int) -> list[Example]:
    """Rows as of a data-to-text task, of 40 to 70 tokens for each sentence."""
    rng = random.Random(0)
    return [_row(rng, sentences) for _ in range(count)]


def _row(rng: random.Random, sentences: int) -> Example:
    pairs = [_sentence(rng) for _ in range(sentences)]
    given, text = ("\n".join(side) for side in zip(*pairs, strict=True))
    return Example(input=given, output=text, source=Source(kind="data", name="written"))


def _sentence(rng: random.Random) -> tuple[str, str]:
    asked = {name: rng.choice(values.split(",")) for name, values in SLOTS.items()}
    for name in rng.sample(["food", "priceRange", "area", "near"], rng.randint(0, 3)):
        del asked[name]
    words = [asked["name"], "is a", asked.get("priceRange", "popular"), asked.get("food", ""), "restaurant"]
    text = " ".join(filter(None, words))
    text += f" in the {asked['area']}" if "area" in asked else ""
    text += f", close to {asked['near']}." if "near" in asked else "."
    return ", ".join(f"{name}[{value}]" for name, value in asked.items()), text


def ours(args: Namespace, base: Path, examples: list[Example], teacher: LocalModel | None) -> Measured:
    config = TrainConfig(
        method=args.method,
        options=OPTIONS[args.method],
        epochs=1.0,
        learning_rate=RATE,
        batch_rows=STEP_ROWS,
        max_length=MAX_LENGTH,
        precision=args.precision,
    )
    with tempfile.TemporaryDirectory() as folder:
        made = train(TASK, Splits(train=tuple(examples)), str(base), config, folder=Path(folder), teacher=teacher)
        model, codec = load(Path(folder), precision=args.precision)
    speed = {"updates_per_second": made.steps / made.seconds, "tokens_per_second": made.tokens / made.seconds}
    return model, codec, speed


def trl(args: Namespace, base: Path, examples: list[Example], teacher: LocalModel | None) -> Measured:
    model, codec = load(base, precision="float32")
    set_student_prompt(codec)
    with tempfile.TemporaryDirectory() as folder:
        work = _trainer(args, model, codec.tokenizer, examples, teacher, folder)
        started = time.perf_counter()
        done = work.train()
        seconds = time.perf_counter() - started
    speed = {"updates_per_second": done.global_step / seconds}
    if args.method != "reverse_kl":  # whose answers are its own
        rows = [row for lesson in seqkd.rows(examples, Course(TASK, codec, max_length=MAX_LENGTH)) for row in lesson]
        speed["tokens_per_second"] = sum(map(len, rows)) / seconds
    return model, codec, speed


def _trainer(
    args: Namespace, model: Any, tokenizer: Any, examples: list[Example], teacher: LocalModel | None, folder: str
) -> Any:
    from datasets import Dataset

    how: dict[str, Any] = {
        "output_dir": folder,
        "per_device_train_batch_size": STEP_ROWS,
        "num_train_epochs": 1,
        "learning_rate": RATE,
        "lr_scheduler_type": "linear",
        "warmup_steps": 0.1,
        "bf16": args.precision == "bfloat16",
        "use_cpu": not torch.cuda.is_available(),
        "gradient_checkpointing": False,
        "report_to": [],
        "save_strategy": "no",
        "logging_strategy": "no",
        "disable_tqdm": True,
    }
    asked = [[{"role": "user", "content": row.input}] for row in examples]
    answers = [[{"role": "assistant", "content": row.output}] for row in examples]
    if args.method == "seqkd":
        from trl import SFTConfig, SFTTrainer

        data = Dataset.from_dict({"prompt": asked, "completion": answers})
        config = SFTConfig(**how, max_length=MAX_LENGTH)
        return SFTTrainer(model=model, args=config, train_dataset=data, processing_class=tokenizer)
    if args.method == "reverse_kl":
        from trl.experimental.minillm import MiniLLMConfig, MiniLLMTrainer

        how |= {"max_completion_length": MOST_DRAWN, "num_generations": 1}
        config = MiniLLMConfig(**how, steps_per_generation=BLOCK)
        data = Dataset.from_dict({"prompt": asked})
        trainer = MiniLLMTrainer
    else:
        from trl.experimental.gkd import GKDConfig, GKDTrainer

        beta = 0.0 if args.method == "word_kd" else 0.5
        config = GKDConfig(**how, max_length=MAX_LENGTH, lmbda=0.0, beta=beta, temperature=1.0)
        data = Dataset.from_dict({"messages": [[*one, *other] for one, other in zip(asked, answers, strict=True)]})
        trainer = GKDTrainer
    return trainer(
        model=model,
        teacher_model=teacher.model,
        args=config,
        train_dataset=data,
        processing_class=tokenizer,
    )


def peak_bytes() -> int:
    """The most memory so far: of the GPU where there is one, else of this process."""
    if torch.cuda.is_available():
        return torch.cuda.max_memory_allocated()
    return 1024 * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


def weight_bytes(model: Any) -> int:
    return sum(weight.numel() * weight.element_size() for weight in model.parameters())


@torch.no_grad()
def validation_loss(model: Any, codec: Codec, examples: list[Example]) -> float:
    """In float32, as ours and theirs are kept in different ones."""
    course = Course(TASK, codec, max_length=MAX_LENGTH)
    rows = [row for lesson in seqkd.rows(examples, course) for row in lesson]
    model = model.float().eval()
    parts = MicroBatches(model).split(weighed(sorted(rows, key=len), {"": 1.0}))
    return float(sum(seqkd.loss(model, codec.collate(part).to(model.device), course) for part in parts))


if __name__ == "__main__":
    main()
