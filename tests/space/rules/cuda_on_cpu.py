"""CUDA kernels on the CPU: TVM's source, compiled by g++, with the threads of a block as fibers."""

from __future__ import annotations

import ctypes
import re
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import tvm
from numpy.typing import NDArray

from colt_pipeline.measurement.lowered import lowered_kernels
from stages.benchmarks.gpu.compiled import _source_only

_DRIVER = """
static float* given[{count}];
static void body() {{
  kernel({arguments});
  ended[current] = 1;
  setcontext(&scheduler);
}}
extern "C" void run(float** arguments, int blocks, int x, int y) {{
  blockDim = {{x, y, 1}};
  count = x * y;
  for (int i = 0; i < {count}; ++i) given[i] = arguments[i];
  std::vector<std::vector<char>> stacks(count, std::vector<char>(256 << 10));
  for (int block = 0; block < blocks; ++block) {{
    blockIdx = {{block, 0, 0}};
    fibers.assign(count, ucontext_t());
    ended.assign(count, 0);
    for (int i = 0; i < count; ++i) {{
      getcontext(&fibers[i]);
      fibers[i].uc_stack.ss_sp = stacks[i].data();
      fibers[i].uc_stack.ss_size = stacks[i].size();
      makecontext(&fibers[i], body, 0);
    }}
    for (bool running = true; running;) {{
      running = false;
      for (current = 0; current < count; ++current)
        if (!ended[current]) {{
          running = true;
          threadIdx = {{current % x, current / x, 0}};
          swapcontext(&scheduler, &fibers[current]);
        }}
    }}
  }}
}}
"""


def cuda_source(module: tvm.IRModule, target: tvm.target.Target) -> str:
    """TVM's CUDA source of a scheduled module."""
    with target, _source_only():
        return str(tvm.compile(module, target=target).mod.imports[0].inspect_source())


def run(module: tvm.IRModule, target: tvm.target.Target, arrays: Mapping[str, NDArray[Any]], where: Path) -> None:
    """Run a module of one kernel on arrays by the names of its buffers, in place."""
    (kernel,) = lowered_kernels(module, target)
    source = cuda_source(module, target)
    code = source[source.rindex('extern "C" __global__') :]
    names = re.findall(r"(\w+)_ptr[,)]", code[: code.index("{")])
    code = re.sub(r'extern "C" __global__ void .*? main_kernel', "static void kernel", code, count=1)
    driver = _DRIVER.format(count=len(names), arguments=", ".join(f"given[{n}]" for n in range(len(names))))
    header = (Path(__file__).parent / "cuda_on_cpu.h").read_text()
    (where / "kernel.cpp").write_text(header + code + driver)
    command = ["g++", "-std=c++17", "-O0", "-w", "-shared", "-fPIC", "kernel.cpp", "-o", "kernel.so"]
    subprocess.run(command, cwd=where, check=True)
    library = ctypes.CDLL(str(where / "kernel.so"))
    pointers = (ctypes.c_void_p * len(names))(*(arrays[name].ctypes.data for name in names))
    extents = {tag: loop.extent for tag, loop in kernel.axes.items()}
    library.run(pointers, extents["blockIdx.x"], extents["threadIdx.x"], extents["threadIdx.y"])
