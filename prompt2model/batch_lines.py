"""The lines of a batch: which requests stand in one, what its result means, and what of it is sent once more."""

import hashlib
import json
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from prompt2model import chat
from prompt2model.chat_troubles import Trouble
from prompt2model.conversation import Reply, Request
from prompt2model.ledger import MOST_PAID_ATTEMPTS, with_attempts
from prompt2model.records import Spent
from prompt2model.several import Numbered

MOST_BYTES = 150_000_000
"""Of one batch; OpenAI takes 200 MB."""
MOST_TRIES = 3
"""How often a request is sent that failed for a passing reason."""

Group = Sequence[Numbered]
"""Requests that differ in the seed alone: one line of a batch asks for an answer to each."""
Settled = tuple[list[tuple[int, Reply]], list["Line"]]


@dataclass(frozen=True)
class Line:
    """Requests as they stand in a batch."""

    identity: str
    """Of the teacher."""
    group: Group
    before: Spent = field(default_factory=Spent)
    """Attempts that may have been paid for."""
    repair: Request | None = None
    """How the request is put after an answer that does not fit its schema."""
    earlier: tuple[str, ...] = ()
    """The ids under which it was sent before."""
    learnt: int = 0
    """How many of those only told what the server does not take."""
    is_alone: bool = False
    """It was one of several that were asked for at once and not given."""
    sent: dict[str, Any] = field(default_factory=dict)

    @property
    def asked(self) -> Request:
        """The first request, from which the others differ in the seed alone."""
        return self.group[0][1]

    @cached_property
    def id(self) -> str:
        """The same for the same request, whatever batch it is in and whatever its server has turned out not to take;
        another one each time that it is sent again."""
        requests = [request.model_dump(mode="json") for _, request in self.group]
        told = [self.identity, requests, self.earlier]
        return hashlib.sha256(json.dumps(told, sort_keys=True).encode()).hexdigest()[:40]

    def is_last(self, before: Spent) -> bool:
        """Whether it is not sent once more after these attempts."""
        return len(self.earlier) + 1 - self.learnt >= MOST_TRIES or before.requests >= MOST_PAID_ATTEMPTS

    def again(self, group: Group, before: Spent, repair: Request | None = None, *, learnt: bool = False) -> "Line":
        """Those requests of it, to be sent once more after these attempts."""
        earlier, is_alone = (*self.earlier, self.id), self.is_alone or len(group) < len(self.group)
        return Line(self.identity, group, before, repair or self.repair, earlier, self.learnt + learnt, is_alone)

    @property
    def text(self) -> str:
        line = {"custom_id": self.id, "method": "POST", "url": "/v1/chat/completions", "body": self.sent}
        return json.dumps(line)


def as_sent(group: Group, identity: str, noted: Collection[str]) -> list[Line]:
    """The group as one line; or each request as one, where a process that knew more of the server has sent them so."""
    alone = [Line(identity, [one]) for one in group]
    return alone if noted and any(line.id in noted for line in alone) else [Line(identity, group)]


def chunks(lines: Sequence[Line], most: int) -> Iterator[list[Line]]:
    """The lines, as many together as one batch takes."""
    some, size_bytes = list[Line](), 0
    for line in lines:
        length = len(line.text)
        if some and (len(some) == most or size_bytes + length > MOST_BYTES):
            yield some
            some, size_bytes = [], 0
        some.append(line)
        size_bytes += length
    if some:
        yield some


def meaning(told: Mapping[str, Any], line: Line) -> list[Reply] | Trouble:
    """What the result means that a batch tells for the line."""
    response = told.get("response") or {}
    if not response:
        code = (told.get("error") or {}).get("code") or "no response"
        return Trouble(f"not done in the batch ({code})", retry=True)
    content = json.dumps(response.get("body")).encode()
    return chat.answered(int(response.get("status_code") or 500), {}, content, line.asked, line.sent)


def unanswered(line: Line, left: Group, trouble: Trouble, before: Spent) -> Settled:
    """Requests of the line without an answer: to be sent again, each alone where several at once are what failed for
    good; the last time they have failed. The first bears what was paid for all."""
    shares = [before, *[Spent(requests=before.requests)] * len(left)]
    if trouble.refused:  # not in it the next time, so there is an end to that
        return [], [line.again(left, before, learnt=True)]
    if trouble.retry and not line.is_last(before):
        return [], [line.again(left, before)]
    if len(line.group) > 1 and not line.is_last(before):
        return [], [line.again([one], share) for one, share in zip(left, shares, strict=False)]
    failed = Reply(finish="failed", failure=trouble.reason)
    return [(number, with_attempts(failed, share)) for (number, _), share in zip(left, shares, strict=False)], []
