"""New instructions from a few, each with inputs and outputs: a set that teaches a model to follow instructions.

Self-Instruct: Wang et al., 2022, https://arxiv.org/abs/2212.10560. A prompt shows six instructions of people and two
of the teacher; what is a classification is answered output first, so that all its labels occur, and the rest input
first; a row's text is one of several forms of its instruction and input. The filters of instructions and instances are
those of the authors' code, https://github.com/yizhongw/self-instruct, and so are the temperatures: 0 for instances, and
for instructions one of its own, whatever `generate.temperature` is. Penalties for repeating are not asked for.
"""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from pydantic import Field

from prompt2model.answers import read_label
from prompt2model.cache import key
from prompt2model.conversation import Reply, Request
from prompt2model.draft_reading import read_drafts
from prompt2model.drafts import list_requests, sizes
from prompt2model.prompts import messages, render
from prompt2model.records import Dropped, Example, Source
from prompt2model.rewordings import Rewordings
from prompt2model.seeds import Seed, read_seeds
from prompt2model.strategies import NoOptions, Round
from prompt2model.teacher import replies
from prompt2model.wording import characters_a_word, words

NEEDS = ("text",)
KINDS = ("generation",)

FEWEST_WORDS, MOST_WORDS = 4, 150
"""Of an instruction."""
OPENING = "¿¡«„“‘「『\"'("
"""What may stand before the first letter."""
MOST_ALIKE = 0.7
"""ROUGE-L to any other instruction."""
UNSEEN = re.compile(r"\b(?:images?|graphs?|pictures?|files?|maps?|draw|plot|go to)\b", re.IGNORECASE)
"""What a model of language cannot look at or do."""
FORMS = 6
"""Of an instruction and its input as one text, in templates/generate/self_instruct_form.j2."""


class Options(NoOptions):
    """Where the instructions come from, and how many are shown and wanted."""

    seeds: str = Field("", description="A JSONL file of seed tasks; the user's examples when none is named.")
    human: int = Field(6, gt=0, description="Instructions by people in a prompt.")
    machine: int = Field(2, ge=0, description="Instructions by the teacher in a prompt.")
    per_request: int = Field(8, gt=0, description="New instructions asked for in one request.")
    instances: int = Field(5, gt=0, description="Most rows of one instruction.")
    temperature: float = Field(0.7, ge=0, le=2, description="Of new instructions.")
    top_p: float = Field(0.5, gt=0, le=1, description="Share of the likeliest tokens that they are drawn from.")


def write(round: Round) -> Iterator[Example | Dropped]:
    """Rows of new instructions: about as many instructions as rows are asked for, some with several."""
    pool = round.once(_Pool)
    fresh: list[str] = []
    for one in _instructions(round, pool):
        if isinstance(one, Dropped):
            yield one
        else:
            fresh.append(one)
    requests = [
        _instances_request(round, instruction, is_classification)
        for instruction, is_classification in zip(fresh, _are_classifications(round, pool, fresh), strict=True)
    ]
    for instruction, request, reply in zip(fresh, requests, replies(round.teacher, requests), strict=True):
        yield from _rows(round, instruction, request, reply)


class _Pool:
    """The instructions so far."""

    def __init__(self, round: Round) -> None:
        """Raises DataError when the file of seeds cannot be read, or there is no seed at all."""
        self.human: Sequence[Seed] = read_seeds(round.options.seeds, round.task.examples)
        self.machine: list[str] = []
        self.known = Rewordings(MOST_ALIKE)
        for seed in self.human:
            self.known.add(seed.instruction)


# Instructions


def _instructions(round: Round, pool: _Pool) -> Iterator[str | Dropped]:
    lists = sizes(round.count, round.options.per_request)
    asked = [one for size in lists for one in _instructions_requests(round, pool, size)]
    for (size, request), reply in zip(asked, replies(round.teacher, [request for _, request in asked]), strict=True):
        for draft in read_drafts(reply, request, round.task, size):
            one = draft if isinstance(draft, Dropped) else _sifted(draft, round, pool)
            if not isinstance(one, Dropped):
                pool.machine.append(one)
                pool.known.add(one)
            yield one


def _instructions_requests(round: Round, pool: _Pool, size: int) -> list[tuple[int, Request]]:
    options, rng = round.options, round.rng
    machine = rng.sample(pool.machine, min(options.machine, len(pool.machine)))
    human = rng.sample([seed.instruction for seed in pool.human], min(options.human, len(pool.human)))
    instructions = rng.sample([*human, *machine], len(human) + len(machine))
    language, continues = round.task.language, round.teacher.is_local
    prompt = messages(
        "generate/self_instruct.j2", instructions=instructions, size=size, language=language, continues=continues
    )
    drawn = {"temperature": options.temperature, "top_p": options.top_p}
    return [(most, request.model_copy(update=drawn)) for most, request in list_requests(prompt, round, size)]


def _sifted(instruction: str, round: Round, pool: _Pool) -> str | Dropped:
    found, begun = words(instruction), instruction.lstrip(OPENING)
    for reason, is_so in (
        (
            "instruction too short or too long",
            not FEWEST_WORDS <= len(found) / characters_a_word(found) <= MOST_WORDS,
        ),
        ("asks for what is no text", bool(UNSEEN.search(instruction))),
        ("asks for a program", instruction.startswith("Write a program")),
        ("begins with no letter", not begun[:1].isalnum()),
        ("not in English", round.task.language == "en" and not begun[:1].isascii()),
        ("like another instruction", pool.known.find(instruction) is not None),
    ):
        if is_so:
            return Dropped(reason=reason, text=instruction)
    return instruction


