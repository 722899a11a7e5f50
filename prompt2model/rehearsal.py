"""The teacher's work, rehearsed: what it would be asked, word for word, and what that would cost.

A teacher that only notes what it is asked takes the place of the real one, so prompts are counted as they will be sent.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import astuple, dataclass, field
from math import ceil, prod
from random import Random
from typing import Any, cast

from prompt2model.batches import Codec
from prompt2model.config import GenerateConfig, TrainConfig
from prompt2model.conversation import Reply, Request
from prompt2model.course import Course
from prompt2model.filters import Sieve
from prompt2model.ledger import FREE, LOCAL, estimate, price, prompt_text, utf8_bytes
from prompt2model.methods import open_method, trainings
from prompt2model.questions import form_examples, longest_answer
from prompt2model.rationales import add_rationales
from prompt2model.recipe import Share
from prompt2model.recipe import plan as plan_writing
from prompt2model.records import Example, Found, Source, TaskSpec
from prompt2model.several import MOST, together
from prompt2model.strategies import Round
from prompt2model.student import LocalModel
from prompt2model.teachers import open_teacher
from prompt2model.teachers.vllm import InProcess

REHEARSED = 16
"""Candidates that are rehearsed, to know what one costs."""
USUAL_YIELD = {"agreement": 0.5, "duplicate": 0.85, "novelty": 0.7, "relabel": 0.85}
"""The share of its candidates that a filter usually keeps."""
BYTES_PER_TOKEN = 4
"""As tokenizers cut English, where a byte is a letter, and about as they cut scripts of two or three bytes a letter."""
TEXT_TOKENS = 30
"""Of an input or an answer, when the description shows none."""
TRACE_TOKENS = 100
"""Of a chain of thought that is asked for."""
USUAL_TRACES = 1.5
"""Chains of thought until one ends in the right answer."""
LISTS = (("example",), ("input", "output"))
"""The tags between which several texts stand in one answer."""
THOUGHT_TOKENS = 200
"""Before an answer, of a model that thinks first and is asked to think little."""


@dataclass
class Imagined:
    """Notes what it is asked, and answers with words drawn at random, never twice the same."""

    name: str
    can: frozenset[str]
    is_local: bool
    identity: str = "imagined"
    asked: list[Request] = field(default_factory=list)
    text_tokens: int = TEXT_TOKENS
    """The length of a text that it writes."""
    limit: int = 0
    """Tokens that one text may have: a request that allows more of them is answered with a list."""
    rng: Random = field(default_factory=lambda: Random(0))  # noqa: S311 - not for secrets

    def answer(self, requests: Iterable[Request]) -> Iterator[list[tuple[int, Reply]]]:
        for index, request in enumerate(requests):
            self.asked.append(request)
            logprobs = (0.0,) * len(request.choices)
            yield [(index, Reply(logprobs=logprobs) if request.choices else Reply(text=self._text(request)))]

    def _text(self, request: Request) -> str:
        """One text, or as many as are asked for between the tags that the prompt names; of a list that was begun, what
        comes before the end of its next item."""
        asked = request.messages[-1].content
        tags = next((tags for tags in LISTS if f"<{tags[0]}>" in asked), ())
        if request.continues and tags:
            begun = asked.rpartition("<")[2].removesuffix(">")
            return self._words() + "".join(f"</{begun}><{tag}>{self._words()}" for tag in tags if tag != begun)
        items = [
            "".join(f"<{tag}>{self._words()}</{tag}>" for tag in tags) for _ in range(texts_in(request, self.limit))
        ]
        return "".join(items) if tags else self._words()

    def _words(self) -> str:
        words = max(2, self.text_tokens * BYTES_PER_TOKEN // 6)
        return " ".join(f"w{self.rng.randrange(10_000):04}" for _ in range(words))


def texts_in(request: Request, limit: int) -> int:
    """How many texts the answer to the request may hold when one has `limit` tokens at most; one without a limit."""
    return max(1, request.max_tokens // limit) if limit else 1


def imagine(name: str, options: Mapping[str, Any], budget_usd: float = 0.0) -> Imagined:
    """A teacher that can do what the one of this full name can. Raises as `open_teacher` does, but loads no model."""
    if name.startswith("transformers:"):
        return Imagined(name, LocalModel.can, is_local=True)
    if name.startswith("vllm:"):
        return Imagined(name, InProcess.can, is_local=True)
    teacher = open_teacher(name, options=options, budget_usd=budget_usd)
    return Imagined(teacher.name, teacher.can, is_local=teacher.is_local)


@dataclass(frozen=True)
class Work:
    """What a teacher would be asked: as usual, and at most if nothing is asked a second time."""

    requests: float = 0
    most_requests: float = 0
    tokens_in: float = 0
    tokens_out: float = 0
    usd: float = 0.0
    most_usd: float = 0.0

    @property
    def tokens(self) -> float:
        return self.tokens_in + self.tokens_out

    def __add__(self, other: "Work") -> "Work":
        return Work(*(mine + theirs for mine, theirs in zip(astuple(self), astuple(other), strict=True)))


def work(
    asked: Sequence[Request], name: str, text_tokens: int, *, usual: float = 1, most: float = 1, limit: int = 0
) -> Work:
    """What the requests cost, each asked `usual` times; at most `most` times, with the longest answer it may have.

    An answer is a text of the usual length, or several where more than `limit` tokens are allowed.
    """
    read = [group[0][1] for group in together(asked, lambda: _most_answers(name))]
    tokens_in = usual * sum(utf8_bytes(prompt_text(request)) for request in read) / BYTES_PER_TOKEN
    known = price(name) or FREE
    thought = THOUGHT_TOKENS * known.reasoning
    texts = [min(text_tokens * texts_in(one, limit), one.max_tokens) + thought for one in asked if not one.choices]
    tokens_out = usual * sum(texts)
    return Work(
        requests=usual * len(asked),
        most_requests=most * len(asked),
        tokens_in=tokens_in,
        tokens_out=tokens_out,
        usd=known.usd(round(tokens_in), round(tokens_out)),
        most_usd=estimate(asked, name, times=most).usd,
    )


def _most_answers(name: str) -> int:
    """That one request asks for, and so pays for once: servers usually give several, in a batch too."""
    return 1 if name.partition(":")[0] in LOCAL else MOST


def rehearse_writing(task: TaskSpec, found: Found, config: GenerateConfig, teacher: Imagined) -> Work:
    """What writing and sifting `config.count` rows would take.

    Raises ConfigError when a strategy or filter does not suit the task or the teacher.
    """
    strategies, filters = plan_writing(task, config, teacher)
    usual = min(config.over_generate, 1 / prod(USUAL_YIELD.get(name, 1.0) for name in filters))
    teacher.text_tokens = mean_tokens([row.input for row in (*task.examples, *found.examples[:REHEARSED])])
    teacher.limit = config.max_tokens
    pool: tuple[Example, ...] = task.examples
    for _ in range(2):  # the first time only for rows that the second can show in its prompts
        teacher.asked.clear()
        rows = [row for strategy in strategies for row in _candidates(strategy, task, pool, config, teacher)]
        pool = (*task.examples, *rows)
    sieve = Sieve(task, teacher, config)
    for module in filters.values():
        if module.NEEDS:
            module.sift(rows, sieve)
    there = sum(one.module.at_hand(one.options) for one in strategies if hasattr(one.module, "at_hand"))
    rehearsed = sum(map(_share, strategies))
    usual *= max(config.count - there, 0) / rehearsed
    most = max(config.over_generate * config.count - there, 0) / rehearsed
    return work(teacher.asked, teacher.name, teacher.text_tokens, usual=usual, most=most, limit=config.max_tokens)


def rehearse_rationales(task: TaskSpec, rows: int, config: GenerateConfig, teacher: Imagined) -> Work:
    """What thinking aloud about so many rows would take."""
    row = _row(mean_tokens([task.examples[0].input] if task.examples else []))
    teacher.asked.clear()
    shown = form_examples(task, config.few_shot)
    traces = min(config.rationales, 1)
    add_rationales([row], task, teacher, traces=traces, max_tokens=longest_answer(task, config.max_tokens), shown=shown)
    usual = min(config.rationales, USUAL_TRACES * config.right_rationales)
    return work(teacher.asked, teacher.name, TRACE_TOKENS, usual=rows * usual, most=rows * config.rationales)


def rehearse_training(
    task: TaskSpec, rows: int, held_out: int, row_tokens: int, config: TrainConfig, teacher: Imagined
) -> Work:
    """What the method asks in words about so many rows, before the student and those before it learn from them."""
    whole = Work()
    for one in trainings(config):
        method, options = open_method(one.method, one.options)
        needs = method.needs(options)
        if hasattr(method, "questions") and "text" in needs:
            codec = cast(Codec, None)  # a plan loads no tokenizer
            asked = method.questions([_row(row_tokens)], Course(task, codec, options, one.max_length, writer=teacher))
            times = rows + held_out * ("top_logprobs" in needs)  # then what is validated is the teacher's answer too
            whole += work(asked, teacher.name, row_tokens, usual=times, most=times)
    return whole


def mean_tokens(texts: Sequence[str]) -> int:
    """The texts' mean length, in tokens as they are guessed before there is a tokenizer."""
    return ceil(sum(map(utf8_bytes, texts)) / len(texts) / BYTES_PER_TOKEN) if texts else TEXT_TOKENS


def _candidates(
    strategy: Share, task: TaskSpec, pool: Sequence[Example], config: GenerateConfig, teacher: Imagined
) -> list[Example]:
    rng = Random(0)  # noqa: S311 - not for secrets
    round = Round(task, pool, teacher, _share(strategy), rng, config, strategy.options, is_rehearsal=True)
    return [row for row in strategy.module.write(round) if isinstance(row, Example)]


def _row(tokens: int) -> Example:
    """A row with an input of so many tokens."""
    return Example(input="x" * tokens * BYTES_PER_TOKEN, output="?", source=Source(kind="teacher", name=""))


def _share(strategy: Share) -> int:
    """Candidates of it that are rehearsed."""
    return ceil(REHEARSED * strategy.weight)
