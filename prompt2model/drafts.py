"""Drafts: what a teacher is shown when it is to write an input."""

from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from math import ceil
from random import Random
from statistics import mean

from prompt2model.conversation import Message, Request
from prompt2model.draft_reading import BEGIN_OF_ITEM, END_OF_ITEM, ends_of_input, read_draft, read_drafts
from prompt2model.prompts import messages, render
from prompt2model.questions import longest_input
from prompt2model.records import Dropped, Example, TaskSpec
from prompt2model.strategies import Round
from prompt2model.teacher import replies
from prompt2model.wording import words

SAME_SHOTS = 32
"""Requests in a row that show the same examples: a local model reads what they have in common once."""

SHORTEST_LIMIT = 64
"""Tokens that a local model may always write."""

LONGEST_LIST = 4096
"""Tokens of a list at most."""

ENOUGH_WRITTEN = 24
"""Written rows from which on the user's need not always be shown."""

CHOSEN_FROM = 6
"""Written rows of which the least worn is shown."""

MOST_SHOWN = 64
"""Written rows, the first ones, among which those to show are chosen: copies of copies drift off the task."""

USERS_SHOWN = 0.5
"""How often one of the user's rows stands before those of a label all the same: so the form does not drift away."""

SUBJECT_LETTERS = 5
"""Letters from which on a word tells what a text is about."""

LOCAL_TOP_P = 0.9
"""The unlikeliest tenth of the tokens is not drawn: small models lose the thread at the first odd word."""


def hint(rng: Random) -> str:
    """One suggestion of each aspect in templates/generate/hints.j2, so that hardly two prompts ask for the same."""
    aspects: dict[str, list[str]] = defaultdict(list)
    for line in render("generate/hints.j2").splitlines():
        aspect, _, suggestion = line.partition(": ")
        aspects[aspect].append(suggestion)
    return "; ".join(rng.choice(suggestions) for suggestions in aspects.values())


def shown(pool: Sequence[Example], count: int, rng: Random, label: str | None = None) -> list[Example]:
    """Up to `count` rows of the pool, the user's first; with a label, half of them have it and stand last.

    Only the user's rows are shown until enough others are written, and then also, with a label mostly, the least worn
    of those: LaMini-LM too draws what it shows from all that there is, https://arxiv.org/abs/2304.14402.
    """
    if label is None:
        return _draw_least_worn(pool, count, rng, users=ceil(count / 2))
    same = _draw_least_worn([row for row in pool if row.output == label], ceil(count / 2), rng)
    others = _draw_least_worn([row for row in pool if row.output != label], count - len(same), rng)
    return [*others, *same]


def write_inputs(round: Round) -> Iterator[str | Dropped]:
    """As many inputs as are asked for, each by a request of its own."""
    requests = [
        request for start in range(0, round.count, SAME_SHOTS) for request in _requests(round, round.count - start)
    ]
    for request, reply in zip(requests, replies(round.teacher, requests), strict=True):
        yield read_draft(reply, request, round.task)


def _requests(round: Round, missing: int) -> list[Request]:
    """Up to SAME_SHOTS requests that show the same examples."""
    examples = shown(round.pool, round.config.few_shot, round.rng)
    prompts = [_prompt(round, examples) for _ in range(min(missing, SAME_SHOTS))]
    return [draft_request(prompt, round) for prompt in prompts]


def _prompt(round: Round, examples: Sequence[Example]) -> tuple[Message, ...]:
    return messages(
        "generate/input_first.j2",
        instruction=round.task.instruction,
        examples=examples,
        hint=hint(round.rng),
        language=round.task.language,
        continues=round.teacher.is_local,
    )


def draft_request(prompt: tuple[Message, ...], round: Round) -> Request:
    """The prompt as a request that is answered differently each time it is drawn.

    A text that a model goes on with ends where the next item of the list would begin.
    """
    continues = prompt[-1].role == "assistant"
    teacher, most = round.teacher, longest_input(round.task, round.config.max_tokens)
    return Request(
        messages=prompt,
        continues=continues,
        stop=ends_of_input(round.task) if continues else (),
        max_tokens=min(most, _most_tokens(round.task)) if continues else most,
        temperature=round.temperature,
        top_p=LOCAL_TOP_P if teacher.is_local else 1.0,
        seed=round.rng.getrandbits(31),
    )


