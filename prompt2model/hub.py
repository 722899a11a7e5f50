"""What is asked of the Hub: which models and data sets there are, how large they are, and the files of a data set.

Every question has a time-out that holds, and every failure is a HubError with a hint. `HF_ENDPOINT` names another
Hub, `HF_TOKEN` is the key; both are read when a question is asked.
"""

import json
import os
import re
import time
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any, BinaryIO, Literal, TypeVar, cast

from pydantic import Field

from prompt2model import hub_cards, shards
from prompt2model.deadline import within
from prompt2model.errors import HubError
from prompt2model.records import DataCard, ModelCard, Record

if TYPE_CHECKING:
    from huggingface_hub import DatasetInfo, HfApi, ModelInfo

T = TypeVar("T")
Kind = Literal["model", "dataset"]

CONVERTED = "refs/convert/parquet"
"""The branch on which the Hub keeps its own Parquet copy of a data set, whatever the data set's format."""
BLOCK_BYTES = 1 << 20
KNOCK_SECONDS = 10.0
"""How long a first request, which nobody waits for any more, may hold on."""
SEARCH_WORDS = 3
MODEL_FACTS = ["cardData", "config", "downloads", "gated", "pipeline_tag", "safetensors", "tags"]
DATA_FACTS = ["cardData", "description", "downloads", "gated", "tags"]


class DataFiles(Record):
    """The files of one split of a data set: what there is to read, before any of it is read."""

    id: str
    config: str
    split: str
    revision: str
    paths: tuple[str, ...]
    size_bytes: int
    """Of all these files; reading some rows may need far less."""
    licence: str = ""
    labels: dict[str, tuple[str, ...]] = Field(default_factory=dict)
    """For each column of label numbers that the card explains, the labels' names in order."""


def is_reachable(timeout_seconds: float = 2) -> bool:
    """Whether the Hub answers in time. Never raises."""
    try:
        _ask_all("models", [], timeout_seconds=timeout_seconds)
    except HubError:
        return False
    return True


def list_models(query: str, *, limit: int = 50, max_parameters: int = 0, timeout_seconds: float = 3) -> list[ModelCard]:
    """Models that write text, as safetensors: named like the query's words, then the most downloaded ones.

    Those whose size or architecture the Hub does not know are left out. `max_parameters` asks for none larger.
    Raises HubError when the Hub does not answer in time.
    """
    largest = f"max:{max_parameters}" if max_parameters else None
    searches = [
        partial(_listing, "model", word, (task, "safetensors"), limit, largest)
        for word in _search_words(query)
        for task in hub_cards.TASK_ARCHITECTURES
    ]
    found = _ask_all("models", searches, timeout_seconds=timeout_seconds)
    cards = (hub_cards.model_card(info) for info in _interleave(found))
    return [card for card in cards if card is not None][:limit]


def list_datasets(
    query: str, *, limit: int = 50, filters: Sequence[str] = (), timeout_seconds: float = 3
) -> list[DataCard]:
    """Data sets named like the query's words, then the most downloaded ones, all with the tags in `filters`.

    Raises HubError when the Hub does not answer in time.
    """
    searches = [partial(_listing, "dataset", word, tuple(filters), limit) for word in _search_words(query)]
    found = _ask_all("data sets", searches, timeout_seconds=timeout_seconds)
    return [hub_cards.data_card(info) for info in _interleave(found)][:limit]


def find_data(id: str, config: str = "", split: str = "", *, timeout_seconds: float = 30) -> DataFiles:
    """The files that hold a split of a data set; nothing of them is downloaded.

    The Hub's own Parquet copy is preferred, so that data sets which come as a script can be read without running it.
    Raises HubError when the data set is gated, unknown, or has no file of rows, and DataError when the configuration
    or split is not clear.
    """
    return ask(id, partial(_find_data, id, config, split), timeout_seconds=timeout_seconds)


def open_file(data: DataFiles, path: str) -> BinaryIO:
    """One of the files, to be read in parts, each of which is downloaded when it is read. To be used inside `ask`."""
    from huggingface_hub import HfFileSystem

    # An instance of its own: a cached one would keep listings that have changed since.
    files = HfFileSystem(endpoint=_endpoint(), skip_instance_cache=True)
    revision = data.revision.replace("/", "%2F")
    return cast(BinaryIO, files.open(f"datasets/{data.id}@{revision}/{path}", "rb", block_size=BLOCK_BYTES))


def ask(what: str, call: Callable[[], T], *, timeout_seconds: float) -> T:
    """What the call returns. Raises HubError when it fails, or does not end in time."""
    return _ask_all(what, [call], timeout_seconds=timeout_seconds, may_be_busy=True)[0]


