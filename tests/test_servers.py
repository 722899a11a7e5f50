"""Servers by their addresses: what of the environment is used, and what is sent to them."""

import pytest
from chat_server import serve

from prompt2model.conversation import Message, Request
from prompt2model.errors import ConfigError
from prompt2model.servers import models
from prompt2model.teacher import replies
from prompt2model.teachers import open_teacher

ELSEWHERE = "http://a-server.invalid/v1"
QUESTION = Request(messages=(Message(role="user", content="Question"),))


@pytest.fixture(autouse=True)
def no_proxies(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("http_proxy", "https_proxy", "all_proxy", "no_proxy"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)


@pytest.mark.parametrize("scheme", ["http://", ""], ids=["with scheme", "without"])
def test_models_and_completions_go_through_the_same_proxy(monkeypatch: pytest.MonkeyPatch, scheme: str) -> None:
    with serve() as proxy:
        monkeypatch.setenv("http_proxy", f"{scheme}127.0.0.1:{proxy.server_address[1]}")
        assert [reply.text for reply in replies(open_teacher(ELSEWHERE), [QUESTION])] == ["yes"]
        assert proxy.paths == [f"{ELSEWHERE}/models", f"{ELSEWHERE}/chat/completions"]


@pytest.mark.parametrize(
    "environment",
    [{"all_proxy": "socks5://127.0.0.1:1"}, {"http_proxy": "http://127.0.0.1:1", "no_proxy": "127.0.0.1"}],
    ids=["for other protocols", "not for this server"],
)
def test_a_proxy_that_is_not_for_the_server_is_left_alone(
    monkeypatch: pytest.MonkeyPatch, environment: dict[str, str]
) -> None:
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    with serve() as server:
        assert [reply.text for reply in replies(open_teacher(server.url), [QUESTION])] == ["yes"]


@pytest.mark.parametrize("address", [ELSEWHERE, f"{ELSEWHERE}#m"], ids=["models", "completions"])
def test_a_socks_proxy_is_an_error_that_does_not_show_its_password(
    monkeypatch: pytest.MonkeyPatch, address: str
) -> None:
    monkeypatch.setenv("http_proxy", "socks5://user:secret@127.0.0.1:1")
    with pytest.raises(ConfigError, match="speaks socks5") as error:
        replies(open_teacher(address), [QUESTION])
    assert "secret" not in str(error.value)


def test_a_server_is_told_the_key_and_nothing_else_of_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_ORG_ID", "org-1")
    monkeypatch.setenv("OPENAI_PROJECT_ID", "project-1")
    monkeypatch.setenv("OPENAI_CUSTOM_HEADERS", "Authorization: Bearer another")
    with serve(models=("a", "b")) as server:
        assert models(server.url, "the-key") == ["a", "b"]
        [headers] = server.heads
    assert headers["authorization"] == "Bearer the-key"
    assert not {"openai-organization", "openai-project"} & set(headers)
