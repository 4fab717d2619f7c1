"""A real HTTP server on loopback that speaks the OpenAI API and misbehaves on demand."""

from __future__ import annotations

import gzip
import json
import threading
import time
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

ANSWER = '{"transformations": ["Step"], "next_model": "small"}'


@dataclass
class Server:
    """The requests received, and the scripted responses to the next ones; after those, valid answers.

    A response is one of BEHAVIOURS, JSON for the `usage` of a valid answer, ``raw:`` and a body, or the
    ``Retry-After:`` header of a 429.
    """

    behaviours: list[str] = field(default_factory=list)
    requests: list[dict[str, Any]] = field(default_factory=list)
    headers: list[dict[str, str]] = field(default_factory=list)
    text: str = ANSWER
    always: str = "good"
    sent: int = 0
    """Bytes of floods."""
    port: int = 0
    meeting: threading.Barrier = field(default_factory=lambda: threading.Barrier(1))
    """Requests that are answered ``together`` wait until so many are there."""
    gate: threading.Event = field(default_factory=threading.Event)
    """Requests that are ``held`` wait until it is set."""

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


def failed_choice(described: dict[str, Any]) -> dict[str, Any]:
    return completion("", choices=[{"message": {"content": ""}, "finish_reason": "error", "error": described}])


Behaviour = Callable[["Handler"], None]

