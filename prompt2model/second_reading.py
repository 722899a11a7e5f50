"""A description read by a teacher. What it says counts only if it is written in the description."""

import json
import re
from collections import Counter
from dataclasses import dataclass, field

from pydantic import BaseModel, ConfigDict, ValidationError

from prompt2model.conversation import Message, Reply, Request
from prompt2model.pairs import Pair
from prompt2model.prompts import messages
from prompt2model.records import Kind
from prompt2model.registry import mistake
from prompt2model.teacher import Teacher, replies
from prompt2model.wording import one_line

ATTEMPTS = 2
MOST_TOLD = 5
"""Mistakes that the teacher is told of."""
UNUSABLE = "reading by the teacher that could not be used"


class _Shown(BaseModel):
    model_config = ConfigDict(extra="forbid")
    input: str
    output: str


class Understood(BaseModel):
    """What a teacher is asked for."""

    model_config = ConfigDict(extra="forbid")
    instruction: str
    kind: Kind
    labels: list[str]
    examples: list[_Shown]


@dataclass(frozen=True)
class Taught:
    """What is left of the teacher's reading when all that is not written in the description is taken out."""

    instruction: str = ""
    labels: tuple[str, ...] = ()
    pairs: tuple[Pair, ...] = ()
    kind: Kind | None = None
    dropped: Counter[str] = field(default_factory=Counter)


def read_again(description: str, teacher: Teacher) -> Taught:
    """The teacher's reading, asked for twice at most. Raises TeacherError when the teacher cannot be reached."""
    asked = messages("parse/read.j2", description=description, schema=Understood.model_json_schema())
    dropped: Counter[str] = Counter()
    for _ in range(ATTEMPTS):
        reply = replies(teacher, [_request(asked, description, teacher)])[0]
        understood, problem = _understood(reply)
        if understood:
            return _written(understood, description, dropped)
        dropped[UNUSABLE] += 1
        asked = (*asked, *messages("parse/repair.j2", answer=reply.text or "(nothing)", problem=problem))
    return Taught(dropped=dropped)


def _request(asked: tuple[Message, ...], description: str, teacher: Teacher) -> Request:
    schema = Understood.model_json_schema() if "json_schema" in teacher.can else None
    room = min(512 + len(description), 16_000)
    return Request(messages=asked, json_schema=schema, temperature=0.0, max_tokens=room)


def _understood(reply: Reply) -> tuple[Understood | None, str]:
    """The record in the reply, or what is wrong with it."""
    if reply.finish in ("failed", "filtered"):
        return None, reply.failure or "there was no answer"
    match = re.search(r"\{.*\}", reply.text, re.DOTALL)
    try:
        return Understood.model_validate(json.loads(match[0] if match else "")), ""
    except (json.JSONDecodeError, RecursionError):
        return None, "it is not one JSON object"
    except ValidationError as error:
        return None, " ".join(mistake(one, list(Understood.model_fields)) for one in error.errors()[:MOST_TOLD])


def _written(understood: Understood, description: str, dropped: Counter[str]) -> Taught:
    """Only what occurs in the description, white space and (for labels) case aside."""
    text = one_line(description)
    shown = [Pair(one.input.strip(), one.output.strip()) for one in understood.examples]
    pairs = [pair for pair in shown if _occurs(pair.input, text) and _occurs(pair.output, text)]
    labels = [label.strip() for label in understood.labels if _occurs(label.casefold(), text.casefold())]
    dropped["example of the teacher that is not in the description"] += len(shown) - len(pairs)
    dropped["label of the teacher that is not in the description"] += len(understood.labels) - len(labels)
    instruction = understood.instruction.strip()
    return Taught(
        instruction=instruction if _occurs(instruction, text) else "",
        labels=tuple(dict.fromkeys(labels)) if understood.kind == "classification" and len(set(labels)) > 1 else (),
        pairs=tuple(pairs),
        kind=understood.kind,
        dropped=+dropped,
    )


def _occurs(piece: str, text: str) -> bool:
    """Whether the piece stands in the text, not inside a longer word."""
    bare = one_line(piece)
    starts = r"(?<!\w)" if bare[:1].isascii() and bare[:1].isalnum() else ""
    ends = r"(?!\w)" if bare[-1:].isascii() and bare[-1:].isalnum() else ""
    return bool(bare) and re.search(starts + re.escape(bare) + ends, text) is not None
