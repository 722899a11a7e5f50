"""Training interrupted and taken up again: tensors as safetensors, numbers as JSON, written whole or not at all."""

import json
import shutil
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from prompt2model.errors import RunError

Kept = tuple[dict[str, Tensor], dict[str, Any]]
"""The tensors and the numbers of a checkpoint."""

TENSORS, NUMBERS = "tensors.safetensors", "numbers.json"


def save(folder: Path, tensors: dict[str, Tensor], numbers: dict[str, Any]) -> None:
    """Replace the checkpoint in `folder`. Raises RunError, and leaves the old one, when the disk is full."""
    draft, old = _beside(folder, ".part"), _beside(folder, ".old")
    try:
        shutil.rmtree(draft, ignore_errors=True)
        draft.mkdir(parents=True)
        save_file({name: tensor.contiguous() for name, tensor in tensors.items()}, draft / TENSORS)
        (draft / NUMBERS).write_text(json.dumps(numbers), encoding="utf-8")
        if folder.exists():
            shutil.rmtree(old, ignore_errors=True)
            folder.rename(old)
        draft.rename(folder)
        shutil.rmtree(old, ignore_errors=True)
    except (OSError, SafetensorError) as error:
        shutil.rmtree(draft, ignore_errors=True)
        raise RunError(f"The checkpoint {folder} cannot be written: {error}", hint="Is the disk full?") from error


def load(folder: Path) -> Kept | None:
    """The last whole checkpoint, or None. Raises RunError when it is damaged."""
    for place in (folder, _beside(folder, ".old")):
        if (place / NUMBERS).is_file():
            try:
                return load_file(place / TENSORS), json.loads((place / NUMBERS).read_text("utf-8"))
            except (OSError, SafetensorError, ValueError) as error:
                raise RunError(
                    f"The checkpoint {place} cannot be read: {error}", hint="Delete it to train from the start."
                ) from error
    return None


def remove(folder: Path) -> None:
    """Delete the checkpoint and what a killed process left beside it."""
    for place in (folder, _beside(folder, ".part"), _beside(folder, ".old")):
        shutil.rmtree(place, ignore_errors=True)


def _beside(folder: Path, suffix: str) -> Path:
    return folder.with_name(folder.name + suffix)
