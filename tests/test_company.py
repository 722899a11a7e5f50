"""Padding on either side, company in a batch and accumulation change no method's loss or gradient."""

from collections.abc import Sequence
from dataclasses import replace
from itertools import cycle
from pathlib import Path
from typing import Any

import pytest
import torch
from tiny import save_decoder, save_encoder_decoder
from torch import Tensor
from train_here import WRITING, films

from prompt2model.batches import Batch, Row, weighed
from prompt2model.course import Course
from prompt2model.heads import equipment
from prompt2model.methods import open_method
from prompt2model.records import TaskSpec
from prompt2model.student import LocalModel, load, open_model
from prompt2model.student_prompt import set_student_prompt

BASES = {"decoder": save_decoder, "encoder-decoder": save_encoder_decoder}
SAID = {"positive": "positive", "negative": "a text"}
"""Answers of one token and of two."""
LABELLING = TaskSpec(instruction="Is it good?", kind="classification", labels=tuple(SAID.values()), metric="accuracy")

METHODS: dict[str, tuple[str, dict[str, Any]]] = {
    "answers": ("seqkd", {}),
    "distributions": ("word_kd", {"temperature": 2.0}),
    "the likeliest tokens": ("word_kd", {"source": "top_k", "k": 8}),
    "drawn tokens": ("word_kd", {"source": "sampled", "k": 8}),
    "its own answers": ("jsd", {"max_new_tokens": 6}),
    "a policy": ("reverse_kl", {"max_new_tokens": 6}),
    "the directions of states": ("hidden", {}),
    "the states of a layer": ("hidden", {"distance": "l2", "layers": [1]}),
    "a context": ("context", {"targets": "full"}),
    "draws in a context": ("context", {"targets": "soft", "draws": 8}),
    "two tasks": ("step_by_step", {"alpha": 0.3}),
    "thoughts": ("chain_of_thought", {}),
    "its own labels": ("self_training", {"threshold": 0.0, "soft": True}),
    "each other's labels": ("self_training", {"threshold": 0.0, "labelled_by": "peer"}),
    "what its labels did": ("meta_pseudo_labels", {}),
}
WITH_LABELS = ("self_training", "meta_pseudo_labels")


class Learned:
    """A student, and the rows of an optimiser step that a method makes for it."""

    def __init__(self, folder: Path, name: str) -> None:
        method, options = METHODS[name]
        self.method, chosen = open_method(method, options)
        self.model, self.codec = load(folder / "base", precision="float32")
        self.model.double()  # in float32 a unit of a ReLU may be on in one batch and off in another
        teacher = open_model(str(folder / "teacher"), precision="float32")
        task = LABELLING if method in WITH_LABELS else WRITING  # a context's labels are learned by their likelihood
        examples = [one.model_copy(update={"output": SAID[one.output]}) for one in films(7, reasoned=True)]
        if task.labels:
            examples[3:] = [one.model_copy(update={"output": ""}) for one in examples[3:]]
        self.course = Course(task, self.codec, chosen, teacher=teacher, writer=teacher, seed=3)
        set_student_prompt(self.codec)
        lessons = self._made_anew(self.method.rows(examples, self.course))
        shares = self.method.shares(chosen) if hasattr(self.method, "shares") else {"": 1.0}
        self.rows = weighed([row for lesson in lessons for row in lesson], shares)

    def _made_anew(self, lessons: list[tuple[Row, ...]]) -> list[tuple[Row, ...]]:
        student = LocalModel(self.model, self.codec, name="student")
        torch.manual_seed(0)
        if hasattr(self.method, "equip"):
            self.method.equip(self.model, self.course)
            stir(equipment(self.model))
        if hasattr(self.method, "rollouts"):
            lessons = self.method.rollouts(student, lessons, self.course, range(len(lessons)))
        if hasattr(self.method, "hindsight"):
            stir(self.model)
            lessons = [*lessons, *self.method.hindsight(student, lessons, self.course)]
        return lessons

    def outcome(self, batches: Sequence[Batch]) -> tuple[float, Tensor]:
        """The loss of all batches, one after the other, and one long vector of gradients."""
        self.model.zero_grad()
        total = 0.0
        for batch in batches:
            loss = self.method.loss(self.model, batch, self.course)
            loss.backward()
            total += float(loss.detach())
        gradients = [p.grad if p.grad is not None else torch.zeros_like(p) for p in self.model.parameters()]
        return total, torch.cat([gradient.flatten() for gradient in gradients])


