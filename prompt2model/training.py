"""The one training loop: rows, forward, loss, backward, clip, step, validate, keep the best, save."""

import logging
import math
import time
from collections.abc import Callable, Mapping
from contextlib import nullcontext
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any, Literal

import torch
from accelerate import Accelerator
from torch import Tensor

from prompt2model import checkpoints, progress, registry
from prompt2model.batches import Batch, Codec, Row, weighed
from prompt2model.checkpoints import Kept
from prompt2model.errors import RunError
from prompt2model.memory import MicroBatches, ran_out
from prompt2model.optimiser import MasterAdamW, learning_rate
from prompt2model.records import Checkpoint
from prompt2model.supply import Supply
from prompt2model.validation import HeldOut, mean_loss, score

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Plan:
    """Everything about the steps that is known before the first."""

    steps: int
    steps_per_epoch: int
    peak: float
    validate_every: int
    patience: int
    best_by: Literal["metric", "loss"]
    shares: Mapping[str, float]
    """Of each part of the loss, by the names of `Row.part`."""
    precision: str
    seed: int
    key: str
    """Tells this training from any other: a checkpoint of another is not taken up."""


@dataclass
class State:
    """Everything that a checkpoint has to bring back besides tensors."""

    step: int = 0
    seconds: float = 0.0
    step_seconds: float = 0.0
    """The part of `seconds` that was spent on steps, not on validation."""
    tokens: int = 0
    losses: list[float] = field(default_factory=list)
    history: list[dict[str, Any]] = field(default_factory=list)
    best: int = -1
    """Index in `history`."""
    has_learned: bool = False
    """Whether the weights have changed since the last validation."""


