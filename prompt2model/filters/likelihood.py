"""Drops rows whose output the teacher finds no likelier for its own input than for the inputs of other rows."""

from collections.abc import Sequence

from prompt2model.conversation import Reply, Request
from prompt2model.filters import Sieve
from prompt2model.questions import question, some_examples
from prompt2model.records import Dropped, Example
from prompt2model.teacher import replies

NEEDS = ("logprobs",)
KINDS = ("classification", "generation")
LOOKS_AT = ()

GROUP_ROWS = 8
"""Rows whose outputs are compared: each input is shown with each of these outputs."""


def sift(candidates: Sequence[Example], sieve: Sieve) -> list[Example | Dropped]:
    """Each candidate whose input and output have a pointwise mutual information above 0.

    That is the output's log-likelihood after its own input, less its mean after the other inputs of the group. What is
    likely after anything, a common label or a phrase, gains nothing by that. A row alone has nothing to compare with.
    """
    apart = -(-len(candidates) // GROUP_ROWS) or 1  # rows that were written one after the other often have one label
    groups = [candidates[first::apart] for first in range(apart)]
    requests = [_request(row, group, sieve) for group in groups for row in group]
    answered = iter(replies(sieve.teacher, requests))
    judged = [iter(_judged(group, [next(answered) for _ in group])) for group in groups]
    return [next(judged[place % apart]) for place in range(len(candidates))]


def _outputs(group: Sequence[Example]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(row.output for row in group))


def _request(row: Example, group: Sequence[Example], sieve: Sieve) -> Request:
    shown = () if sieve.task.labels else some_examples(sieve.task, sieve.config.few_shot)
    asked = question(sieve.task, row.input, shown, can=sieve.teacher.can)
    return Request(messages=asked, choices=_outputs(group), continues=asked[-1].role == "assistant")


def _judged(group: Sequence[Example], answered: Sequence[Reply]) -> list[Example | Dropped]:
    columns = {output: place for place, output in enumerate(_outputs(group))}
    judged: list[Example | Dropped] = []
    for row, reply in zip(group, answered, strict=True):
        column = columns[row.output]
        others = [other.logprobs[column] for other in answered if other is not reply and other.logprobs]
        if not reply.logprobs:
            judged.append(Dropped(reason=reply.failure or "no likelihood", text=row.input))
        elif others and reply.logprobs[column] <= sum(others) / len(others):
            judged.append(Dropped(reason="output fits other inputs better", text=f"{row.input} → {row.output}"))
        else:
            judged.append(row)
    return judged
