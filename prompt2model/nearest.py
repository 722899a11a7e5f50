"""The examples nearest in meaning to a text, by sentence embeddings."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from prompt2model.errors import MissingExtra, WeightsError
from prompt2model.records import Example


class Nearest:
    """Examples that can be asked which of them are nearest to a text, by the cosine of their inputs' embeddings."""

    def __init__(self, examples: Sequence[Example], model: str) -> None:
        """Raises MissingExtra without sentence-transformers, and WeightsError when the model cannot be had."""
        self.examples = examples
        self._encoder = _encoder(model)
        self._embeddings = self._embed([example.input for example in examples])  # (E, D)

    def find(self, texts: Sequence[str], count: int) -> list[list[Example]]:
        """For each text its `count` nearest examples, the nearest last, where a prompt is read with most attention."""
        if not texts or not self.examples or not count:
            return [[] for _ in texts]
        cosines = self._embed(texts) @ self._embeddings.T  # (T, E)
        ranked = np.argsort(cosines, axis=1, kind="stable")[:, -count:]  # (T, count)
        return [[self.examples[place] for place in places] for places in ranked]

    def _embed(self, texts: Sequence[str]) -> Any:
        """(texts, dimensions), each of length 1."""
        return self._encoder.encode(list(texts), normalize_embeddings=True, show_progress_bar=False)


def _encoder(model: str) -> Any:
    try:
        from sentence_transformers import SentenceTransformer
    except ModuleNotFoundError as error:
        raise MissingExtra("sentence-transformers", extra="rerank") from error
    try:
        return SentenceTransformer(model, device="cpu", trust_remote_code=False)
    except (OSError, ValueError) as error:
        raise WeightsError(
            f"The embedding model {model} cannot be loaded: {error}.",
            hint="Name a folder or another model: --set generate.options.nearest_examples.model=FOLDER",
        ) from error
