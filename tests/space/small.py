"""Design spaces of small workloads, for a CPU and for a GPU."""

from colt_pipeline.measurement.cuda import cuda_target
from colt_pipeline.space import Space
from colt_pipeline.workloads.catalogue import build

CPU = {"kind": "llvm", "num-cores": 2, "mcpu": "znver4"}
GPU = cuda_target("sm_75")
SHAPES = {
    "deepseek_r1_moe": {"batch": 1, "tokens": 16, "inner": 128, "outer": 64},
    "flux_attention": {"heads": 2, "kv_heads": 2, "head_dim": 32, "tokens": 32, "context": 32},
    "llama3_8b_attention_core": {"heads": 4, "kv_heads": 2, "head_dim": 32, "tokens": 32, "context": 64},
    "flux_conv": {"batch": 1, "channels": 16, "filters": 16, "height": 8, "width": 8},
}


def space(name: str) -> Space:
    return Space(build(name, SHAPES[name]).module, CPU)


def gpu_space(name: str) -> Space:
    return Space(build(name, SHAPES[name]).module, GPU)
