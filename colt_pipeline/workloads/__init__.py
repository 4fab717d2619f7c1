"""What is tuned: kernels and whole models. The names here need no TVM; `catalogue` builds the workloads."""

PAPER = ("llama3_8b_attention", "deepseek_r1_moe", "flux_attention", "flux_conv", "llama4_scout_mlp")
"""The five kernels of the paper (section 4.1)."""