def _ask_all(
    what: str, calls: Sequence[Callable[[], T]], *, timeout_seconds: float, may_be_busy: bool = False
) -> list[T]:
    """What the calls return. A Hub that `may_be_busy` is asked all the same: its client waits and tries again."""
    import huggingface_hub.hf_api  # noqa: F401 - now, so that loading it does not count as the Hub's time
    from huggingface_hub import constants, errors
    from huggingface_hub.errors import HTTPError  # type: ignore[attr-defined]  # of the HTTP client that it was built on

    end = time.monotonic() + timeout_seconds
    try:
        within(timeout_seconds, [partial(_knock, may_be_busy)])
        return within(max(0.0, end - time.monotonic()), calls)
    except errors.GatedRepoError as error:
        folder = "" if "/api/models/" in str(error) else "datasets/"
        raise HubError(
            f"{what} is gated: its terms have to be accepted first.",
            hint=f"Accept them at {_endpoint() or constants.ENDPOINT}/{folder}{what}, then set HF_TOKEN to your token.",
        ) from error
    except (errors.RepositoryNotFoundError, errors.HFValidationError, errors.HfUriError) as error:
        raise HubError(
            f"The Hub has no repository {what!r}, or it is private.",
            hint="Check the name (owner/name); for a private one set HF_TOKEN. A file is named by its path.",
        ) from error
    except errors.OfflineModeIsEnabled as error:
        raise HubError("The Hub is not asked: HF_HUB_OFFLINE is set.", hint="Unset it, or use local files.") from error
    except TimeoutError as error:
        raise HubError(
            f"The Hub gave no answer about {what} within {timeout_seconds:g} seconds.",
            hint="Try again later, or work with what is at hand: --set retrieve.hub=off",
        ) from error
    except (HTTPError, OSError, json.JSONDecodeError) as error:
        raise HubError(
            f"The Hub could not be asked about {what}: {_first_line(error)}",
            hint="Is this machine online? Without the Hub: --set retrieve.hub=off",
        ) from error


def _knock(may_be_busy: bool) -> None:
    """One request, made once. Raises what the HTTP client raises when the Hub is away, or busy and must not be.

    Whoever asks such a Hub for a list would leave threads behind that try again, and say so, for half a minute.
    """
    from huggingface_hub import constants, get_session

    url = f"{_endpoint() or constants.ENDPOINT}/api/models"
    response = get_session().get(url, params={"limit": 1}, timeout=KNOCK_SECONDS)
    if not may_be_busy:
        response.raise_for_status()


def _api() -> "HfApi":
    from huggingface_hub import HfApi

    return HfApi(endpoint=_endpoint(), library_name="prompt2model")


def _endpoint() -> str | None:
    return os.environ.get("HF_ENDPOINT", "").rstrip("/") or None


def _first_line(error: BaseException) -> str:
    return next((line for line in str(error).splitlines() if line.strip()), type(error).__name__)


# Lists


def _search_words(query: str) -> list[str]:
    """The query's longest words, which say most, and the empty word, which finds what is popular.

    The Hub looks for the text as it stands in names, so a whole sentence would find nothing.
    """
    words = dict.fromkeys(re.findall(r"[^\W_]{3,}", query.lower()))
    return [*sorted(words, key=len, reverse=True)[:SEARCH_WORDS], ""]


def _listing(
    kind: Kind, word: str, tags: tuple[str, ...], limit: int, num_parameters: str | None = None
) -> "list[ModelInfo] | list[DatasetInfo]":
    if kind == "dataset":
        wanted: dict[str, Any] = {"search": word or None, "filter": list(tags) or None, "expand": DATA_FACTS}
        return list(_api().list_datasets(sort="downloads", limit=limit, **wanted))
    wanted = {"search": word or None, "filter": list(tags) or None, "expand": MODEL_FACTS}
    return list(_api().list_models(sort="downloads", limit=limit, num_parameters=num_parameters, **wanted))


def _interleave(lists: Sequence[Iterable[Any]]) -> list[Any]:
    """The first of each list, then the second of each, and so on; each repository once."""
    columns = [list(items) for items in lists]
    longest = max((len(items) for items in columns), default=0)
    ordered = [items[place] for place in range(longest) for items in columns if place < len(items)]
    return list({info.id: info for info in reversed(ordered)}.values())[::-1]


# Files


def _find_data(id: str, config: str, split: str) -> DataFiles:
    api = _api()
    info = api.dataset_info(id)
    if info.gated:
        api.auth_check(info.id, repo_type="dataset")
    facts = hub_cards.card_facts(info)
    revision, sizes, found = _shards(info.id, str(info.sha or "main"), facts)
    default = next(
        (str(one.get("config_name", "")) for one in hub_cards.dicts(facts.get("configs")) if one.get("default")), ""
    )
    config, split = shards.choose(found, config, split, id=info.id, default=default if default in found else "")
    paths = found[config][split]
    return DataFiles(
        id=info.id,
        config=config,
        split=split,
        revision=revision,
        paths=tuple(paths),
        size_bytes=sum(sizes[path] for path in paths),
        licence=hub_cards.licence(facts, info.tags or ()),
        labels=hub_cards.label_names(facts, config),
    )


def _shards(id: str, sha: str, facts: dict[str, Any]) -> tuple[str, dict[str, int], shards.Shards]:
    """The revision to read from, the sizes of its files, and which of them hold what."""
    from huggingface_hub.errors import RevisionNotFoundError

    try:
        sizes = _tree(id, CONVERTED)
        if found := shards.converted(list(sizes)):
            return CONVERTED, sizes, found
    except RevisionNotFoundError:
        pass  # a data set for which the Hub keeps no copy: its own files are read
    sizes = _tree(id, sha)
    found = shards.declared(list(sizes), hub_cards.dicts(facts.get("configs"))) or shards.named(list(sizes))
    if found:
        return sha, sizes, found
    if any(path.endswith(".py") for path in sizes):
        raise HubError(
            f"{id} comes as a script, and code from the Hub is never run.",
            hint="Choose a data set of Parquet, CSV or JSON files, or write the rows to a file yourself.",
        )
    raise HubError(
        f"{id} has no file of rows that can be read.", hint=f"Readable are {', '.join(shards.READABLE)} (also .gz)."
    )


def _tree(id: str, revision: str) -> dict[str, int]:
    """The size in bytes of each file of the data set."""
    from huggingface_hub.hf_api import RepoFile

    tree = _api().list_repo_tree(id, recursive=True, revision=revision, repo_type="dataset")
    return {item.path: item.size for item in tree if isinstance(item, RepoFile)}
