"""Passages of a plain text at random places: what a student that learns a task should go on being able to say."""

from pathlib import Path
from random import Random

from prompt2model.batches import Codec, Row
from prompt2model.errors import DataError

BYTES_PER_TOKEN = 8
"""Enough to fill the passage in nearly any language; what is too much is cut off."""


def passage(file: Path, codec: Codec, tokens: int, seed: int, *, part: str) -> Row:
    """At most so many tokens from a place that the seed chooses, as a row; the file is read there alone.

    A decoder reads the first token and writes the rest, an encoder-decoder reads the first half and writes the second
    (the prefix language model of Raffel et al., 2020, https://arxiv.org/abs/1910.10683, section 3.2.1). No end is put
    where the text has none. Raises DataError for a file without two tokens of text.
    """
    ids = codec.completion(_read(file, tokens * BYTES_PER_TOKEN, seed), ended=False)[:tokens]
    if len(ids) < 2:
        raise DataError(f"{file} has no text to learn from.", hint="Name a file of plain text in UTF-8.")
    border = 1 if codec.architecture == "decoder" else len(ids) // 2
    return Row(ids[:border], ids[border:], part=part)


def _read(file: Path, size_bytes: int, seed: int) -> str:
    """The text from a random place, from the first whole word on."""
    with file.open("rb") as text:
        latest = max(0, file.stat().st_size - size_bytes)
        start = Random(seed).randint(0, latest)  # noqa: S311 - not for secrets
        text.seek(start)
        found = text.read(size_bytes).decode("utf-8", errors="ignore")
    return found.split(maxsplit=1)[-1] if start and found.strip() else found
