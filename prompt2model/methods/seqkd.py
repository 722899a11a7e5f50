"""Sequence-level distillation: maximum likelihood on the teacher's (or the data's) answers.

Kim & Rush, 2016, https://arxiv.org/abs/1606.07947, section 3.2; LaMini-LM, https://arxiv.org/abs/2304.14402.
"""

from collections.abc import Sequence
from typing import Any

from pydantic import BaseModel, ConfigDict
from torch import Tensor

from prompt2model.batches import Batch, Codec, Row
from prompt2model.losses import cross_entropy, weighted_sum
from prompt2model.records import Example, Message
from prompt2model.student import counted_logits

NEEDS: tuple[str, ...] = ()
ARCHITECTURES = ("decoder", "encoder-decoder")


class Options(BaseModel):
    """None: the answers are all there is."""

    model_config = ConfigDict(frozen=True, extra="forbid")


def rows(examples: Sequence[Example], codec: Codec, max_length: int, options: Options) -> list[Row]:
    """One row for each example: the student's own prompt, then the answer."""
    asked = [(Message(role="user", content=example.input),) for example in examples]
    return [codec.row(ask, example.output, max_length=max_length) for ask, example in zip(asked, examples, strict=True)]


def loss(model: Any, batch: Batch, options: Options) -> Tensor:
    """The summed negative log-likelihood of the answers, in nats."""
    logits = counted_logits(model, batch)  # (N, V)
    return weighted_sum(cross_entropy(logits, batch.labels[batch.counted]), batch.counted, batch.weights)
