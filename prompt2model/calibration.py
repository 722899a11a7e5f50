"""A trained classifier's leaning to some of its labels, and how it is taken away.

A student of written rows meets texts full of words that no row has, and what it is unsure of it calls by one label more
than by another: by the one whose rows were the more varied. The leaning shows where the input says nothing, on words
drawn at random: contextual calibration, Zhao et al., 2021, https://arxiv.org/abs/2102.09690, with random words as in
Fei et al., 2023, https://arxiv.org/abs/2305.19148. Of the rows' own words, as the latter take, too little of it shows.
Here it goes into the weights, so that every program that runs the model answers the same.
"""

from collections import Counter, defaultdict
from collections.abc import Sequence
from math import log
from random import Random
from typing import Any

import torch
from torch import Tensor

from prompt2model.batches import Codec
from prompt2model.heads import head_inputs
from prompt2model.questions import answer_request
from prompt2model.records import Example, Message, TaskSpec
from prompt2model.student import LocalModel
from prompt2model.teacher import replies

TEXTS = 256
"""Neutral texts: a student that is sure of itself answers them now this way, now that, and the middle needs many."""
DRAWN_TOKENS = 8192
LETTERS = 3
"""Of a word at least: shorter tokens are mostly parts of words."""
TIMES = 3
"""A shift of the head is exact where its logits are linear in what it reads: others come close step by step."""
CLOSE_ENOUGH_NATS = 0.05


def calibrate(model: Any, codec: Codec, task: TaskSpec, rows: Sequence[Example], *, seed: int) -> dict[str, float]:
    """Shift the model's head so that on neutral texts the labels are as likely as they are frequent in the rows.

    Returns the leaning that was taken away: by how many nats each label was likelier than its share. Labels that begin
    with the same token are shifted together. The model is one of its own weights, no adapters, in evaluation mode.
    """
    asked = [(Message(role="user", content=text),) for text in neutral_texts(rows, codec, seed)]
    student, shares = LocalModel(model, codec, name="student"), _log_shares(rows, task)
    found = leaning = _leaning(student, task, asked, shares)
    for _ in range(TIMES):
        if leaning.abs().max() < CLOSE_ENOUGH_NATS:
            break
        _shift(student, task, asked, -leaning)
        leaning = _leaning(student, task, asked, shares)
    return dict(zip(task.labels, found.tolist(), strict=True))


def neutral_texts(rows: Sequence[Example], codec: Codec, seed: int) -> list[str]:
    """Texts as long as the rows' inputs, of words drawn from the tokenizer's vocabulary.

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


def _log_shares(rows: Sequence[Example], task: TaskSpec) -> Tensor:
    """log of each label's share of the rows, one row added to each. -> (labels,)"""
    counts = Counter(row.output for row in rows)
    total = len(rows) + len(task.labels)
    return torch.tensor([log((counts[label] + 1) / total) for label in task.labels])


def _leaning(student: LocalModel, task: TaskSpec, asked: Sequence[tuple[Message, ...]], shares: Tensor) -> Tensor:
    """By how many nats each label is likelier than its share, in the median; they sum to 0. -> (labels,)

    Not in the mean: where a student is sure, nats say little about how often it takes a label.
    """
    requests = [answer_request(task, one, can=student.can, max_tokens=0) for one in asked]
    over = torch.tensor([reply.logprobs for reply in replies(student, requests)]) - shares  # (texts, labels)
    middle = (over - over.mean(1, keepdim=True)).quantile(0.5, dim=0)
    return middle - middle.mean()


@torch.no_grad()
def _shift(student: LocalModel, task: TaskSpec, asked: Sequence[tuple[Message, ...]], by: Tensor) -> None:
    """Add to the logit of each label's first token, in nats, where an answer begins.

    Heads have no bias, but w·h grows by b on the average when b·h̄/|h̄|² is added to w, h̄ the mean of what the head
    reads. Other tokens' logits stay as they are.
    """
    prompts = [student.codec.prompt(one, max_tokens=student.context_tokens or None) for one in asked]
    mean = head_inputs(student.model, student.codec, prompts).mean(0)  # (H,)
    direction = mean / mean.square().sum()
    shifts: dict[int, list[float]] = defaultdict(list)
    for label, nats in zip(task.labels, by.tolist(), strict=True):
        shifts[student.codec.completion(label)[0]].append(nats)
    weight = student.model.get_output_embeddings().weight
    for token, of_labels in shifts.items():
        weight[token] += (direction * (sum(of_labels) / len(of_labels))).to(weight.dtype)
