"""Choose the label, then write an input for it: balanced, and within reach of a weak teacher."""

from collections import Counter
from collections.abc import Iterator, Sequence
from math import ceil

from prompt2model.cache import key
from prompt2model.drafts import SAME_SHOTS, draft_request, hint, read_draft, shown
from prompt2model.prompts import messages
from prompt2model.records import Dropped, Example, Message, Request, Source
from prompt2model.strategies import NoOptions, Round
from prompt2model.teacher import replies

NEEDS = ("text",)
KINDS = ("classification",)
Options = NoOptions


def write(round: Round) -> Iterator[Example | Dropped]:
    """One candidate for each of the labels that are asked for."""
    labels = _labels_to_ask_for(round)
    requests = [request for label, count in Counter(labels).items() for request in _requests(round, label, count)]
    for label, request, reply in zip(labels, requests, replies(round.teacher, requests), strict=True):
        draft = read_draft(reply, request, round.task)
        if isinstance(draft, Dropped):
            yield draft
        else:
            asked = key(round.teacher.identity, request)
            source = Source(kind="teacher", name=round.teacher.name, request=asked, strategy="label_first")
            yield Example(input=draft, output=label, source=source)


def _labels_to_ask_for(round: Round) -> list[str]:
    """`round.count` labels in proportion to what is missing of each, so that the one that lags behind catches up."""
    share = ceil(round.config.count / len(round.task.labels))
    kept = Counter(row.output for row in round.pool if not row.is_real)
    missing = {label: max(share - kept[label], 0) for label in round.task.labels}
    asked: Counter[str] = Counter()
    for _ in range(round.count):
        # Jefferson's method; the first of equals, in the description's order.
        asked[max(missing, key=lambda label: missing[label] / (asked[label] + 1))] += 1
    return list(asked.elements())


def _requests(round: Round, label: str, count: int) -> Iterator[Request]:
    """`count` requests for one label; each SAME_SHOTS of them show the same examples."""
    for start in range(0, count, SAME_SHOTS):
        examples = shown(round.pool, round.config.few_shot, round.rng, label)
        for _ in range(min(SAME_SHOTS, count - start)):
            yield draft_request(_prompt(round, label, examples), round)


def _prompt(round: Round, label: str, examples: Sequence[Example]) -> tuple[Message, ...]:
    return messages(
        "generate/label_first.j2",
        instruction=round.task.instruction,
        labels=round.task.labels,
        label=label,
        examples=examples,
        hint=hint(round.rng),
        language=round.task.language,
        continues=round.teacher.is_local,
    )
