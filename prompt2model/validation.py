"""How good the student is so far: the task's metric, and the loss, on rows that it does not learn from."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from accelerate import Accelerator
from accelerate.utils import gather_object
from torch import Tensor

from prompt2model import registry
from prompt2model.answers import ask
from prompt2model.batches import Batch, Codec, Row
from prompt2model.conversation import Message
from prompt2model.memory import in_batches
from prompt2model.records import Example, TaskSpec
from prompt2model.student import LocalModel

MAX_SCORED_TEXTS = 48
"""Rows that are answered in words; writing is slow, and the loss is on all of them."""


@dataclass(frozen=True)
class HeldOut:
    """The validation rows, as they stand and as they are tokenised."""

    task: TaskSpec
    examples: Sequence[Example]
    rows: Sequence[Row]
    thought_tokens: int = 0
    """Of the longest text that the student learns to write before an answer."""


def score(held_out: HeldOut, model: Any, codec: Codec, accelerator: Accelerator) -> float:
    """The task's metric, answered as the finished student will answer. Each process answers its share of the rows."""
    task = held_out.task
    rows = held_out.examples if task.labels else held_out.examples[:MAX_SCORED_TEXTS]
    most = max(len(codec.completion(row.output)) for row in rows) + held_out.thought_tokens + 8
    mine = rows[accelerator.process_index :: accelerator.num_processes]
    asked = [(Message(role="user", content=row.input),) for row in mine]
    answers = ask(task, asked, LocalModel(model, codec, name="student"), max_tokens=most, what="validating")
    pairs = gather_object([(answer.text, row.output) for answer, row in zip(answers, mine, strict=True)])
    found: float = registry.load("metrics", task.metric).compute(*map(list, zip(*pairs, strict=True)))
    return found


@torch.no_grad()
def mean_loss(
    rows: Sequence[Row], loss: Callable[[Batch], Tensor], codec: Codec, accelerator: Accelerator, *, max_tokens: int
) -> float:
    """The loss of all weighed rows, in nats. Each process computes its share of them.

    They are run over in batches of up to `max_tokens` padded tokens, of fewer rows where memory runs out. Raises
    RunError when it does not suffice for a single row.
    """
    mine = sorted(rows, key=len)[accelerator.process_index :: accelerator.num_processes]

    def computed(places: list[int]) -> Tensor:
        return loss(codec.collate([mine[place] for place in places]).to(accelerator.device)).float()

    parts = in_batches(list(map(len, mine)), len(mine), computed, max_tokens=max_tokens)
    total = sum((part for _, part in parts), torch.zeros((), device=accelerator.device))
    return float(accelerator.reduce(total, "sum"))
