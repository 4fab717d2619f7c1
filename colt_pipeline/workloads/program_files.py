"""Files that hold a user's own kernel.

====================  ================================================================================================
``.py``               Python with TVMScript; **executed**, as if it were run from its directory
``.json``             an IRModule or PrimFunc as written by ``tvm.ir.save_json``, or the ``workload.json`` of a
                      MetaSchedule database
any other name        TVMScript as text, as written by ``script()``: one function, or one module
====================  ================================================================================================

Only a ``.py`` file can execute code.
"""

from __future__ import annotations

import base64
import binascii
import importlib.util
import json
import re
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import tvm
import tvm_ffi
from tvm import relax
from tvm.error import DiagnosticError

from colt_pipeline.errors import ConfigError
from colt_pipeline.workloads import tvmscript

_LARGEST_MIB = 64
_LENGTH_BYTES = 8
"""A database's JSON begins with its length."""
EXECUTED_AS = "_own_kernel"
"""What a .py file is called while it is executed."""

_OLDER = re.compile(
    r"\btir as T\b|\bimport tir\b|\bT\.block\b|SBlockRealize|only for s_tir PrimFuncs|cannot import name 'tir'"
)
"""What shows in a file, or in TVM's message about it, that it is of an older dialect."""
_NEWER = (
    "; this looks like an older dialect of TVMScript: TVM 0.27 wants `from tvm.script import tirx as T`, "
    "`@T.prim_func(s_tir=True)`, `T.sblock` for T.block and `T.sblock_alloc_buffer` for T.alloc_buffer"
)

_ILL_FORMED = "Traceback: "
"""Before the reason why TVM's check of a whole program refuses it."""

Functions = dict[str, Any]
"""Name -> function of any kind."""


def read_program(path: Path, function: str | None, bind: Mapping[str, int]) -> tvm.tirx.PrimFunc:
    """The kernel in a file.

    Args:
        path: the file.
        function: which of its functions; None = the only one.
        bind: symbolic sizes.

    Raises:
        ConfigError: the file holds no such kernel; the message says why, and what to do.
    """
    where = f"workload.source={path}"
    functions = _READERS.get(path.suffix, _of_text)(path, where, source_text(path, where))
    return bound(_chosen(functions, function, where), bind, where)


def source_text(path: Path, where: str) -> str:
    """The text of a file of programs.

    Raises:
        ConfigError: it cannot be read, is too large, or is no text.
    """
    try:
        if not path.is_file():
            raise ConfigError(f"{where} is not a file")
        if path.stat().st_size > _LARGEST_MIB << 20:
            raise ConfigError(
                f"{where} has more than {_LARGEST_MIB} MiB; a kernel is small, so pass its constants as parameters"
            )
        content = path.read_bytes()
    except OSError as error:
        raise ConfigError(f"{where} cannot be read: {error.strerror}") from error
    try:
        return content.decode()
    except UnicodeDecodeError as error:
        raise ConfigError(f"{where} is not UTF-8 text; a kernel is TVMScript or JSON") from error


def bound(main: tvm.tirx.PrimFunc, sizes: Mapping[str, int], where: str) -> tvm.tirx.PrimFunc:
    """`main` with values for its symbolic sizes.

    Raises:
        ConfigError: a size is unknown, missing or below one.
    """
    symbolic = _symbolic_sizes(main)
    known = list(dict.fromkeys(var.name for var in symbolic))
    if unknown := [name for name in sizes if name not in known]:
        has = f"has the symbolic sizes {', '.join(known)}" if known else "has no symbolic size"
        raise ConfigError(f"workload.bind.{unknown[0]}={sizes[unknown[0]]}: the program in {where} {has}")
    if missing := [name for name in known if name not in sizes]:
        raise ConfigError(
            f"{where}: symbolic sizes without a value: {', '.join(missing)}; bind them, for example with "
            + " ".join(f"workload.bind.{name}=128" for name in missing)
        )
    for name, value in sizes.items():
        if value < 1:
            raise ConfigError(f"workload.bind.{name}={value}: sizes must be at least 1")

    def value_of(var: Any) -> Any:
        # Not by name alone: a loop or an axis may have the name of a size.
        is_size = any(var.same_as(size) for size in symbolic)
        return tvm.tirx.IntImm(str(var.ty.dtype), sizes[var.name]) if is_size else var

    return tvm_ffi.structural_map(main, [(tvm.ir.expr.Var, value_of)]) if sizes else main


