"""HTTP to a server that is not trusted: an exchange ends at its deadline, and after so many bytes.

The usual timeouts restart with every byte. Here each step (each address that is tried, the proxy, TLS, each read and
write) has only the time left for the whole exchange, and every byte counts, be it of headers, of chunk sizes or of the
body. Compression is neither asked for nor accepted, so no answer grows once it has been received.
"""

from __future__ import annotations

import os
import socket
import ssl
import threading
import time
from collections.abc import Iterable
from typing import Any
from urllib.parse import unquote, urlsplit
from urllib.request import proxy_bypass_environment  # type: ignore[attr-defined]

import httpcore2
import httpx2

from colt_pipeline.errors import ProviderError

UNCOMPRESSED = {"Accept-Encoding": "identity"}
_KEPT_HEADERS = ("retry-after", "retry-after-ms")
"""The only headers of a response that anything here reads; others could set cookies or name an odd character set."""
_PIECE = 1 << 14
_CERTIFICATES = ("SSL_CERT_FILE", "SSL_CERT_DIR")


class Transport(httpx2.BaseTransport):
    """Directly or through a proxy; variables such as HTTPS_PROXY are not read. One exchange at a time per thread."""

    def __init__(self, base_url: str, proxy: str | None, timeout_secs: float, max_bytes: int) -> None:
        """Prepare to connect.

        Args:
            base_url: the server's address.
            proxy: address of an HTTP proxy, with user and password if it asks for them.
            timeout_secs: limit of an exchange.
            max_bytes: limit of a response, headers included.

        Raises:
            ProviderError: the environment names certificates that cannot be read.
        """
        self._network = _Network(timeout_secs, max_bytes)
        self._pool = httpcore2.ConnectionPool(
            ssl_context=_ssl_context() if urlsplit(base_url).scheme == "https" else None,
            proxy=None if proxy is None else _proxy(proxy),
            max_connections=None,
            max_keepalive_connections=0,  # a server may have closed one that idled while programs were measured
            network_backend=self._network,
        )

    def handle_request(self, request: httpx2.Request) -> httpx2.Response:
        """The response, received to its end.

        Raises:
            httpx2.TimeoutException: the deadline.
            httpx2.NetworkError, httpx2.ProtocolError, httpx2.ProxyError: no response, or an unusable one.
        """
        try:
            return self._exchange(request)
        except (
            httpcore2.TimeoutException,
            httpcore2.NetworkError,
            httpcore2.ProtocolError,
            httpcore2.ProxyError,
        ) as error:
            same: type[httpx2.TransportError] = getattr(httpx2, type(error).__name__)  # what the openai package expects
            raise same(str(error), request=request) from error

    def _exchange(self, request: httpx2.Request) -> httpx2.Response:
        self._network.begin()
        url = request.url
        sent = httpcore2.Request(
            request.method,
            httpcore2.URL(scheme=url.raw_scheme, host=url.raw_host, port=url.port, target=url.raw_path),
            headers=request.headers.raw,
            content=request.read(),
        )
        response = self._pool.handle_request(sent)
        try:
            headers = httpx2.Headers(response.headers)
            if (encoding := headers.get("content-encoding", "identity").strip().lower()) not in ("", "identity"):
                raise httpcore2.RemoteProtocolError(f"compressed ({encoding}), which was not asked for")
            body = response.read()
        finally:
            response.close()
        return httpx2.Response(response.status, headers=_kept(headers), content=body)

    def close(self) -> None:
        self._pool.close()


def _kept(headers: httpx2.Headers) -> dict[str, str]:
    kept = {name: headers[name] for name in _KEPT_HEADERS if name in headers and headers[name].isascii()}
    return {**kept, "content-type": "application/json"}


