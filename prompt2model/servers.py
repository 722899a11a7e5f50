"""Servers by their addresses: the key, the proxy, the models that they have; and an event loop to ask them in."""

import asyncio
import os
import re
import ssl
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from threading import Thread
from urllib.parse import urlsplit
from urllib.request import getproxies, proxy_bypass

import aiohttp
import openai

from prompt2model.errors import ConfigError, TeacherError

OFFICIAL = "https://api.openai.com/v1"
LOOK_UP_SECONDS = 15.0
UNREADABLE = (openai.OpenAIError, ValueError, TypeError, AttributeError)
"""What the openai client raises of a server that is down, refuses, or speaks another language."""
OTHER_FILES = 64
"""Files that a process has open besides its connections."""
IDLE_SECONDS = 4.0
"""An idle connection is closed before the server does it, just as the next request is sent."""


def check_address(url: str) -> str:
    """The address without its last slash. Raises ConfigError for one that cannot be used or holds a secret."""
    try:
        parts = urlsplit(url)
        is_address = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:
        is_address = False
    if not is_address:
        raise ConfigError(f"{url!r} is no address of a server.", hint="Write it as http://localhost:8000/v1#MODEL")
    if parts.username or parts.password or parts.query:
        raise ConfigError(
            f"The address of {parts.hostname} holds a user, a password or a query: it would be written down.",
            hint="Put the key into OPENAI_API_KEY.",
        )
    return url.partition("#")[0].rstrip("/")


def key_for(address: str) -> str:
    """The key of the environment. Raises TeacherError where one is needed and missing, ConfigError for an odd one."""
    key = os.environ.get("OPENAI_API_KEY", "").strip()
    if not key and address == OFFICIAL:
        raise TeacherError(
            "OpenAI needs a key, and OPENAI_API_KEY is not set.",
            hint="export OPENAI_API_KEY=…, or take a local teacher: --teacher auto",
        )
    if not (key.isascii() and key.isprintable()):
        raise ConfigError("OPENAI_API_KEY holds characters that no key has.", hint="Copy it again, without quotes.")
    return key or "none"


def only_model(address: str, key: str, preferred: str) -> str:
    """The server's only model, or the preferred one where it has that. Raises TeacherError or ConfigError."""
    try:
        names = sorted(models(address, key))
    except UNREADABLE as error:
        raise TeacherError(
            f"{address} does not say which models it has ({type(error).__name__}).",
            hint=f"Is the server up, and does its address end in /v1? Else name the model: {address}#MODEL",
        ) from error
    if preferred in names or len(names) == 1:
        return preferred if preferred in names else names[0]
    raise ConfigError(
        f"{address} has {len(names)} models: {', '.join(names[:20]) or 'none'}.",
        hint=f"Name one: {address}#{names[0] if names else 'MODEL'}",
    )


def open_session(address: str, key: str, timeout_seconds: float = LOOK_UP_SECONDS) -> aiohttp.ClientSession:
    """A session that sends the key, through the proxy of the environment if there is one.

    aiohttp's own `trust_env` would read a .netrc file for every request.
    """
    return aiohttp.ClientSession(
        headers={"Authorization": f"Bearer {key}"},
        connector=aiohttp.TCPConnector(limit=0, keepalive_timeout=IDLE_SECONDS),
        timeout=aiohttp.ClientTimeout(total=timeout_seconds),
        proxy=_proxy(address),
    )


def models(address: str, key: str) -> list[str]:
    """The names of the models that the server has. Raises one of UNREADABLE when it does not say."""
    with connected(address, key, LOOK_UP_SECONDS) as client:
        return [str(model.id) for model in client.models.list().data]


def connected(address: str, key: str, timeout_seconds: float) -> openai.OpenAI:
    """The server by the openai client, which closes as a context manager does.

    It takes no more from the environment than `open_session`: no other proxy, header, organization or project.
    """
    client = openai.OpenAI(
        api_key=key,
        base_url=address,
        timeout=timeout_seconds,
        max_retries=0,
        default_headers={"Authorization": f"Bearer {key}"},  # stronger than one in OPENAI_CUSTOM_HEADERS
        http_client=openai.DefaultHttpxClient(
            proxy=_proxy(address), trust_env=False, verify=ssl.create_default_context()
        ),
    )
    client.organization = client.project = None
    return client


def without_key(text: str, key: str) -> str:
    """The text as it may be shown, without a proxy's password too. To be cut afterwards: half a key is not found."""
    return re.sub(r"//[^/@\s]*@", "//", text.replace(key, "[key]") if len(key) > 4 else text)


def room_for_connections(wanted: int) -> int:
    """How many of the wanted ones there may be at once: a connection is a file, and a process may open so many; the
    limit is raised first where the system allows it."""
    try:
        import resource  # not on Windows, which has no such limit
    except ImportError:
        return wanted
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft == resource.RLIM_INFINITY:
        return wanted
    needed = wanted + OTHER_FILES if hard == resource.RLIM_INFINITY else min(wanted + OTHER_FILES, hard)
    if soft < needed:
        with suppress(OSError, ValueError):
            resource.setrlimit(resource.RLIMIT_NOFILE, (needed, hard))
            soft = needed
    return max(1, min(wanted, soft - OTHER_FILES))


def _proxy(address: str) -> str | None:
    """The environment's proxy for the address. Raises ConfigError for one of another protocol than HTTP."""
    parts = urlsplit(address)
    proxy = None if proxy_bypass(parts.hostname or "") else getproxies().get(parts.scheme)
    if not proxy:
        return None
    scheme = proxy.partition("://")[0] if "://" in proxy else ""
    if scheme not in ("", "http", "https"):
        raise ConfigError(
            f"The proxy of {parts.scheme}_proxy speaks {scheme}, and only HTTP proxies can be used.",
            hint=f"Name an HTTP proxy, or leave the server out of it: export no_proxy={parts.hostname}",
        )
    return proxy if scheme else f"http://{proxy}"


@contextmanager
def event_loop() -> Iterator[asyncio.AbstractEventLoop]:
    """An event loop in a thread of its own: it also works where one is running already, as in a notebook."""
    loop = asyncio.new_event_loop()
    thread = Thread(target=loop.run_forever, name="teacher", daemon=True)
    thread.start()
    try:
        yield loop
    finally:
        asyncio.run_coroutine_threadsafe(_cancel_others(), loop).result()
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        loop.close()


async def _cancel_others() -> None:
    others = asyncio.all_tasks() - {asyncio.current_task()}
    for task in others:
        task.cancel()
    await asyncio.gather(*others, return_exceptions=True)
