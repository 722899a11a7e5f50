"""A run's folder: each stage leaves one readable file, and what has not changed is read back, not made again."""

import hashlib
import json
import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

from filelock import FileLock, Timeout
from pydantic import BaseModel, ValidationError

from prompt2model.errors import RunError

R = TypeVar("R", bound=BaseModel)

MINIMUM_FREE_BYTES = 500_000_000
UNREADABLE = (json.JSONDecodeError, UnicodeDecodeError, KeyError, TypeError, ValidationError)
"""What a file raises that is half written, or written by another version."""


def open_run(folder: Path) -> Path:
    """The folder, created if need be. Raises RunError when it cannot be written or the disk is nearly full."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        (folder / ".writable").write_text("")
        (folder / ".writable").unlink()
    except OSError as error:
        raise RunError(
            f"The folder {folder} cannot be written: {error.strerror}.", hint="Choose another with --out."
        ) from error
    free = shutil.disk_usage(folder).free
    if free < MINIMUM_FREE_BYTES:
        raise RunError(
            f"Only {free / 1e6:.0f} MB are free at {folder}; a run needs at least {MINIMUM_FREE_BYTES / 1e6:.0f} MB.",
            hint="Free some space, or choose another disk with --out.",
        )
    return folder


@contextmanager
def alone(run: Path) -> Iterator[None]:
    """Keeps a second process out of the run. Raises RunError where one is at work, or the folder cannot be written."""
    lock = FileLock(run / ".lock")
    try:
        lock.acquire(timeout=0)
    except Timeout as error:
        raise RunError(f"Another process is working on {run}.", hint="Wait for it, or choose another --out.") from error
    except OSError as error:
        raise RunError(
            f"The folder {run} cannot be written: {error.strerror}.", hint="Copy it to where you may write."
        ) from error
    try:
        yield
    finally:
        lock.release()


def once(run: Path, stage: str, record: type[R], make: Callable[[], R], *, depends_on: Any) -> R:
    """The stage's record: read back when everything in `depends_on` is as it was, else made and written.

    Folders that the record names must still exist. Raises RunError when the file cannot be written.
    """
    path, key = run / f"{stage}.json", digest(depends_on)
    kept = _read(path, key, record)
    if kept is not None:
        return kept
    made = make()
    write_json(path, {"key": key, "stage": stage, "record": made.model_dump(mode="json")})
    return made


def is_made(run: Path, stage: str, record: type[R], *, depends_on: Any) -> bool:
    """Whether `once` would read the record back."""
    return _read(run / f"{stage}.json", digest(depends_on), record) is not None


def read(run: Path, stage: str, record: type[R]) -> R:
    """What a finished stage left, whatever it depended on. Raises RunError when there is nothing."""
    path = run / f"{stage}.json"
    if not path.is_file():
        rounds = sorted(run.glob("round-*"), key=lambda folder: folder.stat().st_mtime)
        raise RunError(
            f"{run} has no {path.name}: the stage {stage!r} has not been finished there.",
            hint=f"Its rounds are runs: {rounds[-1]}"
            if rounds
            else f"Finish the run first: prompt2model build … --out {run}",
        )
    try:
        return record.model_validate(json.loads(path.read_text(encoding="utf-8"))["record"])
    except (OSError, *UNREADABLE) as error:
        raise RunError(
            f"{path} cannot be read: another version wrote it, or it is damaged.",
            hint=f"Make it again: delete {path.name}, then prompt2model build … --out {run}",
        ) from error


def digest(value: Any) -> str:
    """The SHA-256 of a value's canonical JSON; records and paths may be in it."""
    text = json.dumps(value, sort_keys=True, ensure_ascii=False, default=_plain)
    return hashlib.sha256(text.encode()).hexdigest()


def write_json(path: Path, value: Any) -> None:
    """Write beside the file and rename: a killed process leaves the old file or the new one, never half of one."""
    draft = path.with_suffix(path.suffix + ".part")
    try:
        with draft.open("w", encoding="utf-8") as file:
            json.dump(value, file, ensure_ascii=False, indent=1, default=_plain)
            file.flush()
            os.fsync(file.fileno())
        draft.replace(path)
    except OSError as error:
        raise RunError(f"{path} cannot be written: {error.strerror}.", hint="Is the disk full?") from error


def _read(path: Path, key: str, record: type[R]) -> R | None:
    """The kept record, or none when the file is missing, made from something else, or not what this version writes."""
    try:
        kept = json.loads(path.read_text(encoding="utf-8"))
        if kept["key"] != key:
            return None
        made = record.model_validate(kept["record"])
    except (FileNotFoundError, *UNREADABLE):
        return None
    except OSError as error:
        raise RunError(f"{path} cannot be read: {error.strerror}.", hint="Choose another folder with --out.") from error
    folder = getattr(made, "folder", None)
    return None if folder is not None and not Path(folder).is_dir() else made


def _plain(value: Any) -> Any:
    """What JSON has no word for; an object of any other type has no text that stays the same, so it is refused."""
    if isinstance(value, BaseModel):
        return value.model_dump(mode="json")
    if isinstance(value, (set, frozenset)):
        return sorted(value)
    if isinstance(value, Path):
        return str(value)
    raise TypeError(f"{type(value).__name__} cannot be kept as JSON")
