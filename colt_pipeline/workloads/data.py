"""Arrays by TVM's type names: random inputs, the user's own, fillers for outputs, and tolerances."""

from __future__ import annotations

import io
import math
import zipfile
import zlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
from numpy.typing import NDArray

from colt_pipeline.errors import ConfigError

TOLERANCES: dict[str, float] = {
    "float64": 1e-10,
    "float32": 1e-4,
    "float16": 2e-2,
    "bfloat16": 1e-1,
}
"""Type of an output -> largest allowed max|out - reference| / max|reference|; integers must be equal.

A schedule may sum in another order or precision; the reference rounds as the program says. Measured, for sums of 4096
products: 5e-16 in float64, 5e-6 in float32 (16384 products), 1.3e-2 in float16, 4.6e-2 in bfloat16, where the reference
itself is that far off. What a wrong schedule computes is off by about 1."""

FLOATS_IN = (*TOLERANCES, "float8_e4m3fn", "float8_e5m2")
"""Types of floating-point inputs."""
INTEGERS = ("int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64", "bool")
"""Types without rounding, of inputs and outputs."""

SEED = 2026
"""Of random inputs, followed by the parameter's position."""

SPECIAL = ("bfloat16", "float8_e4m3fn", "float8_e5m2")
"""Types that ml_dtypes adds to NumPy."""
_FLOAT16_SCALE = np.float32(0.1)
"""Beyond 65504 there is no float16: two products of standard normal matrices one after the other get there."""
_WIDE_BELOW = 8
_WIDEST_BYTES = 16
_HEADER_BYTES = 1 << 16
"""Limits of what is read of an array in a file, however the file is compressed."""
_UNWRITTEN = 0x55
"""Byte that fills outputs of integer types, which have no NaN."""


def numpy_dtype(dtype: str) -> np.dtype[Any]:
    """NumPy's type of this name.

    Raises:
        ConfigError: there is none.
    """
    try:
        return np.dtype(getattr(ml_dtypes, dtype)) if dtype in SPECIAL else np.dtype(dtype)
    except TypeError as error:
        raise ConfigError(
            f"the type {dtype} cannot be checked here; use one of {', '.join(TOLERANCES)} or intN"
        ) from error


def is_float(dtype: str) -> bool:
    return dtype.startswith(("float", "bfloat"))


def tolerance(dtype: str) -> float:
    """See `TOLERANCES`."""
    return TOLERANCES[dtype] if is_float(dtype) else 0.0


def random_values(shape: Sequence[int], dtype: str, rng: np.random.Generator, below: int | None = None) -> NDArray[Any]:
    """Random values: standard normal, a tenth of it in float16; integers of 8 bits over their full range, wider ones
    from 0 to 7, for sums of products must not overflow; booleans.

    Args:
        shape: of the array.
        dtype: TVM's name of the type.
        rng: source.
        below: limit of integers that are used as indices, which are at least 0.
    """
    if dtype == "float64":
        return rng.standard_normal(shape)
    if is_float(dtype):
        values = rng.standard_normal(shape, dtype=np.float32)
        return (values * _FLOAT16_SCALE if dtype == "float16" else values).astype(numpy_dtype(dtype))
    if dtype == "bool":
        return rng.integers(0, 2, shape).astype(bool)
    info = np.iinfo(dtype)
    if below is not None:
        return rng.integers(0, min(below, info.max), shape, dtype=numpy_dtype(dtype))
    if info.bits == 8:
        return rng.integers(info.min, info.max, shape, dtype=numpy_dtype(dtype), endpoint=True)
    return rng.integers(0, _WIDE_BELOW, shape, dtype=numpy_dtype(dtype))


def unwritten(shape: Sequence[int], dtype: str) -> NDArray[Any]:
    """What fills an output, so that elements that a kernel does not write count as wrong: NaN, or an odd integer."""
    if is_float(dtype):
        return np.full(shape, np.nan, numpy_dtype(dtype))
    size = math.prod(shape) * numpy_dtype(dtype).itemsize
    return np.full(size, _UNWRITTEN, np.uint8).view(numpy_dtype(dtype)).reshape(shape)


def _has(file: zipfile.ZipFile, name: str) -> bool:
    return f"{name}.npy" in file.namelist()


def _array(file: zipfile.ZipFile, name: str, shape: tuple[int, ...], dtype: str) -> NDArray[Any]:
    """One array of an .npz file, unless it is so large that it cannot be the one that is wanted."""
    most = math.prod(shape) * _WIDEST_BYTES + _HEADER_BYTES
    if (size := file.getinfo(f"{name}.npy").file_size) > most:
        raise ValueError(f"{name} has {size} bytes, too many for shape {shape} and type {dtype}")
    with file.open(f"{name}.npy") as member:
        return np.lib.format.read_array(io.BytesIO(member.read(most)), allow_pickle=False)


def given_values(path: Path, wanted: Sequence[tuple[str, tuple[int, ...], str]]) -> list[NDArray[Any]]:
    """The arrays of an ``.npz`` file by the names of the parameters, each with this shape and type.

    Raises:
        ConfigError: the file is unreadable, or lacks such an array.
    """
    try:
        with zipfile.ZipFile(path) as file:
            arrays = {name: _array(file, name, shape, dtype) for name, shape, dtype in wanted if _has(file, name)}
    except (OSError, ValueError, EOFError, zipfile.BadZipFile, zlib.error, RuntimeError) as error:
        raise ConfigError(
            f"workload.inputs={path} cannot be read as .npz: {error}; write it with numpy.savez, without objects"
        ) from error
    for name, shape, dtype in wanted:
        found = arrays.get(name)
        if found is None:
            raise ConfigError(f"workload.inputs={path} has no array {name} of shape {shape} and type {dtype}")
        if found.dtype.kind in "Vu" and dtype in SPECIAL and found.dtype.itemsize == numpy_dtype(dtype).itemsize:
            # np.savez keeps the bytes of these types without their names.
            found = arrays[name] = found.view(numpy_dtype(dtype))
        if found.shape != shape or found.dtype != numpy_dtype(dtype):
            raise ConfigError(
                f"workload.inputs={path}: {name} has shape {found.shape} and type {found.dtype}; the program needs "
                f"{shape} and {dtype}"
            )
    return [arrays[name] for name, _, _ in wanted]
