"""A real HTTP server on loopback that speaks the OpenAI API and misbehaves on demand."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

ANSWER = '{"transformations": ["Step"], "next_model": "small"}'


@dataclass
class Server:
    """The requests received, and the scripted responses to the next ones; after those, valid answers."""

    behaviours: list[str] = field(default_factory=list)
    requests: list[dict[str, Any]] = field(default_factory=list)
    headers: list[dict[str, str]] = field(default_factory=list)
    text: str = ANSWER
    always: str = "good"
    port: int = 0

    @property
    def base_url(self) -> str:
        return f"http://127.0.0.1:{self.port}/v1"


def completion(text: str | None, **changes: Any) -> dict[str, Any]:
    message = {"role": "assistant", "content": text, **changes.pop("message", {})}
    choices = changes.pop("choices", [{"index": 0, "message": message, "finish_reason": "stop"}])
    usage = {"prompt_tokens": 100, "completion_tokens": 10, "total_tokens": 110}
    return {"id": "1", "object": "chat.completion", "model": "served-7b", "choices": choices, "usage": usage, **changes}


def error(message: str, code: str | None = None, kind: str = "error") -> dict[str, Any]:
    return {"error": {"message": message, "code": code, "type": kind}}


Behaviour = Callable[["Handler"], None]

BEHAVIOURS: dict[str, Behaviour] = {
    "good": lambda h: h.reply(200, completion(h.state.text)),
    "429": lambda h: h.reply(429, error("slow down"), {"Retry-After": "7"}),
    "429 date": lambda h: h.reply(429, error("slow down"), {"Retry-After": h.date_time_string(time.time() + 30)}),
    "429 tomorrow": lambda h: h.reply(429, error("slow down"), {"Retry-After": "86400"}),
    "no quota": lambda h: h.reply(429, error("You exceeded your quota", "insufficient_quota")),
    "500": lambda h: h.reply(500, error("oops")),
    "503 html": lambda h: h.send(503, b"<html>maintenance</html>", {"Content-Type": "text/html"}),
    "401": lambda h: h.reply(
        401, error(f"Incorrect API key provided: {h.headers['Authorization']}", "invalid_api_key")
    ),
    "402": lambda h: h.reply(402, error("no credit")),
    "403": lambda h: h.reply(403, error("not for you")),
    "404 model": lambda h: h.reply(404, error("The model does not exist", "model_not_found")),
    "400": lambda h: h.reply(400, error("the messages are invalid")),
    "overflow": lambda h: h.reply(400, error("maximum context length is 8192 tokens", "context_length_exceeded")),
    "redirect": lambda h: h.send(307, b"", {"Location": "http://127.0.0.2:9/v1/chat/completions"}),
    "time-out": lambda h: time.sleep(1.5),
    "reset": lambda h: h.cut(),
    "truncated JSON": lambda h: h.send(200, json.dumps(completion("x")).encode()[:60]),
    "wrong content type": lambda h: h.send(200, b"<html>hello</html>", {"Content-Type": "text/html"}),
    "JSON without a type": lambda h: h.send(
        200, json.dumps(completion(h.state.text)).encode(), {"Content-Type": "x/y"}
    ),
    "refusal": lambda h: h.reply(200, completion(None, message={"refusal": "I cannot help with that."})),
    "filtered": lambda h: h.reply(
        200, completion(None, choices=[{"message": {"content": None}, "finish_reason": "content_filter"}])
    ),
    "empty choices": lambda h: h.reply(200, completion("x", choices=[])),
    "no usage": lambda h: h.reply(200, {"choices": [{"message": {"content": h.state.text}, "finish_reason": "stop"}]}),
    "slow drip": lambda h: h.drip(),
    "error with status 200": lambda h: h.reply(200, {"error": {"code": 402, "message": "Insufficient credits"}}),
    "plain 400": lambda h: h.send(400, b"maximum context length is 8192 tokens", {"Content-Type": "text/plain"}),
    "quota in words": lambda h: h.reply(429, {"error": "insufficient_quota"}),
    "529": lambda h: h.send(529, b"overloaded"),
    "504": lambda h: h.reply(504, error("gateway time-out")),
    "deep": lambda h: h.send(200, b"[" * 100_000),
    "parts": lambda h: h.reply(200, completion(None, message={"content": [{"type": "text", "text": h.state.text}]})),
    "null usage": lambda h: h.reply(200, completion(h.state.text, usage={"prompt_tokens": None})),
    "parrot": lambda h: h.reply(200, completion(f"your key is {h.headers['Authorization'].split()[-1]}")),
}


class Handler(BaseHTTPRequestHandler):
    state: Server

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        self.state.requests.append({"path": self.path, **body})
        self.state.headers.append({k.lower(): v for k, v in self.headers.items()})
        BEHAVIOURS[self.state.behaviours.pop(0) if self.state.behaviours else self.state.always](self)

    def reply(self, status: int, body: dict[str, Any], headers: dict[str, str] | None = None) -> None:
        self.send(status, json.dumps(body).encode(), headers)

    def send(self, status: int, body: bytes, headers: dict[str, str] | None = None) -> None:
        self.send_response(status)
        for name, value in {"Content-Type": "application/json", **(headers or {})}.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def cut(self) -> None:
        """Send half a body, then drop the connection."""
        self.send_response(200)
        self.send_header("Content-Length", "100000")
        self.end_headers()
        self.wfile.write(b'{"choices": [')
        self.close_connection = True

    def drip(self) -> None:
        """Send a byte now and then: each arrives before the timeout, but all of them take far longer."""
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", "1000")
        self.end_headers()
        for _ in range(100):
            try:
                self.wfile.write(b" ")
                self.wfile.flush()
            except OSError:
                return  # the client has given up
            time.sleep(0.1)

    def log_message(self, format: str, *args: Any) -> None:
        """Print nothing."""


@contextmanager
def misbehaving(*behaviours: str, always: str = "good") -> Iterator[Server]:
    """A server that responds to its requests in this way, in turn."""
    state = Server(list(behaviours), always=always)
    handler = type("BoundHandler", (Handler,), {"state": state})
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as http:
        state.port = http.server_port
        thread = threading.Thread(target=http.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
        thread.start()
        try:
            yield state
        finally:
            http.shutdown()
            thread.join()
