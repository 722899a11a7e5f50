"""Seconds until `prompt2model --help` has answered, beside a bare Python and beside one that imports torch.

python benchmarks/startup.py [TIMES]
"""

import json
import statistics
import subprocess
import sys
import time

COMMANDS = {
    "python -c pass": ["-c", "pass"],
    "import prompt2model": ["-c", "import prompt2model"],
    "prompt2model --help": ["-m", "prompt2model", "--help"],
    "prompt2model build --help": ["-m", "prompt2model", "build", "--help"],
    "import torch": ["-c", "import torch"],
}


def main() -> None:
    times = int(sys.argv[1]) if len(sys.argv) > 1 else 7
    print(json.dumps({name: round(seconds(command, times), 3) for name, command in COMMANDS.items()}))


def seconds(command: list[str], times: int) -> float:
    """The median of so many runs, after one that fills the caches."""
    return statistics.median([_once(command) for _ in range(times + 1)][1:])


def _once(command: list[str]) -> float:
    started = time.perf_counter()
    subprocess.run([sys.executable, *command], check=True, capture_output=True)
    return time.perf_counter() - started


if __name__ == "__main__":
    main()
