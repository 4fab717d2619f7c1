"""Tuning a whole model: what becomes of its kernels, the run, and what it came to."""
