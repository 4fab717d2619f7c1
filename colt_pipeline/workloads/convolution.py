"""Convolutions: 3x3, stride 1, padding 1, NCHW.

The VAE of FLUX.1 convolves 128 to 512 channels (public config). The paper states neither channels nor image size; 128
channels at 64x64 are an assumption that keeps the unoptimized program within seconds. The depthwise convolution is not
in the paper; 56x56 is a stage of image networks with 224x224 inputs, such as MobileNet.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from tvm import te

from colt_pipeline.workloads.workload import Workload, in_float64


def convolution(name: str, batch: int, channels: int, filters: int, height: int, width: int) -> Workload:
    """Y[n, f, y, x] = sum_{c, dy, dx} pad(X)[n, c, y + dy, x + dx] * W[f, c, dy, dx]."""
    x = te.placeholder((batch, channels, height, width), name="X")
    w = te.placeholder((filters, channels, 3, 3), name="W")
    padded = _padded(x)
    c = te.reduce_axis((0, channels), name="c")
    dy = te.reduce_axis((0, 3), name="dy")
    dx = te.reduce_axis((0, 3), name="dx")
    y = te.compute(
        (batch, filters, height, width),
        lambda n, f, i, j: te.sum(padded[n, c, i + dy, j + dx] * w[f, c, dy, dx], axis=[c, dy, dx]),
        name="conv2d",
    )

    def reference(x: NDArray[np.float64], w: NDArray[np.float64]) -> NDArray[np.float64]:
        return np.asarray(np.einsum("nchwij,fcij->nfhw", _windows(x), w, optimize=True))

    return Workload(
        name=name,
        shape={"batch": batch, "channels": channels, "filters": filters, "height": height, "width": width},
        main=te.create_prim_func([x, w, y]),
        reference=in_float64(reference),
        flop=2 * batch * filters * height * width * channels * 9,
        rtols=(1e-4,),
    )


def depthwise_convolution(name: str, batch: int, channels: int, height: int, width: int) -> Workload:
    """Y[n, c, y, x] = sum_{dy, dx} pad(X)[n, c, y + dy, x + dx] * W[c, dy, dx]."""
    x = te.placeholder((batch, channels, height, width), name="X")
    w = te.placeholder((channels, 3, 3), name="W")
    padded = _padded(x)
    dy = te.reduce_axis((0, 3), name="dy")
    dx = te.reduce_axis((0, 3), name="dx")
    y = te.compute(
        (batch, channels, height, width),
        lambda n, c, i, j: te.sum(padded[n, c, i + dy, j + dx] * w[c, dy, dx], axis=[dy, dx]),
        name="depthwise_conv2d",
    )

    def reference(x: NDArray[np.float64], w: NDArray[np.float64]) -> NDArray[np.float64]:
        return np.asarray(np.einsum("nchwij,cij->nchw", _windows(x), w, optimize=True))

    return Workload(
        name=name,
        shape={"batch": batch, "channels": channels, "height": height, "width": width},
        main=te.create_prim_func([x, w, y]),
        reference=in_float64(reference),
        flop=2 * batch * channels * height * width * 9,
        rtols=(1e-4,),
    )


def _padded(x: te.Tensor) -> te.Tensor:
    """`x` (batch, channels, height, width) with a border of zeros of width one."""
    batch, channels, height, width = (int(n) for n in x.shape)
    return te.compute(
        (batch, channels, height + 2, width + 2),
        lambda n, c, i, j: te.if_then_else(
            te.all(i >= 1, i <= height, j >= 1, j <= width), x[n, c, i - 1, j - 1], te.const(0, "float32")
        ),
        name="pad",
    )


def _windows(x: NDArray[np.float64]) -> NDArray[np.float64]:
    """The 3x3 neighbourhood of each pixel of `x`, zero-padded: (batch, channels, height, width, 3, 3)."""
    padded = np.pad(x, ((0, 0), (0, 0), (1, 1), (1, 1)))
    return np.lib.stride_tricks.sliding_window_view(padded, (3, 3), axis=(2, 3))
