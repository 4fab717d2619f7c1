"""Row fusion for CUDA: samples pass verification, compute what NumPy does, and compile."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
import tvm

from colt_pipeline.measurement.cuda import cuda_target
from colt_pipeline.records import Edit
from colt_pipeline.space import Program, Space
from colt_pipeline.space.soundness import mixes_rows
from colt_pipeline.workloads.attention import attention_core
from colt_pipeline.workloads.workload import Workload
from stages.benchmarks.gpu.compiled import _machine_code
from tests.space.rules import cuda_on_cpu

FLUX = attention_core("flux_attention", 24, 24, 128, 512, 512, causal=False)
LLAMA = attention_core("llama3_8b_attention", 32, 8, 128, 16, 1024, causal=True)
BERT = attention_core("bert", 12, 12, 64, 128, 128, causal=False)
SMALL = attention_core("small", 4, 2, 64, 32, 64, causal=True)
UNEVEN = attention_core("uneven", 4, 4, 96, 24, 160, causal=False)


def space(workload: Workload, arch: str = "sm_90") -> Space:
    return Space(workload.module, cuda_target(arch), ("row_fusion",))


def mutated(of: Space, programs: list[Program], count: int) -> list[Program]:
    rng, found = np.random.default_rng(1), dict[str, Program]()
    while len(found) < count:
        program = programs[int(rng.integers(len(programs)))]
        offered = of.applicable(program)
        edit = Edit(offered[int(rng.integers(len(offered)))].name)
        result = of.apply(program, [edit], rng, 16, found.__contains__)
        found |= {p.key: p for p in result} if isinstance(result, list) else {}
    return list(found.values())


@pytest.mark.parametrize("arch", ["sm_75", "sm_86", "sm_90"])
@pytest.mark.parametrize("workload", [FLUX, LLAMA, BERT], ids=lambda w: w.name)
def test_samples_and_mutations_pass_verification(workload: Workload, arch: str) -> None:
    fused = space(workload, arch)
    programs = fused.initial(10, np.random.default_rng(0))
    assert len({p.key for p in [*programs, *mutated(fused, programs, 10)]}) >= 20
    assert all(text.count('thread="blockIdx.x"') == 1 for text in (p.text for p in programs))


def test_a_trace_loads_again() -> None:
    program = space(BERT).initial(1, np.random.default_rng(0))[0]
    assert space(BERT).rebuild(program.trace_json).key == program.key


@pytest.mark.parametrize("what", ["context.i_1", "context.e_0", "context.j", "scores.ax2", "scores.ax4", "unroll"])
def test_each_decision_is_a_site(what: str) -> None:
    fused = space(BERT)
    assert what in {site.label for site in fused.sites(fused.initial(1, np.random.default_rng(0))[0])}


@pytest.mark.skipif(shutil.which("g++") is None, reason="the emulation is compiled by g++")
@pytest.mark.parametrize("workload", [SMALL, UNEVEN], ids=lambda w: w.name)
def test_kernels_compute_what_numpy_does(workload: Workload, tmp_path: Path) -> None:
    fused = space(workload)
    programs = fused.initial(2, np.random.default_rng(2))
    for number, program in enumerate([*programs, *mutated(fused, programs, 2)]):
        inputs = workload.inputs()
        (expected,) = workload.expected(inputs)
        arrays = dict(zip(("Q", "K", "V"), inputs, strict=True)) | {
            "context": np.full_like(expected, np.nan, dtype="float32")
        }
        where = tmp_path / str(number)
        where.mkdir()
        cuda_on_cpu.run(program.schedule.mod, tvm.target.Target(cuda_target("sm_90")), arrays, where)
        np.testing.assert_allclose(arrays["context"], expected, rtol=1e-4, atol=1e-5)


@pytest.mark.skipif(shutil.which("nvcc") is None, reason="there is no nvcc")
def test_nvcc_compiles_a_kernel() -> None:
    program = space(BERT, "sm_75").initial(1, np.random.default_rng(0))[0]
    assert _machine_code(program.schedule.mod, tvm.target.Target(cuda_target("sm_75")))


def test_warps_with_one_row_each_are_found_and_left_out_where_programs_must_be_sound() -> None:
    """On an H200 these, and no others, gave wrong results."""

    def rows(program: Program) -> tuple[int, ...]:
        return next(site.now for site in space(SMALL).sites(program) if site.label == "context.i_1")

    for program in space(SMALL).initial(12, np.random.default_rng(0)):
        _, warps, rows_per_warp = rows(program)
        assert mixes_rows(program.schedule.mod) == (warps > 1 and rows_per_warp == 1)
    sound = Space(SMALL.module, cuda_target("sm_90"), ("row_fusion", "sound")).initial(12, np.random.default_rng(0))
    assert not any(warps > 1 and rows_per_warp == 1 for _, warps, rows_per_warp in map(rows, sound))
    assert any(mixes_rows(program.schedule.mod) for program in space(SMALL).initial(12, np.random.default_rng(0)))


def test_a_context_that_no_lanes_divide_has_no_fusion() -> None:
    odd = attention_core("odd", 4, 4, 64, 32, 80, causal=False)
    designs = space(odd)._designs
    assert designs.traces and not any(i.kind.name == "SetScope" for t in designs.traces for i in t.insts)
