"""Answers and likelihoods from a transformers model, many prompts at once.

Written out rather than left to `model.generate` for three reasons: every row has a random generator of its own, so
that its text does not depend on its neighbours; rows that have ended leave the batch, sooner or later; and the
likelihood of several answers shares one pass over the prompt.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor
from transformers import DynamicCache, EncoderDecoderCache

from prompt2model.batches import Codec, pad
from prompt2model.blocks import blocks
from prompt2model.kv_cache import growing_cache, remembers_all
from prompt2model.losses import log_probabilities
from prompt2model.prefixes import common_beginnings
from prompt2model.replay import WORTH_RECORDING, Replay, can_replay, recorded
from prompt2model.sampling import next_tokens

WORTH_LEAVING, WORTH_LEAVING_RECORDED = 0.75, 0.25
"""Share of rows that still write from which on the others leave the batch. It costs a copy of the cache, and where the
step is recorded a new recording."""


@dataclass
class Writing:
    """One text in the making."""

    prompt: tuple[int, ...]
    max_tokens: int
    temperature: float = 0.0
    top_p: float = 1.0
    seed: int = 0
    stop: tuple[str, ...] = ()
    tokens: list[int] = field(default_factory=list)
    finished: bool = False
    """Whether it came to its own end: EOS or a stop string."""
    end: int | None = None
    """The token that ended it, which is not among `tokens`."""
    log_p: float = 0.0
    """Its log-likelihood so far, `end` included, in nats, where it is counted."""

    @property
    def is_going(self) -> bool:
        return not self.finished and len(self.tokens) < self.max_tokens

    def draws(self) -> np.ndarray[Any, Any]:
        """One uniform number for each token to come."""
        return np.random.default_rng(self.seed).random(self.max_tokens)


@torch.inference_mode()
def write(model: Any, codec: Codec, texts: Sequence[Writing]) -> None:
    """Fill in the tokens of all `texts`, as one batch."""
    fill(State(model, codec, [text.prompt for text in texts]), codec, texts)


def fill(state: "Speaks", codec: Codec, texts: Sequence[Writing]) -> None:
    """The same, said by whatever has read the texts' prompts."""
    live = list(texts)
    draws = np.stack([np.pad(text.draws(), (0, max(t.max_tokens for t in texts) - text.max_tokens)) for text in texts])
    for step in range(draws.shape[1]):
        temperatures, top_p = [text.temperature for text in live], [text.top_p for text in live]
        chosen = next_tokens(state.logits, temperatures, top_p, draws[:, step].tolist())
        for text, token in zip(live, chosen, strict=True):
            if text.is_going:
                extend(text, token, codec)
        going = [i for i, text in enumerate(live) if text.is_going]
        if not going:
            return
        if len(going) <= state.worth_leaving * len(live):
            live, draws, chosen = [live[i] for i in going], draws[going], [chosen[i] for i in going]
            state.keep(going)
        state.advance([[token] for token in chosen])


@torch.inference_mode()
def likelihoods(
    model: Any, codec: Codec, prompts: Sequence[tuple[int, ...]], choices: Sequence[tuple[int, ...]]
) -> Tensor:
    """log p(choice | prompt), summed over the choice's tokens, in nats: (prompts, choices)."""
    state = State(model, codec, prompts, reuse=any(len(choice) > 1 for choice in choices))
    state.allow_peeks()
    firsts = torch.tensor([choice[0] for choice in choices], device=state.device)
    total = torch.cat([state.logits[rows].float().log_softmax(-1)[:, firsts] for rows in blocks(state.logits)])
    for place, choice in enumerate(choices):
        if len(choice) > 1:
            logits = state.peek(choice[:-1])  # (B, len - 1, V)
            rest = torch.tensor(choice[1:], device=logits.device).repeat(len(prompts))
            total[:, place] += log_probabilities(logits.flatten(0, 1), rest).view(len(prompts), -1).sum(1)
    return total.cpu()


class Speaks(Protocol):
    """What texts are drawn from: a distribution for each row's next token, and a way on."""

    @property
    def logits(self) -> Tensor:
        """(B, V), of the next token."""

    @property
    def worth_leaving(self) -> float:
        """Share of rows that still write from which on the others should leave."""

    def advance(self, tokens: Sequence[Sequence[int]]) -> None:
        """Read these tokens, the same number in every row."""

    def keep(self, rows: Sequence[int]) -> None:
        """Go on with these rows only."""


