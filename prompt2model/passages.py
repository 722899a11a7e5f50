"""Passages of a plain text at random places: what a student that learns a task should go on being able to say."""

from collections import Counter
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from random import Random
from typing import Any

from prompt2model.batches import Codec, Row
from prompt2model.config import RetrieveConfig
from prompt2model.errors import DataError
from prompt2model.home import home
from prompt2model.rows import is_on_hub, read_raw
from prompt2model.store import digest

MOST_ROWS = 10_000
"""Of a data set on the Hub: more text than a student meets passages of."""
BYTES_PER_TOKEN = 8
"""Enough to fill the passage in nearly any language; what is too much is cut off."""


def check_plain_text(source: str) -> None:
    """Raises DataError when the source is neither a file nor named as a data set on the Hub is."""
    if not is_on_hub(source) and not Path(source).expanduser().is_file():
        raise DataError(
            f"There is no file {source}.", hint="Name a file of plain text, or a data set on the Hub: owner/name."
        )


@cache
def plain_text(source: str) -> Path:
    """The file of that name; of a data set on the Hub one with its texts, written once into the user's cache folder.

    Its texts are those of the column with the longest ones. Raises DataError when there is no such file or no text,
    HubError when the Hub refuses.
    """
    check_plain_text(source)
    if not is_on_hub(source):
        return Path(source).expanduser()
    file = home() / "texts" / f"{digest(source)[:24]}.txt"
    if not file.is_file():
        name, rows = read_raw(source, RetrieveConfig(max_rows=MOST_ROWS))
        file.parent.mkdir(exist_ok=True)
        draft = file.with_suffix(f".{Random().getrandbits(32):x}.part")  # noqa: S311 - a name, for two processes at once
        draft.write_text("\n\n".join(_texts(name, rows)), encoding="utf-8")
        draft.replace(file)
    return file


def _texts(name: str, rows: Sequence[dict[str, Any]]) -> list[str]:
    """The texts of the column with the longest ones."""
    lengths = Counter[str]()
    for row in rows:
        lengths.update({column: len(value) for column, value in row.items() if isinstance(value, str)})
    if not lengths:
        raise DataError(f"{name} has no column of text.", hint="Name a file of plain text in UTF-8.")
    [(longest, _)] = lengths.most_common(1)
    return [row[longest] for row in rows if isinstance(row.get(longest), str)]


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