def _symbolic_sizes(main: tvm.tirx.PrimFunc) -> list[tvm.ir.expr.Var]:
    """The sizes that the parameters leave open, in order."""
    found: list[tvm.ir.expr.Var] = []

    def note(var: Any) -> None:
        if isinstance(var.ty, tvm.ir.PrimType) and not any(var.same_as(other) for other in found):
            found.append(var)

    for parameter in main.params:
        if isinstance(parameter.ty, tvm.tirx.BufferType):
            for size in parameter.ty.shape:
                tvm_ffi.structural_walk(size, [(tvm.ir.expr.Var, note)])
    return found


def _chosen(functions: Functions, function: str | None, where: str) -> tvm.tirx.PrimFunc:
    kernels = {name: f for name, f in functions.items() if isinstance(f, tvm.tirx.PrimFunc)}
    named = ", ".join(kernels)
    if function is not None:
        if function in kernels:
            return kernels[function]
        if function in functions:
            raise ConfigError(
                f"workload.function={function} is a whole model (a Relax function) in {where}, not a kernel"
                + (f"; choose one of its kernels: {named}" if kernels else "")
            )
        raise ConfigError(f"workload.function={function} is not in {where}, which holds {named or 'no kernel'}")
    if len(functions) > len(kernels):
        models = ", ".join(f for f in functions if f not in kernels)
        instead = f"tune one of its kernels with workload.function=NAME: {named}" if kernels else "save its kernels"
        raise ConfigError(f"{where} holds a whole model (the Relax functions {models}); {instead}")
    if not kernels:
        raise ConfigError(f"{where} holds no kernel; it needs a @T.prim_func(s_tir=True) or an @I.ir_module with one")
    if len(kernels) > 1:
        raise ConfigError(f"{where} holds several kernels; choose one with workload.function=NAME: {named}")
    return next(iter(kernels.values()))


def _of_objects(objects: Mapping[str, Any]) -> Functions:
    """The functions among these objects and in the modules among them, each once."""
    found: Functions = {}
    modules = [name for name, value in objects.items() if isinstance(value, tvm.IRModule)]
    for name, value in objects.items():
        if isinstance(value, tvm.IRModule):
            prefix = f"{name}." if len(modules) > 1 else ""
            found |= {prefix + var.name_hint: f for var, f in value.functions.items()}
        elif isinstance(value, (tvm.tirx.PrimFunc, relax.Function)):
            if not any(value.same_as(other) for other in found.values()):
                found[name] = value
    return found


def _of_python(path: Path, where: str, text: str) -> Functions:
    with executed(path, where, text) as objects:
        return _of_objects(objects)