class State:
    """A batch that is being decoded: its cache, and the logits of the next token."""

    def __init__(self, model: Any, codec: Codec, prompts: Sequence[tuple[int, ...]], reuse: bool = True) -> None:
        self.model = model
        self.device = model.device
        self.encoder: Any = None
        self.replay: Replay | None = None
        self.steps = 0
        """Since rows have come or gone."""
        longest = getattr(model.config.get_text_config(), "max_position_embeddings", None)
        self.last = longest - 1 if longest else None
        """The model's last position, which rows that have ended and stay would pass; None where there is none."""
        if codec.architecture == "encoder-decoder":
            self._encode(codec, prompts)
        else:
            self._prefill(codec, prompts, reuse)

    def _encode(self, codec: Codec, prompts: Sequence[tuple[int, ...]]) -> None:
        self.mask = pad([[1] * len(prompt) for prompt in prompts], 0).to(self.device)  # (B, T)
        ids = pad(prompts, codec.pad).to(self.device)  # (B, T)
        self.encoder = self.model.get_encoder()(input_ids=ids, attention_mask=self.mask)
        self.cache: Any = EncoderDecoderCache(growing_cache(), DynamicCache())
        self.positions = torch.zeros(len(prompts), 1, dtype=torch.long, device=self.device)
        self.advance([[codec.start_token]] * len(prompts))

    def _prefill(self, codec: Codec, prompts: Sequence[tuple[int, ...]], reuse: bool) -> None:
        """Read the prompts. What several begin with is read once, and the cache copied to each of their rows."""
        self.cache = growing_cache(self.model.config)
        beginnings, own = common_beginnings(prompts) if remembers_all(self.cache) else ([()], [0] * len(prompts))
        self._begin(len(beginnings))
        if any(beginnings):
            self._read(codec, beginnings)
            self.keep(own)
        else:
            self._begin(len(prompts))
            self.cache = self.cache if reuse else None
        self._read(codec, [prompt[len(beginnings[place]) :] for prompt, place in zip(prompts, own, strict=True)])

    def _begin(self, rows: int) -> None:
        """So many rows, of which nothing has been read."""
        self.mask = torch.ones(rows, 0, dtype=torch.long, device=self.device)  # (B, what was read, padding included)
        self.positions = torch.zeros(rows, 1, dtype=torch.long, device=self.device)  # (B, 1), of the next token

    def _read(self, codec: Codec, texts: Sequence[tuple[int, ...]]) -> None:
        """Go on with these texts, padded on the left."""
        real = pad([[1] * len(ids) for ids in texts], 0, left=True).to(self.device)  # (B, T)
        self.mask = torch.cat([self.mask, real], 1)
        out = self.model(
            input_ids=pad(texts, codec.pad, left=True).to(self.device),
            attention_mask=self.mask,
            position_ids=(real.cumsum(1) - 1).clamp(min=0) + self.positions,  # (B, T)
            past_key_values=self.cache,
            use_cache=self.cache is not None,
            logits_to_keep=1,
        )
        self.positions = self.positions + real.sum(1, keepdim=True)
        self.logits = out.logits[:, -1]  # (B, V)

    def advance(self, tokens: Sequence[Sequence[int]]) -> None:
        """Read these tokens, the same number in every row."""
        ids = torch.tensor(tokens, device=self.device)
        self.steps += 1
        if self.replay and not self.replay.room:
            self._stop_replaying()
        if self.replay:
            self.logits = self.replay.advance(ids)
            return
        before = (self.mask, self.positions)
        self.logits = self._forward(ids)[:, -1]
        if self.steps > WORTH_RECORDING and self._can_replay():
            # the cache has the tokens already; a mask of what was before hides them until they are read again
            begin = partial(Replay, self.model, self.cache, *before, self.last)
            self.replay, self.steps = recorded(self.model, begin, ids, self.logits), 0
            if self.replay:
                self.cache = None  # it has one of its own

    @property
    def worth_leaving(self) -> float:
        """Few leave where the step is recorded, or may be."""
        return WORTH_LEAVING_RECORDED if self.replay or self._can_replay() else WORTH_LEAVING

    def _can_replay(self) -> bool:
        return self.encoder is None and can_replay(self.model, self.cache)

    def _stop_replaying(self) -> None:
        if self.replay:
            self.cache, self.mask, self.positions = self.replay.so_far()
            self.replay = None

    def allow_peeks(self) -> None:
        """Keep what sliding windows and convolutions would forget, so that the cache can be taken back."""
        if self.cache is not None:
            self.cache.activate_past_recording()

    def peek(self, tokens: Sequence[int]) -> Tensor:
        """The logits after each of these tokens in every row, (B, len, V); the state stays as it was."""
        self._stop_replaying()
        positions, mask = self.positions, self.mask
        logits = self._forward(torch.tensor(tokens, device=self.device).expand(len(positions), -1))
        self.cache.crop(-len(tokens))
        self.positions, self.mask = positions, mask
        return logits

    def keep(self, rows: Sequence[int]) -> None:
        """Go on with these rows only; one that comes twice is read on in two ways."""
        self._stop_replaying()
        self.steps = 0
        index = torch.tensor(rows, device=self.device)
        self.cache.reorder_cache(index)  # what beam search calls: every kind of cache has it
        self.mask, self.positions = self.mask[index], self.positions[index]
        if self.encoder is not None:
            self.encoder.last_hidden_state = self.encoder.last_hidden_state[index]

    def _forward(self, ids: Tensor) -> Tensor:
        if self.encoder is not None:
            out = self.model(
                encoder_outputs=self.encoder,
                attention_mask=self.mask,
                decoder_input_ids=ids,
                past_key_values=self.cache,
                use_cache=True,
            )
        else:
            self.mask = torch.cat([self.mask, self.mask.new_ones(ids.shape)], 1)
            positions = self.positions + torch.arange(ids.shape[1], device=self.device)  # (B, len)
            positions = positions if self.last is None else positions.clamp(max=self.last)
            out = self.model(
                input_ids=ids,
                attention_mask=self.mask,
                position_ids=positions,
                past_key_values=self.cache,
                use_cache=True,
            )
            self.positions = positions[:, -1:] + 1
        logits: Tensor = out.logits
        return logits


def extend(text: Writing, token: int, codec: Codec) -> None:
    """Write the token; an end is not written, but ends the text."""
    if token in codec.ends:
        text.finished, text.end = True, token
        return
    text.tokens.append(token)
    if text.stop:
        so_far = codec.text(text.tokens)
        text.finished = until(so_far, text.stop) != so_far


def until(text: str, stops: Sequence[str]) -> str:
    """The text before the first of the stops. Blanks before its first word are no end: small models begin with them."""
    begun = text.lstrip()
    for stop in stops:
        begun = begun.partition(stop)[0]
    return text[: len(text) - len(text.lstrip())] + begun
