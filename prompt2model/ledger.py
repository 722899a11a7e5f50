"""The ledger: what a teacher costs, and a budget that is never passed."""

import json
import re
import time
import tomllib
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from functools import partial
from importlib.resources import files
from pathlib import Path
from threading import Lock
from typing import Any

from pydantic import Field, TypeAdapter, ValidationError, model_validator

from prompt2model.book import Book
from prompt2model.conversation import Reply, Request
from prompt2model.errors import BudgetExceeded, ConfigError
from prompt2model.home import home
from prompt2model.records import Record, Spent
from prompt2model.registry import explained
from prompt2model.teacher import Around, Teacher

REASONING_TOKENS = 2048
"""Allowed on top of `max_tokens` to a model that thinks first: else its thoughts leave no room for the answer."""

REPAIR_TOKENS = 512
"""More than it takes to say what is wrong with an answer."""

MOST_PAID_ATTEMPTS = 2
"""A teacher asks a request again at most until so many attempts may have cost money (a time-out may, a 429 cannot)."""

BATCH = " (batch)"
"""The end of a teacher's name whose requests go through the Batch API, at half the price."""


class Price(Record):
    """US dollars per million tokens."""

    input: float = Field(ge=0)
    output: float = Field(ge=0)
    cached: float | None = Field(None, ge=0)
    """Of what the provider had at hand from an earlier prompt; None: as much as any other input."""
    reasoning: bool = False
    as_of: str = ""
    """The day of the price list; empty for a price of the user's own."""

    def usd(self, tokens_in: int, tokens_out: int, tokens_cached: int = 0) -> float:
        """`tokens_cached` are a part of `tokens_in`."""
        less = 0.0 if self.cached is None else self.input - self.cached
        return (tokens_in * self.input - tokens_cached * less + tokens_out * self.output) / 1e6

    def of(self, replies: Collection[Reply]) -> Spent:
        """What the replies cost."""
        tokens_in, tokens_out = sum(reply.tokens_in for reply in replies), sum(reply.tokens_out for reply in replies)
        tokens_cached = sum(reply.tokens_cached for reply in replies)
        return Spent(
            requests=len(replies),
            tokens_in=tokens_in,
            tokens_out=tokens_out,
            tokens_cached=tokens_cached,
            usd=self.usd(tokens_in, tokens_out, tokens_cached),
        )

    @model_validator(mode="after")
    def _what_is_cached_is_no_dearer(self) -> "Price":
        """A budget reckons with prompts that are not."""
        if self.cached is not None and self.cached > self.input:
            raise ValueError(f"cached is {self.cached:g}, and must not be above input, {self.input:g}")
        return self


FREE = Price(input=0, output=0)
LOCAL = ("transformers", "scripted", "vllm")


def cost(replies: Collection[Reply], price: Price | None) -> Spent:
    """What the replies cost at a price; of one that is not known, how many they are."""
    return price.of(replies) if price else FREE.of(replies) + Spent(unpriced=len(replies))


def price(name: str) -> Price | None:
    """The price of a teacher by the name that `--teacher` takes; None when it is not known.

    The user's own `prices.toml` comes first. A dated model (gpt-4o-2024-08-06) costs what the undated one does. Of a
    batch, prompts that the provider has at hand cost what others do.
    Raises ConfigError when the user's file cannot be read.
    """
    if name.endswith(BATCH):
        found = price(name.removesuffix(BATCH))
        return found and found.model_copy(update={"input": found.input / 2, "output": found.output / 2, "cached": None})
    model = model_of(name)
    keys = (name, model, re.sub(r"-(\d{4}-\d{2}-\d{2}|\d{8})$", "", model))
    own, listed = (next((table[key] for key in keys if key in table), None) for table in (_users_own(), _listed()))
    found = own or listed
    if found is None:
        return FREE if name.partition(":")[0] in LOCAL else None
    if own and "reasoning" in own.model_fields_set:
        return own
    return found.model_copy(update={"reasoning": thinks(model) or bool(listed and listed.reasoning)})


def thinks(model: str) -> bool:
    """Whether the model, by its name, is one of OpenAI's that think before they answer."""
    return bool(re.match(r"(?:[\w.-]+/)?(?:o\d|gpt-5)", model)) and "chat" not in model


def billed_as(name: str, options: Mapping[str, Any]) -> str:
    """The teacher's name as it has its price: with the sign of a batch where its options send one."""
    return name + BATCH * bool(options.get("batch"))


