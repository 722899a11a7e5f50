"""Say an input that is there in other words: within reach of a weak model, whose paraphrases are sifted.

Impossible Distillation: Jung et al., 2023, https://arxiv.org/abs/2305.16635, where pairs of a small model's sentences
are kept when they mean the same, look unlike, and differ from all others. Here a paraphrase that hardly changes a word,
that is out of all proportion or that is about something else is dropped; the filters see to the rest: a label has to be
stood by, and an input to be new. A label is kept; the answer to an open question is asked for anew.

The paper tells by entailment whether two sentences mean the same. Here sentence embeddings tell, where a model of them
is at hand: they know another subject, but hardly a "not".
"""

import logging
from collections.abc import Iterator, Sequence

from pydantic import Field

from prompt2model.answering import answered
from prompt2model.cache import key
from prompt2model.conversation import Message, Request
from prompt2model.draft_reading import read_draft
from prompt2model.drafts import draft_request
from prompt2model.embeddings import embed, is_at_hand
from prompt2model.jaccard import similarity
from prompt2model.prompts import messages
from prompt2model.records import Dropped, Example, Source
from prompt2model.strategies import NoOptions, Round
from prompt2model.teacher import replies

NEEDS = ("text",)
KINDS = ("classification", "generation")

logger = logging.getLogger(__name__)


class Options(NoOptions):
    """What a paraphrase may be like."""

    most_alike: float = Field(0.5, gt=0, le=1, description="Share of common word 1- to 3-grams from which it is none.")
    least_alike: float = Field(
        0.3, ge=0, le=1, description="Cosine of the two texts' embeddings below which it means something else."
    )
    length_factor: float = Field(2.0, ge=1, description="How many times longer or shorter it may be than the input.")


def write(round: Round) -> Iterator[Example | Dropped]:
    """Paraphrases of the user's examples and of the rows that have been kept, all of them as often."""
    if not round.pool:
        yield Dropped(reason="there is no input yet to be said in other words")
        return
    rows = _in_turn(round)
    requests = [draft_request(_prompt(round, row), round) for row in rows]
    read = [
        _sifted(read_draft(reply, request, round.task), row, round.options)
        for row, request, reply in zip(rows, requests, replies(round.teacher, requests), strict=True)
    ]
    drafts: list[str | Dropped] = []
    for row, request, draft in zip(rows, requests, _of_one_meaning(read, rows, round), strict=True):
        if isinstance(draft, Dropped):
            yield draft
        elif round.task.kind == "generation":
            drafts.append(draft)
        else:
            yield row.model_copy(update={"input": draft, "source": _source(round, request), **_UNKNOWN})
    yield from answered(drafts, round, "paraphrase")


def _in_turn(round: Round) -> list[Example]:
    """As many rows as are asked for: each of the pool once, in a random order, before any is taken again."""
    rows: list[Example] = []
    while len(rows) < round.count:
        rows += round.rng.sample(round.pool, min(len(round.pool), round.count - len(rows)))
    return rows


def _prompt(round: Round, row: Example) -> tuple[Message, ...]:
    language, continues = round.task.language, round.teacher.is_local
    return messages("generate/paraphrase.j2", text=row.input, language=language, continues=continues)


def _sifted(draft: str | Dropped, row: Example, options: Options) -> str | Dropped:
    if isinstance(draft, Dropped):
        return draft
    shorter, longer = sorted((len(draft), len(row.input)))
    if longer > options.length_factor * shorter:
        return Dropped(reason="far longer or shorter than the input", text=f"{row.input} → {draft}")
    if similarity(draft, row.input) >= options.most_alike:
        return Dropped(reason="hardly changed", text=f"{row.input} → {draft}")
    return draft


def _of_one_meaning(drafts: list[str | Dropped], rows: Sequence[Example], round: Round) -> list[str | Dropped]:
    """The drafts, those that are about something else than their inputs dropped, as far as that can be told here."""
    pairs = [(row.input, draft) for row, draft in zip(rows, drafts, strict=True) if isinstance(draft, str)]
    if not pairs or not round.once(_can_tell):
        return drafts
    ours, theirs = (embed(texts) for texts in zip(*pairs, strict=True))  # (pairs, D) each
    cosines = iter((ours * theirs).sum(-1))
    return [
        Dropped(reason="means something else", text=f"{row.input} → {draft}")
        if isinstance(draft, str) and next(cosines) < round.options.least_alike
        else draft
        for row, draft in zip(rows, drafts, strict=True)
    ]


def _can_tell(round: Round) -> bool:
    """Whether texts can be compared here; a rehearsal loads no model."""
    if not round.is_rehearsal and not is_at_hand():
        logger.info("No embeddings are at hand: whether a paraphrase means the same is not looked at.")
    return not round.is_rehearsal and is_at_hand()


_UNKNOWN = {"rationale": None, "probabilities": None, "confidence": None}
"""What was true of the input and need not be of its paraphrase."""


def _source(round: Round, request: Request) -> Source:
    asked = key(round.teacher.identity, request)
    return Source(kind="teacher", name=round.teacher.name, request=asked, strategy="paraphrase")
