"""Replies per second from a server that limits, stumbles and garbles: our teacher, the openai client, a public peer.

    python benchmarks/teacher_throughput.py [--requests 20000] [--peers 2000] [--headers] [--peer-python PYTHON]

A server in a process of its own admits 500 requests a second (a second's worth may come at once) and answers after
200 ms on the average; of what it admits it refuses 2 % with 429, fails 1 % with 500 and garbles 0.5 %. With
`--headers` it tells its limit as OpenAI does. Each contender is a process too, and is asked for the same number of
different requests; the slow ones for fewer. The peer is bespokelabs-curator, in the environment of `--peer-python`.
"""

import argparse
import asyncio
import json
import os
import random
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import ClassVar

PER_SECOND = 500
LATENCY_SECONDS = 0.2
FAULTS = (("429", 0.02), ("500", 0.01), ("broken", 0.005))


def main() -> None:
    options = _options()
    rows = []
    for who, python in _contenders(options):
        count = options.requests if who == "ours" else options.peers
        with subprocess.Popen([sys.executable, __file__, "serve", *(["headers"] if options.headers else [])],
                              stdout=subprocess.PIPE, text=True) as server:  # fmt: skip
            url = server.stdout.readline().strip()
            rows.append({"who": who, "requests": count} | measure(python, who, url, count))
            server.terminate()
        print(json.dumps(rows[-1]), flush=True)
    print(json.dumps({"load": os.getloadavg(), "cores": os.cpu_count()}))


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--requests", type=int, default=20_000, help="for our teacher")
    parser.add_argument("--peers", type=int, default=2_000, help="for the others, which are slower; 0 leaves them out")
    parser.add_argument("--headers", action="store_true", help="the server tells its limit")
    parser.add_argument("--peer-python", default="", help="a Python that has bespokelabs-curator")
    return parser.parse_args()


def _contenders(options: argparse.Namespace) -> list[tuple[str, str]]:
    ours = [("ours", sys.executable)]
    if not options.peers:
        return ours
    gathered = [("openai", sys.executable)] if _has(sys.executable, "openai") else []
    curator = options.peer_python or sys.executable
    if not _has(curator, "bespokelabs"):
        print("bespokelabs-curator is not installed; it is left out (--peer-python).", file=sys.stderr)
        return [*ours, *gathered]
    return [*ours, *gathered, ("curator", curator)]


def _has(python: str, package: str) -> bool:
    return subprocess.run([python, "-c", f"import {package}"], capture_output=True, check=False).returncode == 0


