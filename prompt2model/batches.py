"""Examples to tokens and labels: the only place that tokenises prompts, pads, and shifts.

A decoder-only row is prompt + completion + EOS, padded on the right, so that causal attention needs no mask. An
encoder-decoder row is the prompt for the encoder and completion + EOS for the decoder.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from random import Random
from typing import Any

import torch
from jinja2 import TemplateError
from torch import Tensor

from prompt2model.errors import DataError, WeightsError
from prompt2model.prompts import render
from prompt2model.records import Architecture, Message

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

    def __len__(self) -> int:
        return len(self.prompt) + len(self.completion)


@dataclass(frozen=True)
class Batch:
    """Tokens, and at each position the token that should come next."""

    inputs: dict[str, Tensor]
    """What the model's forward pass takes; every tensor is (B, T) of its own T."""
    labels: Tensor
    """(B, T), already shifted: labels[b, t] is the target of the logits at (b, t), or IGNORED."""
    weights: Tensor
    """(B,), one for each row."""
    tokens: int
    """Real tokens, padding not counted."""

    @property
    def counted(self) -> Tensor:
        """(B, T) bool: the positions at which something is learned."""
        return self.labels != IGNORED

    @property
    def total_weight(self) -> float:
        """The summed weight of all counted tokens: what the loss of an optimiser step is divided by."""
        return float((self.counted.sum(1) * self.weights).sum())

    def to(self, device: torch.device) -> "Batch":
        inputs = {name: tensor.to(device) for name, tensor in self.inputs.items()}
        return Batch(inputs, self.labels.to(device), self.weights.to(device), self.tokens)


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
        """The conversation as tokens. When it is longer than `max_tokens`, the longest message loses its end.

        Raises DataError when the template alone, without that message, is longer.
        """
        tokens = self._render(messages, continues)
        if max_tokens is None or len(tokens) <= max_tokens:
            return tuple(tokens)
        longest = max(range(len(messages)), key=lambda i: len(messages[i].content))
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

    def row(self, messages: Sequence[Message], answer: str, *, max_length: int, weight: float = 1.0) -> Row:
        """One training row. An answer that does not fit in half of `max_length` loses its end, its EOS too."""
        completion = self.completion(answer)[: max(1, max_length // 2)]
        room = max_length - (len(completion) if self.architecture == "decoder" else 0)
        return Row(self.prompt(messages, max_tokens=room), completion, weight)

    def stops(self, messages: Sequence[Message]) -> tuple[str, ...]:
        """What ends an answer besides EOS: in a transcript, which marks no turn's end, the blank line after it."""
        is_transcript = self.architecture == "decoder" and not self.tokenizer.chat_template and len(messages) > 1
        return ("\n\n",) if is_transcript else ()

    def text(self, tokens: Sequence[int]) -> str:
        """Tokens as text, special tokens left out."""
        decoded: str = self.tokenizer.decode(list(tokens), skip_special_tokens=True)
        return decoded

    def collate(self, rows: Sequence[Row]) -> Batch:
        """Rows of similar length as one batch, padded on the right."""
        weights = torch.tensor([row.weight for row in rows])
        tokens = sum(len(row) for row in rows)
        if self.architecture == "decoder":
            ids = [[*row.prompt, *row.completion[:-1]] for row in rows]
            labels = [[IGNORED] * (len(row.prompt) - 1) + [*row.completion] for row in rows]
            return Batch({"input_ids": pad(ids, self.pad)}, pad(labels, IGNORED), weights, tokens)
        inputs = {
            "input_ids": pad([row.prompt for row in rows], self.pad),
            "attention_mask": pad([[1] * len(row.prompt) for row in rows], 0),
            "decoder_input_ids": pad([[self.start_token, *row.completion[:-1]] for row in rows], self.pad),
        }
        return Batch(inputs, pad([row.completion for row in rows], IGNORED), weights, tokens)

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