class _Network(httpcore2.NetworkBackend):
    """Connections that share the limits of the exchange that their thread is making."""

    def __init__(self, timeout_secs: float, max_bytes: int) -> None:
        self._timeout_secs = timeout_secs
        self._max_bytes = max_bytes
        self._exchange = threading.local()
        self._backend = httpcore2.SyncBackend()

    def begin(self) -> None:
        """Start an exchange, with all of its time and bytes."""
        self._exchange.end = time.monotonic() + self._timeout_secs
        self._exchange.received = 0

    def left_secs(self, expired: type[httpcore2.TimeoutException]) -> float:
        """Seconds until the deadline; raises `expired` after it."""
        left: float = self._exchange.end - time.monotonic()
        if left <= 0:
            raise expired(f"not finished within {self._timeout_secs:g} s")
        return left

    def received(self, count: int) -> None:
        """Count received bytes."""
        self._exchange.received += count
        if self._exchange.received > self._max_bytes:
            raise httpcore2.RemoteProtocolError(f"longer than max_bytes={self._max_bytes}")

    def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,
        local_address: str | None = None,
        socket_options: Iterable[httpcore2.SOCKET_OPTION] | None = None,
    ) -> httpcore2.NetworkStream:
        """Connect to the first address of the host that accepts; each gets an equal share of the time left."""
        try:
            found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
        except (OSError, UnicodeError) as error:  # a UnicodeError where a label of the name is too long
            raise httpcore2.ConnectError(str(error)) from error
        addresses = list(dict.fromkeys(str(address[0]) for *_, address in found))
        failure: Exception = httpcore2.ConnectError("the host has no address")
        for number, address in enumerate(addresses):
            share = self.left_secs(httpcore2.ConnectTimeout) / (len(addresses) - number)
            try:
                stream = self._backend.connect_tcp(address, port, share, local_address, socket_options)
            except (httpcore2.ConnectError, httpcore2.ConnectTimeout) as error:
                failure = error
            else:
                return _Stream(stream, self)
        raise failure


class _Stream(httpcore2.NetworkStream):
    def __init__(self, stream: httpcore2.NetworkStream, network: _Network) -> None:
        self._stream, self._network = stream, network

    def read(self, max_bytes: int, timeout: float | None = None) -> bytes:
        data = self._stream.read(max_bytes, self._network.left_secs(httpcore2.ReadTimeout))
        self._network.received(len(data))
        return data

    def write(self, buffer: bytes, timeout: float | None = None) -> None:
        # In pieces, because within one the timeout may restart.
        for start in range(0, len(buffer), _PIECE):
            piece = buffer[start : start + _PIECE]
            self._stream.write(piece, self._network.left_secs(httpcore2.WriteTimeout))

    def start_tls(
        self, ssl_context: ssl.SSLContext, server_hostname: str | None = None, timeout: float | None = None
    ) -> httpcore2.NetworkStream:
        left = self._network.left_secs(httpcore2.ConnectTimeout)
        return _Stream(self._stream.start_tls(ssl_context, server_hostname, left), self._network)

    def get_extra_info(self, info: str) -> Any:
        return self._stream.get_extra_info(info)

    def close(self) -> None:
        self._stream.close()


def _ssl_context() -> ssl.SSLContext:
    named = next((name for name in _CERTIFICATES if os.environ.get(name)), None)
    try:
        if named == "SSL_CERT_DIR":
            os.listdir(os.environ[named])  # else a missing directory is one without certificates
        return httpcore2.default_ssl_context()
    except OSError as error:
        if named is None:
            raise ProviderError(
                f"no certificates can be loaded ({error}); set SSL_CERT_FILE to a file of them"
            ) from error
        why = error.strerror or error
        raise ProviderError(
            f"{named}={os.environ[named]} cannot be read as certificates ({why}); correct or unset it"
        ) from error


def _proxy(address: str) -> httpcore2.Proxy:
    url = urlsplit(address)
    auth = None if url.username is None else (unquote(url.username), unquote(url.password or ""))
    assert url.hostname is not None  # see config/checks.py
    return httpcore2.Proxy(httpcore2.URL(scheme=url.scheme, host=url.hostname, port=url.port, target="/"), auth)


def proxy_secrets(address: str | None) -> list[str]:
    """The parts of a proxy's address that no message may show."""
    url = urlsplit(address or "")
    encoded = [part for part in (url.username, url.password) if part]
    return [*encoded, *map(unquote, encoded)]


def unused_proxy(base_url: str) -> str | None:
    """The environment variable with the proxy that other programs would use for this address; None without one."""
    url = urlsplit(base_url)
    if proxy_bypass_environment(url.hostname or ""):
        return None
    names = (f"{url.scheme}_proxy", "all_proxy")
    return next((shown for name in names for shown in (name.upper(), name) if os.environ.get(shown)), None)
