"""A model on this machine's GPU, run in this process by vLLM: continuous batching, for bulk. No key, no cost.

`vllm:Qwen/Qwen2.5-7B-Instruct`, with `pip install 'prompt2model[vllm]'`. Decoders only. Prompts are made by our own
codec, so that the model reads what it reads as `transformers:`.
"""

from collections.abc import Iterable, Iterator, Sequence
from itertools import groupby, islice
from typing import Any

from pydantic import Field

from prompt2model import weights
from prompt2model.batches import Codec
from prompt2model.config import Settings
from prompt2model.conversation import Reply, Request
from prompt2model.decoding import until
from prompt2model.errors import MissingExtra, TeacherError, WeightsError
from prompt2model.student import choices_of, chosen, fingerprint, load_codec, prompt_of

DECIDING = ("max_length",)


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
    return InProcess(engine, codec, model, f"vllm:{model}@{fingerprint(folder)}{length}", own.batch_rows)


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
        prompts = [prompt_of(request, self._codec, request.max_tokens, self._context) for request in requests]
        stops = [request.stop or self._codec.stops(request.messages) for request in requests]
        outputs = self._asked(
            prompts,
            [
                _sampling(request, min(request.max_tokens, self._context - len(prompt)), stop)
                for request, prompt, stop in zip(requests, prompts, stops, strict=True)
            ],
        )
        return [_reply(output, stop) for output, stop in zip(outputs, stops, strict=True)]

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


def _sampling(request: Request, most: int, stop: Sequence[str]) -> Any:
    from vllm import SamplingParams
    from vllm.sampling_params import StructuredOutputsParams

    schema = StructuredOutputsParams(json=request.json_schema) if request.json_schema else None
    return SamplingParams(
        max_tokens=most,
        temperature=request.temperature,
        top_p=request.top_p,
        seed=request.seed,
        stop=list(stop) or None,
        min_tokens=1 if stop and not schema else 0,  # a line's end that comes first ends nothing: see `decoding.until`
        structured_outputs=schema,
    )


def _reply(output: Any, stop: Sequence[str]) -> Reply:
    written = output.outputs[0]
    return Reply(
        text=until(written.text, stop),
        finish="length" if written.finish_reason == "length" else "stop",
        tokens_in=len(output.prompt_token_ids or ()),
        tokens_out=len(written.token_ids),
    )


def _log_p(output: Any, choice: Sequence[int]) -> float:
    """log p of the choice, the last tokens of what was read, in nats."""
    places = output.prompt_logprobs[-len(choice) :]
    return float(sum(at[token].logprob for at, token in zip(places, choice, strict=True)))
