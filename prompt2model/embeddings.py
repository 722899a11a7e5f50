"""Texts as directions: sentence embeddings, from the optional package sentence-transformers."""

import os
from collections.abc import Sequence
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from prompt2model import progress, weights
from prompt2model.errors import MissingExtra, WeightsError

MODEL = "sentence-transformers/all-MiniLM-L6-v2"
"""Apache-2.0, 22M parameters, 384 dimensions."""
ELSEWHERE = "PROMPT2MODEL_EMBEDDINGS"
"""The environment variable that names another model: a folder, or a Hub id."""


def embed(texts: Sequence[str]) -> Any:
    """The texts' embeddings, (texts, dimensions), each of length 1.

    Raises MissingExtra without sentence-transformers, and WeightsError when the model cannot be had.
    """
    encoder = _encoder(_model())
    return encoder.encode(list(texts), normalize_embeddings=True, show_progress_bar=False)


def is_at_hand() -> bool:
    """Whether texts can be embedded now, without a download."""
    return find_spec("sentence_transformers") is not None and weights.at_hand(_model())


def _model() -> str:
    return os.environ.get(ELSEWHERE) or MODEL


@cache
def _encoder(model: str) -> Any:
    if find_spec("sentence_transformers") is None:
        raise MissingExtra("sentence-transformers", extra="rerank")
    from sentence_transformers import SentenceTransformer  # loads torch

    with progress.quiet():
        return SentenceTransformer(str(_fetched(model)), device="cpu", trust_remote_code=False)


def _fetched(model: str) -> Path:
    try:
        return weights.fetch(model)
    except WeightsError as error:
        hint = f"{error.hint} {ELSEWHERE} names another such model, or a folder with one."
        raise WeightsError(error.message, hint=hint) from error
