"""Intermediate layers: the student's states follow the teacher's, beside its distribution and the answers.

Sanh et al., 2019 (DistilBERT), https://arxiv.org/abs/1910.01108, section 3: three losses, here with their weights. A
projection learns between states of different widths (Romero et al., 2015, https://arxiv.org/abs/1412.6550).

Of an encoder-decoder the decoder's states are compared: the encoder's stand at the tokens of the prompt, and teacher
and student may read different ones.
"""

from collections.abc import Sequence
from typing import Any, Literal

import torch
from accelerate.utils import extract_model_from_parallel
from pydantic import BaseModel, ConfigDict, Field
from torch import Tensor, nn

from prompt2model.batches import Batch, Lesson
from prompt2model.course import Course, answered_for_both, common_vocabulary, teacher_ending
from prompt2model.errors import ConfigError
from prompt2model.heads import ending, equipment
from prompt2model.losses import (
    Ending,
    cosine_distance,
    cross_entropy,
    forward_kl,
    squared_distance,
    summed,
    weighted_sum,
)
from prompt2model.records import Example

ARCHITECTURES = ("decoder", "encoder-decoder")
DISTANCES = {"cosine": cosine_distance, "l2": squared_distance}


class Options(BaseModel):
    """Which layers, how they are compared, and how much each loss counts."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    layers: tuple[int, ...] = Field(
        (),
        description="The student's layers that follow the teacher's, from 1; none given takes all. Each follows the "
        "teacher's layer at the same share of the depth.",
    )
    distance: Literal["cosine", "l2"] = Field("cosine", description="How states are compared.")
    hidden: float = Field(1.0, ge=0, description="Weight of the states' distance, a mean over the layers.")
    soft: float = Field(5.0, ge=0, description="Weight of the KL to the teacher's distribution.")
    label: float = Field(2.0, ge=0, description="Weight of the answer's likelihood.")
    temperature: float = Field(2.0, gt=0, description="Softens both distributions; the KL is scaled by its square.")


def needs(options: Options) -> tuple[str, ...]:
    """The whole distribution, and with it the states."""
    return ("logits",)


def equip(model: Any, course: Course) -> None:
    """A projection for each layer, from the student's width to the teacher's, where those differ."""
    pairs, ours, theirs = _pairs(model, course), _width(model), _width(course.white_box.model)
    if ours != theirs:
        projections = [nn.Linear(ours, theirs, bias=False) for _ in pairs]
        model.equipment = nn.ModuleList(projections).to(model.device, model.dtype)


def rows(examples: Sequence[Example], course: Course) -> list[Lesson]:
    """The answer after the student's own prompt, and for the teacher after the teacher's."""
    return answered_for_both(examples, course)


def loss(model: Any, batch: Batch, course: Course) -> Tensor:
    """label · (−log q(y)) + soft · T² KL(p ‖ q) + hidden · the distance of the states, summed over the tokens."""
    options: Options = course.options
    pairs, common = _pairs(model, course), common_vocabulary(course)
    student = ending(model, batch, [own for own, _ in pairs])
    teacher = teacher_ending(batch, course, [other for _, other in pairs])

    def of_tokens(logits: Tensor, place: slice, wanted: Tensor) -> Tensor:
        answer = cross_entropy(logits, batch.targets[place])
        soft = forward_kl(logits[:, :common], wanted[:, :common], options.temperature)
        return options.label * answer + options.soft * soft

    total = summed(of_tokens, student, batch.weights, teacher=teacher)
    return total + options.hidden * weighted_sum(_distance(model, student, teacher, options), batch.weights)


def _distance(model: Any, student: Ending, teacher: Ending, options: Options) -> Tensor:
    """The mean over the layers. -> (N,)"""
    projections = equipment(model) or [nn.Identity()] * len(student.hidden)
    compare = DISTANCES[options.distance]
    pairs = zip(projections, student.hidden, teacher.hidden, strict=True)
    return torch.stack([compare(project(ours), theirs) for project, ours, theirs in pairs]).mean(0)


def _pairs(model: Any, course: Course) -> list[tuple[int, int]]:
    """The student's layers, each with the teacher's that it follows. Raises ConfigError for one that is not there."""
    depth, other = _depth(extract_model_from_parallel(model)), _depth(course.white_box.model)
    layers = course.options.layers or range(1, depth + 1)
    if not all(1 <= layer <= depth for layer in layers):
        raise ConfigError(
            f"train.options: layers is {', '.join(map(str, layers))}; the student has {depth}.",
            hint=f"Name layers from 1 to {depth}, or none for all.",
        )
    return [(layer, max(1, round(layer * other / depth))) for layer in layers]


def _depth(model: Any) -> int:
    """Layers of the decoder."""
    config = model.config
    return int(
        getattr(config, "num_decoder_layers", None) or getattr(config, "decoder_layers", 0) or config.num_hidden_layers
    )


def _width(model: Any) -> int:
    return int(model.config.hidden_size)
