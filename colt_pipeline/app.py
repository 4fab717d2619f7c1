"""What all commands share: error messages, exit statuses, signals, text tables and a terminal that nothing controls."""

from __future__ import annotations

import functools
import logging
import os
import signal
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, redirect_stderr, redirect_stdout, suppress
from pathlib import Path
from typing import Any, ParamSpec, TextIO, cast

from hydra.core.hydra_config import HydraConfig
from hydra.errors import CompactHydraException
from hydra.types import RunMode
from omegaconf import DictConfig

from colt_pipeline.config.checks import load
from colt_pipeline.config.schema import Config
from colt_pipeline.config.spaces import space_name, space_title
from colt_pipeline.errors import ColtError, OutputError
from colt_pipeline.records import EMBEDDED

P = ParamSpec("P")

INTERRUPTED = 130
"""Exit status after Ctrl-C or SIGTERM."""


def printable(text: str, but: str = "") -> str:
    """`text` with characters that control a terminal or the order of its text escaped, except those in `but`."""
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() or c in but else c.encode("unicode_escape").decode() for c in text)


class _Escaping:
    """A text stream without control characters other than line breaks and tabs; if closed (None), it takes nothing."""

    def __init__(self, stream: TextIO | None) -> None:
        self._stream = stream

    def write(self, text: str) -> int:
        with self._open() as stream:
            if stream is not None:
                encoding = stream.encoding or "utf-8"  # of an old terminal, it may lack characters
                plain = printable(text, but="\n\t").encode(encoding, "backslashreplace")
                stream.write(plain.decode(encoding))
        return len(text)

    def flush(self) -> None:
        with self._open() as stream:
            if stream is not None:
                stream.flush()

    @contextmanager
    def _open(self) -> Iterator[TextIO | None]:
        """The stream; a full disk, or a reader that has gone as with ``| head``, is an OutputError, but only once."""
        stream = self._stream
        try:
            yield stream
        except OSError as error:
            assert stream is not None
            self._stream = None
            with open(os.devnull, "wb") as nowhere:
                os.dup2(nowhere.fileno(), stream.fileno())  # else Python itself fails when it flushes at its end
            raise OutputError(f"cannot print: {error.strerror}; files that the command wrote are intact") from error

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)


@contextmanager
def escaping() -> Iterator[None]:
    """Escape control characters in what Python code prints, or decorate a command so that they are.

    Names, server errors, recordings and overrides come from others, and reach the terminal by way of messages, Hydra
    and argparse.
    """
    with redirect_stdout(cast(TextIO, _Escaping(sys.stdout))), redirect_stderr(cast(TextIO, _Escaping(sys.stderr))):
        yield


def with_message(command: Callable[P, int]) -> Callable[P, int]:
    """Decorate a command that returns its exit status: a ColtError becomes a message on stderr and status 1.

    So does a path of the command line that the system refuses.

    What it prints is escaped.
    """

    @functools.wraps(command)
    @escaping()
    def wrapped(*args: P.args, **kwargs: P.kwargs) -> int:
        try:
            status = command(*args, **kwargs)
            sys.stdout.flush()
        except ColtError as error:
            _print_error(error)
            return 1
        except OSError as error:
            if error.filename is None:
                raise
            _print_error(ColtError(f"cannot use {error.filename}: {error.strerror}; choose another path"))
            return 1
        return status

    return wrapped


@contextmanager
def message_and_exit() -> Iterator[None]:
    """Turn a ColtError into a message on stderr and exit status 1, for commands that return nothing."""
    try:
        yield
    except ColtError as error:
        _print_error(error)
        sys.exit(1)


def _print_error(error: ColtError) -> None:
    if isinstance(error.__cause__, BrokenPipeError):
        return  # whoever reads the output has seen enough
    with suppress(OutputError):
        print(f"error: {error}", file=sys.stderr, flush=True)


@escaping()  # a launcher may run it in another process than the command
def attempt(work: Callable[[Config], object], raw: DictConfig) -> None:
    """Run one of Hydra's jobs; a failure becomes a message and exit status 1 (for a sweep, at its end)."""
    called_from = Path(HydraConfig.get().runtime.cwd)
    try:
        work(load(raw, called_from, moves=called_from != Path.cwd()))
        sys.stdout.flush()
    except ColtError as error:
        _print_error(error)
        if HydraConfig.get().mode == RunMode.RUN:
            sys.exit(1)
        # A sweep continues with its other jobs, in whichever process they run, and fails at its end.
        raise CompactHydraException(f"error: {error}") from None


