"""The one folder outside a run that is written to: converted weights, teacher replies, what rows in no file cost."""

import os
from pathlib import Path


def home() -> Path:
    """The user's cache folder, created if need be; `PROMPT2MODEL_HOME` moves it."""
    chosen = os.environ.get("PROMPT2MODEL_HOME")
    cache = Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache"))
    folder = Path(chosen).expanduser() if chosen else cache / "prompt2model"
    folder.mkdir(parents=True, exist_ok=True)
    return folder
