"""Where a description comes from: a sentence, a file, or standard input."""

import codecs
import re
import sys
from pathlib import Path

from prompt2model.config import ParseConfig
from prompt2model.errors import TaskError

FILE_ENDINGS = (".md", ".markdown", ".txt", ".json", ".yaml", ".yml")
PATH = re.compile(r"^[~\w.-]+\.[A-Za-z]\w{1,7}$|\\")
"""A name with an ending, or a path as Windows writes it."""
MAX_CHARACTERS: int = ParseConfig().max_characters


def read_description(source: str | Path, *, max_characters: int = MAX_CHARACTERS) -> str:
    """The description's text: of a file, of standard input for "-", else `source` itself.

    Raises TaskError when it is empty, binary, too long, or names a file that is not there.
    """
    if isinstance(source, Path) or _names_a_file(source):
        return check_description(_read_file(Path(source), max_characters), max_characters)
    if source.strip() == "-":
        return check_description(_decode(sys.stdin.buffer.read(), "Standard input"), max_characters)
    return check_description(source, max_characters)


def check_description(text: str, max_characters: int = MAX_CHARACTERS) -> str:
    """The text with plain line ends. Raises TaskError when it is empty, binary or too long."""
    if not text.strip("\ufeff\u200b \t\r\n\v\f\xa0\u3000"):
        raise TaskError("The description is empty.", hint="Say in a sentence what the model is to do.")
    if "\0" in text:
        raise _binary("The description")
    if len(text) > max_characters:
        raise _too_long(f"{len(text):,} characters", max_characters)
    return text.removeprefix("\ufeff").replace("\r\n", "\n").replace("\r", "\n")


def _names_a_file(source: str) -> bool:
    """Whether a file is meant: it is there, or it is a path, which has a slash or an ending and no space.

    Sentences of languages that set no spaces may have slashes, but not in ASCII alone.
    """
    name = source.strip()
    if not name or "\n" in name or "\0" in name:
        return False
    is_path = name.isascii() and " " not in name and ("/" in name or PATH.search(name) is not None)
    has_ending = name.lower().endswith(FILE_ENDINGS) and " " not in name
    return is_path or has_ending or _is_there(Path(name).expanduser())


def _is_there(path: Path) -> bool:
    try:
        return path.exists()
    except OSError:  # longer than a file's name may be
        return False


def _read_file(path: Path, max_characters: int) -> str:
    path = Path(str(path).strip()).expanduser()
    try:
        size_bytes = path.stat().st_size
        if size_bytes > 4 * max_characters:  # more than UTF-8 needs for that many
            raise _too_long(f"{path}: {size_bytes:,} bytes", max_characters)
        return _decode(path.read_bytes(), str(path))
    except FileNotFoundError as error:
        raise TaskError(
            f"There is no file {path}.", hint="Check the path, or write the description itself in quotes."
        ) from error
    except OSError as error:
        raise TaskError(f"{path} cannot be read: {error.strerror}.", hint="Name a text file.") from error


def _decode(raw: bytes, what: str) -> str:
    """UTF-8, or UTF-16 where the file says so in its first two bytes."""
    encoding = "utf-16" if raw.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)) else "utf-8-sig"
    try:
        return raw.decode(encoding)
    except UnicodeDecodeError as error:
        raise _binary(what) from error


def _binary(what: str) -> TaskError:
    return TaskError(f"{what} is not text.", hint="Save the description as plain UTF-8 text.")


def _too_long(size: str, max_characters: int) -> TaskError:
    return TaskError(
        f"The description is too long ({size}); at most {max_characters:,} characters are read.",
        hint="Keep the instruction and a few examples, and give rows with --data; or raise parse.max_characters.",
    )
