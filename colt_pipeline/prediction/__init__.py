"""Cost models that predict scores, and TVM's own search, which has its own."""
