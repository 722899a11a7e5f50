"""Write the input, then answer it with a fresh mind: two requests for each example."""

from collections.abc import Iterator

from prompt2model.answering import answered
from prompt2model.drafts import write_inputs
from prompt2model.records import Dropped, Example
from prompt2model.strategies import NoOptions, Round

NEEDS = ("text",)
KINDS = ("classification", "generation")
Options = NoOptions


def write(round: Round) -> Iterator[Example | Dropped]:
    """As many inputs as are asked for, each with the teacher's likeliest answer."""
    yield from answered(write_inputs(round), round, "input_first")