def command(jobs: Callable[[], None]) -> None:
    """Run Hydra's jobs; exit status 1 if one failed, 130 after Ctrl-C or SIGTERM."""
    logging.captureWarnings(True)
    try:
        with interruptible():
            jobs()
    except KeyboardInterrupt:
        print("interrupted; the same command resumes where it stopped", file=sys.stderr)
        sys.exit(INTERRUPTED)


class _Interrupt:
    """A signal handler that raises KeyboardInterrupt and remembers it.

    The exception alone may be lost: Python ignores exceptions raised while an object is being deleted.
    """

    def __init__(self) -> None:
        self.received = False

    def __call__(self, number: int, frame: object) -> None:
        self.received = True
        raise KeyboardInterrupt


@contextmanager
def interruptible() -> Iterator[None]:
    """Make SIGINT and SIGTERM raise KeyboardInterrupt, at the latest at the next `raise_if_interrupted`."""
    handler = _Interrupt()
    before = {number: signal.signal(number, handler) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, previous in before.items():
            signal.signal(number, previous)


def raise_if_interrupted() -> None:
    """Raise KeyboardInterrupt if this process received a signal inside `interruptible`."""
    handler = signal.getsignal(signal.SIGINT)
    if isinstance(handler, _Interrupt) and handler.received:
        raise KeyboardInterrupt


def mark(measurement: str) -> str:
    """The suffix of numbers that were not measured."""
    return "" if measurement == "measured" else f" ({measurement})"


def shown_speedup(speedup: float | None, measurement: str) -> str:
    """A speedup as shown in terminals; None = none yet."""
    return "-" if speedup is None else f"{speedup:.2f}x{mark(measurement)}"


def aligned(rows: Sequence[Sequence[str]]) -> list[str]:
    """A text table: one line per row, columns padded to their widest cell; cells are escaped."""
    cells = [[printable(cell) for cell in row] for row in rows]
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    return ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in cells]


def _spaces(summaries: Sequence[dict[str, Any]]) -> str:
    """Which design space was searched; if there are several, in which runs."""
    found: dict[str, list[str]] = {}
    for summary in summaries:
        found.setdefault(space_title(space_name(summary.get("space", ()))), []).append(summary["run"])
    if len(found) == 1:
        return f"design space: {', '.join(found)}"
    return f"design spaces: {'; '.join(f'{title}: {_few(names)}' for title, names in found.items())}"


def _few(names: Sequence[str]) -> str:
    return ", ".join(names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")


def summary_table(summaries: Sequence[dict[str, Any]]) -> str:
    """One line per finished run, and where answers and latencies come from."""
    cells = [("run", "samples", "errors", "baseline", "best", "speedup", "calls", "altered", "rejections", "stopped")]
    for s in summaries:
        ending = mark(s["measurement"])
        best = "-" if s["best_secs"] is None else f"{s['best_secs'] * 1e3:.3f} ms{ending}"
        speedup = shown_speedup(s["speedup"], s["measurement"])
        counts = (s["regular_calls"], s["course_alterations"], sum(s["rejections"].values()))
        errors = " ".join(f"{kind}:{number}" for kind, number in s["sample_errors"].items()) or "-"
        measured = (str(s["samples"]), errors, f"{s['baseline_secs'] * 1e3:.1f} ms{ending}", best, speedup)
        cells.append((s["run"], *measured, *map(str, counts), str(s["stopped"])))
    backends = ", ".join(sorted({s["llm_backend"] for s in summaries}))
    stand_in = " (stand-ins for the named models)" if EMBEDDED in backends else ""
    latencies = ", ".join(sorted({f"{s['measurement']} ({s['device']})" for s in summaries}))
    lines = [*aligned(cells), f"LLM backend: {backends}{stand_in}; latencies: {latencies}", _spaces(summaries)]
    checked = {s["rtol"] for s in summaries if s["measurement"] == "measured"}
    if checked:
        allowed = ", ".join(f"{rtol:g}" for rtol in sorted(checked))
        lines.append(
            f"when measured, each program was checked against its reference (relative error <= {allowed}); "
            "what is replayed is not checked again"
        )
    return "\n".join(lines)
