"""Where a provider's key goes: to its base URL, whatever proxies, .netrc or redirects the machine knows."""

from __future__ import annotations

from pathlib import Path

import pytest

from colt_pipeline.errors import ProviderError
from colt_pipeline.llm.openai_client import OpenAIClient
from tests.llm.live import KEY, provider, question
from tests.llm.server import Server, misbehaving


def ask(server: Server) -> None:
    OpenAIClient("served", provider(server, timeout_secs=5)).complete(question(), 0)


@pytest.mark.parametrize(
    "names", [("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY"), ("http_proxy", "https_proxy", "all_proxy")]
)
def test_a_proxy_of_the_environment_gets_neither_key_nor_prompt(
    names: tuple[str, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    with misbehaving() as proxy, misbehaving() as server:
        for name in names:
            monkeypatch.setenv(name, f"http://127.0.0.1:{proxy.port}")
        monkeypatch.setenv("NO_PROXY", "")
        ask(server)
    assert not proxy.requests and len(server.requests) == 1


def test_netrc_does_not_replace_the_key(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / ".netrc"
    file.write_text("default login someone password of-another-account\n")
    file.chmod(0o600)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("NETRC", str(file))
    with misbehaving() as server:
        ask(server)
    [headers] = server.headers
    assert headers["authorization"] == f"Bearer {KEY}" and "of-another-account" not in str(headers)


def test_a_redirect_is_not_followed_and_its_target_learns_nothing() -> None:
    with misbehaving("redirect") as server, pytest.raises(ProviderError, match="redirects are not followed"):
        ask(server)
    assert len(server.requests) == 1
