"""Several answers to one question, asked for in one request: then a server reads the prompt once."""

from collections.abc import Callable, Iterable, Iterator

from prompt2model.conversation import Request

MOST = 8
"""Answers in one request: Gemini gives no more, others do."""

Numbered = tuple[int, Request]


def together(requests: Iterable[Request], most: Callable[[], int]) -> Iterator[list[Numbered]]:
    """The requests with their numbers, up to `most()` in a row together where they differ in the seed alone.

    Where that may be so, the next request is looked at before a group is handed on.
    """
    group: list[Numbered] = []
    for number, request in enumerate(requests):
        if group and not _is_same_question(request, group[0][1]):
            yield group
            group = []
        group.append((number, request))
        if len(group) >= most() or not _is_drawn(request):
            yield group
            group = []
    if group:
        yield group


def _is_drawn(request: Request) -> bool:
    """Whether another answer would be another text, and nothing but a text: one with a schema may need a repair."""
    return request.temperature > 0 and not (request.choices or request.top_logprobs or request.json_schema)


def _is_same_question(request: Request, other: Request) -> bool:
    return request.model_copy(update={"seed": other.seed}) == other
