"""Writes what a person takes away: the model in each format, its card, and its task."""

import json
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from prompt2model import registry
from prompt2model.answers import as_answered
from prompt2model.conclusion import concluded
from prompt2model.config import ExportConfig
from prompt2model.errors import RunError, WeightsError
from prompt2model.model_card import model_card
from prompt2model.records import Artifact, Found, Made, Report, Splits, Student, TaskSpec

FEWEST_NEW_TOKENS = 16
MOST_NEW_TOKENS = 1024


def export(
    task: TaskSpec,
    found: Found,
    made: Made,
    splits: Splits,
    student: Student,
    report: Report,
    config: ExportConfig = ExportConfig(),
    *,
    folder: Path | str,
) -> Artifact:
    """The folder with the student in every format of `config`, README.md, generation_config.json and task.json.

    All of it is written beside the folder and put in its place at the end: a killed process leaves the old folder or
    the new one. Raises RunError when the folder cannot be written or holds something else, WeightsError when the
    student cannot be exported.
    """
    folder = Path(folder).expanduser().resolve()
    exporters = [registry.load("exporters", name) for name in config.formats]
    _check_place(folder, student.folder.resolve())
    with _written_whole(folder) as draft:
        files = [name for exporter in exporters for name in exporter.export(student.folder, draft)]
        model = _read_json(student.folder / "config.json")
        if "config.json" in files:
            _write_json(draft / "generation_config.json", _generation_config(student, splits))
        is_encoder_decoder = bool(model.get("is_encoder_decoder"))
        card = model_card(
            task, found, made, splits, student, report, name=folder.name, is_encoder_decoder=is_encoder_decoder
        )
        (draft / "README.md").write_text(card + "\n", encoding="utf-8")
        (draft / "task.json").write_text(
            as_answered(task, student.answer_after).model_dump_json(indent=1) + "\n", encoding="utf-8"
        )
        names = sorted(path.relative_to(draft).as_posix() for path in draft.rglob("*") if path.is_file())
    return Artifact(folder=folder, files=tuple(names), format=", ".join(config.formats))


def _check_place(folder: Path, student: Path) -> None:
    if folder == student or folder in student.parents:
        raise RunError(f"{folder} holds the student itself.", hint="Choose another folder to export to.")
    check_replaceable(folder)


def check_replaceable(folder: Path) -> None:
    """Raises RunError when the folder holds what is no export."""
    if folder.exists() and not _is_ours(folder):
        raise RunError(
            f"{folder} exists and is not an exported model.", hint="Choose another folder, or move this one away."
        )


def _is_ours(folder: Path) -> bool:
    """Whether the folder may be replaced: it is empty, or an export that nobody has put under version control."""
    if not folder.is_dir() or (folder / ".git").exists():
        return False
    if not any(folder.iterdir()):
        return True
    try:
        TaskSpec.model_validate_json((folder / "task.json").read_bytes())
    except (OSError, ValidationError):
        return False
    return True


@contextmanager
def _written_whole(folder: Path) -> Iterator[Path]:
    """An empty folder to write into, which takes the place of `folder` when all went well."""
    draft, old = folder.with_name(f".{folder.name}.part"), folder.with_name(f".{folder.name}.old")
    try:
        shutil.rmtree(draft, ignore_errors=True)
        draft.mkdir(parents=True)
        yield draft
        shutil.rmtree(old, ignore_errors=True)
        if folder.exists():
            folder.rename(old)
        draft.rename(folder)
        shutil.rmtree(old, ignore_errors=True)
    except OSError as error:
        raise RunError(f"{folder} cannot be written: {error.strerror or error}.", hint="Is the disk full?") from error
    finally:
        shutil.rmtree(draft, ignore_errors=True)


def _generation_config(student: Student, splits: Splits) -> dict[str, Any]:
    """How `generate` is to answer: the likeliest token each time, as long as the training rows' outputs allow."""
    folder = student.folder
    tokenizer = _tokenizer(folder)
    kept = _read_json(folder / "generation_config.json") or _read_json(folder / "config.json")
    ends = {
        name: kept[name] for name in ("bos_token_id", "decoder_start_token_id", "forced_bos_token_id") if name in kept
    }
    end = kept.get("eos_token_id", tokenizer.eos_token_id)
    written = [
        concluded(row.rationale or "", row.output) if student.answer_after else row.output for row in splits.train
    ]
    longest = max((len(tokenizer(text).input_ids) for text in written), default=0)
    return {
        **{name: token for name, token in ends.items() if token is not None},
        "eos_token_id": end,
        "pad_token_id": next(id for id in (kept.get("pad_token_id"), tokenizer.pad_token_id, end) if id is not None),
        "do_sample": False,
        "max_new_tokens": max(min(max(2 * longest, FEWEST_NEW_TOKENS), MOST_NEW_TOKENS), student.longest_tokens),
    }


def _tokenizer(student: Path) -> Any:
    from transformers import AutoTokenizer

    try:
        return AutoTokenizer.from_pretrained(student, trust_remote_code=False)
    except (OSError, ValueError, KeyError) as error:
        raise WeightsError(f"The tokenizer in {student} cannot be loaded: {error}.", hint="Train it again.") from error


def _read_json(path: Path) -> dict[str, Any]:
    """The file's object; an empty one when there is no such file."""
    return dict(json.loads(path.read_text(encoding="utf-8"))) if path.is_file() else {}


def _write_json(path: Path, value: dict[str, Any]) -> None:
    path.write_text(json.dumps(value, indent=2) + "\n", encoding="utf-8")
