"""The key of the server that misbehaves, and an end for the budgets of its callers."""

from collections.abc import Iterator

import pytest

from tests.llm.live import KEY, opened


@pytest.fixture(autouse=True)
def key(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setenv("TEST_KEY", KEY)
    yield
    while opened:
        opened.pop().close()
