"""Inputs that were written, answered by the teacher with a fresh mind."""

from collections.abc import Callable, Iterable, Iterator, Sequence

from prompt2model.answers import read_label
from prompt2model.cache import key
from prompt2model.conversation import Reply, Request
from prompt2model.questions import answer_request, longest_answer, question, some_examples
from prompt2model.records import Dropped, Example, Source
from prompt2model.strategies import Round
from prompt2model.teacher import replies
from prompt2model.wording import normalise

Show = Callable[[str], Sequence[Example]]
"""The examples to show with an input."""


def answered(
    drafts: Iterable[str | Dropped], round: Round, strategy: str, show: Show | None = None
) -> Iterator[Example | Dropped]:
    """Each new input with the teacher's likeliest answer, after what was dropped.

    Only the user's own examples are shown: what the teacher answered before may be wrong.
    """
    inputs: list[str] = []
    for draft in without_repetitions(drafts, round):
        if isinstance(draft, Dropped):
            yield draft
        else:
            inputs.append(draft)
    can, most = round.teacher.can, longest_answer(round.task, round.config.max_tokens)
    show = show or (lambda text: some_examples(round.task, round.config.few_shot))
    questions = [question(round.task, text, show(text), can=can) for text in inputs]
    requests = [answer_request(round.task, one, can=can, max_tokens=most) for one in questions]
    for text, request, reply in zip(inputs, requests, replies(round.teacher, requests), strict=True):
        answer = _read_answer(reply, request, round.task.labels)
        if isinstance(answer, Dropped):
            yield answer
        else:
            asked = key(round.teacher.identity, request)
            source = Source(kind="teacher", name=round.teacher.name, request=asked, strategy=strategy)
            yield Example(input=text, output=answer, source=source)


def without_repetitions(drafts: Iterable[str | Dropped], round: Round) -> Iterator[str | Dropped]:
    """The drafts, without those inputs that are there already: an answer to one would be paid for in vain."""
    known = {normalise(row.input) for row in round.pool}
    for draft in drafts:
        if isinstance(draft, Dropped):
            yield draft
        elif normalise(draft) in known:
            yield Dropped(reason="same input again", text=draft)
        else:
            known.add(normalise(draft))
            yield draft


def _read_answer(reply: Reply, request: Request, labels: Sequence[str]) -> str | Dropped:
    """The answer, as the label that it names where there are labels; a filter judges what names none."""
    if reply.finish in ("failed", "filtered"):
        return Dropped(reason=reply.failure or f"the teacher's reply was {reply.finish}")
    if request.choices:
        return max(zip(reply.logprobs, request.choices, strict=True))[1]
    if reply.finish == "length":
        return Dropped(reason="cut off", text=reply.text)
    text = reply.text.strip()
    return (read_label(text, labels) or text) if labels else text
