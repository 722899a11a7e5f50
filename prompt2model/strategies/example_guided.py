"""Several inputs in one request, like a few that are shown; then each is answered with a fresh mind.

The example-guided half of LaMini-LM: Wu et al., 2023, https://arxiv.org/abs/2304.14402, appendix A, whose figures are
the defaults. Fewer requests than one for each input, and a list is varied in itself.
"""

from collections.abc import Iterator

from pydantic import Field

from prompt2model.answering import answered
from prompt2model.conversation import Message
from prompt2model.drafts import most_in_list, shown, sizes, write_lists
from prompt2model.prompts import messages
from prompt2model.records import Dropped, Example
from prompt2model.strategies import NoOptions, Round

NEEDS = ("text",)
KINDS = ("classification", "generation")


class Options(NoOptions):
    """How the lists are asked for."""

    examples: int = Field(3, ge=0, description="Inputs shown in a prompt.")
    per_request: int = Field(20, gt=0, description="Inputs asked for in one request.")


def write(round: Round) -> Iterator[Example | Dropped]:
    """Lists of inputs, and the teacher's likeliest answer to each."""
    prompts = [
        (size, _prompt(round, size)) for size in sizes(round.count, most_in_list(round.task, round.options.per_request))
    ]
    yield from answered(write_lists(round, prompts), round, "example_guided")


def _prompt(round: Round, size: int) -> tuple[Message, ...]:
    return messages(
        "generate/guided.j2",
        instruction=round.task.instruction,
        examples=shown(round.pool, round.options.examples, round.rng),
        topics=(),
        size=size,
        language=round.task.language,
        continues=round.teacher.is_local,
    )
