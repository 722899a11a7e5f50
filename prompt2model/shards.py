"""Which files of a data-set repository hold which configuration and split. Names only; nothing is read."""

import re
from collections.abc import Mapping, Sequence
from fnmatch import fnmatch
from pathlib import PurePosixPath
from typing import Any

from prompt2model.errors import DataError

Shards = dict[str, dict[str, list[str]]]
"""Configuration -> split -> the paths of its files, in order."""

READABLE = (".parquet", ".csv", ".tsv", ".jsonl", ".ndjson", ".json")
SPLIT_WORDS = {
    "train": "train",
    "training": "train",
    "validation": "validation",
    "valid": "validation",
    "val": "validation",
    "dev": "validation",
    "test": "test",
    "testing": "test",
    "eval": "test",
    "evaluation": "test",
}


def choose(shards: Shards, config: str, split: str, *, id: str, default: str = "") -> tuple[str, str]:
    """The configuration and the split meant. Raises DataError, with the names there are, when that is not clear."""
    wanted = config or default or next((name for name in ("default", id.split("/")[-1]) if name in shards), "")
    if not wanted and len(shards) == 1:
        wanted = next(iter(shards))
    if wanted not in shards:
        raise DataError(
            f"The data set {id} has no configuration {wanted!r}." if wanted else f"{id} has several configurations.",
            hint=f"Name one as {id}:NAME, where NAME is one of {', '.join(sorted(shards))}.",
        )
    splits = shards[wanted]
    part = split or ("train" if "train" in splits else next(iter(splits)) if len(splits) == 1 else "")
    if part not in splits:
        raise DataError(
            f"The data set {id} has no split {part or 'train'!r}.",
            hint=f"Name one as {id}@NAME, where NAME is one of {', '.join(sorted(splits))}.",
        )
    return wanted, part


def converted(paths: Sequence[str]) -> Shards:
    """The Hub's own Parquet copy, laid out as `config/split/0000.parquet`; a copy cut short says `partial-split`."""
    found: Shards = {}
    for path in sorted(paths):
        if path.endswith(".parquet") and path.count("/") == 2:
            config, split, _ = path.split("/")
            found.setdefault(config, {}).setdefault(split.removeprefix("partial-"), []).append(path)
    return found


def declared(paths: Sequence[str], configs: Sequence[Mapping[str, Any]]) -> Shards:
    """What the data set's card says under `configs`: a list of `config_name` and `data_files` with glob patterns."""
    found: Shards = {}
    for config in configs:
        for split, patterns in _patterns(config.get("data_files")):
            folder = str(config.get("data_dir") or "").strip("/")
            globs = [f"{folder}/{pattern}" if folder else pattern for pattern in patterns]
            matched = [path for path in sorted(paths) if is_readable(path) and any(fnmatch(path, g) for g in globs)]
            if matched:
                found.setdefault(str(config.get("config_name", "default")), {}).setdefault(split, []).extend(matched)
    return found


def named(paths: Sequence[str]) -> Shards:
    """What the files' names say: `train.csv`, `data/dev-00000.parquet`. A name that says no split is for training."""
    splits: dict[str, list[str]] = {}
    for path in sorted(paths):
        if is_readable(path):
            words = reversed(re.findall(r"[a-z]+", path.lower()))
            splits.setdefault(next((SPLIT_WORDS[word] for word in words if word in SPLIT_WORDS), "train"), []).append(
                path
            )
    return {"default": splits} if splits else {}


def is_readable(path: str) -> bool:
    """Whether the name ends in a format of rows, perhaps compressed, and is not the repository's own bookkeeping."""
    name = PurePosixPath(path).name
    return name.removesuffix(".gz").endswith(READABLE) and name not in ("dataset_infos.json", "config.json")


def _patterns(data_files: Any) -> list[tuple[str, list[str]]]:
    """(split, patterns) from the three shapes that cards use: a pattern, patterns, or `split` and `path` pairs."""
    entries = data_files if isinstance(data_files, list) else [data_files] if data_files else []
    pairs = []
    for entry in entries:
        split, path = (
            (entry.get("split", "train"), entry.get("path", [])) if isinstance(entry, dict) else ("train", entry)
        )
        pairs.append((str(split), [path] if isinstance(path, str) else list(path)))
    return pairs
