"""What predicts scores, and TVM's own search, which predicts for itself."""
