"""The READMEs: commands work, links are valid, and every number of a result comes from a committed file."""

from __future__ import annotations

import argparse
import os
import re
import shlex
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path
from typing import NamedTuple, NoReturn

import pytest
import yaml
from dvc.repo import Repo

from colt_pipeline.__main__ import COMMANDS
from colt_pipeline.config.arguments import command_line
from colt_pipeline.config.compose import composed, runs
from tests.readme_blocks import filled, readmes, without_blocks
from tests.support import ROOT

READMES = readmes()
HYDRA = {
    *("colt_pipeline.tune", "colt_pipeline.compare", "colt_pipeline.tune_model"),
    *("colt_pipeline.tools.forecast", "colt_pipeline.tools.check_models"),
}
"""Commands whose arguments are Hydra's."""
_FENCED = re.compile(r"(?P<run><!-- run -->\n)?^ *```(?P<language>\w*)\n(?P<body>.*?)^ *```$", re.DOTALL | re.MULTILINE)
_SPAN = re.compile(r"`([^`]+)`")
_RESULT = re.compile(r"\d ?(?:x|×|%|ms|GFLOP/s|GB/s|USD)(?!\w)|×\d")
"""A ratio, a percentage, a latency, a rate, a price."""


class Command(NamedTuple):
    """A command line of a README."""

    readme: str
    words: tuple[str, ...]

    def __str__(self) -> str:
        return f"{self.readme}: {' '.join(self.words)}"


def name(path: Path) -> str:
    return str(path.relative_to(ROOT))


def blocks(text: str) -> Iterator[tuple[bool, str]]:
    """The fenced blocks of shell commands: whether to run them, and their text."""
    for block in _FENCED.finditer(text):
        if block["language"] == "sh":
            yield block["run"] is not None, block["body"]


def prose(text: str) -> str:
    """`text` without generated blocks, code, file names and addresses."""
    bare = _SPAN.sub("", _FENCED.sub("", without_blocks(text)))
    return re.sub(r"\]\([^)]*\)", "]", bare)


def commands() -> list[Command]:
    """Every command of every README, from its blocks and from its sentences."""
    found = []
    for path in READMES:
        text = path.read_text(encoding="utf-8")
        lines = [line for _, body in blocks(text) for line in body.replace("\\\n", " ").splitlines()]
        lines += [" ".join(span.split()) for span in _SPAN.findall(_FENCED.sub("", text))]
        for line in lines:
            split = shlex.shlex(line, posix=True, punctuation_chars=";&|")
            split.whitespace_split, words = True, []
            for word in [*split, ";"]:
                if word.strip(";&|"):
                    words.append(word)
                elif words := list(_bare(words)):
                    found.append(Command(name(path), tuple(words)))
                    words = []
    return list(dict.fromkeys(found))


def _bare(words: list[str]) -> Iterator[str]:
    """The module and arguments of a Python command, or a command of pip, dvc or pytest; nothing of other words."""
    if words and words[0] == "do":
        words = words[1:]
    if words[:2] == ["python", "-m"]:
        yield from words[2:]
    elif words[:1] == ["colt"] and words[1:] and words[1] in COMMANDS:
        yield from (f"colt_pipeline.{COMMANDS[words[1]][0]}", *words[2:])
    elif words[1:] and words[0] in ("pip", "dvc"):
        yield from words


def of(*roots: str) -> list[Command]:
    return [command for command in COMMANDS_OF_READMES if command.words[0].partition(".")[0] in roots]


COMMANDS_OF_READMES = commands()


def test_readmes_are_found_with_their_commands() -> None:
    assert READMES[0] == ROOT / "README.md" and len(READMES) > 4
    assert len(of("colt_pipeline", "stages")) > 30 and len(of("pip", "dvc")) > 5


def test_the_readme_is_short() -> None:
    assert len((ROOT / "README.md").read_bytes()) <= 10 * 1024
    assert len((ROOT / "NOTES.md").read_bytes()) <= 14 * 1024