# Is it a classification?


def _are_classifications(round: Round, pool: _Pool, instructions: Sequence[str]) -> list[bool]:
    """Whether each has a few possible answers, as the teacher says; no, where it says nothing."""
    shown = _of_both_kinds(round, pool)
    requests = [_kind_request(round, shown, instruction) for instruction in instructions]
    return [_is_yes(reply, request) for request, reply in zip(requests, replies(round.teacher, requests), strict=True)]


def _of_both_kinds(round: Round, pool: _Pool) -> list[Seed]:
    """Seeds that are classifications and seeds that are not, as many of each if there are: the paper shows 12 and 19.

    Of one kind alone a teacher would take every instruction to be of that kind.
    """
    kinds = ([seed for seed in pool.human if seed.is_classification is kind] for kind in (True, False))
    drawn = [seed for kind in kinds for seed in round.rng.sample(kind, min(round.config.few_shot, len(kind)))]
    return round.rng.sample(drawn, len(drawn))


def _kind_request(round: Round, shown: Sequence[Seed], instruction: str) -> Request:
    continues = round.teacher.is_local
    prompt = messages(
        "generate/self_instruct_kind.j2", shown=shown, instruction=instruction, answers=_ANSWERS, continues=continues
    )
    if "logprobs" in round.teacher.can:
        return Request(messages=prompt, choices=_ANSWERS, continues=continues)
    return Request(messages=prompt, max_tokens=16, temperature=0.0, continues=continues)


_ANSWERS = ("Yes", "No")


def _is_yes(reply: Reply, request: Request) -> bool:
    if request.choices and reply.logprobs:
        return max(zip(reply.logprobs, request.choices, strict=True))[1] == "Yes"
    return read_label(reply.text, _ANSWERS) == "Yes"


# Instances


@dataclass(frozen=True)
class _Instance:
    input: str
    output: str


def _instances_request(round: Round, instruction: str, is_classification: bool) -> Request:
    prompt = messages(
        "generate/self_instruct_instances.j2",
        instruction=instruction,
        count=round.options.instances,
        output_first=is_classification,
        continues=round.teacher.is_local,
    )
    if prompt[-1].role == "assistant":  # then the first instance alone: greedy small models repeat it for ever
        end = "</input>" if is_classification else "</output>"
        return Request(
            messages=prompt, continues=True, stop=(end,), max_tokens=round.config.max_tokens, temperature=0.0
        )
    return Request(messages=prompt, max_tokens=2 * round.config.max_tokens, temperature=0.0)


def _rows(round: Round, instruction: str, request: Request, reply: Reply) -> Iterator[Example | Dropped]:
    """The reply's instances as rows, or what is wrong with them."""
    if reply.finish in ("failed", "filtered"):
        yield Dropped(reason=reply.failure or f"the teacher's reply was {reply.finish}")
        return
    instances = _read_instances(reply, request)[: round.options.instances]
    if not instances:
        yield Dropped(reason="cut off" if reply.finish == "length" else "no instance", text=reply.text)
    source = Source(
        kind="teacher",
        name=round.teacher.name,
        request=key(round.teacher.identity, request),
        strategy="self_instruct",
    )
    for place, one in enumerate(instances):
        wrong = _fault(one, instances[:place], instances)
        if wrong:
            yield Dropped(reason=wrong, text=f"{instruction} {one.input} → {one.output}")
        else:
            form = round.rng.randrange(FORMS)
            text = render("generate/self_instruct_form.j2", form=form, instruction=instruction, input=one.input)
            yield Example(input=text, output=one.output, source=source)


_PART = re.compile(r"<(input|output)>(.*?)</\1>", re.DOTALL)


def _read_instances(reply: Reply, request: Request) -> list[_Instance]:
    """The pairs of <input> and <output>, whichever comes first; one that is cut off has no end and is no pair."""
    begun = request.messages[-1].content[request.messages[-1].content.rfind("<") :] if request.continues else ""
    ended = request.stop[0] if request.stop and reply.finish == "stop" else ""
    parts = [(name, text.strip()) for name, text in _PART.findall(begun + reply.text + ended)]
    pairs = [dict(parts[place : place + 2]) for place in range(0, len(parts) - 1, 2)]
    return [_Instance(pair["input"], pair["output"]) for pair in pairs if len(pair) == 2]


def _fault(one: _Instance, earlier: Sequence[_Instance], all_: Sequence[_Instance]) -> str:
    """What is wrong with an instance, beside those of the same instruction; nothing where it will do.

    Of two that answer the same input differently nobody knows which is right; without any input both may be.
    """
    if not one.output:
        return "empty output"
    if one.input == one.output:
        return "output is the input"
    if one.output.endswith(":"):
        return "output ends in a colon"
    if one in earlier:
        return "same instance again"
    outputs = {other.output for other in all_ if other.input == one.input}
    return "same input, another output" if one.input and len(outputs) > 1 else ""
