"""A transformers model on this machine: load it, let it answer, prepare it for training, save it."""

import hashlib
import logging
import time
import warnings
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from copy import deepcopy
from functools import cache
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from transformers import (
    AutoConfig,
    AutoModelForCausalLM,
    AutoModelForSeq2SeqLM,
    AutoTokenizer,
    GenerationConfig,
    PreTrainedModel,
)

from prompt2model import progress, weights
from prompt2model.attention import use_attention
from prompt2model.batches import Codec
from prompt2model.beams import search
from prompt2model.conversation import Reply, Request
from prompt2model.decoding import Writing, likelihoods, until, write
from prompt2model.errors import RunError, WeightsError
from prompt2model.memory import answered_at_once, in_batches
from prompt2model.norms import use_fused_norms
from prompt2model.records import Architecture
from prompt2model.rounding import round_into

log = logging.getLogger(__name__)

WRITERS = ("ForCausalLM", "LMHeadModel", "ForConditionalGeneration")
"""Ends of the names of classes whose weights include a trained head."""

WRITING = 2
"""Raised when the same request is written otherwise than before, so that no earlier text comes out of the cache."""


class LocalModel:
    """A model and its tokenizer, ready to answer requests as a Teacher does."""

    can = frozenset({"text", "logprobs", "likelihood", "logits", "beams"})
    is_local = True

    def __init__(self, model: Any, codec: Codec, *, name: str, identity: str = "", batch_rows: int = 0) -> None:
        self.model, self.codec = model, codec
        self.name, self.identity = name, identity or name
        self.batch_rows = batch_rows or answered_at_once()
        self.context_tokens = int(getattr(model.config.get_text_config(), "max_position_embeddings", 0) or 0)

    def answer(self, requests: Iterable[Request]) -> Iterator[list[tuple[int, Reply]]]:
        """Replies a batch at a time; batches hold requests of similar length and of one sort."""
        sorts: dict[tuple[Any, ...], list[tuple[int, Request]]] = {}
        for index, request in enumerate(requests):
            sort = (request.choices, request.whole, _gap(request), request.beams, request.n_best)
            sorts.setdefault(sort, []).append((index, request))
        for asked in sorts.values():
            yield from self._batches(asked)

    def _batches(self, asked: Sequence[tuple[int, Request]]) -> Iterator[list[tuple[int, Reply]]]:
        choices, beams = asked[0][1].choices, asked[0][1].beams
        written = max((len(choice) for choice in choices_of(asked[0][1], self.codec)), default=0)
        prompts = [
            prompt_of(request, self.codec, written or request.max_tokens, self.context_tokens) for _, request in asked
        ]
        answer = self._choose if choices else self._search if beams > 1 else self._write

        def answered(batch: list[int]) -> list[Reply]:
            return answer([asked[i][1] for i in batch], [prompts[i] for i in batch])

        lengths = [len(prompt) + (written or asked[i][1].max_tokens) for i, prompt in enumerate(prompts)]
        for batch, replies in in_batches(lengths, max(1, self.batch_rows // beams), answered):
            yield [(asked[i][0], reply) for i, reply in zip(batch, replies, strict=True)]

    def _write(self, requests: Sequence[Request], prompts: Sequence[tuple[int, ...]]) -> list[Reply]:
        texts = self._texts(requests, prompts)
        write(self.model, self.codec, texts)
        return [self._reply(text) for text in texts]

    def _search(self, requests: Sequence[Request], prompts: Sequence[tuple[int, ...]]) -> list[Reply]:
        texts = self._texts(requests, prompts)
        found = search(self.model, self.codec, texts, beams=requests[0].beams, n_best=requests[0].n_best)
        return [self._reply(best, [text for text in rest if text.finished]) for best, *rest in found]

    def _texts(self, requests: Sequence[Request], prompts: Sequence[tuple[int, ...]]) -> list[Writing]:
        stops = [request.stop or self.codec.stops(request.messages) for request in requests]
        return [
            Writing(prompt, self._room(request, prompt), request.temperature, request.top_p, request.seed, stop)
            for request, prompt, stop in zip(requests, prompts, stops, strict=True)
        ]

    def _reply(self, text: Writing, others: Sequence[Writing] = ()) -> Reply:
        first, *rest = (until(self.codec.text(one.tokens), one.stop) for one in (text, *others))
        return Reply(
            text=first,
            others=tuple(rest),
            finish="stop" if text.finished else "length",
            tokens_in=len(text.prompt),
            tokens_out=sum(len(one.tokens) for one in (text, *others)),
        )

    def _room(self, request: Request, prompt: tuple[int, ...]) -> int:
        """How many tokens the answer may have."""
        if not self.context_tokens:
            return request.max_tokens
        taken = len(prompt) if self.codec.architecture == "decoder" else 1
        return min(request.max_tokens, self.context_tokens - taken)

    def _choose(self, requests: Sequence[Request], prompts: Sequence[tuple[int, ...]]) -> list[Reply]:
        choices = choices_of(requests[0], self.codec)
        table = likelihoods(self.model, self.codec, prompts, choices)  # (B, choices)
        return [chosen(requests[0], prompt, choices, table[row].tolist()) for row, prompt in enumerate(prompts)]


def prompt_of(request: Request, codec: Codec, new_tokens: int, context_tokens: int) -> tuple[int, ...]:
    """The prompt, cut so that the answer still fits into the model's context, or half of it where that is less.

    `context_tokens` is 0 for a model that reads any length.
    """
    room = max(context_tokens - new_tokens, context_tokens // 2) if context_tokens else None
    return codec.prompt(request.messages, continues=request.continues, max_tokens=room)


def choices_of(request: Request, codec: Codec) -> list[tuple[int, ...]]:
    """The choices as tokens; with EOS where they are whole, or one begins another, for the shorter would win."""
    texts = [_gap(request) + choice for choice in request.choices]
    plain = [codec.completion(text, ended=False) for text in texts]
    nested = any(b[: len(a)] == a for i, a in enumerate(plain) for j, b in enumerate(plain) if i != j)
    return [codec.completion(text) for text in texts] if request.whole or nested or () in plain else plain


def chosen(request: Request, prompt: Sequence[int], choices: Sequence[Sequence[int]], log_p: Sequence[float]) -> Reply:
    """The likeliest of the choices, whose likelihoods are known, in nats."""
    best = max(range(len(log_p)), key=lambda at: log_p[at])
    return Reply(
        text=request.choices[best], logprobs=tuple(log_p), tokens_in=len(prompt), tokens_out=len(choices[best])
    )


def load(folder: Path, *, precision: str = "auto") -> tuple[Any, Codec]:
    """The model in evaluation mode, on the GPU if there is one, and its codec.

    Raises WeightsError when the folder holds no model that transformers can load without remote code or pickle.
    """
    with _translated(folder):
        config = _config(folder)
        tokenizer = AutoTokenizer.from_pretrained(folder, trust_remote_code=False)
        family = AutoModelForSeq2SeqLM if config.is_encoder_decoder else AutoModelForCausalLM
        with progress.quiet():
            model = family.from_pretrained(
                folder, dtype=dtype_of(precision), trust_remote_code=False, use_safetensors=True
            )
    ends = model.generation_config.eos_token_id
    ends = ends if isinstance(ends, list) else [ends] if ends is not None else []
    torch.backends.cuda.enable_cudnn_sdp(False)  # it plans anew for every length: 40 ms for each token, on an H100
    model = model.to(device()).eval()
    use_attention(model)
    use_fused_norms(model)
    return model, _codec(config, tokenizer, ends)


def load_codec(folder: Path) -> Codec:
    """The codec without the model: to see in a moment whether the model will do. Raises WeightsError as `load` does."""
    with _translated(folder):
        return _codec(_config(folder), AutoTokenizer.from_pretrained(folder, trust_remote_code=False))


@contextmanager
def _translated(folder: Path) -> Iterator[None]:
    """What transformers says of a folder that it cannot read, as our error."""
    try:
        yield
    except (OSError, ValueError, KeyError, ImportError, SafetensorError) as error:
        raise WeightsError(
            f"{folder} cannot be loaded: {(str(error).splitlines() or [type(error).__name__])[0]}",
            hint="It must be a transformers model with safetensors weights and a tokenizer.",
        ) from error


def _config(folder: Path) -> Any:
    config = AutoConfig.from_pretrained(folder, trust_remote_code=False)
    _check_it_writes(config, folder)
    return config


def _codec(config: Any, tokenizer: Any, ends: Iterable[int] = ()) -> Codec:
    architecture: Architecture = "encoder-decoder" if config.is_encoder_decoder else "decoder"
    return Codec(tokenizer, architecture, start_token=getattr(config, "decoder_start_token_id", None) or 0, ends=ends)


def _check_it_writes(config: Any, folder: Path) -> None:
    """transformers loads an encoder like BERT as a writer too, with a head that nobody has trained."""
    made_for = config.architectures or []
    if made_for and not config.is_encoder_decoder and not any(name.endswith(WRITERS) for name in made_for):
        raise WeightsError(
            f"{folder} is a {made_for[0]}, which writes no text.",
            hint="Choose a decoder like SmolLM2 or an encoder-decoder like T5.",
        )


def open_model(name: str, *, precision: str = "auto", batch_rows: int = 0) -> LocalModel:
    """A model by Hub id or folder, fetched if it is not at hand, ready to answer. Raises WeightsError.

    Its identity names the precision where one was asked for: another one may answer otherwise.
    """
    folder = weights.fetch(name)
    model, codec = load(folder, precision=precision)
    asked = "" if precision == "auto" else f" {precision}"  # what is measured to be faster may change by the day
    identity = f"{name}@{fingerprint(folder)}/{WRITING}{asked}"
    return LocalModel(model, codec, name=name, identity=identity, batch_rows=batch_rows)


def device() -> torch.device:
    """Where models run."""
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def dtype_of(precision: str) -> torch.dtype:
    """The arithmetic to run in: as named, or for `auto` the faster one here."""
    named = {"float32": torch.float32, "bfloat16": torch.bfloat16}
    return named[precision] if precision in named else fastest_dtype()


@cache
def fastest_dtype() -> torch.dtype:
    """bfloat16 where a matrix product in it is clearly faster, measured on this machine; else float32.

    Processors without bfloat16 arithmetic run it several times slower than float32.
    """
    if torch.cuda.is_available():
        return torch.bfloat16 if torch.cuda.is_bf16_supported(including_emulation=False) else torch.float32
    seconds = {dtype: _product_seconds(dtype) for dtype in (torch.float32, torch.bfloat16)}
    return torch.bfloat16 if seconds[torch.bfloat16] < 0.8 * seconds[torch.float32] else torch.float32


def adapt(model: Any, lora_rank: int) -> Any:
    """The model as it is trained: whole, or frozen with LoRA adapters of this rank on every linear layer.

    Hu et al., 2021, https://arxiv.org/abs/2106.09685; all linear layers as in QLoRA, https://arxiv.org/abs/2305.14314.
    Raises WeightsError for a quantised model.
    """
    if getattr(model.config, "quantization_config", None):
        raise WeightsError(
            "The base model is quantised: its weights cannot be trained, nor adapters merged into them.",
            hint="Choose the model that it was made from.",
        )
    if not lora_rank:
        return model.train()
    from peft import LoraConfig, get_peft_model  # seconds to import, and most runs train all weights

    with warnings.catch_warnings():  # what peft asks of transformers, and does for GPT-2, needs nobody's attention
        warnings.filterwarnings("ignore", "`is_gradient_checkpointing` is deprecated", FutureWarning)
        warnings.filterwarnings("ignore", "fan_in_fan_out is set to False", UserWarning)
        return get_peft_model(model, LoraConfig(r=lora_rank, lora_alpha=2 * lora_rank, target_modules="all-linear"))


def twin(model: Any) -> Any:
    """A second model with the same weights; those that are not trained, as under LoRA, both stand on."""
    return deepcopy(model, {id(weight): weight for weight in model.parameters() if not weight.requires_grad})


@torch.no_grad()
def merge(model: Any) -> Any:
    """The model with its adapters, if it has any, added into its weights, in float32 and then rounded.

    What adapters add is often less than bfloat16 can show.
    """
    if isinstance(model, PreTrainedModel):
        return model
    first = 0
    for layer in model.modules():
        if hasattr(layer, "get_delta_weight"):
            weight = layer.get_base_layer().weight.data
            exact = weight.float() + layer.get_delta_weight(model.active_adapter).float()
            if weight.dtype == torch.bfloat16:
                round_into([weight], [exact], first)
                first += weight.numel()
            else:
                weight.copy_(exact)
    return model.unload()


def save(model: Any, codec: Codec, folder: Path, most_tokens: int | None = None) -> None:
    """A folder that plain transformers loads, and that answers greedily. Raises RunError when it cannot be written.

    It answers in `most_tokens` at most where that is given, else in as many as transformers lets it. What the base
    model's generation settings say of sampling is left out: transformers refuses to save some of them.
    """
    kept = {name: getattr(model.generation_config, name) for name in ("decoder_start_token_id", "forced_bos_token_id")}
    model.generation_config = GenerationConfig(
        bos_token_id=codec.tokenizer.bos_token_id,
        eos_token_id=sorted(codec.ends),
        pad_token_id=codec.pad,
        max_new_tokens=most_tokens,
        **kept,
    )
    try:
        with progress.quiet():
            model.save_pretrained(folder)
        codec.tokenizer.save_pretrained(folder)
    except (OSError, SafetensorError) as error:
        raise RunError(f"The model cannot be written to {folder}: {error}", hint="Is the disk full?") from error


def fingerprint(folder: Path) -> str:
    """A digest of the folder's configuration, tokenizer and weights."""
    digest = hashlib.sha256()
    for path in sorted(folder.glob("*")):
        if path.suffix in (".json", ".safetensors", ".jinja"):
            digest.update(path.name.encode() + b"\0")
            with path.open("rb") as file:
                digest.update(hashlib.file_digest(file, "sha256").digest())
    return digest.hexdigest()[:16]


def _gap(request: Request) -> str:
    """The space before a choice that goes on with a line, as in "Label: positive"."""
    is_within_a_line = request.continues and not request.messages[-1].content.endswith((" ", "\n"))
    return " " if is_within_a_line else ""


def _product_seconds(dtype: torch.dtype) -> float:
    """The best time of a few products of the size of a small model's layer."""
    a, b = torch.ones(256, 1024, dtype=dtype), torch.ones(1024, 1024, dtype=dtype)
    best = float("inf")
    for _ in range(4):
        start = time.perf_counter()
        torch.matmul(a, b)
        best = min(best, time.perf_counter() - start)
    return best
