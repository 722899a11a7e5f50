import io
import logging
import threading
import time
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hub_server import CONVERTED, MAIN, TOKEN, Hub, Repo, serve
from huggingface_hub import HfApi

from prompt2model import hub
from prompt2model.errors import DataError, HubError


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch, use_hub: Callable[[str], None]) -> Iterator[Hub]:
    with serve() as running:
        use_hub(running.url)
        monkeypatch.setenv("HF_ENDPOINT", running.url)
        yield running


def model(id: str, downloads: int = 10, **info: Any) -> Repo:
    facts = {
        "downloads": downloads,
        "pipeline_tag": "text-generation",
        "tags": ["transformers", "safetensors", "text-generation", "license:mit", "en"],
        "safetensors": {"parameters": {"BF16": 1000}, "total": 1000},
        "config": {"architectures": ["LlamaForCausalLM"], "model_type": "llama"},
        **info,
    }
    return Repo(id, info=facts)


def dataset(id: str, files: dict[str, bytes], *, revision: str = MAIN, gated: bool = False, **info: Any) -> Repo:
    return Repo(id, "datasets", info=info, files={MAIN: {"README.md": b"#"}, revision: files}, gated=gated)


def test_a_model_is_listed_with_its_facts(server: Hub) -> None:
    card_data = {"license": "apache-2.0", "language": ["en", "fr"], "base_model": "a/base", "datasets": ["a/stories"]}
    server.add(model("a/Tiny-Instruct", 7, cardData=card_data, gated="auto"))
    [card] = hub.list_models("")
    assert card.id == "a/Tiny-Instruct"
    assert (card.architecture, card.parameters, card.size_bytes) == ("decoder", 1000, 2000)
    assert (card.licence, card.languages, card.downloads) == ("apache-2.0", ("en", "fr"), 7)
    assert card.instruct
    assert card.gated
    assert card.description == "A text-generation model of the llama family, made from a/base, trained on a/stories."


@pytest.mark.parametrize(
    ("config", "task", "architecture"),
    [
        (
            {"model_type": "t5", "architectures": ["T5ForConditionalGeneration"]},
            "text2text-generation",
            "encoder-decoder",
        ),
        ({"model_type": "t5", "architectures": ["T5ForConditionalGeneration"]}, "text-generation", "encoder-decoder"),
        ({"model_type": "gpt2", "architectures": ["GPT2LMHeadModel"]}, "text-generation", "decoder"),
        ({"model_type": "marian", "architectures": ["MarianMTModel"]}, "text2text-generation", "encoder-decoder"),
        ({}, "text-generation", "decoder"),
        ({}, "text2text-generation", "encoder-decoder"),
        ({"model_type": "qwen2_vl", "architectures": ["Qwen2VLForConditionalGeneration"]}, "text-generation", None),
        ({"model_type": "bert", "architectures": ["BertForSequenceClassification"]}, "text-generation", None),
    ],
)
def test_the_architecture_follows_from_the_class_and_else_from_the_task(
    server: Hub, config: dict[str, Any], task: str, architecture: str | None
) -> None:
    server.add(model("a/model", config=config, pipeline_tag=task, tags=["safetensors"]))
    assert [card.architecture for card in hub.list_models("")] == ([architecture] if architecture else [])


def test_a_model_of_unknown_size_is_left_out(server: Hub) -> None:
    server.add(model("a/unknown", safetensors=None))
    assert hub.list_models("") == []


def test_names_like_the_query_come_before_what_is_merely_popular(server: Hub) -> None:
    for place in range(5):
        server.add(model(f"a/popular-{place}", 1000 - place))
    server.add(model("a/french-poems", 1))
    found = [card.id for card in hub.list_models("Write poems", limit=3)]
    assert found == ["a/french-poems", "a/popular-0", "a/popular-1"]


def test_a_listing_of_several_pages_is_read_up_to_the_limit(server: Hub) -> None:
    for place in range(8):
        server.add(model(f"a/model-{place}", 100 - place))
    assert [card.id for card in hub.list_models("", limit=7)] == [f"a/model-{place}" for place in range(7)]
    assert any("cursor=6" in asked for asked in server.asked)


def test_a_largest_size_is_asked_of_the_hub(server: Hub) -> None:
    hub.list_models("", max_parameters=600_000_000)
    assert any("num_parameters=max:600000000" in asked for asked in server.asked)