def measure(python: str, who: str, url: str, count: int) -> dict[str, object]:
    """What the contender said of itself, what the server saw, and what the process took."""
    import psutil

    with tempfile.TemporaryDirectory() as home:
        said = Path(home) / "said.json"
        environment = os.environ | {"PROMPT2MODEL_HOME": home, "HOME": home, "OPENAI_API_KEY": "none",
                                    "TELEMETRY_ENABLED": "false", "CURATOR_VIEWER": "0"}  # fmt: skip
        command = [python, __file__, "ask", who, url, str(count), str(said)]
        megabytes = []
        with subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE) as process:
            watched = psutil.Process(process.pid)
            while process.poll() is None:
                if resident := watched.memory_info().rss:  # 0 once it has ended
                    megabytes.append(resident / 1e6)
                time.sleep(0.25)
            if not said.exists():
                return {"failed": process.stderr.read().decode()[-300:]}
        told = json.loads(said.read_text())
    with urllib.request.urlopen(f"{url}/stats") as response:
        seen = json.load(response)
    seconds = seen.pop("seconds")
    flat = {"mb_at_third": round(megabytes[len(megabytes) // 3]), "mb_at_end": round(megabytes[-1])}
    rate = {"replies_per_second": round(told["answered"] / seconds, 1), "seconds": round(seconds, 1)}
    return rate | told | {"cpu_ms_a_request": round(told.pop("cpu_seconds") / count * 1e3, 2)} | seen | flat


# The contenders: each is given prompts and says how many it got an answer for


def ours(url: str, prompts: list[str]) -> dict[str, object]:
    from prompt2model.conversation import Message, Request
    from prompt2model.teachers import open_teacher

    budget_and_price(url)
    teacher = open_teacher(f"{url}#m", budget_usd=1000, book=Path(os.environ["PROMPT2MODEL_HOME"]) / "book")
    asked = [Request(messages=(Message(role="user", content=prompt),), max_tokens=20) for prompt in prompts]
    ends: Counter[str] = Counter()
    for group in teacher.answer(asked):
        ends.update(reply.failure or reply.finish for _, reply in group)
    failed = {reason: number for reason, number in ends.items() if reason != "stop"}
    return {"answered": ends["stop"], "failed": failed, "unaccounted": len(prompts) - ends.total()}


def budget_and_price(url: str) -> None:
    """A price, so that the ledger has something to keep."""
    home = Path(os.environ["PROMPT2MODEL_HOME"])
    (home / "prices.toml").write_text(f'[models]\n"{url}#m" = {{ input = 0.1, output = 0.4 }}\n')


def gathered(url: str, prompts: list[str]) -> dict[str, object]:
    """The openai client as in its own examples: everything at once, its own two retries."""
    import openai

    async def ask(client: openai.AsyncOpenAI, prompt: str) -> str:
        try:
            turns = [{"role": "user", "content": prompt}]
            await client.chat.completions.create(model="m", messages=turns, max_tokens=20)
        except (openai.OpenAIError, ValueError) as error:
            return type(error).__name__
        return "stop"

    async def ask_all() -> Counter[str]:
        async with openai.AsyncOpenAI(base_url=url, api_key="none") as client:
            return Counter(await asyncio.gather(*(ask(client, prompt) for prompt in prompts)))

    ends = asyncio.run(ask_all())
    failed = {reason: number for reason, number in ends.items() if reason != "stop"}
    return {"answered": ends["stop"], "failed": failed, "unaccounted": len(prompts) - ends.total()}


def curator(url: str, prompts: list[str]) -> dict[str, object]:
    """The peer, told the limit: it does not find it."""
    import litellm

    # It brings the tokenizer's file, which would be downloaded otherwise.
    os.environ["TIKTOKEN_CACHE_DIR"] = str(Path(litellm.__file__).parent / "litellm_core_utils" / "tokenizers")
    from bespokelabs import curator as peer

    limits = {"max_requests_per_minute": 60 * PER_SECOND, "max_tokens_per_minute": 1_000_000_000}
    model = peer.LLM(
        model_name="m",
        backend="openai",
        backend_params={"base_url": url, "api_key": "none", "require_all_responses": False, **limits},
        generation_params={"max_tokens": 20},
    )
    replies = model(prompts)
    rows = getattr(replies, "dataset", replies)
    return {"answered": sum(row["response"] == "yes" for row in rows), "failed": {}, "unaccounted": 0}


CONTENDERS: dict[str, Callable[[str, list[str]], dict[str, object]]] = {
    "ours": ours,
    "openai": gathered,
    "curator": curator,
}


def ask(who: str, url: str, count: int, said: Path) -> None:
    """One contender, in a process of its own."""
    prompts = [f"Question {number} of {count}: is the sky blue? " + "Think of it. " * 10 for number in range(count)]
    before = time.process_time()
    told = CONTENDERS[who](url, prompts)
    said.write_text(json.dumps(told | {"cpu_seconds": time.process_time() - before}))


# The server


class Server(asyncio.Protocol):
    """HTTP/1.1, as much of it as is needed here."""

    tells_limit = False
    seen: ClassVar[Counter[str]] = Counter()
    paid: ClassVar[Counter[str]] = Counter()
    under_way = most_under_way = 0
    level, at = float(PER_SECOND), 0.0
    began = ended = 0.0
    rng = random.Random(0)

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport, self.received = transport, b""

    def data_received(self, data: bytes) -> None:
        self.received += data
        head, end, rest = self.received.partition(b"\r\n\r\n")
        length = next((int(line[15:]) for line in head.split(b"\r\n") if line.lower().startswith(b"content-length")), 0)
        if not end or len(rest) < length:
            return
        self.received = rest[length:]
        if head.startswith(b"GET"):
            self.say(200, json.dumps(self.stats()).encode())
            return
        Server.under_way += 1
        Server.most_under_way = max(Server.most_under_way, Server.under_way)
        Server.began = Server.began or time.monotonic()
        seconds = LATENCY_SECONDS * self.rng.lognormvariate(-0.03, 0.25)
        asyncio.get_running_loop().call_later(seconds, self.answer, json.loads(rest[:length]), self.admit())

    def admit(self) -> str:
        """What becomes of a request that arrives now."""
        now = time.monotonic()
        Server.level = min(Server.level + (now - Server.at) * PER_SECOND, PER_SECOND)
        Server.at = now
        if Server.level < 1:
            return "over the limit"
        Server.level -= 1
        drawn = self.rng.random()
        for fault, share in FAULTS:
            if drawn < share:
                return fault
            drawn -= share
        return "ok"

    def answer(self, body: dict[str, object], fate: str) -> None:
        Server.under_way -= 1
        Server.ended = time.monotonic()
        self.seen[fate] += 1
        message = {"role": "assistant", "content": "yes"}
        answer = {
            "id": "1", "object": "chat.completion", "created": 0, "model": "m",
            "choices": [{"index": 0, "finish_reason": "stop", "message": message}],
            "usage": {"prompt_tokens": 60, "completion_tokens": 2, "total_tokens": 62},
        }  # fmt: skip
        match fate:
            case "ok":
                self.paid[json.dumps(body["messages"])] += 1
                self.say(200, json.dumps(answer).encode())
            case "broken":
                self.say(200, json.dumps(answer).encode()[:-40])
            case "500":
                self.say(500, b'{"error": {"message": "oh dear"}}')
            case _:
                self.say(429, b'{"error": {"message": "slow down"}}')

    def say(self, status: int, content: bytes) -> None:
        limit = ""
        if self.tells_limit:
            left = max(int(self.level), 0)
            facts = {
                "limit": PER_SECOND,
                "remaining": left,
                "reset": f"{(PER_SECOND - left) / PER_SECOND * 1000:.0f}ms",
            }
            limit = "".join(f"x-ratelimit-{name}-requests: {value}\r\n" for name, value in facts.items())
        head = (
            f"HTTP/1.1 {status} So\r\nContent-Type: application/json\r\n{limit}Content-Length: {len(content)}\r\n\r\n"
        )
        self.transport.write(head.encode() + content)

    def stats(self) -> dict[str, object]:
        twice = sum(number - 1 for number in self.paid.values())
        seconds = self.ended - self.began
        return {
            "server": dict(self.seen),
            "paid_twice": twice,
            "most_under_way": self.most_under_way,
            "seconds": seconds,
        }


async def serve() -> None:
    loop = asyncio.get_running_loop()
    server = await loop.create_server(Server, "127.0.0.1", 0, backlog=4096)
    print(f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/v1", flush=True)
    await server.serve_forever()


if __name__ == "__main__":
    match sys.argv[1:]:
        case ["serve", *headers]:
            Server.tells_limit = bool(headers)
            asyncio.run(serve())
        case ["ask", who, url, count, said]:
            ask(who, url, int(count), Path(said))
        case _:
            main()
