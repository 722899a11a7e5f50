"""Examples to tokens and labels: the only place that tokenises prompts, pads, and shifts.

A decoder-only row is prompt + completion + EOS, padded on the right, so that causal attention needs no mask. An
encoder-decoder row is the prompt for the encoder and completion + EOS for the decoder.
"""

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from random import Random
from typing import Any

import torch
from jinja2 import TemplateError
from torch import Tensor

from prompt2model.conversation import Message
from prompt2model.errors import DataError, WeightsError
from prompt2model.prompts import render
from prompt2model.records import Architecture

IGNORED = -100
"""The label of a position at which nothing is learned, as in torch's cross entropy."""

HALF_A_CHARACTER = "\ufffd"
"""What a decoder writes for the first bytes of a character whose other tokens were cut off."""


@dataclass(frozen=True)
class Row:
    """One tokenised row. `weight` multiplies the loss of each of its counted tokens."""

    prompt: tuple[int, ...]
    completion: tuple[int, ...]
    weight: float = 1.0
    part: str = ""
    """Which of the method's losses it belongs to; each is a mean over its own tokens."""
    teacher_prompt: tuple[int, ...] | None = None
    """What the teacher reads in place of the prompt, where that is something else."""
    signals: Mapping[str, Tensor] = field(default_factory=dict)
    """What else is known of each token of the completion: tensors of (len(completion), ...)."""

    def __len__(self) -> int:
        return len(self.prompt) + len(self.completion)


Lesson = tuple[Row, ...]
"""The rows that one example becomes; they stay together in one optimiser step."""


@dataclass(frozen=True)
class Batch:
    """Tokens, and at each position the token that should come next."""

    inputs: dict[str, Tensor]
    """What the model's forward pass takes; every tensor is (B, T) of its own T."""
    labels: Tensor
    """(B, T), already shifted: labels[b, t] is the target of the logits at (b, t), or IGNORED."""
    targets: Tensor
    """(N,), the labels of the counted positions in row-major order; so stand the tensors below."""
    weights: Tensor
    """(N,), of each token, its row's."""
    parts: tuple[str, ...]
    """(N,), of each token, its row's."""
    signals: Mapping[str, Tensor] = field(default_factory=dict)
    """(N, ...), what else is known of each token."""
    seen_by_teacher: "Batch | None" = None
    """The same completions after the teacher's own prompts, where those differ: the same N positions."""

    @property
    def counted(self) -> Tensor:
        """(B, T) bool: the N positions at which something is learned."""
        return self.labels != IGNORED

    @property
    def for_teacher(self) -> "Batch":
        """What the teacher reads."""
        return self.seen_by_teacher or self

    def is_of(self, part: str) -> Tensor:
        """(N,) bool: which tokens belong to the part."""
        return torch.tensor([one == part for one in self.parts], dtype=torch.bool, device=self.labels.device)

    def only(self, tokens: Tensor) -> "Batch":
        """The rows whose tokens these are, (N,) bool: all of a row's, or none.

        Without any it is the whole batch at no weight: other processes wait for a gradient.
        """
        if not tokens.any():
            return replace(self, weights=torch.zeros_like(self.weights))
        rows = torch.unique(self.counted.nonzero()[tokens, 0])
        return replace(
            self,
            inputs={name: tensor[rows] for name, tensor in self.inputs.items()},
            labels=self.labels[rows],
            targets=self.targets[tokens],
            weights=self.weights[tokens],
            parts=tuple(part for part, is_kept in zip(self.parts, tokens.tolist(), strict=True) if is_kept),
            signals={name: tensor[tokens] for name, tensor in self.signals.items()},
            seen_by_teacher=self.seen_by_teacher.only(tokens) if self.seen_by_teacher else None,
        )

    def to(self, device: torch.device) -> "Batch":
        return replace(
            self,
            inputs={name: tensor.to(device) for name, tensor in self.inputs.items()},
            labels=self.labels.to(device),
            targets=self.targets.to(device),
            weights=self.weights.to(device),
            signals={name: tensor.to(device) for name, tensor in self.signals.items()},
            seen_by_teacher=self.seen_by_teacher.to(device) if self.seen_by_teacher else None,
        )


