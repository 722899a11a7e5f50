"""What this machine has, and what that means for a run."""

import os
import shutil
from collections.abc import Mapping
from pathlib import Path

import psutil
import torch

from prompt2model import hub, weights
from prompt2model.catalogue import builtin_models
from prompt2model.config import load_config
from prompt2model.home import home
from prompt2model.planning import plan
from prompt2model.plans import Plan
from prompt2model.records import Record
from prompt2model.speed import Speed, measure, parameters
from prompt2model.teachers import choose_teacher
from prompt2model.weights import DEFAULT_MODEL

KEYS = ("OPENAI_API_KEY", "OPENAI_BASE_URL", "HF_TOKEN")
"""Variables of the environment that change what a run can do. Their values are never shown."""
USUAL_TASK = "Classify a sentence from a movie review as positive or negative."
LITTLE_MEMORY_BYTES, LITTLE_DISK_BYTES = 4_000_000_000, 3_000_000_000
LONG_MINUTES = 60


class Machine(Record):
    """What was found."""

    cores: int
    memory_bytes: int
    free_memory_bytes: int
    free_disk_bytes: int
    home: Path
    gpu: str
    gpu_memory_bytes: int
    speed: Speed
    keys: dict[str, bool]
    """Whether each is set."""
    hub: bool
    at_hand: tuple[str, ...]
    """Base models that need no download."""
    teacher: str
    teacher_reason: str
    usual_run: Plan
    """A run with all defaults on a task of two labels."""
    says: tuple[str, ...] = ()
    """What all that means."""

    @property
    def default_parameters(self) -> int:
        return parameters(DEFAULT_MODEL)


def examine() -> Machine:
    """This machine, in some seconds: a matrix product is timed, and the Hub is knocked at. No model is loaded."""
    free_memory, memory = _memory_bytes()
    gpu, gpu_memory = _gpu()
    teacher, reason = choose_teacher("auto")
    machine = Machine(
        cores=_cores(),
        memory_bytes=memory,
        free_memory_bytes=free_memory,
        free_disk_bytes=shutil.disk_usage(home()).free,
        home=home(),
        gpu=gpu,
        gpu_memory_bytes=gpu_memory,
        speed=measure(),
        keys=_present(os.environ),
        hub=hub.is_reachable(),
        at_hand=tuple(sorted(card.id for card in builtin_models() if weights.at_hand(card.id))),
        teacher=teacher,
        teacher_reason=reason,
        usual_run=_usual_run(),
    )
    return machine.model_copy(update={"says": tuple(consequences(machine))})


def _usual_run() -> Plan:
    """With the embedded model as teacher and base: what needs no key and no Hub."""
    config = load_config(teacher=f"transformers:{DEFAULT_MODEL}", retrieve__base=DEFAULT_MODEL, retrieve__hub="off")
    return plan(USUAL_TASK, config, home() / "no run")


def consequences(machine: Machine) -> list[str]:
    """What the findings mean for a run, the usual minutes first."""
    run = machine.usual_run
    parts = [f"{stage} {_minutes(run, stage)}" for stage in ("generate", "train", "evaluate")]
    says = [
        f"A run with all defaults and the embedded model takes about {run.minutes:.0f} minutes ({', '.join(parts)})."
    ]
    if run.minutes > LONG_MINUTES:
        says.append("That is long: --count 100 writes fewer rows, and --teacher openai:… writes them elsewhere.")
    if DEFAULT_MODEL not in machine.at_hand:
        says.append(_first_time(machine))
    if not machine.hub:
        says.append(
            "The Hub is not reachable: base models and data sets are those at hand, files, and the embedded one."
        )
    if machine.free_memory_bytes < LITTLE_MEMORY_BYTES:
        says.append("Memory is short: --lora-rank 8 needs less of it.")
    if machine.free_disk_bytes < LITTLE_DISK_BYTES:
        says.append("Disk is short: a run needs about 2 GB. PROMPT2MODEL_HOME and HF_HOME move the caches.")
    return says


def _minutes(run: Plan, stage: str) -> str:
    return f"{next(step.minutes for step in run.steps if step.stage == stage):.0f}"


def _first_time(machine: Machine) -> str:
    where = "the Hub" if machine.hub else "the package index"
    return f"The embedded model is not here yet: the first run fetches it from {where} (93 to 270 MB)."


def _cores() -> int:
    """Those that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _memory_bytes() -> tuple[int, int]:
    """Available and total."""
    memory = psutil.virtual_memory()
    return memory.available, memory.total


def _gpu() -> tuple[str, int]:
    """The accelerator's name and memory; nothing without one."""
    if not torch.cuda.is_available():
        return "", 0
    properties = torch.cuda.get_device_properties(0)
    return properties.name, properties.total_memory


def _present(environment: Mapping[str, str]) -> dict[str, bool]:
    return {name: bool(environment.get(name, "").strip()) for name in KEYS}
