"""What the teacher says of a written row when it is asked afresh."""

import math
from collections import Counter, defaultdict
from collections.abc import Sequence

from prompt2model.answers import softmax
from prompt2model.conversation import Reply, Request
from prompt2model.filters import Sieve
from prompt2model.questions import answer_request, form_examples, longest_answer, question
from prompt2model.records import Dropped, Example
from prompt2model.teacher import replies

CALIBRATION_ROWS = 16
"""Rows of each label from which the teacher's leaning to some labels is estimated."""


def fresh_probabilities(candidates: Sequence[Example], sieve: Sieve) -> list[dict[str, float] | Dropped]:
    """The teacher's probability of each label for each candidate, its leaning to some labels taken away.

    The leaning is a label's mean log-likelihood over rows of which every label has the same weight: batch calibration,
    Zhou et al., 2023, https://arxiv.org/abs/2309.17249. Uncorrected, a weak teacher calls nearly everything by one
    name. Where the teacher does not answer, the candidate is dropped for its reason.
    """
    labels = sieve.task.labels
    rows = [*candidates, *_rows_of_labels_that_are_rare(candidates, sieve)]
    requests = [asked_afresh(row, sieve) for row in rows]
    answered = replies(sieve.teacher, requests)
    logprobs = [_log_softmax(reply.logprobs) if reply.logprobs else () for reply in answered]
    leaning = _leaning(rows, logprobs, labels)
    return [
        dict(zip(labels, softmax([one - lean for one, lean in zip(found, leaning, strict=True)]), strict=True))
        if found
        else unanswered(reply)
        for _, reply, found in zip(candidates, answered, logprobs, strict=False)
    ]


def asked_afresh(row: Example, sieve: Sieve) -> Request:
    """The bare question, for with examples in it a teacher would copy the label of one that is alike; of an open task
    with those that show the form of an answer."""
    task, can = sieve.task, sieve.teacher.can
    shown = form_examples(task, sieve.config.few_shot)
    asked = question(task, row.input, shown, can=can)
    return answer_request(task, asked, can=can, max_tokens=longest_answer(task, sieve.config.max_tokens))


def disagreed(row: Example, answer: str) -> Dropped:
    """The row, dropped because the teacher asked afresh gave that answer."""
    return Dropped(reason="teacher disagrees", text=f"{row.input} → {row.output}; asked afresh: {answer}")


def unanswered(reply: Reply) -> Dropped:
    """A row, dropped because the teacher gave no answer."""
    return Dropped(reason=reply.failure or "no fresh answer", text=reply.text)


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


def _log_softmax(logprobs: Sequence[float]) -> tuple[float, ...]:
    top = max(logprobs)
    total = top + math.log(sum(math.exp(logprob - top) for logprob in logprobs))
    return tuple(logprob - total for logprob in logprobs)


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values)
