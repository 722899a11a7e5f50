"""Drops rows that the teacher itself, asked afresh, answers otherwise."""

from collections.abc import Sequence

from prompt2model.conversation import Reply, Request
from prompt2model.filters import Sieve
from prompt2model.records import Dropped, Example, TaskSpec
from prompt2model.sameness import says_the_same
from prompt2model.second_opinion import asked_afresh, disagreed, fresh_probabilities, unanswered
from prompt2model.teacher import replies

NEEDS = ("text",)
KINDS = ("classification", "generation")
LOOKS_AT = ()

FRESH_ANSWERS = 3
"""From a teacher that tells no likelihoods; odd, so that none of two labels is left undecided."""
FRESH_TEMPERATURE = 0.7
"""Of the fresh answers: enough for a teacher that is not sure to say something else."""


def sift(candidates: Sequence[Example], sieve: Sieve) -> list[Example | Dropped]:
    """Each candidate that the teacher stands by; with `logprobs` it gets the probabilities of all labels.

    Without, several fresh answers are asked for, and the row's own has to be that of the majority (self-consistency,
    Wang et al., 2022, https://arxiv.org/abs/2203.11171). The share of those that agree is the row's confidence.
    """
    if sieve.task.kind == "classification" and "logprobs" in sieve.teacher.can:
        fresh = fresh_probabilities(candidates, sieve)
        return [_judged(row, found) for row, found in zip(candidates, fresh, strict=True)]
    requests = [fresh for row in candidates for fresh in _fresh(row, sieve)]
    answered = replies(sieve.teacher, requests)
    return [
        _by_majority(row, answered[place * FRESH_ANSWERS :][:FRESH_ANSWERS], sieve.task)
        for place, row in enumerate(candidates)
    ]


def _fresh(row: Example, sieve: Sieve) -> list[Request]:
    freer = asked_afresh(row, sieve).model_copy(update={"temperature": FRESH_TEMPERATURE})
    return [freer.model_copy(update={"seed": number}) for number in range(1, FRESH_ANSWERS + 1)]


def _by_majority(row: Example, answered: Sequence[Reply], task: TaskSpec) -> Example | Dropped:
    """The row with the share of the answers that agree, if that is more than half."""
    texts = [reply.text for reply in answered if reply.text]
    if not texts:
        return unanswered(answered[0])
    agreeing = sum(says_the_same(row.output, text, task) for text in texts)
    if 2 * agreeing <= len(texts):
        return disagreed(row, " | ".join(texts))
    return row.model_copy(update={"confidence": agreeing / len(texts)})


def _judged(row: Example, fresh: dict[str, float] | Dropped) -> Example | Dropped:
    """The row with the probabilities of all labels, if its own is the likeliest."""
    if isinstance(fresh, Dropped):
        return fresh
    label = max(fresh, key=fresh.__getitem__)
    return row.model_copy(update={"probabilities": fresh}) if label == row.output else disagreed(row, label)
