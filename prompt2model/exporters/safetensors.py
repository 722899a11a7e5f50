"""A folder that plain transformers loads: safetensors weights, tokenizer and chat template.

Only files that can hold no code are copied; a student with pickled weights, or one that asks for remote code, is
refused.
"""

import json
import shutil
from pathlib import Path

from safetensors import SafetensorError, safe_open

from prompt2model.errors import WeightsError

EXTRA = None

COPIED = (".safetensors", ".json", ".jinja", ".txt", ".model")
"""Weights, configuration, chat template, and the vocabularies of tokenizers."""
PICKLED = (".bin", ".pt", ".pth", ".pkl", ".pickle", ".ckpt", ".joblib")
PRIVATE_KEYS = ("_name_or_path", "name_or_path")
"""Where on this machine the base model lay."""


def export(student: Path, folder: Path) -> tuple[str, ...]:
    """The names of the files copied. Raises WeightsError when the student is incomplete or could run code."""
    files = sorted(path for path in student.iterdir() if path.is_file())
    _check(student, files)
    copied = [path for path in files if path.suffix in COPIED]
    for path in copied:
        if path.suffix == ".json":
            _copy_json(path, folder / path.name)
        else:
            shutil.copyfile(path, folder / path.name)
    return tuple(path.name for path in copied)


def _check(student: Path, files: list[Path]) -> None:
    pickled = [path.name for path in files if path.suffix in PICKLED]
    if pickled:
        raise WeightsError(f"{student} holds pickled files: {', '.join(pickled)}.", hint="Save it as safetensors.")
    weights = [path for path in files if path.suffix == ".safetensors"]
    names = {path.name for path in files}
    missing = {"config.json", "tokenizer_config.json"} - names
    if missing or not weights:
        lacking = ", ".join(sorted(missing) or ["*.safetensors"])
        raise WeightsError(f"{student} is no whole model: {lacking} is missing.", hint="Train the student first.")
    for path in weights:
        _check_weights(path)
    if "auto_map" in json.loads((student / "config.json").read_text(encoding="utf-8")):
        raise WeightsError(
            f"{student} needs code of its own to be loaded.", hint="Choose a base model without auto_map."
        )


def _check_weights(path: Path) -> None:
    try:
        with safe_open(path, framework="numpy") as weights:
            is_adapter = any("lora_" in name for name in weights.keys())  # noqa: SIM118 - not a dict
    except SafetensorError as error:
        raise WeightsError(f"{path} cannot be read: {error}.", hint="Train the student again.") from error
    if is_adapter:
        raise WeightsError(f"{path} holds LoRA adapters that are not merged.", hint="Train the student again.")


def _copy_json(source: Path, target: Path) -> None:
    """The file without the keys that name folders of this machine."""
    value = json.loads(source.read_text(encoding="utf-8"))
    if not isinstance(value, dict) or not any(key in value for key in PRIVATE_KEYS):
        shutil.copyfile(source, target)
        return
    kept = {key: inner for key, inner in value.items() if key not in PRIVATE_KEYS}
    target.write_text(json.dumps(kept, ensure_ascii=False, indent=2) + "\n", encoding="utf-8")
