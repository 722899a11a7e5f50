"""Several inputs in one request, about topics that are drawn without replacement; then each is answered.

The topic-guided half of LaMini-LM: Wu et al., 2023, https://arxiv.org/abs/2304.14402, section 3.1, which takes common
names of three words at most. There the topics are Wikipedia's categories; here the teacher names some that suit the
task, unless they are given.
"""

import logging
import re
from collections.abc import Iterator

from pydantic import Field

from prompt2model.answering import answered
from prompt2model.conversation import Message
from prompt2model.drafts import draft_request, most_in_list, shown, sizes, write_lists
from prompt2model.prompts import messages
from prompt2model.records import Dropped, Example
from prompt2model.strategies import NoOptions, Round
from prompt2model.teacher import replies
from prompt2model.wording import normalise

NEEDS = ("text",)
KINDS = ("classification", "generation")

logger = logging.getLogger(__name__)

TOPIC_WORDS = 3
"""A topic's words at most: longer names are of rare things."""
SHOWN_TOPICS = 60
"""Topics that have been used and are named when others are wanted."""


class Options(NoOptions):
    """How the lists are asked for."""

    examples: int = Field(3, ge=0, description="Inputs shown in a prompt.")
    per_request: int = Field(20, gt=0, description="Inputs asked for in one request.")
    per_prompt: int = Field(3, gt=0, description="Topics named in a prompt.")
    topics: tuple[str, ...] = Field((), description="The topics; none given lets the teacher name some.")
    named_at_once: int = Field(50, gt=0, description="Topics that the teacher is asked for at a time.")


def write(round: Round) -> Iterator[Example | Dropped]:
    """Lists of inputs about the next topics, and the teacher's likeliest answer to each."""
    topics = round.once(_Topics)
    lists = sizes(round.count, most_in_list(round.task, round.options.per_request))
    prompts = [(size, _prompt(round, size, topics.draw(round))) for size in lists]
    yield from answered(write_lists(round, prompts), round, "topic_guided")


class _Topics:
    """Topics in the order in which they are drawn; when all have been used, others take their place."""

    def __init__(self, round: Round) -> None:
        self.left = list(round.options.topics)
        self.used: list[str] = []
        self.dry: Round | None = None
        """The round in which the teacher named nothing new: it is not asked again before the next one."""
        round.rng.shuffle(self.left)

    def draw(self, round: Round) -> list[str]:
        """The next few topics; none, which is said, where the teacher has no more: then a list is about anything."""
        if len(self.left) < round.options.per_prompt:
            self.left += self._more(round)
        drawn, self.left = self.left[: round.options.per_prompt], self.left[round.options.per_prompt :]
        self.used += drawn
        return drawn

    def _more(self, round: Round) -> list[str]:
        """The given topics over again, in another order, or new ones of the teacher, if it has any."""
        if round.options.topics:
            again = [topic for topic in round.options.topics if topic not in self.left]
            return round.rng.sample(again, len(again))
        if self.dry is round:
            return []
        known = {normalise(topic) for topic in (*self.used, *self.left)}
        fresh = [topic for topic in _named(round, self.used[-SHOWN_TOPICS:]) if normalise(topic) not in known]
        if not fresh:
            self.dry = round
            logger.info("The teacher names no more topics: the next inputs may be about anything.")
        return fresh


def _named(round: Round, used: list[str]) -> list[str]:
    """What the teacher names, short names only, in a random order."""
    prompt = messages(
        "generate/topics.j2",
        instruction=round.task.instruction,
        used=used,
        count=round.options.named_at_once,
        language=round.task.language,
        continues=round.teacher.is_local,
    )
    request = draft_request(prompt, round).model_copy(
        update={"stop": (), "max_tokens": 8 * round.options.named_at_once}
    )
    (reply,) = replies(round.teacher, [request])
    if reply.finish in ("failed", "filtered"):
        logger.warning("The teacher was asked for topics and named none: %s.", reply.failure or reply.finish)
    names = [_LISTED.sub("", line).strip(' \t*_.,;:"') for line in reply.text.splitlines()]
    short = {normalise(name): name for name in names if 0 < len(name.split()) <= TOPIC_WORDS}
    return round.rng.sample(list(short.values()), len(short))


_LISTED = re.compile(r"^\s*(?:[-*•]|\(?\d{1,3}[.)])\s*")


def _prompt(round: Round, size: int, topics: list[str]) -> tuple[Message, ...]:
    return messages(
        "generate/guided.j2",
        instruction=round.task.instruction,
        examples=shown(round.pool, round.options.examples, round.rng),
        topics=topics,
        size=size,
        language=round.task.language,
        continues=round.teacher.is_local,
    )
