"""MiniLLM's comparison in small: SFT, word_kd, seqkd and reverse_kl, and what each part of reverse_kl is worth.

    python benchmarks/minillm.py DATA [TASK ...] --results minillm.jsonl

Gu et al., 2024, https://arxiv.org/abs/2306.08543, tables 1 and 3, figures 6 and 8. The teacher is the base, fine-tuned
on the task as usual; the student is every `--every`-th layer of it, which takes a higher `--learning-rate`. reverse_kl
starts, as in the paper, from the student that was fine-tuned for `--epochs` with the least validation loss, and learns
for `--policy-epochs`, of four passes each.

The score is of likeliest answers. Distinct-4, the reverse KL and ExAccErr are of `--draws` answers drawn for each test
row; the validation's reverse KL is of given answers, a token's mean, at each validation of the training in turn.
"""

from argparse import Namespace
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from pathlib import Path
from typing import Any

import torch
from cells import Cells, Figures, answered, arguments, drawn, score, wanted
from torch import Tensor

from prompt2model.batches import Row
from prompt2model.config import TrainConfig
from prompt2model.course import asked_of_student
from prompt2model.data_report import distinct
from prompt2model.heads import ending
from prompt2model.losses import forward_kl, reverse_kl
from prompt2model.memory import in_batches
from prompt2model.records import Splits, Student, TaskSpec
from prompt2model.rollouts import sampled
from prompt2model.stages.train import train
from prompt2model.student import LocalModel, open_model
from prompt2model.weights import DEFAULT_MODEL

LENGTHS = (5, 10, 20, 40)
"""Tokens of the answer up to which the excess error is told."""
MAX_LENGTH = 512
POLICIES: dict[str, dict[str, Any]] = {
    "reverse_kl": {},
    "without length normalisation": {"normalise_length": False},
    "without teacher mixing": {"teacher_share": 0.0},
    "without single step": {"single_step": False},
}
ARMS = ("teacher", "sft", "word_kd", "seqkd", *POLICIES)


def main(argv: Sequence[str] | None = None) -> None:
    sizes: dict[str, Any] = {"rows": 200, "test_rows": 100, "draws": 1, "epochs": 3.0, "policy_epochs": 1.0}
    args = arguments(__doc__, argv, ["restaurant_text"], base=DEFAULT_MODEL, every=2, learning_rate=0.0, **sizes)
    cells = Cells(args)
    for name in args.tasks:
        for seed in args.seeds:
            lab = Lab(args, cells, name, seed)
            for arm in wanted(ARMS, args):
                cells.once(partial(lab.measure, arm), task=name, arm=arm, seed=seed)
    cells.print("score", "distinct_4", "reverse_kl_nats", "n", "seconds")
    cells.print(*(f"excess_error_{length}" for length in LENGTHS))
    cells.print(*dict.fromkeys(name for line in cells.lines for name in line if name.startswith("validation_")))


