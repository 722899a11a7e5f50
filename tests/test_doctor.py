"""doctor: what is found on this machine, and what is never shown."""

import json
from pathlib import Path

import pytest
from command import Caller

from prompt2model import doctor
from prompt2model.doctor import KEYS, Machine, examine
from prompt2model.speed import Speed

SECRET = "sk-secret-of-mine"


@pytest.fixture
def call(capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Caller:
    return Caller(capfd, monkeypatch)


@pytest.fixture(scope="module")
def machine(tmp_path_factory: pytest.TempPathFactory) -> Machine:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PROMPT2MODEL_HOME", str(tmp_path_factory.mktemp("home")))
        return examine()


def test_what_is_found_is_plausible(machine: Machine):
    assert machine.cores >= 1
    assert 0 < machine.free_memory_bytes <= machine.memory_bytes
    assert machine.free_disk_bytes > 0
    assert machine.speed.precision in ("float32", "bfloat16")
    assert machine.speed.operations_per_second > 1e8
    assert set(machine.keys) == set(KEYS)


def test_it_says_what_a_usual_run_takes(machine: Machine):
    minutes = sum(step.minutes for step in machine.usual_run.steps)
    assert machine.says[0].startswith(
        f"A run with all defaults and the embedded model takes about {minutes:.0f} minutes"
    )


def test_an_embedded_model_that_is_not_here_is_announced(machine: Machine):
    assert machine.at_hand == ()
    assert any("The embedded model is not here yet" in line for line in machine.says)


def test_the_hub_that_is_not_asked_is_not_reachable(machine: Machine):
    assert machine.hub is False
    assert any("The Hub is not reachable" in line for line in machine.says)


def test_little_memory_and_disk_are_pointed_out(machine: Machine):
    small = machine.model_copy(update={"free_memory_bytes": 10**9, "free_disk_bytes": 10**9})
    said = " ".join(doctor.consequences(small))
    assert "--lora-rank" in said
    assert "PROMPT2MODEL_HOME" in said


def test_keys_are_told_to_be_there_but_never_shown(call: Caller, monkeypatch: pytest.MonkeyPatch, home_folder: Path):
    monkeypatch.setenv("OPENAI_API_KEY", SECRET)
    monkeypatch.setenv("HF_TOKEN", SECRET)
    table, document = call("doctor"), call("doctor", "--json")
    assert (table.code, document.code) == (0, 0)
    assert json.loads(document.out)["keys"] == {"OPENAI_API_KEY": True, "OPENAI_BASE_URL": False, "HF_TOKEN": True}
    assert "openai:gpt-5-mini" in table.out
    assert str(home_folder) in table.out.replace("\n", "")
    assert SECRET not in table.out + table.err + document.out + document.err


def test_a_machine_twice_as_fast_learns_twice_as_fast():
    slow = Speed(device="cpu", precision="float32", operations_per_second=1e11)
    fast = slow.model_copy(update={"operations_per_second": 2e11})
    assert fast.learning(10**8) == pytest.approx(2 * slow.learning(10**8))
    assert slow.reading(10**8) > slow.learning(10**8)
    assert slow.learning(10**8) == pytest.approx(10 * slow.learning(10**9))
