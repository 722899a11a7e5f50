"""The command line as tests use it: called in this process, with what it printed; and a teacher that needs no model."""

import io
import json
import random
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

from prompt2model.cli import run

WORDS = "film story actor scene plot music end camera joke town rain road night door glass letter summer war"


@dataclass(frozen=True)
class Said:
    """What a command left."""

    code: int
    out: str
    err: str

    def json(self) -> object:
        """Standard output, which must be one JSON document."""
        return json.loads(self.out)


class Caller:
    """`caller("parse", "…")` runs the command; nobody sits at the terminal."""

    def __init__(self, capture: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
        self._capture, self._monkeypatch = capture, monkeypatch

    def __call__(self, *arguments: object, stdin: str | bytes = "") -> Said:
        raw = stdin if isinstance(stdin, bytes) else stdin.encode()
        self._monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(raw), encoding="utf-8"))
        self._capture.readouterr()
        code = run([str(one) for one in arguments])
        return Said(code, *self._capture.readouterr())


def sentences(count: int, seed: int = 0) -> list[str]:
    """So many different inputs."""
    rng = random.Random(seed)
    return [" ".join(rng.sample(WORDS.split(), 9)) for _ in range(count)]


def write_script(path: Path, count: int = 400) -> str:
    """A teacher's name: it answers with one sentence after the other."""
    path.write_text("\n".join(json.dumps(text) for text in sentences(count)))
    return f"scripted:{path}"


def quick(base: Path, teacher: str) -> list[str]:
    """Options of a run that ends in seconds: a tiny base, few rows, one epoch."""
    options = ["--base", str(base), "--teacher", teacher, "--count", "60", "--epochs", "1"]
    for setting in ("generate.filters=format", "evaluate.teacher=false", "retrieve.hub=off", "evaluate.resamples=20"):
        options += ["--set", setting]
    return options