@pytest.mark.parametrize("path", READMES, ids=name)
def test_generated_blocks_are_as_the_files_have_them(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    assert text == filled(text), f"python -m tests.readme_blocks writes the blocks of {name(path)} anew"


@pytest.mark.parametrize("path", [path for path in READMES if ROOT / "results" not in path.parents], ids=name)
def test_no_number_of_a_result_stands_outside_a_generated_block(path: Path) -> None:
    lines = prose(path.read_text(encoding="utf-8")).splitlines()
    assert [line for line in lines if _RESULT.search(line)] == []


@pytest.mark.parametrize(
    "line", ["it was 1.4x faster", "×1.60", "12 % of calls", "49 ms", "54.4 GFLOP/s", "1.5 × as many", "764 USD"]
)
def test_a_number_of_a_result_is_seen(line: str) -> None:
    assert _RESULT.search(prose(line))
    assert not _RESULT.search(prose(f"<!-- generated: a.md -->\n{line}\n<!-- end -->\n`{line}`"))


@pytest.mark.parametrize("path", READMES, ids=name)
def test_links_lead_to_files(path: Path) -> None:
    text = _FENCED.sub("", path.read_text(encoding="utf-8"))
    targets = [target.partition("#")[0] for target in re.findall(r"\]\(([^)\s]+)\)", text)]
    local = [target for target in targets if target and "://" not in target]
    assert [target for target in local if not (path.parent / target).exists()] == []


@pytest.mark.tvm
@pytest.mark.parametrize("command", [c for c in of("colt_pipeline") if c.words[0] in HYDRA], ids=str)
def test_overrides_compose(command: Command) -> None:
    line = command_line(command.words[1:])
    assert import_module(command.words[0])
    # The sweeps of experiments have their own test.
    assert all(runs(line.overrides, line.config_dir)) if line.multirun else composed(line.overrides, line.config_dir)


class Parsed(Exception):
    """Raised when a command would start its work."""


@pytest.fixture
def parsing(monkeypatch: pytest.MonkeyPatch) -> None:
    """Make commands raise `Parsed` once their arguments are accepted; Hydra's must compose."""

    def ending(method: str) -> None:
        parse = getattr(argparse.ArgumentParser, method)

        def then_end(parser: argparse.ArgumentParser, arguments: list[str] | None = None) -> NoReturn:
            given = parse(parser, arguments)
            if hasattr(given, "overrides"):
                composed(given.overrides)
            raise Parsed

        monkeypatch.setattr(argparse.ArgumentParser, method, then_end)

    ending("parse_args")
    ending("parse_intermixed_args")


@pytest.mark.tvm
@pytest.mark.usefixtures("parsing")
@pytest.mark.parametrize("command", [c for c in of("colt_pipeline", "stages") if c.words[0] not in HYDRA], ids=str)
def test_arguments_are_accepted(command: Command) -> None:
    name, *arguments = command.words
    module = import_module(name)
    main = (import_module(f"{name}.__main__") if hasattr(module, "__path__") else module).main
    with pytest.raises(Parsed):
        main(arguments)


@pytest.mark.parametrize("command", of("pip"), ids=str)
def test_extras_exist(command: Command) -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    extras = {extra for word in command.words for extra in re.findall(r"^\.\[(.+)\]$", word)}
    assert extras <= set(project["optional-dependencies"])
    if "-e" in command.words:
        assert command.words[:4] == ("pip", "install", "-c", "constraints.txt")


def test_stages_exist() -> None:
    with Repo(str(ROOT)) as repo:
        targets = {stage.addressing for stage in repo.index.stages}
        targets |= {name(Path(stage.path)) for stage in repo.index.stages}
    asked = [(c, w) for c in of("dvc") if c.words[1] == "repro" for w in c.words[2:] if not w.startswith("-")]
    assert asked
    assert [command for command, target in asked if target not in targets] == []


def test_the_commands_of_the_readme_are_those_of_the_check() -> None:
    check = (ROOT / ".ci/run").read_text(encoding="utf-8")
    install, tests, *_ = (body.strip() for _, body in blocks((ROOT / "README.md").read_text(encoding="utf-8")))
    assert install == "pip install -c constraints.txt -e . && dvc repro"
    assert tests.replace("pip install", "pip install -q") in check


def test_the_citation_is_of_this_version() -> None:
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text(encoding="utf-8"))
    assert citation["cff-version"] == "1.2.0"
    assert {"message", "title", "authors"} <= set(citation)
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    assert (citation["version"], citation["license"]) == (project["version"], project["license"])


@pytest.mark.tvm
@pytest.mark.slow
def test_marked_blocks_run(tmp_path: Path) -> None:
    """Run in one directory, README after README, because a block may use what an earlier one made; with less to do."""
    marked = [body for path in READMES for run, body in blocks(path.read_text(encoding="utf-8")) if run]
    assert len(marked) > 2
    shorter = {
        "gated_mlp.py samples=16": "gated_mlp.py samples=2 measure.confirm=1",
        "budget=smoke results": "budget=smoke model_set=large,8 results",
    }
    assert all(sum(long in body for body in marked) == 1 for long in shorter)
    for long, short in shorter.items():
        marked = [body.replace(long, short) for body in marked]
    (tmp_path / "results").mkdir()
    (tmp_path / "results" / "pretraining").symlink_to(ROOT / "results" / "pretraining")
    (tmp_path / "examples").symlink_to(ROOT / "examples")
    script = "\n".join(["set -eu", f'python() {{ "{sys.executable}" "$@"; }}', *marked])
    environment = {"PYTHONPATH": str(ROOT), "PATH": "/usr/local/bin:/usr/bin:/bin", "HOME": str(tmp_path)}
    done = subprocess.run(
        ["bash", "-c", script],
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr


@pytest.mark.tvm
@pytest.mark.slow
def test_the_search_strategy_of_the_readme_runs(tmp_path: Path) -> None:
    blocks = re.findall(r"^```python\n(.*?)^```$", (ROOT / "colt_pipeline/README.md").read_text("utf-8"), re.M | re.S)
    (body,) = (block for block in blocks if "Colt(" in block)
    assert len(body.splitlines()) <= 13  # an empty line among them
    code = body.replace("max_trials_global=32", "max_trials_global=9") + "print(kernel.mod.get_function('main'))\n"
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert len((tmp_path / "tuned" / "database_tuning_record.json").read_text().splitlines()) == 9