class Codec:
    """A tokenizer and the shape of the rows that its model wants."""

    def __init__(
        self, tokenizer: Any, architecture: Architecture, *, start_token: int = 0, ends: Iterable[int] = ()
    ) -> None:
        """`ends` are tokens besides EOS at which the model stops. Raises WeightsError for a tokenizer without EOS."""
        if tokenizer.eos_token_id is None:
            raise WeightsError(
                "The tokenizer has no end-of-text token, so the model could not learn to stop.",
                hint="Choose another base model.",
            )
        self.tokenizer = tokenizer
        self.architecture: Architecture = architecture
        self.start_token = start_token
        """The first token of the decoder of an encoder-decoder."""
        self.end: int = tokenizer.eos_token_id
        self.ends = frozenset({self.end, *ends})
        self.pad: int = tokenizer.pad_token_id if tokenizer.pad_token_id is not None else self.end
        self.opening, self.closing = _around(tokenizer)
        """What the tokenizer puts before and after a plain text: BOS, or the EOS of an encoder's input."""

    def prompt(
        self, messages: Sequence[Message], *, continues: bool = False, max_tokens: int | None = None
    ) -> tuple[int, ...]:
        """The conversation as tokens. When it is longer than `max_tokens`, the longest message loses its end; one that
        the answer continues loses nothing.

        Raises DataError when the template alone, without that message, is longer.
        """
        tokens = self._render(messages, continues)
        if max_tokens is None or len(tokens) <= max_tokens:
            return tuple(tokens)
        may_be_cut = range(len(messages) - (continues and len(messages) > 1))
        longest = max(may_be_cut, key=lambda i: len(messages[i].content))
        content = self._ids(messages[longest].content)
        length, room = len(tokens), len(content)
        while len(tokens) > max_tokens:  # again where the cut text has more tokens than were counted
            room -= len(tokens) - max_tokens
            if room <= 0:
                raise DataError(
                    f"The prompt has {length} tokens; {max_tokens} fit.",
                    hint="Raise train.max_length, shorten the instruction, or show fewer examples.",
                )
            cut = self.text(content[:room]).rstrip(HALF_A_CHARACTER)
            shorter = messages[longest].model_copy(update={"content": cut})
            tokens = self._render([*messages[:longest], shorter, *messages[longest + 1 :]], continues)
        return tuple(tokens)

    def completion(self, text: str, *, ended: bool = True) -> tuple[int, ...]:
        """The answer as tokens, with EOS unless `ended` is False. Tokenised apart from the prompt: nothing merges."""
        end = (self.end,) if ended else ()
        if self.architecture == "decoder":
            return (*self._ids(text), *end)
        written = self.tokenizer(text_target=text, add_special_tokens=False).input_ids
        return (*self.opening, *written, *end)

    def row(
        self, messages: Sequence[Message], answer: str, *, max_length: int, weight: float = 1.0, part: str = ""
    ) -> Row:
        """One training row. An answer that does not fit in half of `max_length` loses its end, its EOS too."""
        completion = self.completion(answer)[: max(1, max_length // 2)]
        room = max_length - (len(completion) if self.architecture == "decoder" else 0)
        return Row(self.prompt(messages, max_tokens=room), completion, weight, part)

    def end_with(self, token: int) -> None:
        """Learn and write another end of text: the one of a teacher whose distributions are learned.

        Base models and those that were tuned to chat share their tokens and end differently.
        """
        self.tokenizer.eos_token = self.tokenizer.convert_ids_to_tokens(token)
        self.end, self.ends = token, self.ends | {token}

    def stops(self, messages: Sequence[Message]) -> tuple[str, ...]:
        """What ends an answer besides EOS: in a transcript, which marks no turn's end, the blank line after it."""
        is_transcript = self.architecture == "decoder" and not self.tokenizer.chat_template and len(messages) > 1
        return ("\n\n",) if is_transcript else ()

    def text(self, tokens: Sequence[int]) -> str:
        """Tokens as text, special tokens left out."""
        decoded: str = self.tokenizer.decode(list(tokens), skip_special_tokens=True)
        return decoded

    def collate(self, rows: Sequence[Row]) -> Batch:
        """Rows of similar length as one batch, padded on the right; a signal that a row lacks is 0 at its tokens."""
        inputs, labels = self._inputs(rows)
        lengths = [len(row.completion) for row in rows]
        differs = any(row.teacher_prompt is not None for row in rows)
        return Batch(
            inputs=inputs,
            labels=labels,
            targets=torch.tensor([token for row in rows for token in row.completion], dtype=torch.long),
            weights=torch.tensor([row.weight for row in rows]).repeat_interleave(torch.tensor(lengths)),
            parts=tuple(row.part for row in rows for _ in row.completion),
            signals=_signals(rows),
            seen_by_teacher=self.collate([_for_teacher(row) for row in rows]) if differs else None,
        )

    def _inputs(self, rows: Sequence[Row]) -> tuple[dict[str, Tensor], Tensor]:
        """What the model reads, and (B, T) labels."""
        if self.architecture == "decoder":
            ids = [[*row.prompt, *row.completion[:-1]] for row in rows]
            labels = [[IGNORED] * (len(row.prompt) - 1) + [*row.completion] for row in rows]
            return {"input_ids": pad(ids, self.pad)}, pad(labels, IGNORED)
        inputs = {
            "input_ids": pad([row.prompt for row in rows], self.pad),
            "attention_mask": pad([[1] * len(row.prompt) for row in rows], 0),
            "decoder_input_ids": pad([[self.start_token, *row.completion[:-1]] for row in rows], self.pad),
        }
        return inputs, pad([row.completion for row in rows], IGNORED)

    def _render(self, messages: Sequence[Message], continues: bool) -> list[int]:
        if self.tokenizer.chat_template:
            return self._ids(self._chat(messages, continues))
        ids = self._ids(_transcript(messages, continues))
        return [*self.opening, *ids, *(self.closing if self.architecture == "encoder-decoder" else ())]

    def _chat(self, messages: Sequence[Message], continues: bool) -> str:
        """The conversation in the template's markup; a system message that it refuses or drops joins the user's."""
        try:
            text: str = self.tokenizer.apply_chat_template(
                [message.model_dump() for message in messages],
                tokenize=False,
                add_generation_prompt=not continues,
                continue_final_message=continues,
            )
        except TemplateError as error:
            if messages[0].role == "system":
                return self._chat(_without_system(messages), continues)
            raise WeightsError(
                f"The model's chat template refuses the conversation: {error}",
                hint="Choose another model, or one without a chat template.",
            ) from error
        is_dropped = messages[0].role == "system" and messages[0].content.strip() not in text
        return self._chat(_without_system(messages), continues) if is_dropped else text

    def _ids(self, text: str) -> list[int]:
        ids: list[int] = self.tokenizer(text, add_special_tokens=False).input_ids
        return ids


def _for_teacher(row: Row) -> Row:
    prompt = row.prompt if row.teacher_prompt is None else row.teacher_prompt
    return Row(prompt, row.completion)


def _signals(rows: Sequence[Row]) -> dict[str, Tensor]:
    """Of all rows' tokens, (N, ...) each."""
    shapes = {name: tensor[:0] for row in rows for name, tensor in row.signals.items()}

    def of_row(row: Row, name: str) -> Tensor:
        known = row.signals.get(name)
        return shapes[name].new_zeros(len(row.completion), *shapes[name].shape[1:]) if known is None else known

    return {name: torch.cat([of_row(row, name) for row in rows]) for name in shapes}


def _around(tokenizer: Any) -> tuple[list[int], list[int]]:
    """The special tokens before and after a text."""
    plain, whole = tokenizer("x", add_special_tokens=False).input_ids, list(tokenizer("x").input_ids)
    first = next(i for i in range(len(whole)) if whole[i : i + len(plain)] == plain)
    return whole[:first], whole[first + len(plain) :]


def _without_system(messages: Sequence[Message]) -> list[Message]:
    """The conversation with the system's text in front of the first user message."""
    system, *rest = messages
    first = next((i for i, message in enumerate(rest) if message.role == "user"), None)
    if first is None:
        return [Message(role="user", content=system.content), *rest]
    rest[first] = Message(role="user", content=f"{system.content}\n\n{rest[first].content}")
    return rest


def _transcript(messages: Sequence[Message], continues: bool) -> str:
    """The conversation for a model that knows no chat markup; a single message is its text and nothing else."""
    if len(messages) == 1:
        return messages[0].content
    return render("answer/transcript.j2", messages=messages, continues=continues) + ("" if continues else "\n")


def pad(rows: Sequence[Sequence[int]], filler: int, *, left: bool = False) -> Tensor:
    """Rows of numbers as one (B, T) tensor, T the longest."""
    width = max(len(row) for row in rows)
    fill = [[filler] * (width - len(row)) for row in rows]
    return torch.tensor([[*f, *row] if left else [*row, *f] for row, f in zip(rows, fill, strict=True)])


def weighed(rows: Sequence[Row], shares: Mapping[str, float]) -> list[Row]:
    """The rows with weights under which the sum of all losses is the sum over the parts of share · mean of its tokens.

    A mean over all tokens of the optimiser step, in whatever micro-batches and processes it is computed; a long
    rationale does not swamp a label of one word, which is another part.
    """
    totals: dict[str, float] = defaultdict(float)
    for row in rows:
        totals[row.part] += row.weight * len(row.completion)
    return [replace(row, weight=row.weight * shares[row.part] / (totals[row.part] or 1.0)) for row in rows]


def epoch_of_steps(lengths: Sequence[int], batch_rows: int, rng: Random) -> Iterator[list[int]]:
    """The indices of all rows once, in random steps of rows of similar length, so that little is padded.

    Rows are shuffled, sorted by length within chunks of sixteen steps, and the steps shuffled again.
    """
    order = list(range(len(lengths)))
    rng.shuffle(order)
    chunk, steps = 16 * batch_rows, []
    for start in range(0, len(order), chunk):
        part = sorted(order[start : start + chunk], key=lambda index: lengths[index])
        steps += [part[first : first + batch_rows] for first in range(0, len(part), batch_rows)]
    rng.shuffle(steps)
    yield from steps
