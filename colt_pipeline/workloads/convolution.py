"""FLUX VAE convolution: 3x3, stride 1, padding 1, NCHW.

The VAE of FLUX.1 convolves 128 to 512 channels (public config); the paper prints neither channels nor image size, so
128 channels on 64x64 are an assumption that keeps the unoptimized program within seconds.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from tvm import te

from colt_pipeline.workloads.workload import Workload


def convolution(name: str, batch: int, channels: int, filters: int, height: int, width: int) -> Workload:
    """Y[n, f, y, x] = sum_{c, dy, dx} pad(X)[n, c, y + dy, x + dx] * W[f, c, dy, dx]."""
    x = te.placeholder((batch, channels, height, width), name="X")
    w = te.placeholder((filters, channels, 3, 3), name="W")
    padded = te.compute(
        (batch, channels, height + 2, width + 2),
        lambda n, c, i, j: te.if_then_else(
            te.all(i >= 1, i <= height, j >= 1, j <= width), x[n, c, i - 1, j - 1], te.const(0, "float32")
        ),
        name="pad",
    )
    c = te.reduce_axis((0, channels), name="c")
    dy = te.reduce_axis((0, 3), name="dy")
    dx = te.reduce_axis((0, 3), name="dx")
    y = te.compute(
        (batch, filters, height, width),
        lambda n, f, i, j: te.sum(padded[n, c, i + dy, j + dx] * w[f, c, dy, dx], axis=[c, dy, dx]),
        name="conv2d",
    )

    def reference(x: NDArray[np.float64], w: NDArray[np.float64]) -> NDArray[np.float64]:
        padded = np.pad(x, ((0, 0), (0, 0), (1, 1), (1, 1)))
        windows = np.lib.stride_tricks.sliding_window_view(padded, (3, 3), axis=(2, 3))
        return np.asarray(np.einsum("nchwij,fcij->nfhw", windows, w, optimize=True))

    return Workload(
        name=name,
        shape={"batch": batch, "channels": channels, "filters": filters, "height": height, "width": width},
        tensors=(x, w, y),
        reference=reference,
        flop=2 * batch * filters * height * width * channels * 9,
        rtol=1e-4,
    )
