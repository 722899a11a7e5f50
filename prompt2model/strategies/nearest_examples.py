"""Write an input, then answer it with the user's examples that are nearest to it in the prompt.

LLM-Planner's retrieval of examples: Song et al., 2023, https://arxiv.org/abs/2212.04088, section 4.2. It pays where the
description has more examples than a prompt shows; with fewer it is `input_first`, nearest last. A teacher that tells
the likelihoods of labels is shown no examples, so there it changes nothing.
"""

from collections.abc import Iterator

from pydantic import Field

from prompt2model.answering import answered
from prompt2model.drafts import write_inputs
from prompt2model.nearest import Nearest
from prompt2model.records import Dropped, Example
from prompt2model.strategies import NoOptions, Round

NEEDS = ("text",)
KINDS = ("classification", "generation")
EXTRA = "rerank"


class Options(NoOptions):
    """What tells which examples are near."""

    model: str = Field(
        "sentence-transformers/all-MiniLM-L6-v2", description="The embedding model: a name of the Hub or a folder."
    )


def write(round: Round) -> Iterator[Example | Dropped]:
    """As many inputs as are asked for, each answered in the light of the examples most like it."""
    nearest = None if round.is_rehearsal else round.once(_nearest)  # before anything is asked
    drafts = list(write_inputs(round))
    inputs = list(dict.fromkeys(draft for draft in drafts if isinstance(draft, str)))
    shown = dict(zip(inputs, nearest.find(inputs, round.config.few_shot), strict=True)) if nearest else {}
    yield from answered(drafts, round, "nearest_examples", show=shown.__getitem__ if nearest else None)


def _nearest(round: Round) -> Nearest:
    return Nearest(round.task.examples, round.options.model)