def test_a_data_set_is_listed_with_its_facts(server: Hub) -> None:
    card_data = {
        "license": "cc-by-4.0",
        "language": "de",
        "train-eval-index": [{"config": "plain", "col_mapping": {"text": "text", "label": "target"}}],
        "dataset_info": {
            "config_name": "plain",
            "features": [{"name": "text", "dtype": "string"}, {"name": "label", "dtype": "int64"}],
            "splits": [{"name": "train", "num_examples": 70}, {"name": "test", "num_examples": 30}],
            "download_size": 1234,
        },
    }
    tags = ["task_categories:text-classification"]
    server.add(dataset("a/mails", {}, cardData=card_data, tags=tags, downloads=5, description="Mails,\n sorted."))
    [card] = hub.list_datasets("sort mails", filters=tags)
    assert card.description == "Mails, sorted. Columns: text, label."
    assert (card.task, card.input_columns, card.output_column) == ("text-classification", ("text",), "label")
    assert (card.config, card.rows, card.size_bytes) == ("plain", 100, 1234)
    assert (card.licence, card.languages, card.downloads, card.gated) == ("cc-by-4.0", ("de",), 5, False)


def test_the_hub_is_reachable_when_it_answers_and_not_when_nobody_listens(
    server: Hub, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert hub.is_reachable()
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
    assert not hub.is_reachable()


def test_where_nobody_listens_nothing_is_tried_again_and_the_error_is_all_that_is_said(
    server: Hub, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
    monkeypatch.setattr(logging.getLogger("huggingface_hub"), "propagate", True)
    before = set(threading.enumerate())
    for asked in (hub.list_models, hub.list_datasets):
        with pytest.raises(HubError, match=r"could not be asked about .*refused"):
            asked("poems")
    assert set(threading.enumerate()) <= before
    assert caplog.messages == []


@pytest.mark.parametrize("status", [429, 503])
def test_a_hub_that_is_busy_is_asked_once(server: Hub, status: int) -> None:
    server.failure = status
    with pytest.raises(HubError, match=rf"could not be asked about models: .*{status}"):
        hub.list_models("poems")
    assert len(server.asked) == 1


def test_a_repository_of_a_hub_that_is_busy_for_a_moment_is_had(server: Hub) -> None:
    server.add(dataset("a/films", {"train.csv": b"text,label\n"}))
    server.failure = 503
    recovers = threading.Timer(0.3, lambda: setattr(server, "failure", 0))
    recovers.start()
    listing = partial(HfApi(endpoint=server.url).list_repo_tree, "a/films", repo_type="dataset")
    assert [file.path for file in hub.ask("a/films", lambda: list(listing()), timeout_seconds=10)] == ["train.csv"]
    assert len(server.asked) > 2  # a knock, a refusal, and again


def test_a_slow_hub_is_not_waited_for(server: Hub) -> None:
    server.delay_seconds = 30
    start = time.monotonic()
    with pytest.raises(HubError, match=r"no answer about models within 0\.3 seconds") as caught:
        hub.list_models("poems", timeout_seconds=0.3)
    assert time.monotonic() - start < 2
    assert "retrieve.hub=off" in caught.value.hint
    assert not hub.is_reachable(timeout_seconds=0.2)


@pytest.mark.parametrize("status", [400, 403, 429, 500, 503])
def test_a_hub_that_fails_is_an_error_in_time(server: Hub, status: int) -> None:
    server.failure = status
    with pytest.raises(HubError):
        hub.list_datasets("", timeout_seconds=0.5)


@pytest.mark.parametrize("id", ["a/missing", "not a name", "a/b/c"])
def test_a_repository_that_does_not_exist_is_named(server: Hub, id: str) -> None:
    with pytest.raises(HubError, match="has no repository"):
        hub.find_data(id)


def test_a_gated_data_set_is_refused_with_the_page_of_its_terms(server: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    server.add(dataset("a/secret", {"train.csv": b"text,label\n"}, gated=True))
    with pytest.raises(HubError, match="a/secret is gated") as caught:
        hub.find_data("a/secret")
    assert f"{server.url}/datasets/a/secret" in caught.value.hint
    assert "HF_TOKEN" in caught.value.hint
    monkeypatch.setenv("HF_TOKEN", "hf_of_somebody_else")
    with pytest.raises(HubError, match="a/secret is gated"):
        hub.find_data("a/secret")
    monkeypatch.setenv("HF_TOKEN", TOKEN)
    assert hub.find_data("a/secret").paths == ("train.csv",)


def test_the_hubs_own_parquet_copy_is_preferred_to_a_script(server: Hub) -> None:
    copy = {"plain/train/0000.parquet": b"1", "plain/train/0001.parquet": b"22", "plain/test/0000.parquet": b"333"}
    server.add(dataset("a/scripted", copy, revision=CONVERTED)).files[MAIN]["scripted.py"] = b"import os"
    data = hub.find_data("a/scripted")
    assert (data.revision, data.config, data.split) == (CONVERTED, "plain", "train")
    assert data.paths == ("plain/train/0000.parquet", "plain/train/0001.parquet")
    assert data.size_bytes == 3


def test_a_script_without_a_copy_is_refused(server: Hub) -> None:
    server.add(dataset("a/scripted", {"scripted.py": b"import os"}))
    with pytest.raises(HubError, match="code from the Hub is never run"):
        hub.find_data("a/scripted")


def test_a_data_set_without_rows_is_refused_with_what_can_be_read(server: Hub) -> None:
    server.add(dataset("a/images", {"cat.png": b"1"}))
    with pytest.raises(HubError, match="no file of rows") as caught:
        hub.find_data("a/images")
    assert ".parquet" in caught.value.hint


def test_the_card_says_which_files_belong_to_which_configuration_and_split(server: Hub) -> None:
    configs = [
        {"config_name": "de", "data_files": [{"split": "train", "path": "german/*.csv"}], "default": True},
        {"config_name": "en", "data_dir": "english", "data_files": "*.csv"},
    ]
    files = {"german/one.csv": b"1", "german/two.csv": b"2", "english/one.csv": b"3"}
    server.add(dataset("a/mails", files, cardData={"configs": configs}))
    assert hub.find_data("a/mails").paths == ("german/one.csv", "german/two.csv")
    assert hub.find_data("a/mails", "en").paths == ("english/one.csv",)


def test_without_a_card_the_names_of_the_files_say_the_split(server: Hub) -> None:
    files = {"data/train-00000.jsonl": b"", "data/dev.jsonl": b"", "data/test.jsonl.gz": b"", "LICENSE": b""}
    server.add(dataset("a/mails", files))
    assert hub.find_data("a/mails").paths == ("data/train-00000.jsonl",)
    assert hub.find_data("a/mails", split="validation").paths == ("data/dev.jsonl",)
    assert hub.find_data("a/mails", split="test").paths == ("data/test.jsonl.gz",)


@pytest.mark.parametrize(
    ("config", "split", "message", "hint"),
    [
        ("", "", "several configurations", "a/both:NAME, where NAME is one of de, en"),
        ("fr", "", "no configuration 'fr'", "de, en"),
        ("de", "dev", "no split 'dev'", "a/both@NAME, where NAME is one of test, train"),
        ("en", "", "no split 'train'", "one of a, b"),
    ],
)
def test_an_unclear_configuration_or_split_is_answered_with_those_there_are(
    server: Hub, config: str, split: str, message: str, hint: str
) -> None:
    copy = {f"{part}/0000.parquet": b"1" for part in ("de/train", "de/test", "en/a", "en/b")}
    server.add(dataset("a/both", copy, revision=CONVERTED))
    with pytest.raises(DataError, match=message) as caught:
        hub.find_data("a/both", config, split)
    assert hint in caught.value.hint


def test_label_names_come_from_the_card(server: Hub) -> None:
    names = {"class_label": {"names": {"1": "billing", "0": "bug", "10": "other"}}}
    info = {"dataset_info": {"features": [{"name": "label", "dtype": names}]}}
    server.add(dataset("a/mails", {"train.csv": b""}, cardData=info))
    assert hub.find_data("a/mails").labels == {"label": ("bug", "billing", "other")}


def test_a_file_is_downloaded_in_the_parts_that_are_read(server: Hub) -> None:
    sink = io.BytesIO()
    text = [f"{place:09d}" * 30 for place in range(40_000)]
    pq.write_table(pa.table({"text": text}), sink, row_group_size=1000, compression="none", use_dictionary=False)
    server.add(dataset("a/long", {"train.parquet": sink.getvalue()}))
    data = hub.find_data("a/long")

    def first_rows() -> list[str]:
        with hub.open_file(data, data.paths[0]) as file:
            return pq.ParquetFile(file).read_row_group(0).column("text").to_pylist()

    assert hub.ask("a/long", first_rows, timeout_seconds=20) == text[:1000]
    assert server.sent_bytes < len(sink.getvalue()) / 2
