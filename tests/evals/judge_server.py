"""A small chat-completions server for tests: it answers from a script and remembers what it was asked."""

import json
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any


@dataclass
class Said:
    """One HTTP answer. `text` makes a chat completion; `body` is sent as it is."""

    text: str = ""
    status: int = 200
    body: bytes | None = None
    delay: float = 0.0
    headers: dict[str, str] = field(default_factory=dict)
    finish: str = "stop"
    top: list[dict[str, Any]] | None = None
    usage: bool = True


@dataclass
class Server:
    """Address and log: every request's content, headers and arrival time."""

    url: str
    asked: list[str] = field(default_factory=list)
    bodies: list[dict[str, Any]] = field(default_factory=list)
    headers: list[dict[str, str]] = field(default_factory=list)
    times: list[float] = field(default_factory=list)


@contextmanager
def chat_server(answer: Callable[[str, int], Said]) -> Iterator[Server]:
    """Serve `answer(last user message, how often it was asked before)` on a free local port."""
    lock = threading.Lock()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            content = body["messages"][-1]["content"]
            with lock:
                before = server.asked.count(content)
                server.asked.append(content)
                server.bodies.append(body)
                server.headers.append(dict(self.headers))
                server.times.append(time.monotonic())
            said = answer(content, before)
            time.sleep(said.delay)
            payload = completion(said) if said.body is None else said.body
            try:
                self.send_response(said.status)
                for name, value in {**said.headers, "Content-Length": str(len(payload))}.items():
                    self.send_header(name, value)
                self.end_headers()
                self.wfile.write(payload)
            except OSError:  # the client has hung up
                return

        def log_message(self, format: str, *args: Any) -> None:
            pass

    class Quiet(ThreadingHTTPServer):
        daemon_threads = True

        def handle_error(self, request: Any, client_address: Any) -> None:
            pass

    http = Quiet(("127.0.0.1", 0), Handler)
    server = Server(f"http://127.0.0.1:{http.server_port}/v1")
    thread = threading.Thread(target=http.serve_forever, args=(0.02,), daemon=True)
    thread.start()
    try:
        yield server
    finally:
        http.shutdown()
        http.server_close()


def completion(said: Said) -> bytes:
    """The JSON of a chat completion, 10 prompt tokens and 5 of the answer."""
    choice: dict[str, Any] = {"index": 0, "finish_reason": said.finish}
    choice["message"] = {"role": "assistant", "content": said.text}
    if said.top is not None:
        choice["logprobs"] = {"content": [{"token": "A", "logprob": 0.0, "top_logprobs": said.top}]}
    value: dict[str, Any] = {"object": "chat.completion", "choices": [choice]}
    if said.usage:
        value["usage"] = {"prompt_tokens": 10, "completion_tokens": 5, "total_tokens": 15}
    return json.dumps(value).encode()
