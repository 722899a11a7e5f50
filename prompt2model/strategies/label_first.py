"""Choose the label, then write an input for it: balanced, and within reach of a weak teacher.

A local teacher begins half of the inputs as one of another label begins, or with all of it. What it writes freely for
one label is shorter, or full of "not", and a student would tell the labels by that; inputs that begin alike and end
otherwise show where the difference lies. They are the counterfactual pairs of Kaushik et al., 2020,
https://arxiv.org/abs/1909.12434.
"""

import re
from collections import Counter
from collections.abc import Iterator, Sequence
from math import ceil
from random import Random

from prompt2model.cache import key
from prompt2model.conversation import Message, Reply, Request
from prompt2model.draft_reading import read_draft
from prompt2model.drafts import SAME_SHOTS, draft_request, hint, shown
from prompt2model.prompts import messages
from prompt2model.records import Dropped, Example, Source
from prompt2model.strategies import NoOptions, Round
from prompt2model.teacher import replies

NEEDS = ("text",)
KINDS = ("classification",)
Options = NoOptions

OPENED = 0.5
"""How often an input is begun as one of another label begins."""

OPENING_WORDS = 8
"""Words that two inputs have in common at most, and never more than half of the first one's; or else all of them."""

WHOLE = 0.5
"""How often all of a short one stands there, and after a comma what makes it another label's."""

SHORT_WORDS = 16
"""How many words that one has at most."""


def write(round: Round) -> Iterator[Example | Dropped]:
    """One candidate for each of the labels that are asked for."""
    labels = _labels_to_ask_for(round)
    begun = [one for label, count in Counter(labels).items() for one in _requests(round, label, count)]
    requests = [request for _, request in begun]
    for label, (opening, request), reply in zip(labels, begun, replies(round.teacher, requests), strict=True):
        draft = read_draft(_whole(opening, reply), request, round.task)
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


def _requests(round: Round, label: str, count: int) -> Iterator[tuple[str, Request]]:
    """`count` requests for one label, after what their inputs begin with; each SAME_SHOTS show the same examples."""
    for start in range(0, count, SAME_SHOTS):
        examples = shown(round.pool, round.config.few_shot, round.rng, label)
        for _ in range(min(SAME_SHOTS, count - start)):
            opening = _opening(round.pool, label, round.rng) if round.teacher.is_local else ""
            yield opening, draft_request(_prompt(round, label, examples, opening), round)


def _opening(pool: Sequence[Example], label: str, rng: Random) -> str:
    """The first words of an input that has another label, or all of it, or nothing."""
    others = [text for row in pool if row.output != label and len((text := row.input.strip()).split()) > 1]
    if not others or rng.random() >= OPENED:
        return ""
    text = rng.choice(others)
    ends = [word.end() for word in re.finditer(r"\S+", text)]
    if len(ends) <= SHORT_WORDS and rng.random() < WHOLE:
        return text.rstrip(" .,;:!?") + ","
    return text[: ends[rng.randrange(min(OPENING_WORDS, len(ends) // 2))]]


def _whole(opening: str, reply: Reply) -> Reply:
    """The reply with the words that were begun for it; nothing where nothing came after them on their line."""
    goes_on = reply.text.partition("\n")[0].strip() if opening else reply.text.strip()
    return reply.model_copy(update={"text": opening + reply.text if goes_on else ""})


def _prompt(round: Round, label: str, examples: Sequence[Example], opening: str) -> tuple[Message, ...]:
    return messages(
        "generate/label_first.j2",
        instruction=round.task.instruction,
        labels=round.task.labels,
        label=label,
        examples=examples,
        opening=opening,
        hint=hint(round.rng),
        language=round.task.language,
        continues=round.teacher.is_local,
    )
