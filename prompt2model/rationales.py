"""Rationales: chains of thought of the teacher, kept where they end in the right answer.

A row of which the answer is known keeps a trace that reaches it, and the others are dropped: Fine-tune-CoT, Ho et al.,
2022, https://arxiv.org/abs/2212.10071; the students that learn from them are those of Hsieh et al., 2023,
https://arxiv.org/abs/2305.02301. Where it is not known, the answer is that of most traces: self-consistency, Wang et
al., 2022, https://arxiv.org/abs/2203.11171.
"""

import re
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from random import Random

from prompt2model import progress
from prompt2model.answers import read_label
from prompt2model.cache import key
from prompt2model.conclusion import ANSWER_AFTER, conclusion, is_same_answer, unwrapped
from prompt2model.conversation import Reply, Request
from prompt2model.prompts import messages
from prompt2model.records import Dropped, Example, TaskSpec
from prompt2model.sameness import says_the_same
from prompt2model.teacher import Teacher, replies

TEMPERATURE = 0.7
"""Of a trace, as in the paper on self-consistency: enough that a second trace thinks of something else."""
FEWEST_WORDS = 4
"""Of a trace's thoughts: less is an answer without a reason."""


@dataclass(frozen=True)
class Trace:
    """A chain of thought, and where it ends."""

    thoughts: str
    """Without the sentence that gives the answer."""
    answer: str
    """For a classification one of the labels."""


@dataclass
class Explained:
    """Rows with the rationales that were found, and how many traces were dropped for each reason."""

    rows: list[Example]
    dropped: Counter[str] = field(default_factory=Counter)


def add_rationales(
    rows: Sequence[Example],
    task: TaskSpec,
    teacher: Teacher,
    *,
    traces: int,
    max_tokens: int,
    keep: int = 1,
    manners: Sequence[str] = ("",),
    shown: Sequence[Example] = (),
    seed: int = 0,
) -> Explained:
    """The rows in their order, each with the first of up to `traces` chains of thought that ends in its output.

    Of `keep` different ones each makes a row (rejection sampling). Only rows that too few traces have got right yet are
    asked about again. A row with no output gets the one that more than half of its traces come to, and their share as
    its confidence; it is asked about `traces` times, all at once: a server then reads the prompt once. A row for which
    no trace will do stays as it is. Each prompt has one of the `manners`: how the teacher is told to think. The outputs
    of those `shown` tell it what an answer looks like.
    """
    thinking = [_Thinking(row, task, keep) for row in rows]
    asking = _Asking(task, teacher, max_tokens, manners, shown)
    with progress.task("drawing out rationales", total=len(rows) * traces) as advance:
        for number in range(traces):
            due = [(one, count) for one in thinking if (count := one.due(number, traces))]
            asked = [one for one, count in due for _ in range(count)]
            rng = Random(f"{seed}/rationale/{number}")  # noqa: S311 - not for secrets
            requests = [request for one, count in due for request in asking.requests(one.row, count, rng)]
            advance(sum(one.is_settled for one in thinking))
            heard: dict[int, Reply] = {}
            for group in teacher.answer(requests):
                heard.update(group)
                advance(len(group))
            heard = asking.concluded(heard, requests)
            for place, (one, request) in enumerate(zip(asked, requests, strict=True)):  # not in the order of arrival
                one.hear(read_trace(heard[place], task), key(teacher.identity, request))
    dropped = Counter(reason for one in thinking for reason in one.reasons())
    return Explained([row for one in thinking for row in one.explained()], dropped)


def read_trace(reply: Reply, task: TaskSpec) -> Trace | Dropped:
    """The reply as thoughts and an answer, or why it is not that."""
    if reply.finish in ("failed", "filtered"):
        return Dropped(reason=reply.failure or f"the teacher's reply was {reply.finish}")
    found = conclusion(reply.text, is_whole=not task.labels)
    if found is None:
        return Dropped(reason="cut off" if reply.finish == "length" else "ends in no answer", text=reply.text)
    thoughts, answer = found
    label = read_label(answer, task.labels) if task.labels else _in_form(answer, task)
    if not label:
        return Dropped(reason="ends in no label" if task.labels else "ends in no answer", text=reply.text)
    if len(thoughts.split()) < FEWEST_WORDS:
        return Dropped(reason="gives no reason", text=reply.text)
    return Trace(thoughts, label)


def _in_form(answer: str, task: TaskSpec) -> str:
    """The answer to an open task as the user's outputs look: a line or a paragraph where none of them is longer, and
    with a final full stop where one of them has it, or without any of them where the answer is a sentence."""
    outputs = [example.output for example in task.examples]
    if not any("\n\n" in output for output in outputs):
        answer = answer.partition("\n\n" if _may_have_lines(task) or not outputs else "\n")[0]
    answer = unwrapped(answer)
    has_stop = any(output.endswith(".") for output in outputs) or (not outputs and len(answer.split()) >= FEWEST_WORDS)
    return answer if has_stop else answer.removesuffix(".")


def _may_have_lines(task: TaskSpec) -> bool:
    return any("\n" in example.output for example in task.examples)


