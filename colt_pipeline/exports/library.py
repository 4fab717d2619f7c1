"""A scheduled kernel as a shared library that needs TVM's runtime and nothing else."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import tvm
from tvm.support import cc

from colt_pipeline.errors import ConfigError, ExportError
from colt_pipeline.measurement.bench import TVM_ERRORS, last_line
from colt_pipeline.measurement.vector_math import pipeline
from colt_pipeline.workloads.packing import MAIN, PACK

LIBRARY = "kernel.so"
OBJECT = "kernel.o"
LINK = f"g++ -shared -o {LIBRARY} {OBJECT}"
"""How to link the object file elsewhere."""


def identifier(name: str) -> str:
    """`name` as an identifier of C."""
    plain = re.sub(r"[^0-9A-Za-z_]+", "_", name).strip("_")
    return plain if plain and not plain[0].isdigit() else f"kernel_{plain}"


def packing(function: str) -> str:
    """What the function that packs a kernel's constant inputs is called."""
    return f"{function}_{PACK}"


def for_cpu(target: dict[str, Any], mcpu: str | None) -> dict[str, Any]:
    """`target` for another CPU; None = as it is.

    Raises:
        ConfigError: LLVM does not know the CPU, or the target is none.
    """
    if mcpu is None:
        return target
    if target["kind"] != "llvm":
        raise ConfigError(f"export.mcpu={mcpu} is for CPUs; this run's target is {target['kind']}")
    with tvm.target.Target({"kind": "llvm"}):
        known = {str(name) for name in tvm.target.codegen.llvm_get_cpu_archlist()}
    if mcpu not in known:
        raise ConfigError(f"export.mcpu={mcpu} is unknown to LLVM; give one of its names, such as x86-64-v3 or znver4")
    return {**target, "mcpu": mcpu}


def write_library(
    directory: Path, module: tvm.IRModule, function: str, target: dict[str, Any], vector_math: bool
) -> str:
    """Compile a scheduled module, and link it if this machine has a C compiler.

    Args:
        directory: where to.
        module: the scheduled module, see `packing.Split`.
        function: what its ``main`` is called there; its ``pack`` is called `packing` of that.
        target: TVM's target dict.
        vector_math: see `measurement.vector_math`.

    Returns:
        Why it was not linked; "" if it was.

    Raises:
        ExportError: the module does not compile for the target.
    """
    names = {MAIN: function, PACK: packing(function)}
    functions = {names[var.name_hint]: f for var, f in module.functions.items()}
    named = tvm.IRModule({name: f.with_attr("global_symbol", name) for name, f in functions.items()})
    compiled = compiled_for(named, target, vector_math, "the kernel")
    unlinked = linked(compiled, directory / LIBRARY)
    if unlinked:
        compiled.mod.write_to_file(str(directory / OBJECT), "o")
    return unlinked


def compiled_for(module: tvm.IRModule, target: dict[str, Any], vector_math: bool, what: str) -> Any:
    """A module as TVM compiles it, for a library.

    Args:
        module: the module.
        target: TVM's target dict.
        vector_math: see `measurement.vector_math`.
        what: what to call it in a message.

    Raises:
        ExportError: it does not compile for the target.
    """
    try:
        return tvm.compile(module, target=tvm.target.Target(target), tir_pipeline=pipeline(vector_math))
    except TVM_ERRORS as error:
        raise ExportError(
            f"{what} does not compile for {target.get('mcpu', 'the CPU')}: {last_line(error)}; it may use "
            "instructions that this CPU lacks, so tune it for that CPU with target.mcpu=NAME"
        ) from error


def linked(compiled: Any, library: Path) -> str:
    """Write a shared library if this machine has a C compiler that works.

    Args:
        compiled: what `compiled_for` gave.
        library: where to.

    Returns:
        Why there is none; "" if there is.
    """
    if cc.get_cc() is None:
        return "this machine has no C compiler"
    try:
        compiled.export_library(str(library), options=["-s"])
    except (RuntimeError, OSError) as error:
        library.unlink(missing_ok=True)
        return f"{Path(cc.get_cc()).name} failed: {last_line(error)}"
    return ""
