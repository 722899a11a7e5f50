"""Answers drawn from the student as it is, or word by word from a mixture of it and the teacher.

They are drawn from the whole distribution over the tokenizer's tokens, nothing cut off: the very law whose logarithms
the gradient is made of. A drawn answer has the token that ended it, and none where the length limit did.
"""

import logging
from collections.abc import Sequence
from dataclasses import replace

import torch
from torch import Tensor

from prompt2model import progress
from prompt2model.batches import Row
from prompt2model.blocks import blocks
from prompt2model.decoding import Speaks, State, Writing, fill
from prompt2model.memory import in_batches
from prompt2model.student import LocalModel

log = logging.getLogger(__name__)


def sampled(
    student: LocalModel,
    rows: Sequence[Row],
    seeds: Sequence[int],
    *,
    max_length: int,
    max_new_tokens: int,
    temperature: float = 1.0,
    teacher: LocalModel | None = None,
    share: float = 0.0,
) -> list[Row]:
    """The rows with a drawn completion in place of theirs; each token from share · p + (1 − share) · q.

    A row is at most `max_length` tokens. Without a share the teacher is left alone.
    """
    models = [student, teacher] if teacher else [student]
    rooms = [min(_room(row, max_length, models), max_new_tokens) for row in rows]
    voices = list(zip(models, (1.0 - share, share), strict=False)) if share else [(student, 1.0)]
    longest = [
        max(map(len, (row.prompt, row.teacher_prompt or ()))) + most for row, most in zip(rows, rooms, strict=True)
    ]

    @torch.inference_mode()
    def draw(places: list[int]) -> list[Writing]:
        texts = [Writing(rows[at].prompt, rooms[at], temperature=1.0, seed=seeds[at]) for at in places]
        prompts = [[_read(rows[at], voice) for at in places] for voice in range(len(voices))]
        fill(_Mixture(voices, prompts, len(student.codec.tokenizer), temperature), student.codec, texts)
        return texts

    texts: dict[int, Writing] = {}
    with progress.task("rolling out", total=len(rows)) as advance:
        for places, drawn in in_batches(longest, student.batch_rows, draw):
            texts.update(zip(places, drawn, strict=True))
            advance(len(places))
    _tell(list(texts.values()))
    return [replace(row, completion=_completion(texts[at]), signals={}) for at, row in enumerate(rows)]


def _read(row: Row, voice: int) -> tuple[int, ...]:
    """What the student (0) or the teacher (1) reads before the answer."""
    return row.teacher_prompt if voice and row.teacher_prompt is not None else row.prompt


def _room(row: Row, max_length: int, models: Sequence[LocalModel]) -> int:
    """How many tokens the answer may have, in the row and in every model's context."""
    rooms = [max_length - (len(row.prompt) if models[0].codec.architecture == "decoder" else 0)]
    for at, model in enumerate(models):
        if model.context_tokens:
            taken = len(_read(row, at)) if model.codec.architecture == "decoder" else 1
            rooms.append(model.context_tokens - taken)
    return max(1, min(rooms))


def _completion(text: Writing) -> tuple[int, ...]:
    return (*text.tokens, *([] if text.end is None else [text.end]))


def _tell(texts: Sequence[Writing]) -> None:
    """Answers that grow or shrink without end are the first sign that a policy goes astray."""
    if texts:
        mean, cut = sum(len(text.tokens) for text in texts) / len(texts), sum(not text.finished for text in texts)
        log.info("%d answers drawn, of %.1f tokens in the mean, %d cut off.", len(texts), mean, cut)


class _Mixture:
    """Models that read the same answer as it comes, each after its own prompt; all have a say in the next token."""

    def __init__(
        self,
        voices: Sequence[tuple[LocalModel, float]],
        prompts: Sequence[Sequence[tuple[int, ...]]],
        vocabulary: int,
        temperature: float,
    ) -> None:
        self.states: list[Speaks] = [
            State(model.model, model.codec, own) for (model, _), own in zip(voices, prompts, strict=True)
        ]
        self.shares = torch.tensor([share for _, share in voices])
        self.vocabulary, self.temperature = vocabulary, temperature

    @property
    def logits(self) -> Tensor:
        """(B, V), V the tokenizer's."""
        each = [state.logits[:, : self.vocabulary] for state in self.states]
        if len(each) == 1:
            return each[0] if self.temperature == 1.0 else each[0].float() / self.temperature
        mixed, weights = torch.empty_like(each[0], dtype=torch.float32), self.shares.log().to(each[0].device)
        for rows in blocks(mixed):
            spoken = torch.stack([(logits[rows].float() / self.temperature).log_softmax(-1) for logits in each])
            torch.logsumexp(spoken + weights[:, None, None], 0, out=mixed[rows])
        return mixed

    @property
    def worth_leaving(self) -> float:
        return min(state.worth_leaving for state in self.states)

    def advance(self, tokens: Sequence[Sequence[int]]) -> None:
        for state in self.states:
            state.advance(tokens)

    def keep(self, rows: Sequence[int]) -> None:
        for state in self.states:
            state.keep(rows)
