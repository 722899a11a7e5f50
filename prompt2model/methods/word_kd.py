"""Word-level distillation: forward KL to the teacher's distribution at every token, mixed with the answer's likelihood.

Kim & Rush, 2016, https://arxiv.org/abs/1606.07947, section 3.1; Hinton et al., 2015, https://arxiv.org/abs/1503.02531.
The teacher runs beside the student, or its distributions are kept on disk beforehand: the k likeliest tokens of each,
or k tokens drawn from it (https://arxiv.org/abs/2503.16870), which is without bias.
"""

from collections.abc import Callable, Sequence
from typing import Any, Literal

import torch
from pydantic import BaseModel, ConfigDict, Field
from torch import Tensor

from prompt2model.batches import Batch, Lesson
from prompt2model.course import Course, answered_for_both, common_vocabulary, teacher_ending
from prompt2model.distributions import DIVERGENCES, Recipe, with_distributions
from prompt2model.heads import ending
from prompt2model.losses import cross_entropy, forward_kl, summed
from prompt2model.records import Example

ARCHITECTURES = ("decoder", "encoder-decoder")


class Options(BaseModel):
    """How much of the teacher, how soft, and whether it is there all the time."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    mixing: float = Field(0.5, ge=0, le=1, description="Share of the answer's likelihood; the rest is the teacher's.")
    temperature: float = Field(1.0, gt=0, description="Softens both distributions; the loss is scaled by its square.")
    source: Literal["live", "top_k", "sampled"] = Field(
        "live",
        description="The teacher beside the student, or its distributions kept once on disk: the k likeliest tokens "
        "(the others count as one), or k drawn ones (without bias).",
    )
    k: int = Field(64, ge=1, description="Tokens kept of each distribution.")


def needs(options: Options) -> tuple[str, ...]:
    """The whole distribution."""
    return ("logits",)


def rows(examples: Sequence[Example], course: Course) -> list[Lesson]:
    """The answer after the student's own prompt, and for the teacher after the teacher's."""
    options: Options = course.options
    lessons = answered_for_both(examples, course)
    if options.source == "live":
        return lessons
    recipe = Recipe(options.source, options.k, options.temperature, course.seed)
    found = with_distributions([row for (row,) in lessons], course.white_box, course.codec, recipe)
    return [(row,) for row in found]


def loss(model: Any, batch: Batch, course: Course) -> Tensor:
    """mixing · (−log q(y)) + (1 − mixing) · T² KL(p ‖ q), summed over the tokens, in nats."""
    options: Options = course.options
    common = common_vocabulary(course)
    student, divergence = ending(model, batch), _divergence(batch, course, common)

    def of_tokens(logits: Tensor, place: slice) -> Tensor:
        answer = cross_entropy(logits, batch.targets[place])
        return options.mixing * answer + (1 - options.mixing) * divergence(logits[:, :common], place)

    return summed(of_tokens, student, batch.weights)


def _divergence(batch: Batch, course: Course, common: int) -> Callable[[Tensor, slice], Tensor]:
    """T² KL(p ‖ q) of the tokens at a place, as far as the source tells."""
    options: Options = course.options
    if options.source == "live":
        teacher = teacher_ending(batch, course)

        def live(logits: Tensor, place: slice) -> Tensor:
            with torch.no_grad():
                wanted = teacher.head(teacher.states[place])[:, :common]
            return forward_kl(logits, wanted, options.temperature)

        return live
    of_kind, ids, log_p = DIVERGENCES[options.source], batch.signals["ids"], batch.signals["log_p"]
    return lambda logits, place: of_kind(logits, ids[place], log_p[place], options.temperature)