def price_line(name: str) -> str:
    """The price in a few words, for the screen before anything starts."""
    found = price(name)
    if found is None and name.startswith(("http:", "https:")) and "#" not in name:
        return f"price unknown while its model is not named ({name.removesuffix(BATCH)}#MODEL)"
    if found is None:
        return f"price unknown ({home() / 'prices.toml'} can hold it: {_line(name)})"
    if not found.input and not found.output:
        return "free"
    when = f", prices of {found.as_of}" if found.as_of else ""
    cached = "" if found.cached is None else f" (${found.cached:g} cached)"
    return f"${found.input:g} in{cached}, ${found.output:g} out per million tokens{when}"


def _line(name: str) -> str:
    """A price as it stands in the user's own file."""
    return f'models."{model_of(name)}" = {{ input = 0.5, output = 1.5 }}'


def model_of(name: str) -> str:
    """The model in a teacher's name: what follows openai: or the # of an address."""
    name = name.removesuffix(BATCH)
    return name.rpartition("#")[2] if name.startswith(("http:", "https:")) else name.partition(":")[2] or name


def estimate(requests: Sequence[Request], name: str, *, times: float = 1) -> Spent:
    """About what the requests would cost, each asked `times` times, every answer as long as it may be.

    It is no bound: prompts are counted at three bytes a token, and no request is sent a second time. What `Metered`
    holds back for a budget is one. `usd` is 0 when the price is unknown; `price_line` says so.
    """
    found = price(name) or FREE
    tokens_in = sum(_guess_tokens(prompt_text(request)) for request in requests)
    tokens_out = sum(most_tokens_out(request, reasoning=found.reasoning) for request in requests)
    return Spent(
        requests=round(len(requests) * times),
        tokens_in=round(tokens_in * times),
        tokens_out=round(tokens_out * times),
        usd=found.usd(tokens_in, tokens_out) * times,
    )


class Metered(Around):
    """A teacher whose cost is counted, and whose next request is not sent when the budget might not bear it.

    The worst case of every request is reserved when the teacher takes it, and freed when it is answered: what answers
    did not cost pays for further requests. `book` is a file that remembers what was spent when the process is killed.

    What is under way when it ends counts as spent, one attempt of each request. A batch's requests do not: its reply is
    fetched, and counted, by whoever asks for them again.
    """

    def __init__(
        self, teacher: Teacher, *, price: Price | None, budget_usd: float = 0.0, book: Path | None = None
    ) -> None:
        """Raises ConfigError when there is a budget and no price to keep it by."""
        if budget_usd and price is None:
            raise ConfigError(
                f"A budget cannot be kept: the price of {teacher.name} is unknown.",
                hint=f"Write it into {home() / 'prices.toml'}, in US dollars per million tokens, 0 if it is yours: "
                f"{_line(teacher.name)}",
            )
        super().__init__(teacher)
        self.spent = Spent()
        self._price, self._budget_usd = price, budget_usd
        self._reserved: dict[int, float] = {}
        self._reserved_usd, self._lock = 0.0, Lock()
        self._at_risk = 0.0 if teacher.name.endswith(BATCH) else 1 / MOST_PAID_ATTEMPTS
        self._book = Book(book) if book else None
        self._before_usd = self._book.usd if self._book else 0.0

    def answer(self, requests: Iterable[Request]) -> Iterator[list[tuple[int, Reply]]]:
        """The teacher's replies. Raises BudgetExceeded, after those under way came back, when the next does not fit."""
        waiting = _Waiting(requests)
        while waiting.next is not None:
            first = waiting.taken
            affordable = iter(partial(self._take_affordable, waiting), None)
            yield from (
                [(first + index, reply) for index, reply in group] for group in self._metered(affordable, first)
            )
            if waiting.taken == first:
                raise self._exceeded(waiting.next)

    @property
    def left_usd(self) -> float:
        """What may still be spent; infinite without a budget."""
        return self._budget_usd - self._before_usd - self.spent.usd if self._budget_usd else float("inf")

    def _take_affordable(self, waiting: "_Waiting") -> Request | None:
        """The next request, its worst case reserved; none when there is none, or what is left might not bear it.

        The teacher calls it, from whichever thread it works in.
        """
        if waiting.next is None:
            return None
        worst = self._worst_usd(waiting.next)
        with self._lock:
            if self._reserved_usd + worst > self.left_usd:
                return None
            self._reserved[waiting.taken] = worst
            self._reserved_usd += worst
            if self._book:
                self._book.risk(self._at_risk * self._reserved_usd, most=self.left_usd)
        return waiting.take()

    def _metered(self, requests: Iterator[Request], first: int) -> Iterator[list[tuple[int, Reply]]]:
        began = time.monotonic()
        try:
            for group in self.within.answer(requests):
                self._count(first, group, time.monotonic() - began)
                yield group
                began = time.monotonic()
        finally:
            self._write_off()

    def _count(self, first: int, group: list[tuple[int, Reply]], seconds: float) -> None:
        spent = cost([reply for _, reply in group], self._price)
        with self._lock:
            self.spent += spent + Spent(seconds=seconds)
            self._reserved_usd -= sum(self._reserved.pop(first + index) for index, _ in group)
            if self._book:
                self._book.add(spent.usd, at_risk_usd=self._at_risk * self._reserved_usd)

    def _write_off(self) -> None:
        """What was under way when the teacher ended may be on the bill, and nobody will hear of it."""
        lost = self._at_risk * sum(self._reserved.values())
        self._before_usd += lost
        self._reserved, self._reserved_usd = {}, 0.0
        if self._book:
            self._book.add(lost)

    def _worst_usd(self, request: Request) -> float:
        price = self._price or FREE
        tokens_in, tokens_out = most_tokens_in(request), most_tokens_out(request, reasoning=price.reasoning)
        return MOST_PAID_ATTEMPTS * price.usd(tokens_in, tokens_out)

    def _exceeded(self, request: Request) -> BudgetExceeded:
        return BudgetExceeded(
            f"The next request may cost up to ${self._worst_usd(request):.4f}, "
            f"and ${max(self.left_usd, 0):.4f} of the budget of ${self._budget_usd:g} is left.",
            hint="Raise --budget; what has been answered is kept and not paid for again. To learn from the rows that "
            "there are: --set generate.when_spent=go_on",
        )


