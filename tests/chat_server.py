"""A small real server that speaks OpenAI's chat protocol, well or badly: each of MODES is a way to answer."""

import json
import socket
import struct
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from email.utils import formatdate
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

Body = dict[str, Any]


WHY_FAILED = {
    "failed": {"message": "the file is not to our taste"},
    "no room": {"code": "token_limit_exceeded", "message": "Enqueued token limit reached"},
}


BAD_BODIES: dict[str, Any] = {"broken": '{"choices": [{"mess', "empty": {"choices": []}}


class Batches:
    """The Batch API, as much as is used of it: a batch is done at the second look, each line in the server's mode.

    One that ends cancelled has come to its first line.
    """

    def __init__(self) -> None:
        self.files: dict[str, list[Body]] = {}
        self.made: dict[str, Body] = {}
        self.looks = 0
        self.looks_needed = 2
        self.ends: list[str] = []
        """How the batches end, in turn; else they are completed."""
        self.instead: Callable[[str], tuple[int, bytes]] | None = None
        """What is said to everything asked, from the key that came with it."""

    def post(self, handler: "_Handler", what: str) -> None:
        content = handler.rfile.read(int(handler.headers["Content-Length"]))
        if what == "files":
            lines = [json.loads(line) for line in content.splitlines() if line.startswith(b'{"custom_id"')]
            name = f"file-{len(self.files)}"
            self.files[name] = lines
            handler.say(200, {"id": name, "object": "file"})
        elif (asked := json.loads(content))["input_file_id"] not in self.files:
            handler.say(400, error(f"No such File object: {asked['input_file_id']}", "input_file_id"))
        else:
            name = f"batch-{len(self.made)}"
            self.made[name] = asked | {"id": name, "status": "in_progress"}
            handler.say(200, self.made[name])

    def get(self, handler: "_Handler", path: str) -> None:
        if path.startswith("batches?"):
            handler.say(200, {"data": list(self.made.values())})
        elif path.startswith("batches/"):
            batch = self.made[path.removeprefix("batches/")]
            self.looks += 1
            if batch["status"] == "in_progress" and self.looks >= self.looks_needed:
                self._finish(handler.server, batch)
            handler.say(200, batch)
        else:
            lines = self.files[path.split("/")[1]]
            handler.say(200, "\n".join(map(json.dumps, lines)).encode())

    def _finish(self, server: "ChatServer", batch: Body) -> None:
        end, out = self.ends.pop(0) if self.ends else "completed", []
        batch["status"] = "failed" if end in WHY_FAILED else end
        for line in self.files[batch["input_file_id"]]:
            mode = server.next_mode(line["body"])
            refused = mode.removeprefix("no ")
            if mode == "picky":  # names one of several parameters that it does not take
                refused = next((name for name in ("max_tokens", "temperature", "top_p") if name in line["body"]), "")
            if refused in line["body"]:
                good = {"status_code": 400, "body": error("Not supported with this model", refused)}
            elif mode == "one answer":
                good = {"status_code": 200, "body": completion(line["body"], server.text(line["body"]))}
            elif mode.isdigit():
                good = {"status_code": int(mode), "body": {}}
            elif mode in BAD_BODIES:
                good = {"status_code": 200, "body": BAD_BODIES[mode]}
            else:
                good = {"status_code": 200, "body": completions(line["body"], server.text)}
            is_done = batch["status"] == "completed" or (batch["status"] == "cancelled" and not out)
            done = {"response": good, "error": None} if is_done else None
            late = {"response": None, "error": {"code": "batch_expired", "message": "late"}}
            out.append({"custom_id": line["custom_id"], **(done or late)})
        if batch["status"] != "failed":
            batch["output_file_id"] = f"file-{len(self.files)}"
            self.files[batch["output_file_id"]] = out[::-1]
        else:
            batch["errors"] = {"data": [WHY_FAILED[end]]}


