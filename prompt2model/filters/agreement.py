"""Drops rows that the teacher itself, asked afresh, answers otherwise."""

import math
from collections import Counter, defaultdict
from collections.abc import Sequence

from prompt2model.answers import read_label, softmax
from prompt2model.filters import Sieve
from prompt2model.questions import answer_request, question
from prompt2model.records import Dropped, Example, Reply, Request, TaskSpec
from prompt2model.teacher import replies
from prompt2model.twins import words

NEEDS = ("text",)
KINDS = ("classification", "generation")
LOOKS_AT = ()

CALIBRATION_ROWS = 16
"""Rows of each label from which the teacher's leaning to some labels is estimated."""
FRESH_ANSWERS = 3
"""From a teacher that tells no likelihoods; odd, so that none of two labels is left undecided."""
FRESH_TEMPERATURE = 0.7
"""Of the fresh answers: enough for a teacher that is not sure to say something else."""
COMMON_WORDS = 0.5
"""Share of common words (F1) from which two answers to an open question say the same."""


def sift(candidates: Sequence[Example], sieve: Sieve) -> list[Example | Dropped]:
    """Each candidate that the teacher stands by; with `logprobs` it gets the probabilities of all labels.

    Without, several fresh answers are asked for, and the row's own has to be that of the majority (self-consistency,
    Wang et al., 2022, https://arxiv.org/abs/2203.11171). The share of those that agree is the row's confidence.
    """
    if sieve.task.kind == "classification" and "logprobs" in sieve.teacher.can:
        return _by_likelihood(candidates, sieve)
    requests = [fresh for row in candidates for fresh in _fresh(row, sieve)]
    answered = replies(sieve.teacher, requests)
    return [
        _by_majority(row, answered[place * FRESH_ANSWERS :][:FRESH_ANSWERS], sieve.task)
        for place, row in enumerate(candidates)
    ]


def _fresh(row: Example, sieve: Sieve) -> list[Request]:
    freer = _asked_afresh(row, sieve).model_copy(update={"temperature": FRESH_TEMPERATURE})
    return [freer.model_copy(update={"seed": number}) for number in range(1, FRESH_ANSWERS + 1)]


def _by_majority(row: Example, answered: Sequence[Reply], task: TaskSpec) -> Example | Dropped:
    """The row with the share of the answers that agree, if that is more than half."""
    texts = [reply.text for reply in answered if reply.text]
    if not texts:
        return _unanswered(answered[0])
    agreeing = sum(_says_the_same(row.output, text, task) for text in texts)
    if 2 * agreeing <= len(texts):
        return _disagreed(row, " | ".join(texts))
    return row.model_copy(update={"confidence": agreeing / len(texts)})


def _by_likelihood(candidates: Sequence[Example], sieve: Sieve) -> list[Example | Dropped]:
    """Keeps the rows whose label is the likeliest, once the teacher's leaning to some labels is taken away.

    The leaning is a label's mean log-likelihood over rows of which every label has the same weight: batch calibration,
    Zhou et al., 2023, https://arxiv.org/abs/2309.17249. Uncorrected, a weak teacher calls nearly everything by one
    name, and the filter would leave only that one.
    """
    rows = [*candidates, *_rows_of_labels_that_are_rare(candidates, sieve)]
    requests = [_asked_afresh(row, sieve) for row in rows]
    answered = replies(sieve.teacher, requests)
    logprobs = [_log_softmax(reply.logprobs) if reply.logprobs else () for reply in answered]
    leaning = _leaning(rows, logprobs, sieve.task.labels)
    return [
        _judged(row, [logprob - lean for logprob, lean in zip(found, leaning, strict=True)], sieve.task.labels)
        if found
        else _unanswered(reply)
        for row, reply, found in zip(candidates, answered, logprobs, strict=False)
    ]


def _judged(row: Example, corrected: Sequence[float], labels: Sequence[str]) -> Example | Dropped:
    """The row with the probabilities of all labels, if its own is the likeliest."""
    probabilities = dict(zip(labels, softmax(corrected), strict=True))
    label = max(probabilities, key=lambda label: probabilities[label])
    return row.model_copy(update={"probabilities": probabilities}) if label == row.output else _disagreed(row, label)


def _rows_of_labels_that_are_rare(candidates: Sequence[Example], sieve: Sieve) -> list[Example]:
    """Kept rows of the labels that few candidates have, as when only the label that lags behind was asked for."""
    there = Counter(row.output for row in candidates)
    added: list[Example] = []
    for row in sieve.kept:
        if there[row.output] < CALIBRATION_ROWS:
            there[row.output] += 1
            added.append(row)
    return added


def _leaning(rows: Sequence[Example], logprobs: Sequence[Sequence[float]], labels: Sequence[str]) -> list[float]:
    """Each label's mean log-likelihood, first over the rows of one label, then over the labels."""
    of_label: dict[str, list[Sequence[float]]] = defaultdict(list)
    for row, found in zip(rows, logprobs, strict=True):
        if found:
            of_label[row.output].append(found)
    means = [[_mean(column) for column in zip(*found, strict=True)] for found in of_label.values()]
    return [_mean(column) for column in zip(*means, strict=True)] or [0.0] * len(labels)


def _says_the_same(output: str, text: str, task: TaskSpec) -> bool:
    if task.kind == "classification":
        return read_label(text, task.labels) == output
    return word_f1(output, text) >= COMMON_WORDS


def word_f1(one: str, other: str) -> float:
    """The F1 of two texts' common words, each counted as often as it occurs: ROUGE-1, in any script."""
    ours, theirs = Counter(words(one)), Counter(words(other))
    return 2 * (ours & theirs).total() / max(ours.total() + theirs.total(), 1)


def _asked_afresh(row: Example, sieve: Sieve) -> Request:
    """The bare question: with examples in it, a teacher would copy the label of one that is alike."""
    asked = question(sieve.task, row.input, can=sieve.teacher.can)
    return answer_request(sieve.task, asked, can=sieve.teacher.can, max_tokens=sieve.config.max_tokens)


def _disagreed(row: Example, answer: str) -> Dropped:
    return Dropped(reason="teacher disagrees", text=f"{row.input} → {row.output}; asked afresh: {answer}")


def _unanswered(reply: Reply) -> Dropped:
    return Dropped(reason=reply.failure or "no fresh answer", text=reply.text)


def _log_softmax(logprobs: Sequence[float]) -> tuple[float, ...]:
    top = max(logprobs)
    total = top + math.log(sum(math.exp(logprob - top) for logprob in logprobs))
    return tuple(logprob - total for logprob in logprobs)


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values)