class _Waiting:
    """Requests of which the first can be looked at before it is taken."""

    def __init__(self, requests: Iterable[Request]) -> None:
        self._rest, self.taken = iter(requests), 0
        self.next = next(self._rest, None)

    def take(self) -> Request | None:
        taken, self.next = self.next, next(self._rest, None)
        self.taken += 1
        return taken


def prompt_text(request: Request) -> str:
    """All that the teacher has to read."""
    schema = json.dumps(request.json_schema) if request.json_schema else ""
    return "\n".join([*(message.content for message in request.messages), schema])


def utf8_bytes(text: str) -> int:
    """How many bytes the text has."""
    return len(text.encode("utf-8", "replace"))


def most_tokens_in(request: Request) -> int:
    """More tokens than the prompt can have: no byte-level tokeniser makes more tokens than there are bytes.

    An answer that does not fit its schema is read once more, when the teacher is told what is wrong with it.
    """
    choices = sum(utf8_bytes(choice) + 16 for choice in request.choices)
    repair = request.max_tokens + REPAIR_TOKENS if request.json_schema else 0
    return utf8_bytes(prompt_text(request)) + 16 * len(request.messages) + 64 + choices + repair


def most_tokens_out(request: Request, *, reasoning: bool) -> int:
    """The limit that the teacher is given, thoughts included."""
    return (1 if request.choices else request.max_tokens) + REASONING_TOKENS * reasoning


def lost(request: Request, answers: int = 1, *, reasoning: bool) -> Spent:
    """An attempt whose answers did not arrive, at its most: they may be on the bill."""
    tokens_out = answers * most_tokens_out(request, reasoning=reasoning)
    return Spent(requests=1, tokens_in=most_tokens_in(request), tokens_out=tokens_out)


def heard(reply: Reply) -> Spent:
    """An attempt whose answer is asked for again."""
    return FREE.of([reply])


def with_attempts(reply: Reply, before: Spent) -> Reply:
    """The reply with what the attempts before it have cost."""
    both = heard(reply) + before
    return reply.model_copy(update=both.model_dump(include={"tokens_in", "tokens_out", "tokens_cached"}))


def _guess_tokens(text: str) -> int:
    return -(-utf8_bytes(text) // 3)


def _listed() -> dict[str, Price]:
    table = tomllib.loads(files("prompt2model").joinpath("prices.toml").read_text(encoding="utf-8"))
    return {name: Price(**price, as_of=table["date"]) for name, price in table["models"].items()}


def _users_own() -> dict[str, Price]:
    path = home() / "prices.toml"
    if not path.is_file():
        return {}
    try:
        table = tomllib.loads(path.read_text(encoding="utf-8"))
        if strays := table.keys() - {"models", "date"}:
            raise _unreadable(path, f"{', '.join(map(repr, sorted(strays)))} stands outside [models]")
        return TypeAdapter(dict[str, Price]).validate_python(table.get("models", {}))
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise _unreadable(path, str(error)) from error
    except ValidationError as error:
        raise _unreadable(path, explained(error, list(Price.model_fields), within="models")) from error


def _unreadable(path: Path, why: str) -> ConfigError:
    return ConfigError(
        f"The price list {path} cannot be read: {why}{'' if why.endswith(('.', '?')) else '.'}",
        hint='A line looks like this: models."gpt-5-mini" = { input = 0.25, output = 2.0 }; below [models] '
        "without the first word.",
    )