class ChatServer(ThreadingHTTPServer):
    """`modes` are used up one a request; the last one stays. `asked` holds the bodies in the order they came."""

    daemon_threads = True
    block_on_close = False
    request_queue_size = 128

    def __init__(self, *modes: str, text: Callable[[Body], str] = lambda body: "yes", models: tuple[str, ...] = ("m",)):
        super().__init__(("127.0.0.1", 0), _Handler)
        self.places: Callable[[Body], list[Body]] = lambda body: []
        """The tokens of an answer with the likeliest of each place, as the mode "tokens" tells them."""
        self.modes, self.text, self.models = list(modes or ("ok",)), text, models
        self.asked: list[Body] = []
        self.keys: set[str | None] = set()
        self.paths: list[str] = []
        self.heads: list[dict[str, str]] = []
        """The headers of each GET, their names in lower case."""
        self.under_way, self.most_under_way = 0, 0
        self.seconds = 0.0
        self.released = threading.Event()
        self.batches = Batches()
        self._lock = threading.Lock()

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Silence: a client that has given up hangs up while it is answered."""

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}/v1"

    def next_mode(self, body: Body) -> str:
        with self._lock:
            self.asked.append(body)
            return self.modes.pop(0) if len(self.modes) > 1 else self.modes[0]

    @contextmanager
    def counted(self) -> Iterator[None]:
        with self._lock:
            self.under_way += 1
            self.most_under_way = max(self.most_under_way, self.under_way)
        try:
            yield
        finally:
            with self._lock:
                self.under_way -= 1


@contextmanager
def serve(*modes: str, **options: Any) -> Iterator[ChatServer]:
    server = ChatServer(*modes, **options)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    try:
        yield server
    finally:
        server.released.set()
        server.shutdown()
        thread.join()
        server.server_close()


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: ChatServer

    def do_GET(self) -> None:
        self.server.paths.append(self.path)
        self.server.heads.append({name.lower(): value for name, value in self.headers.items()})
        if self.server.batches.instead:
            self.say(*self.server.batches.instead(self.headers["Authorization"]))
            return
        if "/batches" in self.path or "/files" in self.path:
            self.server.batches.get(self, self.path.partition("/v1/")[2])
            return
        models = [{"id": model, "object": "model", "created": 0, "owned_by": "us"} for model in self.server.models]
        self.say(200, {"object": "list", "data": models})

    def do_POST(self) -> None:
        self.server.paths.append(self.path)
        if self.path.endswith(("/files", "/batches")):
            self.server.batches.post(self, self.path.rpartition("/")[2])
            return
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        self.server.keys.add(self.headers.get("Authorization"))
        with self.server.counted():
            time.sleep(self.server.seconds)
            MODES[self.server.next_mode(body)](self, body)

    def say(self, status: int, value: Any, **headers: str) -> None:
        self.write(status, value if isinstance(value, bytes) else json.dumps(value).encode(), **headers)

    def write(self, status: int, content: bytes, **headers: str) -> None:
        self.send_response(status)
        for name, value in {"Content-Type": "application/json", "Content-Length": str(len(content)), **headers}.items():
            self.send_header(name.replace("_", "-"), value)
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, format: str, *args: Any) -> None:
        """Silence: the default writes to standard error."""


def completion(body: Body, text: Any, finish: str = "stop", **message: Any) -> Body:
    return {
        "id": "1",
        "object": "chat.completion",
        "created": 0,
        "model": body["model"],
        "choices": [
            {"index": 0, "finish_reason": finish, "message": {"role": "assistant", "content": text, **message}}
        ],
        "usage": {"prompt_tokens": 10, "completion_tokens": 5, "total_tokens": 15},
    }


def error(message: str, param: str | None = None, code: str | None = None) -> Body:
    return {"error": {"message": message, "type": "error", "param": param, "code": code}}


def completions(body: Body, text: Callable[[Body], Any]) -> Body:
    """As many answers as are asked for."""
    first, *others = [completion(body, text(body)) for _ in range(body.get("n", 1))]
    for other in others:
        first["choices"] += other["choices"]
        first["usage"]["completion_tokens"] += other["usage"]["completion_tokens"]
    return first


def _ok(handler: _Handler, body: Body) -> None:
    handler.say(200, completions(body, handler.server.text))


def _no_n(handler: _Handler, body: Body) -> None:
    if "n" in body:
        handler.say(400, error("Only one completion choice is allowed", "n"))
    else:
        _ok(handler, body)


def _retry_after(handler: _Handler, body: Body) -> None:
    handler.say(429, error("slow down"), Retry_After="0.2")


def _long_retry_after(handler: _Handler, body: Body) -> None:
    handler.say(429, error("come back tomorrow"), Retry_After="86400")


def _retry_date(handler: _Handler, body: Body) -> None:
    handler.say(503, error("restarting"), Retry_After=formatdate(time.time() + 1, usegmt=True))


def _hangs(handler: _Handler, body: Body) -> None:
    handler.server.released.wait(30)
    handler.close_connection = True


def _slow(handler: _Handler, body: Body) -> None:
    handler.server.released.wait(1.5)
    _ok(handler, body)


def _half(handler: _Handler, body: Body) -> None:
    handler.send_response(200)
    handler.send_header("Content-Type", "application/json")
    handler.send_header("Content-Length", "1000")
    handler.end_headers()
    handler.wfile.write(b'{"choices": [')
    handler.wfile.flush()
    handler.connection.shutdown(socket.SHUT_RDWR)
    handler.close_connection = True


def _hangs_up(handler: _Handler, body: Body) -> None:
    handler.close_connection = True


def _resets(handler: _Handler, body: Body) -> None:
    """Half of the answer, and then a reset instead of an end."""
    handler.wfile.write(b'HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\n{"cho\r\n')
    handler.wfile.flush()
    handler.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    handler.connection.close()
    handler.close_connection = True


def _no_usage(handler: _Handler, body: Body) -> None:
    answer = completion(body, "yes")
    del answer["usage"]
    handler.say(200, answer)


def _echoes_the_key(handler: _Handler, body: Body) -> None:
    handler.say(401, error(f"Incorrect API key provided: {handler.headers['Authorization']}"))


def _prompt_at_hand(handler: _Handler, body: Body) -> None:
    answer = completion(body, "yes")
    answer["usage"]["prompt_tokens_details"] = {"cached_tokens": 8, "audio_tokens": 0}
    handler.say(200, answer)


def _odd_details(handler: _Handler, body: Body) -> None:
    answer = completion(body, "yes")
    answer["usage"]["prompt_tokens_details"] = {"cached_tokens": None}
    handler.say(200, answer)


def _old_limit(handler: _Handler, body: Body) -> None:
    """As OpenAI's models that think first: no max_tokens, no temperature but 1."""
    if "max_tokens" in body:
        text = (
            "Unsupported parameter: 'max_tokens' is not supported with this model. Use 'max_completion_tokens' instead."
        )
        handler.say(400, error(text, "max_tokens", "unsupported_parameter"))
    elif body.get("temperature", 1) != 1:
        text = (
            "Unsupported value: 'temperature' does not support 0.5 with this model. Only the default (1) is supported."
        )
        handler.say(400, error(text, "temperature", "unsupported_value"))
    else:
        _ok(handler, body)


