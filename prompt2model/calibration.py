"""A trained classifier's leaning to some of its labels, and how it is taken away.

A student of written rows meets texts full of words that no row has, and what it is unsure of it calls by one label more
than by another. The leaning shows where the input says nothing, on words drawn at random: contextual calibration, Zhao
et al., 2021, https://arxiv.org/abs/2102.09690, with random words as in Fei et al., 2023,
https://arxiv.org/abs/2305.19148. Of the rows' own words, as the latter take, too little of it shows. Here it goes into
the weights, so that every program that runs the model answers the same.
"""

from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from math import log
from random import Random
from typing import Any

import torch
from torch import Tensor

from prompt2model.batches import Codec
from prompt2model.conversation import Message
from prompt2model.heads import head_inputs
from prompt2model.questions import answer_request
from prompt2model.records import Example, TaskSpec
from prompt2model.student import LocalModel
from prompt2model.teacher import replies

TEXTS = 256
"""Neutral texts: a student that is sure of itself answers them now this way, now that, and the middle needs many."""
DRAWN_TOKENS = 8192
LETTERS = 3
"""Of a word at least: shorter tokens are mostly parts of words."""
TIMES = 5
"""A shift is exact where logits are linear in what the head reads: others come close step by step."""
CLOSE_ENOUGH_NATS = 0.05
MOST_NATS = 1.0
"""Taken away between two labels at most: what random words show beyond that misled as often as it helped."""


def may_lean(task: TaskSpec, rows: Sequence[Example], wanted: str, *, told: bool) -> bool:
    """Whether a student of the rows is calibrated: as is `wanted`, or for "auto" after rows that a teacher wrote, or
    whose labels it was `told` by one; people's are like what it is asked later."""
    if not task.labels or task.answer_after or wanted == "never":
        return False
    written = sum(not row.is_real for row in rows)
    return wanted == "always" or told or 2 * written > len(rows)


def calibrate(model: Any, codec: Codec, task: TaskSpec, rows: Sequence[Example], *, seed: int) -> dict[str, float]:
    """Shift the model's head so that on neutral texts the labels are as likely as they are frequent in the rows.

    Of a leaning above MOST_NATS as much is taken away. Returns by how many nats each label has become less likely;
    nothing where none leaned. Labels go together that part from others at the same token; those without a row stay as
    they are. The model is one of its own weights, no adapters, in evaluation mode.
    """
    asked = [(Message(role="user", content=text),) for text in neutral_texts(rows, codec, seed)]
    student, beginnings = LocalModel(model, codec, name="student"), _beginnings(codec, task, rows)
    if len(beginnings) < 2:
        return {}
    found = leaning = _leaning(student, task, asked, beginnings)
    widest = float(found.max() - found.min())
    stays = found * (1 - MOST_NATS / max(widest, MOST_NATS))
    gain = 1.0
    for _ in range(TIMES):
        excess = leaning - stays
        if excess.abs().max() < CLOSE_ENOUGH_NATS:
            break
        _shift(student, asked, beginnings, -excess / gain)
        before, leaning = leaning, _leaning(student, task, asked, beginnings)
        response = float((before - leaning) @ excess / excess.square().sum())  # below 1 where logits are scaled
        gain *= max(response, 0.1)
    gone = (found - leaning).tolist()
    moved = {label: gone[place] for place, one in enumerate(beginnings) for label in one.labels}
    return {label: moved[label] for label in task.labels if label in moved} if max(gone) >= CLOSE_ENOUGH_NATS else {}


