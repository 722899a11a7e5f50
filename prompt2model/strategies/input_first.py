"""Write the input, then answer it with a fresh mind: two requests for each example."""

from collections.abc import Iterator, Sequence

from prompt2model.answers import read_label
from prompt2model.cache import key
from prompt2model.drafts import SAME_SHOTS, draft_request, hint, read_draft, shown
from prompt2model.prompts import messages
from prompt2model.questions import answer_request, question
from prompt2model.records import Dropped, Example, Message, Reply, Request, Source
from prompt2model.strategies import NoOptions, Round
from prompt2model.teacher import replies
from prompt2model.twins import normalise

NEEDS = ("text",)
KINDS = ("classification", "generation")
Options = NoOptions


def write(round: Round) -> Iterator[Example | Dropped]:
    """As many inputs as are asked for, each with the teacher's likeliest answer."""
    requests = [
        request for start in range(0, round.count, SAME_SHOTS) for request in _requests(round, round.count - start)
    ]
    inputs: list[str] = []
    known = {normalise(row.input) for row in round.pool}
    for request, reply in zip(requests, replies(round.teacher, requests), strict=True):
        draft = read_draft(reply, request, round.task)
        if isinstance(draft, Dropped):
            yield draft
        elif normalise(draft) in known:
            yield Dropped(reason="same input again", text=draft)  # An answer to it would be paid for in vain.
        else:
            known.add(normalise(draft))
            inputs.append(draft)
    yield from _answered(round, inputs)


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


def _answered(round: Round, inputs: Sequence[str]) -> Iterator[Example | Dropped]:
    # Only the user's own examples are shown: what the teacher answered before may be wrong.
    examples = round.task.examples[: round.config.few_shot]
    can, most = round.teacher.can, round.config.max_tokens
    questions = [question(round.task, text, examples, can=can) for text in inputs]
    requests = [answer_request(round.task, one, can=can, max_tokens=most) for one in questions]
    for text, request, reply in zip(inputs, requests, replies(round.teacher, requests), strict=True):
        answer = _read_answer(reply, request, round.task.labels)
        if isinstance(answer, Dropped):
            yield answer
        else:
            asked = key(round.teacher.identity, request)
            source = Source(kind="teacher", name=round.teacher.name, request=asked, strategy="input_first")
            yield Example(input=text, output=answer, source=source)


def _read_answer(reply: Reply, request: Request, labels: Sequence[str]) -> str | Dropped:
    """The answer, as the label that it names where there are labels; a filter judges what names none."""
    if reply.finish in ("failed", "filtered"):
        return Dropped(reason=reply.failure or f"the teacher's reply was {reply.finish}")
    if request.choices:
        return max(zip(reply.logprobs, request.choices, strict=True))[1]
    if reply.finish == "length":
        return Dropped(reason="cut off", text=reply.text)
    text = reply.text.strip()
    return (read_label(text, labels) or text) if labels else text