def _500_for_one(handler: _Handler, body: Body) -> None:
    """Stumbles over one question, however often it is asked."""
    if body["messages"][0]["content"] == "Question 7":
        handler.say(500, error("oh dear"))
    else:
        _ok(handler, body)


def _picky_about_top_p(handler: _Handler, body: Body) -> None:
    """As Text Generation Inference."""
    if body.get("top_p") == 1:
        said = "Input validation error: `top_p` must be > 0.0 and < 1.0"
        handler.say(422, {"error": said, "error_type": "validation"})
    else:
        _ok(handler, body)


def _no_seed(handler: _Handler, body: Body) -> None:
    """As a FastAPI server that forbids what it does not know."""
    if "seed" in body:
        detail = [{"type": "extra_forbidden", "loc": ["body", "seed"], "msg": "Extra inputs are not permitted"}]
        handler.say(422, {"detail": detail})
    else:
        _ok(handler, body)


def _likelihoods(handler: _Handler, body: Body) -> None:
    """As a server that tells the likelihoods of its first token; it leans to A."""
    if "logprobs" not in body:
        _ok(handler, body)
        return
    tokens = (("A", -0.5), (" A", -2.5), ("b", -1.5), ("The", -4.0))
    handler.say(200, _told(body, [{"token": one, "logprob": p} for one, p in tokens]))


