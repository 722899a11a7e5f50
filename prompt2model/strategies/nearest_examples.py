"""Write an input, then answer it with the user's examples that are nearest to it in the prompt.

LLM-Planner's retrieval of examples: Song et al., 2023, https://arxiv.org/abs/2212.04088, section 4.2. It pays where the
description has more examples than a prompt shows; with fewer it is `input_first`, nearest last. A teacher that tells
the likelihoods of labels is shown no examples, so there it changes nothing.
"""

from collections.abc import Iterator
from typing import Any

import numpy as np

from prompt2model.answering import answered
from prompt2model.drafts import write_inputs
from prompt2model.embeddings import embed
from prompt2model.records import Dropped, Example
from prompt2model.strategies import NoOptions, Round

NEEDS = ("text",)
KINDS = ("classification", "generation")
EXTRA = "rerank"
Options = NoOptions


def write(round: Round) -> Iterator[Example | Dropped]:
    """As many inputs as are asked for, each answered in the light of the examples most like it."""
    examples, count = round.task.examples, round.config.few_shot
    known = None if round.is_rehearsal else round.once(_embeddings)  # (E, D); before anything is asked
    drafts = list(write_inputs(round))
    inputs = list(dict.fromkeys(draft for draft in drafts if isinstance(draft, str)))
    if known is None or not inputs:
        yield from answered(drafts, round, "nearest_examples")
        return
    ranked = np.argsort(embed(inputs) @ known.T, axis=1, kind="stable")[:, -count:]  # (T, count), by the cosine
    nearest = {text: [examples[place] for place in places] for text, places in zip(inputs, ranked, strict=True)}
    yield from answered(drafts, round, "nearest_examples", show=nearest.__getitem__)


def _embeddings(round: Round) -> Any:
    """Of the examples' inputs, (E, D); none where there is nothing to choose from."""
    inputs = [example.input for example in round.task.examples]
    return embed(inputs) if inputs and round.config.few_shot else None
