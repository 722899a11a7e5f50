"""A teacher's distributions along given texts, k tokens of each, computed once and kept on disk.

They lie under `distributions/` in the user's cache folder, a folder for each teacher, tokenizer and `Recipe`, in it
parts of some hundred rows as safetensors. A part is written whole or not at all, so that what a killed process had
finished is there when it is started again.
"""

import hashlib
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from accelerate import PartialState
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor

from prompt2model import progress, store
from prompt2model.batches import Codec, Row
from prompt2model.errors import RunError
from prompt2model.heads import ending
from prompt2model.home import home
from prompt2model.losses import sampled_forward_kl, top_k_forward_kl
from prompt2model.memory import in_batches
from prompt2model.student import LocalModel

PART_ROWS = 512
"""Rows in a file: what a killed process loses at most."""

CHUNK_TOKENS = 256
"""Tokens whose whole distributions exist at the same time; they are summed up in float64."""

DIVERGENCES = {"top_k": top_k_forward_kl, "sampled": sampled_forward_kl}
"""The loss that goes with each kind of `Recipe`."""


@dataclass(frozen=True)
class Recipe:
    """What is kept of a distribution: its k likeliest tokens, or k tokens drawn from it (with replacement)."""

    kind: Literal["top_k", "sampled"]
    k: int
    temperature: float = 1.0
    seed: int = 0
    """Of the draws."""


def with_distributions(rows: Sequence[Row], teacher: LocalModel, codec: Codec, recipe: Recipe) -> list[Row]:
    """The rows with `ids` and `log_p`, (T, k) each, among their signals: read back, or computed and kept first.

    Several processes share the work, and each gets the whole. All of it is in memory in the end: 512 bytes a token for
    k = 64. Raises RunError when the folder cannot be written, or a file in it is damaged.
    """
    folder, by_name = _folder(teacher, codec, recipe), {_name(row): row for row in rows}
    state = PartialState()
    missing = sorted(by_name.keys() - _kept(folder).keys())
    _make(missing[state.process_index :: state.num_processes], by_name, teacher, codec, recipe, folder)
    state.wait_for_everyone()
    elsewhere = sorted(by_name.keys() - _kept(folder).keys())  # on a machine with another disk
    _make(elsewhere, by_name, teacher, codec, recipe, folder)
    found = _read(path for name, path in _kept(folder).items() if name in by_name)
    return [replace(row, signals={**row.signals, **_signals(_name(row), found)}) for row in rows]