@torch.no_grad()
def stir(model: torch.nn.Module | None) -> None:
    """Another model than before, if there is one."""
    for parameter in model.parameters() if model is not None else ():
        parameter.add_(0.05 * torch.randn_like(parameter))


@pytest.fixture(params=BASES, scope="module")
def folder(request, tmp_path_factory) -> Path:
    """Of a student and a wider teacher."""
    home = tmp_path_factory.mktemp(request.param)
    for name, seed, width in (("base", 1, 16), ("teacher", 2, 32)):
        BASES[request.param](home / name, seed=seed, width=width)
    return home


@pytest.fixture(params=METHODS, scope="module")
def learned(request, folder) -> Learned:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PROMPT2MODEL_HOME", str(folder / "home"))
        return Learned(folder, request.param)


def close(found: tuple[float, Tensor], expected: tuple[float, Tensor]) -> None:
    largest = float(expected[1].abs().max())
    assert largest > 1e-3
    assert found[0] == pytest.approx(expected[0], rel=1e-5)
    torch.testing.assert_close(found[1], expected[1], rtol=1e-4, atol=2e-5 * largest)


def test_company_and_accumulation_change_nothing(learned):
    collate, rows = learned.codec.collate, learned.rows
    assert len({len(row) for row in rows}) > 2
    together = learned.outcome([collate(rows)])
    close(learned.outcome([collate([row]) for row in rows]), together)
    close(learned.outcome([collate(part) for part in in_parts(rows[::-1], (2, 1, 3))]), together)


def in_parts(rows: Sequence[Row], sizes: Sequence[int]) -> list[Sequence[Row]]:
    """The rows in micro-batches of these sizes, over and over."""
    parts = []
    for size in cycle(sizes):
        if not rows:
            break
        parts, rows = [*parts, rows[:size]], rows[size:]
    return parts


def test_the_amount_of_padding_changes_nothing(learned):
    longest = max(learned.rows, key=len)
    other = longest.teacher_prompt and longest.teacher_prompt * 3
    idle = replace(longest, prompt=longest.prompt * 3, teacher_prompt=other, weight=0.0)
    little, much = (learned.codec.collate(rows) for rows in (learned.rows, [*learned.rows, idle]))
    for one, another in ((little, much), (little.for_teacher, much.for_teacher)):
        assert another.inputs["input_ids"].shape[1] > 2 * one.inputs["input_ids"].shape[1]
    close(learned.outcome([much]), learned.outcome([little]))


def test_the_side_of_padding_changes_nothing(learned):
    batch = learned.codec.collate(learned.rows)
    left = on_the_left(batch)
    assert not torch.equal(left.inputs["input_ids"], batch.inputs["input_ids"])
    close(learned.outcome([left]), learned.outcome([batch]))


def on_the_left(batch: Batch) -> Batch:
    """The batch as it is when padded on that side, with the masks and positions that this takes."""
    inputs, width = dict(batch.inputs), batch.labels.shape[1]
    real = (batch.counted * torch.arange(1, width + 1)).amax(1)  # (B,), up to the last token that is learned
    mask = moved((torch.arange(width) < real[:, None]).long(), real)
    if "decoder_input_ids" in inputs:
        read = inputs["attention_mask"].sum(1)
        inputs = {name: moved(tensor, real if "decoder" in name else read) for name, tensor in inputs.items()}
        inputs["decoder_attention_mask"] = mask
    else:
        positions = (mask.cumsum(1) - 1).clamp(min=0)
        inputs = {"input_ids": moved(inputs["input_ids"], real), "attention_mask": mask, "position_ids": positions}
    seen = on_the_left(batch.seen_by_teacher) if batch.seen_by_teacher else None
    return replace(batch, inputs=inputs, labels=moved(batch.labels, real), seen_by_teacher=seen)


def moved(tensor: Tensor, lengths: Tensor) -> Tensor:
    """Each row's first so many to its end. (B, T), (B,) -> (B, T)"""
    shifts = (tensor.shape[1] - lengths).tolist()
    return torch.stack([row.roll(shift) for row, shift in zip(tensor, shifts, strict=True)])
