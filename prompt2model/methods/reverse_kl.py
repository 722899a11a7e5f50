"""MiniLLM: the reverse KL between whole answers, minimised by policy gradient on the student's own answers.

Gu et al., 2024, https://arxiv.org/abs/2306.08543, section 2 and algorithm 1. The gradient is eq. 7:

    ∇L = −E_{y ~ p~} Σ_t w_t [ ∇ Σ_v q(v) log p(v)/q(v)  +  R_{t+1} ∇ log q(y_t) ],   p~ = α p + (1 − α) q,  w_t = q/p~

Four choices where the paper leaves one, or where its letter would not compute that gradient:

- The sum over t is divided by the number of tokens in the optimiser step, not by that of answers: the same direction
  in every step. The plain texts' loss is a mean over its own tokens.
- PPO's clipping is of q / q_old, what the inner epochs change; w_t stands before it. Algorithm 1 clips q / p~, which
  drops the gradient of tokens with w_t beyond 1 ± ε before the student has moved at all.
- Nothing is whitened unless asked for: dividing the long term by its deviation, but not the single step, would weigh
  the two otherwise than eq. 7 does.
- Dropout is off, in drawing and in learning: the law of the samples is the law of the ratio.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import torch
from accelerate.utils import reduce
from pydantic import BaseModel, ConfigDict, Field, model_validator
from torch import Tensor

from prompt2model.batches import Batch, Lesson, Row
from prompt2model.course import Course, answered_for_both, common_vocabulary, teacher_ending
from prompt2model.heads import ending, head_of, log_likelihoods
from prompt2model.losses import Ending, cross_entropy, summed
from prompt2model.losses import reverse_kl as divergence
from prompt2model.memory import in_batches
from prompt2model.methods import plainly
from prompt2model.passages import check_plain_text, passage, plain_text
from prompt2model.policy import clipped, importance, to_come, whitened
from prompt2model.records import Example, TaskSpec
from prompt2model.rollouts import sampled
from prompt2model.student import LocalModel
from prompt2model.supply import Block

ARCHITECTURES = ("decoder", "encoder-decoder")

TEXT = "text"
"""The part of the loss that plain texts are."""


class Options(BaseModel):
    """Each part of the paper's method, which can be left out, and how much is drawn at once."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    warm_up_epochs: float = Field(3.0, ge=0, description="Epochs of plain fine-tuning first; 0 starts from the base.")
    warm_up_learning_rate: float = Field(
        0.0, ge=0, description="Of that fine-tuning; 0: the usual one, ten times the usual one of what follows."
    )
    teacher_share: float = Field(0.2, ge=0, lt=1, description="The teacher's share in drawing each token; 0 is faster.")
    single_step: bool = Field(True, description="Sum a token's own reward over the whole vocabulary, not by sampling.")
    long_term: bool = Field(True, description="Credit a token with what comes after it.")
    normalise_length: bool = Field(True, description="Take the mean, not the sum, of what comes after a token.")
    clip: float = Field(
        0.2, ge=0, lt=1, description="How far a ratio may move from 1 in inner epochs; 0 sets no bound."
    )
    whiten: bool = Field(False, description="Scale the long term to mean 0 and deviation 1 over all answers drawn.")
    rollout_steps: int = Field(4, gt=0, description="Optimiser steps whose answers are drawn at once.")
    passes: int = Field(4, gt=0, description="Inner epochs: how often an answer is learned from.")
    max_new_tokens: int = Field(256, gt=0, description="Longest answer that is drawn, in tokens.")
    text: str = Field(
        "", description="Plain text that the student shall not unlearn: a file, or a data set on the Hub."
    )
    text_share: float = Field(1.0, gt=0, description="Weight of the plain text's loss beside the rest.")
    keep_teacher: bool = Field(
        True, description="Keep the teacher's last hidden states of drawn answers; off runs it again in every pass."
    )

    @model_validator(mode="after")
    def _learns_something(self) -> "Options":
        if not self.single_step and not self.long_term:
            raise ValueError("single_step and long_term cannot both be off: nothing of the teacher would be left")
        return self


def suits(task: TaskSpec, options: Options) -> None:
    """Every task. Raises DataError when there is no such file of plain text."""
    if options.text:
        check_plain_text(options.text)


def fetch(options: Options) -> None:
    """The plain text. Raises HubError when the Hub refuses it."""
    if options.text:
        plain_text(options.text)


def needs(options: Options) -> tuple[str, ...]:
    """The whole distribution."""
    return ("logits",)


def rows(examples: Sequence[Example], course: Course) -> list[Lesson]:
    """The answer after the student's own prompt, and for the teacher after the teacher's."""
    return answered_for_both(examples, course)


def warm_up(options: Options) -> dict[str, Any]:
    """Phase 1: the best fine-tuned student by validation loss."""
    first = plainly(options.warm_up_epochs)
    return {**first, "learning_rate": options.warm_up_learning_rate} if first else {}


def block(options: Options) -> Block:
    """The rollout buffer: 4 steps of answers in 4 inner epochs, as in appendix B.1."""
    return Block(options.rollout_steps, options.passes)


def rate(options: Options) -> float:
    """5e-6, a tenth of what the same models are fine-tuned with."""
    return 0.1


def shares(options: Options) -> dict[str, float]:
    """The answers' loss, and the plain text's."""
    return {"": 1.0, TEXT: options.text_share} if options.text else {"": 1.0}