BEHAVIOURS: dict[str, Behaviour] = {
    "good": lambda h: h.reply(200, completion(h.state.text)),
    "together": lambda h: h.meet(),
    "held": lambda h: h.hold(),
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
    "tool call": lambda h: h.reply(
        200,
        completion(
            None,
            choices=[{"message": {"content": None, "tool_calls": [{"id": "1"}]}, "finish_reason": "tool_calls"}],
        ),
    ),
    "choice error 429": lambda h: h.reply(200, failed_choice({"code": 429, "message": "Rate limit exceeded upstream"})),
    "choice error 402": lambda h: h.reply(200, failed_choice({"code": 402, "message": "Insufficient credits"})),
    "choice error in words": lambda h: h.reply(200, failed_choice({"code": "overloaded", "message": "try later"})),
    "choice error of an odd code": lambda h: h.reply(200, failed_choice({"code": True, "message": "?"})),
    "finish reason error": lambda h: h.reply(
        200, completion("", choices=[{"message": {"content": ""}, "finish_reason": "error"}])
    ),
    "null choices": lambda h: h.reply(200, completion("", choices=None)),
    "null choices and an error": lambda h: h.reply(200, {"choices": None, "error": {"code": "503", "message": "busy"}}),
    "null message": lambda h: h.reply(200, completion("", choices=[{"message": None, "finish_reason": "stop"}])),
    "content is a number": lambda h: h.reply(200, completion(None, message={"content": 5})),
    "a list": lambda h: h.send(200, b"[1, 2]"),
    "huge integer": lambda h: h.send(200, b'{"choices": ' + b"9" * 5000 + b"}"),
    "stream": lambda h: h.send(
        200, b'data: {"choices": []}\n\ndata: [DONE]\n\n', {"Content-Type": "text/event-stream"}
    ),
    "names as objects": lambda h: h.reply(
        200,
        completion("", model={"a": 1}, choices=[{"message": {"content": h.state.text}, "finish_reason": ["stop"]}]),
    ),
    "says transport": lambda h: h.reply(
        200, completion("", choices=[{"message": {"content": h.state.text}, "finish_reason": "transport"}])
    ),
    "parrot in every name": lambda h: h.reply(
        200,
        completion("", model=h.key, choices=[{"message": {"content": h.state.text}, "finish_reason": h.key}]),
    ),
    "endless header lines": lambda h: h.drip(b"HTTP/1.1 200 OK\r\n", b"X-Drip: 1\r\n"),
    "endless header line": lambda h: h.drip(b"HTTP/1.1 200 OK\r\nX-Drip: ", b"a"),
    "endless interim responses": lambda h: h.drip(b"", b"HTTP/1.1 102 Processing\r\n\r\n"),
    "no status line": lambda h: h.drip(b"", b""),
    "endless chunks": lambda h: h.flood(
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", b"10000\r\n" + b" " * 65536 + b"\r\n"
    ),
    "endless headers": lambda h: h.flood(b"HTTP/1.1 200 OK\r\n", b"X-Flood: 1\r\n" * 4096),
    "endless failure": lambda h: h.flood(
        b"HTTP/1.1 500 Oops\r\nTransfer-Encoding: chunked\r\n\r\n", b"10000\r\n" + b" " * 65536 + b"\r\n"
    ),
    "bomb": lambda h: h.send(200, gzip.compress(b" " * (50 << 20)), {"Content-Encoding": "gzip"}),
    "bomb as a character set": lambda h: h.send(
        200, zlib.compress(b" " * (50 << 20)), {"Content-Type": "application/json; charset=zlib_codec"}
    ),
    "HTTP 0.9": lambda h: h.raw(b"<html>hello</html>"),
    "switches protocols": lambda h: h.raw(b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\n\r\n"),
    "broken chunks": lambda h: h.raw(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n"),
    "odd bytes in headers": lambda h: h.raw(b"HTTP/1.1 429 Slow\r\nRetry-After: \xff\xfe\r\nContent-Length: 0\r\n\r\n"),
    "no format": lambda h: h.reply(400, {"error": "response_format type json_schema is not available on this server"}),
    "no temperature": lambda h: h.reply(400, error("Unsupported parameter: 'temperature' is not supported")),
    "no max_tokens": lambda h: h.reply(400, error("'max_tokens' is not supported; use 'max_completion_tokens'")),
    "no effort": lambda h: h.reply(422, error("extra inputs are not permitted: reasoning_effort")),
    "cuts the prompt": lambda h: h.reply(
        200, completion(h.state.text, usage={"prompt_tokens": 3, "completion_tokens": 10})
    ),
    "parrot": lambda h: h.reply(200, completion(f"your key is {h.key}")),
}


class Handler(BaseHTTPRequestHandler):
    state: Server

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        self.state.requests.append({"path": self.path, **body})
        self.state.headers.append({k.lower(): v for k, v in self.headers.items()})
        behaviour = self.state.behaviours.pop(0) if self.state.behaviours else self.state.always
        if behaviour.startswith("{"):
            self.reply(200, completion(self.state.text, usage=json.loads(behaviour)))
        elif behaviour.startswith("raw:"):
            self.send(200, behaviour.removeprefix("raw:").encode())
        elif behaviour.startswith("Retry-After:"):
            self.reply(429, error("slow down"), {"Retry-After": behaviour.partition(":")[2]})
        else:
            BEHAVIOURS[behaviour](self)

    def do_CONNECT(self) -> None:
        """Refuse to be a tunnel."""
        self.state.requests.append({"path": self.path})
        self.state.headers.append({k.lower(): v for k, v in self.headers.items()})
        self.send(407, b"")

    @property
    def key(self) -> str:
        return self.headers["Authorization"].split()[-1]

    def reply(self, status: int, body: dict[str, Any], headers: dict[str, str] | None = None) -> None:
        self.send(status, json.dumps(body).encode(), headers)

    def send(self, status: int, body: bytes, headers: dict[str, str] | None = None) -> None:
        self.send_response(status)
        for name, value in {"Content-Type": "application/json", **(headers or {})}.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def meet(self) -> None:
        self.state.meeting.wait(20)
        self.reply(200, completion(self.state.text))

    def hold(self) -> None:
        self.state.gate.wait()
        with suppress(OSError):  # the client may be gone
            self.reply(200, completion(self.state.text))

    def cut(self) -> None:
        """Send half a body, then drop the connection."""
        self.send_response(200)
        self.send_header("Content-Length", "100000")
        self.end_headers()
        self.wfile.write(b'{"choices": [')
        self.close_connection = True

    def drip(self, head: bytes = b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n", drop: bytes = b" ") -> None:
        """Send a little now and then: each arrives before the timeout, but all of it takes far longer."""
        self._until_given_up(head, drop, 100, 0.1)

    def flood(self, head: bytes, wave: bytes) -> None:
        """Send as much as the client takes, up to a limit that it must not reach."""
        self._until_given_up(head, wave, 4000, 0.0)

    def _until_given_up(self, head: bytes, again: bytes, times: int, pause_secs: float) -> None:
        self.close_connection = True
        try:
            self.wfile.write(head)
            for _ in range(times):
                self.wfile.write(again)
                self.state.sent += len(again)
                time.sleep(pause_secs)
        except OSError:
            pass  # the client has given up

    def raw(self, response: bytes) -> None:
        """Send these bytes and close the connection."""
        self.wfile.write(response)
        self.close_connection = True

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