def _signals(name: str, found: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {key: found[f"{name}.{key}"] for key in ("ids", "log_p")}


def _folder(teacher: LocalModel, codec: Codec, recipe: Recipe) -> Path:
    vocabulary = sorted(codec.tokenizer.get_vocab().items())
    drawn = (recipe.seed,) if recipe.kind == "sampled" else ()
    how = (recipe.kind, recipe.k, recipe.temperature, *drawn)
    made_of = (teacher.identity, str(teacher.model.dtype), vocabulary, how)
    return home() / "distributions" / store.digest(made_of)[:24]


def _name(row: Row) -> str:
    """A row's own: the tokens that the teacher reads."""
    seen = _seen(row)
    return hashlib.sha256(f"{seen.prompt}{seen.completion}".encode()).hexdigest()[:32]


def _seen(row: Row) -> Row:
    return Row(row.prompt if row.teacher_prompt is None else row.teacher_prompt, row.completion)


def _make(
    names: Sequence[str], rows: Mapping[str, Row], teacher: LocalModel, codec: Codec, recipe: Recipe, folder: Path
) -> None:
    """Compute and keep the distributions of these rows, part by part."""
    seen = [(name, _seen(rows[name])) for name in names]

    def computed(batch: list[int]) -> dict[str, Tensor]:
        return _computed([seen[index] for index in batch], teacher, codec, recipe)

    batches = in_batches([len(row) for _, row in seen], teacher.batch_rows, computed)
    with progress.task("asking the teacher for distributions", total=len(seen)) as advance:
        while part := list(islice(batches, max(1, PART_ROWS // teacher.batch_rows))):
            tensors: dict[str, Tensor] = {}
            for batch, found in part:
                tensors |= found
                advance(len(batch))
            _write(folder, tensors)


@torch.no_grad()
def _computed(rows: Sequence[tuple[str, Row]], teacher: LocalModel, codec: Codec, recipe: Recipe) -> dict[str, Tensor]:
    end = ending(teacher.model, codec.collate([row for _, row in rows]).to(teacher.model.device))
    draws = torch.from_numpy(np.concatenate([_draws(name, len(row.completion), recipe) for name, row in rows]))
    parts = []
    for start in range(0, len(end.states), CHUNK_TOKENS):
        place = slice(start, start + CHUNK_TOKENS)
        logits = end.head(end.states[place])[:, : len(codec.tokenizer)]
        ids, log_p = _few((logits.float() / recipe.temperature).log_softmax(-1), draws[place], recipe)
        parts.append((ids.int().cpu(), log_p.cpu()))
    all_ids, all_log_p = (torch.cat(tensors) for tensors in zip(*parts, strict=True))
    start, found = 0, dict[str, Tensor]()
    for name, row in rows:
        place = slice(start, start := start + len(row.completion))
        found |= {f"{name}.ids": all_ids[place].clone(), f"{name}.log_p": all_log_p[place].clone()}
    return found


def _few(log_p: Tensor, draws: Tensor, recipe: Recipe) -> tuple[Tensor, Tensor]:
    """The ids of k tokens and their log-probabilities. (n, V), (n, k) -> (n, k), (n, k)."""
    if recipe.kind == "top_k":
        values, ids = log_p.topk(min(recipe.k, log_p.shape[-1]), -1)
        return ids, values
    cumulative = log_p.double().exp().cumsum(-1)  # inverse transform sampling
    ids = torch.searchsorted(cumulative, draws.to(cumulative.device) * cumulative[:, -1:], right=True)
    ids = ids.clamp(max=log_p.shape[-1] - 1)
    return ids, log_p.gather(-1, ids)


def _draws(name: str, tokens: int, recipe: Recipe) -> "np.ndarray[tuple[int, int], np.dtype[np.float64]]":
    """Uniform numbers that depend on the row and the seed alone, not on the row's company."""
    if recipe.kind == "top_k":
        return np.empty((tokens, 0))
    return np.random.default_rng([int(name, 16), recipe.seed]).random((tokens, recipe.k))


def _write(folder: Path, tensors: dict[str, Tensor]) -> None:
    """One part. Its name follows from its rows, so that processes that make the same one do not collide."""
    path = folder / f"{store.digest(sorted(tensors))[:24]}.safetensors"
    draft = path.with_suffix(f".{os.getpid()}.part")
    try:
        folder.mkdir(parents=True, exist_ok=True)
        save_file({name: tensor.contiguous() for name, tensor in tensors.items()}, draft)
        draft.replace(path)
    except (OSError, SafetensorError) as error:
        draft.unlink(missing_ok=True)
        raise RunError(f"The distributions {path} cannot be written: {error}", hint="Is the disk full?") from error


def _kept(folder: Path) -> dict[str, Path]:
    """Which part holds each row."""
    found: dict[str, Path] = {}
    for path in sorted(folder.glob("*.safetensors")):
        with _readable(path), safe_open(path, "pt") as part:
            found |= {key.removesuffix(".ids"): path for key in part.keys() if key.endswith(".ids")}  # noqa: SIM118
    return found


def _read(paths: Iterable[Path]) -> dict[str, Tensor]:
    """Everything in these parts, by row and kind."""
    found: dict[str, Tensor] = {}
    for path in sorted(set(paths)):
        with _readable(path):
            found |= load_file(path)
    return found


@contextmanager
def _readable(path: Path) -> Iterator[None]:
    try:
        yield
    except (OSError, SafetensorError) as error:
        raise RunError(f"{path} cannot be read: {error}", hint="Delete it; it is computed again.") from error
