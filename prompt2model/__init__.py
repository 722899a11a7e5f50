"""One sentence in, a small language model out.

    import prompt2model as p2m

    run = p2m.build("Classify support mails as bug, billing or other.")
    run.student("The app crashes when I log in.")

Names are loaded when they are first used: `import prompt2model` imports no torch.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from prompt2model.config import Config as Config
    from prompt2model.config import load_config as load_config
    from prompt2model.pipeline import build as build
    from prompt2model.rounds import build_in_rounds as build_in_rounds
    from prompt2model.run import Run as Run
    from prompt2model.stages.evaluate import evaluate as evaluate
    from prompt2model.stages.export import export as export
    from prompt2model.stages.generate import generate as generate
    from prompt2model.stages.parse import parse as parse
    from prompt2model.stages.retrieve import retrieve as retrieve
    from prompt2model.stages.split import split as split
    from prompt2model.stages.train import train as train
    from prompt2model.teachers import open_teacher as open_teacher
    from prompt2model.trained import Trained as Trained

_HOMES = {
    "Config": "config",
    "Run": "run",
    "Trained": "trained",
    "build": "pipeline",
    "build_in_rounds": "rounds",
    "evaluate": "stages.evaluate",
    "export": "stages.export",
    "generate": "stages.generate",
    "load_config": "config",
    "open_teacher": "teachers",
    "parse": "stages.parse",
    "retrieve": "stages.retrieve",
    "split": "stages.split",
    "train": "stages.train",
}

__all__ = sorted(_HOMES)


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)


def __dir__() -> list[str]:
    return list(__all__)
