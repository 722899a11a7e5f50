"""`train_here.py` as one process, and as two that `accelerate launch` starts and that exchange gradients by gloo."""

import json
import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from safetensors.torch import load_file

HERE = Path(__file__).parent
TWO = ("-m", "accelerate.commands.launch", "--multi_gpu", "--num_processes", "2", "--main_process_port", "0")
"""`accelerate launch` of two processes. With ACCELERATE_USE_CPU they are on the processor; its own --cpu starts one."""


def command(base: str, folder: Path, settings: dict[str, Any], launch: tuple[str, ...] = ()) -> list[str]:
    return [sys.executable, *launch, str(HERE / "train_here.py"), base, str(folder), json.dumps(settings)]


def environment(**changed: str) -> dict[str, str]:
    path = os.pathsep.join([str(HERE.parent), *filter(None, [os.environ.get("PYTHONPATH")])])
    return {**os.environ, "PYTHONPATH": path, "OMP_NUM_THREADS": "1", **changed}


def alone_and_together(base: str, folder: Path, settings: dict[str, Any]) -> tuple[dict, dict, dict]:
    """What comes of one process, and what each of two says has come of both; their weights in `one` and `two`."""
    together([(base, folder, settings)], folder)
    return outcome(folder)


def together(trainings: Sequence[tuple[str, Path, dict[str, Any]]], home: Path) -> None:
    """Each training in `one` of its folder by one process, in `two` by two, one training after the other.

    Both at the same time, for most of it is starting; each with a cache folder of its own.
    """
    own = environment(ACCELERATE_USE_CPU="true")
    finish([begin(name, trainings, home, own, launch) for name, launch in (("one", ()), ("two", TWO))])


def begin(
    name: str,
    trainings: Sequence[tuple[str, Path, dict[str, Any]]],
    home: Path,
    own: dict[str, str],
    launch: tuple[str, ...] = (),
) -> subprocess.Popen[str]:
    """A process with this environment that does all the trainings, each in `name` of its folder."""
    own = {**own, "PROMPT2MODEL_HOME": str(home / f"home of {name}")}
    base, folder, settings = trainings[0]
    arguments = command(base, folder / name, settings, launch)
    for base, folder, settings in trainings[1:]:
        arguments += [base, str(folder / name), json.dumps(settings)]
    return subprocess.Popen(arguments, env=own, text=True, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)


def finish(started: Sequence[subprocess.Popen[str]]) -> None:
    """Wait for the processes; the test fails with what one said that failed."""
    for process in started:
        _, said = process.communicate()
        assert process.returncode == 0, said[-3000:]


def outcome(folder: Path) -> tuple[dict, dict, dict]:
    """Of one process, and as each of two says it."""
    names = ("one/result-0.json", "two/result-0.json", "two/result-1.json")
    alone, first, second = (json.loads((folder / name).read_text()) for name in names)
    return alone, first, second


def largest_difference(folder: Path, *names: str, of: str = "model") -> float:
    """Between any two weights of the students in the two folders, or between their first gradients."""
    one, two = (load_file(folder / name / f"{of}.safetensors") for name in names)
    assert one.keys() == two.keys()
    return max(float((one[name] - two[name]).abs().max()) for name in one)
