"""Checkpoints: what was saved is there again, and whatever happens one whole checkpoint is."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

from prompt2model import checkpoints
from prompt2model.errors import RunError

PACKAGE = Path(checkpoints.__file__).parents[1]


@pytest.fixture
def folder(tmp_path) -> Path:
    return tmp_path / "deep" / "unfinished"


def numbers_of(folder: Path) -> dict:
    return checkpoints.load(folder)[1]


def python(code: str, folder: Path) -> subprocess.Popen:
    environment = {**os.environ, "PYTHONPATH": str(PACKAGE)}
    return subprocess.Popen(
        [sys.executable, "-c", code, str(folder)], env=environment, stdout=subprocess.PIPE, text=True
    )


def test_what_was_saved_is_there_again_bit_for_bit(folder):
    tensors = {"a": torch.randn(3, 4), "b": torch.randn(5).bfloat16(), "step": torch.tensor(7.0)}
    checkpoints.save(folder, tensors, {"step": 7, "losses": [0.1, 1e-17]})
    found, numbers = checkpoints.load(folder)
    assert numbers == {"step": 7, "losses": [0.1, 1e-17]}
    assert all(torch.equal(found[name], tensor) for name, tensor in tensors.items())


def test_a_view_of_a_larger_tensor_is_saved_as_it_looks(folder):
    whole = torch.arange(12.0).reshape(3, 4)
    checkpoints.save(folder, {"columns": whole.T}, {})
    assert torch.equal(checkpoints.load(folder)[0]["columns"], whole.T)


def test_there_is_none_before_the_first(folder):
    assert checkpoints.load(folder) is None


def test_saving_again_replaces_it_and_leaves_nothing_beside_it(folder):
    for step in (1, 2, 3):
        checkpoints.save(folder, {"a": torch.tensor(float(step))}, {"step": step})
    assert numbers_of(folder) == {"step": 3}
    assert [path.name for path in folder.parent.iterdir()] == ["unfinished"]


def test_half_of_a_new_checkpoint_leaves_the_old_one(folder):
    checkpoints.save(folder, {"a": torch.ones(1)}, {"step": 1})
    draft = folder.with_name("unfinished.part")
    draft.mkdir()
    (draft / "tensors.safetensors").write_bytes(b"half")
    assert numbers_of(folder) == {"step": 1}
    checkpoints.save(folder, {"a": torch.ones(1)}, {"step": 2})
    assert numbers_of(folder) == {"step": 2}


def test_a_kill_between_the_two_renames_leaves_the_old_one(folder):
    checkpoints.save(folder, {"a": torch.ones(1)}, {"step": 1})
    folder.rename(folder.with_name("unfinished.old"))
    assert numbers_of(folder) == {"step": 1}
    checkpoints.save(folder, {"a": torch.ones(1)}, {"step": 2})
    assert numbers_of(folder) == {"step": 2}
    assert not folder.with_name("unfinished.old").exists()


def test_removing_leaves_nothing(folder):
    checkpoints.save(folder, {"a": torch.ones(1)}, {})
    folder.with_name("unfinished.part").mkdir()
    checkpoints.remove(folder)
    assert list(folder.parent.iterdir()) == []
    checkpoints.remove(folder)


def test_a_damaged_checkpoint_is_an_error_with_a_cure(folder):
    checkpoints.save(folder, {"a": torch.ones(100)}, {})
    (folder / "tensors.safetensors").write_bytes(b"\x00" * 20)
    with pytest.raises(RunError, match="cannot be read") as caught:
        checkpoints.load(folder)
    assert "Delete it" in caught.value.hint


def test_a_full_disk_is_an_error_and_leaves_the_old_one(folder):
    code = """
import resource, sys, torch
from pathlib import Path
from prompt2model import checkpoints
from prompt2model.errors import RunError
folder = Path(sys.argv[1])
checkpoints.save(folder, {"a": torch.ones(10)}, {"step": 1})
resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))
try:
    checkpoints.save(folder, {"a": torch.ones(1_000_000)}, {"step": 2})
except RunError as error:
    print(error.hint, sorted(path.name for path in folder.parent.iterdir()))
"""
    assert python(code, folder).communicate(timeout=120)[0] == "Is the disk full? ['unfinished']\n"
    assert numbers_of(folder) == {"step": 1}


def test_killed_at_any_moment_a_whole_checkpoint_is_left(folder):
    code = """
import itertools, sys, torch
from pathlib import Path
from prompt2model import checkpoints
for step in itertools.count(1):
    checkpoints.save(Path(sys.argv[1]), {"a": torch.full((300_000,), float(step))}, {"step": step})
    print(step, flush=True)
"""
    saving = python(code, folder)
    for line in saving.stdout:
        if int(line) == 20:
            break
    time.sleep(0.0137)
    saving.send_signal(signal.SIGKILL)
    saving.communicate()
    tensors, numbers = checkpoints.load(folder)
    assert numbers["step"] >= 20
    assert torch.equal(tensors["a"], torch.full((300_000,), float(numbers["step"])))