def rollouts(student: LocalModel, lessons: Sequence[Lesson], course: Course, seeds: Sequence[int]) -> list[Lesson]:
    """For each lesson an answer drawn from the mixture, judged by both models; with it a passage of plain text."""
    options: Options = course.options
    drawn = sampled(
        student,
        [lesson[0] for lesson in lessons],
        seeds,
        max_length=course.max_length,
        max_new_tokens=options.max_new_tokens,
        teacher=course.white_box,
        share=options.teacher_share,
    )
    answers = judged(student, drawn, course)
    if options.whiten:
        answers = _whitened(answers, student.model.device)
    return [(answer, *_texts(seed, course)) for answer, seed in zip(answers, seeds, strict=True)]


@torch.no_grad()
def judged(student: LocalModel, answers: Sequence[Row], course: Course) -> list[Row]:
    """The answers with the signals that `loss` wants of each token, by the forward pass that trains."""
    found: dict[int, Row] = {}

    def judge(places: list[int]) -> list[Row]:
        return _judged(student, [answers[place] for place in places], course)

    for places, rows in in_batches(list(map(len, answers)), student.batch_rows, judge):
        found.update(zip(places, rows, strict=True))
    return [found[place] for place in range(len(answers))]


def _judged(student: LocalModel, answers: Sequence[Row], course: Course) -> list[Row]:
    """The same, in one batch."""
    common, lengths = common_vocabulary(course), [len(row.completion) for row in answers]
    batch = course.codec.collate(answers).to(student.model.device)
    teacher = teacher_ending(batch, course)
    columns = (
        torch.split(log_likelihoods(ending(student.model, batch), batch.targets, common), lengths),
        torch.split(log_likelihoods(teacher, batch.targets, common), lengths),
        torch.split(teacher.states, lengths),
    )
    return [
        replace(row, signals=_signals(log_q, log_p, states, course.options))
        for row, log_q, log_p, states in zip(answers, *columns, strict=True)
    ]


def loss(model: Any, batch: Batch, course: Course) -> Tensor:
    """w (KL(q ‖ p) − R_{t+1} q/q_old), clipped, and −log q of plain texts, summed over the tokens, in nats.

    Of given answers, as in the validation, KL(q ‖ p) at every token.
    """
    model.eval()
    student, is_text = ending(model, batch), batch.is_of(TEXT)
    if not is_text.any():
        return _of_answers(student, batch, course, slice(None))
    targets = batch.targets[is_text]
    texts = summed(
        lambda logits, place: cross_entropy(logits, targets[place]), _of(student, is_text), batch.weights[is_text]
    )
    return texts if is_text.all() else texts + _of_answers(_of(student, ~is_text), batch, course, ~is_text)


def _of_answers(student: Ending, batch: Batch, course: Course, where: Tensor | slice) -> Tensor:
    """The answers' loss; `where` says which tokens of the batch are theirs."""
    options: Options = course.options
    known = {name: signal[where] for name, signal in batch.signals.items()}
    is_given, common, targets = "importance" not in known, common_vocabulary(course), batch.targets[where]
    teacher = _teacher(batch, course, known, where) if is_given or options.single_step else None

    def of_tokens(logits: Tensor, place: slice, *wanted: Tensor) -> Tensor:
        q, losses = logits[:, :common], torch.zeros(len(logits), device=logits.device)
        if wanted:
            losses = divergence(q, wanted[0][:, :common])
        if is_given:
            return losses
        if options.long_term:
            log_q = -cross_entropy(q, targets[place])
            losses = losses + clipped(log_q, known["log_q"][place], known["advantage"][place], options.clip)
        return known["importance"][place] * losses

    return summed(of_tokens, student, batch.weights[where], teacher=teacher)


def _teacher(batch: Batch, course: Course, known: Mapping[str, Tensor], where: Tensor | slice) -> Ending:
    """What the teacher's head reads at the answers' tokens: as kept, or from another forward pass."""
    if "teacher" in known:
        return Ending(known["teacher"], head_of(course.white_box.model), ())
    end = teacher_ending(batch, course)
    return end._replace(states=end.states[where])


def _of(end: Ending, where: Tensor) -> Ending:
    return end._replace(states=end.states[where])


def _signals(log_q: Tensor, log_p: Tensor, states: Tensor, options: Options) -> dict[str, Tensor]:
    """Of each token of an answer. Without the single step its own reward is sampled too: R_t, not R_{t+1}."""
    signals = {
        "importance": importance(log_q, log_p, options.teacher_share),
        "log_q": log_q,
        "advantage": to_come(log_p - log_q, with_own=not options.single_step, normalise=options.normalise_length),
    }
    if options.single_step and options.keep_teacher:
        signals["teacher"] = states
    return {name: signal.cpu().clone() for name, signal in signals.items()}  # each on its own, for checkpoints


def _whitened(answers: Sequence[Row], device: torch.device) -> list[Row]:
    """The answers with advantages on one scale, that of the answers of all processes."""
    mine = torch.cat([torch.zeros(0), *(row.signals["advantage"] for row in answers)]).double()
    sums = torch.stack([mine.sum(), mine.square().sum(), torch.tensor(float(len(mine))).double()])
    total, squares, count = reduce(sums.to(device), "sum").tolist()
    return [
        replace(row, signals={**row.signals, "advantage": whitened(row.signals["advantage"], total, squares, count)})
        for row in answers
    ]


def _texts(seed: int, course: Course) -> list[Row]:
    text = course.options.text
    return [passage(plain_text(text), course.codec, course.max_length, seed, part=TEXT)] if text else []