class Loop:
    """A model in training. `run` does the steps that are left; `state` and `model` are what comes of them."""

    def __init__(
        self,
        accelerator: Accelerator,
        model: Any,
        codec: Codec,
        loss: Callable[[Any, Batch], Tensor],
        plan: Plan,
        folder: Path,
        kept: Kept | None,
    ) -> None:
        self.accelerator, self.codec, self.loss, self.plan = accelerator, codec, loss, plan
        self.folder, self.unfinished, self.best = folder, folder / "unfinished", folder / "best"
        self.wrapped, self.model = accelerator.prepare(model), model
        self.optimiser = MasterAdamW(model.parameters())
        self.is_alone = accelerator.num_processes == 1
        self.micro = MicroBatches(model)
        self.state = State()
        self.kept = kept

    def run(self, supply: Supply, held_out: HeldOut, save_every_seconds: float) -> None:
        """All steps that are left, or fewer when the validation score no longer rises."""
        if self.kept:
            self._take_up(*self.kept, supply)
        saved = time.perf_counter()
        # several processes exchange first what has added up in the model's own gradients
        ends = (self.model.get_input_embeddings(), self.model.get_output_embeddings())
        directly = self.optimiser.gradients.adding_directly(*ends) if self.is_alone else nullcontext()
        with directly, progress.task("training", total=self.plan.steps) as advance:
            advance(self.state.step)
            while self.state.step < self.plan.steps and not self._is_stale():
                started = time.perf_counter()
                self._step(supply.rows(self.state.step))
                self.state.step_seconds += time.perf_counter() - started
                self.state.seconds += time.perf_counter() - started
                if held_out.rows and self._is_validation_due():
                    self._validate(held_out)
                advance(1, note=f"loss {self.state.losses[-1]:.3f}{self._best_note()}")
                if time.perf_counter() - saved >= save_every_seconds:
                    self._save(supply)
                    saved = time.perf_counter()

    def _step(self, rows: list[Row]) -> None:
        """One optimiser step on the rows of all processes: each part's mean loss over all its counted tokens.

        Without rows nothing is learned; the learning rate goes on as planned.
        """
        if not rows:
            self.state.losses.append(self.state.losses[-1])
            self.state.step += 1
            return
        self.wrapped.train()
        mine = self._share(weighed(rows, self.plan.shares))
        while (share := self._forward_backward(mine)) is None:
            self.optimiser.gradients.clear()
        loss = self._sum(share)
        norm = self.optimiser.step(learning_rate(self.state.step, self.plan.steps, self.plan.peak))
        if not math.isfinite(norm):
            raise RunError(
                f"Training has diverged: at step {self.state.step + 1} of {self.plan.steps} the loss is {loss:g}, "
                f"its gradient {norm:g}.",
                hint=f"Lower the learning rate, which was {self.plan.peak:g}: --set train.learning_rate="
                f"{self.plan.peak / 4:g}",
            )
        self.state.losses.append(loss)
        self.state.has_learned = True
        self.state.tokens += sum(map(len, rows))
        self.state.step += 1

    def _share(self, rows: list[Row]) -> list[Row]:
        """This process's rows; where there are none, one without weight, for the others wait for this process."""
        mine = rows[self.accelerator.process_index :: self.accelerator.num_processes]
        return mine or [replace(rows[0], weight=0.0)]

    def _forward_backward(self, rows: list[Row]) -> float | None:
        """This process's part of the step's loss; None when memory ran out, and smaller micro-batches are due."""
        torch.manual_seed(self.plan.seed * 1_000_003 + self.state.step)  # dropout repeats itself when taken up
        loss_sum, parts = 0.0, list(self.micro.split(rows))
        for part in parts:
            is_last = part is parts[-1]
            batch = self.codec.collate(part).to(self.accelerator.device)
            try:
                with nullcontext() if is_last else self.accelerator.no_sync(self.wrapped):
                    loss = self.loss(self.wrapped, batch)
                    self.accelerator.backward(loss * self.accelerator.num_processes)
            except RuntimeError as error:
                if not ran_out(error):
                    raise
                if self.is_alone and self.micro.shrink():
                    return None
                raise RunError(
                    f"Memory ran out at step {self.state.step + 1}, with {sum(map(len, part))} tokens at a time.",
                    hint="Shorter rows (train.max_length), adapters (train.lora_rank=8) or a smaller base need less.",
                ) from error
            if self.is_alone and not is_last:
                self.optimiser.gradients.accumulate()
            loss_sum += float(loss.detach())
        return loss_sum

    def _is_validation_due(self) -> bool:
        is_time = self.state.step % self.plan.validate_every == 0 or self.state.step == self.plan.steps
        return is_time and self.state.has_learned

    def _validate(self, held_out: HeldOut) -> None:
        """Judge the weights as they are; keep them if they are the best so far."""
        started = time.perf_counter()
        self.wrapped.eval()
        since = self.state.step - (self.state.history[-1]["step"] if self.state.history else 0)
        record = Checkpoint(
            step=self.state.step,
            epoch=self.state.step / self.plan.steps_per_epoch,
            loss_nats=sum(self.state.losses[-since:]) / since,
            validation_loss_nats=mean_loss(
                weighed(held_out.rows, self.plan.shares),
                partial(self.loss, self.model),
                self.codec,
                self.accelerator,
                max_tokens=self.micro.tokens,
            ),
            metric=held_out.task.metric,
            score=score(held_out, self.model, self.codec, self.accelerator),
            seconds=self.state.seconds,
        )
        self.state.history.append(record.model_dump())
        self.state.has_learned = False
        if self._is_best(record):
            self.state.best = len(self.state.history) - 1
            if self.accelerator.is_main_process:
                checkpoints.save(self.best, self._trained(), {"step": self.state.step})
        self.state.seconds += time.perf_counter() - started

    def _is_best(self, record: Checkpoint) -> bool:
        """By the task's metric, and among equals by the validation loss; or by that loss alone."""
        if self.state.best < 0:
            return True
        best = Checkpoint(**self.state.history[self.state.best])
        if self.plan.best_by == "loss":
            return record.validation_loss_nats < best.validation_loss_nats
        sign = 1.0 if registry.load("metrics", record.metric).HIGHER_IS_BETTER else -1.0
        return (sign * record.score, -record.validation_loss_nats) > (sign * best.score, -best.validation_loss_nats)

    def _is_stale(self) -> bool:
        since_best = len(self.state.history) - 1 - self.state.best
        return self.state.best >= 0 and 0 < self.plan.patience <= since_best

    def _best_note(self) -> str:
        if self.state.best < 0:
            return ""
        best = self.state.history[self.state.best]
        return f", best {best['metric']} {best['score']:.3f}"

    def _trained(self) -> dict[str, Tensor]:
        """The weights that training changes, by name, as they were judged."""
        return {name: weight.detach() for name, weight in self.model.named_parameters() if weight.requires_grad}

    def _save(self, supply: Supply) -> None:
        if self.accelerator.is_main_process:
            rollouts, block = supply.state()
            also = {"key": self.plan.key, "precision": self.plan.precision, "micro_tokens": self.micro.tokens}
            numbers = {"state": vars(self.state), "block": block, **also}
            checkpoints.save(self.unfinished, self.optimiser.state() | rollouts, numbers)

    def _take_up(self, tensors: dict[str, Tensor], numbers: dict[str, Any], supply: Supply) -> None:
        self.micro.tokens = numbers["micro_tokens"]
        self.optimiser.restore(tensors)
        supply.restore(tensors, numbers["block"])
        self.state = State(**numbers["state"])
        log.info("Training goes on from step %d of %d.", self.state.step, self.plan.steps)

    def _sum(self, value: float) -> float:
        """The sum over all processes."""
        if self.accelerator.num_processes == 1:
            return value
        return float(self.accelerator.reduce(torch.tensor(value, device=self.accelerator.device), "sum"))
