"""`train_here.py` as one process, and as two that exchange gradients by gloo."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

from safetensors.torch import load_file

HERE = Path(__file__).parent
TWO = ("-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2")


def command(base: str, folder: Path, settings: dict[str, Any], launch: tuple[str, ...] = ()) -> list[str]:
    return [sys.executable, *launch, str(HERE / "train_here.py"), base, str(folder), json.dumps(settings)]


def environment(**changed: str) -> dict[str, str]:
    path = os.pathsep.join([str(HERE.parent), *filter(None, [os.environ.get("PYTHONPATH")])])
    return {**os.environ, "PYTHONPATH": path, "OMP_NUM_THREADS": "1", **changed}


def alone_and_together(base: str, folder: Path, settings: dict[str, Any]) -> tuple[dict, dict, dict]:
    """What comes of one process, and what each of two says has come of both; their weights in `one` and `two`.

    Each training has a cache folder of its own.
    """
    for name, launch in (("one", ()), ("two", TWO)):
        own = environment(ACCELERATE_USE_CPU="true", PROMPT2MODEL_HOME=str(folder / f"home of {name}"))
        arguments = command(base, folder / name, settings, launch)
        done = subprocess.run(arguments, env=own, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr[-3000:]
    alone, first, second = (
        json.loads((folder / name).read_text())
        for name in ("one/result-0.json", "two/result-0.json", "two/result-1.json")
    )
    return alone, first, second


def largest_difference(folder: Path) -> float:
    """Between any two weights of the students in `one` and `two`."""
    one, two = (load_file(folder / name / "model.safetensors") for name in ("one", "two"))
    assert one.keys() == two.keys()
    return max(float((one[name] - two[name]).abs().max()) for name in one)