@dataclass
class _Thinking:
    """One row, and what the teacher has thought about it."""

    row: Example
    task: TaskSpec
    keep: int = 1
    """How many different right traces are wanted."""
    traces: list[Trace] = field(default_factory=list)
    requests: list[str] = field(default_factory=list)
    """The key of the request that each trace answers."""
    unread: list[Dropped] = field(default_factory=list)

    def hear(self, trace: Trace | Dropped, request: str) -> None:
        if isinstance(trace, Trace):
            self.traces.append(trace)
            self.requests.append(request)
        else:
            self.unread.append(trace)

    def due(self, number: int, traces: int) -> int:
        """How many traces to ask for in that pass: of a row with an answer one, of one without all in the first."""
        if self.is_settled:
            return 0
        return 1 if self.row.output else traces * (number == 0)

    @property
    def is_settled(self) -> bool:
        """Whether another trace would not help."""
        return self.row.rationale is not None or (bool(self.row.output) and len(self.kept()) == self.keep)

    @property
    def output(self) -> str:
        """The row's answer, or the one that more than half of the traces end in; "" where there is none."""
        return self.row.output or self._vote[0]

    @cached_property
    def _vote(self) -> tuple[str, float]:
        """The answer of most traces, once all are heard, and their share; none where they are not more than half."""
        answers = [trace.answer for trace in self.traces]
        votes = [sum(says_the_same(one, other, self.task) for other in answers) for one in answers]
        most = max(votes, default=0)
        return (answers[votes.index(most)], most / len(votes)) if 2 * most > len(votes) else ("", 0.0)

    def right(self) -> list[Trace]:
        """Those that end in the row's own answer or, where it has none, agree with the one that it gets."""
        if self.row.output:
            return [trace for trace in self.traces if is_same_answer(trace.answer, self.row.output)]
        return [trace for trace in self.traces if self.output and says_the_same(self.output, trace.answer, self.task)]

    def kept(self) -> list[Trace]:
        """The first right ones that say different things."""
        return list({trace.thoughts: trace for trace in reversed(self.right())}.values())[::-1][: self.keep]

    def explained(self) -> list[Example]:
        """The row with each trace that is kept; what has its answer from there has its source there, too."""
        return [self._with(trace) for trace in self.kept()] or [self.row]

    def _with(self, trace: Trace) -> Example:
        if self.row.output:
            return self.row.model_copy(update={"rationale": trace.thoughts})
        source = self.row.source.model_copy(update={"request": self.requests[self.traces.index(trace)]})
        answer, share = self._vote
        found = {"output": answer, "confidence": share, "rationale": trace.thoughts, "source": source}
        return self.row.model_copy(update=found)

    def reasons(self) -> Iterable[str]:
        """Why each trace that was not kept was dropped."""
        right, kept = len(self.right()), len(self.kept())
        yield from (one.reason for one in self.unread)
        yield from ["another answer"] * (len(self.traces) - right) + ["more than needed"] * (right - kept)


@dataclass(frozen=True)
class _Asking:
    """How traces are asked for, and an answer at their end."""

    task: TaskSpec
    teacher: Teacher
    max_tokens: int
    manners: Sequence[str]
    shown: Sequence[Example]

    def requests(self, row: Example, count: int, rng: Random) -> list[Request]:
        """Requests for so many traces of the row, which differ in the seed alone."""
        continues = self.teacher.is_local
        prompt = messages(
            "generate/rationale.j2",
            instruction=self.task.instruction,
            labels=self.task.labels,
            form=self.task.output_form,
            examples=[example for example in self.shown if example.input != row.input],
            manner=rng.choice(self.manners),
            text=row.input,
            continues=continues,
        )
        first = Request(messages=prompt, continues=continues, max_tokens=self.max_tokens, temperature=TEMPERATURE)
        return [first.model_copy(update={"seed": rng.getrandbits(31)}) for _ in range(count)]

    def concluded(self, heard: dict[int, Reply], requests: Sequence[Request]) -> dict[int, Reply]:
        """The replies, each with an answer at its end where the teacher can go on with what it has written.

        A weak model thinks aloud and forgets the question: it is led back to it by "The answer is", as in zero-shot
        chain of thought, Kojima et al., 2022, https://arxiv.org/abs/2205.11916.
        """
        lost = [
            place
            for place, reply in heard.items()
            if requests[place].continues and reply.text.strip() and conclusion(reply.text) is None
        ]
        further = [self._conclusion_request(requests[place], heard[place]) for place in lost]
        for place, request, reply in zip(lost, further, replies(self.teacher, further), strict=True):
            likeliest = max(zip(reply.logprobs, request.choices, strict=True))[1] if reply.logprobs else reply.text
            said = request.messages[-1].content.removeprefix(requests[place].messages[-1].content)
            text = f"{said} {likeliest.strip()}"
            is_at_end = reply.finish == "length" and not _may_have_lines(self.task)  # of the line that is the answer
            finish = "stop" if is_at_end else reply.finish
            heard[place] = reply.model_copy(update={"text": text, "finish": finish, "logprobs": ()})
        return heard

    def _conclusion_request(self, request: Request, reply: Reply) -> Request:
        """The thoughts, whole sentences of them, and the beginning of the answer."""
        last = request.messages[-1]
        whole = _SENTENCES.match(reply.text)
        thoughts = (whole[0] if whole and reply.finish == "length" else reply.text).strip()
        begun = last.model_copy(update={"content": f"{last.content} {thoughts}\n{ANSWER_AFTER}"})
        choices = self.task.labels if "logprobs" in self.teacher.can else ()
        stop = () if _may_have_lines(self.task) else ("\n",)
        changed = {"messages": (*request.messages[:-1], begun), "choices": choices, "temperature": 0.0, "stop": stop}
        return request.model_copy(update=changed)


_SENTENCES = re.compile(r".*[.!?。！？](?=\s|\Z)", re.DOTALL)