def neutral_texts(rows: Sequence[Example], codec: Codec, seed: int) -> list[str]:
    """Texts of as many words as the rows' inputs, drawn from the tokenizer's vocabulary, whatever the language.

    Where it has none that begin a word, or the inputs are not set apart by spaces, they are the inputs' own characters.
    """
    rng = Random(f"{seed}/neutral")  # noqa: S311 - not for secrets
    spaced = sum(" " in row.input.strip() for row in rows) * 2 >= len(rows)
    known = _words(codec, rng) if spaced else []
    words = known or sorted({character for row in rows for character in row.input if not character.isspace()})
    lengths = [len(row.input.split() if known else row.input) for row in rows]
    return [(" " if known else "").join(rng.choices(words, k=rng.choice(lengths))) for _ in range(TEXTS)]


def _words(codec: Codec, rng: Random) -> list[str]:
    """Some of the tokens that stand for a word: after another one a space comes first, then nothing but letters."""
    first = codec.completion("a", ended=False)
    before = codec.text(first)
    ids = [rng.randrange(len(codec.tokenizer)) for _ in range(DRAWN_TOKENS)]
    texts = [codec.text([*first, token])[len(before) :] for token in ids]
    return [text.strip() for text in texts if text[:1] == " " and text.strip().isalpha() and len(text) > LETTERS]


@dataclass(frozen=True)
class _Beginning:
    """Labels that begin alike, up to the token at which they part from the others."""

    before: tuple[int, ...]
    """The tokens that all labels of the task begin with."""
    token: int
    labels: tuple[str, ...]
    log_share: float
    """Of their rows among all."""


def _beginnings(codec: Codec, task: TaskSpec, rows: Sequence[Example]) -> list[_Beginning]:
    """The different ones; without those of which there is no row, for of them the student knows nothing."""
    tokens = {label: codec.completion(label) for label in task.labels}
    first, last = min(tokens.values()), max(tokens.values())
    common = next((i for i, (one, other) in enumerate(zip(first, last, strict=False)) if one != other), None)
    if common is None:  # the tokenizer cannot tell them apart
        return []
    together: dict[int, list[str]] = defaultdict(list)
    for label in task.labels:
        together[tokens[label][common]].append(label)
    counts = Counter(row.output for row in rows)
    return [
        _Beginning(first[:common], token, tuple(labels), log(share))
        for token, labels in together.items()
        if (share := sum(counts[label] for label in labels) / len(rows))
    ]


def _leaning(
    student: LocalModel, task: TaskSpec, asked: Sequence[tuple[Message, ...]], beginnings: Sequence[_Beginning]
) -> Tensor:
    """By how many nats each is likelier than its share, in the median; they sum to 0. -> (beginnings,)

    Not in the mean: where a student is sure, nats say little about how often it takes a label.
    """
    requests = [answer_request(task, one, can=student.can, max_tokens=0) for one in asked]
    logprobs = torch.tensor([reply.logprobs for reply in replies(student, requests)])  # (texts, labels)
    places = [[task.labels.index(label) for label in one.labels] for one in beginnings]
    together = torch.stack([logprobs[:, at].logsumexp(1) for at in places], 1)  # (texts, beginnings)
    over = together - torch.tensor([one.log_share for one in beginnings])
    middle = (over - over.mean(1, keepdim=True)).quantile(0.5, dim=0)
    return middle - middle.mean()


@torch.no_grad()
def _shift(
    student: LocalModel, asked: Sequence[tuple[Message, ...]], beginnings: Sequence[_Beginning], by: Tensor
) -> None:
    """Add to the logits of the tokens at which the labels part, in nats.

    Heads have no bias, but w·h grows by b on the average when b·h̄/|h̄|² is added to w, h̄ the mean of what the head
    reads. Other tokens' logits stay as they are.
    """
    prompts = [student.codec.prompt(one, max_tokens=student.context_tokens or None) for one in asked]
    mean = head_inputs(student.model, student.codec, prompts, beginnings[0].before).mean(0)  # (H,)
    direction = mean / mean.square().sum()
    weight = student.model.get_output_embeddings().weight
    for one, nats in zip(beginnings, by.tolist(), strict=True):
        weight[one.token] += (direction * nats).to(weight.dtype)
