"""A model on this machine's GPU, run in this process by vLLM: continuous batching, for bulk. No key, no cost.

`vllm:Qwen/Qwen2.5-7B-Instruct`, with `pip install 'prompt2model[vllm]'`. Decoders only. Prompts are made by our own
codec, so that the model reads what it reads as `transformers:`.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby, islice
from typing import Any

from pydantic import Field

from prompt2model import weights
from prompt2model.batches import Codec
from prompt2model.config import Settings
from prompt2model.conversation import Reply, Request
from prompt2model.decoding import until
from prompt2model.errors import MissingExtra, TeacherError, WeightsError
from prompt2model.student import WRITING, choices_of, chosen, fingerprint, load_codec, prompt_of

DECIDING = ("max_length",)
WHITE_BOX = ("likelihood",)
MOST_BLANKS = 8
"""How often a text is begun again that ended before its first word."""


class Options(Settings):
    """How the model is run."""

    batch_rows: int = Field(1024, gt=0, description="Requests handed over at a time; vLLM schedules within them.")
    gpu_memory: float = Field(0.9, gt=0, le=1, description="Share of the GPU's memory that vLLM may take.")
    max_length: int = Field(0, ge=0, description="Longest prompt with its answer, in tokens; 0 is the model's own.")


def connect(model: str, **options: Any) -> "InProcess":
    """The model, loaded. Raises MissingExtra without vLLM, WeightsError when the model cannot be had or is none."""
    try:
        from vllm import LLM
    except ImportError as error:
        raise MissingExtra("vllm", extra="vllm") from error
    own, folder = Options(**options), weights.fetch(model)
    codec = load_codec(folder)
    if codec.architecture != "decoder":
        raise WeightsError(
            f"vLLM runs decoders; {model} is an {codec.architecture}.", hint=f"--teacher transformers:{model} runs it."
        )
    try:
        engine = LLM(
            model=str(folder),
            gpu_memory_utilization=own.gpu_memory,
            max_model_len=own.max_length or None,
            trust_remote_code=False,
            enable_prefix_caching=True,
        )
    except (OSError, ValueError, RuntimeError) as error:
        raise WeightsError(f"vLLM cannot load {model}: {error}", hint="Is the GPU large enough, and free?") from error
    length = f" max_length={own.max_length}" if own.max_length else ""
    return InProcess(engine, codec, model, f"vllm:{model}@{fingerprint(folder)}/{WRITING}{length}", own.batch_rows)


class InProcess:
    """A model that vLLM runs."""

    can = frozenset({"text", "json_schema", "logprobs", "likelihood"})
    is_local = True

    def __init__(self, engine: Any, codec: Codec, model: str, identity: str, batch_rows: int) -> None:
        self.name, self.identity = f"vllm:{model}", identity
        self._engine, self._codec, self._batch_rows = engine, codec, batch_rows
        self._context = int(engine.model_config.max_model_len)

    def answer(self, requests: Iterable[Request]) -> Iterator[list[tuple[int, Reply]]]:
        """Replies a batch at a time. Raises TeacherError when it is asked for beams."""
        waiting = enumerate(requests)
        while batch := list(islice(waiting, self._batch_rows)):
            for is_choice, some in groupby(batch, key=lambda numbered: bool(numbered[1].choices)):
                numbered = list(some)
                answered = (self._choose if is_choice else self._write)([request for _, request in numbered])
                yield [(index, reply) for (index, _), reply in zip(numbered, answered, strict=True)]

    def _write(self, requests: Sequence[Request]) -> list[Reply]:
        if any(request.beams > 1 for request in requests):
            raise TeacherError(f"{self.name} has one beam only.", hint="transformers:… has several.")
        texts = left = [self._text(request) for request in requests]
        for _ in range(1 + MOST_BLANKS):
            outputs = self._asked([(*text.prompt, *text.begun) for text in left], list(map(_sampling, left)))
            for text, output in zip(left, outputs, strict=True):
                text.output = output
            left = [text for text in left if text.begin_again()]
            if not left:
                break
        return [text.reply(self._codec) for text in texts]

    def _text(self, request: Request) -> "_Text":
        prompt = prompt_of(request, self._codec, request.max_tokens, self._context)
        most = min(request.max_tokens, self._context - len(prompt))
        return _Text(request, prompt, most, request.stop or self._codec.stops(request.messages))

    def _choose(self, requests: Sequence[Request]) -> list[Reply]:
        """The likelihoods of all choices, each read behind its prompt."""
        from vllm import SamplingParams

        choices = [choices_of(request, self._codec) for request in requests]
        prompts = [
            prompt_of(request, self._codec, max(map(len, some)) + 1, self._context)
            for request, some in zip(requests, choices, strict=True)
        ]
        read = [(*prompt, *choice) for prompt, some in zip(prompts, choices, strict=True) for choice in some]
        outputs = iter(
            self._asked(read, [SamplingParams(max_tokens=1, temperature=0.0, prompt_logprobs=0)] * len(read))
        )
        return [
            chosen(request, prompt, some, [_log_p(next(outputs), choice) for choice in some])
            for request, prompt, some in zip(requests, prompts, choices, strict=True)
        ]

    def _asked(self, prompts: Sequence[Sequence[int]], how: Sequence[Any]) -> list[Any]:
        asked = [{"prompt_token_ids": list(prompt)} for prompt in prompts]
        found: list[Any] = self._engine.generate(asked, list(how), use_tqdm=False)
        return found


@dataclass
class _Text:
    """A text on its way."""

    request: Request
    prompt: Sequence[int]
    most: int
    """Tokens that it may have."""
    stop: Sequence[str]
    begun: tuple[int, ...] = ()
    """The blanks before its first word that vLLM took for its end."""
    output: Any = None

    def begin_again(self) -> bool:
        """Keep the blanks of a text that has ended before its first word (see `decoding.until`); whether it is one, and
        may still have a word."""
        written = self.output.outputs[0]
        if written.text.strip() or not isinstance(written.stop_reason, str):
            return False
        self.begun += tuple(written.token_ids)
        return len(self.begun) < self.most

    def reply(self, codec: Codec) -> Reply:
        written = self.output.outputs[0]
        asked = len(self.output.prompt_token_ids or ()) - len(self.prompt)
        begun = self.begun[:asked]
        return Reply(
            text=until(codec.text(begun) + written.text, self.stop),
            finish="length" if written.finish_reason == "length" else "stop",
            tokens_in=len(self.prompt),
            tokens_out=len(begun) + len(written.token_ids),
        )


def _sampling(text: _Text) -> Any:
    from vllm import SamplingParams
    from vllm.sampling_params import StructuredOutputsParams

    request = text.request
    schema = StructuredOutputsParams(json=request.json_schema) if request.json_schema else None
    return SamplingParams(
        max_tokens=text.most - len(text.begun),
        temperature=request.temperature,
        top_p=request.top_p,
        seed=request.seed,
        stop=list(text.stop) or None,
        structured_outputs=schema,
    )


def _log_p(output: Any, choice: Sequence[int]) -> float:
    """log p of the choice, the last tokens of what was read, in nats."""
    places = output.prompt_logprobs[-len(choice) :]
    return float(sum(at[token].logprob for at, token in zip(places, choice, strict=True)))
