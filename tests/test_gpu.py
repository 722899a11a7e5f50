"""On a GPU every method learns what it learns on the processor, and a model answers the same. Skipped where none is."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from launching import begin, command, environment, finish
from trainings import METHODS, training, unlabelled

CASES = [(name, architecture) for name in METHODS for architecture in ("decoder", "encoder-decoder")]
ANSWERS = Path(__file__).parent / "answer_here.py"
PROCESSES = 3
SOLID = 2e-3
"""How far losses may be apart, relative to them: the order of sums differs, and steps carry it on."""


def visible() -> dict[str, str]:
    """The environment in which the machine's GPUs can be seen, as before the tests hid them."""
    own, gpus = environment(), os.environ["PROMPT2MODEL_TEST_GPUS"]
    del own["CUDA_VISIBLE_DEVICES"]
    return own if gpus == "all" else {**own, "CUDA_VISIBLE_DEVICES": gpus}


def has_gpu() -> bool:
    asked = [sys.executable, "-c", "import sys, torch; sys.exit(not torch.cuda.is_available())"]
    is_likely = any(Path(name).exists() for name in ("/dev/nvidia0", "/dev/kfd", "/dev/dxg"))
    return is_likely and not subprocess.run(asked, env=visible(), capture_output=True, check=False).returncode


pytestmark = [pytest.mark.slow, pytest.mark.skipif(not has_gpu(), reason="this machine has no GPU")]


@pytest.fixture(scope="module")
def learned(tmp_path_factory) -> dict[tuple[str, str], Path]:
    """The folder of each case, after all have been trained, by a few processes on the processor and as many on the
    GPU."""
    home = tmp_path_factory.mktemp("cases")
    inputs = unlabelled(home / "inputs.txt")
    folders = {case: home / str(number) for number, case in enumerate(CASES)}
    trainings = [training(*case, folder, inputs) for case, folder in folders.items()]
    places = {"cpu": environment(), "gpu": visible()}
    shares = [trainings[first::PROCESSES] for first in range(PROCESSES)]
    finish([begin(place, share, home, own) for share in shares for place, own in places.items()])
    return folders


@pytest.mark.timeout(600)
@pytest.mark.parametrize(("name", "architecture"), CASES)
def test_a_gpu_learns_as_the_processor_does(learned, name, architecture):
    folder = learned[name, architecture]
    cpu, gpu = (json.loads((folder / where / "result-0.json").read_text()) for where in ("cpu", "gpu"))
    assert gpu["tokens"] == cpu["tokens"]
    assert gpu["losses"] == pytest.approx(cpu["losses"], rel=SOLID, abs=1e-5)
    for ours, theirs in zip(gpu["history"], cpu["history"], strict=True):
        assert ours == pytest.approx(theirs, rel=SOLID)


def test_a_training_killed_on_a_gpu_goes_on_to_the_same_result(tiny_decoder, tmp_path):
    settings = {"epochs": 12, "batch_rows": 8, "learning_rate": 3e-3, "precision": "bfloat16", "patience": 0}
    settings["save_every_seconds"] = 0.0
    killed = command(str(tiny_decoder), tmp_path / "killed", settings)
    process = subprocess.Popen(killed, env=visible(), stderr=subprocess.DEVNULL)
    while process.poll() is None and not (tmp_path / "killed" / "unfinished" / "numbers.json").exists():
        time.sleep(0.003)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert not (tmp_path / "killed" / "result-0.json").exists()
    straight = command(str(tiny_decoder), tmp_path / "straight", settings)
    for one in (killed, straight):
        subprocess.run(one, env=visible(), check=True, capture_output=True)
    again, once = (json.loads((tmp_path / name / "result-0.json").read_text()) for name in ("killed", "straight"))
    assert again["losses"] == pytest.approx(once["losses"], rel=2e-2)
    assert again["tokens"] == once["tokens"]


@pytest.mark.parametrize("architecture", ["decoder", "encoder_decoder"])
def test_a_gpu_answers_as_the_processor_does(request, architecture):
    base = request.getfixturevalue(f"tiny_{architecture}")
    asked = [sys.executable, str(ANSWERS), str(base)]
    cpu, gpu = (
        json.loads(subprocess.run(asked, env=own, check=True, capture_output=True, text=True).stdout)
        for own in (environment(), visible())
    )
    assert (cpu["device"], gpu["device"]) == ("cpu", "cuda")
    assert gpu["texts"] == cpu["texts"]
    assert gpu["beams"] == cpu["beams"]
    assert gpu["choices"] == cpu["choices"]
    for ours, theirs in zip(gpu["logprobs"], cpu["logprobs"], strict=True):
        assert ours == pytest.approx(theirs, rel=1e-4)
