"""The task put to a model that was not trained for it, and any answer as a request."""

from collections.abc import Sequence
from itertools import zip_longest

from prompt2model.conversation import Message, Request
from prompt2model.prompts import messages
from prompt2model.records import Example, TaskSpec

LONGEST = 8192
"""Tokens of a text that is written, at most, whatever the user's are, unless more are set: few models write more."""


def question(
    task: TaskSpec, text: str, examples: Sequence[Example] = (), *, can: frozenset[str] = frozenset()
) -> tuple[Message, ...]:
    """The task with its instruction and examples, as suits what the answerer `can` do.

    One that tells likelihoods is shown the beginning of the answer of a classification, and no examples: measured on
    movie reviews, a 135M model told positive from negative at an AUC of 0.89 that way, and of 0.73 when asked openly.
    """
    begun = bool(task.labels) and "logprobs" in can
    return messages("answer/question.j2", task=task, text=text, examples=examples, begun=begun)


def answer_request(task: TaskSpec, asked: tuple[Message, ...], *, can: frozenset[str], max_tokens: int) -> Request:
    """One row to be answered: by the likelihood of the labels where the answerer can tell it, else by greedy text.

    Who thinks before it answers has to write: the labels' likelihoods would be those of an answer without a thought.
    """
    continues = asked[-1].role == "assistant"
    if task.labels and "logprobs" in can and not task.answer_after:
        return Request(messages=asked, choices=task.labels, continues=continues)
    return Request(messages=asked, max_tokens=max_tokens, temperature=0.0, continues=continues)


def longest_answer(task: TaskSpec, usual: int) -> int:
    """Tokens that an answer may have: `usual`, or about twice those of the user's longest one (four bytes a token)."""
    return _longest([example.output for example in task.examples], usual)


def longest_input(task: TaskSpec, usual: int) -> int:
    """The same of an input that is written."""
    return _longest([example.input for example in task.examples], usual)


def _longest(texts: Sequence[str], usual: int) -> int:
    return max(usual, min(max((len(text.encode()) // 2 for text in texts), default=0), LONGEST))


def form_examples(task: TaskSpec, count: int) -> tuple[Example, ...]:
    """So many of the user's examples to show the form of an answer by: none where the labels say it, for a label of
    an input that is alike would be copied."""
    return () if task.labels else some_examples(task, count)


def some_examples(task: TaskSpec, count: int) -> tuple[Example, ...]:
    """So many of the user's examples to answer by: the first ones, of each label in turn."""
    if not task.labels:
        return task.examples[:count]
    of_label = [[one for one in task.examples if one.output == label] for label in task.labels]
    in_turn = [one for rank in zip_longest(*of_label) for one in rank if one]
    return tuple(in_turn[:count])
