"""A run that is killed in the middle of every stage, and started again each time, ends as one that was left alone."""

import hashlib
import json
import os
import random
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from chat_server import ChatServer, serve
from command import WORDS

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]

TASK = "Classify a film as positive or negative."
STAGES = ("parse", "retrieve", "generate", "split", "train", "evaluate", "export")
AT_ONCE = 16
"""Requests under way."""
TIMES = {"seconds", "tokens_per_second", "seconds_per_answer", "spent"}
"""What differs between two runs that end the same; what was spent counts only what the last process asked."""


@pytest.fixture
def server() -> Iterator[ChatServer]:
    """A teacher whose answers follow from the request alone, and take a moment."""
    with serve("ok", text=lambda body: written(body)) as server:
        server.seconds = 0.1
        yield server


def written(body: dict[str, Any]) -> str:
    rng = random.Random(json.dumps(body, sort_keys=True))
    return " ".join(rng.sample(WORDS.split(), 9))


class Machine:
    """Where a run takes place: its folder, its cache, and its teacher."""

    def __init__(self, folder: Path, base: Path, server: ChatServer) -> None:
        self.run, self.server = folder / "run", server
        settings = ("retrieve.hub=off", "generate.filters=format", "evaluate.resamples=20", "train.patience=0")
        settings = (*settings, f"teacher_options.concurrency={AT_ONCE}")
        self.command = [sys.executable, "-m", "prompt2model", "build", TASK, "--out", str(self.run)]
        self.command += ["--base", str(base), "--teacher", f"{server.url}#m", "--count", "60", "--epochs", "60"]
        self.command += [word for setting in settings for word in ("--set", setting)]
        self.environment = {**os.environ, "PROMPT2MODEL_HOME": str(folder / "home"), "OMP_NUM_THREADS": "1"}

    def start(self) -> "subprocess.Popen[str]":
        return subprocess.Popen(
            self.command, env=self.environment, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True
        )

    def finish(self) -> None:
        process = self.start()
        _, said = process.communicate(timeout=300)
        assert process.returncode == 0, said

    def kill_when(self, condition: Callable[[], object]) -> None:
        """Start it, and kill it as soon as the condition holds."""
        process = self.start()
        end = time.monotonic() + 120
        while not condition():
            assert process.poll() is None, process.stderr and process.stderr.read()
            assert time.monotonic() < end
            time.sleep(0.01)
        process.send_signal(signal.SIGKILL)
        process.communicate()

    def has(self, name: str) -> Callable[[], bool]:
        return (self.run / name).exists

    def asks(self) -> Callable[[], bool]:
        """Whether the teacher has been asked since this was first called."""
        before: list[int] = []

        def holds() -> bool:
            before[:] = before or [len(self.server.asked)]
            return len(self.server.asked) > before[0]

        return holds

    def record(self, stage: str) -> Any:
        """What the stage left, without times and without the names of folders."""
        text = (self.run / f"{stage}.json").read_text().replace(str(self.run), "RUN")
        return timeless(json.loads(text)["record"])


def timeless(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: timeless(inner) for key, inner in value.items() if key not in TIMES}
    if isinstance(value, list):
        return [timeless(one) for one in value if not (isinstance(one, str) and "came from the cache" in one)]
    return value


def test_a_run_killed_in_every_stage_goes_on_and_ends_the_same(tmp_path: Path, tiny_decoder: Path, server: ChatServer):
    killed = Machine(tmp_path / "killed", tiny_decoder, server)
    kills = {
        "parse": killed.has("settings.toml"),
        "retrieve": lambda: len(server.asked) > 0,
        "generate": lambda: len(server.asked) > 30,
        "split": killed.has("generate.json"),
        "train": killed.has("student/best"),
        "evaluate": killed.asks(),  # for the first time since the rows were written
        "export": killed.has("evaluate.json"),
    }
    for stage, condition in kills.items():
        # where few are asked, all would be answered before the kill
        server.seconds = 5.0 if stage == "evaluate" else 0.1
        killed.kill_when(condition)
        assert not killed.has(f"{stage}.json")() or stage in ("parse", "split"), f"{stage} was over before the kill"
    server.seconds = 0.1
    killed.finish()
    asked = Counter(json.dumps(body, sort_keys=True) for body in server.asked)
    assert sum(count - 1 for count in asked.values()) <= 3 * AT_ONCE  # under way in three of the kills

    server.asked.clear()
    whole = Machine(tmp_path / "whole", tiny_decoder, server)
    whole.finish()
    assert {json.dumps(body, sort_keys=True) for body in server.asked} == set(asked)
    for stage in STAGES:
        assert killed.record(stage) == whole.record(stage), stage
    assert weights(killed) == weights(whole)


def weights(machine: Machine) -> str:
    return hashlib.sha256((machine.run / "model" / "model.safetensors").read_bytes()).hexdigest()
