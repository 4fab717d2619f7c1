"""Whole models: read from a user's file, rewritten and split into kernels, and put together again with tuned ones."""
