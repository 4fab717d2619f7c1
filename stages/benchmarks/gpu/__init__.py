"""The GPU check: does everything that needs a CUDA GPU work on this one, how fast are its kernels, is `estimate` right?

``python -m stages.benchmarks.gpu --out results/benchmark/gpu``; see __main__.py.
"""
