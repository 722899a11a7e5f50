"""A model in rounds: after the first training more is written like what the student found hard, and it learns anew.

Each round is a run in a folder of its own, later ones by the strategy `hard_cases`. The count of rows grows evenly up
to the one that was asked for, and one budget holds for all.
"""

from pathlib import Path
from typing import Any, NamedTuple

from prompt2model import registry
from prompt2model.config import Config, load_config
from prompt2model.description import read_description
from prompt2model.errors import ConfigError
from prompt2model.pipeline import Listener, build, default_folder
from prompt2model.run import Run

HARD = "hard_cases"


class Round(NamedTuple):
    """One of them."""

    folder: Path
    config: Config
    book: Path | None = None
    """What all of them have spent."""


def build_in_rounds(
    description: str | Path,
    *,
    rounds: int,
    out: Path | str | None = None,
    config: Config | None = None,
    listener: Listener = lambda stage, record: None,
    **flags: Any,
) -> list[Run]:
    """The runs of all rounds, the last of which has the model: `build` so many times, each after the one before.

    All else is as in `build`. Raises ConfigError where no rows are to be written, besides what `build` raises.
    """
    config = config or load_config(**flags)
    text = read_description(description, max_characters=config.parse.max_characters)
    planned = in_rounds(config, rounds, Path(out) if out else default_folder(text))
    return [build(text, out=one.folder, config=one.config, listener=listener, book=one.book) for one in planned]


def in_rounds(config: Config, rounds: int, folder: Path) -> list[Round]:
    """Where each round goes, and its settings. Raises ConfigError where no rows are to be written."""
    if not config.generate.count:
        raise ConfigError(
            "A round has rows written, and generate.count is 0.", hint="Leave out --rounds, or set --count."
        )
    folders = [folder / f"round-{number}" for number in range(1, rounds + 1)]
    configs = [_first(config, rounds), *(_later(config, before, at, rounds) for at, before in enumerate(folders, 2))]
    return [Round(own, how, folder / "spent.jsonl") for own, how in zip(folders, configs, strict=False)]


def _first(config: Config, rounds: int) -> Config:
    """The settings as they are, for fewer rows."""
    asked = {strategy.partition(":")[0] for strategy in config.generate.strategies}
    options = {name: of for name, of in config.generate.options.items() if name != HARD or HARD in asked}
    return _with(config, count=-(-config.generate.count // rounds), options=options)


def _later(config: Config, before: Path, number: int, rounds: int) -> Config:
    """The settings for what follows the run in the folder `before`."""
    others = set(registry.names("strategies")) - {HARD}
    options = {name: of for name, of in config.generate.options.items() if name not in others}
    options[HARD] = {**options.get(HARD, {}), "run": str(before)}
    return _with(config, count=-(-config.generate.count * number // rounds), options=options, strategies=(HARD,))


def _with(config: Config, **generate: Any) -> Config:
    return config.model_copy(update={"generate": config.generate.model_copy(update=generate)})
