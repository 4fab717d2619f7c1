"""The check that keeps an incompatible tvm-ffi from crashing the process."""

from pathlib import Path

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


CGROUPS = {
    "no limit": ("0::/\n", {"cpu.max": "max 100000"}, 8),
    "v2": ("0::/\n", {"cpu.max": "200000 100000"}, 2),
    "v2, own group": ("0::/user.slice/x\n", {"user.slice/x/cpu.max": "300000 100000"}, 3),
    "v2, the group above": (
        "0::/user.slice/x\n",
        {"user.slice/cpu.max": "100000 100000", "user.slice/x/cpu.max": "max 100000"},
        1,
    ),
    "v2 beside v1": ("4:memory:/\n0::/x\n", {"unified/x/cpu.max": "400000 100000"}, 4),
    "v1": ("4:cpu:/\n0::/\n", {"cpu/cpu.cfs_quota_us": "250000", "cpu/cpu.cfs_period_us": "100000"}, 2),
    "v1, no limit": ("4:cpu:/\n", {"cpu/cpu.cfs_quota_us": "-1", "cpu/cpu.cfs_period_us": "100000"}, 8),
    "v1, several controllers": (
        "4:cpu,cpuacct:/x\n",
        {"cpu,cpuacct/x/cpu.cfs_quota_us": "50000", "cpu,cpuacct/x/cpu.cfs_period_us": "100000"},
        1,
    ),
    "the host's path": (
        "4:cpu,cpuacct:/docker/0123\n",
        {"cpu,cpuacct/cpu.cfs_quota_us": "600000", "cpu,cpuacct/cpu.cfs_period_us": "100000"},
        6,
    ),
    "more than the mask": ("0::/\n", {"cpu.max": "6400000 100000"}, 8),
    "of another controller": ("4:cpuset:/\n", {"cpuset/cpu.max": "100000 100000"}, 8),
    "damaged": ("0::/\n", {"cpu.max": "a lot"}, 8),
    "no control groups": (None, {}, 8),
}


@pytest.mark.parametrize(("own", "files", "cores"), CGROUPS.values(), ids=CGROUPS)
def test_the_cpu_quota_of_a_container_limits_the_cores(
    own: str | None, files: dict[str, str], cores: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("os.sched_getaffinity", lambda process: set(range(8)))
    monkeypatch.setattr(stack, "_OWN_GROUPS", tmp_path / "own")
    monkeypatch.setattr(stack, "_GROUPS", tmp_path / "groups")
    if own is not None:
        (tmp_path / "own").write_text(own)
    for name, text in files.items():
        path = tmp_path / "groups" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"{text}\n")
    assert stack.usable_cores() == cores
