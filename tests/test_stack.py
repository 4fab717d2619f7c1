"""The check that keeps an incompatible tvm-ffi from crashing the process."""

import pytest

from colt_pipeline import stack
from colt_pipeline.errors import StackError


def test_the_installed_packages_fit() -> None:
    stack.check()
    assert stack._versions("apache-tvm-ffi")["apache-tvm-ffi"].startswith("0.1.14")


def test_a_wrong_pairing_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stack, "version", lambda name: {"apache-tvm-ffi": "0.1.15.post2"}.get(name, "0.27.0"))
    with pytest.raises(StackError, match=r"apache-tvm-ffi 0\.1\.15\.post2 .* pip install -c constraints\.txt"):
        stack.check()


def test_a_missing_package_is_named() -> None:
    with pytest.raises(StackError, match="no-such-package is not installed"):
        stack._versions("no-such-package")