def _told(body: Body, likeliest: list[Body]) -> Body:
    """An answer with the likeliest tokens of its one place."""
    answer = completion(body, "A", "length")
    answer["choices"][0]["logprobs"] = {"content": [{"token": "A", "logprob": -0.5, "top_logprobs": likeliest}]}
    return answer


def _tokens(handler: _Handler, body: Body) -> None:
    """As a server that tells the likeliest tokens of each place, markup left out of the text."""
    places = handler.server.places(body)
    text = "".join(place["token"] for place in places if not place["token"].startswith("<|"))
    answer = completion(body, text)
    answer["choices"][0]["logprobs"] = {"content": places}
    handler.say(200, answer)


def _no_schema(handler: _Handler, body: Body) -> None:
    if "response_format" in body:
        handler.say(400, error("This response_format type is unavailable now"))
    else:
        handler.say(200, completion(body, '```json\n{"answer": 1}\n```'))


MODES: dict[str, Callable[[_Handler, Body], None]] = {
    "ok": _ok,
    "one answer": lambda handler, body: handler.say(200, completion(body, handler.server.text(body))),
    "no n": _no_n,
    "429 then ok": _retry_after,
    "503 until a date": _retry_date,
    "429": lambda handler, body: handler.say(429, error("slow down")),
    "429 for a day": _long_retry_after,
    "429 no credit": lambda handler, body: handler.say(429, error("no quota", code="insufficient_quota")),
    "400": lambda handler, body: handler.say(400, error("your prompt is not nice")),
    "400 too long": lambda handler, body: handler.say(400, error("maximum context length is 8 tokens", "messages")),
    "401": _echoes_the_key,
    "403": lambda handler, body: handler.say(403, error("not for you")),
    "404": lambda handler, body: handler.say(404, error("no such model", code="model_not_found")),
    "500 for one": _500_for_one,
    "500": lambda handler, body: handler.say(500, error("oh dear")),
    "502 page": lambda handler, body: handler.say(502, b"<html>Bad gateway</html>", Content_Type="text/html"),
    "hangs": _hangs,
    "slow": _slow,
    "half": _half,
    "broken JSON": lambda handler, body: handler.say(200, b'{"choices": [{"mess'),
    "a page": lambda handler, body: handler.say(200, b"<html>Welcome</html>", Content_Type="text/html"),
    "a list": lambda handler, body: handler.say(200, []),
    "deep JSON": lambda handler, body: handler.say(200, b"[" * 100_000),
    "no choices": lambda handler, body: handler.say(200, {**completion(body, ""), "choices": []}),
    "null choices": lambda handler, body: handler.say(200, {**completion(body, ""), "choices": None}),
    "null message": lambda handler, body: handler.say(200, {"choices": [{"message": None}]}),
    "no content": lambda handler, body: handler.say(200, completion(body, None)),
    "parts": lambda handler, body: handler.say(200, completion(body, [{"type": "text", "text": "in parts"}])),
    "half a character": lambda handler, body: handler.say(200, completion(body, "\ud83d cut")),
    "length": lambda handler, body: handler.say(200, completion(body, "a lo", "length")),
    "filtered": lambda handler, body: handler.say(200, completion(body, "", "content_filter")),
    "refusal": lambda handler, body: handler.say(200, completion(body, None, refusal="I will not.")),
    "no usage": _no_usage,
    "prompt at hand": _prompt_at_hand,
    "odd details": _odd_details,
    "old limit": _old_limit,
    "no seed": _no_seed,
    "picky about top_p": _picky_about_top_p,
    "no schema": _no_schema,
    "likelihoods": _likelihoods,
    "tokens": _tokens,
    "hangs up": _hangs_up,
    "resets": _resets,
    "no head": lambda handler, body: handler.wfile.write(b"this is no HTTP\r\n\r\n"),
    "no letter": lambda handler, body: handler.say(200, _told(body, [{"token": "The", "logprob": -0.1}])),
    "odd likelihoods": lambda handler, body: handler.say(200, _told(body, [{"token": 1, "logprob": "likely"}])),
    "null likelihoods": lambda handler, body: handler.say(200, completion(body, "A", "length")),
}