def list_requests(prompt: tuple[Message, ...], round: Round, size: int) -> list[tuple[int, Request]]:
    """Requests for `size` inputs in all, and how many each asks for.

    A model that goes on with a text writes each item as the list's next one: many short texts are written at once, and
    a small model repeats itself more, the longer its list grows.
    """
    requests = [draft_request(prompt, round) for _ in range(size if prompt[-1].role == "assistant" else 1)]
    if requests[0].continues:
        return [(1, request.model_copy(update={"stop": (END_OF_ITEM, BEGIN_OF_ITEM)})) for request in requests]
    most_tokens = min(requests[0].max_tokens * size, LONGEST_LIST)
    return [(size, requests[0].model_copy(update={"max_tokens": most_tokens}))]


def most_in_list(task: TaskSpec, most: int) -> int:
    """How many inputs as long as the user's a list has room for, `most` at most."""
    usual = mean([len(example.input.encode()) / 4 for example in task.examples] or [1])  # tokens, of four bytes
    return max(1, min(most, int(LONGEST_LIST / max(usual, 1))))


def sizes(count: int, most: int) -> list[int]:
    """How many inputs each list has, `most` at most, when `count` are wanted."""
    return [min(most, count - start) for start in range(0, count, most)]


def write_lists(round: Round, prompts: Sequence[tuple[int, tuple[Message, ...]]]) -> Iterator[str | Dropped]:
    """The inputs of several lists, each of a given size."""
    asked = [one for size, prompt in prompts for one in list_requests(prompt, round, size)]
    for (size, request), reply in zip(asked, replies(round.teacher, [request for _, request in asked]), strict=True):
        yield from read_drafts(reply, request, round.task, size)


def _most_tokens(task: TaskSpec) -> int:
    """A token for each byte of the longest input shown, which is plenty: a weak model may never find an end."""
    return max([SHORTEST_LIMIT, *(len(example.input.encode()) for example in task.examples)])


def _draw(rows: Sequence[Example], count: int, rng: Random) -> list[Example]:
    users = [row for row in rows if row.is_real]
    written = [row for row in rows if not row.is_real]
    first = rng.sample(users, min(count, len(users)))
    return first + rng.sample(written, min(count - len(first), len(written)))


def _draw_least_worn(rows: Sequence[Example], count: int, rng: Random, users: int = 0) -> list[Example]:
    """As `_draw` until enough rows are written; then so many `users` of the user's, or at times one, and written ones,
    each the least worn of a few.

    What is shown in every prompt, and its descendants, pull all that is written towards one subject: of 400 film
    reviews that began with one about jokes, 57 % were about jokes, and 18 % when they were drawn like this.
    """
    written = [row for row in rows if not row.is_real][:MOST_SHOWN]
    if len(written) < ENOUGH_WRITTEN:
        return _draw(rows, count, rng)
    given, wanted = [row for row in rows if row.is_real], users or int(rng.random() < USERS_SHOWN)
    first = rng.sample(given, min(wanted, count, len(given)))
    missing = count - len(first)
    rows_with = Counter(word for row in written for word in set(_subject(row)))
    drawn = rng.sample(written, min(missing * CHOSEN_FROM, len(written)))
    missing = min(missing, len(drawn))
    least = [min(drawn[i::missing], key=lambda row: _wear(row, rows_with, len(written))) for i in range(missing)]
    return first + least


def _wear(row: Example, rows_with: Counter[str], most: int) -> int:
    """In how many rows its most common word stands; one without a subject is worn most."""
    return max((rows_with[word] for word in _subject(row)), default=most)


def _subject(row: Example) -> list[str]:
    return [word for word in words(row.input) if len(word) >= SUBJECT_LETTERS]
