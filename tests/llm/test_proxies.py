"""A proxy is used only where the configuration names one; it sees no key, and its password stays secret."""

from __future__ import annotations

import base64
from pathlib import Path

import pytest

from colt_pipeline.errors import ProviderError
from colt_pipeline.llm.openai_client import OpenAIClient
from tests.llm.live import KEY, Setting, provider, question
from tests.llm.server import ANSWER, misbehaving

PASSWORD = "open sesame"
VARIABLES = ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "NO_PROXY")


@pytest.fixture(autouse=True)
def no_proxies(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in VARIABLES:
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.lower(), raising=False)


def proxy_at(port: int) -> str:
    return f"http://ali:{PASSWORD.replace(' ', '%20')}@127.0.0.1:{port}"


def test_a_server_without_tls_is_asked_through_the_proxy() -> None:
    with misbehaving() as proxy:
        settings = provider(proxy, base_url="http://models.invalid/v1", key_env="", proxy=proxy_at(proxy.port))
        assert OpenAIClient("served", settings).complete(question(), 0).text == ANSWER
    [request], [headers] = proxy.requests, proxy.headers
    assert request["path"] == "http://models.invalid/v1/chat/completions"
    assert headers["host"] == "models.invalid"
    assert headers["proxy-authorization"] == "Basic " + base64.b64encode(f"ali:{PASSWORD}".encode()).decode()


def test_a_proxy_of_a_server_with_tls_sees_its_name_and_no_key(tmp_path: Path) -> None:
    with misbehaving() as proxy:
        setting = Setting(proxy, tmp_path, base_url="https://models.invalid/v1", proxy=proxy_at(proxy.port))
        with pytest.raises(ProviderError, match=r"ProxyError: 407 .*through providers.served.proxy") as raised:
            setting.ask()
    assert {request["path"] for request in proxy.requests} == {"models.invalid:443"}
    assert KEY not in str(proxy.headers) and all("authorization" not in headers for headers in proxy.headers)
    assert "sesame" not in str(raised.value) and str(proxy.port) not in str(raised.value)
    assert setting.spent.tokens == 0, "the server was not reached"


@pytest.mark.parametrize(
    ("variable", "base_url", "named"),
    [
        ("HTTPS_PROXY", "https://127.0.0.1:9/v1", True),
        ("https_proxy", "https://127.0.0.1:9/v1", True),
        ("HTTP_PROXY", "http://127.0.0.1:9/v1", True),
        ("ALL_PROXY", "https://127.0.0.1:9/v1", True),
        ("HTTP_PROXY", "https://127.0.0.1:9/v1", False),
    ],
)
def test_a_proxy_of_the_environment_is_not_used_but_named_where_it_may_be_missing(
    variable: str, base_url: str, named: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with misbehaving() as proxy:
        monkeypatch.setenv(variable, proxy_at(proxy.port))
        setting = Setting(proxy, tmp_path, base_url=base_url)
        with pytest.raises(ProviderError) as raised:
            setting.ask()
        way_out = f"{variable} is set but not used: if this machine needs a proxy, set providers.served.proxy="
        assert (way_out in str(raised.value)) == named
        assert "sesame" not in str(raised.value)
        monkeypatch.setenv("NO_PROXY", "127.0.0.1")
        with pytest.raises(ProviderError) as raised:
            setting.ask()
    assert variable not in str(raised.value)
    assert not proxy.requests
