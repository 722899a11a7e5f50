"""A task's answers from anything that answers: labels by their likelihood, or a text that is read as one."""

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass

from prompt2model import progress
from prompt2model.conclusion import answer_in
from prompt2model.conversation import Message, Reply
from prompt2model.questions import answer_request
from prompt2model.records import TaskSpec
from prompt2model.teacher import Teacher
from prompt2model.wording import folded, is_unspaced, one_line

MOST_TOKENS = 256
MOST_TOKENS_OF_A_THOUGHT = 1024
"""Of a chain of thought and the answer after it."""


@dataclass(frozen=True)
class Answer:
    """One answer to the task, or the reason why there is none."""

    text: str
    """For a classification a label; the text as it came when it names no label or several, or comes to no answer."""
    probability: float | None = None
    """Of the answer, among all labels; none where the model only writes."""
    is_readable: bool = True
    """Whether the text comes to an answer and, in a classification, that is a label."""
    is_cut_off: bool = False
    """Whether it was not at its end when it was as long as it may be."""
    failure: str = ""
    tokens: int = 0
    """Read and written."""
    cached: bool = False


def ask(
    task: TaskSpec, conversations: Sequence[tuple[Message, ...]], teacher: Teacher, *, max_tokens: int, what: str
) -> list[Answer]:
    """One answer for each conversation, the likeliest: same question, same answer. `what` names the progress bar.

    Raises TeacherError when the teacher cannot be had at all; a single failed request is an answer with a failure.
    """
    requests = [answer_request(task, asked, can=teacher.can, max_tokens=max_tokens) for asked in conversations]
    found: dict[int, Answer] = {}
    with progress.task(what, total=len(requests)) as advance:
        for group in teacher.answer(requests):
            found.update((index, _read(reply, requests[index].choices, task)) for index, reply in group)
            advance(len(group))
    return [found[index] for index in range(len(requests))]


def most_tokens(task: TaskSpec, longest: int) -> int:
    """How long an answer may be: usually enough, and enough for the longest text that the student learned to write."""
    return max(MOST_TOKENS_OF_A_THOUGHT if task.answer_after else MOST_TOKENS, longest)


def as_answered(task: TaskSpec, answer_after: str) -> TaskSpec:
    """The task as somebody answers it who writes that before the answer."""
    return task.model_copy(update={"answer_after": answer_after})


def read_label(text: str, labels: Sequence[str]) -> str | None:
    """The label that the text is or, failing that, the only one that it names; none where that is not clear."""
    for plain in (str.strip, folded, _bare):
        same = [label for label in labels if plain(label) and plain(label) == plain(text)]
        if len(same) == 1:
            return same[0]
    named = _named(text, labels)
    return named.pop() if len(named) == 1 else None


def softmax(logprobs: Sequence[float]) -> list[float]:
    """Probabilities that sum to one, in the proportion of the likelihoods."""
    top = max(logprobs)
    weights = [math.exp(logprob - top) for logprob in logprobs]
    return [weight / sum(weights) for weight in weights]


def _read(reply: Reply, choices: Sequence[str], task: TaskSpec) -> Answer:
    tokens = reply.tokens_in + reply.tokens_out
    if reply.finish in ("failed", "filtered"):
        return Answer("", failure=reply.failure or reply.finish, tokens=tokens, cached=reply.cached)
    if choices:
        probability, text = max(zip(softmax(reply.logprobs), choices, strict=True), key=lambda pair: pair[0])
        return Answer(text, probability=probability, tokens=tokens, cached=reply.cached)
    found = answer_in(reply.text, task.answer_after) if task.answer_after else reply.text.strip()
    answer = read_label(found, task.labels) if found is not None and task.labels else found
    text = reply.text.strip() if answer is None else answer
    return Answer(
        text,
        is_readable=answer is not None,
        is_cut_off=reply.finish == "length",
        tokens=tokens,
        cached=reply.cached,
    )


def _bare(text: str) -> str:
    """Words only: no quotes, full stops or asterisks; the sign of a number stays."""
    return one_line(re.sub(r"(?!(?<!\w)-\d)[\W_]", " ", text.casefold()))


def _named(text: str, labels: Sequence[str]) -> set[str]:
    """The labels that occur as whole words, not denied; of two that overlap ("toxic", "not toxic") the longer.

    Case counts where labels differ in it alone, and for a single letter, which may be a word: it is "a" good example.
    """
    fold = str.casefold if len({label.casefold() for label in labels}) == len(labels) else str
    known = {fold(label): label for label in labels}
    longest_first = "|".join(map(_whole, sorted(labels, key=len, reverse=True)))
    found, denied_until = set(), -1
    for match in re.finditer(longest_first, text, re.IGNORECASE if fold is str.casefold else 0):
        goes_on = denied_until >= 0 and _JOINED.fullmatch(text, denied_until, match.start())
        if goes_on or _DENIAL.search(text[: match.start()]):
            denied_until = match.end()
            continue
        label, is_last = known.get(fold(match[0]), ""), not text[match.end() :].strip(_ENDS)
        if label and (len(label) > 1 or match[0] == label or is_last):
            found.add(label)
    return found


_ENDS = " \t\n.!*_)]}\"'”’"
_DENIAL = re.compile(
    r"(?:\b(?:not|no|non|never|neither|nor|is ?n['’]t|nicht|keine?|niet|geen|pas|ni|não|nie|не)[\s-]+"
    r"(?:(?:an?|the|at all|really|very|clearly|eine?|une?) )?|[不非没沒]是?)[\"'“‘*]*$",
    re.IGNORECASE,
)
"""How a text goes on to name a label that it denies."""
_JOINED = re.compile(r"[\"'”’*]*\s*(?:/|\b(?:or|nor|oder|noch|ou|ni|o|of)\b)\s*[\"'“‘*]*", re.IGNORECASE)
"""What stands between two labels that are denied together."""


def _whole(label: str) -> str:
    """A pattern of the label where it is no part of a longer word, or of a number: neither 1 in -1, nor 4 in 4/10."""
    begin = r"(?<!\w)(?<![-−])(?<!\d[.,:/–])" if label[0].isdigit() else r"(?<!\w)"
    end = r"(?!\w|[.,:–-]\d|\s?/)" if label[-1].isdigit() else r"(?!\w)"
    return ("" if is_unspaced(label[0]) else begin) + re.escape(label) + ("" if is_unspaced(label[-1]) else end)