@dataclass(frozen=True)
class Lab:
    """One task with one seed: the teacher, and students of it."""

    args: Namespace
    cells: Cells
    name: str
    seed: int

    @cached_property
    def given(self) -> tuple[TaskSpec, Splits]:
        return drawn(self.args, self.name, self.seed)

    @cached_property
    def teacher(self) -> LocalModel:
        """The base, fine-tuned on the task."""
        make = partial(self.learn, "seqkd", base=self.args.base, learning_rate=0.0)
        return open_model(self.cells.student(make, task=self.name, role="teacher", seed=self.seed), precision="float32")

    def measure(self, arm: str, folder: Path) -> Figures:
        task, splits = self.given
        if arm == "teacher":
            return score(task, self.teacher, splits.test) | self.drawn_figures(self.teacher)
        student = self.student(arm, folder / "student")
        model = open_model(str(student.folder), precision="float32")
        history = {f"validation_{at}": one.validation_loss_nats for at, one in enumerate(student.history, 1)}
        return score(task, model, splits.test) | self.drawn_figures(model) | (history if arm in POLICIES else {})

    def student(self, arm: str, folder: Path) -> Student:
        thin = {"base": self.teacher.name, "init": f"layers:every={self.args.every}"}
        if arm == "sft":
            return self.learn("seqkd", folder, **thin)
        if arm == "word_kd":
            return self.learn("word_kd", folder, teacher=self.teacher, **thin)
        if arm == "seqkd":
            return self.learn("seqkd", folder, splits=self.by_teacher(), **thin)
        begin = partial(self.learn, "seqkd", best_by="loss", **thin)
        base = self.cells.student(begin, task=self.name, role="start", seed=self.seed)
        how = {"epochs": self.args.policy_epochs, "learning_rate": self.args.learning_rate / 10}
        options = {"warm_up_epochs": 0.0, "max_new_tokens": self.longest, **POLICIES[arm]}
        return self.learn("reverse_kl", folder, base=base, teacher=self.teacher, options=options, **how)

    def learn(
        self,
        method: str,
        folder: Path,
        *,
        base: str,
        splits: Splits | None = None,
        teacher: LocalModel | None = None,
        **how: Any,
    ) -> Student:
        (task, given), args = self.given, self.args
        settings = {"epochs": args.epochs, "learning_rate": args.learning_rate, "patience": 0, **how}
        config = TrainConfig(method=method, max_length=MAX_LENGTH, **settings)
        return train(task, splits or given, base, config, folder=folder, seed=self.seed, teacher=teacher)

    def by_teacher(self) -> Splits:
        """The rows with the teacher's likeliest answers, to the inputs alone, as it was fine-tuned."""
        task, splits = self.given
        answers = answered(task, self.teacher, [asked_of_student(row) for row in splits.train], splits.train)
        pairs = zip(splits.train, answers, strict=True)
        rows = tuple(row.model_copy(update={"output": answer.text}) for row, answer in pairs)
        return splits.model_copy(update={"train": rows})

    @property
    def longest(self) -> int:
        """Tokens of the longest answer that is drawn."""
        return max(len(self.teacher.codec.completion(row.output)) for row in self.given[1].train) + 8

    def drawn_figures(self, student: LocalModel) -> Figures:
        """What answers drawn from the student show, beside those drawn from the teacher."""
        answers = self.draw(student)
        found = {"distinct_4": 100 * distinct([student.codec.text(row.completion) for row in answers], 4)}
        if student is self.teacher:
            return found
        free, oracle = judged(student, self.teacher, answers), judged(student, self.teacher, self.by_oracle)
        found["reverse_kl_nats"] = free.accumulated(self.longest)[1]
        return found | {f"excess_error_{length}": excess_error(free, oracle, length) for length in LENGTHS}

    @cached_property
    def by_oracle(self) -> list[Row]:
        return self.draw(self.teacher)

    def draw(self, model: LocalModel) -> list[Row]:
        """The test rows with answers that the model draws."""
        test = [(asked_of_student(row), row.output) for row in self.given[1].test] * self.args.draws
        rows = [model.codec.row(*pair, max_length=MAX_LENGTH) for pair in test]
        return sampled(model, rows, range(len(rows)), max_length=MAX_LENGTH, max_new_tokens=self.longest)


@dataclass(frozen=True)
class Judged:
    """Answers, and how far student and teacher are apart at each of their tokens."""

    rows: Sequence[Row]
    apart: Sequence[Tensor]
    """(T, 2) of each answer: KL(p ‖ q) and KL(q ‖ p), p the teacher, q the student, in nats."""

    def accumulated(self, length: int) -> tuple[float, float]:
        """Both, summed over the first `length` tokens, in the mean over the answers by the weights of their rows."""
        sums = torch.stack(
            [row.weight * of_row[:length].sum(0) for of_row, row in zip(self.apart, self.rows, strict=True)]
        )
        forward, reverse = (sums.sum(0) / sum(row.weight for row in self.rows)).tolist()
        return forward, reverse


def excess_error(free: Judged, oracle: Judged, length: int) -> float:
    """ExAccErr(l) = (R(l) − l ε(l)) / (l ε(l)), in per cent: eq. 30 to 32 of appendix B.5.

    R(l) sums KL(p ‖ q) over the first l tokens of answers that the student drew (`free`), l ε(l) over those of answers
    that the teacher drew (`oracle`). The mean over y_t ~ p is exact. After an answer's end the two agree.
    """
    return 100 * (free.accumulated(length)[0] / oracle.accumulated(length)[0] - 1)


@torch.no_grad()
def judged(student: LocalModel, teacher: LocalModel, rows: Sequence[Row]) -> Judged:
    """The answers, read by both."""
    found: dict[int, Tensor] = {}

    def judge(places: list[int]) -> tuple[Tensor, ...]:
        return _judged(student, teacher, [rows[place] for place in places])

    for places, made in in_batches([len(row) for row in rows], 8, judge, max_tokens=1024):
        found |= zip(places, made, strict=True)
    return Judged(rows, [found[place] for place in range(len(rows))])


def _judged(student: LocalModel, teacher: LocalModel, rows: Sequence[Row]) -> tuple[Tensor, ...]:
    """KL(p ‖ q) and KL(q ‖ p) of each row's tokens, (T, 2) each."""
    common, batch = len(student.codec.tokenizer), student.codec.collate(rows).to(student.model.device)
    q, p = (end.head(end.states)[:, :common] for end in (ending(one.model, batch) for one in (student, teacher)))
    both = torch.stack([forward_kl(q, p), reverse_kl(q, p)], 1).cpu()  # (N, 2)
    return both.split([len(row.completion) for row in rows])


if __name__ == "__main__":
    main()
