"""An installed package contains everything that its commands read, and works from any directory."""

from __future__ import annotations

import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

from tests.support import ROOT

_SOURCES = ("pyproject.toml", "README.md", "LICENSE", "colt_pipeline", "stages", "conf")
_BUILD = "import sys; from setuptools.build_meta import build_wheel; print(build_wheel(sys.argv[1]))"


def test_a_wheel_finds_its_configuration_from_everywhere(tmp_path: Path) -> None:
    source, installed, elsewhere = (tmp_path / name for name in ("source", "installed", "elsewhere"))
    for directory in (source, elsewhere):
        directory.mkdir()
    for name in _SOURCES:
        if (ROOT / name).is_dir():
            shutil.copytree(ROOT / name, source / name, symlinks=True, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy(ROOT / name, source / name)
    subprocess.run([sys.executable, "-c", _BUILD, str(tmp_path)], cwd=source, capture_output=True, check=True)
    (wheel,) = tmp_path.glob("*.whl")
    with zipfile.ZipFile(wheel) as file:
        names = set(file.namelist())
        file.extractall(installed)
    read = {"*.yaml": ROOT / "conf", "*.j2": ROOT / "colt_pipeline", "*.csv": ROOT / "colt_pipeline"}
    for pattern, folder in read.items():
        expected = {path.relative_to(ROOT).as_posix() for path in folder.rglob(pattern)}
        below = {name if name.startswith("colt_pipeline/") else f"colt_pipeline/{name}" for name in expected}
        assert below and below <= names
    command = [sys.executable, "-m", "colt_pipeline", "tune", "--cfg", "job", "samples=7", "workload=flux_conv"]
    environment = {"PYTHONPATH": str(installed), "PATH": "/usr/bin:/bin"}
    done = subprocess.run(command, cwd=elsewhere, capture_output=True, text=True, check=False, env=environment)
    assert done.returncode == 0, done.stderr
    assert "\nsamples: 7\n" in done.stdout


def test_no_setting_of_git_changes_a_file(tmp_path: Path) -> None:
    (tmp_path / "source").mkdir()
    shutil.copy(ROOT / ".gitattributes", tmp_path / "source")
    (tmp_path / "source" / "text.jsonl").write_bytes(b"{}\n{}\n")
    (tmp_path / "source" / "other.csv").write_bytes(b"a\r\nb\n")
    user = ["-c", "user.name=a", "-c", "user.email=a@b.c", "-c", "core.autocrlf=true"]
    for arguments in (["init", "-q"], ["add", "-A"], ["commit", "-qm", "files"]):
        subprocess.run(["git", *user, *arguments], cwd=tmp_path / "source", check=True, capture_output=True)
    clone = ["git", "clone", "-q", "-c", "core.autocrlf=true", "source", "clone"]
    subprocess.run(clone, cwd=tmp_path, check=True, capture_output=True)
    for name in ("text.jsonl", "other.csv"):
        assert (tmp_path / "clone" / name).read_bytes() == (tmp_path / "source" / name).read_bytes()
