"""Fine-tunes the base model on the training rows and leaves the best checkpoint as a plain transformers folder."""

from functools import partial
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator
from accelerate.utils import DistributedType, broadcast_object_list
from pydantic import ValidationError

from prompt2model import checkpoints, registry, store
from prompt2model.batches import Codec
from prompt2model.checkpoints import Kept
from prompt2model.config import TrainConfig
from prompt2model.errors import ConfigError, DataError
from prompt2model.records import Checkpoint, Splits, Student, TaskSpec
from prompt2model.student import adapt, dtype_of, fingerprint, load, merge, save
from prompt2model.student_prompt import set_student_prompt
from prompt2model.training import Loop, Plan
from prompt2model.validation import HeldOut
from prompt2model.weights import fetch

SAVE_EVERY_SECONDS = 90.0
"""What a killed process loses at most."""


def train(
    task: TaskSpec,
    splits: Splits,
    base: str,
    config: TrainConfig,
    *,
    folder: Path,
    seed: int = 0,
    save_every_seconds: float = SAVE_EVERY_SECONDS,
) -> Student:
    """The base model fine-tuned on the training rows, the checkpoint with the best validation score, in `folder`.

    Without validation rows it is the last one. Taken up where a killed process left it, with the same result. Raises
    ConfigError for a method or option that does not exist or does not fit the model, DataError without rows,
    WeightsError when the base cannot be loaded, RunError when training diverges, or memory or disk do not suffice.
    """
    method = registry.load("methods", config.method)
    options = _options(method, config)
    if not splits.train:
        raise DataError("There are no rows to train on.", hint="Raise generate.count, or give rows with --data.")
    accelerator = _accelerator()
    weights = fetch(base)
    key = store.digest((task, splits.train, splits.validation, fingerprint(weights), config, seed))
    kept = _kept(folder / "unfinished", key)
    precision = kept[1]["precision"] if kept else _same(str(dtype_of(config.precision)).removeprefix("torch."))
    model, codec = load(weights, precision=precision)
    if codec.architecture not in method.ARCHITECTURES:
        raise ConfigError(
            f"The method {config.method} cannot train {base}: its architecture is {codec.architecture}.",
            hint=f"It trains {' and '.join(method.ARCHITECTURES)} models: choose another --base or --method.",
        )
    set_student_prompt(codec)
    rows, held_out = (
        method.rows(examples, codec, config.max_length, options) for examples in (splits.train, splits.validation)
    )
    torch.manual_seed(seed)  # adapters start at random
    model = adapt(model, config.lora_rank)
    plan = _plan(len(rows), config, _peak(model, codec, config), precision=precision, seed=seed, key=key)
    loop = Loop(accelerator, model, codec, partial(method.loss, options=options), plan, folder, kept)
    loop.run(rows, HeldOut(task, splits.validation, held_out), save_every_seconds)
    return _finish(loop, base, config.method)


def _accelerator() -> Accelerator:
    """This process and the others that `accelerate launch` started beside it."""
    accelerator = Accelerator()
    if accelerator.distributed_type in (DistributedType.FSDP, DistributedType.DEEPSPEED, DistributedType.MEGATRON_LM):
        raise ConfigError(
            f"Training under {accelerator.distributed_type.value} would cut the model into pieces; it must be whole.",
            hint="accelerate launch --multi_gpu gives each GPU the whole model.",
        )
    return accelerator


def _kept(unfinished: Path, key: str) -> Kept | None:
    """The checkpoint that a killed process left of this very training, or None."""
    kept = checkpoints.load(unfinished)
    return kept if kept is not None and kept[1]["key"] == key else None


def _same(value: str) -> str:
    """The main process's value, in every process."""
    found: str = broadcast_object_list([value])[0]
    return found


def _options(method: Any, config: TrainConfig) -> Any:
    try:
        return method.Options(**config.options)
    except ValidationError as error:
        known = ", ".join(method.Options.model_fields) or "none"
        problem = "; ".join(f"{'.'.join(map(str, one['loc']))}: {one['msg']}" for one in error.errors())
        raise ConfigError(f"train.options: {problem}", hint=f"Options of {config.method}: {known}.") from error


def _plan(rows: int, config: TrainConfig, peak: float, **also: Any) -> Plan:
    per_epoch = -(-rows // config.batch_rows)
    steps = max(1, round(per_epoch * config.epochs))
    every = max(1, min(steps, per_epoch) // config.validations_per_epoch)
    return Plan(steps, per_epoch, config.batch_rows, peak, every, config.patience, **also)


def _peak(model: Any, codec: Codec, config: TrainConfig) -> float:
    """The learning rate: as set, else one that suits the architecture, LoRA and the size."""
    if config.learning_rate:
        return config.learning_rate
    if config.lora_rank:
        return 5e-4
    if codec.architecture == "encoder-decoder":
        return 3e-4
    return 5e-5 if model.num_parameters() < 5e8 else 2e-5


def _finish(loop: Loop, base: str, method: str) -> Student:
    """Write the best checkpoint as a plain transformers folder and forget what only a resumption needs."""
    state, model = loop.state, loop.model
    trained = sum(parameter.numel() for parameter in model.parameters() if parameter.requires_grad)
    loop.accelerator.wait_for_everyone()
    if state.best >= 0 and (best := checkpoints.load(loop.best)) is not None:
        model.load_state_dict(best[0], strict=False)
    model = merge(model)
    loop.accelerator.wait_for_everyone()  # all have read what is removed here
    if loop.accelerator.is_main_process:
        save(model, loop.codec, loop.folder)
        for leftover in (loop.unfinished, loop.best):
            checkpoints.remove(leftover)
    loop.accelerator.wait_for_everyone()
    return Student(
        folder=loop.folder,
        base=base,
        method=method,
        parameters=model.num_parameters(),
        trained_parameters=trained,
        steps=state.step,
        best_step=state.history[state.best]["step"] if state.best >= 0 else state.step,
        tokens=state.tokens,
        seconds=state.seconds,
        tokens_per_second=state.tokens / max(state.step_seconds, 1e-9),
        precision=loop.plan.precision,
        history=tuple(Checkpoint(**one) for one in state.history),
        losses=tuple(state.losses),
        notes=_notes(loop),
    )


def _notes(loop: Loop) -> tuple[str, ...]:
    """What a reader of the report should know about how the training went."""
    notes = []
    if loop.state.best < 0:
        notes.append("There were no validation rows: the last step's weights were kept, not the best.")
    if loop.state.step < loop.plan.steps:
        notes.append(f"Stopped at step {loop.state.step} of {loop.plan.steps}: the score no longer rose.")
    return tuple(notes)