@contextmanager
def executed(path: Path, where: str, text: str) -> Iterator[dict[str, Any]]:
    """What a Python file defines, by name; functions that it defines may be called within the block.

    Raises:
        ConfigError: its code raises an exception.
    """
    spec = importlib.util.spec_from_file_location(EXECUTED_AS, path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    with _as_script(path.resolve().parent, module):
        try:
            spec.loader.exec_module(module)
        except (Exception, SystemExit) as error:  # whatever the user's code raises
            raise ConfigError(f"{where} cannot be executed: {_reason(error, text)}") from error
        yield vars(module)


@contextmanager
def _as_script(directory: Path, module: Any) -> Iterator[None]:
    """Import as a script in `directory` would; afterwards nothing that was imported from there stays.

    Two files may each have a neighbour of the same name.
    """
    before = set(sys.modules)
    sys.modules[EXECUTED_AS] = module  # TVMScript looks up the source of a class by it
    sys.path.insert(0, str(directory))
    try:
        yield
    finally:
        sys.path.remove(str(directory))
        for name in set(sys.modules) - before:
            origin = getattr(sys.modules[name], "__file__", None)
            if name == EXECUTED_AS or (origin and directory in Path(origin).resolve().parents and _is_near(origin)):
                del sys.modules[name]


def _is_near(origin: str) -> bool:
    """Whether a module is the user's, rather than a package that is installed below the same directory."""
    return "site-packages" not in Path(origin).parts


def _of_text(path: Path, where: str, text: str) -> Functions:
    if relaxed := tvmscript.models(text):
        raise ConfigError(
            f"{where} holds a whole model (the Relax functions {', '.join(relaxed)}), which no text may; save one of "
            "its kernels (@T.prim_func)"
        )
    try:
        return _of_objects({"main": tvmscript.parse(text, where)})
    except DiagnosticError as error:
        raise ConfigError(f"{where} cannot be parsed: {_reason(error, text)}") from error


def _reason(error: BaseException, text: str) -> str:
    """The first line of TVM's diagnostic, whose rest is a drawing, and what to change."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    ill_formed = [line for line in lines if line.startswith(_ILL_FORMED)]  # the first line names no reason then
    said = (ill_formed or lines or ["no message"])[0].removeprefix("error: ").removeprefix(_ILL_FORMED)[:300]
    shown = said if isinstance(error, DiagnosticError) else f"{type(error).__name__}: {said}"
    dialect = isinstance(error, (DiagnosticError, ImportError, AttributeError)) and _OLDER.search(f"{text}\n{error}")
    return shown + (_NEWER if dialect else "")


def _of_json(path: Path, where: str, text: str) -> Functions:
    if not text.strip():
        raise ConfigError(f"{where} is empty")
    try:
        lines = [json.loads(line) for line in text.splitlines() if line.strip()]
    except ValueError:
        lines = []  # JSON over several lines
    except RecursionError as error:
        raise ConfigError(f"{where} is too deeply nested") from error
    if lines and all(_is_workload(line) for line in lines):
        return {shown: f for line in lines for shown, f in _of_database(line, len(lines), where)}
    return _of_objects({"main": loaded(text, where)})


def _is_workload(line: Any) -> bool:
    return isinstance(line, list) and len(line) == 2 and all(isinstance(part, str) for part in line)


def _of_database(line: list[str], count: int, where: str) -> Iterator[tuple[str, Any]]:
    """The functions of one workload; of several workloads, each is called by its hash."""
    shown, encoded = line
    try:
        text = base64.b64decode(encoded, validate=True)[_LENGTH_BYTES:].decode()
    except (binascii.Error, UnicodeDecodeError) as error:
        raise ConfigError(f"{where}: workload {shown} is not a workload of a MetaSchedule database") from error
    functions = _of_objects({"main": loaded(text, where)})
    for name, function in functions.items():
        yield (name if count == 1 else shown if len(functions) == 1 else f"{shown}.{name}"), function


def loaded(text: str, where: str) -> Any:
    """The IRModule or function in JSON of ``tvm.ir.save_json``.

    Raises:
        ConfigError: it is none.
    """
    try:
        found = tvm.ir.load_json(text)
    except (RuntimeError, ValueError, TypeError, LookupError, AttributeError) as error:
        said = str(error).strip().splitlines()
        raise ConfigError(
            f"{where} is not an IRModule or PrimFunc as JSON of this TVM (tvm.ir.save_json): "
            f"{said[-1][:200] if said else type(error).__name__}"
        ) from error
    except RecursionError as error:
        raise ConfigError(f"{where} is too deeply nested") from error
    if not isinstance(found, (tvm.IRModule, tvm.tirx.PrimFunc, relax.Function)):
        raise ConfigError(f"{where} holds {type(found).__name__}, not an IRModule or PrimFunc (tvm.ir.save_json)")
    return found


_READERS: dict[str, Callable[[Path, str, str], Functions]] = {".py": _of_python, ".json": _of_json}
"""Ending -> reader; any other ending is text."""
