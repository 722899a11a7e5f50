"""A model on this machine's GPU, run in this process by vLLM: continuous batching, for bulk. No key, no cost.

`vllm:Qwen/Qwen2.5-7B-Instruct`, with `pip install 'prompt2model[vllm]'`. Written by vLLM's documentation of its offline
inference, https://docs.vllm.ai/en/stable/serving/offline_inference.html; it has not been run yet.
"""

from collections.abc import Iterable, Iterator, Sequence
from itertools import groupby, islice
from typing import Any

from pydantic import Field

from prompt2model import weights
from prompt2model.config import Settings
from prompt2model.conversation import Reply, Request
from prompt2model.errors import MissingExtra, TeacherError, WeightsError
from prompt2model.student import fingerprint

DECIDING = ("max_length",)


class Options(Settings):
    """How the model is run."""

    batch_rows: int = Field(1024, gt=0, description="Requests handed over at a time; vLLM schedules within them.")
    gpu_memory: float = Field(0.9, gt=0, le=1, description="Share of the GPU's memory that vLLM may take.")
    max_length: int = Field(0, ge=0, description="Longest prompt with its answer, in tokens; 0 is the model's own.")


def connect(model: str, **options: Any) -> "InProcess":
    """The model, loaded. Raises MissingExtra without vLLM, WeightsError when the model cannot be had."""
    try:
        from vllm import LLM
    except ImportError as error:
        raise MissingExtra("vllm", extra="vllm") from error
    chosen, folder = Options(**options), weights.fetch(model)
    try:
        engine = LLM(
            model=str(folder),
            gpu_memory_utilization=chosen.gpu_memory,
            max_model_len=chosen.max_length or None,
            trust_remote_code=False,
            enable_prefix_caching=True,
        )
    except (OSError, ValueError, RuntimeError) as error:
        raise WeightsError(f"vLLM cannot load {model}: {error}", hint="Is the GPU large enough, and free?") from error
    length = f" max_length={chosen.max_length}" if chosen.max_length else ""
    return InProcess(engine, model, f"vllm:{model}@{fingerprint(folder)}{length}", chosen.batch_rows)


class InProcess:
    """A model that vLLM runs."""

    can = frozenset({"text", "json_schema"})
    is_local = True

    def __init__(self, engine: Any, model: str, identity: str, batch_rows: int) -> None:
        self.name, self.identity = f"vllm:{model}", identity
        self._engine, self._batch_rows = engine, batch_rows

    def answer(self, requests: Iterable[Request]) -> Iterator[list[tuple[int, Reply]]]:
        """Replies a batch at a time. Raises TeacherError when it is asked for likelihoods or beams."""
        waiting = enumerate(requests)
        while batch := list(islice(waiting, self._batch_rows)):
            for continues, some in groupby(batch, key=lambda numbered: numbered[1].continues):
                numbered = list(some)
                answered = self._answer([request for _, request in numbered], continues)
                yield [(index, reply) for (index, _), reply in zip(numbered, answered, strict=True)]

    def _answer(self, requests: Sequence[Request], continues: bool) -> list[Reply]:
        if any(request.choices or request.beams > 1 for request in requests):
            raise TeacherError(f"{self.name} gives no likelihoods and has one beam only.", hint="transformers:… can.")
        outputs = self._engine.chat(
            [[message.model_dump() for message in request.messages] for request in requests],
            [_sampling(request) for request in requests],
            use_tqdm=False,
            add_generation_prompt=not continues,
            continue_final_message=continues,
        )
        return [_reply(output) for output in outputs]


def _sampling(request: Request) -> Any:
    from vllm import SamplingParams
    from vllm.sampling_params import StructuredOutputsParams

    schema = StructuredOutputsParams(json=request.json_schema) if request.json_schema else None
    return SamplingParams(
        max_tokens=request.max_tokens,
        temperature=request.temperature,
        top_p=request.top_p,
        seed=request.seed,
        stop=list(request.stop) or None,
        structured_outputs=schema,
    )


def _reply(output: Any) -> Reply:
    written = output.outputs[0]
    return Reply(
        text=written.text,
        finish="length" if written.finish_reason == "length" else "stop",
        tokens_in=len(output.prompt_token_ids or ()),
        tokens_out=len(written.token_ids),
    )
